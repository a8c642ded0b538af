//! egraft for Python: the module `egraft._egraft`, which the package in `egraft/` is made of.
//!
//! Promises: inputs are read and outputs written where NumPy and DLPack have them, if their elements lie one after the
//! other; the GIL is free while a model is compiled and while it runs; several threads may run one model, and so may a
//! process that was forked; what goes wrong is one of the package's exceptions, never a panic.
//!
//! Deliberately absent: anything that the command line does already. `command` asks it, and its JSON is the answer.

mod array;
mod dlpack;
mod error;
mod model;
mod numpy;
mod sessions;
mod tensor;

use std::ffi::OsString;
use std::path::PathBuf;

use egraft::{Options, cli, options};
use ir::Symbol;
use pyo3::prelude::*;

use error::{guarded, raise};
use model::Model;

/// Compiles a model: the one at `path`, or the bytes of an ONNX model that would be there.
#[pyfunction]
#[pyo3(signature = (path, data, target, dims, fp, threads, disabled_rules, settings, as_onnxruntime))]
#[expect(clippy::too_many_arguments, reason = "they are those of egraft.compile, which has their defaults")]
fn compile(
    py: Python<'_>,
    path: PathBuf,
    data: Option<Vec<u8>>,
    target: &str,
    dims: Vec<(String, i64)>,
    fp: &str,
    threads: Option<usize>,
    disabled_rules: Vec<String>,
    settings: Vec<(String, String)>,
    as_onnxruntime: bool,
) -> PyResult<Model> {
    let wrong = |what: &str, found: &str, known: &str| {
        error::input(py, "egraft::python::options", &format!("{what} is {known}, not `{found}`"))
    };
    let target = match target {
        "cpu" => passes::Target::Cpu,
        "cuda" => passes::Target::Gpu,
        other => return Err(wrong("target", other, "`cpu` or `cuda`")),
    };
    let fp = options::fp_mode(fp).ok_or_else(|| wrong("fp", fp, "`strict`, `reassoc` or `fast`"))?;
    for rule in &disabled_rules {
        cli::check_rule(rule).map_err(|refusal| raise(py, refusal))?;
    }
    let options = Options {
        target: Some(target),
        fp: Some(fp),
        dims: dims.iter().map(|(name, value)| (Symbol::new(name), *value)).collect(),
        disabled_rules,
        settings,
        computed_shapes: as_onnxruntime,
        numbers: as_onnxruntime,
        ..Options::default()
    };
    let made = py.detach(|| {
        guarded(|| -> Result<_, egraft::Error> {
            let source = match data {
                Some(bytes) => egraft::load_bytes(&path, bytes, &options)?,
                None => egraft::load(&path, &options)?,
            };
            let compiled = egraft::compile(source.clone(), &options, &mut ())?;
            let model = compiled.model()?;
            Ok((source, compiled, model))
        })
    });
    let (source, compiled, model) = made.map_err(|refusal| raise(py, refusal))?;
    Model::new(py, model, threads, Some(model::Made { source, compiled, options }))
}

/// Loads an artifact that `save` or `egraft compile` wrote.
#[pyfunction]
#[pyo3(signature = (path, threads))]
fn load(py: Python<'_>, path: PathBuf, threads: Option<usize>) -> PyResult<Model> {
    let loaded =
        py.detach(|| guarded(|| -> Result<_, egraft::Error> { Ok(runtime::Model::from_file(&path)?) }));
    Model::new(py, loaded.map_err(|refusal| raise(py, refusal))?, threads, None)
}

/// Carries out a command of the command line; how it ends, and what it prints.
#[pyfunction]
fn command(py: Python<'_>, args: Vec<OsString>) -> PyResult<(u8, String)> {
    let answer = py.detach(|| guarded(|| cli::answer(args)));
    let cli::Answer { exit, text } = answer.map_err(|refusal| raise(py, refusal))?;
    Ok((exit, text))
}

/// The program `egraft`: prints, and says how to end.
#[pyfunction]
fn program(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| std::panic::catch_unwind(|| cli::program(args)).unwrap_or(cli::BUG))
}

/// What an ONNX model says of itself, as a JSON text.
#[pyfunction]
fn declaration(py: Python<'_>, path: PathBuf, data: Option<Vec<u8>>) -> PyResult<String> {
    let said = py.detach(|| guarded(|| egraft::source::declaration(&path, data.as_deref())));
    said.map(|said| said.to_string()).map_err(|refusal| raise(py, refusal))
}

/// To be called in a process that was forked: the threads of its parent are not there.
#[pyfunction]
fn forked() {
    sessions::forked();
}

#[pymodule]
fn _egraft(module: &Bound<'_, PyModule>) -> PyResult<()> {
    array::check_layout(module.py())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Model>()?;
    module.add_function(wrap_pyfunction!(compile, module)?)?;
    module.add_function(wrap_pyfunction!(load, module)?)?;
    module.add_function(wrap_pyfunction!(command, module)?)?;
    module.add_function(wrap_pyfunction!(program, module)?)?;
    module.add_function(wrap_pyfunction!(declaration, module)?)?;
    module.add_function(wrap_pyfunction!(forked, module)?)
}
