//! Products whose rows meet different matrices: the experts of a mixture.
//!
//! Each matrix that some row meets is a product of its own, with its rows in the order that the call says. Their pieces
//! are one list for all threads, so that a matrix which most rows meet keeps no thread waiting; a matrix that no row
//! meets is not read.

use std::ffi::c_void;
use std::ops::Range;

use super::product::{Left, Pieces, Product, each};
use super::window::Window;
use super::{GemmF32, Groups, Kernels};
use crate::pool::Pool;

/// Runs `call`, which has groups, by the given bodies; see [`super::gemm`].
///
/// # Safety
/// As [`super::gemm`], on a CPU that has the instructions of `kernels`.
pub(super) unsafe fn multiply(
    kernels: &'static Kernels,
    pool: &Pool,
    services: *const c_void,
    call: &GemmF32,
) {
    // SAFETY: the caller vouches for the groups, and for what they point to.
    let (groups, starts, order) = unsafe {
        let groups = &*call.groups;
        let starts = std::slice::from_raw_parts(groups.starts, groups.count.max(0) as usize + 1);
        (groups, starts, std::slice::from_raw_parts(groups.order, call.sizes()[0]))
    };
    let (row, column) = call.axes();
    let window = match call.window.is_null() {
        true => Window::matrix(call.a, &row, &column),
        // SAFETY: the caller vouches for the table, which outlives the call.
        false => unsafe { Window::of(call.a, call.window) },
    };
    let all = All { kernels, services, call, groups, starts, order, window, threads: pool.available() };
    let (mut count, mut widest) = (0, 1);
    for (_, pieces) in all.products() {
        count += pieces.count;
        widest = widest.max(pieces.grain.min(pieces.count));
    }
    each(pool, count, widest, |range| all.run(range));
}

/// One call, as all threads see it.
struct All<'a> {
    kernels: &'static Kernels,
    services: *const c_void,
    call: &'a GemmF32,
    groups: &'a Groups,
    starts: &'a [i64],
    order: &'a [i64],
    window: Window<'a>,
    threads: usize,
}

// SAFETY: the threads only read through the pointers; whoever calls `multiply` vouches that any thread may call
// the epilogue.
unsafe impl Sync for All<'_> {}

impl<'a> All<'a> {
    /// The products of matrices that some row meets, with their pieces.
    fn products(&self) -> impl Iterator<Item = (Product<'a>, Pieces)> {
        self.starts.windows(2).enumerate().filter(|(_, ends)| ends[0] < ends[1]).map(|(group, ends)| {
            let rows = ends[0] as usize..ends[1] as usize;
            // Whoever has more than a thread's share is cut for all of them; the others fill the gaps.
            let alone = rows.len() * self.threads > self.order.len();
            let product = self.product(group, rows);
            let pieces = product.pieces(if alone { self.threads } else { 1 });
            (product, pieces)
        })
    }

    fn product(&self, group: usize, rows: Range<usize>) -> Product<'a> {
        let order = &self.order[rows.clone()];
        Product::new(
            self.kernels,
            self.services,
            self.call,
            Left::Window(self.window.of_rows(order)),
            rows,
            (group, self.groups.step as usize),
        )
    }

    /// Computes some of all pieces.
    fn run(&self, range: Range<usize>) {
        let mut first = 0;
        for (product, pieces) in self.products() {
            let own = range.start.max(first)..range.end.min(first + pieces.count);
            if !own.is_empty() {
                product.run(&pieces, own.start - first..own.end - first);
            }
            first += pieces.count;
            if first >= range.end {
                break;
            }
        }
    }
}
