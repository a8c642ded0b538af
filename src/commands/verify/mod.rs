//! `egraft verify`: a model compiled, run, and compared with known results, the reference or another engine.
//!
//! The model is compiled before any data is read: nothing that is compared can have shaped it. Lengths of sequences,
//! absent optionals, and values of inputs that decide lengths are the exception; which they are is told.

mod bisect;
pub(super) mod cases;
#[cfg_attr(not(feature = "onnx"), path = "folder_without_onnx.rs")]
mod folder;
mod routing;
mod through;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use egraft::{Options, Source, tensors};
use ir::graph::Kind;
use ir::{Graph, NodeId, Symbol, Tensor, TensorType};
use passes::Target;
use passes::pipeline::State;
use serde_json::json;

use super::compare::{Comparison, Tolerance, compare};
use super::engines::{Engine, Other, Python};
use super::{Common, print_json};
use crate::report::{FAILED, Failure};
use crate::watch::Watch;
use cases::{Case, Names};
use folder::Loaded;
use routing::Flips;
use through::{Ready, Through};

/// The value of a symbol that nothing else fixes: larger than 1, and no power of two.
const SIZE: i64 = 3;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  egraft verify mlp.onnx\n  egraft verify resnet.onnx --data resnet/ --rtol 1e-3\n  \
                        egraft verify mlp.onnx --per-node\n  egraft verify mlp.onnx --bisect\n  egraft verify mlp.onnx --against onnxruntime\n  egraft verify moe.onnx --pin-routing"
)]
pub(super) struct Verify {
    /// The model
    model: PathBuf,
    /// Inputs and outputs: a folder with set_K/input_J.pb and output_J.pb, or a .safetensors or .npz file
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
    /// How the compiled model is run
    #[arg(long, value_enum, default_value_t = Through::Jit)]
    through: Through,
    /// Compare with this instead of the outputs in the data
    #[arg(long, value_enum)]
    against: Option<Against>,
    #[command(flatten)]
    python: Python,
    /// Largest absolute difference of floats [default: 1e-5; 2e-2 for 16 bits]
    #[arg(long, value_name = "A", value_parser = tolerance)]
    atol: Option<f64>,
    /// Largest difference relative to the expected value [default: 1e-3; 2e-2 for 16 bits]
    #[arg(long, value_name = "R", value_parser = tolerance)]
    rtol: Option<f64>,
    /// Compare the value of every node with the reference, and name the first that differs. Nodes whose values are
    /// looked at are not fused with their readers
    #[arg(long)]
    per_node: bool,
    /// If results are wrong, find out which rewrite rule is guilty, and the first node at which it shows. Compiles and
    /// runs the model again for each rule that applies
    #[arg(long, conflicts_with = "per_node")]
    bisect: bool,
    /// Send each token to the experts that the reference chooses for it: what is left is numeric error
    #[arg(long, conflicts_with_all = ["per_node", "bisect"])]
    pin_routing: bool,
    /// On a GPU, keep bytes that nobody may write on both sides of every buffer, input, output and of the weights, look at
    /// them after each kernel, and stop at the first that writes there. Needs `--target cuda`
    #[arg(long)]
    guard: bool,
    /// Seed of random inputs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    /// Evaluation of the model op by op
    Reference,
    /// The Python package of that name, in a process of its own: the model must be a .onnx
    Onnxruntime,
    /// The crate tract-onnx, in this process: the model must be a .onnx; needs an egraft with the feature `tract`
    Tract,
}

impl Against {
    /// The other engine, if it is one.
    fn engine(self) -> Option<Engine> {
        match self {
            Against::Reference => None,
            Against::Onnxruntime => Some(Engine::Onnxruntime),
            Against::Tract => Some(Engine::Tract),
        }
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value: &f64| *value >= 0.0)
        .ok_or_else(|| "it must be a number of at least 0".to_owned())
}

/// Inputs with what must come out.
struct Opinion {
    case: Case,
    /// What the results are compared with.
    with: String,
    /// In the order of the model's outputs; `None` for those that nobody speaks of.
    expected: Vec<Option<Tensor>>,
}

/// How the results of one case compare.
struct Verdict {
    case: String,
    /// What the results are compared with.
    with: String,
    outputs: Vec<Comparison>,
    /// The choices of experts that differ, where results do.
    routing: Vec<Flips>,
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.outputs.iter().all(Comparison::is_good)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.case, "against": self.with, "ok": self.is_good(),
            "outputs": self.outputs.iter().map(Comparison::json).collect::<Vec<_>>(),
            "routing": self.routing.iter().map(Flips::json).collect::<Vec<_>>(),
        })
    }
}

impl Verify {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        if self.common.keeps_states() {
            return Err(Failure::bad_input(
                "egraft::cli::keep",
                "`--keep` is about several runs, and these know nothing of each other",
                "leave it out: the model computes the same",
            ));
        }
        let mut other = self.other()?;
        let options = self.common.checked_options(&self.model)?;
        let loaded = folder::load(&self.model, self.data.as_deref(), options)?;
        let Loaded { options, mut source, told, data } = loaded;
        if self.guard && (self.through != Through::Jit || source.provenance.options.target() != Target::Gpu) {
            return Err(Failure::bad_input(
                "egraft::cli::guard",
                "`--guard` looks at the memory of a GPU, from this process",
                "give `--target cuda`, and leave out `--through`",
            ));
        }
        if self.per_node {
            source.state = show_all(source.state)?;
        }
        let names = names(&source.state);
        let types = input_types(&source.state);
        let original = source.clone();
        let routers = routing::routers(&source.state);
        let mut ids = Vec::new();
        if self.pin_routing {
            (source, ids) = routing::pinned(&source, &routers);
        }
        let mut watch = Watch::new();
        let made = self.through.compile(self.guard, source, &options, &mut watch)?;
        let mut cases = match &self.data {
            Some(path) if path.is_dir() => data.cases(path, &names, !self.per_node)?,
            Some(path) => cases::read(path, &names)?,
            None => vec![self.random(&types, &names)?],
        };
        for (tensor, ty) in cases.iter_mut().flat_map(|case| case.inputs.iter_mut().zip(&types)) {
            if let Some(read) = tensors::read_as(tensor, ty.dtype) {
                *tensor = read;
            }
        }
        let mut judge = |ready: &Ready, case: Case| {
            // The model speaks first: what it says of inputs that don't fit is what its users will read.
            let mut inputs = case.inputs.clone();
            if self.pin_routing {
                inputs.extend(routing::reference_ids(&original, &routers, &inputs)?);
            }
            let found = ready.run(&inputs, &routing::with_ids(&names, &ids), self.common.threads())?;
            let opinion = self.opinion(&original, &mut other, &names, case)?;
            let mut verdict = self.verdict(&names, &found, &opinion);
            if !verdict.is_good() && !self.pin_routing && !routers.is_empty() {
                verdict.routing = self.flips(&original, &options, &routers, &opinion.case.inputs)?;
            }
            Ok((verdict, opinion))
        };
        let judged: Result<Vec<(Verdict, Opinion)>, Failure> = egraft::output::with_folder(|folder| {
            Ok(Ready::new(self.through, &made, folder)
                .and_then(|ready| cases.into_iter().map(|case| judge(&ready, case)).collect()))
        })?;
        let (verdicts, opinions): (Vec<Verdict>, Vec<Opinion>) = judged?.into_iter().unzip();
        let good = verdicts.iter().all(Verdict::is_good);
        let found = match self.bisect && !good {
            true => Some(bisect::run(&self, &original, &options, &names, &opinions)?),
            false => None,
        };
        if self.common.json {
            let cases: Vec<_> = verdicts.iter().map(Verdict::json).collect();
            let mut report = json!({"model": original.provenance.model, "ok": good, "cases": cases});
            if !told.is_empty() {
                report["compiled_for"] = json!(told);
            }
            if self.bisect {
                report["bisect"] = json!(found.as_ref().map(bisect::json));
            }
            print_json(out, &report)?;
        } else {
            if !told.is_empty() {
                writeln!(out, "compiled for {}, as the data have it", told.join(", "))?;
            }
            self.tell(&verdicts, out)?;
            found.iter().try_for_each(|found| bisect::tell(found, out))?;
        }
        Ok(if good { 0 } else { FAILED })
    }

    fn tell(&self, verdicts: &[Verdict], out: &mut dyn Write) -> Result<(), Failure> {
        for verdict in verdicts {
            let wrong: Vec<&Comparison> = verdict.outputs.iter().filter(|output| !output.is_good()).collect();
            let Some(first) = wrong.first() else {
                let most = verdict.outputs.iter().map(|output| output.max_distance).fold(0.0, f64::max);
                writeln!(
                    out,
                    "{}: ok, {} outputs agree with {}, largest distance {most:.3e}",
                    verdict.case,
                    verdict.outputs.len(),
                    verdict.with
                )?;
                continue;
            };
            writeln!(out, "{}: differs from {}", verdict.case, verdict.with)?;
            if self.per_node {
                writeln!(out, "  first, {}", first.describe())?;
                writeln!(out, "  and so do {} of {} nodes in all", wrong.len(), verdict.outputs.len())?;
            } else {
                wrong.iter().try_for_each(|output| writeln!(out, "  {}", output.describe()))?;
            }
            verdict.routing.iter().try_for_each(|flips| flips.tell(out))?;
            if !verdict.routing.is_empty() {
                writeln!(out, "  with --pin-routing, tokens go where the reference sends them")?;
            }
        }
        Ok(())
    }

    /// How the choices of experts differ from the reference's.
    fn flips(
        &self,
        original: &Source,
        options: &Options,
        routers: &[NodeId],
        inputs: &[Tensor],
    ) -> Result<Vec<Flips>, Failure> {
        let shown = routing::shown(original, routers);
        let expected = reference(&shown.state, inputs)?;
        let model = super::ready(shown, options, &mut Watch::new())?;
        let found = egraft::run(model, inputs, self.common.threads())?;
        let mut all = routing::compare(original, routers, &found, &expected);
        all.retain(|flips| !flips.is_none());
        Ok(all)
    }

    /// Random inputs, but for those whose values are given. Symbols that `--dim` does not fix have the same small value.
    fn random(&self, types: &[TensorType], names: &Names) -> Result<Case, Failure> {
        let size = |_: &Symbol| Some(SIZE);
        let inputs = types.iter().zip(&names.inputs).enumerate().map(|(index, (ty, name))| {
            if let Some(fixed) = self.common.fixed(name, ty) {
                return Ok(fixed);
            }
            tensors::random(ty, self.seed, index, &size).ok_or_else(|| {
                Failure::bad_input(
                    "egraft::cli::verify_input",
                    format!("no random tensor can be made for input `{name}` of type {ty}"),
                    "give `--data`, or fix its sizes with `--dim`",
                )
            })
        });
        let inputs = inputs.collect::<Result<_, _>>()?;
        let expected = names.outputs.iter().map(|_| None).collect();
        Ok(Case { name: format!("random inputs (seed {})", self.seed), inputs, expected })
    }

    /// The engine to compare with, if it is not the reference or the data.
    fn other(&self) -> Result<Option<Box<dyn Other>>, Failure> {
        let Some(engine) = self.against.and_then(Against::engine) else { return Ok(None) };
        if self.per_node {
            return Err(Failure::bad_input(
                "egraft::cli::against",
                "`--per-node` compares with the reference: other engines do not show what their nodes give",
                "leave out one of them",
            ));
        }
        engine.start(&self.model, &self.python).map(Some)
    }

    /// What a case's outputs must be: what the data say, unless something else is asked.
    fn opinion(
        &self,
        original: &Source,
        other: &mut Option<Box<dyn Other>>,
        names: &Names,
        case: Case,
    ) -> Result<Opinion, Failure> {
        let is_known = !self.per_node && case.expected.iter().any(Option::is_some);
        let (with, expected) = match other {
            Some(other) => {
                let inputs = through::to_files(&case.inputs)?;
                let named: Vec<_> = names.inputs.iter().map(String::as_str).zip(&inputs).collect();
                let values = other.load(&self.model, &named, self.common.threads())?;
                (other.name().to_owned(), values.into_iter().map(Some).collect())
            }
            None if self.against.is_none() && is_known => ("the data".to_owned(), case.expected.clone()),
            None => {
                let values = reference(&original.state, &case.inputs)?;
                ("the reference".to_owned(), values.into_iter().map(Some).collect())
            }
        };
        Ok(Opinion { case, with, expected })
    }

    /// Compares results with what they must be.
    fn verdict(&self, names: &Names, found: &[Tensor], opinion: &Opinion) -> Verdict {
        let Opinion { case, with, expected } = opinion;
        let tolerance = Tolerance { atol: self.atol, rtol: self.rtol };
        let named = names.outputs.iter().zip(found).zip(expected);
        let outputs = named.filter_map(|((name, found), expected)| {
            Some(compare(name, found, expected.as_ref()?, tolerance))
        });
        Verdict {
            case: case.name.clone(),
            with: with.clone(),
            outputs: outputs.collect(),
            routing: Vec::new(),
        }
    }
}

pub(super) fn names(state: &State) -> Names {
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    match state {
        State::Graph(graph) => Names {
            inputs: owned(graph.inputs().iter().map(|&id| graph.input_name(id)).collect()),
            outputs: owned(graph.output_names()),
        },
        State::Program(program) => {
            let entry = program.entries.first();
            let names = |ports: &[ir::program::Port]| ports.iter().map(|port| port.name.clone()).collect();
            Names {
                inputs: entry.map_or_else(Vec::new, |entry| names(&entry.inputs)),
                outputs: entry.map_or_else(Vec::new, |entry| names(&entry.outputs)),
            }
        }
    }
}

fn input_types(state: &State) -> Vec<TensorType> {
    match state {
        State::Graph(graph) => graph.inputs().iter().map(|&id| graph.node(id).types[0].clone()).collect(),
        State::Program(program) => program
            .entries
            .first()
            .map_or_else(Vec::new, |entry| entry.inputs.iter().map(|port| port.ty.clone()).collect()),
    }
}

/// What the model gives by its meaning: a graph by evaluation, a program by walking its kernels.
fn reference(state: &State, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
    let wrong = |code: &'static str, message: String| {
        Failure::bad_input(
            code,
            format!("the reference refuses these inputs: {message}"),
            "check their dtypes and shapes",
        )
    };
    match state {
        State::Graph(graph) => {
            reference::run_graph(graph, inputs).map_err(|at| wrong(at.error.code(), at.to_string()))
        }
        State::Program(program) => reference::run_program(program, 0, inputs)
            .map_err(|error| wrong("egraft::cli::verify_input", error.to_string())),
    }
}

/// The graph with the value of every node as an output, in the order in which they are computed.
fn show_all(state: State) -> Result<State, Failure> {
    let State::Graph(mut graph) = state else {
        return Err(Failure::bad_input(
            "egraft::cli::emit",
            "`--per-node` looks into a graph, and this is a program already",
            "start from the .onnx or a .ir",
        ));
    };
    let outputs = all_values(&graph);
    graph.set_outputs(outputs);
    Ok(State::Graph(graph))
}

fn all_values(graph: &Graph) -> Vec<(String, ir::Value)> {
    let mut outputs = Vec::new();
    for id in graph.order() {
        let node = graph.node(id);
        let Kind::Op { def, .. } = &node.kind else { continue };
        for result in 0..node.types.len() {
            let number = outputs.len();
            let origin =
                node.origin.places().first().map_or_else(String::new, |place| format!(" of {}", place.name));
            // The number makes it unique.
            outputs.push((format!("%{number} {}{origin}", def.name), ir::Value { node: id, result }));
        }
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let mut build = ir::build::Build::new("g");
        let x = build.input("x", TensorType::new(ir::DType::F32, [ir::Dim::symbol("n")]));
        let mut graph = build.finish(vec![x]);
        let add = |graph: &mut Graph, name: &str, value: ir::Value| {
            let op = ops::find(name).expect("there is such an op");
            let attrs = op.check_attrs([]).expect("it has none");
            graph.add_op(op, &[value], attrs, ir::Origin::none()).expect("it fits")
        };
        let a = add(&mut graph, "exp", x);
        let b = add(&mut graph, "neg", a.into());
        graph.set_outputs([("y".to_owned(), b.into())]);
        graph
    }

    #[test]
    fn every_value_becomes_an_output() {
        let State::Graph(shown) = show_all(State::Graph(graph())).expect("it is a graph") else {
            panic!("it stays one")
        };
        assert_eq!(shown.output_names(), ["%0 exp", "%1 neg"]);
        let inputs = [Tensor::from_f32(&[2], &[0.0, 1.0])];
        let values = reference(&State::Graph(shown), &inputs).expect("they fit");
        assert_eq!(values.len(), 2);
        assert_eq!(values[1].to_f64()[0], -1.0);
    }

    #[test]
    fn the_reference_names_what_does_not_fit() {
        let Err(Failure::Problems { problems, .. }) = reference(&State::Graph(graph()), &[]) else {
            panic!("an input is missing")
        };
        assert!(problems[0].message.contains("refuses"), "{}", problems[0].message);
    }

    #[test]
    fn tolerances_are_not_negative() {
        assert_eq!(tolerance("1e-3"), Ok(1e-3));
        for bad in ["-1", "x", "nan"] {
            assert!(tolerance(bad).is_err(), "{bad}");
        }
    }
}
