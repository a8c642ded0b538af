//! Rules of a valid kernel:
//!
//! - names are defined before they are used, and arrays are indexed with one index for each axis;
//! - functions get the element types that they are defined for, and stores the type of their array;
//! - every access is in range: proved from the extents of the loops around it and from the conditions around it, or,
//!   where symbolic sizes leave no proof, not out of range at any of the small sizes that are tried;
//! - iterations of a parallel loop write apart: from the place of a store to anything that lives outside the loop,
//!   the iteration can be told; scalars from outside are not changed in it;
//! - a stage that fills a parameter has its type, and each written parameter is filled by one stage;
//! - fold expressions stand in the stage form only; what a fold in lanes runs changes its accumulator and nothing else
//!   from outside that two iterations share; vector loops have 1 to 64 lanes; unrolled loops a number of iterations;
//! - what a sort writes has the shape of its keys but for the axis, and its scratch memory the type that it needs.
//!
//! An index that depends on data is taken as it is: the op that makes it clamps it.

use std::collections::{BTreeMap, BTreeSet};

use crate::dim::{Atom, Condition, Dim, Ranges, Symbol};
use crate::dtype::DType;
use crate::kernel::operand::Operand;
use crate::kernel::stmt::WARP;
use crate::kernel::stored::Stored;
use crate::kernel::{
    Access, Body, Expr, ExprKind, Gemm, Group, Kernel, LaneFold, LoopKind, Reduce, Sort, Stage, Stmt,
};
use crate::scalar::{Binary, Unary};
use crate::types::TensorType;
use crate::verify::guard::nonnegative;
use crate::verify::refute::leaves;

/// What is wrong with a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelViolation {
    /// A name that nothing defines before this place.
    #[error("`{kernel}`: `{name}` is not defined here")]
    Undefined {
        /// The kernel.
        kernel: String,
        /// The name.
        name: String,
    },
    /// Another number of indices than the array has axes.
    #[error("`{kernel}`: `%{array}` has {expected} axes, indexed with {found}")]
    Rank {
        /// The kernel.
        kernel: String,
        /// The array.
        array: String,
        /// Its axes.
        expected: usize,
        /// The indices.
        found: usize,
    },
    /// Element types that do not go together.
    #[error("`{kernel}`: {what} of {left} and {right}")]
    Types {
        /// The kernel.
        kernel: String,
        /// The function.
        what: String,
        /// One type.
        left: DType,
        /// The other.
        right: DType,
    },
    /// An access that leaves its array.
    #[error("`{kernel}`: `{index}` does not always lie in 0..{size}, an axis of `%{array}`")]
    OutOfRange {
        /// The kernel.
        kernel: String,
        /// The array.
        array: String,
        /// The index.
        index: String,
        /// The size of the axis.
        size: String,
    },
    /// A store to a parameter that is only read.
    #[error("`{kernel}`: `%{array}` is only read")]
    ReadOnly {
        /// The kernel.
        kernel: String,
        /// The array.
        array: String,
    },
    /// Iterations of a parallel loop may write to one place.
    #[error(
        "`{kernel}`: iterations of the parallel loop over `{axis}` may write the same element of `%{array}`"
    )]
    Race {
        /// The kernel.
        kernel: String,
        /// The axis.
        axis: String,
        /// The array.
        array: String,
    },
    /// A stage that does not fit the parameter that it fills.
    #[error("`{kernel}`: a stage of {found} fills `%{param}`, which is {expected}")]
    Stage {
        /// The kernel.
        kernel: String,
        /// The parameter.
        param: String,
        /// Its type.
        expected: String,
        /// The stage's type.
        found: String,
    },
    /// A written parameter that no stage fills, or more than one.
    #[error("`{kernel}`: {stages} stages fill `%{param}`")]
    Filled {
        /// The kernel.
        kernel: String,
        /// The parameter.
        param: String,
        /// Stages that fill it.
        stages: usize,
    },
    /// An array of a sort that does not go with its keys.
    #[error("`{kernel}`: `%{array}` is {found}, a sort needs {expected}")]
    Sort {
        /// The kernel.
        kernel: String,
        /// The array.
        array: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A written parameter that no statement writes.
    #[error("`{kernel}`: nothing writes `%{param}`")]
    Unwritten {
        /// The kernel.
        kernel: String,
        /// The parameter.
        param: String,
    },
    /// Something that this form does not have.
    #[error("`{kernel}`: {what}")]
    Form {
        /// The kernel.
        kernel: String,
        /// What.
        what: &'static str,
    },
}

/// Every violation in a kernel.
pub fn verify_kernel(kernel: &Kernel) -> Vec<KernelViolation> {
    let mut check = Check {
        kernel,
        arrays: kernel.params.iter().map(|p| (p.name.clone(), Array::of(&p.ty, 0))).collect(),
        scalars: BTreeMap::new(),
        axes: kernel.sizes.iter().cloned().collect(),
        ranges: Ranges::new(),
        facts: kernel.given.iter().flat_map(Condition::facts).collect(),
        loops: Vec::new(),
        report: Vec::new(),
    };
    for ty in kernel.params.iter().map(|param| &param.ty) {
        ty.shape.iter().for_each(|size| check.dim(size));
    }
    match &kernel.body {
        Body::Stages(stages) => {
            for stage in stages {
                check.inside(&stage.axes, |check| check.expr(&stage.body, true));
                check.stage(stage);
                check.arrays.entry(stage.name.clone()).or_insert_with(|| Array::of(&stage.ty(), 0));
            }
            check.each_is_filled(stages);
        }
        Body::Loops(body) => {
            check.block(body);
            check.each_is_written(body);
        }
    }
    check.report
}

/// An array that can be accessed.
#[derive(Clone)]
struct Array {
    dtype: DType,
    shape: Vec<Dim>,
    /// How many loops there are around its definition.
    depth: usize,
}

impl Array {
    fn of(ty: &TensorType, depth: usize) -> Array {
        Array { dtype: ty.dtype, shape: ty.shape.clone(), depth }
    }
}

/// A loop around a place.
#[derive(Clone)]
struct Around {
    axis: Symbol,
    /// May its iterations run at the same time?
    parallel: bool,
}

struct Check<'a> {
    kernel: &'a Kernel,
    arrays: BTreeMap<Symbol, Array>,
    /// Element type, and how many loops there are around the definition.
    scalars: BTreeMap<Symbol, (DType, usize)>,
    /// Names that index arithmetic may use.
    axes: std::collections::BTreeSet<Symbol>,
    ranges: Ranges,
    /// What conditions around say: these are not negative.
    facts: Vec<Dim>,
    /// The loops around, outermost first.
    loops: Vec<Around>,
    report: Vec<KernelViolation>,
}

impl Check<'_> {
    fn name(&self) -> String {
        self.kernel.name.to_string()
    }

    fn undefined(&mut self, name: &Symbol) {
        let kernel = self.name();
        self.report.push(KernelViolation::Undefined { kernel, name: name.to_string() });
    }

    fn types(&mut self, what: &str, left: DType, right: DType) {
        let kernel = self.name();
        self.report.push(KernelViolation::Types { kernel, what: what.to_owned(), left, right });
    }

    /// With these axes in range.
    fn inside(&mut self, axes: &[(Symbol, Dim)], then: impl FnOnce(&mut Self)) {
        let (before, names) = (self.ranges.clone(), self.axes.clone());
        for (axis, extent) in axes {
            self.dim(extent);
            self.ranges.enter(axis.clone(), extent.clone());
            self.axes.insert(axis.clone());
        }
        then(self);
        self.ranges = before;
        self.axes = names;
    }

    /// With what a condition says, if it holds.
    fn given(&mut self, cond: &Expr, then: impl FnOnce(&mut Self)) {
        let before = self.facts.len();
        self.learn(cond);
        then(self);
        self.facts.truncate(before);
    }

    fn learn(&mut self, cond: &Expr) {
        let ExprKind::Binary(function, a, b) = cond.kind() else { return };
        if *function == Binary::And {
            self.learn(a);
            self.learn(b);
            return;
        }
        let (Some(a), Some(b)) = (a.as_index(), b.as_index()) else { return };
        let gap = b.clone() - a.clone();
        match function {
            Binary::Le => self.facts.push(gap),
            Binary::Lt => self.facts.push(gap - Dim::constant(1)),
            Binary::Ge => self.facts.push(-gap),
            Binary::Gt => self.facts.push(-gap - Dim::constant(1)),
            _ => {}
        }
    }

    fn dim(&mut self, dim: &Dim) {
        let mut unknown = Vec::new();
        dim.for_each_symbol(&mut |symbol| {
            if !self.axes.contains(symbol) {
                unknown.push(symbol.clone());
            }
        });
        unknown.iter().for_each(|symbol| self.undefined(symbol));
    }

    /// Is it proved, by the ranges and by what conditions around say, that `dim` is not negative?
    fn is_nonnegative(&self, dim: &Dim) -> bool {
        nonnegative(&self.ranges, &self.facts, dim, 2)
    }

    fn access(&mut self, array: &Symbol, at: &[Expr]) {
        let Some(Array { shape, .. }) = self.arrays.get(array).cloned() else { return self.undefined(array) };
        let kernel = self.name();
        if shape.len() != at.len() {
            let (expected, found) = (shape.len(), at.len());
            self.report.push(KernelViolation::Rank { kernel, array: array.to_string(), expected, found });
            return;
        }
        for (index, size) in at.iter().zip(&shape) {
            if index.dtype() != DType::I64 {
                self.types("an index", index.dtype(), DType::I64);
            }
            let Some(index) = index.as_index() else { continue };
            let above = size.clone() - Dim::constant(1) - index.clone();
            let proved = self.is_nonnegative(index) && self.is_nonnegative(&above);
            if !proved && leaves(&self.ranges, &self.facts, index, size) {
                let (array, index, size) = (array.to_string(), index.to_string(), size.to_string());
                self.report.push(KernelViolation::OutOfRange { kernel: kernel.clone(), array, index, size });
            }
        }
    }

    fn expr(&mut self, e: &Expr, folds: bool) {
        match e.kind() {
            ExprKind::Const(_) => {}
            ExprKind::Index(dim) => self.dim(dim),
            ExprKind::Load { source, at, dtype } => {
                at.iter().for_each(|index| self.expr(index, folds));
                self.access(source, at);
                if let Some(found) = self.arrays.get(source).map(|array| array.dtype)
                    && found != *dtype
                {
                    self.types("a load", found, *dtype);
                }
            }
            ExprKind::Var { name, dtype } => match self.scalars.get(name).copied() {
                None => self.undefined(name),
                Some((found, _)) if found != *dtype => self.types("a scalar", found, *dtype),
                Some(_) => {}
            },
            ExprKind::Unary(function, x) => {
                self.expr(x, folds);
                self.unary(*function, x.dtype());
            }
            ExprKind::Binary(function, a, b) => {
                self.expr(a, folds);
                self.expr(b, folds);
                if a.dtype() != b.dtype() || !function.accepts(a.dtype()) {
                    self.types(function.name(), a.dtype(), b.dtype());
                }
            }
            ExprKind::Fma(a, b, c) => {
                [a, b, c].into_iter().for_each(|x| self.expr(x, folds));
                let one = a.dtype() == b.dtype() && b.dtype() == c.dtype();
                if !one || !matches!(a.dtype(), DType::F32 | DType::F64) {
                    self.types("fma", a.dtype(), c.dtype());
                }
            }
            ExprKind::Select(cond, yes, no) => {
                self.expr(cond, folds);
                self.given(cond, |check| check.expr(yes, folds));
                let not = negated(cond);
                match not {
                    Some(not) => self.given(&not, |check| check.expr(no, folds)),
                    None => self.expr(no, folds),
                }
                if cond.dtype() != DType::Bool || yes.dtype() != no.dtype() {
                    self.types("select", yes.dtype(), no.dtype());
                }
            }
            ExprKind::Cast(_, x) => self.expr(x, folds),
            ExprKind::Bitcast(dtype, x) => {
                self.expr(x, folds);
                if dtype.bits() != x.dtype().bits() {
                    self.types("bitcast", x.dtype(), *dtype);
                }
            }
            ExprKind::Fold(fold) => {
                if !folds {
                    let kernel = self.name();
                    self.report.push(KernelViolation::Form { kernel, what: "a fold among loops" });
                }
                self.inside(&[(fold.axis.clone(), fold.extent.clone())], |check| {
                    check.expr(&fold.body, folds)
                });
            }
        }
    }

    fn unary(&mut self, function: Unary, dtype: DType) {
        if !function.accepts(dtype) {
            self.types(function.name(), dtype, dtype);
        }
    }

    fn block(&mut self, block: &[Stmt]) {
        let (arrays, scalars) = (self.arrays.clone(), self.scalars.clone());
        block.iter().for_each(|stmt| self.stmt(stmt));
        self.arrays = arrays;
        self.scalars = scalars;
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::For { axis, extent, kind, body } => {
                self.loop_kind(*kind, extent);
                let alone = matches!(kind, LoopKind::Serial | LoopKind::Vector(_) | LoopKind::Unroll);
                let parallel = !alone && !extent.is(1);
                self.loops.push(Around { axis: axis.clone(), parallel });
                self.inside(&[(axis.clone(), extent.clone())], |check| check.block(body));
                self.loops.pop();
            }
            Stmt::If { cond, then } => {
                self.expr(cond, false);
                self.given(cond, |check| check.block(then));
            }
            Stmt::Let { name, value } | Stmt::Var { name, init: value } => {
                self.expr(value, false);
                self.scalars.insert(name.clone(), (value.dtype(), self.loops.len()));
            }
            Stmt::Set { name, value } => {
                self.expr(value, false);
                match self.scalars.get(name).copied() {
                    None => self.undefined(name),
                    Some((dtype, _)) if dtype != value.dtype() => self.types("set", dtype, value.dtype()),
                    Some((_, depth)) => {
                        let shared = self.loops[depth..].iter().find(|around| around.parallel).cloned();
                        shared.iter().for_each(|around| self.race(&around.axis, name));
                    }
                }
            }
            Stmt::Store { target, at, value } => {
                at.iter().for_each(|index| self.expr(index, false));
                self.expr(value, false);
                self.access(target, at);
                self.store(target, at, value.dtype());
            }
            Stmt::Alloc { name, dtype, shape } => {
                if shape.iter().any(|size| *size < 0) {
                    let kernel = self.name();
                    self.report
                        .push(KernelViolation::Form { kernel, what: "an allocation of a negative size" });
                }
                let shape = shape.iter().map(|&size| Dim::constant(size)).collect();
                self.arrays.insert(name.clone(), Array { dtype: *dtype, shape, depth: self.loops.len() });
            }
            Stmt::Fold(fold) => self.fold(fold),
            Stmt::Gemm(gemm) => self.gemm(gemm),
            Stmt::Sort(sort) => self.sort(sort),
        }
    }

    fn loop_kind(&mut self, kind: LoopKind, extent: &Dim) {
        let what = match kind {
            LoopKind::Vector(lanes) if !(1..=64).contains(&lanes) => "a vector loop has 1 to 64 lanes",
            LoopKind::Parallel(0) => "a parallel loop takes at least one iteration at a time",
            LoopKind::Blocks(threads) | LoopKind::Grid { threads, .. }
                if !threads.is_power_of_two() || !(WARP..=1024).contains(&threads) =>
            {
                "a block has 32 to 1024 threads, a power of two"
            }
            LoopKind::Grid { lanes, .. } | LoopKind::Threads(lanes)
                if !lanes.is_power_of_two() || lanes > WARP =>
            {
                "a group has at most 32 threads, a power of two"
            }
            LoopKind::Unroll if extent.as_const().is_none() => "an unrolled loop has a number of iterations",
            _ => return,
        };
        let kernel = self.name();
        self.report.push(KernelViolation::Form { kernel, what });
    }

    fn store(&mut self, target: &Symbol, at: &[Expr], value: DType) {
        let Some(array) = self.arrays.get(target).cloned() else { return };
        if array.dtype != value {
            self.types("a store", array.dtype, value);
        }
        if self.kernel.param(target).is_some_and(|param| param.access == Access::Read) {
            let kernel = self.name();
            self.report.push(KernelViolation::ReadOnly { kernel, array: target.to_string() });
        }
        let Some(at) = at.iter().map(Expr::as_index).collect::<Option<Vec<&Dim>>>() else { return };
        for depth in array.depth..self.loops.len() {
            if self.loops[depth].parallel && !self.tells(depth, &at, &array.shape) {
                let axis = self.loops[depth].axis.clone();
                self.race(&axis, target);
            }
        }
    }

    fn race(&mut self, axis: &Symbol, array: &Symbol) {
        let (kernel, axis, array) = (self.name(), axis.to_string(), array.to_string());
        self.report.push(KernelViolation::Race { kernel, axis, array });
    }

    /// Does the place `at` in an array of this shape tell the iteration of the loop at `depth`, whatever the loops
    /// inside it do?
    ///
    /// From `s·u + r` with `0 ≤ r < |s|`, both `u` and `r` are known. This is applied to each index, and to the
    /// row-major position (which the indices determine), until nothing more follows.
    fn tells(&self, depth: usize, at: &[&Dim], shape: &[Dim]) -> bool {
        let axis = &self.loops[depth].axis;
        let mut unknown: Vec<&Symbol> = self.loops[depth..].iter().map(|around| &around.axis).collect();
        let position =
            at.iter().zip(shape).fold(Dim::constant(0), |sum, (i, size)| sum * size.clone() + (*i).clone());
        let mut known: Vec<Dim> = at.iter().map(|index| (*index).clone()).chain([position]).collect();
        // From ⌊a/b⌋ and c·(a − b·⌊a/b⌋), a is known: several loops that became one write as they did.
        for _ in 0..at.len() {
            let quotients: Vec<(Dim, Dim, Dim)> = known.iter().filter_map(as_quotient).collect();
            let mut more = Vec::new();
            for (quotient, whole, by) in &quotients {
                for sum in known.iter().filter(|sum| *sum != quotient) {
                    let factor = |of: &Dim| {
                        let factor = sum.terms().find(|(atoms, _)| of.terms().eq([(*atoms, 1)]));
                        factor.map(|(_, factor)| Dim::constant(factor))
                    };
                    more.extend(
                        factor(whole).map(|scale| sum.clone() + quotient.clone() * by.clone() * scale),
                    );
                    more.extend(factor(quotient).map(|scale| sum.clone() - quotient.clone() * scale));
                }
            }
            more.retain(|sum| !known.contains(sum));
            known.extend(more);
        }
        loop {
            let before = unknown.len();
            for sum in &mut known {
                // Each round takes one unknown out of the sum.
                while let Some((at, rest)) = self.leading(sum, &unknown) {
                    unknown.remove(at);
                    *sum = rest;
                }
            }
            if !unknown.contains(&axis) {
                return true;
            }
            if unknown.len() == before {
                return false;
            }
        }
    }

    /// The unknown `u` of `sum = s·u + r` for which `0 ≤ r < |s|` (but for what is known), with `r`.
    fn leading(&self, sum: &Dim, unknown: &[&Symbol]) -> Option<(usize, Dim)> {
        let zero = |symbol: &Symbol| unknown.contains(&symbol).then(|| Dim::constant(0));
        unknown.iter().enumerate().find_map(|(at, symbol)| {
            let (scale, rest) = sum.linear_in(symbol)?;
            let varying = unknown.iter().any(|other| rest.mentions(other));
            let rest = if varying { rest.clone() - rest.substitute(&zero) } else { Dim::constant(0) };
            let scale = if self.ranges.is_nonnegative(&scale) { scale } else { -scale };
            let apart = self.ranges.is_nonnegative(&(scale.clone() - Dim::constant(1)))
                && self.ranges.is_nonnegative(&rest)
                && self.ranges.is_nonnegative(&(scale - Dim::constant(1) - rest.clone()));
            apart.then_some((at, rest))
        })
    }

    /// A stage that fills a parameter has its type.
    fn stage(&mut self, stage: &Stage) {
        let Some(param) = self.kernel.param(&stage.name) else { return };
        let kernel = self.name();
        if param.access == Access::Read {
            self.report.push(KernelViolation::ReadOnly { kernel, array: param.name.to_string() });
            return;
        }
        let found = stage.ty();
        let equal = |(a, b): (&Dim, &Dim)| {
            let gap = a.clone() - b.clone();
            gap.is(0) || (self.ranges.is_nonnegative(&gap) && self.ranges.is_nonnegative(&-gap))
        };
        let same = found.dtype == param.ty.dtype
            && found.rank() == param.ty.rank()
            && found.shape.iter().zip(&param.ty.shape).all(equal);
        if !same {
            let (param, expected, found) = (param.name.to_string(), param.ty.to_string(), found.to_string());
            self.report.push(KernelViolation::Stage { kernel, param, expected, found });
        }
    }

    fn each_is_filled(&mut self, stages: &[Stage]) {
        for param in self.kernel.params.iter().filter(|param| param.access == Access::Write) {
            let stages = stages.iter().filter(|stage| stage.name == param.name).count();
            if stages != 1 {
                let (kernel, param) = (self.name(), param.name.to_string());
                self.report.push(KernelViolation::Filled { kernel, param, stages });
            }
        }
    }

    /// A written parameter that no statement writes would be a result of nothing.
    fn each_is_written(&mut self, body: &[Stmt]) {
        let mut written = BTreeSet::new();
        for stmt in body {
            stmt.walk(&mut |stmt| match stmt {
                Stmt::Store { target, .. } => {
                    written.insert(target.clone());
                }
                Stmt::Sort(sort) => written.extend(sort.values.iter().chain(&sort.positions).cloned()),
                _ => {}
            });
        }
        for param in self.kernel.params.iter().filter(|param| param.access == Access::Write) {
            if !written.contains(&param.name) {
                let (kernel, param) = (self.name(), param.name.to_string());
                self.report.push(KernelViolation::Unwritten { kernel, param });
            }
        }
    }

    fn fold(&mut self, fold: &LaneFold) {
        let logical = matches!(fold.op, Reduce::Any | Reduce::All);
        if logical != (fold.dtype == DType::Bool) || !fold.lanes.is_power_of_two() {
            let kernel = self.name();
            let what =
                "a fold whose lanes do not combine: they are truth values or not, a power of two of them";
            self.report.push(KernelViolation::Form { kernel, what });
        }
        let whole = |stmt: &Stmt| {
            let plain = |kind: &LoopKind| matches!(kind, LoopKind::Serial | LoopKind::Unroll);
            matches!(stmt, Stmt::For { kind, .. } if !plain(kind))
                || matches!(stmt, Stmt::Alloc { .. } | Stmt::Fold(_) | Stmt::Gemm(_) | Stmt::Sort(_))
        };
        let mut found = false;
        fold.body.iter().for_each(|stmt| stmt.walk(&mut |stmt| found |= whole(stmt)));
        if found {
            let kernel = self.name();
            let what = "a fold in lanes holds scalars, stores and serial loops";
            self.report.push(KernelViolation::Form { kernel, what });
        }
        // Lanes run side by side, each with an accumulator of its own.
        self.loops.push(Around { axis: fold.axis.clone(), parallel: true });
        self.inside(&[(fold.axis.clone(), fold.extent.clone())], |check| {
            let scalars = check.scalars.clone();
            check.scalars.insert(fold.acc.clone(), (fold.dtype, check.loops.len()));
            check.block(&fold.body);
            check.scalars = scalars;
        });
        self.loops.pop();
        self.scalars.insert(fold.acc.clone(), (fold.dtype, self.loops.len()));
    }

    fn gemm(&mut self, gemm: &Gemm) {
        let outer: Vec<(Symbol, Dim)> = gemm.outer().cloned().collect();
        let axes: Vec<(Symbol, Dim)> = outer.iter().chain(&gemm.depth).cloned().collect();
        let number = gemm.group.as_ref().map(|group| (group.axis.clone(), group.extent.clone()));
        if let Some(group) = &gemm.group {
            self.group(gemm, group);
        }
        let right: Vec<(Symbol, Dim)> = axes.iter().cloned().chain(number).collect();
        for (axes, operand) in [(&axes, &gemm.a), (&right, &gemm.b)] {
            self.inside(axes, |check| {
                check.expr(operand, false);
                let (known, stored) = (Operand::of(operand), Stored::of(operand));
                if known.is_none() && stored.is_none() || operand.dtype() != gemm.dtype() {
                    let kernel = check.name();
                    let what =
                        "a product of anything but loads of what an f32 is stored as, or of bytes as i32";
                    check.report.push(KernelViolation::Form { kernel, what });
                }
                if known.is_some_and(|known| !known.guards.is_empty() && !known.has_zero_of_its_type()) {
                    let kernel = check.name();
                    let what = "a guarded operand whose zero may be none of its type";
                    check.report.push(KernelViolation::Form { kernel, what });
                }
            });
        }
        if gemm.group.is_some() && gemm.dtype() != DType::F32 {
            let what = "rows that choose what they are multiplied with, and no floats";
            self.report.push(KernelViolation::Form { kernel: self.name(), what });
        }
        // The body runs once for each element, spread over threads.
        let (depth, scalars) = (self.loops.len(), self.scalars.clone());
        self.loops.extend(outer.iter().map(|(axis, _)| Around { axis: axis.clone(), parallel: true }));
        self.inside(&outer, |check| {
            check.scalars.insert(gemm.acc.clone(), (gemm.dtype(), depth + outer.len()));
            check.block(&gemm.body);
        });
        self.loops.truncate(depth);
        self.scalars = scalars;
    }

    /// Do the arrays of a group say of each row which operand it meets?
    fn group(&mut self, gemm: &Gemm, group: &Group) {
        let rows = gemm.row.iter().map(|(_, extent)| extent.clone()).product();
        let ends = group.extent.clone() + Dim::constant(1);
        for (name, size) in [(&group.order, rows), (&group.starts, ends)] {
            let Some(array) = self.arrays.get(name) else {
                self.undefined(name);
                continue;
            };
            if array.dtype != DType::I64 || array.shape != [size] {
                let kernel = self.name();
                let what =
                    "an order of rows is an i64 for each of them, and its starts one more than operands";
                self.report.push(KernelViolation::Form { kernel, what });
            }
        }
    }

    fn sort(&mut self, sort: &Sort) {
        let Some(keys) = self.arrays.get(&sort.keys).cloned() else { return self.undefined(&sort.keys) };
        let kernel = self.name();
        let keys = TensorType::new(keys.dtype, keys.shape);
        if sort.axis >= keys.rank() {
            self.report.push(KernelViolation::Form {
                kernel,
                what: "a sort along an axis that its keys do not have",
            });
            return;
        }
        if keys.dtype.is_narrow() {
            let kernel = kernel.clone();
            self.report.push(KernelViolation::Form { kernel, what: "a sort of keys without arithmetic" });
        }
        for (result, dtype) in [(&sort.values, keys.dtype), (&sort.positions, DType::I64)] {
            let Some(result) = result else { continue };
            let mut expected = keys.with_dtype(dtype);
            if let Some(size) = self.arrays.get(result).and_then(|array| array.shape.get(sort.axis)) {
                expected.shape[sort.axis] = size.clone();
            }
            self.filled_by_sort(result, &expected);
        }
        let mut names: Vec<&Symbol> = sort.results().chain([&sort.keys, &sort.scratch]).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            self.report.push(KernelViolation::Form { kernel, what: "a sort that uses one array for two" });
        }
        self.filled_by_sort(&sort.scratch, &Sort::scratch_type(&keys, sort.axis));
    }

    /// Is the array of this type, and may it be written as a whole here?
    fn filled_by_sort(&mut self, name: &Symbol, expected: &TensorType) {
        let Some(array) = self.arrays.get(name).cloned() else { return self.undefined(name) };
        let found = TensorType::new(array.dtype, array.shape);
        if found != *expected {
            let (kernel, array) = (self.name(), name.to_string());
            let (expected, found) = (expected.to_string(), found.to_string());
            self.report.push(KernelViolation::Sort { kernel, array, expected, found });
        }
        if self.kernel.param(name).is_some_and(|param| param.access == Access::Read) {
            let (kernel, array) = (self.name(), name.to_string());
            self.report.push(KernelViolation::ReadOnly { kernel, array });
        }
        let parallel: Vec<Symbol> =
            self.loops[array.depth..].iter().filter(|a| a.parallel).map(|a| a.axis.clone()).collect();
        parallel.iter().for_each(|axis| self.race(axis, name));
    }
}

/// The opposite of a comparison of index arithmetic.
fn negated(cond: &Expr) -> Option<Expr> {
    let ExprKind::Binary(function, a, b) = cond.kind() else { return None };
    let opposite = match function {
        Binary::Lt => Binary::Ge,
        Binary::Le => Binary::Gt,
        Binary::Gt => Binary::Le,
        Binary::Ge => Binary::Lt,
        _ => return None,
    };
    Some(ExprKind::Binary(opposite, a.clone(), b.clone()).into())
}

/// The quotient, what is divided and by what, if it is one and nothing else.
fn as_quotient(sum: &Dim) -> Option<(Dim, Dim, Dim)> {
    let mut terms = sum.terms();
    match (terms.next(), terms.next()) {
        (Some(([Atom::Floor(whole, by)], 1)), None) => Some((sum.clone(), whole.clone(), by.clone())),
        _ => None,
    }
}
