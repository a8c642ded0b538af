//! `exp(x) = eˣ`, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Exp, opset 13.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `exp(x) = eˣ`.
pub static EXP: OpDef = OpDef::new("exp", &["x"], &Map(Unary::Exp));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Exp", &EXP)];
