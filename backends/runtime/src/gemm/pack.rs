//! Copies of the operands in the order in which the kernels read them.
//!
//! B goes to **panels** of 32 columns: `packed[(p*k + i)*32 + c]` is `B[i, 32p + c]`, or zero where that
//! column does not exist. A block of A goes to rows of [`A_STRIDE`] floats.

use super::window::Strip;
use super::{A_STRIDE, PANEL};

/// Side of the squares by which a transposing copy walks: both its sides stay in cache.
const SQUARE: usize = 16;

/// Number of floats that a `k`×`n` matrix takes in panel layout.
pub fn packed_len(k: usize, n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL * k
}

/// Writes the `k`×`n` matrix whose element (i, j) is `b[i*b_row + j*b_col]` to `out` in panel layout.
///
/// # Panics
/// When `b` is too short for the strides, or `out` is not [`packed_len`] long.
pub fn pack_panels(b: &[f32], k: usize, n: usize, b_row: usize, b_col: usize, out: &mut [f32]) {
    assert_eq!(out.len(), packed_len(k, n), "bug: room for the panels of a {k}x{n} matrix");
    if k == 0 || n == 0 {
        return;
    }
    let last = (k - 1).checked_mul(b_row).zip((n - 1).checked_mul(b_col)).and_then(|(i, j)| i.checked_add(j));
    assert!(
        last.is_some_and(|last| last < b.len()),
        "bug: {} floats hold no {k}x{n} matrix of strides {b_row} and {b_col}",
        b.len()
    );
    for (panel, out) in out.chunks_exact_mut(PANEL * k).enumerate() {
        let first = panel * PANEL;
        let source =
            Matrix { data: b.as_ptr().wrapping_add(first * b_col), row: b_row as isize, col: b_col as isize };
        // SAFETY: `last` bounds every element that the panel's columns name, and `out` is the panel.
        unsafe { pack_panel(source, k, PANEL.min(n - first), out.as_mut_ptr()) };
    }
}

/// A strided matrix: element (i, j) is at `data + i*row + j*col`.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub(super) data: *const f32,
    pub(super) row: isize,
    pub(super) col: isize,
}

// SAFETY: threads only read through it; whoever makes one vouches for its elements.
unsafe impl Sync for Matrix {}

impl Matrix {
    pub(super) fn at(self, i: usize, j: usize) -> *const f32 {
        self.data.wrapping_offset(i as isize * self.row + j as isize * self.col)
    }
}

/// Writes `depth` rows of up to 32 columns as one panel, the missing columns zero.
///
/// # Safety
/// The `depth`×`cols` elements of `source` are readable, `out` has room for `depth`×32 floats, and the two
/// do not overlap; `cols <= 32`.
pub(super) unsafe fn pack_panel(source: Matrix, depth: usize, cols: usize, out: *mut f32) {
    // SAFETY: row k of the panel is `out[32k..32k+32]`, of which the copy fills `cols`.
    unsafe {
        copy(source, depth, cols, out, PANEL);
        if cols < PANEL {
            for k in 0..depth {
                out.add(k * PANEL + cols).write_bytes(0, PANEL - cols);
            }
        }
    }
}

/// Writes a block of A, row r at `out[r*A_STRIDE..]`.
///
/// # Safety
/// The `rows`×`depth` elements of `source` are readable, `out` has room for `rows` rows of [`A_STRIDE`],
/// and the two do not overlap; `depth <= A_STRIDE`.
pub(super) unsafe fn pack_rows(source: Matrix, rows: usize, depth: usize, out: *mut f32) {
    // SAFETY: as the caller vouches.
    unsafe { copy(source, rows, depth, out, A_STRIDE) }
}

/// Writes a strip without guards whose columns lie side by side, in runs: row r at `out[r*A_STRIDE..]`.
///
/// # Safety
/// The strip's elements are readable, and `out` has room for its rows.
pub(super) unsafe fn pack_runs(strip: &Strip<'_>, out: *mut f32) {
    let offsets = &strip.column.places.offsets[..strip.depth];
    let mut start = 0;
    while start < strip.depth {
        let beside = |k: &usize| offsets[*k] == offsets[start] + (*k - start) as i64;
        let len = (start..strip.depth).take_while(beside).count();
        for r in 0..strip.rows {
            let from = strip.data.wrapping_offset((strip.row.offsets[r] + offsets[start]) as isize);
            // SAFETY: as the caller vouches.
            unsafe { out.add(r * A_STRIDE + start).copy_from_nonoverlapping(from, len) };
        }
        start += len;
    }
}

/// See [`super::TransposeFn`].
///
/// # Safety
/// As [`super::TransposeFn`].
pub(super) unsafe fn transpose(
    from: *const f32,
    from_ld: usize,
    rows: usize,
    cols: usize,
    out: *mut f32,
    ld: usize,
) {
    let source = Matrix { data: from, row: 1, col: from_ld as isize };
    // SAFETY: the matrix with rows and columns exchanged is what the caller vouches for.
    unsafe {
        copy(source, cols, rows, out, ld);
        let full = rows.next_multiple_of(SQUARE);
        for c in 0..cols {
            out.add(c * ld + rows).write_bytes(0, full - rows);
        }
    }
}

/// Copies a `rows`×`cols` matrix to `out[i*stride + j]`.
///
/// # Safety
/// The elements of `source` are readable, `out` has room for `rows` rows of `stride >= cols` floats, and the
/// two do not overlap.
unsafe fn copy(source: Matrix, rows: usize, cols: usize, out: *mut f32, stride: usize) {
    // SAFETY: every index below stays within `rows` and `cols`.
    unsafe {
        if source.col == 1 && cols == PANEL {
            // A length known here saves a call per row.
            for i in 0..rows {
                out.add(i * stride).copy_from_nonoverlapping(source.at(i, 0), PANEL);
            }
            return;
        }
        if source.col == 1 {
            for i in 0..rows {
                out.add(i * stride).copy_from_nonoverlapping(source.at(i, 0), cols);
            }
            return;
        }
        for i in (0..rows).step_by(SQUARE) {
            for j in (0..cols).step_by(SQUARE) {
                let (height, width) = (SQUARE.min(rows - i), SQUARE.min(cols - j));
                for c in j..j + width {
                    for r in i..i + height {
                        *out.add(r * stride + c) = *source.at(r, c);
                    }
                }
            }
        }
    }
}
