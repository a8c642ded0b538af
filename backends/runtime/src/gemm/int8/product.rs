//! The driver: blocks of C over the threads of a pool, some strips of rows by some panels each.

use std::ffi::c_void;
use std::ops::Range;

use super::pack::{self, Bytes, FLIP};
use super::{GemmI8, Kernels, PANEL, PANEL_QUAD, QUAD, STRIP, STRIP_QUAD};
use crate::gemm::product::{cut, each, grain, part};
use crate::gemm::scratch::{self, Scratch};
use crate::gemm::window::Window;
use crate::gemm::{self, DEPTH};
use crate::pool::Pool;

/// Most strips of a block.
const TALL: usize = 16;

/// Most panels of a block.
const WIDE: usize = 64;

/// Strips whose tiles are delivered together where each is finished at once.
const WARM_STRIPS: usize = 4;

/// Multiply-adds of bytes that take as long as one of floats.
const FASTER: usize = 4;

/// Most quads that are packed at a time: of a strip, and of a panel with its sums.
const STRIP_QUADS: usize = scratch::A_LEN * size_of::<f32>() / STRIP_QUAD;
const PANEL_QUADS: usize = scratch::B_LEN * size_of::<f32>() / PANEL_QUAD - 1;

const _: () = assert!(TALL * STRIP * PANEL <= scratch::TILES_LEN, "one panel's tiles fit");
const _: () = assert!(STRIP * PANEL * WIDE <= scratch::TILES_LEN, "one strip's tiles fit");
const _: () = assert!(WARM_STRIPS * STRIP * PANEL <= scratch::TURNED_LEN, "what is delivered fits");

/// One product, as all threads see it.
struct Product<'a> {
    kernels: &'static Kernels,
    services: *const c_void,
    call: &'a GemmI8,
    m: usize,
    n: usize,
    k: usize,
    a: Window<'a, u8>,
    b: Bytes,
    /// The zero of A as it is multiplied.
    a_zero: i32,
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
    call: &GemmI8,
) {
    let [m, n, k] = [call.m, call.n, call.k].map(|size| usize::try_from(size).unwrap_or(0));
    if m == 0 || n == 0 {
        return;
    }
    let (row, column) = ([[call.m, call.a_row]], [[call.k, call.a_col]]);
    let a = match call.window.is_null() {
        true => Window::matrix(call.a, &row, &column),
        // SAFETY: the caller vouches for the table, which outlives the call.
        false => unsafe { Window::of(call.a, call.window) },
    };
    let b = Bytes { data: call.b, row: call.b_row as isize, col: call.b_col as isize };
    let a_zero = (call.a_zero as i32).wrapping_add(if call.a_signed != 0 { 128 } else { 0 });
    let product = Product { kernels, services, call, m, n, k, a, b, a_zero };
    let (strips, panels) = (product.strips(), n.div_ceil(PANEL));
    let grid = cut([strips, panels], kernels.height, product.largest_block(), pool.available());
    let cost = m.div_ceil(grid.0) * n.div_ceil(grid.1) * k / FASTER;
    each(pool, grid.0 * grid.1, grain(cost), |blocks| {
        for block in blocks {
            let (down, across) = (part(strips, grid.0, block % grid.0), part(panels, grid.1, block / grid.0));
            scratch::with(|scratch| product.block(down, across, scratch));
        }
    });
}

impl Product<'_> {
    fn strips(&self) -> usize {
        self.m.div_ceil(self.kernels.height)
    }

    fn quads(&self) -> usize {
        self.k.div_ceil(QUAD)
    }

    /// How many stretches k is walked in.
    fn stretches(&self) -> usize {
        let most = if self.call.packed != 0 { STRIP_QUADS } else { PANEL_QUADS.min(STRIP_QUADS) };
        self.quads().div_ceil(most).max(1)
    }

    /// Strips and panels in a block at most.
    fn largest_block(&self) -> (usize, usize) {
        let tall = match self.stretches() {
            1 => (STRIP_QUADS / self.quads().max(1)).clamp(1, TALL),
            _ => 1,
        };
        (tall.min(self.strips()), WIDE.min(self.n.div_ceil(PANEL)))
    }

    /// The rows of a strip.
    fn rows(&self, strip: usize) -> Range<usize> {
        part(self.m, self.strips(), strip)
    }

    /// What bytes of A and of B are turned by, so that A is `u8` and B `i8`.
    fn flips(&self) -> (u8, u8) {
        let flip = |turned: bool| if turned { FLIP } else { 0 };
        (flip(self.call.a_signed != 0), flip(self.call.b_signed == 0))
    }

    /// The block of C where the strips `down` meet the panels `across`.
    fn block(&self, down: Range<usize>, across: Range<usize>, scratch: Scratch) {
        let stretches = self.stretches();
        let tiles = scratch.tiles.cast::<i32>();
        for stretch in 0..stretches {
            let quads = part(self.quads(), stretches, stretch);
            let len = quads.len() * STRIP_QUAD;
            let packed = scratch.a.cast::<u8>();
            // SAFETY: there is room for the strips of a block.
            unsafe { self.pack_strips(down.clone(), &quads, packed) };
            for p in across.clone() {
                // SAFETY: the panel is one of B's, and there is room for a stretch.
                let (panel, sums) = unsafe { self.panel(p, &quads, scratch.b.cast()) };
                let zeros = self.zeros(p);
                // What the zero of A adds to each column; where the panel's sums are those of all stretches, it does so once.
                let once = stretch == 0 || self.call.packed == 0;
                let depth = if stretch == 0 { self.k as i32 } else { 0 };
                let start: [i32; PANEL] = std::array::from_fn(|c| {
                    let whole = depth.wrapping_mul(zeros[c]).wrapping_sub(if once { sums[c] } else { 0 });
                    self.a_zero.wrapping_mul(whole)
                });
                let (place, chunk) = match stretches {
                    1 => (0, WARM_STRIPS),
                    _ => (p - across.start, 1),
                };
                for first in down.clone().step_by(chunk) {
                    let chunk = first..down.end.min(first + chunk);
                    let top = self.rows(first).start;
                    let tiles = tiles.wrapping_add(place * STRIP * PANEL);
                    for strip in chunk.clone() {
                        let rows = self.rows(strip);
                        let a = packed.wrapping_add((strip - down.start) * len);
                        let tile = tiles.wrapping_add((rows.start - top) * PANEL);
                        // SAFETY: the strip is packed, the panel as above, and the tile lies in `tiles`.
                        unsafe {
                            self.begin(tile, rows.len(), stretch == 0, &start);
                            self.take_zeros(tile, rows.len(), &zeros, a, quads.len());
                            (self.kernels.tile)(rows.len(), quads.len(), a, panel, tile);
                        }
                    }
                    if stretch + 1 == stretches {
                        let rows = top..self.rows(chunk.end - 1).end;
                        // SAFETY: the tiles are finished, and no other block covers them.
                        unsafe { self.deliver(tiles, rows, p, scratch) };
                    }
                }
            }
        }
    }

    /// Packs a stretch of the strips.
    ///
    /// # Safety
    /// `to` has room for them.
    unsafe fn pack_strips(&self, strips: Range<usize>, quads: &Range<usize>, to: *mut u8) {
        let (flip, _) = self.flips();
        let fill = self.call.a_zero as u8;
        let end = (quads.end * QUAD).min(self.k);
        for start in (quads.start * QUAD..end).step_by(DEPTH) {
            let depth = DEPTH.min(end - start);
            let columns = self.a.columns(start, depth);
            for (i, strip) in strips.clone().enumerate() {
                let rows = self.rows(strip);
                let strip = self.a.strip(rows.start, rows.len(), depth, &columns);
                let place = (i * quads.len() + start / QUAD - quads.start) * STRIP_QUAD;
                // SAFETY: the caller of `multiply` vouches for A, that of this function for the room.
                unsafe { pack::pack_strip(self.kernels, &strip, fill, flip, to.add(place)) };
            }
        }
    }

    /// A stretch of panel `p`, packed if it isn't yet, into `to`, and the sums of its columns: of the stretch, or, where it
    /// was packed before, of all k.
    ///
    /// # Safety
    /// The panel and the stretch are B's, and `to` has room for them.
    unsafe fn panel(&self, p: usize, quads: &Range<usize>, to: *mut u8) -> (*const u8, [i32; PANEL]) {
        // SAFETY: the caller of `multiply` vouches for B.
        unsafe {
            if self.call.packed != 0 {
                let panel = self.call.b.add(p * pack::panel_len(self.k));
                return (panel.add(quads.start * PANEL_QUAD), pack::sums(panel, self.quads()));
            }
            let start = quads.start * QUAD;
            let depth = (quads.end * QUAD).min(self.k) - start;
            let cols = PANEL.min(self.n - p * PANEL);
            let source = Bytes { data: self.b.at(start, p * PANEL), ..self.b };
            pack::pack_panel(source, depth, cols, self.flips().1, to);
            (to, pack::sums(to, quads.len()))
        }
    }

    /// The zeros of the columns of a panel, as they are multiplied.
    fn zeros(&self, p: usize) -> [i32; PANEL] {
        let turn = if self.call.b_signed != 0 { 0 } else { -128 };
        if self.call.b_zeros.is_null() {
            return [(self.call.b_zero as i32).wrapping_add(turn); PANEL];
        }
        let cols = PANEL.min(self.n - p * PANEL);
        std::array::from_fn(|c| {
            if c >= cols {
                return 0;
            }
            let at = (p * PANEL + c) as isize * self.call.b_zeros_step as isize;
            // SAFETY: the caller of `multiply` vouches for a zero for each column.
            let zero = unsafe { *self.call.b_zeros.offset(at) };
            turn + if self.call.b_signed != 0 { i32::from(zero.cast_signed()) } else { i32::from(zero) }
        })
    }

    /// What a tile starts from in its first stretch, or what is added to it in another one.
    ///
    /// # Safety
    /// The tile is writable, and has been written if it is not the first stretch.
    unsafe fn begin(&self, tile: *mut i32, rows: usize, first: bool, start: &[i32; PANEL]) {
        for r in 0..rows {
            // SAFETY: as the caller vouches.
            let row = unsafe { &mut *tile.add(r * PANEL).cast::<[i32; PANEL]>() };
            if first {
                *row = *start;
            } else {
                row.iter_mut().zip(start).for_each(|(x, start)| *x = x.wrapping_add(*start));
            }
        }
    }

    /// Takes what the zeros of B's columns make of the rows of a packed strip.
    ///
    /// # Safety
    /// The tile is written, and the strip packed.
    unsafe fn take_zeros(
        &self,
        tile: *mut i32,
        rows: usize,
        zeros: &[i32; PANEL],
        strip: *const u8,
        quads: usize,
    ) {
        if zeros.iter().all(|&zero| zero == 0) {
            return;
        }
        let mut sums = [0i32; STRIP];
        for q in 0..quads {
            // SAFETY: as the caller vouches; an array of bytes is aligned as a byte.
            let quad = unsafe { &*strip.add(q * STRIP_QUAD).cast::<[[u8; QUAD]; STRIP]>() };
            for (sum, bytes) in sums.iter_mut().zip(quad) {
                *sum += bytes.iter().map(|&byte| i32::from(byte)).sum::<i32>();
            }
        }
        for (r, sum) in sums.into_iter().enumerate().take(rows) {
            // SAFETY: as the caller vouches.
            let row = unsafe { &mut *tile.add(r * PANEL).cast::<[i32; PANEL]>() };
            row.iter_mut().zip(zeros).for_each(|(x, zero)| *x = x.wrapping_sub(zero.wrapping_mul(sum)));
        }
    }

    /// Hands the finished tiles of the given rows and panel to the epilogue.
    ///
    /// # Safety
    /// `tiles` holds the sums, a row every 32 numbers; the caller delivers this part of C only once.
    unsafe fn deliver(&self, tiles: *const i32, rows: Range<usize>, panel: usize, scratch: Scratch) {
        let cols = PANEL.min(self.n - panel * PANEL);
        let (mut tile, mut ld) = (tiles, PANEL);
        let [mut row, mut height, mut col, mut width] = [rows.start, rows.len(), panel * PANEL, cols];
        if self.call.transposed != 0 {
            ld = height.next_multiple_of(STRIP);
            // SAFETY: the tiles are readable, and there is room for 32 rows of what is delivered; a transposition moves
            // numbers of 32 bits, whatever they are.
            unsafe {
                let turn = gemm::Kernels::detected().transpose;
                turn(tiles.cast(), PANEL, height, cols, scratch.turned, ld);
            };
            tile = scratch.turned.cast();
            ((row, height), (col, width)) = ((col, width), (row, height));
        }
        let [row, rows, col, cols, ld] = [row, height, col, width, ld].map(|size| size as i64);
        // SAFETY: `multiply`'s caller vouches for the epilogue with this frame and a part of C.
        unsafe { (self.call.epilogue)(self.services, self.call.frame, tile, ld, row, rows, col, cols) };
    }
}
