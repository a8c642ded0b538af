//! Matrix products and convolutions.

pub mod attention;
pub mod causal_conv;
pub mod conv;
pub mod conv_transpose;
pub mod einsum;
mod equation;
pub mod linear_attention;
pub mod matmul;
pub mod quantized;
pub mod rotary_embedding;
pub mod scaled_dot_product;
