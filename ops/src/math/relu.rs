//! `relu(x) = max(x, 0)`, elementwise.
//!
//! Shapes: any type of numbers; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Relu, opset 14.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::Pointwise;
use crate::math::max::MAX;
use crate::onnx::{Import, same};

/// `relu(x) = max(x, 0)`.
pub static RELU: OpDef = OpDef::new("relu", &["x"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Relu", &RELU)];

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    let zero = b.scalar(b.ty(x[0]).dtype, 0.0);
    b.op(&MAX, &[x[0], zero])
}
