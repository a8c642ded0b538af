//! Options, parsed by hand: an artifact carries this code, so it has to be small.
//!
//! Only form is checked here; names and shapes are checked where the model is known.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What `--help` prints, with `PROGRAM` for the program's name.
pub const HELP: &str = "\
Runs a model compiled by egraft.

Usage: PROGRAM [OPTIONS] [FILE.npy]...

Files without an option are bound to the inputs in order. Several times as many files as inputs are
several runs. Inputs that are not given are seeded random. Types that a format lacks stand in it as bytes:
floats of 8 and 4 bits by their bits (uint8), integers of 4 and 2 by their values (int8, uint8).

Inputs and outputs:
      --input NAME=FILE.npy    Give one input; repeatable
      --inputs FILE            Give inputs by name, from a .npz or .safetensors file; repeatable
      --outputs FILE           Write the outputs to a .npz or .safetensors file instead of printing them
      --seed N                 Seed of inputs that are not given  [default: 0]
      --dim NAME=N             Size for a symbolic dim that no given input decides; repeatable  [default: 1]
      --entry NAME             Run this entry  [default: the first]

State, which a model keeps from run to run:
      --keep-state             Let each of several runs go on from the one before
      --state FILE             Begin with the states in a .npz or .safetensors file, by name  [default: zeros]
      --save-state FILE        Write the states to a .npz or .safetensors file after the last run

Running:
      --threads N              Threads to use  [default: all]
      --bench N                Time N runs, print median, p90 and p99 in milliseconds
      --warmup N               Runs before the timed ones  [default: 5]

Printing:
      --json                   Print JSON
      --inspect                Print what the model says about itself, and run nothing
  -h, --help                   Print this
  -V, --version                Print versions
";

/// More threads than this are a typing mistake.
const MAX_THREADS: u64 = 4096;
/// More runs than this are a typing mistake, and their times would not fit memory.
const MAX_RUNS: u64 = 100_000_000;

/// A parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run the model.
    Run(Box<Options>),
    /// Print what the model says about itself.
    Inspect {
        /// As JSON.
        json: bool,
    },
    /// Print help.
    Help,
    /// Print versions.
    Version,
}

/// How to run the model. The fields are the options of the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `.npy` files without an option.
    pub files: Vec<PathBuf>,
    /// `NAME=FILE.npy`, not yet split: names may contain `=`, and only the model knows them.
    pub input: Vec<String>,
    /// Files of named inputs.
    pub inputs: Vec<PathBuf>,
    /// File for the outputs.
    pub outputs: Option<PathBuf>,
    /// Seed of inputs that are not given.
    pub seed: u64,
    /// Sizes of symbolic dims.
    pub dims: Vec<(String, i64)>,
    /// Name of the entry.
    pub entry: Option<String>,
    /// Does a run go on from the one before?
    pub keep_state: bool,
    /// File of the states to begin with.
    pub state: Option<PathBuf>,
    /// File for the states after the last run.
    pub save_state: Option<PathBuf>,
    /// Number of threads; `None` is all.
    pub threads: Option<usize>,
    /// Number of timed runs.
    pub bench: Option<usize>,
    /// Runs before the timed ones.
    pub warmup: usize,
    /// Print JSON.
    pub json: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            files: Vec::new(),
            input: Vec::new(),
            inputs: Vec::new(),
            outputs: None,
            seed: 0,
            dims: Vec::new(),
            entry: None,
            keep_state: false,
            state: None,
            save_state: None,
            threads: None,
            bench: None,
            warmup: 5,
            json: false,
        }
    }
}

/// What is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// There is no such option.
    #[error("there is no option `{option}`")]
    Unknown {
        /// As it was given.
        option: String,
    },
    /// An option stands without the value it needs.
    #[error("`{option}` needs a value: {form}")]
    NoValue {
        /// The option.
        option: &'static str,
        /// What the value looks like.
        form: &'static str,
    },
    /// An option that takes no value has one.
    #[error("`{option}` takes no value")]
    Flag {
        /// The option.
        option: &'static str,
    },
    /// A value that the option can't have.
    #[error("`{option} {value}`: the value must be {form}")]
    Value {
        /// The option.
        option: &'static str,
        /// As it was given.
        value: String,
        /// What the value looks like.
        form: &'static str,
    },
    /// An option that may be given once is given again.
    #[error("`{option}` is given twice")]
    Twice {
        /// The option.
        option: &'static str,
    },
    /// An option that only means something together with another.
    #[error("`{option}` means nothing without `{needs}`")]
    Alone {
        /// The option.
        option: &'static str,
        /// The other one.
        needs: &'static str,
    },
}

impl UsageError {
    /// The way out.
    pub fn help(&self) -> String {
        match self {
            UsageError::Unknown { option } => match nearest(option) {
                Some(near) => format!("did you mean `{near}`? `--help` lists all options"),
                None => "`--help` lists all options".to_owned(),
            },
            UsageError::Alone { option, needs } => format!("add `{needs}` or leave out `{option}`"),
            _ => "`--help` explains all options".to_owned(),
        }
    }
}

const OPTIONS: &[&str] = &[
    "--input",
    "--inputs",
    "--outputs",
    "--seed",
    "--dim",
    "--entry",
    "--keep-state",
    "--state",
    "--save-state",
    "--threads",
    "--bench",
    "--warmup",
    "--json",
    "--inspect",
    "--help",
    "--version",
];

/// The option at an edit distance of at most 2, if there is one.
fn nearest(given: &str) -> Option<&'static str> {
    let distance = |option: &str| {
        let option: Vec<char> = option.chars().collect();
        let mut row: Vec<usize> = (0..=option.len()).collect();
        for (i, a) in given.chars().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], i + 1);
            for (j, b) in option.iter().enumerate() {
                let substitute = diagonal + usize::from(a != *b);
                diagonal = row[j + 1];
                row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[option.len()]
    };
    // Longer words than any option are not worth the time.
    let best = OPTIONS.iter().filter(|_| given.len() < 40).min_by_key(|option| distance(option))?;
    (distance(best) <= 2).then_some(*best)
}

/// Parses the arguments after the program's name. `--name value` and `--name=value` are the same; `--`
/// makes the rest files.
///
/// # Errors
/// What is wrong with the arguments, with the way out.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = args.into_iter();
    let mut options = Options::default();
    let (mut seed, mut warmup, mut inspect, mut only_files) = (None, None, false, false);
    while let Some(arg) = args.next() {
        let text = arg.to_str().map(str::to_owned);
        let text = match text {
            Some(text) if !only_files && text.len() > 1 && text.starts_with('-') => text,
            _ => {
                options.files.push(arg.into());
                continue;
            }
        };
        let (name, inline) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(OsString::from(value))),
            _ => (text.as_str(), None),
        };
        let is_flag = matches!(
            name,
            "--" | "--json" | "--keep-state" | "--inspect" | "-h" | "--help" | "-V" | "--version"
        );
        if let (true, Some(_), Some(option)) =
            (is_flag, &inline, OPTIONS.iter().find(|option| **option == name))
        {
            return Err(UsageError::Flag { option });
        }
        let mut value = |option, form| match inline.clone().or_else(|| args.next()) {
            Some(value) => Ok(Given { option, form, value }),
            None => Err(UsageError::NoValue { option, form }),
        };
        match name {
            "--" => only_files = true,
            "--json" => options.json = true,
            "--keep-state" => options.keep_state = true,
            "--inspect" => inspect = true,
            "-h" | "--help" => return Ok(Command::Help),
            "-V" | "--version" => return Ok(Command::Version),
            "--input" => {
                let given = value("--input", "NAME=FILE.npy")?;
                let text = given.text()?;
                if !text.contains('=') {
                    return Err(given.wrong());
                }
                options.input.push(text.to_owned());
            }
            "--inputs" => options.inputs.push(value("--inputs", "a .npz or .safetensors file")?.value.into()),
            "--outputs" => {
                let path = value("--outputs", "a .npz or .safetensors file")?.value.into();
                once("--outputs", &mut options.outputs, path)?;
            }
            "--state" => {
                let path = value("--state", "a .npz or .safetensors file")?.value.into();
                once("--state", &mut options.state, path)?;
            }
            "--save-state" => {
                let path = value("--save-state", "a .npz or .safetensors file")?.value.into();
                once("--save-state", &mut options.save_state, path)?;
            }
            "--seed" => once(
                "--seed",
                &mut seed,
                value("--seed", "an integer from 0 to 2^64 - 1")?.number(0, u64::MAX)?,
            )?,
            "--dim" => {
                let given = value("--dim", "NAME=N with N from 0 to 2^63 - 1")?;
                // The last `=`: symbols may be written in any way, numbers not.
                let (name, size) = given.text()?.rsplit_once('=').ok_or_else(|| given.wrong())?;
                let size = size.parse::<i64>().ok().filter(|size| *size >= 0).ok_or_else(|| given.wrong())?;
                if options.dims.iter().any(|(earlier, _)| earlier == name) {
                    return Err(UsageError::Twice { option: "--dim" });
                }
                options.dims.push((name.to_owned(), size));
            }
            "--entry" => {
                let name = value("--entry", "a name")?.text()?.to_owned();
                once("--entry", &mut options.entry, name)?;
            }
            "--threads" => {
                let threads =
                    value("--threads", "an integer from 1 to 4096")?.number(1, MAX_THREADS)? as usize;
                once("--threads", &mut options.threads, threads)?;
            }
            "--bench" => {
                let runs = value("--bench", "an integer from 1 to 10^8")?.number(1, MAX_RUNS)? as usize;
                once("--bench", &mut options.bench, runs)?;
            }
            "--warmup" => {
                let runs = value("--warmup", "an integer from 0 to 10^8")?.number(0, MAX_RUNS)? as usize;
                once("--warmup", &mut warmup, runs)?;
            }
            _ => return Err(UsageError::Unknown { option: name.to_owned() }),
        }
    }
    if inspect {
        return Ok(Command::Inspect { json: options.json });
    }
    if warmup.is_some() && options.bench.is_none() {
        return Err(UsageError::Alone { option: "--warmup", needs: "--bench" });
    }
    options.seed = seed.unwrap_or(options.seed);
    options.warmup = warmup.unwrap_or(options.warmup);
    Ok(Command::Run(Box::new(options)))
}

/// A value with what its option expects.
struct Given {
    option: &'static str,
    form: &'static str,
    value: OsString,
}

impl Given {
    fn wrong(&self) -> UsageError {
        UsageError::Value {
            option: self.option,
            value: self.value.to_string_lossy().into_owned(),
            form: self.form,
        }
    }

    fn text(&self) -> Result<&str, UsageError> {
        self.value.to_str().ok_or_else(|| self.wrong())
    }

    fn number(&self, least: u64, most: u64) -> Result<u64, UsageError> {
        let number = self.value.to_str().and_then(|text| text.parse().ok());
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| self.wrong())
    }
}

fn once<T>(option: &'static str, place: &mut Option<T>, value: T) -> Result<(), UsageError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UsageError::Twice { option }),
    }
}

impl Options {
    /// Splits `NAME=FILE` at the first `=` that ends one of `names`, else at the first.
    pub(super) fn split_input<'a>(given: &'a str, names: &[&str]) -> (&'a str, &'a OsStr) {
        let known = given.match_indices('=').find(|(at, _)| names.contains(&&given[..*at]));
        let at = known.map(|(at, _)| at).or_else(|| given.find('=')).expect("parse has seen a `=`");
        (&given[..at], OsStr::new(&given[at + 1..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn options(line: &str) -> Options {
        match of(line) {
            Ok(Command::Run(options)) => *options,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn error(line: &str) -> String {
        of(line).expect_err(line).to_string()
    }

    #[test]
    fn everything_at_once() {
        let found = options(
            "a.npy --input x=b.npy --inputs=c.npz --outputs d.safetensors --seed 7 --dim n=3 --dim=m=0 \
             --threads 2 --bench=10 --warmup 1 --entry step --keep-state --state s.npz --save-state t.npz --json - -- --e.npy",
        );
        let expected = Options {
            files: vec!["a.npy".into(), "-".into(), "--e.npy".into()],
            input: vec!["x=b.npy".into()],
            inputs: vec!["c.npz".into()],
            outputs: Some("d.safetensors".into()),
            seed: 7,
            dims: vec![("n".into(), 3), ("m".into(), 0)],
            entry: Some("step".into()),
            keep_state: true,
            state: Some("s.npz".into()),
            save_state: Some("t.npz".into()),
            threads: Some(2),
            bench: Some(10),
            warmup: 1,
            json: true,
        };
        assert_eq!(found, expected);
        assert_eq!(options(""), Options::default());
    }

    #[test]
    fn commands() {
        assert_eq!(of("a.npy --help --nonsense"), Ok(Command::Help));
        assert_eq!(of("-V"), Ok(Command::Version));
        assert_eq!(of("--inspect --json"), Ok(Command::Inspect { json: true }));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(error("--thread 2"), "there is no option `--thread`");
        assert_eq!(
            of("--thread 2").expect_err("unknown").help(),
            "did you mean `--threads`? `--help` lists all options"
        );
        assert_eq!(of("-x").expect_err("unknown").help(), "`--help` lists all options");
        assert_eq!(error("--seed"), "`--seed` needs a value: an integer from 0 to 2^64 - 1");
        assert_eq!(error("--json=1"), "`--json` takes no value");
        assert_eq!(error("--seed 1 --seed 1"), "`--seed` is given twice");
        assert_eq!(error("--dim n=1 --dim n=2"), "`--dim` is given twice");
        assert_eq!(error("--warmup 1"), "`--warmup` means nothing without `--bench`");
        for wrong in [
            "--threads 0",
            "--threads -1",
            "--bench 0",
            "--seed x",
            "--seed -1",
            "--dim n",
            "--dim n=-1",
            "--dim n=x",
            "--input x",
            "--threads 99999999999999999999",
        ] {
            assert!(error(wrong).contains("the value must be"), "{wrong}");
        }
    }

    #[test]
    fn names_may_contain_the_separator() {
        assert_eq!(Options::split_input("a=b=c.npy", &["a=b"]), ("a=b", OsStr::new("c.npy")));
        assert_eq!(Options::split_input("a=b=c.npy", &["x"]), ("a", OsStr::new("b=c.npy")));
    }

    #[test]
    fn help_names_every_option() {
        assert!(OPTIONS.iter().all(|option| HELP.contains(option)));
    }
}
