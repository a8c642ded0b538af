//! `trunc(x)`: toward zero, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: C `trunc`.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::ceil::CEIL;
use crate::math::elementwise::Map;
use crate::math::floor::FLOOR;
use crate::math::lt::LT;
use crate::math::r#where::WHERE;
use crate::onnx::Import;
use crate::onnx::export::{Body, ToOnnx, function};
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

/// `trunc(x)`: toward zero.
pub static TRUNC: OpDef = OpDef::new("trunc", &["x"], &Map(Unary::Trunc));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Ops(as_ops));

fn as_ops(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Vec<Value>, OpError> {
    let zero = b.scalar(b.ty(x[0]).dtype, 0.0);
    let below = b.op(&LT, &[x[0], zero])?;
    let (up, down) = (b.op(&CEIL, x)?, b.op(&FLOOR, x)?);
    Ok(vec![b.op(&WHERE, &[below, up, down])?])
}
