//! `mul(a, b) = a · b`, elementwise; integers wrap.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match,
//! [`DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX Mul, opset 14.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::onnx::{Import, zip};

/// `mul(a, b) = a · b`.
pub static MUL: OpDef = OpDef::new("mul", &["a", "b"], &Zip(Binary::Mul));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[zip("Mul", &MUL)];
