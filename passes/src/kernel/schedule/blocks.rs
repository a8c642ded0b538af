//! Spreads loops over the blocks of a GPU and over their threads.
//!
//! Each statement of a kernel is a launch of its own. Where an iteration of its outer loops is long (a row that is
//! normalised, a tile of queries), it is a block's: loops inside it become loops over threads, and reductions folds in
//! as many lanes. Where it is shorter and there are many, it is a warp's, whose lanes do the same without barriers; so do
//! groups of lanes with the rows of a block's tile. Where it is short, or where the next iteration's elements lie beside
//! its own, it is a thread's (`work`). Statements that hand scalars or local arrays to each other are one launch; what
//! depends on the iteration before stays serial, but for running totals.

mod work;

use ir::Dim;
use ir::dim::{Atom, Ranges, Symbol};
use ir::kernel::stmt::{Axes, WARP};
use ir::kernel::{Expr, Kernel, LoopKind, Stmt};
use ir::scalar::Binary;

use super::access::Arrays;
use super::fold::Reduction;
use crate::lower::substitute_block;
use crate::pass::FpMode;
use work::{WORTH_LANES, Work, has_array, has_product, independent, threads_for, uses};

/// The threads of a block.
const THREADS: u32 = 256;

/// Elements that a thread has at once: 16 bytes of `f32`.
const VECTOR: u32 = 4;

/// The threads of a block whose warps have a row each.
const THREADS_OF_ROWS: u32 = 128;

/// The axis of a launch of one block or of several axes as one, what stands for a position for a while, and the axis of
/// elements that a thread has at once. Kernels have no others of this kind by now, and no size is called so.
const AXES: [&str; 3] = ["a2", "a3", "a4"];

/// The kernel's body as loops over blocks and threads.
pub(super) fn in_blocks(kernel: &Kernel, body: Vec<Stmt>, fp: FpMode) -> Vec<Stmt> {
    let work = Work { arrays: Arrays::of(kernel, &body), sizes: &kernel.sizes, fp };
    let mut out = Vec::new();
    for launch in launches(body) {
        let axis = Symbol::new(AXES[0]);
        out.push(match <[Stmt; 1]>::try_from(launch) {
            Ok([stmt @ (Stmt::Gemm(_) | Stmt::Sort(_) | Stmt::For { kind: LoopKind::Blocks(_), .. })]) => {
                stmt
            }
            Ok([stmt @ Stmt::For { .. }]) => spread(&work, stmt, axis),
            Ok(launch) => one_block(&work, launch.into(), axis),
            Err(launch) => one_block(&work, launch, axis),
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

/// Statements as the work of a single block.
fn one_block(work: &Work, body: Vec<Stmt>, axis: Symbol) -> Stmt {
    let threads = if has_product(&body) { THREADS } else { threads_for(work.width(&body)) };
    let body = Team { kind: Kind::Block, threads, work, ranges: Ranges::new() }.inside(&body);
    Stmt::For { axis, extent: Dim::constant(1), kind: LoopKind::Blocks(threads), body }
}

/// A nest of loops.
fn spread(work: &Work, stmt: Stmt, axis: Symbol) -> Stmt {
    let (axes, body) = independent(std::slice::from_ref(&stmt));
    if axes.is_empty() {
        return one_block(work, vec![stmt], axis);
    }
    let total: Dim = axes.iter().map(|(_, extent)| extent.clone()).product();
    let mut ranges = Ranges::new();
    axes.iter().for_each(|(axis, extent)| ranges.enter(axis.clone(), extent.clone()));
    let is_product = matches!(body, [Stmt::Gemm(_)]);
    let is_long = is_product || work.needs_block(body) && !work.are_columns(&axes, &total, body);
    if is_long && !work.suits_a_warp(body, &total) {
        let threads = if has_product(body) { THREADS } else { threads_for(work.width(body)) };
        let team = Team { kind: Kind::Block, threads, work, ranges };
        let body = if is_product { body.to_vec() } else { team.inside(body) };
        return axes
            .into_iter()
            .rev()
            .fold(body, |body, (axis, extent)| {
                vec![Stmt::For { axis, extent, kind: LoopKind::Blocks(threads), body }]
            })
            .remove(0);
    }
    let axis = match &axes[..] {
        [(axis, _)] => axis.clone(),
        _ => axis,
    };
    if !is_long && let Some(stmt) = in_vectors(work, &axes, &axis, body) {
        return stmt;
    }
    let (kind, body) = if is_long {
        let body = Team { kind: Kind::Group, threads: WARP, work, ranges }.inside(body);
        (LoopKind::Grid { threads: THREADS_OF_ROWS, lanes: WARP }, body)
    } else {
        let threads = threads_for(total.as_const().unwrap_or(i64::from(THREADS)));
        (LoopKind::Grid { threads, lanes: 1 }, body.to_vec())
    };
    let body = along(&axes, &Dim::from(&axis), &total, &body);
    Stmt::For { axis, extent: total, kind, body }
}

/// Iterations by fours along the innermost axis, a thread's each, if what they read and write lies side by side.
fn in_vectors(work: &Work, axes: &Axes, axis: &Symbol, body: &[Stmt]) -> Option<Stmt> {
    let (lane, lanes) = (Symbol::new(AXES[2]), Dim::constant(i64::from(VECTOR)));
    let (last, extent) = axes.last()?;
    let mut fours = axes.clone();
    fours.last_mut()?.1 = extent.exact_div(&lanes)?;
    let at = Dim::from(last) * lanes.clone() + Dim::from(&lane);
    let body = substitute_block(body, &|symbol| (symbol == last).then(|| at.clone()));
    let total: Dim = fours.iter().map(|(_, extent)| extent.clone()).product();
    let body = along(&fours, &Dim::from(axis), &total, &body);
    let mut ranges = Ranges::new();
    ranges.enter(axis.clone(), total.clone());
    ranges.enter(lane.clone(), lanes.clone());
    if !work.are_vectors(&total, &body, &lane, &ranges) {
        return None;
    }
    let body = vec![Stmt::For { axis: lane, extent: lanes, kind: LoopKind::Vector(VECTOR), body }];
    let kind = LoopKind::Grid { threads: THREADS, lanes: 1 };
    Some(Stmt::For { axis: axis.clone(), extent: total, kind, body })
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

/// Threads that run statements together.
struct Team<'a> {
    kind: Kind,
    threads: u32,
    work: &'a Work<'a>,
    /// The loops around.
    ranges: Ranges,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Group,
}

impl Team<'_> {
    /// Its statements: loops become loops over threads.
    fn inside(&self, block: &[Stmt]) -> Vec<Stmt> {
        let mut out = Vec::with_capacity(block.len());
        let mut rest = block;
        while let [stmt, after @ ..] = rest {
            rest = after;
            let reduction = after.first().and_then(|next| Reduction::find(stmt, next));
            if let Some(reduction) = reduction.filter(|reduction| self.work.is_worth_lanes(reduction)) {
                rest = &after[1..];
                out.extend(reduction.in_threads(self.threads));
                continue;
            }
            let running = self.work.running_total(stmt, after).filter(|_| self.kind == Kind::Block);
            if let Some(running) = running {
                rest = &after[1..];
                out.extend(running.in_stretches(self.threads));
                continue;
            }
            out.push(match stmt {
                Stmt::For { .. } => self.nest(stmt),
                Stmt::If { cond, then } => Stmt::If { cond: cond.clone(), then: self.inside(then) },
                other => other.clone(),
            });
        }
        out
    }

    fn nest(&self, stmt: &Stmt) -> Stmt {
        let (mut axes, mut body) = independent(std::slice::from_ref(stmt));
        let bounds: Option<Vec<Dim>> = axes.iter().map(|(_, extent)| self.bound(extent)).collect();
        // Loops whose ends nobody knows are not one.
        if bounds.is_none() && axes.len() > 1 {
            axes.truncate(1);
            let Stmt::For { body: rest, .. } = stmt else { return stmt.clone() };
            body = rest;
        }
        let most = bounds.iter().flatten().try_fold(1, |all, bound| Some(all * bound.as_const()?));
        let most = most.filter(|_| bounds.is_some());
        if axes.is_empty() || has_product(body) || most.is_some_and(|most| self.is_few(most, body)) {
            let Stmt::For { axis, extent, kind, body } = stmt else { return stmt.clone() };
            let body = self.within(&[(axis.clone(), extent.clone())]).inside(body);
            return Stmt::For { axis: axis.clone(), extent: extent.clone(), kind: *kind, body };
        }
        let lanes = most.map_or(1, |most| self.lanes(most, body));
        let body = match lanes {
            1 => body.to_vec(),
            _ => Team { kind: Kind::Group, threads: lanes, ..self.within(&axes) }.inside(body),
        };
        let kind = LoopKind::Threads(lanes);
        if let [(axis, extent)] = &axes[..] {
            let (axis, extent) = (axis.clone(), extent.clone());
            return Stmt::For { axis, extent, kind, body };
        }
        let bounds = bounds.expect("bug: several axes have bounds");
        let mut body = body;
        let cut = axes.iter().zip(&bounds).rev().filter(|((_, extent), bound)| extent != *bound);
        for ((axis, extent), _) in cut {
            let cond = Expr::binary(Binary::Lt, Dim::from(axis).into(), extent.into());
            body = vec![Stmt::If { cond, then: body }];
        }
        let axis = Symbol::new(axes.iter().map(|(axis, _)| axis.name()).collect::<String>());
        let axes: Axes = axes.into_iter().zip(bounds).map(|((axis, _), bound)| (axis, bound)).collect();
        let total: Dim = axes.iter().map(|(_, extent)| extent.clone()).product();
        let body = along(&axes, &Dim::from(&axis), &total, &body);
        Stmt::For { axis, extent: total, kind, body }
    }

    /// The same threads in loops.
    fn within(&self, axes: &[(Symbol, Dim)]) -> Team<'_> {
        let mut ranges = self.ranges.clone();
        axes.iter().for_each(|(axis, extent)| ranges.enter(axis.clone(), extent.clone()));
        Team { ranges, ..*self }
    }

    /// Are so many iterations too few to be spread, since each is long?
    fn is_few(&self, count: i64, body: &[Stmt]) -> bool {
        let warps = i64::from(self.threads.div_ceil(WARP));
        match self.kind {
            Kind::Block => count < warps && self.work.width(body) > i64::from(self.threads),
            Kind::Group => count < i64::from(self.threads) && self.work.width(body) > count,
        }
    }

    /// How many threads have an iteration together, if there are so many.
    fn lanes(&self, count: i64, body: &[Stmt]) -> u32 {
        let width = self.work.width(body);
        if self.kind == Kind::Group || width < WORTH_LANES || has_array(body) || self.work.has_running(body) {
            return 1;
        }
        let spare = i64::from(self.threads) / (count.max(1) as u64).next_power_of_two() as i64;
        let lanes = spare.min(width).clamp(1, i64::from(WARP)) as u32;
        1 << lanes.ilog2()
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
