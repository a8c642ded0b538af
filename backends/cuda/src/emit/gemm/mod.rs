//! Matrix products in tiles: the threads of a block bring a tile of each operand to shared memory, step by step along the
//! sum, and each keeps some elements of the result in registers.
//!
//! What a tile does stands before the functions (`prelude/tile_fma.cuh`, `tile_mma.cuh`, `tile_copied.cuh`); what is written here
//! for each product is where its elements come from, and what becomes of the sums. Operands are any expressions: a window of a
//! convolution, weights that are dequantized, rows in the order of their experts.
//!
//! Sums run in ascending order with one rounding a step. Where that may be otherwise, and both operands are 16-bit floats
//! without a loss, tensor cores compute them; where operands may be rounded, too, those of all others of 32 bits.

mod groups;
mod operand;
mod tile;

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::stmt::Axes;
use ir::kernel::{Gemm, LoopKind, Stmt};

use super::types::{ADD, SHIFT, value};
use super::{Emitter, Level};
use crate::error::EmitError;
use crate::source::Sums;
use operand::Places;
use tile::{FEW_ROWS, Form, THREADS, Tile};

/// Where a tile lies in a product, as text.
struct Place {
    /// What the tile's rows are in the product.
    rows: Places,
    /// How many rows there are from the tile's first on.
    row_count: String,
    /// The first column, and how many there are from there on.
    col0: String,
    col_count: String,
    /// Whether the tile is all that a block computes.
    is_alone: bool,
}

/// The rows of a product for which a launch is: where their number is open, there are two, one of which has no blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// However many there are.
    All,
    /// All of them, if a tile of the lowest kind has them.
    Few,
    /// All of them, if they are more.
    Many,
}

impl Rows {
    /// The launches of a statement in so many blocks.
    pub(super) fn of(stmt: &Stmt, sums: Sums, outer: &Dim) -> &'static [Rows] {
        match stmt {
            Stmt::For { extent, kind: LoopKind::Blocks(_), body, .. } if body.len() == 1 => {
                Rows::of(&body[0], sums, &(outer.clone() * extent.clone()))
            }
            Stmt::Gemm(gemm) if count(&gemm.row).as_const().is_none() => {
                let tile = Tile::of_launch(Form::of(gemm, sums), gemm, outer);
                if tile.rows > FEW_ROWS { &[Rows::Few, Rows::Many] } else { &[Rows::All] }
            }
            _ => &[Rows::All],
        }
    }

    /// What the name of a function ends in.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Rows::All | Rows::Many => "",
            Rows::Few => "_few_rows",
        }
    }

    /// 1 if this is the launch for so many rows, 0 if it is not.
    fn holds(self, rows: &Dim) -> Dim {
        let [zero, one, more] = [0, 1, FEW_ROWS + 1].map(Dim::constant);
        let few = one.smaller(&zero.larger(&(more - rows.clone())));
        match self {
            Rows::All => one,
            Rows::Few => few,
            Rows::Many => one - few,
        }
    }
}

impl Emitter<'_> {
    /// A launch with a block for each tile.
    pub(super) fn gemm_launch(
        &mut self,
        gemm: &Gemm,
        which: Rows,
        around: &[(Symbol, Dim)],
        outer: &Dim,
    ) -> Result<(Dim, u32), EmitError> {
        self.threads = THREADS;
        let [rows, cols] = [&gemm.row, &gemm.col].map(count);
        let form = Form::of(gemm, self.sums);
        let tile = if which == Rows::Few { Tile::of_few(form) } else { Tile::of_launch(form, gemm, outer) };
        let holds = which.holds(&rows);
        let (down, across) = (tile.down(gemm, &rows), cols.ceil_div(&Dim::constant(tile.cols)));
        let [tile_row, tile_col] = ["tile.row", "tile.col"].map(Symbol::new);
        let tiles = [(tile_row.clone(), down.clone()), (tile_col.clone(), across.clone())];
        let axes: Axes = around.iter().cloned().chain(tiles).collect();
        self.place_blocks(&axes, "blockIdx.x");
        let (rows, row_count) = match &gemm.group {
            Some(group) => self.rows_in_order(group, &tile_row, &tile),
            None => {
                let (row0, count) = self.stretch("row0", &tile_row, tile.rows, &rows);
                (Places::From(row0), count)
            }
        };
        let (col0, col_count) = self.stretch("col0", &tile_col, tile.cols, &cols);
        self.tile(gemm, form, &tile, &Place { rows, row_count, col0, col_count, is_alone: true })?;
        Ok((outer.clone() * down * across * holds, self.threads))
    }

    /// The first row (or column) of a tile, and how many there are from there on.
    fn stretch(&mut self, name: &str, tile: &Symbol, length: i64, all: &Dim) -> (String, String) {
        let all = self.index(all).within(ADD);
        let name = self.scope.names.fresh(name);
        self.line(&format!("const i64 {name} = {} * {length};", self.scope.axes[tile]));
        let count = format!("{all} - {name}");
        (name, count)
    }

    /// A product that a block computes on its own, one tile after the other.
    pub(super) fn gemm_in_block(&mut self, gemm: &Gemm) -> Result<(), EmitError> {
        if self.threads != THREADS || gemm.group.is_some() {
            return Err(self.unsupported(
                "a product that a block cannot compute on its own".to_owned(),
                "schedule the kernel for this target".to_owned(),
            ));
        }
        let form = Form::of(gemm, self.sums);
        let tile = Tile::in_block(form, gemm);
        let outer = self.scope.clone();
        let [rows, cols] = [&gemm.row, &gemm.col].map(count).map(|all| self.index(&all));
        let [row0, col0] = ["row0", "col0"].map(|name| self.scope.names.fresh(name));
        let head = |name: &str, count: &str, of: i64| {
            format!("for (i64 {name} = 0; {name} < {count}; {name} += {of})")
        };
        self.braces(&head(&row0, &rows.within(SHIFT), tile.rows), |this| {
            this.braces(&head(&col0, &cols.within(SHIFT), tile.cols), |this| {
                let row_count = format!("{} - {row0}", rows.within(ADD));
                let col_count = format!("{} - {col0}", cols.within(ADD));
                let rows = Places::From(row0.clone());
                let place = Place { rows, row_count, col0: col0.clone(), col_count, is_alone: false };
                this.tile(gemm, form, &tile, &place)
            })
        })?;
        self.scope = outer;
        Ok(())
    }

    /// A tile: its operands as functions of place and step, what becomes of a sum, and the call.
    fn tile(&mut self, gemm: &Gemm, form: Form, tile: &Tile, place: &Place) -> Result<(), EmitError> {
        self.level = Level::Thread;
        let cols = Places::From(place.col0.clone());
        let [a, b] = [(&gemm.a, &gemm.row, &place.rows, true), (&gemm.b, &gemm.col, &cols, false)]
            .map(|(e, axes, rows, is_left)| self.operand(gemm, e, axes, rows, is_left, form.element()));
        let [a_name, b_name, result] = ["left", "right", "result"].map(|name| self.scope.names.fresh(name));
        let tile = tile.for_packs(form, [a.width, b.width], place.is_alone);
        self.bring(gemm, &a, &place.rows, tile.way, &a_name)?;
        self.bring(gemm, &b, &cols, tile.way, &b_name)?;
        self.results(gemm, place, &cols, &result)?;
        let along = [a.along_sum, b.along_sum];
        tile.pieces(form).into_iter().for_each(|piece| self.prelude.need(piece));
        let at = self.scratch("tiles", tile.bytes(form, along));
        let steps = self.index(&count(&gemm.depth)).text;
        let Place { row_count, col_count, .. } = place;
        self.line(&format!("{}(", tile.function(form, along)));
        self.line(&format!("    {at}, {row_count}, {col_count}, {steps}, {a_name}, {b_name}, {result});"));
        self.level = Level::Block;
        Ok(())
    }

    /// What becomes of a sum, as a function of its row and column in the tile.
    fn results(&mut self, gemm: &Gemm, place: &Place, cols: &Places, name: &str) -> Result<(), EmitError> {
        let [i, j] = ["i", "j"].map(|name| self.scope.names.fresh(name));
        let ty = value(gemm.dtype());
        let outer = self.scope.clone();
        let acc = self.scope.name_scalar(&gemm.acc);
        let head = format!("const auto {name} = [&](int {i}, int {j}, {ty} {acc})");
        self.enclosed(&head, "};", |this| {
            place.rows.bind(this, &gemm.row, &i);
            cols.bind(this, &gemm.col, &j);
            this.block(&gemm.body)
        })?;
        self.scope = outer;
        Ok(())
    }
}

fn count(axes: &Axes) -> Dim {
    axes.iter().map(|(_, extent)| extent.clone()).product()
}
