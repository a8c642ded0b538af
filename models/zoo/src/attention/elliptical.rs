//! Elliptical Attention (Nielsen et al. 2024, arXiv 2406.13770): the neighbourhood of a query is an ellipsoid.
//!
//! - (E1) `Y = softmax(s · (Q diag(m)) Kᵀ) V`, `Q, K, V: [B, H, N, d]`, `m: [B, H, d]`, `s = 1/√d`;
//! - (E2) `m̂_c = (1/N) Σₙ |Vˡₙc − Vˡ⁻¹ₙc| / δ`: how far each coordinate of the values has moved since the layer below; the
//!   mean is over all tokens, also where attention is causal;
//! - (E3) `m = m̂ / max_c m̂_c` (`scaling=max`), or `m = m̂ / mean_c m̂_c`. Both cancel `δ`, which is left out.
//!
//! Other metrics of the authors' code: the lower median over tokens instead of the mean (E2', `metric=median`); steps of each
//! entry, `|Vˡ − Vˡ⁻¹| / (|Kˡ − Kˡ⁻¹| + a)`, `a` the `attenuation` (E2'', `metric=steps`); and, unscaled, central differences
//! of the output, `m_c = (1/N) Σₙ ‖H(qₙ + t e_c) − H(qₙ − t e_c)‖₁ / (2t)`, `t = 1/(2√d)` (E4, `metric=outputs`), which takes
//! `2d` more attentions.
//!
//! Verified against the authors' code: core, layers, the vision transformer and the language model (unscaled); (E2') and
//! (E2'') by their formulas; (E4) is the formula, from which the code departs (its shifts accumulate over coordinates). As in
//! that code, elliptical layers of the language model leave out `s`; `scaled=true` has it, as the formula does, which is
//! reconstructed. The released language model ends in an adaptive softmax, in whose place is a linear layer. A metric of
//! equal values in both layers is 0/0, as there.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::order::topk::topk;

use super::{layer_input, scale};
use crate::init::Start;
use crate::net::{Activation, Built, Net, symbol};
use crate::setting::{Config, choice, flag, integer, real};
use crate::{Entry, Form, vision};

/// The model.
pub const ELLIPTICAL: Entry = Entry {
    name: "elliptical",
    about: "Elliptical Attention: queries scaled by how far values have moved since the layer below",
    paper: "Elliptical Attention, arXiv 2406.13770",
    status: "verified against the authors' code; scaling=mean and scaled=true are reconstructed from the text, and \
             metric=outputs is the formula, from which the code departs",
    forms: &[
        Form { name: "vit", about: "vision transformer, of the size of DeiT-tiny", defaults: &[] },
        Form {
            name: "lm",
            about: "language model, of the small size for WikiText-103",
            defaults: &[
                ("dim", "128"),
                ("depth", "16"),
                ("heads", "8"),
                ("hidden", "2048"),
                ("head_width", "16"),
            ],
        },
        Form { name: "layer", about: "a layer of the vision transformer", defaults: &[] },
        Form {
            name: "lm-layer",
            about: "a layer of the language model, with residual and norm",
            defaults: &[("dim", "128"), ("heads", "8"), ("head_width", "16")],
        },
        Form { name: "core", about: "attention alone", defaults: &[("head_width", "64")] },
    ],
    settings: &[
        integer("dim", 192, 1, "width C of tokens"),
        integer("heads", 3, 1, "heads H"),
        integer("head_width", 16, 1, "width d of a head, where it is not C/H"),
        integer("depth", 12, 1, "layers"),
        integer("first", 1, 1, "the first elliptical layer, counted from 0; those below are plain"),
        integer("hidden", 768, 1, "width between the products of a feed-forward layer"),
        choice("metric", &["mean", "median", "steps", "outputs"], "(E2), (E2'), (E2'') or (E4)"),
        real("attenuation", 1e-3, "what is added to steps of keys (E2'')"),
        choice("scaling", &["max", "mean", "none"], "what the metric is divided by (E3)"),
        choice("product", &["mul", "diag"], "how queries are scaled: elementwise, or by a diagonal matrix"),
        flag("scaled", false, "whether elliptical layers of the language model divide scores by √d"),
        flag("causal", false, "whether no query sees a key after itself"),
        integer("image", 224, 1, "height and width of images"),
        integer("patch", 16, 1, "height and width of patches"),
        integer("classes", 1000, 1, "classes of images"),
        integer("words", 267_735, 1, "words of the vocabulary"),
        integer("tokens", 256, 1, "the longest text"),
    ],
    small: &[("form", "layer"), ("dim", "32"), ("heads", "4")],
    build,
};

/// What is constant in one model.
struct Elliptical {
    heads: usize,
    metric: Metric,
    /// `max`, `mean` or `none`.
    scaling: &'static str,
    diagonal: bool,
}

/// What the metric is made of.
#[derive(Clone, Copy, PartialEq)]
enum Metric {
    /// (E2)
    Mean,
    /// (E2')
    Median,
    /// (E2'')
    Steps { attenuation: f64 },
    /// (E4)
    Outputs,
}

/// What a layer does.
#[derive(Clone, Copy)]
enum Kind {
    /// Attention without metric.
    Plain,
    /// With a metric, of its own state and that of the layer below, which (E4) has no use for.
    Elliptical(Option<State>),
}

/// What a layer leaves for the one above: `[B, H, N, d]` each.
#[derive(Clone, Copy)]
struct State {
    keys: Value,
    values: Value,
}

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let metric = match config.word("metric") {
        "mean" => Metric::Mean,
        "median" => Metric::Median,
        "steps" => Metric::Steps { attenuation: config.real("attenuation") },
        _ => Metric::Outputs,
    };
    let layer = Elliptical {
        heads: config.integer("heads"),
        metric,
        scaling: if metric == Metric::Outputs { "none" } else { config.word("scaling") },
        diagonal: config.word("product") == "diag",
    };
    match config.form() {
        "core" => core(config, net, &layer),
        "layer" => {
            let width = config.part("dim", "heads")?;
            let x = layer_input(config, net, symbol("N"))?;
            let below = layer.below(net, width);
            let (y, state) = layer.vision(net, x, Kind::Elliptical(below), config.flag("causal"))?;
            net.output("y", y);
            layer.leave(net, state);
            Ok(())
        }
        "lm-layer" => {
            let (dim, width) = (config.integer("dim"), config.integer("head_width"));
            let h = net.input("h", DType::F32, [symbol("B"), symbol("N"), dim.into()]);
            let below = layer.below(net, width);
            let (h, state) =
                layer.language(net, h, Kind::Elliptical(below), [width, dim], config.flag("scaled"))?;
            net.output("h_out", h);
            layer.leave(net, state);
            Ok(())
        }
        "vit" => vit(config, net, &layer),
        _ => language_model(config, net, &layer),
    }
}

/// `q, k, v`, then what comes from below → `y: [B, H, N, d]`.
fn core(config: &Config, net: &mut Net, layer: &Elliptical) -> Built<()> {
    let width = config.integer("head_width");
    let shape: [Dim; 4] = [symbol("B"), layer.heads.into(), symbol("N"), width.into()];
    let [q, k, v] = ["q", "k", "v"].map(|name| net.input(name, DType::F32, shape.clone()));
    let below = layer.below(net, width);
    let q = layer.scaled(net, q, State { keys: k, values: v }, below)?;
    let y = net.attend([q, k, v], scale(width), config.flag("causal"))?;
    net.output("y", y);
    Ok(())
}

impl Elliptical {
    /// The state of the layer below, as inputs: `v_prev`, and `k_prev` for (E2'').
    fn below(&self, net: &mut Net, width: usize) -> Option<State> {
        let shape: [Dim; 4] = [symbol("B"), self.heads.into(), symbol("N"), width.into()];
        if self.metric == Metric::Outputs {
            return None;
        }
        let values = net.input("v_prev", DType::F32, shape.clone());
        let keys = match self.metric {
            Metric::Steps { .. } => net.input("k_prev", DType::F32, shape),
            _ => values,
        };
        Some(State { keys, values })
    }

    /// The state for the layer above, as outputs: `v`, and `k` for (E2'').
    fn leave(&self, net: &mut Net, state: State) {
        net.output("v", state.values);
        if let Metric::Steps { .. } = self.metric {
            net.output("k", state.keys);
        }
    }

    /// (E2) to (E4): `[B, H, 1, d]`.
    fn metric(&self, net: &mut Net, q: Value, own: State, below: Option<State>) -> Built<Value> {
        if self.metric == Metric::Outputs {
            return differences(net, [q, own.keys, own.values]);
        }
        let below = below.expect("bug: there is no layer below");
        let moved = net.sub(own.values, below.values)?;
        let mut moved = net.abs(moved)?;
        if let Metric::Steps { attenuation } = self.metric {
            let step = net.sub(own.keys, below.keys)?;
            let step = net.abs(step)?;
            let step = net.shift(step, attenuation)?;
            moved = net.div(moved, step)?;
        }
        let moved = if self.metric == Metric::Median { median(net, moved)? } else { net.mean(moved, -2)? };
        match self.scaling {
            "none" => Ok(moved),
            "mean" => {
                let mean = net.mean(moved, -1)?;
                net.div(moved, mean)
            }
            _ => {
                let most = net.most(moved, -1)?;
                net.div(moved, most)
            }
        }
    }

    /// `Q diag(m)`.
    fn scaled(&self, net: &mut Net, q: Value, own: State, below: Option<State>) -> Built<Value> {
        let metric = self.metric(net, q, own, below)?;
        if !self.diagonal {
            return net.mul(q, metric);
        }
        let zero = net.scalar(0.0);
        let on = net.diagonal(&net.size(q, -1))?;
        let diagonal = net.select(on, metric, zero)?;
        net.matmul(q, diagonal)
    }

    /// `x: [B, N, C]` → `y: [B, N, C]` and the state.
    fn vision(&self, net: &mut Net, x: Value, kind: Kind, causal: bool) -> Built<(Value, State)> {
        let [mut q, k, v] = net.qkv(x, self.heads)?;
        let own = State { keys: k, values: v };
        if let Kind::Elliptical(below) = kind {
            q = self.scaled(net, q, own, below)?;
        }
        let y = net.attend([q, k, v], scale(net.width(q, -1)), causal)?;
        Ok((net.proj(y)?, own))
    }

    /// `h: [B, N, C]` → `LN(h + Wo y)` and the state.
    fn language(
        &self,
        net: &mut Net,
        h: Value,
        kind: Kind,
        [width, dim]: [usize; 2],
        is_scaled: bool,
    ) -> Built<(Value, State)> {
        let q = net.project(h, "q_net", self.heads * width)?;
        let kv = net.project(h, "kv_net", 2 * self.heads * width)?;
        let [k, v] = net.chunk(kv)?;
        let [mut q, k, v] = [net.heads(q, self.heads)?, net.heads(k, self.heads)?, net.heads(v, self.heads)?];
        let own = State { keys: k, values: v };
        let mut factor = scale(width);
        if let Kind::Elliptical(below) = kind {
            q = self.scaled(net, q, own, below)?;
            if !is_scaled {
                factor = 1.0;
            }
        }
        let y = net.attend([q, k, v], factor, true)?;
        let y = net.merged(y)?;
        let y = net.project(y, "o_net", dim)?;
        let h = net.add(h, y)?;
        Ok((net.layer_norm(h, "layer_norm", 1e-5)?, own))
    }
}

/// (E2') The lower median over tokens: `[B, H, N, d]` → `[B, H, 1, d]`.
fn median(net: &mut Net, x: Value) -> Built<Value> {
    let x = net.transposed(x)?;
    let half = (net.size(x, -1) + Dim::constant(1)).floor_div(&Dim::constant(2));
    let [lower, _] = net.make("topk", |b| topk(b, x, -1, half.clone(), false))?;
    let last = net.slice(lower, -1, half - Dim::constant(1), 1i64)?;
    net.transposed(last)
}

/// (E4) `q, k, v: [B, H, N, d]` → `[B, H, 1, d]`. All coordinates are looked at together, along a new axis.
fn differences(net: &mut Net, qkv: [Value; 3]) -> Built<Value> {
    let width = net.width(qkv[0], -1);
    let step = 0.5 * scale(width);
    let mut each = qkv;
    for x in &mut each {
        *x = net.unsqueeze(*x, 2)?;
    }
    let [q, k, v] = each;
    let on = net.diagonal(&width.into())?;
    let (moved, zero) = (net.scalar(step), net.scalar(0.0));
    let moved = net.select(on, moved, zero)?;
    let moved = net.unsqueeze(moved, 1)?;
    let (up, down) = (net.add(q, moved)?, net.sub(q, moved)?);
    let up = net.attend([up, k, v], scale(width), false)?;
    let down = net.attend([down, k, v], scale(width), false)?;
    let change = net.sub(up, down)?;
    let change = net.abs(change)?;
    let change = net.sum(change, -1)?;
    let change = net.mean(change, -2)?;
    let change = net.scale(change, (2.0 * step).recip())?;
    let (batch, heads) = (net.size(change, 0), net.size(change, 1));
    net.reshape(change, [batch, heads, Dim::constant(1), width.into()])
}

/// `image: [B, 3, S, S]` → `logits: [B, classes]`. Pre-norm blocks; a layer's values go up to the next one.
fn vit(config: &Config, net: &mut Net, layer: &Elliptical) -> Built<()> {
    config.part("dim", "heads")?;
    let (hidden, first) = (config.integer("hidden"), config.integer("first"));
    let epsilon = 1e-6;
    let mut x = vision::patches(config, net)?;
    let mut state = None;
    for i in 0..config.integer("depth") {
        let h = net.layer_norm(x, &format!("norm1.{i}"), epsilon)?;
        let kind = if i < first { Kind::Plain } else { Kind::Elliptical(state) };
        let (y, own) = net.within(format!("attn.{i}"), |net| layer.vision(net, h, kind, false))?;
        state = Some(own);
        x = net.add(x, y)?;
        let h = net.layer_norm(x, &format!("norm2.{i}"), epsilon)?;
        let y = net.feed_forward(h, &format!("mlp.{i}"), hidden, Activation::Gelu)?;
        x = net.add(x, y)?;
    }
    let logits = vision::classify(config, net, x, epsilon)?;
    net.output("logits", logits);
    Ok(())
}

/// `tokens: i64[B, N]` → `logits: [B, N, words]`. Post-norm blocks; embeddings are multiplied by `√C`.
fn language_model(config: &Config, net: &mut Net, layer: &Elliptical) -> Built<()> {
    let [dim, hidden, first, words, longest, width] =
        ["dim", "hidden", "first", "words", "tokens", "head_width"].map(|name| config.integer(name));
    let is_scaled = config.flag("scaled");
    let length = symbol("N");
    let tokens = net.input("tokens", DType::I64, [symbol("B"), length.clone()]);
    let h = net.embedding(tokens, "embed", [words, dim])?;
    let h = net.scale(h, (dim as f64).sqrt())?;
    let places =
        net.weight("pos", &[longest, dim], Start::At(&|at| sinusoid(longest - 1 - at[0], at[1], dim)))?;
    // They count from the end of the text.
    let places = net.slice(places, 0, Dim::from(longest) - length.clone(), length)?;
    let mut h = net.add(h, places)?;
    let mut state = None;
    for i in 0..config.integer("depth") {
        let kind = if i < first { Kind::Plain } else { Kind::Elliptical(state) };
        let attend = |net: &mut Net| layer.language(net, h, kind, [width, dim], is_scaled);
        let (attended, own) = net.within(format!("attn.{i}"), attend)?;
        state = Some(own);
        let y = net.feed_forward(attended, &format!("ff.{i}"), hidden, Activation::Relu)?;
        h = net.add(attended, y)?;
        h = net.layer_norm(h, &format!("ff_norm.{i}"), 1e-5)?;
    }
    let logits = net.linear(h, "head", words)?;
    net.output("logits", logits);
    Ok(())
}

/// The sinusoid of a distance to the last token: all sines first, then all cosines.
fn sinusoid(distance: usize, channel: usize, dim: usize) -> f64 {
    let sines = dim.div_ceil(2);
    let pair = channel % sines;
    let angle = distance as f64 * 10_000f64.powf(-(2.0 * pair as f64) / dim as f64);
    if channel < sines { angle.sin() } else { angle.cos() }
}
