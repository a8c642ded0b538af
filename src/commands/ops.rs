//! `egraft ops`: the vocabulary.

use std::io::Write;

use clap::Args;
use ir::op::Arity;
use ops::Entry;
use ops::onnx::Import;
use serde_json::{Value, json};

use super::print_json;
use crate::report::Failure;

#[derive(Debug, Args)]
pub(super) struct Ops {
    /// Explain this op
    name: Option<String>,
    /// Print the reference of all ops as Markdown
    #[arg(long, conflicts_with_all = ["name", "json"])]
    markdown: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Ops {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<u8, Failure> {
        if self.markdown {
            out.write_all(ops::markdown().as_bytes())?;
            return Ok(0);
        }
        let Some(name) = &self.name else {
            if self.json {
                let all: Vec<Value> = ops::ALL.iter().map(json).collect();
                print_json(out, &json!({"ops": all}))?;
                return Ok(0);
            }
            let width = ops::ALL.iter().map(|entry| entry.op.name.len()).max().unwrap_or(0);
            for entry in ops::ALL {
                let from = onnx_names(entry).join(", ");
                writeln!(out, "{:width$}  {}", entry.op.name, if from.is_empty() { "-" } else { &from })?;
            }
            return Ok(0);
        };
        let entry = ops::ALL.iter().find(|entry| entry.op.name == name).ok_or_else(|| {
            let near: Vec<&str> = ops::ALL
                .iter()
                .filter(|entry| onnx_names(entry).iter().any(|onnx| onnx.eq_ignore_ascii_case(name)))
                .map(|entry| entry.op.name)
                .collect();
            let help = match near.as_slice() {
                [] => "`egraft ops` lists them".to_owned(),
                near => format!("the ONNX op of that name becomes {}", near.join(", ")),
            };
            Failure::bad_input("egraft::cli::unknown_op", format!("there is no op `{name}`"), help)
        })?;
        if self.json {
            print_json(out, &json(entry))?
        } else {
            print(entry, out)?
        }
        Ok(0)
    }
}

/// The ONNX ops that become an op.
fn onnx_names(entry: &Entry) -> Vec<String> {
    let name = |import: &Import| match import.domain {
        "" => import.op_type.to_owned(),
        domain => format!("{domain}.{}", import.op_type),
    };
    let mut names: Vec<String> = entry.onnx.iter().map(name).collect();
    names.dedup();
    names
}

fn operands(entry: &Entry) -> Vec<String> {
    match entry.op.arity {
        Arity::Fixed(names) => names.iter().map(|name| (*name).to_owned()).collect(),
        Arity::Variadic(name, _) => vec![format!("{name}…")],
    }
}

fn attributes(entry: &Entry) -> impl Iterator<Item = (&'static str, &'static str, Option<String>)> {
    entry
        .op
        .attrs
        .iter()
        .map(|spec| (spec.name, spec.kind.name(), spec.default.map(|default| default().to_string())))
}

fn json(entry: &Entry) -> Value {
    let attributes: Vec<Value> = attributes(entry)
        .map(|(name, kind, default)| json!({"name": name, "kind": kind, "default": default}))
        .collect();
    json!({
        "name": entry.op.name, "operands": operands(entry), "attributes": attributes, "onnx": onnx_names(entry),
    })
}

fn print(entry: &Entry, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{} {}", entry.op.name, operands(entry).join(", "))?;
    for (name, kind, default) in attributes(entry) {
        let default = default.map_or_else(String::new, |default| format!(", by default {default}"));
        writeln!(out, "  {name}: {kind}{default}")?;
    }
    match onnx_names(entry).as_slice() {
        [] => writeln!(out, "no ONNX op becomes it alone")?,
        names => writeln!(out, "from ONNX: {}", names.join(", "))?,
    }
    Ok(())
}
