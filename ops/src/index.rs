//! Indices that are data: what an element of a tensor of indices stands for.
//!
//! A negative index counts from the end; one out of range takes the nearest element; along an axis of size 0
//! there is none, and what is read is zero. One definition for all ops that read through indices.

use ir::kernel::Expr;
use ir::op::OpError;
use ir::scalar::Binary;
use ir::{DType, Dim, Scalar, TensorType};

use crate::math::elementwise::is_nonnegative;
use crate::onnx::NodeAttr;
use crate::onnx::export::Emit;
use crate::window::all;

/// Fails unless the elements of `operand` can be indices.
pub(crate) fn want_indices(operand: &'static str, ty: &TensorType) -> Result<(), OpError> {
    match ty.dtype {
        DType::I32 | DType::I64 => Ok(()),
        found => Err(OpError::DType { operand, expected: "i32 or i64", found }),
    }
}

/// The position that `index` stands for, on an axis of `size`.
pub(crate) fn nearest(index: i64, size: usize) -> Option<usize> {
    let last = i64::try_from(size).ok()?.checked_sub(1).filter(|&last| last >= 0)?;
    let index = if index < 0 { index + last + 1 } else { index };
    usize::try_from(index.clamp(0, last)).ok()
}

/// The same on expressions. Along an axis of size 0 it is not a position: see [`or_zero`].
pub(crate) fn nearest_expr(index: Expr, size: &Dim) -> Expr {
    let index = index.cast(DType::I64);
    let (zero, extent) = (Expr::from(Dim::constant(0)), Expr::from(size));
    let from_end = index.clone() + extent;
    let index = index.clone().less(zero.clone()).select(from_end, index);
    let index = Expr::binary(Binary::Max, index, zero);
    Expr::binary(Binary::Min, index, Expr::from(size.clone() - Dim::constant(1)))
}

/// `element`, or zero if one of these axes, through which it is read, is empty.
pub(crate) fn or_zero<'a>(sizes: impl IntoIterator<Item = &'a Dim>, element: Expr) -> Expr {
    let filled = sizes.into_iter().map(|size| match size.as_const() {
        Some(size) if size > 0 => None,
        _ => Some(Expr::from(Dim::constant(0)).less(Expr::from(size))),
    });
    match all(filled) {
        None => element,
        Some(filled) => {
            let zero = Expr::constant(Scalar::from_i64(element.dtype(), 0));
            filled.select(element, zero)
        }
    }
}

/// The row-major position of `at` in `shape`.
pub(crate) fn position(at: &[usize], shape: &[usize]) -> usize {
    at.iter().zip(shape).fold(0, |position, (&i, &size)| position * size + i)
}

/// In ONNX: the indices that operand 1 holds, counted from the start, for axes of these sizes: one for all, or one for
/// each element of a row of indices.
pub(crate) fn from_start(e: &mut Emit, sizes: &[Dim], single: bool) -> (String, String) {
    let indices = e.cast(e.x(1), e.ty(1).dtype, DType::I64);
    let extent = if single { e.size(&sizes[0]) } else { e.sizes(sizes) };
    let zero = e.number(DType::I64, 0.0);
    let negative = e.node("Less", &[&indices, &zero]);
    let from_end = e.node("Add", &[&indices, &extent]);
    (e.node("Where", &[&negative, &from_end, &indices]), extent)
}

/// In ONNX: the places that these indices stand for, as [`nearest`] has it.
pub(crate) fn nearest_indices(e: &mut Emit, sizes: &[Dim], single: bool) -> String {
    let (indices, extent) = from_start(e, sizes, single);
    let [zero, one] = [0.0, 1.0].map(|value| e.number(DType::I64, value));
    let last = e.node("Sub", &[extent, one]);
    let below = e.node("Min", &[indices, last]);
    e.node("Max", &[below, zero])
}

/// In ONNX: operand 0, with zeros behind those of these axes that may be empty.
pub(crate) fn not_empty(e: &mut Emit, axes: &[usize]) -> String {
    let (rank, mut amounts) = (e.ty(0).rank(), vec![0; 2 * e.ty(0).rank()]);
    for &axis in axes {
        if !is_nonnegative(&(e.ty(0).shape[axis].clone() - Dim::constant(1))) {
            amounts[rank + axis] = 1;
        }
    }
    if amounts.iter().all(|&amount| amount == 0) { e.x(0) } else { padded(e, &amounts) }
}

/// In ONNX: operand 0 with so many zeros before and after its axes.
pub(crate) fn padded(e: &mut Emit, amounts: &[i64]) -> String {
    let (amounts, zero) = (e.ints(amounts), e.number(e.ty(0).dtype, 0.0));
    e.node_with("Pad", &[e.x(0), amounts, zero], vec![("mode", NodeAttr::Str("constant".to_owned()))])
}
