//! `reciprocal(x) = 1/x`, elementwise.
//!
//! Shapes: any type of numbers; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Reciprocal, opset 13.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::Pointwise;
use crate::math::div::DIV;
use crate::onnx::{Import, same};

/// `reciprocal(x) = 1/x`.
pub static RECIPROCAL: OpDef = OpDef::new("reciprocal", &["x"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Reciprocal", &RECIPROCAL)];

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    let one = b.scalar(b.ty(x[0]).dtype, 1.0);
    b.op(&DIV, &[one, x[0]])
}
