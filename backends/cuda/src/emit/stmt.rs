//! Statements. The arms stand in the order of [`Stmt`].

use ir::dim::Symbol;
use ir::kernel::{Expr, LoopKind, Stmt};
use ir::{DType, Dim};

use super::scope::Array;
use super::sync::Touched;
use super::types::{SHIFT, storage, value};
use super::{Emitter, Level, bind};
use crate::error::EmitError;

/// Longest loop that is written as one to be unrolled.
const UNROLL_LIMIT: i64 = 64;

impl Emitter<'_> {
    /// Statements in order; what they bind ends with them.
    pub(super) fn block(&mut self, stmts: &[Stmt]) -> Result<(), EmitError> {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), EmitError> {
        if self.level != Level::Thread {
            self.wait_for(stmt);
        }
        match stmt {
            Stmt::For { axis, extent, kind, body } => match (kind, self.level) {
                (LoopKind::Threads(lanes), Level::Block) => self.threads_for(axis, extent, *lanes, body),
                (LoopKind::Threads(1), Level::Group(_)) => self.threads_for(axis, extent, 1, body),
                (LoopKind::Vector(lanes), Level::Thread) if extent.is(i64::from(*lanes)) => {
                    self.vector_for(axis, *lanes, body)
                }
                (LoopKind::Serial | LoopKind::Unroll, _) => self.serial_for(axis, extent, *kind, body),
                _ => Err(self.unsupported(
                    "a loop of a kind that has no place here".to_owned(),
                    "schedule the kernel for this target".to_owned(),
                )),
            },
            Stmt::If { cond, then } => {
                let cond = self.expr(cond)?;
                let before = self.sync.clone();
                self.braces(&format!("if ({})", cond.text), |this| this.block(then))?;
                self.sync.join(before);
                Ok(())
            }
            Stmt::Let { name, value: bound } => self.bind(true, name, bound),
            Stmt::Var { name, init } => self.bind(false, name, init),
            Stmt::Set { name, value } => {
                let value = self.expr(value)?;
                let name = self.scope.scalars.get(name).ok_or_else(|| self.unbound(name))?.clone();
                self.line(&format!("{name} = {};", value.text));
                Ok(())
            }
            Stmt::Store { target, at, value } => {
                let element = self.expr(value)?;
                let element = self.stored(value.dtype(), element);
                let place = self.element(target, at)?;
                let store = format!("{place} = {};", element.text);
                match self.level {
                    Level::Thread => self.line(&store),
                    _ => self.line(&format!("if ({} == 0) {store}", self.lane().0)),
                }
                Ok(())
            }
            Stmt::Alloc { name, dtype, shape } => self.alloc(name, *dtype, shape),
            Stmt::Fold(fold) => self.fold(fold),
            Stmt::Gemm(gemm) if self.level == Level::Block => self.gemm_in_block(gemm),
            Stmt::Gemm(_) | Stmt::Sort(_) => Err(self.unsupported(
                "a product or a sort inside of loops over threads".to_owned(),
                "schedule the kernel for this target".to_owned(),
            )),
        }
    }

    /// A barrier, if what the statement touches may still be in use.
    fn wait_for(&mut self, stmt: &Stmt) {
        let touched = Touched::by(stmt);
        if self.sync.conflicts(&touched) {
            self.barrier();
        }
        self.sync.add(touched);
    }

    fn bind(&mut self, constant: bool, name: &Symbol, bound: &Expr) -> Result<(), EmitError> {
        let code = self.expr(bound)?;
        let ty = value(bound.dtype());
        self.prelude.need("integers");
        let name = self.scope.name_scalar(name);
        self.line(&bind(constant, ty, &name, &code));
        Ok(())
    }

    fn serial_for(
        &mut self,
        axis: &Symbol,
        extent: &Dim,
        kind: LoopKind,
        body: &[Stmt],
    ) -> Result<(), EmitError> {
        let count = self.index(extent);
        if kind == LoopKind::Unroll && extent.as_const().is_some_and(|count| count <= UNROLL_LIMIT) {
            self.line("#pragma unroll");
        }
        let outer = self.scope.clone();
        let name = self.scope.name_axis(axis);
        self.scope.ranges.enter(axis.clone(), extent.clone());
        // The loop may have no iteration; each follows the last statements of the one before.
        let before = self.sync.clone();
        if self.level != Level::Thread {
            self.sync.add_all(body);
        }
        let (int, count) = (self.int, count.within(SHIFT));
        let head = format!("for ({int} {name} = 0; {name} < {count}; {name} += 1)");
        self.braces(&head, |this| this.block(body))?;
        self.sync.join(before);
        self.scope = outer;
        Ok(())
    }

    /// Iterations shared out among the threads, or among groups of so many.
    fn threads_for(
        &mut self,
        axis: &Symbol,
        extent: &Dim,
        lanes: u32,
        body: &[Stmt],
    ) -> Result<(), EmitError> {
        let (int, count) = (self.int, self.index(extent).within(SHIFT));
        let (first, together) = match self.level {
            Level::Block => (self.group(lanes), self.threads / lanes),
            _ => self.lane(),
        };
        let outer = (self.scope.clone(), self.sync.clone(), self.level);
        let name = self.scope.name_axis(axis);
        self.scope.ranges.enter(axis.clone(), extent.clone());
        let spare = Dim::constant(i64::from(together)) - extent.clone();
        let once = self.scope.ranges.is_nonnegative(&spare);
        self.level = Level::of_group(lanes);
        self.sync.clear();
        if once && spare.is(0) {
            self.braces("", |this| {
                this.line(&format!("const {int} {name} = {first};"));
                this.block(body)
            })?;
        } else if once {
            let head = format!("if (const {int} {name} = {first}; {name} < {count})");
            self.braces(&head, |this| this.block(body))?;
        } else {
            let head = format!("for ({int} {name} = {first}; {name} < {count}; {name} += {together})");
            self.braces(&head, |this| this.block(body))?;
        }
        (self.scope, self.sync, self.level) = outer;
        Ok(())
    }

    fn alloc(&mut self, name: &Symbol, dtype: DType, shape: &[i64]) -> Result<(), EmitError> {
        let elements = shape.iter().product::<i64>().max(1);
        let ty = storage(self.prelude, dtype);
        let spelled = self.scope.names.fresh(name.name());
        match self.level {
            Level::Block => {
                let start = self.shared;
                self.shared = (start + elements as u64 * dtype.bytes() as u64).next_multiple_of(16);
                self.prelude.need("shared");
                self.line(&format!("const auto {spelled} = shared<{ty}>({start});  // [{elements}]"));
            }
            Level::Thread => self.line(&format!("{ty} {spelled}[{elements}];")),
            Level::Group(_) => {
                return Err(self.unsupported(
                    "an array of a group of threads".to_owned(),
                    "schedule the kernel for this target".to_owned(),
                ));
            }
        }
        let shape = shape.iter().map(|&size| Dim::constant(size)).collect();
        self.scope.arrays.insert(name.clone(), Array { name: spelled, dtype, shape });
        Ok(())
    }
}
