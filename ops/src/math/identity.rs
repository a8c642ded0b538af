//! ONNX ops that compute nothing when a trained model runs: they become their operand.
//!
//! Source: ONNX Identity, opset 19, and Dropout, opset 13.

use ir::build::Build;
use ir::graph::Value;
use ir::{Scalar, Tensor};

use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::broadcast::{BROADCAST, SHAPE};

/// The ONNX ops that become nothing.
pub static ONNX: &[Import] = &[by("Identity", import), by("Dropout", import_dropout)];

fn import(node: &NodeView, _: &mut Build) -> Result<Vec<Value>, ImportError> {
    Ok(vec![node.input(0)?])
}

/// Dropout keeps everything at inference; its mask is all true.
fn import_dropout(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["seed", "ratio"]);
    if node.optional_input(2).is_some() {
        let training = node.constant(b, 2);
        let training = training.ok_or(ImportError::RunTimeValue { index: 2, input: "training_mode" })?;
        if training.values().any(Scalar::to_bool) {
            return Err(ImportError::Unsupported {
                what: "dropout in training mode".to_owned(),
                help: "export the model in inference mode".to_owned(),
            });
        }
    }
    let x = node.input(0)?;
    let mut results = vec![x];
    if node.output_used(1) {
        let shape = b.ty(x).shape.clone();
        let kept = b.constant(&Tensor::scalar(Scalar::bool(true)));
        results.push(b.op_with(&BROADCAST, &[kept], [SHAPE.is(shape)])?);
    }
    Ok(results)
}
