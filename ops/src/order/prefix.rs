//! Folds of every prefix along an axis: one [`Semantics`] for sums and products, and what their ONNX imports share.
//!
//! Elements are folded in ascending order, or in descending order if `reverse`. The element itself is part of its
//! prefix, unless `exclusive`.

use ir::attr::{Attr, AttrSpec, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, KernelKind, Reduce};
use ir::op::{Eval, Infer, OpDef, OpError, Semantics, Sizes, normalize_axis};
use ir::tensor::for_each_index;
use ir::{DType, Dim, Tensor, TensorType};

use crate::flow::as_size::{as_size, check_size};
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::elementwise::wrapped;
use crate::math::eq::EQ;
use crate::math::lt::LT;
use crate::math::r#where::WHERE;
use crate::onnx::{ImportError, NodeView};
use crate::reduce::along::reduce;
use crate::reduce::reduce_prod::REDUCE_PROD;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::reference;
use crate::shape::iota::iota;
use crate::shape::reshape::{reshape, reshape_checked};
use crate::shape::size::sizes;

/// The axis along which prefixes lie; negative counts from the end.
pub const AXIS: Key<i64> = key("axis");

/// Is the element itself left out?
pub const EXCLUSIVE: Key<bool> = key("exclusive");

/// Do prefixes begin at the end?
pub const REVERSE: Key<bool> = key("reverse");

/// The attributes of every fold of prefixes.
pub const ATTRS: &[AttrSpec] =
    &[AXIS.spec(), EXCLUSIVE.or(|| Attr::Bool(false)), REVERSE.or(|| Attr::Bool(false))];

/// A fold of prefixes: a sum or a product.
pub struct Prefix(pub Reduce);

/// Which element is the `k`-th of `size`.
fn place(reverse: bool, size: &Dim, k: &Dim) -> Dim {
    if reverse { size.clone() - Dim::constant(1) - k.clone() } else { k.clone() }
}

/// Calls `visit` with the positions of each row along `axis`, in the order in which they are folded.
fn for_each_row(shape: &[usize], axis: usize, reverse: bool, mut visit: impl FnMut(Vec<usize>)) {
    let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    for_each_index(&shape[..axis], |outer| {
        let before = outer.iter().zip(shape).fold(0, |position, (&i, &size)| position * size + i);
        for behind in 0..inner {
            let position = |k: usize| (before * n + k) * inner + behind;
            visit(if reverse {
                (0..n).rev().map(position).collect()
            } else {
                (0..n).map(position).collect()
            });
        }
    });
}

impl Semantics for Prefix {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let x = cx.operands[0];
        cx.want_arithmetic(0, "x")?;
        if x.dtype == DType::Bool {
            return Err(OpError::DType { operand: "x", expected: "a number", found: x.dtype });
        }
        normalize_axis(cx.attrs.get(AXIS), x.rank())?;
        Ok(vec![x.clone()])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, exclusive) = (cx.operands[0], cx.attrs.get(EXCLUSIVE));
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len())?;
        let mut y = x.clone();
        let wide = if dtype.is_float() { DType::F64 } else { dtype };
        for_each_row(&shape, axis, cx.attrs.get(REVERSE), |row| {
            let mut sum = self.0.neutral(wide);
            for at in row {
                let before = sum;
                sum = self.0.function().apply(sum, x.get(at).cast(wide));
                y.set(at, if exclusive { before } else { sum }.cast(dtype));
            }
        });
        Ok(vec![y])
    }

    /// A fold whose extent grows with the index: loops keep a running total of it.
    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let x = cx.operands[0].clone();
        let (exclusive, reverse) = (cx.attrs.get(EXCLUSIVE), cx.attrs.get(REVERSE));
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank()).ok()?;
        let size = x.shape[axis].clone();
        cx.each(|cx, at| {
            let before = place(reverse, &size, &at[axis]);
            let extent = if exclusive { before } else { before + Dim::constant(1) };
            let fold = cx.fold(self.0, &extent, |cx, k| {
                let mut from = at.to_vec();
                from[axis] = place(reverse, &size, k);
                cx.load(0, from.into_iter().map(Expr::from)).cast(x.dtype.arithmetic())
            });
            fold.cast(x.dtype)
        })
    }

    fn kind(&self) -> Option<KernelKind> {
        Some(KernelKind::Scan)
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let (x, exclusive) = (cx.operands[0].as_ref()?, cx.attrs.get(EXCLUSIVE));
        let shape = cx.types[0].fixed_shape()?;
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len()).ok()?;
        let mut y = x.clone();
        for_each_row(&shape, axis, cx.attrs.get(REVERSE), |row| {
            let mut sum = Dim::constant(self.0.neutral(DType::I64).to_i64());
            for at in row {
                let before = sum.clone();
                sum = if self.0 == Reduce::Sum { sum + x[at].clone() } else { sum * x[at].clone() };
                y[at] = if exclusive { before } else { sum.clone() };
            }
        });
        y.iter().map(|size| wrapped(size, cx.result.dtype)).collect()
    }
}

/// An ONNX fold of prefixes along an axis that is an operand.
///
/// # Errors
/// What the op says.
pub(crate) fn import_prefix(
    node: &NodeView,
    b: &mut Build,
    op: &'static OpDef,
) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    let along = |axis: i64| [AXIS.is(axis), EXCLUSIVE.is(exclusive), REVERSE.is(reverse)];
    let known = node.known(b, 1).and_then(|axis| axis.first().and_then(Dim::as_const));
    if let Some(axis) = known {
        return Ok(vec![b.op_with(op, &[x], along(axis))?]);
    }
    let axis = reshape(b, node.input(1)?, vec![])?;
    let shape = b.ty(x).shape.clone();
    let parts = around(b, axis, &shape, node.op_type)?;
    let seen = reshape_checked(b, x, parts)?;
    let folded = b.op_with(op, &[seen], along(1))?;
    Ok(vec![reshape_checked(b, folded, shape)?])
}

/// The sizes before, along and behind an axis that is known only when the model runs, each as a product.
fn around(b: &mut Build, axis: Value, shape: &[Dim], wanted: &str) -> Result<Vec<Dim>, OpError> {
    let axis = convert(b, axis, DType::I64)?;
    let (zero, one) = (b.scalar(DType::I64, 0.0), b.scalar(DType::I64, 1.0));
    let rank = b.scalar(DType::I64, shape.len() as f64);
    let (negative, from_end) = (b.op(&LT, &[axis, zero])?, b.op(&ADD, &[axis, rank])?);
    let axis = b.op(&WHERE, &[negative, from_end, axis])?;
    let each = iota(b, shape.len().into(), DType::I64)?;
    let extents = sizes(b, shape, &TensorType::new(DType::I64, [Dim::from(shape.len())]))?;
    let named = b.op(&EQ, &[each, axis])?;
    let found = convert(b, named, DType::I64)?;
    let found = reduce(b, &REDUCE_SUM, found, &[0], false)?;
    check_size(b, found, "axis", Dim::constant(1))?;
    let mut parts = Vec::new();
    for here in [b.op(&LT, &[each, axis])?, named, b.op(&LT, &[axis, each])?] {
        let extents = b.op(&WHERE, &[here, extents, one])?;
        let product = reduce(b, &REDUCE_PROD, extents, &[0], false)?;
        parts.push(as_size(b, product, wanted, None)?);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_visited_in_order() {
        let mut rows = Vec::new();
        for_each_row(&[2, 3, 1], 1, true, |row| rows.push(row));
        assert_eq!(rows, [[2, 1, 0], [5, 4, 3]]);
        for_each_row(&[2, 0], 1, false, |row| assert!(row.is_empty()));
    }
}
