//! Another router: other gates of the same logits.
//!
//! With logits `z` of a token, of which `k` are chosen: `topk-softmax` (G1, Shazeer et al. 2017) weighs with the softmax of the chosen
//! logits; `softmax-topk` (G2, V-MoE) with the chosen of the softmax of all; `softmax-topk-renorm` (Swin-MoE) with these divided by their
//! sum, which is the same as the first; `sigmoid` (DeepSeek-V3) with the chosen sigmoids divided by their sum. The experts that are chosen
//! are the same.

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

use super::layer::{Layer, constant, is, name_of};
use super::{EditError, prune, rebuild};

/// How a token weighs the experts that it chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Router {
    /// `softmax(topk(z))`.
    TopkSoftmax,
    /// `topk(softmax(z))`.
    SoftmaxTopk,
    /// `topk(softmax(z))` divided by its sum.
    SoftmaxTopkRenorm,
    /// `topk(sigmoid(z))` divided by its sum.
    Sigmoid,
}

impl Router {
    /// Every router with its name.
    pub const ALL: [(&'static str, Router); 4] = [
        ("topk-softmax", Router::TopkSoftmax),
        ("softmax-topk", Router::SoftmaxTopk),
        ("softmax-topk-renorm", Router::SoftmaxTopkRenorm),
        ("sigmoid", Router::Sigmoid),
    ];
}

/// Gives a layer this router, of which a token takes as many experts as before. What the gates were scaled by is left out.
///
/// # Errors
/// A router whose logits are no product of the tokens, or a layer whose results are not added up with gates.
pub fn set_router(graph: &mut Graph, layer: &Layer, router: Router) -> Result<(), EditError> {
    let refuse = |graph: &Graph, id: NodeId, why| EditError::Node {
        what: layer.name.clone(),
        why,
        node: name_of(graph, id),
    };
    let product = prune::scores(graph, layer).ok_or_else(|| {
        refuse(graph, layer.router, "its scores are no product of the tokens with a matrix")
    })?;
    let combine = layer
        .combine
        .ok_or_else(|| refuse(graph, layer.router, "its experts' results are not added up with gates"))?;
    let logits = biased(graph, product);
    let mut b = Build::on(std::mem::replace(graph, Graph::new("")));
    b.set_origin(b.graph().node(layer.router).origin.clone());
    let made = gates(&mut b, logits, layer.chosen, router);
    *graph = b.into_graph();
    let (gates, ids) = made?;
    if graph.ty(ids) != graph.ty(layer.ids) || graph.ty(gates) != graph.ty(graph.operands(combine)[1]) {
        return Err(refuse(graph, combine, "the gates are of another shape than the router gives"));
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

fn gates(b: &mut Build, logits: Value, chosen: usize, router: Router) -> Result<(Value, Value), OpError> {
    let scores = match router {
        Router::TopkSoftmax => logits,
        Router::SoftmaxTopk | Router::SoftmaxTopkRenorm => b.op_with(&SOFTMAX, &[logits], [AXIS.is(-1)])?,
        Router::Sigmoid => b.op(&SIGMOID, &[logits])?,
    };
    let node = b.op_with(&ROUTE, &[scores], [K.is(chosen as i64)])?.node;
    let [values, ids] = [0, 1].map(|result| Value { node, result });
    let gates = match router {
        Router::TopkSoftmax => b.op_with(&SOFTMAX, &[values], [AXIS.is(-1)])?,
        Router::SoftmaxTopk => values,
        Router::SoftmaxTopkRenorm | Router::Sigmoid => {
            let sum = reduce(b, &REDUCE_SUM, values, &[-1], true)?;
            b.op(&DIV, &[values, sum])?
        }
    };
    Ok((gates, ids))
}
