//! Expressions made simpler by what is known about the axes around them.

use ir::DType;
use ir::dim::{Dim, Ranges};
use ir::kernel::{Expr, ExprKind, Fold};
use ir::scalar::{Binary, Scalar};

/// Index arithmetic simplified with what is known about the axes around it, and conditions decided where it can.
pub(crate) fn simplify(e: &Expr, ranges: &Ranges) -> Expr {
    let e = match e.kind() {
        ExprKind::Index(dim) => return dim.simplify(ranges).into(),
        ExprKind::Fold(Fold { op, axis, extent, body }) => {
            let mut ranges = ranges.clone();
            ranges.enter(axis.clone(), extent.clone());
            return Expr::fold(*op, axis.clone(), extent.clone(), simplify(body, &ranges));
        }
        _ => e.map_children(&mut |child| simplify(child, ranges)),
    };
    decide(&e, ranges).unwrap_or(e)
}

/// A comparison of index arithmetic whose outcome is known.
fn decide(e: &Expr, ranges: &Ranges) -> Option<Expr> {
    let ExprKind::Binary(f, a, b) = e.kind() else { return None };
    // Of integers, it is one of their bits.
    if *f == Binary::And && a.dtype() == DType::Bool {
        return Some(a.clone().and(b.clone()));
    }
    let (a, b) = (a.as_index()?, b.as_index()?);
    let gap = b.clone() - a.clone();
    let (holds, fails) = match f {
        Binary::Le => (gap.clone(), -gap - Dim::constant(1)),
        Binary::Lt => (gap.clone() - Dim::constant(1), -gap),
        _ => return None,
    };
    if ranges.is_nonnegative(&holds) {
        Some(Expr::constant(Scalar::bool(true)))
    } else if ranges.is_nonnegative(&fails) {
        Some(Expr::constant(Scalar::bool(false)))
    } else {
        None
    }
}
