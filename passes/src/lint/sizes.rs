//! Sizes that inputs leave open, and that can have one value only.
//!
//! Exporters that follow a sample write its batch and its length into the model, as the shape that something is reshaped,
//! expanded or sliced to, or as the first state of a recurrence, while its inputs still say that any size will do. What can
//! be told for certain is that every other size is refused: by the importer, which then makes the size a number
//! ([`Fixed`]), or by the model when it runs, where the number of elements of a reshape must be a constant.
//!
//! Deliberately absent: sizes that weights ask for, as a product's columns are, which no sample has chosen; and shapes that
//! only look like those of a sample (rows cut off at 128, windows of 128): these work with other sizes, too.

use ir::dim::{Atom, Relation, Symbol};
use ir::graph::Value;
use ir::op::Infer;
use ir::origin::Place;
use ir::{At, Dim, Graph, NodeId, Origin, TensorType};
use ops::shape::slice::SLICE;

use super::Lint;

/// Ops of ONNX that are told shapes, or join what was made apart from the inputs.
const BY_SHAPES: [&str; 9] =
    ["Concat", "Expand", "GRU", "LSTM", "RNN", "Reshape", "Split", "Squeeze", "Tile"];

/// A size that the inputs of a model leave open, and that is a number in its graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Fixed {
    /// The size.
    pub size: Symbol,
    /// Its value.
    pub value: i64,
    /// The node of the model that asks for it.
    pub by: Place,
}

/// Those of `given` that a sample has chosen.
pub(super) fn fixed(graph: &Graph, given: &[Fixed]) -> Vec<At<Lint>> {
    let chosen = |fixed: &&Fixed| BY_SHAPES.contains(&fixed.by.op.as_str()) || cuts_weights(graph, &fixed.by);
    let lint = |Fixed { size, value, by }: &Fixed| At {
        node: None,
        origin: Origin::place(by.clone()),
        error: Lint::FixedSize { size: size.to_string(), value: *value },
    };
    given.iter().filter(chosen).map(lint).collect()
}

/// Does what was made of this node of the model take a part of a weight: positions up to a length, say?
fn cuts_weights(graph: &Graph, place: &Place) -> bool {
    let is_cut = |value: Value| {
        graph.node(value.node).op().is_some_and(|(def, _)| *def == SLICE)
            && graph.operands(value.node).iter().all(|from| graph.node(from.node).weight().is_some())
    };
    let made = |&id: &NodeId| graph.node(id).origin.places().first().is_some_and(|made| **made == *place);
    graph.order().iter().filter(|id| made(id)).any(|&id| graph.operands(id).into_iter().any(is_cut))
}

/// Nodes that demand a constant of sizes in `open`.
pub(super) fn pinned(graph: &Graph, order: &[NodeId], open: &[Symbol]) -> Vec<At<Lint>> {
    let mut lints = Vec::new();
    for &id in order {
        let Some((def, attrs)) = graph.node(id).op() else { continue };
        let operands = graph.operands(id);
        let operands: Vec<&TensorType> = operands.iter().map(|&value| graph.ty(value)).collect();
        for needed in def.semantics.requires(&Infer { operands: &operands, attrs }) {
            let condition = needed.condition;
            if condition.relation != Relation::Equal {
                continue;
            }
            for (sizes, number) in [(&condition.left, &condition.right), (&condition.right, &condition.left)]
            {
                if let Some(value) = number.as_const().filter(|_| is_of(sizes, open)) {
                    lints.push(graph.at(id, Lint::FixedSizes { open: sizes.to_string(), value }));
                }
            }
        }
    }
    lints
}

/// Is it made of sizes in `open` by sums and products alone? How many windows fit is limited by layers, not by samples.
fn is_of(size: &Dim, open: &[Symbol]) -> bool {
    let is_open = |atom: &Atom| matches!(atom, Atom::Symbol(symbol) if open.contains(symbol));
    size.as_const().is_none() && size.terms().all(|(atoms, _)| atoms.iter().all(is_open))
}
