//! What can be wrong with a call: with its tensors, with sizes that it decides, with the plan it follows.

use super::SizeError;
use crate::{device::DeviceError, memory::OutOfMemory, plan::DType};

/// Why a session cannot be made, bound or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is no such entry.
    #[error("the model has {count} entries, there is no entry {index}")]
    Entry {
        /// The number asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Too many or too few tensors.
    #[error("{expected} {what} expected, {found} given")]
    Count {
        /// `inputs` or `outputs`.
        what: &'static str,
        /// How many the entry has.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// No input has this name.
    #[error("there is no input `{name}`; the inputs are {known}")]
    UnknownInput {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// An input was given twice.
    #[error("input `{name}` is given twice")]
    DuplicateInput {
        /// The input.
        name: String,
    },
    /// An input or output was not given.
    #[error("{what} `{name}` is not given")]
    Missing {
        /// `input` or `output`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// An input of another type.
    #[error("input `{input}`: elements are {found}, expected {expected}")]
    DType {
        /// The input.
        input: String,
        /// The type the model takes.
        expected: DType,
        /// The type given.
        found: DType,
    },
    /// An input with another number of axes.
    #[error("input `{input}`: rank {found}, expected {expected}")]
    Rank {
        /// The input.
        input: String,
        /// The rank the model takes.
        expected: usize,
        /// The rank given.
        found: usize,
    },
    /// An input whose size is not the one the model, or another input, asks for.
    #[error("input `{input}`: axis {axis} is {found}, expected {expected}")]
    Dim {
        /// The input.
        input: String,
        /// The axis.
        axis: usize,
        /// The expected size: expression, value, and which axes set its symbols.
        expected: String,
        /// The size given.
        found: i64,
    },
    /// A size from which its symbol cannot be computed.
    #[error("input `{input}`: axis {axis} is {found}, expected {form} for some {symbol} >= 0")]
    Unbindable {
        /// The input.
        input: String,
        /// The axis.
        axis: usize,
        /// The size given.
        found: i64,
        /// The form it must have, such as `2*n + 1`.
        form: String,
        /// The symbol.
        symbol: String,
    },
    /// A size below zero.
    #[error("{what}: the size `{expr}` is {value}; it must not be negative")]
    Negative {
        /// Whose size.
        what: String,
        /// The expression.
        expr: String,
        /// Its value.
        value: i64,
    },
    /// A tensor too large to address.
    #[error("{what} is too large: its bytes do not fit a 63-bit number")]
    TooLarge {
        /// Whose size.
        what: String,
    },
    /// A size that has no value.
    #[error("{what}: {error}")]
    Size {
        /// Whose size.
        what: String,
        /// Why.
        error: SizeError,
    },
    /// A size that a run measured makes no sense.
    #[error("{what} is {value}; it must {limit}")]
    Measured {
        /// What was measured.
        what: String,
        /// The value found.
        value: i64,
        /// What it must be: not negative, or within its bound.
        limit: String,
    },
    /// Sizes that must agree, and are known only while the model runs, do not.
    #[error("{what}: {why}")]
    Requirement {
        /// What is required.
        what: String,
        /// Both sizes, their values, and where each symbol comes from.
        why: String,
    },
    /// There is not enough memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The device that the model runs on did not do something.
    #[error("the device failed at {0}")]
    Device(#[from] DeviceError),
    /// A kernel wrote beside its arrays, on a device with guards. A compiler's mistake.
    #[error(
        "{kernel} wrote {bytes} bytes beside its arrays, from {from} bytes {side} {memory} on, which has {len}; \
         this is a bug in the compiler that made the model"
    )]
    Trespass {
        /// The kernel, and its step.
        kernel: String,
        /// How many bytes of a guard have changed.
        bytes: usize,
        /// How far from the memory the first of them lies.
        from: usize,
        /// `before` or `behind`.
        side: &'static str,
        /// Whose memory the guard belongs to.
        memory: String,
        /// How many bytes that has.
        len: usize,
    },
    /// The plan uses more of a memory than there is. A compiler's mistake, found before it does harm.
    #[error(
        "{what}: {needed} bytes are used, there is room for {room}; this is a bug in the compiler that made the model"
    )]
    Room {
        /// The buffer or the tensor.
        what: String,
        /// Bytes that a step uses.
        needed: i64,
        /// Bytes there are.
        room: usize,
    },
    /// The plan places a buffer where it cannot be. A compiler's mistake, found before it does harm.
    #[error("buffer {buffer}: {why}; this is a bug in the compiler that made the model")]
    Layout {
        /// The buffer's number.
        buffer: usize,
        /// What is wrong with its place.
        why: String,
    },
    /// The state has sizes of its own.
    #[error("these inputs give the state kept between calls other sizes than it has; reset the state first")]
    State,
    /// `run` or `output_shape` before `bind`.
    #[error("the session is not bound: the sizes of its inputs are not known yet")]
    Unbound,
    /// An output whose sizes are decided while the model runs, before it has run.
    #[error("output `{name}`: its sizes are decided while the model runs, and it has not run")]
    NotRun {
        /// The output.
        name: String,
    },
    /// Memory was given for an output that the session has memory for.
    #[error(
        "output `{name}`: its sizes are decided while the model runs, so the session provides its memory; \
         give none, and ask for its data after the run"
    )]
    DynamicOutput {
        /// The output.
        name: String,
    },
    /// The data of an output was asked for that is written to the caller's memory.
    #[error("output `{name}` is in the memory that was given for it: the session has no copy")]
    FixedOutput {
        /// The output.
        name: String,
    },
    /// A buffer with too few or too many bytes.
    #[error("{what} `{name}`: {found} bytes given, {expected} expected")]
    Bytes {
        /// `input` or `output`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A null pointer for a tensor that has elements.
    #[error("{what} `{name}`: the pointer is null")]
    Null {
        /// `input` or `output`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A pointer that is not aligned to its element.
    #[error("{what} `{name}`: the pointer is not aligned to {align} bytes")]
    Misaligned {
        /// `input` or `output`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The alignment.
        align: usize,
    },
}

impl RunError {
    /// A stable name, for programs and for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            RunError::Entry { .. } => "egraft::runtime::no_entry",
            RunError::Count { .. } => "egraft::runtime::count",
            RunError::UnknownInput { .. } => "egraft::runtime::unknown_input",
            RunError::DuplicateInput { .. } => "egraft::runtime::duplicate_input",
            RunError::Missing { .. } => "egraft::runtime::missing",
            RunError::DType { .. } => "egraft::runtime::dtype",
            RunError::Rank { .. } => "egraft::runtime::rank",
            RunError::Dim { .. } => "egraft::runtime::dim",
            RunError::Unbindable { .. } => "egraft::runtime::unbindable",
            RunError::Negative { .. } => "egraft::runtime::negative_size",
            RunError::TooLarge { .. } => "egraft::runtime::too_large",
            RunError::Size { .. } => "egraft::runtime::size",
            RunError::Measured { .. } => "egraft::runtime::measured",
            RunError::Requirement { .. } => "egraft::runtime::requirement",
            RunError::Memory(_) => "egraft::runtime::out_of_memory",
            RunError::Device(_) => "egraft::runtime::device",
            RunError::Trespass { .. } => "egraft::runtime::trespass",
            RunError::Room { .. } => "egraft::runtime::room",
            RunError::Layout { .. } => "egraft::runtime::layout",
            RunError::State => "egraft::runtime::state",
            RunError::Unbound => "egraft::runtime::unbound",
            RunError::NotRun { .. } => "egraft::runtime::not_run",
            RunError::DynamicOutput { .. } => "egraft::runtime::dynamic_output",
            RunError::FixedOutput { .. } => "egraft::runtime::fixed_output",
            RunError::Bytes { .. } => "egraft::runtime::bytes",
            RunError::Null { .. } => "egraft::runtime::null",
            RunError::Misaligned { .. } => "egraft::runtime::misaligned",
        }
    }
}
