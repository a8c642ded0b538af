//! `tanh(x) = (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ)`, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Tanh, opset 13.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `tanh(x) = (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ)`.
pub static TANH: OpDef = OpDef::new("tanh", &["x"], &Map(Unary::Tanh));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Tanh", &TANH)];
