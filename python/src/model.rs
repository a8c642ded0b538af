//! A compiled model, as Python sees it.

use std::path::PathBuf;
use std::sync::Arc;

use egraft::{Compiled, Dump, Options, Source, cli, picture, tensors};
use passes::pipeline::State;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping, PyTuple};
use runtime::RunError;
use serde_json::Value;

use crate::array;
use crate::error::{self, guarded, raise};
use crate::numpy;
use crate::sessions::Sessions;
use crate::tensor::{Input, Port};

/// More threads than this are a mistake.
const MAX_THREADS: usize = 4096;

/// What a model was compiled from.
pub(crate) struct Made {
    pub(crate) source: Source,
    pub(crate) compiled: Compiled,
    pub(crate) options: Options,
}

/// An entry of a compiled model, ready to run. Any number of threads may run it at once.
#[pyclass(frozen, module = "egraft")]
pub(crate) struct Model {
    model: Arc<runtime::Model>,
    entry: usize,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Those of all entries.
    sessions: Arc<Sessions>,
    made: Option<Arc<Made>>,
}

impl Model {
    pub(crate) fn new(
        py: Python<'_>,
        model: Arc<runtime::Model>,
        threads: Option<usize>,
        made: Option<Made>,
    ) -> PyResult<Model> {
        let threads = match threads {
            // All that there are.
            None => 0,
            Some(threads) if (1..=MAX_THREADS).contains(&threads) => threads,
            Some(threads) => {
                let message = format!("threads is a number from 1 to {MAX_THREADS}, not {threads}");
                return Err(error::input(py, "egraft::python::options", &message));
            }
        };
        let sessions = Arc::new(Sessions::new(Arc::clone(&model), threads));
        Model::of_entry(py, model, 0, sessions, made.map(Arc::new))
    }

    fn of_entry(
        py: Python<'_>,
        model: Arc<runtime::Model>,
        entry: usize,
        sessions: Arc<Sessions>,
        made: Option<Arc<Made>>,
    ) -> PyResult<Model> {
        let entries = &model.plan().entries;
        let Some(plan) = entries.get(entry) else {
            return Err(error::of_run(py, RunError::Entry { index: entry, count: entries.len() }));
        };
        let port = |port| Port::new(py, port, &plan.symbols);
        let (inputs, outputs) =
            (plan.inputs.iter().map(port).collect(), plan.outputs.iter().map(port).collect());
        Ok(Model { model, entry, inputs, outputs, sessions, made })
    }

    /// What only a model has that was compiled here.
    fn made(&self, py: Python<'_>, what: &str) -> PyResult<&Made> {
        self.made.as_deref().ok_or_else(|| {
            let message =
                format!("{what}, and this model was loaded from an artifact, which has only its kernels");
            error::unsupported(py, "egraft::python::artifact", &message)
        })
    }

    /// Inputs by name, in the model's order.
    fn named(&self, given: &Bound<'_, PyDict>) -> PyResult<Vec<Input>> {
        let py = given.py();
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for port in &self.inputs {
            let Some(object) = given.get_item(&port.name)? else {
                // A name that there is not is the likelier mistake.
                self.check_names(given)?;
                let missing = RunError::Missing { what: "input", name: port.text.clone() };
                return Err(error::of_run(py, missing));
            };
            inputs.push(Input::new(&object, port)?);
        }
        if given.len() > self.inputs.len() {
            self.check_names(given)?;
        }
        Ok(inputs)
    }

    fn check_names(&self, given: &Bound<'_, PyDict>) -> PyResult<()> {
        for key in given.keys() {
            let name: String = key.extract().unwrap_or_else(|_| key.to_string());
            if !self.inputs.iter().any(|port| port.text == name) {
                let known: Vec<String> = self.inputs.iter().map(|port| format!("`{}`", port.text)).collect();
                let unknown = RunError::UnknownInput { name, known: known.join(", ") };
                return Err(error::of_run(given.py(), unknown));
            }
        }
        Ok(())
    }

    fn positional(&self, given: &Bound<'_, PyTuple>) -> PyResult<Vec<Input>> {
        let (expected, found) = (self.inputs.len(), given.len());
        if expected != found {
            return Err(error::of_run(given.py(), RunError::Count { what: "inputs", expected, found }));
        }
        self.inputs.iter().zip(given.iter()).map(|(port, object)| Input::new(&object, port)).collect()
    }

    /// The arrays that results are written to, as far as some are given.
    fn given<'py>(
        &self,
        py: Python<'py>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let Some(out) = out else { return Ok(vec![None; self.outputs.len()]) };
        let array = |object: Bound<'py, PyAny>| (!object.is_none()).then_some(object);
        if let Ok(named) = out.cast::<PyDict>() {
            let known = |name: &str| self.outputs.iter().any(|port| port.text == name);
            for key in named.keys() {
                let name = key.to_string();
                if !known(&name) {
                    let message = format!("there is no output `{name}` to be written to an array");
                    return Err(error::input(py, "egraft::python::output", &message));
                }
            }
            return self.outputs.iter().map(|port| Ok(named.get_item(&port.name)?.and_then(array))).collect();
        }
        let arrays = out.try_iter()?.map(|object| object.map(array)).collect::<PyResult<Vec<_>>>()?;
        if arrays.len() != self.outputs.len() {
            let (expected, found) = (self.outputs.len(), arrays.len());
            return Err(error::of_run(py, RunError::Count { what: "outputs", expected, found }));
        }
        Ok(arrays)
    }

    /// The kernels, as the artifact tells them.
    fn said(&self) -> Value {
        serde_json::from_str(self.model.meta()).unwrap_or_default()
    }
}

/// The one argument, if it is a mapping.
fn by_name<'py>(inputs: &Bound<'py, PyTuple>) -> PyResult<Option<Bound<'py, PyDict>>> {
    if inputs.len() != 1 {
        return Ok(None);
    }
    let input = inputs.get_item(0)?;
    if let Ok(named) = input.cast::<PyDict>() {
        return Ok(Some(named.clone()));
    }
    // Whether something else is a mapping takes longer to find out.
    if array::is_array(&input)? {
        return Ok(None);
    }
    let Ok(mapping) = input.cast::<PyMapping>() else { return Ok(None) };
    let named = PyDict::new(input.py());
    named.update(mapping)?;
    Ok(Some(named))
}

/// A JSON value as Python's dictionaries, lists, numbers and texts.
fn plain<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (value.to_string(),))
}

fn ports<'py>(py: Python<'py>, ports: &[Port]) -> PyResult<Bound<'py, PyList>> {
    let class = py.import("egraft._model")?.getattr("Port")?;
    let port = |port: &Port| {
        let size = |size: &Result<i64, String>| match size {
            Ok(size) => Ok(size.into_pyobject(py)?.into_any()),
            Err(text) => Ok(text.into_pyobject(py)?.into_any()),
        };
        let shape = port.shape.iter().map(size).collect::<PyResult<Vec<_>>>()?;
        class.call1((port.name.bind(py), numpy::name(port.dtype), PyTuple::new(py, shape)?))
    };
    PyList::new(py, ports.iter().map(port).collect::<PyResult<Vec<_>>>()?)
}

#[pymethods]
impl Model {
    /// Name, element type and shape of each input. Sizes that are free are expressions, as text.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        ports(py, &self.inputs)
    }

    /// Name, element type and shape of each output.
    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        ports(py, &self.outputs)
    }

    /// What the model is called.
    #[getter]
    fn name(&self) -> String {
        self.said()["model"]["name"].as_str().unwrap_or_default().to_owned()
    }

    /// What the entries of the model are called. An artifact has one for each model that it was compiled from.
    #[getter]
    fn entries(&self) -> Vec<String> {
        self.model.plan().entries.iter().map(|entry| entry.name.clone()).collect()
    }

    /// The entry with that name. It shares threads with this one, and goes on from the same states.
    fn entry(&self, py: Python<'_>, name: &str) -> PyResult<Model> {
        let entries = &self.model.plan().entries;
        let Some(entry) = entries.iter().position(|entry| entry.name == name) else {
            let known: Vec<String> = entries.iter().map(|entry| format!("`{}`", entry.name)).collect();
            let message = format!("there is no entry `{name}`, but {}", known.join(", "));
            return Err(error::input(py, "egraft::python::options", &message));
        };
        let (model, sessions) = (Arc::clone(&self.model), Arc::clone(&self.sessions));
        Model::of_entry(py, model, entry, sessions, self.made.clone())
    }

    /// Runs the model. Inputs are given by position, and results come as a tuple; or in a dictionary, and results come
    /// in one. `out` has arrays that results are written to: a sequence with one, or None, for each output, or a
    /// dictionary.
    #[pyo3(signature = (*inputs, out = None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyTuple>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let given = self.given(py, out)?;
        if let Some(named) = by_name(inputs)? {
            let results = self.sessions.run(py, self.entry, &self.named(&named)?, &self.outputs, &given)?;
            let by_name = PyDict::new(py);
            for (port, array) in self.outputs.iter().zip(results) {
                by_name.set_item(&port.name, array)?;
            }
            return Ok(by_name.into_any());
        }
        let results = self.sessions.run(py, self.entry, &self.positional(inputs)?, &self.outputs, &given)?;
        Ok(PyTuple::new(py, results)?.into_any())
    }

    /// Makes the states zero that the model keeps from run to run.
    fn reset(&self, py: Python<'_>) {
        self.sessions.reset(py);
    }

    /// Every launch of a kernel: name, kind, the nodes that it computes, rules, and what it costs.
    fn kernels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.said()["kernels"])
    }

    /// Which rewrite rules made which kernels, which obligations kept others from it, and what options do not allow;
    /// of all of the model, or of a node or kernel.
    #[pyo3(signature = (node = None))]
    fn explain<'py>(&self, py: Python<'py>, node: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
        let made = self.made(py, "rules are explained from the graph")?;
        let report = py.detach(|| guarded(|| cli::explain(made.source.clone(), &made.options, node)));
        plain(py, &report.map_err(|refusal| raise(py, refusal))?)
    }

    /// Writes the model after each pass that changed something to a folder.
    fn dump(&self, py: Python<'_>, folder: PathBuf) -> PyResult<()> {
        let made = self.made(py, "stages are those of a graph")?;
        let write = || -> Result<(), egraft::Error> {
            let source = made.source.clone();
            let mut dump = Dump::create(&folder, &source, made.options.processor()?)?;
            let done = egraft::compile(source, &made.options, &mut dump);
            dump.finish()?;
            done.map(|_| ())
        };
        py.detach(|| guarded(write)).map_err(|refusal| raise(py, refusal))
    }

    /// Writes an artifact: `exe`, a program, which `egraft.load` reads, too; or a `lib`, `staticlib` or `obj` with a C
    /// header. The files that were written.
    #[pyo3(signature = (path, emit = "exe"))]
    fn save(&self, py: Python<'_>, path: PathBuf, emit: &str) -> PyResult<Vec<PathBuf>> {
        let compiled = &self.made(py, "artifacts are written of what was compiled")?.compiled;
        let write = match emit {
            "exe" => Compiled::write_executable,
            "lib" => Compiled::write_library,
            "staticlib" => Compiled::write_static_library,
            "obj" => Compiled::write_object,
            other => {
                let message = format!("emit is `exe`, `lib`, `staticlib` or `obj`, not `{other}`");
                return Err(error::input(py, "egraft::python::options", &message));
            }
        };
        let written = py.detach(|| guarded(|| write(compiled, &path)));
        let written = written.map_err(|refusal| raise(py, refusal))?;
        Ok([Some(written.artifact), written.header, written.sidecar].into_iter().flatten().collect())
    }

    /// The kernels as a picture: SVG.
    fn svg(&self, py: Python<'_>) -> PyResult<String> {
        let made = self.made(py, "a picture is drawn of the program")?;
        Ok(picture::svg(&State::Program(made.compiled.program.clone())))
    }

    fn __repr__(&self) -> String {
        let list = |ports: &[Port]| {
            let port = |port: &Port| {
                let size = |size: &Result<i64, String>| match size {
                    Ok(size) => size.to_string(),
                    Err(text) => text.clone(),
                };
                let shape: Vec<String> = port.shape.iter().map(size).collect();
                format!("{}: {}[{}]", port.text, tensors::from_runtime(port.dtype).name(), shape.join(", "))
            };
            ports.iter().map(port).collect::<Vec<_>>().join(", ")
        };
        format!("<egraft.Model {}({}) -> ({})>", self.name(), list(&self.inputs), list(&self.outputs))
    }

    /// What a notebook shows: the kernels as a table and as a picture.
    fn _repr_html_(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.py().import("egraft._html")?.call_method1("page", (slf,))?.extract()
    }

    /// A model is what runs, and not data.
    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a model cannot be pickled; save it, and load it where it is wanted"))
    }
}
