//! Recognises a matrix product in plain loops, and gives it to the micro-kernels.
//!
//! The loops are those that lowering makes: a row and a column axis around an accumulator from zero, a loop that adds
//! products to it, and what becomes of the sum. A constant right operand is laid out in panels ahead of time; any
//! other is packed into scratch memory at run time.

use ir::dim::{Ranges, Symbol};
use ir::kernel::stmt::PANEL;
use ir::kernel::{Access, Expr, ExprKind, Gemm, LoopKind, Param, Stmt};
use ir::program::{Layout, Program};
use ir::types::strides;
use ir::{DType, Dim, TensorType};

use super::access::{Arrays, accesses};
use super::{is_independent, keeps_scalars, lay_out, weights_behind};
use crate::lower::{Names, add_scratch, substitute_block};

/// The kernel's body with matrix products as statements.
pub(super) fn use_gemm(program: &mut Program, kernel: usize, body: Vec<Stmt>) -> Vec<Stmt> {
    rewrite(program, kernel, body, &Ranges::new())
}

fn rewrite(program: &mut Program, kernel: usize, block: Vec<Stmt>, ranges: &Ranges) -> Vec<Stmt> {
    let mut out = Vec::with_capacity(block.len());
    for stmt in block {
        if let Some(product) = Product::find(program, kernel, &stmt, ranges) {
            out.push(product.into_stmt(program, kernel));
            continue;
        }
        out.push(match stmt {
            Stmt::For { axis, extent, kind, body } => {
                let mut ranges = ranges.clone();
                ranges.enter(axis.clone(), extent.clone());
                let body = rewrite(program, kernel, body, &ranges);
                Stmt::For { axis, extent, kind, body }
            }
            other => other,
        });
    }
    out
}

/// `for row { for col { var acc = 0; for depth { acc = a·b + acc }; body } }`.
struct Product {
    row: (Symbol, Dim),
    col: (Symbol, Dim),
    depth: (Symbol, Dim),
    a: Expr,
    b: Expr,
    acc: Symbol,
    body: Vec<Stmt>,
    /// The right operand as a matrix in memory.
    b_place: Place,
}

/// A load that is affine in two axes: `offset + first·i + second·j`.
struct Place {
    array: Symbol,
    offset: Dim,
    first: Dim,
    second: Dim,
}

impl Product {
    fn find(program: &Program, kernel: usize, stmt: &Stmt, ranges: &Ranges) -> Option<Product> {
        let chain = chain(stmt);
        if chain.axes.len() <= 2 {
            return Product::from_chain(program, kernel, &chain, ranges);
        }
        // All loops but the last are one row axis, if the left operand is affine in it. If not, the outermost loop
        // stays a loop, and the search goes on inside.
        Product::from_chain(program, kernel, &collapsed(chain)?, ranges)
    }

    fn from_chain(program: &Program, kernel: usize, chain: &Chain, ranges: &Ranges) -> Option<Product> {
        let [row, col] = &chain.axes[..] else { return None };
        let [
            Stmt::Var { name: acc, init },
            Stmt::For { axis, extent, kind: LoopKind::Serial, body },
            rest @ ..,
        ] = &chain.body[..]
        else {
            return None;
        };
        let [Stmt::Set { name, value }] = &body[..] else { return None };
        let ExprKind::Fma(a, b, sum) = value.kind() else { return None };
        let is_acc = matches!(sum.kind(), ExprKind::Var { name, .. } if name == acc);
        let zero = Expr::number(DType::F32, 0.0);
        if name != acc || !is_acc || *init != zero || !keeps_scalars(rest) || has_loops(rest) {
            return None;
        }
        let mut ranges = ranges.clone();
        for (axis, extent) in [row, col, &(axis.clone(), extent.clone())] {
            ranges.enter(axis.clone(), extent.clone());
        }
        let arrays = Arrays::of(&program.kernels[kernel], &chain.body);
        let place = |e: &Expr, i: &Symbol, j: &Symbol, not: &Symbol| {
            let ExprKind::Load { source, dtype: DType::F32, at } = e.kind() else { return None };
            let position = arrays.position(source, at, &ranges)?;
            let (first, rest) = position.linear_in(i)?;
            let (second, offset) = rest.linear_in(j)?;
            let clean = [&first, &second, &offset].iter().all(|d| ![i, j, not].iter().any(|s| d.mentions(s)));
            let constant_strides = !first.is(0) && !second.is(0);
            (clean && constant_strides).then(|| Place { array: source.clone(), offset, first, second })
        };
        for (a, b) in [(a, b), (b, a)] {
            let left = place(a, &row.0, axis, &col.0);
            let right = place(b, axis, &col.0, &row.0);
            if let (Some(_), Some(b_place)) = (left, right) {
                return Some(Product {
                    row: row.clone(),
                    col: col.clone(),
                    depth: (axis.clone(), extent.clone()),
                    a: a.clone(),
                    b: b.clone(),
                    acc: acc.clone(),
                    body: rest.to_vec(),
                    b_place,
                });
            }
        }
        None
    }

    fn into_stmt(self, program: &mut Program, kernel: usize) -> Stmt {
        let (depth, col) = (Dim::from(&self.depth.0), Dim::from(&self.col.0));
        let panel = Dim::constant(PANEL);
        let in_panels = |name: Symbol| {
            let at = [col.floor_div(&panel), depth.clone(), col.modulo(&panel)];
            Expr::load(name, DType::F32, at.map(Expr::from))
        };
        let mut b = self.b.clone();
        let mut workspace = None;
        match self.constant_panels(program, kernel) {
            Some(layout) => {
                lay_out(program, kernel, &self.b_place.array, &|_| layout.clone());
                b = in_panels(self.b_place.array.clone());
            }
            None => {
                let panels = self.col.1.ceil_div(&panel);
                let shape = [panels, self.depth.1.clone(), panel];
                let params = program.kernels[kernel].params.iter().map(|p| p.name.name());
                let name = Symbol::new(Names::of(params).fresh("packed", "p"));
                let ty = TensorType::new(DType::F32, shape);
                add_scratch(program, kernel, &[Param { name: name.clone(), ty, access: Access::Scratch }]);
                workspace = Some(name);
            }
        }
        let Product { row, col, depth, a, acc, body, .. } = self;
        Stmt::Gemm(Box::new(Gemm { row, col, depth, a, b, workspace, acc, body }))
    }

    /// The layout in panels, if the right operand is a weight that nothing else in the kernel loads, at numbers.
    fn constant_panels(&self, program: &Program, kernel: usize) -> Option<Layout> {
        let place = &self.b_place;
        let weights = weights_behind(program, kernel, &place.array)?;
        let plain = weights.iter().all(|&w| program.weights[w].layout == Layout::Plain);
        let elsewhere = accesses(&self.body).iter().any(|access| *access.array == place.array);
        let number = |d: &Dim| d.as_const().and_then(|v| usize::try_from(v).ok());
        let layout = Layout::Panels {
            depth: number(&self.depth.1)?,
            cols: number(&self.col.1)?,
            row: number(&place.first)?,
            col: number(&place.second)?,
            offset: number(&place.offset)?,
        };
        (plain && !elsewhere).then_some(layout)
    }
}

fn has_loops(block: &[Stmt]) -> bool {
    block.iter().any(|stmt| matches!(stmt, Stmt::For { .. } | Stmt::Var { .. } | Stmt::Gemm(_)))
}

/// Perfectly nested independent loops, and what the innermost one does.
struct Chain {
    axes: Vec<(Symbol, Dim)>,
    body: Vec<Stmt>,
}

fn chain(stmt: &Stmt) -> Chain {
    let mut axes = Vec::new();
    let mut block = std::slice::from_ref(stmt);
    while let [Stmt::For { axis, extent, kind: LoopKind::Serial, body }] = block
        && is_independent(axis, body)
    {
        axes.push((axis.clone(), extent.clone()));
        block = body;
    }
    Chain { axes, body: block.to_vec() }
}

/// The chain with all loops but the last as one row axis.
fn collapsed(Chain { axes, body }: Chain) -> Option<Chain> {
    let (col, rows) = axes.split_last()?;
    let row = Symbol::new(format!("{}r", rows.first()?.0));
    let shape: Vec<Dim> = rows.iter().map(|(_, extent)| extent.clone()).collect();
    let extent: Dim = shape.iter().cloned().product();
    let mut ranges = Ranges::new();
    ranges.enter(row.clone(), extent.clone());
    let steps = strides(&shape);
    let parts: Vec<(Symbol, Dim)> = rows
        .iter()
        .enumerate()
        .map(|(i, (axis, size))| {
            let whole = Dim::from(&row).floor_div(&steps[i]);
            (axis.clone(), if i == 0 { whole } else { whole.modulo(size) }.simplify(&ranges))
        })
        .collect();
    let with = |s: &Symbol| parts.iter().find(|(axis, _)| axis == s).map(|(_, part)| part.clone());
    let body = substitute_block(&body, &with);
    Some(Chain { axes: vec![(row, extent), col.clone()], body })
}
