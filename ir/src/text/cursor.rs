//! A place in a token list, and the small steps that all parsers are made of.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::scalar::Scalar;
use crate::text::dim;
use crate::text::error::{ParseError, Problem};
use crate::text::lex::{self, Kind, Token};
use crate::types::TensorType;

/// Nesting beyond this is refused, so that no text overflows the stack.
const MAX_DEPTH: usize = 100;

/// A text with more errors than this says nothing more.
const MAX_ERRORS: usize = 100;

/// What a parsing step gives.
pub(super) type Parse<T> = Result<T, ParseError>;

/// A place in a token list.
pub(super) struct Cursor<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    errors: Vec<ParseError>,
    poisoned: BTreeSet<String>,
}

impl<'a> Cursor<'a> {
    /// At the start of `text`.
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor {
            text,
            tokens: lex::lex(text),
            at: 0,
            depth: 0,
            errors: Vec::new(),
            poisoned: BTreeSet::new(),
        }
    }

    fn token(&self) -> &Token {
        &self.tokens[self.at]
    }

    /// What stands here.
    pub(super) fn kind(&self) -> Kind {
        self.token().kind
    }

    /// What stands after this.
    pub(super) fn next_kind(&self) -> Kind {
        self.tokens.get(self.at + 1).map_or(Kind::End, |token| token.kind)
    }

    /// The bytes of what stands here.
    pub(super) fn span(&self) -> Range<usize> {
        self.token().span.clone()
    }

    /// From `start` to the end of what was read last.
    pub(super) fn since(&self, start: Range<usize>) -> Range<usize> {
        let end = self.at.checked_sub(1).map_or(0, |at| self.tokens[at].span.end);
        start.start..end.max(start.end)
    }

    /// The text of what stands here.
    pub(super) fn slice(&self) -> &'a str {
        &self.text[self.token().span.clone()]
    }

    /// One token on; stays at the end.
    pub(super) fn advance(&mut self) {
        if self.kind() != Kind::End {
            self.at += 1;
        }
    }

    /// Is this the end of the text?
    pub(super) fn is_end(&self) -> bool {
        self.kind() == Kind::End
    }

    /// Is it this sign?
    pub(super) fn is(&self, sign: &str) -> bool {
        matches!(self.kind(), Kind::Sign(s) if s == sign)
    }

    /// Is it this word?
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind() == Kind::Word && self.slice() == word
    }

    /// Is the next token this word?
    pub(super) fn next_is_word(&self, word: &str) -> bool {
        self.tokens.get(self.at + 1).is_some_and(|next| &self.text[next.span.clone()] == word)
    }

    /// Reads this sign, if it stands here.
    pub(super) fn eat(&mut self, sign: &str) -> bool {
        let is = self.is(sign);
        if is {
            self.advance();
        }
        is
    }

    /// Reads this word, if it stands here.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let is = self.is_word(word);
        if is {
            self.advance();
        }
        is
    }

    /// Reads this sign.
    pub(super) fn expect(&mut self, sign: &'static str) -> Parse<()> {
        if self.eat(sign) { Ok(()) } else { Err(self.unexpected(sign)) }
    }

    /// Reads this word.
    pub(super) fn expect_word(&mut self, word: &'static str) -> Parse<()> {
        if self.eat_word(word) { Ok(()) } else { Err(self.unexpected(word)) }
    }

    /// Something else should stand here.
    pub(super) fn unexpected(&self, expected: &'static str) -> ParseError {
        let problem = match self.kind() {
            Kind::Bad(why) => Problem::Token { why },
            Kind::End => Problem::Unexpected { expected, found: "the end".to_owned() },
            _ => {
                let found = match self.slice().char_indices().nth(40) {
                    Some((cut, _)) => format!("`{}…`", &self.slice()[..cut]),
                    None => format!("`{}`", self.slice()),
                };
                Problem::Unexpected { expected, found }
            }
        };
        self.error(problem)
    }

    /// A problem with what stands here.
    pub(super) fn error(&self, problem: Problem) -> ParseError {
        ParseError { span: self.span(), problem }
    }

    /// Notes an error and goes on. That a name is undefined whose definition was reported is no news.
    pub(super) fn report(&mut self, error: ParseError) {
        if matches!(&error.problem, Problem::Undefined { name } if self.poisoned.contains(name)) {
            return;
        }
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    /// The definition of `name` (with its sigil) is wrong, as `error` says; that it is undefined later is no news. It
    /// is if the definition itself uses it.
    pub(super) fn poison(&mut self, name: String, error: &ParseError) {
        if !matches!(&error.problem, Problem::Undefined { name: used } if *used == name) {
            self.poisoned.insert(name);
        }
    }

    /// Has anything been reported?
    pub(super) fn failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// `value`, or what was reported.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Vec<ParseError>> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => {
                debug_assert!(!self.errors.is_empty(), "bug: a text is refused without a reason");
                Err(self.errors)
            }
        }
    }

    /// Reads with one more level of nesting.
    pub(super) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(Problem::TooDeep { limit: MAX_DEPTH }));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// Where it is, for [`Cursor::recover`].
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Does what stands here start a line?
    pub(super) fn is_first(&self) -> bool {
        self.token().first
    }

    /// After an error in an item that began at `start`: to the first token of a line behind it, blocks that open
    /// before left out; or to the end of the block that the item stands in.
    pub(super) fn recover(&mut self, start: usize) {
        let mut open = 0usize;
        while !self.is_end() {
            if open == 0 && (self.is("}") || (self.at > start && self.is_first())) {
                return;
            }
            match self.kind() {
                Kind::Sign("{") => open += 1,
                Kind::Sign("}") => open -= 1,
                _ => {}
            }
            self.advance();
        }
    }

    /// Items separated by commas until `close`, which is read.
    pub(super) fn list<T>(
        &mut self,
        close: &'static str,
        mut item: impl FnMut(&mut Self) -> Parse<T>,
    ) -> Parse<Vec<T>> {
        let mut items = Vec::new();
        while !self.eat(close) {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A string in double quotes.
    pub(super) fn string(&mut self) -> Parse<String> {
        match self.kind() {
            Kind::Str => {
                let text = self.unquoted();
                self.advance();
                Ok(text)
            }
            _ => Err(self.unexpected("a string in double quotes")),
        }
    }

    /// The contents of the quotation that stands here.
    fn unquoted(&self) -> String {
        let slice = self.slice();
        lex::unescape(&slice[1..slice.len() - 1]).expect("the lexer refuses unknown escapes")
    }

    /// A size or an axis, as a name.
    pub(super) fn symbol(&mut self, expected: &'static str) -> Parse<Symbol> {
        let symbol = match self.kind() {
            Kind::Word => Symbol::new(self.slice()),
            Kind::Name => Symbol::new(self.unquoted()),
            _ => return Err(self.unexpected(expected)),
        };
        self.advance();
        Ok(symbol)
    }

    /// A name behind a sigil: a word, a string, or (as text) a number.
    pub(super) fn sigil(&mut self, sigil: &'static str) -> Parse<String> {
        self.expect(sigil)?;
        let name = match self.kind() {
            Kind::Word => self.slice().to_owned(),
            Kind::Str => return self.string(),
            _ => return Err(self.unexpected("a name")),
        };
        self.advance();
        Ok(name)
    }

    /// A plain nonnegative integer.
    pub(super) fn integer<T: TryFrom<u64>>(&mut self, expected: &'static str) -> Parse<T> {
        let value = match self.kind() {
            Kind::Number { float: false, digits } if digits == self.slice().len() => {
                self.slice().parse::<u64>().ok()
            }
            _ => None,
        };
        let value =
            value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| self.unexpected(expected))?;
        self.advance();
        Ok(value)
    }

    /// An element type.
    pub(super) fn dtype(&mut self) -> Parse<DType> {
        let dtype = match self.kind() {
            Kind::Word => self.slice().parse().ok(),
            _ => None,
        };
        let dtype = dtype.ok_or_else(|| self.unexpected("an element type, such as f32"))?;
        self.advance();
        Ok(dtype)
    }

    /// A tensor type, `f32[n, 3]`.
    pub(super) fn ty(&mut self) -> Parse<TensorType> {
        let dtype = self.dtype()?;
        self.expect("[")?;
        Ok(TensorType { dtype, shape: self.list("]", dim::dim)? })
    }

    /// `axis in 0..extent`.
    pub(super) fn range(&mut self) -> Parse<(Symbol, Dim)> {
        let axis = self.symbol("an axis")?;
        self.expect_word("in")?;
        if self.kind() != (Kind::Number { float: false, digits: 1 }) || self.slice() != "0" {
            return Err(self.unexpected("`0..`"));
        }
        self.advance();
        self.expect("..")?;
        Ok((axis, dim::dim(self)?))
    }

    /// An element of `dtype` without a suffix: `-1.5`, `inf`, `nan(0x7fc00001)`, `true`.
    pub(super) fn element(&mut self, dtype: DType) -> Parse<Scalar> {
        let start = self.span();
        let negative = self.eat("-");
        let found = match self.kind() {
            Kind::Word => {
                let word = self.slice();
                self.advance();
                self.special(word, dtype)?
            }
            Kind::Number { digits, .. } if digits == self.slice().len() => {
                let digits = self.slice();
                self.advance();
                literal(digits, negative, dtype)
            }
            _ => return Err(self.unexpected("a number or a truth value")),
        };
        let wrong = |text: &str| Problem::Number { text: text.to_owned(), dtype };
        let span = self.since(start);
        let text = &self.text[span.clone()];
        let value = found.ok_or_else(|| ParseError { span, problem: wrong(text) })?;
        // A literal has its sign already; a special number gets it here.
        Ok(if negative && text.ends_with("inf") { negated(value) } else { value })
    }

    /// What the word, just read, stands for as a number: `inf`, `nan`, `nan(0x…)`, `true`, `false`.
    pub(super) fn special(&mut self, word: &str, dtype: DType) -> Parse<Option<Scalar>> {
        let float = dtype.is_float();
        Ok(match word {
            "true" | "false" if dtype == DType::Bool => Some(Scalar::bool(word == "true")),
            "inf" if float => {
                Some(Scalar::from_f64(dtype, f64::INFINITY)).filter(|value| value.to_f64().is_infinite())
            }
            "nan" if float && self.eat("(") => {
                let bits = match self.kind() {
                    Kind::Number { .. } => {
                        self.slice().strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok())
                    }
                    _ => None,
                };
                let fits = |bits: &u64| dtype.bits() == 64 || bits >> dtype.bits() == 0;
                let bits = bits
                    .filter(fits)
                    .ok_or_else(|| self.unexpected("the bits of a number, such as 0x7fc00001"))?;
                self.advance();
                self.expect(")")?;
                Some(Scalar::from_bits(dtype, bits))
            }
            "nan" if float => Some(Scalar::from_f64(dtype, f64::NAN)).filter(|value| value.to_f64().is_nan()),
            _ => None,
        })
    }
}

/// The number with its sign bit, or its value, turned.
pub(super) fn negated(value: Scalar) -> Scalar {
    crate::scalar::Unary::Neg.apply(value)
}

/// The number with these digits, if `dtype` holds it; floats round to nearest.
pub(super) fn literal(digits: &str, negative: bool, dtype: DType) -> Option<Scalar> {
    let signed = if negative { format!("-{digits}") } else { digits.to_owned() };
    match dtype {
        DType::Bool => None,
        DType::F32 => signed.parse::<f32>().ok().map(Scalar::f32),
        _ if dtype.is_float() => {
            let value = Scalar::from_f64(dtype, signed.parse::<f64>().ok()?);
            // Where there is no infinity, a number that is too large has no nearest one.
            Some(value).filter(|value| !value.to_f64().is_nan())
        }
        DType::U64 => signed.parse::<u64>().ok().map(|value| Scalar::from_bits(dtype, value)),
        _ => {
            let value = signed.parse::<i64>().ok()?;
            Some(Scalar::from_i64(dtype, value)).filter(|scalar| scalar.to_i64() == value)
        }
    }
}
