//! Removes every node from which no output can be reached.

use ir::{At, Graph};

use crate::error::PassError;
use crate::pass::{About, Changed, Cx, GraphPass};

/// See the [module](self).
pub struct Dce;

impl GraphPass for Dce {
    fn about(&self) -> About {
        About::new("dce", "remove nodes that no output needs")
    }

    fn run(&self, graph: &mut Graph, _: &Cx) -> Result<Changed, At<PassError>> {
        let live = graph.needed(graph.roots());
        let removed = graph.retain(|node| live.contains(&node));
        Ok(Changed(removed > 0))
    }
}
