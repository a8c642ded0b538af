//! Products whose result is wanted transposed, computed as it is wanted: `Cᵀ = Bᵀ Aᵀ`. Convolutions are such products:
//! the pixels of an image are rows of A, and the channels of the result columns of B.
//!
//! Panels of B are the rows of such a product, read where they lie; rows of A are packed side by side, as panels are. A
//! block is some of these that meet all of B, or a part of it for each thread. Finished tiles lie side by side, too,
//! so that the epilogue gets long rows, and nothing is transposed.

use std::ffi::c_void;
use std::ops::Range;

use super::product::{grain, part};
use super::scratch::{self, Scratch};
use super::window::{Columns, Window};
use super::{DEPTH, GemmF32, Kernels, Next, PANEL, WIDE};

const _: () = assert!(WIDE * PANEL * DEPTH <= scratch::A_LEN && WIDE * PANEL * PANEL <= scratch::TILES_LEN);

/// Blocks per thread that are aimed at.
const BLOCKS_PER_THREAD: usize = 2;

/// Floats of a cache line.
const LINE: usize = 16;

/// One product, as all threads see it.
pub(super) struct Turned<'a> {
    kernels: &'static Kernels,
    services: *const c_void,
    call: &'a GemmF32,
    m: usize,
    n: usize,
    k: usize,
    a: Window<'a>,
}

// SAFETY: the threads only read through the pointers; whoever calls `multiply` vouches that any thread may call
// the epilogue.
unsafe impl Sync for Turned<'_> {}

/// What it falls apart into: so many blocks along A, and along B.
pub(super) struct Blocks {
    pub(super) count: usize,
    /// So many of them are worth a thread.
    pub(super) grain: usize,
    across: usize,
    down: usize,
}

/// What a block packs next: its columns, and its panels.
struct Then<'a> {
    columns: &'a Columns,
    panels: Range<usize>,
}

impl<'a> Turned<'a> {
    /// The product `call` with `a` as A, if it is faster this way.
    pub(super) fn new(
        kernels: &'static Kernels,
        services: *const c_void,
        call: &'a GemmF32,
        a: Window<'a>,
    ) -> Option<Turned<'a>> {
        let [m, n, k] = call.sizes();
        let can = call.transposed != 0 && call.packed != 0 && call.b_type == 0 && k <= DEPTH;
        // A result that takes no more than one stretch of k is soon computed, and how it is read and written counts: here,
        // by long rows. Deeper ones gain more from higher tiles, and from columns that are packed together. Half a
        // panel of A is the least that is multiplied; few columns of B leave most of their only panel unused.
        let filled = m.next_multiple_of(PANEL / 2);
        let gains = n <= PANEL / 2 || m >= 4 * PANEL && filled - m <= m / 8;
        (can && gains).then_some(Turned { kernels, services, call, m, n, k, a })
    }

    /// Panels of A.
    fn panels(&self) -> usize {
        self.m.div_ceil(PANEL)
    }

    /// The rows of A that are a panel.
    fn rows(&self, panel: usize) -> Range<usize> {
        panel * PANEL..self.m.min((panel + 1) * PANEL)
    }

    /// Blocks for so many threads.
    pub(super) fn blocks(&self, threads: usize) -> Blocks {
        let across = self.panels().div_ceil(WIDE);
        let parts = if threads > 1 { (BLOCKS_PER_THREAD * threads).div_ceil(across) } else { 1 };
        let down = parts.min(self.n.div_ceil(PANEL));
        let cost = self.m.div_ceil(across) * self.n.div_ceil(down) * self.k;
        Blocks { count: across * down, grain: grain(cost), across, down }
    }

    /// Computes some of the blocks.
    pub(super) fn run(&self, blocks: &Blocks, range: Range<usize>) {
        let columns = self.a.columns(0, self.k);
        let panels = |across: usize| part(self.panels(), blocks.across, across);
        let last = (range.end - 1) / blocks.down;
        scratch::with(|scratch| {
            let mut packed = None;
            for block in range {
                let across = block / blocks.down;
                if packed != Some(across) {
                    self.pack(panels(across), &columns, scratch.a);
                    packed = Some(across);
                }
                let then = if across < last { panels(across + 1) } else { 0..0 };
                let mut then = Some(Then { columns: &columns, panels: then });
                for p in part(self.n.div_ceil(PANEL), blocks.down, block % blocks.down) {
                    self.multiply(panels(across), p, then.take(), scratch);
                }
            }
        });
    }

    /// Packs panels of A, one after the other.
    fn pack(&self, panels: Range<usize>, columns: &Columns, to: *mut f32) {
        for (i, panel) in panels.enumerate() {
            let rows = self.rows(panel);
            for first in rows.clone().step_by(self.kernels.strip) {
                let strip = self.a.strip(first, self.kernels.strip.min(rows.end - first), self.k, columns);
                let place = i * self.k * PANEL + first - rows.start;
                // SAFETY: the caller of `multiply` vouches for A; there is room for the panels of a block.
                unsafe { (self.kernels.gather)(&strip, to.wrapping_add(place), PANEL) };
            }
        }
    }

    /// Multiplies the packed panels of A by panel `p` of B, delivers that, and asks for what comes then.
    fn multiply(&self, panels: Range<usize>, p: usize, then: Option<Then<'_>>, scratch: Scratch) {
        let columns = p * PANEL..self.n.min((p + 1) * PANEL);
        let strips = columns.len().div_ceil(self.kernels.tiles.len());
        let b = self.call.b.wrapping_add(p * self.k * PANEL);
        let then = then.filter(|_| self.a.has_lone_columns());
        for (i, panel) in panels.clone().enumerate() {
            let a = scratch.a.wrapping_add(i * self.k * PANEL);
            let narrow = self.rows(panel).len() <= PANEL / 2;
            let like = then.as_ref().map(|then| (then, then.panels.start + i));
            let like = like.filter(|(then, panel)| !narrow && then.panels.contains(panel));
            for at in 0..strips {
                let strip = part(columns.len(), strips, at);
                let mut next = Next { panel: a.cast(), step: 0, rows: a, columns: &NOWHERE };
                let mut tiles = if narrow { self.kernels.narrow } else { self.kernels.turned };
                // Each of the first strips asks for its line of what is packed next.
                if let Some((then, panel)) = like
                    && at * LINE < self.rows(panel).len()
                {
                    next.rows = self.a.row(self.rows(panel).start + at * LINE);
                    next.columns = &then.columns.places.offsets;
                    tiles = self.kernels.looking_turned;
                }
                let tile = scratch.tiles.wrapping_add((strip.start * WIDE + i) * PANEL);
                // SAFETY: the strip lies in the panel of B, the panel of A is packed, and the tile lies in `tiles`.
                unsafe {
                    tiles[strip.len() - 1](self.k, b.wrapping_add(strip.start), a, tile, false, &next);
                }
            }
        }
        let rows = panels.start * PANEL..self.m.min(panels.end * PANEL);
        let sizes = [WIDE * PANEL, columns.start, columns.len(), rows.start, rows.len()];
        let [ld, row, rows, col, cols] = sizes.map(|size| size as i64);
        let call = self.call;
        // SAFETY: `multiply`'s caller vouches for the epilogue with this frame and a part of C.
        unsafe { (call.epilogue)(self.services, call.frame, scratch.tiles, ld, row, rows, col, cols) };
    }
}

/// Columns of which nothing is asked for.
static NOWHERE: [i64; DEPTH] = [0; DEPTH];
