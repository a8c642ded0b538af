//! `egraft run`: a model compiled in memory, or an artifact, with the options that every artifact has.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use runner::cli::{self, Command};

use super::Common;
use super::given::Given;
use crate::report::Failure;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  egraft run digits.onnx 0.npy\n  \
                        egraft run mlp.onnx --inputs in.safetensors --outputs out.safetensors\n  \
                        egraft run ./digits --bench 100 --threads 1 --json")]
pub(super) struct Run {
    #[command(flatten)]
    given: Given,
    /// Write the outputs to a .npz or .safetensors file instead of printing them
    #[arg(long, value_name = "FILE")]
    outputs: Option<PathBuf>,
    /// Let each of several runs go on from the state that the one before has left
    #[arg(long)]
    keep_state: bool,
    /// Write the states to a .npz or .safetensors file after the last run
    #[arg(long, value_name = "FILE")]
    save_state: Option<PathBuf>,
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
        let (model, options) = self.given.load(&self.common)?;
        let command = match self.inspect {
            true => Command::Inspect { json: self.common.json },
            false => Command::Run(Box::new(self.options(options))),
        };
        cli::execute(&model, &command, "egraft run", out, &mut io::stderr())?;
        Ok(0)
    }

    fn options(&self, given: cli::Options) -> cli::Options {
        let count = |count: u64| usize::try_from(count).expect("the number was checked to be small");
        cli::Options {
            outputs: self.outputs.clone(),
            keep_state: self.keep_state,
            save_state: self.save_state.clone(),
            bench: self.bench.map(count),
            warmup: self.warmup.map_or(given.warmup, count),
            ..given
        }
    }
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
        assert_eq!(run.options(run.given.options(&run.common, Vec::new())), cli::Options::default());
    }
}
