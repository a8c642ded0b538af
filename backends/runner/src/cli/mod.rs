//! The command line of a compiled model, shared by every artifact and by `egraft run`.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 success, 2 bad usage or
//! bad input, 70 a bug of ours. Deliberately absent: configuration files and environment variables.

mod args;
mod bench;
mod error;
mod feed;
mod inspect;
mod show;
mod state;

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use runtime::{Model, Pool, Session};

pub use args::{Command, HELP, Options, parse};
pub use error::CliError;

use crate::files;
use crate::tensor::Tensor;
use crate::timing::Bound;

/// Exit code of bad usage and bad input.
pub const BAD_INPUT: i32 = 2;
/// Exit code of a bug of ours.
pub const BUG: i32 = 70;

/// Runs `model` as `args` say and returns the exit code. The first of `args` is the program's name, which
/// only help and messages show.
pub fn main_with(model: Arc<Model>, args: impl IntoIterator<Item = OsString>) -> i32 {
    let (mut out, mut err) = (io::BufWriter::new(io::stdout().lock()), io::stderr());
    run(&model, args, &mut out, &mut err)
}

/// [`main_with`], writing to `out` and `err`.
pub fn run(
    model: &Arc<Model>,
    args: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> i32 {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_else(|| "model".into());
    let program = program.to_string_lossy();
    let command = parse(args).map_err(CliError::from);
    let done = command.and_then(|command| execute(model, &command, &program, out, err));
    finish(done, out, err)
}

/// Carries out a parsed command line.
///
/// # Errors
/// See [`CliError`].
pub fn execute(
    model: &Arc<Model>,
    command: &Command,
    program: &str,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    match command {
        Command::Help => Ok(out.write_all(HELP.replace("PROGRAM", program).as_bytes())?),
        Command::Version => Ok(inspect::version(model, out)?),
        Command::Inspect { json } => Ok(inspect::print(model, *json, out)?),
        Command::Run(options) => run_model(model, options, out, err),
    }
}

/// Reports an error and turns the outcome into an exit code. A reader that has gone away is no error.
pub fn finish(done: Result<(), CliError>, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    let done = done.and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => 0,
        Err(CliError::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            // Nobody is left to tell if this fails too.
            let _ = out.flush();
            let _ = report(err, error.code(), &error.to_string(), &error.help());
            error.exit_code()
        }
    }
}

/// Writes a diagnostic: one line with code and message, one with the way out.
///
/// # Errors
/// What `err` reports.
pub fn report(err: &mut dyn Write, code: &str, message: &str, help: &str) -> io::Result<()> {
    // Names in messages come from files and may contain anything.
    let line = |text: &str| text.replace(['\n', '\r'], " ");
    writeln!(err, "error[{code}]: {}", line(message))?;
    if !help.is_empty() {
        writeln!(err, "  help: {}", line(help))?;
    }
    Ok(())
}

fn run_model(
    model: &Arc<Model>,
    options: &Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), CliError> {
    // What can be known to fail is refused before any work.
    for path in options.outputs.iter().chain(&options.save_state) {
        files::check_writable(path)?;
    }
    let index = entry_index(model, options.entry.as_deref())?;
    let entry = &model.plan().entries[index];
    let mut runs = feed::runs(entry, options)?;
    if runs.len() > 1 && (options.bench.is_some() || options.outputs.is_some()) {
        let what = if options.bench.is_some() { "--bench" } else { "--outputs" };
        return Err(CliError::SeveralRuns { what, runs: runs.len() });
    }
    let threads = threads(options);
    let mut session = Session::new(Arc::clone(model), index, Pool::new(threads))?;
    let mut printer = show::Printer::new(&entry.name, runs.len(), options.json);
    let begin = state::read(entry, options)?;
    for (number, run) in runs.iter_mut().enumerate() {
        let inputs = feed::complete(entry, options, run, err)?;
        if number == 0 || !options.keep_state {
            // Each group of files is a call of its own: it sees no state of the one before.
            state::begin(&mut session, &begin, &inputs)?;
        }
        let outputs = match options.bench {
            None => session.run_tensors(&views(&inputs))?,
            Some(count) => {
                let mut bound = Bound::new(&mut session, &inputs, &begin)?;
                let times = bound.times(options.warmup, count)?;
                bench::print(&times, &entry.name, threads, options.json, out)?;
                bound.into_outputs()
            }
        };
        let outputs: Vec<(String, Tensor)> =
            outputs.into_iter().map(|output| (output.name.clone(), Tensor::from(output))).collect();
        if let Some(path) = &options.outputs {
            let named: Vec<(&str, &Tensor)> =
                outputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            files::write_all(path, &named)?;
        } else if options.bench.is_none() {
            printer.run(&run.files, &outputs, out)?;
        }
    }
    if options.bench.is_none() && options.outputs.is_none() {
        printer.finish(out)?;
    }
    options.save_state.as_deref().map_or(Ok(()), |path| state::save(&session, path))
}

/// What runs again and again.
pub struct Prepared {
    /// A session of the entry.
    pub session: Session,
    /// Its inputs.
    pub inputs: Vec<Tensor>,
    /// The states that runs begin with, by position; all others begin as zeros.
    pub states: Vec<(usize, Tensor)>,
}

/// A session of the entry that `options` name, with the inputs of its only run. `what` needs it to be the only one.
///
/// # Errors
/// The options don't fit the model, or make several runs.
pub fn prepare(
    model: &Arc<Model>,
    options: &Options,
    what: &'static str,
    err: &mut dyn Write,
) -> Result<Prepared, CliError> {
    let index = entry_index(model, options.entry.as_deref())?;
    let entry = &model.plan().entries[index];
    let mut runs = feed::runs(entry, options)?;
    let [run] = runs.as_mut_slice() else {
        return Err(CliError::SeveralRuns { what, runs: runs.len() });
    };
    let inputs = feed::complete(entry, options, run, err)?;
    let mut session = Session::new(Arc::clone(model), index, Pool::new(threads(options)))?;
    let states = state::read(entry, options)?;
    state::begin(&mut session, &states, &inputs)?;
    Ok(Prepared { session, inputs, states })
}

fn threads(options: &Options) -> usize {
    options.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
}

fn views(inputs: &[Tensor]) -> Vec<runtime::TensorRef<'_>> {
    inputs.iter().map(Tensor::view).collect()
}

/// The entry by name; without a name the first, which is the only one of most models.
fn entry_index(model: &Model, name: Option<&str>) -> Result<usize, CliError> {
    let entries = &model.plan().entries;
    match name {
        None if entries.is_empty() => Err(CliError::NoEntries),
        None => Ok(0),
        Some(name) => entries.iter().position(|entry| entry.name == name).ok_or_else(|| CliError::Entry {
            name: name.to_owned(),
            known: error::list(entries.iter().map(|entry| entry.name.as_str())),
        }),
    }
}
