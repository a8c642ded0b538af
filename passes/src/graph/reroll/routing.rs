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

/// A one-hot encoding: what is encoded, and for each of its axes which of that it is; the axis of classes is none.
pub(super) fn one_hot(graph: &Graph, value: Value) -> Option<(Value, Vec<Option<usize>>)> {
    let (def, attrs) = graph.node(value.node).op()?;
    let operands = graph.operands(value.node);
    if *def == TRANSPOSE {
        let (ids, axes) = one_hot(graph, operands[0])?;
        let perm = attrs.get(PERM);
        return Some((ids, perm.iter().map(|&axis| axes[axis as usize]).collect()));
    }
    if *def == CAST {
        return one_hot(graph, operands[0]);
    }
    if *def == WHERE {
        let is = |value: Value, wanted: f64| {
            constant(graph, value).is_some_and(|weight| weight.values().all(|x| x.to_f64() == wanted))
        };
        return if is(operands[1], 1.0) && is(operands[2], 0.0) { one_hot(graph, operands[0]) } else { None };
    }
    if *def != EQ {
        return None;
    }
    let counts = |value: Value| {
        constant(graph, value).is_some_and(|weight| {
            weight.shape().last() == Some(&weight.elements())
                && weight.values().enumerate().all(|(at, x)| x.to_i64() == at as i64)
        })
    };
    let &[ids] = &operands.iter().copied().filter(|&value| !counts(value)).collect::<Vec<_>>()[..] else {
        return None;
    };
    let rank = graph.ty(ids).rank();
    let result = &graph.node(value.node).types[0];
    if rank == 0 || result.rank() != rank || !graph.ty(ids).shape[rank - 1].is(1) {
        return None;
    }
    // The ids have one more axis, for the classes.
    let (def, _) = graph.node(ids.node).op()?;
    let inner = graph.operands(ids.node);
    let flat = *def == RESHAPE && graph.ty(inner[0]).shape[..] == graph.ty(ids).shape[..rank - 1];
    flat.then(|| {
        (from_front(graph, inner[0]), (0..rank).map(|axis| Some(axis).filter(|_| axis + 1 < rank)).collect())
    })
}

/// Ids without what negative ones would count from the end by: a router has none.
fn from_front(graph: &Graph, ids: Value) -> Value {
    let positive = || {
        graph.node(ids.node).op().filter(|(def, _)| **def == WHERE)?;
        let [negative, wrapped, plain] = graph.operands(ids.node)[..] else { return None };
        let (test, _) = graph.node(negative.node).op()?;
        let (sum, _) = graph.node(wrapped.node).op()?;
        let tests = graph.operands(negative.node);
        let zero = |weight: &Weight| weight.values().all(|x| x.to_i64() == 0);
        let below = tests[0] == plain && constant(graph, tests[1]).is_some_and(zero);
        let added = graph.operands(wrapped.node).contains(&plain);
        let wraps = *test == LT && *sum == ADD && below && added;
        wraps.then_some(plain)
    };
    positive().unwrap_or(ids)
}

/// The weight that a value is, also where it was given another shape since.
pub(super) fn constant(graph: &Graph, value: Value) -> Option<&Weight> {
    let node = graph.node(value.node);
    match node.op() {
        Some((def, _)) if *def == BROADCAST => constant(graph, *graph.operands(value.node).first()?),
        Some(_) => None,
        None => node.weight(),
    }
}
