//! `not(x) = ¬x`, elementwise; of every bit for integers.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for floats.
//! Source: ONNX Not and BitwiseNot, opset 18.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::export::{ToOnnx, logical, nodes};
use crate::onnx::{Import, same};

/// `¬x`.
pub static NOT: OpDef = OpDef::new("not", &["x"], &Map(Unary::Not));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Not", &NOT), same("BitwiseNot", &NOT)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(logical(e, "Not", "BitwiseNot")));
