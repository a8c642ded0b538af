//! A router with its products, in blocks of rows: what a product makes of a block is kept beside each other, and then the
//! rows that the next product reads are computed, one after the other, or their experts are chosen.

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

/// The arrays of a block may be local up to so many bytes together.
const LOCAL_BYTES: i64 = 192 << 10;

/// Replaces the kernel's body by loops, if it is a router with its product. Gives the scratch parameters that it needs
/// from now on.
pub(super) fn loops(kernel: &mut Kernel, stages: &[Stage]) -> Option<Vec<Param>> {
    let prefix = prefix(stages);
    let parts = parts(stages, prefix);
    let product = parts.iter().find(|part| part.product)?;
    let (rows, around) = stages[product.stages.start].axes[..prefix].split_last()?;
    let mut router = Router {
        kernel,
        loops: Loops { stages, prefix, homes: BTreeMap::new(), accumulators: 0 },
        block: Block::of(rows),
        local: LOCAL_BYTES,
        scratch: Vec::new(),
    };
    let body = parts.iter().flat_map(|part| router.part(part)).collect::<Vec<_>>();
    let Router { block, scratch, .. } = router;
    let body = substitute_block(&body, &|axis| (*axis == rows.0).then(|| block.at()));
    let outer = (block.number.clone(), rows.1.ceil_div(&Dim::constant(block.size)));
    kernel.body = Body::Loops(nest(around, nest(&[outer], body)));
    Some(scratch)
}

/// What is done for all rows of a block before the next part is.
struct Part {
    stages: Range<usize>,
    /// Is it a product, and what follows it as its elements come? Otherwise one row is computed after the other.
    product: bool,
}

fn parts(stages: &[Stage], prefix: usize) -> Vec<Part> {
    let is_product = |at: usize| stages[at].axes.len() == prefix + 1 && is_contraction(&stages[at]);
    let mut parts: Vec<Part> = Vec::new();
    let mut at = 0;
    while at < stages.len() {
        let product = is_product(at);
        let more = stages[at + 1..].iter().enumerate().take_while(|(number, stage)| match product {
            true => follows(stage, &stages[at..at + 1 + number]),
            false => !is_product(at + 1 + number),
        });
        let end = at + 1 + more.count();
        parts.push(Part { stages: at..end, product });
        at = end;
    }
    parts
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
    block: Block,
    /// So many bytes may still be local.
    local: i64,
    scratch: Vec<Param>,
}

impl Router<'_, '_> {
    /// What is done for a block in one part, over the axis of rows.
    fn part(&mut self, part: &Part) -> Vec<Stmt> {
        let (all, prefix) = (self.loops.stages, self.loops.prefix);
        let stages = &all[part.stages.clone()];
        let (mut body, mut row) = (Vec::new(), Vec::new());
        for (at, stage) in part.stages.clone().zip(stages) {
            let home = self.home(at, part);
            let allocated = if let Home::Local = home { &mut row } else { &mut body };
            allocated.extend(self.room(stage, &home));
            self.loops.homes.insert(stage.name.clone(), home);
        }
        if part.product {
            let element = stages.iter().flat_map(|stage| self.loops.element(stage)).collect();
            row.extend(nest(&stages[0].axes[prefix..], element));
        } else {
            row.extend(stages.iter().flat_map(|stage| self.loops.stage(stage)));
        }
        body.extend(self.block.each_row(row));
        body
    }

    fn home(&mut self, at: usize, part: &Part) -> Home {
        let stage = &self.loops.stages[at];
        if self.kernel.param(&stage.name).is_some() {
            return Home::Param(stage.name.clone());
        }
        let mut later = self.loops.stages[part.stages.end..].iter();
        if !later.any(|user| loads_of(&user.body, &stage.name).next().is_some()) {
            return if part.product { Home::Scalar } else { self.loops.home(self.kernel, at) };
        }
        if let Some(result) = self.loops.dies_into(self.kernel, at) {
            return Home::Param(result);
        }
        let bytes = self.shape(stage).and_then(|shape| {
            shape.iter().try_fold(stage.body.dtype().bytes() as i64, |bytes, size| bytes.checked_mul(*size))
        });
        match bytes {
            Some(bytes) if bytes <= self.local => {
                self.local -= bytes;
                Home::Block(self.block.place.clone())
            }
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
