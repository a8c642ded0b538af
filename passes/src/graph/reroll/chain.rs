//! Chains of accumulators: a sum that a loop made, one link for each trip.

use std::collections::{BTreeMap, BTreeSet};

use ir::graph::Value;
use ir::{Graph, NodeId};
use ops::math::add::ADD;
use ops::math::mul::MUL;
use ops::math::r#where::WHERE;
use ops::shape::scatter::REDUCTION;
use ops::shape::scatter_elements::{self, SCATTER_ELEMENTS};
use ops::shape::scatter_nd::SCATTER_ND;

/// How often a row may be named for what a trip does to be an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// As often as it likes: a scatter adds.
    Anyhow,
    /// By one trip of all, and once: a scatter overwrites.
    Once,
}

/// What one trip adds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// The node that adds. A first term to which others are added has none.
    pub node: Option<NodeId>,
    /// The accumulator before.
    pub before: Option<Value>,
    /// Which rows it adds to; all of them if there is none.
    pub rows: Option<Value>,
    /// What it adds.
    pub addend: Value,
    /// How often rows may be named.
    pub named: Named,
}

impl Link {
    /// The link that a node is, if it adds to an accumulator.
    fn of(graph: &Graph, id: NodeId) -> Option<Link> {
        let (def, attrs) = graph.node(id).op()?;
        let operands = graph.operands(id);
        if *def == SCATTER_ND || *def == SCATTER_ELEMENTS {
            let first_axis = *def == SCATTER_ND || attrs.get(scatter_elements::AXIS) == 0;
            let named = match attrs.get(REDUCTION).as_str() {
                "add" => Named::Anyhow,
                "none" => Named::Once,
                _ => return None,
            };
            let [before, rows, addend] = operands[..] else { return None };
            let link = Link { node: Some(id), before: Some(before), rows: Some(rows), addend, named };
            return first_axis.then_some(link);
        }
        let [a, b] = operands[..] else { return None };
        let (before, addend) = if is_selected(graph, b) { (a, b) } else { (b, a) };
        let whole = graph.ty(before) == &graph.node(id).types[0];
        (*def == ADD && whole && is_selected(graph, addend)).then_some(Link {
            node: Some(id),
            before: Some(before),
            rows: None,
            addend,
            named: Named::Anyhow,
        })
    }

    /// What the trip computes for it.
    pub(super) fn roots(&self) -> impl Iterator<Item = Value> {
        self.rows.into_iter().chain([self.addend])
    }
}

/// May it be what an expert says of the tokens that are its own, and nothing elsewhere?
fn is_selected(graph: &Graph, value: Value) -> bool {
    graph.node(value.node).op().is_some_and(|(def, _)| *def == MUL || *def == WHERE)
}

/// Every chain of at least two links, each from its first link to its last.
pub(super) fn chains(graph: &Graph) -> Vec<Vec<Link>> {
    let outputs: BTreeSet<Value> = graph.outputs().into_iter().collect();
    let links: BTreeMap<NodeId, Link> =
        graph.order().into_iter().filter_map(|id| Some((id, Link::of(graph, id)?))).collect();
    // Of a value that something else needs, too, a chain begins.
    let before = |link: &Link| {
        let value = link.before?;
        let alone = graph.users(value).len() == 1 && !outputs.contains(&value);
        let earlier = links.get(&value.node).filter(|_| alone)?;
        let alike = earlier.rows.is_some() == link.rows.is_some() && earlier.named == link.named;
        alike.then_some(earlier)
    };
    let inner: BTreeSet<NodeId> = links.values().filter_map(|link| before(link)?.node).collect();
    let last = graph.order().into_iter().filter(|id| !inner.contains(id)).filter_map(|id| links.get(&id));
    let chains = last.map(|last| {
        let mut chain: Vec<Link> = std::iter::successors(Some(last), |link| before(link)).copied().collect();
        chain.extend(chain.last().and_then(|first| first_term(graph, first)));
        chain.reverse();
        chain
    });
    chains.filter(|chain| chain.len() > 1).collect()
}

/// What the first addition adds to, if that is a term like its other operand.
fn first_term(graph: &Graph, first: &Link) -> Option<Link> {
    let addend = first.before.filter(|&value| first.rows.is_none() && is_selected(graph, value))?;
    let term = Link { node: None, before: None, rows: None, addend, named: Named::Anyhow };
    (graph.users(addend).len() == 1).then_some(term)
}
