//! `is_nan(x)`: is it NaN?, elementwise.
//!
//! Shapes: any. The result is bool. Errors: [`DType`](ir::op::OpError::DType) for anything but floats.
//! Source: ONNX IsNaN, opset 20.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `is_nan(x)`: is it NaN?.
pub static IS_NAN: OpDef = OpDef::new("is_nan", &["x"], &Map(Unary::IsNan));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("IsNaN", &IS_NAN)];
