//! Rows that are sorted by expert, sent to their experts segment by segment, and put together again.
//!
//! `concat(x[o₀…] w₀, x[o₁…] w₁, …)`, where segment `e` begins at `oₑ`, the number of ids below `e`, and has as many rows
//! as there are ids `e`, is one `grouped_matmul` with the sorted ids. That an expert's number and its place in the counts
//! are the same is found out by trying every number.

use std::collections::BTreeMap;

use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::{SizeValues, Value};
use ir::op::{Eval, Flow, normalize_axis};
use ir::{DType, Dim, Graph, NodeId, OpDef, Scalar, Tensor, Weight};
use ops::linalg::grouped_matmul::grouped_matmul;
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::cast::CAST;
use ops::math::mul::MUL;
use ops::order::cumsum::CUMSUM;
use ops::order::prefix;
use ops::order::topk::{K, LARGEST, TOPK};
use ops::shape::concat::{self, CONCAT};
use ops::shape::gather::{self, GATHER};
use ops::shape::iota::IOTA;
use ops::shape::reshape::RESHAPE;
use ops::shape::scatter::REDUCTION;
use ops::shape::scatter_elements::SCATTER_ELEMENTS;
use ops::shape::slice::{SLICE, STARTS, STEPS};

use super::body::describe;
use super::routing::{constant, experts, is_number, weight};
use super::{KNOWN_SEGMENTS, NAME, SORTED_IDS};
use crate::egraph::Missed;

/// So many ops may stand between ids and their places in the counts.
const DEEPEST: usize = 12;

/// A concatenation of products of segments.
pub(super) struct Segments {
    /// The concatenation.
    pub(super) node: NodeId,
    /// The node that takes the first rows from those of all experts.
    taken: NodeId,
    /// Which rows each expert takes.
    positions: Vec<Value>,
    weights: Vec<Weight>,
}

/// Every concatenation of products of rows that are taken from one value.
pub(super) fn all(graph: &Graph) -> Vec<Segments> {
    graph.order().into_iter().filter_map(|id| Segments::of(graph, id)).collect()
}

impl Segments {
    fn of(graph: &Graph, id: NodeId) -> Option<Segments> {
        let attrs = is(graph, id.into(), &CONCAT)?;
        let parts = graph.operands(id);
        if normalize_axis(attrs.get(concat::AXIS), graph.node(id).types[0].rank()) != Ok(0) || parts.len() < 2
        {
            return None;
        }
        let part = |&part: &Value| {
            is(graph, part, &MATMUL)?;
            let [rows, w] = graph.operands(part.node)[..] else { return None };
            let weight = weight(graph, w).filter(|weight| weight.shape().len() == 2)?;
            is(graph, rows, &GATHER).filter(|attrs| attrs.get(gather::AXIS) == 0)?;
            let [x, positions] = graph.operands(rows.node)[..] else { return None };
            (graph.ty(x).rank() == 2).then_some((rows.node, positions, weight))
        };
        let parts: Vec<(NodeId, Value, Weight)> = parts.iter().map(part).collect::<Option<_>>()?;
        let taken = parts[0].0;
        let x = first_operand(graph, taken);
        let one_source = parts.iter().all(|&(other, ..)| first_operand(graph, other) == x);
        let weights = parts.iter().map(|(.., weight)| weight.clone()).collect();
        let positions = parts.iter().map(|&(_, positions, _)| positions).collect();
        one_source.then_some(Segments { node: id, taken, positions, weights })
    }

    /// Puts one product in the place of the concatenation. Gives the comparisons of sizes that it makes superfluous.
    ///
    /// # Errors
    /// The first obligation that fails.
    pub(super) fn roll(&self, b: &mut Build, sizes: &Counted) -> Result<Vec<NodeId>, Missed> {
        let graph = b.graph();
        let origin = graph
            .operands(self.node)
            .iter()
            .fold(graph.node(self.node).origin.clone(), |all, part| all.join(&graph.node(part.node).origin));
        let (counts, proven) = self.counts(graph, sizes)?;
        let sorted = sorted_ids(graph, counts, self.positions.len())?;
        let unsuitable = || missed(KNOWN_SEGMENTS, describe(b.graph(), self.node));
        let stack = Weight::stack(self.weights[0].name(), &self.weights).ok_or_else(unsuitable)?;
        b.set_origin(origin.by(NAME));
        let (x, ids) = (first_operand(b.graph(), self.taken), first_operand(b.graph(), sorted.node));
        let ids = b.op_with(&GATHER, &[ids, Value { node: sorted.node, result: 1 }], [gather::AXIS.is(0)]);
        let stack = b.weight(stack);
        let product = ids.and_then(|ids| grouped_matmul(b, x, stack, ids));
        let product = product.map_err(|error| missed(KNOWN_SEGMENTS, error.to_string()))?;
        if b.ty(product) != b.ty(self.node.into()) {
            return Err(missed(KNOWN_SEGMENTS, format!("{} rows", b.ty(product).shape[0])));
        }
        b.graph_mut().replace_uses(self.node.into(), product);
        Ok(proven)
    }

    /// How often each id is there: what the segments begin and end by. Also the comparisons of its elements with sizes.
    fn counts(&self, graph: &Graph, sizes: &Counted) -> Result<(Value, Vec<NodeId>), Missed> {
        let mut counts = None;
        let mut proven = Vec::new();
        for (expert, &positions) in self.positions.iter().enumerate() {
            let segment = segment(graph, positions, expert, sizes);
            let (known, size) = segment
                .filter(|(known, _)| counts.is_none_or(|counts| counts == *known))
                .ok_or_else(|| {
                    missed(KNOWN_SEGMENTS, format!("{} for part {expert}", describe(graph, positions.node)))
                })?;
            counts = Some(known);
            proven.extend(size);
        }
        // One size follows from the others, not several.
        proven.truncate(if proven.len() > 1 { 0 } else { 1 });
        counts.map(|counts| (counts, proven)).ok_or_else(|| missed(KNOWN_SEGMENTS, "no parts"))
    }
}

/// The nodes that make numbers sizes, by the sizes.
pub(super) struct Counted(BTreeMap<Dim, Vec<NodeId>>);

impl Counted {
    /// Those of a graph.
    pub(super) fn of(graph: &Graph) -> Counted {
        let mut nodes: BTreeMap<Dim, Vec<NodeId>> = BTreeMap::new();
        for id in graph.order() {
            if let Some(Flow::Size { size, .. }) = graph.flow(id) {
                nodes.entry(size).or_default().push(id);
            }
        }
        Counted(nodes)
    }
}

fn missed(obligation: &'static str, found: impl Into<String>) -> Missed {
    Missed { obligation, found: found.into() }
}

/// The attributes of the node that gives a value, if it is this op.
fn is<'a>(graph: &'a Graph, value: Value, wanted: &OpDef) -> Option<&'a Attrs> {
    graph.node(value.node).op().filter(|(def, _)| *def == wanted).map(|(_, attrs)| attrs)
}

fn first_operand(graph: &Graph, id: NodeId) -> Value {
    graph.operands(id)[0]
}

/// A value before it got another shape or another type of integers.
fn before_moves(graph: &Graph, mut value: Value) -> Value {
    while let Some((def, _)) = graph.node(value.node).op()
        && (*def == RESHAPE || *def == CAST)
        && matches!(graph.ty(value).dtype, DType::I32 | DType::I64)
    {
        value = first_operand(graph, value.node);
    }
    value
}

/// The counts that say where the segment of an expert is, and the comparison of its size with one of them, if it is one.
fn segment(
    graph: &Graph,
    positions: Value,
    expert: usize,
    sizes: &Counted,
) -> Option<(Value, Option<NodeId>)> {
    let mut value = positions;
    let mut begin = None;
    loop {
        let (def, _) = graph.node(value.node).op()?;
        let operands = graph.operands(value.node);
        if *def == IOTA {
            let [size] = &graph.ty(value).shape[..] else { return None };
            let from = begin.map(|begin| start(graph, begin, expert));
            let (node, counts) = counted(graph, size, expert, sizes)?;
            let fits = match from {
                None => expert == 0,
                Some(from) => from? == counts,
            };
            let Some(Flow::Size { name, size, .. }) = graph.flow(node) else { return None };
            let compares = (size.as_symbol() != Some(&name)).then_some(node);
            return fits.then_some((counts, compares));
        }
        value = match operands[..] {
            [x] if *def == CAST && matches!(graph.ty(value).dtype, DType::I32 | DType::I64) => x,
            [a, b] if *def == MUL => {
                [(a, b), (b, a)].into_iter().find(|&(_, one)| is_number(graph, one, 1.0))?.0
            }
            [a, b] if *def == ADD => {
                let (rows, from) = if graph.ty(a).elements().is(1) { (b, a) } else { (a, b) };
                if !is_number(graph, from, 0.0) {
                    begin = Some(from).filter(|_| begin.is_none() && graph.ty(from).elements().is(1));
                    begin?;
                }
                rows
            }
            _ => return None,
        };
    }
}

/// One element of a vector, and its place there.
fn element(graph: &Graph, value: Value) -> Option<(Value, usize)> {
    let value = before_moves(graph, value);
    let (def, attrs) = graph.node(value.node).op()?;
    let operands = graph.operands(value.node);
    let at = match operands[..] {
        [_] if *def == SLICE => attrs.get(STARTS)[..].first()?.as_const()?,
        [_, at] if *def == GATHER => constant(graph, at).filter(|at| at.elements() == 1)?.get(0).to_i64(),
        _ => return None,
    };
    let vector = before_moves(graph, operands[0]);
    let one = graph.ty(value).elements().is(1) && graph.ty(operands[0]).rank() == 1;
    Some((vector, usize::try_from(at).ok().filter(|_| one)?))
}

/// Counts before those behind the last were left out, which are of ids that are no expert's.
fn with_all(graph: &Graph, counts: Value) -> Value {
    let first = |attrs: &&Attrs| attrs.get(STARTS)[0].is(0) && attrs.get(STEPS) == [1];
    match is(graph, counts, &SLICE).filter(first) {
        Some(_) => first_operand(graph, counts.node),
        None => counts,
    }
}

/// The counts of which an expert's segment begins after those of the experts before it.
fn start(graph: &Graph, begin: Value, expert: usize) -> Option<Value> {
    let (sums, at) = element(graph, begin)?;
    let attrs = is(graph, sums, &CUMSUM)?;
    let own = if attrs.get(prefix::EXCLUSIVE) { expert } else { expert.checked_sub(1)? };
    let forward = !attrs.get(prefix::REVERSE) && at == own;
    forward.then(|| with_all(graph, before_moves(graph, first_operand(graph, sums.node))))
}

/// The node that compares a size with an expert's count, and the counts.
fn counted(graph: &Graph, size: &Dim, expert: usize, sizes: &Counted) -> Option<(NodeId, Value)> {
    let nodes = sizes.0.get(size)?;
    nodes.iter().find_map(|&id| {
        let (counts, at) = element(graph, first_operand(graph, id))?;
        (at == expert).then(|| (id, with_all(graph, counts)))
    })
}

/// The sorted ids that the counts are about, with the order in which they are sorted.
fn sorted_ids(graph: &Graph, counts: Value, parts: usize) -> Result<Value, Missed> {
    let found = || missed(SORTED_IDS, describe(graph, counts.node));
    let adds = is(graph, counts, &SCATTER_ELEMENTS).filter(|attrs| attrs.get(REDUCTION) == "add");
    let counted = graph.ty(counts).shape.first().and_then(Dim::as_const);
    adds.filter(|_| counted >= i64::try_from(parts).ok()).ok_or_else(found)?;
    let [zeros, places, ones] = graph.operands(counts.node)[..] else { return Err(found()) };
    let each_once = is_number(graph, zeros, 0.0) && is_number(graph, ones, 1.0);
    let sorted = places_of(graph, places, parts).filter(|_| each_once).ok_or_else(found)?;
    let attrs = is(graph, sorted, &TOPK).filter(|_| sorted.result == 0).ok_or_else(found)?;
    let ids = first_operand(graph, sorted.node);
    let whole = graph.ty(ids).shape == [attrs.get(K)] && !attrs.get(LARGEST);
    if !whole || experts(graph, ids) != Some(parts as i64) {
        return Err(missed(SORTED_IDS, describe(graph, ids.node)));
    }
    Ok(sorted)
}

/// What the places in the counts are made of, number by number, if each of so many numbers is its own place.
fn places_of(graph: &Graph, places: Value, parts: usize) -> Option<Value> {
    let mut ids = None;
    source(graph, places, &mut ids, 0)?;
    let ids = ids?;
    let dtype = graph.ty(ids).dtype;
    let mut at = 0;
    let every = |_: &[usize]| {
        at += 1;
        Scalar::from_i64(dtype, at - 1)
    };
    let numbers = Tensor::from_fn(dtype, &[parts], every);
    let mut known = BTreeMap::from([(ids, numbers.clone())]);
    let places = evaluated(graph, places, &mut known)?;
    let own_place =
        places.values().zip(numbers.values()).all(|(place, number)| place.to_i64() == number.to_i64());
    own_place.then_some(ids)
}

/// Finds the one value that another is made of with constants, element by element.
fn source(graph: &Graph, value: Value, found: &mut Option<Value>, depth: usize) -> Option<()> {
    if depth > DEEPEST {
        return None;
    }
    match graph.node(value.node).op() {
        _ if constant(graph, value).is_some() => Some(()),
        Some((def, _)) if def.semantics.is_elementwise() => {
            graph.operands(value.node).into_iter().try_for_each(|x| source(graph, x, found, depth + 1))
        }
        _ => (*found.get_or_insert(value) == value).then_some(()),
    }
}

/// A value, where those that it is made of are known.
fn evaluated(graph: &Graph, value: Value, known: &mut BTreeMap<Value, Tensor>) -> Option<Tensor> {
    if let Some(known) = known.get(&value) {
        return Some(known.clone());
    }
    let made = if let Some(weight) = constant(graph, value) {
        (weight.elements() == 1).then(|| Tensor::scalar(weight.get(0)))?
    } else {
        let (def, attrs) = graph.node(value.node).op()?;
        let operands = graph.operands(value.node);
        let operands: Vec<Tensor> =
            operands.into_iter().map(|x| evaluated(graph, x, known)).collect::<Option<_>>()?;
        let (sizes, operands) = (SizeValues::new(), operands.iter().collect::<Vec<_>>());
        let made = def.semantics.eval(&Eval { operands: &operands, attrs, sizes: &sizes });
        made.ok()?.into_iter().next()?
    };
    known.insert(value, made.clone());
    Some(made)
}
