//! The AVX-512 body with products of four bytes (VNNI): tiles of up to 14×32.
//!
//! A row of a tile takes two of the 32 vector registers: 28 accumulators, two vectors of B, one for the four bytes of A.

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_storeu_si512,
};

use super::{Kernels, PANEL, PANEL_QUAD, QUAD, STRIP_QUAD};

pub(super) static KERNELS: Kernels = Kernels { name: "avx512", height: 14, tile };

/// Columns of a vector.
const LANES: usize = 16;

/// How many quads of the panel ahead of the multiplication are asked for.
const AHEAD: usize = 8;

/// See [`super::TileFn`].
///
/// # Safety
/// As [`super::TileFn`], on a CPU with AVX-512F and VNNI.
unsafe fn tile(rows: usize, quads: usize, a: *const u8, b: *const u8, tile: *mut i32) {
    type Rows = unsafe fn(usize, *const u8, *const u8, *mut i32);
    const HEIGHTS: [Rows; 14] = [
        of_rows::<1>,
        of_rows::<2>,
        of_rows::<3>,
        of_rows::<4>,
        of_rows::<5>,
        of_rows::<6>,
        of_rows::<7>,
        of_rows::<8>,
        of_rows::<9>,
        of_rows::<10>,
        of_rows::<11>,
        of_rows::<12>,
        of_rows::<13>,
        of_rows::<14>,
    ];
    // SAFETY: as the caller vouches.
    unsafe { HEIGHTS[rows - 1](quads, a, b, tile) }
}

/// The tile of so many rows.
///
/// # Safety
/// As [`super::TileFn`], on a CPU with AVX-512F and VNNI.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn of_rows<const ROWS: usize>(quads: usize, a: *const u8, b: *const u8, tile: *mut i32) {
    // SAFETY: the caller vouches for the rows of the tile, and for the quads of the strip and of the panel; a prefetch may
    // name any address.
    unsafe {
        let mut sums: [[__m512i; 2]; ROWS] = std::array::from_fn(|r| {
            let row = tile.add(r * PANEL);
            [_mm512_loadu_si512(row.cast()), _mm512_loadu_si512(row.add(LANES).cast())]
        });
        for q in 0..quads {
            let panel = b.add(q * PANEL_QUAD);
            let ahead = panel.wrapping_add(AHEAD * PANEL_QUAD).cast();
            _mm_prefetch::<_MM_HINT_T0>(ahead);
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64));
            let y = [_mm512_loadu_si512(panel.cast()), _mm512_loadu_si512(panel.add(LANES * QUAD).cast())];
            let x = a.add(q * STRIP_QUAD).cast::<i32>();
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(x.add(r).read_unaligned());
                sum[0] = _mm512_dpbusd_epi32(sum[0], x, y[0]);
                sum[1] = _mm512_dpbusd_epi32(sum[1], x, y[1]);
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            let row = tile.add(r * PANEL);
            _mm512_storeu_si512(row.cast(), sum[0]);
            _mm512_storeu_si512(row.add(LANES).cast(), sum[1]);
        }
    }
}
