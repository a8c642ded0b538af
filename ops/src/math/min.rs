//! `min(a, b)`: the smaller one, elementwise; NaN if either is.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match.
//! Source: ONNX Min, opset 13.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::scalar::Binary;

use crate::math::elementwise::{Zip, chain};
use crate::onnx::export::{ToOnnx, logical, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};

/// `min(a, b)`: the smaller one.
pub static MIN: OpDef = OpDef::new("min", &["a", "b"], &Zip(Binary::Min));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Min", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(logical(e, "And", "Min")));

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    Ok(vec![chain(node, b, &MIN)?])
}
