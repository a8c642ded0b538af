//! Text forms of the nouns: one printer and one parser each, generic over ops.
//!
//! Promises
//! - printing is total and canonical: whatever can be built prints, and equal things print equally;
//! - `parse(print(x)) == x` for everything valid;
//! - parsers never panic, report every error that they can find, and point each at a range of bytes.
//!
//! Conventions that all forms share: `%name` is a value (an array or a bound scalar), `@name` is something of the
//! whole file (a weight, a kernel, a graph), a bare name is a size or a loop axis. Names that are no words are
//! quoted: `%"a/b"`, `@"fc/w"`, and in size expressions `` `batch-size` ``. `;` starts a comment.
//!
//! Deliberately absent: layout that depends on anything but the thing itself (no alignment of columns, no line
//! width).

mod cursor;
pub mod dim;
pub mod error;
pub(crate) mod lex;
mod parse_expr;
pub mod parse_graph;
pub mod parse_kernel;
pub mod parse_program;
pub(crate) mod parse_region;
pub(crate) mod print_graph;
pub(crate) mod print_kernel;
mod print_program;
pub mod weights;

pub use error::{ParseError, Problem};
pub use parse_graph::parse_graph;
pub use parse_kernel::{parse_expr, parse_kernel, parse_kernels};
pub use parse_program::parse_program;
pub use weights::{NoWeights, WeightFile, WeightSource, is_stored, write_weights};
