//! Trees block by block, so that no array is larger than those of a block.

use ir::Dim;
use ir::graph::Value;

use crate::net::{Built, Net};
use crate::setting::{Config, Setting, integer};

/// How many trees at once.
pub(super) const BLOCK: Setting =
    integer("block", 0, 0, "how many trees are in memory at once, a divisor of `trees`; 0: all");

/// Trees whose costs are computed at once.
pub(super) enum Block {
    /// All of them.
    All,
    /// Those of an iteration.
    Of {
        /// The first one.
        first: Dim,
        /// How many.
        count: usize,
    },
}

impl Block {
    /// What all trees have in common.
    pub(super) fn shared(&self, net: &mut Net, value: Value) -> Value {
        match self {
            Block::All => value,
            Block::Of { .. } => net.capture(value),
        }
    }

    /// What each tree has of its own, along the first axis.
    pub(super) fn own(&self, net: &mut Net, value: Value) -> Built<Value> {
        match self {
            Block::All => Ok(value),
            Block::Of { first, count } => {
                let all = net.capture(value);
                net.slice(all, 0, first.clone(), *count)
            }
        }
    }
}

/// What `costs` makes of the trees of each block, one behind the other.
pub(super) fn by_blocks(
    config: &Config,
    net: &mut Net,
    costs: impl FnOnce(&mut Net, &Block) -> Built<Value>,
) -> Built<Value> {
    let count = config.integer("block");
    if count == 0 {
        return costs(net, &Block::All);
    }
    let blocks = config.part("trees", "block")?;
    net.repeated(blocks, |net, index| costs(net, &Block::Of { first: index * Dim::from(count), count }))
}
