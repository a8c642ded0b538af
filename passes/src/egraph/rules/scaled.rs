//! Weights of an attention that are scaled after the softmax: the factor goes where it keeps nothing apart.

use egg::Id;
use ir::{Dim, OpDef};
use ops::linalg::matmul::MATMUL;
use ops::math::div::DIV;
use ops::math::mul::MUL;
use ops::norm::softmax::SOFTMAX;
use ops::shape::reshape::{RESHAPE, SHAPE};

use super::affine::wide_axes;
use super::mixture::of_rows;
use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::Match;

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "scaled-weights",
    summary: "(p · c) · v, p being a softmax, is (p · v) · c for one c in each row, and p · (v · c) for one c in each column",
    set: Set::Explore,
    exactness: Exactness::Reassociating,
    anchor: &[&MATMUL],
    obligations: &[],
    apply: scaled,
}];

/// A softmax may be scaled so often.
const DEEPEST: usize = 8;

fn scaled(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [weights, v] = node.operands()[..] else { return Err(Stop::Other) };
    let (whole, shape) = match m.find(&RESHAPE, weights) {
        Some((of, _)) => (of[0], Some(m.shape(weights))),
        None => (weights, None),
    };
    let mut equal = Equal::new();
    for (op, kept, factor) in factors(m, whole) {
        if !is_softmax(m, kept, 0) {
            continue;
        }
        let regrouped = match &shape {
            Some(shape) => m.op_with(&RESHAPE, &[kept], [SHAPE.is(shape.clone())])?,
            None => kept,
        };
        let rank = m.ty(whole).rank();
        let axes = wide_axes(m, factor, rank);
        let result = if !axes.contains(&(rank - 1)) {
            let product = m.op(&MATMUL, &[regrouped, v])?;
            let factor = if axes.is_empty() { factor } else { of_rows(m, factor, whole, shape.clone())? };
            m.op(op, &[product, factor])?
        } else if axes.len() == 1 && m.shape(weights).last() == m.shape(whole).last() {
            let column = vec![m.ty(factor).elements(), Dim::constant(1)];
            let column = m.op_with(&RESHAPE, &[factor], [SHAPE.is(column)])?;
            let values = m.op(op, &[v, column])?;
            m.op(&MATMUL, &[regrouped, values])?
        } else {
            continue;
        };
        if m.ty(result) == m.ty(class) {
            m.covers(whole);
            m.covers(weights);
            equal.push((class, result));
        }
    }
    Ok(equal)
}

/// The ways in which a value is a product or a quotient of one of its type and of something else.
fn factors(m: &Match, whole: Id) -> Vec<(&'static OpDef, Id, Id)> {
    let products = m.uses_of(&MUL, whole).into_iter();
    let products = products.flat_map(|(x, _)| [(&MUL, x[0], x[1]), (&MUL, x[1], x[0])]);
    let quotients = m.uses_of(&DIV, whole).into_iter().map(|(x, _)| (&DIV, x[0], x[1]));
    let all = products.chain(quotients);
    all.filter(|&(_, kept, _)| m.ty(kept) == m.ty(whole)).collect()
}

/// Is it a softmax, maybe scaled?
fn is_softmax(m: &Match, id: Id, depth: usize) -> bool {
    let inner = |(_, kept, _): (_, Id, _)| depth < DEEPEST && is_softmax(m, kept, depth + 1);
    m.find(&SOFTMAX, id).is_some() || factors(m, id).into_iter().any(inner)
}
