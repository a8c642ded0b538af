//! The program `egraft`: the command line of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    egraft::cli::main()
}
