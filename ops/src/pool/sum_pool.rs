//! `sum_pool(x)`: the sum of each window.
//!
//! Shapes: `x: [N, C, …]`, of numbers; the result is `[N, C, windows…]`. See [`crate::window`]. Errors:
//! [`DType`](ir::op::OpError::DType), [`Rank`](ir::op::OpError::Rank), [`Size`](ir::op::OpError::Size),
//! [`Attribute`](ir::op::OpError::Attribute). Source: ONNX LpPool and GlobalLpPool, opset 22.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::in_arithmetic;
use crate::linalg::conv::CONV;
use crate::math::abs::ABS;
use crate::math::pow::POW;
use crate::onnx::export::{Body, ToOnnx, function};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::pool::slide::{Slide, import_window};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::broadcast::broadcast;
use crate::shape::reshape::reshape;
use crate::window::{CEIL, CEIL_SPEC, DILATIONS, HIGH, KERNEL, LOW, STRIDES, Window};
use ir::Dim;
use ir::attr::Attrs;

/// The sum of each window.
pub static SUM_POOL: OpDef = OpDef::new("sum_pool", &["x"], &Slide::Sum).attrs(&[
    KERNEL.spec(),
    STRIDES.spec(),
    DILATIONS.spec(),
    LOW.spec(),
    HIGH.spec(),
    CEIL_SPEC,
]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("LpPool", import), by("GlobalLpPool", import_global)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Ops(as_ops));

/// `(Σ |x|ᵖ)^(1/p)`, where `sum` sums.
fn norm(
    node: &NodeView,
    b: &mut Build,
    sum: impl FnOnce(&mut Build, Value) -> Result<Value, OpError>,
) -> Result<Vec<Value>, ImportError> {
    let p = if node.opset < 2 { node.float_or("p", 2.0)? } else { node.int_or("p", 2)? as f64 };
    let y = in_arithmetic(b, &[node.input(0)?], |b, x| {
        let dtype = b.ty(x[0]).dtype;
        let (power, root) = (b.scalar(dtype, p), b.scalar(dtype, 1.0 / p));
        let size = b.op(&ABS, &[x[0]])?;
        let each = b.op(&POW, &[size, power])?;
        let sum = sum(b, each)?;
        b.op(&POW, &[sum, root])
    })?;
    Ok(vec![y])
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let window = import_window(node, b)?;
    norm(node, b, |b, x| b.op_with(&SUM_POOL, &[x], window))
}

fn import_global(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axes: Vec<i64> = (2..node.ty(b, 0)?.rank() as i64).collect();
    norm(node, b, |b, x| reduce(b, &REDUCE_SUM, x, &axes, true))
}

/// A convolution with ones, each channel an image of its own.
fn as_ops(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Vec<Value>, OpError> {
    let (ty, one) = (b.ty(x[0]).clone(), Dim::constant(1));
    let kernel: Vec<Dim> = attrs.get(KERNEL).into_iter().map(Dim::constant).collect();
    let (strides, dilations) = (attrs.get(STRIDES), attrs.get(DILATIONS));
    let (low, mut high) = (attrs.get(LOW), attrs.get(HIGH));
    let windows = Window::new(kernel.clone(), attrs, attrs.get(CEIL))?.count(&ty.shape[2..])?;
    // So much behind the image that the last window ends there.
    for axis in 0..kernel.len() {
        let span = (kernel[axis].clone() - one.clone()) * dilations[axis].into() + one.clone();
        let reach = (windows[axis].clone() - one.clone()) * strides[axis].into() + span;
        high[axis] = reach - low[axis].clone() - ty.shape[2 + axis].clone();
    }
    let planes =
        [vec![ty.shape[0].clone() * ty.shape[1].clone(), one.clone()], ty.shape[2..].to_vec()].concat();
    let planes = reshape(b, x[0], planes)?;
    let ones = b.scalar(ty.dtype, 1.0);
    let ones = broadcast(b, ones, [vec![one; 2], kernel].concat())?;
    let how = [STRIDES.is(strides), DILATIONS.is(dilations), LOW.is(low), HIGH.is(high)];
    let sums = b.op_with(&CONV, &[planes, ones], how)?;
    let shape = [&ty.shape[..2], &windows].concat();
    Ok(vec![reshape(b, sums, shape)?])
}
