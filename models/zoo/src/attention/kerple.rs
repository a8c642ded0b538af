//! KERPLE (Chi et al. 2022, arXiv 2205.09921): causal attention with a bias that is a kernel of the distance.
//!
//! `logits_ij = q_i·k_j/√d + bias_h(i − j)` for `i ≥ j`:
//! - (K1) `kind=log`: `bias = −p_h log(1 + a_h (i−j))`, `a, p ≥ 0.01`;
//! - (K2) `kind=power`: `bias = −a_h (i−j)^{p_h}`, `a ≥ 0.01`, `0.01 ≤ p ≤ 2`.
//!
//! `a, p: [H]` are learned, and clamped where they are used. The bias is computed in the kernel from `i − j`; no table of it
//! is made. Verified against the authors' code.

use ir::graph::Value;
use ir::{DType, Dim};

use super::{layer_input, scale};
use crate::Entry;
use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, choice, integer};

/// Neither parameter is smaller.
const FLOOR: f64 = 1e-2;

/// The model.
pub const KERPLE: Entry = Entry {
    name: "kerple",
    about: "a causal layer of KERPLE: biases that are kernels of the distance",
    paper: "KERPLE, arXiv 2205.09921",
    status: "verified against the authors' code",
    forms: &[],
    settings: &[
        integer("dim", 768, 1, "width C of tokens"),
        integer("heads", 12, 1, "heads H"),
        choice("kind", &["log", "power"], "the kernel: (K1) or (K2)"),
    ],
    small: &[("dim", "32"), ("heads", "4")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let tokens = symbol("N");
    let x = layer_input(config, net, tokens.clone())?;
    let [q, k, v] = net.qkv(x, config.integer("heads"))?;
    let scores = net.scores([q, k], scale(net.width(q, -1)))?;
    let bias = bias(config, net, &tokens)?;
    let scores = net.add(scores, bias)?;
    let y = net.attend_scored(scores, v, true)?;
    let y = net.proj(y)?;
    net.output("y", y);
    Ok(())
}

/// `[H, N, N]`; it is 0 for keys after the query.
fn bias(config: &Config, net: &mut Net, tokens: &Dim) -> Built<Value> {
    let heads = config.integer("heads");
    let is_power = config.word("kind") == "power";
    let a = net.weight("a", &[heads], Start::Uniform { low: 0.0, high: 1.0 })?;
    let p = net.weight("p", &[heads], Start::Uniform { low: 0.0, high: 2.0 })?;
    let per_head = |net: &mut Net, x: Value| net.reshape(x, [heads.into(), 1i64.into(), 1i64.into()]);
    let floor = net.scalar(FLOOR);
    let a = net.max(a, floor)?;
    let p = if is_power { net.clamp(p, FLOOR, 2.0)? } else { net.max(p, floor)? };
    let (a, p) = (per_head(net, a)?, per_head(net, p)?);
    let one = Dim::constant(1);
    let query = net.iota([tokens.clone(), one.clone()], 0, DType::F32)?;
    let key = net.iota([one, tokens.clone()], 1, DType::F32)?;
    let distance = net.sub(query, key)?;
    let distance = net.relu(distance)?;
    let kernel = if is_power {
        let power = net.pow(distance, p)?;
        net.mul(a, power)?
    } else {
        let grown = net.mul(a, distance)?;
        let grown = net.shift(grown, 1.0)?;
        let log = net.log(grown)?;
        net.mul(p, log)?
    };
    net.neg(kernel)
}
