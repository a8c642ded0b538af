//! The AVX2 body: tiles of four rows by half a panel at a time.
//!
//! Products of bytes would saturate in 16 bits, so bytes become words, whose products in pairs are exact. Of the four
//! bytes of a column, the even ones make one pair and the odd ones the other, which takes no shuffle: two shifts.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_slli_epi16, _mm256_srai_epi16, _mm256_srli_epi16, _mm256_storeu_si256,
};

use super::pack::gather;
use super::{Kernels, PANEL, PANEL_QUAD, QUAD, STRIP_QUAD};

pub(super) static KERNELS: Kernels = Kernels { name: "avx2", height: 16, tile, gather, farthest: 1 };

/// Columns of a vector.
const LANES: usize = 8;

/// Rows of the highest tile.
const ROWS: usize = 4;

/// See [`super::TileFn`].
///
/// # Safety
/// As [`super::TileFn`], on a CPU with AVX2.
unsafe fn tile(rows: usize, quads: usize, a: *const u8, b: *const u8, tile: *mut i32) {
    type Rows = unsafe fn(usize, *const u8, *const u8, *mut i32);
    const HEIGHTS: [Rows; ROWS] = [of_rows::<1>, of_rows::<2>, of_rows::<3>, of_rows::<4>];
    for first in (0..rows).step_by(ROWS) {
        let height = ROWS.min(rows - first);
        for column in (0..PANEL).step_by(2 * LANES) {
            // SAFETY: these are rows of the strip and of the tile, and columns of the panel, as the caller vouches.
            unsafe {
                let (a, b) = (a.add(first * QUAD), b.add(column * QUAD));
                HEIGHTS[height - 1](quads, a, b, tile.add(first * PANEL + column));
            }
        }
    }
}

/// So many rows by 16 columns.
///
/// # Safety
/// As [`super::TileFn`], on a CPU with AVX2.
#[target_feature(enable = "avx2")]
unsafe fn of_rows<const ROWS: usize>(quads: usize, a: *const u8, b: *const u8, tile: *mut i32) {
    let low = _mm256_set1_epi16(0xff);
    // SAFETY: the caller vouches for the rows of the tile, and for the quads of the strip and of the panel.
    unsafe {
        let at = |r: usize, half: usize| tile.add(r * PANEL + half * LANES).cast::<__m256i>();
        let mut sums: [[__m256i; 2]; ROWS] =
            std::array::from_fn(|r| [_mm256_loadu_si256(at(r, 0)), _mm256_loadu_si256(at(r, 1))]);
        for q in 0..quads {
            let panel = b.add(q * PANEL_QUAD).cast::<__m256i>();
            let y = [_mm256_loadu_si256(panel), _mm256_loadu_si256(panel.add(1))];
            let even = y.map(|y| _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(y)));
            let odd = y.map(|y| _mm256_srai_epi16::<8>(y));
            let x = a.add(q * STRIP_QUAD).cast::<i32>();
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_epi32(x.add(r).read_unaligned());
                let (x_even, x_odd) = (_mm256_and_si256(x, low), _mm256_srli_epi16::<8>(x));
                for half in 0..2 {
                    let pairs = _mm256_madd_epi16(x_even, even[half]);
                    sum[half] = _mm256_add_epi32(sum[half], pairs);
                    let pairs = _mm256_madd_epi16(x_odd, odd[half]);
                    sum[half] = _mm256_add_epi32(sum[half], pairs);
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            _mm256_storeu_si256(at(r, 0), sum[0]);
            _mm256_storeu_si256(at(r, 1), sum[1]);
        }
    }
}
