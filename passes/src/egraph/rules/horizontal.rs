//! Products with the same left operand become one.

use egg::Id;
use ir::attr::Attrs;
use ir::{Dim, OpDef};
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::shape::concat::{self, CONCAT};
use ops::shape::slice::{SIZES, SLICE, STARTS, STEPS};

use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::Match;

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "joint-product",
    summary: "x · a, x · b, … with constant matrices (queries, keys and values; gate and up; of experts, too) are slices of x · [a b …]",
    set: Set::Raise,
    exactness: Exactness::Exact,
    anchor: &[&MATMUL, &GROUPED_MATMUL],
    obligations: &[],
    apply: joint,
}];

/// A product of the common operand with a constant matrix, and the same with its bias.
struct Part {
    product: Id,
    matrix: Id,
    biased: Option<(Id, Id)>,
}

fn joint(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    // Sums of bytes are scaled where they are made; what is joined is not.
    let sums = m.ty(class).dtype.is_float();
    let product = Product::of(node).filter(|product| sums && product.joins(m, node)).ok_or(Stop::Other)?;
    let parts = product.parts(m);
    // One anchor does it for all.
    if parts.len() < 2 || !m.same(parts[0].product, class) {
        return Err(Stop::Other);
    }
    let matrices: Vec<Id> = parts.iter().map(|part| part.matrix).collect();
    let all = m.op_with(&CONCAT, &matrices, [concat::AXIS.is(product.rank() as i64 - 1)])?;
    let operands: Vec<Id> = [product.x, all].into_iter().chain(product.ids).collect();
    let joint = m.op(product.op, &operands)?;
    let biases: Option<Vec<Id>> = parts.iter().map(|part| Some(part.biased?.1)).collect();
    let biased = match &biases {
        Some(biases) => {
            let all = m.op_with(&CONCAT, biases, [concat::AXIS.is(0)])?;
            Some(m.op(&ADD, &[joint, all])?)
        }
        None => None,
    };
    let mut equal = Equal::new();
    let mut start = Dim::constant(0);
    for part in &parts {
        equal.push((part.product, slice(m, joint, part.product, &start)?));
        if let (Some(all), Some((sum, _))) = (biased, part.biased) {
            equal.push((sum, slice(m, all, sum, &start)?));
        }
        start = start + m.shape(part.matrix)[product.rank() - 1].clone();
    }
    Ok(equal)
}

/// What products have in common that become one: the left operand, and which matrix each row of it meets, if there are
/// several.
struct Product {
    op: &'static OpDef,
    x: Id,
    ids: Option<Id>,
}

impl Product {
    fn of(node: &Node) -> Option<Product> {
        match (node.op()?, node.operands()) {
            (op, &[x, _]) if op == &MATMUL => Some(Product { op: &MATMUL, x, ids: None }),
            (op, &[x, _, ids]) if op == &GROUPED_MATMUL => {
                Some(Product { op: &GROUPED_MATMUL, x, ids: Some(ids) })
            }
            _ => None,
        }
    }

    /// Axes of the right operand.
    fn rank(&self) -> usize {
        if self.ids.is_some() { 3 } else { 2 }
    }

    /// Is it such a product, with a constant matrix?
    fn joins(&self, m: &Match, node: &Node) -> bool {
        let operands = node.operands();
        let ids = operands.get(2).zip(self.ids).is_none_or(|(own, ids)| m.same(*own, ids));
        m.same(operands[0], self.x) && ids && is_weight(m, operands[1], self.rank()) && !m.is_constant(self.x)
    }

    /// The products, each class once, without those that are several of them already.
    fn parts(&self, m: &Match) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for (product, node) in m.users(self.op, self.x) {
            if self.joins(m, &node) && !parts.iter().any(|part| m.same(part.product, product)) {
                let biased = if self.ids.is_none() { bias(m, product) } else { None };
                parts.push(Part { product, matrix: node.operands()[1], biased });
            }
        }
        let matrices: Vec<Id> = parts.iter().map(|part| part.matrix).collect();
        let is_part = |id: &Id| matrices.iter().any(|matrix| m.same(*matrix, *id));
        let last = self.rank() as i64 - 1;
        let is_joint =
            |(x, attrs): (Vec<Id>, Attrs)| attrs.get(concat::AXIS) == last && x.iter().all(is_part);
        parts.retain(|part| !m.uses_of(&CONCAT, part.matrix).into_iter().any(is_joint));
        parts
    }
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
