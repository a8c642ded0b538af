//! What kernels may call: a table of functions at fixed places, and the pool behind `parallel_for`.
//!
//! The compiler's list of services has the same names in the same order; a test compares the two.
//! Deliberately absent: services that allocate, fail or talk to the system.

use std::{ffi::c_void, sync::Arc};

use crate::{gemm, math, pool::Pool, sort};

/// Version of the interface between kernels and this crate: [`KernelFn`], the table, `GemmF32`, `GemmI8`,
/// `SortRows`.
pub const ABI_VERSION: u32 = 6;

/// A kernel. `args[i]` points to its i-th buffer, `sizes[i]` is its i-th size.
///
/// Calling one is unsafe: the counts, bytes and alignments must be those it was compiled for.
pub type KernelFn = unsafe extern "C" fn(services: *const Services, args: *const *mut u8, sizes: *const i64);

/// The body of a parallel loop: runs the iterations `begin..end`. `frame` is the caller's.
pub type ParallelBody =
    unsafe extern "C" fn(services: *const Services, frame: *const u8, begin: i64, end: i64);

/// A function of the table; its true type is that of the service.
type Function = unsafe extern "C" fn();

/// Names of the services and the table that holds them, in one place so that they cannot differ.
macro_rules! services {
    ($($name:literal: $function:path as $type:ty;)*) => {
        /// Names of the services, in the order of the table.
        pub const SERVICES: &[&str] = &[$($name),*];

        const COUNT: usize = SERVICES.len();

        /// The table. A pointer to it is a pointer to `Services`, so kernels load entry `i` at `8 i`.
        static TABLE: [Function; COUNT] = [
            // SAFETY: a function pointer of any type may be kept as another; kernels call it as what it is.
            $(unsafe { std::mem::transmute::<$type, Function>($function) },)*
        ];
    };
}

type F64 = extern "C" fn(f64) -> f64;
type F32 = extern "C" fn(f32) -> f32;
type F64x2 = extern "C" fn(f64, f64) -> f64;
type F32x2 = extern "C" fn(f32, f32) -> f32;

services! {
    "parallel_for": parallel_for as unsafe extern "C" fn(*const Services, i64, i64, ParallelBody, *const u8);
    "gemm_f32": gemm_f32 as unsafe extern "C" fn(*const Services, *const gemm::GemmF32);
    "gemm_i8": gemm_i8 as unsafe extern "C" fn(*const Services, *const gemm::int8::GemmI8);
    "sort": sort_rows as unsafe extern "C" fn(*const Services, *const sort::SortRows);
    "exp_f64": math::exp_f64 as F64;
    "log_f64": math::log_f64 as F64;
    "sin_f64": math::sin_f64 as F64;
    "cos_f64": math::cos_f64 as F64;
    "tan_f64": math::tan_f64 as F64;
    "asin_f64": math::asin_f64 as F64;
    "acos_f64": math::acos_f64 as F64;
    "atan_f64": math::atan_f64 as F64;
    "sinh_f64": math::sinh_f64 as F64;
    "cosh_f64": math::cosh_f64 as F64;
    "tanh_f64": math::tanh_f64 as F64;
    "asinh_f64": math::asinh_f64 as F64;
    "acosh_f64": math::acosh_f64 as F64;
    "atanh_f64": math::atanh_f64 as F64;
    "erf_f64": math::erf_f64 as F64;
    "exp_f32": math::exp_f32 as F32;
    "log_f32": math::log_f32 as F32;
    "sin_f32": math::sin_f32 as F32;
    "cos_f32": math::cos_f32 as F32;
    "tan_f32": math::tan_f32 as F32;
    "asin_f32": math::asin_f32 as F32;
    "acos_f32": math::acos_f32 as F32;
    "atan_f32": math::atan_f32 as F32;
    "sinh_f32": math::sinh_f32 as F32;
    "cosh_f32": math::cosh_f32 as F32;
    "tanh_f32": math::tanh_f32 as F32;
    "asinh_f32": math::asinh_f32 as F32;
    "acosh_f32": math::acosh_f32 as F32;
    "atanh_f32": math::atanh_f32 as F32;
    "erf_f32": math::erf_f32 as F32;
    "pow_f64": math::pow_f64 as F64x2;
    "pow_f32": math::pow_f32 as F32x2;
    "fmod_f64": math::fmod_f64 as F64x2;
    "fmod_f32": math::fmod_f32 as F32x2;
    "f16_to_f32": math::f16_to_f32 as extern "C" fn(u32) -> f32;
    "f32_to_f16": math::f32_to_f16 as extern "C" fn(f32) -> u32;
}

/// What a kernel is given first: the table of services, then what only this crate looks at.
#[repr(C)]
#[derive(Clone)]
pub struct Services {
    table: [Function; COUNT],
    /// Lanes of 32 bits that the processor's vectors have.
    lanes: u64,
    pool: Arc<Pool>,
}

impl Services {
    /// The services, with loops run by `pool`.
    pub fn new(pool: Arc<Pool>) -> Services {
        Services { table: TABLE, lanes: lanes(), pool }
    }

    /// The threads that run parallel loops.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The address of the service with this number in the table, for code that calls it directly.
    pub fn address(index: usize) -> Option<usize> {
        TABLE.get(index).map(|function| *function as usize)
    }
}

/// How many lanes of 32 bits this processor's vectors have, of those that compiled code has functions for.
fn lanes() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let wide = std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl");
        if wide { 16 } else { 8 }
    }
    #[cfg(not(target_arch = "x86_64"))]
    4
}

/// Runs `body` over `0..extent` in chunks of at least `grain` iterations; returns when all are done.
///
/// # Safety
/// `services` is a live [`Services`], and `body` may run on `frame` from several threads at once.
unsafe extern "C" fn parallel_for(
    services: *const Services,
    extent: i64,
    grain: i64,
    body: ParallelBody,
    frame: *const u8,
) {
    /// Pointers that the threads of one loop share.
    #[derive(Clone, Copy)]
    struct Shared(*const Services, *const u8);
    // SAFETY: the caller promises that the body may run with them on several threads at once.
    unsafe impl Sync for Shared {}

    impl Shared {
        fn get(&self) -> (*const Services, *const u8) {
            (self.0, self.1)
        }
    }

    let shared = Shared(services, frame);
    // SAFETY: the caller passes live services.
    let pool = unsafe { &*services }.pool();
    pool.run(extent, grain, &|begin, end| {
        let (services, frame) = shared.get();
        // SAFETY: the pool hands out disjoint ranges within the extent, as the body expects.
        unsafe { body(services, frame, begin, end) }
    });
}

/// Runs a matrix product on the session's pool; see [`gemm::gemm`].
///
/// # Safety
/// `services` is a live [`Services`], and `call` is as [`gemm::gemm`] asks.
unsafe extern "C" fn gemm_f32(services: *const Services, call: *const gemm::GemmF32) {
    // SAFETY: the caller passes live services and a product that may be run.
    unsafe { gemm::gemm((*services).pool(), services.cast::<c_void>(), &*call) }
}

/// Runs a matrix product of bytes on the session's pool; see [`gemm::int8::gemm`].
///
/// # Safety
/// `services` is a live [`Services`], and `call` is as [`gemm::int8::gemm`] asks.
unsafe extern "C" fn gemm_i8(services: *const Services, call: *const gemm::int8::GemmI8) {
    // SAFETY: the caller passes live services and a product that may be run.
    unsafe { gemm::int8::gemm((*services).pool(), services.cast::<c_void>(), &*call) }
}

/// Puts rows in order on the session's pool; see [`sort::sort`].
///
/// # Safety
/// `services` is a live [`Services`], and `call` is as [`sort::sort`] asks.
unsafe extern "C" fn sort_rows(services: *const Services, call: *const sort::SortRows) {
    // SAFETY: the caller passes live services and a sort that may be run.
    unsafe { sort::sort((*services).pool(), &*call) }
}
