//! Attention-BN and Attention-SH (Nguyen et al. 2024, arXiv 2406.13781): attention as the support vectors of a regression
//! whose primal is normalised by batch, or that each head fits on fewer pairs.
//!
//! - (B1) `μ = (1/N) Σⱼ kⱼ`, `σ² = (1/N) Σⱼ (kⱼ − μ)²`, `s = √(σ² + ε)`: for each sample and head, over the keys;
//! - (B2) `hᵢ = Σⱼ softmaxⱼ(((qᵢ − βμ)/s) · ((kⱼ − βμ)/s) / √d) vⱼ`;
//! - (B3) the same: logits `(qᵢ/s²)·kⱼ/√d − (βμ/s²)·kⱼ/√d` (`folded=true`), which cancels where `|βμ|` is much larger than `s`;
//! - (B4) Attention-SH: head h has `pool_r(k)` and `pool_r(v)`, means of `r` tokens each, of which the last may be fewer;
//!   queries stay as many as they are;
//! - (B5) both: first pools, then (B1) and (B2) of the pooled keys.
//!
//! Reconstructed from the abstract and the derivation; neither code nor definitions could be read. The pooling, and that it
//! comes first in (B5), are our reading. A causal mask (Attention-BN) is ours; the statistics see all tokens still.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::shape::pad::{HIGH, LOW, PAD};

use super::{layer_input, scale};
use crate::Entry;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, Setting, flag, integer, integers, real};

const PAPER: &str = "Primal-dual framework of attention (Attention-BN, Attention-SH), arXiv 2406.13781";
const DIM: Setting = integer("dim", 192, 1, "width C of tokens");
const HEADS: Setting = integer("heads", 3, 1, "heads H");
const BETA: Setting = real("beta", 1.0, "how much of the mean is taken away");
const DIVIDED: Setting = flag("divided", true, "whether queries and keys are divided by the deviation");
const EPSILON: Setting = real("epsilon", 1e-5, "what is added to the variance");
const FOLDED: Setting = flag("folded", false, "whether the logits are (B3)");
const RATIOS: Setting = integers("ratios", &[1, 2, 4], 1, "how many tokens each head pools");

/// Attention-BN.
pub const ATTENTION_BN: Entry = Entry {
    name: "attention-bn",
    about: "a layer of Attention-BN: queries and keys normalised by the statistics of the keys",
    paper: PAPER,
    status: "reconstructed; causal is our own",
    forms: &[],
    settings: &[
        DIM,
        HEADS,
        BETA,
        DIVIDED,
        EPSILON,
        FOLDED,
        flag("causal", false, "whether no query sees a key after itself"),
    ],
    small: &[("dim", "32"), ("heads", "4")],
    build: |config, net| {
        let causal = config.flag("causal");
        layer(config, net, &|net, qkv, _| normalised(config, net, qkv, causal))
    },
};

/// Attention-SH.
pub const ATTENTION_SH: Entry = Entry {
    name: "attention-sh",
    about: "a layer of Attention-SH: each head sees means of so many tokens",
    paper: PAPER,
    status: "reconstructed; how tokens are pooled is our reading",
    forms: &[],
    settings: &[DIM, HEADS, RATIOS],
    small: &[("dim", "32"), ("heads", "4"), ("ratios", "1,1,2,4")],
    build: |config, net| {
        let attend =
            |net: &mut Net, [q, k, v]: [Value; 3]| net.attend([q, k, v], scale(net.width(q, -1)), false);
        layer(config, net, &|net, qkv, config| pooled(config, net, qkv, &attend))
    },
};

/// Both.
pub const ATTENTION_BN_SH: Entry = Entry {
    name: "attention-bn-sh",
    about: "a layer of Attention-BN+SH: each head sees means of tokens, normalised by their statistics",
    paper: PAPER,
    status: "reconstructed; how tokens are pooled, and that they are first, is our reading",
    forms: &[],
    settings: &[DIM, HEADS, BETA, DIVIDED, EPSILON, FOLDED, RATIOS],
    small: &[("dim", "32"), ("heads", "4"), ("ratios", "1,1,2,4")],
    build: |config, net| {
        let attend = |net: &mut Net, qkv| normalised(config, net, qkv, false);
        layer(config, net, &|net, qkv, config| pooled(config, net, qkv, &attend))
    },
};

type Attend<'a> = dyn Fn(&mut Net, [Value; 3], &Config) -> Built<Value> + 'a;

/// `x: [B, N, C]` → `y: [B, N, C]`.
fn layer(config: &Config, net: &mut Net, attend: &Attend) -> Built<()> {
    let x = layer_input(config, net, symbol("N"))?;
    let qkv = net.qkv(x, config.integer("heads"))?;
    let y = attend(net, qkv, config)?;
    let y = net.proj(y)?;
    net.output("y", y);
    Ok(())
}

/// (B1), (B2) or (B3).
fn normalised(config: &Config, net: &mut Net, [q, k, v]: [Value; 3], causal: bool) -> Built<Value> {
    let factor = scale(net.width(q, -1));
    let mean = net.mean(k, -2)?;
    let shift = net.scale(mean, config.real("beta"))?;
    let variance = match config.flag("divided") {
        false => None,
        true => {
            let centred = net.sub(k, mean)?;
            let squares = net.mul(centred, centred)?;
            let variance = net.mean(squares, -2)?;
            Some(net.shift(variance, config.real("epsilon"))?)
        }
    };
    if config.flag("folded") {
        let divided = |net: &mut Net, x: Value| variance.map_or(Ok(x), |variance| net.div(x, variance));
        let (q, shift) = (divided(net, q)?, divided(net, shift)?);
        let bias = net.scores([shift, k], factor)?;
        let scores = net.scores([q, k], factor)?;
        let scores = net.sub(scores, bias)?;
        return net.attend_scored(scores, v, causal);
    }
    let deviation = variance.map(|variance| net.sqrt(variance)).transpose()?;
    let normal = |net: &mut Net, x: Value| {
        let x = net.sub(x, shift)?;
        deviation.map_or(Ok(x), |deviation| net.div(x, deviation))
    };
    let (q, k) = (normal(net, q)?, normal(net, k)?);
    net.attend([q, k, v], factor, causal)
}

/// (B4): each head over its own means of keys and values.
fn pooled(
    config: &Config,
    net: &mut Net,
    qkv: [Value; 3],
    attend: &dyn Fn(&mut Net, [Value; 3]) -> Built<Value>,
) -> Built<Value> {
    let (heads, ratios) = (config.integer("heads"), config.integers("ratios"));
    if ratios.len() != heads {
        let count = ratios.len();
        return Err(config.unfit(format!("`ratios` are {count}, and there are {heads} heads")));
    }
    let mut parts = Vec::new();
    for (head, ratio) in ratios.into_iter().enumerate() {
        let mut own = qkv;
        for x in &mut own {
            *x = net.slice(*x, 1, head, 1i64)?;
        }
        let [q, k, v] = own;
        let (k, v) = (pool(net, k, ratio)?, pool(net, v, ratio)?);
        parts.push(attend(net, [q, k, v])?);
    }
    net.concat(&parts, 1)
}

/// `[B, 1, N, d]` → `[B, 1, ⌈N/r⌉, d]`: means of `r` tokens each; the last one of those that are left.
fn pool(net: &mut Net, x: Value, ratio: usize) -> Built<Value> {
    if ratio == 1 {
        return Ok(x);
    }
    let (ratio, shape) = (Dim::from(ratio), net.ty(x).shape.clone());
    let [batch, one, tokens, width] = <[Dim; 4]>::try_from(shape).expect("heads have four axes");
    let count = tokens.ceil_div(&ratio);
    let zero = net.scalar(0.0);
    let none = || vec![Dim::constant(0); 4];
    let mut high = none();
    high[2] = count.clone() * ratio.clone() - tokens.clone();
    let x = net.op(&PAD, &[x, zero], [LOW.is(none()), HIGH.is(high)])?;
    let x = net.reshape(x, [batch.clone(), one.clone(), count.clone(), ratio.clone(), width.clone()])?;
    let sum = net.sum(x, 3)?;
    let sum = net.reshape(sum, [batch, one, count.clone(), width])?;
    // Where each window begins, and how many tokens there are from there on.
    let window = net.iota([count, Dim::constant(1)], 0, DType::I64)?;
    let [ratio, tokens] = [ratio, tokens].map(|size| net.count(&size));
    let (ratio, tokens) = (ratio?, tokens?);
    let start = net.mul(window, ratio)?;
    let left = net.sub(tokens, start)?;
    let each = net.min(left, ratio)?;
    let each = net.cast(each, DType::F32)?;
    net.div(sum, each)
}
