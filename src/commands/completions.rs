//! `egraft completions SHELL`.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::report::Failure;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell that reads the script
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        // To memory first: the generator panics where its writer fails, and a reader may go away.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "egraft", &mut script);
        out.write_all(&script)?;
        Ok(0)
    }
}
