//! Where an expression takes its elements from another place: at known positions along an axis.

use std::collections::BTreeSet;

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind};
use ir::scalar::Binary;

/// Where along `axis` an expression takes its elements from another place, if all its choices are of this kind.
pub(crate) fn boundaries(e: &Expr, axis: &Symbol) -> Option<BTreeSet<i64>> {
    let mut found = Some(BTreeSet::new());
    e.walk(&mut |e| {
        let ExprKind::Select(cond, ..) = e.kind() else { return };
        match (boundary(cond, axis), &mut found) {
            (Some(at), Some(found)) => _ = found.insert(at),
            _ => found = None,
        }
    });
    found
}

/// The place at which the outcome of a comparison changes.
fn boundary(cond: &Expr, axis: &Symbol) -> Option<i64> {
    let ExprKind::Binary(f, a, b) = cond.kind() else { return None };
    let gap = b.as_index()?.clone() - a.as_index()?.clone();
    let gap = match f {
        Binary::Le => gap,
        Binary::Lt => gap - Dim::constant(1),
        _ => return None,
    };
    let (scale, rest) = gap.linear_in(axis)?;
    match (scale.as_const()?, rest.as_const()?) {
        (1, rest) => rest.checked_neg(),
        (-1, rest) => rest.checked_add(1),
        _ => None,
    }
}
