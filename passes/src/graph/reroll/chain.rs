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

use super::routing::is_number;

/// How often a row may be named for what a trip does to be an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// As often as it likes: a scatter adds.
    Anyhow,
    /// Once by each trip: a scatter puts rows among zeros, which are added to all.
    OnceEach,
    /// Once by all trips together: a scatter overwrites.
    Once,
}

/// What one trip adds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// The node that adds. A first term to which others are added has none.
    pub node: Option<NodeId>,
    /// The accumulator before.
    pub before: Option<Value>,
    /// Which rows it adds to; all of them if there is none.
    pub rows: Option<Value>,
    /// What it adds.
    pub addend: Value,
    /// The node that puts that among zeros before it is added.
    pub placed: Option<NodeId>,
    /// How often rows may be named.
    pub named: Named,
}

impl Link {
    /// The link that a node is, if it adds to an accumulator.
    fn of(graph: &Graph, id: NodeId) -> Option<Link> {
        if let Some((before, rows, addend, named)) = scattered(graph, id) {
            let (before, rows) = (Some(before), Some(rows));
            return Some(Link { node: Some(id), before, rows, addend, placed: None, named });
        }
        let (def, _) = graph.node(id).op()?;
        let [a, b] = graph.operands(id)[..] else { return None };
        let whole = |before: Value| *def == ADD && graph.ty(before) == &graph.node(id).types[0];
        let either = [(a, b), (b, a)];
        if let Some(&(before, term)) = either.iter().find(|&&(_, term)| is_selected(graph, term)) {
            return whole(before).then(|| Link { node: Some(id), before: Some(before), ..Link::whole(term) });
        }
        let placed = |(before, term): (Value, Value)| {
            Some(Link { node: Some(id), before: Some(before), ..Link::placed(graph, term)? })
        };
        either.into_iter().filter(|&(before, _)| whole(before)).find_map(placed)
    }

    /// A term of all rows.
    fn whole(addend: Value) -> Link {
        Link { node: None, before: None, rows: None, addend, placed: None, named: Named::Anyhow }
    }

    /// A term that is rows among zeros, for nothing else.
    fn placed(graph: &Graph, term: Value) -> Option<Link> {
        let (zeros, rows, addend, named) = scattered(graph, term.node)?;
        let named = if named == Named::Once { Named::OnceEach } else { named };
        let alone = graph.users(term).len() == 1 && !graph.outputs().contains(&term);
        let link = Link { rows: Some(rows), placed: Some(term.node), named, ..Link::whole(addend) };
        (alone && is_number(graph, zeros, 0.0)).then_some(link)
    }

    /// What the trip computes for it.
    pub(super) fn roots(&self) -> impl Iterator<Item = Value> {
        self.rows.into_iter().chain([self.addend])
    }

    /// The nodes that do nothing but add what it computes.
    pub(super) fn adding(&self) -> impl Iterator<Item = NodeId> {
        self.node.into_iter().chain(self.placed)
    }
}

/// What is scattered along the first axis: to what, to which rows, and how often these may be named for that to be an
/// addition.
fn scattered(graph: &Graph, id: NodeId) -> Option<(Value, Value, Value, Named)> {
    let (def, attrs) = graph.node(id).op()?;
    let first_axis = *def == SCATTER_ND || *def == SCATTER_ELEMENTS && attrs.get(scatter_elements::AXIS) == 0;
    let [before, rows, addend] = graph.operands(id)[..] else { return None };
    if !first_axis {
        return None;
    }
    match attrs.get(REDUCTION).as_str() {
        "add" => Some((before, rows, addend, Named::Anyhow)),
        "none" => Some((before, rows, addend, Named::Once)),
        _ => None,
    }
}

/// May it be what an expert says of the tokens that are its own, and nothing elsewhere?
fn is_selected(graph: &Graph, value: Value) -> bool {
    graph.node(value.node).op().is_some_and(|(def, _)| *def == MUL || *def == WHERE)
}

/// Every chain of at least two links, each from its first link to its last.
pub(crate) fn chains(graph: &Graph) -> Vec<Vec<Link>> {
    let outputs: BTreeSet<Value> = graph.outputs().into_iter().collect();
    let order = graph.order();
    let links: BTreeMap<NodeId, Link> =
        order.iter().filter_map(|&id| Some((id, Link::of(graph, id)?))).collect();
    // Of a value that something else needs, too, a chain begins.
    let before = |link: &Link| {
        let value = link.before?;
        let alone = graph.users(value).len() == 1 && !outputs.contains(&value);
        let earlier = links.get(&value.node).filter(|_| alone)?;
        let alike = earlier.rows.is_some() == link.rows.is_some() && earlier.named == link.named;
        alike.then_some(earlier)
    };
    let inner: BTreeSet<NodeId> = links.values().filter_map(|link| before(link)?.node).collect();
    let last = order.into_iter().filter(|id| !inner.contains(id)).filter_map(|id| links.get(&id));
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
    let before = first.before?;
    if first.placed.is_some() {
        return Link::placed(graph, before).filter(|term| term.named == first.named);
    }
    let alone = first.rows.is_none() && graph.users(before).len() == 1;
    (alone && is_selected(graph, before)).then(|| Link::whole(before))
}
