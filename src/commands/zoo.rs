//! `egraft zoo`: the built-in models. There are none yet.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use egraft::Error;
use serde_json::json;

use super::print_json;
use crate::report::Failure;

#[derive(Debug, Args)]
pub(super) struct Zoo {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the built-in models
    List,
    /// Write a built-in model to a file
    Build {
        /// Its name
        name: String,
        /// The file: .onnx or .ir
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

impl Zoo {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        match self.action {
            Some(Action::Build { name, output: _ }) => Err(Error::ZooModel { name }.into()),
            None | Some(Action::List) if self.json => {
                print_json(out, &json!({"models": []}))?;
                Ok(0)
            }
            None | Some(Action::List) => {
                writeln!(out, "the zoo is empty: there are no built-in models yet")?;
                Ok(0)
            }
        }
    }
}
