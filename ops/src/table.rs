//! The op reference, written from the table of ops.

use std::fmt::Write;

use ir::op::Arity;

use crate::onnx::Import;
use crate::{ALL, IMPORTS};

/// `docs/ops.md`: every op with its operands, its attributes and the ONNX ops that become it, each with the
/// version from which on it does.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Ops\n\nWritten by `egraft ops --markdown`. Attributes with a default show it. An ONNX op is followed by \
         the opset version from which on it is imported that way, if not every version is.\n\n\
         | op | operands | attributes | ONNX |\n|---|---|---|---|\n",
    );
    for entry in ALL {
        let operands = match entry.op.arity {
            Arity::Fixed(names) => names.join(", "),
            Arity::Variadic(name, least) => format!("{name}… (at least {least})"),
        };
        let attrs = entry.op.attrs.iter().map(|spec| match spec.default {
            Some(default) => format!("`{}`: {}, {}", spec.name, spec.kind.name(), default()),
            None => format!("`{}`: {}", spec.name, spec.kind.name()),
        });
        let attrs = attrs.collect::<Vec<_>>().join("; ");
        row(&mut text, &format!("`{}`", entry.op.name), &operands, &attrs, entry.onnx);
    }
    for imports in IMPORTS {
        row(&mut text, "(none)", "", "", imports);
    }
    text
}

fn row(text: &mut String, op: &str, operands: &str, attrs: &str, imports: &[Import]) {
    let mut names = Vec::new();
    for import in imports {
        let domain = if import.domain.is_empty() { String::new() } else { format!("{}:", import.domain) };
        let since = if import.since > 1 { format!(" {}", import.since) } else { String::new() };
        names.push(format!("{domain}{}{since}", import.op_type));
    }
    let _ = writeln!(text, "| {op} | {operands} | {attrs} | {} |", names.join(", "));
}
