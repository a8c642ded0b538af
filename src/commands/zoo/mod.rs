//! `egraft zoo`: the built-in models.

mod page;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use egraft::{Error, Options, output, source, write};
use ir::TensorType;
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
    /// List the built-in models
    List {
        /// Print docs/zoo.md
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
        /// Write the pictures of docs/zoo.md to this folder
        #[arg(long, value_name = "DIR", requires = "markdown")]
        pictures: Option<PathBuf>,
    },
    /// Show what a built-in model can be built with, and its inputs, outputs and weights
    Show {
        /// Its name
        name: String,
        /// Show it with another value of a setting; repeatable
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
    /// Write a built-in model to a file
    Build {
        /// Its name
        name: String,
        /// The file, a .ir or .onnx
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Build it with another value of a setting, or another `seed` for its weights; repeatable
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
        /// Take its weights from this file instead of drawing them
        #[arg(long, value_name = "FILE.safetensors")]
        params: Option<PathBuf>,
    },
}

impl Zoo {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        match self.action {
            Some(Action::Show { name, settings }) => {
                show(&name, &settings, self.json, out)?;
                Ok(0)
            }
            Some(Action::Build { name, output: path, settings, params }) => {
                let options = Options { settings, params, ..Options::default() };
                let source = source::build(&name, &options)?;
                let is_text = path.extension().is_some_and(|extension| extension == "ir");
                if !is_text && !write::is_onnx(&path) {
                    return Err(Failure::bad_input(
                        "egraft::cli::emit",
                        format!(
                            "{} is no .ir or .onnx, and a built-in model is written as nothing else",
                            path.display()
                        ),
                        "name a file that ends in .ir or .onnx",
                    ));
                }
                output::check(&path)?;
                let passes::pipeline::State::Graph(graph) = &source.state else {
                    unreachable!("bug: the zoo builds graphs")
                };
                egraft::write_model(&path, &graph.to_string(), &source.state)?;
                Ok(0)
            }
            Some(Action::List { markdown: true, pictures }) => {
                page::write(pictures.as_deref(), out)?;
                Ok(0)
            }
            None | Some(Action::List { .. }) => {
                list(self.json, out)?;
                Ok(0)
            }
        }
    }
}

fn list(as_json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if as_json {
        let model = |entry: &zoo::Entry| {
            json!({
                "name": entry.name,
                "about": entry.about,
                "paper": entry.paper,
                "status": entry.status,
                "forms": entry.forms.iter().map(form_json).collect::<Vec<_>>(),
                "settings": entry.settings.iter().map(setting_json).collect::<Vec<_>>(),
            })
        };
        return print_json(out, &json!({"models": zoo::ALL.iter().map(model).collect::<Vec<_>>()}));
    }
    for entry in zoo::ALL {
        head(entry, out)?;
    }
    writeln!(out, "`egraft zoo show NAME` shows what a model can be built with.")?;
    Ok(())
}

fn head(entry: &zoo::Entry, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{}: {}", entry.name, entry.about)?;
    if !entry.paper.is_empty() {
        writeln!(out, "  paper: {}", entry.paper)?;
    }
    writeln!(out, "  status: {}", entry.status)?;
    Ok(())
}

fn form_json(form: &zoo::Form) -> serde_json::Value {
    let defaults: serde_json::Map<_, _> =
        form.defaults.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({"name": form.name, "about": form.about, "defaults": defaults})
}

/// A value of a setting, as what it is.
fn value_json(setting: &zoo::Setting, text: &str) -> serde_json::Value {
    let number = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    match setting.kind {
        zoo::Kind::Choice { .. } => json!(text),
        zoo::Kind::Integers { .. } => text.split(',').map(number).collect(),
        _ => number(text),
    }
}

fn setting_json(setting: &zoo::Setting) -> serde_json::Value {
    json!({
        "name": setting.name,
        "default": value_json(setting, &setting.kind.default()),
        "possible": setting.kind.possible(),
        "about": setting.about,
    })
}

/// A model with these settings: all that it has a use for, its inputs, outputs and weights.
fn show(
    name: &str,
    settings: &[(String, String)],
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let entry = zoo::find(name).ok_or_else(|| Error::ZooModel { name: name.to_owned() })?;
    let described = entry.describe(settings).map_err(Error::from)?;
    if as_json {
        let settings = described.settings.iter().map(|(setting, value)| {
            let mut shown = setting_json(setting);
            shown["value"] = value_json(setting, value);
            shown
        });
        let ports = |ports: &[(String, TensorType)]| {
            let port = |(name, ty): &(String, TensorType)| {
                let shape = ty.shape.iter().map(ToString::to_string).collect::<Vec<_>>();
                json!({"name": name, "dtype": ty.dtype.name(), "shape": shape})
            };
            ports.iter().map(port).collect::<Vec<_>>()
        };
        return print_json(
            out,
            &json!({
                "name": entry.name,
                "about": entry.about,
                "paper": entry.paper,
                "status": entry.status,
                "forms": entry.forms.iter().map(form_json).collect::<Vec<_>>(),
                "settings": settings.collect::<Vec<_>>(),
                "inputs": ports(&described.inputs),
                "outputs": ports(&described.outputs),
                "weights": ports(&described.params),
            }),
        );
    }
    head(entry, out)?;
    for form in entry.forms {
        writeln!(out, "  --set form={}: {}", form.name, form.about)?;
    }
    for (setting, value) in &described.settings {
        let possible = setting.kind.possible();
        writeln!(out, "  --set {}={value}: {} ({possible})", setting.name, setting.about)?;
    }
    writeln!(out, "  --set seed=0: what weights are drawn from")?;
    for (what, ports) in
        [("input", &described.inputs), ("output", &described.outputs), ("weight", &described.params)]
    {
        for (name, ty) in ports {
            writeln!(out, "  {what} {name}: {ty}")?;
        }
    }
    Ok(())
}
