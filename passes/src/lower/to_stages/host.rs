//! Which nodes run before the arena is laid out.

use std::collections::BTreeSet;

use ir::graph::Kind;
use ir::op::{Flow, MAX_SIZES};
use ir::{Graph, NodeId};

/// The nodes that decide sizes from small inputs alone, and those that they need: inputs of integers and truth values,
/// weights, and results of few elements.
pub(super) fn nodes(graph: &Graph) -> BTreeSet<NodeId> {
    let deciders = graph.deciders();
    let (mut small, mut sizes) = (BTreeSet::new(), Vec::new());
    for id in graph.order() {
        if is_small(graph, id) && graph.needs(id, &deciders).iter().all(|needed| small.contains(needed)) {
            small.insert(id);
            sizes.extend(matches!(graph.flow(id), Some(Flow::Size { .. })).then_some(id));
        }
    }
    graph.needed(sizes)
}

fn is_small(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let few = || {
        let count = |ty: &ir::TensorType| ty.elements().as_const();
        node.types.iter().all(|ty| count(ty).is_some_and(|count| count <= MAX_SIZES))
    };
    match &node.kind {
        Kind::Input(_) => few() && !node.types[0].dtype.is_float(),
        Kind::Weight(_) => true,
        Kind::Op { .. } => few() && matches!(graph.flow(id), None | Some(Flow::Size { .. })),
    }
}
