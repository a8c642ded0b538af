//! Lightweight and dynamic convolution (Wu et al. 2019, arXiv 1901.10430): a softmax over a window instead of all keys.
//!
//! - (L1) `h = GLU(W₁x + b)`: the first half, times the sigmoid of the second;
//! - (L2) `y_tc = Σ_{j<K} softmax_j(w)_{g(c),j} · h_{t+j−l, c}`, `g(c) = ⌊cH/C⌋`, zeros around the text;
//!   `l = K − 1` (causal), else `⌊K/2⌋` for odd K and `K/2 − 1` for even K;
//! - (L3) `out = W₂y + b`.
//!
//! `kind=dynamic`: `w = W_Q h_t`, predicted for each token (`w.weight: [H·K, C]`); `kind=light`: `w: [H, K]` is learned.
//! The softmax is not taken anew at the borders. Verified against the authors' code.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::shape::pad::{HIGH, LOW, PAD};

use crate::Entry;
use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, choice, flag, integer};

/// The model.
pub const DYNAMIC_CONV: Entry = Entry {
    name: "dynamic-conv",
    about: "a layer of dynamic or lightweight convolution: a softmax over a window",
    paper: "Lightweight and dynamic convolutions, arXiv 1901.10430",
    status: "verified against the authors' code",
    forms: &[],
    settings: &[
        integer("dim", 512, 1, "width C of tokens"),
        integer("heads", 8, 1, "groups H of channels that share a kernel"),
        integer("window", 31, 1, "tokens K in a window"),
        choice("kind", &["dynamic", "light"], "whether kernels are predicted or learned"),
        flag("causal", false, "whether no token sees one after itself"),
    ],
    small: &[("dim", "32"), ("heads", "4"), ("window", "7")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let [dim, heads, window] = ["dim", "heads", "window"].map(|name| config.integer(name));
    let width = config.part("dim", "heads")?;
    let (batch, tokens) = (symbol("B"), symbol("N"));
    let x = net.input("x", DType::F32, [batch.clone(), tokens.clone(), dim.into()]);
    let both = net.linear(x, "lin1", 2 * dim)?;
    let [h, gate] = net.chunk(both)?;
    let gate = net.sigmoid(gate)?;
    let h = net.mul(h, gate)?;
    let kernel = if config.word("kind") == "dynamic" {
        let kernel = net.project(h, "w", heads * window)?;
        net.reshape(kernel, [batch.clone(), tokens.clone(), heads.into(), window.into()])?
    } else {
        net.weight("w", &[heads, window], Start::Xavier { fan_in: window, fan_out: window })?
    };
    let kernel = net.softmax(kernel, -1)?;
    let h = net.reshape(h, [batch.clone(), tokens.clone(), heads.into(), width.into()])?;
    let before = match (config.flag("causal"), window.is_multiple_of(2)) {
        (true, _) => window - 1,
        (false, false) => window / 2,
        (false, true) => window / 2 - 1,
    };
    let y = window_sum(net, h, kernel, before)?;
    let y = net.reshape(y, [batch, tokens, dim.into()])?;
    let y = net.linear(y, "lin2", dim)?;
    net.output("y", y);
    Ok(())
}

/// (L2): `h: [B, N, H, R]`, `kernel: [B, N, H, K]` or `[H, K]` → `[B, N, H, R]`; a window begins `before` tokens earlier.
fn window_sum(net: &mut Net, h: Value, kernel: Value, before: usize) -> Built<Value> {
    let (tokens, window) = (net.size(h, 1), net.width(kernel, -1));
    let zero = net.scalar(0.0);
    let along = |size: usize| vec![Dim::constant(0), size.into(), Dim::constant(0), Dim::constant(0)];
    let padding = [LOW.is(along(before)), HIGH.is(along(window - 1 - before))];
    let padded = net.op(&PAD, &[h, zero], padding)?;
    let mut sum: Option<Value> = None;
    for j in 0..window {
        let weight = net.slice(kernel, -1, j, 1i64)?;
        let shifted = net.slice(padded, 1, j, tokens.clone())?;
        let term = net.mul(weight, shifted)?;
        sum = Some(match sum {
            Some(sum) => net.add(sum, term)?,
            None => term,
        });
    }
    Ok(sum.expect("a window has at least one token"))
}
