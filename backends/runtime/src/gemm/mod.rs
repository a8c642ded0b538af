//! Matrix products in f32 that end in an epilogue: packing, micro-kernels per instruction set, and the
//! drivers that take a product apart into tiles, over the pool: `product.rs`, and `turned.rs` for results that are
//! wanted transposed.
//!
//! Promises: every element is summed over ascending k in one accumulator by fused multiply-adds, whatever
//! the instruction set, the thread count, the blocking and the layout of B; so the results are the same
//! bits (which NaN a NaN is, is left open). The epilogue sees every element exactly once. Nothing is
//! allocated: packed blocks and partial tiles lie in memory of the thread's own, made when the thread starts
//! or a session is bound.
//!
//! Operands may be stored in fewer bits (`stored.rs`): what is packed, or lies in panels, becomes floats on the way. Products
//! of bytes as whole numbers are in `int8`.
//!
//! Deliberately absent: sums in other types, and products that split k over threads.

/// The tiles of so many rows and columns, A's rows and columns and the tile's rows being so many floats apart.
macro_rules! tiles {
    ($row:expr, $col:expr, $taps:expr, $look:literal, $width:expr, $ld:expr; $($rows:literal),*) => {
        [$(tile::<$rows, { $row }, { $col }, { $taps }, $look, { $width }, { $ld }>),*]
    };
}

mod groups;
pub mod int8;
mod pack;
mod portable;
mod product;
pub(crate) mod scratch;
mod stored;
mod turned;
mod walks;
pub mod window;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

use std::ffi::c_void;
use std::sync::OnceLock;

pub use pack::{pack_panels, packed_len};
pub use stored::{Scales, Stored};
pub use window::{MAX_AXES, MAX_GUARDS};

use crate::pool::Pool;

/// Columns of a panel of B, and of a tile.
const PANEL: usize = 32;

/// Depth of the blocks in which k is walked: a block of a panel stays in the first-level cache.
const DEPTH: usize = 256;

/// Floats from one row of a packed block of A to the next. Constant, so that the kernels address all rows
/// from one register; an odd number of cache lines, so that the rows fall into different sets. A matrix whose rows lie
/// so is read in place.
pub const A_STRIDE: usize = DEPTH + 16;

/// Panels whose tiles may lie side by side, so that the epilogue gets rows of 1 KiB.
const WIDE: usize = 8;

/// Columns of a window that may be packed together: of the kernels of most convolutions.
const TAPS: usize = 3;

/// The most rows of a packed strip of A, in any body.
const STRIP: usize = 16;

/// Receives a finished tile: `tile[r*ld + c]` is the sum for row `row + r`, column `col + c`, for
/// `0 <= r < rows` and `0 <= c < cols`. Called from several threads, for disjoint tiles.
pub type Epilogue = unsafe extern "C" fn(
    services: *const c_void,
    frame: *const u8,
    tile: *const f32,
    ld: i64,
    row: i64,
    rows: i64,
    col: i64,
    cols: i64,
);

/// A product `C[i,j] = sum_k A[i,k] B[k,j]` that leaves through an epilogue. Part of the kernel interface:
/// compiled code fills it in.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GemmF32 {
    /// Rows of A and C.
    pub m: i64,
    /// Columns of B and C.
    pub n: i64,
    /// Columns of A and rows of B.
    pub k: i64,
    /// Element (0, 0) of A.
    pub a: *const f32,
    /// Elements from one row of A to the next.
    pub a_row: i64,
    /// Elements from one column of A to the next.
    pub a_col: i64,
    /// How the elements of A are stored, as a number of [`Stored`]: as 16-bit floats, in a matrix without a window, or
    /// as floats.
    pub a_type: i64,
    /// What A is if it has no such strides: the table of a [`window`]; else null.
    pub window: *const i64,
    /// Element (0, 0) of B, or its panels where `packed` is set.
    pub b: *const f32,
    /// Elements from one row of B to the next; unused where `packed` is set.
    pub b_row: i64,
    /// Elements from one column of B to the next; unused where `packed` is set.
    pub b_col: i64,
    /// Whether `b` is in panel layout ([`pack_panels`]): 0 or not.
    pub packed: i64,
    /// How the elements of B are stored, as a number of [`Stored`]. Those of whole numbers lie in panels.
    pub b_type: i64,
    /// What becomes of the elements of panels that are not of floats, or null: they are only converted.
    pub scales: *const Scales,
    /// Whether the epilogue gets C transposed: 0 or not.
    pub transposed: i64,
    /// Which rows meet which of several matrices B, or null: then all meet the only one. C is not transposed then.
    pub groups: *const Groups,
    /// Receives every element of C exactly once.
    pub epilogue: Epilogue,
    /// Passed to the epilogue.
    pub frame: *const u8,
}

impl GemmF32 {
    /// Rows, columns and depth. Compiled code never passes a negative size; it would be empty.
    fn sizes(&self) -> [usize; 3] {
        [self.m, self.n, self.k].map(|size| usize::try_from(size).unwrap_or(0))
    }

    /// The rows and the columns of A as axes, where it is a matrix.
    fn axes(&self) -> ([[i64; 2]; 1], [[i64; 2]; 1]) {
        ([[self.m, self.a_row]], [[self.k, self.a_col]])
    }
}

/// The matrices that B is several of, and the rows that meet each of them: row `order[p]` of A and C, for every `p` in
/// `starts[g]..starts[g + 1]`, meets the matrix at `b + g*step`. The epilogue speaks of `p` as its row.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Groups {
    /// The rows, each once, those of a matrix together: `m` of them.
    pub order: *const i64,
    /// `count + 1` places in the order, ascending from 0 to `m`.
    pub starts: *const i64,
    /// How many matrices there are.
    pub count: i64,
    /// Elements from one matrix to the next, or from its panels to those of the next: bytes, of numbers of 4 bits.
    pub step: i64,
}

/// What a tile asks memory for while it multiplies: with row k of the panel, the cache lines at `panel + k*step`
/// bytes and behind it, which are of the panel that comes next, and that at `rows + columns[k]` floats, which is of
/// the strip that is packed next. Any address will do.
#[derive(Clone, Copy)]
struct Next<'a> {
    panel: *const u8,
    step: usize,
    rows: *const f32,
    columns: &'a [i64; DEPTH],
}

/// Multiplies a strip of A by a panel of B. The tile has as many rows as the function's place in
/// list says.
///
/// `tile[r*32 + c] = sum_k a[r, k] * b[k*32 + c]` over `0..depth`, or, to `resume`, the same added to what the
/// tile holds. Where `a[r, k]` is, [`Kernels`] says.
///
/// # Safety
/// The CPU has the body's instructions; the strip, `depth` rows of the panel and the tile (where it is
/// resumed) are readable, the tile is writable and apart from both.
type TileFn =
    unsafe fn(depth: usize, a: *const f32, b: *const f32, tile: *mut f32, resume: bool, next: &Next<'_>);

/// Multiplies few rows of A, in place, by one or several panels of B, in place or packed: panel p's row r
/// is `tile[(p*rows + r)*32..]`, set to the sum or, to `resume`, raised by it.
///
/// # Safety
/// The CPU has the body's instructions; the elements that `Walk` names are readable (and the tiles, where
/// they are resumed), and the tiles writable and apart from them.
type WalkFn = unsafe fn(walk: &Walk, tile: *mut f32, resume: bool);

/// The operands of a [`WalkFn`]: `A[r, k]` is at `a + r*a_row + k*a_col`, and the 32 columns of panel p in
/// row k of B are at `b + p*b_panel + k*b_row`.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "portable walks take one panel, unasked for")
)]
struct Walk {
    depth: usize,
    a: *const f32,
    a_row: isize,
    a_col: isize,
    b: *const f32,
    b_row: isize,
    b_panel: isize,
    /// How many floats ahead of the multiplication B is asked for.
    ahead: usize,
}

/// As [`WalkFn`], for panels of elements that are stored in fewer bits, with one row of zeros and scales.
///
/// # Safety
/// As [`WalkFn`].
type WalkStoredFn = unsafe fn(walk: &WalkStored<'_>, tile: *mut f32, resume: bool);

/// The operands of a [`WalkStoredFn`]: those of A as in a [`Walk`]. Rows of panel p of B follow each other from
/// `data + p*panel` bytes on, and its elements are `(value − zero) · scale`.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only vector bodies read it"))]
struct WalkStored<'a> {
    depth: usize,
    a: *const f32,
    a_row: isize,
    a_col: isize,
    stored: Stored,
    data: *const u8,
    panel: usize,
    /// Zeros and scales of each panel; none where elements are only converted.
    scaled: &'a [stored::Scaled],
}

/// Packs a strip of a window: `out[k*ld + r]` is its element in row r and column k, for `r < rows` and all
/// its columns. What lies behind the rows is left open.
///
/// # Safety
/// The CPU has the body's instructions; the elements whose guards hold are readable, and `out` has room for
/// `strip` floats at every `ld` for each column.
type GatherFn = unsafe fn(strip: &window::Strip<'_>, out: *mut f32, ld: usize);

/// Transposes a matrix: `out[c*ld + r] = from[r*from_ld + c]` for `r < rows` and `c < cols`. Rows are filled up
/// with zeros to a multiple of 16.
///
/// # Safety
/// The CPU has the body's instructions; the elements of `from` are readable, and `out` has room for `cols` rows
/// of `ld` floats, at least the filled-up number of rows.
type TransposeFn =
    unsafe fn(from: *const f32, from_ld: usize, rows: usize, cols: usize, out: *mut f32, ld: usize);

/// The bodies of one instruction set.
struct Kernels {
    name: &'static str,
    /// The tile of r+1 rows at place r, of packed rows that lie one after the other: `a[r, k]` is
    /// `a[r*A_STRIDE + k]`.
    tiles: &'static [TileFn],
    /// The same of packed rows that lie side by side: `a[k*strip + r]`.
    across: &'static [TileFn],
    /// The same of rows that [`TAPS`] columns share: `a[k/3*strip + k%3 + r]`.
    shared: &'static [TileFn],
    /// Those of `across` that also ask for the strip that is packed next.
    looking: &'static [TileFn],
    /// The same of rows that lie side by side in a panel, `a[k*32 + r]`; rows of the tile are [`WIDE`] panels apart.
    turned: &'static [TileFn],
    /// Those of `turned` that also ask for what is packed next.
    looking_turned: &'static [TileFn],
    /// Those of `turned` for the first half of the columns.
    narrow: &'static [TileFn],
    /// Rows that are packed side by side together.
    strip: usize,
    /// Packs so many rows.
    gather: GatherFn,
    /// See [`TransposeFn`].
    transpose: TransposeFn,
    /// See [`stored::ExpandFn`].
    expand: stored::ExpandFn,
    /// The walk of r+1 rows at place r.
    walks: &'static [WalkKernel],
}

/// A walk over `panels` panels at once, whose independent sums hide the latency of the multiply-add, and one
/// over a single panel for the rest.
struct WalkKernel {
    panels: usize,
    many: WalkFn,
    one: WalkFn,
    /// The same two of panels of what is stored in fewer bits; where there are none, these are expanded before.
    stored: Option<[WalkStoredFn; 2]>,
}

impl Kernels {
    /// Those that this CPU can run, the fastest first.
    fn available() -> impl Iterator<Item = &'static Kernels> {
        #[cfg(target_arch = "x86_64")]
        let vector = [
            std::is_x86_feature_detected!("avx512f").then_some(&avx512::KERNELS),
            (std::is_x86_feature_detected!("avx2")
                && std::is_x86_feature_detected!("fma")
                && std::is_x86_feature_detected!("f16c"))
            .then_some(&avx2::KERNELS),
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

/// The name of the bodies that this CPU runs: `avx512`, `avx2` or `portable`.
pub fn instruction_set() -> &'static str {
    Kernels::detected().name
}

/// Runs `call` on the threads of `pool`, with the fastest bodies that this CPU has. `services` is passed to
/// the epilogue. An empty C calls nothing; an empty sum is 0.
///
/// # Safety
/// The matrices that `call` describes are readable, its window is a table as [`window`] says, and its epilogue may be called with `services`, `frame` and tiles of C from any thread.
pub unsafe fn gemm(pool: &Pool, services: *const c_void, call: &GemmF32) {
    // SAFETY: as the caller vouches; `detected` names bodies that the CPU can run.
    unsafe { product::multiply(Kernels::detected(), pool, services, call) }
}
