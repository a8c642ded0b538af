//! A router with the product that makes its scores, in blocks of rows: the scores of a block are kept beside each other,
//! and then the experts of one row after the other are chosen.

use std::collections::BTreeMap;
use std::ops::Range;

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Access, Body, Kernel, Param, Stage, Stmt};

use super::{Home, Loops, loads_of, nest, prefix};
use crate::kernel::{has_fold, is_contraction};
use crate::lower::substitute_block;

/// Rows in a block.
const ROWS: i64 = 64;

/// An array of a block may be local up to so many bytes.
const LOCAL_BYTES: i64 = 192 << 10;

/// Replaces the kernel's body by loops, if it is a router with its product. Gives the scratch parameters that it needs
/// from now on.
pub(super) fn loops(kernel: &mut Kernel, stages: &[Stage]) -> Option<Vec<Param>> {
    let product = stages.iter().position(is_contraction)?;
    let prefix = prefix(stages);
    let (rows, around) = stages[product].axes.get(..prefix)?.split_last()?;
    if stages[product].axes.len() != prefix + 1 {
        return None;
    }
    let behind = stages[product + 1..].iter().take_while(|stage| follows(stage, &stages[product..])).count();
    let mut router = Router {
        kernel,
        loops: Loops { stages, prefix, homes: BTreeMap::new(), accumulators: 0 },
        product: product..product + 1 + behind,
        block: Block::of(rows),
        scratch: Vec::new(),
    };
    let body = router.body();
    let Router { block, scratch, .. } = router;
    let body = substitute_block(&body, &|axis| (*axis == rows.0).then(|| block.at()));
    let outer = (block.number.clone(), rows.1.ceil_div(&Dim::constant(block.size)));
    kernel.body = Body::Loops(nest(around, nest(&[outer], body)));
    Some(scratch)
}

/// Is the stage computed from the product element by element, as its elements come?
fn follows(stage: &Stage, product: &[Stage]) -> bool {
    let own: Vec<_> = stage.axes.iter().map(|(axis, _)| Dim::from(axis).into()).collect();
    stage.axes == product[0].axes
        && !has_fold(&stage.body)
        && product.iter().all(|from| loads_of(&stage.body, &from.name).all(|at| at == own))
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
    /// Along these rows. Blocks of a known number of rows are equally large, but for the last one.
    fn of((axis, extent): &(Symbol, Dim)) -> Block {
        let [number, place] = ["b", "r"].map(|part| Symbol::new(format!("{axis}{part}")));
        let even = |count: i64| (count as u64).div_ceil((count as u64).div_ceil(ROWS as u64)) as i64;
        let size = extent.as_const().filter(|&count| count > 0).map_or(ROWS, even);
        let rest = extent.clone() - Dim::from(&number) * Dim::constant(size);
        Block { rows: Dim::constant(size).smaller(&rest), number, place, size }
    }

    /// The index of a row.
    fn at(&self) -> Dim {
        Dim::from(&self.number) * Dim::constant(self.size) + Dim::from(&self.place)
    }

    fn each_row(&self, body: Vec<Stmt>) -> Vec<Stmt> {
        nest(&[(self.place.clone(), self.rows.clone())], body)
    }
}

struct Router<'k, 's> {
    kernel: &'k Kernel,
    loops: Loops<'s>,
    /// The product, and what follows it as its elements come.
    product: Range<usize>,
    block: Block,
    scratch: Vec<Param>,
}

impl Router<'_, '_> {
    /// What is done for a block, over the axis of rows.
    fn body(&mut self) -> Vec<Stmt> {
        let (stages, prefix) = (self.loops.stages, self.loops.prefix);
        let (mut body, mut row) = (Vec::new(), Vec::new());
        for (at, stage) in stages.iter().enumerate() {
            let home = self.home(at);
            let allocated = if at < self.product.end { &mut body } else { &mut row };
            allocated.extend(self.room(stage, &home));
            self.loops.homes.insert(stage.name.clone(), home);
        }
        for stage in &stages[..self.product.start] {
            body.extend(self.block.each_row(self.loops.stage(stage)));
        }
        let product = &stages[self.product.clone()];
        let element = product.iter().flat_map(|stage| self.loops.element(stage)).collect();
        body.extend(self.block.each_row(nest(&product[0].axes[prefix..], element)));
        row.extend(stages[self.product.end..].iter().flat_map(|stage| self.loops.stage(stage)));
        body.extend(self.block.each_row(row));
        body
    }

    fn home(&self, at: usize) -> Home {
        let stage = &self.loops.stages[at];
        if at >= self.product.end {
            return self.loops.home(self.kernel, at);
        }
        if self.kernel.param(&stage.name).is_some() {
            return Home::Param(stage.name.clone());
        }
        let loaded =
            |users: &[Stage]| users.iter().any(|user| loads_of(&user.body, &stage.name).next().is_some());
        if self.product.contains(&at) && !loaded(&self.loops.stages[self.product.end..]) {
            return Home::Scalar;
        }
        let bytes = self.shape(stage).and_then(|shape| {
            shape.iter().try_fold(stage.body.dtype().bytes() as i64, |bytes, size| bytes.checked_mul(*size))
        });
        match bytes {
            Some(bytes) if bytes <= LOCAL_BYTES => Home::Block(self.block.place.clone()),
            _ => Home::Param(stage.name.clone()),
        }
    }

    /// The sizes of an array of the block.
    fn shape(&self, stage: &Stage) -> Option<Vec<i64>> {
        let row = stage.axes[self.loops.prefix..].iter().map(|(_, extent)| extent.as_const());
        [Some(self.block.size)].into_iter().chain(row).collect()
    }

    /// Makes room for what has none yet: a local array, or scratch memory.
    fn room(&mut self, stage: &Stage, home: &Home) -> Option<Stmt> {
        let (name, dtype) = (stage.name.clone(), stage.body.dtype());
        match home {
            Home::Param(param) if self.kernel.param(param).is_none() => {
                self.scratch.push(Param { name: param.clone(), ty: stage.ty(), access: Access::Scratch });
                None
            }
            Home::Param(_) | Home::Scalar => None,
            Home::Block(_) => Some(Stmt::Alloc { name, dtype, shape: self.shape(stage)? }),
            Home::Local => {
                let shape =
                    stage.axes[self.loops.prefix..].iter().filter_map(|(_, extent)| extent.as_const());
                Some(Stmt::Alloc { name, dtype, shape: shape.collect() })
            }
        }
    }
}
