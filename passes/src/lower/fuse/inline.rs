//! Puts arrays that are computed element by element into the expressions that load them.
//!
//! What only moves elements goes wherever it is loaded. Arithmetic goes where each element is needed once, so that
//! no work is repeated; arithmetic that is cheaper than a load may go to a few places. A function of the result of
//! a matrix product, convolution or pooling stays with that producer instead of moving on to its consumer.

use ir::dim::{Ranges, Symbol};
use ir::kernel::operand::Operand;
use ir::kernel::{Expr, ExprKind, Fold, KernelKind, Stage};
use ir::scalar::{Binary, Unary};
use ir::{DType, Dim};

use super::flat::{Flat, FlatStage, all_ranges, indices, ranges_of};
use crate::kernel::{has_fold, is_contraction};
use crate::lower::attention::{sum_of_products, tiled_width};
use crate::lower::boundaries::{boundaries, inside};
use crate::lower::running::Running;
use crate::lower::simplify;
use crate::target::Target;

/// Arithmetic of at most so many simple operations is computed again rather than loaded.
const CHEAP_OPERATIONS: usize = 2;

/// Cheap arithmetic is put into at most so many places.
const CHEAP_PLACES: usize = 4;

/// An attention takes its keys in fewer parts than this.
const MOST_PARTS: usize = 8;

/// Symbolic sizes count as this many where two of them are compared.
pub(super) const TYPICAL: i64 = 64;

/// Inlines until nothing more can be, producers first.
pub(super) fn inline(flat: &mut Flat, target: Target) {
    for at in 0..flat.stages.len() {
        if !flat.is_gone(at) && should_inline(flat, at, target) {
            inline_stage(flat, at);
        }
    }
    // From the end: what loads bytes less a zero is itself loaded by products.
    for at in (0..flat.stages.len()).rev() {
        if !flat.is_gone(at) && is_narrow_operand(flat, at, target) {
            inline_stage(flat, at);
        }
    }
    // So is this: what became part of an attention's scores may take in what it loads.
    for at in (0..flat.stages.len()).rev() {
        if !flat.is_gone(at) && belongs_to_scores(flat, at) {
            inline_stage(flat, at);
        }
    }
    // Elements of an empty array are loaded by no one.
    for at in (0..flat.stages.len()).rev() {
        let FlatStage { stage, whole, .. } = &flat.stages[at];
        let needed =
            whole.is_some() || flat.kept.contains_key(&stage.name) || !flat.users(&stage.name).is_empty();
        if !flat.is_gone(at) && !needed {
            flat.remove(at);
        }
    }
    flat.compact();
}

/// A place where an array is loaded.
struct Site {
    /// The loading stage.
    user: usize,
    /// The index; `None` if it depends on data, or if it is no expression that loads.
    at: Option<Vec<Dim>>,
    /// How often the place is evaluated.
    times: Dim,
}

fn should_inline(flat: &Flat, at: usize, target: Target) -> bool {
    let producer = &flat.stages[at];
    let Stage { name, axes, body } = &producer.stage;
    if flat.kept.contains_key(name) || has_fold(body) || producer.bundle.is_some() {
        return false;
    }
    let moves = matches!(weight(body), Weight::Moves { branches: false });
    let narrow = |user| is_operand_of_bytes(flat, user) || !moves && is_narrow_operand(flat, user, target);
    if orders_for_product(flat, at) || flat.users(name).into_iter().any(narrow) {
        return false;
    }
    let sites = sites(flat, name);
    if sites.is_empty() || sites.iter().any(|site| site.at.is_none()) {
        return false;
    }
    let ranges = ranges_of(axes);
    let size: Dim = axes.iter().map(|(_, extent)| extent.clone()).product();
    let repeats = |site: &Site| !ranges.is_nonnegative(&(size.clone() - site.times.clone()));
    match weight(body) {
        Weight::Moves { branches: false } => true,
        // A branch per load is worth a pass over memory only where each element is loaded once, or where it is padding
        // of an image under a window, which is padded anyway, or where an attention takes its keys in parts.
        Weight::Moves { branches: true } => {
            let padding = Operand::of(body).is_some();
            let window = |site: &Site| padding && is_windowed(&flat.stages[site.user].stage);
            let apart = |site: &Site| chooses_between_keys(flat, at, site.user);
            sites.iter().all(|site| !repeats(site) || window(site) || apart(site))
        }
        weight => {
            let places = if matches!(weight, Weight::Cheap) { CHEAP_PLACES } else { 1 };
            let stays = follows_producer(flat, at);
            // What combines experts is a kernel of its own, even if there is one of them for each token.
            let joins = |site: &Site| {
                is_pointwise_on_same_axes(flat, site, axes)
                    && flat.stages[site.user].kind != KernelKind::Combine
            };
            sites.len() <= places && sites.iter().all(|site| !repeats(site) && (!stays || joins(site)))
        }
    }
}

/// Does the stage widen what products load, so that they better load what it does?
fn is_narrow_operand(flat: &Flat, at: usize, target: Target) -> bool {
    is_operand_of_bytes(flat, at) || target == Target::Gpu && is_operand_of_halves(flat, at)
}

/// Does the stage make whole numbers of bytes, which a product loads, perhaps in another order or shape or padded? It
/// reads the bytes, and so does whoever else loads them.
fn is_operand_of_bytes(flat: &Flat, at: usize) -> bool {
    let FlatStage { stage, bundle: None, .. } = &flat.stages[at] else { return false };
    let bytes = stage.body.dtype() == DType::I32 && Operand::of(&stage.body).is_some();
    let known = || sites(flat, &stage.name).iter().all(|site| site.at.is_some());
    bytes && !flat.kept.contains_key(&stage.name) && is_for_product(flat, at) && known()
}

/// Does the stage cast 16-bit floats that a product loads? Tensor cores of a GPU take them as they are.
fn is_operand_of_halves(flat: &Flat, at: usize) -> bool {
    let FlatStage { stage, bundle: None, .. } = &flat.stages[at] else { return false };
    let sites = || sites(flat, &stage.name);
    let known = || is_cast_in_place(stage) || sites().iter().all(|site| site.at.is_some());
    cast_half(&stage.body).is_some()
        && !flat.kept.contains_key(&stage.name)
        && is_for_product(flat, at)
        && known()
}

/// The 16-bit float that is loaded, where an expression is that float as `f32`.
fn cast_half(e: &Expr) -> Option<&Expr> {
    let ExprKind::Cast(DType::F32, x) = e.kind() else { return None };
    let is_half = matches!(x.dtype(), DType::F16 | DType::BF16) && matches!(x.kind(), ExprKind::Load { .. });
    is_half.then_some(x)
}

/// Does the stage cast each element of an array of its own shape? Then any index of the one is an index of the other, also
/// one that depends on data.
fn is_cast_in_place(stage: &Stage) -> bool {
    let own =
        |(index, (axis, _)): (&Expr, &(Symbol, Dim))| index.as_index().and_then(Dim::as_symbol) == Some(axis);
    cast_half(&stage.body).is_some_and(|x| {
        let ExprKind::Load { at, .. } = x.kind() else { return false };
        at.len() == stage.axes.len() && at.iter().zip(&stage.axes).all(own)
    })
}

fn is_for_product(flat: &Flat, at: usize) -> bool {
    let Stage { name, .. } = &flat.stages[at].stage;
    flat.users(name).into_iter().any(|user| {
        let stage = &flat.stages[user].stage;
        let moves = matches!(weight(&stage.body), Weight::Moves { .. });
        is_contraction(stage) || (moves || is_difference(&stage.body)) && is_for_product(flat, user)
    })
}

/// Is it an element of an array of whole numbers less another one?
fn is_difference(body: &Expr) -> bool {
    matches!(body.kind(), ExprKind::Binary(Binary::Sub, ..)) && body.dtype() == DType::I32
}

/// Is the stage, where an attention loads it, one of a few arrays, depending on the place along the keys?
fn chooses_between_keys(flat: &Flat, at: usize, user: usize) -> bool {
    let FlatStage { stage, bundle: Some(bundle), .. } = &flat.stages[user] else { return false };
    let mut members = (0..flat.stages.len()).filter(|&other| flat.stages[other].bundle == Some(*bundle));
    let is_scores = members.next() == Some(user);
    let products = members.rfind(|&other| is_contraction(&flat.stages[other].stage));
    let tiled = is_scores || products == Some(user) && tiled_width(stage).is_some();
    let Some((fold, [_, operand])) = sum_of_products(stage).filter(|_| tiled) else { return false };
    let keys =
        if is_scores { stage.axes.last().cloned() } else { Some((fold.axis.clone(), fold.extent.clone())) };
    let Stage { name, axes, body } = &flat.stages[at].stage;
    let inlined = put(operand, name, axes, body, &all_ranges(stage));
    let of_keys = keys.and_then(|(axis, extent)| inside(boundaries(&inlined, &axis)?, &extent));
    of_keys.is_some_and(|places| (1..MOST_PARTS).contains(&places.len()))
}

/// Does the stage give the result of an attention, perhaps rounded, another order of axes (heads beside each other) for a
/// product, and no one else sees it? The attention writes it so; the product would gather it.
fn orders_for_product(flat: &Flat, at: usize) -> bool {
    let Stage { name, axes, body } = &flat.stages[at].stage;
    let ExprKind::Load { source, at: index, .. } = body.kind() else { return false };
    let own =
        |index: &Expr| axes.iter().any(|(axis, _)| index.as_index().and_then(Dim::as_symbol) == Some(axis));
    let permuted = index.len() == axes.len() && index.iter().all(own);
    let alone = flat
        .find(source)
        .is_some_and(|producer| flat.users(source) == [at] && is_of_attention(flat, producer));
    let users = flat.users(name);
    permuted
        && alone
        && !users.is_empty()
        && users.iter().all(|&user| is_contraction(&flat.stages[user].stage))
}

/// Is the stage the result of an attention, or of its conversion to another type?
fn is_of_attention(flat: &Flat, at: usize) -> bool {
    let FlatStage { stage, bundle, .. } = &flat.stages[at];
    let result = |x: &Expr| {
        let ExprKind::Load { source, .. } = x.kind() else { return false };
        flat.users(source) == [at]
            && flat.find(source).is_some_and(|inner| flat.stages[inner].bundle.is_some())
    };
    bundle.is_some() || matches!(stage.body.kind(), ExprKind::Cast(_, x) if result(x))
}

/// Is what the stage computes better computed with the scores of attentions, the only ones that load it?
fn belongs_to_scores(flat: &Flat, at: usize) -> bool {
    let FlatStage { stage, bundle: None, whole: None, .. } = &flat.stages[at] else { return false };
    let sites = sites(flat, &stage.name);
    let inside = |site: &Site| site.at.is_some() && is_score_of_attention(flat, site.user);
    !flat.kept.contains_key(&stage.name)
        && !has_fold(&stage.body)
        && !sites.is_empty()
        && sites.iter().all(inside)
        && is_small(flat, at)
}

/// Does the stage compute what becomes of the scores of an attention?
fn is_score_of_attention(flat: &Flat, at: usize) -> bool {
    let FlatStage { stage, bundle: Some(_), .. } = &flat.stages[at] else { return false };
    !has_fold(&stage.body)
        && flat.reads(at).iter().filter_map(|source| flat.find(source)).any(|source| {
            flat.stages[source].bundle == flat.stages[at].bundle && is_contraction(&flat.stages[source].stage)
        })
        && flat.users(&stage.name).iter().any(|&user| has_fold(&flat.stages[user].stage.body))
}

/// Is what stage `at` loads smaller than what it computes? To store an array of scores takes more time than to compute
/// it again, for each image of a batch.
fn is_small(flat: &Flat, at: usize) -> bool {
    let stage = &flat.stages[at].stage;
    let elements = |shape: &mut dyn Iterator<Item = Dim>| shape.product::<Dim>();
    let size = elements(&mut stage.axes.iter().map(|(_, extent)| extent.clone()));
    let read: Dim =
        flat.reads(at).iter().map(|source| elements(&mut flat.load_shape(source).into_iter())).sum();
    let gap = size - read - Dim::constant(1);
    let typical = |dim: &Dim| dim.eval(&|_| Some(TYPICAL));
    typical(&gap).is_some_and(|gap| gap >= 0)
}

/// Is the site an elementwise function over the same iteration space, element by element?
fn is_pointwise_on_same_axes(flat: &Flat, site: &Site, axes: &[(Symbol, Dim)]) -> bool {
    let user = &flat.stages[site.user].stage;
    let own: Vec<Dim> = user.axes.iter().map(|(axis, _)| Dim::from(axis)).collect();
    let extents = |axes: &[(Symbol, Dim)]| axes.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>();
    !has_fold(&user.body) && site.at.as_ref() == Some(&own) && extents(&user.axes) == extents(axes)
}

/// Does stage `at` apply to each element of a product, convolution or pooling that nobody else needs?
fn follows_producer(flat: &Flat, at: usize) -> bool {
    let stage = &flat.stages[at].stage;
    let own: Vec<Dim> = stage.axes.iter().map(|(axis, _)| Dim::from(axis)).collect();
    super::flat::loaded(&stage.body).iter().filter_map(|source| flat.find(source)).any(|producer| {
        let producer = &flat.stages[producer].stage;
        if !has_fold(&producer.body) || producer.axes.len() != stage.axes.len() {
            return false;
        }
        let mut same = true;
        stage.body.walk(&mut |e| {
            if let ExprKind::Load { source, at, .. } = e.kind()
                && *source == producer.name
            {
                same &= indices(at).as_ref() == Some(&own);
            }
        });
        same && flat.users(&producer.name) == [at]
    })
}

/// Does a fold of the stage slide a window: is an index made of an axis and a folded axis?
fn is_windowed(stage: &Stage) -> bool {
    is_contraction(stage)
        && stage.body.any(&mut |e| match e.kind() {
            ExprKind::Index(dim) => {
                let mut outer = false;
                let mut inner = false;
                dim.for_each_symbol(&mut |s| {
                    let own = stage.axes.iter().any(|(axis, _)| axis == s);
                    outer |= own;
                    inner |= !own;
                });
                outer && inner
            }
            _ => false,
        })
}

fn sites(flat: &Flat, name: &Symbol) -> Vec<Site> {
    let mut sites = Vec::new();
    for user in flat.users(name) {
        if flat.stages[user].whole.is_some() {
            sites.push(Site { user, at: None, times: Dim::constant(1) });
            continue;
        }
        let stage = &flat.stages[user].stage;
        let times: Dim = stage.axes.iter().map(|(_, extent)| extent.clone()).product();
        find_sites(&stage.body, name, user, &times, Running::of(stage).as_ref(), &mut sites);
    }
    sites
}

fn find_sites(
    e: &Expr,
    name: &Symbol,
    user: usize,
    times: &Dim,
    running: Option<&Running>,
    sites: &mut Vec<Site>,
) {
    if let ExprKind::Load { source, at, .. } = e.kind()
        && source == name
    {
        sites.push(Site { user, at: indices(at), times: times.clone() });
    }
    let times = match e.kind() {
        // A running total takes one element a step.
        ExprKind::Fold(_) if running.is_some_and(|running| running.fold == *e) => times.clone(),
        ExprKind::Fold(Fold { extent, .. }) => times.clone() * extent.clone(),
        _ => times.clone(),
    };
    for child in e.children() {
        find_sites(child, name, user, &times, running, sites);
    }
}

/// What computing an element again costs.
enum Weight {
    /// It is only loaded from elsewhere; perhaps from one of several places.
    Moves {
        /// Does it choose between places?
        branches: bool,
    },
    /// A few simple operations.
    Cheap,
    /// More than that.
    Costly,
}

fn weight(body: &Expr) -> Weight {
    let (mut operations, mut branches, mut loads) = (0, false, 0);
    let mut costly = false;
    body.walk(&mut |e| match e.kind() {
        ExprKind::Const(_) | ExprKind::Index(_) | ExprKind::Var { .. } => {}
        ExprKind::Load { at, .. } => {
            loads += 1;
            // A data-dependent index is itself a load.
            costly |= indices(at).is_none();
        }
        ExprKind::Select(..) => branches = true,
        ExprKind::Cast(_, x) if x.dtype() == DType::I64 => {}
        ExprKind::Binary(f, a, b) if f.is_comparison() || *f == Binary::And => {
            let index = |x: &Expr| x.as_index().is_some() || x.dtype() == DType::Bool;
            if !index(a) || !index(b) {
                operations += 1;
            }
        }
        ExprKind::Unary(Unary::Neg | Unary::Abs | Unary::Not, _)
        | ExprKind::Cast(..)
        | ExprKind::Bitcast(..)
        | ExprKind::Fma(..) => operations += 1,
        ExprKind::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Min | Binary::Max, ..) => {
            operations += 1;
        }
        ExprKind::Unary(..) | ExprKind::Binary(..) | ExprKind::Fold(_) => costly = true,
    });
    match (costly, operations) {
        (false, 0) => Weight::Moves { branches },
        (false, n) if n <= CHEAP_OPERATIONS && loads <= 2 && !branches => Weight::Cheap,
        _ => Weight::Costly,
    }
}

/// Replaces every load of stage `at` by its body, and removes it.
fn inline_stage(flat: &mut Flat, at: usize) {
    let producer = flat.remove(at);
    let Stage { name, axes, body } = &producer.stage;
    for user in flat.users(name) {
        let stage = &flat.stages[user].stage;
        let ranges = ranges_of(&stage.axes);
        let inlined = match cast_half(body).filter(|_| is_cast_in_place(&producer.stage)) {
            Some(half) => cast_where_loaded(&stage.body, name, half),
            None => put(&stage.body, name, axes, body, &ranges),
        };
        flat.set_body(user, inlined, &producer.origin);
        if !matches!(weight(body), Weight::Moves { .. }) {
            let user = &mut flat.stages[user];
            if producer.kind.lasts() && !user.kind.lasts() {
                user.kind = producer.kind;
            }
            user.ops = producer.ops.iter().chain(&user.ops).cloned().collect();
        }
    }
}

/// `e` with loads of `name` replaced by those of the 16-bit floats that it casts, at the same index.
fn cast_where_loaded(e: &Expr, name: &Symbol, half: &Expr) -> Expr {
    let ExprKind::Load { source: halves, dtype, .. } = half.kind() else { unreachable!("bug: it is a load") };
    e.replace_loads(&mut |source, at| {
        (source == name).then(|| Expr::load(halves.clone(), *dtype, at.to_vec()).cast(DType::F32))
    })
}

/// `e` with loads of `name` replaced by `body` at their index, and its index arithmetic simplified.
fn put(e: &Expr, name: &Symbol, axes: &[(Symbol, Dim)], body: &Expr, ranges: &Ranges) -> Expr {
    match e.kind() {
        ExprKind::Load { source, at, .. } if source == name => {
            let at = indices(at).expect("inlined only where every index is known");
            let here = body.substitute(&|symbol| {
                let axis = axes.iter().position(|(axis, _)| axis == symbol)?;
                Some(at[axis].clone())
            });
            simplify(&here, ranges)
        }
        ExprKind::Fold(Fold { op, axis, extent, body: inner }) => {
            let mut ranges = ranges.clone();
            ranges.enter(axis.clone(), extent.clone());
            Expr::fold(*op, axis.clone(), extent.clone(), put(inner, name, axes, body, &ranges))
        }
        _ => e.map_children(&mut |child| put(child, name, axes, body, ranges)),
    }
}
