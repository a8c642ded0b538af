//! `acosh(x) = ln(x + √(x² − 1))`, elementwise; NaN below 1.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Acosh, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `acosh(x) = ln(x + √(x² − 1))`.
pub static ACOSH: OpDef = OpDef::new("acosh", &["x"], &Map(Unary::Acosh));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Acosh", &ACOSH)];
