//! `cos(x)`, `x` in radians, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Cos, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `cos(x)`, `x` in radians.
pub static COS: OpDef = OpDef::new("cos", &["x"], &Map(Unary::Cos));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Cos", &COS)];
