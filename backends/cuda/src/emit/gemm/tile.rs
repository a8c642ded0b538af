//! How large tiles are, and which threads have which part of one.

use ir::kernel::Gemm;
use ir::{DType, Dim};

use super::count;
use super::operand::exact_halves;
use crate::source::Sums;

/// The threads of a block with a product.
pub(super) const THREADS: u32 = 256;

/// The warps of one.
const WARPS: i64 = THREADS as i64 / 32;

/// The rows of the lowest tiles.
pub(super) const FEW_ROWS: i64 = 16;

/// So many blocks keep a GPU busy: tiles are smaller if there are fewer.
const ENOUGH_BLOCKS: i64 = 96;

/// Sizes that are not known count as this many.
const TYPICAL: i64 = 1024;

/// How a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One element after the other, in numbers of this type.
    Fma(DType),
    /// By tensor cores, with operands of this type; those of 32 bits are rounded to TF32.
    Mma(DType),
}

impl Form {
    /// That of a product whose sums are made so.
    pub(super) fn of(gemm: &Gemm, sums: Sums) -> Form {
        let [a, b] = [&gemm.a, &gemm.b].map(exact_halves);
        match a.into_iter().find(|half| b.contains(half)) {
            _ if sums == Sums::InOrder || gemm.dtype() != DType::F32 => Form::Fma(gemm.dtype()),
            Some(half) => Form::Mma(half),
            None if sums == Sums::Rounded => Form::Mma(DType::F32),
            None => Form::Fma(DType::F32),
        }
    }

    /// The type of operands in shared memory.
    pub(super) fn element(self) -> DType {
        match self {
            Form::Fma(dtype) | Form::Mma(dtype) => dtype,
        }
    }

    /// What multiplies, if tensor cores do.
    fn mma(self) -> Option<&'static str> {
        match self {
            Form::Fma(_) => None,
            Form::Mma(DType::F32) => Some("MmaTF32"),
            Form::Mma(DType::BF16) => Some("MmaBF16"),
            Form::Mma(_) => Some("MmaF16"),
        }
    }

    /// From large to small.
    fn tiles(self) -> [Tile; 4] {
        match self {
            Form::Fma(_) => [(128, 128, 16), (64, 64, 16), (32, 64, 32), (FEW_ROWS, 64, 32)]
                .map(|size| Tile::new(size, [1, 1])),
            Form::Mma(dtype) => {
                // As many bytes of each type.
                let steps = |halves: i64| 2 * halves / dtype.bytes() as i64;
                [
                    Tile::new((128, 128, steps(32)), [2, 4]),
                    Tile::new((64, 64, steps(32)), [2, 4]),
                    Tile::new((32, 64, steps(64)), [1, 4]),
                    Tile::new((FEW_ROWS, 32, steps(128)), [1, 2]),
                ]
            }
        }
    }
}

/// A part of a product that a block computes at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub(super) rows: i64,
    pub(super) cols: i64,
    /// Steps of the sum for which operands are in shared memory.
    steps: i64,
    /// Warps above and beside each other, of tensor cores; others share out the steps.
    warps: [i64; 2],
    /// How operands come to shared memory.
    pub(super) way: Way,
}

/// How operands come to shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Through registers.
    Kept,
    /// As they are, by copies that go on while threads compute.
    Copied,
}

/// Tiles of each operand in shared memory where they are copied.
const STAGES: i64 = 3;

impl Tile {
    const fn new((rows, cols, steps): (i64, i64, i64), warps: [i64; 2]) -> Tile {
        Tile { rows, cols, steps, warps, way: Way::Kept }
    }

    /// That of a launch: the largest of which there are enough.
    pub(super) fn of_launch(form: Form, gemm: &Gemm, outer: &Dim) -> Tile {
        let [rows, cols] = [&gemm.row, &gemm.col].map(|axes| estimate(&count(axes)));
        let together = match &gemm.group {
            Some(group) => rows / estimate(&group.extent),
            None => rows,
        };
        let enough = |tile: &Tile| {
            let down = estimate(&tile.down(gemm, &Dim::constant(rows)));
            down.saturating_mul(ceil(cols, tile.cols)).saturating_mul(estimate(outer)) >= ENOUGH_BLOCKS
        };
        Tile::first(form, [together, cols], enough)
    }

    /// That of a launch for a few rows.
    pub(super) fn of_few(form: Form) -> Tile {
        let [.., lowest] = form.tiles();
        lowest
    }

    /// That of a product within a block.
    pub(super) fn in_block(form: Form, gemm: &Gemm) -> Tile {
        let [rows, cols] = [&gemm.row, &gemm.col].map(|axes| count(axes).as_const().unwrap_or(TYPICAL));
        Tile::first(form, [rows, cols], |tile| tile.rows <= 64)
    }

    /// The largest that is not larger than the product and of which this holds, or the smallest.
    fn first(form: Form, [rows, cols]: [i64; 2], holds: impl Fn(&Tile) -> bool) -> Tile {
        let suits = |tile: &&Tile| tile.rows < 2 * rows && tile.cols < 2 * cols.max(64) && holds(tile);
        form.tiles().iter().find(suits).copied().unwrap_or(Tile::of_few(form))
    }

    /// How many tiles lie above each other, at most.
    pub(super) fn down(&self, gemm: &Gemm, rows: &Dim) -> Dim {
        let full = rows.ceil_div(&Dim::constant(self.rows));
        match &gemm.group {
            // Each matrix that has rows may have a tile that they do not fill.
            Some(group) => full + Dim::smaller(&group.extent, rows),
            None => full,
        }
    }

    /// The same where so many elements are loaded at once: with fewer steps, since others wait in registers one by one; or with
    /// copies, where 16 bytes come as they are and the block `is_alone` with its tile.
    pub(super) fn for_packs(self, form: Form, widths: [i64; 2], is_alone: bool) -> Tile {
        let narrow = widths.into_iter().any(|width| width < 4);
        let is_whole = |width: i64| width * form.element().bytes() as i64 == 16;
        // What is rounded passes through registers.
        let as_they_are = matches!(form, Form::Mma(half) if half != DType::F32);
        let way = match as_they_are && is_alone && widths.into_iter().all(is_whole) {
            true => Way::Copied,
            false => Way::Kept,
        };
        Tile { steps: if narrow { self.steps / 2 } else { self.steps }, way, ..self }
    }

    /// What has to stand before the functions.
    pub(super) fn pieces(self, form: Form) -> Vec<&'static str> {
        match form.mma() {
            None => vec!["tile_fma"],
            Some(mma) if self.way == Way::Copied => vec![mma, "tile_copied"],
            Some(mma) => vec![mma, "tile_mma"],
        }
    }

    /// The function that computes a tile, with what it is told of itself and of how operands lie along the sum.
    pub(super) fn function(self, form: Form, [a, b]: [bool; 2]) -> String {
        let Tile { rows, cols, steps, warps: [down, across], way } = self;
        match form.mma() {
            None => format!("tile_fma<{rows}, {cols}, {steps}, {a}, {b}>"),
            Some(mma) => {
                let of = format!("{rows}, {cols}, {steps}, {down}, {across}, {a}, {b}, {mma}");
                match way {
                    Way::Kept => format!("tile_mma<{of}>"),
                    Way::Copied => format!("tile_copied<{of}, {STAGES}>"),
                }
            }
        }
    }

    /// Bytes of shared memory: tiles of each operand, of which one is computed with and the others brought.
    pub(super) fn bytes(self, form: Form, along: [bool; 2]) -> u64 {
        let Tile { rows, cols, steps, warps, way } = self;
        let bytes = match form {
            Form::Fma(dtype) => 2 * steps * (rows + 4 + cols + 4) * dtype.bytes() as i64,
            Form::Mma(dtype) => {
                let bytes = dtype.bytes() as i64;
                let tile = |length: i64, along| match along {
                    true => length * (steps + 16 / bytes),
                    false => steps * (length + 8),
                };
                let tiles = if way == Way::Copied { STAGES } else { 2 };
                let operands = tiles * bytes * (tile(rows, along[0]) + tile(cols, along[1]));
                let parts = WARPS / warps.iter().product::<i64>();
                operands.max((parts - 1) * rows * cols * 4)
            }
        };
        bytes as u64
    }
}

fn ceil(count: i64, of: i64) -> i64 {
    (count + of - 1) / of
}

/// A size as a number.
fn estimate(size: &Dim) -> i64 {
    size.eval(&|_| Some(TYPICAL)).unwrap_or(i64::MAX).max(1)
}
