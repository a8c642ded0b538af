//! Positions of extrema along an axis: one [`Semantics`] for `arg_max` and `arg_min`, and their ONNX import.
//!
//! `m` is the extremum of a row, NaN if any element is; the result is the first (or last) position of an element
//! that is `m`, or NaN where `m` is. That is how numpy has it. Along an axis of size 0 it is −1.

use ir::attr::{Attr, AttrSpec, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, Reduce};
use ir::op::{Eval, Infer, OpDef, OpError, Semantics, normalize_axis};
use ir::scalar::Binary;
use ir::{DType, Dim, Scalar, Tensor, TensorType};

use crate::onnx::export::Emit;
use crate::onnx::{ImportError, NodeAttr, NodeView};
use crate::reduce::along::EXTREMA_OF;
use crate::reference;

/// The axis along which is searched; negative counts from the end.
pub const AXIS: Key<i64> = key("axis");

/// Does the axis stay, with size 1?
pub const KEEP_DIMS: Key<bool> = key("keep_dims");

/// Of several extrema, is the last one meant?
pub const LAST: Key<bool> = key("last");

/// The attributes of both.
pub const ATTRS: &[AttrSpec] =
    &[AXIS.spec(), KEEP_DIMS.or(|| Attr::Bool(true)), LAST.or(|| Attr::Bool(false))];

/// The position of what this fold gives: of the largest, or of the smallest.
pub struct Position(pub Reduce);

impl Semantics for Position {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let x = cx.operands[0];
        cx.want_arithmetic(0, "x")?;
        if x.dtype == DType::Bool {
            return Err(OpError::DType { operand: "x", expected: "a number", found: x.dtype });
        }
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank())?;
        let mut shape = x.shape.clone();
        match cx.attrs.get(KEEP_DIMS) {
            true => shape[axis] = Dim::constant(1),
            false => drop(shape.remove(axis)),
        }
        Ok(vec![TensorType::new(DType::I64, shape)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let x = cx.operands[0];
        let axis = normalize_axis(cx.attrs.get(AXIS), x.shape().len())?;
        let (keep, last) = (cx.attrs.get(KEEP_DIMS), cx.attrs.get(LAST));
        let element = |at: &[usize]| {
            let row: Vec<Scalar> = (0..x.shape()[axis]).map(|k| x.at(&along(at, axis, keep, k))).collect();
            let extremum = reference::fold(self.0, x.dtype(), row.iter().copied());
            // Zeros of both signs are equal.
            let is_it = |element: &Scalar| {
                let (element, extremum) = (*element, extremum);
                Binary::Eq.apply(element, extremum).to_bool() || Binary::Ne.apply(element, element).to_bool()
            };
            let found = if last { row.iter().rposition(is_it) } else { row.iter().position(is_it) };
            Scalar::from_i64(dtype, found.map_or(-1, |position| position as i64))
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let x = cx.operands[0].clone();
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank()).ok()?;
        let (keep, last) = (cx.attrs.get(KEEP_DIMS), cx.attrs.get(LAST));
        let (size, wide) = (x.shape[axis].clone(), x.dtype.arithmetic());
        let shape = cx.results[0].shape.clone();
        let element = |cx: &mut Lower, at: &[Dim], k: &Dim| {
            cx.load(0, along(at, axis, keep, k.clone()).into_iter().map(Expr::from)).cast(wide)
        };
        let extrema = cx.stage(&shape, |cx, at| cx.fold(self.0, &size, |cx, k| element(cx, at, k)));
        cx.each(|cx, at| {
            let extremum = Expr::load(extrema, wide, at.iter().map(Expr::from));
            // What another position gives is never chosen.
            let (fold, other) = match last {
                true => (Reduce::Max, Dim::constant(-1)),
                false => (Reduce::Min, size.clone()),
            };
            let found = cx.fold(fold, &size, |cx, k| {
                let element = element(cx, at, k);
                let mut is_it = element.clone().equals(extremum);
                if wide.is_float() {
                    let is_nan = Expr::binary(Binary::Ne, element.clone(), element);
                    is_it = Expr::binary(Binary::Or, is_it, is_nan);
                }
                is_it.select(Expr::from(k), Expr::from(&other))
            });
            match last {
                true => Expr::binary(Binary::Max, found, Expr::from(Dim::constant(-1))),
                false => Expr::binary(Binary::Min, found, Expr::from(size.clone() - Dim::constant(1))),
            }
        })
    }
}

/// The index in the operand: `k` on the axis, the others from `at`, where the axis may have kept a place.
fn along<T: Clone>(at: &[T], axis: usize, keep: bool, k: T) -> Vec<T> {
    let mut from = at.to_vec();
    match keep {
        true => from[axis] = k,
        false => from.insert(axis, k),
    }
    from
}

/// The position of an extremum of `x` along `axis`, which stays with size 1 if `keep_dims`: the first one, or the
/// last.
///
/// # Errors
/// What the op says of these operands.
pub fn position(
    b: &mut Build,
    op: &'static OpDef,
    x: Value,
    axis: i64,
    keep_dims: bool,
    last: bool,
) -> Result<Value, OpError> {
    b.op_with(op, &[x], [AXIS.is(axis), KEEP_DIMS.is(keep_dims), LAST.is(last)])
}

/// ONNX ArgMax or ArgMin.
///
/// # Errors
/// What the op says.
pub(crate) fn import_position(
    node: &NodeView,
    b: &mut Build,
    op: &'static OpDef,
) -> Result<Vec<Value>, ImportError> {
    let axis = node.int_or("axis", 0)?;
    let (keep, last) = (node.flag("keepdims", true)?, node.flag("select_last_index", false)?);
    Ok(vec![position(b, op, node.input(0)?, axis, keep, last)?])
}

/// The node of ONNX of that name.
pub(crate) fn to_onnx(e: &mut Emit, op_type: &str) -> Vec<String> {
    let (axis, keep, last) = (e.attrs.get(AXIS), e.attrs.get(KEEP_DIMS), e.attrs.get(LAST));
    e.as_one_of(
        op_type,
        &EXTREMA_OF,
        vec![
            ("axis", NodeAttr::Int(axis)),
            ("keepdims", NodeAttr::Int(keep.into())),
            ("select_last_index", NodeAttr::Int(last.into())),
        ],
    )
}
