//! RPC-Attention (Teo, Nguyen 2024, arXiv 2406.13762): keys are cleaned of a sparse corruption before they attend, by a few
//! rounds of principal attention pursuit. Attention is symmetric: keys are the queries, too.
//!
//! - (R2) `μ = N·C / (4 Σ_{n,c} |k_nc|)`, one number for each sample and head; `C` is the width of all heads together, as in
//!   the authors' code;
//! - `L₀ = 0`, `Y₀ = 0`, and for each round t
//!   (R3) `Sₜ = shrink(k − Lₜ₋₁ + Yₜ₋₁/μ, λμ)`, `shrink(x, τ) = sign(x) · max(|x| − τ, 0)`,
//!   (R1) `Kₜ = k − Sₜ − Yₜ₋₁/μ`, `Lₜ = softmax(Kₜ Kₜᵀ/√d) v`,
//!   (R4) `Yₜ = Yₜ₋₁ + μ (k − Lₜ − Sₜ)`;
//! - (R5) the last `L`. No round is plain symmetric attention, `softmax(k kᵀ/√d) v`.
//!
//! Verified against the authors' code: layer and vision transformer. `signs=textbook` has `+Yₜ₋₁/μ` in (R1) and the threshold
//! `λ/μ` in (R3), as an augmented Lagrangian is written in textbooks: ours. Causal attention, and with it the language model,
//! masks the softmax of every round, while `μ` still sums over all tokens: ours, since only code for vision is released.

use ir::graph::Value;
use ir::{DType, Dim};

use super::{layer_input, scale};
use crate::init::Start;
use crate::net::{Activation, Built, Net, symbol};
use crate::setting::{Config, choice, flag, integer, real};
use crate::{Entry, Form, vision};

/// The model.
pub const RPC: Entry = Entry {
    name: "rpc-attention",
    about: "RPC-Attention: keys are cleaned by principal attention pursuit before they attend",
    paper: "Kernel PCA view of self-attention (RPC-Attention), arXiv 2406.13762",
    status: "layer and vit verified against the authors' code; causal, lm and signs=textbook are our own",
    forms: &[
        Form { name: "vit", about: "vision transformer, of the size of DeiT-tiny", defaults: &[] },
        Form {
            name: "lm",
            about: "language model, causal in every round, of the small size for WikiText-103",
            defaults: &[("dim", "128"), ("depth", "16"), ("heads", "8"), ("hidden", "2048")],
        },
        Form { name: "layer", about: "a layer", defaults: &[] },
        Form { name: "core", about: "attention alone, of keys and values", defaults: &[] },
    ],
    settings: &[
        integer("dim", 192, 1, "width C of tokens"),
        integer("heads", 3, 1, "heads H"),
        integer("depth", 12, 1, "layers"),
        choice(
            "layers",
            &["first", "all"],
            "which layers clean their keys; the others are symmetric attention",
        ),
        integer("rounds", 4, 0, "rounds in each of these"),
        real("lambda", 4.0, "threshold λ of the corruption"),
        choice("signs", &["released", "textbook"], "the sign of the multiplier, and the threshold"),
        flag("causal", false, "whether no query sees a key after itself"),
        integer("hidden", 768, 1, "width between the products of a feed-forward layer"),
        integer("image", 224, 1, "height and width of images"),
        integer("patch", 16, 1, "height and width of patches"),
        integer("classes", 1000, 1, "classes of images"),
        integer("words", 267_735, 1, "words of the vocabulary"),
        integer("tokens", 256, 1, "the longest text"),
    ],
    small: &[("form", "layer"), ("dim", "32"), ("heads", "4"), ("rounds", "2")],
    build,
};

/// What is constant in one model.
struct Rpc {
    heads: usize,
    rounds: usize,
    lambda: f64,
    textbook: bool,
    /// The width of all heads together.
    width: usize,
}

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let width = config.part("dim", "heads")?;
    let rounds = config.integer("rounds");
    let mut layer = Rpc {
        heads: config.integer("heads"),
        rounds,
        lambda: 0.0,
        textbook: false,
        width: config.integer("dim"),
    };
    if rounds > 0 {
        layer.lambda = config.real("lambda");
        layer.textbook = config.word("signs") == "textbook";
    }
    let y = match config.form() {
        "core" => {
            let shape: [Dim; 4] = [symbol("B"), layer.heads.into(), symbol("N"), width.into()];
            let [k, v] = ["k", "v"].map(|name| net.input(name, DType::F32, shape.clone()));
            layer.attend(net, k, v, config.flag("causal"))?
        }
        "layer" => {
            let x = layer_input(config, net, symbol("N"))?;
            layer.apply(net, x, config.flag("causal"))?
        }
        "vit" => {
            let x = vision::patches(config, net)?;
            let x = layer.blocks(config, net, x, (1e-6, false))?;
            let logits = vision::classify(config, net, x, 1e-6)?;
            net.output("logits", logits);
            return Ok(());
        }
        _ => {
            let logits = layer.language_model(config, net)?;
            net.output("logits", logits);
            return Ok(());
        }
    };
    net.output("y", y);
    Ok(())
}

impl Rpc {
    /// (R1) to (R5): `k, v: [B, H, N, d]` → `[B, H, N, d]`.
    fn attend(&self, net: &mut Net, k: Value, v: Value, causal: bool) -> Built<Value> {
        let factor = scale(net.width(k, -1));
        if self.rounds == 0 {
            return net.attend([k, k, v], factor, causal);
        }
        let mu = self.mu(net, k)?;
        let lambda = net.scalar(self.lambda);
        let threshold = if self.textbook { net.div(lambda, mu)? } else { net.mul(lambda, mu)? };
        let sparse = shrink(net, k, threshold)?;
        let clean = net.sub(k, sparse)?;
        let mut low = net.attend([clean, clean, v], factor, causal)?;
        let mut last = sparse;
        let mut dual: Option<Value> = None;
        for _ in 1..self.rounds {
            let rest = net.sub(k, low)?;
            let rest = net.sub(rest, last)?;
            let step = net.mul(mu, rest)?;
            let multiplier = match dual {
                Some(dual) => net.add(dual, step)?,
                None => step,
            };
            dual = Some(multiplier);
            let multiplier = net.div(multiplier, mu)?;
            let corrupt = net.sub(k, low)?;
            let corrupt = net.add(corrupt, multiplier)?;
            last = shrink(net, corrupt, threshold)?;
            let clean = net.sub(k, last)?;
            let clean = if self.textbook { net.add(clean, multiplier)? } else { net.sub(clean, multiplier)? };
            low = net.attend([clean, clean, v], factor, causal)?;
        }
        Ok(low)
    }

    /// (R2): `k: [B, H, N, d]` → `[B, H, 1, 1]`.
    fn mu(&self, net: &mut Net, k: Value) -> Built<Value> {
        let numbers = net.size(k, -2) * Dim::from(self.width);
        let numbers = net.count(&numbers)?;
        let above = net.cast(numbers, DType::F32)?;
        let sizes = net.abs(k)?;
        let sum = net.sum_over(sizes, &[-2, -1])?;
        let below = net.scale(sum, 4.0)?;
        net.div(above, below)
    }

    /// `x: [B, N, C]` → `[B, N, C]`.
    fn apply(&self, net: &mut Net, x: Value, causal: bool) -> Built<Value> {
        let dim = net.width(x, -1);
        let kv = net.linear(x, "kv", 2 * dim)?;
        let [k, v] = net.chunk(kv)?;
        let [k, v] = [net.heads(k, self.heads)?, net.heads(v, self.heads)?];
        let y = self.attend(net, k, v, causal)?;
        net.proj(y)
    }

    /// Pre-norm blocks, of which the first or all clean their keys.
    fn blocks(
        &self,
        config: &Config,
        net: &mut Net,
        x: Value,
        (epsilon, causal): (f64, bool),
    ) -> Built<Value> {
        let (hidden, all) = (config.integer("hidden"), config.word("layers") == "all");
        let plain = Rpc { rounds: 0, ..*self };
        let mut x = x;
        for i in 0..config.integer("depth") {
            let layer = if all || i == 0 { self } else { &plain };
            let h = net.layer_norm(x, &format!("norm1.{i}"), epsilon)?;
            let y = net.within(format!("attn.{i}"), |net| layer.apply(net, h, causal))?;
            x = net.add(x, y)?;
            let h = net.layer_norm(x, &format!("norm2.{i}"), epsilon)?;
            let y = net.feed_forward(h, &format!("mlp.{i}"), hidden, Activation::Gelu)?;
            x = net.add(x, y)?;
        }
        Ok(x)
    }

    /// `tokens: i64[B, N]` → `[B, N, words]`, with what is learned for each place (`pos_embed: [tokens, C]`).
    fn language_model(&self, config: &Config, net: &mut Net) -> Built<Value> {
        let [dim, words, longest] = ["dim", "words", "tokens"].map(|name| config.integer(name));
        let length = symbol("N");
        let tokens = net.input("tokens", DType::I64, [symbol("B"), length.clone()]);
        let x = net.embedding(tokens, "embed", [words, dim])?;
        let places = net.weight("pos_embed", &[longest, dim], Start::Normal { deviation: 0.02 })?;
        let places = net.slice(places, 0, 0i64, length)?;
        let x = net.add(x, places)?;
        let x = self.blocks(config, net, x, (1e-5, true))?;
        let x = net.layer_norm(x, "norm", 1e-5)?;
        net.linear(x, "head", words)
    }
}

/// (R3) `sign(x) · max(|x| − τ, 0)`.
fn shrink(net: &mut Net, x: Value, threshold: Value) -> Built<Value> {
    let size = net.abs(x)?;
    let above = net.sub(size, threshold)?;
    let above = net.relu(above)?;
    let sign = net.sign(x)?;
    net.mul(sign, above)
}
