//! Which keys a query may see, as far as index arithmetic says.

use ir::Dim;
use ir::kernel::{Expr, ExprKind};
use ir::scalar::{Binary, Unary};

use super::number;

/// What must be ≥ 0 for the score not to be −∞.
pub(super) fn visible(e: &Expr, gaps: &mut Vec<Dim>) {
    let ExprKind::Select(cond, yes, no) = e.kind() else { return };
    let never = number(f64::NEG_INFINITY);
    if *no == never {
        conditions(cond, gaps);
        visible(yes, gaps);
    } else if *yes == never {
        opposite(cond, gaps);
        visible(no, gaps);
    }
}

/// What is ≥ 0 where the condition holds.
fn conditions(cond: &Expr, gaps: &mut Vec<Dim>) {
    match cond.kind() {
        ExprKind::Unary(Unary::Not, inner) => opposite(inner, gaps),
        ExprKind::Binary(Binary::And, a, b) => {
            conditions(a, gaps);
            conditions(b, gaps);
        }
        ExprKind::Binary(f, a, b) => {
            let (Some(a), Some(b)) = (a.as_index(), b.as_index()) else { return };
            let (up, down, one) = (b.clone() - a.clone(), a.clone() - b.clone(), Dim::constant(1));
            match f {
                Binary::Le => gaps.push(up),
                Binary::Lt => gaps.push(up - one),
                Binary::Ge => gaps.push(down),
                Binary::Gt => gaps.push(down - one),
                Binary::Eq => gaps.extend([up, down]),
                _ => {}
            }
        }
        _ => {}
    }
}

/// What is ≥ 0 where the condition does not hold.
fn opposite(cond: &Expr, gaps: &mut Vec<Dim>) {
    match cond.kind() {
        ExprKind::Unary(Unary::Not, inner) => conditions(inner, gaps),
        ExprKind::Binary(Binary::Or, a, b) => {
            opposite(a, gaps);
            opposite(b, gaps);
        }
        ExprKind::Binary(f, a, b) => {
            let turned = match f {
                Binary::Le => Binary::Gt,
                Binary::Lt => Binary::Ge,
                Binary::Ge => Binary::Lt,
                Binary::Gt => Binary::Le,
                Binary::Ne => Binary::Eq,
                _ => return,
            };
            conditions(&ExprKind::Binary(turned, a.clone(), b.clone()).into(), gaps);
        }
        _ => {}
    }
}
