//! Steps: what an entry does, in order. Calls of kernels, decisions about sizes, room, control flow.
//!
//! Every size in a step is evaluated when the step's turn comes, with the values that symbols have then.
//! Steps are numbered, in messages, in the order in which they are written, nested ones included.

use super::Arg;
use crate::size::Size;

/// Steps may nest this deep.
pub const MAX_NESTING: u32 = 64;

/// A step of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Calls a kernel.
    Call(Call),
    /// The symbol becomes the `i64` at `source`. An error if it is negative or above `bound`.
    Measure {
        /// The symbol that gets the value.
        symbol: u32,
        /// Where the value is.
        source: Arg,
        /// The largest value that makes sense.
        bound: Option<Size>,
        /// What is measured, for people: "the size `nonzero_1` of node `/NonZero`".
        what: String,
    },
    /// All symbols become these sizes, which are evaluated with the old values first. An error if one
    /// is negative.
    Set(Vec<(u32, Size)>),
    /// An error unless the relation holds.
    Require {
        /// What is compared.
        left: Size,
        /// How.
        relation: Relation,
        /// With what.
        right: Size,
        /// What is required, for people: "the inner sizes of node `/MatMul`".
        what: String,
    },
    /// Makes room for a buffer in [`super::Space::Grow`], or for an output whose sizes are decided while
    /// the model runs; what it held is lost.
    Reserve(Arg),
    /// Copies bytes to the start of a buffer, or to an element of a stack of equal elements. A growing
    /// `to` makes room first: without `at`, what it held is lost; with `at`, it is kept.
    Copy {
        /// Read from its start.
        from: Arg,
        /// A buffer or an output. Not in the growing memory of `from`.
        to: Arg,
        /// How many bytes.
        bytes: Size,
        /// The number of the element: the copy starts at byte `at * bytes` of `to`.
        at: Option<Size>,
    },
    /// One of two lists of steps.
    If {
        /// Leads to a bool, which is one byte.
        cond: Arg,
        /// Runs if it holds.
        then: Vec<Step>,
        /// Runs if not.
        otherwise: Vec<Step>,
    },
    /// Runs `body` with `index` = 0, 1, … below `count` and while the bool at `cond` holds. Symbols
    /// other than `index` keep what the body gives them.
    Loop {
        /// The symbol that is the number of the iteration.
        index: u32,
        /// How many iterations at most; evaluated once, before the first. None if it is negative.
        count: Size,
        /// Leads to a bool that is looked at before each iteration.
        cond: Option<Arg>,
        /// The symbol that becomes the number of iterations, after the last.
        trips: Option<u32>,
        /// What is repeated.
        body: Vec<Step>,
    },
}

/// A call of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which kernel.
    pub kernel: u32,
    /// The buffers it is given.
    pub args: Vec<Arg>,
    /// The sizes it is given.
    pub sizes: Vec<Size>,
}

/// How two sizes must compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `left = right`.
    Equal,
    /// `left <= right`.
    AtMost,
}

impl Step {
    /// Calls `each` with the step and all that is nested in it, in the order in which they are written.
    /// The nesting must be in bounds.
    pub(crate) fn each<'a>(&'a self, each: &mut dyn FnMut(&'a Step)) {
        each(self);
        let (first, second) = match self {
            Step::If { then, otherwise, .. } => (then.as_slice(), otherwise.as_slice()),
            Step::Loop { body, .. } => (body.as_slice(), [].as_slice()),
            _ => return,
        };
        first.iter().chain(second).for_each(|step| step.each(each));
    }

    /// Calls `each` with the symbols that the step itself decides.
    pub(crate) fn decides(&self, each: &mut dyn FnMut(u32)) {
        match self {
            Step::Measure { symbol, .. } => each(*symbol),
            Step::Set(values) => values.iter().for_each(|(symbol, _)| each(*symbol)),
            Step::Loop { index, trips, .. } => {
                each(*index);
                trips.iter().for_each(|trips| each(*trips));
            }
            _ => {}
        }
    }
}
