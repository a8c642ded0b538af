//! Attention in tiles: a block of queries meets one tile of keys after the other, and no array of all scores is stored.
//!
//! Each row carries the largest score so far, the sum of its weights and the weighted sum of values, relative to that
//! largest score; a tile with a larger one scales both. A row that has met nothing but −∞ has no largest score yet: its
//! weights are 0 then, and if it stays so, the quotient at the end is NaN, as without tiles.
//!
//! Where the region gives −∞ for all keys before or behind a line in queries and keys (causal masks, windows), tiles
//! there are left out: the weight of such a key is 0. Its value is not looked at, even if it is no number.
//!
//! Keys may come in parts, from several arrays (`parts`). Those that share their values are taken together: their
//! weights are added up, and multiplied once.
//!
//! Keys that fit one tile need none of this: then the stages are computed as they stand, for a block of queries. Where
//! queries are few, the tiles are cut into parts (`split`).

mod distance;
mod parts;
mod seen;
mod split;

use std::collections::BTreeMap;

use ir::dim::Symbol;
use ir::kernel::stmt::PANEL;
use ir::kernel::{Expr, Kernel, Param, Stage, Stmt};
use ir::scalar::{Binary, Unary};
use ir::{DType, Dim, Scalar};

use super::nest;
use crate::lower::attention::{Attention, along, own, sum_of_products, tiled_width};
use crate::pass::{Cx, FpMode};
use crate::target::Tiles;
use distance::{Axes, DISTANCE, join_differences, take_out};
use parts::{Part, parts};
use seen::visible;
use split::Split;

/// An axis of queries, or of what stands around them.
struct Row {
    /// The index along the axis.
    at: Dim,
    /// The loop outside of the tiles.
    outer: Option<(Symbol, Dim)>,
    /// The loop inside, and how many iterations it has at most.
    inner: Option<(Symbol, Dim, i64)>,
}

/// The kernel's body and the scratch parameters that it needs, if it is an attention whose tiles have known sizes.
pub(super) fn loops(kernel: &Kernel, stages: &[Stage], cx: &Cx) -> Option<(Vec<Stmt>, Vec<Param>)> {
    let tiles = cx.target.tiles();
    let roles = Attention::find(stages)?;
    let width = tiled_width(&stages[roles.sum])?;
    let last = |stage: &Stage| stage.axes.last().map(|(axis, _)| axis.clone());
    let d = Symbol::new(format!("{}d", last(&stages[roles.sum])?));
    let axis = last(&stages[roles.scores])?;
    let becomes = &stages[roles.scored].body;
    let becomes = if cx.fp == FpMode::Strict { becomes.clone() } else { join_differences(becomes) };
    let groups = parts(stages, &roles, &becomes);
    let few = |part: &Part| part.keys.as_const().filter(|keys| (1..=tiles.few_keys).contains(keys));
    let at_once = match &groups[..] {
        [group] if let [part] = &group[..] => few(part).map(|keys| (part, keys)),
        _ => None,
    };
    let masks = |part: &Part| part.becomes.any(&mut |e| *e == Expr::number(DType::F32, f64::NEG_INFINITY));
    let most = match at_once {
        Some((_, keys)) => tiles.many_queries * tiles.row / keys.max(tiles.row),
        None if groups.iter().flatten().any(masks) => tiles.queries,
        None => {
            let arrays = groups.iter().map(Vec::len).max().unwrap_or(1) as i64;
            tiles.many_queries.min(tiles.block_bytes / (4 * (arrays * tiles.row + width))).max(1)
        }
    };
    let rows = rows(stages, &roles, most)?;
    let split = Split::find(&rows, &groups, &axis, &tiles).filter(|_| at_once.is_none());
    let (key, tables) = (Dim::constant(0), 0);
    let mut tiled = Tiled { kernel, stages, roles, rows, d, width, tiles, split, key, tables };
    Some(match at_once {
        Some((part, keys)) => (tiled.at_once(part, keys), Vec::new()),
        None => tiled.in_tiles(&groups),
    })
}

/// The axes before that of the keys. Those along which keys and values are the same are queries: of them, the last one
/// is cut into blocks of `most`, or several are one block if they are few together.
fn rows(stages: &[Stage], roles: &Attention, most: i64) -> Option<Vec<Row>> {
    let (scores, sum) = (&stages[roles.scores], &stages[roles.sum]);
    let count = scores.axes.len() - 1;
    let mentions = |stage: &Stage, factor: usize, at: usize| {
        let (_, factors) = sum_of_products(stage)?;
        Some(factors[factor].any(&mut |e| e.as_index().is_some_and(|dim| dim.mentions(&stage.axes[at].0))))
    };
    let mut room = most;
    let mut rows = Vec::with_capacity(count);
    for at in (0..count).rev() {
        let (axis, extent) = &scores.axes[at];
        let is_query = room > 0 && !mentions(scores, 1, at)? && !mentions(sum, 1, at)?;
        let [block, place] = ["b", "r"].map(|part| Symbol::new(format!("{axis}{part}")));
        let fits = extent.as_const().filter(|extent| (1..=room).contains(extent));
        rows.push(match fits {
            Some(extent) if is_query => {
                room /= extent;
                Row {
                    at: Dim::from(&place),
                    outer: None,
                    inner: Some((place, Dim::constant(extent), extent)),
                }
            }
            None if is_query && room == most => {
                room = 0;
                // Blocks of a known number of queries are equally large: a small rest would cost as much as a block.
                let ceil_div = |a: i64, b: i64| (a + b - 1) / b;
                let even = |count: i64| ceil_div(count, ceil_div(count, most));
                let size = extent.as_const().filter(|&count| count > 0).map_or(most, even);
                let start = Dim::from(&block) * Dim::constant(size);
                let rest = extent.clone() - start.clone();
                let inner = Dim::constant(size).smaller(&rest);
                Row {
                    at: start + Dim::from(&place),
                    outer: Some((block, extent.ceil_div(&Dim::constant(size)))),
                    inner: Some((place, inner, size)),
                }
            }
            _ => {
                room = 0;
                Row { at: Dim::from(axis), outer: Some((axis.clone(), extent.clone())), inner: None }
            }
        });
    }
    rows.reverse();
    Some(rows)
}

struct Tiled<'a> {
    kernel: &'a Kernel,
    stages: &'a [Stage],
    roles: Attention,
    rows: Vec<Row>,
    /// The axis along a row of the result, and its extent.
    d: Symbol,
    width: i64,
    /// How much is in work at once.
    tiles: Tiles,
    /// The parts that tiles are cut into.
    split: Option<Split>,
    /// The index of the key in its part.
    key: Dim,
    /// Tables made so far.
    tables: usize,
}

/// The arrays of a block: scores, then weights; largest scores, sums of weights, what sums are scaled by, and weighted
/// sums of values.
const SCORES: &str = "tile.scores";
const MOST: &str = "tile.most";
const TOTAL: &str = "tile.total";
const FACTOR: &str = "tile.factor";
const SUM: &str = "tile.sum";

impl Tiled<'_> {
    /// All keys in one tile.
    fn at_once(&mut self, part: &Part, keys: i64) -> Vec<Stmt> {
        let place = Symbol::new(format!("{}c", self.key_axis()));
        let cols = (place.clone(), Dim::constant(keys));
        self.key = Dim::from(&place);
        let mut body = vec![self.alloc(SCORES, Some(self.row_of_scores(keys))), self.alloc(TOTAL, None)];
        body.extend(self.scores(part, SCORES, &cols, keys));
        let score = self.element(SCORES, Some(&place));
        let mut row = folded("acc1", Binary::Max, f64::NEG_INFINITY, &cols, &score);
        row.extend(self.weights(&cols, &[SCORES.into()], scalar("acc1")));
        row.extend(folded("acc2", Binary::Add, 0.0, &cols, &score));
        row.push(self.put(TOTAL, None, scalar("acc2")));
        body.extend(self.each_row(row));
        let mut element = self.product(part, &cols);
        element.push(bind("row.total", self.element(TOTAL, None)));
        element.extend(self.results(&scalar("acc3")));
        body.extend(self.each_row(nest(&[self.along_row()], element)));
        self.around(body)
    }

    /// One tile after the other.
    fn in_tiles(&mut self, groups: &[Vec<Part>]) -> (Vec<Stmt>, Vec<Param>) {
        let d = self.d.clone();
        let mut body: Vec<Stmt> = [MOST, TOTAL, FACTOR].map(|name| self.alloc(name, None)).into();
        for part in 0..groups.iter().map(Vec::len).max().unwrap_or(0) {
            let widest =
                groups.iter().filter(|group| part < group.len()).map(|group| self.tile_of(group)).max();
            body.push(self.alloc(&scores_name(part), widest.map(|keys| self.row_of_scores(keys))));
        }
        body.push(self.alloc(SUM, Some(self.width)));
        let begin = |name, value| self.put(name, None, number(value));
        body.extend(self.each_row(vec![begin(MOST, f64::NEG_INFINITY), begin(TOTAL, 0.0)]));
        body.extend(self.each_row(nest(&[self.along_row()], vec![self.put(SUM, Some(&d), number(0.0))])));
        for group in groups {
            body.extend(self.tiles(group));
        }
        if let Some(split) = &self.split {
            return self.in_parts(split, body);
        }
        let results = self.results(&self.element(SUM, Some(&d)));
        let mut row = vec![bind("row.total", self.element(TOTAL, None))];
        row.extend(nest(&[self.along_row()], results));
        body.extend(self.each_row(row));
        (self.around(body), Vec::new())
    }

    /// The tiles of parts with the same values.
    fn tiles(&mut self, group: &[Part]) -> Vec<Stmt> {
        let [tile, place] = ["b", "c"].map(|part| Symbol::new(format!("{}{part}", self.key_axis())));
        let (names, size) = (scores_of(group), self.tile_of(group));
        let [first, end] = self.seen(group);
        let all = (end.clone() - first.clone()).ceil_div(&Dim::constant(size));
        let [before, tiles] = match &self.split {
            Some(split) => split.share(&all),
            None => [Dim::constant(0), all],
        };
        let start = first + (before + Dim::from(&tile)) * Dim::constant(size);
        let cols = (place.clone(), Dim::constant(size).smaller(&(end - start.clone())));
        self.key = start + Dim::from(&place);
        let d = self.d.clone();

        let mut inside = Vec::new();
        for (part, name) in group.iter().zip(&names) {
            inside.extend(self.scores(part, name, &cols, size));
        }
        let mut row = Vec::new();
        let [before, most, shift] = ["row.before", "row.most", "row.shift"].map(scalar);
        let mut largest = before.clone();
        for (number, name) in names.iter().enumerate() {
            let (acc, score) = (format!("acc1{}", suffix(number)), self.element(name, Some(&place)));
            row.extend(folded(&acc, Binary::Max, f64::NEG_INFINITY, &cols, &score));
            largest = Expr::binary(Binary::Max, largest, scalar(&acc));
        }
        row.push(bind("row.before", self.element(MOST, None)));
        row.push(bind("row.most", largest));
        let none = most.clone().equals(number(f64::NEG_INFINITY));
        row.push(bind("row.shift", none.select(number(0.0), most.clone())));
        row.extend(self.weights(&cols, &names, shift.clone()));
        row.extend(folded("acc2", Binary::Add, 0.0, &cols, &self.element(SCORES, Some(&place))));
        row.push(bind("row.factor", Expr::unary(Unary::Exp, before - shift)));
        let total = Expr::fma(self.element(TOTAL, None), scalar("row.factor"), scalar("acc2"));
        row.push(self.put(TOTAL, None, total));
        row.push(self.put(FACTOR, None, scalar("row.factor")));
        row.push(self.put(MOST, None, most));
        inside.extend(self.each_row(row));
        let mut element = self.product(&group[0], &cols);
        let carried = Expr::fma(self.element(SUM, Some(&d)), self.element(FACTOR, None), scalar("acc3"));
        element.push(self.put(SUM, Some(&d), carried));
        inside.extend(self.each_row(nest(&[self.along_row()], element)));
        nest(&[(tile, tiles)], inside)
    }

    fn key_axis(&self) -> Symbol {
        let (axis, _) = self.stages[self.roles.scores].axes.last().expect("bug: scores have an axis of keys");
        axis.clone()
    }

    fn along_row(&self) -> (Symbol, Dim) {
        (self.d.clone(), Dim::constant(self.width))
    }

    /// From one row of scores to the next: as products read it where it lies, if it is as long.
    fn row_of_scores(&self, keys: i64) -> i64 {
        if (PANEL..=self.tiles.row).contains(&keys) { self.tiles.row } else { keys }
    }

    /// Keys in a tile of such a group.
    fn tile_of(&self, group: &[Part]) -> i64 {
        (2 * self.tiles.keys / group.len() as i64).clamp(PANEL, self.tiles.keys) / PANEL * PANEL
    }

    /// An array of the block: a number for each row, or so many.
    fn alloc(&self, name: &str, width: Option<i64>) -> Stmt {
        let rows = self.rows.iter().filter_map(|row| Some(row.inner.as_ref()?.2));
        Stmt::Alloc { name: Symbol::new(name), dtype: DType::F32, shape: rows.chain(width).collect() }
    }

    fn index(&self, last: Option<&Symbol>) -> Vec<Expr> {
        let rows = self.rows.iter().filter_map(|row| Some(&row.inner.as_ref()?.0));
        rows.chain(last).map(|axis| Dim::from(axis).into()).collect()
    }

    fn element(&self, name: &str, last: Option<&Symbol>) -> Expr {
        Expr::load(Symbol::new(name), DType::F32, self.index(last))
    }

    fn put(&self, name: &str, last: Option<&Symbol>, value: Expr) -> Stmt {
        Stmt::Store { target: Symbol::new(name), at: self.index(last), value }
    }

    /// The body for each row of the block.
    fn each_row(&self, body: Vec<Stmt>) -> Vec<Stmt> {
        let axes: Vec<_> = self.rows.iter().filter_map(|row| row.inner.as_ref()).collect();
        let axes: Vec<_> = axes.into_iter().map(|(axis, extent, _)| (axis.clone(), extent.clone())).collect();
        nest(&axes, body)
    }

    /// The body for each block.
    fn around(&self, body: Vec<Stmt>) -> Vec<Stmt> {
        let axes: Vec<_> = self.rows.iter().filter_map(|row| row.outer.clone()).collect();
        nest(&axes, body)
    }

    /// What the axes of a stage are here, `last` being its last one.
    fn bound(&self, stage: &Stage, last: &Dim) -> BTreeMap<Symbol, Dim> {
        let dims = self.rows.iter().map(|row| &row.at).chain([last]);
        stage.axes.iter().map(|(axis, _)| axis.clone()).zip(dims.cloned()).collect()
    }

    /// Stores what becomes of the scores of a tile of at most so many keys.
    fn scores(&mut self, part: &Part, name: &str, cols: &(Symbol, Dim), keys: i64) -> Vec<Stmt> {
        let (raw, scored) = (&self.stages[self.roles.scores], &self.stages[self.roles.scored]);
        let (fold, _) = sum_of_products(raw).expect("bug: scores are sums of products");
        let bound = self.bound(raw, &self.key);
        let summed = (fold.axis.clone(), fold.extent.clone());
        let mut element = sum("acc0", summed, part.factors.each_ref().map(|e| put_in(e, &bound)));
        let mut out = Vec::new();
        let value = match self.roles.scored == self.roles.scores {
            true => scalar("acc0"),
            false => {
                let rest = self.tables(&part.becomes, cols, keys, &mut out);
                let body = put_in(&rest, &self.bound(scored, &self.key));
                body.replace_loads(&mut |source, _| (*source == raw.name).then(|| scalar("acc0")))
            }
        };
        element.push(self.put(name, Some(&cols.0), value));
        out.extend(self.each_row(nest(std::slice::from_ref(cols), element)));
        out
    }

    /// Tables of what depends on the distance of query and key, and what becomes of a score with them.
    fn tables(&mut self, becomes: &Expr, cols: &(Symbol, Dim), keys: i64, out: &mut Vec<Stmt>) -> Expr {
        let scored = &self.stages[self.roles.scored];
        let axis = |at: usize| &scored.axes[at].0;
        let Some((query, Row { at, inner: Some((place, _, room)), .. })) =
            self.rows.iter().enumerate().next_back()
        else {
            return becomes.clone();
        };
        let others = (0..query).filter(|&at| self.rows[at].inner.is_some()).map(axis).collect();
        let axes = Axes { query: axis(query), key: axis(scored.axes.len() - 1), others };
        let made = self.tables;
        let name = |number: usize| Symbol::new(format!("tile.distances{}", made + number));
        // From left to right, keys come closer to the query, or go away behind it.
        let here = Dim::from(&cols.0) - Dim::from(place) + Dim::constant(room - 1);
        let table = |number: usize| Expr::load(name(number), DType::F32, [Expr::from(&here)]);
        let (rest, parts) = take_out(becomes, &axes, &table);
        let entry = Symbol::new(format!("{}e", cols.0));
        let count = room + keys - 1;
        let first = |dim: &Dim, axis: &Symbol| dim.substitute(&|s| (s == axis).then(|| Dim::constant(0)));
        let distance =
            first(at, place) - first(&self.key, &cols.0) + Dim::constant(room - 1) - Dim::from(&entry);
        let mut bound = self.bound(scored, &self.key);
        bound.insert(Symbol::new(DISTANCE), distance);
        for (number, part) in parts.iter().enumerate() {
            out.push(Stmt::Alloc { name: name(number), dtype: DType::F32, shape: vec![count] });
            let value = put_in(part, &bound);
            let store = Stmt::Store { target: name(number), at: vec![Dim::from(&entry).into()], value };
            out.extend(nest(&[(entry.clone(), Dim::constant(count))], vec![store]));
        }
        self.tables += parts.len();
        rest
    }

    /// Weights in the place of scores: the sums of those of all parts.
    fn weights(&self, cols: &(Symbol, Dim), names: &[String], most: Expr) -> Vec<Stmt> {
        let weight = |name| Expr::unary(Unary::Exp, self.element(name, Some(&cols.0)) - most.clone());
        let sum = names.iter().map(|name| weight(name)).reduce(|sum, weight| sum + weight);
        let sum = sum.expect("bug: a tile has keys of a part");
        nest(std::slice::from_ref(cols), vec![self.put(SCORES, Some(&cols.0), sum)])
    }

    /// The weighted sum of the values of a tile.
    fn product(&self, part: &Part, cols: &(Symbol, Dim)) -> Vec<Stmt> {
        let stage = &self.stages[self.roles.sum];
        let (fold, _) = sum_of_products(stage).expect("bug: the result is a sum of products");
        let mut bound = self.bound(stage, &Dim::from(&self.d));
        bound.insert(fold.axis.clone(), self.key.clone());
        sum("acc3", cols.clone(), [self.element(SCORES, Some(&cols.0)), put_in(&part.value, &bound)])
    }

    /// What follows the weighted sum, for one element.
    fn results(&self, sum: &Expr) -> Vec<Stmt> {
        let (total, first) = (&self.stages[self.roles.total], &self.stages[self.roles.sum]);
        let dims: Vec<Dim> = self.rows.iter().map(|row| row.at.clone()).chain([Dim::from(&self.d)]).collect();
        let mut known: BTreeMap<Symbol, (Vec<Dim>, Expr)> = BTreeMap::new();
        known.insert(first.name.clone(), (dims, sum.clone()));
        let mut out = Vec::new();
        for stage in &self.stages[self.roles.sum + 1..] {
            let is = along(stage, &|source| known.get(source).map(|(dims, _)| dims.clone()));
            let is = is.expect("bug: what follows an attention takes its elements one by one");
            let bound = own(stage).into_iter().zip(&is);
            let bound =
                bound.filter_map(|(axis, dim)| Some((axis.as_symbol()?.clone(), dim.clone()))).collect();
            let value = put_in(&stage.body, &bound).replace_loads(&mut |source, _| match known.get(source) {
                Some((_, value)) => Some(value.clone()),
                None => (*source == total.name).then(|| scalar("row.total")),
            });
            let name = Symbol::new(format!("row.{}", stage.name));
            let dtype = value.dtype();
            out.push(Stmt::Let { name: name.clone(), value });
            let value = Expr::var(name, dtype);
            if self.kernel.param(&stage.name).is_some() {
                let at = is.iter().map(Expr::from).collect();
                out.push(Stmt::Store { target: stage.name.clone(), at, value: value.clone() });
            }
            known.insert(stage.name.clone(), (is, value));
        }
        out
    }

    /// The first key of the parts that a row of the block may see, and the one behind the last.
    fn seen(&self, group: &[Part]) -> [Dim; 2] {
        let of_parts = group.iter().map(|part| self.seen_of(part));
        let all = of_parts.reduce(|[first, end], [one, other]| [first.smaller(&one), end.larger(&other)]);
        all.expect("bug: a tile has keys of a part")
    }

    fn seen_of(&self, part: &Part) -> [Dim; 2] {
        let scored = &self.stages[self.roles.scored];
        let key = &scored.axes.last().expect("bug: scores have an axis of keys").0;
        let bound = self.bound(scored, &Dim::from(key));
        let (mut first, mut end) = (Dim::constant(0), part.keys.clone());
        let mut gaps = Vec::new();
        visible(&part.becomes, &mut gaps);
        for gap in gaps {
            // `gap ≥ 0`, and the key stands in it with ±1.
            let gap = gap.substitute(&|axis| bound.get(axis).cloned());
            let Some((scale, rest)) = gap.linear_in(key) else { continue };
            match (scale.as_const(), self.largest(&rest)) {
                (Some(-1), Some(most)) => end = end.smaller(&(most + Dim::constant(1))),
                (Some(1), Some(most)) => first = first.larger(&-most),
                _ => {}
            }
        }
        [first, end]
    }

    /// The largest value among the rows of a block.
    fn largest(&self, dim: &Dim) -> Option<Dim> {
        let mut most = dim.clone();
        for (axis, extent, _) in self.rows.iter().filter_map(|row| row.inner.as_ref()) {
            let (scale, rest) = most.linear_in(axis)?;
            let last = extent.clone() - Dim::constant(1);
            most = if scale.as_const()? > 0 { rest + scale * last } else { rest };
        }
        Some(most)
    }
}

/// The arrays of the scores of each part.
fn scores_of(group: &[Part]) -> Vec<String> {
    (0..group.len()).map(scores_name).collect()
}

fn scores_name(part: usize) -> String {
    format!("{SCORES}{}", suffix(part))
}

/// Nothing for the first of several.
fn suffix(number: usize) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn number(value: f64) -> Expr {
    Expr::constant(Scalar::f32(value as f32))
}

fn scalar(name: &str) -> Expr {
    Expr::var(Symbol::new(name), DType::F32)
}

fn bind(name: &str, value: Expr) -> Stmt {
    Stmt::Let { name: Symbol::new(name), value }
}

fn put_in(e: &Expr, bound: &BTreeMap<Symbol, Dim>) -> Expr {
    e.substitute(&|symbol| bound.get(symbol).cloned())
}

/// `acc ∘ element` for all of a row of the tile.
fn folded(acc: &str, function: Binary, first: f64, cols: &(Symbol, Dim), element: &Expr) -> Vec<Stmt> {
    let value = Expr::binary(function, scalar(acc), element.clone());
    let set = Stmt::Set { name: Symbol::new(acc), value };
    let mut out = vec![Stmt::Var { name: Symbol::new(acc), init: number(first) }];
    out.extend(nest(std::slice::from_ref(cols), vec![set]));
    out
}

/// A sum of products, in one rounding a step.
fn sum(acc: &str, along: (Symbol, Dim), [a, b]: [Expr; 2]) -> Vec<Stmt> {
    let set = Stmt::Set { name: Symbol::new(acc), value: Expr::fma(a, b, scalar(acc)) };
    let mut out = vec![Stmt::Var { name: Symbol::new(acc), init: number(0.0) }];
    out.extend(nest(&[along], vec![set]));
    out
}
