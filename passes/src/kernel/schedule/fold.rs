//! Gives a serial reduction along a row to sixteen lanes.
//!
//! What is left of reductions when vector loops have been chosen is a chain of operations, each of which waits for the
//! one before. Where elements lie side by side along the innermost axis, the chain becomes a fold in lanes. Axes that
//! are one run of memory together become one axis first; axes further out stay loops, and take in one fold each time.

use ir::dim::{Ranges, Symbol};
use ir::kernel::stmt::FOLD_LANES;
use ir::kernel::{Expr, ExprKind, Kernel, LaneFold, LoopKind, Reduce, Stmt};
use ir::{DType, Dim};

use super::access::{Arrays, accesses, enter_all};
use super::vectorize::has_lanes;
use crate::lower::substitute_block;

/// The kernel's body with folds in lanes.
pub(super) fn fold_rows(kernel: &Kernel, body: Vec<Stmt>) -> Vec<Stmt> {
    let arrays = Arrays::of(kernel, &body);
    rows(&arrays, body, &Ranges::new())
}

fn rows(arrays: &Arrays, block: Vec<Stmt>, ranges: &Ranges) -> Vec<Stmt> {
    let mut out: Vec<Stmt> = Vec::with_capacity(block.len());
    let mut rest = block.into_iter().peekable();
    while let Some(stmt) = rest.next() {
        if let Some(next) = rest.peek()
            && let Some(reduction) = Reduction::find(&stmt, next)
            && let Some(folded) = reduction.in_lanes(arrays, ranges)
        {
            out.extend(folded);
            rest.next();
            continue;
        }
        out.push(match stmt {
            Stmt::For { axis, extent, kind: LoopKind::Serial, body } => {
                let mut ranges = ranges.clone();
                ranges.enter(axis.clone(), extent.clone());
                Stmt::For { axis, extent, kind: LoopKind::Serial, body: rows(arrays, body, &ranges) }
            }
            Stmt::If { cond, then } => Stmt::If { cond, then: rows(arrays, then, ranges) },
            other => other,
        });
    }
    out
}

/// `var acc = neutral; for axes… { lets; set acc = acc ∘ element }`.
pub(super) struct Reduction {
    acc: Symbol,
    dtype: DType,
    op: Reduce,
    axes: Vec<(Symbol, Dim)>,
    body: Vec<Stmt>,
}

impl Reduction {
    pub(super) fn find(var: &Stmt, nest: &Stmt) -> Option<Reduction> {
        let Stmt::Var { name: acc, init } = var else { return None };
        let mut axes = Vec::new();
        let mut block = std::slice::from_ref(nest);
        while let [Stmt::For { axis, extent, kind: LoopKind::Serial, body }] = block {
            axes.push((axis.clone(), extent.clone()));
            block = body;
        }
        let (Stmt::Set { name, value }, lets) = block.split_last()? else { return None };
        let is_acc = |e: &Expr| matches!(e.kind(), ExprKind::Var { name, .. } if name == acc);
        let op = match value.kind() {
            ExprKind::Fma(a, b, sum) if is_acc(sum) && !mentions(a, acc) && !mentions(b, acc) => Reduce::Sum,
            ExprKind::Binary(function, sum, element) if is_acc(sum) && !mentions(element, acc) => {
                Reduce::ALL.into_iter().find(|op| op.function() == *function)?
            }
            _ => return None,
        };
        let plain = lets
            .iter()
            .all(|stmt| matches!(stmt, Stmt::Let { name, value } if name != acc && !mentions(value, acc)));
        let dtype = value.dtype();
        let neutral = *init == Expr::constant(op.neutral(dtype));
        (name == acc && plain && neutral && !axes.is_empty()).then(|| Reduction {
            acc: acc.clone(),
            dtype,
            op,
            axes,
            body: block.to_vec(),
        })
    }

    /// As folds in lanes, if elements lie side by side and are many enough.
    fn in_lanes(mut self, arrays: &Arrays, ranges: &Ranges) -> Option<Vec<Stmt>> {
        while let Some(joined) = self.joined()
            && joined.is_run(arrays, ranges)
        {
            self = joined;
        }
        let (_, extent) = self.axes.last()?;
        let enough = extent.as_const().is_none_or(|n| n >= FOLD_LANES as i64);
        let fits = self.dtype == DType::F32 && enough;
        (fits && self.is_run(arrays, ranges)).then(|| self.into_stmts(FOLD_LANES as u32))
    }

    /// As a fold in so many lanes, along as many axes as are one.
    pub(super) fn in_threads(mut self, lanes: u32) -> Vec<Stmt> {
        while let Some(joined) = self.joined() {
            self = joined;
        }
        self.into_stmts(lanes)
    }

    /// Is it the same in any order?
    pub(super) fn is_exact(&self) -> bool {
        !self.dtype.is_float() || matches!(self.op, Reduce::Max | Reduce::Min)
    }

    /// The number of elements.
    pub(super) fn extent(&self) -> Dim {
        self.axes.iter().map(|(_, extent)| extent.clone()).product()
    }

    /// With the two innermost axes as one.
    fn joined(&self) -> Option<Reduction> {
        let [outer @ .., (first, count), (second, size)] = &self.axes[..] else { return None };
        if size.mentions(first) {
            return None;
        }
        let both = Symbol::new(format!("{first}{second}"));
        let extent = count.clone() * size.clone();
        let mut ranges = Ranges::new();
        ranges.enter(both.clone(), extent.clone());
        let whole = Dim::from(&both).floor_div(size).simplify(&ranges);
        let part = (Dim::from(&both) - whole.clone() * size.clone()).simplify(&ranges);
        let with = |symbol: &Symbol| {
            if symbol == first { Some(whole.clone()) } else { (symbol == second).then(|| part.clone()) }
        };
        let body = substitute_block(&self.body, &with);
        let axes = outer.iter().cloned().chain([(both, extent)]).collect();
        Some(Reduction { acc: self.acc.clone(), dtype: self.dtype, op: self.op, axes, body })
    }

    /// Is each load along the innermost axis of elements side by side, or of the same one, and some of the former?
    fn is_run(&self, arrays: &Arrays, ranges: &Ranges) -> bool {
        let Some((axis, _)) = self.axes.last() else { return false };
        let mut ranges = ranges.clone();
        for (axis, extent) in &self.axes {
            ranges.enter(axis.clone(), extent.clone());
        }
        enter_all(&self.body, &mut ranges);
        let touched = accesses(&self.body);
        let strides: Option<Vec<i64>> = touched
            .iter()
            .map(|access| arrays.stride(access.array, access.at, axis, &ranges)?.as_const())
            .collect();
        strides.is_some_and(|strides| strides.contains(&1) && strides.iter().all(|s| (0..=1).contains(s)))
            && has_lanes(&self.body, axis)
            && touched.iter().all(|access| access.guards_along(axis) == 0)
    }

    fn into_stmts(self, lanes: u32) -> Vec<Stmt> {
        let Reduction { acc, dtype, op, mut axes, body } = self;
        let (axis, extent) = axes.pop().expect("bug: a reduction has an axis");
        if axes.is_empty() {
            return vec![Stmt::Fold(Box::new(LaneFold { acc, dtype, op, lanes, axis, extent, body }))];
        }
        // Each row in lanes, and the rows one after the other.
        let row = Symbol::new(format!("{acc}{axis}"));
        let renamed = Expr::var(row.clone(), dtype);
        let mut body = body;
        let Some(Stmt::Set { name, value }) = body.last_mut() else {
            unreachable!("bug: a reduction ends with its accumulator")
        };
        *value = value.map_children(&mut |e| if mentions(e, &acc) { renamed.clone() } else { e.clone() });
        name.clone_from(&row);
        let fold = Stmt::Fold(Box::new(LaneFold { acc: row, dtype, op, lanes, axis, extent, body }));
        let taken = Expr::binary(op.function(), Expr::var(acc.clone(), dtype), renamed);
        let inner = vec![fold, Stmt::Set { name: acc.clone(), value: taken }];
        let nest = axes.into_iter().rev().fold(inner, |body, (axis, extent)| {
            vec![Stmt::For { axis, extent, kind: LoopKind::Serial, body }]
        });
        let init = Expr::constant(op.neutral(dtype));
        std::iter::once(Stmt::Var { name: acc, init }).chain(nest).collect()
    }
}

fn mentions(e: &Expr, scalar: &Symbol) -> bool {
    e.any(&mut |e| matches!(e.kind(), ExprKind::Var { name, .. } if name == scalar))
}
