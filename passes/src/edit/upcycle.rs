//! A dense layer becomes one of experts, each with the weights of the layer.
//!
//! `y = act(x·W1 + b1)·W2 + b2` becomes the weighted sum of `k` of `E` experts that are all this function; gates add up to 1, so that
//! nothing changes until the experts are trained apart. The router is a matrix of small numbers from a seed. Source: Sparse
//! Upcycling (Komatsuzaki et al. 2023, arXiv 2212.05055).

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Graph, NodeId, Scalar, Tensor, Weight};
use ops::linalg::combine::COMBINE;
use ops::linalg::grouped_matmul::GROUPED_MATMUL;
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::gelu::GELU;
use ops::math::relu::RELU;
use ops::math::silu::SILU;
use ops::norm::AXIS;
use ops::norm::softmax::SOFTMAX;
use ops::order::route::{K, ROUTE};
use ops::shape::gather::{self, GATHER};
use ops::shape::reshape::reshape;

use super::EditError;
use super::layer::{constant, is, name_of};
use super::random::Random;

/// What a dense layer is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upcycling {
    /// How many experts.
    pub experts: usize,
    /// How many of them a token chooses.
    pub chosen: usize,
    /// What the routers are drawn from.
    pub seed: u64,
}

/// A dense layer: two products with an activation between them.
struct Dense {
    name: String,
    x: Value,
    first: Linear,
    activation: NodeId,
    second: Linear,
    result: Value,
}

/// `x·W + b`.
struct Linear {
    matrix: Tensor,
    bias: Option<Tensor>,
    result: Value,
}

/// Makes experts of every dense layer of two products with ReLU, GELU or SiLU between them, whose result has the width of its
/// input. Gives their names, at least one.
///
/// # Errors
/// There is no such layer; fewer experts than are chosen.
pub fn upcycle(graph: &mut Graph, upcycling: Upcycling) -> Result<Vec<String>, EditError> {
    let Upcycling { experts, chosen, seed } = upcycling;
    if chosen == 0 || chosen > experts {
        let why = format!("{chosen} of {experts} experts cannot be chosen");
        return Err(EditError::Unfit { what: "upcycling".to_owned(), why });
    }
    let mut names = Vec::new();
    while let Some(layer) = first_dense(graph) {
        let mut b = Build::on(std::mem::replace(graph, Graph::new("")));
        b.set_origin(b.graph().node(layer.result.node).origin.clone());
        let made = mixture(&mut b, &layer, upcycling, seed.wrapping_add(names.len() as u64));
        *graph = b.into_graph();
        graph.replace_uses(layer.result, made?);
        names.push(layer.name);
    }
    match names.is_empty() {
        true => {
            let why = "the model has no dense layer of two products with ReLU, GELU or SiLU between them"
                .to_owned();
            Err(EditError::Unfit { what: "upcycling".to_owned(), why })
        }
        false => Ok(names),
    }
}

/// The first dense layer that the graph still needs.
fn first_dense(graph: &Graph) -> Option<Dense> {
    let needed = graph.needed(graph.roots());
    graph.order().into_iter().filter(|id| needed.contains(id)).find_map(|id| dense(graph, id))
}

/// The dense layer that ends in this product.
fn dense(graph: &Graph, id: NodeId) -> Option<Dense> {
    let second = linear(graph, id)?;
    let [inner, _] = graph.operands(id)[..] else { return None };
    let activation = inner.node;
    let known = [&RELU, &GELU, &SILU].into_iter().any(|def| is(graph, activation, def));
    let alone = |value: Value| graph.users(value).len() == 1;
    if !known || !alone(inner) {
        return None;
    }
    let before = graph.operands(activation)[0];
    let product = match is(graph, before.node, &ADD) {
        true => graph
            .operands(before.node)
            .into_iter()
            .map(|value| value.node)
            .find(|&id| is(graph, id, &MATMUL))?,
        false => before.node,
    };
    let first = linear(graph, product).filter(|first| first.result == before && alone(before))?;
    let x = graph.operands(product)[0];
    let result = second.result;
    (graph.ty(x) == graph.ty(result)).then(|| Dense {
        name: name_of(graph, id),
        x,
        first,
        activation,
        second,
        result,
    })
}

/// The product with a constant matrix, and the bias behind it.
fn linear(graph: &Graph, id: NodeId) -> Option<Linear> {
    if !is(graph, id, &MATMUL) || graph.ty(id.into()).dtype != DType::F32 {
        return None;
    }
    let matrix = constant(graph, graph.operands(id)[1]).filter(|matrix| matrix.shape().len() == 2)?;
    let cols = matrix.shape()[1];
    let biased = match graph.users(id.into())[..] {
        [(user, operand)] if is(graph, user, &ADD) => {
            let other = graph.operands(user)[1 - operand];
            let bias = constant(graph, other)
                .filter(|bias| bias.elements() == cols && bias.shape().last() == Some(&cols));
            bias.map(|bias| (bias.reshaped(&[cols]).expect("as many elements"), user))
        }
        _ => None,
    };
    Some(match biased {
        Some((bias, user)) => Linear { matrix, bias: Some(bias), result: user.into() },
        None => Linear { matrix, bias: None, result: id.into() },
    })
}

fn mixture(b: &mut Build, layer: &Dense, upcycling: Upcycling, seed: u64) -> Result<Value, OpError> {
    let Upcycling { experts, chosen, .. } = upcycling;
    let shape = b.ty(layer.x).shape.clone();
    let (width, rows) = shape.split_last().expect("a product has an axis");
    let tokens: Dim = rows.iter().cloned().product();
    let flat = reshape(b, layer.x, vec![tokens.clone(), width.clone()])?;
    let matrix = b.constant(&router(layer.first.matrix.shape()[0], experts, seed));
    let scores = b.op(&MATMUL, &[flat, matrix])?;
    let routed = b.op_with(&ROUTE, &[scores], [K.is(chosen as i64)])?.node;
    let [values, ids] = [0, 1].map(|result| Value { node: routed, result });
    let gates = b.op_with(&SOFTMAX, &[values], [AXIS.is(-1)])?;
    let each = reshape(b, flat, vec![tokens, Dim::constant(1), width.clone()])?;
    let hidden = expert(b, each, &layer.first, ids, experts)?;
    let (def, attrs) =
        b.graph().node(layer.activation).op().map(|(def, attrs)| (def, attrs.clone())).expect("an op");
    let origin = b.origin().clone();
    let hidden = b.graph_mut().add_op(def, &[hidden], attrs, origin)?;
    let results = expert(b, hidden.into(), &layer.second, ids, experts)?;
    let sum = b.op(&COMBINE, &[results, gates])?;
    reshape(b, sum, shape)
}

/// One of a layer's products, by experts.
fn expert(b: &mut Build, x: Value, of: &Linear, ids: Value, experts: usize) -> Result<Value, OpError> {
    let stack = stacked(b, &of.matrix, experts);
    let product = b.op(&GROUPED_MATMUL, &[x, stack, ids])?;
    let Some(bias) = &of.bias else { return Ok(product) };
    let biases = stacked(b, bias, experts);
    let chosen = b.op_with(&GATHER, &[biases, ids], [gather::AXIS.is(0)])?;
    b.op(&ADD, &[product, chosen])
}

/// The same so many times: views of one.
fn stacked(b: &mut Build, tensor: &Tensor, count: usize) -> Value {
    let one = Weight::from_tensor("expert", tensor);
    let all = Weight::stack("experts", &vec![one; count]).expect("bug: equal parts make a stack");
    b.weight(all)
}

fn router(width: usize, experts: usize, seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    Tensor::from_fn(DType::F32, &[width, experts], |_| Scalar::f32(random.small() as f32))
}
