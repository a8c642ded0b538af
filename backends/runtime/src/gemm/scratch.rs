//! Memory of a thread for the blocks of the product that it is at.
//!
//! Each thread has its own, made by [`reserve`] when a session is bound or a worker starts, so that a run
//! allocates nothing; a thread that runs a session which another one bound makes it in its first product.

use std::alloc::{Layout, handle_alloc_error};
use std::cell::RefCell;

use super::{DEPTH, PANEL, STRIP};
use crate::memory::AlignedBytes;

/// Floats for packed strips of A: sixteen strips of the widest body, and as many rows by the others.
pub(super) const A_LEN: usize = 16 * STRIP * DEPTH;

/// Floats for partial tiles.
pub(super) const TILES_LEN: usize = 64 * 1024;

/// Floats for panels of B that are packed on the way.
pub(super) const B_LEN: usize = 4 * DEPTH * PANEL;

/// Floats for a finished part of C, transposed.
pub(super) const TURNED_LEN: usize = PANEL * 256;

const LEN: usize = A_LEN + TILES_LEN + B_LEN + TURNED_LEN;

thread_local! {
    static SCRATCH: RefCell<AlignedBytes> = RefCell::new(AlignedBytes::default());
}

/// The parts of a thread's memory, each aligned to a cache line.
#[derive(Clone, Copy)]
pub(super) struct Scratch {
    /// [`A_LEN`] floats.
    pub(super) a: *mut f32,
    /// [`TILES_LEN`] floats.
    pub(super) tiles: *mut f32,
    /// [`B_LEN`] floats.
    pub(super) b: *mut f32,
    /// [`TURNED_LEN`] floats.
    pub(super) turned: *mut f32,
}

/// Makes this thread's memory, if it has none.
pub(crate) fn reserve() {
    with(|_| {});
}

/// Calls `body` with this thread's memory. A product inside the epilogue of another one is no product that
/// compiled code makes: it panics.
pub(super) fn with<R>(body: impl FnOnce(Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(|bytes| {
        if bytes.is_empty() {
            let made = AlignedBytes::zeroed(LEN * size_of::<f32>(), "blocks of a matrix product");
            *bytes = made.unwrap_or_else(|_| handle_alloc_error(Layout::new::<[f32; LEN]>()));
        }
        let a = bytes.as_mut_ptr().cast::<f32>();
        let tiles = a.wrapping_add(A_LEN);
        let b = tiles.wrapping_add(TILES_LEN);
        body(Scratch { a, tiles, b, turned: b.wrapping_add(B_LEN) })
    })
}
