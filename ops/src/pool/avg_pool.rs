//! `avg_pool(x)`: the mean of each window.
//!
//! What lies outside the image adds nothing, and counts only with `include_pad`; what lies beyond the padding
//! never counts. Shapes: `x: [N, C, …]`, of floats; the result is `[N, C, windows…]`. See [`crate::window`].
//! Errors: [`DType`](ir::op::OpError::DType), [`Rank`](ir::op::OpError::Rank),
//! [`Size`](ir::op::OpError::Size), [`Attribute`](ir::op::OpError::Attribute). Source: ONNX AveragePool and
//! GlobalAveragePool, opset 22.

use ir::OpDef;
use ir::attr::Attr;
use ir::build::Build;
use ir::graph::Value;

use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::r#where::WHERE;
use crate::onnx::export::{Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::pool::slide::{INCLUDE_PAD, Slide, import_global, import_window, to_onnx_window, unpadded};
use crate::reduce::reduce_mean::REDUCE_MEAN;
use crate::shape::broadcast::broadcast;
use crate::window::{CEIL_SPEC, DILATIONS, HIGH, KERNEL, LOW, STRIDES};
use ir::attr::Attrs;
use ir::op::OpError;

/// The mean of each window.
pub static AVG_POOL: OpDef = OpDef::new("avg_pool", &["x"], &Slide::Mean).attrs(&[
    KERNEL.spec(),
    STRIDES.spec(),
    DILATIONS.spec(),
    LOW.spec(),
    HIGH.spec(),
    CEIL_SPEC,
    INCLUDE_PAD.or(|| Attr::Bool(false)),
]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] =
    &[by("AveragePool", import), by("GlobalAveragePool", |node, b| import_global(node, b, &REDUCE_MEAN))];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Ops(as_ops));

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mut attrs = import_window(node, b)?;
    attrs.push(INCLUDE_PAD.is(node.flag("count_include_pad", false)?));
    Ok(vec![b.op_with(&AVG_POOL, &[node.input(0)?], attrs)?])
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let mut how = to_onnx_window(e)?;
    how.push(("count_include_pad", NodeAttr::Int(e.attrs.get(INCLUDE_PAD).into())));
    Some(e.same_with("AveragePool", how))
}

/// Of an image with zeros around it; where these do not count, divided by the mean of ones with zeros around them.
fn as_ops(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Vec<Value>, OpError> {
    let mean = unpadded(b, x[0], &AVG_POOL, attrs, 0.0)?;
    if attrs.get(INCLUDE_PAD) {
        return Ok(vec![mean]);
    }
    let ty = b.ty(x[0]).clone();
    let [zero, one] = [0.0, 1.0].map(|value| b.scalar(ty.dtype, value));
    let ones = broadcast(b, one, ty.shape)?;
    let share = unpadded(b, ones, &AVG_POOL, attrs, 0.0)?;
    let nothing = b.op(&EQ, &[share, zero])?;
    let share = b.op(&WHERE, &[nothing, one, share])?;
    Ok(vec![b.op(&DIV, &[mean, share])?])
}
