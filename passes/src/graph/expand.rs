//! Opens composite ops: each is replaced by the graph of simpler ops that defines it, until only core ops are left.

use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::{At, Graph, NodeId, OpDef};

use crate::error::PassError;
use crate::pass::{About, Changed, Cx, GraphPass};

/// See the [module](self).
pub struct Expand;

impl GraphPass for Expand {
    fn about(&self) -> About {
        About::new("expand", "open composite ops into core ops")
    }

    fn run(&self, graph: &mut Graph, _: &Cx) -> Result<Changed, At<PassError>> {
        let mut b = Build::on(std::mem::replace(graph, Graph::new("")));
        let mut todo: Vec<NodeId> = b.graph().order();
        let mut changed = false;
        while let Some(id) = todo.pop() {
            let node = b.graph().node(id);
            let Some((def, attrs)) = node.op().map(|(def, attrs)| (def, attrs.clone())) else { continue };
            let origin = node.origin.clone();
            b.set_origin(origin.clone());
            let made = open(&mut b, id, def, &attrs).map_err(|error| At {
                node: None,
                origin,
                error: PassError::from(error),
            })?;
            changed |= !made.is_empty();
            // What was made may be composite itself.
            todo.extend(made);
        }
        *graph = b.into_graph();
        Ok(Changed(changed))
    }
}

/// Replaces `id` by its expansion, if it has one. Gives the nodes that this made.
fn open(
    b: &mut Build,
    id: NodeId,
    def: &'static OpDef,
    attrs: &Attrs,
) -> Result<Vec<NodeId>, ir::op::OpError> {
    let operands = b.graph().operands(id);
    let Some(results) = def.semantics.expand(b, &operands, attrs)? else { return Ok(Vec::new()) };
    for (result, new) in results.into_iter().enumerate() {
        b.graph_mut().replace_uses(Value { node: id, result }, new);
    }
    b.graph_mut().remove(id);
    Ok(b.take_made())
}
