//! The contents of weights in pieces: in the order in which an artifact stores them, and never whole in memory.
//!
//! Promises
//! - a piece has at most [`PIECE`] bytes, whatever the weight's size;
//! - what lies in its storage as it is asked for is given from there, not copied.

use crate::dtype::DType;
use crate::kernel::stmt::{PANEL, QUAD};
use crate::program::{Layout, PackedWeight};
use crate::weight::{Hash, Weight, row_major_strides};

/// The largest piece in bytes.
pub const PIECE: usize = 1 << 20;

/// What receives pieces.
pub type Sink<'a, E> = &'a mut dyn FnMut(&[u8]) -> Result<(), E>;

/// Elements that follow each other as packed: `count` of them from position `start`, `step` apart, then `zeros`.
/// Positions count the weight's elements, row-major.
struct Run {
    start: usize,
    step: usize,
    count: usize,
    zeros: usize,
}

impl Weight {
    /// Its contents, row-major, in pieces.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn for_each_piece<E>(&self, sink: Sink<'_, E>) -> Result<(), E> {
        match self.row_major() {
            Some(bytes) => bytes.chunks(PIECE).try_for_each(sink),
            None => {
                let axes: Vec<(usize, usize)> =
                    self.shape().iter().copied().zip(row_major_strides(self.shape())).collect();
                each_run(self, rows(&axes), sink)
            }
        }
    }
}

impl PackedWeight {
    /// Its contents as packed, in pieces: what the artifact stores.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn for_each_piece<E>(&self, sink: Sink<'_, E>) -> Result<(), E> {
        match &self.layout {
            Layout::Plain => self.weight.for_each_piece(sink),
            Layout::Permuted(perm) => {
                let strides = row_major_strides(self.weight.shape());
                let axes: Vec<(usize, usize)> =
                    self.shape().into_iter().zip(perm.iter().map(|&axis| strides[axis])).collect();
                each_run(&self.weight, rows(&axes), sink)
            }
            &Layout::Panels { ref outer, depth, cols, row, col, offset }
            | &Layout::Nibbles { ref outer, depth, cols, row, col, offset } => {
                let panel = PANEL as usize;
                let runs = starts(outer).flat_map(|first| {
                    let places =
                        (0..cols.div_ceil(panel)).flat_map(|at| (0..depth).map(move |k| (at * panel, k)));
                    places.map(move |(j, k)| {
                        let count = panel.min(cols - j);
                        let start = offset + first + k * row + j * col;
                        Run { start, step: col, count, zeros: panel - count }
                    })
                });
                match self.layout {
                    Layout::Nibbles { .. } => {
                        each_run(&self.weight, runs, &mut |piece| sink(&halves(piece, self.weight.dtype())))
                    }
                    _ => each_run(&self.weight, runs, sink),
                }
            }
            &Layout::Quads { depth, cols, row, col, offset } => {
                let width = PANEL as usize;
                (0..cols).step_by(width).try_for_each(|j| {
                    let count = width.min(cols - j);
                    quads(&self.weight, depth, count, [row, col], offset + j * col)
                        .chunks(PIECE)
                        .try_for_each(&mut *sink)
                })
            }
        }
    }

    /// The hash of its contents as packed.
    pub fn hash(&self) -> Hash {
        match self.layout {
            Layout::Plain => self.weight.hash(),
            _ => Hash::of_pieces(|sink| self.for_each_piece(sink)),
        }
    }
}

/// A panel of so many columns in quads, with its sums.
fn quads(weight: &Weight, depth: usize, cols: usize, [row, col]: [usize; 2], start: usize) -> Vec<u8> {
    let [width, quad] = [PANEL, QUAD].map(|size| size as usize);
    let len = depth.div_ceil(quad) * width * quad;
    let mut panel = vec![0; len + width * quad];
    let turned = if weight.dtype() == DType::U8 { 0x80 } else { 0 };
    let (mut line, mut sums) = (vec![0; cols], vec![0i32; cols]);
    for k in 0..depth {
        weight.gather(start + k * row, col, &mut line);
        for (j, &byte) in line.iter().enumerate() {
            let byte = byte ^ turned;
            panel[(k / quad * width + j) * quad + k % quad] = byte;
            sums[j] = sums[j].wrapping_add(i32::from(byte.cast_signed()));
        }
    }
    for (place, sum) in panel[len..].chunks_exact_mut(quad).zip(sums) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
    panel
}

/// Rows of panels of numbers of 4 bits, a byte each, with two to a byte.
fn halves(rows: &[u8], dtype: DType) -> Vec<u8> {
    let least = if dtype == DType::I4 { 8 } else { 0 };
    let number = |byte: u8| (byte & 0xf) ^ least;
    let row = |row: &[u8]| {
        let (low, high) = row.split_at(row.len() / 2);
        low.iter().zip(high).map(|(&low, &high)| number(low) | number(high) << 4).collect::<Vec<u8>>()
    };
    rows.chunks_exact(PANEL as usize).flat_map(row).collect()
}

/// The innermost rows of an array with these `(size, stride)`s.
fn rows(axes: &[(usize, usize)]) -> impl Iterator<Item = Run> {
    let (&(count, step), outer) = axes.split_last().unwrap_or((&(1, 1), &[]));
    starts(outer).map(move |start| Run { start, step, count, zeros: 0 })
}

/// The places of all indices of axes with these `(size, stride)`s.
pub(crate) fn starts(axes: &[(usize, usize)]) -> impl Iterator<Item = usize> {
    let total: usize = axes.iter().map(|(size, _)| size).product();
    (0..total).map(move |index| {
        let digits = axes.iter().rev();
        digits.fold((0, index), |(start, rest), (size, stride)| (start + rest % size * stride, rest / size)).0
    })
}

/// The elements of `runs`, gathered into pieces.
fn each_run<E>(weight: &Weight, runs: impl Iterator<Item = Run>, sink: Sink<'_, E>) -> Result<(), E> {
    let size = weight.dtype().bytes();
    let mut piece = vec![0; PIECE.min(weight.size().next_multiple_of(PANEL as usize * size))];
    let mut filled = 0;
    for Run { mut start, step, mut count, mut zeros } in runs {
        while count + zeros > 0 {
            if filled == piece.len() {
                sink(&piece)?;
                filled = 0;
            }
            let room = (piece.len() - filled) / size;
            let elements = count.min(room);
            weight.gather(start, step, &mut piece[filled..filled + elements * size]);
            filled += elements * size;
            (start, count) = (start + elements * step, count - elements);
            let cleared = zeros.min(room - elements);
            piece[filled..filled + cleared * size].fill(0);
            filled += cleared * size;
            zeros -= cleared;
        }
    }
    if filled > 0 { sink(&piece[..filled]) } else { Ok(()) }
}
