//! The AVX-512 body with products of four bytes (VNNI): tiles of up to 14×32.
//!
//! A row of a tile takes two of the 32 vector registers: 28 accumulators, two vectors of B, one for the four bytes of A.

use std::arch::x86_64::{
    __m128i, __m512i, _MM_HINT_T0, _mm_mask_loadu_epi8, _mm_mask_mov_epi8, _mm_prefetch, _mm_set1_epi8,
    _mm_setzero_si128, _mm_xor_si128, _mm256_cvtepi16_epi8, _mm256_maskz_loadu_epi8, _mm512_dpbusd_epi32,
    _mm512_loadu_si512, _mm512_set1_epi32, _mm512_storeu_si512,
};

use super::pack::{Lines, interleave};
use super::{Kernels, PANEL, PANEL_QUAD, QUAD, STRIP_QUAD};
use crate::gemm::DEPTH;
use crate::gemm::avx512::spread;
use crate::gemm::window::Strip;

pub(super) static KERNELS: Kernels = Kernels { name: "avx512", height: 14, tile, gather, farthest: 2 };

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

/// See [`super::GatherFn`]. Masks keep what is outside from being read. Of every second byte, both are read.
///
/// # Safety
/// As [`super::GatherFn`], on a CPU with AVX-512F, BW and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn gather(strip: &Strip<'_, u8>, lines: &Lines<'_>, fill: u8, flip: u8, out: *mut u8) {
    let [fill, flip] = [fill, flip].map(|byte| _mm_set1_epi8(byte.cast_signed()));
    let mut wide = [[0; 3]; DEPTH];
    if lines.apart == 2 {
        for (wide, &mask) in wide.iter_mut().zip(&lines.masks[..strip.column.kinds]) {
            for (wide, (rows, _)) in wide.iter_mut().zip(lines.runs) {
                *wide = spread(rows & mask);
            }
        }
    }
    for q in 0..strip.depth.div_ceil(QUAD) {
        let mut columns = [_mm_setzero_si128(); QUAD];
        for (i, column) in columns.iter_mut().enumerate().take(strip.depth - q * QUAD) {
            let k = q * QUAD + i;
            let kind = usize::from(strip.column.kind[k]);
            let from = strip.data.wrapping_offset(strip.column.places.offsets[k] as isize).cast::<i8>();
            let mut values = fill;
            for (run, &(rows, shift)) in lines.runs.iter().enumerate() {
                let mask = rows & lines.masks[kind];
                let from = from.wrapping_offset(shift);
                // SAFETY: the caller vouches for the elements that are inside, and nothing else is read.
                values = unsafe {
                    if lines.apart == 1 {
                        _mm_mask_loadu_epi8(values, mask, from)
                    } else {
                        let both = _mm256_maskz_loadu_epi8(wide[kind][run], from);
                        _mm_mask_mov_epi8(values, mask, _mm256_cvtepi16_epi8(both))
                    }
                };
            }
            *column = _mm_xor_si128(values, flip);
        }
        // SAFETY: a vector is its bits; it is a quad of the strip.
        unsafe {
            let columns = columns.map(|column| std::mem::transmute::<__m128i, u128>(column));
            interleave(columns, out.add(q * STRIP_QUAD));
        }
    }
}
