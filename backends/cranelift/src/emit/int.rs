//! Integer functions that machines define otherwise than `ir::scalar`, or not at all: division, powers, shifts.
//!
//! Nothing here traps: divisors that would are replaced before the division, and the result after it.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, BlockArg, InstBuilder, types};
use ir::dtype::{Class, DType};
use ir::scalar::Binary;

use super::function::Emitter;
use super::value::scalar_type;

impl Emitter<'_, '_> {
    /// Quotient or remainder in scalar form: 0 for a zero divisor; the least integer divided by −1 wraps.
    pub(crate) fn divide(
        &mut self,
        f: Binary,
        dtype: DType,
        [a, b]: [clif::Value; 2],
        divisor: Option<i64>,
    ) -> clif::Value {
        let signed = dtype.class() == Class::Signed;
        // Machines divide 32 and 64 bits.
        let ty = scalar_type(dtype);
        let wide = if dtype.bits() < 32 { types::I32 } else { ty };
        let [x, y] = [a, b].map(|value| self.extend(value, wide, signed));
        let value = match divisor {
            Some(0) => self.int(wide, 0),
            Some(-1) if signed => match f {
                Binary::Div => self.b.ins().ineg(x),
                _ => self.int(wide, 0),
            },
            Some(_) => self.divide_safely(f, signed, x, y),
            None => {
                let zero = self.int(wide, 0);
                let one = self.int(wide, 1);
                let by_zero = self.b.ins().icmp(IntCC::Equal, y, zero);
                let mut safe = self.b.ins().select(by_zero, one, y);
                if !signed {
                    let value = self.divide_safely(f, signed, x, safe);
                    let value = self.b.ins().select(by_zero, zero, value);
                    return self.narrow(value, ty);
                }
                let minus_one = self.int(wide, -1);
                let by_minus_one = self.b.ins().icmp(IntCC::Equal, y, minus_one);
                safe = self.b.ins().select(by_minus_one, one, safe);
                let value = self.divide_safely(f, signed, x, safe);
                let opposite = match f {
                    Binary::Div => self.b.ins().ineg(x),
                    _ => zero,
                };
                let value = self.b.ins().select(by_minus_one, opposite, value);
                self.b.ins().select(by_zero, zero, value)
            }
        };
        self.narrow(value, ty)
    }

    /// For divisors that are neither zero nor, if signed, −1.
    fn divide_safely(&mut self, f: Binary, signed: bool, x: clif::Value, y: clif::Value) -> clif::Value {
        match (f, signed) {
            (Binary::Div, true) => self.b.ins().sdiv(x, y),
            (Binary::Div, false) => self.b.ins().udiv(x, y),
            (_, false) => self.b.ins().urem(x, y),
            (Binary::Rem, true) => self.b.ins().srem(x, y),
            (_, true) => {
                // The sign of the divisor: a rest of the other sign moves by one divisor.
                let rest = self.b.ins().srem(x, y);
                let moved = self.b.ins().iadd(rest, y);
                let signs = self.b.ins().bxor(rest, y);
                let zero = self.int_like(rest, 0);
                let differ = self.b.ins().icmp(IntCC::SignedLessThan, signs, zero);
                let nonzero = self.b.ins().icmp(IntCC::NotEqual, rest, zero);
                let adjust = self.b.ins().band(differ, nonzero);
                self.b.ins().select(adjust, moved, rest)
            }
        }
    }

    /// `aᵇ`, wrapping, in scalar form, by squaring. A negative exponent gives 0, but for bases 1 and −1.
    pub(crate) fn power(&mut self, dtype: DType, a: clif::Value, b: clif::Value) -> clif::Value {
        let signed = dtype.class() == Class::Signed;
        let [base, exponent] = [a, b].map(|value| self.extend(value, types::I64, signed));
        let mut count = exponent;
        if dtype == DType::U64 {
            // The definition stops at the largest 32-bit exponent.
            let most = self.int(types::I64, i64::from(u32::MAX));
            let beyond = self.b.ins().icmp(IntCC::UnsignedGreaterThan, exponent, most);
            count = self.b.ins().select(beyond, most, exponent);
        }
        let [header, inside, after] = [(); 3].map(|()| self.b.create_block());
        let [product, square, rest] = [(); 3].map(|()| self.b.append_block_param(header, types::I64));
        let one = self.int(types::I64, 1);
        self.b.ins().jump(header, &[one, base, count].map(BlockArg::from));
        self.b.switch_to_block(header);
        let zero = self.int(types::I64, 0);
        // A negative count would take 64 rounds: the loop stops at once.
        let more = if signed { IntCC::SignedGreaterThan } else { IntCC::NotEqual };
        let more = self.b.ins().icmp(more, rest, zero);
        self.b.ins().brif(more, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        let odd = self.b.ins().band_imm_s(rest, 1);
        let times = self.b.ins().imul(product, square);
        let next = self.b.ins().select(odd, times, product);
        let squared = self.b.ins().imul(square, square);
        let halved = self.b.ins().ushr_imm_u(rest, 1);
        self.b.ins().jump(header, &[next, squared, halved].map(BlockArg::from));
        self.b.seal_block(header);
        self.b.switch_to_block(after);
        self.b.seal_block(after);
        let mut result = product;
        if signed {
            let odd = self.b.ins().band_imm_s(exponent, 1);
            let minus_one = self.int(types::I64, -1);
            let of_minus_one = self.b.ins().select(odd, minus_one, one);
            let is_one = self.b.ins().icmp(IntCC::Equal, base, one);
            let is_minus_one = self.b.ins().icmp(IntCC::Equal, base, minus_one);
            let inverse = self.b.ins().select(is_minus_one, of_minus_one, zero);
            let inverse = self.b.ins().select(is_one, one, inverse);
            let negative = self.b.ins().icmp(IntCC::SignedLessThan, exponent, zero);
            result = self.b.ins().select(negative, inverse, product);
        }
        self.narrow(result, scalar_type(dtype))
    }

    /// A shift of one value, or of four lanes by one scalar amount.
    pub(crate) fn shift(
        &mut self,
        f: Binary,
        dtype: DType,
        [a, amount]: [clif::Value; 2],
        constant: Option<i64>,
    ) -> clif::Value {
        let signed = dtype.class() == Class::Signed;
        let width = dtype.bits() as i64;
        let fill = f == Binary::Shr && signed;
        let shifted = |this: &mut Self, amount| match (f, signed) {
            (Binary::Shl, _) => this.b.ins().ishl(a, amount),
            (_, true) => this.b.ins().sshr(a, amount),
            (_, false) => this.b.ins().ushr(a, amount),
        };
        if let Some(n) = constant {
            return match (0..width).contains(&n) {
                true => shifted(self, amount),
                false if fill => {
                    let most = self.int(types::I32, width - 1);
                    shifted(self, most)
                }
                false => self.int_like(a, 0),
            };
        }
        // As an unsigned number, a negative amount is too large, too.
        let most = self.int_like(amount, width - 1);
        let beyond = self.b.ins().icmp(IntCC::UnsignedGreaterThan, amount, most);
        let within = self.b.ins().select(beyond, most, amount);
        let value = shifted(self, within);
        if fill {
            return value;
        }
        let zero = self.int_like(a, 0);
        self.b.ins().select(beyond, zero, value)
    }

    /// Extended to a wider integer type, by sign or by zeros.
    pub(crate) fn extend(&mut self, value: clif::Value, ty: clif::Type, signed: bool) -> clif::Value {
        match (self.type_of(value) == ty, signed) {
            (true, _) => value,
            (false, true) => self.b.ins().sextend(ty, value),
            (false, false) => self.b.ins().uextend(ty, value),
        }
    }

    /// Reduced to a narrower integer type.
    pub(crate) fn narrow(&mut self, value: clif::Value, ty: clif::Type) -> clif::Value {
        if self.type_of(value) == ty { value } else { self.b.ins().ireduce(ty, value) }
    }
}
