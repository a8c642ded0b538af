//! Operands that are stored in fewer bits than products compute with: what is packed is converted on the way.
//!
//! Panels of B may hold 16-bit floats, bytes, or numbers of 4 bits, with scales and zeros that blocks of rows share:
//! a stretch of a panel becomes floats in the thread's own memory, by `(value − zero) · scale`, each step rounded. So
//! results are the bits that the same product gives of floats. The rows of A, and a B that is not in panels, may be
//! 16-bit floats.

use super::pack::Matrix;
use super::{A_STRIDE, GemmF32, Kernels, PANEL, WalkStored};

/// How elements are stored. Numbers are those that compiled code gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stored {
    /// `f32`.
    F32 = 0,
    /// IEEE 754 binary16.
    F16 = 1,
    /// The upper half of an `f32`.
    BF16 = 2,
    /// Signed bytes.
    I8 = 3,
    /// Unsigned bytes.
    U8 = 4,
    /// Numbers from 0 to 15, two to a byte: in a row of 32, those of the first half are the lower bits.
    U4 = 5,
}

impl Stored {
    /// Every one, at the place of its number.
    pub(super) const ALL: [Stored; 6] =
        [Stored::F32, Stored::F16, Stored::BF16, Stored::I8, Stored::U8, Stored::U4];

    /// The one with this number. Compiled code gives no other.
    pub(super) fn of(number: i64) -> Stored {
        let found = usize::try_from(number).ok().and_then(|number| Stored::ALL.get(number));
        *found.expect("bug: elements that are stored in no known way")
    }

    /// Bytes of an array's element, and of a row of a panel.
    pub(super) fn bytes(self) -> [usize; 2] {
        match self {
            Stored::F32 => [4, 4 * PANEL],
            Stored::F16 | Stored::BF16 => [2, 2 * PANEL],
            Stored::I8 | Stored::U8 => [1, PANEL],
            Stored::U4 => [1, PANEL / 2],
        }
    }
}

/// What becomes of stored elements of B in panels: `(value − zero) · scale`. Scales and zeros lie in panels, too, a row
/// for each `block` rows of B, `blocks` of them.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Scales {
    /// Panels of scales, or null: they are 1.
    pub scales: *const f32,
    /// Panels of zeros, or null: they are the number `zero`.
    pub zeros: *const u8,
    /// How zeros are stored: as a [`Stored`] of whole elements.
    pub zeros_type: i64,
    /// The bits of an `f32`.
    pub zero: i64,
    /// Rows of B that share a row of these.
    pub block: i64,
    /// How many rows of these there are.
    pub blocks: i64,
}

/// Rows of a panel with one row of scales and zeros.
pub(super) struct Rows<'a> {
    pub(super) stored: Stored,
    pub(super) data: *const u8,
    pub(super) depth: usize,
    /// Zeros and scales; none where elements are only converted.
    pub(super) scaled: Option<&'a Scaled>,
}

/// Zeros and scales of the columns of a panel.
pub(super) type Scaled = [[f32; PANEL]; 2];

/// Converts rows of a panel: `to[k*32 + c] = (value[k, c] − zero[c]) · scale[c]`.
///
/// # Safety
/// The CPU has the body's instructions; the rows are readable, and `to` has room for as many rows of floats.
pub(super) type ExpandFn = unsafe fn(rows: &Rows<'_>, to: *mut f32);

/// B in panels of stored elements.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    stored: Stored,
    data: *const u8,
    /// Rows of B.
    k: usize,
    scales: Option<Scales>,
}

impl Panels {
    /// The panels of `call`, if they are not of floats: of matrix number `group`, one of several `step` elements apart.
    ///
    /// # Safety
    /// The call's table of scales is readable, if it has one.
    pub(super) unsafe fn of(call: &GemmF32, group: usize, step: usize) -> Option<Panels> {
        let stored = Stored::of(call.b_type);
        if call.packed == 0 || stored == Stored::F32 {
            return None;
        }
        let [_, n, k] = call.sizes();
        let data = call.b.cast::<u8>().wrapping_add(group * step * stored.bytes()[0]);
        let scales = (!call.scales.is_null()).then(|| {
            // SAFETY: as the caller vouches.
            let mut scales = unsafe { *call.scales };
            let first = group * n.div_ceil(PANEL) * scales.blocks as usize * PANEL;
            if !scales.scales.is_null() {
                scales.scales = scales.scales.wrapping_add(first);
            }
            if !scales.zeros.is_null() {
                scales.zeros = scales.zeros.wrapping_add(first * Stored::of(scales.zeros_type).bytes()[0]);
            }
            scales
        });
        Some(Panels { stored, data, k, scales })
    }

    /// Converts a stretch of panel `p`.
    ///
    /// # Safety
    /// The panel and the stretch are B's; there is room for it at `to`; the CPU has the instructions of `kernels`.
    pub(super) unsafe fn expand(
        &self,
        kernels: &Kernels,
        p: usize,
        start: usize,
        depth: usize,
        to: *mut f32,
    ) {
        let mut scaled = self.scaled();
        let mut at = start;
        while at < start + depth {
            let end = self.alike_to(at).min(start + depth);
            if let Some(scaled) = &mut scaled {
                // SAFETY: the panel has the row.
                unsafe { self.scale(kernels, p, at, scaled) };
            }
            let (stored, (data, _)) = (self.stored, self.row(p, at));
            let rows = Rows { stored, data, depth: end - at, scaled: scaled.as_ref() };
            // SAFETY: as the caller vouches.
            unsafe { (kernels.expand)(&rows, to.add((at - start) * PANEL)) };
            at = end;
        }
    }
}

impl Panels {
    /// The rows from `at` on have one row of zeros and scales up to this one.
    pub(super) fn alike_to(&self, at: usize) -> usize {
        let block = self.scales.as_ref().map_or(self.k, |scales| scales.block as usize).max(1);
        self.k.min((at / block + 1) * block)
    }

    /// Row `at` of panel `p`, and its bytes.
    pub(super) fn row(&self, p: usize, at: usize) -> (*const u8, usize) {
        let row = self.stored.bytes()[1];
        (self.data.wrapping_add((p * self.k + at) * row), row)
    }

    /// Zeros and scales, if there are some, that all rows share which are not told apart: room for those of a row.
    pub(super) fn scaled(&self) -> Option<Scaled> {
        self.scales.as_ref().map(|scales| [[f32::from_bits(scales.zero as u32); PANEL], [1.0; PANEL]])
    }

    /// Puts the zeros and scales of row `at` of panel `p` into `to`.
    ///
    /// # Safety
    /// There is such a row; the CPU has the instructions of `kernels`.
    pub(super) unsafe fn scale(&self, kernels: &Kernels, p: usize, at: usize, to: &mut Scaled) {
        let Some(scales) = &self.scales else { return };
        let row = p * scales.blocks as usize + at / (scales.block.max(1) as usize);
        let [zeros, numbers] = to;
        // SAFETY: the row is there, as the caller vouches.
        unsafe {
            if !scales.zeros.is_null() {
                let stored = Stored::of(scales.zeros_type);
                let data = scales.zeros.add(row * stored.bytes()[1]);
                (kernels.expand)(&Rows { stored, data, depth: 1, scaled: None }, zeros.as_mut_ptr());
            }
            if !scales.scales.is_null() {
                numbers.as_mut_ptr().copy_from_nonoverlapping(scales.scales.add(row * PANEL), PANEL);
            }
        }
    }

    /// Some of the panels from row `at` on, for a walk.
    pub(super) fn walk<'a>(
        &self,
        a: Matrix,
        p: usize,
        rows: std::ops::Range<usize>,
        scaled: &'a [Scaled],
    ) -> WalkStored<'a> {
        let (data, row) = self.row(p, rows.start);
        WalkStored {
            depth: rows.len(),
            a: a.at(0, rows.start),
            a_row: a.row,
            a_col: a.col,
            stored: self.stored,
            data,
            panel: self.k * row,
            scaled,
        }
    }
}

/// Element `at` of an array of elements that are stored whole, or of a row of numbers of 4 bits.
///
/// # Safety
/// It is readable.
pub(super) unsafe fn element(stored: Stored, from: *const u8, at: usize) -> f32 {
    // SAFETY: as the caller vouches.
    unsafe {
        match stored {
            Stored::F32 => from.cast::<f32>().add(at).read_unaligned(),
            Stored::F16 => from_half(from.cast::<u16>().add(at).read_unaligned()),
            Stored::BF16 => f32::from_bits(u32::from(from.cast::<u16>().add(at).read_unaligned()) << 16),
            Stored::I8 => f32::from(from.cast::<i8>().add(at).read()),
            Stored::U8 => f32::from(from.add(at).read()),
            Stored::U4 => {
                let byte = from.add(at % (PANEL / 2)).read();
                f32::from(if at < PANEL / 2 { byte & 15 } else { byte >> 4 })
            }
        }
    }
}

/// A binary16 as a float. A NaN is quiet.
fn from_half(bits: u16) -> f32 {
    /// From the bias of one format to that of the other.
    const REBIASED: f32 = f32::from_bits((127 + 112) << 23);
    let (sign, rest) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    let magnitude = match rest {
        0x7c00 => 0x7f80_0000,
        0x7c01.. => rest << 13 | 0x7fc0_0000,
        _ => (f32::from_bits(rest << 13) * REBIASED).to_bits(),
    };
    f32::from_bits(sign | magnitude)
}

/// See [`ExpandFn`]: for any CPU.
///
/// # Safety
/// As [`ExpandFn`].
pub(super) unsafe fn expand(rows: &Rows<'_>, to: *mut f32) {
    let row = rows.stored.bytes()[1];
    for k in 0..rows.depth {
        for c in 0..PANEL {
            // SAFETY: as the caller vouches.
            unsafe {
                let mut value = element(rows.stored, rows.data.add(k * row), c);
                if let Some([zero, scale]) = rows.scaled {
                    value = (value - zero[c]) * scale[c];
                }
                *to.add(k * PANEL + c) = value;
            }
        }
    }
}

/// 16-bit floats of a strided matrix: element (i, j) is at `data + i*row + j*col` of them.
#[derive(Clone, Copy)]
pub(super) struct Halves {
    stored: Stored,
    data: *const u16,
    row: isize,
    col: isize,
}

impl Halves {
    /// A matrix, where its elements are 16-bit floats.
    pub(super) fn of(matrix: Matrix, stored: i64) -> Option<Halves> {
        let stored = Stored::of(stored);
        assert!(
            matches!(stored, Stored::F32 | Stored::F16 | Stored::BF16),
            "bug: a matrix that is not in panels is of floats"
        );
        let data = matrix.data.cast();
        (stored != Stored::F32).then_some(Halves { stored, data, row: matrix.row, col: matrix.col })
    }

    /// The part of it from an element on.
    pub(super) fn from(self, i: usize, j: usize) -> Halves {
        let data = self.data.wrapping_offset(i as isize * self.row + j as isize * self.col);
        Halves { data, ..self }
    }

    /// Writes `rows`×`cols` of it to `out[i*stride + j]`.
    ///
    /// # Safety
    /// The elements are readable, and `out` has room for `rows` rows of `stride >= cols` floats; the CPU has the
    /// instructions of `kernels`.
    pub(super) unsafe fn copy(
        self,
        kernels: &Kernels,
        rows: usize,
        cols: usize,
        out: *mut f32,
        stride: usize,
    ) {
        for i in 0..rows {
            let row = self.from(i, 0);
            let out = out.wrapping_add(i * stride);
            // SAFETY: as the caller vouches; so many elements of a row are whole rows of a panel.
            unsafe {
                let whole = if self.col == 1 { cols / PANEL } else { 0 };
                if whole > 0 {
                    let data = row.data.cast();
                    (kernels.expand)(&Rows { stored: self.stored, data, depth: whole, scaled: None }, out);
                }
                for j in whole * PANEL..cols {
                    *out.add(j) = element(self.stored, row.from(0, j).data.cast(), 0);
                }
            }
        }
    }

    /// Writes `depth` rows of up to 32 columns as one panel, the missing columns zero. Columns that lie together are
    /// converted before they are turned.
    ///
    /// # Safety
    /// As [`Halves::copy`], with room for a panel; `cols <= 32`.
    pub(super) unsafe fn pack_panel(self, kernels: &Kernels, depth: usize, cols: usize, out: *mut f32) {
        let turned = if self.row == 1 && self.col != 1 { depth / PANEL * PANEL } else { 0 };
        // SAFETY: as the caller vouches; `square` has room for 32 columns of 32 rows.
        unsafe {
            if cols < PANEL {
                out.write_bytes(0, depth * PANEL);
            }
            let mut square = [0.0; PANEL * PANEL];
            for start in (0..turned).step_by(PANEL) {
                let columns = Halves { row: self.col, col: 1, ..self.from(start, 0) };
                columns.copy(kernels, cols, PANEL, square.as_mut_ptr(), PANEL);
                (kernels.transpose)(square.as_ptr(), PANEL, cols, PANEL, out.add(start * PANEL), PANEL);
            }
            let rest = self.from(turned, 0);
            rest.copy(kernels, depth - turned, cols, out.add(turned * PANEL), PANEL);
        }
    }

    /// Writes a block of A, row r at `out[r*A_STRIDE..]`.
    ///
    /// # Safety
    /// As [`Halves::copy`], with room for rows of [`A_STRIDE`]; `depth <= A_STRIDE`.
    pub(super) unsafe fn pack_rows(self, kernels: &Kernels, rows: usize, depth: usize, out: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { self.copy(kernels, rows, depth, out, A_STRIDE) }
    }
}
