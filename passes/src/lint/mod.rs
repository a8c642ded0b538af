//! What a model can hardly be meant to do: experts that no token reaches, parts computed in `f64`, sizes that are said to be
//! free and are not.
//!
//! Such a model is valid and can be compiled. A lint is no proof that something is wrong: it says what stands there, and
//! where.

mod experts;
mod islands;
mod sizes;

use std::collections::BTreeSet;

use ir::{At, DType, Graph, NodeId};

pub use sizes::Fixed;

/// What a model can hardly be meant to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Lint {
    /// Some of the experts that a router chooses among are nowhere.
    #[error("of the {experts} experts that are chosen among, there is nothing for {}", numbers(absent))]
    MissingExperts {
        /// How many columns the scores have.
        experts: i64,
        /// Those without a use.
        absent: Vec<i64>,
    },
    /// A choice among constants.
    #[error("the scores that experts are chosen by are constants: every input gets the same experts")]
    ConstantScores,
    /// Rows that constants name go to experts.
    #[error(
        "which tokens go to which of {experts} experts is written in the model, for every input the same"
    )]
    ConstantRows {
        /// How many terms are added up.
        experts: usize,
    },
    /// Experts that others are always preferred to.
    #[error("the bias of scores keeps {} from ever being chosen", numbers(experts))]
    UnreachableExperts {
        /// Which.
        experts: Vec<i64>,
    },
    /// A part of a model of narrower floats is computed in `f64`.
    #[error("here begin {nodes} nodes that are computed in f64, in a model of {narrow}: {cause}")]
    F64Island {
        /// How many nodes it has.
        nodes: usize,
        /// What the model computes in otherwise.
        narrow: DType,
        /// Why it is there.
        cause: IslandCause,
    },
    /// A size that inputs leave open can have one value only.
    #[error("the inputs leave the size `{size}` open, but here it has to be {value}: no other can run")]
    FixedSize {
        /// The size.
        size: String,
        /// Its value.
        value: i64,
    },
    /// Sizes that inputs leave open must give a constant together.
    #[error("the inputs leave sizes open, but here {open} has to be {value}: no others can run")]
    FixedSizes {
        /// What they must give.
        open: String,
        /// The constant.
        value: i64,
    },
}

/// Why something is computed in `f64`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IslandCause {
    /// A constant that takes part.
    #[error("the constant {} is f64", quoted(name))]
    Constant {
        /// Its name; may be empty.
        name: String,
    },
    /// A cast that stands in the model.
    #[error("the model casts to it")]
    Cast,
}

fn quoted(name: &str) -> String {
    if name.is_empty() { "that it is combined with".to_owned() } else { format!("`{name}`") }
}

impl Lint {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Lint::MissingExperts { .. } => "egraft::lint::missing_experts",
            Lint::ConstantScores | Lint::ConstantRows { .. } => "egraft::lint::constant_routing",
            Lint::UnreachableExperts { .. } => "egraft::lint::unreachable_experts",
            Lint::F64Island { .. } => "egraft::lint::f64_island",
            Lint::FixedSize { .. } | Lint::FixedSizes { .. } => "egraft::lint::fixed_size",
        }
    }
}

/// `expert 3`, `experts 3, 5`; of many the first.
fn numbers(experts: &[i64]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = experts.iter().take(SHOWN).map(ToString::to_string).collect();
    let more =
        if experts.len() > SHOWN { format!(" and {} more", experts.len() - SHOWN) } else { String::new() };
    format!("{} {}{more}", if experts.len() == 1 { "expert" } else { "experts" }, shown.join(", "))
}

/// What there is to warn of in a graph and in those nested in it; `fixed` are sizes that are numbers in it and were open
/// in the model.
pub fn lint(graph: &Graph, fixed: &[Fixed]) -> Vec<At<Lint>> {
    let mut lints = sizes::fixed(graph, fixed);
    let open = graph.symbols();
    graph.walk(&mut |graph| {
        let order = graph.order();
        let constants = constants(graph, &order);
        lints.extend(sizes::pinned(graph, &order, &open));
        lints.extend(islands::islands(graph, &order, &constants));
        lints.extend(experts::experts(graph, &order, &constants));
    });
    lints
}

/// The nodes that depend on weights alone.
fn constants(graph: &Graph, order: &[NodeId]) -> BTreeSet<NodeId> {
    let mut constants = BTreeSet::new();
    for &id in order {
        let node = graph.node(id);
        let from_constants = || {
            let operands = graph.operands(id);
            !operands.is_empty() && operands.iter().all(|value| constants.contains(&value.node))
        };
        let computed = node.op().is_some_and(|(def, attrs)| def.semantics.flow(attrs).is_none());
        if node.weight().is_some() || computed && from_constants() {
            constants.insert(id);
        }
    }
    constants
}
