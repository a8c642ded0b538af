//! What scattering ops share: how an update meets the element that it goes to, and indices that count from the end.

use ir::attr::{Attr, AttrSpec, Key, key};
use ir::kernel::Expr;
use ir::op::{Infer, OpError};
use ir::scalar::Binary;
use ir::{DType, Dim, Scalar, Tensor};

use crate::onnx::export::Emit;

/// How an update meets the element that it goes to: `none` replaces it, `add`, `mul`, `max` and `min` combine.
pub const REDUCTION: Key<String> = key("reduction");

/// The declaration of [`REDUCTION`].
pub(crate) const REDUCTION_SPEC: AttrSpec = REDUCTION.or(|| Attr::Str("none".into()));

/// A way in which an update meets an element.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reduction {
    Replace,
    Combine(Binary),
}

impl Reduction {
    /// The one of that name.
    ///
    /// # Errors
    /// [`OpError::Unsupported`] if there is none.
    pub(crate) fn find(name: String) -> Result<Reduction, OpError> {
        Ok(match name.as_str() {
            "none" => Reduction::Replace,
            "add" => Reduction::Combine(Binary::Add),
            "mul" => Reduction::Combine(Binary::Mul),
            "max" => Reduction::Combine(Binary::Max),
            "min" => Reduction::Combine(Binary::Min),
            _ => return Err(OpError::Unsupported { key: REDUCTION.name, value: name }),
        })
    }

    /// The new element, as an expression; 16-bit floats are combined in `f32`.
    pub(crate) fn expr(self, old: Expr, update: Expr) -> Expr {
        match self {
            Reduction::Replace => update,
            Reduction::Combine(f) => {
                let dtype = old.dtype();
                let wide = dtype.arithmetic();
                Expr::binary(f, old.cast(wide), update.cast(wide)).cast(dtype)
            }
        }
    }

    /// The new element.
    pub(crate) fn scalar(self, old: Scalar, update: Scalar) -> Scalar {
        match self {
            Reduction::Replace => update,
            Reduction::Combine(f) => {
                let wide = old.dtype().arithmetic();
                f.apply(old.cast(wide), update.cast(wide)).cast(old.dtype())
            }
        }
    }

    /// The new element, as a size.
    pub(crate) fn size(self, old: &Dim, update: &Dim) -> Option<Dim> {
        Some(match self {
            Reduction::Replace => update.clone(),
            Reduction::Combine(Binary::Add) => old.clone() + update.clone(),
            Reduction::Combine(Binary::Mul) => old.clone() * update.clone(),
            Reduction::Combine(Binary::Max) => old.larger(update),
            Reduction::Combine(Binary::Min) => old.smaller(update),
            Reduction::Combine(_) => return None,
        })
    }
}

/// The types of `x`, `indices` and `updates`.
///
/// # Errors
/// [`OpError::DType`] for indices that are no `i32` or `i64`, or truth values that are to be combined;
/// [`OpError::DTypes`] for updates of another type than `x`; [`OpError::Unsupported`] for an unknown reduction.
pub(crate) fn check_types(cx: &Infer) -> Result<(), OpError> {
    let [x, indices, updates] = [cx.operands[0], cx.operands[1], cx.operands[2]];
    let reduction = Reduction::find(cx.attrs.get(REDUCTION))?;
    if !matches!(indices.dtype, DType::I32 | DType::I64) {
        return Err(OpError::DType { operand: "indices", expected: "i32 or i64", found: indices.dtype });
    }
    if x.dtype != updates.dtype {
        return Err(OpError::DTypes { left: x.dtype, right: updates.dtype });
    }
    if matches!(reduction, Reduction::Combine(_)) {
        cx.want_arithmetic(0, "x")?;
        if x.dtype == DType::Bool {
            return Err(OpError::DType { operand: "x", expected: "a number", found: x.dtype });
        }
    }
    Ok(())
}

/// The index, counted from the end if it is negative.
pub(crate) fn from_end(index: Expr, size: &Dim) -> Expr {
    let zero = Expr::from(Dim::constant(0));
    index.clone().less(zero).select(index.clone() + Expr::from(size), index)
}

/// `0 ≤ index < size`.
pub(crate) fn is_inside(index: Expr, size: &Dim) -> Expr {
    Expr::from(Dim::constant(0)).at_most(index.clone()).and(index.less(size.into()))
}

/// The index as a position below `size`, counted from the end if it is negative; `None` if it is out of range.
pub(crate) fn inside(index: i64, size: usize) -> Option<usize> {
    let from_end = if index < 0 { index + size as i64 } else { index };
    usize::try_from(from_end).ok().filter(|&index| index < size)
}

/// `x` with each update of `moves` at its place.
pub(crate) fn scattered(
    x: &Tensor,
    updates: &Tensor,
    moves: &[(usize, usize)],
    reduction: Reduction,
) -> Tensor {
    let mut y = x.clone();
    for &(from, to) in moves {
        y.set(to, reduction.scalar(y.get(to), updates.get(from)));
    }
    y
}

/// The sizes `x` with each update of `moves` at its place.
pub(crate) fn scattered_sizes(
    x: &[Dim],
    updates: &[Dim],
    moves: &[(usize, usize)],
    reduction: Reduction,
) -> Option<Vec<Dim>> {
    let mut y = x.to_vec();
    for &(from, to) in moves {
        y[to] = reduction.size(&y[to], &updates[from])?;
    }
    Some(y)
}

/// The row-major position of an index.
pub(crate) fn position(at: &[usize], shape: &[usize]) -> usize {
    at.iter().zip(shape).fold(0, |position, (&i, &size)| position * size + i)
}

/// In ONNX: `0 ≤ index < extent`.
pub(crate) fn is_inside_node(e: &mut Emit, index: &str, extent: &str) -> String {
    let zero = e.number(DType::I64, 0.0);
    let (right, left) = (e.node("GreaterOrEqual", &[index, &zero]), e.node("Less", &[index, extent]));
    e.node("And", &[right, left])
}
