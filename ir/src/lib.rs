//! The nouns of egraft, each with a text form that parses and prints.
//!
//! - [`graph::Graph`]: typed dataflow between ops, with symbolic sizes (`.ir`);
//! - [`kernel::Kernel`]: what a kernel computes (stages of index expressions), then how (loops) (`.kir`);
//! - [`program::Program`]: kernels, buffers, steps (`.kir` before the memory plan, `.prog` after).
//!
//! This crate knows no op by name, no file format and no machine. Ops describe themselves to it through
//! [`op::OpDef`]; backends see kernels and programs and never an op.

pub mod attr;
pub mod build;
pub mod dim;
pub mod dot;
pub mod dtype;
pub mod float_format;
pub mod graph;
pub mod kernel;
pub mod op;
pub mod origin;
pub mod pieces;
pub mod program;
pub mod region;
pub mod scalar;
pub mod service;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;
pub mod weight;

pub use dim::{Dim, Symbol};
pub use dtype::DType;
pub use graph::{Graph, NodeId, Value};
pub use op::OpDef;
pub use origin::{At, Origin};
pub use region::Region;
pub use scalar::Scalar;
pub use tensor::Tensor;
pub use types::{Shape, TensorType};
pub use weight::Weight;
