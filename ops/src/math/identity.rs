//! ONNX ops that compute nothing when a trained model runs: they become their operand.
//!
//! Source: ONNX Identity, opset 19, and Dropout, opset 13.

use ir::build::Build;
use ir::graph::Value;
use ir::{DType, Dim, Scalar, Tensor};

use crate::flow::as_size::check_size;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::ne::NE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::broadcast::{BROADCAST, SHAPE};
use crate::shape::reshape::reshape;

/// The ONNX ops that become nothing.
pub static ONNX: &[Import] = &[by("Identity", import), by("Dropout", import_dropout)];

fn import(node: &NodeView, _: &mut Build) -> Result<Vec<Value>, ImportError> {
    Ok(vec![node.input(0)?])
}

/// Dropout keeps everything at inference; its mask is all true. That it is inference is checked when the model runs, if
/// it is not known.
fn import_dropout(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["seed"]);
    let ratio_before_12 = node.float_or("ratio", 0.5)?;
    if node.opset < 7 && !node.flag("is_test", false)? && ratio_before_12 != 0.0 {
        return Err(in_training());
    }
    if let Some(training) = node.optional_input(2) {
        // Without a ratio, it is a half.
        let ratio = node.optional_input(1);
        let drops_nothing = |known: &Tensor| !known.values().any(Scalar::to_bool);
        match (node.constant(b, 2), ratio.and_then(|_| node.constant(b, 1))) {
            (Some(training), _) if drops_nothing(&training) => {}
            (_, Some(ratio)) if drops_nothing(&ratio) => {}
            (None, _) => {
                let mut drops = reshape(b, training, vec![])?;
                if let Some(ratio) = ratio {
                    let zero = b.scalar(b.ty(ratio).dtype, 0.0);
                    let some = b.op(&NE, &[ratio, zero])?;
                    let some = reshape(b, some, vec![])?;
                    drops = b.op(&AND, &[drops, some])?;
                }
                let drops = convert(b, drops, DType::I64)?;
                check_size(b, drops, "training_mode", Dim::constant(0))?;
            }
            (Some(_), _) => {
                return Err(in_training());
            }
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

fn in_training() -> ImportError {
    ImportError::Unsupported {
        what: "dropout in training mode".to_owned(),
        help: "export the model in inference mode".to_owned(),
    }
}
