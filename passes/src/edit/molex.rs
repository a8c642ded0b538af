//! A dense model becomes one whose experts are its own layers: MoLEx (Teo et al. 2025, arXiv 2503.11144).
//!
//! - (X2) `z' = α u_t(z) + (1 − α) u_j(z)`, where `u_1 … u_L` are the layers that the model has, and `j` the one whose score is largest;
//! - (X4) scores are the mean over all tokens of `z Wg_t + bg_t`: a batch chooses together.
//!
//! Layers are what a model repeats along its main path: between values that all of it passes through, the same ops with other
//! weights. Those of all layers become stacks, of which a layer takes its expert's: in memory they are views, but a file that is
//! written holds them twice, as each layer's own and in the stacks. `Wg` is of small numbers from a seed
//! and `bg` 0, so that the choice says nothing until gates are trained; with `α = 1` the model is what it was (X5).
//!
//! Reconstructed, as no code of the authors is available: the mean of scores, and that a layer may choose itself.

use std::collections::{BTreeMap, BTreeSet};

use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::{Kind, Value};
use ir::op::OpError;
use ir::{DType, Dim, Graph, NodeId, OpDef, Scalar, Tensor, TensorType, Weight};
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::mul::MUL;
use ops::math::sub::SUB;
use ops::order::route::{K, ROUTE};
use ops::reduce::along::reduce;
use ops::reduce::reduce_mean::REDUCE_MEAN;
use ops::shape::gather::{self, GATHER};
use ops::shape::reshape::reshape;

use super::layer::{name_of, weight};
use super::random::Random;
use super::{EditError, rebuild};

/// How layers mix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mixing {
    /// The share of a layer itself, `α`, with which each begins.
    pub own: f64,
    /// What the gates are drawn from.
    pub seed: u64,
}

/// Lets the layers that a model repeats be experts of each other. Gives their names, at least two.
///
/// # Errors
/// The model repeats no layers with weights, or what they read has no features.
pub fn mix_layers(graph: &mut Graph, mixing: Mixing) -> Result<Vec<String>, EditError> {
    let unfit = |why: String| EditError::Unfit { what: "layers as experts".to_owned(), why };
    let layers = Path::of(graph).repeated().ok_or_else(|| {
        unfit(
            "the model has no layers of one form, one after the other, with matrices of their own".to_owned(),
        )
    })?;
    let ty = graph.ty(layers[0].z).clone();
    let width = ty.shape.last().and_then(Dim::as_const).and_then(|width| usize::try_from(width).ok());
    let (Some(width), DType::F32, 2..) = (width, ty.dtype, ty.rank()) else {
        return Err(unfit(format!("they read {ty}, not a row of features in f32 for each token")));
    };
    let stacks = stacks(graph, &layers)
        .ok_or_else(|| unfit("the weights of its layers are computed when the model runs".to_owned()))?;
    let names = layers.iter().map(|layer| name_of(graph, layer.result)).collect();
    let mut b = Build::on(std::mem::replace(graph, Graph::new("")));
    let mixed = mix(&mut b, &layers, &stacks, (width, mixing));
    *graph = b.into_graph();
    mixed.map(|()| names)
}

/// A layer: what stands between two values.
struct Layer {
    z: Value,
    result: NodeId,
    steps: Vec<Step>,
    /// Its weights, as the steps read them.
    params: Vec<Value>,
}

/// A node of a layer.
#[derive(PartialEq)]
struct Step {
    def: &'static OpDef,
    attrs: Attrs,
    operands: Vec<Operand>,
}

/// What a node of a layer reads.
#[derive(PartialEq)]
enum Operand {
    /// What the layer reads.
    Z(TensorType),
    /// A result of one of its steps.
    Inner { step: usize, result: usize },
    /// The next weight.
    Param(TensorType),
    /// What does not depend on what the layer reads.
    Outside(Value),
}

impl Layer {
    fn has_matrix(&self) -> bool {
        let reads = |step: &Step| step.operands.iter().any(|operand| matches!(operand, Operand::Param(_)));
        self.steps.iter().any(|step| step.def == &MATMUL && reads(step))
    }

    /// The result for another `z`, of the layer whose number is `expert`. Of a stack, products read its matrix where it is.
    fn apply(&self, b: &mut Build, z: Value, params: &[Param], expert: Value) -> Result<Value, OpError> {
        let mut params = params.iter();
        let mut made: Vec<NodeId> = Vec::new();
        for step in &self.steps {
            let mut operands = Vec::with_capacity(step.operands.len());
            let mut stack_of = None;
            for (at, operand) in step.operands.iter().enumerate() {
                operands.push(match *operand {
                    Operand::Z(_) => z,
                    Operand::Inner { step, result } => Value { node: made[step], result },
                    Operand::Outside(value) => value,
                    Operand::Param(ref ty) => match *params
                        .next()
                        .expect("bug: a weight for each that is read")
                    {
                        Param::Same(value) => value,
                        Param::Stack(stack) if step.def == &MATMUL && at == 1 && ty.rank() == 2 => {
                            stack_of = Some(stack);
                            stack
                        }
                        Param::Stack(stack) => b.op_with(&GATHER, &[stack, expert], [gather::AXIS.is(0)])?,
                    },
                });
            }
            if let Some(stack) = stack_of {
                made.push(b.op(&GROUPED_MATMUL, &[operands[0], stack, expert])?.node);
                continue;
            }
            let origin = b.origin().clone();
            made.push(b.graph_mut().add_op(step.def, &operands, step.attrs.clone(), origin)?);
        }
        Ok((*made.last().expect("bug: a layer has steps")).into())
    }
}

/// What all of a graph passes through, one after the other.
struct Path<'a> {
    graph: &'a Graph,
    /// Nodes that outputs need and that depend on inputs, in order.
    nodes: Vec<NodeId>,
    /// Their places.
    places: BTreeMap<NodeId, usize>,
    /// Ops whose results say how large others are.
    deciders: BTreeSet<NodeId>,
    /// Places of nodes with one result; whatever follows from one of them goes to an output through the next.
    cuts: Vec<usize>,
}

impl<'a> Path<'a> {
    /// The longest one.
    fn of(graph: &'a Graph) -> Path<'a> {
        let needed = graph.needed(graph.roots());
        let mut places = BTreeMap::new();
        let mut nodes = Vec::new();
        for id in graph.order() {
            let depends = graph.operands(id).iter().any(|value| places.contains_key(&value.node));
            if needed.contains(&id) && (depends || matches!(graph.node(id).kind, Kind::Input(_))) {
                places.insert(id, nodes.len());
                nodes.push(id);
            }
        }
        let deciders = graph.deciders().into_values().filter(|&id| graph.node(id).op().is_some()).collect();
        let mut path = Path { graph, nodes, places, deciders, cuts: Vec::new() };
        path.cuts = path.longest();
        path
    }

    /// For each place the next that all uses of its node lead to; behind all nodes is the end.
    fn next(&self) -> Vec<usize> {
        let end = self.nodes.len();
        let outputs: BTreeSet<NodeId> = self.graph.outputs().iter().map(|value| value.node).collect();
        let mut next = vec![end; end];
        for place in (0..end).rev() {
            let id = self.nodes[place];
            let users = (0..self.graph.node(id).types.len())
                .flat_map(|result| self.graph.users(Value { node: id, result }))
                .filter_map(|(user, _)| self.places.get(&user).copied());
            let meet = |mut a: usize, mut b: usize| {
                while a != b {
                    if a < b { a = next[a] } else { b = next[b] }
                }
                a
            };
            let leaves = outputs.contains(&id) || self.deciders.contains(&id);
            next[place] = users.chain(leaves.then_some(end)).reduce(meet).unwrap_or(end);
        }
        next
    }

    /// From the end back to an input: of the nodes whose next one a node is, that from which the others follow, or else the
    /// one with the longest way before it.
    fn longest(&self) -> Vec<usize> {
        let next = self.next();
        let end = next.len();
        let (mut before, mut height) = (vec![Vec::new(); end + 1], vec![0_usize; end + 1]);
        for (place, &next) in next.iter().enumerate() {
            before[next].push(place);
            height[next] = height[next].max(height[place] + 1);
        }
        let mut path = Vec::new();
        let mut at = end;
        loop {
            let firsts = self.firsts(&before[at]);
            let Some(found) = firsts.into_iter().max_by_key(|&place| (height[place], end - place)) else {
                break;
            };
            path.push(found);
            at = found;
        }
        path.reverse();
        path.retain(|&place| self.graph.node(self.nodes[place]).types.len() == 1);
        path
    }

    /// Those of some places, in order, whose nodes are not computed from others of them.
    fn firsts(&self, all: &[usize]) -> Vec<usize> {
        let (Some(&low), Some(&high)) = (all.first(), all.last()) else { return Vec::new() };
        let mut follows = BTreeSet::new();
        for place in low..=high {
            let operands = self.graph.operands(self.nodes[place]);
            let mut operands = operands.iter().filter_map(|value| self.places.get(&value.node));
            if operands.any(|place| follows.contains(place) || all.binary_search(place).is_ok()) {
                follows.insert(place);
            }
        }
        all.iter().copied().filter(|place| !follows.contains(place)).collect()
    }

    /// What stands between two cuts, unless something in it cannot be applied again.
    fn layer(&self, from: usize, to: usize) -> Option<Layer> {
        let [from, to] = [from, to].map(|cut| self.cuts[cut]);
        let mut within = BTreeSet::new();
        for place in from + 1..=to {
            let reads = |value: &Value| value.node == self.nodes[from] || within.contains(&value.node);
            if self.graph.operands(self.nodes[place]).iter().any(reads) {
                within.insert(self.nodes[place]);
            }
        }
        let z = Value::from(self.nodes[from]);
        let mut layer = Layer { z, result: self.nodes[to], steps: Vec::new(), params: Vec::new() };
        // Operands come first, in the order in which they are read: layers of one form have one order.
        let mut made: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut open = vec![layer.result];
        while let Some(&id) = open.last() {
            let operands = self.graph.operands(id);
            let missing = |value: &&Value| within.contains(&value.node) && !made.contains_key(&value.node);
            if let Some(value) = operands.iter().find(missing) {
                open.push(value.node);
                continue;
            }
            open.pop();
            if made.contains_key(&id) {
                continue;
            }
            let (def, attrs) = self.graph.node(id).op()?;
            if self.graph.flow(id).is_some() || self.deciders.contains(&id) {
                return None;
            }
            let mut step = Step { def, attrs: attrs.clone(), operands: Vec::new() };
            for value in operands {
                let ty = || self.graph.ty(value).clone();
                step.operands.push(if value == z {
                    Operand::Z(ty())
                } else if let Some(&step) = made.get(&value.node) {
                    Operand::Inner { step, result: value.result }
                } else if self.places.contains_key(&value.node) {
                    Operand::Outside(value)
                } else {
                    layer.params.push(value);
                    Operand::Param(ty())
                });
            }
            made.insert(id, layer.steps.len());
            layer.steps.push(step);
        }
        Some(layer)
    }

    /// The layers that most of the path repeats: as short ones as there are, which end where the repetition ends.
    fn repeated(&self) -> Option<Vec<Layer>> {
        let count = self.cuts.len().checked_sub(1)?;
        let parts: Vec<Option<Layer>> = (0..count).map(|cut| self.layer(cut, cut + 1)).collect();
        // The first part of the same form.
        let same = |a: &Option<Layer>, b: &Option<Layer>| match (a, b) {
            (Some(a), Some(b)) => a.steps == b.steps,
            _ => false,
        };
        let forms: Vec<Option<usize>> =
            parts.iter().map(|part| parts.iter().position(|other| same(other, part))).collect();
        let mut best: Option<(usize, usize, usize)> = None;
        for period in 1..=count / 2 {
            let mut run = 0;
            for end in period..=count {
                if end < count && forms[end].is_some() && forms[end] == forms[end - period] {
                    run += 1;
                    continue;
                }
                let times = run / period + 1;
                let has_matrix = || parts[end - period..end].iter().flatten().any(Layer::has_matrix);
                let is_more = best.is_none_or(|(_, other, count)| other * count < period * times);
                if times > 1 && is_more && has_matrix() {
                    best = Some((end, period, times));
                }
                run = 0;
            }
        }
        let (end, period, times) = best?;
        (0..times).map(|t| self.layer(end - (times - t) * period, end - (times - t - 1) * period)).collect()
    }
}

/// What layers read for a weight.
enum Param {
    /// The same.
    Same(Value),
    /// Each its own, of a stack.
    Stack(Value),
}

/// The weights of all layers, unless one is not known before the model runs.
fn stacks(graph: &mut Graph, layers: &[Layer]) -> Option<Vec<Param>> {
    let mut stacks = Vec::new();
    for (number, &first) in layers[0].params.iter().enumerate() {
        let own: Option<Vec<Weight>> =
            layers.iter().map(|layer| weight(graph, layer.params[number])).collect();
        let own = own?;
        let tensor = own[0].tensor();
        stacks.push(match own.iter().all(|weight| weight.tensor() == tensor) {
            true => Param::Same(first),
            false => {
                let all = Weight::stack(own[0].name(), &own)?;
                Param::Stack(graph.add_weight(all, graph.node(layers[0].result).origin.clone()))
            }
        });
    }
    Some(stacks)
}

fn mix(
    b: &mut Build,
    layers: &[Layer],
    stacks: &[Param],
    (width, mixing): (usize, Mixing),
) -> Result<(), EditError> {
    let mut random = Random::new(mixing.seed);
    let mut z = layers[0].z;
    for layer in layers {
        b.set_origin(b.graph().node(layer.result).origin.clone());
        let gate =
            Tensor::from_fn(DType::F32, &[width, layers.len()], |_| Scalar::f32(random.small() as f32));
        let expert = chosen(b, z, &gate)?;
        let expert = layer.apply(b, z, stacks, expert)?;
        let result = Value::from(layer.result);
        let operands = b.graph().operands(layer.result);
        let own = rebuild::again(b.graph_mut(), layer.result, &operands)?;
        z = blended(b, own.into(), expert, mixing.own)?;
        b.graph_mut().replace_uses(result, z);
    }
    Ok(())
}

/// The layer that a gate chooses by the mean of its scores over all tokens, a number.
fn chosen(b: &mut Build, z: Value, gate: &Tensor) -> Result<Value, OpError> {
    let [width, layers] = gate.shape()[..] else { unreachable!("bug: a gate is a matrix") };
    let axes: Vec<i64> = (0..b.ty(z).rank() as i64 - 1).collect();
    let mean = reduce(b, &REDUCE_MEAN, z, &axes, false)?;
    let mean = reshape(b, mean, vec![Dim::constant(1), Dim::constant(width as i64)])?;
    let matrix = b.weight(Weight::from_tensor("gate.weight", gate));
    let bias = b.weight(Weight::from_tensor("gate.bias", &Tensor::splat(Scalar::f32(0.0), &[layers])));
    let scores = b.op(&MATMUL, &[mean, matrix])?;
    let scores = b.op(&ADD, &[scores, bias])?;
    let node = b.op_with(&ROUTE, &[scores], [K.is(1)])?.node;
    reshape(b, Value { node, result: 1 }, vec![])
}

/// `α own + (1 − α) expert`.
fn blended(b: &mut Build, own: Value, expert: Value, share: f64) -> Result<Value, OpError> {
    let share = Tensor::splat(Scalar::f32(share as f32), &[]);
    let share = b.weight(Weight::from_tensor("alpha", &share));
    let one = b.scalar(DType::F32, 1.0);
    let rest = b.op(&SUB, &[one, share])?;
    let [own, expert] = [b.op(&MUL, &[own, share])?, b.op(&MUL, &[expert, rest])?];
    b.op(&ADD, &[own, expert])
}
