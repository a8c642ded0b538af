//! How much work statements are, and whose.

use ir::Dim;
use ir::dim::{Ranges, Symbol};
use ir::kernel::stmt::{Axes, WARP};
use ir::kernel::{Expr, ExprKind, LoopKind, Stmt};

use super::THREADS;
use crate::kernel::schedule::access::{Access, Arrays, accesses, enter_all};
use crate::kernel::schedule::fold::Reduction;
use crate::kernel::schedule::is_independent;
use crate::kernel::schedule::running::RunningTotal;
use crate::pass::FpMode;

/// Fewer rows than this are blocks', unless they are as short as a warp is wide.
const MANY_ROWS: i64 = 1024;

/// The longest row that a warp has for itself.
const ROW_OF_A_WARP: i64 = 1024;

/// So many iterations side by side are worth a block.
const WORTH_A_BLOCK: i64 = 32;

/// A reduction of fewer elements is made by each thread for itself.
pub(super) const WORTH_LANES: i64 = 8;

/// A running total of fewer elements is a thread's.
const WORTH_STRETCHES: i64 = 64;

/// An iteration of a thread has local arrays of at most so many elements.
const LOCAL_ELEMENTS: i64 = 64;

/// Fewer vectors are left to threads for each element, so that there are more of them.
const WORTH_VECTORS: i64 = 1 << 14;

/// Symbolic sizes count as this many in estimates.
const TYPICAL: i64 = 256;

/// The kernel whose statements are looked at.
pub(super) struct Work<'a> {
    pub(super) arrays: Arrays,
    pub(super) sizes: &'a [Symbol],
    pub(super) fp: FpMode,
}

impl Work<'_> {
    /// Is an iteration with this body work for a block rather than for a thread?
    pub(super) fn needs_block(&self, body: &[Stmt]) -> bool {
        let mut local = 0i64;
        for stmt in body {
            stmt.walk(&mut |stmt| {
                if let Stmt::Alloc { shape, .. } = stmt {
                    local = local.saturating_add(shape.iter().product());
                }
            });
        }
        local > LOCAL_ELEMENTS || has_product(body) || self.width(body) >= WORTH_A_BLOCK
    }

    /// Is such an iteration, of so many, work for a warp rather than for a block?
    pub(super) fn suits_a_warp(&self, body: &[Stmt], total: &Dim) -> bool {
        let are_many =
            |length| total.as_const().is_none_or(|count| count >= MANY_ROWS || length <= i64::from(WARP));
        !has_product(body)
            && !has_array(body)
            && !self.has_running(body)
            && length(body).is_some_and(|length| length <= ROW_OF_A_WARP && are_many(length))
    }

    /// Do elements lie side by side along the innermost of the axes, and along no loop inside? Then threads beside each other
    /// have iterations beside each other, if there are enough.
    pub(super) fn are_columns(&self, axes: &Axes, total: &Dim, body: &[Stmt]) -> bool {
        let Some((last, _)) = axes.last() else { return false };
        let mut ranges = Ranges::new();
        axes.iter().for_each(|(axis, extent)| ranges.enter(axis.clone(), extent.clone()));
        enter_all(body, &mut ranges);
        let all = accesses(body);
        let runs_along = |axis: &Symbol| {
            let mut inside = all.iter().filter(|access| access.depth > 0);
            inside.any(|access| {
                let stride = self.arrays.stride(access.array, access.at, axis, &ranges);
                stride.is_some_and(|stride| stride.is(1))
            })
        };
        total.as_const().is_none_or(|count| count >= MANY_ROWS)
            && !has_product(body)
            && !has_array(body)
            && runs_along(last)
            && !has(body, |stmt| matches!(stmt, Stmt::For { axis, .. } if runs_along(axis)))
    }

    /// Are iterations along an axis no more than stores of elements side by side, whatever they are computed from? So many
    /// vectors are there.
    pub(super) fn are_vectors(&self, total: &Dim, body: &[Stmt], axis: &Symbol, ranges: &Ranges) -> bool {
        let all = accesses(body);
        let lies_apart = |access: &Access| {
            let stride = self.arrays.stride(access.array, access.at, axis, ranges);
            stride.is_none_or(|stride| !stride.is(1))
        };
        let is_read = |array: &Symbol| all.iter().any(|access| !access.is_store && access.array == array);
        total.as_const().is_none_or(|count| count >= WORTH_VECTORS)
            && body.iter().all(|stmt| matches!(stmt, Stmt::Let { .. } | Stmt::Store { .. }))
            && all.iter().any(|access| access.is_store)
            && !all.iter().any(|access| access.is_store && (lies_apart(access) || is_read(access.array)))
    }

    pub(super) fn is_worth_lanes(&self, reduction: &Reduction) -> bool {
        let allowed = self.fp != FpMode::Strict || reduction.is_exact();
        allowed && reduction.extent().as_const().is_none_or(|count| count >= WORTH_LANES)
    }

    /// The running total that the statement begins, if it is worth a block and what comes after does not ask for it.
    pub(super) fn running_total(&self, stmt: &Stmt, after: &[Stmt]) -> Option<RunningTotal> {
        let [run, later @ ..] = after else { return None };
        let running = RunningTotal::find(stmt, run)?;
        let is_long = running.extent().as_const().is_none_or(|count| count >= WORTH_STRETCHES);
        let allowed = self.fp != FpMode::Strict || running.is_exact();
        (is_long && allowed && !later.iter().any(|stmt| uses(stmt, running.total()))).then_some(running)
    }

    pub(super) fn has_running(&self, block: &[Stmt]) -> bool {
        block.iter().enumerate().any(|(at, stmt)| {
            self.running_total(stmt, &block[at + 1..]).is_some()
                || stmt.blocks().into_iter().any(|block| self.has_running(block))
        })
    }

    /// How many threads have work in a block at the same time, at most.
    pub(super) fn width(&self, block: &[Stmt]) -> i64 {
        let mut most = 1;
        let mut rest = block;
        while let [stmt, after @ ..] = rest {
            rest = after;
            let reduction = after.first().and_then(|next| Reduction::find(stmt, next));
            if let Some(reduction) = reduction.filter(|reduction| self.is_worth_lanes(reduction)) {
                most = most.max(self.estimate(&reduction.extent()));
                rest = &after[1..];
                continue;
            }
            if let Some(running) = self.running_total(stmt, after) {
                most = most.max(self.estimate(running.extent()));
                rest = &after[1..];
                continue;
            }
            let (axes, body) = independent(std::slice::from_ref(stmt));
            if axes.is_empty() {
                most = stmt.blocks().into_iter().map(|block| self.width(block)).fold(most, i64::max);
            } else {
                let total = self.estimate(&axes.iter().map(|(_, extent)| extent.clone()).product());
                let inside = self.width(body);
                // Each of many may be a group's.
                let is_of_groups = total >= WORTH_A_BLOCK && inside >= WORTH_LANES;
                let lanes = if is_of_groups { inside.min(i64::from(WARP)) } else { 1 };
                most = most.max(total.saturating_mul(lanes)).max(inside);
            }
            if has_product(std::slice::from_ref(stmt)) {
                most = most.max(i64::from(THREADS));
            }
        }
        most
    }

    /// A size as a number. An extent that depends on an axis around is that of the first iteration.
    fn estimate(&self, size: &Dim) -> i64 {
        let value = |symbol: &Symbol| Some(if self.sizes.contains(symbol) { TYPICAL } else { 0 });
        size.eval(&value).unwrap_or(i64::MAX).max(1)
    }
}

/// The iterations of the longest nest of loops, if that is known.
fn length(block: &[Stmt]) -> Option<i64> {
    block.iter().try_fold(1, |most: i64, stmt| {
        let inside = stmt.blocks().into_iter().try_fold(1, |most, block| Some(length(block)?.max(most)))?;
        let own = if let Stmt::For { extent, .. } = stmt { extent.as_const()? } else { 1 };
        Some(most.max(own.checked_mul(inside)?))
    })
}

pub(super) fn has_product(block: &[Stmt]) -> bool {
    has(block, |stmt| matches!(stmt, Stmt::Gemm(_)))
}

pub(super) fn has_array(block: &[Stmt]) -> bool {
    has(block, |stmt| matches!(stmt, Stmt::Alloc { .. }))
}

fn has(block: &[Stmt], is: impl Fn(&Stmt) -> bool) -> bool {
    let mut found = false;
    block.iter().for_each(|stmt| stmt.walk(&mut |stmt| found |= is(stmt)));
    found
}

pub(super) fn threads_for(width: i64) -> u32 {
    (width.clamp(i64::from(WARP), i64::from(THREADS)) as u32).next_power_of_two()
}

/// Does the statement read or write this scalar or array?
pub(super) fn uses(stmt: &Stmt, name: &Symbol) -> bool {
    let reads = |e: &Expr| {
        e.any(&mut |e| match e.kind() {
            ExprKind::Var { name: other, .. } | ExprKind::Load { source: other, .. } => other == name,
            _ => false,
        })
    };
    let mut found = false;
    stmt.walk(&mut |stmt| {
        found |= stmt.exprs().into_iter().any(reads);
        found |= match stmt {
            Stmt::Set { name: target, .. } | Stmt::Store { target, .. } => target == name,
            Stmt::Gemm(gemm) => {
                gemm.group.as_ref().is_some_and(|group| [&group.order, &group.starts].contains(&name))
            }
            Stmt::Sort(sort) => {
                [&sort.keys, &sort.scratch].contains(&name) || sort.results().any(|r| r == name)
            }
            _ => false,
        };
    });
    found
}

/// The axes of loops directly inside each other whose iterations do not depend on each other, as far as they are a
/// rectangle, and what is in the innermost of them.
pub(super) fn independent(mut block: &[Stmt]) -> (Axes, &[Stmt]) {
    let mut axes = Axes::new();
    while let [Stmt::For { axis, extent, kind: LoopKind::Serial, body }] = block
        && is_independent(axis, body)
        && !axes.iter().any(|(outer, _)| extent.mentions(outer))
    {
        axes.push((axis.clone(), extent.clone()));
        block = body;
    }
    (axes, block)
}
