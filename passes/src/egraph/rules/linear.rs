//! Products of matrices.

use egg::Id;
use ir::Dim;
use ops::linalg::matmul::MATMUL;
use ops::math::mul::MUL;
use ops::math::r#where::WHERE;
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::Match;

/// Of this subject.
pub(super) static RULES: &[Rule] = &[
    Rule {
        name: "diagonal-product",
        summary: "x · diag(m), the diagonal being where(identity, m, 0), is x scaled by m along its columns",
        set: Set::Explore,
        exactness: Exactness::Reassociating,
        anchor: &[&MATMUL],
        obligations: &[],
        apply: diagonal,
    },
    Rule {
        name: "matmul-from-left",
        summary: "a · (b · c) is (a · b) · c; costs decide",
        set: Set::Explore,
        exactness: Exactness::Reassociating,
        anchor: &[&MATMUL],
        obligations: &[],
        apply: from_left,
    },
    Rule {
        name: "matmul-from-right",
        summary: "(a · b) · c is a · (b · c); costs decide",
        set: Set::Explore,
        exactness: Exactness::Reassociating,
        anchor: &[&MATMUL],
        obligations: &[],
        apply: from_right,
    },
];

fn diagonal(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [x, matrix] = node.operands()[..] else { return Err(Stop::Other) };
    let found = m
        .uses_of(&WHERE, matrix)
        .into_iter()
        .find(|(operands, _)| is_identity(m, operands[0]) && m.number(operands[2]) == Some(0.0));
    let (operands, _) = found.ok_or(Stop::Other)?;
    let scale = operands[1];
    let shape = m.shape(scale);
    // The scale is read along a row or down a column of the diagonal.
    let one = Dim::constant(1);
    let row = match &shape[..] {
        [.., rows, _] if *rows == one => scale,
        [.., _, cols] if *cols == one => {
            let perm = swapped(shape.len());
            m.op_with(&TRANSPOSE, &[scale], [PERM.is(perm)])?
        }
        [_] => scale,
        _ => return Err(Stop::Other),
    };
    m.covers(matrix);
    let scaled = m.op(&MUL, &[x, row])?;
    if m.ty(scaled) != m.ty(class) {
        return Err(Stop::Other);
    }
    Ok(vec![(class, scaled)])
}

/// Is the value a constant matrix that holds just where row and column are equal?
fn is_identity(m: &Match, id: Id) -> bool {
    let Some(weight) = m.value(id) else { return false };
    let [batch @ .., rows, cols] = weight.shape() else { return false };
    let (rows, cols) = (*rows, *cols);
    rows == cols
        && batch.iter().all(|&size| size == 1)
        && weight.values().enumerate().all(|(at, value)| value.to_bool() == (at / cols == at % cols))
}

/// The permutation of so many axes that changes the places of the last two.
pub(super) fn swapped(rank: usize) -> Vec<i64> {
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 1, rank - 2);
    perm
}

fn from_left(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [a, right] = node.operands()[..] else { return Err(Stop::Other) };
    let mut equal = Equal::new();
    for (inner, _) in m.uses_of(&MATMUL, right) {
        let left = m.op(&MATMUL, &[a, inner[0]])?;
        let product = m.op(&MATMUL, &[left, inner[1]])?;
        if m.ty(product) == m.ty(class) {
            m.covers(right);
            equal.push((class, product));
        }
    }
    Ok(equal)
}

fn from_right(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let [left, c] = node.operands()[..] else { return Err(Stop::Other) };
    let mut equal = Equal::new();
    for (inner, _) in m.uses_of(&MATMUL, left) {
        let right = m.op(&MATMUL, &[inner[1], c])?;
        let product = m.op(&MATMUL, &[inner[0], right])?;
        if m.ty(product) == m.ty(class) {
            m.covers(left);
            equal.push((class, product));
        }
    }
    Ok(equal)
}
