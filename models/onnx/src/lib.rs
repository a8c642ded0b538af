//! ONNX models in and out: protobuf to [`ir::Graph`], and back.
//!
//! [`import`] reads a model's bytes, and its external data through [`Files`]. What it accepts: `ir_version` 3 to
//! 14, opsets 1 to 28 of the default domain, and of other domains what the crate `ops` knows; tensors as values, and sequences and optionals of them that are known
//! when the model is imported.
//! Model-local functions are opened where they are called. Sizes follow from the inputs' dimensions, through all
//! shape arithmetic; the model's own statements about values between are not read.
//!
//! Promises
//! - bytes from anywhere give a graph or a failure: no panic, and no more memory than in proportion to them;
//! - a failure lists all problems that can be told apart, each with its node; nothing unsupported is skipped;
//! - initializers keep their names; every node has an origin.
//!
//! Deliberately absent: opening files (the caller's), and any knowledge of a particular operator (`ops`').

mod attributes;
mod branch;
mod codes;
mod compile_time;
mod control;
mod data;
pub mod declaration;
mod error;
mod excerpt;
mod export;
pub mod external;
mod flex_attention;
mod frame;
mod functions;
mod in_place;
mod metadata;
mod nodes;
pub mod numbers;
mod ports;
mod scan;
mod sequences;
mod structure;
mod tensor;
mod types;
mod unify;
mod unroll;
mod whole;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use ir::build::Build;
use ir::graph::Kind;
use ir::origin::Origin;
use ir::weight::Bytes;
use ir::{At, Dim, Graph, Symbol};
use onnx_protobuf::ModelProto;
use ops::onnx::ExpertLayout;

pub use codes::CODES;
pub use data::{Data, read_data, read_tensor};
pub use declaration::{Declaration, declaration};
pub use error::{FailureKind, ImportFailure, ImportProblem};
pub use excerpt::Excerpt;
pub use export::{ExportOptions, ExportProblem, Exported, MOST_INLINE, export};
pub use external::FileError;
pub use ports::{Kind as PortKind, MAX_LENGTH, Port, ports};
pub use tensor::{MAX_BYTES, TensorError};
pub use types::TypeError;
pub use unify::Unified;
pub use wire::{WireError, WireProblem};

use nodes::{Binding, Importer};
use sequences::Sequence;
use structure::Body;
use wire::Message;

/// The versions of the file format that we read.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=14;

/// The files beside a model. Implemented by whoever may open files.
pub trait Files {
    /// `length` bytes from `offset` of the file that `location` names, relative to the model's folder.
    ///
    /// `location` was accepted by [`external::validate_location`]; [`external::resolve_external`] follows links.
    ///
    /// # Errors
    /// Why there are no such bytes.
    fn external(&self, location: &str, offset: u64, length: u64) -> Result<Bytes, FileError>;

    /// The bytes of the model itself, if they outlive its import: then large tensors in them are not copied.
    fn model(&self) -> Option<Bytes> {
        None
    }
}

/// No files: for a model that comes as bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn external(&self, location: &str, _: u64, _: u64) -> Result<Bytes, FileError> {
        Err(FileError::NoFolder { location: location.to_owned() })
    }
}

/// What the caller fixes about a model.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Symbols of the inputs that get a value.
    pub dims: Vec<(Symbol, i64)>,
    /// Inputs that get a shape.
    pub shapes: Vec<(String, Vec<Dim>)>,
    /// How many tensors inputs hold that are sequences.
    pub lengths: Vec<(String, usize)>,
    /// Optional inputs that hold nothing; others hold something.
    pub absent: Vec<String>,
    /// The numbers of axes of inputs, where the model does not state them; of an element of the sequence `x` as `x.0`.
    pub ranks: Vec<(String, usize)>,
    /// Values of inputs, row-major. The model is made for these, and refuses others when it runs.
    pub values: Vec<(String, Vec<i64>)>,
    /// How the weights of quantized experts lie, where the model does not say so.
    pub experts: Option<ExpertLayout>,
    /// What outputs declare of their shapes is not compared with what is computed: onnxruntime runs such models.
    pub computed_shapes: bool,
    /// Outputs that are maps or texts are told by numbers, as [`numbers`] says, and not refused.
    pub numbers: bool,
    /// The name of the graph; by default the one in the file.
    pub entry: Option<String>,
}

/// A model.
#[derive(Debug, Clone)]
pub struct Model {
    /// What it computes.
    pub graph: Graph,
    /// Symbols that are no more, since ops need sizes to agree; in the order in which that was found.
    pub unified: Vec<Unified>,
    /// What wrote the file, with its version; empty if unknown.
    pub producer: String,
    /// The version of the file format.
    pub ir_version: i64,
    /// The version of each domain's operators; the default domain is `ai.onnx`.
    pub opsets: Vec<(String, i64)>,
}

/// Reads a model.
///
/// # Errors
/// Everything that speaks against it, as far as it can be told at once.
pub fn import(bytes: &[u8], files: &dyn Files, options: &ImportOptions) -> Result<Model, ImportFailure> {
    let fail = ImportFailure::of;
    if bytes.is_empty() {
        return Err(fail(ImportProblem::Empty));
    }
    let stays = files.model().is_some_and(|model| std::ptr::eq(model.as_slice(), bytes));
    let mut proto: ModelProto = match stays {
        true => parse_in_place(bytes),
        false => parse(bytes, Message::Model),
    }
    .map_err(fail)?;
    check_ir_version(proto.ir_version).map_err(fail)?;
    let mut graph =
        std::mem::take(&mut proto.graph).into_option().ok_or_else(|| fail(ImportProblem::NoGraph))?;
    if options.numbers {
        numbers::instead(&mut graph);
    }
    let initializers = std::mem::take(&mut graph.initializer);

    let (opsets, problems) = functions::opsets(&proto.opset_import);
    let mut problems: Vec<At<ImportProblem>> = problems.into_iter().map(nowhere).collect();
    if opsets.is_empty() {
        problems.push(nowhere(ImportProblem::NoOpset { domain: functions::domain_name("") }));
    }
    let (functions, more) = functions::Functions::new(&proto.functions);
    problems.extend(more);
    if problems.is_empty() {
        problems.extend(functions.check_calls(&graph.name, &graph.node));
    }
    let names: Vec<String> = initializers.iter().map(|tensor| tensor.name.clone()).collect();
    let structure = {
        let given = graph.input.iter().map(|input| (input.name.as_str(), "the input"));
        let sparse = graph.sparse_initializer.iter().map(|sparse| sparse.values.name.as_str());
        let constants = names.iter().map(String::as_str).chain(sparse);
        let given = given.chain(constants.map(|name| (name, "the initializer"))).collect();
        let outputs = graph.output.iter().map(|output| output.name.as_str()).collect();
        structure::check(&Body { given, nodes: &graph.node, outputs, prefix: "" })
    };
    // Without an order of nodes that ends, all else is guessing.
    let stop = structure.is_fatal || !problems.is_empty();
    problems.extend(structure.problems);
    if stop {
        return Err(ImportFailure::new(problems));
    }

    let mut values: BTreeMap<&str, Binding> = BTreeMap::new();
    let name = options.entry.as_deref().unwrap_or(&graph.name);
    let mut build = Build::new(if name.is_empty() { "main" } else { name });
    // Before IR version 4 every initializer is an input, too; it is a constant all the same.
    let constants: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let infos: Vec<_> = graph.input.iter().filter(|info| !constants.contains(info.name.as_str())).collect();
    problems.extend(set_inputs(&mut build, &mut values, &infos, options));
    for (name, tensor) in names.iter().zip(initializers) {
        let binding = match tensor::weight(name, tensor, files) {
            Ok(weight) => Binding::Value(build.weight(weight)),
            Err(error) => {
                problems.push(nowhere(ImportProblem::Tensor { name: name.clone(), error }));
                Binding::Poisoned
            }
        };
        values.insert(name, binding);
    }
    for sparse in &graph.sparse_initializer {
        let name = sparse.values.name.clone();
        problems.push(nowhere(ImportProblem::Sparse { name }));
        values.insert(&sparse.values.name, Binding::Poisoned);
    }

    let mut importer = Importer::new(build, values, &opsets, &functions, files);
    importer.experts = options.experts;
    importer.problems = problems;
    importer.add_nodes(&graph.node, &structure.order);
    if importer.is_exhausted() {
        let error = ImportProblem::TooManyLookedAt { limit: nodes::MAX_LOOKED_AT };
        return Err(ImportFailure::of(error));
    }
    set_outputs(&mut importer, &graph.output, options);
    check_sizes(&mut importer);
    if !importer.problems.is_empty() {
        return Err(ImportFailure::new(importer.problems));
    }
    Ok(Model {
        unified: std::mem::take(&mut importer.unified),
        graph: importer.into_graph(),
        producer: format!("{} {}", proto.producer_name, proto.producer_version).trim().to_owned(),
        ir_version: proto.ir_version,
        opsets: opsets.iter().map(|(domain, version)| (functions::domain_name(domain), *version)).collect(),
    })
}

fn nowhere(error: ImportProblem) -> At<ImportProblem> {
    At { node: None, origin: Origin::none(), error }
}

/// The model that `bytes` are, without the large tensors in it.
fn parse_in_place(bytes: &[u8]) -> Result<ModelProto, ImportProblem> {
    wire::screen(bytes, Message::Model)?;
    read(&in_place::without_raw_data(bytes))
}

/// The message that `bytes` are.
fn parse<M: onnx_protobuf::Message>(bytes: &[u8], root: Message) -> Result<M, ImportProblem> {
    wire::screen(bytes, root)?;
    read(bytes)
}

fn read<M: onnx_protobuf::Message>(bytes: &[u8]) -> Result<M, ImportProblem> {
    M::parse_from_bytes(bytes).map_err(|error| ImportProblem::Protobuf { why: error.to_string() })
}

fn check_ir_version(found: i64) -> Result<(), ImportProblem> {
    let (least, most) = (*IR_VERSIONS.start(), *IR_VERSIONS.end());
    match found {
        ..=0 => Err(ImportProblem::NoIrVersion { found }),
        _ if IR_VERSIONS.contains(&found) => Ok(()),
        _ => Err(ImportProblem::IrVersion { found, least, most }),
    }
}

/// Gives the graph its inputs, and their names values.
fn set_inputs<'a>(
    build: &mut Build,
    values: &mut BTreeMap<&'a str, Binding>,
    declarations: &[&'a onnx_protobuf::ValueInfoProto],
    options: &ImportOptions,
) -> Vec<At<ImportProblem>> {
    let ports::Inputs { infos, parts, shapes, mut problems } = ports::inputs(declarations, options);
    let given = types::Given { dims: &options.dims, shapes: &shapes };
    let (types, more) = types::inputs(&infos.iter().collect::<Vec<_>>(), &given);
    problems.extend(more);
    let mut made = Vec::with_capacity(infos.len());
    for (info, ty) in infos.iter().zip(types) {
        let name = &info.name;
        let value = ty.map(|ty| build.input(name, ty)).map_err(|error| ImportProblem::Type {
            role: "input",
            name: name.clone(),
            error,
        });
        let numbers = options.values.iter().find(|(given, _)| given == name);
        let value = value.and_then(|value| match numbers {
            Some((_, numbers)) => compile_time::with_value(build, value, name, numbers),
            None => Ok(value),
        });
        made.push(value.map_err(|error| problems.push(error)).ok());
    }
    for (info, part) in declarations.iter().zip(parts) {
        let binding = match part {
            ports::Part::Tensor(at) => made[at].map_or(Binding::Poisoned, Binding::Value),
            ports::Part::Sequence(range) => match made[range].iter().copied().collect() {
                Some(values) => Binding::Sequence(Sequence::new(values)),
                None => Binding::Poisoned,
            },
            ports::Part::Nothing => Binding::Nothing,
            ports::Part::Unknown => Binding::Poisoned,
        };
        values.insert(&info.name, binding);
    }
    problems.into_iter().map(nowhere).collect()
}

/// Gives the graph its outputs, and compares their types with the declared ones.
fn set_outputs(importer: &mut Importer, infos: &[onnx_protobuf::ValueInfoProto], options: &ImportOptions) {
    let mut outputs: Vec<(String, ir::Value)> = Vec::new();
    for info in infos {
        let before = importer.problems.len();
        let named = output(importer, info, options).unwrap_or_default();
        if importer.problems.len() == before {
            outputs.extend(named);
        }
    }
    let names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
    let twice = ports::twice(names.into_iter(), "an output");
    importer.problems.extend(twice.into_iter().map(nowhere));
    importer.set_outputs(outputs);
}

/// The outputs of the graph that an output of the model becomes; `None` if something was reported.
fn output(
    importer: &mut Importer,
    info: &onnx_protobuf::ValueInfoProto,
    options: &ImportOptions,
) -> Option<Vec<(String, ir::Value)>> {
    let (kind, element) = ports::output(info);
    let declared = match types::output(&element) {
        Ok(declared) if options.computed_shapes => declared.map(types::OutputType::without_shape),
        Ok(declared) => declared,
        Err(error) => {
            let name = info.name.clone();
            importer.problems.push(nowhere(ImportProblem::Type { role: "output", name, error }));
            return None;
        }
    };
    let named: Vec<(String, ir::Value)> = match importer.binding(&info.name) {
        Binding::Value(value) => vec![(info.name.clone(), value)],
        Binding::Sequence(sequence) => {
            let names = (0..).map(|index| ports::Port::element(&info.name, index));
            names.zip(sequence.values()).collect()
        }
        Binding::Nothing => Vec::new(),
        Binding::Absent | Binding::Poisoned => return None,
    };
    let computed = match importer.binding(&info.name) {
        Binding::Sequence(_) => PortKind::Sequence,
        Binding::Nothing => PortKind::Optional,
        _ => PortKind::Tensor,
    };
    // Without a type, it is what it is.
    let is_declared = info.type_.as_ref().is_some_and(|ty| ty.value.is_some());
    if is_declared && !kind.may_be(computed) {
        let (declared, computed) = (kind.describe(), computed.describe());
        let error = ImportProblem::OutputKind { value: info.name.clone(), declared, computed };
        importer.problems.push(nowhere(error));
        return None;
    }
    for (name, value) in &named {
        let computed = importer.graph().ty(*value);
        if let Some(declared) = declared.as_ref().and_then(|declared| declared.contradicts(computed)) {
            let (value_name, declared, computed) = (name.clone(), declared.clone(), computed.clone());
            let error = ImportProblem::OutputType { value: value_name, declared, computed };
            let at = importer.graph().at(value.node, error);
            importer.problems.push(At { node: None, ..at });
        }
    }
    Some(named)
}

/// No value is larger than any tensor may be.
fn check_sizes(importer: &mut Importer) {
    let graph = importer.graph();
    let mut problems = Vec::new();
    for id in graph.order() {
        let node = graph.node(id);
        for ty in node.types.iter().filter(|ty| types::is_too_large(ty)) {
            let ty = ty.clone();
            problems.push(match &node.kind {
                Kind::Input(name) => {
                    let error = TypeError::TooLarge { ty };
                    nowhere(ImportProblem::Type { role: "input", name: name.clone(), error })
                }
                _ => At { node: None, ..graph.at(id, ImportProblem::TooLarge { ty }) },
            });
        }
    }
    importer.problems.extend(problems);
}
