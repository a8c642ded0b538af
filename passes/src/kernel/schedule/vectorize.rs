//! Chooses the vector axis of each nest of independent loops, and moves it inside.
//!
//! The best axis is the one along which most elements lie side by side in memory, or are the same. A weight whose
//! only use of the axis is one whole index can be laid out so that they do.

use ir::DType;
use ir::Dim;
use ir::dim::{Ranges, Symbol};
use ir::kernel::{Body, Expr, ExprKind, KernelKind, LoopKind, Stmt};
use ir::program::{Layout, Program};
use ir::scalar::Unary;

use super::access::{Access, Arrays, accesses, enter_all, varies};
use super::{is_independent, lay_out, weights_behind};
use crate::lower::{any_expr, map_block};

/// Lanes of a vector loop: one virtual width for every target.
const LANES: u32 = 16;

/// What an access inside so many loops counts, relative to one outside.
const LOOP_WEIGHT: i64 = 8;

/// What a function that becomes a polynomial counts, relative to an access.
const FUNCTION_WEIGHT: i64 = 4;

/// The longest distance of elements that are near.
const NEAR: i64 = 4;

/// At most so many guards of a load may differ between lanes.
const GUARDS: usize = 2;

/// The kernel's body with vector loops.
pub(super) fn vectorize(program: &mut Program, kernel: usize, body: Vec<Stmt>) -> Vec<Stmt> {
    nests(program, kernel, body, &Ranges::new())
}

fn nests(program: &mut Program, kernel: usize, block: Vec<Stmt>, ranges: &Ranges) -> Vec<Stmt> {
    let is_attention = program.kernels[kernel].kind == KernelKind::Attention;
    let mut out = Vec::with_capacity(block.len());
    for stmt in block {
        out.push(match stmt {
            Stmt::For { axis, extent, kind: LoopKind::Serial, body } if is_independent(&axis, &body) => {
                nest(program, kernel, axis, extent, body, ranges)
            }
            // Rows and tiles of an attention: what is inside has lanes of its own.
            Stmt::For { axis, extent, kind: LoopKind::Serial, body } if is_attention => {
                let mut ranges = ranges.clone();
                ranges.enter(axis.clone(), extent.clone());
                let body = nests(program, kernel, body, &ranges);
                Stmt::For { axis, extent, kind: LoopKind::Serial, body }
            }
            other => other,
        });
    }
    out
}

/// Is there a matrix product in the block?
fn has_products(block: &[Stmt]) -> bool {
    let mut found = false;
    block.iter().for_each(|stmt| stmt.walk(&mut |stmt| found |= matches!(stmt, Stmt::Gemm(_))));
    found
}

/// A loop and the independent loops directly inside it.
fn nest(
    program: &mut Program,
    kernel: usize,
    axis: Symbol,
    extent: Dim,
    body: Vec<Stmt>,
    ranges: &Ranges,
) -> Stmt {
    let mut axes = vec![(axis, extent)];
    let mut body = body;
    loop {
        match &body[..] {
            [Stmt::For { axis, extent, kind: LoopKind::Serial, body: inner }]
                if is_independent(axis, inner) =>
            {
                axes.push((axis.clone(), extent.clone()));
                body = inner.clone();
            }
            _ => break,
        }
    }
    let mut ranges = ranges.clone();
    for (axis, extent) in &axes {
        ranges.enter(axis.clone(), extent.clone());
    }
    let leaf = body.iter().all(|stmt| match stmt {
        Stmt::For { axis, body, .. } => !is_independent(axis, body) && !has_products(body),
        Stmt::Gemm(_) | Stmt::Sort(_) | Stmt::Alloc { .. } => false,
        _ => true,
    });
    if !leaf {
        let body = nests(program, kernel, body, &ranges);
        return serial(axes, body);
    }
    enter_all(&body, &mut ranges);
    match best_axis(program, kernel, &axes, &body, &ranges) {
        Some(choice) => {
            let vector = axes.remove(choice.axis);
            for (weight, perm) in &choice.layouts {
                lay_out(program, kernel, weight, &|_| Layout::Permuted(perm.clone()));
                let dtype = program.kernels[kernel].param(weight).map_or(DType::F32, |param| param.ty.dtype);
                body = permute_loads(&body, weight, dtype, perm);
            }
            let (axis, extent) = vector;
            let inner = Stmt::For { axis, extent, kind: LoopKind::Vector(LANES), body };
            serial(axes, vec![inner])
        }
        None => serial(axes, body),
    }
}

fn serial(axes: Vec<(Symbol, Dim)>, body: Vec<Stmt>) -> Stmt {
    let mut block = body;
    for (axis, extent) in axes.into_iter().rev() {
        block = vec![Stmt::For { axis, extent, kind: LoopKind::Serial, body: block }];
    }
    match block.into_iter().next() {
        Some(stmt) => stmt,
        None => unreachable!("bug: a nest without loops"),
    }
}

struct Choice {
    axis: usize,
    /// Weights to be laid out, with the permutation of their axes.
    layouts: Vec<(Symbol, Vec<usize>)>,
}

fn best_axis(
    program: &Program,
    kernel: usize,
    axes: &[(Symbol, Dim)],
    body: &[Stmt],
    ranges: &Ranges,
) -> Option<Choice> {
    let Body::Loops(whole) = &program.kernels[kernel].body else { return None };
    let arrays = Arrays::of(&program.kernels[kernel], whole);
    let (touched, all) = (accesses(body), accesses(whole));
    let functions = FUNCTION_WEIGHT * functions(body, 1);
    let mut best: Option<(i64, Choice)> = None;
    // Inner axes first: between equals, the order stays.
    for axis in (0..axes.len()).rev() {
        let name = &axes[axis].0;
        if !has_lanes(body, name) {
            continue;
        }
        let (mut score, mut layouts) = (0, Vec::new());
        for access in &touched {
            let weight = LOOP_WEIGHT.pow(access.depth.min(4) as u32) * if access.is_store { 2 } else { 1 };
            score += match along(program, kernel, &arrays, access, &all, name, ranges) {
                Along::Same => 0,
                // Mostly all lanes agree on a guard, but it takes time to find out.
                Along::Next => match access.guards_along(name) {
                    0 => weight,
                    1..=GUARDS => weight / 4,
                    _ => -2 * weight,
                },
                Along::Near if access.is_store || access.guards_along(name) > GUARDS => -2 * weight,
                Along::Near => 0,
                Along::Laid(perm) => {
                    layouts.push((access.array.clone(), perm));
                    weight
                }
                Along::Apart => -2 * weight,
            };
        }
        layouts.dedup();
        if score + functions > 0 && best.as_ref().is_none_or(|(b, _)| score > *b) {
            best = Some((score, Choice { axis, layouts }));
        }
    }
    best.map(|(_, choice)| choice)
}

/// How many functions the block computes that become polynomials, weighed by the loops around.
fn functions(block: &[Stmt], weight: i64) -> i64 {
    let mut sum = 0;
    for stmt in block {
        for e in stmt.exprs() {
            e.walk(&mut |e| {
                let polynomial = matches!(
                    e.kind(),
                    ExprKind::Unary(Unary::Exp | Unary::Log | Unary::Tanh | Unary::Erf, _)
                );
                sum += if polynomial { weight } else { 0 };
            });
        }
        let weight = if let Stmt::For { .. } = stmt { weight * LOOP_WEIGHT } else { weight };
        sum += stmt.blocks().into_iter().map(|block| functions(block, weight)).sum::<i64>();
    }
    sum
}

/// How elements lie along an axis.
enum Along {
    /// It is the same element.
    Same,
    /// Side by side.
    Next,
    /// A few elements apart: lanes share lines of memory.
    Near,
    /// Side by side, if the weight's axes are permuted so.
    Laid(Vec<usize>),
    /// Apart, or depending on data.
    Apart,
}

fn along(
    program: &Program,
    kernel: usize,
    arrays: &Arrays,
    access: &Access,
    all: &[Access],
    axis: &Symbol,
    ranges: &Ranges,
) -> Along {
    match arrays.stride(access.array, access.at, axis, ranges) {
        Some(stride) if stride.is(0) => return Along::Same,
        Some(stride) if stride.is(1) => return Along::Next,
        Some(stride) if stride.as_const().is_some_and(|s| (2..=NEAR).contains(&s)) => return Along::Near,
        _ => {}
    }
    // One index is the axis, and no other mentions it; nothing else in the kernel loads the weight.
    let whole: Vec<usize> = (0..access.at.len())
        .filter(|&i| access.at[i].as_index().is_some_and(|d| d.as_symbol() == Some(axis)))
        .collect();
    let mentions = access.at.iter().filter(|i| i.as_index().is_none_or(|d| d.mentions(axis))).count();
    let once = all.iter().filter(|other| other.array == access.array).count() == 1;
    let plain = weights_behind(program, kernel, access.array)
        .is_some_and(|w| w.iter().all(|&w| program.weights[w].layout == Layout::Plain));
    match whole[..] {
        [at] if mentions == 1 && once && plain => {
            let mut perm: Vec<usize> = (0..access.at.len()).filter(|&i| i != at).collect();
            perm.push(at);
            Along::Laid(perm)
        }
        _ => Along::Apart,
    }
}

/// Types of elements and of what is computed of them in lanes of 32 bits.
const LANED: [DType; 6] = [DType::F32, DType::I32, DType::U8, DType::I8, DType::F16, DType::BF16];

/// Is everything in the block such that lanes along the axis make sense: 32-bit floats and integers, 16-bit floats and bytes where it
/// varies, and branches only inside expressions?
pub(super) fn has_lanes(body: &[Stmt], axis: &Symbol) -> bool {
    let other = any_expr(body, &mut |e| match e {
        ExprKind::Load { dtype, at, .. } => !LANED.contains(dtype) && at.iter().any(|i| varies(i, axis)),
        ExprKind::Cast(dtype, x) => !LANED.contains(dtype) && varies(x, axis),
        ExprKind::Var { dtype, .. } => !LANED.contains(dtype),
        _ => false,
    });
    let mut branches = false;
    for stmt in body {
        stmt.walk(&mut |stmt| {
            let straight = matches!(
                stmt,
                Stmt::For { .. }
                    | Stmt::Let { .. }
                    | Stmt::Var { .. }
                    | Stmt::Set { .. }
                    | Stmt::Store { .. }
            );
            branches |= !straight;
        });
    }
    !other && !branches
}

fn permute_loads(body: &[Stmt], weight: &Symbol, dtype: DType, perm: &[usize]) -> Vec<Stmt> {
    let change = |e: &Expr| {
        e.replace_loads(&mut |source, at| {
            (source == weight).then(|| {
                Expr::load(
                    source.clone(),
                    dtype,
                    perm.iter().map(|&axis| at[axis].clone()).collect::<Vec<_>>(),
                )
            })
        })
    };
    map_block(body, &change, &|dim| dim.clone())
}
