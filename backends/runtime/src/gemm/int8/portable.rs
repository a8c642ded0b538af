//! The body for any CPU.

use super::pack::gather;
use super::{Kernels, PANEL, PANEL_QUAD, QUAD, STRIP_QUAD};

pub(super) static KERNELS: Kernels = Kernels { name: "portable", height: 4, tile, gather, farthest: 1 };

/// Columns that are summed side by side.
const LANES: usize = 8;

/// See [`super::TileFn`].
///
/// # Safety
/// As [`super::TileFn`].
unsafe fn tile(rows: usize, quads: usize, a: *const u8, b: *const u8, tile: *mut i32) {
    for r in 0..rows {
        for column in (0..PANEL).step_by(LANES) {
            let mut sums = [0i32; LANES];
            for q in 0..quads {
                // SAFETY: the caller vouches for the quads of both, an array of bytes being aligned as a byte.
                let (x, y) = unsafe {
                    let x = a.add(q * STRIP_QUAD + r * QUAD).cast::<[u8; QUAD]>().read();
                    (x, b.add(q * PANEL_QUAD + column * QUAD).cast::<[[i8; QUAD]; LANES]>().read())
                };
                for (sum, y) in sums.iter_mut().zip(y) {
                    let product: i32 = x.iter().zip(y).map(|(&x, y)| i32::from(x) * i32::from(y)).sum();
                    *sum = sum.wrapping_add(product);
                }
            }
            for (c, sum) in sums.into_iter().enumerate() {
                // SAFETY: the caller vouches for the rows of the tile.
                unsafe {
                    let to = tile.add(r * PANEL + column + c);
                    *to = (*to).wrapping_add(sum);
                }
            }
        }
    }
}
