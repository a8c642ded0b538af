//! Fewer experts: some of them are left out, and the router's scores for them.
//!
//! What the router makes of scores is the same, over fewer of them: a softmax over all experts is one over those that stay. A
//! model whose experts are never chosen computes the same without them if its gates do not depend on their scores.

use std::collections::{BTreeMap, BTreeSet};

use ir::graph::Value;
use ir::{Graph, NodeId, Scalar, Tensor, Weight};
use ops::linalg::matmul::MATMUL;

use super::layer::{Layer, constant, is, name_of};
use super::{EditError, rebuild};

/// Keeps these experts of a layer, in this order.
///
/// # Errors
/// Fewer experts than a token chooses; a router or matrices that cannot be followed.
pub fn prune(graph: &mut Graph, layer: &Layer, kept: &[usize]) -> Result<(), EditError> {
    layer.want_no_folded()?;
    if kept.len() < layer.chosen || kept.iter().any(|&expert| expert >= layer.experts) {
        let why = format!(
            "a token chooses {} of {} experts, and {} would stay",
            layer.chosen,
            layer.experts,
            kept.len()
        );
        return Err(EditError::Unfit { what: layer.name.clone(), why });
    }
    let node = |graph: &Graph, id: NodeId, why| EditError::Node {
        what: layer.name.clone(),
        why,
        node: name_of(graph, id),
    };
    let order = graph.order();
    let scores = scores(graph, layer).ok_or_else(|| {
        node(graph, layer.router, "its scores are no product of the tokens with a constant matrix")
    })?;
    if !graph.ty(scores.into()).shape.last().is_some_and(|last| last.is(layer.experts as i64)) {
        return Err(node(
            graph,
            scores,
            "its experts are groups already, of which the router knows the members",
        ));
    }
    let [x, matrix] = graph.operands(scores)[..] else { unreachable!("bug: a product has two operands") };
    let weights =
        constant(graph, matrix).ok_or_else(|| node(graph, scores, "the router's matrix is no constant"))?;
    let chosen = weight(graph, scores, &along_last(&weights, kept));
    let product = rebuild::again(graph, scores, &[x, chosen])?;
    let mut changed = BTreeMap::from([(Value::from(scores), Value::from(product))]);
    // The matrices and tables first: those who read them are applied once, with other ids.
    for (user, operand, _) in layer.stacks() {
        let value = graph.operands(user)[operand];
        let stack = constant(graph, value)
            .ok_or_else(|| node(graph, user, "the experts' weights are computed when the model runs"))?;
        let fewer = weight(graph, user, &along_first(&stack, kept));
        changed.insert(value, fewer);
    }
    // Whoever else looks at the ids must look at scores that follow.
    let follows = |id: &NodeId| graph.operands(*id).iter().any(|value| depends_on(graph, *value, scores));
    if let Some(&other) = layer.others.iter().find(|id| !follows(id)) {
        return Err(node(graph, other, "the numbers of experts are used for something else"));
    }
    if graph.outputs().contains(&layer.ids) {
        return Err(node(graph, layer.router, "the numbers of experts are an output"));
    }
    let experts = layer.experts as i64;
    let mut adapt = |graph: &mut Graph, user: NodeId, operand: Value| {
        let rows = graph.ty(operand).shape.last().is_some_and(|last| last.is(experts));
        // Rows of scores meet what there is for each expert, by its place in the last axis.
        let by_expert = graph.node(user).op().is_some_and(|(def, _)| def.semantics.is_elementwise());
        match constant(graph, operand).filter(|_| rows && by_expert) {
            Some(all) => Ok(weight(graph, user, &along_last(&all, kept))),
            None => Ok(operand),
        }
    };
    let refuse =
        |graph: &Graph, id: NodeId| node(graph, id, "what becomes of the scores depends on their number");
    rebuild::follow(graph, changed, &order, &mut adapt, &refuse)
}

/// The product that makes the scores of a router: the nearest with a column for each expert.
pub(super) fn scores(graph: &Graph, layer: &Layer) -> Option<NodeId> {
    let routed = graph.operands(layer.router)[0];
    let mut open = vec![routed.node];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) || graph.ty(id.into()).shape.last() != graph.ty(routed).shape.last() {
            continue;
        }
        if is(graph, id, &MATMUL) {
            return Some(id);
        }
        open.extend(graph.operands(id).into_iter().rev().map(|value| value.node));
    }
    None
}

/// Is a value computed from the results of a node, other than by ids?
fn depends_on(graph: &Graph, value: Value, source: NodeId) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![value]);
    while let Some(value) = open.pop() {
        if value.node == source {
            return true;
        }
        if graph.ty(value).dtype.is_float() && seen.insert(value.node) {
            open.extend(graph.operands(value.node));
        }
    }
    false
}

fn weight(graph: &mut Graph, of: NodeId, tensor: &Tensor) -> Value {
    let origin = graph.node(of).origin.clone();
    graph.add_weight(Weight::from_tensor("kept", tensor), origin)
}

/// These places along the first axis.
fn along_first(tensor: &Tensor, kept: &[usize]) -> Tensor {
    let mut shape = tensor.shape().to_vec();
    shape[0] = kept.len();
    let element = |at: &[usize]| -> Scalar { tensor.at(&[&[kept[at[0]]], &at[1..]].concat()) };
    Tensor::from_fn(tensor.dtype(), &shape, element)
}

/// These places along the last axis.
fn along_last(tensor: &Tensor, kept: &[usize]) -> Tensor {
    let mut shape = tensor.shape().to_vec();
    let last = shape.len() - 1;
    shape[last] = kept.len();
    let element = |at: &[usize]| -> Scalar { tensor.at(&[&at[..last], &[kept[at[last]]]].concat()) };
    Tensor::from_fn(tensor.dtype(), &shape, element)
}
