//! `FlexAttention` with graphs of its own: their nodes are put between the steps of the op, over all scores at once.
//!
//! So they are nodes like any others, and what they do is fused with the attention like a mask that a model writes out.

use ir::graph::Value;
use ir::origin::Place;
use onnx_protobuf::NodeProto;
use ops::linalg::flex_attention::{DOMAIN, PROB_MOD, RESULT, SCORE_MOD, SCORES, WEIGHTS};
use ops::onnx::ImportError;

use crate::error::ImportProblem;
use crate::nodes::{Binding, Importer};

/// Is it such a node?
pub(crate) fn is_modified(node: &NodeProto) -> bool {
    let mut attributes = node.attribute.iter();
    node.op_type == "FlexAttention"
        && node.domain == DOMAIN
        && attributes.any(|attribute| [SCORE_MOD, PROB_MOD].contains(&&*attribute.name))
}

impl<'a> Importer<'a> {
    pub(crate) fn add_flex_attention(&mut self, node: &'a NodeProto, place: &Place) -> Option<()> {
        let opset = self.opset(node, place)?;
        let inputs = self.operands(node, place)?;
        let scores = self.convert(node, (&SCORES, opset), &inputs, place)?[0];
        let modified = self.modified(node, SCORE_MOD, scores, place)?;
        let weights = self.convert(node, (&WEIGHTS, opset), &[Some(scores), Some(modified)], place)?[0];
        let modified = self.modified(node, PROB_MOD, weights, place)?;
        let values = inputs.get(2).copied().flatten();
        let result = self.convert(node, (&RESULT, opset), &[Some(weights), Some(modified), values], place)?;
        self.bind_all(node, place, result.into_iter().map(Binding::Value).collect())
    }

    /// What a graph of the node makes of `x`: `x`, if the node has no such graph.
    fn modified(&mut self, node: &'a NodeProto, name: &str, x: Value, place: &Place) -> Option<Value> {
        if node.attribute.iter().all(|attribute| attribute.name != name) {
            return Some(x);
        }
        let graph = self.graph_attribute(node, name, place)?;
        if graph.input.len() != 1 || graph.output.len() != 1 {
            let why = "takes or gives another number of values than one";
            self.report(place, ImportProblem::Attribute { name: name.to_owned(), why });
            return None;
        }
        match self.inline(graph, &[x], place)?.into_iter().next() {
            Some(Binding::Value(value)) => Some(value),
            Some(Binding::Sequence(_) | Binding::Nothing) => {
                let what = format!("a `{name}` that gives a sequence or an optional");
                let help = "export the model without it".to_owned();
                self.report_op(place, ImportError::Unsupported { what, help });
                None
            }
            Some(Binding::Absent | Binding::Poisoned) | None => None,
        }
    }
}
