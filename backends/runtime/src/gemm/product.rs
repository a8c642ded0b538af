//! The driver: takes one product apart into blocks and tiles, over the threads of a pool.
//!
//! Two ways through C. **Blocks**: some strips of rows by some panels; for each stretch of k the block's part of A is
//! packed and every tile is carried on from where the stretch before left it. **Walks** (`walks`), for the few rows of a
//! decoding step: B streams by once. What must be packed is packed a stretch at a time, into the thread's own memory.

use std::ffi::c_void;
use std::ops::Range;

use super::pack::{self, Matrix};
use super::scratch::{self, Scratch};
use super::stored::{Halves, Panels, Stored};
use super::turned::Turned;
use super::window::{Columns, Window};
use super::{A_STRIDE, DEPTH, GemmF32, Kernels, Next, PANEL, TAPS, TileFn, groups};
use crate::pool::Pool;

/// Most rows of a block of C, whatever the height of strips.
pub(super) const BLOCK_ROWS: usize = 224;

/// Most rows times panels of a block whose tiles are carried on.
const BLOCK_TILES: usize = scratch::TILES_LEN / PANEL;

/// Strips whose tiles are delivered together where each is finished at once: 8 KiB of them.
const WARM_STRIPS: usize = 4;

/// Most panels of a block.
const BLOCK_PANELS: usize = 64;

/// Blocks per thread that the driver aims at by making blocks smaller.
const BLOCKS_PER_THREAD: usize = 2;

/// Fused multiply-adds (or floats copied) below which a piece of work is not worth the waking of another
/// thread: some microseconds.
const WORTH_A_THREAD: usize = 1 << 16;

/// A as it lies in memory.
pub(super) enum Left<'a> {
    Matrix(Matrix),
    Window(Window<'a>),
}

/// One product, as all threads see it.
pub(super) struct Product<'a> {
    pub(super) kernels: &'static Kernels,
    services: *const c_void,
    call: &'a GemmF32,
    /// The row of the call that is the product's first.
    first: usize,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: Left<'a>,
    pub(super) b: Matrix,
    /// B in panel layout, if it is, and of floats.
    pub(super) packed: Option<*const f32>,
    /// B in panel layout, if it is, of what is stored in fewer bits.
    pub(super) narrow: Option<Panels>,
    /// The rows of A, where they are 16-bit floats.
    pub(super) halves: Option<Halves>,
    /// How many whole panels of `b` are walked where they lie.
    pub(super) in_place: usize,
}

/// Strips of A as the tiles read them.
struct Strips {
    data: *const f32,
    /// The tiles that read them.
    kernels: &'static [TileFn],
    /// Floats from a strip to the next one, beside those for its rows.
    strip: usize,
    /// Floats for a row.
    row: usize,
}

// SAFETY: the threads only read through the pointers; whoever calls `multiply` vouches that any thread may call
// the epilogue.
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
    let [m, n, _] = call.sizes();
    if m == 0 || n == 0 {
        return;
    }
    if !call.groups.is_null() {
        // SAFETY: as the caller vouches.
        return unsafe { groups::multiply(kernels, pool, services, call) };
    }
    let (row, column) = call.axes();
    let a = if !call.window.is_null() {
        // SAFETY: the caller vouches for the table, which outlives the call.
        Left::Window(unsafe { Window::of(call.a, call.window) })
    } else if call.a_col == 1 || m <= kernels.walks.len() || call.a_type != 0 {
        Left::Matrix(Matrix { data: call.a, row: call.a_row as isize, col: call.a_col as isize })
    } else {
        Left::Window(Window::matrix(call.a, &row, &column))
    };
    if let Left::Window(window) = a
        && let Some(turned) = Turned::new(kernels, services, call, window)
    {
        let blocks = turned.blocks(pool.available());
        return each(pool, blocks.count, blocks.grain, |range| turned.run(&blocks, range));
    }
    let product = Product::new(kernels, services, call, a.with_taps(kernels, m), 0..m, (0, 0));
    let pieces = product.pieces(pool.available());
    each(pool, pieces.count, pieces.grain, |range| product.run(&pieces, range));
}

impl Left<'_> {
    /// With columns packed together where all strips are of one height, and there is room for the elements behind their
    /// rows.
    fn with_taps(self, kernels: &Kernels, m: usize) -> Self {
        let height = kernels.tiles.len();
        let strips = m.div_ceil(height);
        match self {
            Left::Window(window) if m.is_multiple_of(strips) && height + TAPS <= kernels.strip + 1 => {
                Left::Window(window.with_taps(m / strips).unwrap_or(window))
            }
            a => a,
        }
    }
}

/// What a product falls apart into: walks along some panels, or blocks.
pub(super) struct Pieces {
    /// Walks of all rows along panels, or blocks of C.
    pub(super) count: usize,
    /// So many of them are worth a thread.
    pub(super) grain: usize,
    /// Strips in the height and panels in the width are cut into so many blocks; `None` for walks.
    pub(super) grid: Option<(usize, usize)>,
}

impl<'a> Product<'a> {
    /// The rows `rows` of a call, as `a` has them, by the matrix with this number among those that are so many elements
    /// apart.
    pub(super) fn new(
        kernels: &'static Kernels,
        services: *const c_void,
        call: &'a GemmF32,
        a: Left<'a>,
        rows: Range<usize>,
        group: (usize, usize),
    ) -> Self {
        let [_, n, k] = call.sizes();
        let stored = Stored::of(call.b_type);
        // SAFETY: the caller of `multiply` vouches for what the call points to.
        let narrow = unsafe { Panels::of(call, group.0, group.1) };
        let b = call.b.wrapping_byte_add(group.0 * group.1 * stored.bytes()[0]);
        let packed = (call.packed != 0 && narrow.is_none()).then_some(b);
        let b = Matrix { data: b, row: call.b_row as isize, col: call.b_col as isize };
        let walked = call.packed == 0 && stored == Stored::F32 && b.col == 1;
        let in_place = if walked { n / PANEL } else { 0 };
        let (first, m) = (rows.start, rows.len());
        let halves = match a {
            Left::Matrix(a) => Halves::of(a, call.a_type),
            Left::Window(_) => None,
        };
        Product { kernels, services, call, first, m, n, k, a, b, packed, narrow, halves, in_place }
    }

    /// Its pieces, for so many threads.
    pub(super) fn pieces(&self, threads: usize) -> Pieces {
        match self.is_walked() {
            true => self.walks(threads),
            false => self.blocks(threads),
        }
    }

    /// Computes some of the pieces.
    pub(super) fn run(&self, pieces: &Pieces, range: Range<usize>) {
        match pieces.grid {
            None => self.walk(range),
            Some(grid) => self.block(grid, range),
        }
    }

    /// Are there so few rows that B streams by them?
    fn is_walked(&self) -> bool {
        let walks = match self.a {
            Left::Matrix(_) => self.halves.is_none() || self.m * self.k <= scratch::A_LEN,
            Left::Window(window) => window.is_of_rows() && (self.m == 1 || self.m * self.k <= scratch::A_LEN),
        };
        walks && self.m <= self.kernels.walks.len()
    }

    /// Columns of A that are packed together.
    fn taps(&self) -> usize {
        match self.a {
            Left::Window(window) => window.taps(),
            Left::Matrix(_) => 1,
        }
    }

    /// How many stretches k is walked in.
    fn stretches(&self) -> usize {
        (self.k / self.taps()).div_ceil(DEPTH / self.taps()).max(1)
    }

    /// A stretch of k. Columns that are packed together are in one.
    fn stretch(&self, i: usize) -> Range<usize> {
        let Range { start, end } = part(self.k / self.taps(), self.stretches(), i);
        start * self.taps()..end * self.taps()
    }

    pub(super) fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// A stretch of panel `p`, packed if it isn't yet: into `to`, which has room for it.
    ///
    /// # Safety
    /// The panel and the stretch are B's.
    pub(super) unsafe fn panel(&self, p: usize, start: usize, depth: usize, to: *mut f32) -> *const f32 {
        if let Some(packed) = self.packed {
            return packed.wrapping_add((p * self.k + start) * PANEL);
        }
        if let Some(narrow) = &self.narrow {
            // SAFETY: as the caller vouches.
            unsafe { narrow.expand(self.kernels, p, start, depth, to) };
            return to;
        }
        let cols = PANEL.min(self.n - p * PANEL);
        if let Some(halves) = Halves::of(self.b, self.call.b_type) {
            // SAFETY: as the caller vouches.
            unsafe { halves.from(start, p * PANEL).pack_panel(self.kernels, depth, cols, to) };
            return to;
        }
        let source = Matrix { data: self.b.at(start, p * PANEL), ..self.b };
        // SAFETY: the caller of `multiply` vouches for B.
        unsafe {
            if source.row == 1 && source.col > 1 {
                if cols <= PANEL / 2 {
                    to.write_bytes(0, depth * PANEL);
                }
                (self.kernels.transpose)(source.data, source.col as usize, cols, depth, to, PANEL);
            } else {
                pack::pack_panel(source, depth, cols, to);
            }
        }
        to
    }

    /// Strips and panels in a block at most.
    fn largest_block(&self) -> (usize, usize) {
        let height = self.kernels.tiles.len();
        let strips = self.m.div_ceil(height);
        let tall = (BLOCK_ROWS / height).min(scratch::A_LEN / DEPTH / self.kernels.strip).min(strips);
        let tiles = if self.stretches() == 1 { BLOCK_PANELS } else { BLOCK_TILES / (tall * height) };
        (tall, tiles.min(BLOCK_PANELS).min(self.panels()))
    }

    /// Blocks that cover C.
    fn blocks(&self, threads: usize) -> Pieces {
        let height = self.kernels.tiles.len();
        let strips = self.m.div_ceil(height);
        let grid = cut([strips, self.panels()], height, self.largest_block(), threads);
        let cost = self.m.div_ceil(grid.0) * self.n.div_ceil(grid.1) * self.k;
        Pieces { count: grid.0 * grid.1, grain: grain(cost), grid: Some(grid) }
    }

    /// Some of the blocks.
    fn block(&self, grid: (usize, usize), blocks: Range<usize>) {
        let strips = self.m.div_ceil(self.kernels.tiles.len());
        // Neighbours share their panels, which stay in the second-level cache.
        let down = |block: usize| part(strips, grid.0, block % grid.0);
        let end = blocks.end;
        for block in blocks {
            let across = part(self.panels(), grid.1, block / grid.0);
            let next = if block + 1 < end { down(block + 1) } else { 0..0 };
            scratch::with(|scratch| self.one_block(strips, down(block), next, across, scratch));
        }
    }

    /// The block of C where the strips `down` of all `strips` meet the panels `across`. Those of the block after it
    /// are `then`.
    fn one_block(
        &self,
        strips: usize,
        down: Range<usize>,
        then: Range<usize>,
        across: Range<usize>,
        scratch: Scratch,
    ) {
        let top = part(self.m, strips, down.start).start;
        let rows = top..part(self.m, strips, down.end - 1).end;
        let stretches = self.stretches();
        let columns = |stretch: usize| {
            let Range { start, end } = self.stretch(stretch);
            match self.a {
                Left::Window(window) => window.columns(start, end - start),
                Left::Matrix(_) => Columns::default(),
            }
        };
        let first = columns(0);
        // Those of the current stretch, if it is not the first.
        let mut later = None;
        for stretch in 0..stretches {
            let Range { start, end } = self.stretch(stretch);
            let depth = end - start;
            let packed = self.pack_left(
                strips,
                down.clone(),
                start,
                depth,
                later.as_ref().unwrap_or(&first),
                scratch.a,
            );
            // The same rows with other columns, or other rows.
            let upcoming = (stretch + 1 < stretches).then(|| columns(stretch + 1));
            let next_rows = if upcoming.is_some() { &down } else { &then };
            let next_columns = &upcoming.as_ref().unwrap_or(&first).places.offsets;
            for p in across.clone() {
                // SAFETY: the panel and the stretch are B's; there is room for a stretch.
                let b = unsafe { self.panel(p, start, depth, scratch.b) };
                // One stretch leaves nothing to carry on: few tiles, warm in cache, serve all.
                let (place, chunk) = match stretches {
                    1 => (0, WARM_STRIPS),
                    _ => ((p - across.start) * rows.len(), down.len()),
                };
                for first in down.clone().step_by(chunk) {
                    let chunk = first..down.end.min(first + chunk);
                    let start = part(self.m, strips, chunk.start).start;
                    let delivered = start..part(self.m, strips, chunk.end - 1).end;
                    let place = if stretches == 1 { place } else { place + start - top };
                    let tiles = scratch.tiles.wrapping_add(place * PANEL);
                    // What is yet to be packed cannot be asked for: the tile asks for what it has. Some processors take
                    // long to find out that an address leads nowhere.
                    let next = self.next_panel(p, &across, stretch, stretches);
                    // All strips together ask for a panel of such depth.
                    let (next, step) = match next {
                        Some((next, row)) => (next, row.div_ceil(down.len())),
                        None => (b.cast(), 0),
                    };
                    for strip in chunk {
                        let panel = next.wrapping_add((strip - down.start) * depth * step);
                        // The first panel has all strips look ahead, each for its like.
                        let like = next_rows.start + (strip - down.start);
                        let rows = match (&self.a, p == across.start && next_rows.contains(&like)) {
                            (Left::Window(window), true) if window.has_lone_columns() => {
                                window.row(part(self.m, strips, like).start)
                            }
                            _ => std::ptr::null(),
                        };
                        let next = Next { panel, step, rows, columns: next_columns };
                        let place = (strip - down.start) * packed.strip
                            + (part(self.m, strips, strip).start - top) * packed.row;
                        let strip = part(self.m, strips, strip);
                        let (a, tile) = (packed.data.wrapping_add(place), (strip.start - start) * PANEL);
                        let kernels = if rows.is_null() { packed.kernels } else { self.kernels.looking };
                        let kernel = kernels[strip.len() - 1];
                        // SAFETY: the strip lies among the packed ones, the panel's stretch is as above, and
                        // the tile lies in `tiles`, where the stretch before, if any, has written it.
                        let tile = tiles.wrapping_add(tile);
                        unsafe { kernel(depth, a, b, tile, stretch > 0, &next) };
                    }
                    if stretch + 1 == stretches {
                        // SAFETY: the tiles are finished, and no other block covers them.
                        unsafe { self.deliver(tiles, delivered, p, scratch) };
                    }
                }
            }
            later = upcoming;
        }
    }

    /// The panel that is multiplied after panel `p` of a block, at its stretch, and the bytes of its rows; none if it is
    /// yet to be packed.
    fn next_panel(
        &self,
        p: usize,
        across: &Range<usize>,
        stretch: usize,
        stretches: usize,
    ) -> Option<(*const u8, usize)> {
        let (panel, stretch) = match (p + 1 < across.end, stretch + 1 < stretches) {
            (true, _) => (p + 1, stretch),
            (false, true) => (across.start, stretch + 1),
            (false, false) => (across.end, 0),
        };
        let start = self.stretch(stretch).start;
        if let Some(narrow) = &self.narrow {
            return Some(narrow.row(panel, start));
        }
        let row = self.packed?.wrapping_add((panel * self.k + start) * PANEL);
        Some((row.cast(), size_of::<[f32; PANEL]>()))
    }

    /// A stretch of the strips `down`, packed if they aren't yet.
    fn pack_left(
        &self,
        strips: usize,
        down: Range<usize>,
        start: usize,
        depth: usize,
        columns: &Columns,
        to: *mut f32,
    ) -> Strips {
        let top = part(self.m, strips, down.start).start;
        let rows = part(self.m, strips, down.end - 1).end - top;
        let along = Strips { data: to, kernels: self.kernels.tiles, strip: 0, row: A_STRIDE };
        if let Some(halves) = self.halves {
            // SAFETY: the rows and columns are A's; `to` has room for the rows of a block.
            unsafe { halves.from(top, start).pack_rows(self.kernels, rows, depth, to) };
            return along;
        }
        let window = match self.a {
            // They lie as if they were packed.
            Left::Matrix(a) if a.row == A_STRIDE as isize => {
                return Strips { data: a.at(top, start), ..along };
            }
            Left::Matrix(a) => {
                // SAFETY: the rows and columns are A's; `to` has room for the rows of a block.
                unsafe { pack::pack_rows(Matrix { data: a.at(top, start), ..a }, rows, depth, to) };
                return along;
            }
            Left::Window(window) => window,
        };
        if window.has_runs() {
            for strip in down {
                let strip = part(self.m, strips, strip);
                let packed = window.strip(strip.start, strip.len(), depth, columns);
                // SAFETY: as above.
                unsafe { pack::pack_runs(&packed, to.add((strip.start - top) * A_STRIDE)) };
            }
            return along;
        }
        for (i, strip) in down.enumerate() {
            let strip = part(self.m, strips, strip);
            let packed = window.strip(strip.start, strip.len(), depth, columns);
            // SAFETY: a strip takes `strip` floats for each column of a stretch at most, and there is room for the
            // strips of a block.
            unsafe {
                (self.kernels.gather)(&packed, to.add(i * DEPTH * self.kernels.strip), self.kernels.strip)
            };
        }
        let kernels = if window.taps() > 1 { self.kernels.shared } else { self.kernels.across };
        Strips { data: to, kernels, strip: DEPTH * self.kernels.strip, row: 0 }
    }

    /// Hands the finished tiles of the given rows and panel to the epilogue.
    ///
    /// # Safety
    /// `tiles` holds the sums, a row every 32 floats; the caller delivers this part of C only once.
    pub(super) unsafe fn deliver(
        &self,
        tiles: *const f32,
        rows: Range<usize>,
        panel: usize,
        scratch: Scratch,
    ) {
        let cols = PANEL.min(self.n - panel * PANEL);
        let (mut tile, mut ld) = (tiles, PANEL);
        let [mut row, mut height, mut col, mut width] = [rows.start, rows.len(), panel * PANEL, cols];
        if self.call.transposed != 0 {
            ld = height.next_multiple_of(super::STRIP);
            // SAFETY: the tiles are readable, and there is room for 32 rows of the height of a block.
            unsafe { (self.kernels.transpose)(tiles, PANEL, height, cols, scratch.turned, ld) };
            tile = scratch.turned;
            ((row, height), (col, width)) = ((col, width), (row, height));
        }
        let [row, rows, col, cols, ld] = [row + self.first, height, col, width, ld].map(|size| size as i64);
        // SAFETY: `multiply`'s caller vouches for the epilogue with this frame and a part of C.
        unsafe { (self.call.epilogue)(self.services, self.call.frame, tile, ld, row, rows, col, cols) };
    }
}

/// Runs `body` over ranges of at least `grain` that cover `0..count`.
pub(super) fn each(pool: &Pool, count: usize, grain: usize, body: impl Fn(Range<usize>) + Sync) {
    pool.run(count as i64, grain as i64, &|begin, end| body(begin as usize..end as usize));
}

/// How many blocks, of so many strips and panels at most, cover all of these in the height and in the width.
pub(super) fn cut(
    [strips, panels]: [usize; 2],
    height: usize,
    (mut tall, mut wide): (usize, usize),
    threads: usize,
) -> (usize, usize) {
    let mut grid = (strips.div_ceil(tall), panels.div_ceil(wide));
    while grid.0 * grid.1 < BLOCKS_PER_THREAD * threads && threads > 1 {
        // Narrow blocks pack A more often and low ones read B more often: keep them square.
        if wide > 1 && (tall * height <= wide * PANEL || tall == 1) {
            wide = wide.div_ceil(2);
        } else if tall > 1 {
            tall = tall.div_ceil(2);
        } else {
            break;
        }
        grid = (strips.div_ceil(tall), panels.div_ceil(wide));
    }
    grid
}

/// How many pieces of `cost` multiply-adds are worth a thread.
pub(super) fn grain(cost: usize) -> usize {
    WORTH_A_THREAD.div_ceil(cost.max(1))
}

/// Part `i` of `0..total` cut into `parts` nearly equal ranges.
pub(super) fn part(total: usize, parts: usize, i: usize) -> Range<usize> {
    let (size, longer) = (total / parts, total % parts);
    let start = |i: usize| i * size + i.min(longer);
    start(i)..start(i + 1)
}
