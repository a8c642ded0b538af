//! `gt(a, b)`: is `a > b`?, elementwise; false with NaN.
//!
//! Shapes: operands of one type broadcast. The result is bool.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match.
//! Source: ONNX Greater, opset 13.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::onnx::export::{ToOnnx, comparison, nodes};
use crate::onnx::{Import, zip};

/// `gt(a, b)`: is `a > b`?.
pub static GT: OpDef = OpDef::new("gt", &["a", "b"], &Zip(Binary::Gt));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[zip("Greater", &GT)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(comparison(e, "Greater")));
