//! Ops that move elements, and those that make them from sizes.

pub mod affine_grid;
pub mod broadcast;
pub mod col2im;
pub mod concat;
pub mod constant;
pub mod cosine_window;
pub mod extend;
pub mod gather;
pub mod gather_elements;
pub mod gather_nd;
pub mod gather_quantized;
pub mod grid_sample;
mod interpolation;
pub mod iota;
pub mod mel_weights;
pub mod one_hot;
pub mod pad;
pub mod put;
pub mod random;
pub mod reshape;
pub mod resize;
pub mod restate;
pub mod reverse_sequence;
pub mod run_time;
pub(crate) mod sampling;
pub mod scatter;
pub mod scatter_elements;
pub mod scatter_nd;
#[allow(clippy::module_inception, reason = "a file has the name of its op")]
pub mod shape;
pub mod size;
pub mod slice;
pub mod tensor_scatter;
pub mod transpose;
