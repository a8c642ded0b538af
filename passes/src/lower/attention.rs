//! Recognises the stages of an attention by what they are, whatever their names.
//!
//! The op gives them in this order; fusion puts other loads into them, and other stages behind them, but leaves them
//! apart from each other.

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind, Fold, Reduce, Stage};
use ir::scalar::{Binary, Unary};

/// Positions among the stages of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attention {
    /// `S[…, i, j] = Σ q·k`: the first stage.
    pub(crate) scores: usize,
    /// `T[…, i, j]`, what becomes of a score; the scores themselves if nothing does.
    pub(crate) scored: usize,
    /// `M[…, i] = max T`.
    pub(crate) most: usize,
    /// `P[…, i, j] = exp(T − M)`.
    pub(crate) weights: usize,
    /// `L[…, i] = Σ P`.
    pub(crate) total: usize,
    /// `O[…, i, d] = Σ P·v`: from here on, stages are computed element by element from this one and the total.
    pub(crate) sum: usize,
}

impl Attention {
    /// The attention that these stages are, with what follows it.
    pub(crate) fn find(stages: &[Stage]) -> Option<Attention> {
        let scores = 0;
        let scored = usize::from(!matches!(stages.get(1)?.body.kind(), ExprKind::Fold(_)));
        let found = Attention {
            scores,
            scored,
            most: scored + 1,
            weights: scored + 2,
            total: scored + 3,
            sum: scored + 4,
        };
        found.holds(stages).then_some(found)
    }

    fn holds(&self, stages: &[Stage]) -> bool {
        let Some(rest) = stages.get(self.sum + 1..).filter(|rest| !rest.is_empty()) else { return false };
        let [s, t, m, p, l, o] =
            [self.scores, self.scored, self.most, self.weights, self.total, self.sum].map(|at| &stages[at]);
        let Some(rows) = s.axes.len().checked_sub(1) else { return false };
        let same = |a: &Stage, b: &Stage, count: usize| {
            let extents =
                |stage: &Stage| stage.axes.iter().take(count).map(|(_, e)| e.clone()).collect::<Vec<_>>();
            extents(a) == extents(b)
        };
        let shapes = [(t, rows + 1), (m, rows), (p, rows + 1), (l, rows), (o, rows + 1)]
            .iter()
            .all(|(stage, axes)| stage.axes.len() == *axes)
            && [t, p].iter().all(|stage| same(stage, s, rows + 1))
            && [m, l, o].iter().all(|stage| same(stage, s, rows));
        let keys = &s.axes[rows.min(s.axes.len() - 1)].1;
        let products = |stage: &Stage| sum_of_products(stage).is_some();
        let exponential = || {
            let ExprKind::Unary(Unary::Exp, x) = p.body.kind() else { return false };
            let ExprKind::Binary(Binary::Sub, x, y) = x.kind() else { return false };
            loads_at(x, t, &own(p)) && loads_at(y, m, &own(p)[..rows])
        };
        let weighted = || {
            let Some((fold, [weight, _])) = sum_of_products(o) else { return false };
            let at = [&own(o)[..rows], &[Dim::from(&fold.axis)]].concat();
            fold.extent == *keys && loads_at(weight, p, &at)
        };
        let alone = self.scored == self.scores
            || loads(&t.body, s).iter().all(|at| *at == own(t).iter().map(Expr::from).collect::<Vec<_>>());
        shapes
            && products(s)
            && alone
            && folds(m, Reduce::Max, t, keys)
            && exponential()
            && folds(l, Reduce::Sum, p, keys)
            && weighted()
            && rest.iter().all(|stage| stage.axes.len() == rows + 1 && !crate::kernel::has_fold(&stage.body))
    }
}

/// Most elements of a row of the result: those of a block of queries are kept beside its scores.
const WIDEST: i64 = 256;

/// Elements of a row of the result, if an attention whose result this is is computed in tiles.
pub(crate) fn tiled_width(sum: &Stage) -> Option<i64> {
    sum.axes.last()?.1.as_const().filter(|width| (1..=WIDEST).contains(width))
}

/// The fold and the factors, if the stage is a sum of products along one axis.
pub(crate) fn sum_of_products(stage: &Stage) -> Option<(&Fold, [&Expr; 2])> {
    let ExprKind::Fold(fold) = stage.body.kind() else { return None };
    let ExprKind::Binary(Binary::Mul, a, b) = fold.body.kind() else { return None };
    (fold.op == Reduce::Sum).then_some((fold, [a, b]))
}

/// Is it `op` of all elements of the last axis of `of`?
fn folds(stage: &Stage, op: Reduce, of: &Stage, extent: &Dim) -> bool {
    let ExprKind::Fold(fold) = stage.body.kind() else { return false };
    let at = [&own(stage)[..], &[Dim::from(&fold.axis)]].concat();
    fold.op == op && fold.extent == *extent && loads_at(&fold.body, of, &at)
}

/// The axes of a stage as an index.
pub(crate) fn own(stage: &Stage) -> Vec<Dim> {
    stage.axes.iter().map(|(axis, _)| Dim::from(axis)).collect()
}

fn loads_at(e: &Expr, of: &Stage, at: &[Dim]) -> bool {
    match e.kind() {
        ExprKind::Load { source, at: index, .. } => {
            *source == of.name && index.iter().map(Expr::as_index).eq(at.iter().map(Some))
        }
        _ => false,
    }
}

/// The indices at which an expression loads what a stage computes.
fn loads(e: &Expr, of: &Stage) -> Vec<Vec<Expr>> {
    let mut found = Vec::new();
    e.walk(&mut |e| {
        if let ExprKind::Load { source, at, .. } = e.kind()
            && *source == of.name
        {
            found.push(at.clone());
        }
    });
    found
}

/// What the axes of a stage are, if it takes elements of `sources` one by one: an array with these as its axes is
/// loaded at a permutation of the stage's own ones. `None` if it is not so.
pub(crate) fn along(stage: &Stage, sources: &dyn Fn(&Symbol) -> Option<Vec<Dim>>) -> Option<Vec<Dim>> {
    let mut found: Vec<Option<Dim>> = vec![None; stage.axes.len()];
    let mut fits = true;
    stage.body.walk(&mut |e| {
        let ExprKind::Load { source, at, .. } = e.kind() else { return };
        let Some(is) = sources(source) else { return };
        fits &= is.len() == at.len();
        for (index, dim) in at.iter().zip(is) {
            let axis = index.as_index().and_then(Dim::as_symbol);
            let place = axis.and_then(|axis| stage.axes.iter().position(|(own, _)| own == axis));
            match place.map(|place| found[place].get_or_insert_with(|| dim.clone())) {
                Some(known) => fits &= *known == dim,
                None => fits = false,
            }
        }
    });
    let found: Vec<Dim> = found.into_iter().collect::<Option<_>>()?;
    let apart = (0..found.len()).all(|i| !found[..i].contains(&found[i]));
    (fits && apart).then_some(found)
}
