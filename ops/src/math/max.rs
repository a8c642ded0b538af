//! `max(a, b)`: the larger one, elementwise; NaN if either is.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match.
//! Source: ONNX Max, opset 13.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::scalar::Binary;

use crate::math::elementwise::{Zip, chain};
use crate::onnx::export::{ToOnnx, logical, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};

/// `max(a, b)`: the larger one.
pub static MAX: OpDef = OpDef::new("max", &["a", "b"], &Zip(Binary::Max));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Max", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(logical(e, "Or", "Max")));

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    Ok(vec![chain(node, b, &MAX)?])
}
