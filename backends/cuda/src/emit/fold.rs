//! Reductions in lanes: the threads of a block.

use ir::kernel::{LaneFold, Reduce};

use super::types::{SHIFT, value};
use super::{Emitter, Level};
use crate::error::EmitError;

impl Emitter<'_> {
    /// `acc` over the axis: each thread takes the elements of its lane, then lanes come together by halves.
    pub(super) fn fold(&mut self, fold: &LaneFold) -> Result<(), EmitError> {
        let LaneFold { acc, dtype, op, lanes, axis, extent, body } = fold;
        if self.level == Level::Thread || *lanes != self.threads {
            return Err(self.unsupported(
                format!("a fold in {lanes} lanes where there are {} threads", self.threads),
                "schedule the kernel for this target".to_owned(),
            ));
        }
        let (ty, count) = (value(*dtype), self.index(extent));
        let neutral = self.constant(op.neutral(*dtype));
        let name = self.scope.name_scalar(acc);
        self.line(&format!("{ty} {name} = {};", neutral.text));
        let outer = self.scope.clone();
        let k = self.scope.name_axis(axis);
        self.scope.ranges.enter(axis.clone(), extent.clone());
        self.level = Level::Thread;
        let count = count.within(SHIFT);
        let head = format!("for (i64 {k} = threadIdx.x; {k} < {count}; {k} += {lanes})");
        self.braces(&head, |this| this.block(body))?;
        self.level = Level::Block;
        self.scope = outer;
        let how = match op {
            Reduce::Sum => "Sum",
            Reduce::Prod => "Product",
            Reduce::Max => "Largest",
            Reduce::Min => "Smallest",
            Reduce::Any => "Any",
            Reduce::All => "All",
        };
        self.prelude.need("in_lanes");
        let scratch = self.scratch("lanes", u64::from(*lanes) * 8);
        self.line(&format!("{name} = in_lanes<{lanes}>({name}, shared<{ty}>({scratch}), {how}{{}});"));
        // The lanes came together behind barriers.
        self.sync.clear();
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
