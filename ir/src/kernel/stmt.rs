//! Statements: how a kernel runs.
//!
//! Closed; emitters and the walker match them in this order, so that the files can be read side by side.

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::expr::{Expr, Reduce};
use crate::types::TensorType;

/// How a loop runs. Its meaning is the same for each.
///
/// # Groups
///
/// Threads of a GPU work in groups of neighbours: a power of two of them, not more than [`WARP`]. The threads of a group
/// run an iteration together, as those of a block do: scalars are the same in all of them, each store is made once, and
/// a fold has as many lanes. A group of one is a thread that runs its iteration for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoopKind {
    /// One iteration after the other.
    Serial,
    /// Iterations spread over threads, at least so many together.
    Parallel(u32),
    /// Iterations side by side in so many lanes; a rest that fills no vector runs one by one.
    Vector(u32),
    /// Written out: the extent is a small number.
    Unroll,
    /// Iterations spread over the blocks of a GPU, each of so many threads, all of which run the body together: scalars
    /// are the same in all of them, and each store is made once. Such a loop is outermost, or the only statement of one.
    Blocks(u32),
    /// Iterations spread over the threads of all blocks of a GPU, in [groups](LoopKind#groups). Such a loop is outermost.
    Grid {
        /// Threads of a block.
        threads: u32,
        /// Threads of a group.
        lanes: u32,
    },
    /// Iterations spread over the threads of a block, in [groups](LoopKind#groups) of so many, which wait for each other
    /// behind the loop; inside of an iteration that is a group's, over the threads of the group, each for itself.
    Threads(u32),
}

/// The threads of a GPU that run in step, and can look at each other's registers.
pub const WARP: u32 = 32;

/// Axes with their extents, the outermost first.
pub type Axes = Vec<(Symbol, Dim)>;

/// A matrix product whose elements leave through statements: for each `i`, `j` in ranges, `acc` is
/// `Σ_k a[i, k]·b[k, j]` and the body runs. Runtime micro-kernels compute it by tiles.
///
/// Rows, columns and what is summed may each be several axes, or none: a convolution sums over channels and over the
/// places of its kernel. Sums run in the order of nested loops.
///
/// An operand is one of
/// - a load that is affine in the axes;
/// - `select(c, load, 0.0)` of such a load, where `c` says that numbers affine in the axes lie in `0..size`: a window
///   that slides over a padded image. One operand may be so;
/// - a load of panels of 32 rows or columns, `[i // 32, k, i % 32]`, `i` and `k` being positions among rows (or columns)
///   and in the sum: weights that were laid out for the micro-kernels. One operand may be so.
///
/// A load is one of `f32`, and sums have one rounding a step, or, for both operands, `cast<i32>(load)` of bytes, perhaps
/// less a zero, `cast<i32>(load) - zero`, and sums wrap. A zero depends on no axis; that of one operand, a matrix without
/// guards, may be a byte that is affine in its rows (or columns). Where there are guards, the zero is one of its type.
/// Panels of bytes are `[i // 32, k // 4, i % 32, k % 4]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Row axes.
    pub row: Axes,
    /// Column axes.
    pub col: Axes,
    /// Summed axes.
    pub depth: Axes,
    /// Which of several right operands a row meets; with none, there is one.
    pub group: Option<Group>,
    /// The left operand, over rows and summed axes.
    pub a: Expr,
    /// The right operand, over summed axes and columns.
    pub b: Expr,
    /// The finished sum, bound in the body.
    pub acc: Symbol,
    /// What becomes of it.
    pub body: Vec<Stmt>,
}

/// The right operands of a [`Gemm`] that are several, and the rows that meet each of them: the element is
/// `Σ_k a[i, k]·b[g, k, j]`, and rows are ordered by `g`. Row `order[p]`, a position among the row axes, meets number `g`
/// for every `p` in `starts[g]..starts[g + 1]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// The number `g`, which only the right operand mentions.
    pub axis: Symbol,
    /// How many there are.
    pub extent: Dim,
    /// An array with the position of each row, once.
    pub order: Symbol,
    /// An array of `extent + 1` places in the order, ascending from 0 to the number of rows.
    pub starts: Symbol,
}

impl Gemm {
    /// The axes around the body, rows first.
    pub fn outer(&self) -> impl Iterator<Item = &(Symbol, Dim)> {
        self.row.iter().chain(&self.col)
    }

    /// Number of elements of the result.
    pub fn elements(&self) -> Dim {
        self.outer().map(|(_, extent)| extent.clone()).product()
    }

    /// Number of products in each sum.
    pub fn summed(&self) -> Dim {
        self.depth.iter().map(|(_, extent)| extent.clone()).product()
    }

    /// The type of its sums: `f32` or `i32`.
    pub fn dtype(&self) -> DType {
        self.a.dtype()
    }

    /// The index of these axes in an array in panels: `[i // 32, k, i % 32]`.
    pub fn in_panels(of: &[(Symbol, Dim)], depth: &[(Symbol, Dim)]) -> [Dim; 3] {
        let (i, width) = (position(of), Dim::constant(PANEL));
        [i.floor_div(&width), position(depth), i.modulo(&width)]
    }

    /// That in an array of bytes in panels: `[i // 32, k // 4, i % 32, k % 4]`.
    pub fn in_quads(of: &[(Symbol, Dim)], depth: &[(Symbol, Dim)]) -> [Dim; 4] {
        let [panel, k, place] = Gemm::in_panels(of, depth);
        let quad = Dim::constant(QUAD);
        [panel, k.floor_div(&quad), place, k.modulo(&quad)]
    }
}

/// The place among the iterations of nested loops.
pub fn position(axes: &[(Symbol, Dim)]) -> Dim {
    axes.iter().fold(Dim::constant(0), |at, (axis, extent)| at * extent.clone() + Dim::from(axis))
}

/// Rows or columns in a panel of a packed operand.
pub const PANEL: i64 = 32;

/// Summed bytes that lie together in panels of bytes.
pub const QUAD: i64 = 4;

/// Elements from one row of a left operand to the next with which tiles read it where it lies; others are copied.
pub const ROW: i64 = 272;

/// A reduction in lanes: for each value of `axis` in `0..extent`, ascending, the body runs and changes `acc`.
///
/// There are `lanes` accumulators, each of which starts from the neutral element, and iteration `k` has that of lane
/// `k mod lanes` for its `acc`. In the end, of 16, lane `l` takes in lane `l + 8`, then `l + 4`, `l + 2` and `l + 1`, and
/// what lane 0 has then is bound as `acc` until the end of the block. Of more than [`WARP`], those of each warp come
/// together first, and then what the warps have. Whatever vectors a machine has, the bits are the same.
///
/// Iterations depend on each other through `acc` alone.
///
/// A CPU has [`FOLD_LANES`] lanes of `f32`; on a GPU lanes are the threads of a block or of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LaneFold {
    /// The accumulator: a variable of the body, a scalar after it.
    pub acc: Symbol,
    /// Its type.
    pub dtype: DType,
    /// How lanes combine.
    pub op: Reduce,
    /// How many there are: a power of two.
    pub lanes: u32,
    /// The axis, bound in the body.
    pub axis: Symbol,
    /// Its extent.
    pub extent: Dim,
    /// Adds one element to the accumulator.
    pub body: Vec<Stmt>,
}

/// Lanes of a [`LaneFold`] on a CPU.
pub const FOLD_LANES: usize = 16;

impl LaneFold {
    /// One of `f32` in the lanes of a CPU.
    pub fn of_cpu(acc: Symbol, op: Reduce, (axis, extent): (Symbol, Dim), body: Vec<Stmt>) -> LaneFold {
        LaneFold { acc, dtype: DType::F32, op, lanes: FOLD_LANES as u32, axis, extent, body }
    }

    /// Is it one of `f32` in the lanes of a CPU?
    pub fn is_of_cpu(&self) -> bool {
        self.dtype == DType::F32 && self.lanes == FOLD_LANES as u32
    }

    /// The value of the lanes' accumulators taken together.
    pub fn combine<T: Clone, E>(
        &self,
        lanes: Vec<T>,
        mut pair: impl FnMut(T, T) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut halves = |mut lanes: Vec<T>| -> Result<T, E> {
            while lanes.len() > 1 {
                let upper = lanes.split_off(lanes.len() / 2);
                lanes = lanes.into_iter().zip(upper).map(|(a, b)| pair(a, b)).collect::<Result<_, E>>()?;
            }
            Ok(lanes.remove(0))
        };
        let warps = lanes.chunks(WARP as usize).map(|warp| halves(warp.to_vec()));
        let warps = warps.collect::<Result<_, E>>()?;
        halves(warps)
    }
}

/// Rows of an array put in order. Every line of elements along the axis is a row.
///
/// The order is [`Scalar::order`](crate::Scalar::order), or its opposite: NaN is the largest value. Of equal elements,
/// the one at the lower index comes first in both directions. A row of `values` and of `positions` may have another
/// length than one of `keys`: they get so many of the first elements, and zeros where there are no more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sort {
    /// The array whose rows are sorted; it keeps its elements.
    pub keys: Symbol,
    /// The axis along which rows lie.
    pub axis: usize,
    /// Largest first?
    pub descending: bool,
    /// Gets the sorted elements: of the type of the keys, but for the size of the axis.
    pub values: Option<Symbol>,
    /// Gets the indices at which they stood: `i64`, of the shape of the keys but for the size of the axis.
    pub positions: Option<Symbol>,
    /// Scratch of the type [`Sort::scratch_type`].
    pub scratch: Symbol,
}

impl Sort {
    /// At most so many rows are in work at the same time.
    pub const ROWS_IN_WORK: i64 = 64;

    /// The type of the scratch memory for rows along `axis` of `keys`: a pair of `i64` for each element of the rows
    /// that may be in work at the same time.
    pub fn scratch_type(keys: &TensorType, axis: usize) -> TensorType {
        let others = keys.shape.iter().enumerate().filter(|(at, _)| *at != axis);
        let rows: Dim = others.map(|(_, size)| size.clone()).product();
        let tasks = Dim::smaller(&rows, &Dim::constant(Sort::ROWS_IN_WORK));
        TensorType::new(DType::I64, [tasks, keys.shape[axis].clone(), Dim::constant(2)])
    }

    /// The arrays that get something, scratch memory left out.
    pub fn results(&self) -> impl Iterator<Item = &Symbol> {
        self.values.iter().chain(&self.positions)
    }
}

/// One step of a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// For each value of `axis` in `0..extent`.
    For {
        /// The axis, bound in the body.
        axis: Symbol,
        /// Its extent.
        extent: Dim,
        /// How it runs.
        kind: LoopKind,
        /// The body.
        body: Vec<Stmt>,
    },
    /// If a truth value holds.
    If {
        /// The condition.
        cond: Expr,
        /// What runs if it holds.
        then: Vec<Stmt>,
    },
    /// Binds a scalar until the end of the block.
    Let {
        /// Its name.
        name: Symbol,
        /// Its value.
        value: Expr,
    },
    /// Binds a scalar that [`Stmt::Set`] changes, until the end of the block.
    Var {
        /// Its name.
        name: Symbol,
        /// Its first value.
        init: Expr,
    },
    /// Changes a [`Stmt::Var`].
    Set {
        /// Its name.
        name: Symbol,
        /// Its next value.
        value: Expr,
    },
    /// Writes an element of an array.
    Store {
        /// The array: a written parameter or an allocation.
        target: Symbol,
        /// The index, one `i64` for each axis.
        at: Vec<Expr>,
        /// The element.
        value: Expr,
    },
    /// A small array of fixed size, until the end of the block; contents undefined at first.
    Alloc {
        /// Its name.
        name: Symbol,
        /// Its element type.
        dtype: DType,
        /// Its sizes.
        shape: Vec<i64>,
    },
    /// A reduction in lanes.
    Fold(Box<LaneFold>),
    /// A matrix product.
    Gemm(Box<Gemm>),
    /// Rows in order.
    Sort(Box<Sort>),
}

impl Stmt {
    /// The blocks directly inside.
    pub fn blocks(&self) -> Vec<&[Stmt]> {
        match self {
            Stmt::For { body, .. } | Stmt::If { then: body, .. } => vec![body],
            Stmt::Fold(fold) => vec![&fold.body],
            Stmt::Gemm(gemm) => vec![&gemm.body],
            Stmt::Let { .. }
            | Stmt::Var { .. }
            | Stmt::Set { .. }
            | Stmt::Store { .. }
            | Stmt::Alloc { .. }
            | Stmt::Sort(_) => vec![],
        }
    }

    /// The expressions directly inside, those of nested blocks excepted.
    pub fn exprs(&self) -> Vec<&Expr> {
        match self {
            Stmt::For { .. } | Stmt::Alloc { .. } | Stmt::Fold(_) | Stmt::Sort(_) => vec![],
            Stmt::If { cond, .. } => vec![cond],
            Stmt::Let { value, .. } | Stmt::Var { init: value, .. } | Stmt::Set { value, .. } => vec![value],
            Stmt::Store { at, value, .. } => at.iter().chain([value]).collect(),
            Stmt::Gemm(gemm) => vec![&gemm.a, &gemm.b],
        }
    }

    /// Calls `visit` with this statement and everything inside, outermost first.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Stmt)) {
        visit(self);
        for block in self.blocks() {
            block.iter().for_each(|stmt| stmt.walk(visit));
        }
    }
}
