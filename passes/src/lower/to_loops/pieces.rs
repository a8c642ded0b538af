//! What is put together from several arrays is copied piece by piece, not chosen element by element.

use ir::Dim;
use ir::dim::Ranges;
use ir::kernel::{Expr, ExprKind, Kernel, Stage, Stmt};

use super::nest;
use crate::lower::boundaries::{boundaries, inside};
use crate::lower::simplify;

/// So many pieces have loops of their own.
const MOST: usize = 64;

/// The loops of a kernel that only moves elements, from places that change at known positions along an axis.
pub(super) fn loops(kernel: &Kernel, stages: &[Stage]) -> Option<Vec<Stmt>> {
    let [stage] = stages else { return None };
    let moves = !stage.body.any(&mut |e| match e.kind() {
        ExprKind::Load { .. } | ExprKind::Select(..) | ExprKind::Index(_) | ExprKind::Const(_) => false,
        ExprKind::Binary(f, ..) => !f.is_comparison(),
        _ => true,
    });
    if !moves || kernel.param(&stage.name).is_none() {
        return None;
    }
    let found = stage.axes.iter().enumerate().find_map(|(at, (axis, extent))| {
        let places = boundaries(&stage.body, axis).filter(|places| !places.is_empty())?;
        Some((at, extent.as_const()?, inside(places, extent)?))
    });
    let (along, extent, places) = found?;
    let mut cuts: Vec<i64> = places.iter().map(Dim::as_const).collect::<Option<_>>()?;
    cuts.insert(0, 0);
    cuts.push(extent);
    let piece = |ends: &[i64]| {
        let (axis, _) = &stage.axes[along];
        let mut axes = stage.axes.clone();
        axes[along].1 = Dim::constant(ends[1] - ends[0]);
        let place = Dim::constant(ends[0]) + Dim::from(axis);
        let mut ranges = Ranges::new();
        axes.iter().for_each(|(axis, extent)| ranges.enter(axis.clone(), extent.clone()));
        let body = stage.body.substitute(&|symbol| (symbol == axis).then(|| place.clone()));
        let mut at: Vec<Expr> = axes.iter().map(|(axis, _)| Dim::from(axis).into()).collect();
        at[along] = place.clone().into();
        let store = Stmt::Store { target: stage.name.clone(), at, value: simplify(&body, &ranges) };
        nest(&axes, vec![store])
    };
    (cuts.len() <= MOST).then(|| cuts.windows(2).flat_map(piece).collect())
}
