//! Surgery on mixtures of experts: in a graph whose rules have found them ([`expose`]), other experts, or another way in
//! which their results join a layer; and dense layers that become mixtures.
//!
//! A layer of experts ([`Layer`]) is what chooses by one value: products and tables that the same ids name, and the
//! router that gives these ids. It does not matter how a model was exported. A graph in which no ids name matrices is
//! refused, and so is a layer whose router or matrices are computed in a way that an edit cannot follow.

mod ac;
mod body;
mod calibrate;
mod cluster;
mod curvature;
mod fold_shared;
mod layer;
mod merge;
mod molex;
mod momentum;
mod prune;
mod random;
mod rebuild;
mod router;
mod upcycle;

use ir::Graph;
use ir::op::OpError;

use crate::pass::Cx;
use crate::pipeline::{self, Run, State, Step};

pub use calibrate::{Calibration, Wanted, probe};
pub use cluster::Cluster;
pub use fold_shared::{Shared, fold_shared};
pub use layer::{Layer, layers};
pub use merge::{Merging, Method, merge};
pub use molex::{Mixing, mix_layers};
pub use momentum::{Momentum, set_momentum};
pub use prune::prune;
pub use router::{Gates, Router, set_router};
pub use upcycle::{Upcycling, upcycle};

/// Why an edit is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// No layer of experts was found.
    #[error("no layer of experts was recovered from this model")]
    NoExperts,
    /// What is asked for makes no sense for a layer.
    #[error("{what}: {why}")]
    Unfit {
        /// The layer, by the node of the model that routes.
        what: String,
        /// Why not.
        why: String,
    },
    /// A node that the edit cannot follow.
    #[error("{what}: {why}, at {node}")]
    Node {
        /// The layer.
        what: String,
        /// What is in the way.
        why: &'static str,
        /// The node of the model.
        node: String,
    },
    /// A pass cannot go on with the graph.
    #[error("{0}")]
    Pass(String),
    /// An op does not accept what it would be given.
    #[error(transparent)]
    Op(#[from] OpError),
}

impl EditError {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            EditError::NoExperts => "egraft::edit::no_experts",
            EditError::Unfit { .. } => "egraft::edit::unfit",
            EditError::Node { .. } => "egraft::edit::node",
            EditError::Pass(_) => "egraft::edit::pass",
            EditError::Op(error) => error.code(),
        }
    }

    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            EditError::NoExperts => {
                "`egraft explain MODEL` says which obligation kept the rules from the experts"
            }
            EditError::Unfit { .. } => {
                "`egraft inspect MODEL --kernels` shows the experts of each layer; without the option that does not suit \
                 them, they stay as they are"
            }
            EditError::Node { .. } => {
                "export the model with a router that is a product and a softmax, weights that are constants, and \
                 experts that compute each row by itself; `--cluster-by weights` asks nothing of what they compute"
            }
            EditError::Pass(_) | EditError::Op(_) => "`egraft check MODEL` says more",
        }
    }
}

/// The graph after the rules: experts are products of matrices that ids name. Products that read the same tokens stay apart, so
/// that a router's is not joined with others; they are joined when the model is compiled.
///
/// # Errors
/// What a pass cannot go on with.
pub fn expose(graph: Graph, cx: &Cx) -> Result<Graph, EditError> {
    let steps = pipeline::of_level(2);
    let until = steps.iter().position(|step| step.contains("saturate")).map_or(0, |at| at + 1);
    let mut apart = cx.clone();
    apart.disabled_rules.push("joint-product".to_owned());
    run(graph, &steps[..until], &apart)
}

/// The graph without what an edit has left behind.
///
/// # Errors
/// What a pass cannot go on with.
pub fn clean(graph: Graph, cx: &Cx) -> Result<Graph, EditError> {
    let steps: Vec<Step> =
        ["canonicalize", "cse", "dce"].into_iter().filter_map(|name| Step::find(name).ok()).collect();
    run(graph, &steps, cx)
}

fn run(graph: Graph, steps: &[Step], cx: &Cx) -> Result<Graph, EditError> {
    let options = Run { cx: cx.clone(), ..Run::default() };
    match pipeline::run(State::Graph(graph), steps, &options, &mut ()) {
        Ok(State::Graph(graph)) => Ok(graph),
        Ok(State::Program(_)) => unreachable!("bug: these are passes on graphs"),
        Err(errors) => {
            Err(EditError::Pass(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
        }
    }
}
