//! Conversions, as [`Scalar::cast`](ir::scalar::Scalar::cast) defines them.
//!
//! Floats of 16 and fewer bits are converted by integer arithmetic (see `narrow.rs` for those of 8 and 4), the same for one
//! value and for four lanes: no processor feature and no call is needed. A NaN stays one; its payload is kept as far as it
//! has room.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self as clif, InstBuilder, types};
use ir::dtype::{Class, DType};
use ir::float_format::FloatFormat;

use super::function::Emitter;
use super::value::scalar_type;

impl Emitter<'_, '_> {
    /// Converted from one type to another, in scalar form, or in lane form where all lanes can do it at once.
    pub(crate) fn cast(&mut self, from: DType, to: DType, x: clif::Value) -> clif::Value {
        let lanes = self.type_of(x).is_vector();
        match (from.class(), to.class()) {
            _ if from == to => x,
            (Class::Float, _) if from.bits() <= 16 => {
                let single = self.widen(from, x);
                self.cast(DType::F32, to, single)
            }
            _ if from.is_narrow() => {
                let byte = self.wrap(from, x);
                self.cast(from.arithmetic(), to, byte)
            }
            (Class::Float, Class::Bool) => {
                let zero = self.float_like(x, 0.0);
                self.b.ins().fcmp(FloatCC::NotEqual, x, zero)
            }
            (_, Class::Bool) => {
                let zero = self.int_like(x, 0);
                self.b.ins().icmp(IntCC::NotEqual, x, zero)
            }
            (Class::Float, Class::Float) => match (from, to) {
                (DType::F32, DType::F64) => self.b.ins().fpromote(types::F64, x),
                (DType::F64, DType::F32) => self.b.ins().fdemote(types::F32, x),
                (DType::F32, _) => self.round_to(to, x),
                _ => {
                    let odd = self.round_to_odd(x);
                    self.round_to(to, odd)
                }
            },
            (Class::Float, _) if to.is_narrow() => {
                let int = self.float_to_int(DType::I32, x);
                self.cast(DType::I32, to, int)
            }
            (Class::Float, _) => self.float_to_int(to, x),
            (_, Class::Float) if lanes => {
                let number = self.mask_to_number(from, x);
                match from {
                    DType::U32 => self.b.ins().fcvt_from_uint(types::F32X4, number),
                    _ => self.b.ins().fcvt_from_sint(types::F32X4, number),
                }
            }
            (_, Class::Float) => self.int_to_float(from, to, x),
            _ if lanes => {
                let number = self.mask_to_number(from, x);
                self.wrap_lanes(to, number)
            }
            _ => {
                let ty = scalar_type(to);
                let value = if to.bytes() > from.bytes() {
                    self.extend(x, ty, from.class() == Class::Signed)
                } else {
                    self.narrow(x, ty)
                };
                if to.is_narrow() { self.wrap(to, value) } else { value }
            }
        }
    }

    /// A byte, or lanes, wrapped to an integer of fewer bits: whatever lies above those is dropped.
    fn wrap(&mut self, to: DType, x: clif::Value) -> clif::Value {
        if self.type_of(x).is_vector() { self.wrap_lanes(to, x) } else { self.keep_low(to, 8, x) }
    }

    /// Truth values of lanes, which are masks, as 0 and 1; other types as they are.
    fn mask_to_number(&mut self, from: DType, x: clif::Value) -> clif::Value {
        if from == DType::Bool { self.b.ins().ineg(x) } else { x }
    }

    /// 32-bit lanes wrapped to an integer type, in its lane form.
    fn wrap_lanes(&mut self, to: DType, x: clif::Value) -> clif::Value {
        if to.bits() == 32 {
            return x;
        }
        self.keep_low(to, 32, x)
    }

    /// The low bits, as many as the type has, of integers of so many, extended as its sign says.
    pub(super) fn keep_low(&mut self, to: DType, of: i64, x: clif::Value) -> clif::Value {
        let amount = self.int(types::I32, of - to.bits() as i64);
        let high = self.b.ins().ishl(x, amount);
        match to.class() {
            Class::Signed => self.b.ins().sshr(high, amount),
            _ => self.b.ins().ushr(high, amount),
        }
    }

    /// Truncated, saturating, NaN to 0.
    fn float_to_int(&mut self, to: DType, x: clif::Value) -> clif::Value {
        let lanes = self.type_of(x).is_vector();
        let signed = to.class() == Class::Signed;
        let wide = match (lanes, to.bits()) {
            (true, _) => types::I32X4,
            (false, 64) => types::I64,
            (false, _) => types::I32,
        };
        let value = match signed {
            true => self.b.ins().fcvt_to_sint_sat(wide, x),
            false => self.b.ins().fcvt_to_uint_sat(wide, x),
        };
        if to.bits() >= 32 {
            return value;
        }
        let bits = to.bits() as u32;
        let (low, high) = match signed {
            true => (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1),
            false => (0, (1i64 << bits) - 1),
        };
        let most = self.int_like(value, high);
        let above = if signed { IntCC::SignedGreaterThan } else { IntCC::UnsignedGreaterThan };
        let above = self.b.ins().icmp(above, value, most);
        let mut value = self.choose(above, most, value);
        if signed {
            let least = self.int_like(value, low);
            let below = self.b.ins().icmp(IntCC::SignedLessThan, value, least);
            value = self.choose(below, least, value);
        }
        if lanes { value } else { self.narrow(value, scalar_type(to)) }
    }

    /// To the nearest float, in scalar form.
    fn int_to_float(&mut self, from: DType, to: DType, x: clif::Value) -> clif::Value {
        let wide = self.extend(x, types::I64, from.class() == Class::Signed);
        let ty = if to == DType::F32 { types::F32 } else { types::F64 };
        let value = match from {
            DType::U64 => self.b.ins().fcvt_from_uint(ty, wide),
            _ => self.b.ins().fcvt_from_sint(ty, wide),
        };
        if to.bits() <= 16 { self.cast(DType::F64, to, value) } else { value }
    }

    /// A float of 16 or fewer bits as `f32`, exactly.
    fn widen(&mut self, from: DType, x: clif::Value) -> clif::Value {
        let x = if self.type_of(x).is_vector() { x } else { self.b.ins().uextend(types::I32, x) };
        match FloatFormat::of(from).filter(|_| from.is_narrow()) {
            Some(format) => self.decode(format, x),
            None => self.widen_half(from, x),
        }
    }

    /// An `f32` as the nearest float of 16 or fewer bits, ties to even.
    fn round_to(&mut self, to: DType, x: clif::Value) -> clif::Value {
        let lanes = self.type_of(x).is_vector();
        let bits = self.bits_as(if lanes { types::I32X4 } else { types::I32 }, x);
        let code = match FloatFormat::of(to).filter(|_| to.is_narrow()) {
            Some(format) => self.encode(format, bits),
            None if to == DType::BF16 => self.bits_to_bf16(bits),
            None => self.bits_to_f16(bits),
        };
        if lanes { code } else { self.b.ins().ireduce(scalar_type(to), code) }
    }

    /// A 16-bit float, extended by zeros, as `f32`.
    fn widen_half(&mut self, from: DType, x: clif::Value) -> clif::Value {
        let float = if self.type_of(x).is_vector() { types::F32X4 } else { types::F32 };
        let magnitude = self.and(x, 0x7fff);
        if from == DType::BF16 {
            let high = self.shl(x, 16);
            let quiet = self.or(high, 0x0040_0000);
            let nan = self.above(magnitude, 0x7f80);
            let bits = self.choose(nan, quiet, high);
            return self.bits_as(float, bits);
        }
        // The exponent's bias grows by 112; a product does that for subnormals, too.
        let small = self.shl(magnitude, 13);
        let value = self.bits_as(float, small);
        let scale = self.float_like(value, f64::from(f32::from_bits((127 + 112) << 23)));
        let value = self.b.ins().fmul(value, scale);
        let number = self.bits_as(self.type_of(x), value);
        let infinite = self.or(small, 0x7f80_0000);
        let quiet = self.or(infinite, 0x0040_0000);
        let nan = self.above(magnitude, 0x7c00);
        let infinite = self.choose(nan, quiet, infinite);
        let special = self.above(magnitude, 0x7bff);
        let bits = self.choose(special, infinite, number);
        let sign = self.and(x, 0x8000);
        let sign = self.shl(sign, 16);
        let bits = self.b.ins().bor(bits, sign);
        self.bits_as(float, bits)
    }

    fn bits_to_bf16(&mut self, bits: clif::Value) -> clif::Value {
        let magnitude = self.and(bits, 0x7fff_ffff);
        let rounded = self.round_off(bits, 16);
        let truncated = self.ushr(bits, 16);
        let quiet = self.or(truncated, 0x40);
        let nan = self.above(magnitude, 0x7f80_0000);
        self.choose(nan, quiet, rounded)
    }

    fn bits_to_f16(&mut self, bits: clif::Value) -> clif::Value {
        let magnitude = self.and(bits, 0x7fff_ffff);
        let float = if self.type_of(bits).is_vector() { types::F32X4 } else { types::F32 };
        // Normal: the bias shrinks by 112, and 13 digits are rounded off. A carry raises the exponent, up to infinity.
        let shrunk = self.add(magnitude, -(112 << 23));
        let normal = self.round_off(shrunk, 13);
        // Subnormal: adding ½ moves the digits to where the sum's rounding drops those that have no place.
        let value = self.bits_as(float, magnitude);
        let half = self.float_like(value, 0.5);
        let sum = self.b.ins().fadd(value, half);
        let sum = self.bits_as(self.type_of(bits), sum);
        let subnormal = self.add(sum, -i64::from(0.5f32.to_bits()));
        let normal_from = self.above(magnitude, i64::from((113u32 << 23) - 1));
        let finite = self.choose(normal_from, normal, subnormal);
        let payload = self.ushr(magnitude, 13);
        let payload = self.and(payload, 0x3ff);
        let nan_bits = self.or(payload, 0x7e00);
        let infinity = self.int_like(bits, 0x7c00);
        let nan = self.above(magnitude, 0x7f80_0000);
        let infinite = self.choose(nan, nan_bits, infinity);
        let special = self.above(magnitude, i64::from((143u32 << 23) - 1));
        let unsigned = self.choose(special, infinite, finite);
        let sign = self.ushr(bits, 16);
        let sign = self.and(sign, 0x8000);
        self.b.ins().bor(unsigned, sign)
    }

    /// An `f64` as the `f32` next to it whose last digit is odd, unless exact: rounding that again to fewer digits
    /// is like rounding once.
    fn round_to_odd(&mut self, x: clif::Value) -> clif::Value {
        let near = self.b.ins().fdemote(types::F32, x);
        let back = self.b.ins().fpromote(types::F64, near);
        let bits = self.bits_as(types::I32, near);
        let inexact = self.b.ins().fcmp(FloatCC::OrderedNotEqual, back, x);
        let [size_back, size] = [back, x].map(|value| self.b.ins().fabs(value));
        let over = self.b.ins().fcmp(FloatCC::GreaterThan, size_back, size);
        let [down, up] = [-1, 1].map(|step| self.add(bits, step));
        let other = self.b.ins().select(over, down, up);
        let odd = self.and(bits, 1);
        let chosen = self.b.ins().select(odd, bits, other);
        let bits = self.b.ins().select(inexact, chosen, bits);
        self.bits_as(types::F32, bits)
    }

    /// Drops this many low bits, to nearest, ties to even.
    pub(super) fn round_off(&mut self, x: clif::Value, digits: i64) -> clif::Value {
        let last = self.ushr(x, digits);
        let last = self.and(last, 1);
        let below_half = self.add(x, (1 << (digits - 1)) - 1);
        let sum = self.b.ins().iadd(below_half, last);
        self.ushr(sum, digits)
    }

    pub(super) fn add(&mut self, x: clif::Value, constant: i64) -> clif::Value {
        let constant = self.int_like(x, constant);
        self.b.ins().iadd(x, constant)
    }

    pub(super) fn and(&mut self, x: clif::Value, constant: i64) -> clif::Value {
        let constant = self.int_like(x, constant);
        self.b.ins().band(x, constant)
    }

    pub(super) fn or(&mut self, x: clif::Value, constant: i64) -> clif::Value {
        let constant = self.int_like(x, constant);
        self.b.ins().bor(x, constant)
    }

    pub(super) fn shl(&mut self, x: clif::Value, amount: i64) -> clif::Value {
        let amount = self.int(types::I32, amount);
        self.b.ins().ishl(x, amount)
    }

    pub(super) fn ushr(&mut self, x: clif::Value, amount: i64) -> clif::Value {
        let amount = self.int(types::I32, amount);
        self.b.ins().ushr(x, amount)
    }

    /// Is it more than the constant? Both are below 2³¹.
    pub(super) fn above(&mut self, x: clif::Value, constant: i64) -> clif::Value {
        let constant = self.int_like(x, constant);
        self.b.ins().icmp(IntCC::SignedGreaterThan, x, constant)
    }
}
