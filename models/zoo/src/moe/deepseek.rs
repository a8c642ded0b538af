//! DeepSeekMoE (Dai et al. 2024, arXiv 2401.06066): many small experts, of which some are shared by all tokens.
//!
//! `h' = u + Σᵢ₌₁..Ks FFNᵢ(u) + Σᵢ gᵢ FFNᵢ(u)`, `s = softmax(u Eᵀ)` over the routed experts, `gᵢ = factor · sᵢ` for the `K` with the
//! largest scores and 0 for the others; with `scaled=true`, those are divided by their sum. An expert is
//! `FFN(u) = W2 (silu(W1 u) ∘ W3 u)`, without biases. The shared experts are one dense layer of width `Ks · H`, which is exact.
//!
//! `u: [N, D]` → `y: [N, D]`. Weights: `gate.weight: [E, D]`, `experts.w1, experts.w3: [E, H, D]`, `experts.w2: [E, D, H]`,
//! `shared.w1, shared.w3: [Ks·H, D]`, `shared.w2: [D, Ks·H]`.
//!
//! Reconstructed from the published equations. The counts of experts are those of the 2B model; widths are ours.

use ir::DType;

use super::layer::chosen;
use crate::Entry;
use crate::net::{Activation, Built, Net, Order, Routing, symbol};
use crate::setting::{Config, flag, integer, real};

/// The layer.
pub const DEEPSEEK_MOE: Entry = Entry {
    name: "deepseek-moe",
    about: "DeepSeekMoE: many small experts, some of which all tokens share",
    paper: "DeepSeekMoE, arXiv 2401.06066",
    status: "reconstructed from the published equations; widths are ours",
    forms: &[],
    settings: &[
        integer("dim", 512, 1, "width D of tokens"),
        integer("hidden", 352, 1, "width H of an expert"),
        integer("experts", 63, 1, "routed experts E"),
        integer("shared", 1, 0, "shared experts Ks"),
        integer("k", 7, 1, "routed experts K that a token goes to"),
        flag("scaled", false, "whether gates are divided by their sum"),
        real("factor", 1.0, "what gates are multiplied by"),
    ],
    small: &[("dim", "16"), ("hidden", "32"), ("experts", "8"), ("k", "2")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let [dim, hidden, shared] = ["dim", "hidden", "shared"].map(|name| config.integer(name));
    let (experts, k) = chosen(config)?;
    let order = if config.flag("scaled") { Order::AllScaled } else { Order::All };
    let u = net.input("u", DType::F32, [symbol("N"), dim.into()]);
    let scores = net.project(u, "gate", experts)?;
    let Routing { ids, mut gates } = net.routed(scores, k, order)?;
    let factor = config.real("factor");
    if factor != 1.0 {
        gates = net.scale(gates, factor)?;
    }
    let routed = net.gated_experts(experts, [dim, hidden])?;
    let mut y = net.gated_mixed(u, &routed, Routing { ids, gates })?;
    if shared > 0 {
        let all = net.within("shared", |net| {
            let gate = net.matrix("w1", shared * hidden, dim)?;
            let up = net.matrix("w3", shared * hidden, dim)?;
            let down = net.matrix("w2", dim, shared * hidden)?;
            let gate = net.matmul(u, gate)?;
            let gate = net.activated(gate, Activation::Silu)?;
            let up = net.matmul(u, up)?;
            let h = net.mul(gate, up)?;
            net.matmul(h, down)
        })?;
        y = net.add(y, all)?;
    }
    let y = net.add(u, y)?;
    net.output("y", y);
    Ok(())
}
