//! `abs(x) = |x|`, elementwise; the smallest signed integer maps to itself.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX Abs, opset 13.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `abs(x) = |x|`.
pub static ABS: OpDef = OpDef::new("abs", &["x"], &Map(Unary::Abs));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Abs", &ABS)];
