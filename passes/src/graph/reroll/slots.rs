//! The body of a chain in slot form: every op once, for all pairs of a token and one of its experts.
//!
//! A value that a link has for its own rows, `[rows, F…]`, becomes one for all slots, `[I…, F…]`, `I…` being the axes of
//! the ids; an axis that it does not depend on has size 1. A weight that each link has for itself becomes a stack, and
//! from it each slot takes what its id names. What is computed row by row is computed slot by slot; nothing else is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ir::attr::{Attr, Attrs};
use ir::build::Build;
use ir::graph::Value;
use ir::op::{Flow, OpError, normalize_axis};
use ir::{DType, Dim, Graph, NodeId, OpDef, Origin, Weight};
use ops::linalg::combine::{MOST_TERMS, combine};
use ops::linalg::grouped_matmul::grouped_matmul;
use ops::linalg::matmul::MATMUL;
use ops::math::cast::{CAST, TO};
use ops::math::eq::EQ;
use ops::math::mul::MUL;
use ops::norm::AXIS;
use ops::norm::layer_norm::LAYER_NORM;
use ops::norm::log_softmax::LOG_SOFTMAX;
use ops::norm::rms_norm::RMS_NORM;
use ops::norm::softmax::SOFTMAX;
use ops::order::nonzero::NONZERO;
use ops::reduce::along::{AXES, KEEP_DIMS};
use ops::reduce::reduce_max::REDUCE_MAX;
use ops::reduce::reduce_mean::REDUCE_MEAN;
use ops::reduce::reduce_min::REDUCE_MIN;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::{self, BROADCAST, broadcast};
use ops::shape::concat::{self, CONCAT};
use ops::shape::gather::{self, GATHER};
use ops::shape::gather_elements::{self, GATHER_ELEMENTS};
use ops::shape::gather_nd::{BATCH_DIMS, GATHER_ND};
use ops::shape::reshape::{CHECKED, RESHAPE, SHAPE, reshape};
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS};
use ops::shape::transpose::{PERM, TRANSPOSE, transpose};

use super::body::{Body, Kind, Step, describe};
use super::chain::Link;
use super::routing::{constant, experts, one_hot};
use super::{ALL_EXPERTS, NAME, ONE_EXPERT, OWN_INDICES, OWN_ROWS, ROW_BY_ROW};
use crate::egraph::Missed;

/// Ops along axes given by an attribute.
const ALONG_AXES: &[&OpDef] = &[
    &REDUCE_SUM,
    &REDUCE_MEAN,
    &REDUCE_MAX,
    &REDUCE_MIN,
    &SOFTMAX,
    &LOG_SOFTMAX,
    &LAYER_NORM,
    &RMS_NORM,
    &CONCAT,
];

/// How a vector of positions, or several side by side, lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
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
enum Fact {
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
    /// One row for each position, in slot form.
    Slots(Value),
}

/// The ids that the chain is about.
struct Routing {
    ids: Value,
    /// The places of the links, by the number of the expert.
    order: Vec<usize>,
}

/// A body on its way into slot form.
pub(super) struct Slots<'a> {
    b: &'a mut Build,
    links: &'a [Link],
    body: &'a Body,
    moved: &'a BTreeMap<Value, Value>,
    facts: HashMap<Value, Fact>,
    routing: Option<Routing>,
}

impl<'a> Slots<'a> {
    /// Of these links and what they compute; `moved` tells what stands for values that are no more.
    pub(super) fn new(
        b: &'a mut Build,
        links: &'a [Link],
        body: &'a Body,
        moved: &'a BTreeMap<Value, Value>,
    ) -> Slots<'a> {
        Slots { b, links, body, moved, facts: HashMap::new(), routing: None }
    }

    /// The sum over all links of what is added, `first` being the first of them.
    ///
    /// # Errors
    /// The first obligation that fails.
    pub(super) fn sum(&mut self, first: &Link) -> Result<Value, Missed> {
        for at in 0..self.body.steps.len() {
            self.step(at)?;
        }
        let addend = first.addend;
        let rows = first.rows.and_then(|rows| self.facts.get(&rows));
        let (Some(Fact::Index(axes, Form::Rows | Form::Spread)), Some(Fact::Slots(_))) =
            (rows, self.facts.get(&addend))
        else {
            return Err(missed(OWN_ROWS, self.describe(addend.node)));
        };
        let tokens = axes.len();
        if !axes.iter().copied().eq(0..tokens) || self.rank() > tokens + 1 {
            return Err(missed(OWN_ROWS, self.describe(addend.node)));
        }
        self.no_other_use()?;
        let last = self.body.steps.iter().find(|step| step.nodes[0] == addend.node);
        let summed = last.into_iter().flat_map(|step| &step.nodes).copied();
        let origin =
            joined_origin(self.graph(), summed.chain(self.links.iter().filter_map(|link| link.node)));
        self.b.set_origin(origin);
        self.added_up(addend, tokens).map_err(|error| missed(ROW_BY_ROW, error.to_string()))
    }

    fn graph(&self) -> &Graph {
        self.b.graph()
    }

    fn describe(&self, id: NodeId) -> String {
        describe(self.graph(), id)
    }

    /// The number of axes of the ids.
    fn rank(&self) -> usize {
        self.routing.as_ref().map_or(0, |routing| self.b.ty(routing.ids).rank())
    }

    /// The sizes of the ids.
    fn sizes(&self) -> Vec<Dim> {
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

    /// What only tells which rows a link takes.
    fn chosen(&mut self, step: &Step) -> Result<Option<Fact>, Missed> {
        let id = step.nodes[0];
        let Some((def, attrs)) = self.graph().node(id).op().map(|(def, attrs)| (def, attrs.clone())) else {
            return Ok(None);
        };
        let operands = self.graph().operands(id);
        let facts: Option<Vec<Fact>> = operands.iter().map(|value| self.facts.get(value).cloned()).collect();
        let Some(facts) = facts else { return Ok(None) };
        if *def == EQ {
            return match &facts[..] {
                [Fact::Same(ids), Fact::Weights(at)] | [Fact::Weights(at), Fact::Same(ids)] => {
                    self.mask_of(id, *ids, *at)
                }
                _ => Ok(None),
            };
        }
        if *def == NONZERO {
            return Ok(match &facts[0] {
                Fact::Mask(axes) => Some(Fact::Found(axes.clone())),
                Fact::Part { of, axis, kept: false, numbers } => {
                    let mask = self.mask_in(*of, *axis, numbers)?;
                    mask.map(Fact::Found)
                }
                _ => None,
            });
        }
        Ok(match &facts[..] {
            [Fact::Same(of)] if *def == SLICE => self.part_by_slice(step, *of),
            [Fact::Same(of), Fact::Weights(at)] if *def == GATHER => {
                self.part_by_gather(id, *of, *at, &attrs)
            }
            [Fact::Part { of, axis, numbers, kept: true }] if *def == RESHAPE => {
                let mut without = self.b.ty(operands[0]).shape.clone();
                without.remove(*axis);
                let part = Fact::Part { of: *of, axis: *axis, numbers: numbers.clone(), kept: false };
                (attrs.get(SHAPE) == without).then_some(part)
            }
            [Fact::Mask(axes)] if *def == CAST => Some(Fact::Mask(axes.clone())),
            [Fact::Part { of, axis, kept: false, numbers }] if *def == CAST => {
                self.mask_in(*of, *axis, numbers)?.map(Fact::Mask)
            }
            [fact @ Fact::Index(..)] if *def == CAST => {
                matches!(attrs.get(TO), DType::I32 | DType::I64).then(|| fact.clone())
            }
            [Fact::Found(axes)] if *def == SLICE => self.counted(id, operands[0], axes, &attrs),
            [Fact::Index(axes, form)] => self.moved_index(id, axes, *form, def, &attrs),
            [Fact::Index(axes, form), Fact::Same(at)] if *def == GATHER => {
                self.one_position(axes, *form, *at, attrs.get(gather::AXIS))
            }
            _ if *def == CONCAT => joined_index(&facts, attrs.get(concat::AXIS)),
            _ => None,
        })
    }

    /// The numbers that the links have at a step, if each has a single one.
    fn numbers(&self, at: usize) -> Option<Vec<i64>> {
        let number = |&id: &NodeId| {
            let weight = self.graph().node(id).weight()?;
            (weight.elements() == 1 && weight.dtype().is_int()).then(|| weight.get(0).to_i64())
        };
        self.body.steps[at].nodes.iter().map(number).collect()
    }

    /// Where the ids are a number.
    fn mask_of(&mut self, id: NodeId, ids: Value, at: usize) -> Result<Option<Fact>, Missed> {
        let Some(numbers) = self.numbers(at) else { return Ok(None) };
        if self.b.ty(ids).shape != self.graph().node(id).types[0].shape {
            return Ok(None);
        }
        self.route(ids, &numbers)?;
        Ok(Some(Fact::Mask((0..self.rank()).collect())))
    }

    /// Which axes of the ids a part of their one-hot encoding has.
    fn mask_in(&mut self, of: Value, axis: usize, numbers: &[i64]) -> Result<Option<Vec<usize>>, Missed> {
        let Some((ids, mut axes)) = one_hot(self.graph(), of) else { return Ok(None) };
        if axes.remove(axis).is_some() {
            return Ok(None);
        }
        self.route(ids, numbers)?;
        Ok(axes.into_iter().collect())
    }

    /// The links are for these numbers among the ids: all that there may be, each once.
    fn route(&mut self, ids: Value, numbers: &[i64]) -> Result<(), Missed> {
        let mut order: Vec<usize> = (0..numbers.len()).collect();
        order.sort_by_key(|&at| numbers[at]);
        if let Some(routing) = &self.routing {
            let same = routing.ids == ids && routing.order == order;
            return if same { Ok(()) } else { Err(missed(ONE_EXPERT, self.describe(ids.node))) };
        }
        let Some(count) = experts(self.graph(), ids) else {
            return Err(missed(ALL_EXPERTS, format!("ids from {}", self.describe(ids.node))));
        };
        if !order.iter().map(|&at| numbers[at]).eq(0..count) {
            let absent =
                (0..count).filter(|number| !numbers.contains(number)).map(|number| number.to_string());
            let absent: Vec<String> = absent.collect();
            let what = if absent.is_empty() {
                "an expert twice".to_owned()
            } else {
                format!("no link for expert {} of {count}", absent.join(", "))
            };
            return Err(missed(ALL_EXPERTS, what));
        }
        self.routing = Some(Routing { ids, order });
        Ok(())
    }

    /// A part of a shared value that a slice takes, one element along one axis.
    fn part_by_slice(&self, step: &Step, of: Value) -> Option<Fact> {
        let starts = |&id: &NodeId| {
            let (_, attrs) = self.graph().node(id).op()?;
            attrs.get(STARTS).iter().map(Dim::as_const).collect::<Option<Vec<i64>>>()
        };
        let starts: Vec<Vec<i64>> = step.nodes.iter().map(starts).collect::<Option<_>>()?;
        let (_, attrs) = self.graph().node(step.nodes[0]).op()?;
        let (sizes, whole) = (attrs.get(SIZES), &self.b.ty(of).shape);
        let taken: Vec<usize> = (0..sizes.len()).filter(|&axis| sizes[axis] != whole[axis]).collect();
        let &[axis] = &taken[..] else { return None };
        sizes[axis].is(1).then(|| {
            let numbers = starts.iter().map(|starts| starts[axis]).collect();
            Fact::Part { of, axis, kept: true, numbers }
        })
    }

    /// A part of a shared value that an index takes.
    fn part_by_gather(&self, id: NodeId, of: Value, at: usize, attrs: &Attrs) -> Option<Fact> {
        let numbers = self.numbers(at)?;
        let rank = self.b.ty(of).rank();
        let axis = normalize_axis(attrs.get(gather::AXIS), rank).ok()?;
        let kept = self.graph().node(id).types[0].rank() == rank;
        let fits = kept || self.graph().node(id).types[0].rank() + 1 == rank;
        fits.then_some(Fact::Part { of, axis, kept, numbers })
    }

    /// As many positions as were found.
    fn counted(&self, id: NodeId, found: Value, axes: &[usize], attrs: &Attrs) -> Option<Fact> {
        let starts = attrs.get(STARTS);
        let sizes = attrs.get(SIZES);
        let symbol = sizes[1].as_symbol()?;
        let counts = |id: NodeId| match self.graph().flow(id) {
            Some(Flow::Size { name, .. }) => {
                name == *symbol && self.graph().operands(id) == [Value { node: found.node, result: 1 }]
            }
            _ => false,
        };
        let count = self.graph().users(Value { node: found.node, result: 1 });
        let all = starts.iter().all(|start| start.is(0)) && sizes[0] == self.b.ty(id.into()).shape[0];
        let whole = sizes[0].is(axes.len() as i64) && attrs.get(STEPS) == [1, 1];
        let fits = all && whole && count.into_iter().any(|(user, _)| counts(user));
        fits.then(|| Fact::Index(axes.to_vec(), Form::Columns))
    }

    /// Positions in another order or shape, or some of them.
    fn moved_index(
        &self,
        id: NodeId,
        axes: &[usize],
        form: Form,
        def: &'static OpDef,
        attrs: &Attrs,
    ) -> Option<Fact> {
        let shape = &self.graph().node(id).types[0].shape;
        if *def == TRANSPOSE {
            let turned = match form {
                Form::Rows => Form::Columns,
                Form::Columns => Form::Rows,
                _ => return None,
            };
            return (attrs.get(PERM) == [1, 0]).then(|| Fact::Index(axes.to_vec(), turned));
        }
        if *def == SLICE {
            let (along, rows) = along(form)?;
            let before = &self.b.ty(*self.graph().operands(id).first()?).shape;
            let first = usize::try_from(attrs.get(STARTS)[along].as_const()?).ok()?;
            let count = usize::try_from(shape[along].as_const()?).ok()?;
            let all_rows = shape[rows] == before[rows] && attrs.get(STARTS)[rows].is(0);
            let taken = axes.get(first..first + count)?.to_vec();
            return (all_rows && attrs.get(STEPS) == [1, 1]).then_some(Fact::Index(taken, form));
        }
        if *def == RESHAPE && axes.len() == 1 {
            let form = match &shape[..] {
                [_] => Form::Vector,
                [_, one] if one.is(1) => Form::Rows,
                [one, _] if one.is(1) => Form::Columns,
                _ => return None,
            };
            return Some(Fact::Index(axes.to_vec(), form));
        }
        let spreads = *def == BROADCAST && form == Form::Rows && axes.len() == 1 && shape.len() == 2;
        spreads.then(|| Fact::Index(axes.to_vec(), Form::Spread))
    }

    /// One vector of positions of several.
    fn one_position(&self, axes: &[usize], form: Form, at: Value, axis: i64) -> Option<Fact> {
        let (along, _) = along(form)?;
        let weight = constant(self.graph(), at).filter(|weight| weight.shape().is_empty())?;
        let taken = axes.get(usize::try_from(weight.get(0).to_i64()).ok()?)?;
        (normalize_axis(axis, 2) == Ok(along)).then(|| Fact::Index(vec![*taken], Form::Vector))
    }

    /// What is computed for each row.
    fn by_slot(&mut self, id: NodeId) -> Result<Option<Fact>, OpError> {
        let node = self.graph().node(id);
        let Some((def, attrs)) = node.op().map(|(def, attrs)| (def, attrs.clone())) else { return Ok(None) };
        let ty = node.types[0].clone();
        let operands = self.graph().operands(id);
        let facts: Option<Vec<Fact>> = operands.iter().map(|value| self.facts.get(value).cloned()).collect();
        let Some(facts) = facts.filter(|_| self.routing.is_some()) else { return Ok(None) };
        let value = match &facts[..] {
            [Fact::Same(x), Fact::Index(axes, Form::Vector)] if *def == GATHER => {
                let first = normalize_axis(attrs.get(gather::AXIS), self.b.ty(*x).rank()) == Ok(0);
                if first { self.taken(*x, axes)? } else { None }
            }
            [Fact::Same(x), Fact::Index(axes, Form::Rows)] if *def == GATHER_ND => {
                if attrs.get(BATCH_DIMS) == 0 { self.taken(*x, axes)? } else { None }
            }
            [Fact::Part { of, axis, kept: false, numbers }, Fact::Index(axes, Form::Vector)]
                if *def == GATHER =>
            {
                self.own_element(*of, *axis, numbers, axes)?
            }
            [Fact::Slots(x), Fact::Weights(at)] if *def == MATMUL => self.product(*x, *at)?,
            [Fact::Slots(x), Fact::Same(w)] if *def == MATMUL && self.b.ty(*w).rank() == 2 => {
                Some(self.b.op(&MATMUL, &[*x, *w])?)
            }
            [Fact::Slots(x)] if *def == RESHAPE || *def == BROADCAST => {
                self.reshaped(*x, operands[0], def, &attrs)?
            }
            [Fact::Slots(x)] if *def == SLICE => self.part_of_rows(*x, operands[0], &attrs)?,
            [Fact::Slots(x)] if *def == TRANSPOSE => self.turned(*x, &attrs.get(PERM))?,
            _ if ALONG_AXES.contains(&def) => {
                let rank = self.b.ty(operands[0]).rank();
                match along_features(&attrs, rank) {
                    Some(attrs) => self.same_op(def, attrs, &facts, rank)?,
                    None => None,
                }
            }
            _ if def.semantics.is_elementwise() => {
                let attrs = attrs.iter().map(|(key, attr)| (key, attr.clone())).collect();
                self.same_op(def, attrs, &facts, ty.rank())?
            }
            _ => None,
        };
        Ok(value.map(Fact::Slots))
    }

    /// The op on values in slot form: of rows with so many axes.
    fn same_op(
        &mut self,
        def: &'static OpDef,
        attrs: Vec<(&'static str, Attr)>,
        facts: &[Fact],
        rank: usize,
    ) -> Result<Option<Value>, OpError> {
        let slots = facts.iter().filter(|fact| matches!(fact, Fact::Slots(_))).count();
        if slots == 0 || slots < facts.len() && !def.semantics.is_elementwise() {
            return Ok(None);
        }
        let mut operands = Vec::with_capacity(facts.len());
        for fact in facts {
            let Some(operand) = self.beside_rows(fact, rank)? else { return Ok(None) };
            operands.push(operand);
        }
        // Parts of a row that are put together are as many as there are slots, each.
        if *def == CONCAT {
            operands = operands.into_iter().map(|x| self.all_slots(x)).collect::<Result<_, _>>()?;
        }
        Ok(Some(self.b.op_with(def, &operands, attrs)?))
    }

    /// An operand in slot form, beside rows with so many axes.
    fn beside_rows(&mut self, fact: &Fact, rank: usize) -> Result<Option<Value>, OpError> {
        let slots = self.rank();
        match fact {
            Fact::Slots(x) => Ok(Some(*x).filter(|x| self.b.ty(*x).rank() + 1 == slots + rank)),
            Fact::Same(x) => {
                let ty = self.b.ty(*x);
                let fits = ty.rank() < rank || ty.rank() == rank && ty.shape[0].is(1);
                Ok(Some(*x).filter(|_| fits))
            }
            Fact::Weights(at) => {
                let own = self.b.ty(self.body.steps[*at].nodes[0].into()).shape.clone();
                let own = match &own[..] {
                    [one, rest @ ..] if own.len() == rank && one.is(1) => rest.to_vec(),
                    _ if own.len() < rank => own,
                    _ => return Ok(None),
                };
                let ones = std::iter::repeat_n(Dim::constant(1), rank - 1 - own.len());
                let shape = self.sizes().into_iter().chain(ones).chain(own).collect();
                let Some((stack, ids)) = self.stack(*at) else { return Ok(None) };
                let each = self.b.op_with(&GATHER, &[stack, ids], [gather::AXIS.is(0)])?;
                Ok(Some(reshape(self.b, each, shape)?))
            }
            _ => Ok(None),
        }
    }

    /// The weights of a step in the order of the experts, and the ids.
    fn stack(&mut self, at: usize) -> Option<(Value, Value)> {
        let routing = self.routing.as_ref()?;
        let nodes = &self.body.steps[at].nodes;
        let weight = |&place: &usize| self.graph().node(nodes[place]).weight().cloned();
        let weights: Vec<Weight> = routing.order.iter().map(weight).collect::<Option<_>>()?;
        let stack = Weight::stack(weights[0].name(), &weights)?;
        let ids = routing.ids;
        Some((self.b.weight(stack), ids))
    }

    /// Rows of a shared value, taken by positions along axes of the ids.
    fn taken(&mut self, x: Value, axes: &[usize]) -> Result<Option<Value>, OpError> {
        let shape = self.b.ty(x).shape.clone();
        if axes.len() > shape.len() {
            return Ok(None);
        }
        let (own, features) = shape.split_at(axes.len());
        let mut sorted: Vec<usize> = (0..axes.len()).collect();
        sorted.sort_by_key(|&at| axes[at]);
        let sizes = self.sizes();
        // Another axis than that of the ids would be asked for at other places.
        if axes.iter().zip(own).any(|(&axis, size)| sizes[axis] != *size) {
            return Ok(None);
        }
        let perm = sorted.into_iter().chain(axes.len()..shape.len()).map(|axis| axis as i64).collect();
        let x = transpose(self.b, x, perm)?;
        let size = |axis: usize| if axes.contains(&axis) { sizes[axis].clone() } else { Dim::constant(1) };
        let slots = (0..sizes.len()).map(size).chain(features.iter().cloned()).collect();
        Ok(Some(self.in_shape(x, slots)?))
    }

    /// What a token has for each of its experts, in a value that has something for all of them.
    fn own_element(
        &mut self,
        of: Value,
        axis: usize,
        numbers: &[i64],
        axes: &[usize],
    ) -> Result<Option<Value>, OpError> {
        let Some(routing) = &self.routing else { return Ok(None) };
        let (ids, sizes, shape) = (routing.ids, self.sizes(), &self.b.ty(of).shape);
        let in_order = routing.order.iter().enumerate().all(|(expert, &at)| numbers[at] == expert as i64);
        let fits = axis == 1 && axes == [0] && sizes.len() == 2 && shape.len() == 2 && sizes[0] == shape[0];
        if !fits || !in_order {
            return Ok(None);
        }
        Ok(Some(self.b.op_with(&GATHER_ELEMENTS, &[of, ids], [gather_elements::AXIS.is(1)])?))
    }

    /// Rows by matrices of each link's own.
    fn product(&mut self, x: Value, at: usize) -> Result<Option<Value>, OpError> {
        let one_row = self.b.ty(x).rank() == self.rank() + 1;
        let Some((stack, ids)) = self.stack(at).filter(|_| one_row) else { return Ok(None) };
        if self.b.ty(stack).rank() != 3 {
            return Ok(None);
        }
        Ok(Some(grouped_matmul(self.b, x, stack, ids)?))
    }

    /// Rows in another shape.
    fn reshaped(
        &mut self,
        x: Value,
        rows: Value,
        def: &OpDef,
        attrs: &Attrs,
    ) -> Result<Option<Value>, OpError> {
        let slots = self.rank();
        let own = self.b.ty(x).shape.clone();
        let moved = *def == BROADCAST;
        let key = if moved { broadcast::SHAPE } else { SHAPE };
        let shape = attrs.get(key);
        // Each row stays one.
        let Some((count, features)) = shape.split_first() else { return Ok(None) };
        let elements = |sizes: &[Dim]| sizes.iter().cloned().product::<Dim>();
        let whole = if moved {
            own.len() == slots + features.len()
        } else {
            elements(&own[slots..]) == elements(features)
        };
        if *count != self.b.ty(rows).shape[0] || !whole {
            return Ok(None);
        }
        let shape: Vec<Dim> = own[..slots].iter().chain(features).cloned().collect();
        if moved { Ok(Some(broadcast(self.b, x, shape)?)) } else { Ok(Some(self.in_shape(x, shape)?)) }
    }

    /// A value in this shape, of what it was before it got the shape that it has.
    fn in_shape(&mut self, x: Value, shape: Vec<Dim>) -> Result<Value, OpError> {
        let before =
            self.graph().node(x.node).op().filter(|(def, attrs)| **def == RESHAPE && !attrs.get(CHECKED));
        let x = before.map_or(x, |_| self.graph().operands(x.node)[0]);
        reshape(self.b, x, shape)
    }

    /// A part of each row.
    fn part_of_rows(&mut self, x: Value, rows: Value, attrs: &Attrs) -> Result<Option<Value>, OpError> {
        let (starts, sizes, steps) = (attrs.get(STARTS), attrs.get(SIZES), attrs.get(STEPS));
        if sizes[0] != self.b.ty(rows).shape[0] || !starts[0].is(0) || steps[0] != 1 {
            return Ok(None);
        }
        let slots = self.rank();
        let own = self.b.ty(x).shape[..slots].to_vec();
        let starts =
            std::iter::repeat_n(Dim::constant(0), slots).chain(starts[1..].iter().cloned()).collect();
        let sizes = own.into_iter().chain(sizes[1..].iter().cloned()).collect();
        let steps = std::iter::repeat_n(1, slots).chain(steps[1..].iter().copied()).collect();
        Ok(Some(self.b.op_with(&SLICE, &[x], [STARTS.is(starts), SIZES.is(sizes), STEPS.is(steps)])?))
    }

    /// The axes of each row in another order.
    fn turned(&mut self, x: Value, perm: &[i64]) -> Result<Option<Value>, OpError> {
        let slots = self.rank() as i64;
        let [0, rest @ ..] = perm else { return Ok(None) };
        let perm = (0..slots).chain(rest.iter().map(|axis| axis + slots - 1)).collect();
        Ok(Some(transpose(self.b, x, perm)?))
    }

    /// A value in slot form that has every slot.
    fn all_slots(&mut self, x: Value) -> Result<Value, OpError> {
        let features = self.b.ty(x).shape[self.rank()..].to_vec();
        let shape: Vec<Dim> = self.sizes().into_iter().chain(features).collect();
        if self.b.ty(x).shape == shape { Ok(x) } else { broadcast(self.b, x, shape) }
    }

    /// The slots of each token added up; the last op is a product with gates, as a rule.
    fn added_up(&mut self, addend: Value, tokens: usize) -> Result<Value, OpError> {
        if tokens < self.rank()
            && let Some((y, gates)) = self.weighed(addend)
        {
            let y = self.all_slots(y)?;
            let gates = self.all_slots(gates)?;
            let sizes = self.sizes();
            let gates = self.in_shape(gates, sizes)?;
            return combine(self.b, y, gates);
        }
        let Some(Fact::Slots(y)) = self.facts.get(&addend).cloned() else {
            unreachable!("bug: what is added was found to be rows")
        };
        let y = self.all_slots(y)?;
        if tokens == self.rank() {
            return Ok(y);
        }
        self.b.op_with(&REDUCE_SUM, &[y], [AXES.is(vec![tokens as i64]), KEEP_DIMS.is(false)])
    }

    /// Rows, and one number for each of them, whose product is added.
    fn weighed(&self, addend: Value) -> Option<(Value, Value)> {
        self.graph().node(addend.node).op().filter(|(def, _)| **def == MUL)?;
        let slots = self.rank();
        let terms = self.sizes().last()?.as_const()?;
        let operands = self.graph().operands(addend.node);
        let [Fact::Slots(a), Fact::Slots(b)] = [self.facts.get(&operands[0])?, self.facts.get(&operands[1])?]
        else {
            return None;
        };
        let is_gate = |x: Value| self.b.ty(x).shape[slots..].iter().all(|size| size.is(1));
        let (y, gates) = if is_gate(*b) { (*a, *b) } else { (*b, *a) };
        let fits = is_gate(gates) && self.b.ty(y).rank() == slots + 1 && terms <= MOST_TERMS;
        fits.then_some((y, gates))
    }

    /// Nothing but the links themselves needs their indices, or what is computed of them.
    fn no_other_use(&self) -> Result<(), Missed> {
        let graph = self.graph();
        let outputs: BTreeSet<NodeId> = graph.outputs().iter().map(|value| value.node).collect();
        let own = |step: &&Step| {
            let fact = self.facts.get(&step.nodes[0].into());
            matches!(fact, Some(Fact::Found(_) | Fact::Index(..) | Fact::Slots(_)))
        };
        let own: Vec<&Step> = self.body.steps.iter().filter(own).collect();
        for (at, link) in self.links.iter().enumerate() {
            let inside: BTreeSet<NodeId> =
                self.body.steps.iter().map(|step| step.nodes[at]).chain(link.node).collect();
            for id in own.iter().map(|step| step.nodes[at]) {
                let results = 0..graph.node(id).types.len();
                let mut users = results.flat_map(|result| graph.users(Value { node: id, result }));
                // What makes a count a size belongs to the indices.
                let outside = |user: NodeId| !inside.contains(&user) && graph.flow(user).is_none();
                if outputs.contains(&id) || users.any(|(user, _)| outside(user)) {
                    return Err(missed(OWN_INDICES, self.describe(id)));
                }
            }
        }
        Ok(())
    }
}

fn missed(obligation: &'static str, found: impl Into<String>) -> Missed {
    Missed { obligation, found: found.into() }
}

/// The places of nodes that one node stands for.
fn joined_origin(graph: &Graph, nodes: impl Iterator<Item = NodeId>) -> Origin {
    nodes.fold(Origin::none(), |all, id| all.join(&graph.node(id).origin)).by(NAME)
}

/// Of positions that lie so: the axis along which there are several, and that of the rows.
fn along(form: Form) -> Option<(usize, usize)> {
    match form {
        Form::Rows => Some((1, 0)),
        Form::Columns => Some((0, 1)),
        Form::Vector | Form::Spread => None,
    }
}

/// Positions side by side.
fn joined_index(facts: &[Fact], axis: i64) -> Option<Fact> {
    let part = |fact: &Fact| match fact {
        Fact::Index(axes, form) => Some((axes.clone(), *form)),
        _ => None,
    };
    let parts: Vec<(Vec<usize>, Form)> = facts.iter().map(part).collect::<Option<_>>()?;
    let form = parts.first()?.1;
    let fits = normalize_axis(axis, 2).ok() == along(form).map(|(along, _)| along);
    let same = fits && parts.iter().all(|(_, other)| *other == form);
    same.then(|| Fact::Index(parts.into_iter().flat_map(|(axes, _)| axes).collect(), form))
}

/// Attributes whose axes, of rows with so many, count from the end: new ones in front do not change them. `None` if the
/// axis of the rows is among them.
fn along_features(attrs: &Attrs, rank: usize) -> Option<Vec<(&'static str, Attr)>> {
    let from_end = |axis: i64| {
        let axis = normalize_axis(axis, rank).ok()?;
        (axis > 0).then(|| Attr::Int(axis as i64 - rank as i64))
    };
    let each = attrs.iter().map(|(key, attr)| {
        let attr = match attr {
            Attr::Int(axis) if key == AXIS.name => from_end(*axis)?,
            Attr::List(axes) if key == AXES.name => {
                let axis = |axis: &Attr| if let Attr::Int(axis) = axis { from_end(*axis) } else { None };
                Attr::List(axes.iter().map(axis).collect::<Option<_>>()?)
            }
            attr => attr.clone(),
        };
        Some((key, attr))
    });
    each.collect()
}
