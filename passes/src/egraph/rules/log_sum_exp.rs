//! Logarithms of sums of exponentials.

use egg::Id;
use ir::Dim;
use ir::op::normalize_axis;
use ops::math::add::ADD;
use ops::math::exp::EXP;
use ops::math::is_inf::IS_INF;
use ops::math::log::LOG;
use ops::math::max::MAX;
use ops::math::mul::MUL;
use ops::math::sub::SUB;
use ops::math::r#where::WHERE;
use ops::norm::AXIS;
use ops::norm::log_softmax::LOG_SOFTMAX;
use ops::norm::softmax::SOFTMAX;
use ops::reduce::along::{AXES, KEEP_DIMS};
use ops::reduce::reduce_max::REDUCE_MAX;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::reshape::{RESHAPE, SHAPE};

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "log-sum-exp",
        summary: "ln Σ exp(x) is m + ln Σ exp(x − m), m being the largest x, which cannot overflow",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&LOG],
        obligations: &[],
        apply: of_sum,
    },
    Rule {
        name: "log-weighted-exp",
        summary: "ln Σ softmax(s) · exp(f) is ln Σ exp(s + f) − ln Σ exp(s), shifted so that it cannot overflow",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&LOG],
        obligations: &[SAME_AXIS],
        apply: of_weighted,
    },
    Rule {
        name: "log-add-exp",
        summary: "ln(exp(a) + exp(b)) is m + ln(exp(a − m) + exp(b − m)), m being the larger, which cannot overflow",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&LOG],
        obligations: &[SAME_AXIS],
        apply: of_two,
    },
    Rule {
        name: "log-softmax",
        summary: "ln softmax(x), and x − ln Σ exp(x) with or without a shift, is log_softmax(x)",
        set: Set::Raise,
        exactness: Exactness::Reassociating,
        anchor: &[&LOG, &SUB],
        obligations: &[],
        apply: log_softmax,
    },
];

const SAME_AXIS: &str = "the sum and the softmax run along one axis";

fn of_sum(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let sum = node.operands()[0];
    let (x, axes, keep) = exponentials(m, sum).ok_or(Stop::Other)?;
    if is_shifted(m, x) {
        return Err(Stop::Other);
    }
    m.covers(sum);
    let y = log_sum_exp(m, x, &axes, keep)?;
    m.replaces(node);
    Ok(vec![(class, y)])
}

fn of_weighted(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let sum = node.operands()[0];
    let y = weighted(m, sum)?.ok_or(Stop::Other)?;
    // Where the sum itself is needed, it follows.
    let exp = m.op(&EXP, &[y])?;
    m.replaces(node);
    Ok(vec![(class, y), (sum, exp)])
}

fn of_two(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let ty = m.ty(class).clone();
    let mut found = None;
    for (of, _) in m.uses_of(&ADD, node.operands()[0]) {
        if let (Some(a), Some(b)) = (exponent(m, of[0])?, exponent(m, of[1])?) {
            found = Some(([of[0], of[1]], [a, b]));
            break;
        }
    }
    let (values, [a, b]) = found.ok_or(Stop::Other)?;
    let shifted = |m: &Match, x: Id| m.find(&SUB, x).map(|(of, _)| of[1]);
    let done = shifted(m, a).is_some_and(|by| shifted(m, b).is_some_and(|other| m.same(by, other)));
    if done || m.ty(a) != &ty || m.ty(b) != &ty {
        return Err(Stop::Other);
    }
    let most = m.op(&MAX, &[a, b])?;
    let most = finite(m, most)?;
    let mut parts = Vec::new();
    for x in [a, b] {
        let below = m.op(&SUB, &[x, most])?;
        parts.push(m.op(&EXP, &[below])?);
    }
    let sum = m.op(&ADD, &parts)?;
    let log = m.op(&LOG, &[sum])?;
    let y = m.op(&ADD, &[log, most])?;
    let mut equal = vec![(class, y)];
    for (value, x) in values.into_iter().zip([a, b]) {
        equal.push((value, m.op(&EXP, &[x])?));
    }
    m.replaces(node);
    Ok(equal)
}

/// `x`, where a value is `exp(x)`, or a sum of exponentials with the weights of a softmax.
fn exponent(m: &mut Match, value: Id) -> Result<Option<Id>, Stop> {
    match m.find(&EXP, value) {
        Some((of, _)) => Ok(Some(of[0])),
        None => weighted(m, value),
    }
}

/// The logarithm of `Σ softmax(s) · exp(f)`.
fn weighted(m: &mut Match, value: Id) -> Result<Option<Id>, Stop> {
    let found = m.uses_of(&REDUCE_SUM, value).into_iter().find_map(|(of, attrs)| {
        let (pair, _) = m.find(&MUL, of[0])?;
        let either = |p: Id, e: Id| Some((m.find(&SOFTMAX, p)?, m.find(&EXP, e)?.0[0]));
        let ((s, softmax), f) = either(pair[0], pair[1]).or_else(|| either(pair[1], pair[0]))?;
        Some((s[0], f, softmax.get(AXIS), attrs))
    });
    let Some((s, f, axis, attrs)) = found else { return Ok(None) };
    if m.ty(s) != m.ty(f) {
        return Ok(None);
    }
    let (rank, axes) = (m.ty(s).rank(), attrs.get(AXES));
    let along = |axis: i64| normalize_axis(axis, rank).ok();
    if axes.len() != 1 || along(axes[0]) != along(axis) {
        return Err(Missed::new(SAME_AXIS, format!("a sum along {axes:?}, a softmax along {axis}")).into());
    }
    m.covers(value);
    let keep = attrs.get(KEEP_DIMS);
    // Written so that each step needs the one before: then all of it is one kernel.
    let (below, most) = shift(m, s, &axes)?;
    let all = log_sum(m, below, &axes, keep)?;
    let moved = m.op(&ADD, &[below, f])?;
    let more = m.op_with(&REDUCE_MAX, &[moved], [AXES.is(axes.clone())])?;
    let more = finite(m, more)?;
    let (both, shift) = (m.op(&ADD, &[s, f])?, m.op(&ADD, &[more, most])?);
    let both = m.op(&SUB, &[both, shift])?;
    let both = log_sum(m, both, &axes, keep)?;
    let quotient = m.op(&SUB, &[both, all])?;
    let more = without_axes(m, more, quotient)?;
    Ok(Some(m.op(&ADD, &[quotient, more])?))
}

/// `x`, the axes, and whether they stay, where a value is `Σ exp(x)`.
fn exponentials(m: &Match, sum: Id) -> Option<(Id, Vec<i64>, bool)> {
    m.uses_of(&REDUCE_SUM, sum).into_iter().find_map(|(of, attrs)| {
        let (x, _) = m.find(&EXP, of[0])?;
        Some((x[0], attrs.get(AXES), attrs.get(KEEP_DIMS)))
    })
}

/// Is a value something less largest elements?
fn is_shifted(m: &Match, x: Id) -> bool {
    m.uses_of(&SUB, x).into_iter().any(|(of, _)| is_largest(m, of[1], 2))
}

/// Is a value made of largest elements, where they are finite, and sums to this depth?
fn is_largest(m: &Match, value: Id, depth: usize) -> bool {
    let value = m.find(&WHERE, value).map_or(value, |(chosen, _)| chosen[2]);
    m.find(&REDUCE_MAX, value).is_some()
        || depth > 0
            && m.uses_of(&ADD, value).iter().any(|(of, _)| of.iter().all(|&id| is_largest(m, id, depth - 1)))
}

/// `m + ln Σ exp(x − m)`, as the importer of ReduceLogSumExp writes it.
fn log_sum_exp(m: &mut Match, x: Id, axes: &[i64], keep: bool) -> Result<Id, Stop> {
    let (below, most) = shift(m, x, axes)?;
    let log = log_sum(m, below, axes, keep)?;
    let most = without_axes(m, most, log)?;
    Ok(m.op(&ADD, &[log, most])?)
}

/// A value in the shape of another, which may lack axes of one element.
fn without_axes(m: &mut Match, value: Id, like: Id) -> Result<Id, Stop> {
    let shape = m.shape(like);
    if m.shape(value) == shape {
        return Ok(value);
    }
    Ok(m.op_with(&RESHAPE, &[value], [SHAPE.is(shape)])?)
}

/// `x − m` and `m`, the largest elements.
fn shift(m: &mut Match, x: Id, axes: &[i64]) -> Result<(Id, Id), Stop> {
    let most = m.op_with(&REDUCE_MAX, &[x], [AXES.is(axes.to_vec())])?;
    let most = finite(m, most)?;
    Ok((m.op(&SUB, &[x, most])?, most))
}

/// `ln Σ exp(x)`.
fn log_sum(m: &mut Match, x: Id, axes: &[i64], keep: bool) -> Result<Id, Stop> {
    let exps = m.op(&EXP, &[x])?;
    let sum = m.op_with(&REDUCE_SUM, &[exps], [AXES.is(axes.to_vec()), KEEP_DIMS.is(keep)])?;
    Ok(m.op(&LOG, &[sum])?)
}

/// The value, or 0 where it is infinite.
fn finite(m: &mut Match, x: Id) -> Result<Id, Stop> {
    let zero = m.scalar(m.ty(x).dtype, 0.0);
    let infinite = m.op(&IS_INF, &[x])?;
    Ok(m.op(&WHERE, &[infinite, zero, x])?)
}

fn log_softmax(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let is_log = node.op() == Some(&LOG);
    let found = if is_log { of_softmax(m, node) } else { less_sum(m, node) };
    let (x, axis, inner) = found.ok_or(Stop::Other)?;
    m.covers(inner);
    let y = m.op_with(&LOG_SOFTMAX, &[x], [AXIS.is(axis)])?;
    if m.ty(y) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, y)])
}

/// `x`, the axis and the softmax, where a node is `ln softmax(x)`.
fn of_softmax(m: &Match, node: &Node) -> Option<(Id, i64, Id)> {
    let softmax = node.operands()[0];
    let (of, attrs) = m.find(&SOFTMAX, softmax)?;
    Some((of[0], attrs.get(AXIS), softmax))
}

/// `x`, the axis and the logarithm, where a node is `x − ln Σ exp(x)`, with any shift of each row.
fn less_sum(m: &Match, node: &Node) -> Option<(Id, i64, Id)> {
    let [x, below] = node.operands()[..] else { return None };
    // (y − s) − ln Σ exp(y − s), for whatever s.
    if let Some(axis) = logarithm(m, below, x) {
        let y = shifted(m, x, axis).map_or(x, |(y, _)| y);
        return Some((y, axis, below));
    }
    // x − (s + ln Σ exp(x − s)).
    m.uses_of(&ADD, kept(m, below)).into_iter().find_map(|(of, _)| {
        [(of[0], of[1]), (of[1], of[0])].into_iter().find_map(|(log, by)| {
            let (sum, _) = m.find(&LOG, kept(m, log))?;
            let (less, axis) = summed_along(m, sum[0])?;
            let (y, shift) = shifted(m, less, axis)?;
            let fits = m.same(y, x) && m.same(kept(m, shift), kept(m, by)) && is_column(m, below, x, axis);
            fits.then_some((x, axis, below))
        })
    })
}

/// The axis where a value is `ln Σ exp(x)` in one column.
fn logarithm(m: &Match, value: Id, x: Id) -> Option<i64> {
    m.uses_of(&LOG, kept(m, value)).into_iter().find_map(|(sum, _)| {
        let (of, axis) = summed_along(m, sum[0])?;
        (m.same(of, x) && is_column(m, value, x, axis)).then_some(axis)
    })
}

/// `x` and the axis, counted from the end, where a value is `Σ exp(x)` along just one.
fn summed_along(m: &Match, sum: Id) -> Option<(Id, i64)> {
    let (x, axes, _) = exponentials(m, sum)?;
    let [axis] = axes[..] else { return None };
    let rank = m.ty(x).rank();
    Some((x, normalize_axis(axis, rank).ok()? as i64 - rank as i64))
}

/// `y` and `s`, where a value is `y − s`, `s` being one number for each row along the axis.
fn shifted(m: &Match, x: Id, axis: i64) -> Option<(Id, Id)> {
    let mut all = m.uses_of(&SUB, x).into_iter().map(|(of, _)| (of[0], of[1]));
    all.find(|&(y, by)| m.ty(y) == m.ty(x) && is_column(m, by, x, axis))
}

/// Has a value the shape of `x`, but one element along the axis?
fn is_column(m: &Match, value: Id, x: Id, axis: i64) -> bool {
    let mut shape = m.shape(x);
    let Ok(axis) = normalize_axis(axis, shape.len()) else { return false };
    shape[axis] = Dim::constant(1);
    m.shape(value) == shape
}

/// What a value is before an axis of one element is put in or left out.
fn kept(m: &Match, value: Id) -> Id {
    m.find(&RESHAPE, value).map_or(value, |(of, _)| of[0])
}
