//! `max_pool(x)`: the largest element of each window; NaN if any is.
//!
//! Shapes: `x: [N, C, …]`, of numbers; the result is `[N, C, windows…]`. See [`crate::window`]. Errors:
//! [`DType`](ir::op::OpError::DType), [`Rank`](ir::op::OpError::Rank), [`Size`](ir::op::OpError::Size),
//! [`Attribute`](ir::op::OpError::Attribute). Source: ONNX MaxPool and GlobalMaxPool, opset 22;
//! onnxruntime, contrib operators, NhwcMaxPool, whose images are `[N, …, C]`.

use std::slice::from_ref;

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::types::strides;
use ir::{DType, Dim, OpDef, Scalar, Tensor};

use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::mul::MUL;
use crate::math::rem::REM;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::export::{Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::pool::slide::{Slide, import_global, import_window, to_onnx_window, unpadded, window_on};
use crate::reduce::along::reduce;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::reduce::reduce_min::REDUCE_MIN;
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::size::size;
use crate::shape::transpose::{channels_first, channels_last};
use crate::window::{CEIL_SPEC, DILATIONS, HIGH, KERNEL, LOW, STRIDES};
use ir::attr::Attrs;

/// The largest element of each window.
pub static MAX_POOL: OpDef = OpDef::new("max_pool", &["x"], &Slide::Max).attrs(&[
    KERNEL.spec(),
    STRIDES.spec(),
    DILATIONS.spec(),
    LOW.spec(),
    HIGH.spec(),
    CEIL_SPEC,
]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("MaxPool", import),
    by("GlobalMaxPool", |node, b| import_global(node, b, &REDUCE_MAX)),
    by("NhwcMaxPool", |node, b| {
        let x = channels_first(b, node.input(0)?)?;
        let window = window_on(node, &b.ty(x).shape)?;
        let y = b.op_with(&MAX_POOL, &[x], window)?;
        Ok(vec![channels_last(b, y)?])
    })
    .in_domain("com.microsoft"),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Ops(as_ops));

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let columns_first = node.flag("storage_order", false)?;
    let window = import_window(node, b)?;
    let x = node.input(0)?;
    let y = b.op_with(&MAX_POOL, &[x], window)?;
    let mut results = vec![y];
    if node.output_used(1) {
        results.push(positions(b, x, y, columns_first)?);
    }
    Ok(results)
}

/// Where in `x`, seen as a vector, the first of the largest elements of each window lies.
///
/// The elements of a window are gathered behind it; among those that are the largest, the first has the smallest
/// position in its image. Then the image counts, too.
fn positions(b: &mut Build, x: Value, y: Value, columns_first: bool) -> Result<Value, OpError> {
    let (ty, windows) = (b.ty(x).clone(), b.ty(y).shape.clone());
    let (planes, image) = ty.shape.split_at(2);
    let (rank, strides) = (image.len(), strides(image));
    let (_, attrs) = b.graph().node(y.node).op().expect("bug: it was just made");
    let (kernel, low) = (attrs.get(KERNEL), attrs.get(LOW));
    let (step, dilation) = (attrs.get(STRIDES), attrs.get(DILATIONS));
    let along = |b: &mut Build, at: usize, extent: &Dim, factor: i64| -> Result<Value, OpError> {
        let mut shape = vec![Dim::constant(1); 2 * rank];
        shape[at] = extent.clone();
        let factor = size(b, DType::I64, &factor.into())?;
        let counted = iota(b, extent.clone(), DType::I64)?;
        let counted = b.op(&MUL, &[counted, factor])?;
        reshape(b, counted, shape)
    };
    let zero = b.scalar(DType::I64, 0.0);
    let mut position = zero;
    let mut exists = b.constant(&Tensor::scalar(Scalar::bool(true)));
    for axis in 0..rank {
        let window = along(b, axis, &windows[2 + axis], step[axis])?;
        let tap = along(b, rank + axis, &kernel[axis].into(), dilation[axis])?;
        let (low, extent) = (size(b, DType::I64, &low[axis])?, size(b, DType::I64, &image[axis])?);
        let at = b.op(&ADD, &[window, tap])?;
        let at = b.op(&SUB, &[at, low])?;
        for pair in [(&LE, [zero, at]), (&LT, [at, extent])] {
            let holds = b.op(pair.0, &pair.1)?;
            exists = b.op(&AND, &[exists, holds])?;
        }
        let stride = size(b, DType::I64, &strides[axis])?;
        let part = b.op(&MUL, &[at, stride])?;
        position = b.op(&ADD, &[position, part])?;
    }
    let all: Dim = image.iter().cloned().product();
    let rows = reshape(b, x, [planes, from_ref(&all)].concat())?;
    let index = b.op(&WHERE, &[exists, position, zero])?;
    let seen = b.op_with(&GATHER, &[rows, index], [AXIS.is(2)])?;
    let behind = vec![Dim::constant(1); rank];
    let largest = reshape(b, y, [&windows[..], &behind].concat())?;
    let is_largest = b.op(&EQ, &[seen, largest])?;
    let is_largest = b.op(&AND, &[is_largest, exists])?;
    let last = all.clone() - Dim::constant(1);
    let last = size(b, DType::I64, &Dim::larger(&last, &Dim::constant(0)))?;
    let candidates = b.op(&WHERE, &[is_largest, position, last])?;
    let taps: Vec<i64> = (0..rank as i64).map(|axis| axis - rank as i64).collect();
    let mut first = reduce(b, &REDUCE_MIN, candidates, &taps, false)?;
    if columns_first {
        first = reversed(b, first, image, &strides)?;
    }
    let plane = iota(b, planes.iter().cloned().product(), DType::I64)?;
    let elements = size(b, DType::I64, &all)?;
    let plane = b.op(&MUL, &[plane, elements])?;
    let plane = reshape(b, plane, [planes, &behind].concat())?;
    b.op(&ADD, &[first, plane])
}

/// A position in an image whose first axis is the innermost one, from one whose last axis is.
fn reversed(b: &mut Build, position: Value, image: &[Dim], strides: &[Dim]) -> Result<Value, OpError> {
    let mut sum = b.scalar(DType::I64, 0.0);
    let mut inner = Dim::constant(1);
    for (extent, stride) in image.iter().zip(strides) {
        let (stride, factor) = (size(b, DType::I64, stride)?, size(b, DType::I64, &inner)?);
        inner = inner * extent.clone();
        let extent = size(b, DType::I64, extent)?;
        let at = b.op(&DIV, &[position, stride])?;
        let at = b.op(&REM, &[at, extent])?;
        let part = b.op(&MUL, &[at, factor])?;
        sum = b.op(&ADD, &[sum, part])?;
    }
    Ok(sum)
}

/// In ONNX, it is there for floats and bytes.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let dtype = e.ty(0).dtype;
    let how = to_onnx_window(e)?;
    (dtype.is_float() || matches!(dtype, DType::I8 | DType::U8)).then(|| e.same_with("MaxPool", how))
}

/// Of an image with the least number around it; of integers as floats, which hold those of 32 bits.
fn as_ops(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Vec<Value>, OpError> {
    let dtype = b.ty(x[0]).dtype;
    let wide = if dtype.is_float() { dtype } else { DType::F64 };
    let image = convert(b, x[0], wide)?;
    let y = unpadded(b, image, &MAX_POOL, attrs, f64::NEG_INFINITY)?;
    Ok(vec![convert(b, y, dtype)?])
}
