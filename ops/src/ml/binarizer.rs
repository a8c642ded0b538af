//! 1 where an element is larger than a threshold, else 0, in its type. Source: ONNX ai.onnx.ml.Binarizer, version 1.

use ir::build::Build;
use ir::graph::Value;

use crate::math::cast::convert;
use crate::math::gt::GT;
use crate::ml::DOMAIN;
use crate::onnx::{Import, ImportError, NodeView, by};

/// The ONNX op.
pub static ONNX: &[Import] = &[by("Binarizer", import).in_domain(DOMAIN)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let dtype = b.ty(x).dtype;
    let threshold = node.float_or("threshold", 0.0)?;
    // Of integers, those that are larger than a number are those that are larger than its floor.
    let threshold = if dtype.is_float() { threshold } else { threshold.floor() };
    let threshold = b.scalar(dtype, threshold);
    let larger = b.op(&GT, &[x, threshold])?;
    Ok(vec![convert(b, larger, dtype)?])
}
