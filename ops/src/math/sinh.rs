//! `sinh(x) = (eˣ − e⁻ˣ)/2`, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Sinh, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `sinh(x) = (eˣ − e⁻ˣ)/2`.
pub static SINH: OpDef = OpDef::new("sinh", &["x"], &Map(Unary::Sinh));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Sinh", &SINH)];
