//! Formats of floats narrower than 32 bits: one table, from which every conversion follows.
//!
//! A value is `(−1)^sign · significand · 2^(exponent − bias)` as in IEEE 754, subnormals included; formats differ in
//! how many bits exponent and fraction have and in what their topmost codes mean. [`FloatFormat::decode`] is exact;
//! [`FloatFormat::encode`] rounds once, to nearest, ties to even, and does not saturate: what is too large becomes an
//! infinity, where there is none a NaN, and where that is missing, too, the largest number.
//!
//! Source: the OCP 8-bit Floating Point and Microscaling Formats specifications, and the tables of ONNX Cast, opset 25
//! (`saturate = 0`).

use crate::dtype::DType;

/// What the codes mean that are no numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// The topmost exponent is kept for infinities and NaNs, as in IEEE 754.
    Ieee,
    /// Only the topmost code of each sign is a NaN ("fn": finite).
    TopNan,
    /// The code of −0 is the only NaN ("fnuz": finite, unsigned zero).
    ZeroNan,
    /// Every code is a number ("fn" of 4 bits). A NaN becomes −0.
    None,
    /// An exponent alone, without sign, fraction or zero; its topmost code is NaN. What is not positive is NaN.
    Exponent,
}

/// How a float is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatFormat {
    /// All of its bits.
    pub bits: u32,
    /// Those of the exponent.
    pub exponent: u32,
    /// Those of the fraction.
    pub fraction: u32,
    /// What is subtracted from the exponent.
    pub bias: i32,
    /// What the codes mean that are no numbers.
    pub specials: Specials,
}

impl FloatFormat {
    /// The format of a float narrower than 32 bits; `None` for other types.
    pub const fn of(dtype: DType) -> Option<FloatFormat> {
        use Specials::{Exponent, Ieee, None as Numbers, TopNan, ZeroNan};
        let (bits, exponent, fraction, bias, specials) = match dtype {
            DType::F16 => (16, 5, 10, 15, Ieee),
            DType::BF16 => (16, 8, 7, 127, Ieee),
            DType::F8E4M3FN => (8, 4, 3, 7, TopNan),
            DType::F8E4M3FNUZ => (8, 4, 3, 8, ZeroNan),
            DType::F8E5M2 => (8, 5, 2, 15, Ieee),
            DType::F8E5M2FNUZ => (8, 5, 2, 16, ZeroNan),
            DType::F8E8M0 => (8, 8, 0, 127, Exponent),
            DType::F4E2M1 => (4, 2, 1, 1, Numbers),
            _ => return None,
        };
        Some(FloatFormat { bits, exponent, fraction, bias, specials })
    }

    /// The sign's bit; 0 where there is none.
    pub const fn sign(self) -> u32 {
        match self.specials {
            Specials::Exponent => 0,
            _ => 1 << (self.bits - 1),
        }
    }

    /// All bits but the sign.
    pub const fn magnitude(self) -> u32 {
        ((1 << self.bits) - 1) & !self.sign()
    }

    /// The code of the largest number.
    pub const fn largest(self) -> u32 {
        match self.specials {
            Specials::Ieee => self.infinity() - 1,
            Specials::TopNan | Specials::Exponent => self.magnitude() - 1,
            Specials::ZeroNan | Specials::None => self.magnitude(),
        }
    }

    /// The topmost exponent with fraction 0: the infinity of a format that has one.
    const fn infinity(self) -> u32 {
        ((1 << self.exponent) - 1) << self.fraction
    }

    /// The positive code of what is larger than every number.
    pub const fn overflow(self) -> u32 {
        match self.specials {
            Specials::Ieee => self.infinity(),
            Specials::None => self.largest(),
            Specials::TopNan | Specials::ZeroNan | Specials::Exponent => self.nan(),
        }
    }

    /// The code of a NaN, without a sign of its own; that of −0 where there is no NaN.
    pub const fn nan(self) -> u32 {
        match self.specials {
            Specials::Ieee => self.infinity() | 1 << (self.fraction - 1),
            Specials::TopNan | Specials::Exponent => self.magnitude(),
            Specials::ZeroNan | Specials::None => self.sign(),
        }
    }

    /// Has it a zero and a NaN for each sign?
    pub const fn is_symmetric(self) -> bool {
        matches!(self.specials, Specials::Ieee | Specials::TopNan)
    }

    /// The exponent of the least number with a full significand, which subnormals share.
    pub const fn least_exponent(self) -> i32 {
        match self.specials {
            Specials::Exponent => -self.bias,
            _ => 1 - self.bias,
        }
    }

    /// The largest number.
    pub fn max(self) -> f64 {
        self.decode(self.largest())
    }

    /// The least positive number.
    pub fn min_positive(self) -> f64 {
        self.decode(if self.specials == Specials::Exponent { 0 } else { 1 })
    }

    /// The value of a code; bits above the format's are dropped.
    pub fn decode(self, code: u32) -> f64 {
        let negative = code & self.sign() != 0;
        let magnitude = code & self.magnitude();
        let signed = |value: f64| if negative { -value } else { value };
        match self.specials {
            Specials::Ieee if magnitude == self.infinity() => return signed(f64::INFINITY),
            Specials::Ieee if magnitude > self.infinity() => return signed(f64::NAN),
            Specials::TopNan | Specials::Exponent if magnitude == self.magnitude() => {
                return signed(f64::NAN);
            }
            Specials::ZeroNan if negative && magnitude == 0 => return f64::NAN,
            Specials::Exponent => return power_of_two(magnitude as i32 - self.bias),
            _ => {}
        }
        let exponent = (magnitude >> self.fraction) as i32;
        let fraction = magnitude & ((1 << self.fraction) - 1);
        let digits = if exponent == 0 { fraction } else { fraction | 1 << self.fraction };
        let scale = power_of_two(exponent.max(1) - self.bias - self.fraction as i32);
        signed(f64::from(digits) * scale)
    }

    /// The code of the nearest value.
    pub fn encode(self, value: f64) -> u32 {
        let magnitude = self.encode_magnitude(value.abs());
        let sign = if value.is_sign_negative() { self.sign() } else { 0 };
        match self.specials {
            Specials::Exponent if value <= 0.0 => self.nan(),
            Specials::Exponent => magnitude,
            _ if value.is_nan() && !self.is_symmetric() => self.nan(),
            Specials::ZeroNan if magnitude == 0 || magnitude == self.nan() => magnitude,
            _ => magnitude | sign,
        }
    }

    fn encode_magnitude(self, value: f64) -> u32 {
        let least = self.least_exponent();
        if value.is_nan() {
            return self.nan();
        }
        // Of an infinity, the exponent is above every format's.
        let exponent = ((value.to_bits() >> 52) as i32 - 1023).max(least);
        let above = (exponent - least) as u32;
        if above >> self.exponent != 0 {
            return self.overflow();
        }
        // In units of the last place; a carry into the next exponent is one in the code, too.
        let scaled = value * power_of_two(self.fraction as i32 - exponent);
        let code = scaled.round_ties_even() as u32 + (above << self.fraction);
        let code = match self.specials {
            // The code 0 is a number here, and there is nothing below.
            Specials::Exponent if code == 0 => return self.nan(),
            Specials::Exponent => code - 1,
            _ => code,
        };
        if code > self.largest() { self.overflow() } else { code }
    }
}

/// `2^exponent`, for exponents of normal `f64`s.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}
