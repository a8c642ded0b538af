//! Matrix products and convolutions.

pub mod attention;
mod by_heads;
pub mod causal_conv;
pub mod combine;
pub mod conv;
pub mod conv_transpose;
pub mod deform_conv;
pub mod det;
pub mod dft;
pub mod einsum;
pub mod equation;
pub mod flex_attention;
pub mod group_query_attention;
pub mod grouped_matmul;
pub mod linear_attention;
pub mod matmul;
pub mod mixture_of_experts;
pub mod multi_head_attention;
mod padding_mask;
pub mod projected_attention;
pub mod quantized;
pub mod rotary_embedding;
pub mod scaled_dot_product;
