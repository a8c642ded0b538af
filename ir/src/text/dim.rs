//! Size expressions as text.
//!
//! Printed: sums of products of names, `floor(a, b)`, `min(a, b)`, `max(a, b)`. Read, besides: parentheses, `a//b`,
//! `a % b`, `ceil(a, b)`, `a**2`, quotients inside `floor(a/b)` and `ceil(a/b)` or where the division is exact, and
//! the spellings of symbolic algebra (`Min`, `Max`, `Mod`, `ceiling`), as exporters write them.

use crate::dim::{Condition, Dim, ParseDimError};
use crate::text::cursor::{Cursor, Parse};
use crate::text::error::Problem;
use crate::text::lex::Kind;

/// Products of more terms than this are refused: no size has them, and the text may be hostile.
const MAX_TERMS: usize = 4096;

/// Parses a size expression.
///
/// # Errors
/// What was expected, and where.
pub fn parse(text: &str) -> Result<Dim, ParseDimError> {
    let mut cursor = Cursor::new(text);
    let read = dim(&mut cursor).and_then(|dim| {
        if cursor.is_end() { Ok(dim) } else { Err(cursor.unexpected("an operator or the end")) }
    });
    read.map_err(|error| {
        let why = match error.problem {
            Problem::Unexpected { expected, .. } => expected,
            Problem::TooDeep { .. } => "less nesting",
            _ => "a size",
        };
        ParseDimError { text: text.to_owned(), at: error.span.start, why }
    })
}

/// Reads a size expression.
pub(super) fn dim(cursor: &mut Cursor<'_>) -> Parse<Dim> {
    let value = sum(cursor)?;
    whole(cursor, value)
}

/// Reads `a == b` or `a <= b`.
pub(super) fn condition(cursor: &mut Cursor<'_>) -> Parse<Condition> {
    let left = dim(cursor)?;
    let make = match cursor.kind() {
        Kind::Sign("==") => Condition::equal,
        Kind::Sign("<=") => Condition::at_most,
        _ => return Err(cursor.unexpected("`==` or `<=`")),
    };
    cursor.advance();
    Ok(make(left, dim(cursor)?))
}

/// `num / den`, before it is known to be a whole number.
struct Ratio {
    num: Dim,
    den: Dim,
}

impl From<Dim> for Ratio {
    fn from(num: Dim) -> Self {
        Ratio { num, den: Dim::constant(1) }
    }
}

fn whole(cursor: &Cursor<'_>, value: Ratio) -> Parse<Dim> {
    if value.den.is(1) {
        return Ok(value.num);
    }
    value
        .num
        .exact_div(&value.den)
        .ok_or_else(|| cursor.unexpected("a whole number; write `floor(a, b)` for a quotient"))
}

/// `a·b`, unless it has too many terms.
pub(super) fn product(cursor: &Cursor<'_>, a: &Dim, b: &Dim) -> Parse<Dim> {
    if a.terms().count().saturating_mul(b.terms().count()) > MAX_TERMS {
        return Err(cursor.unexpected("a smaller product"));
    }
    Ok(a.clone() * b.clone())
}

/// `2⁶³`: a literal only behind a minus.
pub(super) const BEYOND: &str = "9223372036854775808";

fn sum(cursor: &mut Cursor<'_>) -> Parse<Ratio> {
    let mut value = term(cursor, false)?;
    loop {
        let negative = cursor.is("-");
        if !negative && !cursor.is("+") {
            return Ok(value);
        }
        cursor.advance();
        // `a − b // c` is `a − (b // c)`; only a literal that has no positive counterpart takes the sign itself.
        let own = negative && cursor.slice() == BEYOND;
        let mut next = term(cursor, own)?;
        if negative && !own {
            next.num = -next.num;
        }
        value = if value.den == next.den {
            Ratio { num: value.num + next.num, den: value.den }
        } else {
            let left = product(cursor, &value.num, &next.den)?;
            let right = product(cursor, &next.num, &value.den)?;
            Ratio { num: left + right, den: product(cursor, &value.den, &next.den)? }
        };
    }
}

/// A product; the first factor negated if `negative`.
fn term(cursor: &mut Cursor<'_>, negative: bool) -> Parse<Ratio> {
    let mut value = factor(cursor, negative)?;
    loop {
        let Kind::Sign(sign @ ("*" | "/" | "//" | "%")) = cursor.kind() else { return Ok(value) };
        if sign == "%" && cursor.is_first() {
            // At the start of a line it begins a value.
            return Ok(value);
        }
        cursor.advance();
        let at = cursor.span();
        let by = factor(cursor, false)?;
        value = match sign {
            "*" => Ratio {
                num: product(cursor, &value.num, &by.num)?,
                den: product(cursor, &value.den, &by.den)?,
            },
            "/" => {
                positive(cursor, &by.num, at)?;
                Ratio {
                    num: product(cursor, &value.num, &by.den)?,
                    den: product(cursor, &value.den, &by.num)?,
                }
            }
            "//" => {
                positive(cursor, &by.num, at)?;
                let num = product(cursor, &value.num, &by.den)?;
                num.floor_div(&product(cursor, &value.den, &by.num)?).into()
            }
            _ => {
                let (a, b) = (whole(cursor, value)?, whole(cursor, by)?);
                positive(cursor, &b, at)?;
                remainder(cursor, &a, &b)?.into()
            }
        };
    }
}

fn remainder(cursor: &Cursor<'_>, a: &Dim, b: &Dim) -> Parse<Dim> {
    let quotient = a.floor_div(b);
    Ok(a.clone() - product(cursor, &quotient, b)?)
}

/// Fails for a divisor that can't be positive.
fn positive(cursor: &Cursor<'_>, divisor: &Dim, at: std::ops::Range<usize>) -> Parse<()> {
    if divisor.as_const().is_some_and(|value| value <= 0) {
        let mut error = cursor.unexpected("a positive divisor");
        error.span = at;
        return Err(error);
    }
    Ok(())
}

fn factor(cursor: &mut Cursor<'_>, negative: bool) -> Parse<Ratio> {
    if cursor.eat("-") {
        return cursor.deeper(|cursor| factor(cursor, !negative));
    }
    if let Kind::Number { .. } = cursor.kind() {
        let value = integer(cursor, negative)?;
        return power(cursor, Dim::constant(value).into());
    }
    let value = primary(cursor)?;
    let value = power(cursor, value)?;
    Ok(if negative { Ratio { num: -value.num, den: value.den } } else { value })
}

fn power(cursor: &mut Cursor<'_>, base: Ratio) -> Parse<Ratio> {
    if !cursor.eat("**") {
        return Ok(base);
    }
    let exponent: u8 = cursor.integer("an exponent below 256")?;
    let mut value = Ratio::from(Dim::constant(1));
    for _ in 0..exponent {
        value = Ratio {
            num: product(cursor, &value.num, &base.num)?,
            den: product(cursor, &value.den, &base.den)?,
        };
    }
    Ok(value)
}

/// A plain integer with this sign.
pub(super) fn integer(cursor: &mut Cursor<'_>, negative: bool) -> Parse<i64> {
    let text = cursor.slice();
    let value = if negative { format!("-{text}").parse() } else { text.parse::<i64>() };
    let value = value.map_err(|_| cursor.unexpected("an integer of 64 bits"))?;
    cursor.advance();
    Ok(value)
}

fn primary(cursor: &mut Cursor<'_>) -> Parse<Ratio> {
    if cursor.eat("(") {
        let value = cursor.deeper(sum)?;
        cursor.expect(")")?;
        return Ok(value);
    }
    if cursor.kind() == Kind::Word && cursor.next_kind() == Kind::Sign("(") {
        return cursor.deeper(call);
    }
    cursor.symbol("a number, a name or `(`").map(|symbol| Dim::from(symbol).into())
}

fn call(cursor: &mut Cursor<'_>) -> Parse<Ratio> {
    let start = cursor.span();
    let function = cursor.slice();
    let known = ["floor", "ceil", "ceiling", "min", "Min", "max", "Max", "Mod"];
    if !known.contains(&function) {
        return Err(cursor.unexpected("floor, ceil, min or max"));
    }
    cursor.advance();
    cursor.advance();
    let mut args = cursor.list(")", sum)?;
    match (function, args.len()) {
        ("floor" | "ceil" | "ceiling", 1 | 2) => {
            let by = if args.len() == 2 { args.pop() } else { None };
            let by = by.unwrap_or_else(|| Dim::constant(1).into());
            let value = args.pop().expect("there were one or two");
            let num = product(cursor, &value.num, &by.den)?;
            let den = product(cursor, &value.den, &by.num)?;
            positive(cursor, &den, start)?;
            Ok(if function == "floor" { num.floor_div(&den) } else { num.ceil_div(&den) }.into())
        }
        ("Mod", 2) => {
            let by = args.pop().expect("there are two");
            let value = args.pop().expect("there are two");
            let (a, b) = (whole(cursor, value)?, whole(cursor, by)?);
            positive(cursor, &b, start)?;
            Ok(remainder(cursor, &a, &b)?.into())
        }
        ("min" | "Min" | "max" | "Max", 1..) => {
            let smaller = function.eq_ignore_ascii_case("min");
            let args = args.into_iter().map(|arg| whole(cursor, arg)).collect::<Parse<Vec<Dim>>>()?;
            let combined = args
                .into_iter()
                .reduce(|a, b| if smaller { Dim::smaller(&a, &b) } else { Dim::larger(&a, &b) });
            Ok(combined.expect("there is at least one").into())
        }
        _ => {
            let mut error = cursor.unexpected("another number of arguments");
            error.span = cursor.since(start);
            Err(error)
        }
    }
}
