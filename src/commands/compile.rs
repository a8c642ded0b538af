//! `egraft compile`: a model to an artifact, or to the text of a stage.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use cuda::Form;
use egraft::summary::{self, Launch};
use egraft::{Compiled, Options, Provenance, Source, Written, disk, gpu, output, write};
use ir::program::Program;
use passes::Target;
use passes::pipeline::{self, State, Step};
use serde_json::json;

use super::{Common, print_json};
use crate::report::Failure;
use crate::watch::Watch;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  egraft compile digits.onnx -o digits && ./digits 0.npy\n  \
                        egraft compile prefill.onnx decode.onnx -o m --keep 'past.*=present.*' --capacity 2048\n  \
                        egraft compile mlp.onnx -o libmlp.so --emit lib\n  \
                        egraft compile mlp.onnx -o mlp --dump stages --timing")]
pub(super) struct Compile {
    /// The model: .onnx, .ir, .kir or .prog; also a dump, from which the compilation goes on. Several models become
    /// entries of one artifact, called like their files; they share weights of equal contents, and what they keep
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    /// The file to write; a file that is there is replaced. `-` prints a text
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Emit::Exe)]
    emit: Emit,
    /// An architecture of GPUs that code is made for, with `--target cuda`; repeatable [default: sm_80, sm_90a and sm_100a].
    /// Executables and libraries have PTX of the oldest, too, for GPUs that are newer than all
    #[arg(long, value_name = "ARCH", value_parser = architecture)]
    arch: Vec<String>,
    /// Write the form after each pass that changed it to a folder, as numbered files; of several models, those from where
    /// they are one program
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// Print how long each pass took
    #[arg(long)]
    timing: bool,
    #[command(flatten)]
    common: Common,
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Emit {
    /// An executable that needs nothing else
    Exe,
    /// A shared library and a C header
    Lib,
    /// An object file and a C header; needs the runtime, which `staticlib` includes
    Obj,
    /// A static library and a C header
    Staticlib,
    /// The graph, after all passes on graphs
    Ir,
    /// The same graph as an ONNX model; what ONNX has no operator for is a function in it
    Onnx,
    /// The same graph as a picture, in Graphviz' language
    Dot,
    /// The kernels, before memory is planned
    Kir,
    /// The kernels with the memory plan
    Prog,
    /// The code generator's input
    Clif,
    /// The machine code
    Asm,
    /// The kernels as CUDA C++, with `--target cuda`: a folder with a file for each
    Cu,
    /// The same as PTX, by NVRTC: a file for each kernel and architecture
    Ptx,
    /// The same as machine code of GPUs
    Cubin,
}

impl Emit {
    /// What becomes of kernels for a GPU, and how its files end.
    fn of_gpu(self) -> Option<(Option<Form>, &'static str)> {
        match self {
            Emit::Cu => Some((None, "cu")),
            Emit::Ptx => Some((Some(Form::Ptx), "ptx")),
            Emit::Cubin => Some((Some(Form::Cubin), "cubin")),
            _ => None,
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Emit::Ir | Emit::Onnx | Emit::Dot | Emit::Kir | Emit::Prog | Emit::Clif | Emit::Asm)
    }
}

impl Compile {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        let to_stdout = self.output == Path::new("-");
        if to_stdout && self.emit == Emit::Onnx {
            return Err(Failure::bad_input(
                "egraft::cli::output_folder",
                "an ONNX model cannot be printed: it is no text, and may need a file for its weights beside it",
                "name a file with `-o`, or print the graph with `--emit ir`",
            ));
        }
        if self.emit == Emit::Onnx {
            if !write::is_onnx(&self.output) {
                return Err(Failure::bad_input(
                    "egraft::cli::emit",
                    format!("{} does not end in .onnx", self.output.display()),
                    "nothing reads an ONNX model under another name",
                ));
            }
            write::check_form(&self.output)?;
        }
        if to_stdout && !self.emit.is_text() {
            return Err(Failure::bad_input(
                "egraft::cli::output_folder",
                "an artifact or a folder cannot be printed",
                "name a file with `-o`, or choose a text with `--emit`",
            ));
        }
        let of_gpu = self.emit.of_gpu();
        if !self.arch.is_empty() && (self.emit.is_text() || self.emit == Emit::Cu) {
            return Err(Failure::bad_input(
                "egraft::cli::emit",
                "`--arch` is about PTX and machine code of GPUs, and nothing of that is written",
                "leave it out, or add `--emit ptx` or `--emit cubin`",
            ));
        }
        if !to_stdout && of_gpu.is_none() {
            output::check(&self.output)?;
            self.models.iter().try_for_each(|model| output::check_other(&self.output, model))?;
        }
        let (options, source, mut watch) = self.source()?;
        if let Some((form, ending)) = of_gpu {
            return self.cuda((form, ending), source, &options, &mut watch, out);
        }
        if self.emit.is_text() {
            return self.text(source, &options, &mut watch, out);
        }
        if !self.arch.is_empty() && source.provenance.options.target() == Target::Cpu {
            return Err(Failure::bad_input(
                "egraft::cli::emit",
                "`--arch` is about code for GPUs, and the model is compiled for a CPU",
                "add `--target cuda`, or leave it out",
            ));
        }
        let done = egraft::compile(source, &options, &mut watch);
        let compiled = watch.finish(done)?;
        if compiled.has_sidecar() && !self.common.json {
            let free = disk::free(&self.output).map_or("an unknown number of bytes".to_owned(), readable);
            let (shown, needed) = (self.output.display(), readable(compiled.disk_bytes()));
            writeln!(out, "{shown}: needs up to {needed} of disk with its weights, {free} are free")?;
        }
        let written = match self.emit {
            Emit::Lib => compiled.write_library(&self.output)?,
            Emit::Obj => compiled.write_object(&self.output)?,
            Emit::Staticlib => compiled.write_static_library(&self.output)?,
            _ => compiled.write_executable(&self.output)?,
        };
        match self.common.json {
            true => print_json(out, &self.report(&compiled, &written, &watch))?,
            false => self.tell(&compiled, &written, &watch, out)?,
        }
        Ok(0)
    }

    /// The model, or the models as one program.
    fn source(&self) -> Result<(Options, Source, Watch), Failure> {
        let dump = self.dump.as_deref();
        if let [model] = self.models.as_slice() {
            let (options, source) = self.common.load(model)?;
            let options = Options { arch: self.arch.clone(), ..options };
            let watch = Watch::with_dump(dump, &source, &options)?;
            return Ok((options, source, watch));
        }
        let names = self.entry_names()?;
        if matches!(self.emit, Emit::Ir | Emit::Dot) {
            return Err(Failure::bad_input(
                "egraft::cli::several_models",
                "several models have no common graph",
                "write the graph of each by itself",
            ));
        }
        let (options, sources) = self.common.load_all(&self.models)?;
        let options = Options { arch: self.arch.clone(), ..options };
        let mut watch = Watch::new();
        let done = egraft::link(names.into_iter().zip(sources).collect(), &options, &mut watch);
        let source = watch.finish(done)?;
        watch.dump(dump, &source, &options)?;
        Ok((options, source, watch))
    }

    /// What entries are called: like their files.
    fn entry_names(&self) -> Result<Vec<String>, Failure> {
        let name = |path: &PathBuf| {
            let name = path.to_string_lossy();
            let built_in = name.strip_prefix("zoo:").map(str::to_owned);
            built_in.unwrap_or_else(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
        };
        let names: Vec<String> = self.models.iter().map(name).collect();
        match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            None => Ok(names),
            Some((_, name)) => Err(Failure::bad_input(
                "egraft::cli::several_models",
                format!("two models are called `{name}`, and so would be two entries"),
                "rename a file",
            )),
        }
    }

    /// Writes the text of a stage.
    fn text(
        &self,
        source: Source,
        options: &Options,
        watch: &mut Watch,
        out: &mut dyn Write,
    ) -> Result<u8, Failure> {
        let target = options.processor()?;
        let steps = pipeline::of_level(source.provenance.options.level);
        let rest = egraft::remaining(steps, &source);
        let ends = |step: &Step| match self.emit {
            Emit::Ir | Emit::Onnx | Emit::Dot => !is_graph_step(step),
            Emit::Kir => step.contains("plan_memory"),
            _ => false,
        };
        let rest = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
        let done = egraft::run_passes(source, rest, None, options, watch);
        let source = watch.finish(done)?;
        if self.emit == Emit::Kir && source.state.extension() == "prog" {
            return Err(too_late("its memory is planned already, a .kir has no plan"));
        }
        let text = match (self.emit, &source.state) {
            (Emit::Ir | Emit::Onnx | Emit::Dot, State::Program(_)) => {
                return Err(too_late("it is a program already, no graph any more"));
            }
            (Emit::Dot, State::Graph(graph)) => ir::dot::dot(graph),
            (Emit::Clif, State::Program(program)) => {
                cranelift::clif(program, &target).map_err(egraft::Error::from)?
            }
            (Emit::Asm, State::Program(program)) => {
                cranelift::disassembly(program, &target).map_err(egraft::Error::from)?
            }
            (_, State::Graph(graph)) => source.provenance.to_line() + &graph.to_string(),
            (_, State::Program(program)) => source.provenance.to_line() + &program.to_string(),
        };
        if self.output == Path::new("-") {
            out.write_all(text.as_bytes())?;
            return Ok(0);
        }
        if matches!(self.emit, Emit::Ir | Emit::Onnx | Emit::Kir | Emit::Prog) {
            egraft::write_model(&self.output, &text, &source.state)?;
        } else {
            output::write(&self.output, text.as_bytes())?;
        }
        if self.common.json {
            print_json(
                out,
                &json!({
                    "model": source.provenance.model, "output": shown(&self.output), "passes": watch.json(),
                    "rewrites": watch.rewrites(),
                }),
            )?;
        } else if self.timing {
            watch.table(out)?;
        }
        Ok(0)
    }

    /// Writes a folder with each kernel's source, or what NVRTC makes of it.
    fn cuda(
        &self,
        (form, ending): (Option<Form>, &str),
        source: Source,
        options: &Options,
        watch: &mut Watch,
        out: &mut dyn Write,
    ) -> Result<u8, Failure> {
        if source.provenance.options.target() != Target::Gpu {
            return Err(Failure::bad_input(
                "egraft::cli::emit",
                "CUDA sources of a model that is compiled for a CPU",
                "add `--target cuda`",
            ));
        }
        let model = source.provenance.model.clone();
        // What is not there is told before any work.
        let compiler = form.map(|form| Ok::<_, Failure>((form, gpu::Compiler::find(None)?))).transpose()?;
        let done = gpu::sources(source, options, watch);
        let sources = watch.finish(done)?;
        let default = gpu::ARCHITECTURES.map(str::to_owned).to_vec();
        let architectures = if self.arch.is_empty() { default } else { self.arch.clone() };
        let mut made: Vec<(String, Vec<u8>)> = Vec::new();
        match &compiler {
            None => made.extend(
                sources
                    .iter()
                    .map(|source| (format!("{}.cu", source.name), source.text.clone().into_bytes())),
            ),
            Some((form, compiler)) => {
                for arch in &architectures {
                    let names = sources.iter().map(|source| format!("{}.{arch}.{ending}", source.name));
                    made.extend(names.zip(compiler.images(&sources, arch, *form)?));
                }
            }
        }
        let files: Vec<(String, &[u8])> =
            made.iter().map(|(name, content)| (name.clone(), content.as_slice())).collect();
        output::write_folder(&self.output, ending, &files)?;
        let launches: usize = sources.iter().map(|source| source.launches.len()).sum();
        if self.common.json {
            let kernels: Vec<_> = sources
                .iter()
                .map(|source| json!({"name": source.name, "launches": source.launches.len()}))
                .collect();
            let mut report = json!({
                "model": model, "output": shown(&self.output), "kernels": kernels, "passes": watch.json(),
            });
            if let Some((_, compiler)) = &compiler {
                report["architectures"] = json!(architectures);
                report["nvrtc"] = json!(compiler.version());
            }
            print_json(out, &report)?;
        } else {
            let (folder, kernels) = (self.output.display(), sources.len());
            match &compiler {
                None => {
                    writeln!(out, "{folder}: CUDA sources of {kernels} kernels with {launches} functions")?
                }
                Some((_, compiler)) => writeln!(
                    out,
                    "{folder}: {kernels} kernels with {launches} functions for {}, by NVRTC {}",
                    architectures.join(", "),
                    compiler.version()
                )?,
            }
            if self.timing {
                watch.table(out)?;
            }
        }
        Ok(0)
    }

    fn report(&self, compiled: &Compiled, written: &Written, watch: &Watch) -> serde_json::Value {
        let mut report = summary_json(&compiled.program, &compiled.provenance, &compiled.code.target());
        report["passes"] = watch.json();
        report["rewrites"] = json!(watch.rewrites());
        report["output"] = json!(shown(&written.artifact));
        report["header"] = json!(written.header.as_deref().map(shown));
        report["weights_file"] = json!(written.sidecar.as_deref().map(shown));
        report["disk_bytes"] = json!(compiled.disk_bytes());
        report["code_bytes"] = json!(compiled.code.bytes());
        report
    }

    fn tell(
        &self,
        compiled: &Compiled,
        written: &Written,
        watch: &Watch,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let what = match self.emit {
            Emit::Exe if compiled.executable_is_static() => "executable",
            Emit::Exe => "executable, which needs this system's C library",
            Emit::Lib => "shared library",
            Emit::Staticlib => "static library",
            _ => "object file",
        };
        let bytes = std::fs::metadata(&written.artifact).map_or(0, |metadata| metadata.len());
        let launches = summary::launches(&compiled.program).len();
        writeln!(
            out,
            "{}: {what}, {}; {launches} kernel launches, {} of code, {} of weights",
            written.artifact.display(),
            readable(bytes),
            readable(compiled.code.bytes() as u64),
            readable(compiled.weight_bytes()),
        )?;
        for unified in &compiled.provenance.unified {
            writeln!(out, "note: {unified}")?;
        }
        if let Some(header) = &written.header {
            writeln!(out, "{}: C header", header.display())?;
        }
        if let Some(sidecar) = &written.sidecar {
            writeln!(out, "{}: weights; keep it beside the artifact", sidecar.display())?;
        }
        if self.timing {
            watch.table(out)?;
        }
        Ok(())
    }
}

/// An architecture of GPUs by its name.
fn architecture(text: &str) -> Result<String, String> {
    let number = text.strip_prefix("sm_").map(|rest| rest.trim_end_matches(['a', 'f']));
    match number.is_some_and(|number| number.len() >= 2 && number.bytes().all(|b| b.is_ascii_digit())) {
        true => Ok(text.to_owned()),
        false => Err("an architecture is called sm_80, sm_90a or alike".to_owned()),
    }
}

/// A path in JSON, which holds only text: what is none in its name is replaced.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn too_late(why: &str) -> Failure {
    Failure::bad_input(
        "egraft::cli::emit",
        format!("the model is past that stage: {why}"),
        "start from the model itself",
    )
}

fn is_graph_step(step: &Step) -> bool {
    match step {
        Step::Graph(_) => true,
        Step::Repeat(_, steps) => steps.iter().all(is_graph_step),
        Step::Lower(_) | Step::Program(_) => false,
    }
}

/// What every report on a compiled model holds.
pub(super) fn summary_json(
    program: &Program,
    provenance: &Provenance,
    target: &serde_json::Value,
) -> serde_json::Value {
    json!({
        "model": provenance.model,
        "target": target,
        "options": provenance.options,
        "unified": provenance.unified,
        "kernels": summary::launches(program).iter().map(Launch::json).collect::<Vec<_>>(),
        "peak_bytes": summary::peak(program).as_ref().map(summary::size),
        "weight_bytes": summary::weight_bytes(program),
    })
}

/// A number of bytes for people.
pub(super) fn readable(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.*} {}", usize::from(value < 99.95), units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_949, "99.9 kB"),
            (123_456, "123 kB"),
            (999_999, "1.0 MB"),
            (2_500_000_000, "2.5 GB"),
        ] {
            assert_eq!(readable(bytes), text);
        }
    }

    #[test]
    fn graph_steps_come_first() {
        for level in 0..=3 {
            let steps = pipeline::of_level(level);
            let first = steps.iter().position(|step| !is_graph_step(step)).expect("it lowers");
            assert!(matches!(steps[first], Step::Lower(_)));
        }
    }
}
