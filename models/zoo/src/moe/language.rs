//! The language model of MomentumSMoE, AdamSMoE, GLaM and ACMoE.
//!
//! - (M11) each query sees exactly the `W` positions before it, and never itself: `memory = [cache; h]`,
//!   `scores = (q·kⱼ + q·eⱼ₋ᵢ) / √d`, `e: [1, d, W]` for all layers and heads;
//! - (M12) `h1 = LN1(h + Attn(h))`; `h' = LN2(h1 + o)`, `o = LN(u)`, `u` the step of the experts (`step`); a layer without
//!   experts is `h' = LN2(h1 + FF(h1))`, `FF` with ReLU;
//! - (M13) embedding, layers, a linear layer, and log-softmax.
//!
//! Shapes: `ids: i64[B, S]`, `caches: [L, B, W, D]` → `logp: [B, S, words]`. Norms have ε = 1e-5.

use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::Lower;
use ir::{DType, Dim, Region};
use ops::linalg::attention::{ATTENTION, SCORE};
use ops::norm::AXIS;
use ops::norm::log_softmax::LOG_SOFTMAX;

use super::layer::Plan;
use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, Setting, integer};

/// ε of every norm of the model.
pub(super) const NORM: f64 = 1e-5;

pub(super) const DEPTH: Setting = integer("depth", 6, 1, "layers L");
pub(super) const HEADS: Setting = integer("heads", 8, 1, "heads of attention");
pub(super) const SPAN: Setting = integer("span", 1024, 1, "positions W before a token that attention sees");
pub(super) const WORDS: Setting = integer("words", 267_735, 1, "words of the vocabulary");

/// What attention of all layers shares.
pub(super) struct Language {
    heads: usize,
    span: usize,
    /// `e: [1, d, W]`.
    places: Value,
    /// `[L, B, W, D]`.
    caches: Value,
    dim: usize,
    hidden: usize,
}

/// What the second half of a layer is.
pub(super) enum Half {
    /// Experts, whose step is made in the scope of the layer.
    Experts,
    /// A feed-forward layer.
    Dense,
}

/// (M13): `half` says what the layers are, and `sublayer` makes `o` of `h1` in the scope `mlp` of a layer of experts.
pub(super) fn model(
    config: &Config,
    net: &mut Net,
    plan: &Plan,
    half: impl Fn(usize) -> Half,
    mut sublayer: impl FnMut(&mut Net, usize, Value) -> Built<Value>,
) -> Built<()> {
    let (words, depth) = (config.integer("words"), config.integer("depth"));
    let ids = net.input("ids", DType::I64, [symbol("B"), symbol("S")]);
    let language = Language::new(config, net, plan)?;
    let mut h = net.embedding(ids, "embed", [words, plan.dim])?;
    for i in 0..depth {
        h = net.within(format!("layers.{i}"), |net| {
            language.layer(net, i, h, &half(i), |net, h| sublayer(net, i, h))
        })?;
    }
    let logits = net.linear(h, "out", words)?;
    let logp = net.op(&LOG_SOFTMAX, &[logits], [AXIS.is(-1)])?;
    net.output("logp", logp);
    Ok(())
}

impl Language {
    /// With the input `caches` and the weight `key_pe`. Settings: `heads`, `span`, `depth`.
    pub(super) fn new(config: &Config, net: &mut Net, plan: &Plan) -> Built<Language> {
        let [heads, span, depth] = ["heads", "span", "depth"].map(|name| config.integer(name));
        let width = config.part("dim", "heads")?;
        let shape = [depth.into(), symbol("B"), span.into(), plan.dim.into()];
        let caches = net.input("caches", DType::F32, shape);
        let places = net.weight("key_pe", &[1, width, span], Start::Normal { deviation: 0.02 })?;
        Ok(Language { heads, span, places, caches, dim: plan.dim, hidden: plan.hidden })
    }

    /// (M12): layer `i`.
    pub(super) fn layer(
        &self,
        net: &mut Net,
        i: usize,
        h: Value,
        half: &Half,
        sublayer: impl FnOnce(&mut Net, Value) -> Built<Value>,
    ) -> Built<Value> {
        let attended = net.within("attn", |net| self.attend(net, i, h))?;
        let h = net.add(h, attended)?;
        let h = net.layer_norm(h, "norm1", NORM)?;
        let o = match half {
            Half::Experts => net.within("mlp", |net| sublayer(net, h))?,
            Half::Dense => {
                let y = net.linear(h, "fc1", self.hidden)?;
                let y = net.relu(y)?;
                net.linear(y, "fc2", self.dim)?
            }
        };
        let h = net.add(h, o)?;
        net.layer_norm(h, "norm2", NORM)
    }

    /// (M11): `h: [B, S, D]` → `[B, S, D]`, by `q`, `k`, `v` and `o`.
    fn attend(&self, net: &mut Net, i: usize, h: Value) -> Built<Value> {
        let cache = net.slice(self.caches, 0, i, 1usize)?;
        let cache = net.squeeze(cache, 0)?;
        let memory = net.concat(&[cache, h], 1)?;
        let q = net.project(h, "q", self.dim)?;
        let [k, v] = [net.project(memory, "k", self.dim)?, net.project(memory, "v", self.dim)?];
        let [q, k, v] = [net.heads(q, self.heads)?, net.heads(k, self.heads)?, net.heads(v, self.heads)?];
        let near = net.matmul(q, self.places)?;
        let y = net.op(&ATTENTION, &[q, k, v, near], [SCORE.is(self.window())])?;
        let y = net.merged(y)?;
        net.project(y, "o", self.dim)
    }

    /// `(score + near[…, i, j − i]) / √d` where `0 ≤ j − i < W`, else −∞: row `i` of the memory is the first that query
    /// `i` sees.
    fn window(&self) -> Region {
        let axes: Vec<Dim> = (0..4).map(|at| Dim::from(&Region::axis(at))).collect();
        let distance = axes[3].clone() - axes[2].clone();
        let at = axes[..3].iter().chain([&distance]).map(Expr::from);
        let near = Expr::load(Lower::operand_name(3), DType::F32, at);
        let width = (self.dim / self.heads) as f64;
        let score = (Region::number() + near) * Expr::number(DType::F32, width.sqrt().recip());
        let [zero, end] = [0, self.span as i64].map(|number| Expr::from(Dim::constant(number)));
        let begun = zero.at_most(Expr::from(&distance));
        let seen = begun.and(Expr::from(&distance).less(end));
        Region::new(seen.select(score, Expr::number(DType::F32, f64::NEG_INFINITY)))
    }
}
