//! AVX-512 bodies: tiles of up to 14×32, and walks of up to four rows.
//!
//! A tile holds a row in two of the 32 vector registers: 28 accumulators, two vectors of B, one spare for
//! the broadcast element of A.

use std::arch::x86_64::{
    __m512, _MM_HINT_T0, _mm_prefetch, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::{A_STRIDE, Kernels, PANEL, Walk, WalkKernel};

const LANES: usize = 16;

/// How many rows of the panel ahead of the multiplication a tile asks for.
const TILE_AHEAD: usize = 8;

pub(super) static KERNELS: Kernels = Kernels {
    name: "avx512",
    tiles: &[
        tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>, tile::<7>, tile::<8>, tile::<9>,
        tile::<10>, tile::<11>, tile::<12>, tile::<13>, tile::<14>,
    ],
    walks: &[
        WalkKernel { panels: 4, many: walk::<1, 4>, one: walk::<1, 1> },
        WalkKernel { panels: 4, many: walk::<2, 4>, one: walk::<2, 1> },
        WalkKernel { panels: 2, many: walk::<3, 2>, one: walk::<3, 1> },
        WalkKernel { panels: 2, many: walk::<4, 2>, one: walk::<4, 1> },
    ],
};

/// See [`super::TileFn`].
///
/// # Safety
/// As [`super::TileFn`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const ROWS: usize>(depth: usize, a: *const f32, b: *const f32, tile: *mut f32, resume: bool) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    // SAFETY: the caller vouches for ROWS rows of A, `depth` rows of the panel and ROWS rows of the tile;
    // a prefetch may name any address.
    unsafe {
        if resume {
            for (r, row) in sums.iter_mut().enumerate() {
                *row = load(tile.add(r * PANEL));
            }
        }
        for k in 0..depth {
            let row = b.add(k * PANEL);
            let ahead = row.wrapping_add(TILE_AHEAD * PANEL).cast();
            _mm_prefetch::<_MM_HINT_T0>(ahead);
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64));
            let [b0, b1] = load(row);
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(r * A_STRIDE + k));
                sum[0] = _mm512_fmadd_ps(x, b0, sum[0]);
                sum[1] = _mm512_fmadd_ps(x, b1, sum[1]);
            }
        }
        for (r, row) in sums.iter().enumerate() {
            store(tile.add(r * PANEL), row);
        }
    }
}

/// See [`super::WalkFn`].
///
/// # Safety
/// As [`super::WalkFn`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn walk<const ROWS: usize, const PANELS: usize>(w: &Walk, tile: *mut f32, resume: bool) {
    let mut sums = [[[_mm512_setzero_ps(); 2]; ROWS]; PANELS];
    // SAFETY: the caller vouches for the elements of A and B that `w` names and for PANELS tiles of ROWS
    // rows; a prefetch may name any address.
    unsafe {
        if resume {
            for (i, row) in sums.as_flattened_mut().iter_mut().enumerate() {
                *row = load(tile.add(i * PANEL));
            }
        }
        let (mut a, mut b) = (w.a, w.b);
        for _ in 0..w.depth {
            let mut x = [_mm512_setzero_ps(); ROWS];
            for (r, x) in x.iter_mut().enumerate() {
                *x = _mm512_set1_ps(*a.wrapping_offset(r as isize * w.a_row));
            }
            for (p, sums) in sums.iter_mut().enumerate() {
                let row = b.wrapping_offset(p as isize * w.b_panel);
                let ahead = row.wrapping_add(w.ahead).cast();
                _mm_prefetch::<_MM_HINT_T0>(ahead);
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64));
                let [b0, b1] = load(row);
                for (sum, x) in sums.iter_mut().zip(x) {
                    sum[0] = _mm512_fmadd_ps(x, b0, sum[0]);
                    sum[1] = _mm512_fmadd_ps(x, b1, sum[1]);
                }
            }
            a = a.wrapping_offset(w.a_col);
            b = b.wrapping_offset(w.b_row);
        }
        for (i, row) in sums.as_flattened().iter().enumerate() {
            store(tile.add(i * PANEL), row);
        }
    }
}

/// # Safety
/// `from` leads to 32 readable floats, on a CPU with AVX-512F.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(from: *const f32) -> [__m512; 2] {
    // SAFETY: as the caller vouches.
    unsafe { [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(LANES))] }
}

/// # Safety
/// `to` leads to 32 writable floats, on a CPU with AVX-512F.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(to: *mut f32, row: &[__m512; 2]) {
    // SAFETY: as the caller vouches.
    unsafe {
        _mm512_storeu_ps(to, row[0]);
        _mm512_storeu_ps(to.add(LANES), row[1]);
    }
}
