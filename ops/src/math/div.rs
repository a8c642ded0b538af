//! `div(a, b) = a / b`, elementwise; integers truncate toward zero, and `a / 0` is 0 for them.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match,
//! [`DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX Div, opset 14.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::onnx::{Import, zip};

/// `div(a, b) = a / b`.
pub static DIV: OpDef = OpDef::new("div", &["a", "b"], &Zip(Binary::Div));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[zip("Div", &DIV)];
