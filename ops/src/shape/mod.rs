//! Ops that move elements, and those that make them from sizes.

pub mod broadcast;
pub mod concat;
pub mod constant;
pub mod extend;
pub mod gather;
pub mod iota;
pub mod pad;
pub mod reshape;
#[allow(clippy::module_inception, reason = "a file has the name of its op")]
pub mod shape;
pub mod size;
pub mod slice;
pub mod transpose;
