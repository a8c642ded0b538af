//! Rows that meet several matrices: a block finds which of them its rows meet.

use ir::dim::Symbol;
use ir::kernel::Group;

use super::super::Emitter;
use super::operand::Places;
use super::tile::{THREADS, Tile};

impl Emitter<'_> {
    /// Finds the rows of a tile and binds the number of their matrix; blocks that have none end. What the rows are, and how
    /// many.
    pub(super) fn rows_in_order(
        &mut self,
        group: &Group,
        tile_row: &Symbol,
        tile: &Tile,
    ) -> (Places, String) {
        let numbers = group.extent.as_const().map_or(i64::from(THREADS), |numbers| {
            (numbers.max(1) as u64).next_power_of_two().min(u64::from(THREADS)) as i64
        });
        let [starts, order] =
            [&group.starts, &group.order].map(|array| self.scope.arrays[array].name.clone());
        let all = self.index(&group.extent).text;
        let found = self.scratch("rows of a tile", numbers as u64 * 8 + 24);
        let at = self.scratch("rows", tile.rows as u64 * 4);
        self.prelude.need("rows_of_tile");
        let [stretch, count, rows] = ["stretch", "count", "rows"].map(|name| self.scope.names.fresh(name));
        let tile_row = self.scope.axes[tile_row].clone();
        self.line(&format!(
            "const Stretch {stretch} = rows_of_tile<{}, {numbers}>({starts}, {all}, {tile_row}, {found});",
            tile.rows
        ));
        self.line(&format!("if ({stretch}.number < 0) return;"));
        let number = self.scope.name_axis(&group.axis);
        self.scope.ranges.enter(group.axis.clone(), group.extent.clone());
        self.line(&format!(
            "const i64 {number} = {stretch}.number, {count} = {stretch}.end - {stretch}.first;"
        ));
        self.line(&format!("const auto {rows} = shared<u32>({at});  // [{}]", tile.rows));
        let inside = format!("threadIdx.x < {} && threadIdx.x < {count}", tile.rows);
        self.line(&format!(
            "if ({inside}) {rows}[threadIdx.x] = (u32){order}[{stretch}.first + threadIdx.x];"
        ));
        self.line("__syncthreads();");
        (Places::Named(rows), count)
    }
}
