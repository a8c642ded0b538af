//! The program that a compiled model is appended to.
//!
//! Exit codes: 0, 2 for bad usage, bad input and damaged models, 70 for a bug of ours.

use std::io::{self, Write};
use std::panic;
use std::process;

use runtime::Model;

use crate::cli;

/// Runs the model that is appended to this program, and ends it.
pub fn run() -> ! {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message");
        let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        let message = format!("{message}{}", place.unwrap_or_default());
        let _ = cli::report(
            &mut io::stderr(),
            "egraft::runner::bug",
            &message,
            "please report this with the model",
        );
        // Any thread may come here; the others can't go on without it.
        process::exit(cli::BUG);
    }));
    let code = match Model::own_executable() {
        Ok(model) => cli::main_with(model, std::env::args_os()),
        Err(error) => {
            let _ = cli::report(
                &mut io::stderr(),
                error.code(),
                &error.to_string(),
                error.help().unwrap_or_default(),
            );
            cli::BAD_INPUT
        }
    };
    let _ = io::stdout().flush();
    process::exit(code);
}
