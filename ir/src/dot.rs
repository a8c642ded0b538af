//! Graphs as Graphviz DOT, for looking at.
//!
//! Nodes stand in [`Graph::order`] under names that count in that order, so equal graphs give equal text. A label
//! is the op (or `%input`, `@weight`), the types, and the first node of the imported model. An edge says its operand
//! where there are several. Attributes and nested graphs are left out: the text form has them.

use std::collections::BTreeMap;

use crate::graph::{Graph, Kind, NodeId};

/// `graph` in Graphviz' language.
pub fn dot(graph: &Graph) -> String {
    let order = graph.order();
    let names: BTreeMap<NodeId, usize> = order.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let mut lines = vec![format!("digraph {} {{", quoted(graph.name())), "  rankdir=TB;".to_owned()];
    for &id in &order {
        let node = graph.node(id);
        let (title, shape) = match &node.kind {
            Kind::Input(name) => (format!("%{name}"), "ellipse"),
            Kind::Weight(weight) if weight.name().is_empty() => ("@".to_owned(), "note"),
            Kind::Weight(weight) => (format!("@{}", weight.name()), "note"),
            Kind::Op { def, .. } => (def.name.to_owned(), "box"),
        };
        let types: Vec<String> = node.types.iter().map(ToString::to_string).collect();
        let origin = node.origin.places().first().map_or(String::new(), |place| format!("\n{}", place.name));
        let label = quoted(&format!("{title}\n{}{origin}", types.join(", ")));
        lines.push(format!("  n{} [shape={shape}, label={label}];", names[&id]));
        let operands = graph.operands(id);
        for (index, operand) in operands.iter().enumerate() {
            let mut marks = String::new();
            let several = graph.contains(operand.node) && graph.node(operand.node).types.len() > 1;
            if several {
                marks.push_str(&format!("taillabel=\"{}\"", operand.result));
            }
            if operands.len() > 1 {
                let comma = if several { ", " } else { "" };
                marks.push_str(&format!("{comma}headlabel=\"{index}\""));
            }
            let marks = if marks.is_empty() { marks } else { format!(" [{marks}]") };
            lines.push(format!("  n{} -> n{}{marks};", names[&operand.node], names[&id]));
        }
    }
    for (index, (value, name)) in graph.outputs().iter().zip(graph.output_names()).enumerate() {
        lines.push(format!("  y{index} [shape=ellipse, label={}];", quoted(name)));
        lines.push(format!("  n{} -> y{index};", names[&value.node]));
    }
    lines.push("}\n".to_owned());
    lines.join("\n")
}

/// A string of Graphviz' language.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '"' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
