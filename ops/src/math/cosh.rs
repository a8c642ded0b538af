//! `cosh(x) = (eˣ + e⁻ˣ)/2`, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Cosh, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `cosh(x) = (eˣ + e⁻ˣ)/2`.
pub static COSH: OpDef = OpDef::new("cosh", &["x"], &Map(Unary::Cosh));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Cosh", &COSH)];
