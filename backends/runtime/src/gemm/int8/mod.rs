//! Matrix products of bytes: `C[i,j] = Σ_k (A[i,k] − a₀)·(B[k,j] − b₀[j])` in `i32`, which wraps, for quantized numbers.
//!
//! Bodies multiply A as `u8` by B as `i8`, which is what processors have instructions for; an operand of the other sign is
//! turned as it is packed, and its zero with it. Zeros are made good outside of the sum: by what a tile starts from, and,
//! where B has a zero, by the sums of A's rows. So results are the same bits by every body, whatever the order.
//!
//! A **panel** of B is 32 columns, four k's together: byte `[k/4, j, k%4]`, the last four filled up with zeros. Behind
//! them lie the sums of the columns, as `i32`.
//!
//! Deliberately absent: rows that choose their matrix, and bodies for 256-bit vectors with products of four bytes.

mod pack;
mod portable;
mod product;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

use std::ffi::c_void;
use std::sync::OnceLock;

pub use pack::{pack_panels, packed_len};

use super::PANEL;
use super::window::Strip;
use crate::pool::Pool;

/// k's that lie together in packed operands, and are multiplied together.
pub const QUAD: usize = 4;

/// Bytes of a panel for four k's.
const PANEL_QUAD: usize = PANEL * QUAD;

/// Rows that are packed side by side.
const STRIP: usize = super::STRIP;

/// Bytes of a packed strip of A for four k's: byte `[k/4, row, k%4]`.
const STRIP_QUAD: usize = STRIP * QUAD;

/// Receives a finished tile; see [`super::Epilogue`].
pub type Epilogue = unsafe extern "C" fn(
    services: *const c_void,
    frame: *const u8,
    tile: *const i32,
    ld: i64,
    row: i64,
    rows: i64,
    col: i64,
    cols: i64,
);

/// A product of bytes that leaves through an epilogue. Part of the kernel interface: compiled code fills it in.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GemmI8 {
    /// Rows of A and C.
    pub m: i64,
    /// Columns of B and C.
    pub n: i64,
    /// Columns of A and rows of B.
    pub k: i64,
    /// Element (0, 0) of A.
    pub a: *const u8,
    /// Elements from one row of A to the next.
    pub a_row: i64,
    /// Elements from one column of A to the next.
    pub a_col: i64,
    /// What A is if it has no such strides: the table of a [`window`](super::window); else null. Elements outside are
    /// the zero of A.
    pub window: *const i64,
    /// Whether A is `i8`, and not `u8`: 0 or not.
    pub a_signed: i64,
    /// The zero of A: of its type where there is a window.
    pub a_zero: i64,
    /// Element (0, 0) of B, or its panels where `packed` is set.
    pub b: *const u8,
    /// Elements from one row of B to the next; unused where `packed` is set.
    pub b_row: i64,
    /// Elements from one column of B to the next; unused where `packed` is set.
    pub b_col: i64,
    /// Whether `b` is in panels ([`pack_panels`]): 0 or not. It is `i8` then.
    pub packed: i64,
    /// Whether B is `i8`, and not `u8`: 0 or not.
    pub b_signed: i64,
    /// The zero of B.
    pub b_zero: i64,
    /// The zeros of the columns of B, of its type, or null: then all have `b_zero`.
    pub b_zeros: *const u8,
    /// Elements from one of these zeros to the next.
    pub b_zeros_step: i64,
    /// Whether the epilogue gets C transposed: 0 or not.
    pub transposed: i64,
    /// Receives every element of C exactly once.
    pub epilogue: Epilogue,
    /// Passed to the epilogue.
    pub frame: *const u8,
}

/// Adds the products of a strip of A with a panel of B to a tile: `tile[r*32 + c] += Σ a[r, k]·b[k, c]`, with A as `u8`,
/// for so many rows and four times so many k's.
///
/// # Safety
/// The CPU has the body's instructions; `rows` is at most [`STRIP`]; so many quads of the strip and of the panel are
/// readable, and the rows of the tile writable and apart from both.
type TileFn = unsafe fn(rows: usize, quads: usize, a: *const u8, b: *const u8, tile: *mut i32);

/// Packs a strip whose rows lie as told, each byte turned by `flip`, and `fill` where it has no element. The last quad is
/// filled up with zeros, and what lies behind the rows is left open.
///
/// # Safety
/// The CPU has the body's instructions, and the rows lie no farther apart than it can take; the elements that are inside
/// are readable, and `out` has room for the quads of the strip.
type GatherFn = unsafe fn(strip: &Strip<'_, u8>, lines: &pack::Lines<'_>, fill: u8, flip: u8, out: *mut u8);

/// The bodies of one instruction set.
struct Kernels {
    #[cfg_attr(not(test), allow(dead_code, reason = "tests name the body that failed"))]
    name: &'static str,
    /// Rows that a strip has at most.
    height: usize,
    tile: TileFn,
    gather: GatherFn,
    /// How many bytes the rows of a strip may lie apart for `gather`.
    farthest: usize,
}

impl Kernels {
    /// Those that this CPU can run, the fastest first.
    fn available() -> impl Iterator<Item = &'static Kernels> {
        #[cfg(target_arch = "x86_64")]
        let vector = [
            (std::is_x86_feature_detected!("avx512f")
                && std::is_x86_feature_detected!("avx512bw")
                && std::is_x86_feature_detected!("avx512vl")
                && std::is_x86_feature_detected!("avx512vnni"))
            .then_some(&avx512::KERNELS),
            std::is_x86_feature_detected!("avx2").then_some(&avx2::KERNELS),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let vector: [Option<&'static Kernels>; 0] = [];
        vector.into_iter().flatten().chain([&portable::KERNELS])
    }

    /// The fastest that this CPU can run.
    fn detected() -> &'static Kernels {
        static DETECTED: OnceLock<&'static Kernels> = OnceLock::new();
        DETECTED.get_or_init(|| Kernels::available().next().expect("the portable bodies run everywhere"))
    }
}

/// Runs `call` on the threads of `pool`, with the fastest body that this CPU has. `services` is passed to the epilogue. An
/// empty C calls nothing; an empty sum is 0.
///
/// # Safety
/// The matrices that `call` describes are readable, its window is a table as [`window`](super::window) says, and its
/// epilogue may be called with `services`, `frame` and tiles of C from any thread.
pub unsafe fn gemm(pool: &Pool, services: *const c_void, call: &GemmI8) {
    // SAFETY: as the caller vouches; `detected` names bodies that the CPU can run.
    unsafe { product::multiply(Kernels::detected(), pool, services, call) }
}
