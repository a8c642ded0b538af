//! `tan(x)`, `x` in radians, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Tan, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `tan(x)`, `x` in radians.
pub static TAN: OpDef = OpDef::new("tan", &["x"], &Map(Unary::Tan));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Tan", &TAN)];
