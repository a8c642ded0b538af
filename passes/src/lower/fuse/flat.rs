//! A whole entry as one list of stages, with names that are unique in it.

use std::collections::{BTreeMap, BTreeSet};

use ir::dim::{Ranges, Symbol};
use ir::kernel::{Body, Expr, ExprKind, Fold, KernelKind, Stage};
use ir::program::{Arg, Entry, Program};
use ir::types::{reindex, strides};
use ir::{Dim, Origin};

/// One array of the entry.
#[derive(Debug, Clone)]
pub(super) struct FlatStage {
    /// What is computed; axes of extent 1 are gone.
    pub(super) stage: Stage,
    /// Where it must be stored, if the entry says so: an output, or a buffer that others may read.
    pub(super) dest: Option<Arg>,
    /// The nodes of the model that it computes.
    pub(super) origin: Origin,
    /// The ops that it computes, for the kernel's name.
    pub(super) ops: Vec<String>,
    /// What the kernel was that it comes from.
    pub(super) kind: KernelKind,
}

/// An entry, laid open.
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
    /// What the arrays are that no stage computes: inputs and weights.
    pub(super) externals: BTreeMap<Symbol, Arg>,
}

impl Flat {
    /// Opens the kernels of `entry`.
    pub(super) fn open(program: &Program, entry: &Entry) -> Flat {
        let mut flat = Flat::default();
        let mut axes = 0;
        for step in &entry.steps {
            let kernel = &program.kernels[step.kernel];
            let Body::Stages(stages) = &kernel.body else { unreachable!("bug: checked by the pass") };
            let sizes: BTreeMap<&Symbol, &Dim> = kernel.sizes.iter().zip(&step.sizes).collect();
            let mut names: BTreeMap<Symbol, Symbol> = BTreeMap::new();
            for (param, &arg) in kernel.params.iter().zip(&step.args) {
                let name = global(arg);
                if matches!(arg, Arg::Input(_) | Arg::Weight(_)) {
                    flat.shapes.insert(name.clone(), program.arg_type(entry, arg).shape);
                    flat.externals.insert(name.clone(), arg);
                }
                names.insert(param.name.clone(), name);
            }
            for stage in stages {
                let fresh = Symbol::new(format!("s{}", flat.stages.len()));
                let name = names.entry(stage.name.clone()).or_insert(fresh).clone();
                let dest =
                    kernel.params.iter().position(|param| param.name == stage.name).map(|at| step.args[at]);
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
                flat.push(FlatStage { stage, dest, origin: step.origin.clone(), ops, kind: kernel.kind });
            }
        }
        flat
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

    fn note_loads(&mut self, at: usize) {
        for source in loaded(&self.stages[at].stage.body) {
            self.users.entry(source).or_default().insert(at);
        }
    }

    fn forget_loads(&mut self, at: usize) {
        for source in loaded(&self.stages[at].stage.body) {
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
        self.by_name = self.stages.iter().enumerate().map(|(i, s)| (s.stage.name.clone(), i)).collect();
        self.users.clear();
        (0..self.stages.len()).for_each(|at| self.note_loads(at));
    }

    /// The stage of that name, if a stage computes it.
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
            let dtype = self.stages[self.find(source)?].stage.body.dtype();
            let shape = &self.shapes[source];
            let at = at.iter().zip(shape).filter(|(_, size)| !size.is(1)).map(|(i, _)| i.clone());
            Some(Expr::load(source.clone(), dtype, at.collect::<Vec<_>>()))
        })
    }

    /// The sizes of an array as loads index it: for stages, without axes of extent 1.
    pub(super) fn load_shape(&self, source: &Symbol) -> Vec<Dim> {
        let shape = &self.shapes[source];
        if self.externals.contains_key(source) {
            shape.clone()
        } else {
            shape.iter().filter(|size| !size.is(1)).cloned().collect()
        }
    }

    /// Replaces every array that is another one in a different shape by that one.
    pub(super) fn resolve_views(&mut self) {
        for at in 0..self.stages.len() {
            if let Some(source) = self.view_of(at) {
                self.replace_view(at, &source);
            }
        }
    }

    /// The array that stage `at` is a view of, if it can be replaced by it.
    fn view_of(&self, at: usize) -> Option<Symbol> {
        let FlatStage { stage, dest, .. } = &self.stages[at];
        let ExprKind::Load { source, at: index, .. } = stage.body.kind() else { return None };
        let ranges = ranges_of(&stage.axes);
        let from = position(&indices(index)?, &self.load_shape(source)).simplify(&ranges);
        let own: Vec<Dim> = stage.axes.iter().map(|(axis, _)| Dim::from(axis)).collect();
        let extents: Vec<Dim> = stage.axes.iter().map(|(_, extent)| extent.clone()).collect();
        let to = position(&own, &extents).simplify(&ranges);
        let same_size = self.shapes[source].iter().cloned().product::<Dim>() == extents.into_iter().product();
        if from != to || !same_size {
            return None;
        }
        // An output must be written: it takes the place of the array that it views, if that has none yet.
        match dest {
            Some(Arg::Output(_)) => {
                let behind = &self.stages[self.find(source)?];
                (!matches!(behind.dest, Some(Arg::Output(_)))).then(|| source.clone())
            }
            _ => Some(source.clone()),
        }
    }

    fn replace_view(&mut self, at: usize, source: &Symbol) {
        let view = self.remove(at);
        if let Some(behind) = self.find(source) {
            let behind = &mut self.stages[behind];
            behind.origin = behind.origin.join(&view.origin);
            if matches!(view.dest, Some(Arg::Output(_))) {
                behind.dest = view.dest;
            }
        }
        let from: Vec<Dim> = view.stage.axes.iter().map(|(_, extent)| extent.clone()).collect();
        let to = self.load_shape(source);
        let dtype = view.stage.body.dtype();
        for user in self.users(&view.stage.name) {
            let stage = &self.stages[user].stage;
            let ranges = all_ranges(stage);
            let body = stage.body.replace_loads(&mut |name, index| {
                if *name != view.stage.name {
                    return None;
                }
                let index: Vec<Expr> = match indices(index) {
                    Some(index) => reshaped(&to, &from, &index, &ranges),
                    None => reshaped_values(index, &from, &to),
                };
                Some(Expr::load(source.clone(), dtype, index))
            });
            self.set_body(user, body, &view.origin);
        }
    }

    /// The stages that load `name`, in order.
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
fn reshaped(stored: &[Dim], seen: &[Dim], at: &[Dim], ranges: &Ranges) -> Vec<Expr> {
    reindex(stored, seen, at).into_iter().map(|index| index.simplify(ranges).into()).collect()
}

/// As [`reshaped`], for an index that depends on data.
fn reshaped_values(at: &[Expr], from: &[Dim], to: &[Dim]) -> Vec<Expr> {
    use ir::scalar::Binary;
    let position = at
        .iter()
        .zip(strides(from))
        .map(|(i, stride)| i.clone() * Expr::from(stride))
        .reduce(|a, b| a + b)
        .unwrap_or_else(|| Expr::from(Dim::constant(0)));
    let strides = strides(to);
    (0..to.len())
        .map(|axis| {
            let whole = Expr::binary(Binary::Div, position.clone(), Expr::from(&strides[axis]));
            if axis == 0 { whole } else { Expr::binary(Binary::Mod, whole, Expr::from(&to[axis])) }
        })
        .collect()
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
