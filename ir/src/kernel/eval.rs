//! The value of a scalar expression: the one definition of what each kind of expression means.
//!
//! Where names get their values from is the caller's: the walker of kernels has arrays and loop axes, an op that
//! carries a region has its operands.

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::expr::{Expr, ExprKind, Fold};
use crate::scalar::{Scalar, fma};

/// What names stand for while an expression is evaluated.
pub trait Names {
    /// Why a name stands for nothing.
    type Error;

    /// The value of index arithmetic.
    ///
    /// # Errors
    /// An axis or a size has no value.
    fn index(&mut self, dim: &Dim) -> Result<i64, Self::Error>;

    /// An element of an array.
    ///
    /// # Errors
    /// There is no such array, or no such element in it.
    fn load(&mut self, source: &Symbol, at: &[i64]) -> Result<Scalar, Self::Error>;

    /// A bound scalar.
    ///
    /// # Errors
    /// There is none of that name.
    fn scalar(&mut self, name: &Symbol) -> Result<Scalar, Self::Error>;

    /// From now on, the axis of a fold has this value.
    fn enter(&mut self, axis: &Symbol, value: i64);
}

/// The value of `e`. Of a `select`, only the chosen side is evaluated; a fold runs in ascending order.
///
/// # Errors
/// What `names` says.
pub fn eval<N: Names>(e: &Expr, names: &mut N) -> Result<Scalar, N::Error> {
    Ok(match e.kind() {
        ExprKind::Const(value) => *value,
        ExprKind::Index(dim) => Scalar::from_i64(DType::I64, names.index(dim)?),
        ExprKind::Load { source, at, .. } => {
            let at = indices(at, names)?;
            names.load(source, &at)?
        }
        ExprKind::Var { name, .. } => names.scalar(name)?,
        ExprKind::Unary(f, x) => f.apply(eval(x, names)?),
        ExprKind::Binary(f, a, b) => f.apply(eval(a, names)?, eval(b, names)?),
        ExprKind::Fma(a, b, c) => fma(eval(a, names)?, eval(b, names)?, eval(c, names)?),
        ExprKind::Select(cond, yes, no) => {
            let chosen = if eval(cond, names)?.to_bool() { yes } else { no };
            eval(chosen, names)?
        }
        ExprKind::Cast(dtype, x) => eval(x, names)?.cast(*dtype),
        ExprKind::Bitcast(dtype, x) => Scalar::from_bits(*dtype, eval(x, names)?.bits()),
        ExprKind::Fold(Fold { op, axis, extent, body }) => {
            let mut acc = op.neutral(body.dtype());
            for i in 0..names.index(extent)? {
                names.enter(axis, i);
                acc = op.function().apply(acc, eval(body, names)?);
            }
            acc
        }
    })
}

/// The values of an index.
///
/// # Errors
/// What `names` says.
pub fn indices<N: Names>(at: &[Expr], names: &mut N) -> Result<Vec<i64>, N::Error> {
    at.iter().map(|i| Ok(eval(i, names)?.to_i64())).collect()
}
