//! The verbs, one file each, and the options that those about models share.

mod bench;
mod check;
mod compare;
mod compile;
mod completions;
mod edit;
mod engines;
mod explain;
mod given;
mod inspect;
mod ops;
mod opt;
mod passes;
mod rules;
mod run;
mod verify;
mod zoo;

pub(crate) use explain::of_model as explain;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::ops::onnx::ExpertLayout;
use ::passes::state::Keep;
use clap::{Args, Parser, Subcommand, ValueEnum};
use egraft::options::{fp_mode, fp_name, weights_type};
use egraft::{Options, Source};
use ir::{Dim, Scalar, Symbol, Tensor, TensorType};
use runtime::Model;

use crate::near;
use crate::report::Failure;
use crate::watch::Watch;

/// Compile neural networks to native artifacts.
///
/// A MODEL is a file that ends in .onnx, .ir, .kir or .prog, or zoo:NAME. An ARTIFACT is what `egraft compile` wrote.
#[derive(Debug, Parser)]
#[command(name = "egraft", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "`egraft COMMAND --help` explains a command. \
                        Exit codes: 0 success, 1 mismatch, failed check or unsupported nodes, \
                        2 bad usage or bad input, 70 a bug of egraft.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compile a model to an executable, a library, an object or the text of a stage
    Compile(compile::Compile),
    /// Run a model, compiled in memory, or an artifact on given or random inputs
    Run(run::Run),
    /// Compile a model, run it, and compare with known results, the reference or another engine
    Verify(verify::Verify),
    /// Time a model, kernel by kernel, next to what the machine could do and to other engines
    Bench(bench::Bench),
    /// Say whether a model can be compiled, and list every node that cannot
    Check(check::Check),
    /// Show what a model or an artifact consists of
    Inspect(inspect::Inspect),
    /// Say what rewrite rules did to a model, and why not more; or explain an error code
    Explain(explain::Explain),
    /// Leave out, merge or fold experts of a model, or give it another router or momentum
    Edit(edit::Edit),
    /// Run passes on a model or a dump and print the result
    Opt(opt::Opt),
    /// List the ops, or explain one
    Ops(ops::Ops),
    /// List the passes in the order in which they run
    Passes(passes::Passes),
    /// List the rewrite rules with what must hold for them
    Rules(rules::Rules),
    /// List or build the built-in models
    Zoo(zoo::Zoo),
    /// Print a script with completions for a shell
    Completions(completions::Completions),
}

impl Cli {
    /// Carries out the command; gives the exit code.
    ///
    /// # Errors
    /// Why it could not be carried out.
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        match self.command {
            Command::Compile(verb) => verb.run(out),
            Command::Run(verb) => verb.run(out),
            Command::Verify(verb) => verb.run(out),
            Command::Bench(verb) => verb.run(out),
            Command::Check(verb) => verb.run(out),
            Command::Inspect(verb) => verb.run(out),
            Command::Explain(verb) => verb.run(out),
            Command::Edit(verb) => verb.run(out),
            Command::Opt(verb) => verb.run(out),
            Command::Ops(verb) => verb.run(out),
            Command::Passes(verb) => verb.run(out),
            Command::Rules(verb) => verb.run(out),
            Command::Zoo(verb) => verb.run(out),
            Command::Completions(verb) => verb.run(out),
        }
    }
}

/// What code is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The processor
    Cpu,
    /// A GPU of NVIDIA
    Cuda,
}

/// The options of every command that compiles a model.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of compilation")]
pub(crate) struct Common {
    /// How much to optimise: 0 makes each op its own kernel, 1 to 3 fuse [default: 2, or what a dump states]
    #[arg(short = 'O', long = "opt", value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=3))]
    level: Option<u8>,
    /// What code is made for [default: cpu, or what a dump states]
    #[arg(long, value_enum)]
    target: Option<Target>,
    /// The processor: portable (x86-64-v3, with loops for AVX-512 where it has that, or any AArch64), host, or a
    /// level such as x86-64-v4
    #[arg(long, value_name = "NAME", default_value = "portable")]
    mcpu: String,
    /// Fix a symbolic size; repeatable
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dim)]
    dims: Vec<(Symbol, i64)>,
    /// Fix the shape of an input, such as x:1x3x224x224; letters instead of a number make a symbol; repeatable
    #[arg(long = "input-shape", value_name = "NAME:SHAPE", value_parser = input_shape)]
    shapes: Vec<(String, Vec<Dim>)>,
    /// How many tensors an input of an ONNX model holds that is a sequence; they are inputs NAME.0, NAME.1 and so on;
    /// repeatable
    #[arg(long = "length", value_name = "NAME=N", value_parser = length)]
    lengths: Vec<(String, usize)>,
    /// Compile an ONNX model for an optional input that holds nothing; repeatable
    #[arg(long = "absent", value_name = "NAME")]
    absent: Vec<String>,
    /// Compile an ONNX model for one value of a small input of integers or bools, where lengths of sequences depend on
    /// it: its elements, row-major. When it runs, it refuses others; repeatable
    #[arg(long = "value", value_name = "NAME=N,N,...", value_parser = value)]
    values: Vec<(String, Vec<i64>)>,
    /// How the weights of QMoE nodes of an ONNX model lie, where it does not say so: raw, rows of packed integers one
    /// after the other, or sm80, packed as GPUs of compute capability 8.0 and later take them
    #[arg(long, value_name = "LAYOUT", value_parser = qmoe_layout)]
    qmoe_layout: Option<ExpertLayout>,
    /// Keep an output as an input of the next run: both leave the model's interface, and no run copies them. A `*` in both
    /// names stands for any text, as in past_key_values.*=present.*; @AXIS behind says along which axis an output grows
    /// for which there is no input; repeatable
    #[arg(long = "keep", value_name = "PAST=PRESENT", value_parser = str::parse::<Keep>)]
    keeps: Vec<Keep>,
    /// For how many rows there is room in what is kept and grows
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(i64).range(1..))]
    capacity: Option<i64>,
    /// Which rewrites of floating-point arithmetic are allowed: strict (every bit as the model says), reassoc (sums regrouped,
    /// 16-bit floats in f32 between ops), fast (some accuracy lost) [default: reassoc]
    #[arg(long, value_name = "MODE", value_parser = fp)]
    fp: Option<passes_fp::FpMode>,
    /// Store the f32 weights of matrix products as bf16 or f16, to which they are rounded: half the memory, at some
    /// accuracy [default: as the model has them]
    #[arg(long, value_name = "TYPE", value_parser = weights)]
    weights: Option<ir::DType>,
    /// Do not apply a rewrite rule, one of those that `egraft rules` lists; repeatable
    #[arg(long = "disable-rule", value_name = "NAME")]
    disabled_rules: Vec<String>,
    /// Fail rather than evaluate anything instead of compiling it. There is no such fallback: this changes nothing
    #[arg(long)]
    no_fallback: bool,
    /// Configure a built-in model; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Take the weights of a built-in model from this file instead of drawing them
    #[arg(long, value_name = "FILE.safetensors")]
    params: Option<PathBuf>,
    /// Verify the intermediate form after every pass (always on in debug builds)
    #[arg(long = "verify")]
    verify: bool,
    /// Threads to run with [default: all]. Results are the same for any number; compiling takes one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The enumeration of passes, under a name that does not clash with the verb's module.
mod passes_fp {
    pub(super) use ::passes::FpMode;
}

impl Common {
    /// The options of the compilation.
    fn options(&self) -> Result<Options, Failure> {
        self.disabled_rules.iter().try_for_each(|name| known_rule(name))?;
        Ok(Options {
            target: self.target.map(|target| match target {
                Target::Cpu => ::passes::Target::Cpu,
                Target::Cuda => ::passes::Target::Gpu,
            }),
            level: self.level,
            fp: self.fp,
            weights: self.weights,
            disabled_rules: self.disabled_rules.clone(),
            dims: self.dims.clone(),
            input_shapes: self.shapes.clone(),
            lengths: self.lengths.clone(),
            absent: self.absent.clone(),
            values: self.values.clone(),
            qmoe_layout: self.qmoe_layout,
            keeps: self.keeps.clone(),
            capacity: self.capacity,
            settings: self.settings.clone(),
            params: self.params.clone(),
            mcpu: self.mcpu.clone(),
            verify: self.verify || cfg!(debug_assertions),
            ..Options::default()
        })
    }

    /// The options, which must suit the model.
    fn checked_options(&self, model: &Path) -> Result<Options, Failure> {
        let options = self.options()?;
        self.check_settings(model)?;
        Ok(options)
    }

    /// Options and model.
    fn load(&self, model: &Path) -> Result<(Options, Source), Failure> {
        let options = self.checked_options(model)?;
        let source = egraft::load(model, &options)?;
        Ok((options, source))
    }

    /// Options and models that are compiled together.
    fn load_all(&self, models: &[PathBuf]) -> Result<(Options, Vec<Source>), Failure> {
        models.iter().try_for_each(|model| self.check_settings(model))?;
        let options = self.options()?;
        let sources = egraft::load_all(models, &options)?;
        Ok((options, sources))
    }

    /// Settings and weights only mean something for built-in models.
    fn check_settings(&self, model: &Path) -> Result<(), Failure> {
        let is_zoo = model.to_str().is_some_and(|text| text.starts_with("zoo:"));
        let (option, does) = match (self.settings.is_empty(), self.params.is_none()) {
            _ if is_zoo => return Ok(()),
            (true, true) => return Ok(()),
            (false, _) => ("--set", "configures"),
            (true, false) => ("--params", "gives weights to"),
        };
        Err(Failure::bad_input(
            "egraft::cli::settings",
            format!("`{option}` {does} built-in models, and this is a file"),
            format!("leave out `{option}`"),
        ))
    }

    /// An option that is given and only means something where a model is compiled.
    fn of_compilation(&self) -> Option<&'static str> {
        [
            (self.target.is_some(), "--target"),
            (self.level.is_some(), "-O"),
            (self.mcpu != "portable", "--mcpu"),
            (!self.shapes.is_empty(), "--input-shape"),
            (!self.lengths.is_empty(), "--length"),
            (!self.absent.is_empty(), "--absent"),
            (!self.values.is_empty(), "--value"),
            (self.qmoe_layout.is_some(), "--qmoe-layout"),
            (!self.keeps.is_empty(), "--keep"),
            (self.capacity.is_some(), "--capacity"),
            (self.fp.is_some(), "--fp"),
            (self.weights.is_some(), "--weights"),
            (!self.disabled_rules.is_empty(), "--disable-rule"),
            (!self.settings.is_empty(), "--set"),
            (self.params.is_some(), "--params"),
            (self.verify, "--verify"),
        ]
        .into_iter()
        .find_map(|(given, option)| given.then_some(option))
    }

    /// The value that the model is compiled for, if it is for one.
    fn fixed(&self, name: &str, ty: &TensorType) -> Option<Tensor> {
        let (_, numbers) = self.values.iter().find(|(given, _)| given == name)?;
        let shape = ty.fixed_shape().filter(|shape| shape.iter().product::<usize>() == numbers.len())?;
        let mut numbers = numbers.iter();
        Some(Tensor::from_fn(ty.dtype, &shape, |_| {
            Scalar::from_i64(ty.dtype, *numbers.next().expect("one for each element"))
        }))
    }

    /// Is anything kept from run to run?
    fn keeps_states(&self) -> bool {
        !self.keeps.is_empty()
    }

    fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.threads.map_or_else(all, usize::from)
    }
}

/// A model, compiled in memory for what it is to run on.
///
/// # Errors
/// It does not compile, or what it is compiled for is not there.
fn ready(source: Source, options: &Options, watch: &mut Watch) -> Result<Arc<Model>, Failure> {
    if source.provenance.options.target() == ::passes::Target::Cpu {
        let done = egraft::compile(source, options, watch);
        return Ok(watch.finish(done)?.model()?);
    }
    let done = egraft::gpu::compile_here(source, options, watch);
    Ok(watch.finish(done)?.model()?)
}

/// Refuses the name of a rule that there is not.
pub(crate) fn known_rule(name: &str) -> Result<(), Failure> {
    if ::passes::egraph::rules::find(name).is_some() {
        return Ok(());
    }
    let known = ::passes::egraph::rules::all().map(|rule| rule.name);
    Err(Failure::bad_input(
        "egraft::cli::unknown_rule",
        format!("there is no rewrite rule `{name}`"),
        near::suggestion(name, known, "`egraft rules` lists them"),
    ))
}

/// A file that was taken for an artifact, since it is no model by its name.
fn not_an_artifact(path: &Path, error: runtime::LoadError) -> Failure {
    if let runtime::LoadError::Stripped { .. } = error {
        let help = "a model ends in .onnx, .ir, .kir or .prog, or is called zoo:NAME";
        return Failure::bad_input(error.code(), format!("{}: {error}", path.display()), help);
    }
    egraft::Error::from(error).into()
}

/// Writes a value as JSON, with a line end.
fn print_json(out: &mut dyn Write, value: &serde_json::Value) -> Result<(), Failure> {
    Ok(writeln!(out, "{value:#}")?)
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn dim(text: &str) -> Result<(Symbol, i64), String> {
    // The last `=`: symbols may be written in any way, numbers not.
    let (name, value) = text.rsplit_once('=').ok_or("it must be NAME=N")?;
    let value =
        value.parse::<i64>().ok().filter(|value| *value >= 0).ok_or("N must be from 0 to 2^63 - 1")?;
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    Ok((Symbol::new(name), value))
}

fn length(text: &str) -> Result<(String, usize), String> {
    let (name, length) = text.rsplit_once('=').ok_or("it must be NAME=N")?;
    let length = length.parse().map_err(|_| "N must be a number of tensors")?;
    Ok((name.to_owned(), length))
}

fn value(text: &str) -> Result<(String, Vec<i64>), String> {
    let (name, numbers) = text.rsplit_once('=').ok_or("it must be NAME=N or NAME=N,N")?;
    let number = |part: &str| match part {
        "false" => Ok(0),
        "true" => Ok(1),
        _ => part.parse::<i64>().map_err(|_| format!("`{part}` is no integer, true or false")),
    };
    let numbers = numbers.split(',').filter(|_| !numbers.is_empty()).map(number);
    Ok((name.to_owned(), numbers.collect::<Result<_, String>>()?))
}

fn input_shape(text: &str) -> Result<(String, Vec<Dim>), String> {
    // The last `:`: names of inputs hold some, shapes don't.
    let (name, shape) = text.rsplit_once(':').ok_or("it must be NAME:1x3x224x224")?;
    let dims = shape.split('x').filter(|_| !shape.is_empty()).map(|part| {
        let dim = Dim::parse(part).map_err(|error| format!("`{part}` is no size: {error}"))?;
        match dim.as_const() {
            Some(..0) => Err(format!("`{part}` is negative")),
            _ => Ok(dim),
        }
    });
    Ok((name.to_owned(), dims.collect::<Result<_, String>>()?))
}

fn qmoe_layout(text: &str) -> Result<ExpertLayout, String> {
    let found = ExpertLayout::ALL.into_iter().find(|layout| layout.name() == text);
    found.ok_or_else(|| format!("the layouts are {}", ExpertLayout::ALL.map(ExpertLayout::name).join(", ")))
}

fn fp(text: &str) -> Result<passes_fp::FpMode, String> {
    fp_mode(text).ok_or_else(|| {
        let known = ["strict", "reassoc", "fast"].map(|name| name.to_owned()).join(", ");
        debug_assert!(fp_mode("fast").map(fp_name) == Some("fast"));
        format!("the modes are {known}")
    })
}

fn weights(text: &str) -> Result<ir::DType, String> {
    weights_type(text).ok_or_else(|| "weights are stored as bf16 or f16".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_and_shapes() {
        assert_eq!(dim("n=4"), Ok(("n".into(), 4)));
        assert_eq!(dim("a=b=4"), Ok(("a=b".into(), 4)));
        for bad in ["n", "n=", "n=-1", "=3", "n=x"] {
            assert!(dim(bad).is_err(), "{bad}");
        }
        let n = Dim::constant;
        assert_eq!(input_shape("x:1x3x2"), Ok(("x".into(), vec![n(1), n(3), n(2)])));
        assert_eq!(input_shape("a:b:4"), Ok(("a:b".into(), vec![n(4)])));
        assert_eq!(input_shape("x:"), Ok(("x".into(), vec![])));
        assert_eq!(input_shape("x:Nx3"), Ok(("x".into(), vec![Dim::symbol("N"), n(3)])));
        for bad in ["x", "x:1xx2", "x:-1"] {
            assert!(input_shape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_and_values() {
        assert_eq!(length("x=3"), Ok(("x".into(), 3)));
        assert_eq!(value("n=-2"), Ok(("n".into(), vec![-2])));
        assert_eq!(value("a=b=1,true,0"), Ok(("a=b".into(), vec![1, 1, 0])));
        assert_eq!(value("n="), Ok(("n".into(), vec![])));
        for bad in ["x", "x=", "x=-1", "x=1.5"] {
            assert!(length(bad).is_err(), "{bad}");
        }
        for bad in ["n", "n=1,", "n=1.5", "n=x"] {
            assert!(value(bad).is_err(), "{bad}");
        }
    }
}
