//! AVX2 and FMA bodies: tiles of up to 6×32, a panel's two halves one after the other, and walks of up to
//! two rows.
//!
//! Half a tile holds a row in two of the 16 vector registers: 12 accumulators, two vectors of B, one for
//! the broadcast element of A.

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _MM_HINT_T1, _mm_loadl_epi64, _mm_loadu_si128, _mm_prefetch,
    _mm256_add_epi64, _mm256_and_si256, _mm256_andnot_si256, _mm256_castps_si256, _mm256_castsi256_ps,
    _mm256_cmpgt_epi32, _mm256_cmpgt_epi64, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32,
    _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_maskload_ps, _mm256_mul_ps, _mm256_or_ps, _mm256_permute2f128_ps, _mm256_permute4x64_epi64,
    _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_shuffle_ps, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_ps,
    _mm256_sub_ps, _mm256_unpackhi_epi32, _mm256_unpackhi_ps, _mm256_unpacklo_epi32, _mm256_unpacklo_ps,
};

use super::stored::{Rows, Stored};
use super::window::{MAX_GUARDS, Strip};
use super::{A_STRIDE, DEPTH, Kernels, Next, PANEL, TAPS, WIDE, Walk, WalkKernel};

const LANES: usize = 8;

/// How many rows of the panel ahead of the multiplication a tile asks for.
const TILE_AHEAD: usize = 8;

pub(super) static KERNELS: Kernels = Kernels {
    name: "avx2",
    tiles: &tiles!(A_STRIDE, 1, 1, false, PANEL, PANEL; 1, 2, 3, 4, 5, 6),
    across: &tiles!(1, LANES, 1, false, PANEL, PANEL; 1, 2, 3, 4, 5, 6),
    shared: &tiles!(1, LANES, TAPS, false, PANEL, PANEL; 1, 2, 3, 4, 5, 6),
    looking: &tiles!(1, LANES, 1, true, PANEL, PANEL; 1, 2, 3, 4, 5, 6),
    turned: &tiles!(1, PANEL, 1, false, PANEL, WIDE * PANEL; 1, 2, 3, 4, 5, 6),
    looking_turned: &tiles!(1, PANEL, 1, true, PANEL, WIDE * PANEL; 1, 2, 3, 4, 5, 6),
    narrow: &tiles!(1, PANEL, 1, false, PANEL / 2, WIDE * PANEL; 1, 2, 3, 4, 5, 6),
    strip: LANES,
    gather,
    transpose,
    expand,
    walks: &[
        WalkKernel { panels: 2, many: walk::<1, 2>, one: walk::<1, 1>, stored: None },
        WalkKernel { panels: 1, many: walk::<2, 1>, one: walk::<2, 1>, stored: None },
    ],
};

/// See [`super::TileFn`].
///
/// # Safety
/// As [`super::TileFn`], on a CPU with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
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
    for half in (0..WIDTH).step_by(2 * LANES) {
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        // SAFETY: the caller vouches for ROWS rows of A, `depth` rows of the panel and ROWS rows of the
        // tile, of which this is one half; a prefetch may name any address.
        unsafe {
            if resume {
                for (r, row) in sums.iter_mut().enumerate() {
                    *row = load(tile.add(r * LD + half));
                }
            }
            for k in 0..depth {
                let row = b.add(k * PANEL + half);
                _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(TILE_AHEAD * PANEL).cast());
                _mm_prefetch::<_MM_HINT_T1>(next.panel.wrapping_add(k * next.step + half * 4).cast());
                if LOOK && half == 0 {
                    let column = *next.columns.get_unchecked(k) as isize;
                    _mm_prefetch::<_MM_HINT_T1>(next.rows.wrapping_offset(column).cast());
                }
                let [b0, b1] = load(row);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*a.add(r * ROW + k / TAPS * COL + k % TAPS));
                    sum[0] = _mm256_fmadd_ps(x, b0, sum[0]);
                    sum[1] = _mm256_fmadd_ps(x, b1, sum[1]);
                }
            }
            for (r, row) in sums.iter().enumerate() {
                store(tile.add(r * LD + half), row);
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

/// See [`super::GatherFn`]. Rows that lie side by side, or with one float between each, are loaded as vectors, if they
/// are in few runs.
///
/// # Safety
/// As [`super::GatherFn`], on a CPU with AVX2.
#[target_feature(enable = "avx2,fma")]
unsafe fn gather(strip: &Strip<'_>, out: *mut f32, ld: usize) {
    let apart = if strip.rows > 1 { strip.row.offsets[1] - strip.row.offsets[0] } else { 1 };
    let (runs, all) = strip.runs(apart);
    if !all || !(1..=2).contains(&apart) {
        for k in 0..strip.depth {
            for r in 0..strip.rows {
                // SAFETY: as the caller vouches.
                unsafe { *out.add(k * ld + r) = strip.element(r, k) };
            }
        }
        return;
    }
    let mut masks = [first_lanes(strip.rows); DEPTH];
    narrow_masks(strip, &mut masks);
    let runs = &runs[..runs.iter().take_while(|(run, _)| !run.is_empty()).count()];
    let mut lanes = [([_mm256_setzero_si256(); 2], 0); 3];
    for (lanes, (run, shift)) in lanes.iter_mut().zip(runs) {
        let first = first_lanes(run.start);
        let own = _mm256_andnot_si256(first, first_lanes(run.end));
        *lanes = (if apart == 1 { [own; 2] } else { spread(own) }, *shift);
    }
    let lanes = &lanes[..runs.len()];
    for k in 0..strip.depth {
        let inside = masks[usize::from(strip.column.kind[k])];
        let from = strip.data.wrapping_offset(strip.column.places.offsets[k] as isize);
        let load = |shift: isize, mask: __m256i| {
            // SAFETY: the caller vouches for the elements whose guards hold, and the mask names no others.
            unsafe { _mm256_maskload_ps(from.wrapping_offset(shift), mask) }
        };
        let values = match lanes {
            [(_, shift)] if apart == 1 => load(*shift, inside),
            _ if apart == 1 => lanes.iter().fold(_mm256_setzero_ps(), |values, ([run, _], shift)| {
                _mm256_or_ps(values, load(*shift, _mm256_and_si256(inside, *run)))
            }),
            _ => {
                let wide = spread(inside);
                let mut halves = [_mm256_setzero_ps(); 2];
                for (run, shift) in lanes {
                    for (at, half) in halves.iter_mut().enumerate() {
                        let mask = _mm256_and_si256(wide[at], run[at]);
                        *half = _mm256_or_ps(*half, load(shift + (at * LANES) as isize, mask));
                    }
                }
                in_order(_mm256_shuffle_ps::<0b10_00_10_00>(halves[0], halves[1]))
            }
        };
        // SAFETY: the caller vouches for 8 floats of `out` for each column.
        unsafe { _mm256_storeu_ps(out.add(k * ld), values) };
    }
}

/// Takes from the mask of each kind of columns the rows of a strip whose guards do not hold.
#[target_feature(enable = "avx2,fma")]
fn narrow_masks(strip: &Strip<'_>, masks: &mut [__m256i; DEPTH]) {
    let halves = |of: &[i64]| {
        // SAFETY: 8 numbers are two vectors of them.
        unsafe {
            [_mm256_loadu_si256(of.as_ptr().cast()), _mm256_loadu_si256(of[LANES / 2..].as_ptr().cast())]
        }
    };
    let mut rows = [[_mm256_setzero_si256(); 2]; MAX_GUARDS];
    for (g, row) in rows.iter_mut().enumerate().take(strip.guards) {
        *row = halves(&strip.row.guards[g][..LANES]);
    }
    let minus = _mm256_set1_epi64x(-1);
    for (mask, &example) in masks.iter_mut().zip(&strip.column.example[..strip.column.kinds]) {
        for (g, row) in rows.iter().enumerate().take(strip.guards) {
            let (column, size) = (
                _mm256_set1_epi64x(strip.column.places.guards[g][usize::from(example)]),
                _mm256_set1_epi64x(strip.sizes[g]),
            );
            let [low, high] = row.map(|row| {
                let at = _mm256_add_epi64(row, column);
                let holds = _mm256_and_si256(_mm256_cmpgt_epi64(at, minus), _mm256_cmpgt_epi64(size, at));
                _mm256_castsi256_ps(holds)
            });
            // The low words of both halves.
            let holds = in_order(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
            *mask = _mm256_and_si256(*mask, _mm256_castps_si256(holds));
        }
    }
}

/// A mask of so many lanes.
#[target_feature(enable = "avx2,fma")]
fn first_lanes(count: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

/// Each lane of a mask at twice its place, in two vectors.
#[target_feature(enable = "avx2,fma")]
fn spread(mask: __m256i) -> [__m256i; 2] {
    let zero = _mm256_setzero_si256();
    // Within the halves of 128 bits, of which the first has every other pair of lanes.
    let mixed = _mm256_permute4x64_epi64::<0b11_01_10_00>(mask);
    let (low, high) = (_mm256_unpacklo_epi32(mixed, zero), _mm256_unpackhi_epi32(mixed, zero));
    [low, high]
}

/// What a shuffle within halves of 128 bits put into the order 0, 2, 1, 3 of pairs.
#[target_feature(enable = "avx2,fma")]
fn in_order(pairs: __m256) -> __m256 {
    _mm256_castsi256_ps(_mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(pairs)))
}

/// See [`super::TransposeFn`].
///
/// # Safety
/// As [`super::TransposeFn`], on a CPU with AVX2.
#[target_feature(enable = "avx2,fma")]
unsafe fn transpose(from: *const f32, from_ld: usize, rows: usize, cols: usize, out: *mut f32, ld: usize) {
    let (whole_rows, whole_cols) = (rows / LANES * LANES, cols / LANES * LANES);
    // SAFETY: squares lie inside of the matrix; what is left of it on the right, and at the bottom with the zeros
    // that fill rows up, is what the caller vouches for.
    unsafe {
        for r in (0..whole_rows).step_by(LANES) {
            for c in (0..whole_cols).step_by(LANES) {
                square(from.add(r * from_ld + c), from_ld, out.add(c * ld + r), ld);
            }
        }
        let right = from.wrapping_add(whole_cols);
        super::pack::transpose(
            right,
            from_ld,
            rows,
            cols - whole_cols,
            out.wrapping_add(whole_cols * ld),
            ld,
        );
        let full = rows.next_multiple_of(2 * LANES);
        for c in 0..whole_cols {
            for r in whole_rows..full {
                *out.add(c * ld + r) = if r < rows { *from.add(r * from_ld + c) } else { 0.0 };
            }
        }
    }
}

/// Transposes 8 rows of 8 floats.
///
/// # Safety
/// They are readable, and `out` has room for them, on a CPU with AVX2.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn square(from: *const f32, from_ld: usize, out: *mut f32, ld: usize) {
    // SAFETY: as the caller vouches.
    let row = |r: usize| unsafe { _mm256_loadu_ps(from.add(r * from_ld)) };
    for half in 0..2 {
        // Rows r and r + 4, of which four columns are a lane of 128 bits each.
        let joined = |r: usize| match half {
            0 => _mm256_permute2f128_ps::<0x20>(row(r), row(r + 4)),
            _ => _mm256_permute2f128_ps::<0x31>(row(r), row(r + 4)),
        };
        let [a, b, c, d] = [joined(0), joined(1), joined(2), joined(3)];
        let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (low_2, high_2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let columns = [
            _mm256_shuffle_ps::<0x44>(low, low_2),
            _mm256_shuffle_ps::<0xEE>(low, low_2),
            _mm256_shuffle_ps::<0x44>(high, high_2),
            _mm256_shuffle_ps::<0xEE>(high, high_2),
        ];
        for (i, column) in columns.into_iter().enumerate() {
            // SAFETY: as the caller vouches.
            unsafe { _mm256_storeu_ps(out.add((half * 4 + i) * ld), column) };
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

/// See [`ExpandFn`](super::stored::ExpandFn).
///
/// # Safety
/// As [`ExpandFn`](super::stored::ExpandFn), on a CPU with AVX2 and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn expand(rows: &Rows<'_>, to: *mut f32) {
    // SAFETY: as the caller vouches.
    unsafe {
        match rows.stored {
            Stored::F32 => expand_rows(rows, to, |from, at| _mm256_loadu_ps(from.cast::<f32>().add(at))),
            Stored::F16 => {
                expand_rows(rows, to, |from, at| _mm256_cvtph_ps(_mm_loadu_si128(from.add(2 * at).cast())))
            }
            Stored::BF16 => expand_rows(rows, to, |from, at| {
                let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(2 * at).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
            }),
            Stored::I8 => expand_rows(rows, to, |from, at| {
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(at).cast())))
            }),
            Stored::U8 => expand_rows(rows, to, |from, at| {
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(at).cast())))
            }),
            Stored::U4 => expand_rows(rows, to, |from, at| {
                let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(at % (PANEL / 2)).cast()));
                let number = match at < PANEL / 2 {
                    true => _mm256_and_si256(bytes, _mm256_set1_epi32(15)),
                    false => _mm256_srli_epi32::<4>(bytes),
                };
                _mm256_cvtepi32_ps(number)
            }),
        }
    }
}

/// Rows of a panel, of which `part` loads eight elements from a place on.
///
/// # Safety
/// As [`expand`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn expand_rows(rows: &Rows<'_>, to: *mut f32, part: impl Fn(*const u8, usize) -> __m256) {
    let each = rows.stored.bytes()[1];
    for at in (0..PANEL).step_by(LANES) {
        // SAFETY: as the caller vouches; rows of zeros and scales are as long as one of a panel.
        unsafe {
            let load = |from: &[f32; PANEL]| _mm256_loadu_ps(from.as_ptr().add(at));
            let scaled = rows.scaled.map(|[zero, scale]| [load(zero), load(scale)]);
            for k in 0..rows.depth {
                let mut values = part(rows.data.add(k * each), at);
                if let Some([zero, scale]) = scaled {
                    values = _mm256_mul_ps(_mm256_sub_ps(values, zero), scale);
                }
                _mm256_storeu_ps(to.add(k * PANEL + at), values);
            }
        }
    }
}
