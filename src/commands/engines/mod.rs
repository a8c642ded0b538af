//! Other engines that run the same ONNX model: the second opinion of `verify`, and what `bench` takes turns with.

mod onnxruntime;
#[cfg(feature = "tract")]
mod tract;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use ir::Tensor;

use crate::report::Failure;

/// Another engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    /// The Python package of that name, in a process of its own
    Onnxruntime,
    /// The crate tract-onnx, in this process and on one thread; needs an egraft with the feature `tract`
    Tract,
}

/// Where the engine in a process of its own is found.
#[derive(Debug, Args)]
pub(super) struct Python {
    /// The Python that has onnxruntime [default: $EGRAFT_PYTHON, or python3]
    #[arg(long, value_name = "PATH", requires = "against")]
    python: Option<PathBuf>,
}

/// An engine that is there, ready to load a model.
pub(super) trait Other {
    /// What it is called, with its version if it tells.
    fn name(&self) -> &str;

    /// Loads the model for inputs of these shapes, to run on so many threads, and runs it once. Gives the outputs, in
    /// the model's order.
    ///
    /// # Errors
    /// It refuses the model or the inputs.
    fn load(
        &mut self,
        model: &Path,
        inputs: &[(&str, &runner::tensor::Tensor)],
        threads: usize,
    ) -> Result<Vec<Tensor>, Failure>;

    /// The milliseconds of each of `runs` runs of what was loaded.
    ///
    /// # Errors
    /// It has ended.
    fn times(&mut self, runs: usize) -> Result<Vec<f64>, Failure>;
}

impl Engine {
    /// Starts the engine for this model: what can be known to fail is refused before any work.
    ///
    /// # Errors
    /// The model is no ONNX, or the engine is not there.
    pub(super) fn start(self, model: &Path, python: &Python) -> Result<Box<dyn Other>, Failure> {
        check_model(model)?;
        match self {
            Engine::Onnxruntime => Ok(Box::new(onnxruntime::OnnxRuntime::start(python.python.clone())?)),
            #[cfg(feature = "tract")]
            Engine::Tract => Ok(Box::new(tract::Tract::new())),
            #[cfg(not(feature = "tract"))]
            Engine::Tract => Err(Failure::bad_input(
                "egraft::cli::without_tract",
                "this egraft was built without the feature `tract`",
                "build it with `cargo install egraft --features tract`, or in a clone with \
                 `cargo build --release --features tract`; or compare with onnxruntime",
            )),
        }
    }

    /// The threads on which both run, if it matters here how many.
    ///
    /// # Errors
    /// It cannot run on as many as are asked for.
    pub(super) fn threads(self, given: Option<u16>) -> Result<Option<u16>, Failure> {
        match (self, given) {
            (Engine::Onnxruntime, given) => Ok(given),
            (Engine::Tract, None | Some(1)) => Ok(Some(1)),
            (Engine::Tract, Some(given)) => Err(Failure::bad_input(
                "egraft::cli::threads",
                format!("tract runs on one thread, and the comparison was to be on {given}"),
                "leave out `--threads`, or give `--threads 1`: egraft then runs on one, too",
            )),
        }
    }
}

/// Other engines read ONNX.
fn check_model(model: &Path) -> Result<(), Failure> {
    if model.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
        return check_ports(model);
    }
    Err(Failure::bad_input(
        "egraft::cli::against",
        format!("`--against` runs the model itself, and {} is no .onnx", model.display()),
        "give the .onnx; `egraft zoo build NAME -o f.onnx` writes a built-in one",
    ))
}

/// Other engines are given tensors, and give tensors.
#[cfg(feature = "onnx")]
fn check_ports(model: &Path) -> Result<(), Failure> {
    // What is wrong with the model, it is told when it is compiled.
    let Ok((inputs, outputs)) = egraft::source::ports(model) else { return Ok(()) };
    let mut all = inputs.iter().chain(&outputs);
    let Some(port) = all.find(|port| port.kind != onnx::PortKind::Tensor) else { return Ok(()) };
    Err(Failure::bad_input(
        "egraft::cli::against",
        format!("`{}` is a sequence or an optional, and other engines are given tensors only", port.name),
        "leave out `--against`; `verify --data` compares with what the data hold",
    ))
}

#[cfg(not(feature = "onnx"))]
fn check_ports(_: &Path) -> Result<(), Failure> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_where_there_is_only_one() {
        assert_eq!(Engine::Onnxruntime.threads(None).expect("any number does"), None);
        assert_eq!(Engine::Onnxruntime.threads(Some(4)).expect("any number does"), Some(4));
        for given in [None, Some(1)] {
            assert_eq!(Engine::Tract.threads(given).expect("it is one"), Some(1));
        }
        assert!(Engine::Tract.threads(Some(2)).is_err());
    }
}
