//! Divides once where many are divided by the same.
//!
//! In a loop over lanes or behind a matrix product, a quotient by a scalar from outside becomes a product with its
//! reciprocal, which is computed before; one by a constant becomes a product with another constant.

use std::collections::BTreeSet;

use ir::kernel::{Expr, ExprKind, LoopKind, Stmt};
use ir::scalar::{Binary, Scalar};
use ir::{DType, Symbol};

/// The kernel's body with products for quotients.
pub(super) fn divide_once(body: Vec<Stmt>) -> Vec<Stmt> {
    let mut names = bound(&body);
    block(body, &mut names)
}

fn block(stmts: Vec<Stmt>, names: &mut BTreeSet<Symbol>) -> Vec<Stmt> {
    let mut out = Vec::with_capacity(stmts.len());
    for stmt in stmts {
        let stmt = match stmt {
            Stmt::For { axis, extent, kind: kind @ LoopKind::Vector(_), body } => {
                let body = many(body, names, &mut out);
                Stmt::For { axis, extent, kind, body }
            }
            Stmt::Gemm(mut gemm) => {
                gemm.body = many(std::mem::take(&mut gemm.body), names, &mut out);
                Stmt::Gemm(gemm)
            }
            Stmt::For { axis, extent, kind, body } => {
                Stmt::For { axis, extent, kind, body: block(body, names) }
            }
            Stmt::If { cond, then } => Stmt::If { cond, then: block(then, names) },
            other => other,
        };
        out.push(stmt);
    }
    out
}

/// The body of a loop that runs many times; what it needs goes before it.
fn many(body: Vec<Stmt>, names: &mut BTreeSet<Symbol>, before: &mut Vec<Stmt>) -> Vec<Stmt> {
    let mut inverse = Inverse { own: bound(&body), found: Vec::new(), names };
    let body = inverse.block(body);
    let one = || Expr::constant(Scalar::f32(1.0));
    before.extend(inverse.found.into_iter().map(|(of, name)| Stmt::Let {
        name,
        value: Expr::binary(Binary::Div, one(), Expr::var(of, DType::F32)),
    }));
    body
}

/// Scalars that are bound or changed in a block.
fn bound(block: &[Stmt]) -> BTreeSet<Symbol> {
    let mut names = BTreeSet::new();
    for stmt in block {
        stmt.walk(&mut |stmt| match stmt {
            Stmt::Let { name, .. } | Stmt::Var { name, .. } | Stmt::Set { name, .. } => {
                names.insert(name.clone());
            }
            Stmt::Fold(fold) => {
                names.insert(fold.acc.clone());
            }
            Stmt::Gemm(gemm) => {
                names.insert(gemm.acc.clone());
            }
            _ => {}
        });
    }
    names
}

struct Inverse<'a> {
    /// Scalars that differ between iterations.
    own: BTreeSet<Symbol>,
    /// Divisors, and the names of their reciprocals.
    found: Vec<(Symbol, Symbol)>,
    /// Names that are taken.
    names: &'a mut BTreeSet<Symbol>,
}

impl Inverse<'_> {
    fn block(&mut self, stmts: Vec<Stmt>) -> Vec<Stmt> {
        let exprs = |this: &mut Self, at: Vec<Expr>| at.iter().map(|e| this.expr(e)).collect();
        let stmts = stmts.into_iter().map(|stmt| match stmt {
            Stmt::For { axis, extent, kind, body } => {
                Stmt::For { axis, extent, kind, body: self.block(body) }
            }
            Stmt::If { cond, then } => Stmt::If { cond: self.expr(&cond), then: self.block(then) },
            Stmt::Let { name, value } => Stmt::Let { name, value: self.expr(&value) },
            Stmt::Var { name, init } => Stmt::Var { name, init: self.expr(&init) },
            Stmt::Set { name, value } => Stmt::Set { name, value: self.expr(&value) },
            Stmt::Store { target, at, value } => {
                Stmt::Store { target, at: exprs(self, at), value: self.expr(&value) }
            }
            other => other,
        });
        stmts.collect()
    }

    fn expr(&mut self, e: &Expr) -> Expr {
        let e = e.map_children(&mut |child| self.expr(child));
        let ExprKind::Binary(Binary::Div, a, b) = e.kind() else { return e };
        match b.kind() {
            ExprKind::Var { name, dtype: DType::F32 } if !self.own.contains(name) => {
                a.clone() * Expr::var(self.reciprocal(name), DType::F32)
            }
            ExprKind::Const(c) if b.dtype() == DType::F32 => {
                let inverse = 1.0 / f32::from_bits(c.bits() as u32);
                if inverse.is_normal() { a.clone() * Expr::constant(Scalar::f32(inverse)) } else { e }
            }
            _ => e,
        }
    }

    fn reciprocal(&mut self, of: &Symbol) -> Symbol {
        if let Some((_, known)) = self.found.iter().find(|(divisor, _)| divisor == of) {
            return known.clone();
        }
        let mut names = (0..).map(|number| Symbol::new(format!("r{number}")));
        let name = names.find(|name| !self.names.contains(name)).expect("numbers do not end");
        self.names.insert(name.clone());
        self.found.push((of.clone(), name.clone()));
        name
    }
}
