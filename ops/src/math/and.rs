//! `and(a, b) = a ∧ b`, elementwise; of every bit for integers.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match,
//! [`DType`](ir::op::OpError::DType) for floats.
//! Source: ONNX And and BitwiseAnd, opset 18.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::onnx::export::{ToOnnx, logical, nodes};
use crate::onnx::{Import, same, zip};

/// `and(a, b) = a ∧ b`.
pub static AND: OpDef = OpDef::new("and", &["a", "b"], &Zip(Binary::And));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[zip("And", &AND), same("BitwiseAnd", &AND)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(logical(e, "And", "BitwiseAnd")));
