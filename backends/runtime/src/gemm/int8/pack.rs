//! Copies of the operands in the order in which the bodies read them.

use super::{Kernels, PANEL, PANEL_QUAD, QUAD, STRIP, STRIP_QUAD};
use crate::gemm::DEPTH;
use crate::gemm::window::Strip;

/// What turns a byte of one sign into one of the other: as numbers, 128 more or less.
pub(super) const FLIP: u8 = 0x80;

/// Number of bytes that a `k`×`n` matrix takes in panels.
pub fn packed_len(k: usize, n: usize) -> usize {
    n.div_ceil(PANEL) * panel_len(k)
}

/// Bytes of a panel, its sums included.
pub(super) fn panel_len(k: usize) -> usize {
    (k.div_ceil(QUAD) + 1) * PANEL_QUAD
}

/// Writes the `k`×`n` matrix of `i8` whose element (i, j) is `b[i*b_row + j*b_col]` to `out` in panels.
///
/// # Panics
/// When `b` is too short for the strides, or `out` is not [`packed_len`] long.
pub fn pack_panels(b: &[u8], k: usize, n: usize, b_row: usize, b_col: usize, out: &mut [u8]) {
    assert_eq!(out.len(), packed_len(k, n), "bug: room for the panels of a {k}x{n} matrix");
    if k == 0 || n == 0 {
        return out.fill(0);
    }
    let last = (k - 1).checked_mul(b_row).zip((n - 1).checked_mul(b_col)).and_then(|(i, j)| i.checked_add(j));
    assert!(
        last.is_some_and(|last| last < b.len()),
        "bug: {} bytes hold no {k}x{n} matrix of strides {b_row} and {b_col}",
        b.len()
    );
    for (panel, out) in out.chunks_exact_mut(panel_len(k)).enumerate() {
        let first = panel * PANEL;
        let source =
            Bytes { data: b.as_ptr().wrapping_add(first * b_col), row: b_row as isize, col: b_col as isize };
        // SAFETY: `last` bounds every element that the panel's columns name, and `out` is the panel.
        unsafe { pack_panel(source, k, PANEL.min(n - first), 0, out.as_mut_ptr()) };
    }
}

/// A strided matrix: element (i, j) is at `data + i*row + j*col`.
#[derive(Clone, Copy)]
pub(super) struct Bytes {
    pub(super) data: *const u8,
    pub(super) row: isize,
    pub(super) col: isize,
}

impl Bytes {
    pub(super) fn at(self, i: usize, j: usize) -> *const u8 {
        self.data.wrapping_offset(i as isize * self.row + j as isize * self.col)
    }
}

/// Writes `depth` rows of up to 32 columns as one panel with its sums, each byte turned by `flip`.
///
/// # Safety
/// The `depth`×`cols` elements of `source` are readable, `out` has room for a panel, and the two do not overlap;
/// `cols <= 32`.
pub(super) unsafe fn pack_panel(source: Bytes, depth: usize, cols: usize, flip: u8, out: *mut u8) {
    let quads = depth.div_ceil(QUAD);
    // SAFETY: every element is one of `source`, or one of the panel.
    unsafe {
        out.write_bytes(0, panel_len(depth));
        let mut sums = [0i32; PANEL];
        for k in 0..depth {
            let to = out.add(k / QUAD * PANEL_QUAD + k % QUAD);
            let from = source.at(k, 0);
            for (c, sum) in sums.iter_mut().enumerate().take(cols) {
                let byte = *from.wrapping_offset(c as isize * source.col) ^ flip;
                *to.add(c * QUAD) = byte;
                *sum += i32::from(byte.cast_signed());
            }
        }
        for (c, sum) in sums.into_iter().enumerate() {
            let to = out.add(quads * PANEL_QUAD + c * size_of::<i32>()).cast::<[u8; 4]>();
            to.write(sum.to_le_bytes());
        }
    }
}

/// The sums of a panel's columns, which lie behind its quads.
///
/// # Safety
/// `panel` leads to a panel with so many quads.
pub(super) unsafe fn sums(panel: *const u8, quads: usize) -> [i32; PANEL] {
    // SAFETY: as the caller vouches; an array of bytes is aligned as a byte.
    let bytes = unsafe { panel.add(quads * PANEL_QUAD).cast::<[[u8; 4]; PANEL]>().read() };
    bytes.map(i32::from_le_bytes)
}

/// Writes a strip, each byte turned by `flip`, and `fill` where it has no element. What lies behind its rows is left
/// open; the last quad is filled up with zeros.
///
/// # Safety
/// The elements whose guards hold are readable, and `out` has room for the quads of the strip.
pub(super) unsafe fn pack_strip(kernels: &Kernels, strip: &Strip<'_, u8>, fill: u8, flip: u8, out: *mut u8) {
    let quads = strip.depth.div_ceil(QUAD);
    if !strip.depth.is_multiple_of(QUAD) {
        // SAFETY: it is the last of the quads.
        unsafe { out.add((quads - 1) * STRIP_QUAD).write_bytes(0, STRIP_QUAD) };
    }
    let offsets = &strip.column.places.offsets;
    let beside = |q: usize| (1..QUAD).all(|i| offsets[QUAD * q + i] == offsets[QUAD * q] + i as i64);
    // SAFETY: as the caller vouches.
    unsafe {
        if strip.guards == 0 && strip.depth >= QUAD && beside(0) {
            let whole = strip.depth / QUAD;
            let word = u32::from_ne_bytes([flip; QUAD]);
            for q in 0..whole {
                if !beside(q) {
                    elements(strip, fill, flip, q * QUAD..(q + 1) * QUAD, out);
                    continue;
                }
                for r in 0..strip.rows {
                    let from =
                        strip.data.wrapping_offset((strip.row.offsets[r] + offsets[q * QUAD]) as isize);
                    let bytes = from.cast::<u32>().read_unaligned() ^ word;
                    out.add(q * STRIP_QUAD + r * QUAD).cast::<u32>().write_unaligned(bytes);
                }
            }
            return elements(strip, fill, flip, whole * QUAD..strip.depth, out);
        }
        // Rows that lie side by side, or every second one.
        for apart in 1..=kernels.farthest {
            if let (runs, true) = strip.runs(apart as i64) {
                let runs = runs.map(|(rows, shift)| (bits(rows.end) & !bits(rows.start), shift));
                let count = runs.iter().take_while(|(rows, _)| *rows != 0).count();
                let mut masks = [0; DEPTH];
                for (mask, &example) in masks.iter_mut().zip(&strip.column.example[..strip.column.kinds]) {
                    *mask = inside(strip, usize::from(example));
                }
                let lines = Lines { runs: &runs[..count], apart, masks: &masks };
                return (kernels.gather)(strip, &lines, fill, flip, out);
            }
        }
        elements(strip, fill, flip, 0..strip.depth, out);
    }
}

/// How the rows of a strip lie in each column.
pub(super) struct Lines<'a> {
    /// Stretches of rows, which lie `apart` bytes from each other: a bit for each row, and how far row 0 would be from the
    /// column.
    pub(super) runs: &'a [(u16, isize)],
    pub(super) apart: usize,
    /// For each kind of columns, in which rows the element is inside.
    pub(super) masks: &'a [u16; DEPTH],
}

/// See [`super::GatherFn`].
///
/// # Safety
/// As [`super::GatherFn`], with rows that lie side by side.
pub(super) unsafe fn gather(strip: &Strip<'_, u8>, lines: &Lines<'_>, fill: u8, flip: u8, out: *mut u8) {
    let mut kept = [0; DEPTH];
    for (kept, &mask) in kept.iter_mut().zip(&lines.masks[..strip.column.kinds]) {
        *kept = spread(mask);
    }
    let [fill, flip] = [fill, flip].map(|byte| u128::from_ne_bytes([byte; STRIP]));
    let column = |k: usize| {
        let kind = usize::from(strip.column.kind[k]);
        let from = strip.data.wrapping_offset(strip.column.places.offsets[k] as isize);
        let mut values = 0;
        for &(rows, shift) in lines.runs {
            let rows = rows & lines.masks[kind];
            if rows != 0 {
                let (low, len) = (rows.trailing_zeros(), STRIP as u32 - rows.leading_zeros());
                let from = from.wrapping_offset(shift + low as isize);
                // SAFETY: the first and the last of these rows are inside, and the caller vouches for what is.
                values |= unsafe { load(from, (len - low) as usize) } << (8 * low);
            }
        }
        ((values & kept[kind]) | (fill & !kept[kind])) ^ flip
    };
    for q in 0..strip.depth.div_ceil(QUAD) {
        let columns =
            std::array::from_fn(|i| if q * QUAD + i < strip.depth { column(q * QUAD + i) } else { 0 });
        // SAFETY: it is a quad of the strip.
        unsafe { interleave(columns, out.add(q * STRIP_QUAD)) };
    }
}

/// Writes these columns of a strip element by element.
///
/// # Safety
/// As [`pack_strip`].
unsafe fn elements(strip: &Strip<'_, u8>, fill: u8, flip: u8, columns: std::ops::Range<usize>, out: *mut u8) {
    for k in columns {
        let mask = inside(strip, usize::from(strip.column.example[usize::from(strip.column.kind[k])]));
        let from = strip.data.wrapping_offset(strip.column.places.offsets[k] as isize);
        for r in 0..strip.rows {
            // SAFETY: as the caller vouches.
            unsafe {
                let held = mask & 1 << r != 0;
                let byte = if held { *from.wrapping_offset(strip.row.offsets[r] as isize) } else { fill };
                *out.add(k / QUAD * STRIP_QUAD + r * QUAD + k % QUAD) = byte ^ flip;
            }
        }
    }
}

/// In which rows the element in a column like this one is inside.
fn inside(strip: &Strip<'_, u8>, like: usize) -> u16 {
    let guards = 0..strip.guards;
    let holds = |r: usize| {
        guards.clone().all(|g| {
            let at = strip.row.guards[g][r] + strip.column.places.guards[g][like];
            (0..strip.sizes[g]).contains(&at)
        })
    };
    let rows = if strip.guards == 0 { bits(strip.rows) } else { 0 };
    (0..strip.rows).fold(rows, |mask, r| mask | u16::from(holds(r)) << r)
}

/// The lowest `count` bits.
fn bits(count: usize) -> u16 {
    ((1u32 << count) - 1) as u16
}

/// A byte of ones for each bit.
fn spread(mask: u16) -> u128 {
    if mask == u16::MAX {
        return u128::MAX;
    }
    let half = |mask: u16| {
        // Bit i of the byte to byte i.
        let bytes = (u64::from(mask & 0xff) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
        // Each is one bit: adding 127 carries it to the highest, and 128 has that already.
        let ones = ((bytes + 0x7f7f_7f7f_7f7f_7f7f) | bytes) & 0x8080_8080_8080_8080;
        (ones >> 7) * 0xff
    };
    u128::from(half(mask)) | u128::from(half(mask >> 8)) << 64
}

/// 1 to 16 bytes, the first one lowest.
///
/// # Safety
/// They are readable.
unsafe fn load(from: *const u8, len: usize) -> u128 {
    // SAFETY: both ends lie within the bytes that the caller vouches for.
    unsafe {
        match len {
            16 => u128::from_le_bytes(from.cast::<[u8; 16]>().read()),
            8.. => {
                let [low, high] = [0, len - 8].map(|at| from.add(at).cast::<[u8; 8]>().read());
                let [low, high] = [low, high].map(|bytes| u128::from(u64::from_le_bytes(bytes)));
                low | high << (8 * (len - 8))
            }
            4.. => {
                let [low, high] = [0, len - 4].map(|at| from.add(at).cast::<[u8; 4]>().read());
                let [low, high] = [low, high].map(|bytes| u128::from(u32::from_le_bytes(bytes)));
                low | high << (8 * (len - 4))
            }
            _ => (0..len).fold(0, |value, at| value | u128::from(*from.add(at)) << (8 * at)),
        }
    }
}

/// Writes four columns of 16 rows as a quad: the four bytes of each row together.
///
/// # Safety
/// There is room for 64 bytes.
pub(super) unsafe fn interleave(columns: [u128; QUAD], out: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            __m128i, _mm_storeu_si128, _mm_unpackhi_epi8, _mm_unpackhi_epi16, _mm_unpacklo_epi8,
            _mm_unpacklo_epi16,
        };
        // SAFETY: 16 bytes are a vector of them; every x86-64 processor has these instructions; `out` has room for four
        // vectors.
        unsafe {
            let [a, b, c, d] = columns.map(|column| std::mem::transmute::<u128, __m128i>(column));
            let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
            let (ab_high, cd_high) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
            let quads = [
                _mm_unpacklo_epi16(ab, cd),
                _mm_unpackhi_epi16(ab, cd),
                _mm_unpacklo_epi16(ab_high, cd_high),
                _mm_unpackhi_epi16(ab_high, cd_high),
            ];
            for (i, quad) in quads.into_iter().enumerate() {
                _mm_storeu_si128(out.cast::<__m128i>().add(i), quad);
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    for (i, column) in columns.into_iter().enumerate() {
        for (r, byte) in column.to_le_bytes().into_iter().enumerate() {
            // SAFETY: as the caller vouches.
            unsafe { *out.add(r * QUAD + i) = byte };
        }
    }
}
