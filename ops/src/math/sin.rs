//! `sin(x)`, `x` in radians, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Sin, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `sin(x)`, `x` in radians.
pub static SIN: OpDef = OpDef::new("sin", &["x"], &Map(Unary::Sin));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Sin", &SIN)];
