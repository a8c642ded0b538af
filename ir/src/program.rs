//! Programs: kernels, the buffers between them, and the steps that run them.
//!
//! The same for every target. Before the memory plan, buffers have no offsets; the plan gives each one a place in
//! one arena, as an expression that is evaluated when the sizes are bound.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::Kernel;
use crate::kernel::stmt::{PANEL, QUAD};
use crate::tensor::Tensor;
use crate::types::TensorType;
use crate::weight::Weight;

mod step;

pub use step::{Branch, Call, Copy, Life, Loop, Measure, Require, Step, for_each_call, for_each_call_mut};

/// How a weight lies in memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Row-major, as it is.
    Plain,
    /// Axes permuted: axis `i` of the packed weight is axis `perm[i]` of the weight.
    Permuted(Vec<usize>),
    /// Panels of 32 columns of the matrix `B[k, j] = weight[offset + k·row + j·col]` (positions in elements), as
    /// `[ceil(cols, 32), depth, 32]`, zero beyond the last column; one such array after the other for each index of the
    /// axes around.
    Panels {
        /// Extent and stride of each axis around; none if there is one matrix.
        outer: Vec<(usize, usize)>,
        /// Extent of `k`.
        depth: usize,
        /// Extent of `j`.
        cols: usize,
        /// Stride of `k`.
        row: usize,
        /// Stride of `j`.
        col: usize,
        /// First element.
        offset: usize,
    },
    /// Panels of 32 columns of such a matrix of bytes as `i8` (of `u8`, each is 128 less than it was), as
    /// `[ceil(cols, 32), ceil(depth, 4) + 1, 32, 4]`: element `(k, j)` at `[j // 32, k // 4, j % 32, k % 4]`, zero beyond the
    /// last column and the last `k`. In the last place along the second axis are the sums of the columns, each an `i32`,
    /// little-endian.
    Quads {
        /// Extent of `k`.
        depth: usize,
        /// Extent of `j`.
        cols: usize,
        /// Stride of `k`.
        row: usize,
        /// Stride of `j`.
        col: usize,
        /// First element.
        offset: usize,
    },
    /// The same of numbers of 4 bits, two to a `u8`: `[ceil(cols, 32), depth, 16]`. Byte `i` of a row holds column `i` in
    /// its lower bits and column `16 + i` in its upper ones. Of signed numbers, each is 8 more than it was.
    Nibbles {
        /// Extent and stride of each axis around; none if there is one matrix.
        outer: Vec<(usize, usize)>,
        /// Extent of `k`.
        depth: usize,
        /// Extent of `j`.
        cols: usize,
        /// Stride of `k`.
        row: usize,
        /// Stride of `j`.
        col: usize,
        /// First element.
        offset: usize,
    },
}

/// A weight as kernels read it.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedWeight {
    /// Its name in the program.
    pub name: Symbol,
    /// What it is made from.
    pub weight: Weight,
    /// How it lies in memory.
    pub layout: Layout,
}

impl PackedWeight {
    /// Its type as packed.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.dtype(), &self.shape())
    }

    /// Its element type as packed.
    pub fn dtype(&self) -> DType {
        match self.layout {
            Layout::Quads { .. } => DType::I8,
            Layout::Nibbles { .. } => DType::U8,
            _ => self.weight.dtype(),
        }
    }

    /// Its sizes as packed.
    pub fn shape(&self) -> Vec<usize> {
        let shape = self.weight.shape();
        match &self.layout {
            Layout::Plain => shape.to_vec(),
            Layout::Permuted(perm) => perm.iter().map(|&axis| shape[axis]).collect(),
            Layout::Panels { outer, depth, cols, .. } | Layout::Nibbles { outer, depth, cols, .. } => {
                let halves = matches!(self.layout, Layout::Nibbles { .. });
                let row = if halves { PANEL / 2 } else { PANEL };
                let panels = [cols.div_ceil(PANEL as usize), *depth, row as usize];
                outer.iter().map(|(extent, _)| *extent).chain(panels).collect()
            }
            Layout::Quads { depth, cols, .. } => {
                let [panel, quad] = [PANEL, QUAD].map(|size| size as usize);
                vec![cols.div_ceil(panel), depth.div_ceil(quad) + 1, panel, quad]
            }
        }
    }

    /// Number of bytes as packed.
    pub fn size(&self) -> usize {
        self.shape().iter().product::<usize>() * self.dtype().bytes()
    }

    /// Its contents as packed, in memory.
    pub fn pack(&self) -> Tensor {
        let mut bytes = Vec::with_capacity(self.size());
        let Ok(()) = self.for_each_piece::<Infallible>(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        Tensor::new(self.dtype(), self.shape(), bytes).expect("as many bytes as its layout says")
    }
}

/// An input or an output of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in the model.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
}

/// An output that is an input in the next run: a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The position of the output.
    pub output: usize,
    /// The position of the input.
    pub input: usize,
}

/// Where a buffer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// In the arena, from its first to its last use.
    Arena,
    /// Kept between calls.
    State,
    /// Memory of the steps that run before the arena is laid out.
    Host,
    /// Memory of its own, which grows while the model runs: its size is known only there, and nothing bounds it.
    /// Buffers with one number share it, one after the other.
    Growing(usize),
}

/// Memory between steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// Its name.
    pub name: Symbol,
    /// Its type.
    pub ty: TensorType,
    /// Where it lives.
    pub space: Space,
    /// Its first byte in its space, once planned.
    pub offset: Option<Dim>,
}

/// What a step passes for a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arg {
    /// An input of the entry.
    Input(usize),
    /// An output of the entry.
    Output(usize),
    /// A weight of the program.
    Weight(usize),
    /// A buffer of the entry.
    Buffer(usize),
}

/// A function of the model: inputs to outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its inputs.
    pub inputs: Vec<Port>,
    /// Its outputs.
    pub outputs: Vec<Port>,
    /// The outputs that are kept, each with the input that it is in the next run. Once states have their memory, they
    /// are neither.
    pub keeps: Vec<Keep>,
    /// The memory between its steps.
    pub buffers: Vec<Buffer>,
    /// What runs before the arena is laid out: it decides sizes from the values of small inputs.
    pub host: Vec<Step>,
    /// What runs, in order.
    pub steps: Vec<Step>,
    /// Size of the arena in bytes, once planned.
    pub arena: Option<Dim>,
}

impl Entry {
    /// Every symbol of the inputs' types, in order of appearance: what the inputs' shapes decide.
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut symbols = Vec::new();
        for dim in self.inputs.iter().flat_map(|port| &port.ty.shape) {
            dim.for_each_symbol(&mut |symbol| {
                if !symbols.contains(symbol) {
                    symbols.push(symbol.clone());
                }
            });
        }
        symbols
    }

    /// Every symbol: those of the inputs, then those that steps decide, in order.
    pub fn all_symbols(&self) -> Vec<Symbol> {
        let mut symbols = self.symbols();
        let mut seen: BTreeSet<Symbol> = symbols.iter().cloned().collect();
        for steps in [&self.host, &self.steps] {
            Step::walk(steps, &mut |step| {
                for symbol in step.decides() {
                    if seen.insert(symbol.clone()) {
                        symbols.push(symbol.clone());
                    }
                }
            });
        }
        symbols
    }

    /// Every call, those in branches and loops included, in the order of the text.
    pub fn calls(&self) -> Vec<&Call> {
        let mut calls = Vec::new();
        for steps in [&self.host, &self.steps] {
            for_each_call(steps, &mut |call| calls.push(call));
        }
        calls
    }

    /// When each buffer is needed, by the numbers of steps in the order of the text (`host` first). What is used in a
    /// loop and outside of it is needed in the whole loop.
    pub fn lives(&self) -> BTreeMap<usize, Life> {
        step::lives([&self.host, &self.steps])
    }

    /// Changes every call.
    pub fn for_each_call_mut(&mut self, change: &mut dyn FnMut(&mut Call)) {
        for_each_call_mut(&mut self.host, change);
        for_each_call_mut(&mut self.steps, change);
    }
}

/// Kernels, weights and entries that share them.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// The model's name.
    pub name: String,
    /// The weights, each in the layout that its kernels read.
    pub weights: Vec<PackedWeight>,
    /// The kernels.
    pub kernels: Vec<Kernel>,
    /// The functions.
    pub entries: Vec<Entry>,
}

impl Program {
    /// The type of what `arg` names in `entry`.
    pub fn arg_type(&self, entry: &Entry, arg: Arg) -> TensorType {
        match arg {
            Arg::Input(i) => entry.inputs[i].ty.clone(),
            Arg::Output(i) => entry.outputs[i].ty.clone(),
            Arg::Weight(i) => self.weights[i].ty(),
            Arg::Buffer(i) => entry.buffers[i].ty.clone(),
        }
    }
}
