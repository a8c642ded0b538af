//! Reductions in lanes: the threads of a block, or of a group.

use ir::kernel::stmt::WARP;
use ir::kernel::{LaneFold, Reduce};

use super::types::{SHIFT, value};
use super::{Emitter, Level};
use crate::error::EmitError;

/// Where warps put what their lanes have come to. Folds take turns: nobody waits until the last one's are read.
const TURNS: [&str; 2] = ["warps", "warps of the next fold"];

impl Emitter<'_> {
    /// `acc` over the axis: each thread takes the elements of its lane, then lanes come together.
    pub(super) fn fold(&mut self, fold: &LaneFold) -> Result<(), EmitError> {
        let LaneFold { acc, dtype, op, lanes, axis, extent, body } = fold;
        let (lane, together) = self.lane();
        if self.level == Level::Thread || *lanes != together {
            return Err(self.unsupported(
                format!("a fold in {lanes} lanes where {together} threads run a statement"),
                "schedule the kernel for this target".to_owned(),
            ));
        }
        let (ty, count) = (value(*dtype), self.index(extent));
        let neutral = self.constant(op.neutral(*dtype));
        let name = self.scope.name_scalar(acc);
        self.line(&format!("{ty} {name} = {};", neutral.text));
        let outer = (self.scope.clone(), self.level);
        let k = self.scope.name_axis(axis);
        self.scope.ranges.enter(axis.clone(), extent.clone());
        self.level = Level::Thread;
        let (int, count) = (self.int, count.within(SHIFT));
        let head = format!("for ({int} {k} = {lane}; {k} < {count}; {k} += {lanes})");
        self.braces(&head, |this| this.block(body))?;
        (self.scope, self.level) = outer;
        let how = match op {
            Reduce::Sum => "Sum",
            Reduce::Prod => "Product",
            Reduce::Max => "Largest",
            Reduce::Min => "Smallest",
            Reduce::Any => "Any",
            Reduce::All => "All",
        };
        self.prelude.need("reductions");
        if *lanes <= WARP {
            self.prelude.need("in_group");
            self.line(&format!("{name} = in_group<{lanes}>({name}, {how}{{}});"));
            return Ok(());
        }
        self.prelude.need("in_block");
        let turn = self.sync.free_turn().unwrap_or_else(|| {
            self.barrier();
            0
        });
        let scratch = self.scratch(TURNS[turn], u64::from(lanes / WARP) * 8);
        self.line(&format!("{name} = in_block<{lanes}>({name}, shared<{ty}>({scratch}), {how}{{}});"));
        // The warps came together behind a barrier, and are read since.
        self.sync.clear();
        self.sync.take_turn(turn);
        Ok(())
    }

    /// Shared memory that statements use one after the other: its first byte.
    pub(super) fn scratch(&mut self, what: &'static str, bytes: u64) -> u64 {
        let there = self.scratch.get(what).copied().filter(|(_, size)| *size >= bytes);
        let (start, _) = there.unwrap_or_else(|| {
            let start = self.shared;
            self.shared = (start + bytes).next_multiple_of(16);
            self.scratch.insert(what, (start, bytes));
            (start, bytes)
        });
        self.prelude.need("shared");
        start
    }
}
