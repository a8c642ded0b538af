//! Shared experts, which every token takes, become experts of the grouped products that every token chooses.
//!
//! With ids and gates of `K` experts out of `E`, `y = Σₖ gₖ·F(idₖ, x) + s·F'(x)` becomes
//!
//! `y = Σₖ g'ₖ·F(id'ₖ, x)` with `id' = [id, E, …, E + n − 1]`, `g' = [g, s, …, s]`
//!
//! where the matrices of `F'` stand behind the others in the stacks. An expert that is `n` times as wide as a routed one is `n` of
//! them: `W2·act(W1·x)` is a sum over hidden features, of which each takes its share; a bias of the result is that of the first.
//! Values are the same up to the order of sums. Nothing is computed that was not before, in fewer kernels: products of the
//! shared expert are pieces of the grouped ones. (To add it to the experts' own matrices instead would compute it once for each
//! choice, and be right only where gates add up to 1.)
//!
//! `F'` is compared with `F` op by op, so that it does not matter what they are; `s` may be a number, or a gate of the token.
//! Source: DeepSeekMoE (Dai et al. 2024, arXiv 2401.06066), whose shared experts are chosen always; Qwen2-MoE for their gate.

mod compare;

use std::collections::BTreeMap;
use std::ops::Range;

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Graph, NodeId, Scalar, Tensor, Weight};
use ops::linalg::combine::COMBINE;
use ops::math::add::ADD;
use ops::math::mul::MUL;
use ops::shape::broadcast::broadcast;
use ops::shape::concat::{self, CONCAT};
use ops::shape::reshape::{RESHAPE, reshape};

use super::body::{Apply, Body, keeps_rows, tokens};
use super::layer::{self, Layer, is, name_of};
use super::{EditError, layers, rebuild};
use compare::{Likeness, compare};

/// A shared expert that was folded in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The layer.
    pub layer: Layer,
    /// What the expert is called: like the node that ends it.
    pub name: String,
    /// Which experts of the layer it is now.
    pub experts: Range<usize>,
}

/// Folds the shared experts of all layers into their grouped products; there is at least one.
///
/// # Errors
/// There is none, or one that is not built as the routed experts are.
pub fn fold_shared(graph: &mut Graph) -> Result<Vec<Shared>, EditError> {
    // What nobody needs would be in the way where nobody else may look at a sum.
    rebuild::drop_unneeded(graph);
    let before = layers(graph)?;
    let mut folded: Vec<Shared> = Vec::new();
    for router in before.iter().map(|layer| layer.router) {
        let mut count = 0;
        loop {
            let found = layers(graph)?.into_iter().find(|layer| layer.router == router);
            match fold_one(graph, &found.expect("bug: the layer is still there")) {
                Ok(Some(shared)) => folded.push(shared),
                Ok(None) => break,
                Err(error) if count == 0 => return Err(error),
                Err(_) => break,
            }
            count += 1;
            rebuild::drop_unneeded(graph);
        }
    }
    match folded.is_empty() {
        false => Ok(folded),
        true => {
            let why = "no dense expert that reads what its experts read is added to what they say".to_owned();
            Err(EditError::Unfit { what: before[0].name.clone(), why })
        }
    }
}

/// Folds a shared expert, if there is one.
fn fold_one(graph: &mut Graph, layer: &Layer) -> Result<Option<Shared>, EditError> {
    let body = Body::of(graph, layer)?;
    let combine = layer.combine.expect("bug: a body ends in a sum");
    let mut refused: Option<(usize, EditError)> = None;
    for addend in addends(graph, combine) {
        let leaf = graph.operands(addend.sum)[addend.operand];
        let needed = graph.needed([leaf.node]);
        let reads_tokens = needed.contains(&body.tokens.node) && tokens(graph, leaf) != body.tokens;
        if !reads_tokens || needed.contains(&combine) {
            continue;
        }
        for (value, gate) in [Some((leaf, None)), gated(graph, leaf)].into_iter().flatten() {
            match compare(graph, &body, value) {
                Ok(likeness) => return fold(graph, &body, addend, Found { likeness, value, gate }).map(Some),
                Err((far, error)) if refused.as_ref().is_none_or(|(most, _)| far >= *most) => {
                    refused = Some((far, error));
                }
                Err(_) => {}
            }
        }
    }
    refused.map_or(Ok(None), |(_, error)| Err(error))
}

/// Something that is added to what the experts say.
#[derive(Debug, Clone, Copy)]
struct Addend {
    /// Where it is added.
    sum: NodeId,
    /// Which operand of the sum it is.
    operand: usize,
}

/// All that is added to what the experts say, where nothing else looks at the sums before.
fn addends(graph: &Graph, combine: NodeId) -> Vec<Addend> {
    let outputs = graph.outputs();
    let alone = |value: Value| match graph.users(value)[..] {
        [user] if !outputs.contains(&value) => Some(user),
        _ => None,
    };
    let (mut found, mut value) = (Vec::new(), Value::from(combine));
    while let Some((user, operand)) = alone(value) {
        if is(graph, user, &ADD) {
            let mut open = vec![Addend { sum: user, operand: 1 - operand }];
            while let Some(addend) = open.pop() {
                let value = graph.operands(addend.sum)[addend.operand];
                let other = graph.operands(addend.sum)[1 - addend.operand];
                // Without the addend, the sum is the other.
                if graph.ty(other) == graph.ty(addend.sum.into()) {
                    found.push(addend);
                }
                if is(graph, value.node, &ADD) && alone(value).is_some() {
                    open.extend([1, 0].map(|operand| Addend { sum: value.node, operand }));
                }
            }
        } else if !is(graph, user, &RESHAPE) {
            break;
        }
        value = user.into();
    }
    found
}

/// What is multiplied by a number for each token, and that number.
fn gated(graph: &Graph, mut value: Value) -> Option<(Value, Option<Value>)> {
    while is(graph, value.node, &RESHAPE) && keeps_rows(graph, value, graph.operands(value.node)[0]) {
        value = graph.operands(value.node)[0];
    }
    if !is(graph, value.node, &MUL) {
        return None;
    }
    let [a, b] = graph.operands(value.node)[..] else { return None };
    let is_gate = |gate: Value| graph.ty(gate).shape.last().is_none_or(|last| last.is(1));
    [(a, b), (b, a)].into_iter().find_map(|(x, gate)| is_gate(gate).then_some((x, Some(gate))))
}

/// A shared expert.
struct Found {
    likeness: Likeness,
    /// What it says.
    value: Value,
    /// What that is multiplied by.
    gate: Option<Value>,
}

/// Puts a shared expert behind the others.
fn fold(graph: &mut Graph, body: &Body, addend: Addend, found: Found) -> Result<Shared, EditError> {
    let (layer, parts) = (body.layer, found.likeness.parts);
    let combine = layer.combine.expect("bug: a body ends in a sum");
    let first = layer.experts + layer.always;
    let mut stacks = Vec::new();
    for (node, operand, _) in layer.stacks() {
        let stack = graph.operands(node)[operand];
        let own = layer::weight(graph, stack).ok_or_else(|| {
            layer.refuse(graph, node, "the experts' weights are computed when the model runs")
        })?;
        let shared = Weight::of("shared", found.likeness.behind(node, own.dtype(), own.shape()));
        let all = Weight::concat("experts", &[&own, &shared], 0).expect("bug: both have the same matrices");
        stacks.push((node, all));
    }
    let gate_is_for_tokens = |gate: Value| {
        let count: Dim = graph.ty(gate).shape.iter().cloned().product();
        count.is(1) || count == body.rows.iter().cloned().product()
    };
    if let Some(gate) =
        found.gate.filter(|gate| !gate_is_for_tokens(*gate) || graph.ty(*gate).dtype != DType::F32)
    {
        return Err(layer.refuse(graph, gate.node, "the shared expert's gate is no number for each token"));
    }
    let name = name_of(graph, found.value.node);
    let mut b = Build::on(std::mem::replace(graph, Graph::new("")));
    b.set_origin(b.graph().node(combine).origin.join(&b.graph().node(found.value.node).origin));
    let stacks = stacks.into_iter().map(|(node, all)| (node, b.weight(all))).collect();
    let with_more = |b: &mut Build, ids: Value| {
        let shape = body.slots(layer.chosen + layer.always);
        let ids = reshape(b, ids, shape)?;
        let dtype = b.ty(ids).dtype;
        let more = Tensor::from_fn(dtype, &[parts], |at| Scalar::from_i64(dtype, (first + at[0]) as i64));
        let more = b.constant(&more);
        beside(b, body, ids, more, parts)
    };
    let made = weighed(&mut b, body, &found, &with_more, &stacks);
    *graph = b.into_graph();
    graph.replace_uses(combine.into(), made?);
    let other = graph.operands(addend.sum)[1 - addend.operand];
    graph.replace_uses(addend.sum.into(), other);
    Ok(Shared { layer: layer.clone(), name, experts: first..first + parts })
}

/// The weighed sum of all that the experts say, in the shape that it had.
fn weighed(
    b: &mut Build,
    body: &Body,
    found: &Found,
    ids: &dyn Fn(&mut Build, Value) -> Result<Value, OpError>,
    stacks: &BTreeMap<NodeId, Value>,
) -> Result<Value, EditError> {
    let tokens = body.row_of_tokens(b)?;
    let results = body.apply(b, &Apply { tokens, ids, stacks })?;
    let gate = match found.gate {
        None => b.constant(&Tensor::from_f32(&[1], &[1.0])),
        Some(gate) if b.ty(gate).shape.iter().all(|size| size.is(1)) => {
            reshape(b, gate, vec![1usize.into()])?
        }
        Some(gate) => {
            let shape = body.slots(1);
            reshape(b, gate, shape)?
        }
    };
    let gates = beside(b, body, body.gates, gate, found.likeness.parts)?;
    Ok(b.op(&COMBINE, &[results, gates])?)
}

/// `[rows…, K]`, and behind that `more`, stretched to so many for each row.
fn beside(b: &mut Build, body: &Body, slots: Value, more: Value, count: usize) -> Result<Value, OpError> {
    let shape = body.slots(count);
    let more = broadcast(b, more, shape)?;
    b.op_with(&CONCAT, &[slots, more], [concat::AXIS.is(-1)])
}
