//! The classic models of `ai.onnx.ml`: trees, linear models, support vector machines, and what prepares their inputs.
//!
//! They become ordinary ops. Not imported: strings and maps.

pub mod array_feature_extractor;
pub mod binarizer;
pub mod feature_vectorizer;
pub mod imputer;
pub mod label_encoder;
pub mod linear_model;
pub mod normalizer;
pub mod one_hot_encoder;
mod post_transform;
pub mod scaler;
pub mod support_vectors;
pub mod tree_ensemble;
mod trees;

use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::shape::reshape::reshape;

/// The domain of these ops.
const DOMAIN: &str = "ai.onnx.ml";

/// `x` as rows: a vector is one.
///
/// # Errors
/// [`OpError::Rank`] of anything else than a vector or a matrix.
fn as_rows(b: &mut Build, x: Value) -> Result<Value, OpError> {
    let shape = b.ty(x).shape.clone();
    match shape.as_slice() {
        [length] => reshape(b, x, vec![Dim::constant(1), length.clone()]),
        [_, _] => Ok(x),
        _ => Err(OpError::Rank { operand: "X", expected: 2, found: shape.len() }),
    }
}
