//! `egraft bench`: how long a model takes, kernel by kernel, next to what the machine could do and to other engines.
//!
//! Each figure is a median of runs of one bound session, of the same minutes as what it is compared with.

mod against;
mod kernels;
mod trace;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use egraft::output;
use runner::cli;
use runner::timing::{Bound, Times};
use serde_json::{Value, json};

use super::engines::{Engine, Python};
use super::given::Given;
use super::{Common, print_json};
use crate::report::Failure;
use against::Turns;
use kernels::{Machine, Profiled};

/// Profiled runs are no more than this many, so that the times of every step fit memory.
const PROFILED: usize = 100;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  egraft bench digits.onnx --dim batch=32\n  \
                        egraft bench bert.onnx --inputs in.npz --threads 1 --against onnxruntime --json\n  \
                        egraft bench ./digits --profile trace.json\n\n\
                        A share of the peak compares with multiply-adds in registers, a share of memory with reads of \
                        256 MB, both measured in the same run; what lies in caches is faster than memory. With \
                        `--target cuda`, memory is that of the GPU, its peak is not measured, and the time of a kernel is \
                        that of its launches by the GPU's clock.")]
pub(super) struct Bench {
    #[command(flatten)]
    given: Given,
    /// Runs before the timed ones
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    warmup: u32,
    /// Timed runs
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    iters: u32,
    /// Compare with another engine, in turns: the model must be a .onnx, and the outputs must agree
    #[arg(long, value_enum)]
    against: Option<Engine>,
    #[command(flatten)]
    python: Python,
    /// Write one run as a Chrome trace [default file: trace.json]
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "trace.json")]
    profile: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Bench {
    pub(super) fn run(mut self, out: &mut dyn Write) -> Result<u8, Failure> {
        // What can be known to fail is refused before any work.
        if let Some(path) = &self.profile {
            output::check(path)?;
            output::check_other(path, &self.given.model)?;
        }
        let mut other = match self.against {
            None => None,
            Some(engine) => {
                let other = engine.start(&self.given.model, &self.python)?;
                self.common.threads = engine.threads(self.common.threads)?;
                Some(other)
            }
        };
        let (warmup, iters) = (self.warmup as usize, self.iters as usize);
        let (model, options) = self.given.load(&self.common)?;
        let cli::Prepared { mut session, inputs, states } =
            cli::prepare(&model, &options, "egraft bench", &mut io::stderr())?;
        let mut bound = Bound::new(&mut session, &inputs, &states)?;
        if let Some(other) = &mut other {
            let entry = bound.session().entry();
            let names = entry.inputs.iter().map(|port| port.name.as_str());
            let named: Vec<_> = names.zip(&inputs).collect();
            let theirs = other.load(&self.given.model, &named, self.common.threads())?;
            against::compare_outputs(&bound, &theirs, other.name())?;
        }
        let latency = bound.times(warmup, iters)?;
        let profiled = Profiled::measure(&mut bound, iters.min(PROFILED))?;
        let machine = Machine::measure(&model, self.common.threads())?;
        let turns = match &mut other {
            None => None,
            Some(other) => Some(Turns::take(&mut bound, other.as_mut(), warmup, iters)?),
        };
        if let Some(path) = &self.profile {
            output::write(path, trace::of_one_run(&mut bound, &profiled)?.as_bytes())?;
        }
        let head = Head {
            model: self.given.model.display().to_string(),
            entry: bound.session().entry().name.clone(),
            warmup,
            latency,
        };
        if self.common.json {
            let mut report = head.json(&machine);
            report["profile"] = profiled.json(&machine);
            report["against"] = turns.as_ref().map_or(Value::Null, Turns::json);
            print_json(out, &report)?;
        } else {
            head.print(&machine, out)?;
            profiled.print(&machine, out)?;
            if let Some(turns) = &turns {
                turns.print(out)?;
            }
        }
        Ok(0)
    }
}

/// What is said of the model as a whole.
struct Head {
    model: String,
    entry: String,
    warmup: usize,
    latency: Times,
}

impl Head {
    fn figures(&self) -> [(&'static str, f64); 5] {
        let at = |quantile| self.latency.quantile(quantile);
        let mean = self.latency.mean();
        [("min", at(0.0)), ("median", at(0.5)), ("mean", mean), ("p90", at(0.9)), ("p99", at(0.99))]
    }

    fn json(&self, machine: &Machine) -> Value {
        let figures: serde_json::Map<_, _> =
            self.figures().into_iter().map(|(name, ms)| (name.to_owned(), json!(ms))).collect();
        json!({
            "model": self.model, "entry": self.entry, "threads": machine.threads, "warmup": self.warmup,
            "runs": self.latency.in_order().len(), "latency_ms": figures, "machine": machine.json(),
        })
    }

    fn print(&self, machine: &Machine, out: &mut dyn Write) -> Result<(), Failure> {
        let (threads, runs) = (machine.threads, self.latency.in_order().len());
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        writeln!(
            out,
            "{}, entry {}: {runs} run{} after {} on {}",
            self.model,
            self.entry,
            plural(runs),
            self.warmup,
            machine.device.clone().unwrap_or_else(|| format!("{threads} thread{}", plural(threads)))
        )?;
        for (name, ms) in self.figures() {
            writeln!(out, "{name:<7} {ms:.4} ms")?;
        }
        machine.print(out)
    }
}
