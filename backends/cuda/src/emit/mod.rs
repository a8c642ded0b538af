//! Kernels in loop form to functions of CUDA C++.

mod cast;
mod expr;
mod fold;
mod gemm;
mod index;
mod interval;
mod scope;
mod sort;
mod stmt;
mod sync;
mod types;
mod vector;

use std::collections::BTreeMap;

use ir::Dim;
use ir::dim::Symbol;
use ir::kernel::{Access, Body, Kernel, LoopKind, Sort, Stmt};

use crate::error::EmitError;
use crate::prelude::Prelude;
use crate::source::{Launch, Sums};
use gemm::Rows;
pub(crate) use scope::Names;
use scope::{Array, Scope};
use sync::Sync;
use types::{Code, storage};

/// The functions of a kernel.
pub(crate) struct Functions {
    /// What they need, as text.
    pub(crate) prelude: String,
    /// Their text.
    pub(crate) text: String,
    /// How they are launched, in order.
    pub(crate) launches: Vec<Launch>,
}

/// The functions of a kernel: one for each of its statements, two for a product of any number of rows, several for a sort;
/// they are called as no other function of the program is.
pub(crate) fn kernel(kernel: &Kernel, names: &mut Names, sums: Sums) -> Result<Functions, EmitError> {
    let Body::Loops(body) = &kernel.body else {
        return Err(EmitError::StageForm { kernel: kernel.name.to_string() });
    };
    let mut prelude = Prelude::default();
    let (mut text, mut launches) = (String::new(), Vec::new());
    let parts: Vec<Part> = body.iter().flat_map(|stmt| parts(kernel, stmt)).collect();
    for (number, part) in parts.iter().enumerate() {
        let step = if parts.len() > 1 { format!("_{number}") } else { String::new() };
        for rows in part.rows(sums) {
            let function = names.fresh(&format!("{}{step}{}", kernel.name.name(), rows.suffix()));
            let mut emitter = Emitter::of(kernel, &mut prelude, sums, "int");
            let (mut blocks, mut threads) = emitter.part(*part, *rows)?;
            if emitter.is_too_narrow {
                emitter = Emitter::of(kernel, &mut prelude, sums, "i64");
                (blocks, threads) = emitter.part(*part, *rows)?;
            }
            let (body, shared) = (std::mem::take(&mut emitter.text), emitter.shared);
            text += &format!("\n{}{{\n{body}}}\n", emitter.signature(&function, threads));
            launches.push(Launch { function, blocks, threads, shared });
        }
    }
    Ok(Functions { prelude: prelude.text(), text, launches })
}

/// What a launch computes.
#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    Stmt(&'a Stmt),
    Sort(&'a Sort, sort::Step),
}

impl Part<'_> {
    /// The rows of a product for which there is a launch each.
    fn rows(self, sums: Sums) -> &'static [Rows] {
        match self {
            Part::Stmt(stmt) => Rows::of(stmt, sums, &Dim::constant(1)),
            Part::Sort(..) => &[Rows::All],
        }
    }
}

/// The launches of a statement, which is one of those of a kernel.
fn parts<'a>(kernel: &Kernel, stmt: &'a Stmt) -> Vec<Part<'a>> {
    match stmt {
        Stmt::Sort(sort) => {
            sort::steps(kernel, sort).into_iter().map(|step| Part::Sort(sort, step)).collect()
        }
        _ => vec![Part::Stmt(stmt)],
    }
}

/// Who runs a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// All threads of a block together.
    Block,
    /// The threads of a group together, which are so many.
    Group(u32),
    /// Each thread for itself.
    Thread,
}

impl Level {
    /// That of the groups of so many threads.
    fn of_group(lanes: u32) -> Level {
        if lanes == 1 { Level::Thread } else { Level::Group(lanes) }
    }
}

struct Emitter<'a> {
    kernel: &'a Kernel,
    sums: Sums,
    prelude: &'a mut Prelude,
    text: String,
    indent: usize,
    scope: Scope,
    level: Level,
    threads: u32,
    /// The type of indices.
    int: &'static str,
    /// May an index be larger than an `int`?
    is_too_narrow: bool,
    /// Bytes of shared memory so far.
    shared: u64,
    /// Where shared memory lies that statements use one after the other, and how much it is.
    scratch: BTreeMap<&'static str, (u64, u64)>,
    sync: Sync,
}

impl<'a> Emitter<'a> {
    fn of(kernel: &'a Kernel, prelude: &'a mut Prelude, sums: Sums, int: &'static str) -> Emitter<'a> {
        let mut scope = Scope::new();
        for param in &kernel.params {
            let name = scope.names.fresh(param.name.name());
            let (dtype, shape) = (param.ty.dtype, param.ty.shape.clone());
            scope.arrays.insert(param.name.clone(), Array { name, dtype, shape });
        }
        for size in &kernel.sizes {
            scope.name_axis(size);
        }
        Emitter {
            kernel,
            sums,
            prelude,
            text: String::new(),
            indent: 1,
            scope,
            level: Level::Block,
            threads: 0,
            int,
            is_too_narrow: false,
            shared: 0,
            scratch: BTreeMap::new(),
            sync: Sync::default(),
        }
    }

    /// `extern "C" __global__ void …`, with every array and size of the kernel.
    fn signature(&mut self, function: &str, threads: u32) -> String {
        let mut params: Vec<String> = Vec::new();
        for param in &self.kernel.params {
            let constant = if param.access == Access::Read { "const " } else { "" };
            let ty = storage(self.prelude, param.ty.dtype);
            params.push(format!("{constant}{ty}* {}", self.scope.arrays[&param.name].name));
        }
        for size in &self.kernel.sizes {
            params.push(format!("i64 {}", self.scope.axes[size]));
        }
        self.prelude.need("integers");
        format!(
            "extern \"C\" __global__ void __launch_bounds__({threads}) {function}(\n    {})\n",
            params.join(", ")
        )
    }

    /// The body of a launch, and how many blocks of how many threads it has.
    fn part(&mut self, part: Part, rows: Rows) -> Result<(Dim, u32), EmitError> {
        match part {
            Part::Stmt(stmt) => self.launch(stmt, rows),
            Part::Sort(sort, step) => self.sort_launch(sort, step),
        }
    }

    fn launch(&mut self, stmt: &Stmt, rows: Rows) -> Result<(Dim, u32), EmitError> {
        let mut blocks = Vec::new();
        let mut inside = std::slice::from_ref(stmt);
        while let [Stmt::For { axis, extent, kind: LoopKind::Blocks(threads), body }] = inside {
            blocks.push((axis.clone(), extent.clone()));
            self.threads = *threads;
            inside = body;
        }
        if let [Stmt::For { axis, extent, kind: LoopKind::Grid { threads, lanes }, body }] = inside
            && blocks.is_empty()
        {
            self.threads = *threads;
            let (count, name) = (self.index(extent).within(types::SHIFT), self.scope.name_axis(axis));
            self.scope.ranges.enter(axis.clone(), extent.clone());
            let (groups, group) = (threads / lanes, self.group(*lanes));
            let int = self.int;
            self.line(&format!("const {int} {name} = ({int})blockIdx.x * {groups} + {group};"));
            self.line(&format!("if ({name} >= {count}) return;"));
            self.level = Level::of_group(*lanes);
            self.block(body)?;
            return Ok((extent.ceil_div(&Dim::constant(i64::from(groups))), *threads));
        }
        let around: Dim = blocks.iter().map(|(_, extent)| extent.clone()).product();
        match inside {
            [Stmt::Gemm(gemm)] => self.gemm_launch(gemm, rows, &blocks, &around),
            _ if blocks.is_empty() => {
                let way_out =
                    "spread its loops over blocks with the pass `schedule` for this target".to_owned();
                Err(self.unsupported("a statement outside of blocks".to_owned(), way_out))
            }
            _ => {
                self.place_blocks(&blocks, "blockIdx.x");
                self.block(inside)?;
                Ok((around, self.threads))
            }
        }
    }

    /// Binds nested axes to the parts of a number.
    fn place_blocks(&mut self, axes: &[(Symbol, Dim)], number: &str) {
        let mut rest = number.to_owned();
        let mut lines = Vec::new();
        for (place, (axis, extent)) in axes.iter().enumerate().rev() {
            let count = self.index(extent).within(types::PREFIX);
            let name = self.scope.name_axis(axis);
            self.scope.ranges.enter(axis.clone(), extent.clone());
            let value = if place == 0 { rest.clone() } else { format!("{rest} % {count}") };
            let int = self.int;
            lines.push(format!("const {int} {name} = {value};"));
            if place > 0 {
                let outer = self.scope.names.fresh("rest");
                lines.push(format!("const {int} {outer} = {rest} / {count};"));
                rest = outer;
            }
        }
        lines.into_iter().for_each(|line| self.line(&line));
    }

    fn line(&mut self, line: &str) {
        for _ in 0..self.indent {
            self.text += "  ";
        }
        self.text += line;
        self.text += "\n";
    }

    /// `head {`, what `body` writes, `}`; what is bound inside ends there.
    fn braces<R>(
        &mut self,
        head: &str,
        body: impl FnOnce(&mut Self) -> Result<R, EmitError>,
    ) -> Result<R, EmitError> {
        self.enclosed(head, "}", body)
    }

    /// The same with an end of its own.
    fn enclosed<R>(
        &mut self,
        head: &str,
        end: &str,
        body: impl FnOnce(&mut Self) -> Result<R, EmitError>,
    ) -> Result<R, EmitError> {
        self.line(&if head.is_empty() { "{".to_owned() } else { format!("{head} {{") });
        self.indent += 1;
        let outer = self.scope.clone();
        let result = body(self)?;
        self.scope = outer;
        self.indent -= 1;
        self.line(end);
        Ok(result)
    }

    fn unsupported(&self, what: String, way_out: String) -> EmitError {
        EmitError::Unsupported { kernel: self.kernel.name.to_string(), what, way_out }
    }

    fn unbound(&self, name: &Symbol) -> EmitError {
        EmitError::Unbound { kernel: self.kernel.name.to_string(), name: name.to_string() }
    }

    /// The number of the group that a thread is in, if groups have so many lanes.
    fn group(&self, lanes: u32) -> String {
        if lanes == 1 { "threadIdx.x".to_owned() } else { format!("threadIdx.x / {lanes}") }
    }

    /// The number of a thread among those that run a statement together, and how many they are.
    fn lane(&self) -> (String, u32) {
        match self.level {
            Level::Block => ("threadIdx.x".to_owned(), self.threads),
            Level::Group(lanes) => (format!("threadIdx.x % {lanes}"), lanes),
            Level::Thread => ("0".to_owned(), 1),
        }
    }

    /// Everything that follows waits for what all threads that run it together have done.
    fn barrier(&mut self) {
        match self.level {
            Level::Block => self.line("__syncthreads();"),
            Level::Group(ir::kernel::stmt::WARP) => self.line("__syncwarp();"),
            Level::Group(lanes) => {
                self.prelude.need("members");
                self.line(&format!("__syncwarp(members<{lanes}>());"));
            }
            Level::Thread => return,
        }
        self.sync.clear();
    }
}

/// A value with its type spelled out.
fn bind(constant: bool, ty: &str, name: &str, value: &Code) -> String {
    format!("{}{ty} {name} = {};", if constant { "const " } else { "" }, value.text)
}
