//! What is computed row by row, slot by slot.

use ir::attr::{Attr, Attrs};
use ir::graph::Value;
use ir::op::{OpError, normalize_axis};
use ir::{Dim, NodeId, OpDef, Weight};
use ops::linalg::grouped_matmul::grouped_matmul;
use ops::linalg::matmul::MATMUL;
use ops::norm::AXIS;
use ops::norm::layer_norm::LAYER_NORM;
use ops::norm::log_softmax::LOG_SOFTMAX;
use ops::norm::rms_norm::RMS_NORM;
use ops::norm::softmax::SOFTMAX;
use ops::reduce::along::AXES;
use ops::reduce::reduce_max::REDUCE_MAX;
use ops::reduce::reduce_mean::REDUCE_MEAN;
use ops::reduce::reduce_min::REDUCE_MIN;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::{self, BROADCAST, broadcast};
use ops::shape::concat::CONCAT;
use ops::shape::gather::{self, GATHER};
use ops::shape::gather_elements::{self, GATHER_ELEMENTS};
use ops::shape::gather_nd::{BATCH_DIMS, GATHER_ND};
use ops::shape::reshape::{CHECKED, RESHAPE, SHAPE, reshape};
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS};
use ops::shape::transpose::{PERM, TRANSPOSE, transpose};

use super::routing::weight;
use super::slots::{Fact, Form, Slots};

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

impl Slots<'_> {
    /// What is computed for each row.
    pub(super) fn by_slot(&mut self, id: NodeId) -> Result<Option<Fact>, OpError> {
        let node = self.graph().node(id);
        let Some((def, attrs)) = node.op().map(|(def, attrs)| (def, attrs.clone())) else { return Ok(None) };
        let ty = node.types[0].clone();
        let operands = self.graph().operands(id);
        let facts: Option<Vec<Fact>> = operands.iter().map(|value| self.facts.get(value).cloned()).collect();
        let Some(facts) = facts.filter(|_| self.routing.is_some()) else { return Ok(None) };
        if let Some(fact) = self.gated(id, def, &facts) {
            return Ok(Some(fact));
        }
        if let [Fact::Part { of, axis: 0, kept: false, numbers }] = &facts[..]
            && *def == TRANSPOSE
        {
            // The same of all parts at once.
            let perm = std::iter::once(0).chain(attrs.get(PERM).iter().map(|axis| axis + 1)).collect();
            let of = transpose(self.b, *of, perm)?;
            return Ok(Some(Fact::Part { of, axis: 0, kept: false, numbers: numbers.clone() }));
        }
        let value = match &facts[..] {
            [Fact::Same(x), Fact::Index(axes, Form::Vector)] if *def == GATHER => {
                let first = normalize_axis(attrs.get(gather::AXIS), self.b.ty(*x).rank()) == Ok(0);
                if first { self.taken(*x, axes)? } else { None }
            }
            [Fact::Same(x), Fact::Flat(terms)] if *def == GATHER => {
                let first = normalize_axis(attrs.get(gather::AXIS), self.b.ty(*x).rank()) == Ok(0);
                if first { self.taken_flat(*x, terms)? } else { None }
            }
            [Fact::Same(x), Fact::Index(axes, Form::Rows)] if *def == GATHER_ND => {
                if attrs.get(BATCH_DIMS) == 0 { self.taken(*x, axes)? } else { None }
            }
            [Fact::Part { of, axis, kept: false, numbers }, Fact::Index(axes, Form::Vector)]
                if *def == GATHER =>
            {
                self.own_element(*of, *axis, numbers, axes)?
            }
            [Fact::Slots(x), own @ (Fact::Weights(_) | Fact::Part { .. })] if *def == MATMUL => {
                self.product(*x, own)?
            }
            [Fact::Same(x), own @ (Fact::Weights(_) | Fact::Part { .. })] if *def == MATMUL => {
                match self.of_tokens(*x, ty.rank())? {
                    Some(x) => self.product(x, own)?,
                    None => None,
                }
            }
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
                match along_features(&attrs, self.lead, rank) {
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
        if rank < self.lead {
            return Ok(None);
        }
        match fact {
            Fact::Slots(x) => Ok(Some(*x).filter(|x| self.b.ty(*x).rank() + self.lead == slots + rank)),
            Fact::Same(x) => {
                let own = &self.b.ty(*x).shape;
                if feature_axes(own, rank - self.lead).is_some() {
                    Ok(Some(*x))
                } else {
                    self.of_tokens(*x, rank)
                }
            }
            _ => {
                let Some((stack, ids)) = self.stack(fact) else { return Ok(None) };
                let own = &self.b.ty(stack).shape[1..];
                let Some(own) = feature_axes(own, rank - self.lead) else { return Ok(None) };
                let ones = std::iter::repeat_n(Dim::constant(1), rank - self.lead - own.len());
                let shape = self.sizes().into_iter().chain(ones).chain(own.iter().cloned()).collect();
                let each = self.b.op_with(&GATHER, &[stack, ids], [gather::AXIS.is(0)])?;
                Ok(Some(reshape(self.b, each, shape)?))
            }
        }
    }

    /// A shared value that has a row for each token, in slot form.
    fn of_tokens(&mut self, x: Value, rank: usize) -> Result<Option<Value>, OpError> {
        let (shape, sizes) = (self.b.ty(x).shape.clone(), self.sizes());
        if !self.all_rows
            || shape.len() != rank
            || rank < self.lead
            || shape[..self.lead] != sizes[..self.lead]
        {
            return Ok(None);
        }
        let ones = std::iter::repeat_n(Dim::constant(1), sizes.len() - self.lead);
        let slots = shape[..self.lead].iter().cloned().chain(ones).chain(shape[self.lead..].iter().cloned());
        Ok(Some(self.in_shape(x, slots.collect())?))
    }

    /// What each link has of its own, in the order of the experts, and the ids.
    fn stack(&mut self, own: &Fact) -> Option<(Value, Value)> {
        let routing = self.routing.as_ref()?;
        let ids = routing.ids;
        match own {
            Fact::Weights(at) => {
                let nodes = &self.body.steps[*at].nodes;
                let weight = |&place: &usize| weight(self.graph(), nodes[place].into());
                let weights: Vec<Weight> = routing.order.iter().map(weight).collect::<Option<_>>()?;
                let stack = Weight::stack(weights[0].name(), &weights)?;
                Some((self.b.weight(stack), ids))
            }
            Fact::Part { of, axis: 0, kept: false, numbers } => {
                routing.is_order(numbers).then_some((*of, ids))
            }
            _ => None,
        }
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

    /// Rows of a shared value that has those of several axes one after the other.
    fn taken_flat(&mut self, x: Value, terms: &[(usize, i64)]) -> Result<Option<Value>, OpError> {
        let mut terms = terms.to_vec();
        terms.sort_by_key(|&(_, by)| std::cmp::Reverse(by));
        let axes: Vec<usize> = terms.iter().map(|&(axis, _)| axis).collect();
        let own: Vec<Dim> = axes.iter().map(|&axis| self.sizes()[axis].clone()).collect();
        let behind = |at: usize| own[at..].iter().cloned().product::<Dim>();
        let row_major = terms.iter().enumerate().all(|(at, &(_, by))| behind(at + 1).is(by));
        let distinct = (1..axes.len()).all(|at| !axes[..at].contains(&axes[at]));
        let Some((rows, features)) = self.b.ty(x).shape.split_first() else { return Ok(None) };
        if !row_major || !distinct || *rows != behind(0) {
            return Ok(None);
        }
        let shape = own.iter().chain(features).cloned().collect();
        let x = self.in_shape(x, shape)?;
        self.taken(x, &axes)
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
        let fits = axis == 1 && axes == [0] && sizes.len() == 2 && shape.len() == 2 && sizes[0] == shape[0];
        if !fits || !routing.is_order(numbers) {
            return Ok(None);
        }
        Ok(Some(self.b.op_with(&GATHER_ELEMENTS, &[of, ids], [gather_elements::AXIS.is(1)])?))
    }

    /// Rows by matrices of each link's own.
    fn product(&mut self, x: Value, own: &Fact) -> Result<Option<Value>, OpError> {
        let one_row = self.b.ty(x).rank() == self.rank() + 1;
        let Some((stack, ids)) = self.stack(own).filter(|_| one_row) else { return Ok(None) };
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
        let (Some(counts), Some(features)) = (shape.get(..self.lead), shape.get(self.lead..)) else {
            return Ok(None);
        };
        let elements = |sizes: &[Dim]| sizes.iter().cloned().product::<Dim>();
        let whole = if moved {
            own.len() == slots + features.len()
        } else {
            elements(&own[slots..]) == elements(features)
        };
        if counts != &self.b.ty(rows).shape[..self.lead] || !whole {
            return Ok(None);
        }
        let shape: Vec<Dim> = own[..slots].iter().chain(features).cloned().collect();
        if moved { Ok(Some(broadcast(self.b, x, shape)?)) } else { Ok(Some(self.in_shape(x, shape)?)) }
    }

    /// A value in this shape, of what it was before it got the shape that it has.
    pub(super) fn in_shape(&mut self, x: Value, shape: Vec<Dim>) -> Result<Value, OpError> {
        let before =
            self.graph().node(x.node).op().filter(|(def, attrs)| **def == RESHAPE && !attrs.get(CHECKED));
        let x = before.map_or(x, |_| self.graph().operands(x.node)[0]);
        reshape(self.b, x, shape)
    }

    /// A part of each row.
    fn part_of_rows(&mut self, x: Value, rows: Value, attrs: &Attrs) -> Result<Option<Value>, OpError> {
        let (starts, sizes, steps) = (attrs.get(STARTS), attrs.get(SIZES), attrs.get(STEPS));
        let lead = self.lead;
        let whole =
            sizes[..lead] == self.b.ty(rows).shape[..lead] && steps[..lead].iter().all(|&step| step == 1);
        if !whole || starts[..lead].iter().any(|start| !start.is(0)) {
            return Ok(None);
        }
        let slots = self.rank();
        let own = self.b.ty(x).shape[..slots].to_vec();
        let starts =
            std::iter::repeat_n(Dim::constant(0), slots).chain(starts[lead..].iter().cloned()).collect();
        let sizes = own.into_iter().chain(sizes[lead..].iter().cloned()).collect();
        let steps = std::iter::repeat_n(1, slots).chain(steps[lead..].iter().copied()).collect();
        Ok(Some(self.b.op_with(&SLICE, &[x], [STARTS.is(starts), SIZES.is(sizes), STEPS.is(steps)])?))
    }

    /// The axes of each row in another order.
    fn turned(&mut self, x: Value, perm: &[i64]) -> Result<Option<Value>, OpError> {
        let (slots, lead) = (self.rank() as i64, self.lead as i64);
        let (rows, rest) = perm.split_at(self.lead);
        if !rows.iter().copied().eq(0..lead) {
            return Ok(None);
        }
        let perm = (0..slots).chain(rest.iter().map(|axis| axis + slots - lead)).collect();
        Ok(Some(transpose(self.b, x, perm)?))
    }

    /// A value in slot form that has every slot.
    pub(super) fn all_slots(&mut self, x: Value) -> Result<Value, OpError> {
        let features = self.b.ty(x).shape[self.rank()..].to_vec();
        let shape: Vec<Dim> = self.sizes().into_iter().chain(features).collect();
        if self.b.ty(x).shape == shape { Ok(x) } else { broadcast(self.b, x, shape) }
    }
}

/// The sizes of an operand of rows with so many axes of their own, without ones in front. `None` if there are more.
fn feature_axes(shape: &[Dim], most: usize) -> Option<&[Dim]> {
    let (more, own) = shape.split_at(shape.len().saturating_sub(most));
    more.iter().all(|size| size.is(1)).then_some(own)
}

/// Attributes whose axes, of rows with so many, count from the end: new ones in front do not change them. `None` if one
/// of the `lead` axes of the rows is among them.
fn along_features(attrs: &Attrs, lead: usize, rank: usize) -> Option<Vec<(&'static str, Attr)>> {
    let from_end = |axis: i64| {
        let axis = normalize_axis(axis, rank).ok()?;
        (axis >= lead).then(|| Attr::Int(axis as i64 - rank as i64))
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
