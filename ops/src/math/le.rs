//! `le(a, b)`: is `a ≤ b`?, elementwise; false with NaN.
//!
//! Shapes: operands of one type broadcast. The result is bool.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match.
//! Source: ONNX LessOrEqual, opset 16.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::onnx::export::{ToOnnx, comparison, nodes};
use crate::onnx::{Import, same};

/// `le(a, b)`: is `a ≤ b`?.
pub static LE: OpDef = OpDef::new("le", &["a", "b"], &Zip(Binary::Le));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("LessOrEqual", &LE)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(comparison(e, "LessOrEqual")));
