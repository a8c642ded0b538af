//! `egraft zoo`: the built-in models.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use egraft::{Options, output, source};
use serde_json::json;

use super::{print_json, setting};
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
    /// List the built-in models, with what they can be built with
    List,
    /// Write a built-in model to a file
    Build {
        /// Its name
        name: String,
        /// The file, a .ir
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Build it with another value of a setting, or another `seed` for its weights; repeatable
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
}

impl Zoo {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        match self.action {
            Some(Action::Build { name, output: path, settings }) => {
                let options = Options { settings, ..Options::default() };
                let source = source::build(&name, &options)?;
                if path.extension().is_none_or(|extension| extension != "ir") {
                    return Err(Failure::bad_input(
                        "egraft::cli::emit",
                        format!(
                            "{} is no .ir, and a built-in model is written as nothing else",
                            path.display()
                        ),
                        "name a file that ends in .ir",
                    ));
                }
                output::check(&path)?;
                let passes::pipeline::State::Graph(graph) = &source.state else {
                    unreachable!("bug: the zoo builds graphs")
                };
                egraft::write_text(&path, &graph.to_string(), &source.state)?;
                Ok(0)
            }
            None | Some(Action::List) => {
                list(self.json, out)?;
                Ok(0)
            }
        }
    }
}

fn list(as_json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if as_json {
        let settings = |entry: &zoo::Entry| {
            let setting = |s: &zoo::Setting| json!({"name": s.name, "default": s.default, "about": s.about});
            entry.settings.iter().map(setting).collect::<Vec<_>>()
        };
        let model = |entry: &zoo::Entry| json!({"name": entry.name, "about": entry.about, "settings": settings(entry)});
        return print_json(out, &json!({"models": zoo::ALL.iter().map(model).collect::<Vec<_>>()}));
    }
    for entry in zoo::ALL {
        writeln!(out, "{}: {}", entry.name, entry.about)?;
        for setting in entry.settings {
            writeln!(out, "  --set {}={}: {}", setting.name, setting.default, setting.about)?;
        }
        writeln!(out, "  --set seed=0: what the weights are drawn from")?;
    }
    Ok(())
}
