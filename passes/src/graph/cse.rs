//! Makes nodes that compute the same from the same into one.
//!
//! Weights are the same when their contents are; ops when definition, attributes and operands are.

use std::collections::HashMap;

use ir::graph::{Kind, Value};
use ir::{At, Graph};

use crate::error::PassError;
use crate::pass::{About, Changed, Cx, GraphPass};

/// See the [module](self).
pub struct Cse;

#[derive(PartialEq, Eq, Hash)]
enum Same {
    Weight(ir::Weight),
    Op(&'static str, ir::attr::Attrs, Vec<Value>),
}

impl GraphPass for Cse {
    fn about(&self) -> About {
        About::new("cse", "compute equal values once")
    }

    fn run(&self, graph: &mut Graph, _: &Cx) -> Result<Changed, At<PassError>> {
        let mut first = HashMap::new();
        let mut changed = false;
        for id in graph.order() {
            let node = graph.node(id);
            let key = match &node.kind {
                Kind::Input(_) => continue,
                Kind::Weight(weight) => Same::Weight(weight.clone()),
                Kind::Op { def, attrs } => Same::Op(def.name, attrs.clone(), graph.operands(id)),
            };
            let results = node.types.len();
            let origin = node.origin.clone();
            let keeper = *first.entry(key).or_insert(id);
            if keeper != id && graph.node(keeper).types == graph.node(id).types {
                for result in 0..results {
                    graph.replace_uses(Value { node: id, result }, Value { node: keeper, result });
                }
                graph.join_origin(keeper, &origin);
                graph.remove(id);
                changed = true;
            }
        }
        Ok(Changed(changed))
    }
}
