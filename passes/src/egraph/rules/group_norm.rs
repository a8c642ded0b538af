//! Norms of groups of channels, where a graph spells them out with reshapes.

use egg::Id;
use ir::op::normalize_axis;
use ops::math::add::ADD;
use ops::math::mul::MUL;
use ops::norm::group_norm::{GROUP_NORM, GROUPS};
use ops::norm::instance_norm::INSTANCE_NORM;
use ops::norm::layer_norm::LAYER_NORM;
use ops::norm::{AXES, EPSILON};
use ops::shape::reshape::RESHAPE;

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "group-norm",
    summary: "a layer or instance norm of x with its channels in groups, back in the shape of x, is group_norm(x)",
    set: Set::Raise,
    exactness: Exactness::Reassociating,
    anchor: &[&RESHAPE],
    obligations: &[CHANNELS, NEUTRAL],
    apply: group_norm,
}];

const CHANNELS: &str = "every group has the same number of whole channels";
const NEUTRAL: &str = "groups are neither scaled nor shifted: exporters do that with ones and zeros";

fn group_norm(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let back = node.operands()[0];
    let y = without_neutral(m, back);
    let Some((grouped, epsilon)) = normalised(m, y) else {
        return Err(scaled_groups(m, class, y).map_or(Stop::Other, Stop::Missed));
    };
    let groups = groups(m, class, grouped)?;
    let (x, _) = m.find(&RESHAPE, grouped).ok_or(Stop::Other)?;
    m.covers(back);
    m.covers(y);
    m.covers(grouped);
    let norm = m.op_with(&GROUP_NORM, &[x[0]], [GROUPS.is(groups), EPSILON.is(epsilon)])?;
    Ok(vec![(class, norm)])
}

/// How many groups there are, if a value is one of the type of `class` with its channels in groups.
fn groups(m: &Match, class: Id, grouped: Id) -> Result<i64, Stop> {
    let (x, _) = m.find(&RESHAPE, grouped).ok_or(Stop::Other)?;
    let (shape, split) = (m.shape(class), m.shape(grouped));
    if m.ty(x[0]) != m.ty(class) || shape.len() < 2 || split.len() < 3 || shape[0] != split[0] {
        return Err(Stop::Other);
    }
    let groups = split[1].as_const().ok_or(Stop::Other)?;
    if shape[1].exact_div(&split[1]).is_none() {
        return Err(Missed::new(CHANNELS, format!("{groups} groups of {} channels", shape[1])).into());
    }
    Ok(groups)
}

/// A value before products with 1 and sums with 0.
fn without_neutral(m: &Match, y: Id) -> Id {
    let mut y = y;
    for (op, neutral) in [(&ADD, 0.0), (&MUL, 1.0)] {
        let found = m.uses_of(op, y).into_iter().find_map(|(of, _)| {
            let x = if m.number(of[1]) == Some(neutral) { of[0] } else { of[1] };
            let other = if m.same(x, of[0]) { of[1] } else { of[0] };
            (m.number(other) == Some(neutral) && m.ty(x) == m.ty(y)).then_some(x)
        });
        y = found.unwrap_or(y);
    }
    y
}

/// What is normalised over all axes but the first two, and ε.
fn normalised(m: &Match, y: Id) -> Option<(Id, f64)> {
    if let Some((of, attrs)) = m.find(&INSTANCE_NORM, y) {
        return Some((of[0], attrs.get(EPSILON)));
    }
    let rank = m.ty(y).rank();
    m.uses_of(&LAYER_NORM, y).into_iter().find_map(|(of, attrs)| {
        let axes = attrs.get(AXES).into_iter().map(|axis| normalize_axis(axis, rank).ok());
        let mut axes: Vec<usize> = axes.collect::<Option<_>>()?;
        axes.sort_unstable();
        (axes == (2..rank).collect::<Vec<_>>()).then(|| (of[0], attrs.get(EPSILON)))
    })
}

/// What is missing, where groups are normalised and then scaled or shifted.
fn scaled_groups(m: &Match, class: Id, y: Id) -> Option<Missed> {
    let operands = |y: Id| {
        let all = [&ADD, &MUL].into_iter().flat_map(move |op| m.uses_of(op, y));
        all.flat_map(|(of, _)| of).collect::<Vec<Id>>()
    };
    let inside = operands(y).into_iter().flat_map(|y| [vec![y], operands(y)].concat());
    let found =
        inside.filter_map(|y| normalised(m, y)).find(|(grouped, _)| groups(m, class, *grouped).is_ok());
    found.map(|_| Missed::new(NEUTRAL, m.describe(y)))
}
