//! `acos(x)`, in radians, elementwise; NaN outside `[−1, 1]`.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Acos, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `acos(x)`, in radians.
pub static ACOS: OpDef = OpDef::new("acos", &["x"], &Map(Unary::Acos));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Acos", &ACOS)];
