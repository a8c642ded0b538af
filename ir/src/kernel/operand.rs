//! Operands of matrix products: a load, of floats or of bytes as whole numbers, or one that a window over a padded image
//! guards.

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::expr::{Expr, ExprKind};
use crate::kernel::stored::{Format, Stored};
use crate::scalar::Binary;

/// Most axes of the rows, of the columns, or of the sum of a product.
pub const MAX_AXES: usize = 8;

/// Most guards of an operand of a product.
pub const MAX_GUARDS: usize = 4;

/// An operand of a [`Gemm`](super::Gemm): an element of an array where every guard holds, and 0 elsewhere.
#[derive(Debug, Clone)]
pub struct Operand<'a> {
    /// The array.
    pub source: &'a Symbol,
    /// The index.
    pub at: &'a [Expr],
    /// What is taken from each element, of bytes.
    pub zero: Option<&'a Expr>,
    /// What must hold.
    pub guards: Vec<Guard>,
    /// The type of its elements: one of floats, or of bytes where the operand is `i32`.
    pub format: Format,
}

/// `0 ≤ value`, and `value < size` if there is a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Index arithmetic.
    pub value: Dim,
    /// What it is less than.
    pub size: Option<Dim>,
}

impl<'a> Operand<'a> {
    /// The operand that an expression is: a load of an `f32`, or of a 16-bit float that is cast to one, or `cast<i32>(load)`
    /// or `cast<i32>(load) - zero` of bytes, or `select(c, operand, 0)` where `c` says of numbers that they are in range.
    pub fn of(e: &'a Expr) -> Option<Operand<'a>> {
        match e.kind() {
            ExprKind::Cast(DType::I32, byte) => match byte.kind() {
                ExprKind::Load { source, dtype: dtype @ (DType::U8 | DType::I8), at } => {
                    let format = Format::of(*dtype)?;
                    Some(Operand { source, format, at, zero: None, guards: vec![] })
                }
                _ => None,
            },
            ExprKind::Binary(Binary::Sub, byte, zero) if byte.dtype() == DType::I32 => {
                let operand = Operand::of(byte)?;
                let plain = operand.zero.is_none() && operand.guards.is_empty();
                plain.then_some(Operand { zero: Some(zero), ..operand })
            }
            ExprKind::Load { .. } | ExprKind::Cast(..) => {
                let Stored { format, source, at, zero: None, scale: None } = Stored::of(e)? else {
                    return None;
                };
                format.is_float().then(|| Operand { source, format, at, zero: None, guards: vec![] })
            }
            ExprKind::Select(cond, inside, zero) if *zero == Expr::number(inside.dtype(), 0.0) => {
                let mut operand = Operand::of(inside)?;
                operand.guards.extend(guards(cond)?);
                Some(operand)
            }
            _ => None,
        }
    }

    /// Is what is taken surely an element's value: one itself, or a number that one can be?
    pub fn has_zero_of_its_type(&self) -> bool {
        match self.zero.map(Expr::kind) {
            None => true,
            Some(ExprKind::Const(value)) => {
                let least = if self.format == Format::I8 { -128 } else { 0 };
                (least..least + 256).contains(&value.to_i64())
            }
            Some(ExprKind::Cast(DType::I32, byte)) => Format::of(byte.dtype()) == Some(self.format),
            Some(_) => false,
        }
    }
}

/// The guards that a condition is made of.
fn guards(cond: &Expr) -> Option<Vec<Guard>> {
    let (mut lower, mut guards) = (Vec::new(), Vec::new());
    comparisons(cond, &mut lower, &mut guards)?;
    // What is only bounded from above is not negative by what is known of it: else the load would be out of range.
    for value in lower {
        if !guards.iter().any(|guard| guard.value == value) {
            guards.push(Guard { value, size: None });
        }
    }
    Some(guards)
}

fn comparisons(cond: &Expr, lower: &mut Vec<Dim>, upper: &mut Vec<Guard>) -> Option<()> {
    let ExprKind::Binary(f, a, b) = cond.kind() else { return None };
    if *f == Binary::And {
        comparisons(a, lower, upper)?;
        return comparisons(b, lower, upper);
    }
    let (a, b) = (a.as_index()?, b.as_index()?);
    match f {
        Binary::Le => lower.push(b.clone() - a.clone()),
        Binary::Lt => upper.push(Guard { value: a.clone(), size: Some(b.clone()) }),
        _ => return None,
    }
    Some(())
}

/// A number as a sum over axes: a factor for each, and what is left. `None` if it is no such sum.
pub fn linear(value: &Dim, axes: &[(Symbol, Dim)]) -> Option<(Vec<Dim>, Dim)> {
    let mut rest = value.clone();
    let mut factors = Vec::with_capacity(axes.len());
    for (axis, _) in axes {
        let (factor, other) = rest.linear_in(axis)?;
        factors.push(factor);
        rest = other;
    }
    let free = |d: &Dim| axes.iter().all(|(axis, _)| !d.mentions(axis));
    (factors.iter().all(free) && free(&rest)).then_some((factors, rest))
}

/// The distance between iterations of nested axes that lie evenly in memory, given the distance along each; `None`
/// where they do not. Without axes it is 0.
pub fn even(axes: &[(Symbol, Dim)], strides: &[Dim]) -> Option<Dim> {
    let Some(last) = strides.last() else { return Some(Dim::constant(0)) };
    let mut inner = Dim::constant(1);
    for ((_, extent), stride) in axes.iter().zip(strides).rev() {
        if *stride != last.clone() * inner.clone() {
            return None;
        }
        inner = inner * extent.clone();
    }
    Some(last.clone())
}
