//! AVX-512 bodies: tiles of up to 14×32, and walks of up to four rows.
//!
//! A tile holds a row in two of the 32 vector registers: 28 accumulators, two vectors of B, one spare for
//! the broadcast element of A.

use std::arch::x86_64::{
    __m512, __mmask8, __mmask16, _MM_HINT_T0, _MM_HINT_T1, _mm_loadu_ps, _mm_loadu_si128, _mm_prefetch,
    _mm256_castps_pd, _mm256_loadu_si256, _mm256_setzero_ps, _mm512_add_epi64, _mm512_and_si512,
    _mm512_castpd_ps, _mm512_castpd256_pd512, _mm512_castps_pd, _mm512_castps128_ps512, _mm512_castsi512_ps,
    _mm512_cmplt_epu64_mask, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_insertf32x4, _mm512_loadu_epi64,
    _mm512_loadu_ps, _mm512_mask_i64gather_ps, _mm512_mask_loadu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps,
    _mm512_permutex2var_ps, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_f32x4, _mm512_shuffle_f64x2, _mm512_slli_epi32, _mm512_srli_epi32,
    _mm512_storeu_ps, _mm512_sub_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd,
    _mm512_unpacklo_ps,
};
use std::ops::Range;

use super::stored::{Rows, Stored};
use super::window::{MAX_GUARDS, Strip};
use super::{A_STRIDE, DEPTH, Kernels, Next, PANEL, TAPS, WIDE, Walk, WalkKernel, WalkStored};

const LANES: usize = 16;

/// How many rows of the panel ahead of the multiplication a tile asks for.
const TILE_AHEAD: usize = 8;

/// How many bytes ahead of what is expanded memory is asked for.
const EXPAND_AHEAD: usize = 1024;

pub(super) static KERNELS: Kernels = Kernels {
    name: "avx512",
    tiles: &tiles!(A_STRIDE, 1, 1, false, PANEL, PANEL; 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    across: &tiles!(1, LANES, 1, false, PANEL, PANEL; 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    shared: &tiles!(1, LANES, TAPS, false, PANEL, PANEL; 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    looking: &tiles!(1, LANES, 1, true, PANEL, PANEL; 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    turned: &tiles!(1, PANEL, 1, false, PANEL, WIDE * PANEL; 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    looking_turned: &tiles!(1, PANEL, 1, true, PANEL, WIDE * PANEL; 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    narrow: &tiles!(1, PANEL, 1, false, PANEL / 2, WIDE * PANEL; 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    strip: LANES,
    gather,
    transpose,
    expand,
    walks: &[
        WalkKernel {
            panels: 4,
            many: walk::<1, 4>,
            one: walk::<1, 1>,
            stored: Some([walk_stored::<1, 4>, walk_stored::<1, 1>]),
        },
        WalkKernel {
            panels: 4,
            many: walk::<2, 4>,
            one: walk::<2, 1>,
            stored: Some([walk_stored::<2, 4>, walk_stored::<2, 1>]),
        },
        WalkKernel {
            panels: 2,
            many: walk::<3, 2>,
            one: walk::<3, 1>,
            stored: Some([walk_stored::<3, 2>, walk_stored::<3, 1>]),
        },
        WalkKernel {
            panels: 2,
            many: walk::<4, 2>,
            one: walk::<4, 1>,
            stored: Some([walk_stored::<4, 2>, walk_stored::<4, 1>]),
        },
    ],
};

/// See [`super::TileFn`].
///
/// # Safety
/// As [`super::TileFn`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
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
    next: &Next<'_>,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    let whole = WIDTH == PANEL;
    // SAFETY: the caller vouches for ROWS rows of A, `depth` rows of the panel and ROWS rows of the tile;
    // a prefetch may name any address.
    unsafe {
        if resume {
            for (r, row) in sums.iter_mut().enumerate() {
                *row = load_columns::<WIDTH>(tile.add(r * LD));
            }
        }
        for k in 0..depth {
            let row = b.add(k * PANEL);
            let ahead = row.wrapping_add(TILE_AHEAD * PANEL).cast();
            _mm_prefetch::<_MM_HINT_T0>(ahead);
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64));
            let panel = next.panel.wrapping_add(k * next.step).cast();
            _mm_prefetch::<_MM_HINT_T1>(panel);
            _mm_prefetch::<_MM_HINT_T1>(panel.wrapping_add(64));
            if LOOK {
                let column = *next.columns.get_unchecked(k) as isize;
                _mm_prefetch::<_MM_HINT_T1>(next.rows.wrapping_offset(column).cast());
            }
            let [b0, b1] = load_columns::<WIDTH>(row);
            for (r, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(r * ROW + k / TAPS * COL + k % TAPS));
                sum[0] = _mm512_fmadd_ps(x, b0, sum[0]);
                if whole {
                    sum[1] = _mm512_fmadd_ps(x, b1, sum[1]);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            match whole {
                true => store(tile.add(r * LD), row),
                false => _mm512_storeu_ps(tile.add(r * LD), row[0]),
            }
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

/// See [`super::GatherFn`]. Rows that lie side by side, in few runs, are loaded as vectors.
///
/// # Safety
/// As [`super::GatherFn`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn gather(strip: &Strip<'_>, out: *mut f32, ld: usize) {
    let lanes = ((1u32 << strip.rows) - 1) as __mmask16;
    let halves = |of: &[i64; LANES]| {
        // SAFETY: an array of 16 numbers is two vectors of them.
        unsafe { [_mm512_loadu_epi64(of.as_ptr()), _mm512_loadu_epi64(of.as_ptr().add(LANES / 2))] }
    };
    let mut rows = [[_mm512_setzero_si512(); 2]; MAX_GUARDS];
    let mut sizes = [_mm512_setzero_si512(); MAX_GUARDS];
    for g in 0..strip.guards {
        rows[g] = halves(&strip.row.guards[g]);
        sizes[g] = _mm512_set1_epi64(strip.sizes[g]);
    }
    let offsets = halves(&strip.row.offsets);
    let (mut masks, mut wide) = ([lanes; DEPTH], [0; DEPTH]);
    for (inside, &example) in masks.iter_mut().zip(&strip.column.example[..strip.column.kinds]) {
        for g in 0..strip.guards {
            let column = _mm512_set1_epi64(strip.column.places.guards[g][usize::from(example)]);
            // As unsigned numbers, negative ones are too large.
            let [low, high] = rows[g]
                .map(|row| _mm512_cmplt_epu64_mask(_mm512_add_epi64(row, column), sizes[g]) as __mmask16);
            *inside &= low | high << 8;
        }
    }
    let apart = if strip.rows > 1 { strip.row.offsets[1] - strip.row.offsets[0] } else { 1 };
    let (runs, all) = strip.runs(apart);
    let lane_mask = |run: &Range<usize>| ((1u32 << run.end) - (1 << run.start)) as __mmask16;
    let runs = runs.each_ref().map(|(run, shift)| (lane_mask(run), *shift));
    let lanes_apart = runs.map(|(mask, _)| spread(mask));
    if apart == 2 {
        let kinds = strip.column.kinds;
        wide[..kinds].iter_mut().zip(&masks[..kinds]).for_each(|(wide, &mask)| *wide = spread(mask));
    }
    let runs = &runs[..runs.iter().take_while(|(mask, _)| *mask != 0).count()];
    // SAFETY: 16 numbers are a vector of them.
    let evens = unsafe { _mm512_loadu_epi64(EVENS.as_ptr().cast()) };
    for k in 0..strip.depth {
        let inside = masks[usize::from(strip.column.kind[k])];
        let from = strip.data.wrapping_offset(strip.column.places.offsets[k] as isize);
        // SAFETY: the caller vouches for the elements whose guards hold, and for 16 floats of `out` for
        // each column.
        unsafe {
            let values = if let ([(_, shift)], 1, true) = (runs, apart, all) {
                _mm512_maskz_loadu_ps(inside, from.wrapping_offset(*shift))
            } else if all && apart == 1 {
                let mut values = _mm512_setzero_ps();
                for &(mask, shift) in runs {
                    values = _mm512_mask_loadu_ps(values, mask & inside, from.wrapping_offset(shift));
                }
                values
            } else if all && apart == 2 {
                let (mut low, mut high) = (_mm512_setzero_ps(), _mm512_setzero_ps());
                let inside = wide[usize::from(strip.column.kind[k])];
                for (&(_, shift), &lanes) in runs.iter().zip(&lanes_apart) {
                    let (mask, from) = (lanes & inside, from.wrapping_offset(shift));
                    low = _mm512_mask_loadu_ps(low, mask as __mmask16, from);
                    let rest = from.wrapping_add(LANES);
                    high = _mm512_mask_loadu_ps(high, (mask >> LANES) as __mmask16, rest);
                }
                _mm512_permutex2var_ps(low, evens, high)
            } else {
                let zero = _mm256_setzero_ps();
                let low = _mm512_mask_i64gather_ps::<4>(zero, inside as __mmask8, offsets[0], from.cast());
                let high =
                    _mm512_mask_i64gather_ps::<4>(zero, (inside >> 8) as __mmask8, offsets[1], from.cast());
                let high = _mm512_castpd256_pd512(_mm256_castps_pd(high));
                let low = _mm512_castpd256_pd512(_mm256_castps_pd(low));
                _mm512_castpd_ps(_mm512_shuffle_f64x2::<0b01_00_01_00>(low, high))
            };
            _mm512_storeu_ps(out.add(k * ld), values);
        }
    }
}

/// The even lanes of two vectors.
static EVENS: [i32; LANES] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];

/// Each bit at twice its place.
pub(super) fn spread(mask: __mmask16) -> u32 {
    let mut bits = u32::from(mask);
    for (by, keep) in [(8, 0x00ff_00ff), (4, 0x0f0f_0f0f), (2, 0x3333_3333), (1, 0x5555_5555)] {
        bits = (bits | bits << by) & keep;
    }
    bits
}

/// See [`super::TransposeFn`]. By squares of 16.
///
/// # Safety
/// As [`super::TransposeFn`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn transpose(from: *const f32, from_ld: usize, rows: usize, cols: usize, out: *mut f32, ld: usize) {
    for top in (0..rows).step_by(LANES) {
        for left in (0..cols).step_by(LANES) {
            let (height, width) = (LANES.min(rows - top), LANES.min(cols - left));
            if (height, width) == (LANES, LANES) {
                // SAFETY: the square is one of `from`, and `out` has room for it.
                unsafe {
                    transpose_square(from.add(top * from_ld + left), from_ld, out.add(left * ld + top), ld)
                };
                continue;
            }
            let mask = ((1u32 << width) - 1) as __mmask16;
            let mut square = [_mm512_setzero_ps(); LANES];
            // SAFETY: the square's rows and columns are those of `from` that the caller vouches for, and `out`
            // has room for 16 rows from `top` on.
            unsafe {
                for (r, row) in square.iter_mut().enumerate().take(height) {
                    *row = _mm512_maskz_loadu_ps(mask, from.add((top + r) * from_ld + left));
                }
                for (c, column) in turned(square).iter().enumerate().take(width) {
                    _mm512_storeu_ps(out.add((left + c) * ld + top), *column);
                }
            }
        }
    }
}

/// Transposes a square of 16. Quarters of rows four apart are loaded into one vector, so that only squares of four are
/// left to be turned, within the quarters.
///
/// # Safety
/// 16 rows of 16 floats are readable at `from` and writable at `out`, on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_square(from: *const f32, from_ld: usize, out: *mut f32, ld: usize) {
    for left in (0..LANES).step_by(4) {
        let mut rows = [_mm512_setzero_ps(); 4];
        // SAFETY: as the caller vouches.
        unsafe {
            for (r, row) in rows.iter_mut().enumerate() {
                let quarter = |q: usize| _mm_loadu_ps(from.add((4 * q + r) * from_ld + left));
                *row = _mm512_castps128_ps512(quarter(0));
                *row = _mm512_insertf32x4::<1>(*row, quarter(1));
                *row = _mm512_insertf32x4::<2>(*row, quarter(2));
                *row = _mm512_insertf32x4::<3>(*row, quarter(3));
            }
            let [a, b, c, d] = rows;
            let low = [_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)].map(|x| _mm512_castps_pd(x));
            let high = [_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d)].map(|x| _mm512_castps_pd(x));
            let columns = [
                _mm512_unpacklo_pd(low[0], low[1]),
                _mm512_unpackhi_pd(low[0], low[1]),
                _mm512_unpacklo_pd(high[0], high[1]),
                _mm512_unpackhi_pd(high[0], high[1]),
            ];
            for (c, column) in columns.into_iter().enumerate() {
                _mm512_storeu_ps(out.add((left + c) * ld), _mm512_castpd_ps(column));
            }
        }
    }
}

/// A square transposed: pairs of rows, pairs of pairs, then quarters of vectors.
#[target_feature(enable = "avx512f")]
fn turned(rows: [__m512; LANES]) -> [__m512; LANES] {
    let mut pairs = rows;
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    let mut fours = rows;
    for i in (0..LANES).step_by(4) {
        for j in 0..2 {
            let [a, b] = [pairs[i + j], pairs[i + j + 2]].map(|x| _mm512_castps_pd(x));
            fours[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            fours[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    // Quarter q of vector j of the fours from row 4i on holds column 4q + j.
    let mut columns = rows;
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let even = [_mm512_shuffle_f32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_f32x4::<0b10_00_10_00>(c, d)];
        let odd = [_mm512_shuffle_f32x4::<0b11_01_11_01>(a, b), _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d)];
        columns[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even[0], even[1]);
        columns[4 + j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd[0], odd[1]);
        columns[8 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even[0], even[1]);
        columns[12 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd[0], odd[1]);
    }
    columns
}

/// 32 columns, or the first 16 of them.
///
/// # Safety
/// `from` leads to so many readable floats, on a CPU with AVX-512F.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_columns<const WIDTH: usize>(from: *const f32) -> [__m512; 2] {
    // SAFETY: as the caller vouches.
    unsafe { if WIDTH == PANEL { load(from) } else { [_mm512_loadu_ps(from), _mm512_setzero_ps()] } }
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

/// Calls a function with one more argument: what loads a row of a panel of elements that are stored so.
macro_rules! by_stored {
    ($stored:expr, $run:ident $(::<$($count:ident),*>)? ($($arg:expr),*)) => {
        match $stored {
            Stored::F32 => $run::<$($($count,)*)? _>($($arg,)* |from| load(from.cast())),
            Stored::F16 => $run::<$($($count,)*)? _>($($arg,)* |from| {
                let half = |at: usize| _mm512_cvtph_ps(_mm256_loadu_si256(from.add(at).cast()));
                [half(0), half(2 * LANES)]
            }),
            Stored::BF16 => $run::<$($($count,)*)? _>($($arg,)* |from| {
                let half = |at: usize| {
                    let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.add(at).cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
                };
                [half(0), half(2 * LANES)]
            }),
            Stored::I8 => $run::<$($($count,)*)? _>($($arg,)* |from| {
                let half = |at: usize| {
                    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.add(at).cast())))
                };
                [half(0), half(LANES)]
            }),
            Stored::U8 => $run::<$($($count,)*)? _>($($arg,)* |from| {
                let half = |at: usize| {
                    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.add(at).cast())))
                };
                [half(0), half(LANES)]
            }),
            Stored::U4 => $run::<$($($count,)*)? _>($($arg,)* |from| {
                let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
                let low = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
                [_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(bytes))]
            }),
        }
    };
}

/// See [`super::WalkStoredFn`].
///
/// # Safety
/// As [`super::WalkStoredFn`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn walk_stored<const ROWS: usize, const PANELS: usize>(
    w: &WalkStored<'_>,
    tile: *mut f32,
    resume: bool,
) {
    // SAFETY: as the caller vouches.
    unsafe { by_stored!(w.stored, walk_rows::<ROWS, PANELS>(w, tile, resume)) }
}

/// The walk, in which `load_row` loads a row of a panel.
///
/// # Safety
/// As [`walk_stored`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn walk_rows<const ROWS: usize, const PANELS: usize, F: Fn(*const u8) -> [__m512; 2]>(
    w: &WalkStored<'_>,
    tile: *mut f32,
    resume: bool,
    load_row: F,
) {
    let each = w.stored.bytes()[1];
    let mut sums = [[[_mm512_setzero_ps(); 2]; ROWS]; PANELS];
    let mut scaled = [[[_mm512_setzero_ps(); 2]; 2]; PANELS];
    // SAFETY: the caller vouches for the elements of A and B that `w` names and for PANELS tiles of ROWS rows; rows of
    // zeros and scales are two vectors each; a prefetch may name any address.
    unsafe {
        if resume {
            for (i, row) in sums.as_flattened_mut().iter_mut().enumerate() {
                *row = load(tile.add(i * PANEL));
            }
        }
        for (vectors, rows) in scaled.iter_mut().zip(w.scaled) {
            *vectors = rows.each_ref().map(|row| load(row.as_ptr()));
        }
        let is_scaled = !w.scaled.is_empty();
        let (mut a, mut b) = (w.a, w.data);
        for _ in 0..w.depth {
            let mut x = [_mm512_setzero_ps(); ROWS];
            for (r, x) in x.iter_mut().enumerate() {
                *x = _mm512_set1_ps(*a.wrapping_offset(r as isize * w.a_row));
            }
            for (p, (sums, [zero, scale])) in sums.iter_mut().zip(scaled).enumerate() {
                let from = b.wrapping_add(p * w.panel);
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(EXPAND_AHEAD).cast());
                let mut values = load_row(from);
                if is_scaled {
                    for half in 0..2 {
                        values[half] = _mm512_mul_ps(_mm512_sub_ps(values[half], zero[half]), scale[half]);
                    }
                }
                for (sum, x) in sums.iter_mut().zip(x) {
                    sum[0] = _mm512_fmadd_ps(x, values[0], sum[0]);
                    sum[1] = _mm512_fmadd_ps(x, values[1], sum[1]);
                }
            }
            a = a.wrapping_offset(w.a_col);
            b = b.wrapping_add(each);
        }
        for (i, row) in sums.as_flattened().iter().enumerate() {
            store(tile.add(i * PANEL), row);
        }
    }
}

/// See [`ExpandFn`](super::stored::ExpandFn).
///
/// # Safety
/// As [`ExpandFn`](super::stored::ExpandFn), on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn expand(rows: &Rows<'_>, to: *mut f32) {
    // SAFETY: as the caller vouches.
    unsafe { by_stored!(rows.stored, expand_rows(rows, to)) }
}

/// Rows of a panel, each of which `row` loads.
///
/// # Safety
/// As [`expand`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn expand_rows<F: Fn(*const u8) -> [__m512; 2]>(rows: &Rows<'_>, to: *mut f32, row: F) {
    let each = rows.stored.bytes()[1];
    // SAFETY: as the caller vouches; a row of zeros and one of scales are two vectors each; a prefetch may name any
    // address.
    unsafe {
        let scaled = rows.scaled.map(|[zero, scale]| [load(zero.as_ptr()), load(scale.as_ptr())]);
        for k in 0..rows.depth {
            let from = rows.data.add(k * each);
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(EXPAND_AHEAD).cast());
            let mut values = row(from);
            if let Some([zero, scale]) = scaled {
                for half in 0..2 {
                    values[half] = _mm512_mul_ps(_mm512_sub_ps(values[half], zero[half]), scale[half]);
                }
            }
            store(to.add(k * PANEL), &values);
        }
    }
}
