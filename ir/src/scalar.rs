//! One element, and the scalar functions that kernels are made of.
//!
//! The functions here *are* their definition: the graph evaluator and the kernel walker call them, and every
//! emitter is compared with them. Floats are computed in `f64` (or `f32` where stated) and rounded once to the
//! element type; integers wrap.
//!
//! NaN rules: `min` and `max` propagate NaN; comparisons with NaN are false except `ne`. The sign of a zero
//! result of `min`/`max` of `+0` and `−0` is that of the first operand.

use std::cmp::Ordering;
use std::fmt;

use half::{bf16, f16};

use crate::dtype::{Class, DType};
use crate::float_format::FloatFormat;

/// One element: its type and its bits (little-endian, zero-extended to 64).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scalar {
    dtype: DType,
    bits: u64,
}

impl Scalar {
    /// From stored bits; those above the type's width are dropped.
    pub fn from_bits(dtype: DType, bits: u64) -> Scalar {
        let bits = if dtype.bits() == 64 { bits } else { bits & ((1 << dtype.bits()) - 1) };
        Scalar { dtype, bits }
    }

    /// `value` rounded to `dtype` (floats to nearest even; integers truncated toward zero, saturating, NaN to 0, those
    /// of fewer than 8 bits like an `i32` that is wrapped; truth: not equal to zero).
    pub fn from_f64(dtype: DType, value: f64) -> Scalar {
        let bits = match dtype {
            DType::F32 => u64::from((value as f32).to_bits()),
            DType::F64 => value.to_bits(),
            DType::F16 => u64::from(f16::from_f32(round_to_odd(value)).to_bits()),
            DType::BF16 => u64::from(bf16::from_f32(round_to_odd(value)).to_bits()),
            DType::I8 => value as i8 as u64,
            DType::I16 => value as i16 as u64,
            DType::I32 => value as i32 as u64,
            DType::I64 => value as i64 as u64,
            DType::U8 => value as u8 as u64,
            DType::U16 => value as u16 as u64,
            DType::U32 => value as u32 as u64,
            DType::U64 => value as u64,
            DType::Bool => u64::from(value != 0.0),
            DType::I4 | DType::U4 | DType::I2 | DType::U2 => value as i32 as u64,
            DType::F8E4M3FN
            | DType::F8E4M3FNUZ
            | DType::F8E5M2
            | DType::F8E5M2FNUZ
            | DType::F8E8M0
            | DType::F4E2M1 => u64::from(narrow(dtype).encode(value)),
        };
        Scalar::from_bits(dtype, bits)
    }

    /// `value` in `dtype` (integers wrap, floats round, truth: not equal to zero).
    pub fn from_i64(dtype: DType, value: i64) -> Scalar {
        match dtype.class() {
            Class::Float if dtype == DType::F32 => {
                Scalar::from_bits(dtype, u64::from((value as f32).to_bits()))
            }
            Class::Float => Scalar::from_f64(dtype, value as f64),
            Class::Signed | Class::Unsigned => Scalar::from_bits(dtype, value as u64),
            Class::Bool => Scalar::from_bits(dtype, u64::from(value != 0)),
        }
    }

    /// A truth value.
    pub fn bool(value: bool) -> Scalar {
        Scalar { dtype: DType::Bool, bits: u64::from(value) }
    }

    /// An `f32`.
    pub fn f32(value: f32) -> Scalar {
        Scalar { dtype: DType::F32, bits: u64::from(value.to_bits()) }
    }

    /// Its type.
    pub fn dtype(self) -> DType {
        self.dtype
    }

    /// Its bits.
    pub fn bits(self) -> u64 {
        self.bits
    }

    /// As a number; 64-bit integers round.
    pub fn to_f64(self) -> f64 {
        match self.dtype {
            DType::F32 => f64::from(f32::from_bits(self.bits as u32)),
            DType::F64 => f64::from_bits(self.bits),
            DType::F16 => f16::from_bits(self.bits as u16).to_f64(),
            DType::BF16 => bf16::from_bits(self.bits as u16).to_f64(),
            DType::U64 => self.bits as f64,
            _ if self.dtype.is_float() => narrow(self.dtype).decode(self.bits as u32),
            _ => self.to_i64() as f64,
        }
    }

    /// As an integer: floats truncate and saturate, unsigned 64 wraps.
    pub fn to_i64(self) -> i64 {
        match self.dtype.class() {
            Class::Float => self.to_f64() as i64,
            Class::Signed => {
                let above = 64 - self.dtype.bits();
                ((self.bits << above) as i64) >> above
            }
            Class::Unsigned | Class::Bool => self.bits as i64,
        }
    }

    /// As a truth value: not equal to zero (NaN is true).
    pub fn to_bool(self) -> bool {
        if self.dtype.is_float() { self.to_f64() != 0.0 } else { self.bits != 0 }
    }

    /// The order of two elements of one type in which sorts put them, ascending: NaN comes after every number.
    /// Zeros of both signs are equal, and so are all NaNs.
    pub fn order(self, other: Scalar) -> Ordering {
        match self.dtype.class() {
            Class::Float => {
                let (a, b) = (self.to_f64(), other.to_f64());
                a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            }
            Class::Signed => self.to_i64().cmp(&other.to_i64()),
            Class::Unsigned | Class::Bool => self.bits.cmp(&other.bits),
        }
    }

    /// Converted to `dtype`: floats to nearest even, not saturating (see [`FloatFormat::encode`]); float to integer
    /// truncates, saturating, NaN to 0, and to integers of fewer than 8 bits like an `i32` that is wrapped; integer to
    /// integer wraps; to truth: not equal to zero. Source: ONNX Cast 25 where it defines the value.
    pub fn cast(self, dtype: DType) -> Scalar {
        match (self.dtype.class(), dtype.class()) {
            _ if self.dtype == dtype => self,
            (_, Class::Bool) => Scalar::bool(self.to_bool()),
            (Class::Float, _) => Scalar::from_f64(dtype, self.to_f64()),
            (_, Class::Float) if self.dtype == DType::U64 && dtype == DType::F32 => {
                Scalar::f32(self.bits as f32)
            }
            (_, Class::Float) if self.dtype == DType::U64 => Scalar::from_f64(dtype, self.bits as f64),
            _ => Scalar::from_i64(dtype, self.to_i64()),
        }
    }

    /// Writes the little-endian bytes of its storage.
    pub fn write(self, out: &mut [u8]) {
        out.copy_from_slice(&self.stored()[..self.dtype.bytes()]);
    }

    /// Appends the little-endian bytes of its storage.
    pub fn append_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stored()[..self.dtype.bytes()]);
    }

    /// A signed integer fills its byte by its sign, whatever its width.
    fn stored(self) -> [u8; 8] {
        if self.dtype.class() == Class::Signed {
            self.to_i64().to_le_bytes()
        } else {
            self.bits.to_le_bytes()
        }
    }

    /// From little-endian storage.
    pub fn read(dtype: DType, bytes: &[u8]) -> Scalar {
        let mut all = [0; 8];
        all[..dtype.bytes()].copy_from_slice(&bytes[..dtype.bytes()]);
        Scalar::from_bits(dtype, u64::from_le_bytes(all))
    }
}

/// The format of a narrow float.
fn narrow(dtype: DType) -> FloatFormat {
    FloatFormat::of(dtype).expect("bug: a float without a format")
}

/// `value` as an `f32` such that rounding on to fewer bits rounds `value` itself: what is not exact becomes the
/// neighbour whose last bit is set.
fn round_to_odd(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) == value || near.is_nan() {
        return near;
    }
    if near.to_bits() & 1 == 1 {
        return near;
    }
    // The even neighbour was taken: the odd one lies on the other side of `value`.
    let away = f64::from(near).abs() < value.abs();
    f32::from_bits(if away { near.to_bits() + 1 } else { near.to_bits() - 1 })
}

impl fmt::Display for Scalar {
    /// Text that parses back to the same bits where the type is known: `1.5`, `inf`, `nan`, `-3`, `true`. A NaN
    /// other than the canonical one is written as its bits, `nan:0x7fc00001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype.class() {
            Class::Bool => write!(f, "{}", self.bits != 0),
            Class::Signed => write!(f, "{}", self.to_i64()),
            Class::Unsigned => write!(f, "{}", self.bits),
            Class::Float => {
                let value = self.to_f64();
                if value.is_nan() {
                    let canonical = Scalar::from_f64(self.dtype, f64::NAN);
                    return if *self == canonical {
                        f.write_str("nan")
                    } else {
                        write!(f, "nan:{:#x}", self.bits)
                    };
                }
                // The shortest text that reads back to the same value of this type.
                if self.dtype == DType::F32 {
                    write!(f, "{:?}", f32::from_bits(self.bits as u32))
                } else {
                    write!(f, "{value:?}")
                }
            }
        }
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}:{}", self.dtype)
    }
}

macro_rules! functions {
    ($(#[$doc:meta])* $kind:ident { $($(#[$variant_doc:meta])* $variant:ident => $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind { $($(#[$variant_doc])* $variant,)+ }

        impl $kind {
            /// Every one, in declaration order.
            pub const ALL: &[$kind] = &[$($kind::$variant,)+];

            /// The name in text forms.
            pub const fn name(self) -> &'static str {
                match self { $($kind::$variant => $name,)+ }
            }

            /// The function of that name.
            pub fn find(name: &str) -> Option<$kind> {
                $kind::ALL.iter().copied().find(|f| f.name() == name)
            }
        }
    };
}

functions! {
    /// Functions of one element. The result has the operand's type except for `is_nan` and `is_inf`.
    Unary {
        /// `−x`.
        Neg => "neg",
        /// `|x|`; the smallest signed integer maps to itself.
        Abs => "abs",
        /// Logical or bitwise complement.
        Not => "not",
        /// `⌊x⌋`.
        Floor => "floor",
        /// `⌈x⌉`.
        Ceil => "ceil",
        /// To the nearest integer, ties to even.
        Round => "round",
        /// Toward zero.
        Trunc => "trunc",
        /// `√x`, correctly rounded.
        Sqrt => "sqrt",
        /// `eˣ`.
        Exp => "exp",
        /// Natural logarithm.
        Log => "log",
        /// Sine, radians.
        Sin => "sin",
        /// Cosine, radians.
        Cos => "cos",
        /// Tangent, radians.
        Tan => "tan",
        /// Inverse sine.
        Asin => "asin",
        /// Inverse cosine.
        Acos => "acos",
        /// Inverse tangent.
        Atan => "atan",
        /// Hyperbolic sine.
        Sinh => "sinh",
        /// Hyperbolic cosine.
        Cosh => "cosh",
        /// Hyperbolic tangent.
        Tanh => "tanh",
        /// Inverse hyperbolic sine.
        Asinh => "asinh",
        /// Inverse hyperbolic cosine.
        Acosh => "acosh",
        /// Inverse hyperbolic tangent.
        Atanh => "atanh",
        /// Error function `2/√π ∫₀ˣ e^(−t²) dt`.
        Erf => "erf",
        /// Is it NaN? Truth value.
        IsNan => "is_nan",
        /// Is it an infinity? Truth value.
        IsInf => "is_inf",
    }
}

functions! {
    /// Functions of two elements of one type. Comparisons give truth values.
    Binary {
        /// `a + b`.
        Add => "add",
        /// `a − b`.
        Sub => "sub",
        /// `a · b`.
        Mul => "mul",
        /// `a / b`; integers truncate toward zero; an integer divided by zero is 0.
        Div => "div",
        /// Remainder with the sign of the dividend (C's `%` and `fmod`); an integer modulo zero is 0.
        Rem => "rem",
        /// Remainder with the sign of the divisor (Python's `%`); an integer modulo zero is 0.
        Mod => "mod",
        /// Smaller; NaN if either is.
        Min => "min",
        /// Larger; NaN if either is.
        Max => "max",
        /// `aᵇ`; integers wrap, a negative exponent of an integer truncates.
        Pow => "pow",
        /// Logical or bitwise and.
        And => "and",
        /// Logical or bitwise or.
        Or => "or",
        /// Logical or bitwise exclusive or.
        Xor => "xor",
        /// Shift left; 0 if the amount is the width or more.
        Shl => "shl",
        /// Shift right (arithmetic if signed); amounts of the width or more act as width − 1 if signed, else give 0.
        Shr => "shr",
        /// `a = b`.
        Eq => "eq",
        /// `a ≠ b`.
        Ne => "ne",
        /// `a < b`.
        Lt => "lt",
        /// `a ≤ b`.
        Le => "le",
        /// `a > b`.
        Gt => "gt",
        /// `a ≥ b`.
        Ge => "ge",
    }
}

impl Unary {
    /// The result's type for an operand of `dtype`.
    pub fn result(self, dtype: DType) -> DType {
        match self {
            Unary::IsNan | Unary::IsInf => DType::Bool,
            _ => dtype,
        }
    }

    /// Is it defined for `dtype`? Of narrow types, only whether they are numbers can be asked.
    pub fn accepts(self, dtype: DType) -> bool {
        match self {
            Unary::IsNan | Unary::IsInf => dtype.is_float(),
            _ if dtype.is_narrow() => false,
            Unary::Neg | Unary::Abs => dtype != DType::Bool,
            Unary::Not => !dtype.is_float(),
            _ => dtype.is_float(),
        }
    }

    /// Its value. The operand's type is one that it [`accepts`](Unary::accepts).
    pub fn apply(self, x: Scalar) -> Scalar {
        let dtype = x.dtype();
        match (self, dtype.class()) {
            (Unary::Neg, Class::Signed | Class::Unsigned) => {
                Scalar::from_i64(dtype, x.to_i64().wrapping_neg())
            }
            (Unary::Abs, Class::Signed) => Scalar::from_i64(dtype, x.to_i64().wrapping_abs()),
            (Unary::Abs, Class::Unsigned) => x,
            (Unary::Not, Class::Bool) => Scalar::bool(!x.to_bool()),
            (Unary::Not, _) => Scalar::from_bits(dtype, !x.bits()),
            (Unary::IsNan, _) => Scalar::bool(x.to_f64().is_nan()),
            (Unary::IsInf, _) => Scalar::bool(x.to_f64().is_infinite()),
            // Neg and abs act on the sign bit alone, so NaN keeps its payload.
            (Unary::Neg, _) => Scalar::from_bits(dtype, x.bits() ^ (1 << (dtype.bits() - 1))),
            (Unary::Abs, _) => Scalar::from_bits(dtype, x.bits() & !(1 << (dtype.bits() - 1))),
            _ => Scalar::from_f64(dtype, self.float(x.to_f64())),
        }
    }

    fn float(self, x: f64) -> f64 {
        match self {
            Unary::Neg => -x,
            Unary::Abs => x.abs(),
            Unary::Floor => x.floor(),
            Unary::Ceil => x.ceil(),
            Unary::Round => x.round_ties_even(),
            Unary::Trunc => x.trunc(),
            Unary::Sqrt => x.sqrt(),
            Unary::Exp => libm::exp(x),
            Unary::Log => libm::log(x),
            Unary::Sin => libm::sin(x),
            Unary::Cos => libm::cos(x),
            Unary::Tan => libm::tan(x),
            Unary::Asin => libm::asin(x),
            Unary::Acos => libm::acos(x),
            Unary::Atan => libm::atan(x),
            Unary::Sinh => libm::sinh(x),
            Unary::Cosh => libm::cosh(x),
            Unary::Tanh => libm::tanh(x),
            Unary::Asinh => libm::asinh(x),
            // The library gives numbers there.
            Unary::Acosh if x < 1.0 => f64::NAN,
            Unary::Acosh => libm::acosh(x),
            Unary::Atanh => libm::atanh(x),
            Unary::Erf => libm::erf(x),
            Unary::Not | Unary::IsNan | Unary::IsInf => unreachable!("bug: handled by class in `apply`"),
        }
    }
}

impl Binary {
    /// Does it give a truth value whatever its operands are?
    pub fn is_comparison(self) -> bool {
        matches!(self, Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge)
    }

    /// The result's type for operands of `dtype`.
    pub fn result(self, dtype: DType) -> DType {
        if self.is_comparison() { DType::Bool } else { dtype }
    }

    /// Is it defined for operands of `dtype`? For narrow types, nothing is.
    pub fn accepts(self, dtype: DType) -> bool {
        match self {
            _ if dtype.is_narrow() => false,
            Binary::And | Binary::Or | Binary::Xor => !dtype.is_float(),
            Binary::Shl | Binary::Shr => dtype.is_int(),
            Binary::Eq | Binary::Ne => true,
            Binary::Min | Binary::Max | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge => true,
            _ => dtype != DType::Bool,
        }
    }

    /// Its value. Both operands have one type, which it [`accepts`](Binary::accepts).
    pub fn apply(self, a: Scalar, b: Scalar) -> Scalar {
        let dtype = a.dtype();
        debug_assert_eq!(dtype, b.dtype(), "bug: binary function on two types");
        match dtype.class() {
            Class::Float => self.float(dtype, a, b),
            Class::Signed => self.signed(dtype, a, b),
            Class::Unsigned | Class::Bool => self.unsigned(dtype, a, b),
        }
    }

    fn float(self, dtype: DType, a: Scalar, b: Scalar) -> Scalar {
        let (x, y) = (a.to_f64(), b.to_f64());
        // One rounding: the f64 result of +, −, ·, / on f32 operands rounds to f32 like the direct one does.
        let value = match self {
            Binary::Add => x + y,
            Binary::Sub => x - y,
            Binary::Mul => x * y,
            Binary::Div => x / y,
            Binary::Rem => libm::fmod(x, y),
            Binary::Mod => {
                let r = libm::fmod(x, y);
                if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
            }
            Binary::Min => return if y < x || y.is_nan() { b } else { a },
            Binary::Max => return if x < y || y.is_nan() { b } else { a },
            Binary::Pow => libm::pow(x, y),
            Binary::Eq => return Scalar::bool(x == y),
            Binary::Ne => return Scalar::bool(x != y),
            Binary::Lt => return Scalar::bool(x < y),
            Binary::Le => return Scalar::bool(x <= y),
            Binary::Gt => return Scalar::bool(x > y),
            Binary::Ge => return Scalar::bool(x >= y),
            Binary::And | Binary::Or | Binary::Xor | Binary::Shl | Binary::Shr => {
                unreachable!("bug: bitwise function on floats")
            }
        };
        Scalar::from_f64(dtype, value)
    }

    fn signed(self, dtype: DType, a: Scalar, b: Scalar) -> Scalar {
        let (x, y) = (a.to_i64(), b.to_i64());
        let value = match self {
            Binary::Add => x.wrapping_add(y),
            Binary::Sub => x.wrapping_sub(y),
            Binary::Mul => x.wrapping_mul(y),
            Binary::Div if y == 0 => 0,
            Binary::Div => x.wrapping_div(y),
            Binary::Rem | Binary::Mod if y == 0 => 0,
            Binary::Rem => x.wrapping_rem(y),
            Binary::Mod => {
                let r = x.wrapping_rem(y);
                if r != 0 && (r < 0) != (y < 0) { r + y } else { r }
            }
            Binary::Min => x.min(y),
            Binary::Max => x.max(y),
            Binary::Pow => int_pow(x, y),
            Binary::And => x & y,
            Binary::Or => x | y,
            Binary::Xor => x ^ y,
            Binary::Shl if !(0..dtype.bits() as i64).contains(&y) => 0,
            Binary::Shl => x << y,
            Binary::Shr if !(0..dtype.bits() as i64).contains(&y) => x >> 63,
            Binary::Shr => x >> y,
            Binary::Eq => return Scalar::bool(x == y),
            Binary::Ne => return Scalar::bool(x != y),
            Binary::Lt => return Scalar::bool(x < y),
            Binary::Le => return Scalar::bool(x <= y),
            Binary::Gt => return Scalar::bool(x > y),
            Binary::Ge => return Scalar::bool(x >= y),
        };
        Scalar::from_i64(dtype, value)
    }

    fn unsigned(self, dtype: DType, a: Scalar, b: Scalar) -> Scalar {
        let (x, y) = (a.bits(), b.bits());
        let value = match self {
            Binary::Add => x.wrapping_add(y),
            Binary::Sub => x.wrapping_sub(y),
            Binary::Mul => x.wrapping_mul(y),
            Binary::Div => x.checked_div(y).unwrap_or(0),
            Binary::Rem | Binary::Mod => x.checked_rem(y).unwrap_or(0),
            Binary::Min => x.min(y),
            Binary::Max => x.max(y),
            Binary::Pow => x.wrapping_pow(u32::try_from(y).unwrap_or(u32::MAX)),
            Binary::And => x & y,
            Binary::Or => x | y,
            Binary::Xor => x ^ y,
            Binary::Shl if y >= dtype.bits() as u64 => 0,
            Binary::Shl => x << y,
            Binary::Shr if y >= dtype.bits() as u64 => 0,
            Binary::Shr => x >> y,
            Binary::Eq => return Scalar::bool(x == y),
            Binary::Ne => return Scalar::bool(x != y),
            Binary::Lt => return Scalar::bool(x < y),
            Binary::Le => return Scalar::bool(x <= y),
            Binary::Gt => return Scalar::bool(x > y),
            Binary::Ge => return Scalar::bool(x >= y),
        };
        Scalar::from_bits(dtype, value)
    }
}

/// `xʸ`, wrapping; a negative exponent gives the truncated quotient (0 but for bases 1 and −1).
fn int_pow(x: i64, y: i64) -> i64 {
    match (x, u32::try_from(y)) {
        (_, Ok(y)) => x.wrapping_pow(y),
        (1, _) => 1,
        (-1, _) => {
            if y % 2 == 0 {
                1
            } else {
                -1
            }
        }
        // Exponents past 32 bits: the low bit of the result's pattern depends on parity alone for powers of two.
        (_, Err(_)) if y > 0 => {
            (0..64)
                .fold((1i64, x, y), |(acc, base, e), _| {
                    (if e & 1 == 1 { acc.wrapping_mul(base) } else { acc }, base.wrapping_mul(base), e >> 1)
                })
                .0
        }
        _ => 0,
    }
}

/// `a·b + c` with one rounding, in the operands' type (`f32` or `f64`).
pub fn fma(a: Scalar, b: Scalar, c: Scalar) -> Scalar {
    match a.dtype() {
        DType::F32 => {
            let get = |s: Scalar| f32::from_bits(s.bits() as u32);
            Scalar::f32(libm::fmaf(get(a), get(b), get(c)))
        }
        DType::F64 => Scalar::from_f64(DType::F64, libm::fma(a.to_f64(), b.to_f64(), c.to_f64())),
        other => unreachable!("bug: fma on {other}"),
    }
}
