//! How loops touch memory: flat positions, and strides along an axis.

use std::collections::BTreeMap;

use ir::Dim;
use ir::dim::{Ranges, Symbol};
use ir::kernel::{Expr, ExprKind, Kernel, Stmt};
use ir::types::strides;

/// The shapes of everything that a kernel can index: parameters and local arrays.
pub(super) struct Arrays(BTreeMap<Symbol, Vec<Dim>>);

impl Arrays {
    pub(super) fn of(kernel: &Kernel, body: &[Stmt]) -> Arrays {
        let mut shapes: BTreeMap<Symbol, Vec<Dim>> =
            kernel.params.iter().map(|p| (p.name.clone(), p.ty.shape.clone())).collect();
        for stmt in body {
            stmt.walk(&mut |stmt| {
                if let Stmt::Alloc { name, shape, .. } = stmt {
                    shapes.insert(name.clone(), shape.iter().map(|&d| Dim::constant(d)).collect());
                }
            });
        }
        Arrays(shapes)
    }

    /// The size of an axis of an array.
    pub(super) fn size(&self, array: &Symbol, axis: usize) -> Option<Dim> {
        self.0.get(array)?.get(axis).cloned()
    }

    /// The row-major position of an index, simplified; `None` if it depends on data.
    pub(super) fn position(&self, array: &Symbol, at: &[Expr], ranges: &Ranges) -> Option<Dim> {
        let shape = self.0.get(array)?;
        let mut position = Dim::constant(0);
        for (i, stride) in at.iter().zip(strides(shape)) {
            position = position + i.as_index()?.clone() * stride;
        }
        Some(position.simplify(ranges))
    }

    /// How far elements lie apart along an axis, if that is the same from each to the next. Indices that depend on
    /// data may be the same all along.
    pub(super) fn stride(&self, array: &Symbol, at: &[Expr], axis: &Symbol, ranges: &Ranges) -> Option<Dim> {
        let still = |i: &Expr| match i.as_index() {
            None if !varies(i, axis) => Dim::constant(0).into(),
            _ => i.clone(),
        };
        let at: Vec<Expr> = at.iter().map(still).collect();
        let (stride, _) = self.position(array, &at, ranges)?.linear_in(axis)?;
        Some(stride)
    }
}

/// Does the expression depend on the axis, or on a scalar that may?
pub(super) fn varies(e: &Expr, axis: &Symbol) -> bool {
    e.any(&mut |e| match e.kind() {
        ExprKind::Index(dim) => dim.mentions(axis),
        ExprKind::Var { .. } => true,
        _ => false,
    })
}

/// One load or store.
pub(super) struct Access<'a> {
    pub(super) array: &'a Symbol,
    pub(super) at: &'a [Expr],
    /// Loops around it, counted from where the search began.
    pub(super) depth: usize,
    pub(super) is_store: bool,
    /// The conditions under which an expression loads it.
    pub(super) guards: Vec<&'a Expr>,
}

impl Access<'_> {
    /// On how many conditions that depend on the axis does it hang?
    pub(super) fn guards_along(&self, axis: &Symbol) -> usize {
        self.guards.iter().filter(|guard| varies(guard, axis)).count()
    }
}

/// Every load and store in a block.
pub(super) fn accesses(block: &[Stmt]) -> Vec<Access<'_>> {
    fn expr<'a>(e: &'a Expr, depth: usize, guards: &mut Vec<&'a Expr>, found: &mut Vec<Access<'a>>) {
        if let ExprKind::Load { source, at, .. } = e.kind() {
            found.push(Access { array: source, at, depth, is_store: false, guards: guards.clone() });
        }
        if let ExprKind::Select(cond, yes, no) = e.kind() {
            expr(cond, depth, guards, found);
            guards.push(cond);
            expr(yes, depth, guards, found);
            expr(no, depth, guards, found);
            guards.pop();
            return;
        }
        for child in e.children() {
            expr(child, depth, guards, found);
        }
    }
    fn block_into<'a>(block: &'a [Stmt], depth: usize, found: &mut Vec<Access<'a>>) {
        for stmt in block {
            for e in stmt.exprs() {
                expr(e, depth, &mut Vec::new(), found);
            }
            if let Stmt::Store { target, at, .. } = stmt {
                found.push(Access { array: target, at, depth, is_store: true, guards: Vec::new() });
            }
            let inner = depth + usize::from(matches!(stmt, Stmt::For { .. } | Stmt::Fold(_)));
            for block in stmt.blocks() {
                block_into(block, inner, found);
            }
        }
    }
    let mut found = Vec::new();
    block_into(block, 0, &mut found);
    found
}

/// What is known about the axes of the loops in a block, on top of `ranges`.
pub(super) fn enter_all(block: &[Stmt], ranges: &mut Ranges) {
    for stmt in block {
        stmt.walk(&mut |stmt| match stmt {
            Stmt::For { axis, extent, .. } => ranges.enter(axis.clone(), extent.clone()),
            Stmt::Fold(fold) => ranges.enter(fold.axis.clone(), fold.extent.clone()),
            _ => {}
        });
    }
}
