//! What the test suites share: models as text, random inputs, comparing results, running on every backend.

mod everywhere;
pub mod fake;
pub mod golden;
pub mod program;
pub mod shim;

pub use everywhere::Everywhere;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ir::build::Build;
use ir::dim::Symbol;
use ir::dtype::Class;
use ir::program::Program;
use ir::text::{parse_graph, parse_program};
use ir::weight::{Bytes, Hash};
use ir::{DType, Graph, Scalar, Tensor, TensorType, Value};
use ops::onnx::{Found, ImportError, Known, NodeAttr, NodeView, find_import};
use passes::pipeline::{self, State};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in the workspace").to_path_buf()
}

/// The contents of weights that a text names by hash; none for texts that hold theirs inline.
#[derive(Default)]
pub struct Weights(BTreeMap<Hash, Vec<u8>>);

impl Weights {
    /// Those of a graph or a program.
    pub fn of(state: &State) -> Weights {
        let mut contents = BTreeMap::new();
        let mut add = |weight: &ir::Weight| {
            contents.insert(weight.hash(), weight.tensor().bytes().to_vec());
        };
        match state {
            State::Graph(graph) => {
                graph.order().iter().filter_map(|&id| graph.node(id).weight()).for_each(&mut add)
            }
            State::Program(program) => program.weights.iter().for_each(|packed| add(&packed.weight)),
        }
        Weights(contents)
    }
}

impl ir::text::WeightSource for Weights {
    fn find(&self, hash: &Hash) -> Option<Bytes> {
        self.0.get(hash).map(|bytes| bytes.clone().into())
    }
}

/// The graph that `text` says.
///
/// # Panics
/// If it does not parse or verify.
pub fn graph(text: &str) -> Graph {
    let graph = parse_graph(text, &ops::find, &Weights::default())
        .unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    let violations = ir::verify::verify(&graph);
    assert!(violations.is_empty(), "{violations:#?}\n{text}");
    graph
}

/// The program that `text` says.
///
/// # Panics
/// If it does not parse or verify.
pub fn program(text: &str) -> Program {
    let program =
        parse_program(text, &Weights::default()).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    let violations = ir::verify::verify_program(&program);
    assert!(violations.is_empty(), "{violations:#?}\n{text}");
    program
}

/// A small seeded generator (splitmix64): the same numbers on every machine.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `−range..range`.
    pub fn number(&mut self, range: f64) -> f64 {
        ((self.bits() >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0) * range
    }

    /// A tensor of this type: floats in −2..2, integers in −3..=3 (0..=3 if unsigned), truth values at random.
    pub fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        Tensor::from_fn(dtype, shape, |_| match dtype {
            DType::Bool => Scalar::bool(self.bits() & 1 == 1),
            _ if dtype.is_float() => Scalar::from_f64(dtype, self.number(2.0)),
            _ if dtype.class() == Class::Unsigned => Scalar::from_i64(dtype, (self.bits() % 4) as i64),
            _ => Scalar::from_i64(dtype, (self.bits() % 7) as i64 - 3),
        })
    }
}

/// Random inputs for these types, every symbol having the value that `size` gives for it.
pub fn random_inputs<'a>(
    types: impl IntoIterator<Item = &'a TensorType>,
    seed: u64,
    size: &dyn Fn(&Symbol) -> i64,
) -> Vec<Tensor> {
    let mut random = Random::new(seed);
    types
        .into_iter()
        .map(|ty| {
            let dims = ty.shape.iter().map(|dim| dim.eval(&|s| Some(size(s))).expect("small sizes"));
            let shape: Vec<usize> =
                dims.map(|d| usize::try_from(d).expect("sizes are not negative")).collect();
            random.tensor(ty.dtype, &shape)
        })
        .collect()
}

/// The types of a graph's inputs.
pub fn input_types(graph: &Graph) -> Vec<&TensorType> {
    graph.inputs().iter().map(|&id| &graph.node(id).types[0]).collect()
}

/// How far results may be apart: `|a − b| ≤ atol + rtol·|b|`.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Absolute part.
    pub atol: f64,
    /// Relative part.
    pub rtol: f64,
}

impl Tolerance {
    /// Sums of up to a few thousand `f32` products against sums in `f64`.
    pub const F32: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };
    /// 16-bit floats keep eight bits of mantissa in the worse case.
    pub const HALF: Tolerance = Tolerance { atol: 2e-2, rtol: 2e-2 };
    /// Not at all.
    pub const EXACT: Tolerance = Tolerance { atol: 0.0, rtol: 0.0 };

    /// What suits the dtype.
    pub fn of(dtype: DType) -> Tolerance {
        match dtype {
            DType::F16 | DType::BF16 => Tolerance::HALF,
            DType::F32 | DType::F64 => Tolerance::F32,
            _ => Tolerance::EXACT,
        }
    }

    /// What is wrong with `found`, if anything.
    pub fn check(self, expected: &Tensor, found: &Tensor) -> Result<(), String> {
        if expected.ty() != found.ty() {
            return Err(format!("expected {}, found {}", expected.ty(), found.ty()));
        }
        for (at, (want, got)) in expected.values().zip(found.values()).enumerate() {
            let (a, b) = (got.to_f64(), want.to_f64());
            let same = got == want || a == b || (a.is_nan() && b.is_nan());
            if !same && ((a - b).abs() > self.atol + self.rtol * b.abs() || a.is_nan() || b.is_nan()) {
                return Err(format!("element {at}: expected {want}, found {got}"));
            }
        }
        Ok(())
    }
}

/// Compares lists of results, each by what suits its dtype.
pub fn check_all(expected: &[Tensor], found: &[Tensor]) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("expected {} results, found {}", expected.len(), found.len()));
    }
    for (i, (want, got)) in expected.iter().zip(found).enumerate() {
        Tolerance::of(want.dtype()).check(want, got).map_err(|why| format!("result {i}: {why}"))?;
    }
    Ok(())
}

/// The graph of one ONNX node, called `Op` or `domain.Op`, on these operands of a graph without outputs.
///
/// # Errors
/// Why it can't be imported.
///
/// # Panics
/// If there is no such op.
pub fn node_graph(
    mut b: Build,
    op: &str,
    operands: Vec<Option<Value>>,
    attrs: &[(&str, NodeAttr)],
    results: usize,
) -> Result<Graph, ImportError> {
    let attributes: BTreeMap<String, NodeAttr> =
        attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let known = RefCell::new(Known::new());
    let (domain, name) = op.rsplit_once('.').unwrap_or(("", op));
    let node = NodeView::new(name, 25, &attributes, &known)
        .in_domain(domain)
        .with_inputs(operands)
        .with_outputs(vec![true; results]);
    let Found::Import(import) = find_import(domain, name, 25) else { panic!("{op} is unknown") };
    let mut made = import.convert(&node, &mut b)?;
    made.truncate(results);
    Ok(b.finish(made))
}

/// The graph of an ONNX file.
///
/// # Panics
/// If it cannot be imported.
pub fn model(path: &Path) -> Graph {
    let source = egraft::load(path, &egraft::Options::default());
    match source.unwrap_or_else(|error| panic!("{}: {error}", path.display())).state {
        State::Graph(graph) => graph,
        State::Program(_) => unreachable!("an ONNX file is a graph"),
    }
}

/// The tensors `KIND_0.pb`, `KIND_1.pb`, … of a folder.
///
/// # Panics
/// If one of them is no tensor.
pub fn tensors(set: &Path, kind: &str) -> Vec<Tensor> {
    let paths = (0..).map(|i| set.join(format!("{kind}_{i}.pb"))).take_while(|path| path.exists());
    let read =
        |path: PathBuf| onnx::read_tensor(&std::fs::read(path).expect("readable")).expect("a tensor").1;
    paths.map(read).collect()
}

/// The program that the pipeline of a level makes of a graph, verified after every pass.
///
/// # Panics
/// If a pass fails.
pub fn compile(graph: &Graph, level: u8) -> Program {
    let options = pipeline::Run { verify: true, ..pipeline::Run::default() };
    let state = pipeline::run(State::Graph(graph.clone()), pipeline::of_level(level), &options, &mut ())
        .unwrap_or_else(|errors| panic!("{errors:#?}\n{graph}"));
    match state {
        State::Program(program) => program,
        State::Graph(_) => unreachable!("bug: the pipeline ends in a program"),
    }
}

/// The results of a program as native code, in memory.
///
/// # Panics
/// If it does not compile.
pub fn run_native(program: &Program, inputs: &[Tensor], threads: usize) -> Result<Vec<Tensor>, String> {
    let compiled = egraft::compile_program(program.clone(), &egraft::Options::default())
        .map_err(|error| error.to_string())?;
    compiled.run(inputs, threads).map_err(|error| error.to_string())
}

/// Values for symbols in the order of their names: the three settings that tests run with.
pub fn sizes_of_round(round: usize) -> impl Fn(&Symbol) -> i64 {
    let base = [1, 2, 7][round % 3];
    move |symbol| base + (symbol.name().len() as i64 % 2)
}

/// Runs a graph on every backend and compares with its evaluation.
///
/// # Panics
/// If any two disagree.
pub fn agree_everywhere(name: &str, graph: &Graph, inputs: &[Tensor]) {
    Everywhere::new(name, graph).run(inputs);
}

/// The settings in a filetest's first lines: `; test: passes=a,b sizes=3`.
pub fn header(text: &str) -> BTreeMap<String, String> {
    let line = text.lines().find_map(|line| line.strip_prefix("; test:")).unwrap_or_default();
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
