//! Scalar expressions to machine values. The arms stand in the order of [`ExprKind`].
//!
//! In a vector loop an expression that is the same for all lanes is computed once, in scalar form; one that all
//! lanes can compute at once is computed in vectors of four; every other one lane by lane, by the scalar code.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, ConstantData, InstBuilder, types};
use ir::dim::{Dim, Symbol};
use ir::dtype::{Class, DType};
use ir::kernel::{Expr, ExprKind};
use ir::scalar::{Binary, Scalar};

use super::address::Offset;
use super::function::{Emitter, Local, element_flags};
use super::value::{GROUP, Value, lane_type, scalar_type};
use crate::error::EmitError;

impl Emitter<'_, '_> {
    /// The value of an expression of a statement. What was computed for earlier statements is forgotten: memory may
    /// have changed.
    pub(crate) fn evaluate(&mut self, e: &Expr) -> Result<Value, EmitError> {
        self.forget();
        self.expr(e)
    }

    /// Forgets what was computed and found out about expressions.
    pub(crate) fn forget(&mut self) {
        self.memo.values.clear();
        self.memo.values.push(HashMap::new());
        self.memo.varies.clear();
        self.memo.loads.clear();
    }

    /// The value of an expression within a statement; shared expressions are computed once.
    pub(crate) fn expr(&mut self, e: &Expr) -> Result<Value, EmitError> {
        let lane = if self.lane.is_some() && self.varies(e) { self.lane } else { None };
        let key = (std::ptr::from_ref(e.kind()), lane);
        if let Some(known) = self.memo.values.iter().rev().find_map(|values| values.get(&key)) {
            return Ok(known.clone());
        }
        self.check(e)?;
        let value =
            if self.in_lanes() && self.varies(e) { self.lanes(e)? } else { Value::Uniform(self.scalar(e)?) };
        self.memo.values.last_mut().expect("bug: no table of values").insert(key, value.clone());
        Ok(value)
    }

    /// The value outside of lanes, or of the current one.
    fn scalar(&mut self, e: &Expr) -> Result<clif::Value, EmitError> {
        Ok(match e.kind() {
            ExprKind::Const(value) => self.constant(*value),
            ExprKind::Index(dim) => self.index(dim)?,
            ExprKind::Load { source, dtype, at } => {
                let offset = self.offset(source, at)?;
                let (address, distance) = self.address(source, &offset)?;
                self.b.ins().load(scalar_type(*dtype), element_flags(), address, distance)
            }
            ExprKind::Var { name, dtype } => {
                let value = self.variable(name, *dtype)?;
                self.lane(*dtype, &value, self.lane.unwrap_or(0))
            }
            ExprKind::Unary(f, x) => {
                let value = self.expr(x)?.scalar();
                self.unary(*f, x.dtype(), value)?
            }
            ExprKind::Binary(f, a, b) => {
                let operands = [self.expr(a)?.scalar(), self.expr(b)?.scalar()];
                self.binary(*f, a.dtype(), operands, (a, b))?
            }
            ExprKind::Fma(a, b, c) => {
                let [a, b, c] = [self.expr(a)?.scalar(), self.expr(b)?.scalar(), self.expr(c)?.scalar()];
                self.b.ins().fma(a, b, c)
            }
            ExprKind::Select(cond, yes, no) => {
                let cond = self.expr(cond)?.scalar();
                if self.reads(yes) || self.reads(no) {
                    let yes = |this: &mut Self| Ok(vec![this.expr(yes)?.scalar()]);
                    let no = |this: &mut Self| Ok(vec![this.expr(no)?.scalar()]);
                    self.branch(cond, yes, no)?[0]
                } else {
                    let [yes, no] = [self.expr(yes)?.scalar(), self.expr(no)?.scalar()];
                    self.b.ins().select(cond, yes, no)
                }
            }
            ExprKind::Cast(to, x) => {
                let value = self.expr(x)?.scalar();
                self.cast(x.dtype(), *to, value)
            }
            ExprKind::Bitcast(to, x) => {
                let value = self.expr(x)?.scalar();
                let value = self.bits_as(scalar_type(*to), value);
                // What a byte holds above the bits depends on the type.
                if to.bits() < 8 { self.keep_low(*to, 8, value) } else { value }
            }
            ExprKind::Fold(_) => {
                return Err(EmitError::StageForm { kernel: self.kernel.name.to_string() });
            }
        })
    }

    /// The value of an expression that differs between lanes.
    fn lanes(&mut self, e: &Expr) -> Result<Value, EmitError> {
        match e.kind() {
            ExprKind::Load { source, dtype, at } => {
                return match self.along_lanes(source, at)? {
                    Some((1, offset)) => self.load_lanes(source, *dtype, &offset),
                    _ => self.lane_by_lane(e),
                };
            }
            ExprKind::Var { name, dtype } => return self.variable(name, *dtype),
            ExprKind::Select(cond, yes, no) => return self.select_lanes(e, cond, yes, no),
            ExprKind::Binary(f, a, b) if f.is_comparison() && a.dtype() == DType::I64 => {
                if let Some(mask) = self.compare_indices(*f, a, b)? {
                    return Ok(mask);
                }
            }
            ExprKind::Cast(to @ (DType::I32 | DType::U32), x) => {
                if let Some((scale, first)) = x.as_index().and_then(|dim| self.first_lane(dim)) {
                    let first = self.polynomial(&first)?;
                    let first = self.b.ins().ireduce(types::I32, first);
                    let first = Value::Uniform(first);
                    let groups = self.spread(*to, &first);
                    return Ok(Value::Lanes(self.count_up(groups, scale)));
                }
            }
            _ => {}
        }
        if !self.side_by_side(e) {
            return self.lane_by_lane(e);
        }
        let children = e.children();
        let mut operands = Vec::new();
        for child in &children {
            let value = self.expr(child)?;
            operands.push(match e.kind() {
                // All lanes shift by the same amount, a scalar.
                ExprKind::Binary(Binary::Shl | Binary::Shr, _, amount) if std::ptr::eq(*child, amount) => {
                    vec![value.scalar(); self.groups()]
                }
                _ => self.spread(child.dtype(), &value),
            });
        }
        let mut groups = Vec::new();
        for at in 0..self.groups() {
            let group: Vec<clif::Value> = operands.iter().map(|operand| operand[at]).collect();
            groups.push(match e.kind() {
                ExprKind::Unary(f, x) => self.unary(*f, x.dtype(), group[0])?,
                ExprKind::Binary(f, a, b) => self.binary(*f, a.dtype(), [group[0], group[1]], (a, b))?,
                ExprKind::Fma(..) => self.b.ins().fma(group[0], group[1], group[2]),
                ExprKind::Cast(to, x) => self.cast(x.dtype(), *to, group[0]),
                ExprKind::Bitcast(to, _) => {
                    let ty = lane_type(*to).expect("bug: lanes without lane form");
                    self.bits_as(ty, group[0])
                }
                _ => unreachable!("bug: handled above or not side by side"),
            });
        }
        Ok(Value::Lanes(groups))
    }

    /// Each lane by the scalar code.
    fn lane_by_lane(&mut self, e: &Expr) -> Result<Value, EmitError> {
        let count = self.groups() * GROUP;
        let mut values = Vec::with_capacity(count);
        for lane in 0..count {
            self.lane = Some(lane);
            let value = self.expr(e)?.scalar();
            self.lane = None;
            values.push(value);
        }
        Ok(self.pack(e.dtype(), &values))
    }

    fn select_lanes(&mut self, e: &Expr, cond: &Expr, yes: &Expr, no: &Expr) -> Result<Value, EmitError> {
        let dtype = e.dtype();
        let guards = self.reads(yes) || self.reads(no);
        let arm = |this: &mut Self, e: &Expr| {
            let value = this.expr(e)?;
            Ok(this.spread(dtype, &value))
        };
        match self.expr(cond)? {
            Value::Uniform(cond) if guards => {
                let groups = self.branch(cond, |this| arm(this, yes), |this| arm(this, no))?;
                Ok(Value::Lanes(groups))
            }
            Value::Lanes(masks) if guards => {
                // Mostly all lanes agree, far from borders; else each lane looks for itself.
                let (mut all, mut any) = (masks[0], masks[0]);
                for &mask in &masks[1..] {
                    all = self.b.ins().band(all, mask);
                    any = self.b.ins().bor(any, mask);
                }
                let all = self.b.ins().vall_true(all);
                let any = self.b.ins().vany_true(any);
                let each = |this: &mut Self| match this.lane_by_lane(e)? {
                    Value::Lanes(groups) => Ok(groups),
                    Value::Uniform(_) => unreachable!("bug: one value for all lanes"),
                };
                let mixed = |this: &mut Self| this.branch(any, each, |this| arm(this, no));
                Ok(Value::Lanes(self.branch(all, |this| arm(this, yes), mixed)?))
            }
            cond => {
                let masks = match cond {
                    Value::Uniform(cond) => vec![cond; self.groups()],
                    Value::Lanes(masks) => masks,
                };
                let (yes, no) = (arm(self, yes)?, arm(self, no)?);
                let sides = masks.into_iter().zip(yes).zip(no);
                Ok(Value::Lanes(sides.map(|((mask, yes), no)| self.choose(mask, yes, no)).collect()))
            }
        }
    }

    /// A comparison of `i64` of which each side is an index that grows evenly along the lanes, or the same in all.
    ///
    /// The difference in the first lane is clamped to 32 bits: it then has the same sign as the true one in every
    /// lane.
    fn compare_indices(&mut self, f: Binary, a: &Expr, b: &Expr) -> Result<Option<Value>, EmitError> {
        let Some((grow_a, first_a)) = self.side(a)? else { return Ok(None) };
        let Some((grow_b, first_b)) = self.side(b)? else { return Ok(None) };
        // Nothing that is compared with an index lies beyond: the difference must not wrap.
        let [first_a, first_b] = [first_a, first_b].map(|first| self.clamp(first, 1 << 61));
        let difference = self.b.ins().isub(first_a, first_b);
        let difference = self.clamp(difference, 1 << 30);
        let first = self.b.ins().ireduce(types::I32, difference);
        let groups = self.spread(DType::I32, &Value::Uniform(first));
        let groups = self.count_up(groups, grow_a - grow_b);
        let groups = groups.into_iter().map(|group| {
            let zero = self.int_like(group, 0);
            self.b.ins().icmp(int_condition(f, true), group, zero)
        });
        Ok(Some(Value::Lanes(groups.collect())))
    }

    fn side(&mut self, e: &Expr) -> Result<Option<(i64, clif::Value)>, EmitError> {
        if !self.varies(e) {
            return Ok(Some((0, self.expr(e)?.scalar())));
        }
        match e.as_index().and_then(|dim| self.first_lane(dim)) {
            Some((scale, first)) => Ok(Some((scale, self.polynomial(&first)?))),
            None => Ok(None),
        }
    }

    /// The value, or the limit that it is beyond.
    pub(crate) fn clamp(&mut self, value: clif::Value, limit: i64) -> clif::Value {
        let [low, high] = [-limit, limit].map(|limit| self.b.ins().iconst(types::I64, limit));
        let below = self.b.ins().icmp(IntCC::SignedLessThan, value, low);
        let value = self.b.ins().select(below, low, value);
        let above = self.b.ins().icmp(IntCC::SignedGreaterThan, value, high);
        self.b.ins().select(above, high, value)
    }

    /// An index that grows by a small constant from lane to lane: that, and its value in the first lane.
    fn first_lane(&self, dim: &Dim) -> Option<(i64, Dim)> {
        let dim = self.resolve(dim);
        let (scale, _) = dim.linear_in(&self.vector.as_ref()?.axis)?;
        Some((scale.as_const().filter(|scale| scale.abs() < 1 << 20)?, dim))
    }

    /// Adds `0, scale, 2·scale, …` to the lanes.
    fn count_up(&mut self, groups: Vec<clif::Value>, scale: i64) -> Vec<clif::Value> {
        let mut lane = 0;
        let counted = groups.into_iter().map(|group| {
            let bytes: Vec<u8> =
                (0..GROUP as i64).flat_map(|at| ((scale * (lane + at)) as i32).to_le_bytes()).collect();
            lane += GROUP as i64;
            let constant = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
            let steps = self.b.ins().vconst(types::I32X4, constant);
            self.b.ins().iadd(group, steps)
        });
        counted.collect()
    }

    /// The offset of the first lane and the distance between lanes, if that is constant and what is computed is the
    /// same in all lanes.
    pub(crate) fn along_lanes(
        &mut self,
        source: &Symbol,
        at: &[Expr],
    ) -> Result<Option<(i64, Offset)>, EmitError> {
        let offset = self.offset(source, at)?;
        let Some(vector) = &self.vector else { return Ok(None) };
        let scale = offset.dim.linear_in(&vector.axis).and_then(|(scale, _)| scale.as_const());
        let same = !offset.computed.iter().any(|(index, _)| self.varies(index));
        let axis_in_strides = {
            let axis = &self.vector.as_ref().expect("bug: just seen").axis;
            offset.computed.iter().any(|(_, stride)| stride.mentions(axis))
        };
        Ok(scale.filter(|_| same && !axis_in_strides).map(|scale| (scale, offset)))
    }

    /// Consecutive elements, one for each lane.
    fn load_lanes(&mut self, source: &Symbol, dtype: DType, offset: &Offset) -> Result<Value, EmitError> {
        let (address, distance) = self.address(source, offset)?;
        let bytes = dtype.bytes();
        let mut groups = Vec::new();
        for at in 0..self.groups() {
            let distance = distance + (at * GROUP * bytes) as i32;
            let signed = dtype.class() == Class::Signed;
            groups.push(match (bytes, signed) {
                (4, _) => {
                    let ty = lane_type(dtype).expect("bug: 32 bits have a lane form");
                    self.b.ins().load(ty, element_flags(), address, distance)
                }
                (2, true) => self.b.ins().sload16x4(element_flags(), address, distance),
                (2, false) => self.b.ins().uload16x4(element_flags(), address, distance),
                _ => {
                    let four = self.b.ins().load(types::I32, element_flags(), address, distance);
                    let bytes = self.b.ins().scalar_to_vector(types::I32X4, four);
                    let bytes = self.bits_as(types::I8X16, bytes);
                    if signed {
                        let wide = self.b.ins().swiden_low(bytes);
                        self.b.ins().swiden_low(wide)
                    } else {
                        let wide = self.b.ins().uwiden_low(bytes);
                        let wide = self.b.ins().uwiden_low(wide);
                        // A truth value is a mask in a lane.
                        if dtype == DType::Bool { self.b.ins().ineg(wide) } else { wide }
                    }
                }
            });
        }
        Ok(Value::Lanes(groups))
    }

    fn variable(&mut self, name: &Symbol, dtype: DType) -> Result<Value, EmitError> {
        let (bound, value) = match self.scope.scalar(name).or_else(|| self.scope.locals.get(name)).cloned() {
            Some(Local::Scalar { dtype, value, .. }) => (dtype, value),
            Some(Local::Variable { dtype, slots, lanes }) => {
                let values: Vec<clif::Value> = slots.into_iter().map(|slot| self.b.use_var(slot)).collect();
                (dtype, if lanes { Value::Lanes(values) } else { Value::Uniform(values[0]) })
            }
            Some(Local::Index(dim)) => (DType::I64, Value::Uniform(self.index(&dim)?)),
            None => return Err(self.unbound("scalar", name)),
        };
        if bound != dtype {
            return Err(self.unsupported(
                format!("the scalar `{name}` as {dtype}"),
                format!("it is bound as {bound}; cast it"),
            ));
        }
        Ok(value)
    }

    fn constant(&mut self, value: Scalar) -> clif::Value {
        match value.dtype() {
            DType::F32 => self.b.ins().f32const(f32::from_bits(value.bits() as u32)),
            DType::F64 => self.b.ins().f64const(f64::from_bits(value.bits())),
            dtype => self.int(scalar_type(dtype), value.bits() as i64),
        }
    }

    /// Does it read memory? Then it runs only where it is chosen.
    fn reads(&mut self, e: &Expr) -> bool {
        let key = std::ptr::from_ref(e.kind());
        if let Some(&known) = self.memo.loads.get(&key) {
            return known;
        }
        let reads = matches!(e.kind(), ExprKind::Load { .. })
            || e.children().into_iter().any(|child| self.reads(child));
        self.memo.loads.insert(key, reads);
        reads
    }

    /// Refuses operands whose types do not fit each other, which the constructors of expressions let pass.
    fn check(&self, e: &Expr) -> Result<(), EmitError> {
        let same = |what: &str, operands: &[&Expr]| {
            let dtypes: Vec<DType> = operands.iter().map(|x| x.dtype()).collect();
            if dtypes.windows(2).all(|pair| pair[0] == pair[1]) {
                return Ok(());
            }
            let dtypes: Vec<&str> = dtypes.iter().map(|dtype| dtype.name()).collect();
            Err(self
                .unsupported(format!("`{what}` of {}", dtypes.join(" and ")), "all must have one type; cast"))
        };
        match e.kind() {
            ExprKind::Load { source, dtype, .. } => match self.scope.arrays.get(source) {
                None => Err(self.unbound("array", source)),
                Some(array) if array.dtype != *dtype => Err(self.unsupported(
                    format!("a load of `{source}` as {dtype}"),
                    format!("it holds {}; cast what is loaded", array.dtype),
                )),
                Some(_) => Ok(()),
            },
            ExprKind::Binary(f, a, b) => same(f.name(), &[a, b]),
            ExprKind::Fma(a, b, c) => {
                same("fma", &[a, b, c])?;
                match a.dtype() {
                    DType::F32 | DType::F64 if self.module.target.has_fma() => Ok(()),
                    DType::F32 | DType::F64 => {
                        Err(EmitError::Feature { kernel: self.kernel.name.to_string(), feature: "fma" })
                    }
                    other => {
                        Err(self
                            .unsupported(format!("`fma` of {other}"), "it is defined for f32 and f64; cast"))
                    }
                }
            }
            ExprKind::Select(cond, yes, no) => {
                same("select", &[yes, no])?;
                match cond.dtype() {
                    DType::Bool => Ok(()),
                    other => Err(self.unsupported(
                        format!("a condition of {other}"),
                        "it must be a truth value; compare it, or cast it to bool",
                    )),
                }
            }
            ExprKind::Bitcast(to, x) if to.bits() != x.dtype().bits() => Err(self.unsupported(
                format!("a bitcast of {} to {to}", x.dtype()),
                "the types differ in width; use a cast",
            )),
            _ => Ok(()),
        }
    }
}

/// The comparison of integers that a function is; of unsigned ones, if not signed.
pub(crate) fn int_condition(f: Binary, signed: bool) -> IntCC {
    match (f, signed) {
        (Binary::Eq, _) => IntCC::Equal,
        (Binary::Ne, _) => IntCC::NotEqual,
        (Binary::Lt, true) => IntCC::SignedLessThan,
        (Binary::Lt, false) => IntCC::UnsignedLessThan,
        (Binary::Le, true) => IntCC::SignedLessThanOrEqual,
        (Binary::Le, false) => IntCC::UnsignedLessThanOrEqual,
        (Binary::Gt, true) => IntCC::SignedGreaterThan,
        (Binary::Gt, false) => IntCC::UnsignedGreaterThan,
        (Binary::Ge, true) => IntCC::SignedGreaterThanOrEqual,
        (Binary::Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
        _ => unreachable!("bug: `{}` is no comparison", f.name()),
    }
}
