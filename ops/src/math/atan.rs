//! `atan(x)`, in radians, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Atan, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `atan(x)`, in radians.
pub static ATAN: OpDef = OpDef::new("atan", &["x"], &Map(Unary::Atan));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Atan", &ATAN)];
