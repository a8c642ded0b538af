//! `sqrt(x) = √x`, elementwise; NaN below 0.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Sqrt, opset 13.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `sqrt(x) = √x`.
pub static SQRT: OpDef = OpDef::new("sqrt", &["x"], &Map(Unary::Sqrt));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Sqrt", &SQRT)];
