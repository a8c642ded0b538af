//! Rolls up the loops over experts that exporters unroll.
//!
//! A mixture of experts is written as a chain: for each expert the tokens that chose it are found, taken, sent through
//! its layers, weighed, and added to what the experts before it said. However many experts there are, that is one
//! computation on slots, the pairs of a token and one of its experts:
//! `combine(f(grouped_matmul(x, stack(w…), ids)…), gates)`. Chains are found by their accumulators (`chain`), the
//! links of a chain are compared with its first (`body`), and what they compute is read as rows that positions select
//! (`selection`, `rows`, `slots`), which the router's choices name (`routing`). A link may also compute every
//! token and give weight to its own only (`gates`), or overwrite rows, each of which is one expert's. Rows that are
//! sorted by expert and put together again after each expert's product are another spelling (`segments`). All of this
//! takes time with the nodes of the graph.
//!
//! Sums over experts are added up in another order: chains stay where arithmetic is strict. What looks like a loop over
//! experts and is none is left alone, and [`Report`] says why.

mod body;
mod chain;
mod gates;
mod routing;
mod rows;
mod segments;
mod selection;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{At, Graph, NodeId};
use ops::math::add::ADD;
use ops::math::cast::CAST;
use ops::order::nonzero::NONZERO;
use ops::shape::broadcast::BROADCAST;
use ops::shape::concat::CONCAT;
use ops::shape::gather::GATHER;
use ops::shape::reshape::RESHAPE;
use ops::shape::slice::SLICE;
use ops::shape::transpose::TRANSPOSE;

use crate::egraph::{Missed, MissedAt};
use crate::error::PassError;
use crate::pass::{About, Changed, Cx, FpMode, GraphPass};
use body::{Body, Comparison};
use chain::Named;
pub(crate) use chain::{Link, chains};
pub(crate) use routing::constant;
use routing::is_number;
use segments::{Counted, Segments};
use slots::Slots;

const SAME_BODY: &str = "every link computes the same, but for its weights";
const ONE_EXPERT: &str = "each link takes the tokens of one expert, by the same ids";
const ALL_EXPERTS: &str =
    "ids are choices of a router among the experts that there are, each of which has a link";
const ROW_BY_ROW: &str = "an expert computes each token by itself";
const OWN_ROWS: &str = "a link adds to the tokens that it took";
const ONCE: &str = "each token has one expert, where rows are overwritten";
const DIFFERENT: &str = "the experts of a token differ, where each expert puts its rows among zeros";
const OWN_INDICES: &str =
    "nothing else needs the indices of an expert's tokens, or what is computed for them";

const KNOWN_SEGMENTS: &str =
    "each part has the rows of one expert, in the order of their numbers, as many as chose it";
const SORTED_IDS: &str =
    "parts are as long as counts of a router's sorted choices say, all of which have a part";

/// The name of the pass, and what made the nodes that it makes.
const NAME: &str = "reroll";

/// See the [module](self).
pub struct Reroll;

impl GraphPass for Reroll {
    fn about(&self) -> About {
        About::new(NAME, "make one computation of a loop over experts that was unrolled")
    }

    fn run(&self, graph: &mut Graph, cx: &Cx) -> Result<Changed, At<PassError>> {
        Ok(Changed(reroll(graph, cx).changed))
    }
}

/// What became of the chains of a graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Did anything change?
    pub changed: bool,
    /// How many chains were rolled up.
    pub applied: usize,
    /// What looks like a loop over experts and stayed.
    pub missed: Vec<MissedAt>,
    /// How many pairs of nodes were compared.
    pub compared: usize,
}

/// Links of a chain that compute the same.
struct Run {
    links: Vec<Link>,
    /// The node of the last of them.
    last: NodeId,
    /// What they compute; `None` for a link alone.
    body: Option<Body>,
    /// How the link after them differs, if there is one.
    differs: Option<(NodeId, String)>,
}

/// Rolls up the chains of a graph, and says what it found.
pub fn reroll(graph: &mut Graph, cx: &Cx) -> Report {
    let mut report = Report::default();
    let mut comparison = Comparison::new(graph);
    let mut found = Vec::new();
    if cx.fp != FpMode::Strict {
        for chain in chains(graph).iter().filter(|chain| may_select(graph, &chain[0])) {
            found.extend(runs(&mut comparison, chain));
        }
    }
    report.compared = comparison.compared;
    let segments = segments::all(graph);
    if found.is_empty() && segments.is_empty() {
        return report;
    }
    let counted = Counted::of(graph);
    let mut b = Build::on(std::mem::replace(graph, Graph::new("")));
    roll_chains(&mut b, &found, &mut report);
    roll_segments(&mut b, &segments, &counted, &mut report);
    *graph = b.into_graph();
    report.changed = report.applied > 0;
    let needed = graph.needed(graph.roots());
    graph.retain(|id| needed.contains(&id));
    report
}

fn roll_chains(b: &mut Build, runs: &[Run], report: &mut Report) {
    let mut moved = BTreeMap::new();
    for run in runs {
        match roll(b, run, &mut moved) {
            Ok(()) => report.applied += 1,
            Err((at, why)) => report.missed.extend(why.map(|why| missed_at(b.graph(), at, why))),
        }
    }
}

fn roll_segments(b: &mut Build, segments: &[Segments], counted: &Counted, report: &mut Report) {
    let mut proven = BTreeSet::new();
    for segments in segments {
        match segments.roll(b, counted) {
            Ok(sizes) => {
                report.applied += 1;
                proven.extend(sizes);
            }
            Err(why) => report.missed.push(missed_at(b.graph(), segments.node, why)),
        }
    }
    // Counts of all ids add up to as many ids as there are: that needs no comparison when the model runs.
    for id in proven {
        if b.graph().users(id.into()).is_empty() {
            b.graph_mut().remove(id);
        }
    }
}

/// A chain, in runs of links that compute the same.
fn runs(comparison: &mut Comparison, chain: &[Link]) -> Vec<Run> {
    let accumulators: BTreeSet<NodeId> = chain.iter().filter_map(|link| link.node).collect();
    let mut runs = Vec::new();
    let mut rest = chain;
    while !rest.is_empty() {
        let (body, count, differs) = comparison.run(rest, &accumulators);
        let (links, after) = rest.split_at(count);
        let differs = after.first().and_then(|link| link.node).zip(differs);
        // A first term that no other is like is what the others are added to.
        let last = links.last().and_then(|link| link.node);
        runs.extend(last.map(|last| Run { links: links.to_vec(), last, body, differs }));
        rest = after;
    }
    runs
}

/// Does a link add to rows that were found by a condition? If it adds to all, that remains to be seen.
fn may_select(graph: &Graph, link: &Link) -> bool {
    let mut value = link.rows;
    if value.is_none() {
        return true;
    }
    while let Some(Value { node, .. }) = value {
        let Some((def, _)) = graph.node(node).op() else { return false };
        if *def == NONZERO {
            return true;
        }
        let moves = [&SLICE, &TRANSPOSE, &RESHAPE, &CONCAT, &CAST, &GATHER, &BROADCAST].contains(&def);
        value = graph.operands(node).first().copied().filter(|_| moves);
    }
    false
}

/// Puts the slot form in the place of a run. If that cannot be: where, and why, if that is not said elsewhere.
fn roll(
    b: &mut Build,
    run: &Run,
    moved: &mut BTreeMap<Value, Value>,
) -> Result<(), (NodeId, Option<Missed>)> {
    let (first, last) = (&run.links[0], run.last);
    // A run that ends early says so at the link that ends it.
    let differs = || {
        let (at, found) = run.differs.clone()?;
        Some((at, Some(Missed { obligation: SAME_BODY, found })))
    };
    let Some(body) = &run.body else {
        // Terms of any sum differ; what adds to chosen rows is a loop.
        return Err(differs().filter(|_| first.rows.is_some()).unwrap_or((last, None)));
    };
    let sum = Slots::new(b, &run.links, body, moved).sum(first);
    let sum = sum.map_err(|why| {
        let differs = differs().filter(|_| why.is_some());
        differs.unwrap_or((last, why))
    })?;
    let total = added(b, first, sum).ok().filter(|&total| b.ty(total) == b.ty(last.into()));
    let Some(total) = total else {
        let found = body::describe(b.graph(), last);
        return Err((last, Some(Missed { obligation: OWN_ROWS, found })));
    };
    b.graph_mut().replace_uses(last.into(), total);
    moved.insert(last.into(), total);
    Ok(())
}

/// The sum on top of what the chain starts from, unless that is zero, or every row of it is overwritten.
fn added(b: &mut Build, first: &Link, sum: Value) -> Result<Value, OpError> {
    // An earlier run of the chain may be in the place of what was there.
    let operands = first.node.map_or_else(Vec::new, |node| b.graph().operands(node));
    let own = |value: Value| value == first.addend || first.placed == Some(value.node);
    let base = operands.into_iter().find(|&value| !own(value));
    let left = |&base: &Value| first.named != Named::Once && !is_number(b.graph(), base, 0.0);
    match base.filter(left) {
        Some(base) => b.op(&ADD, &[base, sum]),
        None => Ok(sum),
    }
}

fn missed_at(graph: &Graph, at: NodeId, why: Missed) -> MissedAt {
    let node = graph.node(at);
    let anchor = node.op().map_or(NAME, |(def, _)| def.name);
    MissedAt { rule: NAME, anchor, origin: node.origin.clone(), why }
}
