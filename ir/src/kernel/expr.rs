//! Scalar expressions over loop axes: what one element of an array is.
//!
//! Closed and small; emitters and walkers match them exhaustively. Index arithmetic is a [`Dim`] over axes and
//! sizes, so it is normalised once, here, and no backend simplifies it again.

use std::fmt;
use std::ops;
use std::sync::Arc;

use crate::dim::{Dim, Symbol};
use crate::dtype::{Class, DType};
use crate::scalar::{Binary, Scalar, Unary};

/// How a fold combines elements. The neutral element starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reduce {
    /// `Σ`, from 0.
    Sum,
    /// `Π`, from 1.
    Prod,
    /// Largest, from the type's least value; NaN if any is.
    Max,
    /// Smallest, from the type's greatest value; NaN if any is.
    Min,
    /// Logical or, from false.
    Any,
    /// Logical and, from true.
    All,
}

impl Reduce {
    /// Every one.
    pub const ALL: [Reduce; 6] =
        [Reduce::Sum, Reduce::Prod, Reduce::Max, Reduce::Min, Reduce::Any, Reduce::All];

    /// The name in text forms.
    pub const fn name(self) -> &'static str {
        match self {
            Reduce::Sum => "sum",
            Reduce::Prod => "prod",
            Reduce::Max => "max",
            Reduce::Min => "min",
            Reduce::Any => "any",
            Reduce::All => "all",
        }
    }

    /// The function that combines two elements.
    pub const fn function(self) -> Binary {
        match self {
            Reduce::Sum => Binary::Add,
            Reduce::Prod => Binary::Mul,
            Reduce::Max => Binary::Max,
            Reduce::Min => Binary::Min,
            Reduce::Any => Binary::Or,
            Reduce::All => Binary::And,
        }
    }

    /// The element that a fold over nothing gives.
    pub fn neutral(self, dtype: DType) -> Scalar {
        match self {
            Reduce::Sum => Scalar::from_i64(dtype, 0),
            Reduce::Prod => Scalar::from_i64(dtype, 1),
            Reduce::Max => least(dtype),
            Reduce::Min => greatest(dtype),
            Reduce::Any => Scalar::bool(false),
            Reduce::All => Scalar::bool(true),
        }
    }
}

/// The least value of a type: −∞ for floats that have one.
fn least(dtype: DType) -> Scalar {
    match dtype.class() {
        Class::Signed => Scalar::from_i64(dtype, -1 << (dtype.bits() - 1)),
        Class::Unsigned | Class::Bool => Scalar::from_bits(dtype, 0),
        Class::Float => Scalar::from_f64(dtype, f64::NEG_INFINITY),
    }
}

/// The greatest value of a type: +∞ for floats that have one.
fn greatest(dtype: DType) -> Scalar {
    match dtype.class() {
        Class::Signed => Scalar::from_i64(dtype, i64::MAX >> (64 - dtype.bits())),
        Class::Unsigned => Scalar::from_bits(dtype, u64::MAX),
        Class::Bool => Scalar::bool(true),
        Class::Float => Scalar::from_f64(dtype, f64::INFINITY),
    }
}

/// A fold over an axis: `op axis in 0..extent { body }`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fold {
    /// How elements combine.
    pub op: Reduce,
    /// The axis, bound in the body.
    pub axis: Symbol,
    /// Its extent.
    pub extent: Dim,
    /// One element.
    pub body: Expr,
}

/// What an expression is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ExprKind {
    /// A constant.
    Const(Scalar),
    /// Index arithmetic over axes and sizes: an `i64`.
    Index(Dim),
    /// An element of an array: a parameter, a stage, or an allocation.
    Load {
        /// The array.
        source: Symbol,
        /// Its element type.
        dtype: DType,
        /// The index, one `i64` for each axis.
        at: Vec<Expr>,
    },
    /// A scalar bound by `let` or `var`.
    Var {
        /// Its name.
        name: Symbol,
        /// Its type.
        dtype: DType,
    },
    /// A function of one element.
    Unary(Unary, Expr),
    /// A function of two elements of one type.
    Binary(Binary, Expr, Expr),
    /// `a·b + c` with one rounding; `f32` or `f64`.
    Fma(Expr, Expr, Expr),
    /// `a` if the condition holds, else `b`; only the chosen side is evaluated.
    Select(Expr, Expr, Expr),
    /// Converted; see [`Scalar::cast`].
    Cast(DType, Expr),
    /// The same bits as another type of the same width.
    Bitcast(DType, Expr),
    /// A fold. Only in the stage form.
    Fold(Fold),
}

/// A scalar expression; cloning copies a pointer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Expr(Arc<ExprKind>);

impl From<ExprKind> for Expr {
    fn from(kind: ExprKind) -> Self {
        Expr(Arc::new(kind))
    }
}

impl From<Dim> for Expr {
    fn from(dim: Dim) -> Self {
        ExprKind::Index(dim).into()
    }
}

impl From<&Dim> for Expr {
    fn from(dim: &Dim) -> Self {
        dim.clone().into()
    }
}

impl From<Scalar> for Expr {
    fn from(scalar: Scalar) -> Self {
        Expr::constant(scalar)
    }
}

impl Expr {
    /// What it is.
    pub fn kind(&self) -> &ExprKind {
        &self.0
    }

    /// A constant; an `i64` is an index.
    pub fn constant(value: Scalar) -> Expr {
        match value.dtype() {
            DType::I64 => Dim::constant(value.to_i64()).into(),
            _ => ExprKind::Const(value).into(),
        }
    }

    /// `value` rounded to `dtype`.
    pub fn number(dtype: DType, value: f64) -> Expr {
        Expr::constant(Scalar::from_f64(dtype, value))
    }

    /// An element of an array.
    pub fn load(source: Symbol, dtype: DType, at: impl IntoIterator<Item = Expr>) -> Expr {
        ExprKind::Load { source, dtype, at: at.into_iter().collect() }.into()
    }

    /// A bound scalar.
    pub fn var(name: Symbol, dtype: DType) -> Expr {
        ExprKind::Var { name, dtype }.into()
    }

    /// A function of one element, folded if the element is constant.
    pub fn unary(f: Unary, x: Expr) -> Expr {
        match x.kind() {
            ExprKind::Const(value) => Expr::constant(f.apply(*value)),
            _ => ExprKind::Unary(f, x).into(),
        }
    }

    /// A function of two elements; index arithmetic stays index arithmetic, constants fold.
    pub fn binary(f: Binary, a: Expr, b: Expr) -> Expr {
        if let (ExprKind::Index(x), ExprKind::Index(y)) = (a.kind(), b.kind()) {
            let positive = y.as_const().is_some_and(|y| y > 0);
            match f {
                Binary::Add => return (x.clone() + y.clone()).into(),
                Binary::Sub => return (x.clone() - y.clone()).into(),
                Binary::Mul => return (x.clone() * y.clone()).into(),
                Binary::Min => return x.smaller(y).into(),
                Binary::Max => return x.larger(y).into(),
                Binary::Mod if positive => return x.modulo(y).into(),
                _ => {}
            }
            if let (Some(x), Some(y)) = (x.as_const(), y.as_const()) {
                let [x, y] = [x, y].map(|v| Scalar::from_i64(DType::I64, v));
                return Expr::constant(f.apply(x, y));
            }
        }
        match (a.kind(), b.kind()) {
            (ExprKind::Const(x), ExprKind::Const(y)) => Expr::constant(f.apply(*x, *y)),
            _ => ExprKind::Binary(f, a, b).into(),
        }
    }

    /// `a·b + c` with one rounding.
    pub fn fma(a: Expr, b: Expr, c: Expr) -> Expr {
        ExprKind::Fma(a, b, c).into()
    }

    /// `yes` if `self` (a truth value) holds, else `no`.
    pub fn select(self, yes: Expr, no: Expr) -> Expr {
        match self.kind() {
            ExprKind::Const(c) => {
                if c.to_bool() {
                    yes
                } else {
                    no
                }
            }
            _ if yes == no => yes,
            _ => ExprKind::Select(self, yes, no).into(),
        }
    }

    /// Converted to `dtype`.
    pub fn cast(self, dtype: DType) -> Expr {
        if self.dtype() == dtype {
            return self;
        }
        match self.kind() {
            ExprKind::Const(value) => Expr::constant(value.cast(dtype)),
            ExprKind::Index(dim) if dim.as_const().is_some() => {
                let value = Scalar::from_i64(DType::I64, dim.constant_term());
                Expr::constant(value.cast(dtype))
            }
            _ => ExprKind::Cast(dtype, self).into(),
        }
    }

    /// The same bits as another type of the same width.
    pub fn bitcast(self, dtype: DType) -> Expr {
        if self.dtype() == dtype { self } else { ExprKind::Bitcast(dtype, self).into() }
    }

    /// A fold of `body` over `axis` in `0..extent`.
    pub fn fold(op: Reduce, axis: Symbol, extent: Dim, body: Expr) -> Expr {
        ExprKind::Fold(Fold { op, axis, extent, body }).into()
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        match self.kind() {
            ExprKind::Const(value) => value.dtype(),
            ExprKind::Index(_) => DType::I64,
            ExprKind::Load { dtype, .. } | ExprKind::Var { dtype, .. } => *dtype,
            ExprKind::Unary(f, x) => f.result(x.dtype()),
            ExprKind::Binary(f, a, _) => f.result(a.dtype()),
            ExprKind::Fma(a, ..) => a.dtype(),
            ExprKind::Select(_, a, _) => a.dtype(),
            ExprKind::Cast(dtype, _) | ExprKind::Bitcast(dtype, _) => *dtype,
            ExprKind::Fold(fold) => fold.body.dtype(),
        }
    }

    /// The index, if it is index arithmetic.
    pub fn as_index(&self) -> Option<&Dim> {
        match self.kind() {
            ExprKind::Index(dim) => Some(dim),
            _ => None,
        }
    }

    /// The expressions directly inside.
    pub fn children(&self) -> Vec<&Expr> {
        match self.kind() {
            ExprKind::Const(_) | ExprKind::Index(_) | ExprKind::Var { .. } => vec![],
            ExprKind::Load { at, .. } => at.iter().collect(),
            ExprKind::Unary(_, x) | ExprKind::Cast(_, x) | ExprKind::Bitcast(_, x) => vec![x],
            ExprKind::Binary(_, a, b) => vec![a, b],
            ExprKind::Fma(a, b, c) | ExprKind::Select(a, b, c) => vec![a, b, c],
            ExprKind::Fold(fold) => vec![&fold.body],
        }
    }

    /// Rebuilt with `change` applied to the expressions directly inside.
    pub fn map_children(&self, change: &mut dyn FnMut(&Expr) -> Expr) -> Expr {
        match self.kind() {
            ExprKind::Const(_) | ExprKind::Index(_) | ExprKind::Var { .. } => self.clone(),
            ExprKind::Load { source, dtype, at } => {
                Expr::load(source.clone(), *dtype, at.iter().map(change).collect::<Vec<_>>())
            }
            ExprKind::Unary(f, x) => Expr::unary(*f, change(x)),
            ExprKind::Cast(dtype, x) => change(x).cast(*dtype),
            ExprKind::Bitcast(dtype, x) => change(x).bitcast(*dtype),
            ExprKind::Binary(f, a, b) => {
                let (a, b) = (change(a), change(b));
                Expr::binary(*f, a, b)
            }
            ExprKind::Fma(a, b, c) => {
                let (a, b, c) = (change(a), change(b), change(c));
                Expr::fma(a, b, c)
            }
            ExprKind::Select(c, a, b) => {
                let (c, a, b) = (change(c), change(a), change(b));
                c.select(a, b)
            }
            ExprKind::Fold(Fold { op, axis, extent, body }) => {
                Expr::fold(*op, axis.clone(), extent.clone(), change(body))
            }
        }
    }

    /// Calls `visit` with this expression and everything inside, outermost first.
    pub fn walk(&self, visit: &mut dyn FnMut(&Expr)) {
        visit(self);
        for child in self.children() {
            child.walk(visit);
        }
    }

    /// Does `holds` hold for it or anything inside?
    pub fn any(&self, holds: &mut dyn FnMut(&Expr) -> bool) -> bool {
        let mut found = false;
        self.walk(&mut |e| found = found || holds(e));
        found
    }

    /// Axes and sizes replaced through `with`, everywhere. Axes bound by folds inside must not be among them.
    pub fn substitute(&self, with: &dyn Fn(&Symbol) -> Option<Dim>) -> Expr {
        match self.kind() {
            ExprKind::Index(dim) => dim.substitute(with).into(),
            ExprKind::Fold(Fold { op, axis, extent, body }) => {
                Expr::fold(*op, axis.clone(), extent.substitute(with), body.substitute(with))
            }
            _ => self.map_children(&mut |e| e.substitute(with)),
        }
    }

    /// Every load replaced by what `with` gives for its source and index (`None` keeps it); indices first.
    pub fn replace_loads(&self, with: &mut dyn FnMut(&Symbol, &[Expr]) -> Option<Expr>) -> Expr {
        let inside = self.map_children(&mut |e| e.replace_loads(with));
        match (self.kind(), inside.kind()) {
            (ExprKind::Load { .. }, ExprKind::Load { source, at, .. }) => with(source, at).unwrap_or(inside),
            // A choice between what is now the same load is that load, and replaced already.
            _ => inside,
        }
    }

    /// `self = other`, as a truth value.
    pub fn equals(self, other: Expr) -> Expr {
        Expr::binary(Binary::Eq, self, other)
    }

    /// `self < other`, as a truth value.
    pub fn less(self, other: Expr) -> Expr {
        Expr::binary(Binary::Lt, self, other)
    }

    /// `self ≤ other`, as a truth value.
    pub fn at_most(self, other: Expr) -> Expr {
        Expr::binary(Binary::Le, self, other)
    }

    /// Both hold. A condition that is known disappears.
    pub fn and(self, other: Expr) -> Expr {
        match (self.kind(), other.kind()) {
            (ExprKind::Const(c), _) => {
                if c.to_bool() {
                    other
                } else {
                    self
                }
            }
            (_, ExprKind::Const(c)) => {
                if c.to_bool() {
                    self
                } else {
                    other
                }
            }
            _ => Expr::binary(Binary::And, self, other),
        }
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $function:ident) => {
        impl ops::$trait for Expr {
            type Output = Expr;

            fn $method(self, other: Expr) -> Expr {
                Expr::binary(Binary::$function, self, other)
            }
        }
    };
}

operator!(Add, add, Add);
operator!(Sub, sub, Sub);
operator!(Mul, mul, Mul);
operator!(Div, div, Div);
