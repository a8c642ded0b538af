//! Products with the same left operand become one.

use egg::Id;
use ir::Dim;
use ir::attr::Attrs;
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::shape::concat::{self, CONCAT};
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS};

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};
use crate::graph::fold_constants::MAX_FOLDED;

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "joint-product",
    summary: "x · a, x · b, … with constant matrices (queries, keys and values; gate and up) are slices of x · [a b …]",
    set: Set::Raise,
    exactness: Exactness::Exact,
    anchor: &[&MATMUL],
    obligations: &[SMALL],
    apply: joint,
}];

const SMALL: &str = "the joint matrix may be made when the model is compiled: it has at most 4 MiB";

/// A product of the common operand with a constant matrix, and the same with its bias.
struct Part {
    product: Id,
    matrix: Id,
    biased: Option<(Id, Id)>,
}

fn joint(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [x, matrix] = node.operands()[..] else { return Err(Stop::Other) };
    if !is_weight(m, matrix, 2) || m.is_constant(x) {
        return Err(Stop::Other);
    }
    let parts = parts(m, x);
    // One anchor does it for all.
    if parts.len() < 2 || !m.same(parts[0].product, class) {
        return Err(Stop::Other);
    }
    let matrices: Vec<Id> = parts.iter().map(|part| part.matrix).collect();
    let bytes: Option<i64> = matrices.iter().map(|&matrix| m.ty(matrix).bytes().as_const()).sum();
    let bytes = bytes.ok_or(Stop::Other)?;
    if bytes > MAX_FOLDED as i64 {
        return Err(Missed::new(SMALL, format!("{} matrices with {bytes} bytes", parts.len())).into());
    }
    let all = m.op_with(&CONCAT, &matrices, [concat::AXIS.is(1)])?;
    let product = m.op(&MATMUL, &[x, all])?;
    let biases: Option<Vec<Id>> = parts.iter().map(|part| Some(part.biased?.1)).collect();
    let biased = match &biases {
        Some(biases) => {
            let all = m.op_with(&CONCAT, biases, [concat::AXIS.is(0)])?;
            Some(m.op(&ADD, &[product, all])?)
        }
        None => None,
    };
    let mut equal = Equal::new();
    let mut start = Dim::constant(0);
    for part in &parts {
        equal.push((part.product, slice(m, product, part.product, &start)?));
        if let (Some(all), Some((sum, _))) = (biased, part.biased) {
            equal.push((sum, slice(m, all, sum, &start)?));
        }
        start = start + m.shape(part.matrix)[1].clone();
    }
    Ok(equal)
}

/// The products of `x` with constant matrices, each class once, without those that are several of them already.
fn parts(m: &Match, x: Id) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (product, node) in m.users(&MATMUL, x) {
        let [left, matrix] = node.operands()[..] else { continue };
        let joins = m.same(left, x) && is_weight(m, matrix, 2);
        if joins && !parts.iter().any(|part| m.same(part.product, product)) {
            parts.push(Part { product, matrix, biased: bias(m, product) });
        }
    }
    let matrices: Vec<Id> = parts.iter().map(|part| part.matrix).collect();
    let is_part = |id: &Id| matrices.iter().any(|matrix| m.same(*matrix, *id));
    let is_joint = |(x, attrs): (Vec<Id>, Attrs)| attrs.get(concat::AXIS) == 1 && x.iter().all(is_part);
    parts.retain(|part| !m.uses_of(&CONCAT, part.matrix).into_iter().any(is_joint));
    parts
}

/// The sum of a product with a constant row, and the row.
fn bias(m: &Match, product: Id) -> Option<(Id, Id)> {
    m.users(&ADD, product).into_iter().find_map(|(sum, node)| {
        let row = node.operands().iter().copied().find(|&id| !m.same(id, product))?;
        (is_weight(m, row, 1) && m.ty(sum) == m.ty(product)).then_some((sum, row))
    })
}

fn is_weight(m: &Match, id: Id, rank: usize) -> bool {
    m.is_constant(id) && m.ty(id).rank() == rank && m.ty(id).fixed_shape().is_some()
}

/// The columns of `all` from `start` on that are as many as those of `part`.
fn slice(m: &mut Match, all: Id, part: Id, start: &Dim) -> Result<Id, Stop> {
    let sizes = m.shape(part);
    let mut starts = vec![Dim::constant(0); sizes.len()];
    *starts.last_mut().ok_or(Stop::Other)? = start.clone();
    let steps = vec![1; sizes.len()];
    Ok(m.op_with(&SLICE, &[all], [STARTS.is(starts), SIZES.is(sizes), STEPS.is(steps)])?)
}
