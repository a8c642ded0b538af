//! MH-MoE (Wu et al. 2024, arXiv 2404.15045; Huang et al. 2024, arXiv 2411.16205): pieces of tokens go to experts.
//!
//! `x̃ = x W_head`, cut in `h` pieces of width `D/h`, each a token of its own for a layer of experts; their results side by
//! side are `ŷ`, and `y = ŷ W_merge`. An expert is `W2 (silu(W1 x) ∘ W3 x)`, without biases.
//!
//! `x: [N, D]` → `y: [N, D]`. Weights: `head.weight, merge.weight: [D, D]`, `gate.weight: [E, D/h]`,
//! `experts.w1, experts.w3: [E, H, D/h]`, `experts.w2: [E, D/h, H]`.
//!
//! Reconstructed from the papers' text, which does not say how gates are made of scores: `order` does. Sizes are those of its
//! configuration with three heads that has the operations of 8 experts of width 2048, of which a token takes one.

use ir::DType;

use super::layer::chosen;
use crate::Entry;
use crate::net::{Built, Net, ORDER, Order, symbol};
use crate::setting::{Config, integer};

/// The layer.
pub const MH_MOE: Entry = Entry {
    name: "mh-moe",
    about: "MH-MoE: tokens are cut in pieces, which go to experts of their own",
    paper: "Multi-Head Mixture-of-Experts, arXiv 2404.15045",
    status: "reconstructed from the text, which does not say how gates are made",
    forms: &[],
    settings: &[
        integer("dim", 768, 1, "width D of tokens"),
        integer("heads", 3, 1, "pieces h of a token"),
        integer("hidden", 512, 1, "width H of an expert"),
        integer("experts", 96, 1, "experts E"),
        integer("k", 3, 1, "experts K that a piece goes to"),
        ORDER,
    ],
    small: &[("dim", "16"), ("heads", "2"), ("hidden", "32"), ("experts", "8"), ("k", "2")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let [dim, heads, hidden] = ["dim", "heads", "hidden"].map(|name| config.integer(name));
    let (width, (experts, k)) = (config.part("dim", "heads")?, chosen(config)?);
    let order = Order::of(config);
    let tokens = symbol("N");
    let x = net.input("x", DType::F32, [tokens.clone(), dim.into()]);
    let x = net.project(x, "head", dim)?;
    let pieces = net.reshape(x, [tokens.clone(), heads.into(), width.into()])?;
    let scores = net.project(pieces, "gate", experts)?;
    let routing = net.routed(scores, k, order)?;
    let all = net.gated_experts(experts, [width, hidden])?;
    let y = net.gated_mixed(pieces, &all, routing)?;
    let y = net.reshape(y, [tokens, dim.into()])?;
    let y = net.project(y, "merge", dim)?;
    net.output("y", y);
    Ok(())
}
