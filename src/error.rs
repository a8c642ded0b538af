//! Why a model is not compiled: everything that can go wrong between a file and an artifact.
//!
//! What is wrong is said by the crate that knows; this one adds files and options. Several problems are kept as
//! several. How they are shown is the command line's.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use cranelift::EmitError;
use ir::{At, Dim, Graph, Symbol};
use passes::PassError;
use runtime::{LoadError, RunError};

/// Something wrong in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextProblem {
    /// Which bytes, if it is about some.
    pub at: Option<Range<usize>>,
    /// A stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The way out, where one is known.
    pub help: Option<&'static str>,
}

/// What sort of failure it is: decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input, an option or the system does not allow it.
    Input,
    /// The model is legal, and parts of it are not supported.
    Unsupported,
    /// It is our fault.
    Bug,
}

/// Why a model is not compiled, written or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file can't be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A text form that is no text.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The name of a model ends in nothing that we read.
    #[error("{} is no model by its name", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// An ONNX model, but this build can't read any.
    #[error("{} is an ONNX model, and this egraft was built without the feature `onnx`", path.display())]
    WithoutOnnx {
        /// The file.
        path: PathBuf,
    },
    /// An option about sequences and optionals, and another model than an ONNX one.
    #[error("`{option}` is about ONNX models, and this model is none")]
    OnnxOnly {
        /// The option.
        option: &'static str,
    },
    /// A built-in model that does not exist.
    #[error("there is no built-in model `{name}`")]
    ZooModel {
        /// What was asked for.
        name: String,
    },
    /// A built-in model that is not built with these settings.
    #[error(transparent)]
    Zoo(#[from] zoo::ZooError),
    /// A file of tensors that cannot be used.
    #[error(transparent)]
    File(#[from] runner::files::FileError),
    /// What an ONNX model says wrong, or uses beyond what we have.
    #[cfg(feature = "onnx")]
    #[error("{}: {failure}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// All problems.
        failure: Box<onnx::ImportFailure>,
    },
    /// A graph that has a part which ONNX cannot say.
    #[cfg(feature = "onnx")]
    #[error("{} cannot be written: {at}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// The node, and why not.
        at: Box<At<onnx::ExportProblem>>,
    },
    /// A program, which is to be written as an ONNX model.
    #[error("{} is to be an ONNX model, which is a graph, and this is a program already", path.display())]
    NoGraph {
        /// The file.
        path: PathBuf,
    },
    /// A text form that does not parse, or says something that is not valid.
    #[error("{}: {}", path.display(), problems.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("\n"))]
    Text {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
        /// All problems, at least one.
        problems: Vec<TextProblem>,
    },
    /// A file of weights that is not what it should be.
    #[error("{} is no good file of weights: {why}", path.display())]
    WeightsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A size is given for a symbol that no input has.
    #[error("no input has a size called `{name}`; there are: {}", list(known))]
    UnknownDim {
        /// The symbol.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// What is to be kept from run to run is no state.
    #[error(transparent)]
    State(#[from] passes::state::StateError),
    /// No input and output are called as those that are to be kept from run to run.
    #[error("no output is kept by `{keep}`; the outputs are: {}", list(known))]
    NoState {
        /// The names that were given.
        keep: String,
        /// The outputs.
        known: Vec<String>,
    },
    /// What is to be kept from run to run, and a program, in which it is decided already.
    #[error("states are made of a graph, and this is a program")]
    TooLateForStates,
    /// Programs that are no one program.
    #[error(transparent)]
    Link(#[from] passes::lower::LinkError),
    /// A shape is given for an input that the model does not have.
    #[error("there is no input `{name}`; there are: {}", list(known))]
    UnknownInput {
        /// The input.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A shape that the input cannot have.
    #[error("input `{name}` of type {declared} cannot have the shape [{}]: {why}", shape(given))]
    InputShape {
        /// The input.
        name: String,
        /// Its type in the model.
        declared: ir::TensorType,
        /// The shape given.
        given: Vec<Dim>,
        /// Why not.
        why: String,
    },
    /// No such processor.
    #[error("no processor `{name}` is known for {arch}")]
    Mcpu {
        /// What was asked for.
        name: String,
        /// The architecture that code is made for.
        arch: String,
    },
    /// What passes cannot go on with.
    #[error("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Passes {
        /// All problems, at least one.
        errors: Vec<At<PassError>>,
        /// The graph that they are about, if they are about one.
        graph: Option<Box<Graph>>,
    },
    /// A program that was to be compiled, and is still a graph.
    #[error("the passes end in a graph, which cannot be compiled; a program is needed")]
    NotLowered,
    /// What NVRTC does not compile.
    #[error(transparent)]
    Nvrtc(#[from] cuda::NvrtcError),
    /// What the GPU backend cannot emit.
    #[error(transparent)]
    Cuda(#[from] cuda::EmitError),
    /// A folder that is to be replaced and holds other files.
    #[error("{} holds `{file}`, which does not end in .{ending}", folder.display())]
    OtherFiles {
        /// The folder.
        folder: PathBuf,
        /// The file.
        file: String,
        /// How its files are to end.
        ending: String,
    },
    /// A program that was to be compiled, and whose buffers have no places.
    #[error("the buffers of entry `{entry}` have no places; `plan_memory` must run before code is made")]
    Unplanned {
        /// The entry.
        entry: String,
    },
    /// A symbol whose value no shape tells.
    #[error("the size `{symbol}` of entry `{entry}` follows from no input's shape{}", seen_at(seen))]
    Unsolvable {
        /// The entry.
        entry: String,
        /// The symbol.
        symbol: Symbol,
        /// Where it occurs: input, axis, size.
        seen: Vec<(String, usize, Dim)>,
    },
    /// A kernel that machine code is not made for.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// A compiled model that can't be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A compiled model that can't be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file can't be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is too little room for what is to be written.
    #[error("{} cannot be written: it needs {needed} bytes with its weights, and {free} are free", path.display())]
    NoRoom {
        /// The artifact.
        path: PathBuf,
        /// Bytes of all its files.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The folder of a file to be written does not exist.
    #[error("{} cannot be written: there is no folder {}", path.display(), folder.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// Its folder.
        folder: PathBuf,
    },
    /// A folder stands where a file is to be written.
    #[error("{} is a folder, a file is to be written", path.display())]
    IsFolder {
        /// The path.
        path: PathBuf,
    },
    /// What is written would replace what it is made of, or a part of itself.
    #[error("{} is {what}; nothing is written", path.display())]
    SameFile {
        /// The file that was to be written.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A folder for dumps holds something else.
    #[error("{} holds `{file}`, which is no dump; nothing is written there", folder.display())]
    NotADump {
        /// The folder.
        folder: PathBuf,
        /// The first file that is none.
        file: String,
    },
    /// A program of the system that we need is not there.
    #[error("`{program}` cannot be started: {source}")]
    NoTool {
        /// Which.
        program: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A program of the system failed.
    #[error("`{program}` failed ({status}): {}", output.trim())]
    Tool {
        /// Which.
        program: &'static str,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
}

fn list(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        _ => items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", "),
    }
}

fn shape(dims: &[Dim]) -> String {
    dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", ")
}

fn seen_at(seen: &[(String, usize, Dim)]) -> String {
    if seen.is_empty() {
        return String::new();
    }
    let places = seen.iter().map(|(input, axis, dim)| format!("axis {axis} of `{input}` is {dim}"));
    format!(": {}", places.collect::<Vec<_>>().join(", "))
}

impl Error {
    /// A stable code, for `egraft explain`; that of the first problem, if there are several.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Read { .. } => "egraft::cli::read",
            Error::NotText { .. } => "egraft::cli::not_text",
            Error::UnknownFormat { .. } => "egraft::cli::unknown_format",
            Error::WithoutOnnx { .. } => "egraft::cli::without_onnx",
            Error::OnnxOnly { .. } => "egraft::cli::onnx_only",
            Error::ZooModel { .. } => "egraft::cli::zoo_model",
            Error::Zoo(zoo::ZooError::Params { .. }) => "egraft::cli::params",
            Error::Zoo(_) => "egraft::cli::settings",
            Error::File(error) => error.code(),
            #[cfg(feature = "onnx")]
            Error::Import { failure, .. } => {
                failure.problems().first().map_or("egraft::cli::bug", |at| at.error.code())
            }
            #[cfg(feature = "onnx")]
            Error::Export { at, .. } => at.error.code(),
            Error::NoGraph { .. } => "egraft::cli::no_graph",
            Error::Text { problems, .. } => {
                problems.first().map_or("egraft::cli::bug", |problem| problem.code)
            }
            Error::WeightsFile { .. } => "egraft::cli::weights_file",
            Error::UnknownDim { .. } => "egraft::cli::unknown_dim",
            Error::State(error) => error.code(),
            Error::NoState { .. } => "egraft::cli::no_state",
            Error::TooLateForStates => "egraft::cli::too_late_for_states",
            Error::Link(_) => "egraft::passes::link",
            Error::UnknownInput { .. } => "egraft::cli::unknown_input",
            Error::InputShape { .. } => "egraft::cli::input_shape",
            Error::Mcpu { .. } => "egraft::cli::mcpu",
            Error::Passes { errors, .. } => errors.first().map_or("egraft::cli::bug", |at| at.error.code()),
            Error::NotLowered => "egraft::cli::not_lowered",
            Error::Nvrtc(error) => error.code(),
            Error::Cuda(cuda::EmitError::StageForm { .. }) => "egraft::cuda::stage_form",
            Error::Cuda(cuda::EmitError::Unbound { .. }) => "egraft::cuda::unbound",
            Error::Cuda(_) => "egraft::cuda::unsupported",
            Error::OtherFiles { .. } => "egraft::cli::other_files",
            Error::Unplanned { .. } => "egraft::cli::unplanned",
            Error::Unsolvable { .. } => "egraft::cli::unsolvable_size",
            Error::Emit(error) => emit_code(error),
            Error::Load(error) => error.code(),
            Error::Run(error) => error.code(),
            Error::Write { .. } => "egraft::cli::write",
            Error::NoRoom { .. } => "egraft::cli::no_room",
            Error::NoFolder { .. } => "egraft::cli::no_folder",
            Error::IsFolder { .. } => "egraft::cli::output_folder",
            Error::SameFile { .. } => "egraft::cli::same_file",
            Error::NotADump { .. } => "egraft::cli::not_a_dump",
            Error::NoTool { .. } => "egraft::cli::no_tool",
            Error::Tool { .. } => "egraft::cli::tool",
        }
    }

    /// The way out, where the message does not state it.
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            Error::Read { .. } => "check the path and its permissions",
            Error::NotText { .. } => "a text form of egraft is UTF-8; check that the file is one",
            Error::UnknownFormat { .. } => {
                "a model ends in .onnx, .ir, .kir or .prog, or is called zoo:NAME; an artifact is what `egraft compile` wrote"
            }
            Error::OnnxOnly { .. } => "leave it out, or give the .onnx that the model was made of",
            Error::WithoutOnnx { .. } => "build egraft with its default features",
            #[cfg(feature = "onnx")]
            Error::Export { .. } => {
                "write a .ir instead, or report the op, which has a form in ONNX for other types"
            }
            Error::NoGraph { .. } => {
                "stop before the model is lowered, at `--stop-after saturate` say, or write a .kir"
            }
            Error::ZooModel { .. } => "`egraft zoo list` shows those that there are",
            Error::Zoo(zoo::ZooError::Params { .. }) => {
                "`egraft zoo show NAME`, with the same `--set`, lists the weights that the model wants"
            }
            Error::Zoo(_) => "`egraft zoo show NAME` shows what the model can be built with",
            Error::File(_) => {
                "give a .safetensors file, such as safetensors.torch.save_file writes of a model's weights"
            }
            Error::WeightsFile { .. } => {
                "texts and their weights.bin belong together in a folder; `egraft compile MODEL -o OUT --dump DIR` writes them"
            }
            Error::UnknownDim { .. } | Error::UnknownInput { .. } | Error::InputShape { .. } => {
                "`egraft inspect MODEL` shows all inputs with their sizes"
            }
            Error::State(error) => error.help(),
            Error::NoState { .. } => {
                "PAST=PRESENT names an input and an output, and a `*` in both stands for any text; `egraft inspect MODEL` \
                 shows them"
            }
            Error::TooLateForStates => "start from the model itself, or from a .ir",
            Error::Link(_) => "call sizes alike with `--input-shape`, or fix them with `--dim`",
            Error::Mcpu { .. } => "choose `portable`, `host`, x86-64, x86-64-v2, x86-64-v3 or x86-64-v4",
            Error::Nvrtc(error) => error.help(),
            Error::Load(error) => return error.help(),
            Error::OtherFiles { .. } => "name another folder",
            Error::NotLowered => "let the passes run to their end, or write the graph with `--emit ir`",
            Error::Unplanned { .. } => "let the passes run to their end",
            Error::Unsolvable { .. } => {
                "fix it with `--dim NAME=N`, or name the axis alone with `--input-shape`"
            }
            Error::Write { .. } => "check that the folder is writable and has room",
            Error::NoRoom { .. } => "make room, or name a file on another disk",
            Error::NoFolder { .. } => "create the folder first",
            Error::IsFolder { .. } => "give the name of a file",
            Error::SameFile { .. } => "give another name",
            Error::NotADump { .. } => "give a new or empty folder, or that of a former dump",
            Error::NoTool { .. } => {
                "libraries are linked by the system's C compiler: install one (gcc or clang), or compile to an executable, \
                 which needs none"
            }
            _ => return None,
        })
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            #[cfg(feature = "onnx")]
            Error::Import { failure, .. } => match failure.kind() {
                onnx::FailureKind::BadInput => ErrorKind::Input,
                onnx::FailureKind::Unsupported => ErrorKind::Unsupported,
            },
            Error::Passes { errors, .. } => {
                let kinds = errors.iter().map(|at| pass_kind(&at.error));
                let worst = |a, b| match (a, b) {
                    (ErrorKind::Bug, _) | (_, ErrorKind::Bug) => ErrorKind::Bug,
                    (ErrorKind::Input, _) | (_, ErrorKind::Input) => ErrorKind::Input,
                    _ => ErrorKind::Unsupported,
                };
                kinds.reduce(worst).unwrap_or(ErrorKind::Bug)
            }
            Error::Cuda(error) => match error {
                cuda::EmitError::Unsupported { .. } => ErrorKind::Unsupported,
                cuda::EmitError::Unbound { .. } => ErrorKind::Bug,
                _ => ErrorKind::Input,
            },
            Error::Emit(error) => match error {
                EmitError::Codegen { .. } | EmitError::Relocation { .. } | EmitError::Unbound { .. } => {
                    ErrorKind::Bug
                }
                EmitError::Unsupported { .. } | EmitError::Stack { .. } => ErrorKind::Unsupported,
                _ => ErrorKind::Input,
            },
            Error::Unsolvable { .. } => ErrorKind::Unsupported,
            Error::Run(RunError::Trespass { .. }) => ErrorKind::Bug,
            #[cfg(feature = "onnx")]
            Error::Export { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Input,
        }
    }
}

fn pass_kind(error: &PassError) -> ErrorKind {
    match error {
        PassError::NoLowering { .. } | PassError::UnboundSize { .. } => ErrorKind::Unsupported,
        PassError::Invalid { .. } => ErrorKind::Bug,
        _ => ErrorKind::Input,
    }
}

/// A stable code for each reason of the native backend.
fn emit_code(error: &EmitError) -> &'static str {
    match error {
        EmitError::Target { .. } => "egraft::cranelift::target",
        EmitError::StageForm { .. } => "egraft::cranelift::stage_form",
        EmitError::Feature { .. } => "egraft::cranelift::feature",
        EmitError::Unbound { .. } => "egraft::cranelift::unbound",
        EmitError::Unsupported { .. } => "egraft::cranelift::unsupported",
        EmitError::Stack { .. } => "egraft::cranelift::stack",
        EmitError::Codegen { .. } => "egraft::cranelift::codegen",
        EmitError::Relocation { .. } => "egraft::cranelift::relocation",
        EmitError::Object(_) => "egraft::cranelift::object",
        _ => "egraft::cranelift::other",
    }
}
