//! Element types.
//!
//! Closed: adding one makes the compiler point at every place that must learn it.
//!
//! Floats of 8 and 4 bits and integers of 4 and 2 bits are *narrow*: they are stored and converted, and there is no
//! arithmetic on them but what is carried out in a wider type after a `cast`. An element of fewer than 8 bits lies in a
//! byte of its own, in memory as in artifacts, but for weights that products read (`program::Layout::Nibbles`): an integer as the `i8` or `u8` of its value, a float as its bits, zeros
//! above. Files may pack them; see the readers.

use std::fmt;
use std::str::FromStr;

/// The type of one element of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary16; arithmetic is carried out in `f32`.
    F16,
    /// The upper half of a binary32; arithmetic is carried out in `f32`.
    BF16,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// One byte, 0 or 1.
    Bool,
    /// 4 bits of exponent, 3 of fraction; no infinity; the topmost code of each sign is NaN.
    F8E4M3FN,
    /// 4 bits of exponent, 3 of fraction; no infinity and no −0, whose code is NaN.
    F8E4M3FNUZ,
    /// 5 bits of exponent, 2 of fraction, as IEEE 754 would have it: the upper half of a binary16.
    F8E5M2,
    /// 5 bits of exponent, 2 of fraction; no infinity and no −0, whose code is NaN.
    F8E5M2FNUZ,
    /// 8 bits of exponent and nothing else: a power of two, or NaN.
    F8E8M0,
    /// 2 bits of exponent, 1 of fraction; no infinity, no NaN.
    F4E2M1,
    /// Signed, 4 bits.
    I4,
    /// Unsigned, 4 bits.
    U4,
    /// Signed, 2 bits.
    I2,
    /// Unsigned, 2 bits.
    U2,
}

/// What family a [`DType`] belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Floating point.
    Float,
    /// Signed integer, two's complement, wrapping.
    Signed,
    /// Unsigned integer, wrapping.
    Unsigned,
    /// Truth value.
    Bool,
}

impl DType {
    /// Every dtype, in declaration order.
    pub const ALL: [DType; 23] = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::Bool,
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F8E8M0,
        DType::F4E2M1,
        DType::I4,
        DType::U4,
        DType::I2,
        DType::U2,
    ];

    /// The name in text forms, JSON and messages.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::Bool => "bool",
            DType::F8E4M3FN => "f8e4m3fn",
            DType::F8E4M3FNUZ => "f8e4m3fnuz",
            DType::F8E5M2 => "f8e5m2",
            DType::F8E5M2FNUZ => "f8e5m2fnuz",
            DType::F8E8M0 => "f8e8m0",
            DType::F4E2M1 => "f4e2m1",
            DType::I4 => "i4",
            DType::U4 => "u4",
            DType::I2 => "i2",
            DType::U2 => "u2",
        }
    }

    /// Size of a value in bits.
    pub const fn bits(self) -> usize {
        match self {
            DType::F64 | DType::I64 | DType::U64 => 64,
            DType::F32 | DType::I32 | DType::U32 => 32,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 16,
            DType::I8 | DType::U8 | DType::Bool => 8,
            DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ | DType::F8E8M0 => 8,
            DType::F4E2M1 | DType::I4 | DType::U4 => 4,
            DType::I2 | DType::U2 => 2,
        }
    }

    /// Storage size in bytes.
    pub const fn bytes(self) -> usize {
        self.bits().div_ceil(8)
    }

    /// Float, signed, unsigned or truth value.
    pub const fn class(self) -> Class {
        match self {
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Class::Float,
            DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => Class::Float,
            DType::F8E8M0 | DType::F4E2M1 => Class::Float,
            DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::I4 | DType::I2 => Class::Signed,
            DType::U8 | DType::U16 | DType::U32 | DType::U64 | DType::U4 | DType::U2 => Class::Unsigned,
            DType::Bool => Class::Bool,
        }
    }

    /// Is it floating point?
    pub fn is_float(self) -> bool {
        self.class() == Class::Float
    }

    /// Is it an integer (truth values are not)?
    pub fn is_int(self) -> bool {
        matches!(self.class(), Class::Signed | Class::Unsigned)
    }

    /// Is it stored and converted, but not computed with?
    pub const fn is_narrow(self) -> bool {
        match self {
            DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => true,
            DType::F8E8M0 | DType::F4E2M1 | DType::I4 | DType::U4 | DType::I2 | DType::U2 => true,
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Bool => false,
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => false,
            DType::U8 | DType::U16 | DType::U32 | DType::U64 => false,
        }
    }

    /// The type in which arithmetic on this one is carried out: `f32` for floats of 16 and fewer bits, a byte for
    /// integers of fewer bits, else itself.
    pub const fn arithmetic(self) -> DType {
        match self {
            DType::F16 | DType::BF16 => DType::F32,
            DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => DType::F32,
            DType::F8E8M0 | DType::F4E2M1 => DType::F32,
            DType::I4 | DType::I2 => DType::I8,
            DType::U4 | DType::U2 => DType::U8,
            other => other,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no dtype.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no element type; those are f32 f64 f16 bf16 i8 i16 i32 i64 u8 u16 u32 u64 bool f8e4m3fn f8e4m3fnuz f8e5m2 \
     f8e5m2fnuz f8e8m0 f4e2m1 i4 u4 i2 u2"
)]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(text: &str) -> Result<Self, UnknownDType> {
        DType::ALL.into_iter().find(|dtype| dtype.name() == text).ok_or_else(|| UnknownDType(text.to_owned()))
    }
}
