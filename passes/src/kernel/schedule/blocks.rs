//! Spreads loops over the blocks of a GPU and over their threads.
//!
//! Each statement of a kernel is a launch of its own. Where an iteration of its outer loops is long (a row that is
//! normalised, a tile of queries), it is a block's: loops inside it become loops over threads, and reductions folds in
//! as many lanes. Where it is short, it is a thread's. Statements that hand scalars or local arrays to each other are
//! one launch; what depends on the iteration before stays serial.

use std::collections::BTreeSet;

use ir::Dim;
use ir::dim::{Atom, Ranges, Symbol};
use ir::kernel::stmt::Axes;
use ir::kernel::{Expr, ExprKind, LoopKind, Stmt};
use ir::scalar::Binary;

use super::fold::Reduction;
use super::is_independent;
use crate::lower::substitute_block;
use crate::pass::FpMode;

/// The threads of a block.
const THREADS: u32 = 256;

/// The threads of a warp: fewer make no block.
const WARP: i64 = 32;

/// So many iterations side by side are worth a block.
const WORTH_A_BLOCK: i64 = 32;

/// A reduction of fewer elements is made by each thread for itself.
const WORTH_LANES: i64 = 8;

/// An iteration of a thread has local arrays of at most so many elements.
const LOCAL_ELEMENTS: i64 = 64;

/// Symbolic sizes count as this many in estimates.
const TYPICAL: i64 = 64;

/// The axis of a launch of one block or of several axes as one, and what stands for a position for a while. Kernels have no
/// others of this kind by now, and no size is called so.
const AXES: [&str; 2] = ["a2", "a3"];

/// The kernel's body as loops over blocks and threads.
pub(super) fn in_blocks(body: Vec<Stmt>, fp: FpMode) -> Vec<Stmt> {
    let mut out = Vec::new();
    for launch in launches(body) {
        let axis = Symbol::new(AXES[0]);
        out.push(match <[Stmt; 1]>::try_from(launch) {
            Ok([stmt @ (Stmt::Gemm(_) | Stmt::Sort(_) | Stmt::For { kind: LoopKind::Blocks(_), .. })]) => {
                stmt
            }
            Ok([stmt @ Stmt::For { .. }]) => spread(stmt, axis, fp),
            Ok(launch) => one_block(launch.into(), axis, fp),
            Err(launch) => one_block(launch, axis, fp),
        });
    }
    out
}

/// The statements in runs that share no scalar and no local array.
fn launches(body: Vec<Stmt>) -> Vec<Vec<Stmt>> {
    let bound = |stmt: &Stmt| match stmt {
        Stmt::Let { name, .. } | Stmt::Var { name, .. } | Stmt::Alloc { name, .. } => Some(name.clone()),
        Stmt::Fold(fold) => Some(fold.acc.clone()),
        _ => None,
    };
    let last_use = |name: &Symbol| body.iter().rposition(|stmt| uses(stmt, name));
    let mut ends: Vec<usize> = (0..body.len()).collect();
    for at in 0..body.len() {
        if let Some(last) = bound(&body[at]).and_then(|name| last_use(&name)) {
            ends[at] = ends[at].max(last);
        }
    }
    let (mut out, mut run, mut end) = (Vec::new(), Vec::new(), 0);
    for (at, stmt) in body.into_iter().enumerate() {
        end = end.max(ends[at]);
        run.push(stmt);
        if at == end {
            out.push(std::mem::take(&mut run));
            end = at + 1;
        }
    }
    out
}

/// Does the statement read or write this scalar or array?
fn uses(stmt: &Stmt, name: &Symbol) -> bool {
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

/// Statements as the work of a single block.
fn one_block(body: Vec<Stmt>, axis: Symbol, fp: FpMode) -> Stmt {
    let threads = if has_product(&body) { THREADS } else { threads_for(width(&body, fp)) };
    let body = Block { threads, fp, ranges: Ranges::new() }.inside(body);
    Stmt::For { axis, extent: Dim::constant(1), kind: LoopKind::Blocks(threads), body }
}

/// A nest of loops.
fn spread(stmt: Stmt, axis: Symbol, fp: FpMode) -> Stmt {
    let (axes, body) = independent(std::slice::from_ref(&stmt));
    if axes.is_empty() {
        return one_block(vec![stmt], axis, fp);
    }
    let is_product = matches!(body, [Stmt::Gemm(_)]);
    if is_product || needs_block(body, fp) {
        let threads = if has_product(body) { THREADS } else { threads_for(width(body, fp)) };
        let mut ranges = Ranges::new();
        axes.iter().for_each(|(axis, extent)| ranges.enter(axis.clone(), extent.clone()));
        let body =
            if is_product { body.to_vec() } else { Block { threads, fp, ranges }.inside(body.to_vec()) };
        return axes
            .into_iter()
            .rev()
            .fold(body, |body, (axis, extent)| {
                vec![Stmt::For { axis, extent, kind: LoopKind::Blocks(threads), body }]
            })
            .remove(0);
    }
    let total: Dim = axes.iter().map(|(_, extent)| extent.clone()).product();
    let threads = threads_for(total.as_const().unwrap_or(i64::from(THREADS)));
    let axis = match &axes[..] {
        [(axis, _)] => axis.clone(),
        _ => axis,
    };
    let body = along(&axes, &Dim::from(&axis), &total, body);
    Stmt::For { axis, extent: total, kind: LoopKind::Grid(threads), body }
}

/// The axes of loops directly inside each other whose iterations do not depend on each other, as far as they are a
/// rectangle, and what is in the innermost of them.
fn independent(mut block: &[Stmt]) -> (Axes, &[Stmt]) {
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

/// The body of nested loops in iteration `at` of all `total`.
fn along(axes: &Axes, at: &Dim, total: &Dim, body: &[Stmt]) -> Vec<Stmt> {
    // The position is one symbol until its parts are simplified.
    let whole = Symbol::new(AXES[1]);
    let mut ranges = Ranges::new();
    ranges.enter(whole.clone(), total.clone());
    let mut rest = Dim::from(&whole);
    let mut parts = Vec::new();
    for (place, (axis, extent)) in axes.iter().enumerate().rev() {
        let part = if place == 0 { rest.clone() } else { rest.modulo(extent) };
        parts.push((axis.clone(), part.simplify(&ranges)));
        rest = rest.floor_div(extent).simplify(&ranges);
    }
    let part = |symbol: &Symbol| parts.iter().find(|(axis, _)| axis == symbol).map(|(_, part)| part.clone());
    let body = substitute_block(body, &part);
    substitute_block(&body, &|symbol| (*symbol == whole).then(|| at.clone()))
}

/// The block whose statements are looked at.
struct Block {
    threads: u32,
    fp: FpMode,
    /// The loops around.
    ranges: Ranges,
}

impl Block {
    /// Its statements: loops become loops over threads.
    fn inside(&self, block: Vec<Stmt>) -> Vec<Stmt> {
        let mut out = Vec::with_capacity(block.len());
        let mut rest = block.into_iter().peekable();
        while let Some(stmt) = rest.next() {
            let reduction = rest.peek().and_then(|next| Reduction::find(&stmt, next));
            if let Some(reduction) = reduction.filter(|reduction| is_worth_lanes(reduction, self.fp)) {
                rest.next();
                out.extend(reduction.in_threads(self.threads));
                continue;
            }
            out.push(match stmt {
                Stmt::For { .. } => self.nest(stmt),
                Stmt::If { cond, then } => Stmt::If { cond, then: self.inside(then) },
                other => other,
            });
        }
        out
    }

    fn nest(&self, stmt: Stmt) -> Stmt {
        let (mut axes, mut body) = independent(std::slice::from_ref(&stmt));
        let bounds: Option<Vec<Dim>> = axes.iter().map(|(_, extent)| self.bound(extent)).collect();
        // Loops whose ends nobody knows are not one.
        if bounds.is_none() && axes.len() > 1 {
            axes.truncate(1);
            let Stmt::For { body: rest, .. } = &stmt else { return stmt };
            body = rest;
        }
        let total: Dim = axes.iter().map(|(_, extent)| extent.clone()).product();
        let few =
            total.as_const().is_some_and(|count| count < WARP) && width(body, self.fp) > estimate(&total);
        if axes.is_empty() || has_product(body) || few {
            let Stmt::For { axis, extent, kind, body } = stmt else { return stmt };
            let mut ranges = self.ranges.clone();
            ranges.enter(axis.clone(), extent.clone());
            let body = Block { ranges, ..*self }.inside(body);
            return Stmt::For { axis, extent, kind, body };
        }
        if let [(axis, extent)] = &axes[..] {
            let (axis, extent) = (axis.clone(), extent.clone());
            return Stmt::For { axis, extent, kind: LoopKind::Threads, body: body.to_vec() };
        }
        let bounds = bounds.expect("bug: several axes have bounds");
        let mut body = body.to_vec();
        let cut = axes.iter().zip(&bounds).rev().filter(|((_, extent), bound)| extent != *bound);
        for ((axis, extent), _) in cut {
            let cond = Expr::binary(Binary::Lt, Dim::from(axis).into(), extent.into());
            body = vec![Stmt::If { cond, then: body }];
        }
        let axis = Symbol::new(axes.iter().map(|(axis, _)| axis.name()).collect::<String>());
        let axes: Axes = axes.into_iter().zip(bounds).map(|((axis, _), bound)| (axis, bound)).collect();
        let total: Dim = axes.iter().map(|(_, extent)| extent.clone()).product();
        let body = along(&axes, &Dim::from(&axis), &total, &body);
        Stmt::For { axis, extent: total, kind: LoopKind::Threads, body }
    }

    /// The extent, or a number that it does not pass where it depends on a loop around.
    fn bound(&self, extent: &Dim) -> Option<Dim> {
        let depends = self.ranges.axes().any(|(axis, _)| extent.mentions(axis));
        if !depends {
            return Some(extent.clone());
        }
        let first = extent.substitute(&|symbol| self.ranges.extent(symbol).map(|_| Dim::constant(0)));
        let least = extent.terms().filter_map(|(atoms, factor)| match atoms {
            [Atom::Min(all)] if factor == 1 => all.iter().find(|dim| dim.as_const().is_some()).cloned(),
            _ => None,
        });
        let bound = least.chain([first]).find(|bound| bound.as_const().is_some())?;
        self.ranges.is_nonnegative(&(bound.clone() - extent.clone())).then_some(bound)
    }
}

fn is_worth_lanes(reduction: &Reduction, fp: FpMode) -> bool {
    let allowed = fp != FpMode::Strict || reduction.is_exact();
    allowed && reduction.extent().as_const().is_none_or(|count| count >= WORTH_LANES)
}

/// Is an iteration with this body work for a block rather than for a thread?
fn needs_block(body: &[Stmt], fp: FpMode) -> bool {
    let mut local = 0i64;
    for stmt in body {
        stmt.walk(&mut |stmt| {
            if let Stmt::Alloc { shape, .. } = stmt {
                local = local.saturating_add(shape.iter().product());
            }
        });
    }
    local > LOCAL_ELEMENTS || has_product(body) || width(body, fp) >= WORTH_A_BLOCK
}

/// How many threads have work in a block at the same time, at most.
fn width(block: &[Stmt], fp: FpMode) -> i64 {
    let mut most = 1;
    let mut rest = block;
    while let [stmt, after @ ..] = rest {
        rest = after;
        let reduction = after.first().and_then(|next| Reduction::find(stmt, next));
        if let Some(reduction) = reduction.filter(|reduction| is_worth_lanes(reduction, fp)) {
            most = most.max(estimate(&reduction.extent()));
            rest = &after[1..];
            continue;
        }
        let (axes, body) = independent(std::slice::from_ref(stmt));
        if axes.is_empty() {
            most = stmt.blocks().into_iter().map(|block| width(block, fp)).fold(most, i64::max);
        } else {
            let total = axes.iter().map(|(_, extent)| extent.clone()).product();
            most = most.max(estimate(&total)).max(width(body, fp));
        }
        if has_product(std::slice::from_ref(stmt)) {
            most = most.max(i64::from(THREADS));
        }
    }
    most
}

fn has_product(block: &[Stmt]) -> bool {
    let mut found = BTreeSet::new();
    block.iter().for_each(|stmt| {
        stmt.walk(&mut |stmt| {
            found.insert(matches!(stmt, Stmt::Gemm(_)));
        })
    });
    found.contains(&true)
}

fn threads_for(width: i64) -> u32 {
    (width.clamp(WARP, i64::from(THREADS)) as u32).next_power_of_two()
}

/// A size as a number. An extent that depends on an axis around is that of the first iteration.
fn estimate(size: &Dim) -> i64 {
    let first = size.substitute(&|symbol| (!symbol.is_free_for_sizes()).then(|| Dim::constant(0)));
    first.eval(&|_| Some(TYPICAL)).unwrap_or(i64::MAX).max(1)
}
