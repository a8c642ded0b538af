//! `egraft edit`: surgery on the experts of a model.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use egraft::{Options, Source, output, tensors, write};
use ir::{Graph, Symbol, Tensor};
use passes::edit::{self, Layer, Method, Momentum, Router, Upcycling};
use passes::pipeline::State;
use serde_json::{Value, json};

use super::verify::cases::{self, Case, Names};
use super::{Common, print_json, verify};
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(
    after_help = "The experts of the model are found by rewriting, whatever its exporter made of them; the result is a graph of grouped \
                        products. How often experts are chosen, and what the change does to results, is told by data: of \
                        --data, or random ones.\n\n\
                        Examples:\n  egraft edit moe.onnx -o small.ir --prune-experts 6 --data calibration.safetensors\n  \
                        egraft edit moe.onnx -o small.ir --merge-experts 4 --merge-by frequency\n  \
                        egraft edit moe.onnx -o heavy.onnx --momentum 0.7,1.0"
)]
pub(super) struct Edit {
    /// The model: .onnx, .ir or zoo:NAME
    model: PathBuf,
    /// The file to write: a .onnx, or a .ir with its weights in weights.bin beside it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Leave so many experts in each layer: those that are chosen most often
    #[arg(long, value_name = "N")]
    prune_experts: Option<usize>,
    /// Merge the experts of each layer to so many; the router stays as it is
    #[arg(long, value_name = "N")]
    merge_experts: Option<usize>,
    /// What one expert is made of several by: average, frequency or ties
    #[arg(long, value_name = "METHOD", default_value = "average", value_parser = method)]
    merge_by: Method,
    /// Let experts join the residual stream with momentum, by its constants MU,GAMMA, or without: off
    #[arg(long, value_name = "MU,GAMMA|off", value_parser = momentum)]
    momentum: Option<Momentum>,
    /// Make so many experts of each dense layer, all with its weights, K of which a token chooses: nothing changes until
    /// they are trained apart
    #[arg(long, value_name = "N,K", value_parser = pair)]
    upcycle: Option<(usize, usize)>,
    /// Weigh the experts that are chosen another way: topk-softmax, softmax-topk, softmax-topk-renorm or sigmoid
    #[arg(long, value_name = "ROUTER", value_parser = router)]
    router: Option<Router>,
    /// Inputs to calibrate on: a .safetensors or .npz file, by the names of the inputs
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Seed of random inputs, and of new routers
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

/// What became of a layer.
struct Change {
    layer: String,
    /// What was done to it, in words.
    done: String,
    /// How often each expert is chosen, on the data.
    chosen: Vec<f64>,
    experts: usize,
}

impl Edit {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        let changes_experts = self.prune_experts.is_some() || self.merge_experts.is_some();
        let changes_gates = self.router.is_some() || self.momentum.is_some();
        if !changes_experts && !changes_gates && self.upcycle.is_none() {
            return Err(Failure::bad_input(
                "egraft::edit::nothing",
                "no change is asked for",
                "say what to change: --prune-experts, --merge-experts, --momentum, --router or --upcycle",
            ));
        }
        let is_text = self.output.extension().is_some_and(|extension| extension == "ir");
        if !is_text && !write::is_onnx(&self.output) {
            return Err(Failure::bad_input(
                "egraft::cli::emit",
                format!(
                    "{} is no .ir or .onnx, and an edited model is written as nothing else",
                    self.output.display()
                ),
                "name a file that ends in .ir or .onnx",
            ));
        }
        output::check(&self.output)?;
        output::check_other(&self.output, &self.model)?;
        let (options, source) = self.common.load(&self.model)?;
        let names = verify::names(&source.state);
        let State::Graph(graph) = source.state.clone() else {
            return Err(Failure::bad_input(
                "egraft::cli::emit",
                "a program has no experts any more, only kernels",
                "start from the model itself, or from a .ir",
            ));
        };
        let cases = self.cases(&graph, &names)?;
        let cx = source.provenance.options.cx();
        let mut graph = edit::expose(graph, &cx).map_err(failure)?;
        let before = run(&graph, &options, &cases)?;
        let changes = self.change(&mut graph, &cx, &options, &cases)?;
        let after = run(&graph, &options, &cases)?;
        egraft::write_model(&self.output, &graph.to_string(), &State::Graph(graph.clone()))?;
        let errors = errors(&names, &before, &after);
        match self.common.json {
            true => print_json(out, &self.report(&changes, &errors, &cases))?,
            false => self.tell(out, &changes, &errors, &cases)?,
        }
        Ok(0)
    }

    /// Makes the changes, one kind after the other.
    fn change(
        &self,
        graph: &mut Graph,
        cx: &passes::Cx,
        options: &Options,
        cases: &[Case],
    ) -> Result<Vec<Change>, Failure> {
        let mut changes = Vec::new();
        let clean = |graph: &mut Graph| -> Result<(), Failure> {
            *graph = edit::clean(std::mem::replace(graph, Graph::new("")), cx).map_err(failure)?;
            Ok(())
        };
        if let Some((experts, chosen)) = self.upcycle {
            let layers =
                edit::upcycle(graph, Upcycling { experts, chosen, seed: self.seed }).map_err(failure)?;
            clean(graph)?;
            let done = format!("{experts} experts, of which a token chooses {chosen}");
            changes.extend(layers.into_iter().map(|layer| Change {
                layer,
                done: done.clone(),
                chosen: Vec::new(),
                experts: 1,
            }));
        }
        let prunes = self.prune_experts.is_some() || self.merge_experts.is_some();
        let count = if prunes { edit::layers(graph).map_err(failure)?.len() } else { 0 };
        for number in 0..count {
            if let Some(kept) = self.prune_experts {
                let (layer, chosen) = frequencies(graph, number, options, cases)?;
                let most = most_chosen(&chosen, kept);
                edit::prune(graph, &layer, &most).map_err(failure)?;
                clean(graph)?;
                let left = (0..layer.experts).filter(|expert| !most.contains(expert)).collect::<Vec<_>>();
                changes.push(Change::new(&layer, format!("experts {left:?} are left out"), chosen));
            }
            if let Some(merged) = self.merge_experts {
                let (layer, chosen) = frequencies(graph, number, options, cases)?;
                let groups = edit::merge(graph, &layer, merged, self.merge_by, &chosen).map_err(failure)?;
                clean(graph)?;
                let members =
                    |group| (0..groups.len()).filter(|&expert| groups[expert] == group).collect::<Vec<_>>();
                let members = (0..merged).map(members).collect::<Vec<_>>();
                changes.push(Change::new(
                    &layer,
                    format!("{} experts are {members:?}", layer.experts),
                    chosen,
                ));
            }
        }
        if let Some(router) = self.router {
            for number in 0..edit::layers(graph).map_err(failure)?.len() {
                let layer = edit::layers(graph).map_err(failure)?.swap_remove(number);
                edit::set_router(graph, &layer, router).map_err(failure)?;
                clean(graph)?;
                let name =
                    Router::ALL.into_iter().find(|(_, one)| *one == router).map_or("", |(name, _)| name);
                changes.push(Change::new(&layer, format!("gates are {name}"), Vec::new()));
            }
        }
        if let Some(momentum) = self.momentum {
            let layers = edit::layers(graph).map_err(failure)?;
            edit::set_momentum(graph, &layers, momentum).map_err(failure)?;
            clean(graph)?;
            let done = match momentum {
                Momentum::On { mu, gamma } => format!("momentum with mu = {mu}, gamma = {gamma}"),
                Momentum::Off => "no momentum".to_owned(),
            };
            changes.extend(layers.iter().map(|layer| Change::new(layer, done.clone(), Vec::new())));
        }
        Ok(changes)
    }

    /// The data to calibrate on.
    fn cases(&self, graph: &Graph, names: &Names) -> Result<Vec<Case>, Failure> {
        if let Some(path) = &self.data {
            return cases::read(path, names);
        }
        let size = |_: &Symbol| Some(16);
        let mut inputs = Vec::new();
        for (index, &input) in graph.inputs().iter().enumerate() {
            let ty = graph.ty(input.into());
            let tensor = tensors::random(ty, self.seed, index, &size).ok_or_else(|| {
                Failure::bad_input(
                    "egraft::cli::random_input",
                    format!(
                        "no random tensor can be made for input `{}` of type {ty}",
                        graph.input_name(input)
                    ),
                    "give data with `--data`",
                )
            })?;
            inputs.push(tensor);
        }
        let name = format!("random inputs (seed {})", self.seed);
        Ok(vec![Case { name, inputs, expected: Vec::new() }])
    }

    fn report(&self, changes: &[Change], errors: &[Distance], cases: &[Case]) -> Value {
        let change = |change: &Change| json!({"layer": change.layer, "done": change.done, "chosen": change.chosen, "experts": change.experts});
        let error = |error: &Distance| json!({"output": error.output, "max_distance": error.max, "largest": error.largest});
        json!({
            "output": self.output.display().to_string(),
            "data": cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>(),
            "layers": changes.iter().map(change).collect::<Vec<_>>(),
            "errors": errors.iter().map(error).collect::<Vec<_>>(),
        })
    }

    fn tell(
        &self,
        out: &mut dyn Write,
        changes: &[Change],
        errors: &[Distance],
        cases: &[Case],
    ) -> Result<(), Failure> {
        for Change { layer, done, chosen, .. } in changes {
            writeln!(out, "{layer}: {done}")?;
            if !chosen.is_empty() {
                let total: f64 = chosen.iter().sum::<f64>().max(1.0);
                let shares: Vec<String> =
                    chosen.iter().map(|n| format!("{:.1} %", 100.0 * n / total)).collect();
                writeln!(out, "  chosen: {}", shares.join(", "))?;
            }
        }
        let data = cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>().join(", ");
        for Distance { output, max, largest } in errors {
            writeln!(out, "{output}: {max:.3e} away at most, of {largest:.3e} ({data})")?;
        }
        writeln!(out, "{}: written", self.output.display())?;
        Ok(())
    }
}

impl Change {
    fn new(layer: &Layer, done: String, chosen: Vec<f64>) -> Change {
        Change { layer: layer.name.clone(), done, chosen, experts: layer.experts }
    }
}

/// How far an output is from what it was.
struct Distance {
    output: String,
    max: f64,
    largest: f64,
}

fn errors(names: &Names, before: &[Vec<Tensor>], after: &[Vec<Tensor>]) -> Vec<Distance> {
    let distance = |(at, output): (usize, &String)| {
        let pairs = before.iter().zip(after).map(|(before, after)| (&before[at], &after[at]));
        let (mut max, mut largest) = (0.0_f64, 0.0_f64);
        for (before, after) in pairs {
            for (x, y) in before.to_f64().into_iter().zip(after.to_f64()) {
                largest = largest.max(x.abs());
                max = if (x - y).is_nan() { f64::NAN } else { max.max((x - y).abs()) };
            }
        }
        Distance { output: output.clone(), max, largest }
    };
    names.outputs.iter().enumerate().map(distance).collect()
}

/// What a graph gives for the data, natively.
fn run(graph: &Graph, options: &Options, cases: &[Case]) -> Result<Vec<Vec<Tensor>>, Failure> {
    let source = Source::of_graph(graph.clone(), options);
    let compiled = egraft::compile(source, options, &mut ())?;
    let model = compiled.model()?;
    cases.iter().map(|case| Ok(egraft::run(model.clone(), &case.inputs, 1)?)).collect()
}

/// A layer, and how often each of its experts is chosen.
fn frequencies(
    graph: &Graph,
    number: usize,
    options: &Options,
    cases: &[Case],
) -> Result<(Layer, Vec<f64>), Failure> {
    let mut layers = edit::layers(graph).map_err(failure)?;
    let layer = layers.swap_remove(number);
    let mut shown = graph.clone();
    shown.set_outputs([("ids".to_owned(), layer.ids)]);
    let mut chosen = vec![0.0; layer.experts];
    for outputs in run(&shown, options, cases)? {
        for id in outputs[0].to_i64() {
            if let Some(count) = usize::try_from(id).ok().and_then(|id| chosen.get_mut(id)) {
                *count += 1.0;
            }
        }
    }
    Ok((layer, chosen))
}

/// The experts that are chosen most often, in their order.
fn most_chosen(chosen: &[f64], count: usize) -> Vec<usize> {
    let mut experts: Vec<usize> = (0..chosen.len()).collect();
    experts.sort_by(|&a, &b| chosen[b].total_cmp(&chosen[a]).then(a.cmp(&b)));
    experts.truncate(count);
    experts.sort_unstable();
    experts
}

fn failure(error: edit::EditError) -> Failure {
    Failure::bad_input(error.code(), error.to_string(), error.help())
}

fn method(text: &str) -> Result<Method, String> {
    let found = Method::ALL.into_iter().find(|(name, _)| *name == text);
    let names = Method::ALL.map(|(name, _)| name).join(", ");
    found.map(|(_, method)| method).ok_or_else(|| format!("the methods are {names}"))
}

fn router(text: &str) -> Result<Router, String> {
    let found = Router::ALL.into_iter().find(|(name, _)| *name == text);
    let names = Router::ALL.map(|(name, _)| name).join(", ");
    found.map(|(_, router)| router).ok_or_else(|| format!("the routers are {names}"))
}

fn pair(text: &str) -> Result<(usize, usize), String> {
    let (first, second) = text.split_once(',').ok_or("it must be N,K")?;
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
    Ok((number(first)?, number(second)?))
}

fn momentum(text: &str) -> Result<Momentum, String> {
    if text == "off" {
        return Ok(Momentum::Off);
    }
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    let (mu, gamma) = text.split_once(',').unwrap_or((text, "1"));
    match (number(mu), number(gamma)) {
        (Some(mu), Some(gamma)) => Ok(Momentum::On { mu, gamma }),
        _ => Err("it must be MU,GAMMA, two numbers, or off".to_owned()),
    }
}
