//! A router with its experts, as every model of this folder has them.

use ir::graph::Value;

use crate::init::Start;
use crate::net::{Activation, Built, Capacity, Experts, Net, Order, Routing};
use crate::setting::{Config, Setting, choice, integer};

pub(super) const DIM: Setting = integer("dim", 352, 1, "width D of tokens");
pub(super) const HIDDEN: Setting =
    integer("hidden", 352, 1, "width H of experts, and of feed-forward layers beside them");
pub(super) const EXPERTS: Setting = integer("experts", 16, 1, "experts E");
pub(super) const CHOSEN: Setting = integer("k", 2, 1, "experts K that a token goes to");
pub(super) const ACTIVATION: Setting =
    choice("activation", &["relu", "gelu", "gelu-tanh", "silu"], "between the products of an expert");

/// The sizes of a router and its experts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) dim: usize,
    pub(super) hidden: usize,
    pub(super) experts: usize,
    pub(super) k: usize,
    pub(super) order: Order,
    pub(super) activation: Activation,
    /// Have scores a bias?
    pub(super) bias: bool,
    pub(super) capacity: Option<Capacity>,
}

impl Plan {
    /// Gates (G1) of scores with a bias, ReLU, no capacity, and sizes as `dim`, `hidden`, `experts` and `k` say: the layer
    /// of the language models.
    ///
    /// # Errors
    /// A token is to choose more experts than there are.
    pub(super) fn of(config: &Config) -> Built<Plan> {
        let [dim, hidden] = ["dim", "hidden"].map(|name| config.integer(name));
        let (experts, k) = chosen(config)?;
        let (order, activation) = (Order::Chosen, Activation::Relu);
        Ok(Plan { dim, hidden, experts, k, order, activation, bias: true, capacity: None })
    }
}

/// The settings `experts` and `k`.
///
/// # Errors
/// A token is to choose more experts than there are.
pub(super) fn chosen(config: &Config) -> Built<(usize, usize)> {
    let (experts, k) = (config.integer("experts"), config.integer("k"));
    if k > experts {
        return Err(config.unfit(format!("`k` = {k} is more than `experts` = {experts}")));
    }
    Ok((experts, k))
}

/// What [`ACTIVATION`] says.
pub(super) fn activation(config: &Config) -> Activation {
    match config.word("activation") {
        "relu" => Activation::Relu,
        "gelu" => Activation::Gelu,
        "gelu-tanh" => Activation::GeluTanh,
        _ => Activation::Silu,
    }
}

/// A router with its experts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    plan: Plan,
    /// `Wgᵀ: [D, E]`, and `bg: [E]`.
    gate: (Value, Option<Value>),
    experts: Experts,
}

impl Layer {
    /// Of weights `gate.weight: [E, D]`, `gate.bias: [E]`, and those of the experts.
    pub(super) fn new(net: &mut Net, plan: Plan) -> Built<Layer> {
        let Plan { dim, experts, .. } = plan;
        let gate = net.within("gate", |net| {
            let start = Start::Xavier { fan_in: dim, fan_out: experts };
            let weight = net.weight("weight", &[experts, dim], start)?;
            let bias = plan.bias.then(|| net.weight("bias", &[experts], Start::Zeros)).transpose()?;
            Ok((net.transposed(weight)?, bias))
        })?;
        let experts = net.experts(experts, [dim, plan.hidden], plan.activation)?;
        Ok(Layer { plan, gate, experts })
    }

    /// `SMoE(x)`, of `x: […, D]`.
    pub(super) fn of(&self, net: &mut Net, x: Value) -> Built<Value> {
        let routing = self.route(net, x)?;
        self.mixed(net, x, routing)
    }

    /// `Σⱼ gⱼ FFN_idsⱼ(x)`.
    pub(super) fn mixed(&self, net: &mut Net, x: Value, routing: Routing) -> Built<Value> {
        net.mixed(x, &self.experts, routing)
    }

    /// Which experts tokens go to.
    pub(super) fn route(&self, net: &mut Net, x: Value) -> Built<Routing> {
        let (weight, bias) = self.gate;
        let mut scores = net.matmul(x, weight)?;
        if let Some(bias) = bias {
            scores = net.add(scores, bias)?;
        }
        let routing = net.routed(scores, self.plan.k, self.plan.order)?;
        match self.plan.capacity {
            Some(capacity) => net.seated(routing, self.plan.experts, capacity),
            None => Ok(routing),
        }
    }
}
