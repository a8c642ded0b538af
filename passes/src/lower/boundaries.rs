//! Where an expression takes its elements from another place: at known positions along an axis, or at symbolic ones.

use ir::Dim;
use ir::dim::{Ranges, Symbol};
use ir::kernel::{Expr, ExprKind};
use ir::scalar::Binary;

/// Where along `axis` an expression takes its elements from another place, if all its choices are of this kind.
pub(crate) fn boundaries(e: &Expr, axis: &Symbol) -> Option<Vec<Dim>> {
    let mut found = Some(Vec::new());
    e.walk(&mut |e| {
        let ExprKind::Select(cond, ..) = e.kind() else { return };
        match (boundary(cond, axis), &mut found) {
            (Some(at), Some(found)) if !found.contains(&at) => found.push(at),
            (Some(_), Some(_)) => {}
            _ => found = None,
        }
    });
    found
}

/// Those of `places` that are inside an axis of this extent, in their order, where it is known: the numbers among them,
/// or one or several expressions of which each is proved to be no less than the one before.
pub(crate) fn inside(places: impl IntoIterator<Item = Dim>, extent: &Dim) -> Option<Vec<Dim>> {
    let ranges = Ranges::new();
    let at_most = |a: &Dim, b: &Dim| ranges.is_nonnegative(&(b.clone() - a.clone()));
    let mut inside: Vec<Dim> = Vec::new();
    for place in places {
        let outside = at_most(&place, &Dim::constant(0)) || at_most(extent, &place);
        if outside || inside.contains(&place) {
            continue;
        }
        if !at_most(&Dim::constant(0), &place) || !at_most(&place, extent) {
            return None;
        }
        let after = inside.iter().position(|other| !at_most(other, &place)).unwrap_or(inside.len());
        if !inside[after..].iter().all(|other| at_most(&place, other)) {
            return None;
        }
        inside.insert(after, place);
    }
    Some(inside)
}

/// The place at which the outcome of a comparison changes.
fn boundary(cond: &Expr, axis: &Symbol) -> Option<Dim> {
    let ExprKind::Binary(f, a, b) = cond.kind() else { return None };
    let gap = b.as_index()?.clone() - a.as_index()?.clone();
    let gap = match f {
        Binary::Le => gap,
        Binary::Lt => gap - Dim::constant(1),
        _ => return None,
    };
    let (scale, rest) = gap.linear_in(axis)?;
    match scale.as_const()? {
        1 => Some(Dim::constant(0) - rest),
        -1 => Some(rest + Dim::constant(1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_where_that_is_known() {
        let (n, m, c) = (Dim::symbol("n"), Dim::symbol("m"), Dim::constant);
        assert_eq!(inside([c(5), c(9), c(0), c(2)], &c(9)), Some(vec![c(2), c(5)]));
        assert_eq!(inside([n.clone()], &(n.clone() + m.clone())), Some(vec![n.clone()]));
        let all = n.clone() + m.clone() + c(1);
        assert_eq!(
            inside([n.clone() + m.clone(), n.clone()], &all),
            Some(vec![n.clone(), n.clone() + m.clone()])
        );
        // Which of them comes first, and whether one is inside at all, depends on the sizes.
        assert_eq!(inside([n.clone(), m.clone()], &all), None);
        assert_eq!(inside([n], &m), None);
    }
}
