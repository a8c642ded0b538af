//! What can be wrong with a text, and where.

use std::fmt;
use std::ops::Range;

use crate::dtype::DType;
use crate::op::OpError;
use crate::weight::{Hash, WrongSize};

/// A problem in a text, with the bytes that it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct ParseError {
    /// The bytes of the text that the problem is about; empty at the end of the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The grammar wants something else here.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What could stand here.
        expected: &'static str,
        /// What stands here.
        found: String,
    },
    /// Something that is no part of any text form.
    #[error("{why}")]
    Token {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Parentheses, blocks or lists inside each other beyond any sense.
    #[error("nested more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A number that its type does not hold.
    #[error("`{text}` is no {dtype}")]
    Number {
        /// The number.
        text: String,
        /// The type.
        dtype: DType,
    },
    /// A name that nothing defines before this place.
    #[error("`{name}` is not defined here")]
    Undefined {
        /// The name, with its sigil.
        name: String,
    },
    /// A name that is defined already.
    #[error("`{name}` is defined twice")]
    Redefined {
        /// The name, with its sigil.
        name: String,
    },
    /// An op that there is not.
    #[error("there is no op `{name}`")]
    UnknownOp {
        /// The name.
        name: String,
    },
    /// An op refuses its operands or attributes.
    #[error("`{op}`: {error}")]
    Op {
        /// The op.
        op: &'static str,
        /// Why.
        error: OpError,
    },
    /// Two things that come in pairs do not.
    #[error("{left} {what} but {right} {of}")]
    Count {
        /// What the first number counts.
        what: &'static str,
        /// The first number.
        left: usize,
        /// What the second number counts.
        of: &'static str,
        /// The second number.
        right: usize,
    },
    /// A stated type is another than the type of what it is stated of.
    #[error("stated as {stated}, but it is {found}")]
    Stated {
        /// What the text says.
        stated: String,
        /// What it is.
        found: String,
    },
    /// A function of elements of types that it is not defined for.
    #[error("`{function}` is not defined for {types}")]
    Types {
        /// The function.
        function: &'static str,
        /// The types of its operands.
        types: String,
    },
    /// A weight whose contents are nowhere to be found.
    #[error("no stored weight has the hash {hash}")]
    NoWeight {
        /// Its hash.
        hash: Hash,
    },
    /// A stored weight whose contents have another hash.
    #[error("the stored weight {stated} has the contents of {found}")]
    Corrupt {
        /// The hash that the text states.
        stated: Hash,
        /// The hash of what is stored.
        found: Hash,
    },
    /// A stored weight of another size.
    #[error(transparent)]
    Size(#[from] WrongSize),
    /// A weight that is too large to write out, or sizes that are no numbers.
    #[error("{why}")]
    Weight {
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Problem {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Problem::Unexpected { .. } | Problem::Token { .. } | Problem::TooDeep { .. } => {
                "egraft::text::syntax"
            }
            Problem::Number { .. } => "egraft::text::number",
            Problem::Undefined { .. } | Problem::Redefined { .. } => "egraft::text::name",
            Problem::UnknownOp { .. } => "egraft::text::op",
            Problem::Op { error, .. } => error.code(),
            Problem::Count { .. } => "egraft::text::count",
            Problem::Stated { .. } | Problem::Types { .. } => "egraft::text::type",
            Problem::NoWeight { .. }
            | Problem::Corrupt { .. }
            | Problem::Size(_)
            | Problem::Weight { .. } => "egraft::text::weight",
        }
    }

    /// The way out, where one is known.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Problem::Undefined { .. } => {
                Some("values are defined before they are used; a cycle can't be written")
            }
            Problem::NoWeight { .. } => Some("large weights lie in `weights.bin` beside the text"),
            Problem::Corrupt { .. } => {
                Some("the file with the weights was changed or cut; write the dump again")
            }
            Problem::Types { .. } => Some(
                "numbers with a point are f32, those without are i64; `1.0f64` and `1i32` state another type",
            ),
            Problem::UnknownOp { .. } => Some("`egraft ops` lists the ops"),
            Problem::TooDeep { .. } => Some("give parts of the expression names with `let`"),
            _ => None,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.span.start, self.problem)
    }
}

impl std::error::Error for ParseError {}
