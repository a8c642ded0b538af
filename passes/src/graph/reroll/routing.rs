//! Who goes to which expert: what masks of single experts say of the router's choices.

use ir::graph::Value;
use ir::op::normalize_axis;
use ir::{DType, Graph, Weight};
use ops::math::add::ADD;
use ops::math::cast::{CAST, TO};
use ops::math::eq::EQ;
use ops::math::lt::LT;
use ops::math::r#where::WHERE;
use ops::order::topk::{self, TOPK};
use ops::reduce::arg_max::ARG_MAX;
use ops::reduce::arg_min::ARG_MIN;
use ops::reduce::position;
use ops::shape::broadcast::BROADCAST;
use ops::shape::reshape::RESHAPE;
use ops::shape::slice::SLICE;
use ops::shape::transpose::{PERM, TRANSPOSE};

use crate::graph::stored::stored;

/// How many experts a router chooses these ids from: they are positions along an axis of that size.
pub(super) fn experts(graph: &Graph, ids: Value) -> Option<i64> {
    let mut value = ids;
    loop {
        let (def, attrs) = graph.node(value.node).op()?;
        let from = *graph.operands(value.node).first()?;
        let axis = match def {
            _ if *def == TOPK && value.result == 1 => attrs.get(topk::AXIS),
            _ if *def == ARG_MAX || *def == ARG_MIN => attrs.get(position::AXIS),
            // Elements are moved, not changed.
            _ if [&RESHAPE, &TRANSPOSE, &SLICE, &BROADCAST].contains(&def) => {
                value = from;
                continue;
            }
            _ if *def == CAST && matches!(attrs.get(TO), DType::I32 | DType::I64) => {
                value = from;
                continue;
            }
            _ => return None,
        };
        let shape = &graph.ty(from).shape;
        return shape[normalize_axis(axis, shape.len()).ok()?].as_const();
    }
}

/// Do the choices along the last axis differ?
pub(super) fn distinct(graph: &Graph, mut ids: Value) -> bool {
    loop {
        let Some((def, attrs)) = graph.node(ids.node).op() else { return false };
        let Some(&from) = graph.operands(ids.node).first() else { return false };
        let (now, before) = (&graph.ty(ids).shape, &graph.ty(from).shape);
        if *def == TOPK {
            return ids.result == 1 && normalize_axis(attrs.get(topk::AXIS), now.len()) == Ok(now.len() - 1);
        }
        // Rows stay what they are.
        let same = *def == CAST && matches!(attrs.get(TO), DType::I32 | DType::I64)
            || *def == RESHAPE && now.last() == before.last();
        if !same {
            return false;
        }
        ids = from;
    }
}

/// A one-hot encoding: what is encoded, and for each of its axes which of that it is; the axis of classes is none.
pub(super) fn one_hot(graph: &Graph, mut value: Value) -> Option<(Value, Vec<Option<usize>>)> {
    // For each axis, which it was before the axes got another order.
    let mut axes: Vec<usize> = (0..graph.ty(value).rank()).collect();
    let [a, b] = loop {
        let (def, attrs) = graph.node(value.node).op()?;
        let operands = graph.operands(value.node);
        value = match operands[..] {
            [x] if *def == TRANSPOSE => {
                let perm = attrs.get(PERM);
                axes = axes.iter().map(|&axis| perm[axis] as usize).collect();
                x
            }
            [x] if *def == CAST => x,
            [c, one, zero] if *def == WHERE && is_number(graph, one, 1.0) && is_number(graph, zero, 0.0) => c,
            [a, b] if *def == EQ => break [a, b],
            _ => return None,
        };
    };
    let ids = if counts_up(graph, a) { b } else { Some(a).filter(|_| counts_up(graph, b))? };
    let classes = graph.ty(ids).rank().checked_sub(1)?;
    // The ids have one more axis, for the classes.
    let ids = from_front(graph, ids);
    let (def, _) = graph.node(ids.node).op()?;
    let flat = *graph.operands(ids.node).first().filter(|_| *def == RESHAPE)?;
    let [own @ .., one] = &graph.ty(ids).shape[..] else { return None };
    let fits = axes.len() == classes + 1 && one.is(1) && graph.ty(flat).shape[..] == *own;
    let axes = axes.into_iter().map(|axis| Some(axis).filter(|&axis| axis < classes)).collect();
    fits.then(|| (from_front(graph, flat), axes))
}

/// Is it 0, 1, 2, … along its last axis?
fn counts_up(graph: &Graph, value: Value) -> bool {
    constant(graph, value).is_some_and(|weight| {
        weight.shape().last() == Some(&weight.elements())
            && weight.values().enumerate().all(|(at, x)| x.to_i64() == at as i64)
    })
}

/// Is it this number everywhere?
pub(super) fn is_number(graph: &Graph, value: Value, number: f64) -> bool {
    constant(graph, value).is_some_and(|weight| weight.values().all(|x| x.to_f64() == number))
}

/// Ids without what negative ones would count from the end by: a router has none.
fn from_front(graph: &Graph, ids: Value) -> Value {
    let positive = || {
        graph.node(ids.node).op().filter(|(def, _)| **def == WHERE)?;
        let [negative, wrapped, plain] = graph.operands(ids.node)[..] else { return None };
        let (test, _) = graph.node(negative.node).op()?;
        let (sum, _) = graph.node(wrapped.node).op()?;
        let tests = graph.operands(negative.node);
        let below = tests[0] == plain && is_number(graph, *tests.get(1)?, 0.0);
        let added = graph.operands(wrapped.node).contains(&plain);
        let wraps = *test == LT && *sum == ADD && below && added;
        wraps.then_some(plain)
    };
    positive().unwrap_or(ids)
}

/// The weight that a value is, also where it is cast from what is stored.
pub(super) fn weight(graph: &Graph, value: Value) -> Option<Weight> {
    graph.node(value.node).weight().cloned().or_else(|| stored(graph, value))
}

/// The weight that a value is, also where its elements are given several times.
pub(crate) fn constant(graph: &Graph, mut value: Value) -> Option<&Weight> {
    while let Some((def, _)) = graph.node(value.node).op() {
        value = graph.operands(value.node).first().copied().filter(|_| *def == BROADCAST)?;
    }
    graph.node(value.node).weight()
}
