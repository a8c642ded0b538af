//! `asinh(x) = ln(x + √(x² + 1))`, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Asinh, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `asinh(x) = ln(x + √(x² + 1))`.
pub static ASINH: OpDef = OpDef::new("asinh", &["x"], &Map(Unary::Asinh));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Asinh", &ASINH)];
