//! A size: an integer expression over the symbols of an entry, evaluated once they have their values.
//!
//! Evaluation is checked: intermediate values are 128 bits wide, the result must fit an `i64`, and
//! whatever does not is an error that prints the expression. Deliberately absent: simplification and
//! equality of meaning, which are the compiler's.

use std::fmt;

use crate::{error::SizeError, plan::Phase};

/// An expression over symbols; `Symbol(i)` is the i-th symbol of the entry it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Size {
    /// A number.
    Const(i64),
    /// The value of a symbol.
    Symbol(u32),
    /// `a + b`.
    Add(Box<Size>, Box<Size>),
    /// `a b`.
    Mul(Box<Size>, Box<Size>),
    /// `⌊a / b⌋`, rounded towards negative infinity; an error where `b` is 0.
    FloorDiv(Box<Size>, Box<Size>),
    /// The smaller one.
    Min(Box<Size>, Box<Size>),
    /// The larger one.
    Max(Box<Size>, Box<Size>),
}

/// Expressions may nest this deep: enough for any layout, and little enough for any stack.
pub const MAX_DEPTH: u32 = 512;

impl Size {
    /// Its value where `symbols[i]` is the value of symbol `i`; `names` serves errors only.
    ///
    /// # Errors
    /// Division by zero, and results that do not fit an `i64`.
    pub fn eval(&self, symbols: &[i64], names: &[String]) -> Result<i64, SizeError> {
        let wide = self.wide(symbols, names)?;
        i64::try_from(wide).map_err(|_| SizeError::Overflow { expr: self.print(names) })
    }

    fn wide(&self, symbols: &[i64], names: &[String]) -> Result<i128, SizeError> {
        let both =
            |a: &Size, b: &Size| Ok::<_, SizeError>((a.wide(symbols, names)?, b.wide(symbols, names)?));
        let overflow = || SizeError::Overflow { expr: self.print(names) };
        match self {
            Size::Const(value) => Ok(i128::from(*value)),
            Size::Symbol(symbol) => match symbols.get(*symbol as usize) {
                Some(value) => Ok(i128::from(*value)),
                None => Err(SizeError::Unknown { symbol: *symbol }),
            },
            Size::Add(a, b) => {
                let (a, b) = both(a, b)?;
                a.checked_add(b).ok_or_else(overflow)
            }
            Size::Mul(a, b) => {
                let (a, b) = both(a, b)?;
                a.checked_mul(b).ok_or_else(overflow)
            }
            Size::FloorDiv(a, b) => {
                let (a, b) = both(a, b)?;
                if b == 0 {
                    return Err(SizeError::DivideByZero { expr: self.print(names) });
                }
                let quotient = a.checked_div(b).ok_or_else(overflow)?;
                // Rust rounds towards zero; step down where that was up.
                let inexact = a % b != 0;
                Ok(if inexact && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
            }
            Size::Min(a, b) => both(a, b).map(|(a, b)| a.min(b)),
            Size::Max(a, b) => both(a, b).map(|(a, b)| a.max(b)),
        }
    }

    /// The expression as text, with `names[i]` for symbol `i`: `2*n + 1`, `floor(n / 2)`, `min(n, 8)`.
    pub fn print(&self, names: &[String]) -> String {
        Printed { size: self, names }.to_string()
    }

    /// How deep it nests, if no deeper than [`MAX_DEPTH`].
    pub(crate) fn depth(&self) -> Option<u32> {
        fn within(size: &Size, left: u32) -> Option<u32> {
            let left = left.checked_sub(1)?;
            match size.operands() {
                None => Some(1),
                Some((a, b)) => Some(1 + within(a, left)?.max(within(b, left)?)),
            }
        }
        within(self, MAX_DEPTH)
    }

    /// Calls `each` with every symbol in it, in reading order. The depth must be in bounds.
    pub(crate) fn symbols(&self, each: &mut dyn FnMut(u32)) {
        match (self, self.operands()) {
            (_, Some((a, b))) => {
                a.symbols(each);
                b.symbols(each);
            }
            (Size::Symbol(symbol), None) => each(*symbol),
            (_, None) => {}
        }
    }

    /// Whether any symbol in it satisfies `which`. The depth must be in bounds.
    pub(crate) fn mentions(&self, which: &dyn Fn(u32) -> bool) -> bool {
        match (self, self.operands()) {
            (_, Some((a, b))) => a.mentions(which) || b.mentions(which),
            (Size::Symbol(symbol), None) => which(*symbol),
            (_, None) => false,
        }
    }

    /// When its value is known, where `phases[i]` is when that of symbol `i` is.
    pub(crate) fn phase(&self, phases: &[Phase]) -> Phase {
        let mut phase = Phase::Bind;
        self.symbols(&mut |symbol| phase = phase.max(phases[symbol as usize]));
        phase
    }

    fn operands(&self) -> Option<(&Size, &Size)> {
        match self {
            Size::Const(_) | Size::Symbol(_) => None,
            Size::Add(a, b) | Size::Mul(a, b) | Size::FloorDiv(a, b) | Size::Min(a, b) | Size::Max(a, b) => {
                Some((a, b))
            }
        }
    }
}

impl From<i64> for Size {
    fn from(value: i64) -> Size {
        Size::Const(value)
    }
}

/// What a negative term takes away.
fn negated(size: &Size) -> Option<Size> {
    match size {
        Size::Const(value) if *value < 0 => value.checked_neg().map(Size::Const),
        Size::Mul(factor, rest) => match **factor {
            Size::Const(-1) if !matches!(**rest, Size::Add(..)) => Some((**rest).clone()),
            Size::Const(value) if value < 0 => {
                Some(Size::Mul(Box::new(Size::Const(value.checked_neg()?)), rest.clone()))
            }
            _ => None,
        },
        _ => None,
    }
}

struct Printed<'a> {
    size: &'a Size,
    names: &'a [String],
}

impl<'a> fmt::Display for Printed<'a> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |size: &'a Size| Printed { size, names: self.names };
        let factor = |f: &mut fmt::Formatter<'_>, size: &'a Size| match size {
            Size::Add(..) => write!(f, "({})", of(size)),
            _ => write!(f, "{}", of(size)),
        };
        match self.size {
            Size::Const(value) => write!(f, "{value}"),
            Size::Symbol(symbol) => match self.names.get(*symbol as usize) {
                Some(name) => f.write_str(name),
                None => write!(f, "?{symbol}"),
            },
            Size::Add(a, b) => match negated(b) {
                Some(less) => write!(f, "{} - {}", of(a), Printed { size: &less, names: self.names }),
                None => write!(f, "{} + {}", of(a), of(b)),
            },
            Size::Mul(a, b) => {
                factor(f, a)?;
                f.write_str("*")?;
                factor(f, b)
            }
            Size::FloorDiv(a, b) => {
                f.write_str("floor(")?;
                factor(f, a)?;
                f.write_str(" / ")?;
                match **b {
                    Size::Mul(..) => write!(f, "({})", of(b))?,
                    _ => factor(f, b)?,
                }
                f.write_str(")")
            }
            Size::Min(a, b) => write!(f, "min({}, {})", of(a), of(b)),
            Size::Max(a, b) => write!(f, "max({}, {})", of(a), of(b)),
        }
    }
}
