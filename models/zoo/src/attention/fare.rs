//! FARE and SparseFARE (arXiv 2411.14765): fair contrastive learning, where negatives are weighed by attention over a
//! protected attribute.
//!
//! `a, b: [n, e]` are embeddings of two views, `z: [n, d_z]` the attribute; `W_Q, W_K: [d_k, d_z]`.
//!
//! - (F1) `f_ij = cos(aᵢ, bⱼ) / τ`;
//! - (F2) `s_ij = (W_Q zᵢ)·(W_K zⱼ) / ρ`, `p_i· = softmaxⱼ s_ij`;
//! - (F3) `oᵢ = Σⱼ p_ij exp(f_ij)`: values depend on the query, too, so this is no product of matrices;
//! - (F4) SparseFARE: `s_ij = −∞` unless both are in one bucket, `argmax [zR ; −zR]`, `R: [d_z, n_b/2]`;
//! - (F6) `loss = meanᵢ softplus(LSEⱼ(s_ij + f_ij) − LSEⱼ s_ij − f_ii)`, which is (F5), `−mean log(exp f_ii/(exp f_ii + oᵢ))`,
//!   without its overflow for small `τ`; `o` itself does overflow there.
//!
//! Reconstructed from the text of the submission: no code is released. `R` has `n_b/2` columns for `n_b` buckets, and hashes
//! `z`, as the definition says.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::reduce::arg_max::ARG_MAX;
use ops::reduce::position::position;
use ops::reduce::reduce_mean::REDUCE_MEAN;

use crate::Entry;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, Setting, integer, real};

const PAPER: &str = "An Attention-based Framework for Fair Contrastive Learning (FARE), arXiv 2411.14765";
const EMBEDDED: Setting = integer("dim", 128, 1, "width e of embeddings");
const ATTRIBUTE: Setting = integer("attribute", 3, 1, "width d_z of the protected attribute");
const KEYS: Setting = integer("key_width", 128, 1, "width d_k of queries and keys");
const TAU: Setting = real("tau", 0.5, "temperature τ of similarities");
const RHO: Setting = real("rho", 0.0, "temperature ρ of attention; 0 is √d_k");

/// FARE.
pub const FARE: Entry = Entry {
    name: "fare",
    about: "the loss of FARE: negatives weighed by attention over a protected attribute",
    paper: PAPER,
    status: "reconstructed from the text",
    forms: &[],
    settings: &[EMBEDDED, ATTRIBUTE, KEYS, TAU, RHO],
    small: &[("dim", "12"), ("attribute", "3"), ("key_width", "8")],
    build: |config, net| build(config, net, None),
};

/// SparseFARE.
pub const SPARSE_FARE: Entry = Entry {
    name: "sparse-fare",
    about: "the loss of SparseFARE: negatives of the same bucket, weighed by attention",
    paper: PAPER,
    status: "reconstructed from the text",
    forms: &[],
    settings: &[EMBEDDED, ATTRIBUTE, KEYS, TAU, RHO, integer("buckets", 8, 2, "buckets n_b, an even number")],
    small: &[("dim", "12"), ("attribute", "3"), ("key_width", "8"), ("buckets", "4")],
    build: |config, net| {
        let buckets = config.integer("buckets");
        if !buckets.is_multiple_of(2) {
            return Err(config.unfit(format!("`buckets` = {buckets} is no even number")));
        }
        build(config, net, Some(buckets / 2))
    },
};

/// `a, b, z` and maybe `R` → `o: [n]`, `loss: []`.
fn build(config: &Config, net: &mut Net, planes: Option<usize>) -> Built<()> {
    let [dim, attribute, keys] = ["dim", "attribute", "key_width"].map(|name| config.integer(name));
    let rows = |width: usize| [symbol("n"), Dim::from(width)];
    let a = net.input("a", DType::F32, rows(dim));
    let b = net.input("b", DType::F32, rows(dim));
    let z = net.input("z", DType::F32, rows(attribute));
    let planes = planes.map(|planes| net.input("R", DType::F32, [attribute.into(), planes.into()]));
    let (tau, rho) = (config.real("tau"), config.real("rho"));
    if tau <= 0.0 || rho < 0.0 {
        return Err(config.unfit(format!("temperatures are above 0: `tau` = {tau}, `rho` = {rho}")));
    }
    let (a, b) = (unit(net, a)?, unit(net, b)?);
    let similar = net.scores([a, b], tau.recip())?;
    let rho = if rho == 0.0 { (keys as f64).sqrt() } else { rho };
    let (q, k) = (net.project(z, "w_q", keys)?, net.project(z, "w_k", keys)?);
    let mut scores = net.scores([q, k], rho.recip())?;
    if let Some(planes) = planes {
        scores = same_bucket(net, z, planes, scores)?;
    }
    let weights = net.softmax(scores, -1)?;
    let values = net.exp(similar)?;
    let weighed = net.mul(weights, values)?;
    let o = net.sum(weighed, -1)?;
    let o = net.squeeze(o, -1)?;
    net.output("o", o);
    let both = net.mul(a, b)?;
    let own = net.sum(both, -1)?;
    let own = net.scale(own, tau.recip())?;
    let sums = net.add(scores, similar)?;
    let above = log_sum_exp(net, sums)?;
    let below = log_sum_exp(net, scores)?;
    let ratio = net.sub(above, below)?;
    let ratio = net.sub(ratio, own)?;
    let losses = net.softplus(ratio)?;
    let loss = net.reduced(&REDUCE_MEAN, losses, &[0, 1], false)?;
    net.output("loss", loss);
    Ok(())
}

/// Rows of length 1; those shorter than 1e-12 are divided by that.
fn unit(net: &mut Net, x: Value) -> Built<Value> {
    let squares = net.mul(x, x)?;
    let sum = net.sum(squares, -1)?;
    let length = net.sqrt(sum)?;
    let least = net.scalar(1e-12);
    let length = net.max(length, least)?;
    net.div(x, length)
}

/// (F4): scores of pairs of one bucket, −∞ for the others.
fn same_bucket(net: &mut Net, z: Value, planes: Value, scores: Value) -> Built<Value> {
    let sides = net.matmul(z, planes)?;
    let other = net.neg(sides)?;
    let sides = net.concat(&[sides, other], -1)?;
    let bucket = net.make(ARG_MAX.name, |b| position(b, &ARG_MAX, sides, -1, true, false))?;
    let of_key = net.transposed(bucket)?;
    let same = net.eq(bucket, of_key)?;
    let never = net.scalar(f64::NEG_INFINITY);
    net.select(same, scores, never)
}

/// `log Σ exp x` along the last axis, which stays with size 1.
fn log_sum_exp(net: &mut Net, x: Value) -> Built<Value> {
    let most = net.most(x, -1)?;
    let rest = net.sub(x, most)?;
    let rest = net.exp(rest)?;
    let sum = net.sum(rest, -1)?;
    let log = net.log(sum)?;
    net.add(log, most)
}
