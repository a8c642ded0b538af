//! Elements that need no array: what they are, as an expression of their index.
//!
//! Masks and distances reach attention as arrays of all queries and keys, though a comparison of two indices says as
//! much, and says it before the scores are there: tiles that a mask rules out are never looked at.

use egg::Id;
use ir::kernel::{Expr, ExprKind};
use ir::region::operand_number;
use ir::scalar::{Binary, Unary};
use ir::{DType, Dim, Scalar, Weight};
use ops::shape::iota::{AXIS, IOTA};

use super::attention::stage;
use crate::egraph::rewrite::Match;

/// So many ops may stand between an index and the element.
const DEEPEST: usize = 24;

/// The element of a value at this index, if it is computed from that alone.
pub(super) fn element(m: &Match, id: Id, at: &[Expr]) -> Option<Expr> {
    at_depth(m, id, at, DEEPEST)
}

fn at_depth(m: &Match, id: Id, at: &[Expr], depth: usize) -> Option<Expr> {
    if let Some(weight) = m.value(id) {
        return constant(weight, at);
    }
    let depth = depth.checked_sub(1)?;
    m.nodes(id).iter().find_map(|node| {
        let def = node.op()?;
        if def == &IOTA {
            let axis = usize::try_from(m.attrs(node).get(AXIS)).ok()?;
            return Some(at.get(axis)?.clone().cast(m.ty(id).dtype));
        }
        let operands = node.operands().to_vec();
        let stage = stage(m, def, &m.attrs(node), &operands)?;
        let at: Option<Vec<Dim>> = at.iter().map(|index| index.as_index().cloned()).collect();
        let at = at.filter(|at| at.len() == stage.axes.len())?;
        let place = |symbol: &ir::Symbol| {
            stage.axes.iter().position(|(axis, _)| axis == symbol).map(|axis| at[axis].clone())
        };
        if stage.body.any(&mut |e| matches!(e.kind(), ExprKind::Fold(_) | ExprKind::Var { .. })) {
            return None;
        }
        let mut all = true;
        let body = stage.body.substitute(&place).replace_loads(&mut |source, at| {
            let inner = operand_number(source).and_then(|n| at_depth(m, *operands.get(n)?, at, depth));
            all &= inner.is_some();
            inner
        });
        all.then(|| chosen(&body))
    })
}

/// The element of a constant that is one number, or two: one up to a diagonal of its last two axes, and one above it.
fn constant(weight: &Weight, at: &[Expr]) -> Option<Expr> {
    let elements = weight.elements();
    let number = |position: usize| Expr::constant(weight.get(position));
    if elements == 0 || weight.dtype() == DType::I64 && elements > 1 {
        return None;
    }
    let first = weight.get(0);
    if weight.values().all(|value| value.bits() == first.bits()) {
        return Some(number(0));
    }
    let [batch @ .., rows, cols] = weight.shape() else { return None };
    let (rows, cols) = (*rows, *cols);
    if batch.iter().any(|&size| size != 1) || cols < 2 {
        return None;
    }
    // In the first row, the first element that differs.
    let row = |at: usize| (0..cols).map(move |col| weight.get(at * cols + col).bits());
    let (low, high) = (weight.get(0), weight.get(cols - 1));
    if low.bits() == high.bits() {
        return None;
    }
    let above = row(0).position(|bits| bits != low.bits())?;
    let is_low = |at: usize, col: usize| col < above + at;
    let fits = (0..rows).all(|at| {
        let expected = |col| if is_low(at, col) { low.bits() } else { high.bits() };
        row(at).enumerate().all(|(col, bits)| bits == expected(col))
    });
    let [.., i, j] = at else { return None };
    let border = i.as_index()?.clone() + Dim::constant(above as i64 - 1);
    let seen = j.clone().at_most(border.into());
    let [low, high] = [low, high].map(Expr::constant);
    fits.then(|| truth(&seen, &low, &high).unwrap_or_else(|| seen.select(low, high)))
}

/// A condition, where it chooses between the two truth values.
fn truth(condition: &Expr, yes: &Expr, no: &Expr) -> Option<Expr> {
    let is = |e: &Expr, value: bool| matches!(e.kind(), ExprKind::Const(c) if c.dtype() == DType::Bool && c.to_bool() == value);
    if is(yes, true) && is(no, false) {
        return Some(condition.clone());
    }
    (is(yes, false) && is(no, true)).then(|| Expr::unary(Unary::Not, condition.clone()))
}

/// With choices between truth values as conditions, and what a mask adds as a choice: `s + (0 or −∞)` is `s` or `−∞`.
pub(super) fn chosen(e: &Expr) -> Expr {
    let inside = e.map_children(&mut |child| chosen(child));
    match inside.kind() {
        ExprKind::Select(condition, yes, no) => truth(condition, yes, no).unwrap_or(inside),
        ExprKind::Binary(Binary::Add, a, b) => added(a, b).or_else(|| added(b, a)).unwrap_or(inside),
        _ => inside,
    }
}

/// `x + select(c, 0, −∞)` as `select(c, x, −∞)`.
fn added(x: &Expr, mask: &Expr) -> Option<Expr> {
    let ExprKind::Select(condition, yes, no) = mask.kind() else { return None };
    let is = |e: &Expr, value: f32| matches!(e.kind(), ExprKind::Const(c) if *c == Scalar::f32(value));
    let (zero, never) = (|e: &Expr| is(e, 0.0), |e: &Expr| is(e, f32::NEG_INFINITY));
    if zero(yes) && never(no) {
        return Some(condition.clone().select(x.clone(), no.clone()));
    }
    (never(yes) && zero(no)).then(|| condition.clone().select(yes.clone(), x.clone()))
}
