//! `clip(x, low, high) = min(max(x, low), high)`, elementwise.
//!
//! Shapes: the bounds broadcast to `x`, all of one type; the result has the type of `x`. Errors: those of the
//! ops that it stands for. Source: ONNX Clip, opset 13.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::Pointwise;
use crate::math::max::MAX;
use crate::math::min::MIN;
use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use ir::DType;

/// `clip(x, low, high) = min(max(x, low), high)`.
pub static CLIP: OpDef = OpDef::new("clip", &["x", "low", "high"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Clip", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    let above = b.op(&MAX, &[x[0], x[1]])?;
    b.op(&MIN, &[above, x[2]])
}

/// The bounds were attributes until opset 11 and are operands since; either may be absent.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let dtype = b.ty(x).dtype;
    let (low, high) = if node.opset < 11 {
        let mut bound = |value: Option<f64>| value.map(|value| b.scalar(dtype, value));
        (bound(node.float("min")?), bound(node.float("max")?))
    } else {
        (node.optional_input(1), node.optional_input(2))
    };
    Ok(vec![match (low, high) {
        (Some(low), Some(high)) => b.op(&CLIP, &[x, low, high])?,
        (Some(low), None) => b.op(&MAX, &[x, low])?,
        (None, Some(high)) => b.op(&MIN, &[x, high])?,
        (None, None) => x,
    }])
}

/// In ONNX, bounds are single numbers.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let single = e.ty(1).rank() == 0 && e.ty(2).rank() == 0 && e.ty(0).dtype != DType::Bool;
    single.then(|| e.same("Clip"))
}
