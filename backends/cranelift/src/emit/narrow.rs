//! Floats of 8 and 4 bits to `f32` and back, as [`FloatFormat`] defines them, by the numbers of its table.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, InstBuilder, types};
use ir::float_format::{FloatFormat, Specials};

use super::function::Emitter;

/// The bits of an infinity and of a quiet NaN.
const INFINITY: i64 = 0x7f80_0000;
const NAN: i64 = 0x7fc0_0000;

impl Emitter<'_, '_> {
    /// A code, in integers of 32 bits, as `f32`, exactly. Bits above the format's mean nothing.
    pub(super) fn decode(&mut self, format: FloatFormat, x: clif::Value) -> clif::Value {
        let float = self.float_of(x);
        let magnitude = self.and(x, format.magnitude().into());
        let nan = self.int_like(x, NAN);
        if format.specials == Specials::Exponent {
            // The exponent of an f32, whose least one is a subnormal number.
            let bits = self.shl(magnitude, 23);
            let least = self.int_like(x, 1 << 22);
            let is_more = self.above(magnitude, 0);
            let bits = self.choose(is_more, bits, least);
            let is_nan = self.above(magnitude, format.largest().into());
            let bits = self.choose(is_nan, nan, bits);
            return self.bits_as(float, bits);
        }
        // The exponent's bias grows; a product does that for subnormals, too.
        let small = self.shl(magnitude, 23 - i64::from(format.fraction));
        let value = self.bits_as(float, small);
        let scale = self.float_like(value, 2f64.powi(127 - format.bias));
        let value = self.b.ins().fmul(value, scale);
        let mut bits = self.bits_as(self.type_of(x), value);
        if format.specials == Specials::Ieee {
            let infinity = self.int_like(x, INFINITY);
            let is_infinite = self.above(magnitude, format.largest().into());
            bits = self.choose(is_infinite, infinity, bits);
        }
        if format.is_symmetric() {
            let last = if format.specials == Specials::Ieee { format.overflow() } else { format.largest() };
            let is_nan = self.above(magnitude, last.into());
            bits = self.choose(is_nan, nan, bits);
        }
        let sign = self.and(x, format.sign().into());
        let high = self.shl(sign, 32 - i64::from(format.bits));
        bits = self.b.ins().bor(bits, high);
        if format.specials == Specials::ZeroNan {
            let code = self.and(x, (format.magnitude() | format.sign()).into());
            let is_nan = self.equal(code, format.nan().into());
            bits = self.choose(is_nan, nan, bits);
        }
        self.bits_as(float, bits)
    }

    /// The bits of an `f32` as the code of the nearest number, ties to even, in integers of 32 bits.
    pub(super) fn encode(&mut self, format: FloatFormat, bits: clif::Value) -> clif::Value {
        let nan = self.int_like(bits, format.nan().into());
        if format.specials == Specials::Exponent {
            return self.encode_exponent(format, bits);
        }
        let magnitude = self.and(bits, 0x7fff_ffff);
        let is_nan = self.above(magnitude, INFINITY);
        // Normal: the bias shrinks, and digits are rounded off. A carry raises the exponent, up to beyond the largest.
        let biases = i64::from(127 - format.bias);
        let shrunk = self.add(magnitude, -(biases << 23));
        let normal = self.round_off(shrunk, 23 - i64::from(format.fraction));
        // Subnormal: adding a number whose last digit has the place of theirs drops those that have none.
        let value = self.bits_as(self.float_of(bits), magnitude);
        let shift = 2f32.powi(format.least_exponent() - format.fraction as i32 + 23);
        let summand = self.float_like(value, shift.into());
        let sum = self.b.ins().fadd(value, summand);
        let sum = self.bits_as(self.type_of(bits), sum);
        let subnormal = self.add(sum, -i64::from(shift.to_bits()));
        let is_normal = self.above(magnitude, ((biases + 1) << 23) - 1);
        let code = self.choose(is_normal, normal, subnormal);
        let overflow = self.int_like(bits, format.overflow().into());
        let is_beyond = self.above(code, format.largest().into());
        let code = self.choose(is_beyond, overflow, code);
        let sign = self.ushr(bits, 32 - i64::from(format.bits));
        let sign = self.and(sign, format.sign().into());
        if format.is_symmetric() {
            let code = self.choose(is_nan, nan, code);
            return self.b.ins().bor(code, sign);
        }
        let mut signed = self.b.ins().bor(code, sign);
        if format.specials == Specials::ZeroNan {
            let is_zero = self.equal(code, 0);
            signed = self.choose(is_zero, code, signed);
        }
        self.choose(is_nan, nan, signed)
    }

    /// The bits of an `f32` as the nearest power of two, ties up; NaN for what is not positive, or out of range.
    fn encode_exponent(&mut self, format: FloatFormat, bits: clif::Value) -> clif::Value {
        let nan = self.int_like(bits, format.nan().into());
        let half = self.add(bits, 1 << 22);
        let exponent = self.ushr(half, 23);
        // Between the least power and the next one, which is the least normal number, lies one half more than the least.
        let least = self.int_like(bits, 0);
        let is_more = self.above(bits, 0x5f_ffff);
        let code = self.choose(is_more, exponent, least);
        let is_beyond = self.above(code, format.largest().into());
        let code = self.choose(is_beyond, nan, code);
        // Half the least power, and with it all that has a sign.
        let is_enough = self.above(bits, 0x20_0000);
        self.choose(is_enough, code, nan)
    }

    /// The floats that have the bits of such integers.
    fn float_of(&self, bits: clif::Value) -> clif::Type {
        if self.type_of(bits).is_vector() { types::F32X4 } else { types::F32 }
    }

    fn equal(&mut self, x: clif::Value, constant: i64) -> clif::Value {
        let constant = self.int_like(x, constant);
        self.b.ins().icmp(IntCC::Equal, x, constant)
    }
}
