//! Words, numbers, strings and signs: the one lexer of all text forms, and how names are written.
//!
//! A token is a kind and a range of bytes; contents are read from the text when they are needed. What is no token
//! becomes [`Kind::Bad`], so that the parser reports it where it stands and goes on.

use std::fmt;
use std::fmt::Write;
use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Letters, digits, `_` and inner `.`; starts with a letter or `_`.
    Word,
    /// A name in backticks.
    Name,
    /// A string in double quotes.
    Str,
    /// A number; `float` if it has a point or an exponent, `digits` bytes without its type suffix.
    Number {
        /// Has it a point or an exponent?
        float: bool,
        /// Bytes of the number without its suffix.
        digits: usize,
    },
    /// A sign.
    Sign(&'static str),
    /// No token.
    Bad(&'static str),
    /// The end of the text.
    End,
}

/// A token of a text.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: Kind,
    /// Where it stands.
    pub(crate) span: Range<usize>,
    /// Is it the first of its line?
    pub(crate) first: bool,
}

/// Longer ones first.
const SIGNS: [&str; 29] = [
    "->", "..", "//", "**", "<=", ">=", "==", "!=", "&&", "||", "(", ")", "[", "]", "{", "}", ",", ":", "=",
    "<", ">", "+", "-", "*", "/", "%", "@", ".", "?",
];

/// Every token of `text`, the last one being [`Kind::End`].
pub(crate) fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let bytes = text.as_bytes();
    let (mut at, mut first) = (0, true);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'\n' => {
                first = true;
                at += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                at += 1;
                continue;
            }
            b';' => {
                at += text[at..].find('\n').unwrap_or(text.len() - at);
                continue;
            }
            _ => {}
        }
        let (kind, len) = token(&text[at..]);
        at += len;
        tokens.push(Token { kind, span: start..at, first });
        first = false;
    }
    tokens.push(Token { kind: Kind::End, span: text.len()..text.len(), first: true });
    tokens
}

/// The token at the start of `rest`, which is not empty, and its length.
fn token(rest: &str) -> (Kind, usize) {
    let bytes = rest.as_bytes();
    match bytes[0] {
        b'"' => quoted(rest, '"', Kind::Str),
        b'`' => quoted(rest, '`', Kind::Name),
        b'0'..=b'9' => number(bytes),
        b if b.is_ascii_alphabetic() || b == b'_' => (Kind::Word, word(bytes)),
        _ => match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            Some(sign) => (Kind::Sign(sign), sign.len()),
            None => {
                let len = rest.chars().next().map_or(1, char::len_utf8);
                (Kind::Bad("a character that means nothing here"), len)
            }
        },
    }
}

fn is_part(byte: Option<&u8>) -> bool {
    byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

/// The length of the word at the start.
fn word(bytes: &[u8]) -> usize {
    let mut len = 1;
    while is_part(bytes.get(len)) || (bytes.get(len) == Some(&b'.') && is_part(bytes.get(len + 1))) {
        len += 1;
    }
    len
}

fn number(bytes: &[u8]) -> (Kind, usize) {
    let run = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut len = run(0);
    let mut float = false;
    if bytes.get(len) == Some(&b'.') && bytes.get(len + 1).is_some_and(u8::is_ascii_digit) {
        float = true;
        len += 1 + run(len + 1);
    }
    if bytes.get(len) == Some(&b'e') {
        let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        let exponent = bytes.get(len + 1 + sign..).map_or(0, |_| run(len + 1 + sign));
        if exponent > 0 {
            float = true;
            len += 1 + sign + exponent;
        }
    }
    let digits = len;
    while is_part(bytes.get(len)) {
        len += 1;
    }
    (Kind::Number { float, digits }, len)
}

fn quoted(rest: &str, quote: char, kind: Kind) -> (Kind, usize) {
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => return (Kind::Bad("a quotation that does not end on its line"), at),
            '\\' => {
                chars.next();
            }
            c if c == quote => {
                let kind = match unescape(&rest[1..at]) {
                    Some(_) => kind,
                    None => Kind::Bad("an unknown escape; those are \\\\ \\\" \\` \\n \\r \\t \\u{…}"),
                };
                return (kind, at + 1);
            }
            _ => {}
        }
    }
    (Kind::Bad("a quotation that does not end"), rest.len())
}

/// What the inside of a quotation stands for.
pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            c @ ('\\' | '"' | '`') => c,
            'u' => {
                let rest = chars.as_str().strip_prefix('{')?;
                let (code, after) = rest.split_once('}')?;
                chars = after.chars();
                char::from_u32(u32::from_str_radix(code, 16).ok()?)?
            }
            _ => return None,
        });
    }
    Some(out)
}

/// Writes `text` between two `quote`s.
pub(crate) fn quote(f: &mut fmt::Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    f.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            c if c == quote => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char(quote)
}

/// Words that a bare name can't be, because they mean something in an expression or end one.
const RESERVED: [&str; 27] = [
    "true", "false", "inf", "nan", "sum", "prod", "max", "min", "any", "all", "floor", "ceil", "select",
    "fma", "cast", "bitcast", "in", "by", "grain", "at", "as", "from", "graph", "bytes", "stages", "loops",
    "named",
];

/// Is `text` one word?
fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_') && word(bytes) == bytes.len()
}

/// Writes a size or an axis: a word, or anything else in backticks.
pub(crate) fn symbol(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if is_word(name) && !RESERVED.contains(&name) { f.write_str(name) } else { quote(f, name, '`') }
}

/// A name behind its sigil, `%x` or `@"a/b"`.
pub(crate) struct Sigil<'a>(pub(crate) char, pub(crate) &'a str);

impl fmt::Display for Sigil<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char(self.0)?;
        if is_word(self.1) { f.write_str(self.1) } else { quote(f, self.1, '"') }
    }
}

/// A string in double quotes.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quote(f, self.0, '"')
    }
}

/// A size or an axis; see [`symbol`].
pub(crate) struct Bare<'a>(pub(crate) &'a str);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        symbol(f, self.0)
    }
}
