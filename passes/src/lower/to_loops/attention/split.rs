//! Few queries and many keys, as when a model decodes: one part of the keys after the other would leave a GPU idle.
//!
//! So parts are side by side, and each leaves behind, for each row, what a row carries from tile to tile: the largest
//! score, the sum of weights, and the weighted sum of values. Then these are put together, in the order of the parts.

use ir::dim::Symbol;
use ir::kernel::{Access, Expr, Param, Stmt};
use ir::scalar::{Binary, Unary};
use ir::{DType, Dim, TensorType};

use super::parts::Part;
use super::{MOST, Row, SUM, TOTAL, Tiled, bind, folded, nest, number, scalar, sum};
use crate::target::Tiles;

/// More queries than this make enough blocks, or enough work in each.
const FEW_QUERIES: i64 = 16;

/// Keys of a part: at least so many tiles.
const TILES: i64 = 2;

/// What the parts leave behind.
const LEFT: [(&str, &str); 3] = [(MOST, "part.most"), (TOTAL, "part.total"), (SUM, "part.sum")];

/// What a part's weights are scaled by.
const FACTOR: &str = "part.factor";

/// Parts of the keys, side by side.
#[derive(Debug, Clone)]
pub(super) struct Split {
    /// The axis of the parts.
    pub(super) axis: Symbol,
    /// How many there are.
    pub(super) parts: Dim,
}

impl Split {
    /// The parts of an attention, if it has so few queries.
    pub(super) fn find(rows: &[Row], groups: &[Vec<Part>], key: &Symbol, tiles: &Tiles) -> Option<Split> {
        let queries: i64 =
            rows.iter().filter_map(|row| row.inner.as_ref()).map(|(.., count)| count).product();
        let whole = rows.iter().all(|row| row.inner.is_none() || row.outer.is_none());
        let mut keys = groups.iter().map(|group| group[0].keys.as_const());
        let keys = keys.try_fold(0, |most: i64, keys| Some(most.max(keys?)));
        let parts = keys.map_or(tiles.parts, |keys| tiles.parts.min(keys / (TILES * tiles.keys)));
        (whole && queries <= FEW_QUERIES && parts > 1)
            .then(|| Split { axis: Symbol::new(format!("{key}p")), parts: Dim::constant(parts) })
    }

    /// Of so many tiles, the number of the first in a part, and how many the part has.
    pub(super) fn share(&self, tiles: &Dim) -> [Dim; 2] {
        let each = tiles.ceil_div(&self.parts);
        let first = Dim::from(&self.axis) * each.clone();
        let left = (tiles.clone() - first.clone()).larger(&Dim::constant(0));
        [first, each.smaller(&left)]
    }
}

impl Tiled<'_> {
    /// A block for each part, whose tiles are the body; then the rows, from what the blocks leave behind.
    pub(super) fn in_parts(&self, split: &Split, mut body: Vec<Stmt>) -> (Vec<Stmt>, Vec<Param>) {
        let each = (split.axis.clone(), split.parts.clone());
        for (name, left) in LEFT {
            let last = (name == SUM).then_some(&self.d);
            let at = self.place(split, last);
            let store = Stmt::Store { target: Symbol::new(left), at, value: self.element(name, last) };
            let along: Vec<_> = last.map(|_| self.along_row()).into_iter().collect();
            body.extend(self.each_row(nest(&along, vec![store])));
        }
        let mut out = self.around(nest(std::slice::from_ref(&each), body));

        let [most, total, values] = LEFT.map(|(name, left)| {
            let last = (name == SUM).then_some(&self.d);
            Expr::load(Symbol::new(left), DType::F32, self.place(split, last))
        });
        let part: Expr = Dim::from(&split.axis).into();
        let factor = Expr::load(Symbol::new(FACTOR), DType::F32, [part.clone()]);
        let mut row = folded("acc4", Binary::Max, f64::NEG_INFINITY, &each, &most);
        let none = scalar("acc4").equals(number(f64::NEG_INFINITY));
        row.push(bind("row.shift", none.select(number(0.0), scalar("acc4"))));
        let shape = split.parts.as_const().into_iter().collect();
        row.push(Stmt::Alloc { name: Symbol::new(FACTOR), dtype: DType::F32, shape });
        let scaled = Expr::unary(Unary::Exp, most - scalar("row.shift"));
        let store = Stmt::Store { target: Symbol::new(FACTOR), at: vec![part], value: scaled };
        row.extend(nest(std::slice::from_ref(&each), vec![store]));
        row.extend(sum("acc5", each.clone(), [total, factor.clone()]));
        row.push(bind("row.total", scalar("acc5")));
        let mut element = sum("acc6", each, [values, factor]);
        element.extend(self.results(&scalar("acc6")));
        row.extend(nest(&[self.along_row()], element));
        out.extend(self.around(self.each_row(row)));
        (out, self.left(split))
    }

    /// The arrays that the parts leave behind.
    fn left(&self, split: &Split) -> Vec<Param> {
        let outer = self.rows.iter().filter_map(|row| Some(row.outer.as_ref()?.1.clone()));
        let inner = self.rows.iter().filter_map(|row| Some(Dim::constant(row.inner.as_ref()?.2)));
        let rows: Vec<Dim> = outer.chain([split.parts.clone()]).chain(inner).collect();
        LEFT.map(|(name, left)| {
            let last = (name == SUM).then(|| Dim::constant(self.width));
            let ty = TensorType::new(DType::F32, rows.iter().cloned().chain(last));
            Param { name: Symbol::new(left), ty, access: Access::Scratch }
        })
        .into()
    }

    /// The index in them.
    fn place(&self, split: &Split, last: Option<&Symbol>) -> Vec<Expr> {
        let outer = self.rows.iter().filter_map(|row| Some(&row.outer.as_ref()?.0));
        let inner = self.rows.iter().filter_map(|row| Some(&row.inner.as_ref()?.0));
        let axes = outer.chain([&split.axis]).chain(inner).chain(last);
        axes.map(|axis| Dim::from(axis).into()).collect()
    }
}
