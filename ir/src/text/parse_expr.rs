//! Expressions from text.
//!
//! Everything is rebuilt through the constructors of [`Expr`], so indices are normalised and constants folded as
//! they were when the expression was first built. Types are checked before: constructors take them for granted.

use std::ops::Range;

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::{Expr, ExprKind, Reduce};
use crate::scalar::{Binary, Unary};
use crate::text::cursor::{Cursor, Parse, literal, negated};
use crate::text::dim;
use crate::text::error::{ParseError, Problem};
use crate::text::lex::{Kind, Sigil};
use crate::text::print_kernel::{Bind, INFIX};

/// The arrays and scalars that an expression may name, innermost last.
#[derive(Debug, Default)]
pub(super) struct Scope {
    arrays: Vec<(Symbol, DType)>,
    scalars: Vec<(Symbol, DType)>,
}

/// How much of a [`Scope`] there was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(usize, usize);

impl Scope {
    pub(super) fn array(&mut self, name: Symbol, dtype: DType) {
        self.arrays.push((name, dtype));
    }

    pub(super) fn scalar(&mut self, name: Symbol, dtype: DType) {
        self.scalars.push((name, dtype));
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.arrays.len(), self.scalars.len())
    }

    /// Forgets what came after `mark`.
    pub(super) fn reset(&mut self, mark: Mark) {
        self.arrays.truncate(mark.0);
        self.scalars.truncate(mark.1);
    }

    fn find(names: &[(Symbol, DType)], name: &str) -> Option<DType> {
        names.iter().rev().find(|(known, _)| known.name() == name).map(|(_, dtype)| *dtype)
    }
}

/// Reads an expression.
pub(super) fn expr(cursor: &mut Cursor<'_>, scope: &Scope) -> Parse<Expr> {
    infix(cursor, scope, Bind::Or)
}

/// Reads an expression as it stands beside a sign that binds like `*`.
pub(super) fn factor(cursor: &mut Cursor<'_>, scope: &Scope) -> Parse<Expr> {
    infix(cursor, scope, Bind::Sign)
}

fn infix(cursor: &mut Cursor<'_>, scope: &Scope, least: Bind) -> Parse<Expr> {
    let start = cursor.span();
    let mut left = signed(cursor, scope)?;
    loop {
        let Kind::Sign(sign) = cursor.kind() else { return Ok(left) };
        let quotient = sign == "//";
        let (mut function, bind) = match INFIX.into_iter().find(|(text, ..)| *text == sign) {
            Some((_, function, bind)) => (function, bind),
            None if quotient => (Binary::Div, Bind::Mul),
            // At the start of a line it begins a value.
            None if sign == "%" && !cursor.is_first() => (Binary::Mod, Bind::Mul),
            None => return Ok(left),
        };
        if bind < least {
            return Ok(left);
        }
        cursor.advance();
        let right = if function == Binary::Sub && cursor.slice() == dim::BEYOND {
            function = Binary::Add;
            cursor.advance();
            Dim::constant(i64::MIN).into()
        } else {
            infix(cursor, scope, bind.tighter())?
        };
        let span = cursor.since(start.clone());
        left = if quotient {
            floor_quotient(&left, &right).ok_or_else(|| types("//", &[&left, &right], span))?.into()
        } else {
            binary(cursor, function, left, right, span)?
        };
    }
}

fn floor_quotient(a: &Expr, b: &Expr) -> Option<Dim> {
    let (a, b) = (a.as_index()?, b.as_index()?);
    b.as_const().is_none_or(|b| b > 0).then(|| a.floor_div(b))
}

/// A function that is not defined for these operands.
fn types(function: &'static str, operands: &[&Expr], span: Range<usize>) -> ParseError {
    let types = operands.iter().map(|x| x.dtype().name()).collect::<Vec<_>>().join(" and ");
    ParseError { span, problem: Problem::Types { function, types } }
}

fn unary(function: Unary, x: Expr, span: Range<usize>) -> Parse<Expr> {
    if !function.accepts(x.dtype()) {
        return Err(types(function.name(), &[&x], span));
    }
    Ok(Expr::unary(function, x))
}

fn binary(cursor: &Cursor<'_>, function: Binary, a: Expr, b: Expr, span: Range<usize>) -> Parse<Expr> {
    if a.dtype() != b.dtype() || !function.accepts(a.dtype()) {
        return Err(types(function.name(), &[&a, &b], span));
    }
    if let (Some(x), Some(y)) = (a.as_index(), b.as_index())
        && function == Binary::Mul
    {
        return Ok(dim::product(cursor, x, y)?.into());
    }
    Ok(Expr::binary(function, a, b))
}

fn signed(cursor: &mut Cursor<'_>, scope: &Scope) -> Parse<Expr> {
    let start = cursor.span();
    if !cursor.eat("-") {
        return primary(cursor, scope);
    }
    if let Kind::Number { .. } = cursor.kind() {
        return number(cursor, true);
    }
    let x = cursor.deeper(|cursor| signed(cursor, scope))?;
    match x.kind() {
        ExprKind::Index(dim) => Ok((-dim.clone()).into()),
        // A number with its sign, where there is no arithmetic that turns it.
        ExprKind::Const(value) if value.dtype().is_narrow() && value.to_f64().is_infinite() => {
            Ok(Expr::constant(negated(*value)))
        }
        _ => unary(Unary::Neg, x, cursor.since(start)),
    }
}

/// A number: `1.5` is `f32`, `3` an index, `3i32` and `1.5f64` what they say.
fn number(cursor: &mut Cursor<'_>, negative: bool) -> Parse<Expr> {
    let Kind::Number { float, digits } = cursor.kind() else { return Err(cursor.unexpected("a number")) };
    let (digits, suffix) = cursor.slice().split_at(digits);
    let dtype = match suffix {
        "" if float => DType::F32,
        "" => DType::I64,
        suffix => suffix
            .parse()
            .map_err(|_| cursor.unexpected("a number, with an element type or nothing behind it"))?,
    };
    let text = || if negative { format!("-{digits}") } else { digits.to_owned() };
    let value = literal(digits, negative, dtype)
        .ok_or_else(|| cursor.error(Problem::Number { text: text(), dtype }))?;
    cursor.advance();
    Ok(Expr::constant(value))
}

fn primary(cursor: &mut Cursor<'_>, scope: &Scope) -> Parse<Expr> {
    match cursor.kind() {
        Kind::Sign("(") => {
            cursor.advance();
            let inner = cursor.deeper(|cursor| expr(cursor, scope))?;
            cursor.expect(")")?;
            Ok(inner)
        }
        Kind::Sign("%") => value(cursor, scope),
        Kind::Number { .. } => number(cursor, false),
        Kind::Word => word(cursor, scope),
        _ => Ok(Dim::from(cursor.symbol("an expression")?).into()),
    }
}

/// `%x[i, j]`, or `%a`, a scalar.
fn value(cursor: &mut Cursor<'_>, scope: &Scope) -> Parse<Expr> {
    let start = cursor.span();
    let name = cursor.sigil("%")?;
    let undefined =
        |span| ParseError { span, problem: Problem::Undefined { name: Sigil('%', &name).to_string() } };
    if !cursor.eat("[") {
        let dtype = Scope::find(&scope.scalars, &name).ok_or_else(|| undefined(cursor.since(start)))?;
        return Ok(Expr::var(Symbol::new(&name), dtype));
    }
    let dtype = Scope::find(&scope.arrays, &name).ok_or_else(|| undefined(cursor.since(start)))?;
    let at = cursor.deeper(|cursor| index(cursor, scope))?;
    Ok(Expr::load(Symbol::new(&name), dtype, at))
}

/// The rest of an index behind its `[`.
pub(super) fn index(cursor: &mut Cursor<'_>, scope: &Scope) -> Parse<Vec<Expr>> {
    cursor.list("]", |cursor| {
        let start = cursor.span();
        let at = expr(cursor, scope)?;
        match at.dtype() {
            DType::I64 => Ok(at),
            _ => Err(types("[…]", &[&at], cursor.since(start))),
        }
    })
}

fn word(cursor: &mut Cursor<'_>, scope: &Scope) -> Parse<Expr> {
    let start = cursor.span();
    let word = cursor.slice();
    let angle = cursor.next_kind() == Kind::Sign("<");
    match word {
        "true" | "false" => {
            cursor.advance();
            Ok(Expr::constant(crate::scalar::Scalar::bool(word == "true")))
        }
        "inf" | "nan" => {
            cursor.advance();
            let dtype = if angle { angled(cursor)? } else { DType::F32 };
            let value = cursor.special(word, dtype)?;
            let wrong = || Problem::Number { text: word.to_owned(), dtype };
            value
                .map(Expr::constant)
                .ok_or_else(|| ParseError { span: cursor.since(start), problem: wrong() })
        }
        "cast" | "bitcast" if angle => {
            cursor.advance();
            let dtype = angled(cursor)?;
            cursor.expect("(")?;
            let x = cursor.deeper(|cursor| expr(cursor, scope))?;
            cursor.expect(")")?;
            if word == "bitcast" && x.dtype().bits() != dtype.bits() {
                return Err(types("bitcast", &[&x], cursor.since(start)));
            }
            Ok(if word == "cast" { x.cast(dtype) } else { x.bitcast(dtype) })
        }
        _ if cursor.next_kind() == Kind::Sign("(") => cursor.deeper(|cursor| call(cursor, scope)),
        _ => match Reduce::ALL.into_iter().find(|reduce| reduce.name() == word) {
            Some(op) if matches!(cursor.next_kind(), Kind::Word | Kind::Name) => {
                cursor.advance();
                let (axis, extent) = cursor.range()?;
                cursor.expect("{")?;
                let body = cursor.deeper(|cursor| expr(cursor, scope))?;
                cursor.expect("}")?;
                if !op.function().accepts(body.dtype()) {
                    return Err(types(op.name(), &[&body], cursor.since(start)));
                }
                Ok(Expr::fold(op, axis, extent, body))
            }
            _ => Ok(Dim::from(cursor.symbol("an expression")?).into()),
        },
    }
}

fn angled(cursor: &mut Cursor<'_>) -> Parse<DType> {
    cursor.expect("<")?;
    let dtype = cursor.dtype()?;
    cursor.expect(">")?;
    Ok(dtype)
}

fn call(cursor: &mut Cursor<'_>, scope: &Scope) -> Parse<Expr> {
    let start = cursor.span();
    let name = cursor.slice();
    cursor.advance();
    cursor.advance();
    let args = cursor.list(")", |cursor| expr(cursor, scope))?;
    let span = cursor.since(start.clone());
    let refuse = |name| types(name, &args.iter().collect::<Vec<_>>(), span.clone());
    match (name, args.as_slice()) {
        ("floor", [a, b]) => Ok(floor_quotient(a, b).ok_or_else(|| refuse("floor"))?.into()),
        ("ceil", [a, b]) => match (a.as_index(), b.as_index()) {
            (Some(a), Some(b)) if b.as_const().is_none_or(|b| b > 0) => Ok(a.ceil_div(b).into()),
            _ => Err(refuse("ceil")),
        },
        ("fma", [a, b, c]) => {
            let dtype = a.dtype();
            let fits = matches!(dtype, DType::F32 | DType::F64) && b.dtype() == dtype && c.dtype() == dtype;
            if fits { Ok(Expr::fma(a.clone(), b.clone(), c.clone())) } else { Err(refuse("fma")) }
        }
        ("select", [c, a, b]) => {
            let fits = c.dtype() == DType::Bool && a.dtype() == b.dtype();
            if fits { Ok(c.clone().select(a.clone(), b.clone())) } else { Err(refuse("select")) }
        }
        ("min" | "max", [first, rest @ ..]) if !rest.is_empty() => {
            let function = if name == "min" { Binary::Min } else { Binary::Max };
            rest.iter().try_fold(first.clone(), |a, b| binary(cursor, function, a, b.clone(), span.clone()))
        }
        (_, [x]) if Unary::find(name).is_some() => {
            unary(Unary::find(name).expect("just found"), x.clone(), span.clone())
        }
        (_, [a, b]) if Binary::find(name).is_some() => {
            binary(cursor, Binary::find(name).expect("just found"), a.clone(), b.clone(), span.clone())
        }
        _ => {
            let found = format!("`{name}` of {} operands", args.len());
            Err(ParseError {
                span,
                problem: Problem::Unexpected { expected: "a function of elements", found },
            })
        }
    }
}
