//! `round(x)`: to the nearest integer, ties to even, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Round, opset 22.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `round(x)`: to the nearest integer, ties to even.
pub static ROUND: OpDef = OpDef::new("round", &["x"], &Map(Unary::Round));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Round", &ROUND)];
