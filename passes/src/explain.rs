//! What rules do to a graph, and what those would do that are not allowed.
//!
//! The graph is rewritten as [`Saturate`](crate::egraph::Saturate) does it, with those nested in it. What is not
//! allowed is found out by rewriting copies with more allowed, and looking at which nodes of the result a rule has
//! made: a rule counts where the cheapest spelling is its, not wherever it found something.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use ir::{Graph, Origin};

use crate::egraph::{Report, rewrite};
use crate::graph::reroll::{Reroll, reroll};
use crate::pass::{Cx, FpMode, GraphPass};
use crate::pipeline::everywhere;

/// What became of a graph, and why not more.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explained {
    /// What the rules that are allowed did.
    pub report: Report,
    /// How often each of them is in the result, as [`counts`] tells.
    pub counts: BTreeMap<String, usize>,
    /// What others would have made.
    pub withheld: Vec<Withheld>,
}

/// A node that rules would have made, if they were allowed.
#[derive(Debug, Clone, PartialEq)]
pub struct Withheld {
    /// The rules that are not allowed, in the order in which they would be applied.
    pub rules: Vec<String>,
    /// The op that they would make.
    pub op: &'static str,
    /// The nodes of the model that it would stand for.
    pub origin: Origin,
    /// The mode that allows the rules, if the present one does not.
    pub fp: Option<FpMode>,
    /// Those of the rules that are disabled by name.
    pub disabled: Vec<String>,
}

/// Rewrites a graph and those nested in it, and says what the rules did and would have done. Loops over experts that are
/// still `unrolled` are rolled up first.
pub fn explain(graph: &mut Graph, cx: &Cx, unrolled: bool) -> Explained {
    let rolled = if unrolled { reroll_all(graph, cx) } else { Report::default() };
    let mut withheld = Vec::new();
    for more in more_allowed(cx) {
        let mut copy = graph.clone();
        rewrite_all(&mut copy, &more);
        copy.walk(&mut |graph| add_withheld(graph, cx, &more, &mut withheld));
    }
    let mut report = rewrite_all(graph, cx);
    report.changed |= rolled.changed;
    report.applied.extend(rolled.applied);
    report.missed.splice(0..0, rolled.missed);
    Explained { report, counts: counts(graph), withheld }
}

/// How many applications of each rule are in a graph, those nested in it included. What an application made stands for
/// the same nodes of the model; where these have no names, every node counts.
pub fn counts(graph: &Graph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    graph.walk(&mut |graph| {
        let mut seen = BTreeSet::new();
        for id in graph.order() {
            let origin = &graph.node(id).origin;
            for rule in origin.rules() {
                if origin.places().is_empty() || seen.insert((Arc::clone(rule), origin.places().to_vec())) {
                    *counts.entry(rule.to_string()).or_insert(0) += 1;
                }
            }
        }
    });
    counts
}

/// Rolls up the loops over experts of a graph and of those nested in it.
fn reroll_all(graph: &mut Graph, cx: &Cx) -> Report {
    let mut all = Report::default();
    let done: Result<bool, Infallible> = everywhere(graph, &mut |graph| {
        let rolled = reroll(graph, cx);
        if rolled.changed {
            *all.applied.entry(Reroll.about().name).or_insert(0) += rolled.applied;
        }
        all.missed.extend(rolled.missed);
        Ok(rolled.changed)
    });
    let Ok(changed) = done;
    Report { changed, ..all }
}

/// Rewrites a graph and those nested in it.
fn rewrite_all(graph: &mut Graph, cx: &Cx) -> Report {
    let mut all = Report::default();
    let done: Result<bool, Infallible> = everywhere(graph, &mut |graph| {
        let Report { changed, applied, missed, regions, distinct } = rewrite(graph, cx);
        for (rule, times) in applied {
            *all.applied.entry(rule).or_insert(0) += times;
        }
        all.missed.extend(missed);
        all.regions += regions;
        all.distinct += distinct;
        Ok(changed)
    });
    let Ok(changed) = done;
    Report { changed, ..all }
}

/// What could be allowed besides, in steps: first the rules that are disabled, then further modes.
fn more_allowed(cx: &Cx) -> Vec<Cx> {
    let modes: &[FpMode] = match cx.fp {
        FpMode::Strict => &[FpMode::Strict, FpMode::Reassoc, FpMode::Fast],
        FpMode::Reassoc => &[FpMode::Reassoc, FpMode::Fast],
        FpMode::Fast => &[FpMode::Fast],
    };
    let mut allowed: Vec<_> = cx.rules().filter(|rule| cx.allows(rule)).collect();
    let mut more = Vec::new();
    for &fp in modes {
        let cx = Cx { fp, disabled_rules: Vec::new(), ..cx.clone() };
        let now: Vec<_> = cx.rules().filter(|rule| cx.allows(rule)).collect();
        // A mode that allows no other rule tells nothing new.
        if now.len() > allowed.len() {
            more.push(cx);
        }
        allowed = now;
    }
    more
}

/// The nodes of a graph, rewritten with `more` allowed, that rules made which `cx` does not allow.
fn add_withheld(graph: &Graph, cx: &Cx, more: &Cx, withheld: &mut Vec<Withheld>) {
    let known = withheld.len();
    for id in graph.order() {
        let node = graph.node(id);
        let Some((def, _)) = node.op() else { continue };
        let barred = |name: &str| cx.rules().any(|rule| rule.name == name && !cx.allows(rule));
        let rules: Vec<String> =
            node.origin.rules().iter().filter(|name| barred(name)).map(ToString::to_string).collect();
        let same = |other: &Withheld| other.rules == rules && other.origin.places() == node.origin.places();
        if rules.is_empty() || withheld[..known].iter().any(same) {
            continue;
        }
        let needs_mode =
            |name: &String| cx.rules().any(|rule| rule.name == *name && !rule.exactness.allowed(cx.fp));
        let fp = rules.iter().any(needs_mode).then_some(more.fp);
        let disabled = rules.iter().filter(|name| cx.disabled_rules.contains(name)).cloned().collect();
        let new = Withheld { op: def.name, origin: node.origin.clone(), fp, disabled, rules: rules.clone() };
        // An application may make several nodes: the last one is what it is for.
        match withheld[known..].iter_mut().find(|other| same(other)) {
            Some(earlier) => *earlier = new,
            None => withheld.push(new),
        }
    }
}
