//! Which rows a link takes: masks of the router's choices, and positions where they hold.

use ir::attr::Attrs;
use ir::graph::Value;
use ir::op::{Flow, normalize_axis};
use ir::{DType, Dim, NodeId, OpDef};
use ops::math::add::ADD;
use ops::math::cast::{CAST, TO};
use ops::math::eq::EQ;
use ops::math::mul::MUL;
use ops::order::nonzero::NONZERO;
use ops::shape::broadcast::BROADCAST;
use ops::shape::concat::{self, CONCAT};
use ops::shape::gather::{self, GATHER};
use ops::shape::reshape::{RESHAPE, SHAPE};
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::body::Step;
use super::routing::{constant, experts, one_hot};
use super::slots::{Fact, Form, Routing, Slots, missed};
use super::{ALL_EXPERTS, ONE_EXPERT};
use crate::egraph::Missed;

impl Slots<'_> {
    /// What only tells which rows a link takes.
    pub(super) fn chosen(&mut self, step: &Step) -> Result<Option<Fact>, Missed> {
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
        if let Some(fact) = self.gate(id, def, &attrs, &facts) {
            return Ok(Some(fact));
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
            [Fact::Part { of, axis, numbers, kept: false }] if *def == RESHAPE => {
                let mut with = self.b.ty(operands[0]).shape.clone();
                with.insert(*axis, Dim::constant(1));
                let part = Fact::Part { of: *of, axis: *axis, numbers: numbers.clone(), kept: true };
                (attrs.get(SHAPE) == with).then_some(part)
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
            [a, b] if *def == MUL || *def == ADD => self.flat(def, a, b),
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
    pub(super) fn route(&mut self, ids: Value, numbers: &[i64]) -> Result<(), Missed> {
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

    /// Positions that are made one number each.
    fn flat(&self, def: &OpDef, a: &Fact, b: &Fact) -> Option<Fact> {
        let number = |value: Value| {
            let weight = constant(self.graph(), value).filter(|weight| weight.elements() == 1)?;
            (self.b.ty(value).rank() <= 1).then(|| weight.get(0).to_i64())
        };
        if let (true, [Fact::Same(by), fact] | [fact, Fact::Same(by)]) = (*def == MUL, [a, b]) {
            let (by, terms) = (number(*by)?, terms(fact)?);
            let scaled = terms.into_iter().map(|(axis, each)| Some((axis, each.checked_mul(by)?)));
            return scaled.collect::<Option<_>>().map(Fact::Flat);
        }
        (*def == ADD).then_some(Fact::Flat([terms(a)?, terms(b)?].concat()))
    }

    /// One vector of positions of several.
    fn one_position(&self, axes: &[usize], form: Form, at: Value, axis: i64) -> Option<Fact> {
        let (along, _) = along(form)?;
        let weight = constant(self.graph(), at).filter(|weight| weight.shape().is_empty())?;
        let taken = axes.get(usize::try_from(weight.get(0).to_i64()).ok()?)?;
        (normalize_axis(axis, 2) == Ok(along)).then(|| Fact::Index(vec![*taken], Form::Vector))
    }
}

/// Of positions that lie so: the axis along which there are several, and that of the rows.
fn along(form: Form) -> Option<(usize, usize)> {
    match form {
        Form::Rows => Some((1, 0)),
        Form::Columns => Some((0, 1)),
        Form::Vector | Form::Spread => None,
    }
}

/// A vector of positions as a sum.
fn terms(fact: &Fact) -> Option<Vec<(usize, i64)>> {
    match fact {
        Fact::Flat(terms) => Some(terms.clone()),
        Fact::Index(axes, Form::Vector) => Some(axes.iter().map(|&axis| (axis, 1)).collect()),
        _ => None,
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
