//! Why a model is not imported: all reasons at once, each with its node and a stable code.

use std::collections::BTreeSet;
use std::fmt;

use ir::op::OpError;
use ir::origin::Origin;
use ir::{At, Dim, Symbol, TensorType};
use ops::onnx::ImportError;

use crate::excerpt::Excerpt;
use crate::tensor::TensorError;
use crate::types::TypeError;
use crate::wire::WireError;

/// What is wrong with a model. Says what; [`At`] says where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportProblem {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The bytes are no protobuf, or not the whole of it.
    #[error("this is no complete ONNX file: {0}")]
    Malformed(#[from] WireError),
    /// The bytes are protobuf, but a field holds what it must not.
    #[error("this is no ONNX file: {why}")]
    Protobuf {
        /// What the protobuf reader says.
        why: String,
    },
    /// The model holds no graph.
    #[error("the model has no graph")]
    NoGraph,
    /// A version of the file format that we don't read.
    #[error("the model states no ir_version, or one ({found}) below 1")]
    NoIrVersion {
        /// The version.
        found: i64,
    },
    /// A version of the file format that we don't read.
    #[error("ir_version {found} is not supported, those from {least} to {most} are")]
    IrVersion {
        /// The version.
        found: i64,
        /// The oldest that we read.
        least: i64,
        /// The newest that we read.
        most: i64,
    },
    /// Nodes of a domain whose opset is not imported.
    #[error("there is no opset_import for the domain `{domain}`")]
    NoOpset {
        /// The domain; the default one is `ai.onnx`.
        domain: String,
    },
    /// Two versions of one domain.
    #[error("the opset of the domain `{domain}` is imported twice, as version {first} and {second}")]
    OpsetTwice {
        /// The domain.
        domain: String,
        /// One version.
        first: i64,
        /// The other.
        second: i64,
    },
    /// A version of the standard operators that we don't know.
    #[error("opset {found} of ai.onnx is not supported, those from {least} to {most} are")]
    Opset {
        /// The version.
        found: i64,
        /// The oldest that we know.
        least: i64,
        /// The newest that we know.
        most: i64,
    },
    /// An initializer or an attribute that can't be read.
    #[error("tensor `{name}`: {error}")]
    Tensor {
        /// Its name, or that of the attribute.
        name: String,
        /// What is wrong with it.
        error: TensorError,
    },
    /// An initializer in sparse form.
    #[error("initializer `{name}` is sparse, which is not supported: store it as a dense tensor")]
    Sparse {
        /// Its name.
        name: String,
    },
    /// An input or output whose type does not do.
    #[error("{role} `{name}`: {error}")]
    Type {
        /// `input` or `output`.
        role: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with its type.
        error: TypeError,
    },
    /// A size is given for a symbol that no input has.
    #[error("no input has a dimension called `{symbol}`; there are: {}", list(known))]
    UnknownSymbol {
        /// The symbol.
        symbol: Symbol,
        /// Those that there are.
        known: Vec<Symbol>,
    },
    /// A shape is given for an input that the model does not have.
    #[error("there is no input `{name}`; there are: {}", list(known))]
    UnknownInput {
        /// Its name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// How many tensors an input holds is not known.
    #[error("input `{name}` is a sequence, and how many tensors it holds is not given")]
    NoLength {
        /// Its name.
        name: String,
    },
    /// What is given for an input is not what it is.
    #[error("input `{name}`: {why}")]
    GivenInput {
        /// Its name.
        name: String,
        /// What does not suit.
        why: &'static str,
    },
    /// Test data that holds other things than tensors.
    #[error("it is {holds} that holds something other than tensors, which is not supported")]
    Data {
        /// What it is.
        holds: &'static str,
    },
    /// A node without an op.
    #[error("the node names no operator: its op_type is empty")]
    NoOpType,
    /// Nodes that wait for each other.
    #[error("the graph has a cycle: {}", circle(nodes))]
    Cycle {
        /// The nodes on it; each reads a result of the one before.
        nodes: Vec<String>,
    },
    /// A value that is used, and that nothing makes.
    #[error("`{value}` is read, but no input, initializer or node gives it")]
    Undefined {
        /// Its name.
        value: String,
    },
    /// One name for two values.
    #[error("`{value}` is given twice: by {first} and by {second}")]
    Duplicate {
        /// The name.
        value: String,
        /// What gives it.
        first: String,
        /// What gives it, too.
        second: String,
    },
    /// An output of the graph or of a function that nothing makes.
    #[error("output `{value}` is promised, but nothing gives it")]
    NoOutput {
        /// Its name.
        value: String,
    },
    /// The computed type of an output contradicts the declared one.
    #[error("output `{value}` is declared as {declared}, but computed as {computed}")]
    OutputType {
        /// Its name.
        value: String,
        /// What the model says.
        declared: TensorType,
        /// What follows from the inputs.
        computed: TensorType,
    },
    /// An output is one tensor, or several, or none, and the model says otherwise.
    #[error("output `{value}` is declared as {declared}, but what is computed is {computed}")]
    OutputKind {
        /// Its name.
        value: String,
        /// What the model says.
        declared: &'static str,
        /// What there is.
        computed: &'static str,
    },
    /// An op that takes tensors is given something else.
    #[error("`{value}` is {what}, and the op takes tensors only")]
    Sequence {
        /// The value.
        value: String,
        /// What it is.
        what: &'static str,
    },
    /// A value of more bytes than any tensor may have.
    #[error("a value of type {ty} is larger than 1 TiB, the limit of any tensor")]
    TooLarge {
        /// Its type.
        ty: TensorType,
    },
    /// Functions that call each other in a circle.
    #[error("function `{}` calls itself: {}", names.first().map_or("", String::as_str), circle(names))]
    Recursion {
        /// The functions, each calling the next.
        names: Vec<String>,
    },
    /// Two functions of one name.
    #[error("function `{function}` is defined twice")]
    FunctionTwice {
        /// Its name.
        function: String,
    },
    /// A call with more inputs or outputs than the function has.
    #[error("function `{function}` has {has} {what}, the call names {given}")]
    Call {
        /// The function.
        function: String,
        /// `inputs` or `outputs`.
        what: &'static str,
        /// How many it has.
        has: usize,
        /// How many the call names.
        given: usize,
    },
    /// Functions that, opened, are more nodes than any model has.
    #[error("opening the functions that `{function}` calls gives {nodes} nodes, the limit is {limit}")]
    TooManyNodes {
        /// The function that is called, or the graph.
        function: String,
        /// Nodes after opening.
        nodes: u64,
        /// The largest number allowed.
        limit: u64,
    },
    /// Bodies in bodies, or branches after branches, that have to be tried more often than makes sense.
    #[error(
        "its control flow has to be tried in too many ways: more than {limit} nodes were looked at; simplify the \
         model before compiling, or fix sizes with --dim"
    )]
    TooManyLookedAt {
        /// The largest number allowed.
        limit: u64,
    },
    /// Functions that call functions, deeper than any exporter writes.
    #[error("function `{function}` calls functions more than {limit} deep")]
    CallDepth {
        /// Its name.
        function: String,
        /// The depth allowed.
        limit: usize,
    },
    /// An attribute that a function's body needs, and that the call leaves out.
    #[error(
        "`{attribute}` refers to the attribute `{reference}` of function `{function}`, which the call leaves out: {error}"
    )]
    FunctionAttribute {
        /// The attribute of the node in the body.
        attribute: String,
        /// The attribute of the function.
        reference: String,
        /// The function.
        function: String,
        /// What follows.
        error: Box<ImportError>,
    },
    /// An attribute of a kind that we don't read.
    #[error("attribute `{name}` is {kind}, which is not supported")]
    AttributeKind {
        /// Its name.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// An attribute that is broken: without a value, or text that is no UTF-8.
    #[error("attribute `{name}` {why}")]
    Attribute {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// An operator that egraft does not have.
    #[error("{op} (opset {opset}) is not supported: {reason}")]
    UnsupportedOp {
        /// Its name, with its domain if that is not the default one.
        op: String,
        /// The version that the model imports for its domain.
        opset: i64,
        /// Why not.
        reason: &'static str,
        /// The way out.
        help: &'static str,
    },
    /// An operator that came later than the version that the model imports.
    #[error("{op} came with opset {since}, the model imports {opset}")]
    OpNewerThanOpset {
        /// Its name.
        op: String,
        /// The version that the model imports.
        opset: i64,
        /// The version that it came with.
        since: i64,
    },
    /// What the conversion of the node says.
    #[error("{error} (opset {opset})")]
    Node {
        /// The version that the model imports for its domain.
        opset: i64,
        /// What is wrong.
        error: Box<ImportError>,
        /// The node and what it reads.
        excerpt: Box<Excerpt>,
    },
    /// Sizes that a later node makes equal do not suit an earlier one.
    #[error("sizes {left} and {right} must be equal for node \"{by}\", and then: {error}")]
    Unify {
        /// One size.
        left: Dim,
        /// The other.
        right: Dim,
        /// The node that wants them equal.
        by: String,
        /// What becomes wrong then.
        error: Box<OpError>,
    },
}

impl ImportProblem {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            ImportProblem::Empty | ImportProblem::Malformed(_) | ImportProblem::Protobuf { .. } => {
                "egraft::onnx::malformed"
            }
            ImportProblem::NoGraph => "egraft::onnx::no_graph",
            ImportProblem::Sequence { .. } => "egraft::onnx::sequence",
            ImportProblem::NoLength { .. } => "egraft::onnx::length",
            ImportProblem::Data { .. } => "egraft::onnx::data",
            ImportProblem::NoIrVersion { .. } | ImportProblem::IrVersion { .. } => "egraft::onnx::ir_version",
            ImportProblem::NoOpset { .. }
            | ImportProblem::OpsetTwice { .. }
            | ImportProblem::Opset { .. }
            | ImportProblem::OpNewerThanOpset { .. } => "egraft::onnx::opset",
            ImportProblem::Tensor { error, .. } => error.code(),
            ImportProblem::Sparse { .. } => "egraft::onnx::sparse",
            ImportProblem::Type { error, .. } => error.code(),
            ImportProblem::UnknownSymbol { .. }
            | ImportProblem::UnknownInput { .. }
            | ImportProblem::GivenInput { .. } => "egraft::onnx::option",
            ImportProblem::NoOpType => "egraft::onnx::op_type",
            ImportProblem::Cycle { .. } => "egraft::onnx::cycle",
            ImportProblem::Undefined { .. } => "egraft::onnx::undefined",
            ImportProblem::Duplicate { .. } => "egraft::onnx::duplicate",
            ImportProblem::NoOutput { .. } => "egraft::onnx::no_output",
            ImportProblem::OutputType { .. } | ImportProblem::OutputKind { .. } => {
                "egraft::onnx::output_type"
            }
            ImportProblem::TooLarge { .. } => "egraft::onnx::too_large",
            ImportProblem::Recursion { .. } => "egraft::onnx::recursion",
            ImportProblem::FunctionTwice { .. } | ImportProblem::Call { .. } => "egraft::onnx::function",
            ImportProblem::TooManyNodes { .. }
            | ImportProblem::CallDepth { .. }
            | ImportProblem::TooManyLookedAt { .. } => "egraft::onnx::too_many_nodes",
            ImportProblem::FunctionAttribute { .. } => "egraft::onnx::function_attribute",
            ImportProblem::Attribute { .. } => "egraft::onnx::attribute",
            ImportProblem::AttributeKind { .. } => "egraft::onnx::unsupported",
            ImportProblem::UnsupportedOp { .. } => "egraft::onnx::unsupported_op",
            ImportProblem::Node { error, .. } => error.code(),
            ImportProblem::Unify { error, .. } => error.code(),
        }
    }

    /// The way out, if there is one that the message does not state.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            ImportProblem::UnsupportedOp { help, .. } => Some(help),
            ImportProblem::Malformed(_) | ImportProblem::Protobuf { .. } => Some(
                "compare the file's size with the original's; a file of a few lines may be a pointer to one in git-lfs",
            ),
            ImportProblem::IrVersion { .. } | ImportProblem::Opset { .. } => Some(
                "convert the model with onnx.version_converter, or export it again with another opset_version",
            ),
            ImportProblem::OpNewerThanOpset { .. } => Some("export the model with a newer opset_version"),
            ImportProblem::NoOpset { .. } => {
                Some("add the domain and its version to the model's opset_import")
            }
            ImportProblem::Tensor { error: TensorError::DType { .. }, .. } => Some(
                "export the model with numbers or bools; complex numbers and floats of 6 bits are not supported",
            ),
            ImportProblem::Type { error: TypeError::NoShape, .. } => Some(
                "state its shape with --input-shape NAME:1x3x224x224; letters instead of a number make a symbol",
            ),
            ImportProblem::NoLength { .. } => Some(
                "give it with --length NAME=N; an optional without a sequence is --absent NAME, and `verify --data` \
                 reads either from the data",
            ),
            ImportProblem::Node { error, .. } if matches!(**error, ImportError::InputValue { .. }) => Some(
                "compile for one value of it: --value NAME=N, which is checked when the model runs; `verify --data` \
                 takes it from the data",
            ),
            ImportProblem::OutputType { .. } | ImportProblem::OutputKind { .. } => {
                Some("run onnx.shape_inference with strict_mode=True on the model: it contradicts itself")
            }
            _ => None,
        }
    }

    /// Is the model legal as far as this goes, and just not supported?
    pub fn is_unsupported(&self) -> bool {
        match self {
            ImportProblem::IrVersion { .. }
            | ImportProblem::Opset { .. }
            | ImportProblem::Data { .. }
            | ImportProblem::NoLength { .. }
            | ImportProblem::Sparse { .. }
            | ImportProblem::AttributeKind { .. }
            | ImportProblem::UnsupportedOp { .. } => true,
            ImportProblem::Tensor { error, .. } => error.is_unsupported(),
            ImportProblem::Type { error, .. } => error.is_unsupported(),
            ImportProblem::Node { error, .. } => match &**error {
                ImportError::Unsupported { .. }
                | ImportError::RunTimeValue { .. }
                | ImportError::InputValue { .. } => true,
                ImportError::Op(error) => matches!(error, OpError::Unsupported { .. }),
                _ => false,
            },
            _ => false,
        }
    }
}

/// What sort of failure it is: decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The file is broken or contradicts itself, or an option does not suit it.
    BadInput,
    /// The model is legal, and parts of it are not supported.
    Unsupported,
}

/// Why a model is not imported: at least one problem, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportFailure {
    problems: Vec<At<ImportProblem>>,
}

impl ImportFailure {
    /// The failure of these problems, of which there is at least one.
    pub(crate) fn new(problems: Vec<At<ImportProblem>>) -> ImportFailure {
        debug_assert!(!problems.is_empty(), "bug: a failure without a problem");
        ImportFailure { problems }
    }

    /// The failure of one problem that is at no node.
    pub fn of(error: ImportProblem) -> ImportFailure {
        ImportFailure::new(vec![At { node: None, origin: Origin::none(), error }])
    }

    /// The problems, at least one.
    pub fn problems(&self) -> &[At<ImportProblem>] {
        &self.problems
    }

    /// The inputs whose values the model cannot be imported without.
    pub fn wanted_values(&self) -> BTreeSet<&str> {
        let mut wanted = BTreeSet::new();
        for at in &self.problems {
            if let ImportProblem::Node { error, .. } = &at.error
                && let ImportError::InputValue { names, .. } = &**error
            {
                wanted.extend(names.iter().map(String::as_str));
            }
        }
        wanted
    }

    /// Bad input if any problem is.
    pub fn kind(&self) -> FailureKind {
        if self.problems.iter().all(|at| at.error.is_unsupported()) {
            FailureKind::Unsupported
        } else {
            FailureKind::BadInput
        }
    }
}

impl fmt::Display for ImportFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ImportFailure {}

fn list<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}

fn circle(names: &[String]) -> String {
    let closed = names.iter().chain(names.first());
    closed.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" → ")
}
