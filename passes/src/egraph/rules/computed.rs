//! Elements that need no array: what they are, as an expression of their index.
//!
//! Masks and distances reach attention as arrays of all queries and keys, though a comparison of two indices says as
//! much, and says it before the scores are there: tiles that a mask rules out are never looked at.

use egg::Id;
use ir::dim::Ranges;
use ir::kernel::lower::Lower;
use ir::kernel::{Expr, ExprKind};
use ir::op::Infer;
use ir::region::operand_number;
use ir::scalar::{Binary, Unary};
use ir::{DType, Dim, Region, Scalar, TensorType, Weight};
use ops::shape::iota::{AXIS, IOTA};

use super::attention::stage;
use crate::egraph::rewrite::Match;

/// So many ops may stand between an index and the element.
const DEEPEST: usize = 24;

/// What elements are computed from besides their index: values with at most one of the last two axes. In expressions they
/// are called as operands from a number on.
pub(super) struct Loads {
    first: usize,
    values: Vec<Id>,
}

impl Loads {
    /// None yet; the first one will be operand `first`.
    pub(super) fn from(first: usize) -> Loads {
        Loads { first, values: Vec::new() }
    }

    /// The values, in the order of their numbers.
    pub(super) fn values(&self) -> &[Id] {
        &self.values
    }

    fn load(&mut self, m: &Match, id: Id, at: &[Expr]) -> Expr {
        let known = self.values.iter().position(|&known| m.same(known, id));
        let number = known.unwrap_or_else(|| {
            self.values.push(id);
            self.values.len() - 1
        });
        Expr::load(Lower::operand_name(self.first + number), m.ty(id).dtype, at.iter().cloned())
    }
}

/// The element of a value at this index, if it is computed from that and from smaller arrays.
pub(super) fn element(m: &Match, id: Id, at: &[Expr], loads: &mut Loads) -> Option<Expr> {
    at_depth(m, id, at, loads, DEEPEST)
}

fn at_depth(m: &Match, id: Id, at: &[Expr], loads: &mut Loads, depth: usize) -> Option<Expr> {
    if let Some(found) = m.value(id).and_then(|weight| constant(weight, at)) {
        return Some(found);
    }
    let shape = m.shape(id);
    let flat = shape.len() < 2 || shape[shape.len() - 2..].iter().any(|size| size.is(1));
    if flat && depth < DEEPEST {
        return Some(loads.load(m, id, at));
    }
    let depth = depth.checked_sub(1).filter(|_| !flat)?;
    m.nodes(id).iter().find_map(|node| {
        let def = node.op()?;
        if def == &IOTA {
            let axis = usize::try_from(m.attrs(node).get(AXIS)).ok()?;
            return Some(at.get(axis)?.clone().cast(m.ty(id).dtype));
        }
        let operands = node.operands().to_vec();
        let attrs = m.attrs(node);
        let stage = stage(m, def, &attrs, &operands)?;
        let types: Vec<&TensorType> = operands.iter().map(|&id| m.ty(id)).collect();
        let needs = def.semantics.requires(&Infer { operands: &types, attrs: &attrs });
        let is_open = needs.iter().any(|needed| !needed.condition.is_proved(&Ranges::new()));
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
            let inner = operand_number(source).and_then(|n| at_depth(m, *operands.get(n)?, at, loads, depth));
            all &= inner.is_some();
            inner
        });
        // What an op needs of sizes is checked where it is: nothing is loaded on the strength of that elsewhere.
        let loads = body.any(&mut |e| matches!(e.kind(), ExprKind::Load { .. }));
        (all && !(is_open && loads)).then(|| chosen(&body))
    })
}

/// The element of a constant that is one number, or two: one up to a diagonal of its last two axes, and one above it; or
/// the distance from row to column.
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
    if let Some(found) = distance(weight, at) {
        return Some(found);
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

/// The element of a matrix of distances between row and column: one way, the other, or both, 0 where none.
fn distance(weight: &Weight, at: &[Expr]) -> Option<Expr> {
    let [batch @ .., rows, cols] = weight.shape() else { return None };
    let (rows, cols) = (*rows, *cols);
    let [.., i, j] = at else { return None };
    if batch.iter().any(|&size| size != 1) || rows.min(cols) < 2 || weight.dtype() != DType::F32 {
        return None;
    }
    let forms: [fn(f64) -> f64; 5] = [|d| d, |d| -d, f64::abs, |d| d.max(0.0), |d| (-d).max(0.0)];
    let is = |form: &fn(f64) -> f64| {
        let expected = |at: usize| form((at % cols) as f64 - (at / cols) as f64);
        weight.values().enumerate().all(|(at, value)| value.to_f64() == expected(at))
    };
    let form = forms.iter().position(is)?;
    let along = Expr::from(j.as_index()?.clone() - i.as_index()?.clone()).cast(DType::F32);
    let back = Expr::from(i.as_index()?.clone() - j.as_index()?.clone()).cast(DType::F32);
    let zero = Expr::number(DType::F32, 0.0);
    Some(match form {
        0 => along,
        1 => back,
        2 => Expr::unary(Unary::Abs, along),
        3 => Expr::binary(Binary::Max, along, zero),
        _ => Expr::binary(Binary::Max, back, zero),
    })
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

/// `x + select(c, 0, −∞)` as `select(c, x, −∞)`. A number so low that nothing added to it counts is −∞, too, where
/// every query sees the first key: then the weight is 0 both times.
fn added(x: &Expr, mask: &Expr) -> Option<Expr> {
    let ExprKind::Select(condition, yes, no) = mask.kind() else { return None };
    let number = |e: &Expr| match e.kind() {
        ExprKind::Const(c) if c.dtype() == DType::F32 => Some(c.to_f64()),
        _ => None,
    };
    let low = |e: &Expr, seen: bool| number(e).is_some_and(|v| v == f64::NEG_INFINITY || seen && v <= LOWEST);
    let never = Expr::constant(Scalar::f32(f32::NEG_INFINITY));
    if number(yes) == Some(0.0) && low(no, sees_first(condition)) {
        return Some(condition.clone().select(x.clone(), never));
    }
    (low(yes, false) && number(no) == Some(0.0)).then(|| condition.clone().select(never, x.clone()))
}

/// Sums of scores and less than this are no scores any more.
const LOWEST: f64 = -1e30;

/// Does the condition hold for the first key, whatever the query: `j ≤ i + c`, `c ≥ 0`?
fn sees_first(condition: &Expr) -> bool {
    let ExprKind::Binary(Binary::Le, key, last) = condition.kind() else { return false };
    let (Some(key), Some(last)) = (key.as_index(), last.as_index()) else { return false };
    let Some(axis) = key.as_symbol().and_then(Region::axis_number) else { return false };
    let mut earlier = true;
    last.for_each_symbol(&mut |symbol| {
        earlier &= Region::axis_number(symbol).is_some_and(|query| query < axis)
    });
    let at = |index: i64| last.eval(&|_| Some(index));
    earlier && at(0).is_some_and(|first| first >= 0) && at(1) >= at(0)
}
