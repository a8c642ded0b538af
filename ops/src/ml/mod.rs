//! The classic models of `ai.onnx.ml`: trees, linear models, and what prepares their inputs.
//!
//! They become ordinary ops. Not imported: strings, maps, support vector machines.

pub mod array_feature_extractor;
pub mod binarizer;
pub mod label_encoder;
pub mod linear_model;
pub mod normalizer;
mod post_transform;
pub mod scaler;
pub mod tree_ensemble;
mod trees;

/// The domain of these ops.
const DOMAIN: &str = "ai.onnx.ml";
