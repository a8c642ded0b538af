//! Another router: other gates of the same logits.
//!
//! With logits `z` of a token, of which `k` are chosen: `topk-softmax` (G1, Shazeer et al. 2017) weighs with the softmax of the chosen
//! logits; `softmax-topk` (G2, V-MoE) with the chosen of the softmax of all; `softmax-topk-renorm` (Swin-MoE) with these divided by their
//! sum, which is the same as the first; `sigmoid` (DeepSeek-V3) with the chosen sigmoids divided by their sum. The experts that are chosen
//! are the same. `ac` is another thing: see [`ac`].

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{Graph, NodeId};
use ops::math::add::ADD;
use ops::math::div::DIV;
use ops::math::sigmoid::SIGMOID;
use ops::norm::AXIS;
use ops::norm::softmax::SOFTMAX;
use ops::order::route::{K, ROUTE};
use ops::reduce::along::reduce;
use ops::reduce::reduce_sum::REDUCE_SUM;

use super::layer::{Layer, constant, is};
use super::{EditError, ac, prune, rebuild};

/// How a token weighs the experts that it chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gates {
    /// `softmax(topk(z))`.
    TopkSoftmax,
    /// `topk(softmax(z))`.
    SoftmaxTopk,
    /// `topk(softmax(z))` divided by its sum.
    SoftmaxTopkRenorm,
    /// `topk(sigmoid(z))` divided by its sum.
    Sigmoid,
}

/// What is to be another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Router {
    /// The gates, of the same logits.
    Gates(Gates),
    /// The logits, of features that are scaled by how tight clusters are; gates are made of them as before.
    Ac,
}

impl Router {
    /// Every router with its name.
    pub const ALL: [(&'static str, Router); 5] = [
        ("topk-softmax", Router::Gates(Gates::TopkSoftmax)),
        ("softmax-topk", Router::Gates(Gates::SoftmaxTopk)),
        ("softmax-topk-renorm", Router::Gates(Gates::SoftmaxTopkRenorm)),
        ("sigmoid", Router::Gates(Gates::Sigmoid)),
        ("ac", Router::Ac),
    ];
}

/// Gives the layer of this number a router, of which a token takes as many experts as before. What the gates were scaled by is
/// left out. Says whether there was anything to do: the first layer cannot have the router `ac`, and stays as it is if others can.
///
/// # Errors
/// A router whose logits are no product of the tokens, a layer whose results are not added up with gates, or no layer before the
/// only one.
pub fn set_router(
    graph: &mut Graph,
    layers: &[Layer],
    number: usize,
    router: Router,
) -> Result<bool, EditError> {
    let layer = &layers[number];
    layer.want_no_folded()?;
    let product = prune::scores(graph, layer).ok_or_else(|| {
        layer.refuse(graph, layer.router, "its scores are no product of the tokens with a matrix")
    })?;
    match (router, number.checked_sub(1)) {
        (Router::Gates(gates), _) => set_gates(graph, layer, product, gates)?,
        (Router::Ac, Some(before)) => ac::scale(graph, layer, product, &layers[before])?,
        (Router::Ac, None) if layers.len() > 1 => return Ok(false),
        (Router::Ac, None) => {
            let why = "the router `ac` needs the experts of a layer before, and there is none".to_owned();
            return Err(EditError::Unfit { what: layer.name.clone(), why });
        }
    }
    Ok(true)
}

fn set_gates(graph: &mut Graph, layer: &Layer, product: NodeId, gates: Gates) -> Result<(), EditError> {
    let combine = layer.combine.ok_or_else(|| {
        layer.refuse(graph, layer.router, "its experts' results are not added up with gates")
    })?;
    let logits = biased(graph, product);
    let mut b = Build::on(std::mem::replace(graph, Graph::new("")));
    b.set_origin(b.graph().node(layer.router).origin.clone());
    let made = routed(&mut b, logits, layer.chosen, gates);
    *graph = b.into_graph();
    let (gates, ids) = made?;
    if graph.ty(ids) != graph.ty(layer.ids) || graph.ty(gates) != graph.ty(graph.operands(combine)[1]) {
        return Err(layer.refuse(graph, combine, "the gates are of another shape than the router gives"));
    }
    graph.replace_uses(layer.ids, ids);
    let mut operands = graph.operands(combine);
    operands[1] = gates;
    rebuild::replace(graph, combine, &operands)
}

/// The logits: the product, with its bias.
fn biased(graph: &Graph, product: NodeId) -> Value {
    match graph.users(product.into())[..] {
        [(user, operand)]
            if is(graph, user, &ADD) && constant(graph, graph.operands(user)[1 - operand]).is_some() =>
        {
            user.into()
        }
        _ => product.into(),
    }
}

fn routed(b: &mut Build, logits: Value, chosen: usize, gates: Gates) -> Result<(Value, Value), OpError> {
    let scores = match gates {
        Gates::TopkSoftmax => logits,
        Gates::SoftmaxTopk | Gates::SoftmaxTopkRenorm => b.op_with(&SOFTMAX, &[logits], [AXIS.is(-1)])?,
        Gates::Sigmoid => b.op(&SIGMOID, &[logits])?,
    };
    let node = b.op_with(&ROUTE, &[scores], [K.is(chosen as i64)])?.node;
    let [values, ids] = [0, 1].map(|result| Value { node, result });
    let gates = match gates {
        Gates::TopkSoftmax => b.op_with(&SOFTMAX, &[values], [AXIS.is(-1)])?,
        Gates::SoftmaxTopk => values,
        Gates::SoftmaxTopkRenorm | Gates::Sigmoid => {
            let sum = reduce(b, &REDUCE_SUM, values, &[-1], true)?;
            b.op(&DIV, &[values, sum])?
        }
    };
    Ok((gates, ids))
}
