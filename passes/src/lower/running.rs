//! Folds of prefixes: a stage whose element at `i` folds what stands before `i`, as a prefix sum does.
//!
//! A running total has each element from the one before, so that the stage takes as long as one fold. The axis along
//! which it runs is walked in order, and is no one's outer loop.

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind, Fold, Stage};

/// How a stage keeps a running total.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Running {
    /// Which of its axes it runs along.
    pub(crate) axis: usize,
    /// From the end to the start?
    pub(crate) reverse: bool,
    /// Is the element at the index left out of its own total?
    pub(crate) exclusive: bool,
    /// The fold, as it stands in the body.
    pub(crate) fold: Expr,
}

impl Running {
    /// How the stage keeps a running total, if it does: one fold in it has an extent that is the number of elements
    /// before an index, or up to it, and the same element at each of these.
    pub(crate) fn of(stage: &Stage) -> Option<Running> {
        let mut folds = Vec::new();
        stage.body.walk(&mut |e| {
            if let ExprKind::Fold(fold) = e.kind()
                && let Some(axis) = stage.axes.iter().position(|(axis, _)| fold.extent.mentions(axis))
            {
                folds.push((e.clone(), axis));
            }
        });
        let [(e, axis)] = &folds[..] else { return None };
        let (ExprKind::Fold(fold), axis) = (e.kind(), *axis) else { return None };
        let (name, size) = &stage.axes[axis];
        let (step, before) = fold.extent.linear_in(name)?;
        let (reverse, more) = match step.as_const()? {
            1 => (false, before),
            -1 => (true, before - size.clone() + Dim::constant(1)),
            _ => return None,
        };
        let exclusive = match more.as_const()? {
            0 => true,
            1 => false,
            _ => return None,
        };
        (!mentions(&fold.body, name)).then(|| Running { axis, reverse, exclusive, fold: e.clone() })
    }

    /// The index at which the total is of one element.
    pub(crate) fn place_of_one(&self, stage: &Stage) -> Dim {
        let steps = Dim::constant(i64::from(self.exclusive));
        match self.reverse {
            true => stage.axes[self.axis].1.clone() - Dim::constant(1) - steps,
            false => steps,
        }
    }

    /// The fold.
    pub(crate) fn fold(&self) -> &Fold {
        match self.fold.kind() {
            ExprKind::Fold(fold) => fold,
            _ => unreachable!("bug: it was one when it was found"),
        }
    }
}

/// How many leading axes of a stage can be loops around all of it.
pub(crate) fn free_axes(stage: &Stage) -> usize {
    Running::of(stage).map_or(stage.axes.len(), |running| running.axis)
}

fn mentions(e: &Expr, symbol: &Symbol) -> bool {
    e.any(&mut |e| match e.kind() {
        ExprKind::Index(dim) => dim.mentions(symbol),
        ExprKind::Fold(fold) => fold.extent.mentions(symbol),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use ir::DType;
    use ir::kernel::Reduce;

    use super::*;

    /// `y[i0 in n] = sum k0 in 0..extent { x[at] }`
    fn sum(extent: Dim, at: Dim) -> Stage {
        let load = Expr::load(Symbol::new("x"), DType::F32, [at.into()]);
        let body = Expr::fold(Reduce::Sum, Symbol::new("k0"), extent, load);
        Stage { name: Symbol::new("y"), axes: vec![(Symbol::new("i0"), Dim::symbol("n"))], body }
    }

    #[test]
    fn what_grows_by_one_element_is_a_running_total() {
        let (i, k, n, one) = (Dim::symbol("i0"), Dim::symbol("k0"), Dim::symbol("n"), Dim::constant(1));
        let found = |extent: Dim, at: Dim| {
            Running::of(&sum(extent, at)).map(|running| (running.reverse, running.exclusive))
        };
        assert_eq!(found(i.clone() + one.clone(), k.clone()), Some((false, false)));
        assert_eq!(found(i.clone(), k.clone()), Some((false, true)));
        let mirrored = n.clone() - one.clone() - k.clone();
        assert_eq!(found(n.clone() - i.clone(), mirrored.clone()), Some((true, false)));
        assert_eq!(found(n.clone() - one.clone() - i.clone(), mirrored), Some((true, true)));
        // A fold of a row, a window that slides, every second element: no running totals.
        assert_eq!(found(n, k.clone()), None);
        assert_eq!(found(i.clone() + one, i.clone() - k.clone()), None);
        assert_eq!(found(i * Dim::constant(2), k), None);
    }

    #[test]
    fn a_total_of_one_element_has_a_place() {
        let n = Dim::symbol("n");
        for (extent, place) in [
            (Dim::symbol("i0") + Dim::constant(1), Dim::constant(0)),
            (Dim::symbol("i0"), Dim::constant(1)),
            (n.clone() - Dim::symbol("i0"), n.clone() - Dim::constant(1)),
            (n.clone() - Dim::constant(1) - Dim::symbol("i0"), n - Dim::constant(2)),
        ] {
            let stage = sum(extent, Dim::symbol("k0"));
            let running = Running::of(&stage).expect("it is one");
            assert_eq!(running.place_of_one(&stage), place);
            let at_place = |symbol: &Symbol| (symbol.name() == "i0").then(|| place.clone());
            assert!(running.fold().extent.substitute(&at_place).is(1));
        }
    }
}
