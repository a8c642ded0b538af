//! The verbs: what turns a graph into a better one, and into a program.
//!
//! One pass is one file. [`pipeline`] is the compiler, read from top to bottom: a list of steps as data, run by
//! one function that tells an observer what happened after each.
//!
//! No pass reads a clock, an environment variable or a file, and none prints: equal input gives equal output.

pub mod check;
pub mod cost;
pub mod edit;
pub mod egraph;
pub mod error;
pub mod explain;
pub mod graph;
pub mod kernel;
pub mod lint;
pub mod lower;
pub mod pass;
pub mod pipeline;
pub mod state;
pub mod target;

pub use error::PassError;
pub use pass::{About, Changed, Cx, FpMode, GraphPass, LowerPass, ProgramPass};
pub use target::Target;
