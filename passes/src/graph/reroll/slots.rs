//! The body of a chain in slot form: every op once, for all pairs of a token and one of its experts.
//!
//! A value that a link has for its own rows, `[rows, F…]`, becomes one for all slots, `[I…, F…]`, `I…` being the axes of
//! the ids; an axis that it does not depend on has size 1. A weight that each link has for itself becomes a stack, and
//! from it each slot takes what its id names. What is computed row by row is computed slot by slot; nothing else is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{Dim, Graph, NodeId, Origin};
use ops::linalg::combine::{MOST_TERMS, combine};
use ops::math::mul::MUL;
use ops::reduce::along::{AXES, KEEP_DIMS};
use ops::reduce::reduce_sum::REDUCE_SUM;

use super::body::{Body, Kind, Step, describe};
use super::chain::{Link, Named};
use super::gates::scattered_gates;
use super::routing::distinct;
use super::{DIFFERENT, NAME, ONCE, ONE_EXPERT, OWN_INDICES, OWN_ROWS, ROW_BY_ROW};
use crate::egraph::Missed;

/// How a vector of positions, or several side by side, lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[rows]`.
    Vector,
    /// `[rows, positions]`.
    Rows,
    /// `[positions, rows]`.
    Columns,
    /// `[rows, F]`, each position as often as a row has elements.
    Spread,
}

/// What is known of a value of the first link, and by that of those that correspond to it.
#[derive(Debug, Clone)]
pub(super) enum Fact {
    /// All links share it.
    Same(Value),
    /// A weight of each link's own: those of this step.
    Weights(usize),
    /// The part of a shared value at the link's number along an axis, which is still there with size 1, or not.
    Part { of: Value, axis: usize, kept: bool, numbers: Vec<i64> },
    /// Where the ids are the link's number: which axis of the ids each axis is.
    Mask(Vec<usize>),
    /// The positions where a mask holds, all of them, along these axes of the ids.
    Found(Vec<usize>),
    /// Positions where a mask holds, along these axes of the ids.
    Index(Vec<usize>, Form),
    /// A vector of positions where a mask holds, by one number each: those along these axes of the ids times these
    /// numbers, added up.
    Flat(Vec<(usize, i64)>),
    /// What there is for each row, in slot form.
    Slots(Value),
    /// Such gates, or 1, where the ids are the link's number, and 0 elsewhere; summed over a token's choices, or not yet.
    Gate { gates: Option<Value>, summed: bool },
    /// Rows in slot form, with such gates where the ids are the link's number, and 0 elsewhere.
    Gated { y: Value, gates: Option<Value> },
}

/// The ids that the chain is about.
pub(super) struct Routing {
    pub(super) ids: Value,
    /// The places of the links, by the number of the expert.
    pub(super) order: Vec<usize>,
}

impl Routing {
    /// Are these the numbers of the links' experts?
    pub(super) fn is_order(&self, numbers: &[i64]) -> bool {
        self.order.iter().enumerate().all(|(expert, &at)| numbers[at] == expert as i64)
    }
}

/// A body on its way into slot form.
pub(super) struct Slots<'a> {
    pub(super) b: &'a mut Build,
    links: &'a [Link],
    pub(super) body: &'a Body,
    moved: &'a BTreeMap<Value, Value>,
    pub(super) facts: HashMap<Value, Fact>,
    pub(super) routing: Option<Routing>,
    /// Does a link compute all rows, and select afterwards?
    pub(super) all_rows: bool,
    /// How many axes of a link's values are of rows.
    pub(super) lead: usize,
}

impl<'a> Slots<'a> {
    /// Of these links and what they compute; `moved` tells what stands for values that are no more.
    pub(super) fn new(
        b: &'a mut Build,
        links: &'a [Link],
        body: &'a Body,
        moved: &'a BTreeMap<Value, Value>,
    ) -> Slots<'a> {
        let all_rows = links.iter().all(|link| link.rows.is_none());
        Slots { b, links, body, moved, facts: HashMap::new(), routing: None, all_rows, lead: 1 }
    }

    /// The sum over all links of what is added, `first` being the first of them.
    ///
    /// # Errors
    /// The first obligation that fails; none if there is nothing of a mixture of experts.
    pub(super) fn sum(&mut self, first: &Link) -> Result<Value, Option<Missed>> {
        if self.all_rows {
            self.find_routing(first.addend)?;
        }
        for at in 0..self.body.steps.len() {
            self.step(at)?;
        }
        let addend = first.addend;
        let Some(tokens) = self.tokens(first) else {
            return Err(Some(missed(OWN_ROWS, self.describe(addend.node))));
        };
        self.named(first, tokens)?;
        self.no_other_use()?;
        let last = self.body.steps.iter().find(|step| step.nodes[0] == addend.node);
        let summed = last.into_iter().flat_map(|step| &step.nodes).copied();
        let origin =
            joined_origin(self.graph(), summed.chain(self.links.iter().filter_map(|link| link.node)));
        self.b.set_origin(origin);
        self.added_up(addend, tokens).map_err(|error| Some(missed(ROW_BY_ROW, error.to_string())))
    }

    /// By how many axes of the ids a link says to which rows it adds: the others are of choices.
    fn tokens(&self, first: &Link) -> Option<usize> {
        let tokens = match (first.rows, self.facts.get(&first.addend)?) {
            (None, Fact::Gated { .. }) => self.lead,
            (Some(rows), Fact::Slots(_)) => match self.facts.get(&rows)? {
                Fact::Index(axes, Form::Rows | Form::Spread) if axes.iter().copied().eq(0..axes.len()) => {
                    axes.len()
                }
                _ => return None,
            },
            _ => return None,
        };
        (self.rank() <= tokens + 1).then_some(tokens)
    }

    /// Rows that are put instead of added are named no more than once.
    fn named(&self, first: &Link, tokens: usize) -> Result<(), Missed> {
        let sizes = self.sizes();
        let Some(choices) = sizes.get(tokens).filter(|choices| !choices.is(1)) else { return Ok(()) };
        let found = || format!("{choices} choices of a token");
        let differ = || self.routing.as_ref().is_some_and(|routing| distinct(self.graph(), routing.ids));
        match first.named {
            Named::Once => Err(missed(ONCE, found())),
            Named::OnceEach if !differ() => Err(missed(DIFFERENT, found())),
            Named::OnceEach | Named::Anyhow => Ok(()),
        }
    }

    /// The ids by which rows are selected in the end, ahead of what is computed for all of them.
    fn find_routing(&mut self, addend: Value) -> Result<(), Option<Missed>> {
        self.lead = self.b.ty(addend).rank().saturating_sub(1);
        for at in 0..self.body.steps.len() {
            let step = &self.body.steps[at];
            if step.kind != Kind::Op {
                self.step(at)?;
                continue;
            }
            let Some(fact) = self.chosen(step)? else { continue };
            if let Fact::Part { of, numbers, .. } = &fact
                && let Some((ids, _)) = scattered_gates(self.graph(), *of)
            {
                self.route(ids, numbers)?;
            }
            self.facts.insert(step.nodes[0].into(), fact);
        }
        let tokens = self.lead..=self.lead + 1;
        if self.routing.is_some() && tokens.contains(&self.rank()) { Ok(()) } else { Err(None) }
    }

    pub(super) fn graph(&self) -> &Graph {
        self.b.graph()
    }

    pub(super) fn describe(&self, id: NodeId) -> String {
        describe(self.graph(), id)
    }

    /// The number of axes of the ids.
    pub(super) fn rank(&self) -> usize {
        self.routing.as_ref().map_or(0, |routing| self.b.ty(routing.ids).rank())
    }

    /// The sizes of the ids.
    pub(super) fn sizes(&self) -> Vec<Dim> {
        self.routing.as_ref().map_or_else(Vec::new, |routing| self.b.ty(routing.ids).shape.clone())
    }

    /// A step's facts, from those of its operands.
    fn step(&mut self, at: usize) -> Result<(), Missed> {
        let body = self.body;
        let step = &body.steps[at];
        let id = step.nodes[0];
        let results = self.graph().node(id).types.len();
        if step.kind != Kind::Op {
            for result in 0..results {
                let value = Value { node: id, result };
                let value = self.moved.get(&value).copied().unwrap_or(value);
                let fact = if step.kind == Kind::Same { Fact::Same(value) } else { Fact::Weights(at) };
                self.facts.insert(value, fact);
            }
            return Ok(());
        }
        let origin = joined_origin(self.graph(), step.nodes.iter().copied());
        self.b.set_origin(origin);
        let found = match self.chosen(step)? {
            Some(fact) => Some(fact),
            None => self.by_slot(id).map_err(|error| missed(ROW_BY_ROW, error.to_string()))?,
        };
        match found {
            Some(fact) => {
                self.facts.insert(id.into(), fact);
                Ok(())
            }
            None if self.routing.is_none() => Err(missed(ONE_EXPERT, self.describe(id))),
            None => Err(missed(ROW_BY_ROW, self.describe(id))),
        }
    }

    /// The slots of each token added up; they are weighed by gates, as a rule.
    fn added_up(&mut self, addend: Value, tokens: usize) -> Result<Value, OpError> {
        let slots = self.rank();
        let weighed = self.weighed(addend).filter(|_| tokens < slots);
        let (y, gates) = match (weighed, self.facts.get(&addend)) {
            (Some((y, gates)), _) => (y, Some(gates)),
            (None, Some(&Fact::Gated { y, gates })) => (y, gates),
            (None, Some(&Fact::Slots(y))) => (y, None),
            (None, _) => unreachable!("bug: what is added was found to be rows"),
        };
        let y = self.all_slots(y)?;
        let Some(gates) = gates else {
            let along = [AXES.is(vec![tokens as i64]), KEEP_DIMS.is(false)];
            return if tokens == slots { Ok(y) } else { self.b.op_with(&REDUCE_SUM, &[y], along) };
        };
        let gates = self.all_slots(gates)?;
        let sizes = self.sizes();
        let few = sizes.last().and_then(Dim::as_const).is_some_and(|terms| terms <= MOST_TERMS);
        if tokens < slots && few && self.b.ty(y).rank() == slots + 1 {
            let gates = self.in_shape(gates, sizes)?;
            return combine(self.b, y, gates);
        }
        let ones = std::iter::repeat_n(Dim::constant(1), self.b.ty(y).rank() - slots);
        let gates = self.in_shape(gates, sizes.into_iter().chain(ones).collect())?;
        let weighed = self.b.op(&MUL, &[y, gates])?;
        let along = [AXES.is(vec![tokens as i64]), KEEP_DIMS.is(false)];
        if tokens == slots { Ok(weighed) } else { self.b.op_with(&REDUCE_SUM, &[weighed], along) }
    }

    /// Rows, and one number for each of them, whose product is added.
    fn weighed(&self, addend: Value) -> Option<(Value, Value)> {
        self.graph().node(addend.node).op().filter(|(def, _)| **def == MUL)?;
        let operands = self.graph().operands(addend.node);
        let [Fact::Slots(a), Fact::Slots(b)] = [self.facts.get(&operands[0])?, self.facts.get(&operands[1])?]
        else {
            return None;
        };
        let is_gate = |x: Value| self.b.ty(x).shape[self.rank()..].iter().all(|size| size.is(1));
        let (y, gates) = if is_gate(*b) { (*a, *b) } else { (*b, *a) };
        is_gate(gates).then_some((y, gates))
    }

    /// Nothing but the links themselves needs their indices, or what is computed of them.
    fn no_other_use(&self) -> Result<(), Missed> {
        let graph = self.graph();
        let outputs: BTreeSet<NodeId> = graph.outputs().iter().map(|value| value.node).collect();
        let own = |step: &&Step| {
            let fact = self.facts.get(&step.nodes[0].into());
            let positions = matches!(fact, Some(Fact::Found(_) | Fact::Index(..) | Fact::Flat(_)));
            positions || matches!(fact, Some(Fact::Slots(_) | Fact::Gated { .. }))
        };
        let own: Vec<&Step> = self.body.steps.iter().filter(own).collect();
        let adding: BTreeSet<NodeId> = self.links.iter().flat_map(Link::adding).collect();
        for at in 0..self.links.len() {
            let inside: BTreeSet<NodeId> = self.body.steps.iter().map(|step| step.nodes[at]).collect();
            for id in own.iter().map(|step| step.nodes[at]) {
                let results = 0..graph.node(id).types.len();
                let mut users = results.flat_map(|result| graph.users(Value { node: id, result }));
                // What makes a count a size belongs to the indices.
                let outside = |user: NodeId| {
                    !inside.contains(&user) && !adding.contains(&user) && graph.flow(user).is_none()
                };
                if outputs.contains(&id) || users.any(|(user, _)| outside(user)) {
                    return Err(missed(OWN_INDICES, self.describe(id)));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn missed(obligation: &'static str, found: impl Into<String>) -> Missed {
    Missed { obligation, found: found.into() }
}

/// The places of nodes that one node stands for.
fn joined_origin(graph: &Graph, nodes: impl Iterator<Item = NodeId>) -> Origin {
    nodes.fold(Origin::none(), |all, id| all.join(&graph.node(id).origin)).by(NAME)
}
