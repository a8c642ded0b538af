//! Nodes applied to other operands, and what follows from that.

use std::collections::BTreeMap;

use ir::graph::{Kind, Value};
use ir::{Graph, NodeId};

use super::EditError;

/// The node with other operands takes the place of `id`, whose results have the same types.
pub(super) fn replace(graph: &mut Graph, id: NodeId, operands: &[Value]) -> Result<(), EditError> {
    let made = again(graph, id, operands)?;
    for result in 0..graph.node(id).types.len() {
        graph.replace_uses(Value { node: id, result }, Value { node: made, result });
    }
    Ok(())
}

/// The same op with the same attributes on other operands.
pub(super) fn again(graph: &mut Graph, id: NodeId, operands: &[Value]) -> Result<NodeId, EditError> {
    let node = graph.node(id).clone();
    let Kind::Op { def, attrs } = node.kind else { unreachable!("bug: only ops are applied") };
    Ok(graph.add_op(def, operands, attrs, node.origin)?)
}

/// Removes what no output needs any more.
pub(super) fn drop_unneeded(graph: &mut Graph) {
    let needed = graph.needed(graph.roots());
    graph.retain(|id| needed.contains(&id));
}

/// Follows what changes in `changed` through all that depends on it, in `order`: each such node is applied again, until
/// its results have the types that they had. `adapt` gives what an operand is that does not depend on it; where a node cannot be
/// applied, that is said of it.
pub(super) fn follow(
    graph: &mut Graph,
    mut changed: BTreeMap<Value, Value>,
    order: &[NodeId],
    adapt: &mut dyn FnMut(&mut Graph, NodeId, Value) -> Result<Value, EditError>,
    refuse: &dyn Fn(&Graph, NodeId) -> EditError,
) -> Result<(), EditError> {
    for &id in order {
        let Some((_, attrs)) = graph.node(id).op() else { continue };
        let operands = graph.operands(id);
        if !operands.iter().any(|operand| changed.contains_key(operand)) {
            continue;
        }
        if attrs.has_symbols() || graph.flow(id).is_some() {
            return Err(refuse(graph, id));
        }
        let mut others = Vec::with_capacity(operands.len());
        for operand in operands {
            others.push(match changed.get(&operand) {
                Some(&other) => other,
                None => adapt(graph, id, operand)?,
            });
        }
        let made = again(graph, id, &others).map_err(|_| refuse(graph, id))?;
        for result in 0..graph.node(id).types.len() {
            let (old, new) = (Value { node: id, result }, Value { node: made, result });
            if graph.ty(old) == graph.ty(new) {
                graph.replace_uses(old, new);
            } else {
                changed.insert(old, new);
            }
        }
    }
    let outputs = graph.outputs();
    match changed.keys().find(|value| outputs.contains(value)) {
        Some(value) => Err(refuse(graph, value.node)),
        None => Ok(()),
    }
}
