//! The command line. Each verb is a file in `commands`; how errors look is in `report.rs`.
//!
//! Exit codes: 0 success, 1 a mismatch, a failed check or a model with unsupported nodes, 2 bad usage or bad input,
//! 70 a bug of ours. Results go to standard output, everything else to standard error.

mod codes;
mod commands;
mod near;
mod neighbourhood;
mod report;
mod watch;

use std::io::{self, BufWriter, Write};
use std::panic;
use std::process::ExitCode;

use clap::Parser;

use commands::Cli;
use report::{BUG, Failure};

fn main() -> ExitCode {
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
    ExitCode::from(panic::catch_unwind(run).unwrap_or(BUG))
}

fn run() -> u8 {
    let cli = match Cli::try_parse() {
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
