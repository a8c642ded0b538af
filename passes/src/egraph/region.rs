//! Takes a graph apart into regions, and finds those that repeat.
//!
//! A region is a stretch of the graph's order, so that what it needs comes before it and what needs it comes after.
//! Control flow stays outside. Layers are found by their period: the distance at which most ops meet an equal op again.
//! The border between two layers lies after a normalisation, so that it stays with the sum that it follows; else where
//! the fewest values cross.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ir::graph::{Kind, Value};
use ir::origin::Place;
use ir::{Graph, NodeId, OpDef, Origin, Weight};
use ops::math::mul::MUL;
use ops::norm::group_norm::GROUP_NORM;
use ops::norm::layer_norm::LAYER_NORM;
use ops::norm::rms_norm::RMS_NORM;

use super::facts::is_not_negative;

/// Normalisations that start a layer.
const NORMS: [&OpDef; 3] = [&LAYER_NORM, &RMS_NORM, &GROUP_NORM];

/// A graph of at most so many ops is one region, whatever repeats in it.
const WHOLE: usize = 256;

/// A period is at least so many ops: heads and iterations repeat inside of a layer.
const SHORTEST: usize = 24;

/// And at most so many.
const LONGEST: usize = 2048;

/// A value is computed from weights alone by at most so many ops after each other.
const MOST_OPS: usize = 16;

/// Constants of floats, or of integers that floats are stored in, of at most so many elements belong to the text of a
/// region: rules look at them.
const SMALL_FLOATS: usize = 16;

/// Integers and truth values (masks, permutations) of at most so many elements do.
const SMALL_OTHERS: usize = 1 << 20;

/// Floats that are one of two numbers, or distances, may be so many more.
const LARGE_MASK: usize = 1 << 22;

/// The ops of a graph in regions, in order.
pub(super) fn split(graph: &Graph) -> Vec<Vec<NodeId>> {
    let mut regions = Vec::new();
    let mut run = Vec::new();
    for id in graph.order() {
        match graph.node(id).op() {
            Some((_, attrs)) if graph.flow(id).is_none() && attrs.graphs().is_empty() => run.push(id),
            Some(_) => regions.extend(layers(graph, std::mem::take(&mut run))),
            None => {}
        }
    }
    regions.extend(layers(graph, run));
    regions
}

/// A stretch of ops, cut at the borders of its layers.
fn layers(graph: &Graph, run: Vec<NodeId>) -> Vec<Vec<NodeId>> {
    if run.is_empty() {
        return Vec::new();
    }
    let repeated = if run.len() > WHOLE { repetition(&signatures(graph, &run)) } else { None };
    let Some((from, to, period)) = repeated else { return vec![run] };
    let first = border(graph, &run, from, period);
    let borders = (first..=to).step_by(period).filter(|&at| at > 0 && at < run.len());
    let mut parts = Vec::new();
    let mut start = 0;
    for at in borders.chain([run.len()]) {
        parts.push(run[start..at].to_vec());
        start = at;
    }
    parts
}

/// A number for each op; equal for ops that look alike.
fn signatures(graph: &Graph, run: &[NodeId]) -> Vec<usize> {
    let mut numbers = HashMap::new();
    let signature = |&id: &NodeId| {
        let node = graph.node(id);
        let (def, attrs) = node.op().expect("bug: a region is made of ops");
        let operands: Vec<_> = graph.operands(id).into_iter().map(|value| graph.ty(value).clone()).collect();
        (def.name, attrs.clone(), operands)
    };
    run.iter()
        .map(|id| {
            let next = numbers.len();
            *numbers.entry(signature(id)).or_insert(next)
        })
        .collect()
}

/// The longest stretch in which each item equals the one a period later: its start, its end, the period.
fn repetition(items: &[usize]) -> Option<(usize, usize, usize)> {
    let mut best: Option<(usize, usize, usize)> = None;
    for period in SHORTEST..=LONGEST.min(items.len() / 2) {
        let mut start = 0;
        for at in 0..=items.len() - period {
            if at < items.len() - period && items[at] == items[at + period] {
                continue;
            }
            let end = at + period;
            let longer = best.is_none_or(|(from, to, _)| end - start > to - from);
            if end - start >= 2 * period && longer {
                best = Some((start, end, period));
            }
            start = at + 1;
        }
    }
    best
}

/// The best first border in `from..from + period`.
fn border(graph: &Graph, run: &[NodeId], from: usize, period: usize) -> usize {
    let place: HashMap<NodeId, usize> = run.iter().enumerate().map(|(at, &id)| (id, at)).collect();
    let last_use = |id: NodeId| {
        let users =
            (0..graph.node(id).types.len()).flat_map(|result| graph.users(Value { node: id, result }));
        users.filter_map(|(user, _)| place.get(&user).copied()).max().unwrap_or(0)
    };
    let crossing = |at: usize| run[..at].iter().filter(|&&id| last_use(id) >= at).count();
    let after_norm =
        |at: usize| at > 0 && graph.node(run[at - 1]).op().is_some_and(|(def, _)| NORMS.contains(&def));
    let norms = (from..from + period).filter(|&at| after_norm(at));
    let norm = norms.min_by_key(|&at| (crossing(at), at));
    norm.unwrap_or_else(|| (from..from + period).min_by_key(|&at| (crossing(at), at)).unwrap_or(from))
}

/// A region as a graph of its own.
pub(super) struct Part {
    /// The graph. Its nodes' origins are their numbers in the region.
    pub(super) graph: Graph,
    /// What its inputs are outside.
    pub(super) inputs: Vec<Value>,
    /// Which of them are weights.
    pub(super) constant: Vec<bool>,
    /// Which of them are known to be finite and to have no element below 0.
    pub(super) not_negative: Vec<bool>,
    /// What its outputs are outside.
    pub(super) outputs: Vec<Value>,
}

impl Part {
    /// The given ops of a graph.
    pub(super) fn of(graph: &Graph, region: &[NodeId]) -> Part {
        let inside: BTreeSet<NodeId> = region.iter().copied().collect();
        let mut part = Part {
            graph: Graph::new("region"),
            inputs: vec![],
            constant: vec![],
            not_negative: vec![],
            outputs: vec![],
        };
        let mut values: BTreeMap<Value, Value> = BTreeMap::new();
        for (number, &id) in region.iter().enumerate() {
            let node = graph.node(id);
            let (def, attrs) = node.op().expect("bug: a region is made of ops");
            let operands: Vec<Value> = graph.operands(id);
            for &operand in operands.iter().filter(|value| !inside.contains(&value.node)) {
                values.entry(operand).or_insert_with(|| part.outside(graph, operand));
            }
            let operands: Vec<Value> = operands.iter().map(|value| values[value]).collect();
            let kind = Kind::Op { def, attrs: attrs.clone() };
            let copy = ir::graph::Node { kind, types: node.types.clone(), origin: number_origin(number) };
            let new = part.graph.add_node_unchecked(copy, &operands);
            for result in 0..node.types.len() {
                values.insert(Value { node: id, result }, Value { node: new, result });
            }
        }
        let outputs: BTreeSet<Value> = graph.outputs().into_iter().collect();
        for &id in region {
            for result in 0..graph.node(id).types.len() {
                let value = Value { node: id, result };
                let leaves = outputs.contains(&value)
                    || graph.users(value).iter().any(|(user, _)| !inside.contains(user));
                if leaves {
                    part.outputs.push(value);
                }
            }
        }
        let named = part.outputs.iter().enumerate().map(|(i, value)| (format!("y{i}"), values[value]));
        part.graph.set_outputs(named.collect::<Vec<_>>());
        part
    }

    /// A value that comes from outside: a small constant as it is, anything else as an input.
    fn outside(&mut self, graph: &Graph, value: Value) -> Value {
        let weight = graph.node(value.node).weight();
        if let Some(weight) = weight.filter(|weight| is_small(weight)) {
            return self.graph.add_weight(weight.renamed(""), Origin::none());
        }
        let name = format!("x{}", self.inputs.len());
        self.inputs.push(value);
        self.constant.push(is_constant(graph, value, MOST_OPS));
        self.not_negative.push(weight.is_some_and(|weight| scales(graph, value) && is_not_negative(weight)));
        self.graph.add_input(name, graph.ty(value).clone(), Origin::none())
    }

    /// The same region with another graph for the same inputs and outputs.
    pub(super) fn with(&self, graph: Graph) -> Part {
        let Part { inputs, constant, not_negative, outputs, .. } = self;
        let (inputs, outputs) = (inputs.clone(), outputs.clone());
        Part { graph, inputs, constant: constant.clone(), not_negative: not_negative.clone(), outputs }
    }

    /// The same text means the same region, whatever its large weights hold.
    pub(super) fn key(&self) -> String {
        format!("{:?} {:?}\n{}", self.constant, self.not_negative, self.graph)
    }
}

/// Does a value depend on weights alone, by at most so many ops after each other?
fn is_constant(graph: &Graph, value: Value, depth: usize) -> bool {
    if graph.node(value.node).op().is_none() {
        return graph.node(value.node).weight().is_some();
    }
    let operands = graph.operands(value.node);
    depth > 0 && !operands.is_empty() && operands.into_iter().all(|x| is_constant(graph, x, depth - 1))
}

/// Is a matrix multiplied with something, element by element? Only then it counts whether it has elements below 0; the
/// gains of normalisations do not tell layers apart.
fn scales(graph: &Graph, value: Value) -> bool {
    let by = |&(user, _): &(NodeId, usize)| graph.node(user).op().is_some_and(|(def, _)| def == &MUL);
    graph.ty(value).rank() >= 2 && graph.users(value).iter().any(by)
}

fn is_small(weight: &Weight) -> bool {
    let of_numbers = weight.dtype().is_float() || weight.dtype().is_int() && weight.dtype().bits() <= 8;
    let limit = if of_numbers { SMALL_FLOATS } else { SMALL_OTHERS };
    let patterned = || has_two_values(weight) || is_of_distances(weight);
    weight.elements() <= limit || (weight.elements() <= LARGE_MASK && patterned())
}

/// Is each element of the last two axes that to its upper left: a matrix of distances?
fn is_of_distances(weight: &Weight) -> bool {
    let [batch @ .., rows, cols] = weight.shape() else { return false };
    let (size, Some(stored)) = (weight.dtype().bytes(), weight.row_major()) else { return false };
    let element = |row: usize, col: usize| &stored[(row * cols + col) * size..][..size];
    batch.iter().all(|&size| size == 1)
        && (1..*rows).all(|row| (1..*cols).all(|col| element(row, col) == element(row - 1, col - 1)))
}

/// Is it one number everywhere, or one of two: a mask that is added?
fn has_two_values(weight: &Weight) -> bool {
    let mut seen = Vec::with_capacity(2);
    weight.stored().all(|element| {
        if !seen.contains(&element) {
            seen.push(element);
        }
        seen.len() <= 2
    })
}

/// The origin that stands for node `number` of a region.
fn number_origin(number: usize) -> Origin {
    Origin::place(Place { name: number.to_string(), ..Place::default() })
}

/// The origins of the nodes that `origin` stands for.
pub(super) fn outside_origin(graph: &Graph, region: &[NodeId], origin: &Origin) -> Origin {
    let numbers = origin.places().iter().filter_map(|place| place.name.parse::<usize>().ok());
    let mut numbers: Vec<usize> = numbers.collect();
    numbers.sort_unstable();
    let places = numbers.into_iter().fold(Origin::none(), |all, at| all.join(&graph.node(region[at]).origin));
    origin.rules().iter().fold(places, |origin, rule| origin.by(rule))
}

/// Puts the rewritten graph of a region in its place.
pub(super) fn splice(graph: &mut Graph, region: &[NodeId], part: &Part, new: &Graph) {
    let mut values: BTreeMap<Value, Value> = BTreeMap::new();
    for (&input, &value) in new.inputs().iter().zip(&part.inputs) {
        values.insert(input.into(), value);
    }
    for id in new.order() {
        let node = new.node(id);
        match &node.kind {
            Kind::Input(_) => {}
            Kind::Weight(weight) => {
                let value = graph.add_weight(weight.clone(), Origin::none());
                values.insert(id.into(), value);
            }
            Kind::Op { .. } => {
                let operands: Vec<Value> = new.operands(id).iter().map(|value| values[value]).collect();
                let origin = outside_origin(graph, region, &node.origin);
                let copy = ir::graph::Node { origin, ..node.clone() };
                let made = graph.add_node_unchecked(copy, &operands);
                for result in 0..node.types.len() {
                    values.insert(Value { node: id, result }, Value { node: made, result });
                }
            }
        }
    }
    for (&old, inner) in part.outputs.iter().zip(new.outputs()) {
        graph.replace_uses(old, values[&inner]);
    }
}
