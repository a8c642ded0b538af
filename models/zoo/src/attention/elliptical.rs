//! Elliptical Attention (Nielsen et al. 2024, arXiv 2406.13770): the neighbourhood of a query is an ellipsoid.
//!
//! - (E1) `Y = softmax(s · (Q diag(m)) Kᵀ) V`, `Q, K, V: [B, H, N, d]`, `m: [B, H, d]`, `s = 1/√d`;
//! - (E2) `m̂_c = (1/N) Σₙ |Vˡₙc − Vˡ⁻¹ₙc| / δ`: how far each coordinate of the values has moved since the layer below; the
//!   mean is over all tokens, also where attention is causal;
//! - (E3) `m = m̂ / max_c m̂_c` (`scaling=max`), or `m = m̂ / mean_c m̂_c`. Both cancel `δ`, which is left out.
//!
//! Verified against the authors' code: core, layers, the vision transformer and the language model (unscaled). As in that
//! code, elliptical layers of the language model leave out `s`; `scaled=true` has it, as the formula does, which is
//! reconstructed. The released language model ends in an adaptive softmax, in whose place is a linear layer. A metric of
//! equal values in both layers is 0/0, as there.

use ir::graph::Value;
use ir::{DType, Dim};

use super::{layer_input, scale};
use crate::init::Start;
use crate::net::{Activation, Built, Net, symbol};
use crate::setting::{Config, choice, flag, integer};
use crate::{Entry, Form, vision};

/// The model.
pub const ELLIPTICAL: Entry = Entry {
    name: "elliptical",
    about: "Elliptical Attention: queries scaled by how far values have moved since the layer below",
    paper: "Elliptical Attention, arXiv 2406.13770",
    status: "verified against the authors' code; scaling=mean and scaled=true are reconstructed from the text",
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
        choice("scaling", &["max", "mean"], "what the metric is divided by (E3)"),
        choice("product", &["mul", "diag"], "how queries are scaled: elementwise, or by a diagonal matrix"),
        flag("scaled", false, "whether elliptical layers of the language model divide scores by √d"),
        flag("causal", false, "whether no query sees a key after itself"),
        integer("image", 224, 1, "height and width of images"),
        integer("patch", 16, 1, "height and width of patches"),
        integer("classes", 1000, 1, "classes of images"),
        integer("words", 267_735, 1, "words of the vocabulary"),
        integer("tokens", 256, 1, "the longest text"),
    ],
    build,
};

/// What is constant in one model.
struct Elliptical {
    heads: usize,
    scaling: &'static str,
    diagonal: bool,
}

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let layer = Elliptical {
        heads: config.integer("heads"),
        scaling: config.word("scaling"),
        diagonal: config.word("product") == "diag",
    };
    match config.form() {
        "core" => core(config, net, &layer),
        "layer" => {
            let width = config.part("dim", "heads")?;
            let x = layer_input(config, net, symbol("N"))?;
            let before = values_below(net, &layer, width);
            let causal = config.flag("causal");
            let (y, v) = layer.vision(net, x, Some(before), causal)?;
            net.output("y", y);
            net.output("v", v);
            Ok(())
        }
        "lm-layer" => {
            let (dim, width) = (config.integer("dim"), config.integer("head_width"));
            let h = net.input("h", DType::F32, [symbol("B"), symbol("N"), dim.into()]);
            let before = values_below(net, &layer, width);
            let (h, v) = layer.language(net, h, Some(before), [width, dim], config.flag("scaled"))?;
            net.output("h_out", h);
            net.output("v", v);
            Ok(())
        }
        "vit" => vit(config, net, &layer),
        _ => language_model(config, net, &layer),
    }
}

/// `v_prev: [B, H, N, d]`: the values of the layer below.
fn values_below(net: &mut Net, layer: &Elliptical, width: usize) -> Value {
    net.input("v_prev", DType::F32, [symbol("B"), layer.heads.into(), symbol("N"), width.into()])
}

fn core(config: &Config, net: &mut Net, layer: &Elliptical) -> Built<()> {
    let width = config.integer("head_width");
    let shape: [Dim; 4] = [symbol("B"), layer.heads.into(), symbol("N"), width.into()];
    let [q, k, v, before] = ["q", "k", "v", "v_prev"].map(|name| net.input(name, DType::F32, shape.clone()));
    let q = layer.scaled(net, q, v, before)?;
    let y = net.attend([q, k, v], scale(width), config.flag("causal"))?;
    net.output("y", y);
    Ok(())
}

impl Elliptical {
    /// (E2), (E3): `v, before: [B, H, N, d]` → `m: [B, H, 1, d]`.
    fn metric(&self, net: &mut Net, v: Value, before: Value) -> Built<Value> {
        let moved = net.sub(v, before)?;
        let moved = net.abs(moved)?;
        let moved = net.mean(moved, -2)?;
        let whole = if self.scaling == "max" { net.most(moved, -1)? } else { net.mean(moved, -1)? };
        net.div(moved, whole)
    }

    /// `Q diag(m)`.
    fn scaled(&self, net: &mut Net, q: Value, v: Value, before: Value) -> Built<Value> {
        let metric = self.metric(net, v, before)?;
        if !self.diagonal {
            return net.mul(q, metric);
        }
        let width: Dim = net.size(q, -1);
        let one = Dim::constant(1);
        let row = net.iota([width.clone(), one.clone()], 0, DType::I64)?;
        let column = net.iota([one, width], 1, DType::I64)?;
        let on = net.eq(row, column)?;
        let zero = net.scalar(0.0);
        let diagonal = net.select(on, metric, zero)?;
        net.matmul(q, diagonal)
    }

    /// `x: [B, N, C]` → `y: [B, N, C]` and the values: plain attention without values from below.
    fn vision(&self, net: &mut Net, x: Value, before: Option<Value>, causal: bool) -> Built<(Value, Value)> {
        let [mut q, k, v] = net.qkv(x, self.heads)?;
        if let Some(before) = before {
            q = self.scaled(net, q, v, before)?;
        }
        let y = net.attend([q, k, v], scale(net.width(q, -1)), causal)?;
        Ok((net.proj(y)?, v))
    }

    /// `h: [B, N, C]` → `LN(h + Wo y)` and the values: plain attention without values from below.
    fn language(
        &self,
        net: &mut Net,
        h: Value,
        before: Option<Value>,
        [width, dim]: [usize; 2],
        is_scaled: bool,
    ) -> Built<(Value, Value)> {
        let q = net.project(h, "q_net", self.heads * width)?;
        let kv = net.project(h, "kv_net", 2 * self.heads * width)?;
        let [k, v] = net.chunk(kv)?;
        let [mut q, k, v] = [net.heads(q, self.heads)?, net.heads(k, self.heads)?, net.heads(v, self.heads)?];
        let mut factor = scale(width);
        if let Some(before) = before {
            q = self.scaled(net, q, v, before)?;
            if !is_scaled {
                factor = 1.0;
            }
        }
        let y = net.attend([q, k, v], factor, true)?;
        let y = net.merged(y)?;
        let y = net.project(y, "o_net", dim)?;
        let h = net.add(h, y)?;
        Ok((net.layer_norm(h, "layer_norm", 1e-5)?, v))
    }
}

/// `image: [B, 3, S, S]` → `logits: [B, classes]`. Pre-norm blocks; a layer's values go up to the next one.
fn vit(config: &Config, net: &mut Net, layer: &Elliptical) -> Built<()> {
    config.part("dim", "heads")?;
    let (hidden, first) = (config.integer("hidden"), config.integer("first"));
    let epsilon = 1e-6;
    let mut x = vision::patches(config, net)?;
    let mut values = None;
    for i in 0..config.integer("depth") {
        let h = net.layer_norm(x, &format!("norm1.{i}"), epsilon)?;
        let below = values.filter(|_| i >= first);
        let (y, v) = net.within(format!("attn.{i}"), |net| layer.vision(net, h, below, false))?;
        values = Some(v);
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
    let mut values = None;
    for i in 0..config.integer("depth") {
        let below = values.filter(|_| i >= first);
        let attend = |net: &mut Net| layer.language(net, h, below, [width, dim], is_scaled);
        let (attended, v) = net.within(format!("attn.{i}"), attend)?;
        values = Some(v);
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
