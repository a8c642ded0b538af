//! Spreads the outermost loops over threads.
//!
//! Two outer loops become one, so that a batch of one still fills the threads. A loop of elements alone is cut into
//! blocks. What takes less time than waking a thread stays serial. The cut depends on sizes alone, and iterations
//! write apart from each other: results are the same bits for any number of threads.

use ir::Dim;
use ir::dim::{Ranges, Symbol};
use ir::kernel::{LoopKind, Stmt};

use super::is_independent;
use crate::cost::block_operations;
use crate::lower::substitute_block;

/// Less work than this (in scalar operations) is not worth a thread.
const SERIAL_WORK: i64 = 1 << 15;

/// A thread takes at least so much work at a time.
const GRAIN_WORK: i64 = 1 << 14;

/// Elements in a block of a loop over elements alone.
const BLOCK: i64 = 4096;

/// So many products are spread over threads rather than each by itself.
const MANY_PRODUCTS: i64 = 8;

/// Symbolic sizes count as this many in estimates.
const TYPICAL: i64 = 64;

/// The body with its outermost independent loops spread over threads.
pub(super) fn parallelize(body: Vec<Stmt>) -> Vec<Stmt> {
    body.into_iter().map(spread).collect()
}

fn estimate(work: &Dim) -> i64 {
    work.eval(&|_| Some(TYPICAL)).unwrap_or(i64::MAX).max(1)
}

/// The work of the first iteration of a loop over an axis: the last one may be cut short.
fn of_first(axis: &Symbol, body: &[Stmt]) -> i64 {
    let first = |symbol: &Symbol| (symbol == axis).then(|| Dim::constant(0));
    estimate(&block_operations(body).substitute(&first))
}

fn spread(stmt: Stmt) -> Stmt {
    let Stmt::For { axis, extent, kind, body } = stmt else { return stmt };
    let each = of_first(&axis, &body);
    let total = each.saturating_mul(estimate(&extent));
    if total < SERIAL_WORK || !is_independent(&axis, &body) {
        return Stmt::For { axis, extent, kind, body };
    }
    match kind {
        LoopKind::Vector(_) => in_blocks(axis, extent, kind, body, each),
        LoopKind::Serial => {
            let (axis, extent, body) = with_next(axis, extent, body);
            // A product is spread over threads itself: better than few of them side by side.
            let product = matches!(&body[..], [Stmt::Gemm(_)]);
            if product && extent.as_const().is_some_and(|n| n < MANY_PRODUCTS) {
                return Stmt::For { axis, extent, kind: LoopKind::Serial, body };
            }
            let each = of_first(&axis, &body);
            let grain = u32::try_from((GRAIN_WORK / each).clamp(1, 1 << 20)).unwrap_or(1);
            Stmt::For { axis, extent, kind: LoopKind::Parallel(grain), body }
        }
        LoopKind::Parallel(_)
        | LoopKind::Unroll
        | LoopKind::Blocks(_)
        | LoopKind::Grid { .. }
        | LoopKind::Threads(_) => Stmt::For { axis, extent, kind, body },
    }
}

/// Two serial loops, one directly inside the other, as one; unless the inner one is the last before the elements.
fn with_next(axis: Symbol, extent: Dim, body: Vec<Stmt>) -> (Symbol, Dim, Vec<Stmt>) {
    let [Stmt::For { axis: next, extent: size, kind: LoopKind::Serial, body: inner }] = &body[..] else {
        return (axis, extent, body);
    };
    if !is_independent(next, inner) || size.mentions(&axis) {
        return (axis, extent, body);
    }
    let both = Symbol::new(format!("{axis}{next}"));
    let mut ranges = Ranges::new();
    ranges.enter(both.clone(), extent.clone() * size.clone());
    let first = Dim::from(&both).floor_div(size).simplify(&ranges);
    let second = (Dim::from(&both) - first.clone() * size.clone()).simplify(&ranges);
    let with = |s: &Symbol| {
        if *s == axis { Some(first.clone()) } else { (s == next).then(|| second.clone()) }
    };
    (both, extent * size.clone(), substitute_block(inner, &with))
}

/// A vector loop over elements, cut into blocks for threads.
fn in_blocks(axis: Symbol, extent: Dim, kind: LoopKind, body: Vec<Stmt>, each: i64) -> Stmt {
    let block = Dim::constant(BLOCK);
    let outer = Symbol::new(format!("{axis}b"));
    let start = Dim::from(&outer) * block.clone();
    let rest = extent.clone() - start.clone();
    let inside = Symbol::new(format!("{axis}e"));
    let at = start + Dim::from(&inside);
    let body = substitute_block(&body, &|s: &Symbol| (*s == axis).then(|| at.clone()));
    let grain = u32::try_from((GRAIN_WORK / each.saturating_mul(BLOCK)).clamp(1, 1 << 20)).unwrap_or(1);
    let inner = Stmt::For { axis: inside, extent: Dim::smaller(&block, &rest), kind, body };
    Stmt::For {
        axis: outer,
        extent: extent.ceil_div(&block),
        kind: LoopKind::Parallel(grain),
        body: vec![inner],
    }
}
