//! `floor(x) = ⌊x⌋`, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Floor, opset 13.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `floor(x) = ⌊x⌋`.
pub static FLOOR: OpDef = OpDef::new("floor", &["x"], &Map(Unary::Floor));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Floor", &FLOOR)];
