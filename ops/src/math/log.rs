//! `log(x) = ln x`, elementwise; −∞ at 0, NaN below.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Log, opset 13.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `log(x) = ln x`.
pub static LOG: OpDef = OpDef::new("log", &["x"], &Map(Unary::Log));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Log", &LOG)];
