//! Parallel loops: the body is a function of its own, which the runtime calls for ranges of iterations.
//!
//! Inside another parallel loop, a loop runs serially: the threads are busy. Every iteration computes the same
//! whatever range it is in, so results do not depend on the number of threads.

use cranelift_codegen::ir::{InstBuilder, types};
use ir::dim::{Dim, Symbol};
use ir::kernel::{LoopKind, Stmt};
use ir::service::Service;

use super::function::{Emitter, define};
use crate::error::EmitError;

impl Emitter<'_, '_> {
    /// A loop whose iterations are spread over threads, at least `grain` together.
    pub(crate) fn parallel_for(
        &mut self,
        axis: &Symbol,
        extent: &Dim,
        grain: u32,
        body: &[Stmt],
    ) -> Result<(), EmitError> {
        if self.parallel || self.vector.is_some() {
            return self.serial_for(axis, extent, body);
        }
        let count = self.index(extent)?;
        let frame = self.capture()?;
        let name = format!("{}.{axis}", self.kernel.name);
        // (services, frame, begin, end)
        let place = define(self.module, self.kernel, name, &[types::I64; 4], true, |inner, given| {
            inner.restore(&frame, given[1]);
            let range = Some([given[2], given[3]]);
            inner.vector_range(axis, extent, LoopKind::Parallel(grain), body, range, |this| {
                this.counted(given[2], given[3], 1, |this, at| this.iteration(axis, extent, at, body))
            })
        })?;
        let function = self.function_address(place);
        let grain = self.b.ins().iconst(types::I64, i64::from(grain.max(1)));
        let args = [self.services, count, grain, function, frame.address];
        self.call(Service::ParallelFor, &args, None);
        Ok(())
    }
}
