//! Matrix products in tiles: the threads of a block bring a tile of each operand to shared memory, step by step along the
//! sum, and each keeps some elements of the result in registers.
//!
//! Sums run in ascending order with one rounding a step, as everywhere. Operands are any expressions: a window of a
//! convolution, weights that are dequantized, rows in the order of their experts.

use ir::dim::Symbol;
use ir::kernel::{Expr, ExprKind, Gemm};
use ir::types::strides;
use ir::{DType, Dim};

use super::types::{SHIFT, value};
use super::{Emitter, Level};
use crate::error::EmitError;

/// Threads along rows and along columns of a tile.
const SIDE: i64 = 16;

/// Steps of the sum in a tile.
const STEPS: i64 = 16;

/// The elements of a tile's result.
struct Tile {
    rows: i64,
    cols: i64,
}

impl Tile {
    /// A tile that suits so many rows.
    fn of(rows: &Dim) -> Tile {
        match rows.as_const() {
            Some(rows) if rows <= 16 => Tile { rows: 16, cols: 128 },
            Some(rows) if rows <= 32 => Tile { rows: 32, cols: 128 },
            _ => Tile { rows: 64, cols: 64 },
        }
    }
}

/// The number of a row or column in a product, and how many there are, as text.
struct Side {
    first: String,
    count: String,
}

impl Emitter<'_> {
    /// A launch with a block for each tile.
    pub(super) fn gemm_launch(
        &mut self,
        gemm: &Gemm,
        around: &[(Symbol, Dim)],
        outer: Dim,
    ) -> Result<(Dim, u32), EmitError> {
        self.threads = (SIDE * SIDE) as u32;
        let [rows, cols] = [&gemm.row, &gemm.col].map(|axes| count(axes));
        let tile = Tile::of(&rows);
        let [down, across] =
            [(&rows, tile.rows), (&cols, tile.cols)].map(|(all, of)| all.ceil_div(&Dim::constant(of)));
        let [tile_row, tile_col] = ["tile.row", "tile.col"].map(Symbol::new);
        let group = gemm.group.as_ref().map(|group| (group.axis.clone(), group.extent.clone()));
        let inner = group
            .iter()
            .cloned()
            .chain([(tile_row.clone(), down.clone()), (tile_col.clone(), across.clone())]);
        let axes: Vec<(Symbol, Dim)> = around.iter().cloned().chain(inner).collect();
        self.place_blocks(&axes, "blockIdx.x");
        let [first_row, first_col] = [(&tile_row, tile.rows), (&tile_col, tile.cols)]
            .map(|(axis, of)| format!("{} * {of}", self.scope.axes[axis]));
        let [row, col] = [("row0", first_row), ("col0", first_col)].map(|(name, first)| {
            let name = self.scope.names.fresh(name);
            self.line(&format!("const i64 {name} = {first};"));
            name
        });
        let [all_rows, all_cols] = [&rows, &cols].map(|all| self.index(all).within(SHIFT));
        let mut rows_side = Side { first: row.clone(), count: all_rows };
        if let Some(group) = &gemm.group {
            // The rows of this number are a stretch of the order.
            let [starts, number] = [&self.scope.arrays[&group.starts].name, &self.scope.axes[&group.axis]];
            let (start, text) =
                (format!("{starts}[{number}]"), format!("{starts}[{number} + 1] - {starts}[{number}]"));
            let [first, count] = ["start", "rows"].map(|name| self.scope.names.fresh(name));
            self.line(&format!("const i64 {first} = {start};"));
            self.line(&format!("const i64 {count} = {text};"));
            self.line(&format!("if ({row} >= {count}) return;"));
            self.order = Some(format!("{}[{first}", self.scope.arrays[&group.order].name));
            rows_side.count = count;
        }
        self.tile(gemm, &tile, &rows_side, &Side { first: col, count: all_cols })?;
        self.order = None;
        let groups = gemm.group.as_ref().map_or(Dim::constant(1), |group| group.extent.clone());
        Ok((outer * groups * down * across, self.threads))
    }

    /// A product that a block computes on its own, one tile after the other.
    pub(super) fn gemm_in_block(&mut self, gemm: &Gemm) -> Result<(), EmitError> {
        if i64::from(self.threads) != SIDE * SIDE || gemm.group.is_some() {
            return Err(self.unsupported(
                "a product that a block cannot compute on its own".to_owned(),
                "schedule the kernel for this target".to_owned(),
            ));
        }
        let [rows, cols] = [&gemm.row, &gemm.col].map(|axes| count(axes));
        let tile = Tile::of(&rows);
        let [all_rows, all_cols] = [&rows, &cols].map(|all| self.index(all).within(SHIFT));
        let outer = self.scope.clone();
        let [row, col] = ["row0", "col0"].map(|name| self.scope.names.fresh(name));
        let head = |name: &str, count: &str, of: i64| {
            format!("for (i64 {name} = 0; {name} < {count}; {name} += {of})")
        };
        self.braces(&head(&row, &all_rows, tile.rows), |this| {
            this.braces(&head(&col, &all_cols, tile.cols), |this| {
                let rows = Side { first: row.clone(), count: all_rows.clone() };
                this.tile(gemm, &tile, &rows, &Side { first: col.clone(), count: all_cols.clone() })
            })
        })?;
        self.scope = outer;
        Ok(())
    }

    fn tile(&mut self, gemm: &Gemm, tile: &Tile, rows: &Side, cols: &Side) -> Result<(), EmitError> {
        let dtype = gemm.dtype();
        let ty = value(dtype);
        let steps = self.index(&count(&gemm.depth)).within(SHIFT);
        let [of_row, of_col] = [tile.rows / SIDE, tile.cols / SIDE];
        let [a, b, sum, k0] = ["a_tile", "b_tile", "sum", "k0"].map(|name| self.scope.names.fresh(name));
        let [width_a, width_b] = [tile.rows + 1, tile.cols + 1];
        for (name, what, width) in [(&a, "tile of a", width_a), (&b, "tile of b", width_b)] {
            let at = self.scratch(what, (STEPS * width) as u64 * dtype.bytes() as u64);
            self.line(&format!("const auto {name} = shared<{ty}>({at});  // [{STEPS}][{width}]"));
        }
        let sums = if dtype == DType::I32 { "u32" } else { ty };
        self.line(&format!("{sums} {sum}[{of_row}][{of_col}] = {{}};"));
        self.level = Level::Thread;
        self.braces(&format!("for (i64 {k0} = 0; {k0} < {steps}; {k0} += {STEPS})"), |this| {
            this.line("__syncthreads();");
            let place = (k0.as_str(), steps.as_str());
            this.bring(&gemm.a, &gemm.row, gemm, rows, (&a, tile.rows), place, true)?;
            this.bring(&gemm.b, &gemm.col, gemm, cols, (&b, tile.cols), place, false)?;
            this.line("__syncthreads();");
            this.line("#pragma unroll");
            this.braces(&format!("for (int k = 0; k < {STEPS}; k += 1)"), |this| {
                this.line(&format!("{ty} x[{of_row}], y[{of_col}];"));
                this.line(&format!("for (int i = 0; i < {of_row}; i += 1) x[i] = {a}[k * {width_a} + threadIdx.x / {SIDE} + {SIDE} * i];"));
                this.line(&format!("for (int j = 0; j < {of_col}; j += 1) y[j] = {b}[k * {width_b} + threadIdx.x % {SIDE} + {SIDE} * j];"));
                let add = match dtype {
                    DType::I32 => format!("{sum}[i][j] += (u32)x[i] * (u32)y[j]"),
                    _ => format!("{sum}[i][j] = fmaf(x[i], y[j], {sum}[i][j])"),
                };
                this.line(&format!("for (int i = 0; i < {of_row}; i += 1)"));
                this.line(&format!("  for (int j = 0; j < {of_col}; j += 1) {add};"));
                Ok(())
            })
        })?;
        self.results(gemm, [of_row, of_col], rows, cols, &sum)?;
        self.level = Level::Block;
        Ok(())
    }

    /// A tile of an operand to shared memory, zeros where the matrix ends.
    #[allow(
        clippy::too_many_arguments,
        reason = "the operand, its tile, and where the tile lies in the product"
    )]
    fn bring(
        &mut self,
        operand: &Expr,
        axes: &[(Symbol, Dim)],
        gemm: &Gemm,
        side: &Side,
        (array, length): (&str, i64),
        (k0, steps): (&str, &str),
        is_left: bool,
    ) -> Result<(), EmitError> {
        let dtype = gemm.dtype();
        let threads = self.threads;
        let along_sum = self.runs_along(operand, &gemm.depth).unwrap_or(is_left);
        let (k, i) = if along_sum {
            (format!("e % {STEPS}"), format!("e / {STEPS}"))
        } else {
            (format!("e / {length}"), format!("e % {length}"))
        };
        let head = format!("for (int e = threadIdx.x; e < {}; e += {threads})", length * STEPS);
        self.braces(&head, |this| {
            this.line(&format!("const int k = {k}, i = {i};"));
            let ty = value(dtype);
            let [place, step] = ["place", "step"].map(|name| this.scope.names.fresh(name));
            this.line(&format!("const i64 {place} = {} + i, {step} = {k0} + k;", side.first));
            this.line(&format!("{ty} element = 0;"));
            this.braces(&format!("if ({place} < {} && {step} < {steps})", side.count), |this| {
                let place = this.row(&place, is_left);
                this.place_blocks(axes, &place);
                this.place_blocks(&gemm.depth, &step);
                let element = this.expr(operand)?;
                this.line(&format!("element = {};", element.text));
                Ok(())
            })?;
            this.line(&format!("{array}[k * {} + i] = element;", length + 1));
            Ok(())
        })
    }

    /// The row of the product that a place among those of a group is.
    fn row(&self, place: &str, is_row: bool) -> String {
        match &self.order {
            Some(order) if is_row => format!("{order} + {place}]"),
            _ => place.to_owned(),
        }
    }

    /// What becomes of the sums.
    fn results(
        &mut self,
        gemm: &Gemm,
        [of_row, of_col]: [i64; 2],
        rows: &Side,
        cols: &Side,
        sum: &str,
    ) -> Result<(), EmitError> {
        let ty = value(gemm.dtype());
        self.line("#pragma unroll");
        self.braces(&format!("for (int i = 0; i < {of_row}; i += 1)"), |this| {
            this.line("#pragma unroll");
            this.braces(&format!("for (int j = 0; j < {of_col}; j += 1)"), |this| {
                let [row, col] = ["row", "col"].map(|name| this.scope.names.fresh(name));
                this.line(&format!("const i64 {row} = {} + threadIdx.x / {SIDE} + {SIDE} * i;", rows.first));
                this.line(&format!("const i64 {col} = {} + threadIdx.x % {SIDE} + {SIDE} * j;", cols.first));
                this.braces(&format!("if ({row} < {} && {col} < {})", rows.count, cols.count), |this| {
                    let row = this.row(&row, true);
                    this.place_blocks(&gemm.row, &row);
                    this.place_blocks(&gemm.col, &col);
                    let acc = this.scope.name_scalar(&gemm.acc);
                    this.line(&format!("const {ty} {acc} = {sum}[i][j];"));
                    this.block(&gemm.body)
                })
            })
        })
    }

    /// Do elements of the operand lie side by side along the sum? `None` where its place is not known.
    fn runs_along(&self, operand: &Expr, depth: &[(Symbol, Dim)]) -> Option<bool> {
        let (axis, _) = depth.last()?;
        let mut found = None;
        operand.walk(&mut |e| {
            let ExprKind::Load { source, at, .. } = e.kind() else { return };
            let Some(array) = self.scope.arrays.get(source) else { return };
            let at: Option<Vec<&Dim>> = at.iter().map(Expr::as_index).collect();
            let Some(at) = at else { return };
            let position: Dim =
                at.iter().zip(strides(&array.shape)).map(|(index, stride)| (*index).clone() * stride).sum();
            let side = position.linear_in(axis).is_some_and(|(stride, _)| stride.is(1));
            found.get_or_insert(side);
        });
        found
    }
}

fn count(axes: &[(Symbol, Dim)]) -> Dim {
    axes.iter().map(|(_, extent)| extent.clone()).product()
}
