//! Running totals by a block: each thread adds up a stretch, the sums of stretches are added up by sixteens and by what
//! is left, and each thread goes through its stretch again, from the total before it.

use ir::DType;
use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind, LoopKind, Reduce, Stmt};

use super::access::accesses;
use super::writes_apart;
use crate::lower::substitute_block;

/// Stretches whose sums are one sum for all that come later.
const GROUP: i64 = 16;

/// A total that is read and stored step by step: `var total = neutral; for axis… { …; set total = total ∘ element; … }`.
pub(super) struct RunningTotal {
    total: Symbol,
    dtype: DType,
    op: Reduce,
    axis: Symbol,
    extent: Dim,
    body: Vec<Stmt>,
    /// What of the body is there before a total is known, up to the one that changes it.
    add: Vec<Stmt>,
}

impl RunningTotal {
    pub(super) fn find(var: &Stmt, run: &Stmt) -> Option<RunningTotal> {
        let Stmt::Var { name: total, init } = var else { return None };
        let Stmt::For { axis, extent, kind: LoopKind::Serial, body } = run else { return None };
        let place = body.iter().position(|stmt| matches!(stmt, Stmt::Set { .. }))?;
        let Stmt::Set { name, value } = &body[place] else { return None };
        let is_total = |e: &Expr| matches!(e.kind(), ExprKind::Var { name, .. } if name == total);
        let (op, element) = match value.kind() {
            ExprKind::Fma(a, b, sum) if is_total(sum) => (Reduce::Sum, vec![a, b]),
            ExprKind::Binary(function, sum, element) if is_total(sum) => {
                (Reduce::ALL.into_iter().find(|op| op.function() == *function)?, vec![element])
            }
            _ => return None,
        };
        // What depends on the total, and what does not.
        let mut later = vec![total];
        let mut add = Vec::new();
        let mut is_plain = name == total && *init == Expr::constant(op.neutral(value.dtype()));
        for (at, stmt) in body.iter().enumerate() {
            match stmt {
                Stmt::Let { name, value } if at < place => match mentions(value, &later) {
                    true => later.push(name),
                    false => add.push(stmt.clone()),
                },
                Stmt::Let { .. } | Stmt::Store { .. } => {}
                _ => is_plain &= at == place,
            }
        }
        is_plain &= !element.into_iter().any(|e| mentions(e, &later));
        add.push(body[place].clone());
        // What is added is computed twice, and the first time nothing has been stored.
        let stored = body.iter().filter_map(|stmt| match stmt {
            Stmt::Store { target, .. } => Some(target),
            _ => None,
        });
        let stored: Vec<&Symbol> = stored.collect();
        let is_read = accesses(&add).iter().any(|access| stored.contains(&access.array));
        is_plain &= !stored.is_empty() && !is_read && writes_apart(axis, body);
        is_plain.then(|| RunningTotal {
            total: total.clone(),
            dtype: value.dtype(),
            op,
            axis: axis.clone(),
            extent: extent.clone(),
            body: body.clone(),
            add,
        })
    }

    /// The scalar that runs, which is nothing after the loop.
    pub(super) fn total(&self) -> &Symbol {
        &self.total
    }

    /// Is it the same in any order?
    pub(super) fn is_exact(&self) -> bool {
        !self.dtype.is_float() || matches!(self.op, Reduce::Max | Reduce::Min)
    }

    /// The number of elements.
    pub(super) fn extent(&self) -> &Dim {
        &self.extent
    }

    /// In as many stretches as there are threads.
    pub(super) fn in_stretches(&self, threads: u32) -> Vec<Stmt> {
        let part = |part: &str| Symbol::new(format!("{}{part}", self.axis));
        let [stretch, step, group, place] = ["s", "r", "g", "q"].map(part);
        let [stretches, groups] = ["stretches", "groups"].map(|n| Symbol::new(format!("{}.{n}", self.total)));
        let (threads, sixteen) = (Dim::constant(i64::from(threads)), Dim::constant(GROUP));
        let each = self.extent.ceil_div(&threads);
        let first = Dim::from(&stretch) * each.clone();
        let left = (self.extent.clone() - first.clone()).larger(&Dim::constant(0));
        let at = first + Dim::from(&step);
        let through = |body: &[Stmt]| {
            let body = substitute_block(body, &|symbol| (*symbol == self.axis).then(|| at.clone()));
            serial(&step, each.smaller(&left), body)
        };
        let begin = Stmt::Var { name: self.total.clone(), init: Expr::constant(self.op.neutral(self.dtype)) };
        let total = Expr::var(self.total.clone(), self.dtype);
        let take = |array: &Symbol, at: Dim| {
            let value = Expr::binary(self.op.function(), total.clone(), self.load(array, at));
            vec![Stmt::Set { name: self.total.clone(), value }]
        };
        let keep = |array: &Symbol, at: &Symbol| Stmt::Store {
            target: array.clone(),
            at: vec![Dim::from(at).into()],
            value: total.clone(),
        };
        let many = threads.exact_div(&sixteen).expect("bug: a block has a number of threads that 16 divides");
        let before = Dim::from(&stretch).floor_div(&sixteen);
        let behind = Dim::from(&stretch).modulo(&sixteen);
        let in_group = |group: Dim| group * sixteen.clone() + Dim::from(&place);
        let sums = vec![begin.clone(), through(&self.add), keep(&stretches, &stretch)];
        let by_sixteens = vec![
            begin.clone(),
            serial(&place, sixteen.clone(), take(&stretches, in_group(Dim::from(&group)))),
            keep(&groups, &group),
        ];
        let totals = vec![
            begin,
            serial(&group, before.clone(), take(&groups, Dim::from(&group))),
            serial(&place, behind, take(&stretches, in_group(before))),
            through(&self.body),
        ];
        let for_each = |axis: &Symbol, extent: &Dim, body| Stmt::For {
            axis: axis.clone(),
            extent: extent.clone(),
            kind: LoopKind::Threads(1),
            body,
        };
        vec![
            self.alloc(&stretches, &threads),
            for_each(&stretch, &threads, sums),
            self.alloc(&groups, &many),
            for_each(&group, &many, by_sixteens),
            for_each(&stretch, &threads, totals),
        ]
    }

    fn alloc(&self, name: &Symbol, size: &Dim) -> Stmt {
        let shape = size.as_const().into_iter().collect();
        Stmt::Alloc { name: name.clone(), dtype: self.dtype, shape }
    }

    fn load(&self, array: &Symbol, at: Dim) -> Expr {
        Expr::load(array.clone(), self.dtype, [at.into()])
    }
}

fn serial(axis: &Symbol, extent: Dim, body: Vec<Stmt>) -> Stmt {
    Stmt::For { axis: axis.clone(), extent, kind: LoopKind::Serial, body }
}

fn mentions(e: &Expr, scalars: &[&Symbol]) -> bool {
    e.any(&mut |e| matches!(e.kind(), ExprKind::Var { name, .. } if scalars.contains(&name)))
}
