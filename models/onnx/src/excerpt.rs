//! The neighbourhood of a node that could not be imported, as text to point into: an ONNX file has no lines.
//!
//! The names are those of the file. What the node reads stands above it, each with what makes it and its type; the
//! node's own results have no type yet.

use std::ops::Range;

use ir::Graph;
use ir::graph::{Kind, Value};
use onnx_protobuf::NodeProto;

/// A piece of text, and what there is to say about its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Excerpt {
    /// The lines.
    pub text: String,
    /// Places in bytes, each with a remark.
    pub labels: Vec<(Range<usize>, String)>,
}

/// A node and what it reads.
pub(crate) fn excerpt(graph: &Graph, node: &NodeProto, inputs: &[Option<Value>]) -> Excerpt {
    let mut excerpt = Excerpt::default();
    let mut seen = Vec::new();
    for (name, value) in node.input.iter().zip(inputs).filter_map(|(name, value)| Some((name, (*value)?))) {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let made = match &graph.node(value.node).kind {
            Kind::Input(_) => "input",
            Kind::Weight(_) => "weights",
            Kind::Op { def, .. } => def.name,
        };
        excerpt.text.push_str(&format!("%{name} = {made} : {}\n", graph.ty(value)));
    }
    let results: Vec<String> = node.output.iter().map(|name| format!("%{name}")).collect();
    excerpt.text.push_str(&format!("{} = ", results.join(", ")));
    excerpt.point(&node.op_type, "here");
    for (i, (name, value)) in node.input.iter().zip(inputs).enumerate() {
        excerpt.text.push_str(if i == 0 { " " } else { ", " });
        match value {
            Some(value) => excerpt.point(&format!("%{name}"), &graph.ty(*value).to_string()),
            None => excerpt.text.push_str("none"),
        }
    }
    excerpt.text.push_str(" : ?\n");
    excerpt
}

impl Excerpt {
    /// Adds `text`, with a remark.
    fn point(&mut self, text: &str, remark: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.labels.push((start..self.text.len(), remark.to_owned()));
    }
}
