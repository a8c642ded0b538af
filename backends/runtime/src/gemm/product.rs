//! The driver: takes one product apart into blocks and tiles, over the threads of a pool.
//!
//! Two ways through C. **Blocks**: up to 56 rows by 8 panels; for each stretch of k the block's part of A is
//! packed on the stack and every tile is carried on from where the stretch before left it. **Walks**, for the
//! few rows of a decoding step: B streams by once, A is read in place, and B need not be packed where its rows
//! are contiguous.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::pack::{self, Matrix};
use super::{A_STRIDE, DEPTH, GemmF32, Kernels, PANEL, Walk, WalkKernel};
use crate::pool::Pool;

/// Most rows and panels of one block of C, which is what a thread claims at a time. They bound the stack:
/// 60 KiB of A, and 56 KiB of partial tiles.
pub(super) const BLOCK_ROWS: usize = 56;
const BLOCK_PANELS: usize = 8;

/// Blocks per thread that the driver aims at by making blocks smaller.
const BLOCKS_PER_THREAD: usize = 4;

/// Fused multiply-adds (or floats copied) below which a piece of work is not worth the waking of another
/// thread: some microseconds.
const WORTH_A_THREAD: usize = 1 << 18;

/// Room for the tiles of a walk, in rows: 16 KiB, half of a first-level cache.
pub(super) const WALK_TILES: usize = 128;

/// Rows of B that a walk in place reads side by side: few enough for the streams that a CPU prefetches, enough
/// to make up for the tiles' coming and going.
const ROWS_ALONG: usize = 8;

/// Floats ahead of the multiplication for which a walk asks, in the direction in which memory is read.
const AHEAD: usize = 8 * PANEL;

/// One call, as all threads see it.
struct Product<'a> {
    kernels: &'static Kernels,
    services: *const c_void,
    call: &'a GemmF32,
    m: usize,
    n: usize,
    k: usize,
    a: Matrix,
    b: Matrix,
    /// B in panel layout, from panel `in_place` on.
    packed: *const f32,
    /// How many whole panels of `b` are read where they lie.
    in_place: usize,
}

/// Panels of B as a walk reads them: row k of panel p is at `data + k*row + p*panel`.
struct Walkable {
    data: *const f32,
    row: isize,
    panel: isize,
}

// SAFETY: the threads only read through the pointers, except for `workspace`, of which each panel is written
// by one thread before any reads it; whoever calls `multiply` vouches that any thread may call the epilogue.
unsafe impl Sync for Product<'_> {}

/// Runs `call` by the given bodies; see [`super::gemm`].
///
/// # Safety
/// As [`super::gemm`], on a CPU that has the instructions of `kernels`.
pub(super) unsafe fn multiply(
    kernels: &'static Kernels,
    pool: &Pool,
    services: *const c_void,
    call: &GemmF32,
) {
    // Compiled code never passes a negative size; it would be empty.
    let [m, n, k] = [call.m, call.n, call.k].map(|size| usize::try_from(size).unwrap_or(0));
    if m == 0 || n == 0 {
        return;
    }
    let a = Matrix { data: call.a, row: call.a_row as isize, col: call.a_col as isize };
    let b = Matrix { data: call.b, row: call.b_row as isize, col: call.b_col as isize };
    let walked = m <= kernels.walks.len();
    let in_place = if call.packed == 0 && walked && b.col == 1 { n / PANEL } else { 0 };
    let packed = if call.packed == 0 { call.workspace.cast_const() } else { call.b };
    let product = Product { kernels, services, call, m, n, k, a, b, packed, in_place };
    if call.packed == 0 {
        product.pack(pool);
    }
    if walked { product.walk(pool) } else { product.block(pool) }
}

impl Product<'_> {
    fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// Packs the panels that are not read in place into the workspace.
    fn pack(&self, pool: &Pool) {
        let first = self.in_place;
        each(pool, self.panels() - first, grain(PANEL * self.k), |panels| {
            for p in first + panels.start..first + panels.end {
                let source = Matrix { data: self.b.at(0, p * PANEL), ..self.b };
                let cols = PANEL.min(self.n - p * PANEL);
                // SAFETY: `multiply`'s caller vouches for B and for a workspace of `panels` panels apart from
                // it; no two threads have the same p.
                unsafe {
                    pack::pack_panel(source, self.k, cols, self.call.workspace.add(p * self.k * PANEL))
                };
            }
        });
    }

    /// All of C by walks, split by groups of panels.
    fn walk(&self, pool: &Pool) {
        let kernel = &self.kernels.walks[self.m - 1];
        let groups = self.panels().div_ceil(kernel.panels);
        let cost = self.m * self.k * PANEL * kernel.panels;
        // Few wide pieces: the wider, the longer the runs in which B is read.
        let grain = groups.div_ceil(2 * pool.threads()).max(grain(cost));
        each(pool, groups, grain, |groups| {
            let mut panels = groups.start * kernel.panels..self.panels().min(groups.end * kernel.panels);
            let most = WALK_TILES / self.m / kernel.panels * kernel.panels;
            while !panels.is_empty() {
                // A stretch of panels of one kind, as wide as its tiles have room.
                let kind = if panels.start < self.in_place { self.in_place } else { panels.end };
                let end = panels.end.min(kind).min(panels.start + most);
                self.one_walk(kernel, panels.start..end);
                panels.start = end;
            }
        });
    }

    /// The given panels, all in place or all packed, by one walk down k.
    fn one_walk(&self, kernel: &WalkKernel, panels: Range<usize>) {
        let mut tiles = [const { MaybeUninit::<f32>::uninit() }; WALK_TILES * PANEL];
        let tiles = tiles.as_mut_ptr().cast::<f32>();
        // Panels in place lie side by side: by a few rows of B at a time, memory is read along the rows. A
        // packed panel is contiguous: it is read to its end.
        let (b, step) = if panels.start < self.in_place {
            (
                Walkable { data: self.b.at(0, panels.start * PANEL), row: self.b.row, panel: PANEL as isize },
                ROWS_ALONG,
            )
        } else {
            let panel = self.k * PANEL;
            let data = self.packed.wrapping_add(panels.start * panel);
            (Walkable { data, row: PANEL as isize, panel: panel as isize }, self.k.max(1))
        };
        for start in (0..self.k.max(1)).step_by(step) {
            let depth = step.min(self.k - start);
            let mut p = 0;
            while p < panels.len() {
                let many = p + kernel.panels <= panels.len();
                let (walk, count) = if many { (kernel.many, kernel.panels) } else { (kernel.one, 1) };
                let operands = Walk {
                    depth,
                    a: self.a.at(0, start),
                    a_row: self.a.row,
                    a_col: self.a.col,
                    b: b.data.wrapping_offset(start as isize * b.row + p as isize * b.panel),
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
        for (p, panel) in panels.enumerate() {
            // SAFETY: the walk has written `m` rows for each panel, which no other walk covers.
            unsafe { self.deliver(tiles.add(p * self.m * PANEL), 0..self.m, panel) };
        }
    }

    /// All of C by blocks.
    fn block(&self, pool: &Pool) {
        let strips = self.m.div_ceil(self.kernels.tiles.len());
        let mut tall = BLOCK_ROWS / self.kernels.tiles.len();
        let mut wide = BLOCK_PANELS;
        let mut grid = (strips.div_ceil(tall), self.panels().div_ceil(wide));
        while grid.0 * grid.1 < BLOCKS_PER_THREAD * pool.threads() && pool.threads() > 1 {
            // Narrow blocks pack A more often and low ones read B more often: keep them square.
            if wide > 1 && (tall * self.kernels.tiles.len() <= wide * PANEL || tall == 1) {
                wide = wide.div_ceil(2);
            } else if tall > 1 {
                tall = tall.div_ceil(2);
            } else {
                break;
            }
            grid = (strips.div_ceil(tall), self.panels().div_ceil(wide));
        }
        let cost = self.m.div_ceil(grid.0) * self.n.div_ceil(grid.1) * self.k;
        each(pool, grid.0 * grid.1, grain(cost), |blocks| {
            // Neighbours share their panels, which stay in the second-level cache.
            for block in blocks {
                let across = part(self.panels(), grid.1, block / grid.0);
                let down = part(strips, grid.0, block % grid.0);
                self.one_block(strips, down, across);
            }
        });
    }

    /// The block of C where the strips `down` of all `strips` meet the panels `across`.
    fn one_block(&self, strips: usize, down: Range<usize>, across: Range<usize>) {
        let mut a = [const { MaybeUninit::<f32>::uninit() }; BLOCK_ROWS * A_STRIDE];
        let mut tiles = [const { MaybeUninit::<f32>::uninit() }; BLOCK_ROWS * BLOCK_PANELS * PANEL];
        let (a, tiles) = (a.as_mut_ptr().cast::<f32>(), tiles.as_mut_ptr().cast::<f32>());
        let top = part(self.m, strips, down.start).start;
        let rows = part(self.m, strips, down.end - 1).end - top;
        let stretches = self.k.div_ceil(DEPTH).max(1);
        for stretch in 0..stretches {
            let start = stretch * DEPTH;
            let depth = DEPTH.min(self.k - start);
            let source = Matrix { data: self.a.at(top, start), ..self.a };
            // SAFETY: the rows and columns are A's; a block has at most BLOCK_ROWS rows.
            unsafe { pack::pack_rows(source, rows, depth, a) };
            for p in across.clone() {
                let b = self.packed.wrapping_add((p * self.k + start) * PANEL);
                for strip in down.clone() {
                    let strip = part(self.m, strips, strip);
                    let row = strip.start - top;
                    // One stretch leaves nothing to carry on: the same tile, warm in cache, serves all.
                    let place = if stretches == 1 { 0 } else { ((p - across.start) * rows + row) * PANEL };
                    let kernel = self.kernels.tiles[strip.len() - 1];
                    // SAFETY: the strip lies in the packed rows, the panel's stretch in B's panels, and the
                    // tile in `tiles`, where the stretch before, if any, has written it.
                    unsafe {
                        kernel(depth, a.add(row * A_STRIDE), b, tiles.add(place), stretch > 0);
                        if stretch + 1 == stretches {
                            self.deliver(tiles.add(place), strip, p);
                        }
                    }
                }
            }
        }
    }

    /// Hands the finished tile for the given rows and panel to the epilogue.
    ///
    /// # Safety
    /// `tile` holds the sums, a row every 32 floats; the caller delivers this part of C only once.
    unsafe fn deliver(&self, tile: *const f32, rows: Range<usize>, panel: usize) {
        let cols = PANEL.min(self.n - panel * PANEL);
        let [row, rows, col, cols] = [rows.start, rows.len(), panel * PANEL, cols].map(|size| size as i64);
        // SAFETY: `multiply`'s caller vouches for the epilogue with this frame and a tile of C.
        unsafe {
            (self.call.epilogue)(self.services, self.call.frame, tile, PANEL as i64, row, rows, col, cols);
        }
    }
}

/// Runs `body` over ranges of at least `grain` that cover `0..count`.
fn each(pool: &Pool, count: usize, grain: usize, body: impl Fn(Range<usize>) + Sync) {
    pool.run(count as i64, grain as i64, &|begin, end| body(begin as usize..end as usize));
}

/// How many pieces of `cost` multiply-adds are worth a thread.
fn grain(cost: usize) -> usize {
    WORTH_A_THREAD.div_ceil(cost.max(1))
}

/// Part `i` of `0..total` cut into `parts` nearly equal ranges.
fn part(total: usize, parts: usize, i: usize) -> Range<usize> {
    let (size, longer) = (total / parts, total % parts);
    let start = |i: usize| i * size + i.min(longer);
    start(i)..start(i + 1)
}
