//! The stages in parts: each is done for all rows of a block before the next one is.

use std::collections::BTreeSet;

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind, Kernel, Stage};

use super::super::loads_of;
use super::LANES;
use crate::kernel::{has_fold, is_contraction};

/// A row of numbers that lies across those of other rows has at most so many: a few of them are local.
const MOST_ACROSS: i64 = 256;

/// Stages that are computed together.
pub(super) struct Part {
    /// Their positions, ascending.
    pub(super) stages: Vec<usize>,
    pub(super) how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// A product, and what follows it as its elements come.
    Product,
    /// One row after the other.
    Rows,
    /// Stage after stage, with the rows beside each other.
    Beside,
}

/// The parts, in an order in which they can be done, if there is a product among them and something else. Experts are
/// chosen by the scores that the last one makes, or not.
pub(super) fn parts(kernel: &Kernel, stages: &[Stage], prefix: usize, chooses: bool) -> Option<Vec<Part>> {
    let mut parts = in_order(stages, prefix);
    let product = parts.iter().rfind(|part| part.how == How::Product).filter(|_| parts.len() > 1)?;
    if let Some(last) = parts.last().filter(|part| chooses && part.how == How::Rows) {
        let beside = beside(kernel, stages, prefix, [product, last]);
        let (beside, rest) = last.stages.iter().partition(|at| beside.contains(at));
        parts.pop();
        parts.extend([Part { stages: beside, how: How::Beside }, Part { stages: rest, how: How::Rows }]);
    }
    parts.retain(|part| !part.stages.is_empty());
    Some(parts)
}

fn in_order(stages: &[Stage], prefix: usize) -> Vec<Part> {
    let is_product = |at: usize| stages[at].axes.len() == prefix + 1 && is_contraction(&stages[at]);
    let mut parts: Vec<Part> = Vec::new();
    let mut first = 0;
    while first < stages.len() {
        let how = if is_product(first) { How::Product } else { How::Rows };
        let joins = |at: &usize| match how {
            How::Product => follows(&stages[*at], &stages[first..*at]),
            _ => !is_product(*at),
        };
        let end = first + 1 + (first + 1..stages.len()).take_while(joins).count();
        parts.push(Part { stages: (first..end).collect(), how });
        first = end;
    }
    parts
}

/// Is the stage computed from the product element by element, as its elements come?
fn follows(stage: &Stage, product: &[Stage]) -> bool {
    let own: Vec<_> = stage.axes.iter().map(|(axis, _)| Dim::from(axis).into()).collect();
    stage.axes == product[0].axes
        && !has_fold(&stage.body)
        && product.iter().all(|from| loads_of(&stage.body, &from.name).all(|at| at == own))
}

/// Those of the last part that read of a row only what the product before it made, and what others of them made.
fn beside(kernel: &Kernel, stages: &[Stage], prefix: usize, [product, last]: [&Part; 2]) -> BTreeSet<usize> {
    let Some((row, rows)) = stages[product.stages[0]].axes[..prefix].last() else { return BTreeSet::new() };
    if rows.as_const().is_some_and(|rows| rows < LANES) {
        return BTreeSet::new();
    }
    let stays = |at: usize| {
        let across: Dim = stages[at].axes[prefix..].iter().map(|(_, extent)| extent.clone()).product();
        kernel.param(&stages[at].name).is_none() && across.as_const().is_some_and(|n| n <= MOST_ACROSS)
    };
    let name = |at: usize| &stages[at].name;
    let computed: BTreeSet<&Symbol> = stages.iter().map(|stage| &stage.name).collect();
    let made = product.stages.iter().copied().filter(|&at| stays(at));
    let mut known: BTreeSet<&Symbol> = made.map(name).collect();
    let mut found = BTreeSet::new();
    for &at in &last.stages {
        let foreign = stages[at].body.any(&mut |e| match e.kind() {
            ExprKind::Load { source, at, .. } if computed.contains(source) => !known.contains(source),
            ExprKind::Load { at, .. } => at.iter().any(|index| depends_on(index, row)),
            _ => false,
        });
        if stays(at) && !foreign {
            known.insert(name(at));
            found.insert(at);
        }
    }
    found
}

fn depends_on(index: &Expr, axis: &Symbol) -> bool {
    index.any(&mut |e| matches!(e.kind(), ExprKind::Index(dim) if dim.mentions(axis)))
}
