//! What `egraft run` and `egraft bench` run, and on which inputs: the options that every artifact has, too.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use egraft::source;
use runner::cli;
use runtime::Model;

use super::Common;
use crate::report::Failure;
use crate::watch::Watch;

#[derive(Debug, Args)]
pub(super) struct Given {
    /// A model, which is compiled in memory, or an artifact
    #[arg(value_name = "MODEL|ARTIFACT")]
    pub(super) model: PathBuf,
    /// Files that are bound to the inputs in order; several times as many are several runs of `egraft run`
    #[arg(value_name = "FILE.npy")]
    files: Vec<PathBuf>,
    /// Give one input; repeatable
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = input)]
    input: Vec<String>,
    /// Give inputs by name, from a .npz or .safetensors file; repeatable
    #[arg(long, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// Seed of inputs that are not given
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Run this entry [default: the first]
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Begin with the states in a .npz or .safetensors file, by name [default: zeros]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

impl Given {
    /// The model, ready to run, and what these options ask of its runs.
    ///
    /// # Errors
    /// It does not compile or load, or options of compilation are given for what is compiled.
    pub(super) fn load(&self, common: &Common) -> Result<(Arc<Model>, cli::Options), Failure> {
        let (model, dims) = if source::is_model(&self.model) {
            let (options, source) = common.load(&self.model)?;
            // Sizes are fixed by now; the model knows those symbols no more.
            (super::ready(source, &options, &mut Watch::new())?, Vec::new())
        } else {
            let sizes = common.dims.iter().map(|(name, value)| (name.to_string(), *value));
            (self.artifact(common)?, sizes.collect())
        };
        Ok((model, self.options(common, dims)))
    }

    /// `dims` are sizes of symbols that the model has.
    pub(super) fn options(&self, common: &Common, dims: Vec<(String, i64)>) -> cli::Options {
        cli::Options {
            files: self.files.clone(),
            input: self.input.clone(),
            inputs: self.inputs.clone(),
            seed: self.seed,
            dims,
            entry: self.entry.clone(),
            state: self.state.clone(),
            threads: common.threads.map(usize::from),
            json: common.json,
            ..cli::Options::default()
        }
    }

    fn artifact(&self, common: &Common) -> Result<Arc<Model>, Failure> {
        if let Some(option) = common.of_compilation() {
            return Err(Failure::bad_input(
                "egraft::runner::usage",
                format!("`{option}` is about compiling, and an artifact is compiled"),
                "leave it out, or give the model",
            ));
        }
        Model::from_file(&self.model).map_err(|error| super::not_an_artifact(&self.model, error))
    }
}

fn input(text: &str) -> Result<String, String> {
    if text.contains('=') { Ok(text.to_owned()) } else { Err("it must be NAME=FILE.npy".to_owned()) }
}
