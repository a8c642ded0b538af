//! Running totals: the loop along their axis goes in order, and adds one element a step.

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind, LoopKind, Stage, Stmt};

use super::{Loops, accumulate, nest};
use crate::lower::running::Running;

impl Loops<'_> {
    /// The loops of a stage, inside those that all stages share.
    pub(super) fn running(&mut self, stage: &Stage, running: &Running) -> Vec<Stmt> {
        let fold = running.fold();
        let (axis, extent) = &stage.axes[running.axis];
        let step = if running.reverse { Symbol::new(format!("{axis}r")) } else { axis.clone() };
        let place = match running.reverse {
            true => extent.clone() - Dim::constant(1) - Dim::from(&step),
            false => Dim::from(&step),
        };
        let at_place = |symbol: &Symbol| (symbol == axis).then(|| place.clone());
        let at_step = |symbol: &Symbol| (*symbol == fold.axis).then(|| Dim::from(&step));

        let (total, dtype) = (self.accumulator(), fold.body.dtype());
        let acc = Expr::var(total.clone(), dtype);
        let mut add = Vec::new();
        let element = self.value(&fold.body.substitute(&at_step), &mut add);
        add.push(Stmt::Set { name: total.clone(), value: accumulate(fold.op, acc.clone(), element) });
        let own = stage.axes.iter().map(|(axis, _)| Dim::from(axis).substitute(&at_place).into()).collect();
        let body = replaced(&stage.body, &running.fold, &acc).substitute(&at_place);
        let store = self.element(&stage.name, &body, own);

        let steps = if running.exclusive { [store, add] } else { [add, store] }.concat();
        let mut around = stage.axes[self.prefix..].to_vec();
        around.retain(|(other, _)| other != axis);
        let total = Stmt::Var { name: total, init: Expr::constant(fold.op.neutral(dtype)) };
        let run = Stmt::For { axis: step, extent: extent.clone(), kind: LoopKind::Serial, body: steps };
        nest(&around, vec![total, run])
    }
}

/// `e` with `by` in the place of `part`.
fn replaced(e: &Expr, part: &Expr, by: &Expr) -> Expr {
    match e.kind() {
        ExprKind::Fold(_) if e == part => by.clone(),
        _ => e.map_children(&mut |child| replaced(child, part, by)),
    }
}
