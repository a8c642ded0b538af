//! onnxruntime's QLinear ops: each operand is a quantized number with its scale and its zero, `(q − zero) · scale`, and so
//! is the result, `saturate(round(y / scale) + zero)`. Between them everything is computed in `f32`.
//!
//! Source: onnxruntime, contrib operators, QLinearAdd, QLinearMul, QLinearSigmoid, QLinearLeakyRelu, QLinearConcat,
//! QLinearWhere, QLinearSoftmax, QLinearReduceMean, QLinearAveragePool and QLinearGlobalAveragePool.

use ir::DType;
use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpDef, OpError};

use crate::math::add::ADD;
use crate::math::div::DIV;
use crate::math::leaky_relu::{ALPHA, LEAKY_RELU};
use crate::math::mul::MUL;
use crate::math::quantize::{dequantized, saturated};
use crate::math::sigmoid::SIGMOID;
use crate::math::r#where::WHERE;
use crate::norm::softmax::{SOFTMAX, flattened};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::pool::avg_pool::AVG_POOL;
use crate::pool::slide::{INCLUDE_PAD, window_on};
use crate::reduce::along::reduce;
use crate::reduce::reduce_mean::REDUCE_MEAN;
use crate::shape::concat::{self, CONCAT};
use crate::shape::reshape::reshape;
use crate::shape::transpose::{channels_first, channels_last};

/// The ops.
pub static ONNX: &[Import] = &[
    by("QLinearAdd", |node, b| binary(node, b, &ADD)).in_domain("com.microsoft"),
    by("QLinearMul", |node, b| binary(node, b, &MUL)).in_domain("com.microsoft"),
    by("QLinearSigmoid", |node, b| unary(node, b, |b, x| Ok(b.op(&SIGMOID, &[x])?)))
        .in_domain("com.microsoft"),
    by("QLinearLeakyRelu", import_leaky_relu).in_domain("com.microsoft"),
    by("QLinearConcat", import_concat).in_domain("com.microsoft"),
    by("QLinearWhere", import_where).in_domain("com.microsoft"),
    by("QLinearSoftmax", import_softmax).in_domain("com.microsoft"),
    by("QLinearReduceMean", import_mean).in_domain("com.microsoft"),
    by("QLinearAveragePool", import_pool).in_domain("com.microsoft"),
    by("QLinearGlobalAveragePool", import_global).in_domain("com.microsoft"),
];

/// The number that input `at`, its scale and its zero are.
fn operand(node: &NodeView, b: &mut Build, at: usize) -> Result<Value, ImportError> {
    let (x, scale) = (node.input(at)?, node.input(at + 1)?);
    let scale = reshape(b, scale, vec![])?;
    let zero = node.optional_input(at + 2).map(|zero| reshape(b, zero, vec![])).transpose()?;
    Ok(dequantized(b, x, zero, scale, DType::F32)?)
}

/// `y` quantized with the scale that is input `at`, and the zero behind it, as a `to`.
fn result(node: &NodeView, b: &mut Build, y: Value, at: usize, to: DType) -> Result<Value, ImportError> {
    let scale = reshape(b, node.input(at)?, vec![])?;
    let zero = node.optional_input(at + 1).map(|zero| reshape(b, zero, vec![])).transpose()?;
    let scaled = b.op(&DIV, &[y, scale])?;
    saturated(b, scaled, zero, to)
}

fn binary(node: &NodeView, b: &mut Build, op: &'static OpDef) -> Result<Vec<Value>, ImportError> {
    let to = node.ty(b, 0)?.dtype;
    let operands = [operand(node, b, 0)?, operand(node, b, 3)?];
    let y = b.op(op, &operands)?;
    Ok(vec![result(node, b, y, 6, to)?])
}

fn unary(
    node: &NodeView,
    b: &mut Build,
    f: impl FnOnce(&mut Build, Value) -> Result<Value, ImportError>,
) -> Result<Vec<Value>, ImportError> {
    let to = node.ty(b, 0)?.dtype;
    let x = operand(node, b, 0)?;
    let y = f(b, x)?;
    Ok(vec![result(node, b, y, 3, to)?])
}

fn import_leaky_relu(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let alpha = ALPHA.is(node.float_or("alpha", 0.01)?);
    unary(node, b, |b, x| Ok(b.op_with(&LEAKY_RELU, &[x], [alpha])?))
}

/// The scale and the zero of the result come first, then each operand.
fn import_concat(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axis = node.int("axis")?;
    let axis = node.required("axis", axis)?;
    let to = node.ty(b, 2)?.dtype;
    let mut parts = Vec::new();
    for at in (2..node.input_count()).step_by(3) {
        parts.push(operand(node, b, at)?);
    }
    let y = b.op_with(&CONCAT, &parts, [concat::AXIS.is(axis)])?;
    Ok(vec![result(node, b, y, 0, to)?])
}

fn import_where(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let to = node.ty(b, 1)?.dtype;
    let operands = [node.input(0)?, operand(node, b, 1)?, operand(node, b, 4)?];
    let y = b.op(&WHERE, &operands)?;
    Ok(vec![result(node, b, y, 7, to)?])
}

/// Of the version `opset` of Softmax: before 13, all axes from `axis` on are one.
fn import_softmax(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let version = node.int("opset")?;
    let version = node.required("opset", version)?;
    let axis = node.int_or("axis", -1)?;
    let along = |b: &mut Build, x: Value, axis: i64| b.op_with(&SOFTMAX, &[x], [crate::norm::AXIS.is(axis)]);
    unary(node, b, |b, x| Ok(if version < 13 { flattened(b, x, axis, &along)? } else { along(b, x, axis)? }))
}

fn import_mean(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axes = match node.ints("axes")? {
        Some(axes) if !axes.is_empty() => axes,
        _ => (0..node.ty(b, 0)?.rank() as i64).collect(),
    };
    let keep = node.flag("keepdims", true)?;
    unary(node, b, |b, x| Ok(reduce(b, &REDUCE_MEAN, x, &axes, keep)?))
}

/// Where channels come last, they are moved, and moved back.
fn pooled(
    node: &NodeView,
    b: &mut Build,
    f: impl FnOnce(&mut Build, Value) -> Result<Value, ImportError>,
) -> Result<Vec<Value>, ImportError> {
    let are_last = node.flag("channels_last", false)?;
    let found = node.ty(b, 0)?.rank();
    if found < 3 {
        return Err(OpError::RankAtLeast { operand: "X", least: 3, found }.into());
    }
    unary(node, b, |b, x| {
        let x = if are_last { channels_first(b, x)? } else { x };
        let y = f(b, x)?;
        Ok(if are_last { channels_last(b, y)? } else { y })
    })
}

fn import_pool(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let include_pad = INCLUDE_PAD.is(node.flag("count_include_pad", false)?);
    pooled(node, b, |b, x| {
        let mut attrs = window_on(node, &b.ty(x).shape)?;
        attrs.push(include_pad);
        Ok(b.op_with(&AVG_POOL, &[x], attrs)?)
    })
}

fn import_global(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    pooled(node, b, |b, x| {
        let axes: Vec<i64> = (2..b.ty(x).rank() as i64).collect();
        Ok(reduce(b, &REDUCE_MEAN, x, &axes, true)?)
    })
}
