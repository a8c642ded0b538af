//! What depends on how far a key is from its query is computed once for each distance in a tile: there are as many
//! as queries and keys together, and scores are their product.

use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind};
use ir::scalar::{Binary, Unary};
use ir::{DType, Dim};

/// The axes of scores.
pub(super) struct Axes<'a> {
    pub(super) query: &'a Symbol,
    pub(super) key: &'a Symbol,
    /// Further axes inside of a block.
    pub(super) others: Vec<&'a Symbol>,
}

/// The name of the distance in what [`take_out`] finds.
pub(super) const DISTANCE: &str = "row.distance";

/// `e` with `table(n)` for the largest parts that are costly and depend on the query and the key through their distance
/// alone; the parts, over [`DISTANCE`].
pub(super) fn take_out(e: &Expr, axes: &Axes, table: &dyn Fn(usize) -> Expr) -> (Expr, Vec<Expr>) {
    let mut parts = Vec::new();
    let rest = outermost(e, axes, table, &mut parts);
    (rest, parts)
}

fn outermost(e: &Expr, axes: &Axes, table: &dyn Fn(usize) -> Expr, parts: &mut Vec<Expr>) -> Expr {
    let Some(part) = of_distance(e, axes) else {
        return e.map_children(&mut |child| outermost(child, axes, table, parts));
    };
    let at = parts.iter().position(|known| *known == part).unwrap_or(parts.len());
    if at == parts.len() {
        parts.push(part);
    }
    table(at)
}

/// The expression over the distance, if it is such a part. A guard around it does not matter: it loads nothing that
/// depends on the distance.
fn of_distance(e: &Expr, axes: &Axes) -> Option<Expr> {
    if e.dtype() != DType::F32 || !e.any(&mut is_costly) {
        return None;
    }
    let whole = Dim::from(axes.key) + Dim::symbol(DISTANCE);
    let over = e.substitute(&|symbol| (symbol == axes.query).then(|| whole.clone()));
    let distance = Symbol::new(DISTANCE);
    let (mut free, mut found) = (true, false);
    over.walk(&mut |e| match e.kind() {
        ExprKind::Index(dim) => {
            free &= !dim.mentions(axes.key) && !axes.others.iter().any(|axis| dim.mentions(axis));
            found |= dim.mentions(&distance);
        }
        ExprKind::Load { at, .. } => {
            free &=
                !at.iter().any(|i| i.any(&mut |i| i.as_index().is_some_and(|dim| dim.mentions(&distance))));
        }
        ExprKind::Var { .. } => free = false,
        _ => {}
    });
    (free && found).then_some(over)
}

fn is_costly(e: &Expr) -> bool {
    let function =
        |f: &Unary| !matches!(f, Unary::Neg | Unary::Abs | Unary::Not | Unary::IsNan | Unary::IsInf);
    match e.kind() {
        ExprKind::Unary(f, x) => x.dtype().is_float() && function(f),
        ExprKind::Binary(Binary::Pow | Binary::Div, a, _) => a.dtype().is_float(),
        _ => false,
    }
}

/// `e` with one conversion of a difference for the difference of two indices that were converted: the same number, as
/// long as no index has more than 24 bits.
pub(super) fn join_differences(e: &Expr) -> Expr {
    let e = e.map_children(&mut join_differences);
    let index = |e: &Expr| match e.kind() {
        ExprKind::Cast(DType::F32, x) => x.as_index().cloned(),
        _ => None,
    };
    if let ExprKind::Binary(Binary::Sub, a, b) = e.kind()
        && let (Some(a), Some(b)) = (index(a), index(b))
    {
        return Expr::from(a - b).cast(DType::F32);
    }
    e
}
