//! Linear attention whose kernel is learned: the Kernelized Transformer (arXiv 2110.08323) by its spectral density, and a
//! trainable feed-forward kernel (arXiv 2211.04076).
//!
//! With `x ← d^-1/4 x`, `ε: [d, m]` (`omega`) drawn once, `μ: [H, d]` (`mean`) and `F: [H, d, d]` or `c: [H, d]` (`chol`)
//! learned for each head:
//!
//! - (T1) `features=rks`: `ω = Fᵀε`, `u± = x·(ω ± μ)`, `φ = [cos u₊, sin u₊, cos u₋, sin u₋]/√m`;
//! - (T2) `features=prf`: `ω = exp(c/2)∘ε + μ`, `φ = exp(x·ω − ‖x‖² − ½ log m)`;
//! - (G1) the feed-forward kernel: `φ(x) = softplus(W₂ relu(W₁ x))`, of `x` as it is, shared by queries and keys;
//! - (T3) `out = φ(q) (φ(k)ᵀ v) / (φ(q)·Σⱼ φ(kⱼ) + 1e-6)`.
//!
//! (T1) to (T3) are verified against the authors' code; of (G1) no code is released, and sizes and activations are
//! reconstructed. Sums of cosines may be small or negative: (T1) amplifies rounding.

use ir::graph::Value;

use super::{layer_input, scale};
use crate::Entry;
use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, choice, integer};

/// What is added to sums of features.
const EPSILON: f64 = 1e-6;

/// The Kernelized Transformer.
pub const KERNELIZED: Entry = Entry {
    name: "kernelized",
    about: "a layer of the Kernelized Transformer: linear attention with a learned spectral density",
    paper: "Kernelized Transformer, arXiv 2110.08323",
    status: "verified against the authors' code",
    forms: &[],
    settings: &[
        integer("dim", 64, 1, "width C of tokens"),
        integer("heads", 2, 1, "heads H"),
        choice("features", &["prf", "rks"], "the features: (T2) or (T1)"),
        integer("draws", 128, 1, "draws m of the spectral density"),
    ],
    small: &[("dim", "32"), ("heads", "4"), ("draws", "16")],
    build: |config, net| {
        let x = layer_input(config, net, symbol("N"))?;
        let [q, k, v] = net.qkv(x, config.integer("heads"))?;
        let frequencies = Frequencies::new(config, net)?;
        let (q, k) = (frequencies.features(net, q)?, frequencies.features(net, k)?);
        finish(net, [q, k, v])
    },
};

/// The trainable feed-forward kernel.
pub const FEED_FORWARD_KERNEL: Entry = Entry {
    name: "feed-forward-kernel",
    about: "a layer of linear attention whose features are a small network of queries and keys",
    paper: "Trainable feed-forward kernels, arXiv 2211.04076",
    status: "reconstructed: sizes and activations of the network are not known",
    forms: &[],
    settings: &[
        integer("dim", 64, 1, "width C of tokens"),
        integer("heads", 2, 1, "heads H"),
        integer("hidden", 64, 1, "width between the products of the network"),
        integer("features", 64, 1, "features m"),
    ],
    small: &[("dim", "32"), ("heads", "4"), ("hidden", "16"), ("features", "12")],
    build: |config, net| {
        let x = layer_input(config, net, symbol("N"))?;
        let [q, k, v] = net.qkv(x, config.integer("heads"))?;
        let sizes = [config.integer("hidden"), config.integer("features")];
        // One network for both: they are put side by side.
        let both = net.concat(&[q, k], 1)?;
        let both = net.linear(both, "f1", sizes[0])?;
        let both = net.relu(both)?;
        let both = net.linear(both, "f2", sizes[1])?;
        let both = net.softplus(both)?;
        let heads = config.integer("heads");
        let (q, k) = (net.slice(both, 1, 0i64, heads)?, net.slice(both, 1, heads, heads)?);
        finish(net, [q, k, v])
    },
};

/// What is learned of the spectral density.
struct Frequencies {
    /// `ω: [H, d, m]`, or `ω + μ` and `ω − μ`.
    omega: Vec<Value>,
    draws: usize,
}

impl Frequencies {
    fn new(config: &Config, net: &mut Net) -> Built<Frequencies> {
        let (heads, width) = (config.integer("heads"), config.part("dim", "heads")?);
        let draws = config.integer("draws");
        let is_prf = config.word("features") == "prf";
        let omega = net.weight("omega", &[width, draws], Start::Normal { deviation: 1.0 })?;
        let mean = net.weight("mean", &[heads, width], Start::Zeros)?;
        let mean = net.unsqueeze(mean, -1)?;
        let omega = if is_prf {
            let variance = net.weight("chol", &[heads, width], Start::Zeros)?;
            let half = net.scale(variance, 0.5)?;
            let deviation = net.exp(half)?;
            let deviation = net.unsqueeze(deviation, -1)?;
            let omega = net.mul(omega, deviation)?;
            vec![net.add(omega, mean)?]
        } else {
            let unit = |at: &[usize]| if at[1] == at[2] { 1.0 } else { 0.0 };
            let factor = net.weight("chol", &[heads, width, width], Start::At(&unit))?;
            let factor = net.transposed(factor)?;
            let omega = net.matmul(factor, omega)?;
            vec![net.add(omega, mean)?, net.sub(omega, mean)?]
        };
        Ok(Frequencies { omega, draws })
    }

    /// (T1) or (T2): `x: [B, H, N, d]` → `[B, H, N, 4m]` or `[B, H, N, m]`.
    fn features(&self, net: &mut Net, x: Value) -> Built<Value> {
        let draws = self.draws as f64;
        let x = net.scale(x, scale(net.width(x, -1)).sqrt())?;
        match self.omega[..] {
            [omega] => {
                let squares = net.mul(x, x)?;
                let square = net.sum(squares, -1)?;
                let product = net.matmul(x, omega)?;
                let logarithm = net.sub(product, square)?;
                let logarithm = net.shift(logarithm, -0.5 * draws.ln())?;
                net.exp(logarithm)
            }
            _ => {
                let mut parts = Vec::new();
                for &omega in &self.omega {
                    let u = net.matmul(x, omega)?;
                    parts.extend([net.cos(u)?, net.sin(u)?]);
                }
                let all = net.concat(&parts, -1)?;
                net.scale(all, draws.recip().sqrt())
            }
        }
    }
}

/// (T3) of features of queries and keys, and the linear layer behind it.
fn finish(net: &mut Net, [q, k, v]: [Value; 3]) -> Built<()> {
    let keys = net.transposed(k)?;
    let state = net.matmul(keys, v)?;
    let above = net.matmul(q, state)?;
    let all = net.sum(k, -2)?;
    let shares = net.mul(q, all)?;
    let below = net.sum(shares, -1)?;
    let below = net.shift(below, EPSILON)?;
    let y = net.div(above, below)?;
    let y = net.proj(y)?;
    net.output("y", y);
    Ok(())
}
