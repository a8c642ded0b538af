//! ONNX ops that compute nothing when a trained model runs: they become their operand.
//!
//! Source: ONNX Identity, opset 19, and Dropout, opset 13; onnxruntime, contrib operators, BiasDropout, which is Dropout of a
//! sum, to which another array is added.

use ir::build::Build;
use ir::graph::Value;
use ir::{Scalar, Tensor};

use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::ge::GE;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::broadcast::{BROADCAST, SHAPE};
use crate::shape::random::Stream;
use crate::shape::reshape::reshape;

/// The ONNX ops that become nothing.
pub static ONNX: &[Import] = &[
    by("Identity", import),
    by("Dropout", import_dropout),
    by("BiasDropout", import_bias_dropout).in_domain("com.microsoft"),
];

fn import(node: &NodeView, _: &mut Build) -> Result<Vec<Value>, ImportError> {
    Ok(vec![node.input(0)?])
}

/// Dropout keeps everything at inference; its mask is all true. Before opset 12, nothing else is imported.
fn import_dropout(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    if node.opset < 12 {
        let ratio = node.float_or("ratio", 0.5)?;
        if node.opset < 7 && !node.flag("is_test", false)? && ratio != 0.0 {
            return Err(ImportError::Unsupported {
                what: "dropout in training mode".to_owned(),
                help: "export the model in inference mode, where its attribute `is_test` is 1".to_owned(),
            });
        }
        return everything(node, b, x);
    }
    dropout(node, b, x, [1, 2])
}

/// The residual comes before the ratio.
fn import_bias_dropout(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = b.op(&ADD, &[node.input(0)?, node.input(1)?])?;
    let mut results = dropout(node, b, x, [3, 4])?;
    if let Some(residual) = node.optional_input(2) {
        results[0] = b.op(&ADD, &[results[0], residual])?;
    }
    Ok(results)
}

/// Dropout of `x`; which inputs are the ratio, and whether this is training.
fn dropout(
    node: &NodeView,
    b: &mut Build,
    x: Value,
    [ratio, training]: [usize; 2],
) -> Result<Vec<Value>, ImportError> {
    let nothing = |known: Option<Tensor>| known.is_some_and(|known| !known.values().any(Scalar::to_bool));
    let training = node.optional_input(training).filter(|_| !nothing(node.constant(b, training)));
    match training {
        Some(training) if !nothing(node.constant(b, ratio)) => {
            dropped(node, b, x, (node.optional_input(ratio), training))
        }
        _ => {
            node.ignore(&["seed"]);
            everything(node, b, x)
        }
    }
}

fn everything(node: &NodeView, b: &mut Build, x: Value) -> Result<Vec<Value>, ImportError> {
    let mut results = vec![x];
    if node.output_used(1) {
        let shape = b.ty(x).shape.clone();
        let kept = b.constant(&Tensor::scalar(Scalar::bool(true)));
        results.push(b.op_with(&BROADCAST, &[kept], [SHAPE.is(shape)])?);
    }
    Ok(results)
}

/// In training, each element is kept with a chance of `1 − ratio`, and grows by what that lacks to 1.
fn dropped(
    node: &NodeView,
    b: &mut Build,
    x: Value,
    (ratio, training): (Option<Value>, Value),
) -> Result<Vec<Value>, ImportError> {
    let ty = b.ty(x).clone();
    let wide = ty.with_dtype(ty.dtype.arithmetic());
    let ratio = match ratio {
        Some(ratio) => {
            let ratio = reshape(b, ratio, vec![])?;
            convert(b, ratio, wide.dtype)?
        }
        None => b.scalar(wide.dtype, 0.5),
    };
    let [zero, one] = [0.0, 1.0].map(|value| b.scalar(wide.dtype, value));
    let training = reshape(b, training, vec![])?;
    let ratio = b.op(&WHERE, &[training, ratio, zero])?;
    let chance = Stream::of(node)?.uniform(b, &wide)?;
    let kept = b.op(&GE, &[chance, ratio])?;
    let rest = b.op(&SUB, &[one, ratio])?;
    let sample = convert(b, x, wide.dtype)?;
    let grown = b.op(&DIV, &[sample, rest])?;
    let y = b.op(&WHERE, &[kept, grown, zero])?;
    Ok(vec![convert(b, y, ty.dtype)?, kept])
}
