//! Rows in order. A block sorts a row in shared memory, or piece by piece, and merges the pieces in memory; a few long rows
//! are shared by all blocks, a launch for each time that runs are merged.

use ir::Dim;
use ir::dtype::DType;
use ir::kernel::{Kernel, Sort};

use super::Emitter;
use super::types::{SHIFT, storage, value};
use crate::error::EmitError;

/// Elements that a block sorts in shared memory.
const CHUNK: i64 = 1024;

/// The threads of a block.
const THREADS: u32 = 256;

/// A launch of a sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Short rows, or many: each by a block.
    Rows,
    /// Chunks of a few long ones.
    Chunks,
    /// Two runs of chunks after each other become one: how often that was done before.
    Merge(u32),
    /// The results, from where the last merge left them.
    Results,
}

/// The sizes of a sort.
struct Sizes {
    rows: Dim,
    inner: Dim,
    /// Elements of a row.
    length: Dim,
    /// Rows for which there is scratch memory.
    room: Dim,
}

impl Sizes {
    fn of(kernel: &Kernel, sort: &Sort) -> Option<Sizes> {
        let shape = &kernel.param(&sort.keys)?.ty.shape;
        let inner: Dim = shape[sort.axis + 1..].iter().cloned().product();
        let rows = shape[..sort.axis].iter().cloned().product::<Dim>() * inner.clone();
        let room = kernel.param(&sort.scratch)?.ty.shape[0].clone();
        Some(Sizes { rows, inner, length: shape[sort.axis].clone(), room })
    }

    /// How often chunks are merged where all blocks share a row, whose length must be known.
    fn merges(&self) -> u32 {
        let length = self.length.as_const().unwrap_or(0);
        (0..).take_while(|turn| CHUNK << turn < length).count() as u32
    }

    /// 1 where there are so few rows that all fit scratch memory, else 0.
    fn are_few(&self) -> Dim {
        let one = Dim::constant(1);
        // The scratch memory of no more rows than are in work at the same time is for all of them.
        if self.rows == self.room {
            return one;
        }
        one.clone() - self.rows.floor_div(&Dim::constant(Sort::ROWS_IN_WORK + 1)).smaller(&one)
    }
}

/// The launches of a sort. Which of them run is decided by the number of rows.
pub(super) fn steps(kernel: &Kernel, sort: &Sort) -> Vec<Step> {
    let Some(sizes) = Sizes::of(kernel, sort) else { return vec![Step::Rows] };
    let merges = sizes.merges();
    if merges == 0 {
        return vec![Step::Rows];
    }
    let shared = [Step::Chunks].into_iter().chain((0..merges).map(Step::Merge)).chain([Step::Results]);
    [Step::Rows].into_iter().chain(shared).filter(|step| !step.runs(&sizes).is(0)).collect()
}

impl Step {
    /// 1 where it runs, else 0.
    fn runs(self, sizes: &Sizes) -> Dim {
        match self {
            Step::Rows if sizes.merges() == 0 => Dim::constant(1),
            Step::Rows => Dim::constant(1) - sizes.are_few(),
            Step::Chunks | Step::Merge(_) | Step::Results => sizes.are_few(),
        }
    }
}

impl Emitter<'_> {
    pub(super) fn sort_launch(&mut self, sort: &Sort, step: Step) -> Result<(Dim, u32), EmitError> {
        self.threads = THREADS;
        let sizes = Sizes::of(self.kernel, sort).ok_or_else(|| self.unbound(&sort.keys))?;
        let (array, dtype) =
            (self.scope.arrays[&sort.keys].name.clone(), self.scope.arrays[&sort.keys].dtype);
        let scratch = self.scope.arrays[&sort.scratch].name.clone();
        let key = match dtype {
            DType::F16 => "KeyF16",
            DType::BF16 => "KeyBF16",
            narrow if narrow.is_narrow() && narrow.is_float() => {
                return Err(
                    self.unsupported(format!("a sort of {narrow}"), "cast the keys to f32 first".to_owned())
                );
            }
            _ => "Key",
        };
        if key != "Key" {
            self.prelude.need(key);
        }
        let ty = storage(self.prelude, dtype);
        let mut results = Vec::new();
        let mut most = Dim::constant(0);
        for (name, null) in [(&sort.values, format!("({ty}*)0")), (&sort.positions, "(i64*)0".to_owned())] {
            let Some(name) = name else {
                results.extend([null, "0".to_owned()]);
                continue;
            };
            let array = self.scope.arrays.get(name).ok_or_else(|| self.unbound(name))?.clone();
            let kept = array.shape[sort.axis].clone();
            results.extend([array.name, self.index(&kept).within(SHIFT)]);
            most = if most.is(0) { kept } else { most.larger(&kept) };
        }
        let results = results.join(", ");
        let Sizes { rows, inner, length, room } = &sizes;
        let [all, inner, n, room] = [rows, inner, length, room].map(|dim| self.index(dim).within(SHIFT));
        let order = format!("{}, {CHUNK}", sort.descending);
        let elements = |count: &Dim| count.ceil_div(&Dim::constant(i64::from(THREADS)));
        let (function, template, args, blocks) = match step {
            Step::Rows => {
                let chunk = self.chunk(dtype);
                let args = format!("{all}, {inner}, {n}, {results}, {scratch}, {room}, {chunk}, {key}{{}}");
                ("sort_rows", order, args, rows.clone())
            }
            Step::Chunks => {
                let chunk = self.chunk(dtype);
                let chunks = length.ceil_div(&Dim::constant(CHUNK));
                let args = format!("{inner}, {n}, {scratch}, {chunk}, {key}{{}}");
                ("sort_chunks", order, args, rows.clone() * chunks)
            }
            Step::Merge(turn) => {
                let args = format!("{all}, {inner}, {n}, {scratch}, {turn}, {key}{{}}");
                ("merge_chunks", order, args, elements(&(rows.clone() * length.clone())))
            }
            Step::Results => {
                let args = format!("{all}, {inner}, {n}, {results}, {scratch}");
                ("write_sorted", CHUNK.to_string(), args, elements(&(rows.clone() * most)))
            }
        };
        self.prelude.need(function);
        self.line(&format!("{function}<{template}>({array}, {args});"));
        Ok((step.runs(&sizes) * blocks, self.threads))
    }

    /// Shared memory for a chunk: its keys, and twice their places.
    fn chunk(&mut self, dtype: DType) -> String {
        let keys = self.scratch("keys", CHUNK as u64 * dtype.bytes().max(4) as u64);
        let [places, others] = ["places", "other places"].map(|what| self.scratch(what, CHUNK as u64 * 4));
        format!("shared<{}>({keys}), shared<int>({places}), shared<int>({others})", value(dtype))
    }
}
