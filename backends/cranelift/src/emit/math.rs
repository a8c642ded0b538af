//! Functions of elements, as `ir::scalar` defines them.
//!
//! Written once over scalar form and lane form: the same instructions on one value or four. 16-bit floats are
//! computed in `f32` where the result then is the correctly rounded one, and in `f64` else. A transcendental function
//! of `f32` is the runtime's for `f64`, rounded: the definition, to the bit.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self as clif, InstBuilder, types};
use ir::dtype::{Class, DType};
use ir::kernel::{Expr, ExprKind};
use ir::scalar::{Binary, Scalar, Unary};
use ir::service::Service;

use super::expr::int_condition;
use super::function::Emitter;
use crate::error::EmitError;

impl Emitter<'_, '_> {
    /// `f(x)`, in scalar form, or in lane form where all lanes can compute it at once.
    pub(crate) fn unary(&mut self, f: Unary, dtype: DType, x: clif::Value) -> Result<clif::Value, EmitError> {
        if !f.accepts(dtype) {
            return Err(
                self.unsupported(format!("`{}` of {dtype}", f.name()), "it is not defined for this type")
            );
        }
        Ok(match (f, dtype.class()) {
            (Unary::Neg, Class::Float) => {
                self.with_sign(dtype, x, |this, bits, sign| this.b.ins().bxor(bits, sign))
            }
            (Unary::Abs, Class::Float) => {
                self.with_sign(dtype, x, |this, bits, sign| this.b.ins().band_not(bits, sign))
            }
            (Unary::Neg, _) => self.b.ins().ineg(x),
            (Unary::Abs, Class::Signed) => {
                let zero = self.int_like(x, 0);
                let negative = self.b.ins().icmp(IntCC::SignedLessThan, x, zero);
                let opposite = self.b.ins().ineg(x);
                self.choose(negative, opposite, x)
            }
            (Unary::Abs, _) => x,
            (Unary::Not, Class::Bool) if !self.type_of(x).is_vector() => self.b.ins().bxor_imm_s(x, 1),
            (Unary::Not, _) => self.b.ins().bnot(x),
            _ if dtype.bits() <= 16 => self.unary_of_half(f, dtype, x)?,
            (Unary::IsNan, _) => self.b.ins().fcmp(FloatCC::Unordered, x, x),
            (Unary::IsInf, _) => {
                let size = self.b.ins().fabs(x);
                let infinity = self.float_like(x, f64::INFINITY);
                self.b.ins().fcmp(FloatCC::Equal, size, infinity)
            }
            (Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc, _) => {
                if !self.module.target.has_rounding() {
                    let kernel = self.kernel.name.to_string();
                    return Err(EmitError::Feature { kernel, feature: "sse4.1" });
                }
                match f {
                    Unary::Floor => self.b.ins().floor(x),
                    Unary::Ceil => self.b.ins().ceil(x),
                    Unary::Round => self.b.ins().nearest(x),
                    _ => self.b.ins().trunc(x),
                }
            }
            (Unary::Sqrt, _) => self.b.ins().sqrt(x),
            _ if dtype == DType::F64 => self.call_math(Service::Unary(f, DType::F64), &[x]),
            _ => {
                let wide = self.b.ins().fpromote(types::F64, x);
                let value = self.call_math(Service::Unary(f, DType::F64), &[wide]);
                self.b.ins().fdemote(types::F32, value)
            }
        })
    }

    /// Changes the sign bit of a float alone, so that a NaN keeps its payload.
    fn with_sign(
        &mut self,
        dtype: DType,
        x: clif::Value,
        change: impl FnOnce(&mut Self, clif::Value, clif::Value) -> clif::Value,
    ) -> clif::Value {
        let ty = self.type_of(x);
        let bits = self.bits_as(ty.as_int(), x);
        let sign = self.int_like(bits, (1u64 << (dtype.bits() - 1)) as i64);
        let changed = change(self, bits, sign);
        self.bits_as(ty, changed)
    }

    /// A function of a float of 16 or fewer bits in scalar form.
    fn unary_of_half(&mut self, f: Unary, dtype: DType, x: clif::Value) -> Result<clif::Value, EmitError> {
        let single = self.cast(dtype, DType::F32, x);
        let exact = matches!(
            f,
            Unary::Floor
                | Unary::Ceil
                | Unary::Round
                | Unary::Trunc
                | Unary::Sqrt
                | Unary::IsNan
                | Unary::IsInf
        );
        if exact {
            let value = self.unary(f, DType::F32, single)?;
            return Ok(if f.result(dtype) == dtype { self.cast(DType::F32, dtype, value) } else { value });
        }
        let wide = self.b.ins().fpromote(types::F64, single);
        let value = self.call_math(Service::Unary(f, DType::F64), &[wide]);
        Ok(self.cast(DType::F64, dtype, value))
    }

    /// `f(a, b)`, in scalar form, or in lane form where all lanes can compute it at once. The expressions tell what
    /// is constant.
    pub(crate) fn binary(
        &mut self,
        f: Binary,
        dtype: DType,
        [a, b]: [clif::Value; 2],
        exprs: (&Expr, &Expr),
    ) -> Result<clif::Value, EmitError> {
        if !f.accepts(dtype) {
            return Err(
                self.unsupported(format!("`{}` of {dtype}", f.name()), "it is not defined for this type")
            );
        }
        Ok(match dtype.class() {
            Class::Float => self.binary_of_floats(f, dtype, [a, b], exprs.1)?,
            Class::Bool if self.type_of(a).is_vector() => self.binary_of_masks(f, a, b),
            Class::Bool | Class::Signed | Class::Unsigned => self.binary_of_ints(f, dtype, [a, b], exprs.1),
        })
    }

    fn binary_of_floats(
        &mut self,
        f: Binary,
        dtype: DType,
        [a, b]: [clif::Value; 2],
        right: &Expr,
    ) -> Result<clif::Value, EmitError> {
        if dtype.bits() == 16 {
            return self.binary_of_halves(f, dtype, [a, b], right);
        }
        Ok(match f {
            Binary::Add => self.b.ins().fadd(a, b),
            Binary::Sub => self.b.ins().fsub(a, b),
            Binary::Mul => self.b.ins().fmul(a, b),
            Binary::Div => self.b.ins().fdiv(a, b),
            Binary::Rem => self.call_math(Service::Binary(Binary::Rem, dtype), &[a, b]),
            Binary::Mod => {
                let rest = self.call_math(Service::Binary(Binary::Rem, dtype), &[a, b]);
                let zero = self.float_like(rest, 0.0);
                let negative = self.b.ins().fcmp(FloatCC::LessThan, rest, zero);
                let down = self.b.ins().fcmp(FloatCC::LessThan, b, zero);
                let differ = self.b.ins().bxor(negative, down);
                let nonzero = self.b.ins().fcmp(FloatCC::NotEqual, rest, zero);
                let adjust = self.b.ins().band(nonzero, differ);
                let adjusted = self.b.ins().fadd(rest, b);
                self.b.ins().select(adjust, adjusted, rest)
            }
            Binary::Min => self.float_extremum(Binary::Min, a, b, right),
            Binary::Max => self.float_extremum(Binary::Max, a, b, right),
            Binary::Pow if dtype == DType::F64 => self.call_math(Service::Binary(f, dtype), &[a, b]),
            Binary::Pow => {
                let [a, b] = [a, b].map(|x| self.b.ins().fpromote(types::F64, x));
                let value = self.call_math(Service::Binary(f, DType::F64), &[a, b]);
                self.b.ins().fdemote(types::F32, value)
            }
            Binary::Eq => self.b.ins().fcmp(FloatCC::Equal, a, b),
            Binary::Ne => self.b.ins().fcmp(FloatCC::NotEqual, a, b),
            Binary::Lt => self.b.ins().fcmp(FloatCC::LessThan, a, b),
            Binary::Le => self.b.ins().fcmp(FloatCC::LessThanOrEqual, a, b),
            Binary::Gt => self.b.ins().fcmp(FloatCC::GreaterThan, a, b),
            Binary::Ge => self.b.ins().fcmp(FloatCC::GreaterThanOrEqual, a, b),
            Binary::And | Binary::Or | Binary::Xor | Binary::Shl | Binary::Shr => {
                unreachable!("bug: bitwise function on floats was accepted")
            }
        })
    }

    /// `b` if it beats `a` or is NaN, else `a`. The second question is not asked of a constant.
    fn float_extremum(&mut self, f: Binary, a: clif::Value, b: clif::Value, right: &Expr) -> clif::Value {
        // In this form of the comparison it is one instruction with the choice, on four lanes.
        let (less, more) = if f == Binary::Min { (b, a) } else { (a, b) };
        let wins = self.b.ins().fcmp(FloatCC::LessThan, less, more);
        let value = self.choose(wins, b, a);
        if matches!(right.kind(), ExprKind::Const(value) if !value.to_f64().is_nan()) {
            return value;
        }
        let nan = self.b.ins().fcmp(FloatCC::Unordered, b, b);
        self.choose(nan, b, value)
    }

    /// A function of two 16-bit floats in scalar form. One rounding from `f32` gives what one from the exact result
    /// would: `f32` has more than twice their digits.
    fn binary_of_halves(
        &mut self,
        f: Binary,
        dtype: DType,
        [a, b]: [clif::Value; 2],
        right: &Expr,
    ) -> Result<clif::Value, EmitError> {
        let [x, y] = [a, b].map(|value| self.cast(dtype, DType::F32, value));
        match f {
            // The chosen operand keeps its bits.
            Binary::Min | Binary::Max => {
                let beats = if f == Binary::Min { FloatCC::LessThan } else { FloatCC::GreaterThan };
                let wins = self.b.ins().fcmp(beats, y, x);
                let nan = self.b.ins().fcmp(FloatCC::Unordered, y, y);
                let wins = self.b.ins().bor(wins, nan);
                Ok(self.b.ins().select(wins, b, a))
            }
            Binary::Pow => {
                let [x, y] = [x, y].map(|value| self.b.ins().fpromote(types::F64, value));
                let value = self.call_math(Service::Binary(f, DType::F64), &[x, y]);
                Ok(self.cast(DType::F64, dtype, value))
            }
            _ => {
                let value = self.binary_of_floats(f, DType::F32, [x, y], right)?;
                Ok(if f.is_comparison() { value } else { self.cast(DType::F32, dtype, value) })
            }
        }
    }

    /// A function of two masks.
    fn binary_of_masks(&mut self, f: Binary, a: clif::Value, b: clif::Value) -> clif::Value {
        match f {
            Binary::And | Binary::Min => self.b.ins().band(a, b),
            Binary::Or | Binary::Max => self.b.ins().bor(a, b),
            Binary::Xor | Binary::Ne => self.b.ins().bxor(a, b),
            Binary::Eq => {
                let differ = self.b.ins().bxor(a, b);
                self.b.ins().bnot(differ)
            }
            Binary::Lt => self.b.ins().band_not(b, a),
            Binary::Gt => self.b.ins().band_not(a, b),
            Binary::Le => self.b.ins().bor_not(b, a),
            Binary::Ge => self.b.ins().bor_not(a, b),
            _ => unreachable!("bug: `{}` of truth values was accepted", f.name()),
        }
    }

    fn binary_of_ints(
        &mut self,
        f: Binary,
        dtype: DType,
        [a, b]: [clif::Value; 2],
        right: &Expr,
    ) -> clif::Value {
        let signed = dtype.class() == Class::Signed;
        match f {
            Binary::Add => self.b.ins().iadd(a, b),
            Binary::Sub => self.b.ins().isub(a, b),
            Binary::Mul => self.b.ins().imul(a, b),
            Binary::Div | Binary::Rem | Binary::Mod => self.divide(f, dtype, [a, b], constant(right)),
            Binary::Pow => self.power(dtype, a, b),
            Binary::Min => {
                let wins = self.b.ins().icmp(int_condition(Binary::Lt, signed), b, a);
                self.choose(wins, b, a)
            }
            Binary::Max => {
                let wins = self.b.ins().icmp(int_condition(Binary::Gt, signed), b, a);
                self.choose(wins, b, a)
            }
            Binary::And => self.b.ins().band(a, b),
            Binary::Or => self.b.ins().bor(a, b),
            Binary::Xor => self.b.ins().bxor(a, b),
            Binary::Shl | Binary::Shr => self.shift(f, dtype, [a, b], constant(right)),
            _ => {
                // Lanes of narrow unsigned integers are extended by zeros, so both comparisons hold there.
                self.b.ins().icmp(int_condition(f, signed), a, b)
            }
        }
    }

    /// Calls a function of the runtime on floats of one type.
    fn call_math(&mut self, service: Service, args: &[clif::Value]) -> clif::Value {
        let ty = self.type_of(args[0]);
        self.call(service, args, Some(ty)).expect("bug: a mathematical function gives a value")
    }
}

/// The number, if the expression is one.
fn constant(e: &Expr) -> Option<i64> {
    match e.kind() {
        ExprKind::Const(value) => Some(Scalar::to_i64(*value)),
        ExprKind::Index(dim) => dim.as_const(),
        _ => None,
    }
}
