//! Turns what kernels compute into plain loops over buffers: one thread, one element at a time.
//!
//! The leading axes that all stages of a kernel share become the outer loops, and inside them each stage gets loops
//! for the axes that it has left. An array that stays inside the kernel is a scalar where those are none, shares
//! the memory of a result where it dies as that comes to be, and is a small local array or scratch memory else. An
//! attention runs in tiles (`attention`), a router with its products in blocks of rows (`rows`), after what it needs of
//! all of them, as a norm runs after its product (`steps`), what is put together from several arrays is copied by pieces
//! (`pieces`), and a fold of every prefix keeps a running total (`running`).

mod attention;
mod pieces;
mod rows;
mod running;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use ir::dim::Symbol;
use ir::kernel::{
    Access, Body, Expr, ExprKind, Fold, Kernel, KernelKind, LoopKind, Param, Reduce, Stage, Stmt,
};
use ir::program::{Arg, Buffer, Entry, Program, Space};
use ir::scalar::Binary;
use ir::{At, DType, Dim};

use crate::error::PassError;
use crate::lower::Names;
use crate::lower::running::{Running, free_axes};
use crate::pass::{About, Changed, Cx, ProgramPass};

/// An array inside a kernel may be local up to so many bytes.
const LOCAL_BYTES: i64 = 16 << 10;

/// See the [module](self).
pub struct ToLoops;

impl ProgramPass for ToLoops {
    fn about(&self) -> About {
        About::new("to_loops", "turn index expressions into plain loops")
    }

    fn run(&self, program: &mut Program, cx: &Cx) -> Result<Changed, At<PassError>> {
        let mut changed = false;
        for at in 0..program.kernels.len() {
            let Body::Stages(stages) = &program.kernels[at].body else { continue };
            let stages = stages.clone();
            changed = true;
            let kernel = &mut program.kernels[at];
            if kernel.kind == KernelKind::Attention
                && let Some((body, scratch)) = attention::loops(kernel, &stages, cx)
            {
                kernel.body = Body::Loops(body);
                add_scratch(program, at, &scratch);
                continue;
            }
            if let Some(body) = pieces::loops(kernel, &stages) {
                kernel.body = Body::Loops(body);
                continue;
            }
            let (body, scratch) = steps::loops(kernel, &stages, &cx.target.tiles());
            kernel.body = Body::Loops(body);
            add_scratch(program, at, &scratch);
        }
        Ok(Changed(changed))
    }
}

/// Adds scratch parameters to a kernel, and buffers for them to each of its steps.
pub(crate) fn add_scratch(program: &mut Program, kernel: usize, scratch: &[Param]) {
    let sizes = &program.kernels[kernel].sizes;
    for entry in &mut program.entries {
        let mut buffers = std::mem::take(&mut entry.buffers);
        let host = host_calls(entry);
        let mut number = 0;
        entry.for_each_call_mut(&mut |call| {
            number += 1;
            if call.kernel != kernel {
                return;
            }
            let space = if number <= host { Space::Host } else { Space::Arena };
            let bound: BTreeMap<&Symbol, &Dim> = sizes.iter().zip(&call.sizes).collect();
            for param in scratch {
                let name = Names::of(buffers.iter().map(|b| b.name.name())).fresh("scratch", "b");
                let name = Symbol::new(name);
                let ty = param.ty.substitute(&|s| bound.get(s).map(|&d| d.clone()));
                call.args.push(Arg::Buffer(buffers.len()));
                buffers.push(Buffer { name, ty, space, offset: None });
            }
        });
        entry.buffers = buffers;
    }
    program.kernels[kernel].params.extend_from_slice(scratch);
}

/// How many calls run before the arena is laid out: the first ones.
fn host_calls(entry: &Entry) -> usize {
    let mut count = 0;
    ir::program::for_each_call(&entry.host, &mut |_| count += 1);
    count
}

/// Where the elements of a stage go.
#[derive(Debug, Clone)]
enum Home {
    /// A parameter, at the whole index.
    Param(Symbol),
    /// A scalar of the iteration.
    Scalar,
    /// A local array, at the index after the prefix.
    Local,
    /// A local array of a block of rows: at this place along the last axis of the prefix, and the index after that.
    Block(Symbol),
    /// The same with the place last, in an array that others may have had before.
    Beside { array: Symbol, place: Symbol },
}

struct Loops<'a> {
    stages: &'a [Stage],
    prefix: usize,
    homes: BTreeMap<Symbol, Home>,
    /// How many accumulators the kernel has so far.
    accumulators: &'a mut usize,
}

impl<'a> Loops<'a> {
    /// The loops of these stages of the kernel, and the scratch parameters that it needs for them.
    fn of(kernel: &Kernel, stages: &'a [Stage], accumulators: &'a mut usize) -> (Vec<Stmt>, Vec<Param>) {
        let mut loops = Loops { stages, prefix: prefix(stages), homes: BTreeMap::new(), accumulators };
        let mut scratch = Vec::new();
        let mut inside = Vec::new();
        for (at, stage) in stages.iter().enumerate() {
            let home = loops.home(kernel, at);
            if let Home::Param(name) = &home
                && kernel.param(name).is_none()
            {
                scratch.push(Param { name: name.clone(), ty: stage.ty(), access: Access::Scratch });
            }
            if let Home::Local = home {
                let shape =
                    stage.axes[loops.prefix..].iter().filter_map(|(_, extent)| extent.as_const()).collect();
                inside.push(Stmt::Alloc { name: stage.name.clone(), dtype: stage.body.dtype(), shape });
            }
            loops.homes.insert(stage.name.clone(), home);
        }
        for stage in stages {
            inside.extend(loops.stage(stage));
        }
        let outer = stages.last().map_or(&[][..], |stage| &stage.axes[..loops.prefix]);
        (nest(outer, inside), scratch)
    }

    fn home(&self, kernel: &Kernel, at: usize) -> Home {
        let stage = &self.stages[at];
        if kernel.param(&stage.name).is_some() {
            return Home::Param(stage.name.clone());
        }
        let rest = &stage.axes[self.prefix..];
        if rest.is_empty() {
            return Home::Scalar;
        }
        if let Some(result) = self.dies_into(kernel, at) {
            return Home::Param(result);
        }
        let elements = rest.iter().map(|(_, extent)| extent.clone()).product::<Dim>().as_const();
        let bytes = elements.map(|n| n.saturating_mul(stage.body.dtype().bytes() as i64));
        match bytes {
            Some(bytes) if bytes <= LOCAL_BYTES => Home::Local,
            _ => Home::Param(stage.name.clone()),
        }
    }

    /// The result whose memory stage `at` may use: one of its type that is computed element by element from it, after
    /// which nobody needs it.
    fn dies_into(&self, kernel: &Kernel, at: usize) -> Option<Symbol> {
        let stage = &self.stages[at];
        let last = (at + 1..self.stages.len())
            .rev()
            .find(|&user| loads_of(&self.stages[user].body, &stage.name).next().is_some())?;
        let result = &self.stages[last];
        let own: Vec<Expr> = result.axes.iter().map(|(axis, _)| Dim::from(axis).into()).collect();
        let extents = |s: &Stage| s.axes.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>();
        let fits = kernel.param(&result.name).is_some()
            && result.body.dtype() == stage.body.dtype()
            && extents(result) == extents(stage)
            && loads_of(&result.body, &stage.name).all(|index| index == own);
        // Another array may live there already.
        let taken = self.homes.values().any(|home| matches!(home, Home::Param(name) if *name == result.name));
        (fits && !taken).then(|| result.name.clone())
    }

    fn stage(&mut self, stage: &Stage) -> Vec<Stmt> {
        if let Some(running) = Running::of(stage) {
            return self.running(stage, &running);
        }
        let element = self.own_element(stage);
        nest(&stage.axes[self.prefix..], element)
    }

    /// One element of a stage, at its axes.
    fn own_element(&mut self, stage: &Stage) -> Vec<Stmt> {
        let own = stage.axes.iter().map(|(axis, _)| Dim::from(axis).into()).collect();
        self.element(&stage.name, &stage.body, own)
    }

    /// One element of the stage `name`, at the index `own`.
    fn element(&mut self, name: &Symbol, element: &Expr, own: Vec<Expr>) -> Vec<Stmt> {
        let mut body = Vec::new();
        let value = self.value(element, &mut body);
        match &self.homes[name] {
            Home::Scalar => body.push(Stmt::Let { name: name.clone(), value }),
            Home::Param(target) => body.push(Stmt::Store { target: target.clone(), at: own, value }),
            Home::Local => {
                let at = own[self.prefix..].to_vec();
                body.push(Stmt::Store { target: name.clone(), at, value });
            }
            Home::Block(place) => {
                let at = self.in_block(place, &own);
                body.push(Stmt::Store { target: name.clone(), at, value });
            }
            Home::Beside { array, place } => {
                let at = self.beside(place, &own);
                body.push(Stmt::Store { target: array.clone(), at, value });
            }
        }
        body
    }

    /// The index in an array of a block.
    fn in_block(&self, place: &Symbol, at: &[Expr]) -> Vec<Expr> {
        [Dim::from(place).into()].into_iter().chain(at[self.prefix..].iter().cloned()).collect()
    }

    fn beside(&self, place: &Symbol, at: &[Expr]) -> Vec<Expr> {
        at[self.prefix..].iter().cloned().chain([Dim::from(place).into()]).collect()
    }

    /// The name of the next accumulator.
    fn accumulator(&mut self) -> Symbol {
        *self.accumulators += 1;
        Symbol::new(format!("acc{}", *self.accumulators - 1))
    }

    /// `e` without folds: each becomes a loop in `before`, and an accumulator in its place.
    fn value(&mut self, e: &Expr, before: &mut Vec<Stmt>) -> Expr {
        match e.kind() {
            ExprKind::Load { source, dtype, at } => {
                let at: Vec<Expr> = at.iter().map(|i| self.value(i, before)).collect();
                match self.homes.get(source) {
                    None => Expr::load(source.clone(), *dtype, at),
                    Some(Home::Param(name)) => Expr::load(name.clone(), *dtype, at),
                    Some(Home::Scalar) => Expr::var(source.clone(), *dtype),
                    Some(Home::Local) => Expr::load(source.clone(), *dtype, at[self.prefix..].to_vec()),
                    Some(Home::Block(place)) => Expr::load(source.clone(), *dtype, self.in_block(place, &at)),
                    Some(Home::Beside { array, place }) => {
                        Expr::load(array.clone(), *dtype, self.beside(place, &at))
                    }
                }
            }
            ExprKind::Fold(Fold { op, axis, extent, body }) => {
                let (dtype, name) = (body.dtype(), self.accumulator());
                // A fold of a fold of the same kind needs one accumulator.
                let mut axes = vec![(axis.clone(), extent.clone())];
                let mut element = body;
                while let ExprKind::Fold(inner) = element.kind()
                    && inner.op == *op
                {
                    axes.push((inner.axis.clone(), inner.extent.clone()));
                    element = &inner.body;
                }
                let mut inside = Vec::new();
                let element = self.value(element, &mut inside);
                let acc = Expr::var(name.clone(), dtype);
                let value = accumulate(*op, acc.clone(), element);
                inside.push(Stmt::Set { name: name.clone(), value });
                before.push(Stmt::Var { name, init: Expr::constant(op.neutral(dtype)) });
                before.extend(nest(&axes, inside));
                acc
            }
            // A square is one product, with the same bits.
            ExprKind::Binary(Binary::Pow, x, two)
                if *two == Expr::number(DType::F32, 2.0) || *two == Expr::number(DType::F64, 2.0) =>
            {
                let x = self.value(x, before);
                x.clone() * x
            }
            _ => e.map_children(&mut |child| self.value(child, before)),
        }
    }
}

/// `acc ∘ element`; a sum of products in one rounding each, as the micro-kernels do it.
fn accumulate(op: Reduce, acc: Expr, element: Expr) -> Expr {
    match element.kind() {
        ExprKind::Binary(Binary::Mul, a, b)
            if op == Reduce::Sum && matches!(element.dtype(), DType::F32 | DType::F64) =>
        {
            Expr::fma(a.clone(), b.clone(), acc)
        }
        _ => Expr::binary(op.function(), acc, element),
    }
}

/// Serial loops over `axes` around `body`.
fn nest(axes: &[(Symbol, Dim)], body: Vec<Stmt>) -> Vec<Stmt> {
    axes.iter().rev().fold(body, |body, (axis, extent)| {
        vec![Stmt::For { axis: axis.clone(), extent: extent.clone(), kind: LoopKind::Serial, body }]
    })
}

/// The indices at which `body` loads `source`.
fn loads_of<'e>(body: &'e Expr, source: &'e Symbol) -> impl Iterator<Item = Vec<Expr>> + 'e {
    let mut found = Vec::new();
    body.walk(&mut |e| {
        if let ExprKind::Load { source: s, at, .. } = e.kind()
            && s == source
        {
            found.push(at.clone());
        }
    });
    found.into_iter()
}

/// Number of leading axes that all stages share, and along which they hand over element by element.
fn prefix(stages: &[Stage]) -> usize {
    let names: BTreeSet<&Symbol> = stages.iter().map(|stage| &stage.name).collect();
    let Some(last) = stages.last() else { return 0 };
    let mut prefix = last.axes.len();
    for stage in stages {
        prefix = prefix.min(free_axes(stage));
        let same = stage.axes.iter().zip(&last.axes).take_while(|(a, b)| a == b).count();
        prefix = prefix.min(same);
        stage.body.walk(&mut |e| {
            if let ExprKind::Load { source, at, .. } = e.kind()
                && names.contains(source)
            {
                let own = at.iter().zip(&stage.axes);
                let same =
                    own.take_while(|(i, (axis, _))| i.as_index().and_then(Dim::as_symbol) == Some(axis));
                prefix = prefix.min(same.count());
            }
        });
    }
    prefix
}
