//! `egraft run`: a model compiled in memory, or an artifact, with the options that every artifact has.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use egraft::source;
use runner::cli::{self, Command};
use runtime::Model;

use super::Common;
use crate::report::Failure;
use crate::watch::Watch;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  egraft run digits.onnx 0.npy\n  \
                        egraft run mlp.onnx --inputs in.safetensors --outputs out.safetensors\n  \
                        egraft run ./digits --bench 100 --threads 1 --json")]
pub(super) struct Run {
    /// A model, which is compiled in memory, or an artifact
    #[arg(value_name = "MODEL|ARTIFACT")]
    model: PathBuf,
    /// Files that are bound to the inputs in order; several times as many as inputs are several runs
    #[arg(value_name = "FILE.npy")]
    files: Vec<PathBuf>,
    /// Give one input; repeatable
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = input)]
    input: Vec<String>,
    /// Give inputs by name, from a .npz or .safetensors file; repeatable
    #[arg(long, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// Write the outputs to a .npz or .safetensors file instead of printing them
    #[arg(long, value_name = "FILE")]
    outputs: Option<PathBuf>,
    /// Seed of inputs that are not given
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Run this entry [default: the first]
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Time N runs, print median, p90 and p99 in milliseconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    bench: Option<u64>,
    /// Runs before the timed ones [default: 5]
    #[arg(long, value_name = "N", requires = "bench", value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    warmup: Option<u64>,
    /// Print what the model says about itself, and run nothing
    #[arg(long)]
    inspect: bool,
    #[command(flatten)]
    common: Common,
}

impl Run {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        let (model, dims) = if source::is_model(&self.model) {
            let (options, source) = self.common.load(&self.model)?;
            let mut watch = Watch::new();
            let done = egraft::compile(source, &options, &mut watch);
            // Sizes are fixed by now; the model knows those symbols no more.
            (watch.finish(done)?.model()?, Vec::new())
        } else {
            let sizes = self.common.dims.iter().map(|(name, value)| (name.to_string(), *value));
            (self.artifact()?, sizes.collect())
        };
        let command = match self.inspect {
            true => Command::Inspect { json: self.common.json },
            false => Command::Run(self.options(dims)),
        };
        cli::execute(&model, &command, "egraft run", out, &mut io::stderr())?;
        Ok(0)
    }

    fn artifact(&self) -> Result<Arc<Model>, Failure> {
        if let Some(option) = self.common.of_compilation() {
            return Err(Failure::bad_input(
                "egraft::runner::usage",
                format!("`{option}` is about compiling, and an artifact is compiled"),
                "leave it out, or run the model",
            ));
        }
        Model::from_file(&self.model).map_err(|error| super::not_an_artifact(&self.model, error))
    }

    fn options(&self, dims: Vec<(String, i64)>) -> cli::Options {
        let count = |count: u64| usize::try_from(count).expect("the number was checked to be small");
        let default = cli::Options::default();
        cli::Options {
            files: self.files.clone(),
            input: self.input.clone(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            seed: self.seed,
            dims,
            entry: self.entry.clone(),
            threads: self.common.threads.map(usize::from),
            bench: self.bench.map(count),
            warmup: self.warmup.map_or(default.warmup, count),
            json: self.common.json,
        }
    }
}

fn input(text: &str) -> Result<String, String> {
    if text.contains('=') { Ok(text.to_owned()) } else { Err("it must be NAME=FILE.npy".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::Cli;
    use super::*;

    /// Whoever knows an artifact knows `egraft run`.
    #[test]
    fn every_option_of_an_artifact_is_one_here() {
        let mut cli = Cli::command();
        let run = cli.find_subcommand_mut("run").expect("there is such a verb");
        let known: Vec<String> =
            run.get_arguments().filter_map(|arg| arg.get_long()).map(|name| format!("--{name}")).collect();
        let words = cli::HELP.split(|c: char| c.is_whitespace() || c == ',');
        for option in words.filter(|word| word.starts_with("--")) {
            let built_in = matches!(option, "--help" | "--version" | "--");
            assert!(built_in || known.iter().any(|name| name == option), "{option}");
        }
    }

    #[test]
    fn defaults_are_those_of_an_artifact() {
        use clap::Parser;
        let Ok(Cli { command: super::super::Command::Run(run) }) =
            Cli::try_parse_from(["egraft", "run", "m"])
        else {
            panic!("a complete command line");
        };
        assert_eq!(run.options(Vec::new()), cli::Options::default());
    }
}
