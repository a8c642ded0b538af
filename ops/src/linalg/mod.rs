//! Matrix products and convolutions.

pub mod conv;
pub mod conv_transpose;
pub mod matmul;
