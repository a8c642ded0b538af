//! σ-MoE (Csordás et al. 2023, arXiv 2310.10837): scores of experts that do not compete.
//!
//! `s = σ(x W3ᵀ)`, `y = Σ over the K largest sₑ of sₑ · W2ₑᵀ relu(W1ₑᵀ x)`: scores are not divided by their sum, so where all are
//! small, so is `y`. Nothing has a bias.
//!
//! `x: [N, D]` → `y: [N, D]`. Weights, by the names of the authors' code: `expert_sel: [E, D]` (W3), `keys: [E, D, H]` (W1),
//! `values: [E, H, D]` (W2).
//!
//! The layer is as the authors' code has it, by a formula that was read there; it was not run. Sizes are ours.

use ir::DType;

use super::layer::chosen;
use crate::Entry;
use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, integer};

/// The layer.
pub const SIGMA_MOE: Entry = Entry {
    name: "sigma-moe",
    about: "sigma-MoE: sigmoid scores, which are not normalised over experts",
    paper: "Approximating Two-Layer Feedforward Networks, arXiv 2310.10837",
    status: "the formula is read in the authors' code, not run; sizes are ours",
    forms: &[],
    settings: &[
        integer("dim", 412, 1, "width D of tokens"),
        integer("hidden", 128, 1, "width H of an expert"),
        integer("experts", 16, 1, "experts E"),
        integer("k", 4, 1, "experts K that a token goes to"),
    ],
    small: &[("dim", "16"), ("hidden", "32"), ("experts", "8"), ("k", "2")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let [dim, hidden] = ["dim", "hidden"].map(|name| config.integer(name));
    let (experts, k) = chosen(config)?;
    let start = Start::Xavier { fan_in: dim, fan_out: hidden };
    let x = net.input("x", DType::F32, [symbol("N"), dim.into()]);
    let select = net.matrix("expert_sel", experts, dim)?;
    let keys = net.weight("keys", &[experts, dim, hidden], start)?;
    let values = net.weight("values", &[experts, hidden, dim], start)?;
    let scores = net.matmul(x, select)?;
    let scores = net.sigmoid(scores)?;
    let [gates, ids] = net.topk(scores, k)?;
    let rows = net.unsqueeze(x, -2)?;
    let h = net.on_slots(rows, keys, None, ids)?;
    let h = net.relu(h)?;
    let y = net.on_slots(h, values, None, ids)?;
    let y = net.combined(y, gates)?;
    net.output("y", y);
    Ok(())
}
