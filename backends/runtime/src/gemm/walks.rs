//! Walks: the few rows of a decoding step meet all of B, which streams by once.
//!
//! A is read in place, or gathered before where its rows do not lie evenly; B need not be packed where its rows are
//! contiguous.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::pack::Matrix;
use super::product::{Left, Pieces, Product, grain};
use super::scratch::{self, Scratch};
use super::stored::Panels;
use super::{DEPTH, PANEL, Walk, WalkKernel, WalkStoredFn};

/// Floats ahead of the multiplication for which a walk asks, in the direction in which memory is read.
const AHEAD: usize = 8 * PANEL;

/// Rows of B that a walk in place reads side by side: few enough for the streams that a CPU prefetches, enough
/// to make up for the tiles' coming and going.
const ROWS_ALONG: usize = 8;

/// Rows of panels that are expanded at a time: what they become stays in the first-level cache.
const ROWS_EXPANDED: usize = 32;

/// Panels that a walk takes at once, at most.
const MOST_AT_ONCE: usize = 4;

/// Room for the tiles of a walk, in rows: 16 KiB, half of a first-level cache.
pub(super) const WALK_TILES: usize = 128;

/// Panels of B as a walk reads them: row k of panel p is at `data + k*row + p*panel`.
struct Walkable {
    data: *const f32,
    row: isize,
    panel: isize,
}

impl Product<'_> {
    /// Walks along groups of panels.
    pub(super) fn walks(&self, threads: usize) -> Pieces {
        let kernel = &self.kernels.walks[self.m - 1];
        let count = self.panels().div_ceil(kernel.panels);
        let cost = self.m * self.k * PANEL * kernel.panels;
        // Few wide pieces: the wider, the longer the runs in which B is read. As many for each thread.
        let pieces = if count < 8 * threads { 1 } else { 2 };
        Pieces { count, grain: count.div_ceil(pieces * threads).max(grain(cost)), grid: None }
    }

    /// All rows along the given groups of panels.
    pub(super) fn walk(&self, groups: Range<usize>) {
        let kernel = &self.kernels.walks[self.m - 1];
        let mut panels = groups.start * kernel.panels..self.panels().min(groups.end * kernel.panels);
        let most = WALK_TILES / self.m / kernel.panels * kernel.panels;
        scratch::with(|scratch| {
            let a = self.rows_to_walk(scratch);
            while !panels.is_empty() {
                // A stretch of panels of one kind, as wide as its tiles have room.
                let kind = if panels.start < self.in_place { self.in_place } else { panels.end };
                let end = panels.end.min(kind).min(panels.start + most);
                self.one_walk(kernel, a, panels.start..end, scratch);
                panels.start = end;
            }
        });
    }

    /// The rows where they lie evenly: gathered, if they do not.
    fn rows_to_walk(&self, scratch: Scratch) -> Matrix {
        if let Some(halves) = self.halves {
            // SAFETY: the caller of `multiply` vouches for A, and there is room for as many rows as are walked.
            unsafe { halves.copy(self.kernels, self.m, self.k, scratch.a, self.k) };
            return Matrix { data: scratch.a, row: self.k as isize, col: 1 };
        }
        let window = match self.a {
            Left::Matrix(a) => return a,
            Left::Window(window) => window,
        };
        let step = window.column_step();
        if self.m == 1 {
            return Matrix { data: window.row(0), row: 0, col: step };
        }
        for r in 0..self.m {
            let from = Matrix { data: window.row(r), row: 0, col: step };
            for k in 0..self.k {
                // SAFETY: the caller of `multiply` vouches for A, and there is room for as many rows as are walked.
                unsafe { *scratch.a.add(r * self.k + k) = *from.at(0, k) };
            }
        }
        Matrix { data: scratch.a, row: self.k as isize, col: 1 }
    }

    /// The given panels, all in place or all packed, by one walk down k.
    fn one_walk(&self, kernel: &WalkKernel, a: Matrix, panels: Range<usize>, scratch: Scratch) {
        let mut tiles = [const { MaybeUninit::<f32>::uninit() }; WALK_TILES * PANEL];
        let tiles = tiles.as_mut_ptr().cast::<f32>();
        let in_place = panels.start < self.in_place;
        if let (Some(narrow), Some(walks)) = (&self.narrow, kernel.stored) {
            self.stored_walk((narrow, walks, kernel.panels), a, panels.clone(), tiles);
            return self.deliver_walked(tiles, panels, scratch);
        }
        // Panels in place lie side by side: by a few rows of B at a time, memory is read along the rows. A
        // packed panel is contiguous: it is read to its end. What must be packed is, a stretch at a time.
        let step = match (in_place, self.packed) {
            (true, _) => ROWS_ALONG,
            (false, Some(_)) => self.k.max(1),
            (false, None) if self.narrow.is_some() => ROWS_EXPANDED,
            (false, None) => DEPTH,
        };
        for start in (0..self.k.max(1)).step_by(step) {
            let depth = step.min(self.k - start);
            let mut p = 0;
            while p < panels.len() {
                let many = p + kernel.panels <= panels.len();
                let (walk, count) = if many { (kernel.many, kernel.panels) } else { (kernel.one, 1) };
                let b = self.walkable(panels.start + p, count, start, depth, in_place, scratch.b);
                let operands = Walk {
                    depth,
                    a: a.at(0, start),
                    a_row: a.row,
                    a_col: a.col,
                    b: b.data,
                    b_row: b.row,
                    b_panel: b.panel,
                    ahead: AHEAD,
                };
                // SAFETY: A has `m` rows; the panels exist, in place or packed; `tiles` has room for `m` rows
                // for each of them, which the step before, if any, has written.
                unsafe { walk(&operands, tiles.add(p * self.m * PANEL), start > 0) };
                p += count;
            }
        }
        self.deliver_walked(tiles, panels, scratch);
    }

    /// Delivers what a walk along panels has written.
    fn deliver_walked(&self, tiles: *const f32, panels: Range<usize>, scratch: Scratch) {
        for (p, panel) in panels.enumerate() {
            // SAFETY: the walk has written `m` rows for each panel, which no other walk covers.
            unsafe { self.deliver(tiles.add(p * self.m * PANEL), 0..self.m, panel, scratch) };
        }
    }

    /// A walk along panels of what is stored in fewer bits, so many at once: each is read to its end, by rows with the
    /// same zeros and scales.
    fn stored_walk(
        &self,
        (narrow, [many, one], at_once): (&Panels, [WalkStoredFn; 2], usize),
        a: Matrix,
        panels: Range<usize>,
        tiles: *mut f32,
    ) {
        let mut scaled = narrow.scaled().map(|scaled| [scaled; MOST_AT_ONCE]);
        let mut p = panels.start;
        while p < panels.end {
            let (walk, count) = if p + at_once <= panels.end { (many, at_once) } else { (one, 1) };
            let tile = tiles.wrapping_add((p - panels.start) * self.m * PANEL);
            let mut start = 0;
            loop {
                let rows = start..narrow.alike_to(start);
                let scaled = match &mut scaled {
                    Some(scaled) if start < self.k => {
                        for (i, scaled) in scaled.iter_mut().enumerate().take(count) {
                            // SAFETY: the panel has the row.
                            unsafe { narrow.scale(self.kernels, p + i, start, scaled) };
                        }
                        &scaled[..count]
                    }
                    _ => &[],
                };
                let operands = narrow.walk(a, p, rows.clone(), scaled);
                // SAFETY: A has `m` rows; the panels exist; there is room for `m` rows for each of them, which the
                // rows before, if any, have written.
                unsafe { walk(&operands, tile, start > 0) };
                start = rows.end;
                if start >= self.k {
                    break;
                }
            }
            p += count;
        }
    }

    /// A stretch of `count` panels from `p` on, for a walk.
    fn walkable(
        &self,
        p: usize,
        count: usize,
        start: usize,
        depth: usize,
        in_place: bool,
        room: *mut f32,
    ) -> Walkable {
        if in_place {
            return Walkable {
                data: self.b.at(start, p * PANEL),
                row: self.b.row,
                panel: PANEL as isize * self.b.col,
            };
        }
        let packed = (PANEL as isize, (self.k * PANEL) as isize);
        match self.packed {
            Some(b) => Walkable {
                data: b.wrapping_add((p * self.k + start) * PANEL),
                row: packed.0,
                panel: packed.1,
            },
            None => {
                for i in 0..count {
                    // SAFETY: the panels and the stretch are B's; there is room for four panels' stretches.
                    unsafe { self.panel(p + i, start, depth, room.add(i * depth * PANEL)) };
                }
                Walkable { data: room, row: packed.0, panel: (depth * PANEL) as isize }
            }
        }
    }
}
