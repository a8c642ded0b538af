//! Indices that are data: what an element of a tensor of indices stands for.
//!
//! A negative index counts from the end; one out of range takes the nearest element; along an axis of size 0
//! there is none, and what is read is zero. One definition for all ops that read through indices.

use ir::kernel::Expr;
use ir::op::OpError;
use ir::scalar::Binary;
use ir::{DType, Dim, Scalar, TensorType};

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
