//! What rows that are computed for every expert are multiplied with in the end: 0 for all that a token did not choose.
//!
//! `Σₑ Σₖ [ids = e] g f(x; e)` has only one term for each choice that is not zero, `g f(x; ids)`. That holds for a product
//! with one such factor: two would meet each other's zeros.

use ir::attr::Attrs;
use ir::graph::Value;
use ir::op::normalize_axis;
use ir::{Graph, NodeId, OpDef};
use ops::math::cast::CAST;
use ops::math::mul::MUL;
use ops::math::r#where::WHERE;
use ops::reduce::along::AXES;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::reshape::RESHAPE;
use ops::shape::scatter::REDUCTION;
use ops::shape::scatter_elements::{self, SCATTER_ELEMENTS};

use super::routing::{distinct, is_number};
use super::slots::{Fact, Slots};

impl Slots<'_> {
    /// What a node makes of masks and gates, before it meets rows.
    pub(super) fn gate(&self, id: NodeId, def: &OpDef, attrs: &Attrs, facts: &[Fact]) -> Option<Fact> {
        if !self.all_rows {
            return None;
        }
        let gates = |value: Value| (self.b.ty(value).shape == self.sizes()).then_some(value);
        let zero = |value: Value| is_number(self.graph(), value, 0.0);
        let plain = |axes: &[usize]| axes.iter().copied().eq(0..self.rank());
        match facts {
            [Fact::Mask(axes), Fact::Same(x)] | [Fact::Same(x), Fact::Mask(axes)]
                if *def == MUL && plain(axes) =>
            {
                Some(self.gate_of(Some(gates(*x)?)))
            }
            [Fact::Mask(axes), Fact::Same(x), Fact::Same(other)]
                if *def == WHERE && plain(axes) && zero(*other) =>
            {
                Some(self.gate_of(Some(gates(*x)?)))
            }
            [Fact::Mask(axes)] if *def == REDUCE_SUM && plain(axes) => self.summed(attrs, None),
            [Fact::Gate { gates, summed: false }] if *def == REDUCE_SUM => self.summed(attrs, *gates),
            [Fact::Mask(axes)] if *def == RESHAPE && plain(axes) && self.lead == self.rank() => {
                self.of_rows(id, None)
            }
            [Fact::Gate { gates, summed: true }] if *def == RESHAPE => self.of_rows(id, *gates),
            [fact @ Fact::Gate { summed: true, .. }] if *def == CAST => {
                self.b.ty(id.into()).dtype.is_float().then(|| fact.clone())
            }
            _ => None,
        }
    }

    /// Gates where the ids are the link's number. Without an axis of choices there is nothing to sum.
    fn gate_of(&self, gates: Option<Value>) -> Fact {
        Fact::Gate { gates, summed: self.lead == self.rank() }
    }

    /// The sum over a token's choices.
    fn summed(&self, attrs: &Attrs, gates: Option<Value>) -> Option<Fact> {
        let last = self.rank().checked_sub(1).filter(|&last| last == self.lead)?;
        let over_choices = match attrs.get(AXES)[..] {
            [axis] => normalize_axis(axis, self.rank()) == Ok(last),
            _ => false,
        };
        over_choices.then_some(Fact::Gate { gates, summed: true })
    }

    /// One gate for each row, whatever axes of size 1 it has besides.
    fn of_rows(&self, id: NodeId, gates: Option<Value>) -> Option<Fact> {
        let (rows, ones) = self.b.ty(id.into()).shape.split_at_checked(self.lead)?;
        let fits = rows == &self.sizes()[..self.lead] && ones.iter().all(|size| size.is(1));
        fits.then_some(Fact::Gate { gates, summed: true })
    }

    /// Rows times the gates that select those of the link.
    pub(super) fn gated(&self, id: NodeId, def: &OpDef, facts: &[Fact]) -> Option<Fact> {
        let operands = self.graph().operands(id);
        let (y, gate, of) = match facts {
            [Fact::Slots(y), gate] if *def == MUL => (*y, gate, operands[1]),
            [gate, Fact::Slots(y)] if *def == MUL => (*y, gate, operands[0]),
            [gate @ Fact::Gate { gates: None, .. }, Fact::Slots(y), Fact::Same(other)]
                if *def == WHERE && is_number(self.graph(), *other, 0.0) =>
            {
                (*y, gate, operands[0])
            }
            _ => return None,
        };
        let gates = match gate {
            Fact::Gate { gates, summed: true } => *gates,
            Fact::Part { of, axis, kept: true, numbers } => Some(self.dense_gates(*of, *axis, numbers)?),
            _ => return None,
        };
        let shape = &self.b.ty(of).shape;
        let ones = shape.get(self.lead..).is_some_and(|ones| ones.iter().all(|size| size.is(1)));
        let each_row = ones && shape.len() == self.b.ty(id.into()).rank();
        (self.all_rows && each_row).then_some(Fact::Gated { y, gates })
    }

    /// The gates that were put into a row of zeros for each token, at the places of their experts.
    fn dense_gates(&self, of: Value, axis: usize, numbers: &[i64]) -> Option<Value> {
        let routing = self.routing.as_ref()?;
        let (ids, gates) = scattered_gates(self.graph(), of)?;
        (ids == routing.ids && axis == self.lead && routing.is_order(numbers)).then_some(gates)
    }
}

/// The ids and the gates of a value that has those for a token's choices and zeros for other experts.
pub(super) fn scattered_gates(graph: &Graph, value: Value) -> Option<(Value, Value)> {
    let (_, attrs) = graph.node(value.node).op().filter(|(def, _)| **def == SCATTER_ELEMENTS)?;
    let [zeros, ids, gates] = graph.operands(value.node)[..] else { return None };
    let last = graph.ty(value).rank().checked_sub(1)?;
    let along = normalize_axis(attrs.get(scatter_elements::AXIS), last + 1) == Ok(last);
    // Each place is chosen at most once.
    let whole = graph.ty(ids).shape[..last] == graph.ty(value).shape[..last];
    let puts = matches!(attrs.get(REDUCTION).as_str(), "none" | "add");
    (along && distinct(graph, ids) && whole && puts && is_number(graph, zeros, 0.0)).then_some((ids, gates))
}
