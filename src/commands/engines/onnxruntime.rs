//! onnxruntime as a process: a small program for Python loads models and times runs as it is told.
//!
//! Inputs and outputs go through files, all else is lines of JSON. Needs a Python with the packages
//! `onnxruntime` and `numpy`; both ends are one file each, this one and `onnxruntime.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use egraft::{output, tensors};
use ir::Tensor;
use runner::files;
use serde_json::{Value, json};

use super::Other;
use crate::python::python;
use crate::report::Failure;

const PROGRAM: &str = include_str!("onnxruntime.py");

const INSTALL: &str = "name a Python that has onnxruntime (`pip install onnxruntime`) with `--python PATH` or \
                       $EGRAFT_PYTHON, or leave out `--against`";

/// A process of onnxruntime.
pub(super) struct OnnxRuntime {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    name: String,
}

impl Drop for OnnxRuntime {
    fn drop(&mut self) {
        // It may have ended already; nobody is left to tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl OnnxRuntime {
    /// Starts the process. Once it answers, onnxruntime is there.
    ///
    /// # Errors
    /// There is no such Python, or it has no onnxruntime.
    pub(super) fn start(given: Option<PathBuf>) -> Result<OnnxRuntime, Failure> {
        let python = python(given);
        let mut command = Command::new(&python);
        command.arg("-c").arg(PROGRAM);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = spawned.map_err(|source| {
            let message = format!("`{}` cannot be started: {source}", python.display());
            Failure::bad_input("egraft::cli::python", message, INSTALL)
        })?;
        let (requests, answers) = process.stdin.take().zip(process.stdout.take()).expect("both are piped");
        let answers = BufReader::new(answers);
        let mut other = OnnxRuntime { process, requests, answers, name: String::new() };
        let first = other.answer()?;
        other.name = first["engine"].as_str().unwrap_or("onnxruntime").to_owned();
        Ok(other)
    }

    fn load_in(
        &mut self,
        folder: &Path,
        model: &Path,
        inputs: &[(&str, &runner::tensor::Tensor)],
        threads: usize,
    ) -> Result<Vec<Tensor>, Failure> {
        let (given, made) = (folder.join("in.npz"), folder.join("out.npz"));
        files::write_all(&given, inputs)?;
        let text = |path: &Path| {
            let unknown = || failed(&format!("{} is no UTF-8, as requests to it are", path.display()));
            path.to_str().map(str::to_owned).ok_or_else(unknown)
        };
        let (model, inputs, outputs) = (text(model)?, text(&given)?, text(&made)?);
        self.ask(&json!({"model": model, "inputs": inputs, "outputs": outputs, "threads": threads}))?;
        Ok(files::read_all(&made)?.iter().map(|(_, tensor)| tensors::from_file(tensor)).collect())
    }

    fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        writeln!(self.requests, "{request}").map_err(|error| failed(&error.to_string()))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| failed(&error.to_string()))?;
        let answer: Value = serde_json::from_str(&line).map_err(|_| match line.trim() {
            "" => failed("it ended without an answer"),
            line => failed(line),
        })?;
        match answer["error"].as_str() {
            Some(error) => Err(failed(error)),
            None => Ok(answer),
        }
    }
}

impl Other for OnnxRuntime {
    fn name(&self) -> &str {
        &self.name
    }

    fn load(
        &mut self,
        model: &Path,
        inputs: &[(&str, &runner::tensor::Tensor)],
        threads: usize,
    ) -> Result<Vec<Tensor>, Failure> {
        output::with_folder(|folder| Ok(self.load_in(folder, model, inputs, threads)))?
    }

    fn times(&mut self, runs: usize) -> Result<Vec<f64>, Failure> {
        let answer = self.ask(&json!({"runs": runs}))?;
        let times: Vec<f64> =
            answer["ms"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        if times.len() == runs { Ok(times) } else { Err(failed("it gave no times")) }
    }
}

fn failed(why: &str) -> Failure {
    let help = match why.starts_with("ModuleNotFoundError") || why.starts_with("ImportError") {
        true => INSTALL,
        false => "leave out `--against`, or check that this onnxruntime runs the model on these inputs",
    };
    Failure::bad_input("egraft::cli::onnxruntime", format!("onnxruntime: {why}"), help)
}
