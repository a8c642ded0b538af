//! `or(a, b) = a ∨ b`, elementwise; of every bit for integers.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match,
//! [`DType`](ir::op::OpError::DType) for floats.
//! Source: ONNX Or and BitwiseOr, opset 18.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::onnx::export::{ToOnnx, logical, nodes};
use crate::onnx::{Import, same, zip};

/// `or(a, b) = a ∨ b`.
pub static OR: OpDef = OpDef::new("or", &["a", "b"], &Zip(Binary::Or));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[zip("Or", &OR), same("BitwiseOr", &OR)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(logical(e, "Or", "BitwiseOr")));
