//! `softmax(x)ᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)` along `axis`.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: [`Axis`](OpError::Axis), and those of the
//! ops that it stands for. Source: ONNX Softmax, opset 13; before, all axes from `axis` on were one. Hardmax
//! likewise.

use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpError, normalize_axis};
use ir::{DType, Dim, OpDef};

use crate::composite::{Composite, in_arithmetic};
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::exp::EXP;
use crate::math::sub::SUB;
use crate::norm::{AXIS, along_axis};
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::reduce::along::reduce;
use crate::reduce::arg_max::ARG_MAX;
use crate::reduce::position::position;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::iota;
use crate::shape::reshape::reshape;

/// Exponentials that add up to 1.
pub static SOFTMAX: OpDef = OpDef::new("softmax", &["x"], &Composite(expand)).attrs(&[AXIS.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("Softmax", |node, b| {
        import_flattened(node, b, &|b, x, axis| b.op_with(&SOFTMAX, &[x], [AXIS.is(axis)]))
    }),
    since("Softmax", 13, import),
    by("Hardmax", |node, b| import_flattened(node, b, &hardmax)),
    since("Hardmax", 13, |node, b| Ok(vec![hardmax(b, node.input(0)?, node.int_or("axis", -1)?)?])),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| along_axis(e, "Softmax"));

/// Subtracting the maximum keeps `exp` from overflowing and cancels in the quotient.
fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let axis = attrs.get(AXIS);
    in_arithmetic(b, x, |b, x| {
        let max = reduce(b, &REDUCE_MAX, x[0], &[axis], true)?;
        let shifted = b.op(&SUB, &[x[0], max])?;
        let exp = b.op(&EXP, &[shifted])?;
        let sum = reduce(b, &REDUCE_SUM, exp, &[axis], true)?;
        b.op(&DIV, &[exp, sum])
    })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axis = AXIS.is(node.int_or("axis", -1)?);
    Ok(vec![b.op_with(&SOFTMAX, &[node.input(0)?], [axis])?])
}

/// Before opset 13: [`flattened`] from `axis` on, by default 1.
pub(crate) fn import_flattened(
    node: &NodeView,
    b: &mut Build,
    along: &dyn Fn(&mut Build, Value, i64) -> Result<Value, OpError>,
) -> Result<Vec<Value>, ImportError> {
    Ok(vec![flattened(b, node.input(0)?, node.int_or("axis", 1)?, along)?])
}

/// `along` the last axis of the matrix whose rows are all axes of `x` from `axis` on.
///
/// # Errors
/// [`Axis`](OpError::Axis), and what `along` says.
pub(crate) fn flattened(
    b: &mut Build,
    x: Value,
    axis: i64,
    along: &dyn Fn(&mut Build, Value, i64) -> Result<Value, OpError>,
) -> Result<Value, OpError> {
    let shape = b.ty(x).shape.clone();
    let axis = normalize_axis(axis, shape.len())?;
    if axis + 1 == shape.len() {
        return along(b, x, axis as i64);
    }
    let (outer, inner) = shape.split_at(axis);
    let matrix = [outer, inner].map(|sizes| sizes.iter().cloned().product::<Dim>()).to_vec();
    let rows = reshape(b, x, matrix)?;
    let y = along(b, rows, 1)?;
    reshape(b, y, shape)
}

/// 1 at the first of the largest elements, else 0.
fn hardmax(b: &mut Build, x: Value, axis: i64) -> Result<Value, OpError> {
    let ty = b.ty(x).clone();
    let counted = [iota::SHAPE.is(ty.shape), iota::AXIS.is(axis), iota::DTYPE.is(DType::I64)];
    let index = b.op_with(&iota::IOTA, &[], counted)?;
    let first = position(b, &ARG_MAX, x, axis, true, false)?;
    let chosen = b.op(&EQ, &[index, first])?;
    convert(b, chosen, ty.dtype)
}
