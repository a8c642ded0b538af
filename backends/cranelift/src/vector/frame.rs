//! The caller's side: what goes into the frame, and the call.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, InstBuilder, MemFlagsData, types};
use ir::dim::{Dim, Symbol};
use ir::dtype::DType;
use ir::kernel::{Expr, LoopKind, Stmt};
use ir::service::Service;

use super::function::function;
use super::lower::{Fill, Lowered, Range, lower};
use crate::emit::{Body, Emitter, Value};
use crate::error::EmitError;
use crate::target::Vectors;

impl Emitter<'_, '_> {
    /// Runs a loop as a vector function, if the target has vectors for it and all of the loop can be one; `otherwise`
    /// runs it if not, or where an extent is too large for the lanes.
    pub(crate) fn in_vector_function(
        &mut self,
        axis: &Symbol,
        extent: &Dim,
        kind: LoopKind,
        body: &[Stmt],
        otherwise: impl FnOnce(&mut Self) -> Result<(), EmitError>,
    ) -> Result<(), EmitError> {
        self.vector_range(axis, extent, kind, body, None, otherwise)
    }

    /// Runs a loop as a vector function, from one iteration to another if they are given.
    pub(crate) fn vector_range(
        &mut self,
        axis: &Symbol,
        extent: &Dim,
        kind: LoopKind,
        body: &[Stmt],
        given: Option<[clif::Value; 2]>,
        otherwise: impl FnOnce(&mut Self) -> Result<(), EmitError>,
    ) -> Result<(), EmitError> {
        let vectors = self.module.target.widest();
        if vectors == Vectors::Bits128 || self.vector.is_some() || self.scalar {
            return otherwise(self);
        }
        let stmt = Stmt::For { axis: axis.clone(), extent: extent.clone(), kind, body: body.to_vec() };
        // No other name holds a space.
        let [from, count] = ["first", "number of"].map(|what| Symbol::new(format!("{what} {axis}")));
        let range = given.map(|_| Range { from: from.clone(), count: count.clone() });
        let Some(lowered) = lower(self, &stmt, range) else { return otherwise(self) };
        if let Some([begin, end]) = given {
            let length = self.b.ins().isub(end, begin);
            self.bind_scalar(from, DType::I64, Value::Uniform(begin));
            self.bind_scalar(count, DType::I64, Value::Uniform(length));
        }
        let add = |this: &mut Self, wide: bool| {
            let code = function(&lowered.region, wide);
            let place = this.module.functions.len();
            let name = format!("{}.{axis}.{place}", this.kernel.name);
            this.module.functions.push((name, Body::Bytes(code)));
            u32::try_from(place).expect("functions are far fewer than 2³²")
        };
        let place = add(self, vectors == Vectors::Bits512);
        let wider = self.module.target.chooses_at_512().then(|| add(self, true));
        let above: Vec<_> = lowered.extents.iter().map(|extent| (extent, 0)).collect();
        let some = self.all_extents(IntCC::SignedGreaterThan, &above)?;
        let below: Vec<_> = lowered.narrow.iter().map(|(extent, limit)| (extent, *limit)).collect();
        let narrow = self.all_extents(IntCC::SignedLessThan, &below)?;
        self.forget();
        let call = |this: &mut Self| this.call_vector_function(place, wider, &lowered);
        // What is that long is memory that hardly any machine has: it is worth no second body in lanes.
        let in_scalars = |this: &mut Self| {
            this.scalar = true;
            otherwise(this)?;
            this.scalar = false;
            Ok(())
        };
        self.guarded(some, |this| this.guarded(narrow, call, in_scalars), |_| Ok(()))?;
        self.forget();
        Ok(())
    }

    /// Do all extents compare so with their numbers?
    fn all_extents(&mut self, cc: IntCC, extents: &[(&Dim, i64)]) -> Result<Option<clif::Value>, EmitError> {
        let mut all = None;
        for (extent, number) in extents {
            let count = self.polynomial(extent)?;
            let holds = self.b.ins().icmp_imm_s(cc, count, *number);
            all = Some(match all {
                None => holds,
                Some(all) => self.b.ins().band(all, holds),
            });
        }
        Ok(all)
    }

    /// One or the other, by a condition; the first if there is none.
    fn guarded(
        &mut self,
        cond: Option<clif::Value>,
        yes: impl FnOnce(&mut Self) -> Result<(), EmitError>,
        no: impl FnOnce(&mut Self) -> Result<(), EmitError>,
    ) -> Result<(), EmitError> {
        match cond {
            Some(cond) => {
                self.branch(cond, |this| yes(this).map(|()| vec![]), |this| no(this).map(|()| vec![]))?;
                Ok(())
            }
            None => yes(self),
        }
    }

    /// Calls the function at the first place, or that at the second where there is one and the processor has its vectors.
    fn call_vector_function(
        &mut self,
        place: u32,
        wider: Option<u32>,
        lowered: &Lowered,
    ) -> Result<(), EmitError> {
        let frame = self.stack_bytes(8 * lowered.fills.len() as u64, 3)?;
        for (at, fill) in lowered.fills.iter().enumerate() {
            let Some(value) = self.fill(fill)? else { continue };
            self.b.ins().store(MemFlagsData::trusted(), value, frame, 8 * at as i32);
        }
        let call = |this: &mut Self, place: u32| {
            let function = this.function(place, &[types::I64]);
            this.b.ins().call(function, &[frame]);
            Ok(())
        };
        let Some(wider) = wider else { return call(self, place) };
        let at = 8 * Service::all().len() as i32;
        let lanes = self.b.ins().load(types::I64, MemFlagsData::trusted(), self.services, at);
        let has = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, lanes, 16);
        self.guarded(Some(has), |this| call(this, wider), |this| call(this, place))
    }

    fn fill(&mut self, fill: &Fill) -> Result<Option<clif::Value>, EmitError> {
        Ok(Some(match fill {
            Fill::Address(source, offset) => {
                let (address, distance) = self.address(source, offset)?;
                self.b.ins().iadd_imm_s(address, i64::from(distance))
            }
            Fill::Index(dim) => self.polynomial(dim)?,
            Fill::Difference(dim, plus, minus) => {
                let mut value = self.polynomial(dim)?;
                if let Some(plus) = plus {
                    let plus = self.bounded(plus)?;
                    value = self.b.ins().iadd(value, plus);
                }
                if let Some(minus) = minus {
                    let minus = self.bounded(minus)?;
                    value = self.b.ins().isub(value, minus);
                }
                value
            }
            Fill::Scalar(e) => {
                let value = self.expr(e)?.scalar();
                self.lane_of_scalar(e.dtype(), value)
            }
            Fill::Counter => return Ok(None),
        }))
    }

    /// A number that is compared with an index: nothing lies beyond, and a difference must not wrap.
    fn bounded(&mut self, e: &Expr) -> Result<clif::Value, EmitError> {
        let value = self.expr(e)?.scalar();
        Ok(self.clamp(value, 1 << 61))
    }
}
