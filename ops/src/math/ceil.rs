//! `ceil(x) = ⌈x⌉`, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Ceil, opset 13.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `ceil(x) = ⌈x⌉`.
pub static CEIL: OpDef = OpDef::new("ceil", &["x"], &Map(Unary::Ceil));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Ceil", &CEIL)];
