//! AVX2 and FMA bodies: tiles of up to 6×32, a panel's two halves one after the other, and walks of up to
//! two rows.
//!
//! Half a tile holds a row in two of the 16 vector registers: 12 accumulators, two vectors of B, one for
//! the broadcast element of A.

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_prefetch, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_storeu_ps,
};

use super::{A_STRIDE, Kernels, PANEL, Walk, WalkKernel};

const LANES: usize = 8;

/// How many rows of the panel ahead of the multiplication a tile asks for.
const TILE_AHEAD: usize = 8;

pub(super) static KERNELS: Kernels = Kernels {
    name: "avx2",
    tiles: &[tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>],
    walks: &[
        WalkKernel { panels: 2, many: walk::<1, 2>, one: walk::<1, 1> },
        WalkKernel { panels: 1, many: walk::<2, 1>, one: walk::<2, 1> },
    ],
};

/// See [`super::TileFn`].
///
/// # Safety
/// As [`super::TileFn`], on a CPU with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const ROWS: usize>(depth: usize, a: *const f32, b: *const f32, tile: *mut f32, resume: bool) {
    for half in [0, 2 * LANES] {
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        // SAFETY: the caller vouches for ROWS rows of A, `depth` rows of the panel and ROWS rows of the
        // tile, of which this is one half; a prefetch may name any address.
        unsafe {
            if resume {
                for (r, row) in sums.iter_mut().enumerate() {
                    *row = load(tile.add(r * PANEL + half));
                }
            }
            for k in 0..depth {
                let row = b.add(k * PANEL + half);
                _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(TILE_AHEAD * PANEL).cast());
                let [b0, b1] = load(row);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*a.add(r * A_STRIDE + k));
                    sum[0] = _mm256_fmadd_ps(x, b0, sum[0]);
                    sum[1] = _mm256_fmadd_ps(x, b1, sum[1]);
                }
            }
            for (r, row) in sums.iter().enumerate() {
                store(tile.add(r * PANEL + half), row);
            }
        }
    }
}

/// See [`super::WalkFn`].
///
/// # Safety
/// As [`super::WalkFn`], on a CPU with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn walk<const ROWS: usize, const PANELS: usize>(w: &Walk, tile: *mut f32, resume: bool) {
    // Two halves of a panel's row, of two vectors each.
    let mut sums = [[[[_mm256_setzero_ps(); 2]; 2]; ROWS]; PANELS];
    // SAFETY: the caller vouches for the elements of A and B that `w` names and for PANELS tiles of ROWS
    // rows; a prefetch may name any address.
    unsafe {
        if resume {
            for (i, half) in sums.as_flattened_mut().as_flattened_mut().iter_mut().enumerate() {
                *half = load(tile.add(i * 2 * LANES));
            }
        }
        let (mut a, mut b) = (w.a, w.b);
        for _ in 0..w.depth {
            let mut x = [_mm256_setzero_ps(); ROWS];
            for (r, x) in x.iter_mut().enumerate() {
                *x = _mm256_set1_ps(*a.wrapping_offset(r as isize * w.a_row));
            }
            for (p, sums) in sums.iter_mut().enumerate() {
                for half in 0..2 {
                    let row = b.wrapping_offset(p as isize * w.b_panel).add(half * 2 * LANES);
                    _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(w.ahead).cast());
                    let [b0, b1] = load(row);
                    for (sum, x) in sums.iter_mut().zip(x) {
                        sum[half][0] = _mm256_fmadd_ps(x, b0, sum[half][0]);
                        sum[half][1] = _mm256_fmadd_ps(x, b1, sum[half][1]);
                    }
                }
            }
            a = a.wrapping_offset(w.a_col);
            b = b.wrapping_offset(w.b_row);
        }
        for (i, row) in sums.as_flattened().as_flattened().iter().enumerate() {
            store(tile.add(i * 2 * LANES), row);
        }
    }
}

/// # Safety
/// `from` leads to 16 readable floats, on a CPU with AVX2.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load(from: *const f32) -> [__m256; 2] {
    // SAFETY: as the caller vouches.
    unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(LANES))] }
}

/// # Safety
/// `to` leads to 16 writable floats, on a CPU with AVX2.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store(to: *mut f32, row: &[__m256; 2]) {
    // SAFETY: as the caller vouches.
    unsafe {
        _mm256_storeu_ps(to, row[0]);
        _mm256_storeu_ps(to.add(LANES), row[1]);
    }
}
