//! Removes every node from which no output can be reached.

use std::collections::BTreeSet;

use ir::{At, Graph, NodeId};

use crate::error::PassError;
use crate::pass::{About, Changed, Cx, GraphPass};

/// See the [module](self).
pub struct Dce;

impl GraphPass for Dce {
    fn about(&self) -> About {
        About::new("dce", "remove nodes that no output needs")
    }

    fn run(&self, graph: &mut Graph, _: &Cx) -> Result<Changed, At<PassError>> {
        let mut live = BTreeSet::new();
        let mut todo: Vec<NodeId> = graph.outputs().iter().map(|value| value.node).collect();
        while let Some(node) = todo.pop() {
            if live.insert(node) {
                todo.extend(graph.operands(node).iter().map(|value| value.node));
            }
        }
        let removed = graph.retain(|node| live.contains(&node));
        Ok(Changed(removed > 0))
    }
}
