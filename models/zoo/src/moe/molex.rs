//! MoLEx (Teo et al. 2025, arXiv 2503.11144): a fine-tuned encoder whose experts are its own layers.
//!
//! - (X1) `u_j(z)`: a post-norm block with LoRA on queries and values, `W z + (lora_alpha / r) U (A z)`, and the exact GELU;
//! - (X2), (X3) `z' = α_t u_t(z) + (1 − α_t) Σⱼ gⱼ u_j(z)`, `j` and `g` the `k` layers that the gate chooses, by (G1);
//! - (X4) `gate_t(z) = Wg_t z + bg_t`, its mean over all tokens of the batch (`level=batch`), or of a text (`sequence`), or for
//!   each token (`token`), for which layers still attend over the whole text.
//!
//! Layer `t` and those that its gate chooses are slots of one pass over `z`: their products are grouped ones, so that the
//! matrices of layers that nobody chooses are not read. `A` and `U` are added to the matrices when the model is compiled, if
//! there is room. With tokens that choose for themselves, attention is that of all layers.
//!
//! `encoder`: `z0: [B, S, D]` → `z_out: [B, S, D]`. `base`: the encoder with its adapters, without gates.
//!
//! Reconstructed, as no code of the authors is available: all but (X2), which a figure of the paper says. Unknown are `α`, here
//! a weight for each layer, and how a batch decides, here by the mean of scores; no source has the levels of texts and tokens.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::norm::layer_norm::LAYER_NORM;
use ops::norm::{AXES, EPSILON};
use ops::order::route::{MOST_TAKEN, route};
use ops::reduce::reduce_mean::REDUCE_MEAN;
use ops::shape::gather_elements::{self, GATHER_ELEMENTS};

use super::language::NORM;
use crate::attention::scale;
use crate::init::Start;
use crate::net::{Built, Net, Order, Routing, symbol};
use crate::setting::{Config, choice, integer, real};
use crate::{Entry, Form};

/// The model.
pub const MOLEX: Entry = Entry {
    name: "molex",
    about: "MoLEx: an encoder with LoRA whose layers mix with other layers that a gate chooses",
    paper: "MoLEx, arXiv 2503.11144",
    status: "reconstructed from the text; the authors' code is not available",
    forms: &[
        Form { name: "encoder", about: "the encoder, of the size of RoBERTa-base", defaults: &[] },
        Form { name: "base", about: "the encoder that it is made of", defaults: &[] },
    ],
    settings: &[
        integer("dim", 768, 1, "width D of tokens"),
        integer("heads", 12, 1, "heads of attention"),
        integer("hidden", 3072, 1, "width between the products of a feed-forward layer"),
        integer("depth", 12, 1, "layers L, which are the experts, too"),
        integer("rank", 8, 1, "rank r of LoRA"),
        real("lora_alpha", 8.0, "LoRA is scaled by this over its rank"),
        real("alpha", 0.9, "what the share α of a layer itself begins with"),
        integer("k", 1, 1, "layers that a gate chooses"),
        choice("level", &["batch", "sequence", "token"], "what chooses together (X4)"),
    ],
    small: &[("dim", "32"), ("heads", "4"), ("hidden", "48"), ("depth", "2"), ("rank", "4")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let (dim, depth) = (config.integer("dim"), config.integer("depth"));
    let width = config.part("dim", "heads")?;
    let mut z = net.input("z0", DType::F32, [symbol("B"), symbol("S"), dim.into()]);
    let layers = net.within("params", |net| Layers::new(config, net, width))?;
    if config.form() == "base" {
        for t in 0..depth {
            let only = |net: &mut Net, value: Value| -> Built<Value> {
                let own = net.slice(value, 0, t, 1usize)?;
                net.squeeze(own, 0)
            };
            z = net.within(format!("layers.{t}"), |net| layers.plain(net, z, &only))?;
        }
        net.output("z_out", z);
        return Ok(());
    }
    let (k, level) = (config.integer("k"), config.word("level"));
    if k > depth {
        return Err(config.unfit(format!("`k` = {k} is more than `depth` = {depth}")));
    }
    let weight = net.weight("gate_w", &[depth, depth, dim], Start::Normal { deviation: 0.02 })?;
    let bias = net.weight("gate_b", &[depth, depth], Start::Zeros)?;
    let alpha = net.weight("alpha", &[depth], Start::Splat(config.real("alpha")))?;
    let gates = Gates { weight, bias, alpha, k, level };
    for t in 0..depth {
        z = net.within(format!("layers.{t}"), |net| {
            let routing = gates.of(net, z, t)?;
            layers.mixed(net, z, routing, level == "token")
        })?;
    }
    net.output("z_out", z);
    Ok(())
}

/// What decides (X4).
struct Gates {
    /// `[L, L, D]`.
    weight: Value,
    /// `[L, L]`.
    bias: Value,
    /// `[L]`.
    alpha: Value,
    k: usize,
    level: &'static str,
}

impl Gates {
    /// Layer `t` and those that are chosen, `[1 or B, 1 or S, 1 + k]`, with their shares (X2).
    fn of(&self, net: &mut Net, z: Value, t: usize) -> Built<Routing> {
        let weight = net.slice(self.weight, 0, t, 1usize)?;
        let weight = net.squeeze(weight, 0)?;
        let weight = net.transposed(weight)?;
        let bias = net.slice(self.bias, 0, t, 1usize)?;
        let scores = net.matmul(z, weight)?;
        let scores = net.add(scores, bias)?;
        let scores = match self.level {
            "batch" => net.reduced(&REDUCE_MEAN, scores, &[0, 1], true)?,
            "sequence" => net.mean(scores, 1)?,
            _ => scores,
        };
        let Routing { ids, gates } = self.chosen(net, scores)?;
        let mut shape = net.ty(ids).shape.clone();
        shape[2] = Dim::constant(1);
        let own = net.count(&t.into())?;
        let own = net.broadcast(own, shape.clone())?;
        let alpha = net.slice(self.alpha, 0, t, 1usize)?;
        let one = net.scalar(1.0);
        let rest = net.sub(one, alpha)?;
        let gates = net.mul(gates, rest)?;
        let alpha = net.broadcast(alpha, shape)?;
        Ok(Routing { ids: net.concat(&[own, ids], -1)?, gates: net.concat(&[alpha, gates], -1)? })
    }

    /// The `k` layers of the largest scores, and (G1).
    fn chosen(&self, net: &mut Net, scores: Value) -> Built<Routing> {
        let taken = self.k as i64;
        if taken > MOST_TAKEN {
            return net.routed(scores, self.k, Order::Chosen);
        }
        // That their places name matrices cannot be seen once layer `t` is among them.
        let [values, ids] = net.make("route", |b| route(b, scores, taken))?;
        Ok(Routing { ids, gates: net.softmax(values, -1)? })
    }
}

/// The weights of all layers, one after the other along the first axis.
struct Layers {
    heads: usize,
    width: usize,
    /// Queries, keys and values, with LoRA: `[L, D, 3 D]`, `[L, 3 D]`.
    joint: [Value; 2],
    /// `[L, D, D]`, `[L, D]`.
    out: [Value; 2],
    /// `[L, D]`.
    norm1: [Value; 2],
    /// `[L, D, H]`, `[L, H]`.
    fc1: [Value; 2],
    /// `[L, H, D]`, `[L, D]`.
    fc2: [Value; 2],
    /// `[L, D]`.
    norm2: [Value; 2],
}

impl Layers {
    fn new(config: &Config, net: &mut Net, width: usize) -> Built<Layers> {
        let [dim, depth, hidden, rank, heads] =
            ["dim", "depth", "hidden", "rank", "heads"].map(|name| config.integer(name));
        let factor = config.real("lora_alpha") / rank as f64;
        let matrix = |net: &mut Net, name: &str, to: usize, from: usize| {
            net.weight(name, &[depth, to, from], Start::Xavier { fan_in: from, fan_out: to })
        };
        let row =
            |net: &mut Net, name: &str, size: usize, start: Start| net.weight(name, &[depth, size], start);
        let [mut q, k, mut v] =
            [matrix(net, "wq", dim, dim)?, matrix(net, "wk", dim, dim)?, matrix(net, "wv", dim, dim)?];
        for (weight, up, down) in [(&mut q, "uq", "aq"), (&mut v, "uv", "av")] {
            let deviation = (dim as f64).sqrt().recip();
            let down = net.weight(down, &[depth, rank, dim], Start::Normal { deviation })?;
            let up = net.weight(up, &[depth, dim, rank], Start::Zeros)?;
            let low = net.matmul(up, down)?;
            let low = net.scale(low, factor)?;
            *weight = net.add(*weight, low)?;
        }
        let joint = net.concat(&[q, k, v], 1)?;
        let joint = net.transposed(joint)?;
        let biases = [
            row(net, "bq", dim, Start::Zeros)?,
            row(net, "bk", dim, Start::Zeros)?,
            row(net, "bv", dim, Start::Zeros)?,
        ];
        let joint_bias = net.concat(&biases, 1)?;
        let [out, fc1, fc2] =
            [matrix(net, "wo", dim, dim)?, matrix(net, "w1", hidden, dim)?, matrix(net, "w2", dim, hidden)?];
        Ok(Layers {
            heads,
            width,
            joint: [joint, joint_bias],
            out: [net.transposed(out)?, row(net, "bo", dim, Start::Zeros)?],
            norm1: [row(net, "g1", dim, Start::Ones)?, row(net, "c1", dim, Start::Zeros)?],
            fc1: [net.transposed(fc1)?, row(net, "b1", hidden, Start::Zeros)?],
            fc2: [net.transposed(fc2)?, row(net, "b2", dim, Start::Zeros)?],
            norm2: [row(net, "g2", dim, Start::Ones)?, row(net, "c2", dim, Start::Zeros)?],
        })
    }

    /// `u_t(z)`, where `only` takes what is layer `t`'s.
    fn plain(&self, net: &mut Net, z: Value, only: &dyn Fn(&mut Net, Value) -> Built<Value>) -> Built<Value> {
        let linear = |net: &mut Net, x: Value, [weight, bias]: [Value; 2]| {
            let (weight, bias) = (only(net, weight)?, only(net, bias)?);
            let y = net.matmul(x, weight)?;
            net.add(y, bias)
        };
        let joint = linear(net, z, self.joint)?;
        let [q, k, v] = net.chunk(joint)?;
        let [q, k, v] = [net.heads(q, self.heads)?, net.heads(k, self.heads)?, net.heads(v, self.heads)?];
        let y = net.attend([q, k, v], scale(self.width), false)?;
        let y = net.merged(y)?;
        let y = linear(net, y, self.out)?;
        let norm = |net: &mut Net, x: Value, y: Value, [weight, bias]: [Value; 2]| {
            let sum = net.add(x, y)?;
            let by = [only(net, weight)?, only(net, bias)?];
            normed(net, sum, by)
        };
        let h = norm(net, z, y, self.norm1)?;
        let y = linear(net, h, self.fc1)?;
        let y = net.gelu(y)?;
        let y = linear(net, y, self.fc2)?;
        norm(net, h, y, self.norm2)
    }

    /// `Σⱼ gⱼ u_j(z)` over slots: `z: [B, S, D]` → `[B, S, D]`.
    fn mixed(&self, net: &mut Net, z: Value, routing: Routing, by_token: bool) -> Built<Value> {
        let Routing { ids, gates } = routing;
        let y = if by_token { self.attend_all(net, z, ids)? } else { self.attend_slots(net, z, ids)? };
        let norm = |net: &mut Net, x: Value, y: Value, [weight, bias]: [Value; 2]| {
            let sum = net.add(x, y)?;
            let by = [net.gather(weight, ids)?, net.gather(bias, ids)?];
            normed(net, sum, by)
        };
        let y = net.on_slots(y, self.out[0], Some(self.out[1]), ids)?;
        let row = net.unsqueeze(z, 2)?;
        let h = norm(net, row, y, self.norm1)?;
        let y = net.on_slots(h, self.fc1[0], Some(self.fc1[1]), ids)?;
        let y = net.gelu(y)?;
        let y = net.on_slots(y, self.fc2[0], Some(self.fc2[1]), ids)?;
        let y = norm(net, h, y, self.norm2)?;
        let shape = net.ty(y).shape[..3].to_vec();
        let gates = net.broadcast(gates, shape)?;
        net.combined(y, gates)
    }

    /// Attention of the layers that slots name, which are the same for all tokens of a text: `[B, S, 1 + k, D]`.
    fn attend_slots(&self, net: &mut Net, z: Value, ids: Value) -> Built<Value> {
        let row = net.unsqueeze(z, 2)?;
        let joint = net.on_slots(row, self.joint[0], Some(self.joint[1]), ids)?;
        let [q, k, v] = net.chunk(joint)?;
        let mut by_heads = |x: Value| {
            let x = self.split(net, x)?;
            net.transpose(x, &[0, 2, 3, 1, 4])
        };
        let heads = [by_heads(q)?, by_heads(k)?, by_heads(v)?];
        self.attended(net, heads)
    }

    /// Attention of all layers, of which each slot takes its own: `[B, S, 1 + k, D]`.
    fn attend_all(&self, net: &mut Net, z: Value, ids: Value) -> Built<Value> {
        let rows = net.unsqueeze(z, 1)?;
        let joint = net.matmul(rows, self.joint[0])?;
        let bias = net.unsqueeze(self.joint[1], 1)?;
        let joint = net.add(joint, bias)?;
        let [q, k, v] = net.chunk(joint)?;
        let mut by_heads = |x: Value| {
            let x = self.split(net, x)?;
            net.transpose(x, &[0, 1, 3, 2, 4])
        };
        let heads = [by_heads(q)?, by_heads(k)?, by_heads(v)?];
        let all = self.attended(net, heads)?;
        let each = net.unsqueeze(ids, -1)?;
        let mut shape = net.ty(ids).shape.clone();
        shape.push(net.size(all, -1));
        let each = net.broadcast(each, shape)?;
        net.op(&GATHER_ELEMENTS, &[all, each], [gather_elements::AXIS.is(2)])
    }

    /// `[.., .., .., D]` with an axis of heads: `[.., .., .., H, D/H]`.
    fn split(&self, net: &mut Net, x: Value) -> Built<Value> {
        let shape = net.ty(x).shape[..3].to_vec();
        net.reshape(x, shape.into_iter().chain([self.heads.into(), self.width.into()]))
    }

    /// `[B, J, H, S, D/H]` for layers `J` → `[B, S, J, D]`.
    fn attended(&self, net: &mut Net, heads: [Value; 3]) -> Built<Value> {
        let y = net.attend(heads, scale(self.width), false)?;
        let y = net.transpose(y, &[0, 3, 1, 2, 4])?;
        let shape = net.ty(y).shape[..3].to_vec();
        net.reshape(y, shape.into_iter().chain([(self.heads * self.width).into()]))
    }
}

/// A layer norm with such a scale and bias.
fn normed(net: &mut Net, x: Value, [weight, bias]: [Value; 2]) -> Built<Value> {
    let y = net.op(&LAYER_NORM, &[x], [AXES.is(vec![-1]), EPSILON.is(NORM)])?;
    let y = net.mul(y, weight)?;
    net.add(y, bias)
}
