//! The determinant of each matrix: a loop over columns that brings the largest element of each to the diagonal and
//! eliminates what lies below it. The product of the diagonal is the result, up to the sign of the exchanges.
//!
//! `x: […, M, M]`; 16-bit floats are computed in `f32`. Source: ONNX Det, opset 22.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, TensorType};

use crate::flow::r#loop::{Repeat, repeat};
use crate::math::abs::ABS;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::ge::GE;
use crate::math::gt::GT;
use crate::math::mul::MUL;
use crate::math::neg::NEG;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::arg_max::ARG_MAX;
use crate::reduce::position::position;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::broadcast::broadcast;
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::size::size;
use crate::shape::slice::slice_axis;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("Det", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = b.ty(x).clone();
    let (batch, rows) = square(&ty)?;
    let (one, wide) = (Dim::constant(1), ty.dtype.arithmetic());
    let count: Dim = batch.iter().cloned().product();
    let matrices = convert(b, x, wide)?;
    let matrices = reshape(b, matrices, vec![count.clone(), rows.clone(), rows.clone()])?;
    let start = b.scalar(wide, 1.0);
    let start = broadcast(b, start, vec![count, one.clone(), one])?;
    let index = b.fresh_symbol("column");
    let mut body = Build::new("eliminate");
    body.set_origin(b.origin().clone());
    let inside: Vec<Value> = [matrices, start]
        .into_iter()
        .enumerate()
        .map(|(i, value)| body.input(&format!("in{i}"), b.ty(value).clone()))
        .collect();
    let after = eliminate(&mut body, inside[0], inside[1], &Dim::from(&index))?;
    let parts = Repeat {
        body: body.finish(after.into()),
        index,
        count: Some(rows.clone()),
        cond: None,
        carried: vec![matrices, start],
        captures: vec![],
        changing: vec![],
    };
    let product = repeat(b, parts, "det")?[1];
    let product = reshape(b, product, batch.to_vec())?;
    Ok(vec![convert(b, product, ty.dtype)?])
}

/// The leading axes and the size of square matrices.
///
/// # Errors
/// [`OpError::RankAtLeast`]; [`OpError::Size`] if they are not square.
pub(super) fn square(ty: &TensorType) -> Result<(&[Dim], &Dim), OpError> {
    let Some((batch, [rows, columns])) = ty.shape.split_last_chunk::<2>() else {
        return Err(OpError::RankAtLeast { operand: "X", least: 2, found: ty.rank() });
    };
    if rows != columns {
        let (left, right) = (rows.clone(), columns.clone());
        return Err(OpError::Size { what: "rows and columns", left, right });
    }
    Ok((batch, rows))
}

/// Matrices `[B, M, N]`, two rows of which are exchanged.
pub(super) struct Pivoted {
    pub(super) matrices: Value,
    /// Their row in question, `[B, 1, N]`.
    pub(super) row: Value,
    /// Which row it was.
    pub(super) from: Value,
    /// The numbers of rows, `[M, 1]`, and that of the row in question.
    pub(super) rows: Value,
    pub(super) here: Value,
}

/// Matrices `[B, M, N]` whose row `at` is the one, from there on, with the largest element in column `at`.
pub(super) fn pivoted(b: &mut Build, x: Value, at: &Dim) -> Result<Pivoted, OpError> {
    let (ty, one) = (b.ty(x).clone(), Dim::constant(1));
    let rows = iota(b, ty.shape[1].clone(), DType::I64)?;
    let rows = reshape(b, rows, vec![ty.shape[1].clone(), one.clone()])?;
    let (here, zero, none) = (size(b, DType::I64, at)?, b.scalar(ty.dtype, 0.0), b.scalar(ty.dtype, -1.0));
    let column = slice_axis(b, x, 2, at.clone(), one.clone())?;
    let sizes = b.op(&ABS, &[column])?;
    let open = b.op(&GE, &[rows, here])?;
    let sizes = b.op(&WHERE, &[open, sizes, none])?;
    let largest = position(b, &ARG_MAX, sizes, 1, true, false)?;
    // Its row goes up, and the row that is there takes its place.
    let (is_largest, is_here) = (b.op(&EQ, &[rows, largest])?, b.op(&EQ, &[rows, here])?);
    let only = b.op(&WHERE, &[is_largest, x, zero])?;
    let chosen = reduce(b, &REDUCE_SUM, only, &[1], true)?;
    let replaced = slice_axis(b, x, 1, at.clone(), one.clone())?;
    let exchanged = b.op(&WHERE, &[is_largest, replaced, x])?;
    let matrices = b.op(&WHERE, &[is_here, chosen, exchanged])?;
    Ok(Pivoted { matrices, row: chosen, from: largest, rows, here })
}

/// Matrices `[B, M, M]` without what lies below the diagonal in column `at`, and the product `[B, 1, 1]` so far.
fn eliminate(b: &mut Build, x: Value, product: Value, at: &Dim) -> Result<[Value; 2], OpError> {
    let Pivoted { matrices: exchanged, row: chosen, from: largest, rows, here } = pivoted(b, x, at)?;
    let (zero, one) = (b.scalar(b.ty(x).dtype, 0.0), Dim::constant(1));
    let pivot = slice_axis(b, chosen, 2, at.clone(), one.clone())?;
    let column = slice_axis(b, exchanged, 2, at.clone(), one)?;
    let factor = b.op(&DIV, &[column, pivot])?;
    let below = b.op(&GT, &[rows, here])?;
    let factor = b.op(&WHERE, &[below, factor, zero])?;
    // A column of zeros makes the result 0, whatever comes behind.
    let is_zero = b.op(&EQ, &[pivot, zero])?;
    let factor = b.op(&WHERE, &[is_zero, zero, factor])?;
    let part = b.op(&MUL, &[factor, chosen])?;
    let rest = b.op(&SUB, &[exchanged, part])?;
    let product = b.op(&MUL, &[product, pivot])?;
    let turned = b.op(&NEG, &[product])?;
    let stays = b.op(&EQ, &[largest, here])?;
    Ok([rest, b.op(&WHERE, &[stays, product, turned])?])
}
