//! A router with its products, in blocks of rows: what a product makes of a block is kept, and then the rows that the next
//! product reads are computed, one after the other.
//!
//! Experts are chosen for all rows of a block at a time, pass by pass: a row of scores is short, and rows beside each other
//! fill vectors.

mod parts;

use std::collections::{BTreeMap, BTreeSet};

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Access, Expr, Kernel, Param, Stage, Stmt};

use super::{Home, Loops, loads_of, nest, prefix};
use crate::lower::substitute_block;
use crate::target::Tiles;
use parts::{How, Part, parts};

/// Rows that fill a vector.
const LANES: i64 = 16;

/// The loops of these stages of the kernel, if there is a product among them and something that goes through its rows,
/// and the scratch parameters that it needs for them. Experts are chosen in them, or not.
pub(super) fn loops(
    kernel: &Kernel,
    stages: &[Stage],
    chooses: bool,
    tiles: &Tiles,
    accumulators: &mut usize,
) -> Option<(Vec<Stmt>, Vec<Param>)> {
    let prefix = prefix(stages);
    let parts = parts(kernel, stages, prefix, chooses)?;
    let (rows, around) = stages.first()?.axes[..prefix].split_last()?;
    let beside = parts.iter().filter(|part| part.how == How::Beside);
    let mut blocks = Blocks {
        kernel,
        loops: Loops { stages, prefix, homes: BTreeMap::new(), accumulators },
        beside: beside.flat_map(|part| part.stages.iter().copied()).collect(),
        block: Block::of(rows, tiles.routed),
        local: tiles.routed_bytes,
        scratch: Vec::new(),
    };
    let body: Vec<Stmt> = parts.iter().flat_map(|part| blocks.part(part)).collect();
    let Blocks { block, scratch, .. } = blocks;
    let body = substitute_block(&body, &|axis| (*axis == rows.0).then(|| block.at()));
    let outer = (block.number.clone(), rows.1.ceil_div(&Dim::constant(block.size)));
    Some((nest(around, nest(&[outer], body)), scratch))
}

/// So many rows at a time.
struct Block {
    /// The loop over blocks, and the place in a block.
    number: Symbol,
    place: Symbol,
    size: i64,
    /// How many rows there are in this one.
    rows: Dim,
}

impl Block {
    /// Along these rows, at most so many together. Blocks of a known number of rows are equally large, but for the last one, and fill vectors.
    fn of((axis, extent): &(Symbol, Dim), most: i64) -> Block {
        let [number, place] = ["b", "r"].map(|part| Symbol::new(format!("{axis}{part}")));
        let even = |count: i64| {
            let size = (count as u64).div_ceil((count as u64).div_ceil(most as u64));
            if count < LANES { count } else { size.next_multiple_of(LANES as u64) as i64 }
        };
        let size = extent.as_const().filter(|&count| count > 0).map_or(most, even);
        let rest = extent.clone() - Dim::from(&number) * Dim::constant(size);
        Block { rows: Dim::constant(size).smaller(&rest), number, place, size }
    }

    /// The index of a row.
    fn at(&self) -> Dim {
        Dim::from(&self.number) * Dim::constant(self.size) + Dim::from(&self.place)
    }

    /// The loop over its rows.
    fn axis(&self) -> (Symbol, Dim) {
        (self.place.clone(), self.rows.clone())
    }
}

struct Blocks<'k, 's> {
    kernel: &'k Kernel,
    loops: Loops<'s>,
    /// The stages that are computed with the rows beside each other.
    beside: BTreeSet<usize>,
    block: Block,
    /// So many bytes may still be local.
    local: i64,
    scratch: Vec<Param>,
}

impl Blocks<'_, '_> {
    /// What is done for a block in one part, over the axis of rows.
    fn part(&mut self, part: &Part) -> Vec<Stmt> {
        let (all, prefix) = (self.loops.stages, self.loops.prefix);
        let stages: Vec<&Stage> = part.stages.iter().map(|&at| &all[at]).collect();
        let (mut body, mut row) = (Vec::new(), Vec::new());
        for (&at, stage) in part.stages.iter().zip(&stages) {
            let home = self.home(at, part);
            let allocated = if let Home::Local = home { &mut row } else { &mut body };
            allocated.extend(self.room(stage, &home));
            self.loops.homes.insert(stage.name.clone(), home);
        }
        let rows = self.block.axis();
        match part.how {
            How::Product => {
                let element = stages.iter().flat_map(|stage| self.loops.own_element(stage)).collect();
                body.extend(nest(&[rows], nest(&stages[0].axes[prefix..], element)));
            }
            How::Rows => {
                row.extend(stages.iter().flat_map(|stage| self.loops.stage(stage)));
                body.extend(nest(&[rows], row));
            }
            How::Beside => body.extend(stages.iter().flat_map(|stage| {
                let element = nest(std::slice::from_ref(&rows), self.loops.own_element(stage));
                nest(&stage.axes[prefix..], element)
            })),
        }
        body
    }

    fn home(&mut self, at: usize, part: &Part) -> Home {
        let stage = &self.loops.stages[at];
        if self.kernel.param(&stage.name).is_some() {
            return Home::Param(stage.name.clone());
        }
        let users = self.users(&stage.name);
        if part.how == How::Beside || part.how == How::Product && !users.is_disjoint(&self.beside) {
            return self.taken_over(at).unwrap_or_else(|| {
                let home = Home::Beside { array: stage.name.clone(), place: self.block.place.clone() };
                self.local(stage, home)
            });
        }
        if users.iter().all(|user| part.stages.contains(user)) {
            return if part.how == How::Product { Home::Scalar } else { self.loops.home(self.kernel, at) };
        }
        match self.loops.dies_into(self.kernel, at) {
            Some(result) => Home::Param(result),
            None => self.local(stage, Home::Block(self.block.place.clone())),
        }
    }

    /// This home, if its array may be local.
    fn local(&mut self, stage: &Stage, home: Home) -> Home {
        let bytes = self.row(stage).and_then(|row| {
            let first = self.block.size * stage.body.dtype().bytes() as i64;
            row.iter().try_fold(first, |bytes, size| bytes.checked_mul(*size))
        });
        match bytes {
            Some(bytes) if bytes <= self.local => {
                self.local -= bytes;
                home
            }
            _ => Home::Param(stage.name.clone()),
        }
    }

    /// The stages that load an array.
    fn users(&self, array: &Symbol) -> BTreeSet<usize> {
        let loads = |at: &usize| loads_of(&self.loops.stages[*at].body, array).next().is_some();
        (0..self.loops.stages.len()).filter(loads).collect()
    }

    /// The home of an array that the stage loads element by element, and that nobody needs after it.
    fn taken_over(&self, at: usize) -> Option<Home> {
        let stage = &self.loops.stages[at];
        let own: Vec<Expr> = stage.axes.iter().map(|(axis, _)| Dim::from(axis).into()).collect();
        let dies = |from: &&Stage| {
            let users = self.users(&from.name);
            users.last() == Some(&at)
                && users.is_subset(&self.beside)
                && from.axes == stage.axes
                && from.body.dtype() == stage.body.dtype()
                && loads_of(&stage.body, &from.name).all(|index| index == own)
        };
        let lie_beside =
            |from: &&Stage| matches!(self.loops.homes.get(&from.name), Some(Home::Beside { .. }));
        let from = self.loops.stages.iter().filter(lie_beside).find(dies)?;
        self.loops.homes.get(&from.name).cloned()
    }

    /// The sizes of what an array has of a row.
    fn row(&self, stage: &Stage) -> Option<Vec<i64>> {
        stage.axes[self.loops.prefix..].iter().map(|(_, extent)| extent.as_const()).collect()
    }

    /// Makes room for what has none yet: a local array, or scratch memory.
    fn room(&mut self, stage: &Stage, home: &Home) -> Option<Stmt> {
        let (name, dtype) = (stage.name.clone(), stage.body.dtype());
        let shape = match home {
            Home::Param(param) if self.kernel.param(param).is_none() => {
                self.scratch.push(Param { name: param.clone(), ty: stage.ty(), access: Access::Scratch });
                return None;
            }
            Home::Block(_) => [vec![self.block.size], self.row(stage)?].concat(),
            Home::Beside { array, .. } if *array == name => {
                [self.row(stage)?, vec![self.block.size]].concat()
            }
            Home::Local => self.row(stage)?,
            Home::Param(_) | Home::Scalar | Home::Beside { .. } => return None,
        };
        Some(Stmt::Alloc { name, dtype, shape })
    }
}
