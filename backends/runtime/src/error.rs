//! What can be wrong: with a plan, with an artifact, with a call. Every error has a stable code
//! (`egraft::runtime::…`) and a message that says what, where, and what to do where that is not plain.
//!
//! Deliberately absent: source spans and terminal colours; the command line adds them.

use crate::memory::OutOfMemory;

mod gpu;
mod run;

pub use gpu::GpuError;
pub use run::RunError;

/// Why a size has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// The value does not fit an `i64`.
    #[error("the size `{expr}` is too large")]
    Overflow {
        /// The expression.
        expr: String,
    },
    /// A divisor is 0.
    #[error("the size `{expr}` divides by zero")]
    DivideByZero {
        /// The expression.
        expr: String,
    },
    /// The expression names a symbol that its entry does not have.
    #[error("a size uses symbol number {symbol}, which does not exist")]
    Unknown {
        /// The symbol's number.
        symbol: u32,
    },
}

/// Why bytes are no plan, or a plan is not consistent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The bytes end within a value.
    #[error("the plan ends at byte {at}, within {what}")]
    Truncated {
        /// Where they end.
        at: usize,
        /// What was being read.
        what: &'static str,
    },
    /// Bytes are left after the plan.
    #[error("{count} bytes follow the plan")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A value that has no meaning.
    #[error("byte {at} of the plan: {value} is no {what}")]
    Value {
        /// Where it stands.
        at: usize,
        /// What was expected.
        what: &'static str,
        /// The value found.
        value: u64,
    },
    /// A string that is not UTF-8.
    #[error("byte {at} of the plan: a name is not UTF-8")]
    Utf8 {
        /// Where the string starts.
        at: usize,
    },
    /// A size that nests deeper than [`crate::size::MAX_DEPTH`].
    #[error("a size nests deeper than {limit}")]
    Depth {
        /// The limit.
        limit: u32,
    },
    /// Steps that nest deeper than [`crate::plan::MAX_NESTING`].
    #[error("steps nest deeper than {limit}")]
    Nesting {
        /// The limit.
        limit: u32,
    },
    /// Parts of the plan contradict each other.
    #[error("{place}: {why}")]
    Inconsistent {
        /// Where: an entry, a step, a port.
        place: String,
        /// What is wrong there.
        why: String,
    },
}

/// Why a model cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no GPU for a model that is to run on one.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The device that a model is to run on does not take it.
    #[error("the device does not take the model: {why}")]
    Device {
        /// What it says.
        why: String,
    },
    /// A file cannot be read.
    #[error("cannot read `{path}`: {why}")]
    Io {
        /// The file.
        path: String,
        /// The system's words.
        why: String,
    },
    /// There is no model in the file.
    #[error(
        "`{what}` carries no model: was it stripped? `strip` drops the model that egraft appends to a \
         program; compile it again and leave it as it is"
    )]
    Stripped {
        /// The file.
        what: String,
    },
    /// The end is missing.
    #[error("the model is truncated: {expected} bytes were written, {found} are there; copy it again")]
    Truncated {
        /// Bytes that the header announces, or that a header needs.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A part does not have the hash, or the form, that was recorded.
    #[error("the model is corrupted: {section} does not match what was written; copy or compile it again")]
    Corrupted {
        /// The part.
        section: &'static str,
    },
    /// A container of another layout.
    #[error(
        "the model has format version {found}, this runtime reads version {expected}; compile it again \
         with this version of egraft"
    )]
    Format {
        /// The model's version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// Kernels that expect another runtime.
    #[error(
        "the model's kernels need runtime ABI version {found}, this runtime has version {expected}; \
         compile it again with this version of egraft"
    )]
    Abi {
        /// The model's version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// Code for another machine.
    #[error("the model was compiled for {found}, this machine is {host}; compile it for this machine")]
    Architecture {
        /// The model's architecture.
        found: String,
        /// This machine's.
        host: &'static str,
    },
    /// The processor lacks instructions that the code uses.
    #[error("this processor lacks {}, which the model was compiled for; compile it with an `--mcpu` that this processor has", missing.join(", "))]
    Features {
        /// The names of the features.
        missing: Vec<String>,
    },
    /// The system refuses executable pages.
    #[error(
        "the system denies executable memory: {why}; allow it for this program (a mount without `noexec`, \
         a policy that permits mapped code)"
    )]
    ExecutableDenied {
        /// The system's words.
        why: String,
    },
    /// The program cannot find its own file.
    #[error(
        "cannot find this program's own file: {why}; on Linux it is read through /proc, which must be mounted"
    )]
    OwnExecutable {
        /// The system's words.
        why: String,
    },
    /// The weights file is not where it should be.
    #[error("the weights file `{path}` is missing: {why}; it must lie beside the model under this name")]
    SidecarMissing {
        /// Where it was looked for.
        path: String,
        /// The system's words.
        why: String,
    },
    /// The weights file is not the one this model was compiled with.
    #[error("the weights file `{path}` does not belong to this model: {why}")]
    SidecarWrong {
        /// The file.
        path: String,
        /// What differs.
        why: String,
    },
    /// A weight does not have the bytes that were recorded.
    #[error("the weight `{name}` does not have the recorded hash; copy or compile the weights again")]
    Weight {
        /// The weight.
        name: String,
    },
    /// The code is not where it was said to be.
    #[error("{why}")]
    Code {
        /// What is wrong.
        why: &'static str,
    },
    /// A buffer of the caller's is not aligned.
    #[error("{what} must be aligned to {align} bytes")]
    Misaligned {
        /// The buffer.
        what: &'static str,
        /// The alignment.
        align: usize,
    },
    /// The plan makes no sense. The artifact's hashes match, so the compiler wrote it this way.
    #[error("the model's plan is broken: {0}")]
    Plan(#[from] PlanError),
    /// There is not enough memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

impl LoadError {
    /// A stable name, for programs and for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            LoadError::Io { .. } => "egraft::runtime::io",
            LoadError::Stripped { .. } => "egraft::runtime::stripped",
            LoadError::Truncated { .. } => "egraft::runtime::truncated",
            LoadError::Corrupted { .. } => "egraft::runtime::corrupted",
            LoadError::Format { .. } => "egraft::runtime::format_version",
            LoadError::Abi { .. } => "egraft::runtime::abi_version",
            LoadError::Architecture { .. } => "egraft::runtime::architecture",
            LoadError::Features { .. } => "egraft::runtime::cpu_features",
            LoadError::ExecutableDenied { .. } => "egraft::runtime::executable_denied",
            LoadError::OwnExecutable { .. } => "egraft::runtime::own_executable",
            LoadError::SidecarMissing { .. } => "egraft::runtime::sidecar_missing",
            LoadError::SidecarWrong { .. } => "egraft::runtime::sidecar_wrong",
            LoadError::Weight { .. } => "egraft::runtime::weight_hash",
            LoadError::Code { .. } => "egraft::runtime::code",
            LoadError::Device { .. } => "egraft::runtime::device",
            LoadError::Gpu(error) => error.code(),
            LoadError::Misaligned { .. } => "egraft::runtime::misaligned",
            LoadError::Plan(_) => "egraft::runtime::plan",
            LoadError::Memory(_) => "egraft::runtime::out_of_memory",
        }
    }

    /// The way out, where the message does not say it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            LoadError::Gpu(error) => Some(error.help()),
            _ => None,
        }
    }
}
