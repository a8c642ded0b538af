//! Recognises softmax where a graph spells it out.

use egg::Id;
use ir::op::normalize_axis;
use ops::math::div::DIV;
use ops::math::exp::EXP;
use ops::math::mul::MUL;
use ops::math::reciprocal::RECIPROCAL;
use ops::math::sub::SUB;
use ops::norm::AXIS;
use ops::norm::softmax::SOFTMAX;
use ops::reduce::along::AXES;
use ops::reduce::reduce_max::REDUCE_MAX;
use ops::reduce::reduce_sum::REDUCE_SUM;

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::Match;

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "softmax-from-quotient",
        summary: "exp(x − max x) / Σ exp(x − max x) is softmax(x)",
        set: Set::Raise,
        exactness: Exactness::Exact,
        anchor: &[&DIV],
        obligations: &[],
        apply: from_quotient,
    },
    Rule {
        name: "softmax-unshifted",
        summary: "exp(x) / Σ exp(x), also as a product with the reciprocal, is softmax(x), which cannot overflow",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&DIV, &MUL],
        obligations: &[],
        apply: unshifted,
    },
    Rule {
        name: "softmax-of-shifted",
        summary: "softmax(x − max x) is softmax(x), which subtracts the largest element itself",
        set: Set::Raise,
        exactness: Exactness::Exact,
        anchor: &[&SOFTMAX],
        obligations: &[],
        apply: of_shifted,
    },
];

fn from_quotient(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let (exps, axis) = normalised(m, node).ok_or(Stop::Other)?;
    let shifted = m.find(&EXP, exps).ok_or(Stop::Other)?.0[0];
    let x = unshift(m, shifted, axis).ok_or(Stop::Other)?;
    m.covers(exps);
    m.covers(shifted);
    let softmax = m.op_with(&SOFTMAX, &[x], [AXIS.is(axis)])?;
    Ok(vec![(class, softmax)])
}

fn unshifted(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let (exps, axis) = normalised(m, node).ok_or(Stop::Other)?;
    let x = m.find(&EXP, exps).ok_or(Stop::Other)?.0[0];
    m.covers(exps);
    let x = unshift(m, x, axis).unwrap_or(x);
    let softmax = m.op_with(&SOFTMAX, &[x], [AXIS.is(axis)])?;
    Ok(vec![(class, softmax)])
}

fn of_shifted(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let (shifted, axis) = (node.operands()[0], m.attrs(node).get(AXIS));
    let rank = m.ty(shifted).rank();
    let axis = normalize_axis(axis, rank)? as i64 - rank as i64;
    let x = unshift(m, shifted, axis).ok_or(Stop::Other)?;
    m.covers(shifted);
    let softmax = m.op_with(&SOFTMAX, &[x], [AXIS.is(axis)])?;
    Ok(vec![(class, softmax)])
}

/// What a quotient divides by its sum along one axis, and the axis, counted from the end.
pub(super) fn normalised(m: &Match, node: &Node) -> Option<(Id, i64)> {
    quotients(m, node).into_iter().find_map(|(x, divisor)| Some((x, sum_along(m, x, divisor)?)))
}

/// What a quotient divides by what, also as a product with the reciprocal.
pub(super) fn quotients(m: &Match, node: &Node) -> Vec<(Id, Id)> {
    let [a, b] = node.operands() else { return Vec::new() };
    if node.op() == Some(&DIV) {
        return vec![(*a, *b)];
    }
    let by = |(x, inverse): (Id, Id)| m.find(&RECIPROCAL, inverse).map(|(operands, _)| (x, operands[0]));
    [(*a, *b), (*b, *a)].into_iter().filter_map(by).collect()
}

/// The axis, counted from the end, along which a value is the sum of `x`.
pub(super) fn sum_along(m: &Match, x: Id, sum: Id) -> Option<i64> {
    m.uses_of(&REDUCE_SUM, sum).into_iter().find_map(|(operands, attrs)| {
        let [axis] = attrs.get(AXES)[..] else { return None };
        let rank = m.ty(x).rank();
        let axis = normalize_axis(axis, rank).ok()? as i64 - rank as i64;
        // A sum that lost its axis would broadcast along another one.
        let stays = m.ty(sum).rank() == rank;
        (m.same(operands[0], x) && stays).then_some(axis)
    })
}

/// `x`, where the value is `x − max x` along the axis.
fn unshift(m: &Match, shifted: Id, axis: i64) -> Option<Id> {
    m.uses_of(&SUB, shifted).into_iter().find_map(|(operands, _)| {
        let [x, most] = operands[..] else { return None };
        let rank = m.ty(x).rank() as i64;
        let is_max = m.uses_of(&REDUCE_MAX, most).into_iter().any(|(of, attrs)| {
            let same_axis = matches!(attrs.get(AXES)[..], [a] if a == axis || a == axis + rank);
            m.same(of[0], x) && same_axis && m.ty(most).rank() as i64 == rank
        });
        is_max.then_some(x)
    })
}
