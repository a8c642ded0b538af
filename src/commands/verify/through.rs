//! The ways in which `egraft verify` runs a compiled model.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use clap::ValueEnum;
use egraft::artifact::c_name;
use egraft::{Compiled, Error, Options, Source, tensors};
use ir::Tensor;
use runner::files;
use runner::library::Library;
use runtime::Model;

use super::super::ready;
use super::cases::Names;
use crate::report::Failure;
use crate::watch::Watch;

/// How the compiled model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Through {
    /// In this process, or from it on a GPU
    Jit,
    /// As an executable, with files for inputs and outputs
    Exe,
    /// As a shared library, through its C interface; needs a C compiler, as `--emit lib` does
    Lib,
}

/// A compiled model: one that runs here, or one that is to be written.
pub(super) enum Made {
    /// It runs in this process, or from it on a GPU.
    Model(Arc<Model>),
    /// It can be written.
    Compiled(Box<Compiled>),
}

impl Through {
    /// Compiles a model for this; on a GPU with guards, if that is asked.
    ///
    /// # Errors
    /// It does not compile, or what it is compiled for is not there.
    pub(super) fn compile(
        self,
        guard: bool,
        source: Source,
        options: &Options,
        watch: &mut Watch,
    ) -> Result<Made, Failure> {
        if guard {
            let done = egraft::gpu::compile_here(source, options, watch);
            return Ok(Made::Model(watch.finish(done)?.guarded_model()?));
        }
        if self == Through::Jit {
            return Ok(Made::Model(ready(source, options, watch)?));
        }
        let done = egraft::compile(source, options, watch);
        Ok(Made::Compiled(Box::new(watch.finish(done)?)))
    }
}

/// A compiled model, ready to be run.
pub(super) enum Ready<'a> {
    /// In this process.
    Jit(&'a Arc<Model>),
    /// A program, and a folder for its files.
    Exe { program: PathBuf, folder: &'a Path },
    /// A library that is loaded.
    Lib(Library),
}

impl<'a> Ready<'a> {
    /// Makes the artifact in `folder`, if one is needed.
    ///
    /// # Errors
    /// The artifact can't be made or loaded.
    pub(super) fn new(through: Through, made: &'a Made, folder: &'a Path) -> Result<Ready<'a>, Failure> {
        Ok(match (through, made) {
            (_, Made::Model(model)) => Ready::Jit(model),
            (Through::Jit | Through::Exe, Made::Compiled(compiled)) => {
                let program = folder.join("model");
                compiled.write_executable(&program)?;
                Ready::Exe { program, folder }
            }
            (Through::Lib, Made::Compiled(compiled)) => {
                let file = folder.join("libmodel.so");
                compiled.write_library(&file)?;
                Ready::Lib(Library::open(&file, &c_name(&file))?)
            }
        })
    }

    /// The outputs for these inputs, with this many threads.
    ///
    /// # Errors
    /// What the model says of the inputs, or what became of its process.
    pub(super) fn run(
        &self,
        inputs: &[Tensor],
        names: &Names,
        threads: usize,
    ) -> Result<Vec<Tensor>, Failure> {
        match self {
            Ready::Jit(model) => Ok(egraft::run(Arc::clone(model), inputs, threads)?),
            Ready::Exe { program, folder } => {
                run_program(program, folder, &to_files(inputs)?, names, threads)
            }
            Ready::Lib(library) => {
                let outputs = library.run(&to_files(inputs)?, threads)?;
                Ok(outputs.iter().map(tensors::from_file).collect())
            }
        }
    }
}

/// The same, as they are read from files.
///
/// # Errors
/// There is not enough memory.
pub(super) fn to_files(inputs: &[Tensor]) -> Result<Vec<runner::tensor::Tensor>, Failure> {
    let all: Option<Vec<_>> = inputs.iter().map(tensors::to_file).collect();
    all.ok_or_else(|| {
        let message = "there is not enough memory for the inputs";
        Failure::bad_input("egraft::runtime::out_of_memory", message, "give smaller inputs")
    })
}

fn run_program(
    program: &Path,
    folder: &Path,
    inputs: &[runner::tensor::Tensor],
    names: &Names,
    threads: usize,
) -> Result<Vec<Tensor>, Failure> {
    let named: Vec<(&str, &runner::tensor::Tensor)> =
        names.inputs.iter().map(String::as_str).zip(inputs).collect();
    let (given, made) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    files::write_all(&given, &named)?;
    let mut command = Command::new(program);
    command.arg("--inputs").arg(&given).arg("--outputs").arg(&made);
    command.arg("--threads").arg(threads.to_string());
    let done = command.output().map_err(|source| Error::Read { path: program.to_owned(), source })?;
    if !done.status.success() {
        let output = String::from_utf8_lossy(&done.stderr).into_owned();
        let status = done.status.to_string();
        return Err(Error::Tool { program: "the compiled model", status, output }.into());
    }
    let outputs = files::read_all(&made)?;
    let find = |name: &String| {
        let found = outputs.iter().find(|(known, _)| known == name);
        found.map(|(_, tensor)| tensors::from_file(tensor)).ok_or_else(|| {
            let message = format!("the compiled model gave no output `{name}`");
            Failure::bad_input("egraft::cli::bug", message, "please report this with the model")
        })
    };
    names.outputs.iter().map(find).collect()
}
