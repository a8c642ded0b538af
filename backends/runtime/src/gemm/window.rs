//! A left operand whose elements lie at sums over several axes, some of them outside and then zero: the image of
//! a convolution, seen as a matrix.
//!
//! Rows and columns are the iterations of nested axes. The element in row (i…) and column (k…) lies at
//! `data + Σ stride·i + Σ stride·k`, if for every *guard* `0 <= offset + Σ factor·i + Σ factor·k < size`; else it
//! is 0.
//!
//! Compiled code describes it by a table of numbers: how many row axes, column axes and guards there are; extent
//! and stride of each axis, the rows' before the columns', outermost first; and for each guard its size, its
//! offset, and a factor for each axis. Positions past the end of rows never occur.

use std::ops::Range;

use super::{DEPTH, STRIP, TAPS};

/// Most axes of rows or of columns.
pub const MAX_AXES: usize = 8;

/// Most guards.
pub const MAX_GUARDS: usize = 4;

/// Positions of rows or columns: where they lie, and what each of them adds to the guards.
pub(super) struct Places<const N: usize> {
    pub(super) offsets: [i64; N],
    pub(super) guards: [[i64; N]; MAX_GUARDS],
}

/// The columns of a stretch.
pub(super) struct Columns {
    /// Where they lie; what those that are examples add to the guards.
    pub(super) places: Places<DEPTH>,
    /// How many different sums columns have for the guards.
    pub(super) kinds: usize,
    /// Which of them each column has.
    pub(super) kind: [u8; DEPTH],
    /// A column that has it.
    pub(super) example: [u8; DEPTH],
}

impl Default for Columns {
    /// No columns.
    fn default() -> Columns {
        let places = Places { offsets: [0; DEPTH], guards: [[0; DEPTH]; MAX_GUARDS] };
        Columns { places, kinds: 0, kind: [0; DEPTH], example: [0; DEPTH] }
    }
}

const _: () = assert!(DEPTH <= 1 << 8, "columns of a stretch are counted in bytes");

/// A window, as its table says.
pub(super) struct Window<'a, T = f32> {
    data: *const T,
    rows: &'a [[i64; 2]],
    columns: &'a [[i64; 2]],
    guards: &'a [i64],
    count: usize,
    /// Columns that are packed as one run of elements, of which each of them skips one more.
    taps: usize,
    /// The rows, where they are not all in their order.
    order: Option<&'a [i64]>,
}

/// What a body packs: so many rows, and the columns of a stretch.
pub(super) struct Strip<'a, T = f32> {
    pub(super) data: *const T,
    pub(super) rows: usize,
    pub(super) row: Places<STRIP>,
    pub(super) depth: usize,
    pub(super) column: &'a Columns,
    pub(super) guards: usize,
    pub(super) sizes: [i64; MAX_GUARDS],
}

impl Strip<'_> {
    /// The element in row `r` and column `k`.
    ///
    /// # Safety
    /// It is readable if its guards hold.
    pub(super) unsafe fn element(&self, r: usize, k: usize) -> f32 {
        let like = usize::from(self.column.example[usize::from(self.column.kind[k])]);
        let inside = (0..self.guards).all(|g| {
            let at = self.row.guards[g][r] + self.column.places.guards[g][like];
            (0..self.sizes[g]).contains(&at)
        });
        let from = self.data.wrapping_offset((self.row.offsets[r] + self.column.places.offsets[k]) as isize);
        // SAFETY: as the caller vouches.
        if inside { unsafe { *from } } else { 0.0 }
    }
}

impl<T> Strip<'_, T> {
    /// Stretches of rows that lie `apart` elements from each other: the rows of each, and how far row 0 would be from the
    /// column. And whether these are all rows.
    pub(super) fn runs(&self, apart: i64) -> ([(Range<usize>, isize); 3], bool) {
        let mut runs = [const { (0..0, 0) }; 3];
        let mut start = 0;
        for run in &mut runs {
            if start == self.rows {
                break;
            }
            let shift = self.row.offsets[start] - apart * start as i64;
            let beside = |&r: &usize| self.row.offsets[r] == shift + apart * r as i64;
            let end = start + (start..self.rows).take_while(beside).count();
            *run = (start..end, shift as isize);
            start = end;
        }
        (runs, start == self.rows)
    }
}

impl<T> Clone for Window<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Window<'_, T> {}

impl<'a, T> Window<'a, T> {
    /// The window that a table describes.
    ///
    /// # Safety
    /// The table is one, and lives as long as the result.
    ///
    /// # Panics
    /// With more axes or guards than there may be: the code generator makes no such tables.
    pub(super) unsafe fn of(data: *const T, table: *const i64) -> Self {
        // SAFETY: as the caller vouches, the table holds what its first three numbers say.
        unsafe {
            let [rows, columns, count] = [0, 1, 2].map(|at| *table.add(at) as usize);
            assert!(
                rows <= MAX_AXES && columns <= MAX_AXES && count <= MAX_GUARDS,
                "bug: a window of too many parts"
            );
            let axes = table.add(3).cast::<[i64; 2]>();
            Window {
                data,
                rows: std::slice::from_raw_parts(axes, rows),
                columns: std::slice::from_raw_parts(axes.add(rows), columns),
                guards: std::slice::from_raw_parts(
                    axes.add(rows + columns).cast(),
                    count * (2 + rows + columns),
                ),
                count,
                taps: 1,
                order: None,
            }
        }
    }

    /// A strided matrix as a window.
    pub(super) fn matrix(data: *const T, row: &'a [[i64; 2]; 1], column: &'a [[i64; 2]; 1]) -> Self {
        Window { data, rows: row, columns: column, guards: &[], count: 0, taps: 1, order: None }
    }

    /// The window with these of its rows, in this order. It has no guards.
    pub(super) fn of_rows(self, order: &'a [i64]) -> Self {
        debug_assert!(self.count == 0, "bug: rows in an order of their own have no guards");
        Window { order: Some(order), ..self }
    }

    /// The window with the columns of each of a kernel's rows packed together, for strips of so many rows, if that can
    /// be: strips that stay on one line of an image, of which the next row and the next of [`TAPS`] columns are the
    /// next element.
    pub(super) fn with_taps(self, rows: usize) -> Option<Self> {
        let (&[width, row], &[taps, column]) = (self.rows.last()?, self.columns.last()?);
        let alike = (0..self.count).all(|g| {
            let factors = &self.guard(g)[2..];
            factors[self.rows.len() - 1] == factors[factors.len() - 1]
        });
        let fits = taps == TAPS as i64 && row == 1 && column == 1 && width % rows as i64 == 0;
        (fits && alike).then_some(Window { taps: TAPS, ..self })
    }

    /// Are its rows in an order of their own, and its columns evenly apart?
    pub(super) fn is_of_rows(&self) -> bool {
        self.order.is_some() && self.columns.len() == 1
    }

    /// Elements from a column to the next.
    pub(super) fn column_step(&self) -> isize {
        self.columns.last().map_or(0, |[_, stride]| *stride as isize)
    }

    /// Columns that are packed together.
    pub(super) fn taps(&self) -> usize {
        self.taps
    }

    /// Do the elements of a row lie side by side, in runs of some length, without guards?
    pub(super) fn has_runs(&self) -> bool {
        self.count == 0 && self.taps == 1 && self.columns.last().is_some_and(|[_, stride]| *stride == 1)
    }

    /// Is each element in one column alone, and are those of a row not side by side?
    pub(super) fn has_lone_columns(&self) -> bool {
        self.count == 0 && self.taps == 1 && !self.has_runs()
    }

    /// Where the columns `from..from + count` lie; of those that are packed together, the first.
    pub(super) fn columns(&self, from: usize, count: usize) -> Columns {
        let axes = if self.taps > 1 { &self.columns[..self.columns.len() - 1] } else { self.columns };
        let (from, count) = (from / self.taps, count / self.taps);
        let first = 2 + self.rows.len();
        let (mut kinds, mut kind, mut example) = (0, [0; DEPTH], [0; DEPTH]);
        if let Some(period) = self.period(axes).filter(|period| (1..count).contains(period)) {
            let plain = Window { count: 0, ..*self };
            let mut places: Places<DEPTH> = plain.places(axes, first, false, from, count);
            places.guards = self.places::<DEPTH>(axes, first, false, from, period).guards;
            example.iter_mut().enumerate().take(period).for_each(|(k, example)| *example = k as u8);
            for (kind, example) in kind[..count].iter_mut().zip((0..period as u8).cycle()) {
                *kind = example;
            }
            return Columns { kinds: period, kind, example, places };
        }
        let places: Places<DEPTH> = self.places(axes, first, false, from, count);
        let sums = |k: usize| places.guards[..self.count].iter().map(move |guard| guard[k]);
        let mut next = 0;
        for (k, kind) in kind.iter_mut().enumerate().take(count) {
            // Kinds follow each other in the same order again and again.
            let is = |at: &usize| sums(usize::from(example[*at])).eq(sums(k));
            let known = (next..kinds).chain(0..next).find(is);
            let at = known.unwrap_or(kinds);
            if known.is_none() {
                example[kinds] = k as u8;
                kinds += 1;
            }
            *kind = at as u8;
            next = (at + 1) % kinds;
        }
        Columns { kinds, kind, example, places }
    }

    /// After how many columns the guards see the same again, if no guard sees the axes around these.
    fn period(&self, axes: &[[i64; 2]]) -> Option<usize> {
        let first = 2 + self.rows.len();
        let unseen = |axis: usize| (0..self.count).all(|g| self.guard(g)[first + axis] == 0);
        let outer = (0..axes.len()).take_while(|&axis| unseen(axis)).count();
        let seen = (outer..axes.len()).all(|axis| !unseen(axis));
        seen.then(|| axes[outer..].iter().map(|[extent, _]| *extent as usize).product())
    }

    /// Rows `from..from + rows`, with the columns of a stretch. Where columns are packed together, the elements behind
    /// the last row are rows, too.
    pub(super) fn strip<'c>(
        &self,
        from: usize,
        rows: usize,
        depth: usize,
        column: &'c Columns,
    ) -> Strip<'c, T> {
        let mut row: Places<STRIP> = self.row_places(from, rows);
        for r in rows..rows + self.taps - 1 {
            row.offsets[r] = row.offsets[r - 1] + 1;
            for g in 0..self.count {
                row.guards[g][r] = row.guards[g][r - 1] + self.guard(g)[1 + self.rows.len()];
            }
        }
        let (rows, depth) = (rows + self.taps - 1, depth / self.taps);
        let mut sizes = [0; MAX_GUARDS];
        for (g, size) in sizes.iter_mut().enumerate().take(self.count) {
            *size = self.guard(g)[0];
        }
        Strip { data: self.data, rows, row, depth, column, guards: self.count, sizes }
    }

    /// Where row `at` begins.
    pub(super) fn row(&self, at: usize) -> *const T {
        let row: Places<1> = self.row_places(at, 1);
        self.data.wrapping_offset(row.offsets[0] as isize)
    }

    /// Where the rows `from..from + count` lie.
    fn row_places<const N: usize>(&self, from: usize, count: usize) -> Places<N> {
        let Some(order) = self.order else { return self.places(self.rows, 2, true, from, count) };
        let mut places = Places { offsets: [0; N], guards: [[0; N]; MAX_GUARDS] };
        for (offset, &row) in places.offsets.iter_mut().zip(&order[from..from + count]) {
            let mut rest = row;
            for [extent, stride] in self.rows.iter().rev() {
                *offset += rest % extent.max(&1) * stride;
                rest /= extent.max(&1);
            }
        }
        places
    }

    fn guard(&self, at: usize) -> &[i64] {
        let len = 2 + self.rows.len() + self.columns.len();
        &self.guards[at * len..(at + 1) * len]
    }

    /// Counts through the axes, which stand at `first` in the guards; their offsets go with the rows.
    fn places<const N: usize>(
        &self,
        axes: &[[i64; 2]],
        first: usize,
        offset: bool,
        from: usize,
        count: usize,
    ) -> Places<N> {
        let mut places = Places { offsets: [0; N], guards: [[0; N]; MAX_GUARDS] };
        let mut at = [0i64; MAX_AXES];
        let mut rest = from as i64;
        for (digit, [extent, _]) in at.iter_mut().zip(axes).rev() {
            // Only the outermost axis may be passed, and rows never are.
            (*digit, rest) = (rest % extent.max(&1), rest / extent.max(&1));
        }
        // Where the digits stand, and what a step of each, or its return to zero, adds.
        let mut place: i64 = axes.iter().zip(&at).map(|([_, stride], at)| stride * at).sum();
        let mut sums = [0; MAX_GUARDS];
        for (g, sum) in sums.iter_mut().enumerate().take(self.count) {
            let guard = self.guard(g);
            *sum = guard[first..].iter().zip(&at[..axes.len()]).map(|(f, at)| f * at).sum();
            *sum += if offset { guard[1] } else { 0 };
        }
        for i in 0..count {
            places.offsets[i] = place;
            for (g, sum) in sums.iter().enumerate().take(self.count) {
                places.guards[g][i] = *sum;
            }
            for (d, [extent, stride]) in axes.iter().enumerate().rev() {
                at[d] += 1;
                let back = if at[d] < *extent { 0 } else { *extent };
                place += (1 - back) * stride;
                for (g, sum) in sums.iter_mut().enumerate().take(self.count) {
                    *sum += (1 - back) * self.guard(g)[first + d];
                }
                if back == 0 {
                    break;
                }
                at[d] = 0;
            }
        }
        places
    }
}
