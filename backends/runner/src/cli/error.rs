//! What can go wrong between a command line and a result, with a code and the way out for each.

use std::io;

use runtime::{DType, RunError};

use super::args::UsageError;
use super::{BAD_INPUT, BUG};
use crate::files::FileError;
use crate::narrow;

/// Why a command line was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// The options make no sense.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// A file of tensors can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model refuses the inputs.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Standard output can't be written to.
    #[error("standard output cannot be written: {0}")]
    Stdout(#[from] io::Error),
    /// There is nothing to run.
    #[error("the model has no entry that could be run")]
    NoEntries,
    /// The model has no entry of this name.
    #[error("there is no entry `{name}`; the entries are {known}")]
    Entry {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The model has no input of this name.
    #[error("there is no input `{name}`; the inputs are {known}")]
    Input {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The model has no state of this name.
    #[error("there is no state `{name}`; the states are {known}")]
    State {
        /// The name in the file.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A state of another type or other sizes than it has with these inputs.
    #[error("state `{name}` is {found}, expected {expected}")]
    StateShape {
        /// The state.
        name: String,
        /// Type and sizes that it has.
        expected: String,
        /// Those that are given.
        found: String,
    },
    /// An input is given more than once.
    #[error("input `{name}` is given twice")]
    InputTwice {
        /// The input.
        name: String,
    },
    /// Files without an option don't fit the inputs that are left for them.
    #[error("{files} files are given for {inputs} inputs")]
    Files {
        /// Number of files.
        files: usize,
        /// Number of inputs that no option gives.
        inputs: usize,
    },
    /// A file holds a byte that is no element of the input's type.
    #[error("element {index} of input `{name}` is the byte {byte}, which is no {dtype}")]
    Element {
        /// The input.
        name: String,
        /// Position in the data.
        index: usize,
        /// The byte found there.
        byte: u8,
        /// The input's dtype.
        dtype: DType,
    },
    /// Something that takes one run is asked of several.
    #[error("the files make {runs} runs, but `{what}` takes one")]
    SeveralRuns {
        /// The option.
        what: &'static str,
        /// Number of runs.
        runs: usize,
    },
    /// The model has no symbolic dim of this name.
    #[error("there is no symbolic dim `{name}`; {}", symbols(known))]
    Dim {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// `--dim` contradicts an input.
    #[error("`--dim {name}={given}` contradicts the inputs, by which `{name}` is {found}")]
    DimConflict {
        /// The symbol.
        name: String,
        /// Its value by the option.
        given: i64,
        /// Its value by the inputs.
        found: i64,
    },
    /// An input that is not given would have a size that no tensor has.
    #[error("input `{name}` is not given, and its axis {axis} would be `{expr}`: {why}")]
    RandomDim {
        /// The input.
        name: String,
        /// The axis.
        axis: usize,
        /// The axis' size.
        expr: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no memory for an input that is not given.
    #[error("input `{name}` is not given, and there is not enough memory for random values {dtype}{dims:?}")]
    RandomTooLarge {
        /// The input.
        name: String,
        /// Its dtype.
        dtype: &'static str,
        /// Its dims.
        dims: Vec<usize>,
    },
}

fn symbols(known: &str) -> String {
    if known.is_empty() { "all dims are fixed".to_owned() } else { format!("the symbolic dims are {known}") }
}

/// What a byte in a file says of an element of a narrow type.
fn meaning(dtype: DType) -> &'static str {
    if narrow::decode(dtype, 0).is_some() { "the bits of one in each byte" } else { "a byte for each" }
}

/// Names between back quotes.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl CliError {
    /// The stable code of a diagnostic.
    pub fn code(&self) -> &'static str {
        match self {
            CliError::Usage(_) | CliError::SeveralRuns { .. } => "egraft::runner::usage",
            CliError::File(error) => error.code(),
            CliError::Run(error) => error.code(),
            CliError::Stdout(_) => "egraft::runner::stdout",
            CliError::NoEntries => "egraft::runner::no_entries",
            CliError::Entry { .. } => "egraft::runner::unknown_entry",
            CliError::Input { .. } => "egraft::runner::unknown_input",
            CliError::State { .. } | CliError::StateShape { .. } => "egraft::runner::state",
            CliError::InputTwice { .. } => "egraft::runner::duplicate_input",
            CliError::Files { .. } => "egraft::runner::files",
            CliError::Element { .. } => "egraft::runner::element",
            CliError::Dim { .. } => "egraft::runner::unknown_dim",
            CliError::DimConflict { .. } => "egraft::runner::dim_conflict",
            CliError::RandomDim { .. } | CliError::RandomTooLarge { .. } => "egraft::runner::random_input",
        }
    }

    /// The way out; empty where the message has it all.
    pub fn help(&self) -> String {
        match self {
            CliError::Usage(error) => error.help(),
            CliError::File(error) => error.help(),
            CliError::Run(RunError::DType { expected, .. }) => match narrow::stand_in(*expected) {
                Some(stored) => {
                    format!("write the elements of {expected} as {stored}: {}", meaning(*expected))
                }
                None => format!("nothing is cast silently; write the file with dtype {expected}"),
            },
            CliError::Run(RunError::Rank { .. } | RunError::Dim { .. } | RunError::Unbindable { .. }) => {
                "`--inspect` shows the shapes of all inputs".to_owned()
            }
            CliError::Run(RunError::Memory(_) | RunError::TooLarge { .. }) => {
                "give smaller inputs".to_owned()
            }
            CliError::Run(RunError::Measured { .. } | RunError::Requirement { .. }) => {
                "the values of the inputs decide sizes; give others".to_owned()
            }
            CliError::Run(RunError::Device(_)) => {
                "`nvidia-smi` shows whether the GPU works and has memory; smaller inputs need less of it"
                    .to_owned()
            }
            CliError::Run(_) if self.exit_code() == BUG => {
                "this is a bug; please report it with the model".to_owned()
            }
            CliError::Run(_) => "`--inspect` shows all inputs".to_owned(),
            CliError::Stdout(_) => "use `--outputs` to write a file".to_owned(),
            CliError::NoEntries => "compile the model again".to_owned(),
            CliError::Entry { .. } => "`--inspect` shows all entries".to_owned(),
            CliError::Input { .. } => "`--inspect` shows the inputs of all entries".to_owned(),
            CliError::State { .. } | CliError::StateShape { .. } => {
                "give a file that `--save-state` wrote for this model; `--inspect` shows the states"
                    .to_owned()
            }
            CliError::InputTwice { .. } => "leave out one of the two".to_owned(),
            CliError::Files { inputs: 0, .. } => "leave them out".to_owned(),
            CliError::Files { .. } => {
                "give at most one file per input, or a multiple of that for several runs".to_owned()
            }
            CliError::Element { dtype, .. } => {
                let (least, most) = narrow::range(*dtype).unwrap_or((0, i8::MAX));
                format!("bytes of {least} to {most} stand for it: {}", meaning(*dtype))
            }
            CliError::SeveralRuns { .. } => "give one file per input".to_owned(),
            CliError::Dim { .. } => "`--inspect` shows the shapes of all inputs".to_owned(),
            CliError::DimConflict { .. } => "leave out the option".to_owned(),
            CliError::RandomDim { .. } | CliError::RandomTooLarge { .. } => {
                "give the input, or choose the sizes with `--dim`".to_owned()
            }
        }
    }

    /// 2 where the user can mend it, 70 where only we can.
    pub fn exit_code(&self) -> i32 {
        match self {
            CliError::Run(
                RunError::Layout { .. }
                | RunError::Room { .. }
                | RunError::DynamicOutput { .. }
                | RunError::FixedOutput { .. }
                | RunError::NotRun { .. }
                | RunError::Unbound
                | RunError::Bytes { .. }
                | RunError::Null { .. }
                | RunError::Misaligned { .. },
            ) => BUG,
            _ => BAD_INPUT,
        }
    }
}
