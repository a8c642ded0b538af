//! Writes out the short loops inside vector loops: the taps of a window.
//!
//! What then depends on the lanes and on the tap alone, as the guards of a padded window do, is computed once for all
//! iterations of the loops between, and guards that hold for all lanes are gone.

use ir::Dim;
use ir::dim::Ranges;
use ir::kernel::{LoopKind, Stmt};

use crate::lower::{map_block, simplify, substitute_block};

/// Longest loop that is written out.
const TAPS: usize = 8;

/// Most statements that a window becomes.
const STATEMENTS: usize = 32;

/// The block with the innermost short loops of its vector loops written out.
pub(super) fn unroll_taps(block: Vec<Stmt>) -> Vec<Stmt> {
    block.into_iter().flat_map(|stmt| loops(stmt, false, &Ranges::new())).collect()
}

fn loops(stmt: Stmt, in_lanes: bool, ranges: &Ranges) -> Vec<Stmt> {
    let Stmt::For { axis, extent, kind, body } = stmt else { return vec![stmt] };
    let in_lanes = in_lanes || matches!(kind, LoopKind::Vector(_));
    let mut inside = ranges.clone();
    inside.enter(axis.clone(), extent.clone());
    let body: Vec<Stmt> = body.into_iter().flat_map(|stmt| loops(stmt, in_lanes, &inside)).collect();
    let innermost = body.iter().all(|stmt| matches!(stmt, Stmt::Set { .. }));
    let short = |&taps: &usize| taps <= TAPS && taps * body.len() <= STATEMENTS;
    if let Some(taps) = extent.as_const().and_then(|n| usize::try_from(n).ok()).filter(short)
        && in_lanes
        && innermost
        && kind == LoopKind::Serial
    {
        let tap = |at: usize| {
            let at = Dim::constant(at as i64);
            let body = substitute_block(&body, &|s| (*s == axis).then(|| at.clone()));
            map_block(&body, &|e| simplify(e, ranges), &Dim::clone)
        };
        return (0..taps).flat_map(tap).collect();
    }
    vec![Stmt::For { axis, extent, kind, body }]
}
