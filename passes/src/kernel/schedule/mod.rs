//! Chooses how the plain loops of a kernel run.
//!
//! From the inside out: a matrix product becomes one [`Gemm`](ir::kernel::Gemm) statement for the micro-kernels
//! (`gemm`); the best axis of every other nest becomes the vector loop, weights being laid out for it
//! (`vectorize`); a reduction along a row is left to lanes, if sums may be regrouped (`fold`), and what divides
//! many numbers divides once (`reciprocal`); the outermost loop is spread over threads (`parallelize`). For a GPU, loops
//! are spread over blocks and their threads instead (`blocks`, `running`). Choices depend on the loops and their sizes alone.

mod access;
mod blocks;
mod fold;
mod gemm;
mod groups;
mod parallelize;
mod reciprocal;
mod running;
mod stored;
mod unroll;
mod vectorize;

use std::collections::{BTreeMap, BTreeSet};

use ir::dim::Ranges;
use ir::kernel::{Body, Stmt};
use ir::program::{Arg, Layout, PackedWeight, Program};
use ir::{At, Dim, Symbol};

use crate::error::PassError;
use crate::lower::{Names, drop_unused_weights};
use crate::pass::{About, Changed, Cx, FpMode, ProgramPass};
use crate::target::Target;

/// See the [module](self).
pub struct Schedule;

impl ProgramPass for Schedule {
    fn about(&self) -> About {
        About::new("schedule", "choose micro-kernels, vector loops and parallel loops")
    }

    fn run(&self, program: &mut Program, cx: &Cx) -> Result<Changed, At<PassError>> {
        let mut changed = false;
        for at in 0..program.kernels.len() {
            let Body::Loops(body) = &program.kernels[at].body else { continue };
            let before = body.clone();
            let mut body = gemm::use_gemm(program, at, before.clone(), cx.target);
            body = match cx.target {
                Target::Cpu => for_cpu(program, at, body, cx),
                Target::Gpu => blocks::in_blocks(&program.kernels[at], body, cx.fp),
            };
            changed |= body != before;
            program.kernels[at].body = Body::Loops(body);
        }
        drop_unused_weights(program);
        Ok(Changed(changed))
    }
}

fn for_cpu(program: &mut Program, kernel: usize, body: Vec<Stmt>, cx: &Cx) -> Vec<Stmt> {
    let mut body = vectorize::vectorize(program, kernel, body);
    if cx.fp != FpMode::Strict {
        body = fold::fold_rows(&program.kernels[kernel], body);
        body = reciprocal::divide_once(body);
    }
    parallelize::parallelize(unroll::unroll_taps(body))
}

/// Do the iterations of a loop over `axis` with this body not depend on each other? No scalar from outside is changed
/// in the body, and an array from outside that is written has an axis along which each iteration keeps to itself.
fn is_independent(axis: &Symbol, body: &[Stmt]) -> bool {
    keeps_scalars(body) && writes_apart(axis, body)
}

/// Is no scalar from outside changed in the body?
fn keeps_scalars(body: &[Stmt]) -> bool {
    fn sets(block: &[Stmt], bound: &mut Vec<Symbol>) -> bool {
        let depth = bound.len();
        let mut found = false;
        for stmt in block {
            match stmt {
                Stmt::Var { name, .. } => bound.push(name.clone()),
                Stmt::Fold(fold) => bound.push(fold.acc.clone()),
                Stmt::Set { name, .. } => found |= !bound.contains(name),
                _ => {}
            }
            for inner in stmt.blocks() {
                found |= sets(inner, bound);
            }
        }
        bound.truncate(depth);
        found
    }
    !sets(body, &mut Vec::new())
}

/// Is there, for each array from outside that the body writes, a place in the index where every access to it has the
/// same stretch for an iteration?
fn writes_apart(axis: &Symbol, body: &[Stmt]) -> bool {
    let (mut own, mut written, mut sorts) = (BTreeSet::new(), BTreeSet::new(), false);
    for stmt in body {
        stmt.walk(&mut |stmt| match stmt {
            Stmt::Alloc { name, .. } => {
                own.insert(name);
            }
            Stmt::Store { target, .. } => {
                written.insert(target);
            }
            Stmt::Sort(_) => sorts = true,
            _ => {}
        });
    }
    let accesses = access::accesses(body);
    let ranges = ranges_inside(body);
    let apart = |array: &Symbol| {
        let mut places: Option<BTreeSet<(usize, Dim, Dim)>> = None;
        for access in accesses.iter().filter(|access| access.array == array) {
            let here = |at: usize| {
                let (stretch, first) = own_stretch(axis, access.at[at].as_index()?, &ranges)?;
                Some((at, stretch, first))
            };
            let here = (0..access.at.len()).filter_map(here);
            places = Some(match places {
                None => here.collect(),
                Some(before) => here.filter(|at| before.contains(at)).collect(),
            });
        }
        places.is_some_and(|places| !places.is_empty())
    };
    !sorts && written.difference(&own).all(|array| apart(array))
}

/// The ranges of the loops in a block. Of loops that share an axis, the axis has the range only if all have the same.
fn ranges_inside(body: &[Stmt]) -> Ranges {
    let mut extents: BTreeMap<&Symbol, Option<&Dim>> = BTreeMap::new();
    for stmt in body {
        stmt.walk(&mut |stmt| {
            let axes: Vec<(&Symbol, &Dim)> = match stmt {
                Stmt::For { axis, extent, .. } => vec![(axis, extent)],
                Stmt::Fold(fold) => vec![(&fold.axis, &fold.extent)],
                Stmt::Gemm(gemm) => gemm.outer().map(|(axis, extent)| (axis, extent)).collect(),
                _ => vec![],
            };
            for (axis, extent) in axes {
                let known = extents.entry(axis).or_insert(Some(extent));
                *known = known.filter(|known| *known == extent);
            }
        });
    }
    let mut ranges = Ranges::new();
    for (axis, extent) in extents {
        // An axis may be any number where loops do not agree: nothing is proved of it.
        let extent = extent.cloned().unwrap_or_else(|| Dim::symbol(format!("{axis}.extent")));
        ranges.enter(axis.clone(), extent);
    }
    ranges
}

/// `n` and `m`, where the index is `n·axis + m + k` with `0 ≤ k < n`, and loops inside change `k` alone: then each
/// iteration of the axis has a stretch of its own. These are the ranges of those loops.
fn own_stretch(axis: &Symbol, index: &Dim, inside: &Ranges) -> Option<(Dim, Dim)> {
    let (stretch, rest) = index.linear_in(axis)?;
    let first = rest.substitute(&|symbol| inside.extent(symbol).map(|_| Dim::constant(0)));
    let place = rest - first.clone();
    let last = stretch.clone() - Dim::constant(1);
    let fits = stretch.as_const().is_some_and(|n| n > 0)
        && inside.is_nonnegative(&place)
        && inside.is_nonnegative(&(last - place));
    fits.then_some((stretch, first))
}

/// The weight behind a parameter at every step of the kernel, if it is one everywhere, as it is stored now.
fn weights_behind(program: &Program, kernel: usize, param: &Symbol) -> Option<Vec<usize>> {
    let position = program.kernels[kernel].params.iter().position(|p| p.name == *param)?;
    let calls = program.entries.iter().flat_map(|entry| entry.calls()).filter(|call| call.kernel == kernel);
    calls
        .map(|call| match call.args[position] {
            Arg::Weight(weight) => Some(weight),
            _ => None,
        })
        .collect::<Option<Vec<usize>>>()
        .filter(|weights| !weights.is_empty())
}

/// Gives the kernel's parameter its weights in another layout. The caller changes the loads.
fn lay_out(program: &mut Program, kernel: usize, param: &Symbol, layout: &dyn Fn(&PackedWeight) -> Layout) {
    let position = program.kernels[kernel]
        .params
        .iter()
        .position(|p| p.name == *param)
        .expect("bug: the parameter was just looked up");
    let mut ty = None;
    let weights = &mut program.weights;
    for entry in &mut program.entries {
        entry.for_each_call_mut(&mut |call| {
            let Some(Arg::Weight(old)) = call.args.get(position).copied().filter(|_| call.kernel == kernel)
            else {
                return;
            };
            let source = &weights[old];
            let new = PackedWeight { layout: layout(source), ..source.clone() };
            let there = weights.iter().position(|w| w.weight == new.weight && w.layout == new.layout);
            let at = there.unwrap_or_else(|| {
                let mut names = Names::of(weights.iter().map(|w| w.name.name()));
                let name = names.fresh(&format!("{}.packed", new.name), "w");
                weights.push(PackedWeight { name: Symbol::new(name), ..new });
                weights.len() - 1
            });
            ty = Some(weights[at].ty());
            call.args[position] = Arg::Weight(at);
        });
    }
    if let Some(ty) = ty {
        program.kernels[kernel].params[position].ty = ty;
    }
}
