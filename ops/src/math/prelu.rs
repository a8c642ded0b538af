//! `prelu(x, slope) = x` where `x ≥ 0`, else `slope · x`, elementwise.
//!
//! Shapes: `slope` broadcasts to `x`, both of one type; the result has the type of `x`. Errors: those of the
//! ops that it stands for. Source: ONNX PRelu, opset 16.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::Pointwise;
use crate::math::lt::LT;
use crate::math::mul::MUL;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, same};

/// `prelu(x, slope) = x` where `x ≥ 0`, else `slope · x`.
pub static PRELU: OpDef = OpDef::new("prelu", &["x", "slope"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("PRelu", &PRELU)];

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    let dtype = b.ty(x[0]).dtype;
    let zero = b.scalar(dtype, 0.0);
    let below = b.op(&LT, &[x[0], zero])?;
    let scaled = b.op(&MUL, &[x[0], x[1]])?;
    b.op(&WHERE, &[below, scaled, x[0]])
}
