//! What a kernel costs, counted: arithmetic, and bytes of its parameters. For reports, gates and schedules.

use std::collections::BTreeMap;

use ir::dim::Symbol;
use ir::kernel::{Access, Body, Expr, ExprKind, Fold, Gemm, Kernel, KernelKind, LoopKind, Param, Stmt};
use ir::program::{Call, Program};
use ir::scalar::{Binary, Unary};
use ir::{DType, Dim};

use crate::lower::running::Running;

/// Iterations that are counted one by one, if there are no more.
const COUNTED: i64 = 64;

/// Counts of one call, over the sizes of the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations: one for each arithmetic function of an element, two for a multiply-add.
    pub flops: Dim,
    /// Bytes of what is read, each parameter once; of matrices that rows choose, as many as there are rows at most.
    pub bytes_read: Dim,
    /// Bytes of what is written, each parameter once; of one that is written in part only (rows of a cache), of as many
    /// elements as are stored at most.
    pub bytes_written: Dim,
}

/// What a call costs.
pub fn of_call(program: &Program, call: &Call) -> Cost {
    let kernel = &program.kernels[call.kernel];
    let sizes: BTreeMap<&Symbol, &Dim> = kernel.sizes.iter().zip(&call.sizes).collect();
    let with = |symbol: &Symbol| sizes.get(symbol).map(|&dim| dim.clone());
    let chosen = grouped(kernel);
    let bytes = |access: Access| -> Dim {
        let params = kernel.params.iter().filter(|param| param.access == access);
        let each = params.map(|param| {
            let all = param.ty.bytes();
            match chosen.iter().find(|gemm| matrices(gemm) == Some(&param.name)) {
                Some(Gemm { group: Some(group), row, .. }) => {
                    all.floor_div(&group.extent) * Dim::smaller(&group.extent, &elements(row))
                }
                _ if access == Access::Write => match stored(kernel, &param.name) {
                    Some(elements) => {
                        Dim::smaller(&all, &(elements * Dim::constant(param.ty.dtype.bytes() as i64)))
                    }
                    None => all,
                },
                _ => all,
            }
        });
        each.map(|bytes| bytes.substitute(&with)).sum()
    };
    Cost {
        flops: flops(kernel).substitute(&with),
        bytes_read: bytes(Access::Read),
        bytes_written: bytes(Access::Write),
    }
}

/// How many elements a kernel that only moves data stores in an array, if each loop says how often it runs.
fn stored(kernel: &Kernel, name: &Symbol) -> Option<Dim> {
    fn of_block(block: &[Stmt], name: &Symbol) -> Option<Dim> {
        block.iter().map(|stmt| of_stmt(stmt, name)).sum()
    }
    fn of_stmt(stmt: &Stmt, name: &Symbol) -> Option<Dim> {
        match stmt {
            Stmt::For { axis, extent, body, .. } => {
                let each = of_block(body, name)?;
                (!each.mentions(axis)).then(|| extent.clone() * each)
            }
            Stmt::If { then, .. } => of_block(then, name),
            Stmt::Store { target, .. } => Some(Dim::constant(i64::from(target == name))),
            Stmt::Let { .. } | Stmt::Var { .. } | Stmt::Set { .. } | Stmt::Alloc { .. } => {
                Some(Dim::constant(0))
            }
            Stmt::Fold(_) | Stmt::Gemm(_) | Stmt::Sort(_) => None,
        }
    }
    match &kernel.body {
        Body::Loops(body) if kernel.kind == KernelKind::Data => of_block(body, name),
        _ => None,
    }
}

/// What a product costs whose rows choose their matrices, next to one of all rows with all matrices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experts {
    /// How many matrices there are.
    pub count: Dim,
    /// How many of them a token chooses.
    pub chosen: Dim,
    /// Floating-point operations of the product.
    pub flops: Dim,
    /// Floating-point operations if each token met all matrices.
    pub flops_dense: Dim,
    /// Bytes that are read and written for a token.
    pub bytes_per_token: Dim,
}

/// The experts of a call, if it is of a product whose rows, several for each token, choose their matrices.
pub fn experts_of_call(program: &Program, call: &Call) -> Option<Experts> {
    let kernel = &program.kernels[call.kernel];
    let gemm = *grouped(kernel).first()?;
    let count = gemm.group.as_ref()?.extent.clone();
    let (tokens, chosen) = choices(kernel, &elements(&gemm.row))?;
    let width = elements(&gemm.col) * gemm.summed() * Dim::constant(2);
    let sizes: BTreeMap<&Symbol, &Dim> = kernel.sizes.iter().zip(&call.sizes).collect();
    let with = |symbol: &Symbol| sizes.get(symbol).map(|&dim| dim.clone());
    let Cost { bytes_read, bytes_written, .. } = of_call(program, call);
    Some(Experts {
        flops: (tokens.clone() * chosen.clone() * width.clone()).substitute(&with),
        flops_dense: (tokens.clone() * count.clone() * width).substitute(&with),
        bytes_per_token: (bytes_read + bytes_written).ceil_div(&tokens.substitute(&with)),
        count: count.substitute(&with),
        chosen: chosen.substitute(&with),
    })
}

/// How many tokens there are and how many experts each of them chooses, of so many rows: the experts' numbers have an axis
/// for the choices of a token, unless there is one.
fn choices(kernel: &Kernel, rows: &Dim) -> Option<(Dim, Dim)> {
    let is_number = |param: &&Param| param.access == Access::Read && param.ty.dtype == DType::I64;
    let mut numbers = kernel.params.iter().filter(is_number).map(|param| &param.ty);
    let shape = &numbers.find(|ty| ty.elements() == *rows)?.shape;
    Some(match &shape[..] {
        [tokens @ .., chosen] if !tokens.is_empty() && chosen.as_const().is_some() => {
            (tokens.iter().cloned().product(), chosen.clone())
        }
        _ => (rows.clone(), Dim::constant(1)),
    })
}

fn elements(axes: &[(Symbol, Dim)]) -> Dim {
    axes.iter().map(|(_, extent)| extent.clone()).product()
}

/// The products of a kernel whose rows choose their matrices.
fn grouped(kernel: &Kernel) -> Vec<&Gemm> {
    let mut found = Vec::new();
    let Body::Loops(body) = &kernel.body else { return found };
    for stmt in body {
        stmt.walk(&mut |stmt| match stmt {
            Stmt::Gemm(gemm) if gemm.group.is_some() => found.push(&**gemm),
            _ => {}
        });
    }
    found
}

/// The array that holds the matrices.
fn matrices(gemm: &Gemm) -> Option<&Symbol> {
    match gemm.b.kind() {
        ExprKind::Load { source, .. } => Some(source),
        _ => None,
    }
}

/// Floating-point operations of a kernel, over its sizes.
fn flops(kernel: &Kernel) -> Dim {
    match &kernel.body {
        // Tiles of an attention that are left out count for nothing, and there are more of them in one block than in
        // another.
        Body::Loops(body) if kernel.kind == KernelKind::Attention => block_flops(body, &on_average),
        Body::Loops(body) => block_flops(body, &times),
        Body::Stages(stages) => stages
            .iter()
            .map(|stage| {
                let elements: Dim = stage.axes.iter().map(|(_, extent)| extent.clone()).product();
                // A running total takes one element a step.
                let running = Running::of(stage);
                let one = running.map(|running| (running.axis, running.place_of_one(stage)));
                let place = |symbol: &Symbol| {
                    let (axis, place) = one.as_ref()?;
                    (*symbol == stage.axes[*axis].0).then(|| place.clone())
                };
                elements * expr_flops(&stage.body).substitute(&place)
            })
            .sum(),
    }
}

/// What so many iterations of a loop over an axis come to.
type Times<'a> = &'a dyn Fn(&Dim, Dim, &Symbol) -> Dim;

fn block_flops(block: &[Stmt], times: Times) -> Dim {
    block.iter().map(|stmt| stmt_flops(stmt, times)).sum()
}

fn stmt_flops(stmt: &Stmt, times: Times) -> Dim {
    let own: Dim = stmt.exprs().into_iter().map(expr_flops).sum();
    match stmt {
        Stmt::For { axis, extent, body, .. } => times(extent, block_flops(body, times), axis),
        Stmt::If { then, .. } => own + block_flops(then, times),
        Stmt::Fold(fold) => times(&fold.extent, block_flops(&fold.body, times), &fold.axis),
        Stmt::Gemm(gemm) => {
            gemm.elements() * (gemm.summed() * Dim::constant(2) + block_flops(&gemm.body, times))
        }
        Stmt::Let { .. }
        | Stmt::Var { .. }
        | Stmt::Set { .. }
        | Stmt::Store { .. }
        | Stmt::Alloc { .. }
        | Stmt::Sort(_) => own,
    }
}

/// `extent · each`; where `each` depends on the axis (the last block of a cut loop), its value in the first iteration
/// stands for all.
fn times(extent: &Dim, each: Dim, axis: &Symbol) -> Dim {
    let first = each.substitute(&|symbol| (symbol == axis).then(|| Dim::constant(0)));
    extent.clone() * first
}

/// The sum over the iterations, where they can be counted; else as many as there are of the mean of the first and the
/// last one.
fn on_average(extent: &Dim, each: Dim, axis: &Symbol) -> Dim {
    if !each.mentions(axis) {
        return extent.clone() * each;
    }
    let at = |value: Dim| each.substitute(&|symbol| (symbol == axis).then(|| value.clone()));
    match extent.as_const() {
        Some(count) if count <= COUNTED => (0..count).map(|i| at(Dim::constant(i))).sum(),
        _ => {
            let both = at(Dim::constant(0)) + at(extent.clone() - Dim::constant(1));
            (extent.clone() * both).floor_div(&Dim::constant(2))
        }
    }
}

fn expr_flops(e: &Expr) -> Dim {
    let inside: Dim = e.children().into_iter().map(expr_flops).sum();
    match e.kind() {
        ExprKind::Fma(..) => inside + Dim::constant(2),
        ExprKind::Unary(Unary::Not | Unary::IsNan | Unary::IsInf, _) => inside,
        ExprKind::Unary(_, x) if x.dtype().is_float() => inside + Dim::constant(1),
        ExprKind::Binary(f, a, _) if a.dtype().is_float() && !f.is_comparison() && *f != Binary::And => {
            inside + Dim::constant(1)
        }
        ExprKind::Fold(Fold { extent, body, .. }) => {
            let combine = i64::from(body.dtype().is_float());
            (inside + Dim::constant(combine)) * extent.clone()
        }
        _ => inside,
    }
}

/// Scalar operations of any kind in a block: what a schedule weighs.
pub(crate) fn block_operations(block: &[Stmt]) -> Dim {
    block
        .iter()
        .map(|stmt| {
            let own: i64 = stmt.exprs().into_iter().map(operations).sum();
            let own = Dim::constant(own + 1);
            match stmt {
                Stmt::For { axis, extent, kind, body } => {
                    let lanes = if let LoopKind::Vector(_) = kind { 4 } else { 1 };
                    times(extent, block_operations(body), axis).floor_div(&Dim::constant(lanes))
                }
                Stmt::If { then, .. } => own + block_operations(then),
                Stmt::Fold(fold) => {
                    let all = times(&fold.extent, block_operations(&fold.body), &fold.axis);
                    own + all.floor_div(&Dim::constant(4))
                }
                Stmt::Gemm(gemm) => (gemm.elements() * gemm.summed()).floor_div(&Dim::constant(8)),
                _ => own,
            }
        })
        .sum()
}

fn operations(e: &Expr) -> i64 {
    let inside: i64 = e.children().into_iter().map(operations).sum();
    inside + i64::from(!matches!(e.kind(), ExprKind::Const(_) | ExprKind::Index(_) | ExprKind::Var { .. }))
}
