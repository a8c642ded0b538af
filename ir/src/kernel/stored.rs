//! Elements of an operand of a product as they are stored: in fewer bits than the product computes with.

use crate::dim::{Atom, Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::expr::{Expr, ExprKind};
use crate::kernel::stmt::PANEL;
use crate::scalar::Binary;

/// The type of stored elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `f32`, as it is.
    F32,
    /// `f16`.
    F16,
    /// `bf16`.
    BF16,
    /// `i8`.
    I8,
    /// `u8`.
    U8,
    /// Numbers from 0 to 15, two in a `u8`: in a row of 32, those of the first half are the lower bits of its bytes,
    /// those of the second half the upper ones.
    U4,
}

/// An element made of a stored one: `(value − zero) · scale`, rounded to `f32` after each step, where `zero` and `scale`
/// may be left out.
///
/// In text: `(cast<f32>(x[…]) - z) * s[…]`, where `z` is a number or `cast<f32>(z[…])`, and the value of a
/// [`Format::U4`] is `cast<f32>(x[…] >> cast<u8>(4*h) & 15)`.
#[derive(Debug, Clone)]
pub struct Stored<'a> {
    /// The type.
    pub format: Format,
    /// The array, and the index of the element, or of the byte that it is in.
    pub source: &'a Symbol,
    /// See [`Stored::source`].
    pub at: &'a [Expr],
    /// What is subtracted, if something is.
    pub zero: Option<Zero<'a>>,
    /// The load of what it is multiplied with.
    pub scale: Option<Part<'a>>,
}

/// What is subtracted from stored elements.
#[derive(Debug, Clone)]
pub enum Zero<'a> {
    /// A number.
    Number(f32),
    /// An element of an array.
    Load(Part<'a>),
}

/// An element of another array.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// Its type: that of elements which are converted without a scale.
    pub format: Format,
    /// The array.
    pub source: &'a Symbol,
    /// The index.
    pub at: &'a [Expr],
}

impl Format {
    /// That of elements of a type which are read one by one.
    pub fn of(dtype: DType) -> Option<Format> {
        match dtype {
            DType::F32 => Some(Format::F32),
            DType::F16 => Some(Format::F16),
            DType::BF16 => Some(Format::BF16),
            DType::I8 => Some(Format::I8),
            DType::U8 => Some(Format::U8),
            _ => None,
        }
    }

    /// The number by which the runtime knows it.
    pub fn number(self) -> i64 {
        self as i64
    }

    /// Elements of the array for a row of a panel.
    pub fn row(self) -> i64 {
        if self == Format::U4 { PANEL / 2 } else { PANEL }
    }

    /// Is it one of floats, which the left operand may be made of, too?
    pub fn is_float(self) -> bool {
        matches!(self, Format::F32 | Format::F16 | Format::BF16)
    }
}

impl<'a> Stored<'a> {
    /// What an expression is made of, if it has that form.
    pub fn of(e: &'a Expr) -> Option<Stored<'a>> {
        let (e, scale) = match e.kind() {
            ExprKind::Binary(Binary::Mul, x, scale) => {
                (x, Some(Part::of(scale).filter(|part| part.format == Format::F32)?))
            }
            _ => (e, None),
        };
        let (e, zero) = match e.kind() {
            ExprKind::Binary(Binary::Sub, x, zero) => (x, Some(Zero::of(zero)?)),
            _ => (e, None),
        };
        if let Some(Part { format, source, at }) = Part::of(e) {
            let plain = scale.is_none() && zero.is_none();
            return (plain || format != Format::F32).then_some(Stored { format, source, at, zero, scale });
        }
        let ExprKind::Cast(DType::F32, bits) = e.kind() else { return None };
        let ExprKind::Binary(Binary::And, shifted, mask) = bits.kind() else { return None };
        let ExprKind::Binary(Binary::Shr, byte, _) = shifted.kind() else { return None };
        let ExprKind::Load { source, dtype: DType::U8, at } = byte.kind() else { return None };
        let all = Expr::number(DType::U8, 15.0);
        (*mask == all).then_some(Stored { format: Format::U4, source, at, zero, scale })
    }

    /// The element of column `j` of so many in row `k` of panels of numbers of 4 bits, whose index begins so.
    pub fn nibble(source: &Symbol, before: impl Iterator<Item = Dim>, k: Dim, j: &Dim) -> Expr {
        let [panel, half] = [PANEL, PANEL / 2].map(Dim::constant);
        let index = before.chain([j.floor_div(&panel), k, j.modulo(&half)]);
        let byte = Expr::load(source.clone(), DType::U8, index.map(Expr::from));
        let which = j.floor_div(&half) - j.floor_div(&panel) * Dim::constant(2);
        let shift = Expr::from(which * Dim::constant(4)).cast(DType::U8);
        let bits = Expr::binary(Binary::Shr, byte, shift);
        Expr::binary(Binary::And, bits, Expr::number(DType::U8, 15.0)).cast(DType::F32)
    }
}

impl<'a> Part<'a> {
    fn of(e: &'a Expr) -> Option<Part<'a>> {
        let e = match e.kind() {
            ExprKind::Cast(DType::F32, x) => x,
            _ => e,
        };
        let ExprKind::Load { source, dtype, at } = e.kind() else { return None };
        Some(Part { format: Format::of(*dtype)?, source, at })
    }
}

impl<'a> Zero<'a> {
    fn of(e: &'a Expr) -> Option<Zero<'a>> {
        match e.kind() {
            ExprKind::Const(number) if number.dtype() == DType::F32 => {
                Some(Zero::Number(number.to_f64() as f32))
            }
            _ => Part::of(e).map(Zero::Load),
        }
    }
}

/// How many rows share what stands at `at`, where rows are counted by `k`: `⌊k / n⌋` is shared by `n`, and a number by
/// all, for which there is `all`.
pub fn shared_rows(at: &Dim, k: &Dim, all: &Dim) -> Option<Dim> {
    if at == k {
        return Some(Dim::constant(1));
    }
    if at.is(0) {
        return Some(all.clone());
    }
    let mut terms = at.terms();
    match (terms.next()?, terms.next()) {
        (([Atom::Floor(value, rows)], 1), None) if value == k => Some(rows.clone()),
        _ => None,
    }
}
