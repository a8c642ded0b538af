//! The command line. Each verb is a file in `commands`; how errors look is in `report.rs`.
//!
//! Exit codes: 0 success, 1 a mismatch, a failed check or a model with unsupported nodes, 2 bad usage or bad input,
//! 70 a bug of ours. Results go to standard output, everything else to standard error.
//!
//! [`main`] is the program, and [`program`] what it does with its arguments. [`answer`] is one command for another program, which gets what would be printed.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::panic;
use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;

pub use crate::codes::remedy;
use crate::commands::{self, Cli};
use crate::error::Error;
use crate::options::Options;
use crate::report::{self, Failure};
pub use crate::report::{BAD_INPUT, BUG, Excerpt, FAILED, Problem};
use crate::source::Source;

/// The program: takes its arguments, prints, and says how to end.
pub fn main() -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message");
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        // Nobody is left to tell if this fails.
        let _ = writeln!(
            io::stderr(),
            "bug: {}{}\negraft {} did what it must not; please report this with the model",
            message.strip_prefix("bug: ").unwrap_or(message),
            place.unwrap_or_default(),
            env!("CARGO_PKG_VERSION"),
        );
    }));
    // Unwinding removes files that are not complete.
    ExitCode::from(panic::catch_unwind(|| program(std::env::args_os())).unwrap_or(BUG))
}

/// Carries out one command as the program does: prints, and says how to end. `args` begin with the program's name.
pub fn program(args: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, and a reader that has gone away is none either.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(report::BAD_INPUT);
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let done = cli.run(&mut out).and_then(|code| out.flush().map(|()| code).map_err(Failure::from));
    match done {
        Ok(code) => code,
        Err(failure) => {
            // What was printed so far comes first.
            let _ = out.flush();
            report::finish(failure)
        }
    }
}

/// What a command comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How the program would end: 0, or 1 where a comparison or a check failed.
    pub exit: u8,
    /// What it would print.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What is wrong, at least one.
    pub problems: Vec<Problem>,
    /// How the program would end.
    pub exit: u8,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        match failure {
            Failure::Problems { problems, exit } => Refusal { problems, exit },
            Failure::Stdout(error) => Refusal { problems: vec![report::of_stdout(&error)], exit: BAD_INPUT },
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Failure::from(error).into()
    }
}

/// Carries out one command; `args` is what follows the program's name.
///
/// # Errors
/// Why it could not be carried out.
pub fn answer(args: impl IntoIterator<Item = OsString>) -> Result<Answer, Refusal> {
    let args = std::iter::once(OsString::from("egraft")).chain(args);
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if error.exit_code() == 0 => return Ok(Answer { exit: 0, text: error.to_string() }),
        Err(error) => {
            let text = error.to_string();
            let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            let problem = Problem::new("egraft::cli::usage", message, remedy("egraft::cli::usage"));
            return Err(Refusal { problems: vec![problem], exit: BAD_INPUT });
        }
    };
    let mut out = Vec::new();
    let exit = cli.run(&mut out)?;
    Ok(Answer { exit, text: String::from_utf8_lossy(&out).into_owned() })
}

/// What `egraft explain --json` says of a model: all of it, or what is about a part, a kernel or a node.
///
/// # Errors
/// The model cannot be compiled, or has no such part.
pub fn explain(source: Source, options: &Options, part: Option<&str>) -> Result<Value, Refusal> {
    Ok(commands::explain(source, options, part)?)
}

/// Whether there is a rewrite rule of that name.
///
/// # Errors
/// There is none.
pub fn check_rule(name: &str) -> Result<(), Refusal> {
    Ok(commands::known_rule(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(args: &[&str]) -> Result<Answer, Refusal> {
        answer(args.iter().map(OsString::from))
    }

    #[test]
    fn answers_are_what_is_printed() {
        let rules = ask(&["rules", "--json"]).expect("it needs no model");
        assert_eq!(rules.exit, 0);
        let _: Value = serde_json::from_str(&rules.text).expect("JSON");
        assert!(ask(&["--help"]).expect("help is no error").text.contains("Usage"));
    }

    #[test]
    fn refusals_have_a_code_and_a_way_out() {
        for (args, code, exit) in [
            (&["run"][..], "egraft::cli::usage", BAD_INPUT),
            (&["check", "none.onnx"], "egraft::cli::read", BAD_INPUT),
            (&["check", "zoo:none"], "egraft::cli::zoo_model", BAD_INPUT),
        ] {
            let refusal = ask(args).expect_err("it cannot be carried out");
            assert_eq!((refusal.problems[0].code, refusal.exit), (code, exit));
            assert!(refusal.problems[0].help.is_some(), "{args:?}");
        }
    }
}
