//! What the links of a chain compute, found equal up to holes: weights, and places in what they share.
//!
//! Two links are walked at once from what they add down to the values that are the same in both. Everything on the way
//! is the same op with the same attributes, or a weight of the same type; sizes that a link decides itself, such as the
//! number of its tokens, go by other names. The walk takes time with the nodes of a link, whatever the chain's length.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ir::attr::Attrs;
use ir::graph::Value;
use ir::op::Flow;
use ir::{Dim, Graph, NodeId, OpDef, Symbol, TensorType};
use ops::shape::slice::{SIZES, SLICE, STEPS};

use super::chain::Link;
use crate::graph::stored::is_stored;

/// A link has at most so many nodes of its own.
const MOST_NODES: usize = 256;

/// How a value of one link corresponds to one of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is the same value.
    Same,
    /// Both are weights.
    Weight,
    /// Results of one op.
    Op,
}

/// A node of the first link, and those of the others that correspond to it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// How they correspond.
    pub kind: Kind,
    /// One for each link.
    pub nodes: Vec<NodeId>,
}

/// The steps of several links, operands first.
#[derive(Debug, Clone)]
pub(super) struct Body {
    /// What they compute.
    pub steps: Vec<Step>,
}

/// How links are compared, and how many pairs of nodes that took.
pub(super) struct Comparison<'a> {
    graph: &'a Graph,
    deciders: BTreeMap<Symbol, NodeId>,
    /// Pairs of nodes that were compared.
    pub compared: usize,
}

impl<'a> Comparison<'a> {
    /// Of links of this graph.
    pub(super) fn new(graph: &'a Graph) -> Comparison<'a> {
        Comparison { graph, deciders: graph.deciders(), compared: 0 }
    }

    /// As many of `links` from the first on as compute the same, what they compute, and how the next one differs.
    pub(super) fn run(
        &mut self,
        links: &[Link],
        accumulators: &BTreeSet<NodeId>,
    ) -> (Option<Body>, usize, Option<String>) {
        let mut body: Option<Body> = None;
        for (at, link) in links.iter().enumerate().skip(1) {
            let steps = self.pair(&links[0], link, accumulators);
            let joined = steps.and_then(|steps| match &mut body {
                None => {
                    let step = |&(kind, a, b): &(Kind, NodeId, NodeId)| Step { kind, nodes: vec![a, b] };
                    body = Some(Body { steps: steps.iter().map(step).collect() });
                    Ok(())
                }
                Some(body) => body.add(&steps),
            });
            if let Err(differs) = joined {
                return (body, at, Some(differs));
            }
        }
        (body, links.len(), None)
    }

    /// The steps of two links.
    fn pair(
        &mut self,
        a: &Link,
        b: &Link,
        accumulators: &BTreeSet<NodeId>,
    ) -> Result<Vec<(Kind, NodeId, NodeId)>, String> {
        let mut pair = Pair {
            cx: self,
            accumulators,
            known: HashMap::new(),
            symbols: HashMap::new(),
            steps: Vec::new(),
        };
        for (a, b) in a.roots().zip(b.roots()) {
            pair.value(a, b)?;
        }
        Ok(pair.steps)
    }
}

impl Body {
    /// One more link, by its steps beside those of the first.
    fn add(&mut self, steps: &[(Kind, NodeId, NodeId)]) -> Result<(), String> {
        let fits = |step: &Step, &(kind, a, _): &(Kind, NodeId, NodeId)| {
            step.nodes[0] == a && (step.kind == Kind::Op) == (kind == Kind::Op)
        };
        if steps.len() != self.steps.len() || !self.steps.iter().zip(steps).all(|(step, new)| fits(step, new))
        {
            return Err("other values are shared between links".to_owned());
        }
        for (step, &(kind, _, b)) in self.steps.iter_mut().zip(steps) {
            step.nodes.push(b);
            // A weight that some links share is still one for each.
            if kind == Kind::Weight {
                step.kind = Kind::Weight;
            }
        }
        Ok(())
    }
}

/// Two links on the way.
struct Pair<'a, 'g> {
    cx: &'a mut Comparison<'g>,
    accumulators: &'a BTreeSet<NodeId>,
    known: HashMap<NodeId, NodeId>,
    /// Sizes of the second link by those of the first.
    symbols: HashMap<Symbol, Symbol>,
    steps: Vec<(Kind, NodeId, NodeId)>,
}

impl Pair<'_, '_> {
    fn value(&mut self, a: Value, b: Value) -> Result<(), String> {
        if a.result != b.result {
            return Err("different results of a node".to_owned());
        }
        self.node(a.node, b.node)
    }

    fn node(&mut self, a: NodeId, b: NodeId) -> Result<(), String> {
        if let Some(&known) = self.known.get(&a) {
            return if known == b { Ok(()) } else { Err("values are shared within one link".to_owned()) };
        }
        self.known.insert(a, b);
        self.cx.compared += 1;
        let graph = self.cx.graph;
        let kind = match (graph.node(a).op(), graph.node(b).op()) {
            _ if a == b => Kind::Same,
            (Some(_), Some(_)) if [a, b].iter().all(|&id| is_stored(graph, id.into())) => Kind::Weight,
            (Some(left), Some(right)) => {
                self.op(a, b, left, right)?;
                Kind::Op
            }
            (None, None) if graph.node(a).weight().is_some() && graph.node(b).weight().is_some() => {
                Kind::Weight
            }
            _ => return Err(format!("{} against {}", describe(graph, a), describe(graph, b))),
        };
        let alike = |(a, b): (&TensorType, &TensorType)| a.substitute(&self.renamed()) == *b;
        let (left, right) = (&graph.node(a).types, &graph.node(b).types);
        if left.len() != right.len() || !left.iter().zip(right).all(alike) {
            return Err(format!("{} against {}", describe(graph, a), describe(graph, b)));
        }
        self.steps.push((kind, a, b));
        Ok(())
    }

    fn op(
        &mut self,
        a: NodeId,
        b: NodeId,
        (left, left_attrs): (&'static OpDef, &Attrs),
        (right, right_attrs): (&'static OpDef, &Attrs),
    ) -> Result<(), String> {
        let graph = self.cx.graph;
        let differ = || format!("{} against {}", describe(graph, a), describe(graph, b));
        let (ours, theirs) = (graph.operands(a), graph.operands(b));
        if left != right || ours.len() != theirs.len() {
            return Err(differ());
        }
        if self.known.len() > MOST_NODES {
            return Err(format!("a link of more than {MOST_NODES} nodes"));
        }
        // What came before is no part of what a trip computes.
        if self.accumulators.contains(&a) || self.accumulators.contains(&b) {
            return Err("a trip uses what those before it have added up".to_owned());
        }
        for (&a, &b) in ours.iter().zip(&theirs) {
            self.value(a, b)?;
        }
        for (a, b) in symbols(left_attrs).into_iter().zip(symbols(right_attrs)) {
            let [decider, other] = [&a, &b].map(|symbol| self.cx.deciders.get(symbol).copied());
            if let (true, Some(decider), Some(other)) = (a != b, decider, other) {
                self.decider(decider, other)?;
            }
        }
        let renamed = left_attrs.substitute(&self.renamed()).map_err(|_| differ())?;
        let elsewhere = *left == SLICE
            && ours == theirs
            && renamed.get(SIZES) == right_attrs.get(SIZES)
            && renamed.get(STEPS) == right_attrs.get(STEPS);
        if renamed == *right_attrs || elsewhere { Ok(()) } else { Err(differ()) }
    }

    /// Two nodes that give sizes their values.
    fn decider(&mut self, a: NodeId, b: NodeId) -> Result<(), String> {
        let (graph, [left, right]) = (self.cx.graph, [a, b].map(|id| self.cx.graph.flow(id)));
        let (Some(Flow::Size { name, bound, .. }), Some(Flow::Size { name: other, bound: their_bound, .. })) =
            (left, right)
        else {
            return Err(format!("{} against {}", describe(graph, a), describe(graph, b)));
        };
        if let Some(known) = self.symbols.get(&name) {
            return if *known == other { Ok(()) } else { Err("sizes are shared within one link".to_owned()) };
        }
        for (&a, &b) in graph.operands(a).iter().zip(&graph.operands(b)) {
            self.value(a, b)?;
        }
        if bound.map(|bound| bound.substitute(&self.renamed())) != their_bound {
            return Err("sizes with different bounds".to_owned());
        }
        self.symbols.insert(name, other);
        Ok(())
    }

    fn renamed(&self) -> impl Fn(&Symbol) -> Option<Dim> + '_ {
        |symbol| self.symbols.get(symbol).map(|other| Dim::symbol(other.name()))
    }
}

/// The sizes in attributes that are no numbers, in order of appearance.
fn symbols(attrs: &Attrs) -> Vec<Symbol> {
    let mut found = Vec::new();
    attrs.for_each_symbol(&mut |symbol| {
        if !found.contains(symbol) {
            found.push(symbol.clone());
        }
    });
    found
}

/// A node in messages: its op, and the node of the model behind it.
pub(super) fn describe(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let what = match (node.op(), node.weight()) {
        (Some((def, _)), _) => format!("`{}`", def.name),
        (None, Some(weight)) => format!("the weight {}", weight.ty()),
        (None, None) => "an input".to_owned(),
    };
    match node.origin.places() {
        [place, ..] if !place.name.is_empty() => format!("{what} of \"{}\"", place.name),
        _ => what,
    }
}
