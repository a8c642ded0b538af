//! Recognises attention: a softmax of what is made, element by element, of products of queries and keys, and the
//! product of that with values.
//!
//! The rule starts at the softmax and walks back through whatever stands before it. Each elementwise op on the way
//! becomes part of the score region; its other operands are captured. So scales, biases and masks need no rules of their
//! own, whatever they are and in whatever order they come.

mod values;

use egg::Id;
use ir::attr::Attrs;
use ir::dim::Ranges;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, Stage};
use ir::op::{Infer, normalize_axis};
use ir::region::operand_number;
use ir::{DType, Dim, OpDef, Region, TensorType};
use ops::linalg::attention::{ATTENTION, SCORE};
use ops::linalg::einsum::EINSUM;
use ops::linalg::matmul::MATMUL;
use ops::math::div::DIV;
use ops::math::mul::MUL;
use ops::norm::AXIS;
use ops::norm::softmax::SOFTMAX;
use ops::shape::broadcast::BROADCAST;
use ops::shape::concat::{self, CONCAT};
use ops::shape::gather_elements::{self, GATHER_ELEMENTS};
use ops::shape::reshape::{self, RESHAPE};
use ops::shape::transpose::{PERM, TRANSPOSE};

use super::axes::{Name, Named, Product, transposed};
use super::computed::{self, Loads};
use super::linear::swapped;
use super::router::is_routers;
use super::{Equal, Exactness, Rule, Set, Stop};
use crate::egraph::language::Node;
use crate::egraph::rewrite::{Match, Missed};
use crate::lower::simplify;
use values::{Weighted, values, zeros};

/// Of this subject.
pub(super) static RULES: &[Rule] = &[Rule {
    name: "attention",
    summary: "softmax(f(q · kᵀ)) · v, for any elementwise f, is one kernel that stores no scores",
    set: Set::Raise,
    exactness: Exactness::Reassociating,
    anchor: &[&SOFTMAX],
    obligations: &[ALONG_KEYS, IN_F32, TIMES_VALUES, OF_A_PRODUCT, A_WINDOW, MASK_APART],
    apply: attention,
}];

const ALONG_KEYS: &str = "the softmax runs along the last axis, over the keys";
const IN_F32: &str = "scores are f32";
const TIMES_VALUES: &str = "the softmax is the left operand of a matrix product with values";
const OF_A_PRODUCT: &str = "scores are made, element by element, of one matrix product";
const A_WINDOW: &str =
    "keys that are gathered for a query are a window that moves on by one from query to query";
const MASK_APART: &str = "biases and masks do not depend on the scores";

/// So many ops may stand between the product and the softmax.
const DEEPEST: usize = 64;

/// So many spellings of the product are tried.
const MOST: usize = 8;

/// Scores as attention takes them.
#[derive(Clone)]
struct Scores {
    q: Id,
    k: Id,
    /// The products, and the classes from there to the scores.
    products: Vec<Id>,
    between: Vec<Id>,
    /// The shape of the products, over which the region speaks.
    shape: Vec<Dim>,
    /// If only a window of keys counts for each query, the region speaks of places in the window.
    window: Option<Window>,
    region: Region,
    captured: Vec<Id>,
}

/// Query `i` sees the keys `i + start ..` of that, `length` of them.
#[derive(Clone)]
struct Window {
    /// The indices of keys, `i + j + start`.
    indices: Id,
    start: i64,
    length: Dim,
}

fn attention(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    match of_softmax(m, class, node) {
        // What a router says of experts is no attention that something is missing for.
        Err(Stop::Missed(_)) if is_routers(m, class, node.operands()[0]) => Err(Stop::Other),
        made => made,
    }
}

fn of_softmax(m: &mut Match, class: Id, node: &Node) -> Result<Equal, Stop> {
    let scores = node.operands()[0];
    let (rank, axis) = (m.ty(scores).rank(), m.attrs(node).get(AXIS));
    let axis = normalize_axis(axis, rank)?;
    if rank < 2 || axis + 1 != rank {
        return Err(Missed::new(ALONG_KEYS, format!("axis {axis} of {}", m.describe(scores))).into());
    }
    if m.ty(scores).dtype != DType::F32 {
        return Err(Missed::new(IN_F32, m.ty(scores).dtype.to_string()).into());
    }
    let mut equal = Equal::new();
    for found in recognise(m, scores, 0)? {
        for &id in [scores, class].iter().chain(&found.products).chain(&found.between) {
            m.covers(id);
        }
        let shape = m.shape(scores);
        if found.window.is_none() && found.shape.last() != shape.last() {
            return Err(Missed::new(ALONG_KEYS, m.describe(scores)).into());
        }
        let as_given = found.in_batches(m, &shape)?;
        for found in [found].into_iter().chain(as_given) {
            for Weighted { sum, v, between, order } in values(m, class, &found)? {
                let mut operands = vec![found.q, found.k, v];
                operands.extend_from_slice(&found.captured);
                let fused = m.op_with(&ATTENTION, &operands, [SCORE.is(found.over_keys())])?;
                let fused = transposed(m, fused, order)?;
                if m.ty(fused) != m.ty(sum) {
                    continue;
                }
                between.into_iter().chain([sum]).for_each(|id| m.covers(id));
                equal.push((sum, fused));
            }
        }
    }
    if equal.is_empty() {
        return Err(Missed::new(TIMES_VALUES, "it is used otherwise").into());
    }
    Ok(equal)
}

impl Scores {
    /// Those that are a product of queries and keys, times a number.
    fn of_product(m: &Match, id: Id, [q, k]: [Id; 2], scale: f64) -> Scores {
        let number = Region::number();
        let body = if scale == 1.0 { number } else { number * Expr::number(DType::F32, scale) };
        let region = Region::new(body);
        let (shape, products) = (m.shape(id), vec![id]);
        Scores { q, k, products, between: vec![], shape, window: None, region, captured: vec![] }
    }

    /// The same of queries and keys with other batch axes, if each of them has all of the product's.
    fn in_batches(&self, m: &mut Match, shape: &[Dim]) -> Result<Option<Scores>, Stop> {
        let (from, to) = (&self.shape, shape);
        let [from_batches @ .., queries, _] = &from[..] else { return Ok(None) };
        let [batches @ .., rows, _] = to else { return Ok(None) };
        let whole =
            |m: &Match, x: Id| m.shape(x).split_last_chunk::<2>().is_some_and(|(own, _)| own == from_batches);
        if self.window.is_some() || from == to || queries != rows || !whole(m, self.q) || !whole(m, self.k) {
            return Ok(None);
        }
        let mut regrouped = |x: Id| -> Result<Id, Stop> {
            let own = m.shape(x);
            let shape = [batches, &own[own.len() - 2..]].concat();
            Ok(m.op_with(&RESHAPE, &[x], [reshape::SHAPE.is(shape)])?)
        };
        let [q, k] = [regrouped(self.q)?, regrouped(self.k)?];
        let axes: Vec<Dim> = (0..to.len()).map(|at| Dim::from(&Region::axis(at))).collect();
        let at = ir::types::reindex(from, to, &axes);
        let mut ranges = Ranges::new();
        to.iter().enumerate().for_each(|(at, size)| ranges.enter(Region::axis(at), size.clone()));
        let region = Region::new(simplify(&self.region.apply(&Region::number(), &at), &ranges));
        Ok(Some(Scores { q, k, shape: to.to_vec(), region, ..self.clone() }))
    }

    /// The region over all keys: outside of a window it is −∞.
    fn over_keys(&self) -> Region {
        let Some(Window { start, length, .. }) = &self.window else { return self.region.clone() };
        let mut at: Vec<Dim> = (0..self.shape.len()).map(|at| Dim::from(&Region::axis(at))).collect();
        let [.., query, place] = &mut at[..] else { return self.region.clone() };
        *place = place.clone() - query.clone() - Dim::constant(*start);
        let place = Expr::from(place.clone());
        let inside = Expr::from(Dim::constant(0)).at_most(place.clone()).and(place.less(Expr::from(length)));
        let never = Expr::number(DType::F32, f64::NEG_INFINITY);
        Region::new(inside.select(self.region.apply(&Region::number(), &at), never))
    }
}

/// Finds the matrix product behind scores, and what becomes of it: once for each spelling of the product.
fn recognise(m: &mut Match, id: Id, depth: usize) -> Result<Vec<Scores>, Stop> {
    let nodes = m.nodes(id);
    let products = nodes.iter().filter_map(|node| match node.op() {
        Some(def) if def == &MATMUL => product(m, id, node).ok(),
        Some(def) if def == &EINSUM => equation(m, id, node).ok(),
        _ => None,
    });
    let products: Vec<Scores> = products.take(MOST).collect();
    if !products.is_empty() {
        return Ok(products);
    }
    let mut first = None;
    for node in nodes {
        let Some(def) = node.op().filter(|_| depth < DEEPEST) else { continue };
        let found = if def == &RESHAPE {
            regrouped(m, id, &node, depth)
        } else if def == &CONCAT {
            side_by_side(m, id, &node, depth)
        } else if def == &GATHER_ELEMENTS {
            windowed(m, id, &node, depth)
        } else if def.semantics.is_elementwise() {
            elementwise(m, id, &node, def, depth)
        } else {
            continue;
        };
        match found {
            Ok(scores) => return Ok(scores),
            Err(Stop::Missed(missed)) => first = first.or(Some(missed)),
            Err(Stop::Other) => {}
        }
    }
    let missed = first.unwrap_or_else(|| Missed::new(OF_A_PRODUCT, m.describe(id)));
    Err(missed.into())
}

/// `q · kᵀ`, constant factors of both sides taken out.
fn product(m: &mut Match, id: Id, node: &Node) -> Result<Scores, Stop> {
    let [left, right] = node.operands()[..] else { return Err(Stop::Other) };
    let (q, scale) = without_factor(m, left)?;
    let (right, factor) = without_factor(m, right)?;
    let rank = m.ty(right).rank();
    let (k, inner) = match m.find(&TRANSPOSE, right) {
        Some((of, attrs)) => {
            let (of, factor) = without_factor(m, of[0])?;
            let mut perm: Vec<i64> = attrs.get(PERM);
            perm.swap(rank - 1, rank - 2);
            (transposed(m, of, perm)?, factor)
        }
        None => (transposed(m, right, swapped(rank))?, 1.0),
    };
    Ok(Scores::of_product(m, id, [q, k], scale * factor * inner))
}

/// The same by an equation, whose result has queries and keys last.
fn equation(m: &mut Match, id: Id, node: &Node) -> Result<Scores, Stop> {
    let product = Product::of(m, id, node).ok_or(Stop::Other)?;
    let depth = product.depth(m).ok_or(Stop::Other)?;
    let ([batches @ .., query, key], [depth]) = (&product.result.axes[..], &depth[..]) else {
        return Err(Stop::Other);
    };
    let is_of = |x: &Named, own: &Name, other: &Name| x.axes.contains(own) && !x.axes.contains(other);
    let [a, b] = &product.operands;
    let (q, k) = if is_of(a, query, key) { (a, b) } else { (b, a) };
    if !is_of(q, query, key) || !is_of(k, key, query) {
        return Err(Stop::Other);
    }
    let mut scale = 1.0;
    let mut ordered = |x: &Named, own: Name| {
        let (value, factor) = without_factor(m, x.value)?;
        scale *= factor;
        Named { value, axes: x.axes.clone() }.ordered(m, &[batches, &[own, *depth]].concat())
    };
    let operands = [ordered(q, *query)?, ordered(k, *key)?];
    Ok(Scores::of_product(m, id, operands, scale))
}

/// What a value is a multiple of, and the factor; also of one in another shape or order.
fn without_factor(m: &mut Match, id: Id) -> Result<(Id, f64), Stop> {
    let by = |m: &Match, x: Id, factor: Id| m.number(factor).filter(|_| m.ty(x) == m.ty(id));
    let products = m.uses_of(&MUL, id).into_iter().find_map(|(x, _)| {
        by(m, x[0], x[1]).map(|f| (x[0], f)).or_else(|| by(m, x[1], x[0]).map(|f| (x[1], f)))
    });
    let found = products.or_else(|| {
        m.uses_of(&DIV, id).into_iter().find_map(|(x, _)| by(m, x[0], x[1]).map(|f| (x[0], 1.0 / f)))
    });
    if let Some((x, factor)) = found.filter(|(_, factor)| factor.is_finite()) {
        m.covers(id);
        return Ok((x, factor));
    }
    for def in [&RESHAPE, &TRANSPOSE] {
        let Some((of, attrs)) = m.find(def, id) else { continue };
        let (x, factor) = without_factor(m, of[0])?;
        if factor != 1.0 {
            return Ok((m.op_as(def, &[x], &attrs)?, factor));
        }
    }
    Ok((id, 1.0))
}

/// Scores whose axes are grouped otherwise than those of the product.
fn regrouped(m: &mut Match, id: Id, node: &Node, depth: usize) -> Result<Vec<Scores>, Stop> {
    let inner = node.operands()[0];
    let mut found = recognise(m, inner, depth + 1)?;
    // The region speaks of the axes of the product, whatever else is made of them.
    found.retain(|scores| scores.window.is_none());
    found.iter_mut().for_each(|scores| scores.between.push(id));
    if found.is_empty() { Err(Stop::Other) } else { Ok(found) }
}

/// Scores of which each query takes a window: an index for each place, one more from query to query.
fn windowed(m: &mut Match, id: Id, node: &Node, depth: usize) -> Result<Vec<Scores>, Stop> {
    let [scores, indices] = node.operands()[..] else { return Err(Stop::Other) };
    let shape = m.shape(id);
    let last = shape.len() as i64 - 1;
    if ![-1, last].contains(&m.attrs(node).get(gather_elements::AXIS)) {
        return Err(Stop::Other);
    }
    let start = diagonal(m, indices).ok_or_else(|| Missed::new(A_WINDOW, m.describe(indices)))?;
    let mut found = recognise(m, scores, depth + 1)?;
    found.retain(|scores| scores.region.symbols().0.is_empty() && scores.captured.is_empty());
    for scores in &mut found {
        let inner = &scores.shape;
        let same_rows = inner.len() == shape.len() && inner[..inner.len() - 1] == shape[..shape.len() - 1];
        if scores.window.is_some() || !same_rows {
            return Err(Stop::Other);
        }
        scores.window = Some(Window { indices, start, length: shape[shape.len() - 1].clone() });
        scores.between.push(id);
    }
    if found.is_empty() { Err(Stop::Other) } else { Ok(found) }
}

/// `s`, where a constant is `i + j + s` in row `i` and column `j` of every matrix.
fn diagonal(m: &Match, indices: Id) -> Option<i64> {
    let weight = m.value(indices)?;
    let [.., rows, cols] = *weight.shape() else { return None };
    let start = weight.values().next()?.to_i64();
    if start < 0 {
        return None;
    }
    let fits = |(at, value): (usize, ir::Scalar)| {
        let (row, col) = (at / cols % rows, at % cols);
        value.to_i64() == start + (row + col) as i64
    };
    weight.values().enumerate().all(fits).then_some(start)
}

/// Scores of several sets of keys, one after the other.
fn side_by_side(m: &mut Match, id: Id, node: &Node, depth: usize) -> Result<Vec<Scores>, Stop> {
    let shape = m.shape(id);
    let last = shape.len() - 1;
    if normalize_axis(m.attrs(node).get(concat::AXIS), shape.len())? != last {
        return Err(Stop::Other);
    }
    let (mut parts, mut first) = (Vec::new(), None);
    for &part in node.operands() {
        match recognise(m, part, depth + 1) {
            Ok(found) => {
                let mut found = found.into_iter().filter(|scores| scores.shape == m.shape(part));
                parts.push(Some(found.next().ok_or(Stop::Other)?));
            }
            // One key that is no product has a score of its own.
            Err(stop) if m.shape(part)[last].is(1) => {
                first = first.or(Some(stop));
                parts.push(None);
            }
            Err(stop) => return Err(stop),
        }
    }
    let Some(some) = parts.iter().flatten().next().cloned() else {
        return Err(first.unwrap_or(Stop::Other));
    };
    let q = some.q;
    let mut sets = Vec::new();
    for (part, &id) in parts.into_iter().zip(node.operands()) {
        sets.push(match part {
            Some(part) => part,
            None => single(m, id, &some)?,
        });
    }
    let parts = sets;
    let fits = |part: &Scores| m.same(part.q, q) && part.window.is_none();
    if !parts.iter().all(fits) {
        return Err(Stop::Other);
    }
    let keys: Vec<Id> = parts.iter().map(|part| part.k).collect();
    let k = m.op_with(&CONCAT, &keys, [concat::AXIS.is(-2)])?;
    // From the last set to the first: `select(j < end, its region at j − start, the regions of those behind)`.
    let mut captured: Vec<Id> = Vec::new();
    let mut body: Option<Expr> = None;
    let mut end: Dim = shape[last].clone();
    for part in parts.iter().rev() {
        let start = end.clone() - part.shape[last].clone();
        let numbers: Vec<usize> = part.captured.iter().map(|&id| 3 + capture(&mut captured, m, id)).collect();
        let region = part.region.renumbered(&|n| n.checked_sub(3).map_or(n, |at| numbers[at]));
        let mut at: Vec<Dim> = (0..shape.len()).map(|at| Dim::from(&Region::axis(at))).collect();
        at[last] = at[last].clone() - start.clone();
        let own = region.apply(&Region::number(), &at);
        let here = Expr::from(Dim::from(&Region::axis(last))).less(Expr::from(end));
        body = Some(match body {
            None => own,
            Some(behind) => here.select(own, behind),
        });
        end = start;
    }
    let region = Region::new(body.ok_or(Stop::Other)?);
    let all = |of: fn(&Scores) -> &Vec<Id>| parts.iter().flat_map(of).copied().collect::<Vec<Id>>();
    let mut between = all(|part| &part.between);
    between.push(id);
    let products = all(|part| &part.products);
    Ok(vec![Scores { q, k, products, between, shape, window: None, region, captured }])
}

/// Scores of one key that are no product, beside others: as of a key of zeros.
fn single(m: &mut Match, id: Id, beside: &Scores) -> Result<Scores, Stop> {
    if beside.products.iter().any(|&product| m.depends(id, product)) {
        return Err(Missed::new(MASK_APART, m.describe(id)).into());
    }
    let beside_keys = m.shape(beside.k);
    let k = zeros(m, &beside_keys, &Dim::constant(1))?;
    let shape = m.shape(id);
    let of = m.find(&BROADCAST, id).map_or(id, |(of, _)| of[0]);
    let (body, captured) = match m.number(of) {
        Some(number) => (Expr::number(DType::F32, number), vec![]),
        None => {
            let axes: Vec<Dim> = (0..shape.len()).map(|at| Dim::from(&Region::axis(at))).collect();
            let from = m.shape(of);
            let at = axes[shape.len() - from.len()..].iter().zip(&from);
            let at =
                at.map(|(axis, size)| Expr::from(if size.is(1) { Dim::constant(0) } else { axis.clone() }));
            (Expr::load(Lower::operand_name(3), DType::F32, at), vec![of])
        }
    };
    let (region, products, between) = (Region::new(body), vec![], vec![id]);
    Ok(Scores { q: beside.q, k, products, between, shape, window: None, region, captured })
}

/// An elementwise op, one operand of which are scores.
fn elementwise(
    m: &mut Match,
    id: Id,
    node: &Node,
    def: &'static OpDef,
    depth: usize,
) -> Result<Vec<Scores>, Stop> {
    let (shape, operands) = (m.shape(id), node.operands().to_vec());
    let candidates: Vec<Id> =
        operands.iter().copied().filter(|&x| m.ty(x).dtype == DType::F32 && m.shape(x) == shape).collect();
    let (mut all, mut first) = (Vec::new(), None);
    for score in candidates {
        match elementwise_of(m, id, node, def, score, depth) {
            Ok(found) => all.extend(found),
            Err(Stop::Missed(missed)) => first = first.or(Some(missed)),
            Err(Stop::Other) => {}
        }
    }
    if all.is_empty() {
        return Err(first.unwrap_or_else(|| Missed::new(OF_A_PRODUCT, m.describe(id))).into());
    }
    all.truncate(MOST);
    Ok(all)
}

/// An elementwise op on these scores; its other operands are captured.
fn elementwise_of(
    m: &mut Match,
    id: Id,
    node: &Node,
    def: &'static OpDef,
    score: Id,
    depth: usize,
) -> Result<Vec<Scores>, Stop> {
    let (shape, operands) = (m.shape(id), node.operands().to_vec());
    let mut found = recognise(m, score, depth + 1)?;
    let positions: Vec<usize> = (0..operands.len()).filter(|&at| m.same(operands[at], score)).collect();
    let others = (0..operands.len()).filter(|at| !positions.contains(at)).map(|at| operands[at]);
    let depends = |other: &Id| found[0].products.iter().any(|&product| m.depends(*other, product));
    if let Some(mask) = others.into_iter().find(depends) {
        return Err(Missed::new(MASK_APART, m.describe(mask)).into());
    }
    let stage = stage(m, def, &m.attrs(node), &operands).ok_or(Stop::Other)?;
    let (stage, from) = with_computed(m, &stage, &operands, &positions);
    let all: Vec<Id> = operands.iter().chain(&from).copied().collect();
    for scores in &mut found {
        let captured = &mut scores.captured;
        let mut number = |at: usize| {
            let is_captured = loads(&stage, at) && !positions.contains(&at);
            if is_captured { 3 + capture(captured, m, all[at]) } else { 0 }
        };
        let numbers: Vec<usize> = (0..all.len()).map(&mut number).collect();
        scores.region = after(scores, &shape, &stage, &positions, &numbers).ok_or(Stop::Other)?;
        scores.between.push(id);
    }
    Ok(found)
}

/// The region after a stage over scores of this shape. The region's axes are those of the product.
fn after(
    scores: &Scores,
    shape: &[Dim],
    stage: &Stage,
    positions: &[usize],
    numbers: &[usize],
) -> Option<Region> {
    let mut product = scores.shape.clone();
    if let (Some(window), Some(last)) = (&scores.window, product.last_mut()) {
        *last = window.length.clone();
    }
    if product == shape {
        return scores.region.then(stage, positions, numbers);
    }
    let single = Region::identity().then(stage, positions, numbers)?;
    let axes: Vec<Dim> = (0..product.len()).map(|at| Dim::from(&Region::axis(at))).collect();
    let at = ir::types::reindex(shape, &product, &axes);
    Some(Region::new(single.apply(scores.region.body(), &at)))
}

/// The number of a captured operand among all that are.
fn capture(captured: &mut Vec<Id>, m: &Match, id: Id) -> usize {
    captured.iter().position(|&known| m.same(known, id)).unwrap_or_else(|| {
        captured.push(id);
        captured.len() - 1
    })
}

/// The one stage that an elementwise op is lowered to.
pub(super) fn stage(m: &Match, def: &'static OpDef, attrs: &Attrs, operands: &[Id]) -> Option<Stage> {
    let types: Vec<&TensorType> = operands.iter().map(|&id| m.ty(id)).collect();
    let results = def.result_types(&Infer { operands: &types, attrs }).ok()?;
    let Compute::Stages(mut stages) = def.semantics.lower(&mut Lower::new(&types, attrs, &results))? else {
        return None;
    };
    let stage = stages.pop()?;
    stages.is_empty().then_some(stage)
}

/// The stage with what can be computed in the place of what is loaded; scores stay. Also what that is computed from: the
/// operands after those of the op.
fn with_computed(m: &Match, stage: &Stage, operands: &[Id], scores: &[usize]) -> (Stage, Vec<Id>) {
    let mut from = Loads::from(operands.len());
    let body = stage.body.replace_loads(&mut |source, at| {
        let number = operand_number(source).filter(|number| !scores.contains(number))?;
        computed::element(m, *operands.get(number)?, at, &mut from)
    });
    (Stage { body: computed::chosen(&body), ..stage.clone() }, from.values().to_vec())
}

fn loads(stage: &Stage, operand: usize) -> bool {
    let name = Lower::operand_name(operand);
    stage.body.any(&mut |e| matches!(e.kind(), ir::kernel::ExprKind::Load { source, .. } if *source == name))
}
