//! Makes kernels that do the same into one: layers repeat, and each kernel is compiled once.
//!
//! Two kernels do the same if they differ in names only: in their own, and in those of the sizes that they are
//! called with.

use std::collections::{BTreeMap, HashMap};

use ir::At;
use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Body, Expr, ExprKind, Kernel, LaneFold, Stmt};
use ir::program::Program;

use crate::error::PassError;
use crate::pass::{About, Changed, Cx, ProgramPass};

/// See the [module](self).
pub struct ShareKernels;

impl ProgramPass for ShareKernels {
    fn about(&self) -> About {
        About::new("share_kernels", "compile equal kernels once")
    }

    fn run(&self, program: &mut Program, _: &Cx) -> Result<Changed, At<PassError>> {
        let before = program.kernels.len();
        let mut first: HashMap<Kernel, usize> = HashMap::new();
        let mut kept: Vec<Kernel> = Vec::new();
        let mut place = Vec::with_capacity(before);
        for kernel in std::mem::take(&mut program.kernels) {
            let next = kept.len();
            let at = *first.entry(anonymous(&kernel)).or_insert(next);
            if at == next {
                kept.push(kernel);
            }
            place.push(at);
        }
        program.kernels = kept;
        for entry in &mut program.entries {
            entry.for_each_call_mut(&mut |call| call.kernel = place[call.kernel]);
        }
        Ok(Changed(program.kernels.len() < before))
    }
}

/// The kernel without a name, and its sizes numbered.
fn anonymous(kernel: &Kernel) -> Kernel {
    let sizes: BTreeMap<Symbol, Dim> = kernel
        .sizes
        .iter()
        .enumerate()
        .map(|(i, size)| (size.clone(), Dim::symbol(format!("size{i}"))))
        .collect();
    let with = |symbol: &Symbol| sizes.get(symbol).cloned();
    let mut params = kernel.params.clone();
    for param in &mut params {
        param.ty = param.ty.substitute(&with);
    }
    let body = match &kernel.body {
        Body::Loops(body) => Body::Loops(substitute_block(body, &with)),
        Body::Stages(stages) => Body::Stages(
            stages
                .iter()
                .map(|stage| ir::kernel::Stage {
                    name: stage.name.clone(),
                    axes: stage.axes.iter().map(|(a, e)| (a.clone(), e.substitute(&with))).collect(),
                    body: stage.body.substitute(&with),
                })
                .collect(),
        ),
    };
    let numbered = (0..kernel.sizes.len()).map(|i| Symbol::new(format!("size{i}"))).collect();
    let given = kernel.given.iter().map(|condition| condition.substitute(&with)).collect();
    Kernel { name: Symbol::new(""), kind: kernel.kind, sizes: numbered, given, params, body }
}

/// A block with axes and sizes replaced through `with`.
pub(crate) fn substitute_block(block: &[Stmt], with: &dyn Fn(&Symbol) -> Option<Dim>) -> Vec<Stmt> {
    map_block(block, &|e| e.substitute(with), &|dim| dim.substitute(with))
}

/// A block with every expression and every extent changed.
pub(crate) fn map_block(
    block: &[Stmt],
    expr: &dyn Fn(&Expr) -> Expr,
    dim: &dyn Fn(&Dim) -> Dim,
) -> Vec<Stmt> {
    block.iter().map(|stmt| map_stmt(stmt, expr, dim)).collect()
}

fn map_stmt(stmt: &Stmt, expr: &dyn Fn(&Expr) -> Expr, dim: &dyn Fn(&Dim) -> Dim) -> Stmt {
    match stmt {
        Stmt::For { axis, extent, kind, body } => Stmt::For {
            axis: axis.clone(),
            extent: dim(extent),
            kind: *kind,
            body: map_block(body, expr, dim),
        },
        Stmt::If { cond, then } => Stmt::If { cond: expr(cond), then: map_block(then, expr, dim) },
        Stmt::Let { name, value } => Stmt::Let { name: name.clone(), value: expr(value) },
        Stmt::Var { name, init } => Stmt::Var { name: name.clone(), init: expr(init) },
        Stmt::Set { name, value } => Stmt::Set { name: name.clone(), value: expr(value) },
        Stmt::Store { target, at, value } => {
            Stmt::Store { target: target.clone(), at: at.iter().map(expr).collect(), value: expr(value) }
        }
        Stmt::Alloc { .. } | Stmt::Sort(_) => stmt.clone(),
        Stmt::Fold(fold) => Stmt::Fold(Box::new(LaneFold {
            extent: dim(&fold.extent),
            body: map_block(&fold.body, expr, dim),
            ..(**fold).clone()
        })),
        Stmt::Gemm(gemm) => {
            let mut gemm = (**gemm).clone();
            for (_, extent) in gemm.row.iter_mut().chain(&mut gemm.col).chain(&mut gemm.depth) {
                *extent = dim(extent);
            }
            if let Some(group) = &mut gemm.group {
                group.extent = dim(&group.extent);
            }
            gemm.a = expr(&gemm.a);
            gemm.b = expr(&gemm.b);
            gemm.body = map_block(&gemm.body, expr, dim);
            Stmt::Gemm(Box::new(gemm))
        }
    }
}

/// Does any expression in the block satisfy `holds`?
pub(crate) fn any_expr(block: &[Stmt], holds: &mut dyn FnMut(&ExprKind) -> bool) -> bool {
    let mut found = false;
    for stmt in block {
        stmt.walk(&mut |inner| {
            for e in inner.exprs() {
                e.walk(&mut |e| found = found || holds(e.kind()));
            }
        });
    }
    found
}
