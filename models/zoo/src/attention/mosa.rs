//! MoSA, mixture of sparse attention (arXiv 2505.00315): each head chooses the tokens that it attends over.
//!
//! - (S1) `r = sigmoid(X W_r)`, `[B, T, E]`;
//! - (S2) `I_e = top-k_t r_·e`, `k = max(2, ⌊T/ρ⌋)`; with `include_first`, token 0 and the best `k − 1` of the others;
//! - (S3) `q, k, v = X[I_e] W_e^{qkv}`, `[B, E, k, 3d]`, `w_qkv: [E, C, 3d]`; the first part of `q` and `k` is rotated by the
//!   tokens' places in the text (base 1e4, halves);
//! - (S4) `A = softmax(q kᵀ/√d, unless I_i < I_j) v`;
//! - (S5) `Y[I_e] += (A ∘ r_{I_e}) W_e^o`, `w_o: [E, d, C]`. Tokens that no head chooses get 0.
//!
//! Which tokens are chosen depends on the whole text, also for a language model. Verified against the authors' code.

use ir::graph::Value;
use ir::{DType, Dim, Tensor};
use ops::shape::gather_elements::{self, GATHER_ELEMENTS};
use ops::shape::scatter::REDUCTION;
use ops::shape::scatter_elements::{self, SCATTER_ELEMENTS};

use super::scale;
use crate::Entry;
use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, flag, integer, real};

/// The model.
pub const MOSA: Entry = Entry {
    name: "mosa",
    about: "a layer of MoSA: each head attends over the tokens that it chooses",
    paper: "Mixture of Sparse Attention (MoSA), arXiv 2505.00315",
    status: "verified against the authors' code; the dense heads beside it are not part of the layer",
    forms: &[],
    settings: &[
        integer("dim", 512, 1, "width C of tokens"),
        integer("heads", 14, 1, "heads E"),
        integer("head_width", 64, 2, "width d of a head"),
        integer("sparsity", 8, 1, "ρ: a head chooses one token in so many"),
        flag("include_first", false, "whether every head chooses token 0"),
        real("rotated", 0.5, "the part of a head that is rotated, from 0 to 1"),
    ],
    small: &[("dim", "32"), ("heads", "4"), ("head_width", "8"), ("sparsity", "3")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let [dim, heads, width, sparsity] =
        ["dim", "heads", "head_width", "sparsity"].map(|name| config.integer(name));
    let (batch, tokens) = (symbol("B"), symbol("T"));
    let x = net.input("x", DType::F32, [batch.clone(), tokens.clone(), dim.into()]);
    let two = Dim::constant(2);
    let count = tokens.floor_div(&sparsity.into()).larger(&two).smaller(&tokens);
    let scores = net.project(x, "router", heads)?;
    let scores = net.sigmoid(scores)?;
    let scores = net.transpose(scores, &[0, 2, 1])?;
    let [gates, places] = choose(net, scores, &count, config.flag("include_first"))?;
    let chosen = gathered(net, x, places, heads)?;
    let start = Start::Xavier { fan_in: dim, fan_out: width };
    let w = net.weight("w_qkv", &[heads, dim, 3 * width], start)?;
    let qkv = net.matmul(chosen, w)?;
    let [q, k, v] = net.chunk(qkv)?;
    let part = config.real("rotated");
    if !(0.0..=1.0).contains(&part) {
        return Err(config.unfit(format!("`rotated` = {part} is no part")));
    }
    // An even number of channels.
    let rotated = (part * width as f64) as usize / 2 * 2;
    let (q, k) = (rotate(net, q, places, rotated)?, rotate(net, k, places, rotated)?);
    let scores = net.scores([q, k], scale(width))?;
    let (of_query, of_key) = (net.unsqueeze(places, -1)?, net.unsqueeze(places, -2)?);
    let seen = net.le(of_key, of_query)?;
    let never = net.scalar(f64::NEG_INFINITY);
    let scores = net.select(seen, scores, never)?;
    let y = net.attend_scored(scores, v, false)?;
    let gates = net.unsqueeze(gates, -1)?;
    let y = net.mul(y, gates)?;
    let w = net.weight("w_o", &[heads, width, dim], Start::Xavier { fan_in: width, fan_out: dim })?;
    let y = net.matmul(y, w)?;
    let y = scattered(net, y, places, [batch, tokens])?;
    net.output("y", y);
    Ok(())
}

/// (S2): `scores: [B, E, T]` → gates and places, `[B, E, k]`.
fn choose(net: &mut Net, scores: Value, count: &Dim, include_first: bool) -> Built<[Value; 2]> {
    if !include_first {
        return net.topk(scores, count.clone());
    }
    // Token 0 comes before all others, whose scores are at most 1.
    let place = net.iota([net.size(scores, -1)], 0, DType::I64)?;
    let zero = net.make("constant", |b| Ok(b.constant(&Tensor::from_i64(&[], &[0]))))?;
    let (is_first, above) = (net.eq(place, zero)?, net.scalar(2.0));
    let raised = net.select(is_first, above, scores)?;
    let [best, places] = net.topk(raised, count.clone())?;
    let first = net.slice(scores, -1, 0i64, 1i64)?;
    let is_first = net.eq(places, zero)?;
    Ok([net.select(is_first, first, best)?, places])
}

/// `X[I_e]`: `x: [B, T, C]`, `places: [B, E, k]` → `[B, E, k, C]`.
fn gathered(net: &mut Net, x: Value, places: Value, heads: usize) -> Built<Value> {
    let (batch, tokens, dim) = (net.size(x, 0), net.size(x, 1), net.size(x, 2));
    let each = net.unsqueeze(x, 1)?;
    let each = net.broadcast(each, [batch.clone(), heads.into(), tokens, dim.clone()])?;
    let count = net.size(places, -1);
    let places = net.unsqueeze(places, -1)?;
    let places = net.broadcast(places, [batch, heads.into(), count, dim])?;
    net.op(&GATHER_ELEMENTS, &[each, places], [gather_elements::AXIS.is(2)])
}

/// (S3): the first `rotated` channels of `x: [B, E, k, d]` turned by the places of the tokens.
fn rotate(net: &mut Net, x: Value, places: Value, rotated: usize) -> Built<Value> {
    if rotated == 0 {
        return Ok(x);
    }
    let (half, width) = (rotated / 2, net.width(x, -1));
    let inverse: Vec<f32> = (0..half).map(|i| 10_000f64.powf(-(i as f64) / half as f64) as f32).collect();
    let inverse = net.make("constant", |b| Ok(b.constant(&Tensor::from_f32(&[half], &inverse))))?;
    let places = net.cast(places, DType::F32)?;
    let places = net.unsqueeze(places, -1)?;
    let angle = net.mul(places, inverse)?;
    let (cos, sin) = (net.cos(angle)?, net.sin(angle)?);
    let (a, b) = (net.slice(x, -1, 0i64, half)?, net.slice(x, -1, half, half)?);
    let (a_cos, b_sin) = (net.mul(a, cos)?, net.mul(b, sin)?);
    let (b_cos, a_sin) = (net.mul(b, cos)?, net.mul(a, sin)?);
    let mut parts = vec![net.sub(a_cos, b_sin)?, net.add(b_cos, a_sin)?];
    if rotated < width {
        parts.push(net.slice(x, -1, rotated, width - rotated)?);
    }
    net.concat(&parts, -1)
}

/// (S5): the sum of `y: [B, E, k, C]` at the places of its rows, `[B, T, C]`.
fn scattered(net: &mut Net, y: Value, places: Value, [batch, tokens]: [Dim; 2]) -> Built<Value> {
    let (heads, count, dim) = (net.size(y, 1), net.size(y, 2), net.size(y, 3));
    let rows = heads * count;
    let y = net.reshape(y, [batch.clone(), rows.clone(), dim.clone()])?;
    let places = net.reshape(places, [batch.clone(), rows.clone(), Dim::constant(1)])?;
    let places = net.broadcast(places, [batch.clone(), rows, dim.clone()])?;
    let zero = net.scalar(0.0);
    let zeros = net.broadcast(zero, [batch, tokens, dim])?;
    let attrs = [scatter_elements::AXIS.is(1), REDUCTION.is("add".to_owned())];
    net.op(&SCATTER_ELEMENTS, &[zeros, places, y], attrs)
}
