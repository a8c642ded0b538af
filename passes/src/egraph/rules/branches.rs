//! Branches of one input become one: convolutions that are added up.

use egg::Id;
use ir::Dim;
use ir::attr::Attrs;
use ops::linalg::conv::{CONV, GROUPS};
use ops::math::add::ADD;
use ops::shape::pad::{self, PAD};
use ops::shape::reshape::{RESHAPE, SHAPE};
use ops::window::{DILATIONS, HIGH, LOW, STRIDES};

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "sum-of-convolutions",
    summary: "convolutions of one input with kernels of any sizes and dilations, added up, are one with the sum of these kernels",
    set: Set::Raise,
    exactness: Exactness::Reassociating,
    anchor: &[&ADD],
    obligations: &[SAME_STEPS, KNOWN],
    apply: sum,
}];

const SAME_STEPS: &str = "the convolutions have the same strides and groups";
const KNOWN: &str = "kernels are constants, and their padding is known";

/// So many terms may a sum have.
const MOST: usize = 16;

/// A convolution among the terms of a sum.
struct Branch {
    x: Id,
    weights: Id,
    attrs: Attrs,
}

/// A kernel along an axis: elements, the distance between two of them, and padding.
struct Along {
    size: i64,
    dilation: i64,
    low: i64,
    high: i64,
}

impl Along {
    /// Places from the first element to the one behind the last.
    fn extent(&self) -> i64 {
        (self.size - 1) * self.dilation + 1
    }
}

fn sum(m: &mut Match, class: Id, _: &Node) -> Result<Equal, Stop> {
    let mut terms = Vec::new();
    collect(m, class, &mut terms);
    let branch = |m: &Match, term: Id| {
        let (of, attrs) = m.find(&CONV, term).filter(|_| m.ty(term) == m.ty(class))?;
        Some(Branch { x: of[0], weights: of[1], attrs })
    };
    let all: Vec<(Id, Branch)> = terms.iter().filter_map(|&term| Some((term, branch(m, term)?))).collect();
    let of_one_input = |(_, first): &(Id, Branch)| {
        all.iter().filter(|(_, other)| m.same(first.x, other.x)).collect::<Vec<_>>()
    };
    let merged = all.iter().map(of_one_input).find(|merged| merged.len() > 1).ok_or(Stop::Other)?;
    let steps = |branch: &Branch| (branch.attrs.get(STRIDES), branch.attrs.get(GROUPS));
    if merged.iter().any(|(_, other)| steps(other) != steps(&merged[0].1)) {
        return Err(Missed::new(SAME_STEPS, m.describe(merged[0].0)).into());
    }
    let branches: Vec<&Branch> = merged.iter().map(|(_, branch)| branch).collect();
    let mut result = joined(m, &branches)?;
    let rest = terms.into_iter().filter(|term| merged.iter().all(|(conv, _)| conv != term));
    let (constants, rest): (Vec<Id>, Vec<Id>) = rest.partition(|&term| m.is_constant(term));
    merged.iter().for_each(|(conv, _)| m.covers(*conv));
    let mut bias: Option<Id> = None;
    for constant in constants {
        bias = Some(match bias {
            None => constant,
            Some(sum) => m.op(&ADD, &[sum, constant])?,
        });
    }
    for term in bias.into_iter().chain(rest) {
        result = m.op(&ADD, &[result, term])?;
    }
    if m.ty(result) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, result)])
}

/// The terms of a sum.
fn collect(m: &Match, id: Id, terms: &mut Vec<Id>) {
    match m.find(&ADD, id).filter(|_| !m.is_constant(id) && terms.len() < MOST) {
        Some((of, _)) => of.into_iter().for_each(|term| collect(m, term, terms)),
        None => terms.push(id),
    }
}

/// The convolution with the sum of the kernels, each at its place.
fn joined(m: &mut Match, branches: &[&Branch]) -> Result<Id, Stop> {
    let axes: Vec<Vec<Along>> = branches.iter().map(|branch| along(m, branch)).collect::<Result<_, _>>()?;
    let (mut dilations, mut low, mut high) = (Vec::new(), Vec::new(), Vec::new());
    let mut sizes = Vec::new();
    for axis in 0..axes[0].len() {
        let all = || axes.iter().map(move |axes| &axes[axis]);
        let first = &axes[0][axis];
        let before = all().map(|along| along.low).max().unwrap_or(0);
        let behind = all().map(|along| along.extent() - along.low).max().unwrap_or(0);
        let step = first.dilation;
        let even = all().all(|along| along.dilation == step && (before - along.low) % step == 0);
        let dilation = if even { step } else { 1 };
        dilations.push(dilation);
        sizes.push((before + behind - 1) / dilation + 1);
        low.push(before);
        // As many windows as with the first kernel.
        high.push(first.low + first.high - first.extent() + behind);
    }
    let mut sum: Option<Id> = None;
    for (branch, axes) in branches.iter().zip(&axes) {
        let mut weights = branch.weights;
        for (axis, along) in axes.iter().enumerate() {
            let place = (low[axis] - along.low) / dilations[axis];
            weights = placed(m, weights, axis + 2, along.dilation / dilations[axis], place, sizes[axis])?;
        }
        sum = Some(match sum {
            None => weights,
            Some(sum) => m.op(&ADD, &[sum, weights])?,
        });
    }
    let dims = |numbers: Vec<i64>| numbers.into_iter().map(Dim::constant).collect::<Vec<_>>();
    let attrs = &branches[0].attrs;
    let attrs = [
        STRIDES.is(attrs.get(STRIDES)),
        DILATIONS.is(dilations),
        LOW.is(dims(low)),
        HIGH.is(dims(high)),
        GROUPS.is(attrs.get(GROUPS)),
    ];
    Ok(m.op_with(&CONV, &[branches[0].x, sum.ok_or(Stop::Other)?], attrs)?)
}

/// The kernel along each axis.
fn along(m: &Match, branch: &Branch) -> Result<Vec<Along>, Stop> {
    let attrs = &branch.attrs;
    let shape = m.shape(branch.weights);
    let each = attrs.get(DILATIONS).into_iter().zip(attrs.get(LOW).into_iter().zip(attrs.get(HIGH)));
    let all = shape[2..].iter().zip(each).map(|(size, (dilation, (low, high)))| {
        let size = size.as_const().filter(|&size| size > 0)?;
        Some(Along { size, dilation, low: low.as_const()?, high: high.as_const()? })
    });
    let all: Option<Vec<Along>> = all.collect();
    all.filter(|_| m.is_constant(branch.weights))
        .ok_or_else(|| Missed::new(KNOWN, m.describe(branch.weights)).into())
}

/// A kernel along an axis with its elements `step` apart, from this place on, in so many.
fn placed(m: &mut Match, weights: Id, axis: usize, step: i64, place: i64, size: i64) -> Result<Id, Stop> {
    let mut weights = weights;
    let mut shape = m.shape(weights);
    let zero = m.scalar(m.ty(weights).dtype, 0.0);
    let padded = |m: &mut Match, weights: Id, axis: usize, [low, high]: [i64; 2]| {
        let none = vec![Dim::constant(0); m.ty(weights).rank()];
        let at = |amount: i64| {
            let mut amounts = none.clone();
            amounts[axis] = Dim::constant(amount);
            amounts
        };
        m.op_with(&PAD, &[weights, zero], [pad::LOW.is(at(low)), pad::HIGH.is(at(high))])
    };
    if step > 1 {
        let mut apart = shape.clone();
        apart.insert(axis + 1, Dim::constant(1));
        let column = m.op_with(&RESHAPE, &[weights], [SHAPE.is(apart)])?;
        let filled = padded(m, column, axis + 1, [0, step - 1])?;
        shape[axis] = shape[axis].clone() * Dim::constant(step);
        weights = m.op_with(&RESHAPE, &[filled], [SHAPE.is(shape.clone())])?;
    }
    let Some(has) = shape[axis].as_const() else { return Err(Stop::Other) };
    if (place, has) == (0, size) {
        return Ok(weights);
    }
    Ok(padded(m, weights, axis, [place, size - place - has])?)
}
