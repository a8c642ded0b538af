//! What weights are multiplied with: values of the keys that they belong to.

use egg::Id;
use ir::{DType, Dim};
use ops::linalg::einsum::EINSUM;
use ops::linalg::matmul::MATMUL;
use ops::shape::broadcast::{self, BROADCAST};
use ops::shape::concat::{self, CONCAT};
use ops::shape::reshape::RESHAPE;
use ops::shape::scatter::REDUCTION;
use ops::shape::scatter_elements::{self, SCATTER_ELEMENTS};
use ops::shape::slice::{SLICE, STARTS, STEPS};

use super::super::Stop;
use super::super::axes::{Name, Product};
use super::Scores;
use crate::egraph::language::Node;
use crate::egraph::rewrite::Match;

/// Weights as values meet them.
struct Met {
    weights: Id,
    /// The key of their first column.
    first: Dim,
    /// Are they what the softmax gives?
    as_given: bool,
}

/// The product of weights with values.
pub(super) struct Weighted {
    pub(super) sum: Id,
    /// The values of all keys.
    pub(super) v: Id,
    /// What stands between the softmax and the product, if something does.
    pub(super) between: Option<Id>,
    /// The axes of the attention's result that the axes of the sum are.
    pub(super) order: Vec<i64>,
}

/// The products of the weights that a softmax gives.
pub(super) fn values(m: &mut Match, weights: Id, scores: &Scores) -> Result<Vec<Weighted>, Stop> {
    let mut found = Vec::new();
    for Met { weights, first, as_given } in met(m, weights, scores) {
        let between = Some(weights).filter(|_| !as_given);
        for (sum, node) in m.users(&MATMUL, weights) {
            let [left, v] = node.operands()[..] else { continue };
            if m.same(left, weights) {
                let v = of_all_keys(m, v, &first, scores)?;
                found.push(Weighted { sum, v, between, order: vec![] });
            }
        }
        for (sum, node) in m.users(&EINSUM, weights) {
            if let Ok((v, order)) = by_equation(m, sum, &node, weights) {
                let v = of_all_keys(m, v, &first, scores)?;
                found.push(Weighted { sum, v, between, order });
            }
        }
    }
    Ok(found)
}

/// Values as a product takes them, where an equation says what is multiplied; and the order of the result's axes.
fn by_equation(m: &mut Match, sum: Id, node: &Node, weights: Id) -> Result<(Id, Vec<i64>), Stop> {
    let product = Product::of(m, sum, node).ok_or(Stop::Other)?;
    let [a, b] = &product.operands;
    let (given, v) = if m.same(a.value, weights) { (a, b) } else { (b, a) };
    let [batches @ .., query, key] = &given.axes[..] else { return Err(Stop::Other) };
    let mut own = v.axes.iter().filter(|name| !given.axes.contains(name));
    let (Some(width), None) = (own.next(), own.next()) else { return Err(Stop::Other) };
    let made = [batches, &[*query, *width]].concat();
    let place = |name: &Name| made.iter().position(|other| other == name).map(|at| at as i64);
    let order: Option<Vec<i64>> = product.result.axes.iter().map(place).collect();
    let order = order.filter(|order| order.len() == made.len()).ok_or(Stop::Other)?;
    if product.depth(m).as_deref() != Some(&[*key]) {
        return Err(Stop::Other);
    }
    Ok((v.ordered(m, &[batches, &[*key, *width]].concat())?, order))
}

/// The weights as they are, with regrouped batch axes, put back into their windows, or those of some keys in a row.
fn met(m: &Match, weights: Id, scores: &Scores) -> Vec<Met> {
    let zero = || Dim::constant(0);
    let mut found = Vec::new();
    if let Some(window) = &scores.window {
        for (class, node) in m.users(&SCATTER_ELEMENTS, weights) {
            let [zeros, indices, _] = node.operands()[..] else { continue };
            let attrs = m.attrs(&node);
            let last = m.ty(class).rank() as i64 - 1;
            let along_keys = [-1, last].contains(&attrs.get(scatter_elements::AXIS));
            let sets = attrs.get(REDUCTION) == "none";
            if along_keys && sets && m.same(indices, window.indices) && m.number(zeros) == Some(0.0) {
                found.push(Met { weights: class, first: zero(), as_given: false });
            }
        }
        return found;
    }
    if m.shape(weights) == scores.shape {
        found.push(Met { weights, first: zero(), as_given: true });
    }
    for (class, _) in m.users(&RESHAPE, weights) {
        if m.shape(class) == scores.shape {
            found.push(Met { weights: class, first: zero(), as_given: false });
        }
    }
    let rows = &scores.shape[..scores.shape.len() - 1];
    for (class, node) in m.users(&SLICE, weights) {
        let attrs = m.attrs(&node);
        let (starts, steps): (Vec<Dim>, Vec<i64>) = (attrs.get(STARTS), attrs.get(STEPS));
        if let [others @ .., first] = &starts[..]
            && m.shape(class).starts_with(rows)
            && others.iter().all(|start| start.is(0))
            && steps.iter().all(|step| *step == 1)
        {
            found.push(Met { weights: class, first: first.clone(), as_given: false });
        }
    }
    found
}

/// Values from this key on, and 0 for those that have none.
fn of_all_keys(m: &mut Match, v: Id, first: &Dim, scores: &Scores) -> Result<Id, Stop> {
    let shape = m.shape(v);
    let (Some(all), [.., keys, _]) = (scores.shape.last(), &shape[..]) else { return Err(Stop::Other) };
    let behind = all.clone() - first.clone() - keys.clone();
    let mut parts = vec![v];
    if !first.is(0) {
        parts.insert(0, zeros(m, &shape, first)?);
    }
    if !behind.is(0) {
        parts.push(zeros(m, &shape, &behind)?);
    }
    match parts[..] {
        [v] => Ok(v),
        _ => Ok(m.op_with(&CONCAT, &parts, [concat::AXIS.is(-2)])?),
    }
}

/// So many rows of zeros in place of those of an array.
pub(super) fn zeros(m: &mut Match, beside: &[Dim], count: &Dim) -> Result<Id, Stop> {
    let mut shape = beside.to_vec();
    let [.., rows, _] = &mut shape[..] else { return Err(Stop::Other) };
    *rows = count.clone();
    let zero = m.scalar(DType::F32, 0.0);
    Ok(m.op_with(&BROADCAST, &[zero], [broadcast::SHAPE.is(shape)])?)
}
