//! `egraft edit`: surgery on the experts of a model.

mod surgery;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use egraft::{Options, Source, output, tensors, write};
use ir::{Graph, Symbol, Tensor};
use passes::edit::{self, Cluster, Merging, Method, Mixing, Momentum, Router, Upcycling};
use passes::pipeline::State;
use serde_json::{Value, json};

use super::verify::cases::{self, Case, Names};
use super::{Common, print_json, verify};
use crate::report::Failure;
use surgery::{Change, Surgery};

#[derive(Debug, Args)]
#[command(
    after_help = "The experts of the model are found by rewriting, whatever its exporter made of them; the result is a graph of grouped \
                        products. How often experts are chosen, and what the change does to results, is told by data: of \
                        --data, or random ones.\n\n\
                        Examples:\n  egraft edit moe.onnx -o small.ir --prune-experts 6 --data calibration.safetensors\n  \
                        egraft edit moe.onnx -o small.ir --merge-experts 4 --cluster-by outputs --merge-by frequency\n  \
                        egraft edit deepseek.onnx -o fast.onnx --fold-shared-experts\n  \
                        egraft edit moe.onnx -o heavy.onnx --momentum 0.7,1.0\n  \
                        egraft edit encoder.onnx -o molex.onnx --upcycle molex,0.95"
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
    /// Which experts are merged: those with weights alike, or with outputs alike on the data: weights or outputs
    #[arg(long, value_name = "WHAT", default_value = "weights", value_parser = cluster, requires = "merge_experts")]
    cluster_by: Cluster,
    /// What one expert is made of several by: average, frequency, ties, dare; or with weights of the data, fisher or camex
    #[arg(long, value_name = "METHOD", default_value = "average", value_parser = method, requires = "merge_experts")]
    merge_by: Method,
    /// Make shared experts, which every token takes, part of the grouped products: the same values in fewer kernels
    #[arg(long)]
    fold_shared_experts: bool,
    /// Let experts join the residual stream with momentum, by its constants MU,GAMMA, or without: off
    #[arg(long, value_name = "MU,GAMMA|off", value_parser = momentum)]
    momentum: Option<Momentum>,
    /// Make so many experts of each dense layer, all with its weights, K of which a token chooses: nothing changes until
    /// they are trained apart. Or make the layers that the model repeats experts of each other, each of which keeps a share ALPHA
    /// (0.9) of itself: molex
    #[arg(long, value_name = "N,K|molex[,ALPHA]", value_parser = upcycle)]
    upcycle: Option<Upcycle>,
    /// Weigh the experts that are chosen another way: topk-softmax, softmax-topk, softmax-topk-renorm or sigmoid; or let each
    /// layer but the first route features by how tight the clusters of the layer before are: ac
    #[arg(long, value_name = "ROUTER", value_parser = router)]
    router: Option<Router>,
    /// Inputs to calibrate on: a .safetensors or .npz file, by the names of the inputs
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Seed of random inputs, of new routers, and of what dare drops
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

impl Edit {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        let changes_experts = self.prune_experts.is_some() || self.merge_experts.is_some();
        let changes_gates = self.router.is_some() || self.momentum.is_some();
        let changes_layers = self.upcycle.is_some() || self.fold_shared_experts;
        if !changes_experts && !changes_gates && !changes_layers {
            return Err(Failure::bad_input(
                "egraft::edit::nothing",
                "no change is asked for",
                "say what to change: --prune-experts, --merge-experts, --momentum, --router, --upcycle or \
                 --fold-shared-experts",
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
        let graph = edit::expose(graph, &cx).map_err(failure)?;
        let before = run(&graph, &options, &cases)?;
        let surgery = Surgery { graph, cx: &cx, options: &options, cases: &cases, changes: Vec::new() };
        let Surgery { graph, changes, .. } = self.change(surgery)?;
        let after = run(&graph, &options, &cases)?;
        egraft::write_model(&self.output, &graph.to_string(), &State::Graph(graph.clone()))?;
        let errors = errors(&names, &before, &after);
        match self.common.json {
            true => print_json(out, &self.report(&changes, &errors, &cases))?,
            false => self.tell(out, &changes, &errors, &cases)?,
        }
        Ok(0)
    }

    /// Makes the changes, one kind after the other: first what experts there are, and last what joins them to the rest.
    fn change<'a>(&self, mut surgery: Surgery<'a>) -> Result<Surgery<'a>, Failure> {
        match self.upcycle {
            None => {}
            Some(Upcycle::Experts { experts, chosen }) => {
                surgery.upcycle(Upcycling { experts, chosen, seed: self.seed })?;
            }
            Some(Upcycle::Layers { own }) => surgery.mix_layers(Mixing { own, seed: self.seed })?,
        }
        if let Some(kept) = self.prune_experts {
            surgery.prune(kept)?;
        }
        if let Some(count) = self.merge_experts {
            let merging = Merging { cluster: self.cluster_by, method: self.merge_by, seed: self.seed };
            surgery.merge(count, merging)?;
        }
        if let Some(router) = self.router {
            surgery.set_router(router)?;
        }
        if self.fold_shared_experts {
            surgery.fold_shared()?;
        }
        if let Some(momentum) = self.momentum {
            surgery.set_momentum(momentum)?;
        }
        Ok(surgery)
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

fn failure(error: edit::EditError) -> Failure {
    Failure::bad_input(error.code(), error.to_string(), error.help())
}

/// One of several things that have names.
fn named<T: Copy>(all: &[(&str, T)], text: &str) -> Result<T, String> {
    let found = all.iter().find(|(name, _)| *name == text);
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    found.map(|(_, one)| *one).ok_or_else(|| format!("it must be one of {}", names.join(", ")))
}

fn cluster(text: &str) -> Result<Cluster, String> {
    named(&Cluster::ALL, text)
}

fn method(text: &str) -> Result<Method, String> {
    named(&Method::ALL, text)
}

fn router(text: &str) -> Result<Router, String> {
    named(&Router::ALL, text)
}

/// What becomes of a dense model.
#[derive(Debug, Clone, Copy)]
enum Upcycle {
    /// Its dense layers have experts.
    Experts { experts: usize, chosen: usize },
    /// Its layers are experts.
    Layers { own: f64 },
}

fn upcycle(text: &str) -> Result<Upcycle, String> {
    let (first, second) = text.split_once(',').map_or((text, None), |(first, second)| (first, Some(second)));
    if first == "molex" {
        let own = second.map_or(Some(0.9), |own| own.parse().ok()).filter(|own| (0.0..=1.0).contains(own));
        return own.map(|own| Upcycle::Layers { own }).ok_or("ALPHA must be a share, from 0 to 1".to_owned());
    }
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
    let second = second.ok_or("it must be N,K or molex")?;
    Ok(Upcycle::Experts { experts: number(first)?, chosen: number(second)? })
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
