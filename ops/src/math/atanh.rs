//! `atanh(x) = ½ ln((1 + x)/(1 − x))`, elementwise; NaN outside `[−1, 1]`.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Atanh, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `atanh(x) = ½ ln((1 + x)/(1 − x))`.
pub static ATANH: OpDef = OpDef::new("atanh", &["x"], &Map(Unary::Atanh));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Atanh", &ATANH)];
