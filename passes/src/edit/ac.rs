//! The router of ACMoE (Nielsen et al. 2025, arXiv 2502.15315): a token's features are scaled by how tight the cluster of its last
//! expert is along each of them, and routed then.
//!
//! The label `kₙ` of a token is its first expert in the layer of experts before; `R` is 1 + the largest number that any token
//! has there.
//!
//! - (A3) `cₖ = mean of x over the tokens of label k`, `sₖ = mean of |x − cₖ|` over them, per feature; without tokens, 0;
//! - (A4) `W = 1 / (s + 1e-4)`, and no more than 10 times its mean over clusters below `R` and all features;
//! - (A5) `W` is divided by its mean over clusters below `R`, per feature;
//! - (A2) `z = (W[kₙ] ∘ x) E`, with the router's matrix `E` and bias as they are.
//!
//! Constants are those of the authors' language models; experts read the tokens as they are, as there. Those divide the columns of `E`
//! by their norms, too, which a router that was trained without is not meant for. Weights depend on all tokens of the batch, also on later ones.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Graph, NodeId};
use ops::linalg::matmul::MATMUL;
use ops::math::abs::ABS;
use ops::math::add::ADD;
use ops::math::cast::convert;
use ops::math::div::DIV;
use ops::math::eq::EQ;
use ops::math::le::LE;
use ops::math::max::MAX;
use ops::math::min::MIN;
use ops::math::mul::MUL;
use ops::math::reciprocal::RECIPROCAL;
use ops::math::sub::SUB;
use ops::reduce::along::reduce;
use ops::reduce::reduce_max::REDUCE_MAX;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::gather::{self, GATHER};
use ops::shape::iota::iota;
use ops::shape::reshape::reshape;
use ops::shape::slice::slice_axis;
use ops::shape::transpose::swap_last_two;

use super::layer::Layer;
use super::{EditError, rebuild};

/// ε of (A4).
const EPSILON: f64 = 1e-4;

/// How many times the mean a weight may be.
const CLIP: f64 = 10.0;

/// Scales what a router's product reads, by the experts of the layer before.
///
/// # Errors
/// The layer before has other tokens, or comes after.
pub(super) fn scale(
    graph: &mut Graph,
    layer: &Layer,
    product: NodeId,
    before: &Layer,
) -> Result<(), EditError> {
    let operands = graph.operands(product);
    let count = |value: Value| {
        let (_, rows) = graph.ty(value).shape.split_last().expect("bug: tokens have features, and ids slots");
        rows.iter().cloned().product::<Dim>()
    };
    let (tokens, labels) = (count(operands[0]), count(before.ids));
    if tokens != labels {
        let why = format!("it routes {tokens} tokens, and the layer before, {} of it", labels);
        return Err(EditError::Unfit { what: layer.name.clone(), why });
    }
    if graph.needed([before.router]).contains(&product) {
        return Err(layer.refuse(graph, before.router, "the layer before it depends on its router"));
    }
    let scores = graph.ty(graph.operands(before.router)[0]).shape.last().cloned();
    let experts = scores.expect("bug: a router chooses among scores");
    let mut b = Build::on(std::mem::replace(graph, Graph::new("")));
    b.set_origin(b.graph().node(product).origin.clone());
    let made = scaled(&mut b, operands[0], (before, experts), tokens);
    *graph = b.into_graph();
    let operands = [&[made?], &operands[1..]].concat();
    rebuild::replace(graph, product, &operands)
}

/// `W[kₙ] ∘ x`, in the shape of `x`.
fn scaled(b: &mut Build, x: Value, (before, experts): (&Layer, Dim), tokens: Dim) -> Result<Value, OpError> {
    let shape = b.ty(x).shape.clone();
    let width = shape.last().cloned().expect("bug: tokens have features");
    let rows = reshape(b, x, vec![tokens.clone(), width])?;
    let ids = reshape(b, before.ids, vec![tokens.clone(), before.chosen.into()])?;
    let label = slice_axis(b, ids, 1, Dim::constant(0), Dim::constant(1))?;
    let label = reshape(b, label, vec![tokens])?;
    let weights = weights(b, rows, ids, label, experts)?;
    let weights = gather(b, weights, label)?;
    let weights = reshape(b, weights, shape)?;
    b.op(&MUL, &[weights, x])
}

/// (A3) to (A5): `x: [N, D]`, `ids: [N, K]`, `label: [N]` → `[E, D]`.
fn weights(b: &mut Build, x: Value, ids: Value, label: Value, experts: Dim) -> Result<Value, OpError> {
    let dtype = b.ty(label).dtype;
    let (tokens, width) = (b.ty(x).shape[0].clone(), b.ty(x).shape[1].clone());
    let all = iota(b, experts.clone(), dtype)?;
    let column = reshape(b, label, vec![tokens, Dim::constant(1)])?;
    let hot = b.op(&EQ, &[column, all])?;
    let hot = convert(b, hot, DType::F32)?;
    let hot = swap_last_two(b, hot)?;
    let one = b.scalar(DType::F32, 1.0);
    let size = reduce(b, &REDUCE_SUM, hot, &[1], true)?;
    let size = b.op(&MAX, &[size, one])?;
    let mean = |b: &mut Build, values: Value| {
        let sum = b.op(&MATMUL, &[hot, values])?;
        b.op(&DIV, &[sum, size])
    };
    let centre = mean(b, x)?;
    let centre = gather(b, centre, label)?;
    let away = b.op(&SUB, &[x, centre])?;
    let away = b.op(&ABS, &[away])?;
    let away = mean(b, away)?;
    let epsilon = b.scalar(DType::F32, EPSILON);
    let away = b.op(&ADD, &[away, epsilon])?;
    let weights = b.op(&RECIPROCAL, &[away])?;
    // Clusters below R count in means.
    let last = reduce(b, &REDUCE_MAX, ids, &[0, 1], false)?;
    let counts = b.op(&LE, &[all, last])?;
    let counts = convert(b, counts, DType::F32)?;
    let counts = reshape(b, counts, vec![experts, Dim::constant(1)])?;
    let clusters = reduce(b, &REDUCE_SUM, counts, &[0], true)?;
    let mean = |b: &mut Build, weights: Value| {
        let counted = b.op(&MUL, &[weights, counts])?;
        let sum = reduce(b, &REDUCE_SUM, counted, &[0], true)?;
        b.op(&DIV, &[sum, clusters])
    };
    let features = b.scalar(DType::F32, width.as_const().map_or(1.0, |width| width as f64));
    let whole = mean(b, weights)?;
    let whole = reduce(b, &REDUCE_SUM, whole, &[1], true)?;
    let whole = b.op(&DIV, &[whole, features])?;
    let clip = b.scalar(DType::F32, CLIP);
    let most = b.op(&MUL, &[whole, clip])?;
    let weights = b.op(&MIN, &[weights, most])?;
    let whole = mean(b, weights)?;
    b.op(&DIV, &[weights, whole])
}

fn gather(b: &mut Build, rows: Value, ids: Value) -> Result<Value, OpError> {
    b.op_with(&GATHER, &[rows, ids], [gather::AXIS.is(0)])
}
