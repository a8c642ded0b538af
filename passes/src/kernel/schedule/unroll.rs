//! Writes out the short loops inside vector loops: the taps of a window.
//!
//! What then depends on the lanes and on the tap alone, as the guards of a padded window do, is computed once for all
//! iterations of the loops between.

use ir::Dim;
use ir::kernel::{LoopKind, Stmt};

use crate::lower::substitute_block;

/// Longest loop that is written out.
const TAPS: i64 = 8;

/// The block with the innermost short loops of its vector loops written out.
pub(super) fn unroll_taps(block: Vec<Stmt>) -> Vec<Stmt> {
    block.into_iter().flat_map(|stmt| loops(stmt, false)).collect()
}

fn loops(stmt: Stmt, in_lanes: bool) -> Vec<Stmt> {
    let Stmt::For { axis, extent, kind, body } = stmt else { return vec![stmt] };
    let in_lanes = in_lanes || matches!(kind, LoopKind::Vector(_));
    let innermost = body.iter().all(|stmt| matches!(stmt, Stmt::Set { .. }));
    if let Some(taps) = extent.as_const().filter(|&n| n <= TAPS)
        && in_lanes
        && innermost
        && kind == LoopKind::Serial
    {
        let tap = |at: i64| substitute_block(&body, &|s| (*s == axis).then(|| Dim::constant(at)));
        return (0..taps).flat_map(tap).collect();
    }
    let body = body.into_iter().flat_map(|stmt| loops(stmt, in_lanes)).collect();
    vec![Stmt::For { axis, extent, kind, body }]
}
