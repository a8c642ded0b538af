//! Rows that choose which of several matrices they meet: they are put in the order of their matrices.
//!
//! A counting sort before the product, of row numbers by what they choose. Rows that choose the same keep their order. On a
//! GPU a block sorts, in which each thread has a matrix and looks for the rows that choose it.

use ir::dim::Symbol;
use ir::kernel::stmt::Axes;
use ir::kernel::{Access, Expr, ExprKind, Group, LoopKind, Param, Stmt};
use ir::program::Program;
use ir::scalar::Binary;
use ir::{DType, Dim, TensorType};

use super::access::{Arrays, varies};
use crate::lower::{Names, add_scratch};
use crate::target::Target;

/// Axes of matrices, of rows and of a block: kernels have no others of this kind by now, and no size is called so.
const AXES: [&str; 3] = ["a0", "a1", "a2"];

/// The threads of the block that sorts.
const THREADS: u32 = 256;

/// What an operand is one of, and which of them a row chooses.
pub(super) struct Chosen {
    /// Stands for the number in the operand's index.
    pub(super) axis: Symbol,
    /// How many there are.
    pub(super) extent: Dim,
    /// The number, over the axes of rows: in range.
    pub(super) which: Expr,
}

impl Chosen {
    /// What chooses where a load leads, along one axis of its array, and the load with an axis in its place. It may be cast.
    pub(super) fn find(factor: &Expr, arrays: &Arrays) -> Option<(Expr, Chosen)> {
        let (source, dtype, at) = match factor.kind() {
            ExprKind::Load { source, dtype, at } => (source, dtype, at),
            ExprKind::Cast(to, x) => {
                let (load, chosen) = Chosen::find(x, arrays)?;
                return Some((load.cast(*to), chosen));
            }
            _ => return None,
        };
        let mut computed = (0..at.len()).filter(|&place| at[place].as_index().is_none());
        let (place, None) = (computed.next()?, computed.next()) else { return None };
        let axis = Symbol::new(AXES[0]);
        let mut index = at.clone();
        index[place] = Dim::from(&axis).into();
        let extent = arrays.size(source, place)?;
        let load = Expr::load(source.clone(), *dtype, index);
        Some((load, Chosen { axis, extent, which: at[place].clone() }))
    }

    /// Does what is chosen depend on an axis, or on a scalar that may?
    pub(super) fn depends(&self, axis: &Symbol) -> bool {
        varies(&self.which, axis)
    }

    /// The statements that put the rows in order, and the product's part: the arrays that say what the order is.
    pub(super) fn order(
        self,
        program: &mut Program,
        kernel: usize,
        rows: &Axes,
        target: Target,
    ) -> (Vec<Stmt>, Option<Group>) {
        let mut names = Names::of(program.kernels[kernel].params.iter().map(|param| param.name.name()));
        let count: Dim = rows.iter().map(|(_, extent)| extent.clone()).product();
        let ends = self.extent.clone() + Dim::constant(1);
        let [order, starts] = [("order", &count), ("starts", &ends)].map(|(name, size)| {
            let name = Symbol::new(names.fresh(name, "s"));
            let ty = TensorType::new(DType::I64, [size.clone()]);
            add_scratch(program, kernel, &[Param { name: name.clone(), ty, access: Access::Scratch }]);
            name
        });
        let stmts = match target {
            Target::Cpu => self.counting_sort(rows, &count, &order, &starts),
            Target::Gpu => vec![self.counting_sort_of_block(rows, &count, &order, &starts)],
        };
        (stmts, Some(Group { axis: self.axis, extent: self.extent, order, starts }))
    }

    /// Each thread counts the rows that choose its matrix, the counts are summed up, and each puts its rows in their
    /// places.
    fn counting_sort_of_block(&self, rows: &Axes, count: &Dim, order: &Symbol, starts: &Symbol) -> Stmt {
        let row = Symbol::new(AXES[1]);
        let number = Expr::from(Dim::from(&self.axis));
        let next = Expr::from(Dim::from(&self.axis) + Dim::constant(1));
        let [zero, one] = [0, 1].map(|n| Expr::from(Dim::constant(n)));
        let [found, total, place] = ["order.found", "order.total", "order.place"].map(|name| {
            let name = Symbol::new(name);
            (name.clone(), Expr::var(name, DType::I64))
        });
        let start = |index: Expr| Expr::load(starts.clone(), DType::I64, [index]);
        let store = |array: &Symbol, index: Expr, value| Stmt::Store {
            target: array.clone(),
            at: vec![index],
            value,
        };
        let each = |axis: &Symbol, extent: &Dim, kind, body| Stmt::For {
            axis: axis.clone(),
            extent: extent.clone(),
            kind,
            body,
        };
        let which = self.which.substitute(&|symbol| digit(rows, &Dim::from(&row), symbol));
        let is_own = Expr::binary(Binary::Eq, which, number.clone());
        let add = |(name, value): &(Symbol, Expr), what: Expr| Stmt::Set {
            name: name.clone(),
            value: Expr::binary(Binary::Add, value.clone(), what),
        };
        let raised = Stmt::If { cond: is_own.clone(), then: vec![add(&found, one.clone())] };
        let counted = vec![
            Stmt::Var { name: found.0.clone(), init: zero.clone() },
            each(&row, count, LoopKind::Serial, vec![raised]),
            store(starts, next.clone(), found.1),
        ];
        let summed = vec![add(&total, start(next.clone())), store(starts, next, total.1.clone())];
        let put = vec![store(order, place.1.clone(), Dim::from(&row).into()), add(&place, one)];
        let placed = vec![
            Stmt::Var { name: place.0, init: start(number) },
            each(&row, count, LoopKind::Serial, vec![Stmt::If { cond: is_own, then: put }]),
        ];
        let body = vec![
            store(starts, zero.clone(), zero.clone()),
            each(&self.axis, &self.extent, LoopKind::Threads(1), counted),
            Stmt::Var { name: total.0, init: zero },
            each(&self.axis, &self.extent, LoopKind::Serial, summed),
            each(&self.axis, &self.extent, LoopKind::Threads(1), placed),
        ];
        each(&Symbol::new(AXES[2]), &Dim::constant(1), LoopKind::Blocks(THREADS), body)
    }

    /// Counts rows by what they choose, sums the counts up, and gives each row its place, from the last to the first.
    fn counting_sort(&self, rows: &Axes, count: &Dim, order: &Symbol, starts: &Symbol) -> Vec<Stmt> {
        let at = |array: &Symbol, index: Expr| Expr::load(array.clone(), DType::I64, [index]);
        let store = |array: &Symbol, index: Expr, value| Stmt::Store {
            target: array.clone(),
            at: vec![index],
            value,
        };
        let serial = |axis: &Symbol, extent: &Dim, body| Stmt::For {
            axis: axis.clone(),
            extent: extent.clone(),
            kind: LoopKind::Serial,
            body,
        };
        let (number, one) = (Expr::from(Dim::from(&self.axis)), Expr::from(Dim::constant(1)));
        let ends = self.extent.clone() + Dim::constant(1);
        let clear = store(starts, number.clone(), Expr::from(Dim::constant(0)));

        let row = Symbol::new(AXES[1]);
        let [which, place, total] = ["order.which", "order.place", "order.total"].map(|name| {
            let name = Symbol::new(name);
            (name.clone(), Expr::var(name, DType::I64))
        });
        let choose = |row: Dim| {
            let value = self.which.substitute(&|symbol| digit(rows, &row, symbol));
            Stmt::Let { name: which.0.clone(), value }
        };
        let raised = at(starts, which.1.clone()) + one.clone();
        let counted = vec![choose(Dim::from(&row)), store(starts, which.1.clone(), raised)];

        let sum = total.1.clone() + at(starts, number.clone());
        let summed = vec![Stmt::Set { name: total.0.clone(), value: sum }, store(starts, number, total.1)];

        let last = count.clone() - Dim::constant(1) - Dim::from(&row);
        let placed = vec![
            choose(last.clone()),
            Stmt::Let { name: place.0, value: at(starts, which.1.clone()) - one },
            store(starts, which.1, place.1.clone()),
            store(order, place.1, Expr::from(last)),
        ];
        vec![
            serial(&self.axis, &ends, vec![clear]),
            serial(&row, count, counted),
            Stmt::Var { name: total.0, init: Expr::from(Dim::constant(0)) },
            serial(&self.axis, &ends, summed),
            serial(&row, count, placed),
        ]
    }
}

/// What an axis is in iteration `row` of nested axes; `None` if it is none of them.
fn digit(rows: &Axes, row: &Dim, axis: &Symbol) -> Option<Dim> {
    let at = rows.iter().position(|(name, _)| name == axis)?;
    let inner: Dim = rows[at + 1..].iter().map(|(_, extent)| extent.clone()).product();
    let whole = row.floor_div(&inner);
    Some(if at == 0 { whole } else { whole.modulo(&rows[at].1) })
}
