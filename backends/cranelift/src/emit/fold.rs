//! Folds in lanes: four vectors of accumulators side by side, a rest one by one, and the lanes together.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, InstBuilder, types};
use ir::dtype::DType;
use ir::kernel::stmt::FOLD_LANES;
use ir::kernel::{Expr, LaneFold};

use super::function::{Emitter, Local, element_flags};
use super::lanes::VectorLoop;
use super::value::{GROUP, Value};
use crate::error::EmitError;

impl Emitter<'_, '_> {
    /// A fold; its value is bound as the accumulator from here on.
    pub(crate) fn fold(&mut self, fold: &LaneFold) -> Result<(), EmitError> {
        if !fold.is_of_cpu() {
            let what = format!("a fold of {} in {} lanes", fold.dtype, fold.lanes);
            return Err(self.unsupported(what, "a CPU has 16 lanes of f32; schedule the kernel for it"));
        }
        let neutral = Expr::constant(fold.op.neutral(DType::F32));
        let first = self.evaluate(&neutral)?.scalar();
        let mut lanes = vec![self.b.ins().splat(types::F32X4, first); FOLD_LANES / GROUP];
        let count = self.index(&fold.extent)?;
        let mut from = self.b.ins().iconst(types::I64, 0);
        let known = self.resolve(&fold.extent).as_const();
        let mut rest = known != Some(0);
        if let Some(varying) = self.vectorisable(&fold.axis, &fold.body, Some(&fold.acc)) {
            let to = self.b.ins().band_imm_s(count, -(FOLD_LANES as i64));
            let vector = VectorLoop { axis: fold.axis.clone(), lanes: FOLD_LANES, varying };
            lanes = self.side_by_side_fold(fold, from, to, vector, &lanes)?;
            from = to;
            rest = known.is_none_or(|count| count % FOLD_LANES as i64 != 0);
        }
        if rest {
            let any = self.b.ins().icmp(IntCC::SignedLessThan, from, count);
            let all = lanes.clone();
            lanes = self.branch(any, |this| this.one_by_one(fold, from, count, &lanes), |_| Ok(all))?;
        }
        let function = fold.op.function();
        let acc = Expr::var(fold.acc.clone(), DType::F32);
        let pair = |this: &mut Self, a, b| this.binary(function, DType::F32, [a, b], (&acc, &acc));
        let four = fold.combine(lanes, |a, b| pair(self, a, b))?;
        let four: Vec<clif::Value> =
            (0..GROUP).map(|lane| self.b.ins().extractlane(four, lane as u8)).collect();
        let value = Value::Uniform(fold.combine(four, |a, b| pair(self, a, b))?);
        let depth = self.scope.depth;
        self.scope.bind(&fold.acc, Local::Scalar { dtype: DType::F32, value, depth });
        Ok(())
    }

    /// Sixteen iterations at a time. Gives the accumulators.
    fn side_by_side_fold(
        &mut self,
        fold: &LaneFold,
        from: clif::Value,
        to: clif::Value,
        vector: VectorLoop,
        lanes: &[clif::Value],
    ) -> Result<Vec<clif::Value>, EmitError> {
        let slots: Vec<_> = lanes
            .iter()
            .map(|&lanes| {
                let slot = self.b.declare_var(types::F32X4);
                self.b.def_var(slot, lanes);
                slot
            })
            .collect();
        let outer = self.scope.clone();
        self.scope.bind(&fold.acc, Local::Variable { dtype: DType::F32, slots: slots.clone(), lanes: true });
        self.vector = Some(vector);
        self.counted(from, to, FOLD_LANES as i64, |this, at| {
            this.iteration(&fold.axis, &fold.extent, at, &fold.body)
        })?;
        self.vector = None;
        self.scope = outer;
        Ok(slots.into_iter().map(|slot| self.b.use_var(slot)).collect())
    }

    /// One iteration after the other, each with the accumulator of its lane, in memory. Gives the accumulators.
    fn one_by_one(
        &mut self,
        fold: &LaneFold,
        from: clif::Value,
        to: clif::Value,
        lanes: &[clif::Value],
    ) -> Result<Vec<clif::Value>, EmitError> {
        let bytes = DType::F32.bytes();
        let memory = self.stack_bytes((FOLD_LANES * bytes) as u64, 4)?;
        let places = (0..lanes.len()).map(|group| (group * GROUP * bytes) as i32);
        for (&lanes, place) in lanes.iter().zip(places.clone()) {
            self.b.ins().store(element_flags(), lanes, memory, place);
        }
        let outer = self.scope.clone();
        let slot = self.b.declare_var(types::F32);
        self.scope.bind(&fold.acc, Local::Variable { dtype: DType::F32, slots: vec![slot], lanes: false });
        self.counted(from, to, 1, |this, at| {
            let lane = this.b.ins().band_imm_s(at, FOLD_LANES as i64 - 1);
            let offset = this.b.ins().imul_imm_s(lane, bytes as i64);
            let address = this.b.ins().iadd(memory, offset);
            let acc = this.b.ins().load(types::F32, element_flags(), address, 0);
            this.b.def_var(slot, acc);
            this.iteration(&fold.axis, &fold.extent, at, &fold.body)?;
            let acc = this.b.use_var(slot);
            this.b.ins().store(element_flags(), acc, address, 0);
            Ok(())
        })?;
        self.scope = outer;
        Ok(places.map(|place| self.b.ins().load(types::F32X4, element_flags(), memory, place)).collect())
    }
}
