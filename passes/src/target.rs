//! What a program is compiled for, as far as passes ask.

/// The kind of machine whose kernels a program consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// A few threads with vectors, and caches.
    #[default]
    Cpu,
    /// Blocks of threads with memory of their own.
    Gpu,
}

/// How much of an attention or a router is in work at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiles {
    /// Queries in a block. Keys and values are read for each block.
    pub(crate) many_queries: i64,
    /// Queries in a block that meets several tiles, some of which may be left out: the fewer, the fewer scores are
    /// computed beside a causal line.
    pub(crate) queries: i64,
    /// Keys in a tile.
    pub(crate) keys: i64,
    /// Keys that are taken at once if there are no more.
    pub(crate) few_keys: i64,
    /// Elements from one row of a tile's scores to the next.
    pub(crate) row: i64,
    /// Parts of the keys that are in work side by side where queries are few, at most.
    pub(crate) parts: i64,
    /// Bytes of a block's scores and sums, at most.
    pub(crate) block_bytes: i64,
    /// Rows of a router in a block.
    pub(crate) routed: i64,
    /// Bytes of their arrays, at most.
    pub(crate) routed_bytes: i64,
}

impl Target {
    pub(crate) fn tiles(self) -> Tiles {
        match self {
            // A block stays in the second-level cache, and on the stack.
            Target::Cpu => Tiles {
                many_queries: 128,
                queries: 64,
                keys: 256,
                few_keys: 512,
                row: ir::kernel::stmt::ROW,
                parts: 1,
                block_bytes: 224 << 10,
                routed: 64,
                routed_bytes: 256 << 10,
            },
            // Two blocks fit the memory of a multiprocessor. Rows of scores do not begin in the same bank: four lanes for
            // each of eight rows read from as many banks.
            Target::Gpu => Tiles {
                many_queries: 64,
                queries: 64,
                keys: 64,
                few_keys: 64,
                row: 68,
                parts: 16,
                block_bytes: 80 << 10,
                routed: 64,
                routed_bytes: 48 << 10,
            },
        }
    }
}
