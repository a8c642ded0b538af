//! Models from files: ONNX, and egraft's own text forms at any stage.

use std::path::Path;
use std::sync::Arc;

use ir::program::Program;
use ir::weight::Storage;
use ir::{Dim, Graph, Symbol};
use passes::lint::Fixed;
use passes::pipeline::{State, Step};

use crate::error::{Error, TextProblem};
use crate::map::map;
use crate::options::Options;
use crate::params_file::ParamsFile;
use crate::provenance::Provenance;
use crate::weights_file::Beside;

/// A model on its way, and where it came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The model: a graph, or a program where a text form is one.
    pub state: State,
    /// Where it came from.
    pub provenance: Provenance,
    /// The pass after which it was dumped, if it is a dump: `NN-PASS.ir`.
    pub after: Option<String>,
    /// Sizes of its inputs that are numbers only since its nodes ask for them.
    pub fixed: Vec<Fixed>,
}

impl Source {
    /// A graph made by a program.
    pub fn of_graph(graph: Graph, options: &Options) -> Source {
        let provenance =
            Provenance::of_file(graph.name().to_owned(), graph.to_string().as_bytes(), options.recorded());
        Source { state: State::Graph(graph), provenance, after: None, fixed: Vec::new() }
    }

    /// A program made by a program.
    pub fn of_program(program: Program, options: &Options) -> Source {
        let text = program.to_string();
        let provenance = Provenance::of_file(program.name.clone(), text.as_bytes(), options.recorded());
        Source { state: State::Program(program), provenance, after: None, fixed: Vec::new() }
    }
}

/// Reads the model that `path` names: a file that ends in `.onnx`, `.ir`, `.kir` or `.prog`, or `zoo:NAME`.
///
/// Sizes and shapes in `options` are applied. Weights of text forms are looked for in `weights.bin` beside them;
/// external data of ONNX models is mapped. None of these files may change as long as the model lives.
///
/// # Errors
/// Everything that speaks against the model, as far as it can be told at once.
pub fn load(path: &Path, options: &Options) -> Result<Source, Error> {
    let mut sources = load_all(&[path], options)?;
    Ok(sources.pop().expect("one for each path"))
}

/// Reads models that are compiled together, as [`load`] does. What is to be kept from run to run may be in any of them.
///
/// # Errors
/// As [`load`].
pub fn load_all(paths: &[impl AsRef<Path>], options: &Options) -> Result<Vec<Source>, Error> {
    with_states(paths.iter().map(|path| load_file(path.as_ref(), options)), options)
}

/// Reads an ONNX model in memory. `path` is what it is called; external data is looked for beside it.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(path: &Path, bytes: Vec<u8>, options: &Options) -> Result<Source, Error> {
    let source = load_onnx(path, Arc::new(bytes), options);
    let mut sources = with_states(std::iter::once(source), options)?;
    Ok(sources.pop().expect("one was given"))
}

/// Makes states in models of what is to be kept from run to run.
fn with_states(
    models: impl Iterator<Item = Result<Source, Error>>,
    options: &Options,
) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    let (mut made, mut known) = (vec![0; options.keeps.len()], Vec::new());
    for source in models {
        let mut source = source?;
        if let State::Graph(graph) = &source.state {
            known.extend(graph.output_names().into_iter().map(str::to_owned));
        }
        for (all, count) in made.iter_mut().zip(keep(&mut source.state, options)?) {
            *all += count;
        }
        sources.push(source);
    }
    match options.keeps.iter().zip(made).find(|(_, count)| *count == 0) {
        Some((keep, _)) => Err(Error::NoState { keep: keep.to_string(), known }),
        None => Ok(sources),
    }
}

/// Makes states of what is to be kept from run to run; says how many each choice makes.
fn keep(state: &mut State, options: &Options) -> Result<Vec<usize>, Error> {
    match state {
        _ if options.keeps.is_empty() => Ok(Vec::new()),
        State::Graph(graph) => Ok(passes::state::keep(graph, &options.keeps, options.capacity)?),
        State::Program(_) => Err(Error::TooLateForStates),
    }
}

fn load_file(path: &Path, options: &Options) -> Result<Source, Error> {
    if let Some(name) = path.to_str().and_then(|text| text.strip_prefix("zoo:")) {
        return build(name, options);
    }
    match extension(path).as_deref() {
        Some("onnx") => {
            let storage = map(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
            load_onnx(path, storage, options)
        }
        Some("ir") => load_text(path, options, parse_graph),
        Some("kir" | "prog") => load_text(path, options, parse_program),
        _ => Err(Error::UnknownFormat { path: path.to_owned() }),
    }
}

/// Builds a built-in model with the settings in `options`, and the weights in the file that they name, if they do.
///
/// # Errors
/// A name or a setting that there is not, or weights that do not suit the model.
pub fn build(name: &str, options: &Options) -> Result<Source, Error> {
    let entry = zoo::find(name).ok_or_else(|| Error::ZooModel { name: name.to_owned() })?;
    let params = options.params.as_deref().map(ParamsFile::open).transpose()?;
    let params = params.as_ref().map(|file| file as &dyn zoo::Params);
    let mut source = Source::of_graph(entry.build(&options.settings, params)?, options);
    apply(&mut source.state, options)?;
    Ok(source)
}

/// Whether a path names an ONNX model.
pub fn is_onnx(path: &Path) -> bool {
    path.to_str().is_none_or(|text| !text.starts_with("zoo:")) && extension(path).as_deref() == Some("onnx")
}

/// Whether a path names a model rather than an artifact.
pub fn is_model(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with("zoo:"))
        || matches!(extension(path).as_deref(), Some("onnx" | "ir" | "kir" | "prog"))
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(feature = "onnx")]
fn load_onnx(path: &Path, storage: Arc<dyn Storage>, options: &Options) -> Result<Source, Error> {
    let import = onnx::ImportOptions {
        dims: options.dims.clone(),
        shapes: options.input_shapes.clone(),
        lengths: options.lengths.clone(),
        absent: options.absent.clone(),
        ranks: options.ranks.clone(),
        values: options.values.clone(),
        experts: options.qmoe_layout,
        computed_shapes: options.computed_shapes,
        numbers: options.numbers,
        ..onnx::ImportOptions::default()
    };
    let files = crate::external::FilesOf::model(path, Arc::clone(&storage));
    let model = onnx::import(storage.bytes(), &files, &import)
        .map_err(|failure| Error::Import { path: path.to_owned(), failure: Box::new(failure) })?;
    let mut provenance = Provenance::of_file(file_name(path), storage.bytes(), options.recorded());
    provenance.producer = model.producer;
    provenance.unified = model.unified.iter().map(ToString::to_string).collect();
    let fixed = model.unified.into_iter().filter_map(|onnx::Unified { symbol, size, by, .. }| {
        Some(Fixed { value: size.as_const()?, size: symbol, by })
    });
    Ok(Source { fixed: fixed.collect(), state: State::Graph(model.graph), provenance, after: None })
}

/// Inputs and outputs that the ONNX model in this file declares.
///
/// # Errors
/// It can't be read, or is no model.
#[cfg(feature = "onnx")]
pub fn ports(path: &Path) -> Result<(Vec<onnx::Port>, Vec<onnx::Port>), Error> {
    let storage = map(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    onnx::ports(storage.bytes()).map_err(|problem| Error::Import {
        path: path.to_owned(),
        failure: Box::new(onnx::ImportFailure::of(problem)),
    })
}

/// What the ONNX model in this file, or in the bytes that would be there, says of itself, as data.
///
/// # Errors
/// It can't be read, or is no model.
#[cfg(feature = "onnx")]
pub fn declaration(path: &Path, bytes: Option<&[u8]>) -> Result<serde_json::Value, Error> {
    use onnx::declaration::{Declared, Size};
    use onnx::numbers::{Labels, Told};
    use serde_json::json;
    let read = |source| Error::Read { path: path.to_owned(), source };
    let said = match bytes {
        Some(bytes) => onnx::declaration(bytes),
        None => onnx::declaration(map(path).map_err(read)?.bytes()),
    };
    let said = said.map_err(|problem| Error::Import {
        path: path.to_owned(),
        failure: Box::new(onnx::ImportFailure::of(problem)),
    })?;
    let size = |size: &Size| match size {
        Size::Number(number) => json!(number),
        Size::Text(text) => json!(text),
        Size::Open => json!(null),
    };
    let labels = |told: &Told| match &told.labels {
        Labels::Numbers(numbers) => json!(numbers),
        Labels::Texts(texts) => json!(texts),
    };
    let port = |port: &Declared| {
        json!({
            "name": port.name, "element": port.element, "sequence": port.kind.is_sequence(),
            "optional": port.kind.is_optional(), "labels": port.told.as_ref().map(labels),
            "map": port.told.as_ref().is_some_and(|told| told.is_map),
            "shape": port.shape.as_ref().map(|sizes| sizes.iter().map(size).collect::<Vec<_>>()),
        })
    };
    let ports = |ports: &[Declared]| ports.iter().map(port).collect::<Vec<_>>();
    Ok(json!({
        "producer": said.producer, "producer_version": said.producer_version, "domain": said.domain,
        "version": said.version, "description": said.description, "graph": said.graph,
        "graph_description": said.graph_description, "notes": said.notes, "inputs": ports(&said.inputs),
        "defaults": ports(&said.defaults), "outputs": ports(&said.outputs),
    }))
}

#[cfg(not(feature = "onnx"))]
fn load_onnx(path: &Path, _: Arc<dyn Storage>, _: &Options) -> Result<Source, Error> {
    Err(Error::WithoutOnnx { path: path.to_owned() })
}

type Parsed = Result<State, Vec<TextProblem>>;

fn load_text(path: &Path, options: &Options, parse: fn(&str, &Beside) -> Parsed) -> Result<Source, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(read)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::NotText { path: path.to_owned() })?;
    let weights = Beside::of(path)?;
    let provenance = match Provenance::of_dump(&text) {
        Some(stated) => Provenance { options: options.recorded_over(stated.options.clone()), ..stated },
        None => Provenance::of_file(file_name(path), text.as_bytes(), options.recorded()),
    };
    let mut state = match parse(&text, &weights) {
        Ok(state) => state,
        Err(problems) => return Err(Error::Text { path: path.to_owned(), text, problems }),
    };
    let violations = violations(&state);
    if !violations.is_empty() {
        return Err(Error::Text { path: path.to_owned(), text, problems: violations });
    }
    apply(&mut state, options)?;
    Ok(Source { state, provenance, after: dumped_after(path), fixed: Vec::new() })
}

fn parse_graph(text: &str, weights: &Beside) -> Parsed {
    ir::text::parse_graph(text, &ops::find, weights).map(State::Graph).map_err(said)
}

fn parse_program(text: &str, weights: &Beside) -> Parsed {
    ir::text::parse_program(text, weights).map(State::Program).map_err(said)
}

/// What a parser says, in our terms.
fn said(errors: Vec<ir::text::ParseError>) -> Vec<TextProblem> {
    let problem = |error: ir::text::ParseError| TextProblem {
        at: Some(error.span),
        code: error.problem.code(),
        message: error.problem.to_string(),
        help: error.problem.help(),
    };
    errors.into_iter().map(problem).collect()
}

/// What the verifier says of a text that parses.
fn violations(state: &State) -> Vec<TextProblem> {
    let problem = |message| TextProblem { at: None, code: "egraft::cli::invalid", message, help: None };
    state.verify().into_iter().map(problem).collect()
}

/// The pass in the name of a dump.
fn dumped_after(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    let (number, pass) = stem.split_once('-')?;
    let is_number = number.len() >= 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_pass = pass == crate::dump::IMPORT || Step::find(pass).is_ok();
    (is_number && is_pass).then(|| pass.to_owned())
}

/// Gives sizes and inputs of a text form what the options say.
fn apply(state: &mut State, options: &Options) -> Result<(), Error> {
    if let Some(option) = options.of_onnx() {
        return Err(Error::OnnxOnly { option });
    }
    if options.dims.is_empty() && options.input_shapes.is_empty() {
        return Ok(());
    }
    let inputs: Vec<(String, ir::TensorType)> = match state {
        State::Graph(graph) => {
            let input = |&id| (graph.input_name(id).to_owned(), graph.node(id).types[0].clone());
            graph.inputs().iter().map(input).collect()
        }
        State::Program(program) => {
            let ports = program.entries.iter().flat_map(|entry| &entry.inputs);
            ports.map(|port| (port.name.clone(), port.ty.clone())).collect()
        }
    };
    let values = values(&inputs, options)?;
    let with = |symbol: &Symbol| values.iter().find(|(name, _)| name == symbol).map(|(_, size)| size.clone());
    match state {
        State::Graph(graph) => graph.substitute(&with).map_err(|at| Error::Passes {
            errors: vec![at.map(passes::PassError::from)],
            graph: Some(Box::new(graph.clone())),
        }),
        State::Program(program) => {
            substitute(program, &with);
            Ok(())
        }
    }
}

/// What each symbol becomes.
fn values(inputs: &[(String, ir::TensorType)], options: &Options) -> Result<Vec<(Symbol, Dim)>, Error> {
    let mut values: Vec<(Symbol, Dim)> = Vec::new();
    for (symbol, value) in &options.dims {
        if !inputs.iter().any(|(_, ty)| ty.shape.iter().any(|dim| dim.mentions(symbol))) {
            let known = symbols(inputs).iter().map(Symbol::to_string).collect();
            return Err(Error::UnknownDim { name: symbol.to_string(), known });
        }
        values.push((symbol.clone(), Dim::constant(*value)));
    }
    for (name, given) in &options.input_shapes {
        let Some((_, declared)) = inputs.iter().find(|(known, _)| known == name) else {
            let known = inputs.iter().map(|(known, _)| known.clone()).collect();
            return Err(Error::UnknownInput { name: name.clone(), known });
        };
        let wrong = |why: String| {
            let (name, declared, given) = (name.clone(), declared.clone(), given.clone());
            Error::InputShape { name, declared, given, why }
        };
        if given.len() != declared.rank() {
            return Err(wrong(format!("it has {} axes, not {}", declared.rank(), given.len())));
        }
        for (axis, (dim, size)) in declared.shape.iter().zip(given).enumerate() {
            let known = |symbol: &Symbol| {
                values.iter().find(|(name, _)| name == symbol).map(|(_, size)| size.clone())
            };
            let dim = dim.substitute(&known);
            if dim == *size {
                continue;
            }
            match solve(&dim, size) {
                Some(found) => values.push(found),
                None => return Err(wrong(format!("axis {axis} is {dim}, which cannot be {size}"))),
            }
        }
    }
    Ok(values)
}

/// The symbol and its value with which `dim = size`.
fn solve(dim: &Dim, size: &Dim) -> Option<(Symbol, Dim)> {
    let mut symbol = None;
    dim.for_each_symbol(&mut |found| {
        symbol.get_or_insert_with(|| found.clone());
    });
    let symbol = symbol?;
    let (scale, offset) = dim.linear_in(&symbol)?;
    let value = (size.clone() - offset).exact_div(&scale)?;
    let is_size = value.as_const().is_none_or(|value| value >= 0) && !value.mentions(&symbol);
    is_size.then_some((symbol, value))
}

fn symbols(inputs: &[(String, ir::TensorType)]) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    for dim in inputs.iter().flat_map(|(_, ty)| &ty.shape) {
        dim.for_each_symbol(&mut |symbol| {
            if !symbols.contains(symbol) {
                symbols.push(symbol.clone());
            }
        });
    }
    symbols
}

/// Sizes replaced in every entry. Kernels keep their own names for what they are called with.
fn substitute(program: &mut Program, with: &dyn Fn(&Symbol) -> Option<Dim>) {
    for entry in &mut program.entries {
        for port in entry.inputs.iter_mut().chain(&mut entry.outputs) {
            port.ty = port.ty.substitute(with);
        }
        for buffer in &mut entry.buffers {
            buffer.ty = buffer.ty.substitute(with);
            buffer.offset = buffer.offset.as_ref().map(|offset| offset.substitute(with));
        }
        ir::program::Step::substitute(&mut entry.host, with);
        ir::program::Step::substitute(&mut entry.steps, with);
        entry.arena = entry.arena.as_ref().map(|arena| arena.substitute(with));
    }
}

#[cfg(test)]
mod tests {
    use ir::{DType, TensorType};

    use super::*;

    fn n(value: i64) -> Dim {
        Dim::constant(value)
    }

    fn inputs() -> Vec<(String, TensorType)> {
        let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
        vec![
            ("x".to_owned(), TensorType::new(DType::F32, [b.clone(), t.clone() * n(2) + n(1)])),
            ("y".to_owned(), TensorType::new(DType::F32, [b, n(4)])),
        ]
    }

    fn given(shape: &[Dim]) -> Options {
        Options { input_shapes: vec![("x".to_owned(), shape.to_vec())], ..Options::default() }
    }

    #[test]
    fn shapes_fix_symbols() {
        let values = values(&inputs(), &given(&[n(8), n(7)])).expect("it fits");
        assert_eq!(values, [("b".into(), n(8)), ("t".into(), n(3))]);
        let renamed =
            super::values(&inputs(), &given(&[Dim::symbol("batch"), Dim::symbol("t") * n(2) + n(1)]));
        assert_eq!(renamed.expect("letters are symbols"), [("b".into(), Dim::symbol("batch"))]);
    }

    #[test]
    fn shapes_that_do_not_fit_say_why() {
        for (shape, why) in [
            (vec![n(8)], "2 axes"),
            (vec![n(8), n(6)], "axis 1 is 2*t + 1"),
            (vec![n(8), n(-1)], "axis 1 is 2*t + 1"),
        ] {
            let error = values(&inputs(), &given(&shape)).expect_err("it does not fit").to_string();
            assert!(error.contains(why), "{error}");
        }
        let other = Options { input_shapes: vec![("z".to_owned(), vec![])], ..Options::default() };
        assert_eq!(values(&inputs(), &other).expect_err("no z").code(), "egraft::cli::unknown_input");
        let other = Options { dims: vec![("z".into(), 1)], ..Options::default() };
        assert_eq!(values(&inputs(), &other).expect_err("no z").code(), "egraft::cli::unknown_dim");
    }

    #[test]
    fn names_of_dumps_tell_the_pass() {
        let after = |name: &str| dumped_after(Path::new(name));
        assert_eq!(after("d/03-dce.ir").as_deref(), Some("dce"));
        assert_eq!(after("00-import.ir").as_deref(), Some("import"));
        assert_eq!(after("109-fuse.kir").as_deref(), Some("fuse"));
        for other in ["dce.ir", "3-dce.ir", "03-nothing.ir", "m.ir", "my-dce.ir"] {
            assert_eq!(after(other), None, "{other}");
        }
    }

    #[test]
    fn models_are_known_by_name() {
        for name in ["m.onnx", "d/M.ONNX", "m.ir", "m.kir", "m.prog", "zoo:x"] {
            assert!(is_model(Path::new(name)), "{name}");
        }
        for name in ["m", "m.so", "zoo", "onnx"] {
            assert!(!is_model(Path::new(name)), "{name}");
        }
        let error = load(Path::new("m.pt"), &Options::default()).expect_err("no such format");
        assert_eq!(error.code(), "egraft::cli::unknown_format");
        let error = load(Path::new("zoo:x"), &Options::default()).expect_err("no such model");
        assert_eq!(error.code(), "egraft::cli::zoo_model");
    }
}
