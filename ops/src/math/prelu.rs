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
use crate::linalg::conv::along_channels;
use crate::math::lt::LT;
use crate::math::mul::MUL;
use crate::math::r#where::WHERE;
use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::shape::reshape::reshape;

/// `prelu(x, slope) = x` where `x ≥ 0`, else `slope · x`.
pub static PRELU: OpDef = OpDef::new("prelu", &["x", "slope"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("PRelu", import_by_channel), since("PRelu", 7, import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    let dtype = b.ty(x[0]).dtype;
    let zero = b.scalar(dtype, 0.0);
    let below = b.op(&LT, &[x[0], zero])?;
    let scaled = b.op(&MUL, &[x[0], x[1]])?;
    b.op(&WHERE, &[below, scaled, x[0]])
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    Ok(vec![b.op(&PRELU, &[node.input(0)?, node.input(1)?])?])
}

/// Before opset 7: one slope for all, or one for each channel.
fn import_by_channel(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, mut slope) = (node.input(0)?, node.input(1)?);
    let rank = b.ty(x).rank();
    slope = match b.ty(slope).elements().is(1) {
        true => reshape(b, slope, vec![])?,
        false => along_channels(b, slope, rank)?,
    };
    Ok(vec![b.op(&PRELU, &[x, slope])?])
}

/// In ONNX, the result has the shape of `x`.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    (e.result(0) == e.ty(0) && e.ty(0).dtype.is_float()).then(|| e.same("PRelu"))
}
