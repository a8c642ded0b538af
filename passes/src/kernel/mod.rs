//! Passes on kernels, and what they ask of one.

pub mod expand_math;
pub mod schedule;

use std::collections::BTreeSet;

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind, Fold, KernelKind, Reduce, Stage};
use ir::scalar::Binary;

use crate::lower::attention::Attention;

pub use expand_math::ExpandMath;
pub use schedule::Schedule;

/// Does the expression contain a fold?
pub(crate) fn has_fold(body: &Expr) -> bool {
    body.any(&mut |e| matches!(e.kind(), ExprKind::Fold(_)))
}

/// Is the stage a sum of products in which some operand is used again and again: a matrix product or convolution?
pub(crate) fn is_contraction(stage: &Stage) -> bool {
    contraction_axes(stage).is_some()
}

/// The axes that the loads of a contraction's factors mention, one set for each factor that loads.
fn contraction_axes(stage: &Stage) -> Option<Vec<BTreeSet<Symbol>>> {
    let mut e = &stage.body;
    let mut axes: BTreeSet<Symbol> = stage.axes.iter().map(|(axis, _)| axis.clone()).collect();
    // What follows the sum in the same stage does not matter here. A running total is a sum of its own kind.
    let runs = |fold: &Fold| stage.axes.iter().any(|(axis, _)| fold.extent.mentions(axis));
    let mut sum = None;
    e.walk(&mut |inner| {
        if let ExprKind::Fold(fold) = inner.kind()
            && fold.op == Reduce::Sum
            && !runs(fold)
        {
            sum.get_or_insert_with(|| inner.clone());
        }
    });
    let sum = sum?;
    e = &sum;
    while let ExprKind::Fold(Fold { op: Reduce::Sum, axis, body, .. }) = e.kind() {
        axes.insert(axis.clone());
        e = body;
    }
    while let ExprKind::Cast(_, inner) = e.kind() {
        e = inner;
    }
    let ExprKind::Binary(Binary::Mul, a, b) = e.kind() else { return None };
    let factors: Vec<BTreeSet<Symbol>> = [a, b].map(mentioned).into();
    let reused =
        |factor: &BTreeSet<Symbol>| !factor.is_empty() && axes.iter().any(|axis| !factor.contains(axis));
    (factors.iter().all(|f| !f.is_empty()) && factors.iter().any(reused)).then_some(factors)
}

/// The symbols in the indices of the loads in `e`.
fn mentioned(e: &Expr) -> BTreeSet<Symbol> {
    let mut symbols = BTreeSet::new();
    e.walk(&mut |inner| {
        if let ExprKind::Load { at, .. } = inner.kind() {
            for index in at {
                index.walk(&mut |i| {
                    if let ExprKind::Index(dim) = i.kind() {
                        dim.for_each_symbol(&mut |s| {
                            symbols.insert(s.clone());
                        });
                    }
                });
            }
        }
    });
    symbols
}

/// Does some index of the contraction combine an axis of the result with a summed one: does it slide a window?
fn slides(stage: &Stage) -> bool {
    stage.body.any(&mut |e| match e.kind() {
        ExprKind::Load { at, .. } => at.iter().any(|index| {
            let Some(dim) = index.as_index() else { return false };
            let (mut own, mut folded) = (false, false);
            dim.for_each_symbol(&mut |s| {
                let of_stage = stage.axes.iter().any(|(axis, _)| axis == s);
                own |= of_stage;
                folded |= !of_stage;
            });
            own && folded
        }),
        _ => false,
    })
}

/// Do data choose where some load of the contraction leads: which matrix meets a row?
pub(crate) fn is_grouped(stage: &Stage) -> bool {
    let own = |dim: &Dim| {
        let mut own = true;
        dim.for_each_symbol(&mut |s| own &= stage.axes.iter().any(|(axis, _)| axis == s));
        own
    };
    // What is chosen for each term of the sum is no matrix.
    let chooses = |index: &Expr| {
        index.as_index().is_none() && !index.any(&mut |e| e.as_index().is_some_and(|dim| !own(dim)))
    };
    is_contraction(stage)
        && stage.body.any(&mut |e| match e.kind() {
            ExprKind::Load { at, .. } => at.iter().any(chooses),
            _ => false,
        })
}

/// What a kernel made of these stages mainly is.
pub(crate) fn classify(stages: &[Stage]) -> KernelKind {
    if Attention::find(stages).is_some() {
        return KernelKind::Attention;
    }
    if let Some(stage) = stages.iter().find(|stage| is_contraction(stage)) {
        return match stage {
            _ if is_grouped(stage) => KernelKind::GroupedMatmul,
            _ if slides(stage) => KernelKind::Conv,
            _ => KernelKind::Matmul,
        };
    }
    let computes = |stage: &Stage| {
        stage.body.any(&mut |e| match e.kind() {
            ExprKind::Fold(_) | ExprKind::Unary(..) | ExprKind::Fma(..) | ExprKind::Cast(..) => true,
            ExprKind::Binary(_, a, _) => a.dtype() != ir::DType::I64 && a.dtype() != ir::DType::Bool,
            _ => false,
        })
    };
    if stages.iter().any(computes) { KernelKind::Fused } else { KernelKind::Data }
}
