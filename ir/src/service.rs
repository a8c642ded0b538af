//! What the runtime offers to machine code: the table of services, by position.
//!
//! A kernel gets a pointer to the table and calls entry `i` through `table[i]`. The runtime fills the table in the
//! same order (a test compares the names); [`ABI_VERSION`] changes when an entry's place or signature does. Behind the
//! last entry stands a number of 64 bits: how many lanes of 32 bits the processor's vectors have.

use crate::dtype::DType;
use crate::scalar::{Binary, Unary};

/// Version of the calling convention between kernels and the runtime.
pub const ABI_VERSION: u32 = 6;

/// Unary functions that the runtime computes, in table order; each for `f64`, then each for `f32`.
pub const UNARY: [Unary; 15] = [
    Unary::Exp,
    Unary::Log,
    Unary::Sin,
    Unary::Cos,
    Unary::Tan,
    Unary::Asin,
    Unary::Acos,
    Unary::Atan,
    Unary::Sinh,
    Unary::Cosh,
    Unary::Tanh,
    Unary::Asinh,
    Unary::Acosh,
    Unary::Atanh,
    Unary::Erf,
];

/// One entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `(services, extent, grain, body, frame)`: runs `body(services, frame, begin, end)` over `0..extent`.
    ParallelFor,
    /// `(services, *GemmF32)`: a matrix product whose tiles leave through an epilogue.
    GemmF32,
    /// `(services, *GemmI8)`: the same of bytes.
    GemmI8,
    /// `(services, *SortRows)`: rows of an array put in order.
    Sort,
    /// A function of one `f64` or `f32`.
    Unary(Unary, DType),
    /// `pow` or `fmod` of two `f64` or `f32`.
    Binary(Binary, DType),
    /// `(u32) -> f32`.
    F16ToF32,
    /// `(f32) -> u32`.
    F32ToF16,
}

impl Service {
    /// Every service, in table order.
    pub fn all() -> Vec<Service> {
        let mut all = vec![Service::ParallelFor, Service::GemmF32, Service::GemmI8, Service::Sort];
        for dtype in [DType::F64, DType::F32] {
            all.extend(UNARY.map(|f| Service::Unary(f, dtype)));
        }
        for f in [Binary::Pow, Binary::Rem] {
            all.extend([DType::F64, DType::F32].map(|dtype| Service::Binary(f, dtype)));
        }
        all.extend([Service::F16ToF32, Service::F32ToF16]);
        all
    }

    /// Its name, the same as in the runtime.
    pub fn name(self) -> String {
        match self {
            Service::ParallelFor => "parallel_for".to_owned(),
            Service::GemmF32 => "gemm_f32".to_owned(),
            Service::GemmI8 => "gemm_i8".to_owned(),
            Service::Sort => "sort".to_owned(),
            Service::Unary(f, dtype) => format!("{}_{dtype}", f.name()),
            Service::Binary(Binary::Rem, dtype) => format!("fmod_{dtype}"),
            Service::Binary(f, dtype) => format!("{}_{dtype}", f.name()),
            Service::F16ToF32 => "f16_to_f32".to_owned(),
            Service::F32ToF16 => "f32_to_f16".to_owned(),
        }
    }

    /// Its place in the table.
    pub fn index(self) -> usize {
        Service::all()
            .into_iter()
            .position(|s| s == self)
            .expect("bug: a function that the runtime does not offer")
    }
}

/// Fields of the call of [`Service::GemmF32`], 8 bytes each, in order.
pub const GEMM_F32_FIELDS: [&str; 18] = [
    "m",
    "n",
    "k",
    "a",
    "a_row",
    "a_col",
    "a_type",
    "window",
    "b",
    "b_row",
    "b_col",
    "packed",
    "b_type",
    "scales",
    "transposed",
    "groups",
    "epilogue",
    "frame",
];

/// Fields of the call of [`Service::GemmI8`], 8 bytes each, in order.
pub const GEMM_I8_FIELDS: [&str; 20] = [
    "m",
    "n",
    "k",
    "a",
    "a_row",
    "a_col",
    "window",
    "a_signed",
    "a_zero",
    "b",
    "b_row",
    "b_col",
    "packed",
    "b_signed",
    "b_zero",
    "b_zeros",
    "b_zeros_step",
    "transposed",
    "epilogue",
    "frame",
];

/// Fields of the call of [`Service::Sort`], 8 bytes each, in order.
pub const SORT_FIELDS: [&str; 14] = [
    "outer",
    "n",
    "inner",
    "keys",
    "bytes",
    "class",
    "infinity",
    "descending",
    "values",
    "values_len",
    "positions",
    "positions_len",
    "scratch",
    "tasks",
];
