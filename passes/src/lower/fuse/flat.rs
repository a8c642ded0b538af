//! Calls that follow each other as one list of stages, with names that are unique in it.

use std::collections::{BTreeMap, BTreeSet};

use ir::dim::{Condition, Ranges, Symbol};
use ir::kernel::{Access, Body, Expr, ExprKind, Fold, Kernel, KernelKind, Param, Stage};
use ir::program::{Arg, Call, Entry, Program};
use ir::types::{reindex, strides};
use ir::{Dim, Origin, Scalar};

/// One array of the entry.
#[derive(Debug, Clone)]
pub(super) struct FlatStage {
    /// What is computed; axes of extent 1 are gone.
    pub(super) stage: Stage,
    /// The nodes of the model that it computes.
    pub(super) origin: Origin,
    /// The ops that it computes, for the kernel's name.
    pub(super) ops: Vec<String>,
    /// What the kernel was that it comes from.
    pub(super) kind: KernelKind,
    /// The call that it comes from, if that is an attention: its stages stay together, and apart from each other.
    pub(super) bundle: Option<usize>,
    /// The kernel that stands here instead; the stage is of no meaning then.
    pub(super) whole: Option<Whole>,
}

/// A kernel that stays as it is: one in the loop form.
#[derive(Debug, Clone)]
pub(super) struct Whole {
    pub(super) kernel: Kernel,
    /// What it is called with for its sizes.
    pub(super) sizes: Vec<Dim>,
    /// The array behind each parameter; none behind scratch memory.
    pub(super) arrays: Vec<Option<Symbol>>,
}

impl Whole {
    /// The arrays that it accesses in this way.
    pub(super) fn arrays(&self, access: Access) -> impl Iterator<Item = &Symbol> {
        let params = self.kernel.params.iter().zip(&self.arrays);
        params.filter(move |(param, _)| param.access == access).filter_map(|(_, array)| array.as_ref())
    }
}

/// Calls, laid open.
#[derive(Debug, Default)]
pub(super) struct Flat {
    /// The stages, operands first. One that was removed keeps its place until [`Flat::compact`].
    pub(super) stages: Vec<FlatStage>,
    /// Which of them were removed.
    gone: Vec<bool>,
    /// Where the stage of a name is.
    by_name: BTreeMap<Symbol, usize>,
    /// The stages that load an array.
    users: BTreeMap<Symbol, BTreeSet<usize>>,
    /// The shape of every array that a load may name: inputs, weights and stages.
    pub(super) shapes: BTreeMap<Symbol, Vec<Dim>>,
    /// What the arrays are that nothing here computes: inputs, weights, and what other steps wrote.
    pub(super) externals: BTreeMap<Symbol, Arg>,
    /// The arrays that must be stored because others need them, each with its place: outputs, and buffers that steps
    /// elsewhere use.
    pub(super) kept: BTreeMap<Symbol, Arg>,
    /// What holds for the sizes whenever these calls run.
    pub(super) given: Vec<Condition>,
}

impl Flat {
    /// Opens these calls of `entry`, which follow each other. What is in `kept` is used elsewhere, too.
    pub(super) fn open(program: &Program, entry: &Entry, calls: &[Call], kept: &BTreeSet<Arg>) -> Flat {
        let mut flat = Flat::default();
        let mut axes = 0;
        for (number, call) in calls.iter().enumerate() {
            let kernel = &program.kernels[call.kernel];
            let sizes: BTreeMap<&Symbol, &Dim> = kernel.sizes.iter().zip(&call.sizes).collect();
            let in_entry = |symbol: &Symbol| sizes.get(symbol).map(|&size| size.clone());
            flat.given.extend(kernel.given.iter().map(|condition| condition.substitute(&in_entry)));
            let Body::Stages(stages) = &kernel.body else {
                flat.open_whole(program, entry, call, kept);
                continue;
            };
            let mut names: BTreeMap<Symbol, Symbol> = BTreeMap::new();
            for (param, &arg) in kernel.params.iter().zip(&call.args) {
                let name = global(arg);
                flat.note_external(program, entry, param, arg);
                names.insert(param.name.clone(), name);
            }
            let bundle = (kernel.kind == KernelKind::Attention).then_some(number);
            for stage in stages {
                let fresh = Symbol::new(format!("s{}", flat.stages.len()));
                let name = names.entry(stage.name.clone()).or_insert(fresh).clone();
                if let Some(at) = kernel.params.iter().position(|param| param.name == stage.name) {
                    flat.note_kept(&name, call.args[at], kept);
                }
                let mut stage = open_stage(stage, &name, &names, &sizes, &mut axes);
                for param in &kernel.params {
                    let seen: Vec<Dim> = param
                        .ty
                        .shape
                        .iter()
                        .map(|d| d.substitute(&|s| sizes.get(s).map(|&d| d.clone())))
                        .collect();
                    flat.see_as_stored(&mut stage, &names[&param.name], &seen);
                }
                let ops = vec![base_name(kernel.name.name())];
                let origin = call.origin.clone();
                flat.push(FlatStage { stage, origin, ops, kind: kernel.kind, bundle, whole: None });
            }
        }
        flat
    }

    /// What is read and not computed here comes from elsewhere.
    fn note_external(&mut self, program: &Program, entry: &Entry, param: &Param, arg: Arg) {
        let name = global(arg);
        if param.access == Access::Read && self.find(&name).is_none() {
            self.shapes.insert(name.clone(), program.arg_type(entry, arg).shape);
            self.externals.insert(name, arg);
        }
    }

    /// Adds a kernel that stays as it is.
    fn open_whole(&mut self, program: &Program, entry: &Entry, call: &Call, kept: &BTreeSet<Arg>) {
        let kernel = &program.kernels[call.kernel];
        let mut arrays = Vec::with_capacity(call.args.len());
        for (param, &arg) in kernel.params.iter().zip(&call.args) {
            let name = global(arg);
            self.note_external(program, entry, param, arg);
            if param.access == Access::Write {
                self.shapes.insert(name.clone(), program.arg_type(entry, arg).shape);
                self.note_kept(&name, arg, kept);
                self.by_name.insert(name.clone(), self.stages.len());
            }
            arrays.push((param.access != Access::Scratch).then_some(name));
        }
        let name = Symbol::new(format!("s{}", self.stages.len()));
        self.push(FlatStage {
            stage: Stage { name, axes: vec![], body: Expr::constant(Scalar::bool(true)) },
            origin: call.origin.clone(),
            ops: vec![base_name(kernel.name.name())],
            kind: kernel.kind,
            bundle: None,
            whole: Some(Whole { kernel: kernel.clone(), sizes: call.sizes.clone(), arrays }),
        });
    }

    fn note_kept(&mut self, name: &Symbol, arg: Arg, kept: &BTreeSet<Arg>) {
        if kept.contains(&arg) {
            self.kept.insert(name.clone(), arg);
        }
    }

    /// Adds a stage without its axes of extent 1.
    fn push(&mut self, mut flat: FlatStage) {
        let stage = &mut flat.stage;
        let unit: Vec<Symbol> =
            stage.axes.iter().filter(|(_, extent)| extent.is(1)).map(|(axis, _)| axis.clone()).collect();
        stage.body = stage.body.substitute(&|symbol| unit.contains(symbol).then(|| Dim::constant(0)));
        stage.body = self.squeeze_loads(&stage.body);
        self.shapes.insert(stage.name.clone(), stage.axes.iter().map(|(_, e)| e.clone()).collect());
        stage.axes.retain(|(axis, _)| !unit.contains(axis));
        let at = self.stages.len();
        self.by_name.insert(stage.name.clone(), at);
        self.stages.push(flat);
        self.gone.push(false);
        self.note_loads(at);
    }

    /// The arrays that `at` reads.
    pub(super) fn reads(&self, at: usize) -> BTreeSet<Symbol> {
        match &self.stages[at].whole {
            Some(whole) => whole.arrays(Access::Read).cloned().collect(),
            None => loaded(&self.stages[at].stage.body),
        }
    }

    /// The arrays that `at` computes.
    fn computes(&self, at: usize) -> Vec<Symbol> {
        match &self.stages[at].whole {
            Some(whole) => whole.arrays(Access::Write).cloned().collect(),
            None => vec![self.stages[at].stage.name.clone()],
        }
    }

    /// `at` loads what it loads now.
    pub(super) fn note_loads(&mut self, at: usize) {
        for source in self.reads(at) {
            self.users.entry(source).or_default().insert(at);
        }
    }

    /// `at` no longer loads what it loads: it is about to change.
    pub(super) fn forget_loads(&mut self, at: usize) {
        for source in self.reads(at) {
            if let Some(users) = self.users.get_mut(&source) {
                users.remove(&at);
            }
        }
    }

    /// Gives a stage another body, and joins the origins of what it took in to its own.
    pub(super) fn set_body(&mut self, at: usize, body: Expr, taken_in: &Origin) {
        self.forget_loads(at);
        let user = &mut self.stages[at];
        user.stage.body = body;
        user.origin = taken_in.join(&user.origin);
        self.note_loads(at);
    }

    /// Was the stage removed?
    pub(super) fn is_gone(&self, at: usize) -> bool {
        self.gone[at]
    }

    /// Removes a stage that nothing loads any more, but for what the caller is about to change.
    pub(super) fn remove(&mut self, at: usize) -> FlatStage {
        self.forget_loads(at);
        self.gone[at] = true;
        let stage = self.stages[at].clone();
        self.by_name.remove(&stage.stage.name);
        stage
    }

    /// Closes the gaps that removed stages left.
    pub(super) fn compact(&mut self) {
        let mut gone = std::mem::take(&mut self.gone).into_iter();
        self.stages.retain(|_| !gone.next().expect("one for each stage"));
        self.gone = vec![false; self.stages.len()];
        self.by_name =
            (0..self.stages.len()).flat_map(|i| self.computes(i).into_iter().map(move |n| (n, i))).collect();
        self.users.clear();
        (0..self.stages.len()).for_each(|at| self.note_loads(at));
    }

    /// Where the array is computed, if it is here.
    pub(super) fn find(&self, name: &Symbol) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// A kernel may see an array in another shape than it has: its loads, in the shape that it has.
    fn see_as_stored(&self, stage: &mut Stage, array: &Symbol, seen: &[Dim]) {
        let Some(stored) = self.shapes.get(array).filter(|stored| *stored != seen) else { return };
        let ranges = all_ranges(stage);
        stage.body = stage.body.replace_loads(&mut |source, at| {
            let at = indices(at).filter(|_| source == array)?;
            let dtype = load_dtype(&stage.body, source)?;
            Some(Expr::load(source.clone(), dtype, reshaped(stored, seen, &at, &ranges)))
        });
    }

    /// Loads of stages, with the indices of axes of extent 1 left out.
    fn squeeze_loads(&self, body: &Expr) -> Expr {
        body.replace_loads(&mut |source, at| {
            let FlatStage { stage, whole: None, .. } = &self.stages[self.find(source)?] else { return None };
            let dtype = stage.body.dtype();
            let shape = &self.shapes[source];
            let at = at.iter().zip(shape).filter(|(_, size)| !size.is(1)).map(|(i, _)| i.clone());
            Some(Expr::load(source.clone(), dtype, at.collect::<Vec<_>>()))
        })
    }

    /// The sizes of an array as loads index it: for what stages compute, without axes of extent 1.
    pub(super) fn load_shape(&self, source: &Symbol) -> Vec<Dim> {
        let shape = &self.shapes[source];
        let whole = self.find(source).is_some_and(|at| self.stages[at].whole.is_some());
        if whole || self.externals.contains_key(source) {
            shape.clone()
        } else {
            shape.iter().filter(|size| !size.is(1)).cloned().collect()
        }
    }

    /// The stages and kernels that load `name`, in order.
    pub(super) fn users(&self, name: &Symbol) -> Vec<usize> {
        self.users.get(name).map_or_else(Vec::new, |users| users.iter().copied().collect())
    }
}

/// The arrays that an expression loads.
pub(super) fn loaded(body: &Expr) -> BTreeSet<Symbol> {
    let mut names = BTreeSet::new();
    body.walk(&mut |e| {
        if let ExprKind::Load { source, .. } = e.kind() {
            names.insert(source.clone());
        }
    });
    names
}

/// The name that an argument has among the stages.
fn global(arg: Arg) -> Symbol {
    Symbol::new(match arg {
        Arg::Input(i) => format!("in{i}"),
        Arg::Output(i) => format!("out{i}"),
        Arg::Weight(i) => format!("w{i}"),
        Arg::Buffer(i) => format!("b{i}"),
    })
}

/// A kernel's name without the number that made it unique.
fn base_name(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((base, number)) if number.bytes().all(|b| b.is_ascii_digit()) => base.to_owned(),
        _ => name.to_owned(),
    }
}

/// The stage with sizes, array names and axes as they are in the entry.
fn open_stage(
    stage: &Stage,
    name: &Symbol,
    names: &BTreeMap<Symbol, Symbol>,
    sizes: &BTreeMap<&Symbol, &Dim>,
    axes: &mut usize,
) -> Stage {
    let mut fresh = || {
        *axes += 1;
        Symbol::new(format!("a{}", *axes - 1))
    };
    let mut bound: BTreeMap<Symbol, Dim> = sizes.iter().map(|(&s, &d)| (s.clone(), d.clone())).collect();
    let mut open_axes = Vec::with_capacity(stage.axes.len());
    for (axis, extent) in &stage.axes {
        let extent = extent.substitute(&|s| bound.get(s).cloned());
        open_axes.push((fresh(), extent));
        bound.insert(axis.clone(), Dim::from(&open_axes.last().expect("just pushed").0));
    }
    let body = open_expr(&stage.body, &bound, names, &mut fresh);
    Stage { name: name.clone(), axes: open_axes, body }
}

fn open_expr(
    e: &Expr,
    bound: &BTreeMap<Symbol, Dim>,
    names: &BTreeMap<Symbol, Symbol>,
    fresh: &mut dyn FnMut() -> Symbol,
) -> Expr {
    match e.kind() {
        ExprKind::Index(dim) => dim.substitute(&|s| bound.get(s).cloned()).into(),
        ExprKind::Load { source, dtype, at } => {
            let at: Vec<Expr> = at.iter().map(|i| open_expr(i, bound, names, fresh)).collect();
            Expr::load(names.get(source).unwrap_or(source).clone(), *dtype, at)
        }
        ExprKind::Fold(Fold { op, axis, extent, body }) => {
            let new = fresh();
            let extent = extent.substitute(&|s| bound.get(s).cloned());
            let mut inner = bound.clone();
            // A fold of one element that is a fold of the same kind itself is that one.
            if extent.is(1) && matches!(body.kind(), ExprKind::Fold(f) if f.op == *op) {
                inner.insert(axis.clone(), Dim::constant(0));
                return open_expr(body, &inner, names, fresh);
            }
            inner.insert(axis.clone(), Dim::from(&new));
            Expr::fold(*op, new, extent, open_expr(body, &inner, names, fresh))
        }
        _ => e.map_children(&mut |child| open_expr(child, bound, names, fresh)),
    }
}

/// The indices as index arithmetic; `None` if one depends on data.
pub(super) fn indices(at: &[Expr]) -> Option<Vec<Dim>> {
    at.iter().map(|i| i.as_index().cloned()).collect()
}

/// The row-major position of an index.
pub(super) fn position(at: &[Dim], shape: &[Dim]) -> Dim {
    at.iter().zip(strides(shape)).map(|(i, stride)| i.clone() * stride).sum()
}

/// The index in an array of shape `stored` of what lies at `at` where it is seen as `seen`.
pub(super) fn reshaped(stored: &[Dim], seen: &[Dim], at: &[Dim], ranges: &Ranges) -> Vec<Expr> {
    reindex(stored, seen, at).into_iter().map(|index| index.simplify(ranges).into()).collect()
}

/// What is known about these axes.
pub(super) fn ranges_of(axes: &[(Symbol, Dim)]) -> Ranges {
    let mut ranges = Ranges::new();
    for (axis, extent) in axes {
        ranges.enter(axis.clone(), extent.clone());
    }
    ranges
}

/// What is known about the axes of a stage and of the folds in it.
pub(super) fn all_ranges(stage: &Stage) -> Ranges {
    let mut ranges = ranges_of(&stage.axes);
    stage.body.walk(&mut |e| {
        if let ExprKind::Fold(fold) = e.kind() {
            ranges.enter(fold.axis.clone(), fold.extent.clone());
        }
    });
    ranges
}

/// The element type of `source`, if the body loads it.
pub(super) fn load_dtype(body: &Expr, source: &Symbol) -> Option<ir::DType> {
    let mut found = None;
    body.walk(&mut |e| {
        if let ExprKind::Load { source: s, dtype, .. } = e.kind()
            && s == source
        {
            found = Some(*dtype);
        }
    });
    found
}
