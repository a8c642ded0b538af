//! What is known of ids: that they are those of experts, and that those of a token differ.

use egg::Id;
use ir::op::normalize_axis;
use ir::{DType, Dim};
use ops::math::cast::CAST;
use ops::math::lt::LT;
use ops::math::r#where::WHERE;
use ops::order::topk::{self, TOPK};
use ops::reduce::arg_max::ARG_MAX;
use ops::reduce::arg_min::ARG_MIN;
use ops::reduce::position;
use ops::shape::broadcast::BROADCAST;
use ops::shape::gather::GATHER;
use ops::shape::reshape::RESHAPE;
use ops::shape::slice::SLICE;
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::roles::{Role, before_reshape};
use super::routing::is_all;
use crate::egraph::language::{Head, Node};
use crate::egraph::rewrite::Match;

/// So many ops may stand between ids and what gives them.
const DEEPEST: usize = 16;

/// Are all elements ids of experts?
pub(super) fn are_in_range(m: &Match, ids: Id, count: &Dim, depth: usize) -> bool {
    if let (Some(weight), Some(count)) = (m.value(ids), count.as_const()) {
        return weight.dtype().is_int() && weight.values().all(|value| (0..count).contains(&value.to_i64()));
    }
    let nodes = m.nodes(ids);
    nodes.iter().filter(|_| depth < DEEPEST).any(|node| {
        let inside = |at: usize| are_in_range(m, node.operands()[at], count, depth + 1);
        match (node.head(), node.op()) {
            (Head::Result(1), _) => topk_axis(m, node).is_some_and(|(axis, x)| m.ty(x).shape[axis] == *count),
            (_, Some(def)) if def == &ARG_MAX || def == &ARG_MIN => {
                let x = &m.ty(node.operands()[0]).shape;
                let axis = normalize_axis(m.attrs(node).get(position::AXIS), x.len());
                axis.is_ok_and(|axis| x[axis] == *count)
            }
            (_, Some(def)) if def == &CAST => names_experts(m.ty(ids).dtype) && inside(0),
            (_, Some(def)) if [&RESHAPE, &TRANSPOSE, &SLICE, &BROADCAST, &GATHER].contains(&def) => inside(0),
            (_, Some(def)) if def == &WHERE => is_never_below_zero(m, node) && inside(2),
            _ => false,
        }
    })
}

/// Do the ids of experts keep their values in this type?
fn names_experts(dtype: DType) -> bool {
    matches!(dtype, DType::I32 | DType::I64 | DType::F32)
}

/// `where(x < 0, …, x)`.
pub(super) fn is_never_below_zero(m: &Match, node: &Node) -> bool {
    let [condition, _, x] = node.operands()[..] else { return false };
    m.uses_of(&LT, condition).into_iter().any(|(of, _)| m.same(of[0], x) && is_all(m, of[1], 0.0))
}

/// The axis of the `topk` of which a node is a result, and what it orders.
fn topk_axis(m: &Match, node: &Node) -> Option<(usize, Id)> {
    let (of, attrs) = m.find(&TOPK, node.operands()[0])?;
    let axis = normalize_axis(attrs.get(topk::AXIS), m.ty(of[0]).rank()).ok()?;
    Some((axis, of[0]))
}

/// Are the elements along an axis pairwise distinct: places that a `topk` gives?
pub(super) fn are_distinct(m: &Match, ids: Id, axis: usize, depth: usize) -> bool {
    m.nodes(ids).iter().filter(|_| depth < DEEPEST).any(|node| {
        let inside = |axis: usize| are_distinct(m, node.operands()[0], axis, depth + 1);
        match (node.head(), node.op()) {
            (Head::Result(1), _) => topk_axis(m, node).is_some_and(|(along, _)| along == axis),
            (_, Some(def)) if def == &SLICE => inside(axis),
            (_, Some(def)) if def == &CAST => names_experts(m.ty(ids).dtype) && inside(axis),
            (_, Some(def)) if def == &TRANSPOSE => {
                let perm: Vec<i64> = m.attrs(node).get(PERM);
                inside(perm[axis] as usize)
            }
            (_, Some(def)) if def == &RESHAPE => {
                let marks: Vec<Role> = (0..m.ty(ids).rank())
                    .map(|at| if at == axis { Role::Slot } else { Role::Row(at) })
                    .collect();
                let before = before_reshape(&m.shape(node.operands()[0]), &m.shape(ids), &marks);
                let at = before.and_then(|before| before.roles.iter().position(|&role| role == Role::Slot));
                at.is_some_and(inside)
            }
            _ => false,
        }
    })
}
