//! Makes kernels of groups, with canonical names inside: `x…` what is read, `y…` what is written, `t…` what stays
//! inside, `i…` axes, `k…` folded axes.

use std::collections::{BTreeMap, BTreeSet};

use ir::dim::{Condition, Symbol};
use ir::kernel::{Access, Body, Expr, ExprKind, Fold, Kernel, KernelKind, Param, Stage};
use ir::program::{Arg, Buffer, Call, Space, Step};
use ir::{DType, Dim, Origin, TensorType};

use super::flat::{Flat, Whole, all_ranges, indices, load_dtype, position};
use super::group::Group;
use crate::kernel::classify;
use crate::lower::Names;
use crate::lower::to_stages::sizes_of;

/// At most so many ops make up a kernel's name.
const NAME_OPS: usize = 4;

/// What calls and kernels are added to.
pub(super) struct Emit<'a> {
    /// Every size that has a value somewhere in the entry.
    pub(super) symbols: &'a BTreeSet<Symbol>,
    /// Where new buffers live.
    pub(super) space: Space,
    pub(super) buffers: &'a mut Vec<Buffer>,
    pub(super) kernels: &'a mut Vec<Kernel>,
    pub(super) names: &'a mut Names,
}

impl Emit<'_> {
    /// One call for each group, of a kernel with a name of its own.
    pub(super) fn calls(&mut self, flat: &Flat, groups: &[Group]) -> Vec<Step> {
        let mut places: BTreeMap<Symbol, Arg> = flat.externals.clone();
        groups.iter().map(|group| Step::Call(self.call(flat, group, &mut places))).collect()
    }

    fn call(&mut self, flat: &Flat, group: &Group, places: &mut BTreeMap<Symbol, Arg>) -> Call {
        if let [at] = group.stages[..]
            && let Some(whole) = &flat.stages[at].whole
        {
            let name = self.names.fresh(&name_of(flat, group), "k");
            let args = self.whole_args(flat, whole, places);
            let (sizes, origin) = (whole.sizes.clone(), flat.stages[at].origin.clone());
            self.kernels.push(Kernel { name: Symbol::new(name), ..whole.kernel.clone() });
            return Call { kernel: self.kernels.len() - 1, args, sizes, origin };
        }
        let members: BTreeSet<usize> = group.stages.iter().copied().collect();
        let outer = |at: usize| {
            let stage = &flat.stages[at].stage;
            flat.kept.contains_key(&stage.name)
                || flat.users(&stage.name).iter().any(|user| !members.contains(user))
        };
        let written: Vec<usize> = group.stages.iter().copied().filter(|&at| outer(at)).collect();
        for &at in &written {
            let stage = &flat.stages[at].stage;
            let place = self.place(flat, &stage.name, stage.body.dtype());
            places.insert(stage.name.clone(), place);
        }
        let made = Made::new(flat, group, &written);
        let args = made.arrays.iter().map(|name| places[name]).collect();
        let origin = group.stages.iter().fold(Origin::none(), |o, &at| o.join(&flat.stages[at].origin));
        let name = self.names.fresh(&name_of(flat, group), "k");
        let kind = kind_of(flat, group, &made.stages);
        let body = Body::Stages(made.stages);
        let sizes = sizes_of(&made.params, &body, &[], self.symbols);
        let given = flat.given.iter().filter(|condition| speaks_of(condition, &sizes));
        let given: BTreeSet<Condition> = given.cloned().collect();
        let call_sizes = sizes.iter().map(Dim::from).collect();
        self.kernels.push(Kernel {
            name: Symbol::new(name),
            kind,
            sizes,
            given: given.into_iter().collect(),
            params: made.params,
            body,
        });
        Call { kernel: self.kernels.len() - 1, args, sizes: call_sizes, origin }
    }

    /// Where an array goes that is computed here: where others need it, or a new buffer.
    fn place(&mut self, flat: &Flat, name: &Symbol, dtype: DType) -> Arg {
        match flat.kept.get(name) {
            Some(&place) => place,
            None => self.buffer(TensorType::new(dtype, flat.shapes[name].clone())),
        }
    }

    fn buffer(&mut self, ty: TensorType) -> Arg {
        let name = Symbol::new(format!("b{}", self.buffers.len()));
        self.buffers.push(Buffer { name, ty, space: self.space, offset: None });
        Arg::Buffer(self.buffers.len() - 1)
    }

    /// What a kernel that stays as it is gets for its parameters.
    fn whole_args(&mut self, flat: &Flat, whole: &Whole, places: &mut BTreeMap<Symbol, Arg>) -> Vec<Arg> {
        let sizes: BTreeMap<&Symbol, &Dim> = whole.kernel.sizes.iter().zip(&whole.sizes).collect();
        let mut args = Vec::with_capacity(whole.arrays.len());
        for (param, array) in whole.kernel.params.iter().zip(&whole.arrays) {
            args.push(match (array, param.access) {
                (Some(array), Access::Write) => {
                    let place = self.place(flat, array, param.ty.dtype);
                    places.insert(array.clone(), place);
                    place
                }
                (Some(array), _) => places[array],
                (None, _) => self.buffer(param.ty.substitute(&|s| sizes.get(s).map(|&size| size.clone()))),
            });
        }
        args
    }
}

/// Does it speak of these sizes only?
fn speaks_of(condition: &Condition, sizes: &[Symbol]) -> bool {
    let mut known = true;
    condition.for_each_symbol(&mut |symbol| known &= sizes.contains(symbol));
    known
}

/// The ops of a group, those that only move elements left out if there are others.
fn name_of(flat: &Flat, group: &Group) -> String {
    let mut ops: Vec<&str> = Vec::new();
    for op in group.stages.iter().flat_map(|&at| &flat.stages[at].ops) {
        if ops.last() != Some(&op.as_str()) {
            ops.push(op);
        }
    }
    if ops.len() > NAME_OPS {
        ops.truncate(NAME_OPS);
    }
    ops.join("_")
}

/// A product or convolution stays one, whatever joins it, but for a router's; anything else is what its stages are now.
fn kind_of(flat: &Flat, group: &Group, stages: &[Stage]) -> KernelKind {
    let mut lasting = group.stages.iter().map(|&at| flat.stages[at].kind).filter(|kind| kind.lasts());
    if lasting.clone().any(|kind| kind == KernelKind::Route) {
        return KernelKind::Route;
    }
    lasting.next().unwrap_or_else(|| classify(stages))
}

/// The inside of a kernel.
struct Made {
    params: Vec<Param>,
    /// The array behind each parameter, by its name in the entry.
    arrays: Vec<Symbol>,
    stages: Vec<Stage>,
}

impl Made {
    fn new(flat: &Flat, group: &Group, written: &[usize]) -> Made {
        let own: BTreeSet<&Symbol> = group.stages.iter().map(|&at| &flat.stages[at].stage.name).collect();
        let mut read: Vec<Symbol> = Vec::new();
        for &at in &group.stages {
            flat.stages[at].stage.body.walk(&mut |e| {
                if let ExprKind::Load { source, .. } = e.kind()
                    && !own.contains(source)
                    && !read.contains(source)
                {
                    read.push(source.clone());
                }
            });
        }
        let mut names: BTreeMap<Symbol, Symbol> = BTreeMap::new();
        for (i, source) in read.iter().enumerate() {
            names.insert(source.clone(), Symbol::new(format!("x{i}")));
        }
        let (mut outs, mut temps) = (0, 0);
        for &at in &group.stages {
            let (prefix, n) = if written.contains(&at) { ("y", &mut outs) } else { ("t", &mut temps) };
            names.insert(flat.stages[at].stage.name.clone(), Symbol::new(format!("{prefix}{n}")));
            *n += 1;
        }
        let flattened: BTreeSet<Symbol> =
            read.iter().filter(|name| reads_better_flat(flat, group, name)).cloned().collect();
        let stages: Vec<Stage> = group
            .stages
            .iter()
            .map(|&at| canonical(&flat.stages[at].stage, &names, flat, &flattened))
            .collect();
        let mut params = Vec::new();
        let mut arrays = Vec::new();
        for source in read {
            let shape = flat.load_shape(&source);
            let shape = if flattened.contains(&source) { vec![shape.into_iter().product()] } else { shape };
            let dtype = dtype_of(flat, group, &source);
            let ty = TensorType::new(dtype, shape);
            params.push(Param { name: names[&source].clone(), ty, access: Access::Read });
            arrays.push(source);
        }
        for &at in written {
            let stage = &flat.stages[at].stage;
            params.push(Param { name: names[&stage.name].clone(), ty: stage.ty(), access: Access::Write });
            arrays.push(stage.name.clone());
        }
        Made { params, arrays, stages }
    }
}

/// The element type of `source`, which some stage of the group loads.
fn dtype_of(flat: &Flat, group: &Group, source: &Symbol) -> ir::DType {
    let bodies = group.stages.iter().map(|&at| &flat.stages[at].stage.body);
    bodies.filter_map(|body| load_dtype(body, source)).next().expect("what is read is loaded somewhere")
}

/// Do all loads of `source` in the group index it by quotients that vanish when it is seen as one row of elements?
fn reads_better_flat(flat: &Flat, group: &Group, source: &Symbol) -> bool {
    let shape = flat.load_shape(source);
    let (mut quotients, mut all_flat) = (false, true);
    for &at in &group.stages {
        let stage = &flat.stages[at].stage;
        let ranges = all_ranges(stage);
        stage.body.walk(&mut |e| {
            if let ExprKind::Load { source: s, at, .. } = e.kind()
                && s == source
            {
                match indices(at) {
                    None => all_flat = false,
                    Some(at) => {
                        quotients |= at.iter().any(has_quotient);
                        all_flat &= !has_quotient(&position(&at, &shape).simplify(&ranges));
                    }
                }
            }
        });
    }
    quotients && all_flat
}

fn has_quotient(dim: &Dim) -> bool {
    dim.terms().any(|(atoms, _)| atoms.iter().any(|atom| matches!(atom, ir::dim::Atom::Floor(..))))
}

/// The stage with canonical names.
fn canonical(
    stage: &Stage,
    names: &BTreeMap<Symbol, Symbol>,
    flat: &Flat,
    flattened: &BTreeSet<Symbol>,
) -> Stage {
    let ranges = all_ranges(stage);
    let body = stage.body.replace_loads(&mut |source, at| {
        flattened.contains(source).then(|| {
            let at = indices(at).expect("only arrays with known indices are flattened");
            let position = position(&at, &flat.load_shape(source)).simplify(&ranges);
            let dtype = load_dtype(&stage.body, source).expect("the load is in this body");
            Expr::load(source.clone(), dtype, [position.into()])
        })
    });
    let axes: Vec<(Symbol, Dim)> = stage
        .axes
        .iter()
        .enumerate()
        .map(|(i, (_, extent))| (Symbol::new(format!("i{i}")), extent.clone()))
        .collect();
    let bound: BTreeMap<Symbol, Dim> =
        stage.axes.iter().zip(&axes).map(|((old, _), (new, _))| (old.clone(), Dim::from(new))).collect();
    let mut folds = 0;
    let body = rename(&body, &bound, names, &mut folds);
    Stage { name: names[&stage.name].clone(), axes, body }
}

fn rename(
    e: &Expr,
    bound: &BTreeMap<Symbol, Dim>,
    names: &BTreeMap<Symbol, Symbol>,
    folds: &mut usize,
) -> Expr {
    match e.kind() {
        ExprKind::Index(dim) => dim.substitute(&|s| bound.get(s).cloned()).into(),
        ExprKind::Load { source, dtype, at } => {
            let at: Vec<Expr> = at.iter().map(|i| rename(i, bound, names, folds)).collect();
            Expr::load(names[source].clone(), *dtype, at)
        }
        ExprKind::Fold(Fold { op, axis, extent, body }) => {
            let new = Symbol::new(format!("k{folds}"));
            *folds += 1;
            let extent = extent.substitute(&|s| bound.get(s).cloned());
            let mut inner = bound.clone();
            inner.insert(axis.clone(), Dim::from(&new));
            Expr::fold(*op, new, extent, rename(body, &inner, names, folds))
        }
        _ => e.map_children(&mut |child| rename(child, bound, names, folds)),
    }
}
