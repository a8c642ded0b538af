//! Bodies for any CPU: tiles of up to 4×32 in four strips of eight columns, and walks of one row.
//!
//! `f32::mul_add` rounds once wherever it runs, so the bits are those of the other bodies. Where the target
//! has no FMA instruction it is a call per element, and slow.

use super::pack::transpose;
use super::stored::expand;
use super::window::Strip;
use super::{A_STRIDE, Kernels, Next, PANEL, TAPS, WIDE, Walk, WalkKernel};

const LANES: usize = 8;

/// Rows of the highest tile.
const ROWS: usize = 4;

pub(super) static KERNELS: Kernels = Kernels {
    name: "portable",
    tiles: &tiles!(A_STRIDE, 1, 1, false, PANEL, PANEL; 1, 2, 3, 4),
    across: &tiles!(1, ROWS, 1, false, PANEL, PANEL; 1, 2, 3, 4),
    shared: &tiles!(1, ROWS, TAPS, false, PANEL, PANEL; 1, 2, 3, 4),
    looking: &tiles!(1, ROWS, 1, true, PANEL, PANEL; 1, 2, 3, 4),
    turned: &tiles!(1, PANEL, 1, false, PANEL, WIDE * PANEL; 1, 2, 3, 4),
    looking_turned: &tiles!(1, PANEL, 1, true, PANEL, WIDE * PANEL; 1, 2, 3, 4),
    narrow: &tiles!(1, PANEL, 1, false, PANEL / 2, WIDE * PANEL; 1, 2, 3, 4),
    strip: ROWS,
    gather,
    transpose,
    expand,
    walks: &[WalkKernel { panels: 1, many: walk, one: walk, stored: None }],
};

/// See [`super::TileFn`].
///
/// # Safety
/// As [`super::TileFn`].
unsafe fn tile<
    const ROWS: usize,
    const ROW: usize,
    const COL: usize,
    const TAPS: usize,
    const LOOK: bool,
    const WIDTH: usize,
    const LD: usize,
>(
    depth: usize,
    a: *const f32,
    b: *const f32,
    tile: *mut f32,
    resume: bool,
    _next: &Next<'_>,
) {
    for column in (0..WIDTH).step_by(LANES) {
        let mut sums = [[0.0; LANES]; ROWS];
        // SAFETY: the caller vouches for ROWS rows of A, `depth` rows of the panel and ROWS rows of the
        // tile, of which this takes eight columns; an array of floats is aligned as a float.
        unsafe {
            let tile = tile.add(column);
            if resume {
                for (r, row) in sums.iter_mut().enumerate() {
                    *row = tile.add(r * LD).cast::<[f32; LANES]>().read();
                }
            }
            for k in 0..depth {
                let b = b.add(k * PANEL + column).cast::<[f32; LANES]>().read();
                for (r, row) in sums.iter_mut().enumerate() {
                    add_product(row, *a.add(r * ROW + k / TAPS * COL + k % TAPS), &b);
                }
            }
            for (r, row) in sums.into_iter().enumerate() {
                tile.add(r * LD).cast::<[f32; LANES]>().write(row);
            }
        }
    }
}

/// See [`super::WalkFn`].
///
/// # Safety
/// As [`super::WalkFn`].
unsafe fn walk(w: &Walk, tile: *mut f32, resume: bool) {
    let tile = tile.cast::<[f32; PANEL]>();
    // SAFETY: the caller vouches for a tile of one row, written if it is to be resumed.
    let mut sums = if resume { unsafe { tile.read() } } else { [0.0; PANEL] };
    let (mut a, mut b) = (w.a, w.b);
    for _ in 0..w.depth {
        // SAFETY: the caller vouches for the elements of A and B that `w` names; an array of floats is
        // aligned as a float.
        unsafe { add_product(&mut sums, *a, &*b.cast::<[f32; PANEL]>()) };
        a = a.wrapping_offset(w.a_col);
        b = b.wrapping_offset(w.b_row);
    }
    // SAFETY: the caller vouches for a tile of one row.
    unsafe { tile.write(sums) };
}

/// See [`super::GatherFn`].
///
/// # Safety
/// As [`super::GatherFn`].
unsafe fn gather(strip: &Strip<'_>, out: *mut f32, ld: usize) {
    for k in 0..strip.depth {
        for r in 0..strip.rows {
            // SAFETY: as the caller vouches.
            unsafe { *out.add(k * ld + r) = strip.element(r, k) };
        }
    }
}

/// `sums += x * row`, rounded once per element.
#[inline(always)]
fn add_product<const N: usize>(sums: &mut [f32; N], x: f32, row: &[f32; N]) {
    for (sum, &y) in sums.iter_mut().zip(row) {
        *sum = x.mul_add(y, *sum);
    }
}
