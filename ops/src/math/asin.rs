//! `asin(x)`, in radians, elementwise; NaN outside `[−1, 1]`.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Asin, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `asin(x)`, in radians.
pub static ASIN: OpDef = OpDef::new("asin", &["x"], &Map(Unary::Asin));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Asin", &ASIN)];
