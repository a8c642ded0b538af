//! ACMoE (Nielsen et al. 2025, arXiv 2502.15315): a router that scales the features of a token by how tight the cluster of its
//! last expert is along each of them.
//!
//! The label `kₙ` of a token is its first expert in the layer of experts below; `R` is 1 + the largest expert that any token
//! chose there.
//!
//! - (A3) `cₖ = mean of x over the tokens of label k`, `sₖ = mean of |x − cₖ|` over them, per feature; a cluster without tokens
//!   has the mean 0;
//! - (A4) `W = 1 / (s + ε)`; `mean`, that of `W` over clusters that count and all features; `W = min(W, clip · mean)`;
//! - (A5) `W` is divided by its mean over clusters per feature (`scale=per-feature`), by `mean` (`global`), or by its mean over
//!   all after the clip (`global-after`);
//! - (A6) `z = (W[kₙ] ∘ x) Ê ᵀ`, `Ê` the rows of `embedding: [E, D]` divided by their norm or by 1e-4; gates (G1);
//! - (A7), (A8) `lm` and `glam`: only the router reads scaled tokens; the first `plain` layers of experts have the ordinary
//!   router. Dense layers of `glam` hand labels on;
//! - (A9) `swin-mlp`: pre-norm, scaled tokens feed router and experts; gates (G2) divided by their sum, no bias, GELU, and a
//!   residual.
//!
//! With `empty=official`, the clusters that count in means are those below `R`, also one without tokens, whose weight is `1/ε`:
//! as in the authors' code, and the normal case for few tokens. `empty=skip` counts only clusters with tokens: our variant.
//! Weights depend on all tokens of the batch, also on later ones: a text that is decoded token by token has others.
//!
//! Verified against the authors' code: weights of all three kinds, router, language models. Read: the block around the weights
//! in `swin-mlp`, without the capacity that it has there. Of Soft MoE there are the weights.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::math::gt::GT;
use ops::math::lt::LT;
use ops::math::reciprocal::RECIPROCAL;
use ops::reduce::reduce_max::REDUCE_MAX;
use ops::reduce::reduce_sum::REDUCE_SUM;

use super::language::{self, DEPTH, HEADS, Half, NORM, SPAN, WORDS};
use super::layer::{CHOSEN, DIM, EXPERTS, HIDDEN, Layer, Plan};
use crate::init::Start;
use crate::net::{Activation, Built, Net, Order, Routing, symbol};
use crate::setting::{Config, choice, integer, real};
use crate::{Entry, Form};

/// The least norm that a row of (A6) is divided by.
const LEAST_NORM: f64 = 1e-4;

/// The model.
pub const ACMOE: Entry = Entry {
    name: "acmoe",
    about: "ACMoE: routers scale features by the tightness of the clusters that experts are",
    paper: "Tight Clusters Make Specialized Experts, arXiv 2502.15315",
    status: "verified against the authors' code; around the weights, swin-mlp is read, and empty=skip is ours",
    forms: &[
        Form { name: "gate", about: "a router", defaults: &[] },
        Form { name: "lm", about: "language model, of the medium size for WikiText-103", defaults: &[] },
        Form {
            name: "glam",
            about: "language model with dense layers between those of experts",
            defaults: &[("depth", "12"), ("span", "2048")],
        },
        Form {
            name: "swin-mlp",
            about: "the second half of a block of Swin-MoE-small, in its third stage",
            defaults: &[("dim", "384"), ("hidden", "1536"), ("clip", "1.5"), ("scale", "global")],
        },
        Form { name: "weights", about: "the weights of the features of tokens", defaults: &[] },
        Form {
            name: "soft-weights",
            about: "the weights as Soft MoE has them",
            defaults: &[("dim", "192"), ("epsilon", "0.35"), ("clip", "5"), ("scale", "global-after")],
        },
    ],
    settings: &[
        DIM,
        HIDDEN,
        EXPERTS,
        CHOSEN,
        real("epsilon", 1e-4, "ε of (A4)"),
        real("clip", 10.0, "how many times the mean a weight may be (A4)"),
        choice("scale", &["per-feature", "global", "global-after"], "what weights are divided by (A5)"),
        choice("empty", &["official", "skip"], "whether clusters without tokens count in means"),
        integer("plain", 2, 1, "the first layers of experts, which have ordinary routers"),
        DEPTH,
        HEADS,
        SPAN,
        WORDS,
    ],
    small: &[("form", "swin-mlp"), ("dim", "16"), ("hidden", "32"), ("experts", "8")],
    build,
};

/// (A3) to (A5).
struct Clusters {
    experts: usize,
    epsilon: f64,
    clip: f64,
    scale: &'static str,
    skips: bool,
}

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let clusters = Clusters {
        experts: config.integer("experts"),
        epsilon: config.real("epsilon"),
        clip: config.real("clip"),
        scale: config.word("scale"),
        skips: config.word("empty") == "skip",
    };
    match config.form() {
        "gate" => {
            let k = config.integer("k");
            let [x, below] = tokens_and_labels(config, net);
            let scores = clusters.scores(net, x, below)?;
            let Routing { ids, gates } = net.routed(scores, k, Order::Chosen)?;
            net.output("idx", ids);
            net.output("gate", gates);
            Ok(())
        }
        "weights" | "soft-weights" => {
            let [x, below] = tokens_and_labels(config, net);
            let weights = clusters.weights(net, x, below)?;
            net.output("w", weights);
            Ok(())
        }
        "swin-mlp" => swin_mlp(config, net, &clusters),
        form => language_model(config, net, &clusters, form == "glam"),
    }
}

/// `x: [N, D]`, `prev_idx: i64[N, K]`.
fn tokens_and_labels(config: &Config, net: &mut Net) -> [Value; 2] {
    let x = net.input("x", DType::F32, [symbol("N"), config.integer("dim").into()]);
    [x, net.input("prev_idx", DType::I64, [symbol("N"), config.integer("k").into()])]
}

impl Clusters {
    /// `W[kₙ]: [N, D]`, of `x: [N, D]` and `below: i64[N, K]`.
    fn weights(&self, net: &mut Net, x: Value, below: Value) -> Built<Value> {
        let dim = net.width(x, -1);
        let label = net.slice(below, 1, 0i64, 1i64)?;
        let label = net.squeeze(label, 1)?;
        let hot = net.one_hot(label, self.experts)?;
        let count = net.reduced(&REDUCE_SUM, hot, &[0], false)?;
        let count = net.unsqueeze(count, 1)?;
        let centre = mean_of_clusters(net, hot, count, x)?;
        let centre = net.gather(centre, label)?;
        let away = net.sub(x, centre)?;
        let away = net.abs(away)?;
        let away = mean_of_clusters(net, hot, count, away)?;
        let away = net.shift(away, self.epsilon)?;
        let weights = net.op(&RECIPROCAL, &[away], [])?;
        let live = self.live(net, below, count)?;
        let live_count = net.reduced(&REDUCE_SUM, live, &[0, 1], false)?;
        let mean = mean_of_live(net, weights, live, live_count, dim)?;
        let most = net.scale(mean, self.clip)?;
        let weights = net.min(weights, most)?;
        let whole = match self.scale {
            "global" => mean,
            "global-after" => mean_of_live(net, weights, live, live_count, dim)?,
            _ => {
                let sum = net.mul(weights, live)?;
                let sum = net.reduced(&REDUCE_SUM, sum, &[0], false)?;
                net.div(sum, live_count)?
            }
        };
        let weights = net.div(weights, whole)?;
        net.gather(weights, label)
    }

    /// 1 for clusters that count in means, else 0: `[E, 1]`.
    fn live(&self, net: &mut Net, below: Value, count: Value) -> Built<Value> {
        let live = if self.skips {
            let zero = net.scalar(0.0);
            net.op(&GT, &[count, zero], [])?
        } else {
            let last = net.reduced(&REDUCE_MAX, below, &[0, 1], false)?;
            let one = net.count(&Dim::constant(1))?;
            let end = net.add(last, one)?;
            let all = net.iota([self.experts.into()], 0, DType::I64)?;
            let live = net.op(&LT, &[all, end], [])?;
            net.unsqueeze(live, 1)?
        };
        net.cast(live, DType::F32)
    }

    /// (A6), with the weight `embedding`.
    fn scores(&self, net: &mut Net, x: Value, below: Value) -> Built<Value> {
        let dim = net.width(x, -1);
        let weights = self.weights(net, x, below)?;
        let scaled = net.mul(x, weights)?;
        let rows = net.weight("embedding", &[self.experts, dim], Start::Normal { deviation: 1.0 })?;
        let square = net.mul(rows, rows)?;
        let norm = net.sum(square, -1)?;
        let norm = net.sqrt(norm)?;
        let least = net.scalar(LEAST_NORM);
        let norm = net.max(norm, least)?;
        let unit = net.div(rows, norm)?;
        let unit = net.transposed(unit)?;
        net.matmul(scaled, unit)
    }
}

/// `hot: [N, E]`, `count: [E, 1]`, `values: [N, D]` → `[E, D]`.
fn mean_of_clusters(net: &mut Net, hot: Value, count: Value, values: Value) -> Built<Value> {
    let hot = net.transposed(hot)?;
    let sum = net.matmul(hot, values)?;
    let one = net.scalar(1.0);
    let count = net.max(count, one)?;
    net.div(sum, count)
}

/// The mean of `weights: [E, D]` over the clusters that are live, and all features: a number.
fn mean_of_live(net: &mut Net, weights: Value, live: Value, count: Value, dim: usize) -> Built<Value> {
    let sum = net.mul(weights, live)?;
    let sum = net.reduced(&REDUCE_SUM, sum, &[0, 1], false)?;
    let count = net.scale(count, dim as f64)?;
    net.div(sum, count)
}

/// (A9): `x: [B, S, D]`, `prev_idx: i64[B·S, K]` → `y: [B, S, D]`, `idx: i64[B·S, K]`.
fn swin_mlp(config: &Config, net: &mut Net, clusters: &Clusters) -> Built<()> {
    let plan =
        Plan { order: Order::AllScaled, activation: Activation::Gelu, bias: false, ..Plan::of(config)? };
    let shape: [Dim; 3] = [symbol("B"), symbol("S"), plan.dim.into()];
    let rows = symbol("B") * symbol("S");
    let x = net.input("x", DType::F32, shape.clone());
    let below = net.input("prev_idx", DType::I64, [rows.clone(), plan.k.into()]);
    let t = net.layer_norm(x, "norm", NORM)?;
    let t = net.reshape(t, [rows, plan.dim.into()])?;
    let weights = clusters.weights(net, t, below)?;
    let t = net.mul(t, weights)?;
    let (y, routing) = net.within("moe", |net| {
        let layer = Layer::new(net, plan)?;
        let routing = layer.route(net, t)?;
        Ok((layer.mixed(net, t, routing)?, routing))
    })?;
    let y = net.reshape(y, shape)?;
    let y = net.add(x, y)?;
    net.output("y", y);
    net.output("idx", routing.ids);
    Ok(())
}

/// (A8).
fn language_model(config: &Config, net: &mut Net, clusters: &Clusters, is_glam: bool) -> Built<()> {
    let (plan, plain) = (Plan::of(config)?, config.integer("plain"));
    let half = |i: usize| if is_glam && i % 2 == 1 { Half::Dense } else { Half::Experts };
    let mut below = None;
    language::model(config, net, &plan, half, |net, i, h| {
        let number = if is_glam { i / 2 } else { i };
        let shape = net.ty(h).shape.clone();
        let x = net.reshape(h, [shape[0].clone() * shape[1].clone(), plan.dim.into()])?;
        let f = net.within("moe", |net| {
            let labels = below.filter(|_| number >= plain);
            let (f, routing) = match labels {
                None => {
                    let layer = Layer::new(net, plan)?;
                    let routing = layer.route(net, x)?;
                    (layer.mixed(net, x, routing)?, routing)
                }
                Some(labels) => {
                    let scores = net.within("gate", |net| clusters.scores(net, x, labels))?;
                    let routing = net.routed(scores, plan.k, plan.order)?;
                    let experts = net.experts(plan.experts, [plan.dim, plan.hidden], plan.activation)?;
                    (net.mixed(x, &experts, routing)?, routing)
                }
            };
            below = Some(routing.ids);
            Ok(f)
        })?;
        let f = net.reshape(f, shape)?;
        let u = net.add(h, f)?;
        net.layer_norm(u, "norm", NORM)
    })
}
