//! `trunc(x)`: toward zero, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: C `trunc`.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::Import;

/// `trunc(x)`: toward zero.
pub static TRUNC: OpDef = OpDef::new("trunc", &["x"], &Map(Unary::Trunc));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[];
