//! Scaled Attention (Teo, Nguyen 2024, arXiv 2406.13762): the value matrix that kernel PCA derives.
//!
//! - (R6) `Y = softmax(q kᵀ/√d) (I − S) v`, `S: [H, N, N]` learned, so that N is fixed (`kind=matrix`);
//! - (R7) `Y = softmax(q kᵀ/√d) (I − s · softmax(k kᵀ/√d)) v`, `s` one learned number (`kind=scalar`).
//!
//! `S` and `s` begin as 0. Verified against the authors' code.

use ir::Dim;

use super::{layer_input, scale};
use crate::Entry;
use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, choice, integer};

/// The model.
pub const SCALED: Entry = Entry {
    name: "scaled-attention",
    about: "a layer of Scaled Attention: values less what they say of each other",
    paper: "Kernel PCA view of self-attention (RPC-Attention), arXiv 2406.13762",
    status: "verified against the authors' code",
    forms: &[],
    settings: &[
        integer("dim", 192, 1, "width C of tokens"),
        integer("heads", 3, 1, "heads H"),
        choice("kind", &["scalar", "matrix"], "what values are multiplied by: (R7) or (R6)"),
        integer("tokens", 197, 1, "how many tokens there are, where S is a matrix"),
    ],
    small: &[("dim", "32"), ("heads", "4")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let heads = config.integer("heads");
    let is_matrix = config.word("kind") == "matrix";
    let tokens = if is_matrix { Dim::from(config.integer("tokens")) } else { symbol("N") };
    let x = layer_input(config, net, tokens)?;
    let [q, k, v] = net.qkv(x, heads)?;
    let factor = scale(net.width(q, -1));
    let less = if is_matrix {
        let tokens = config.integer("tokens");
        let s = net.weight("s", &[heads, tokens, tokens], Start::Zeros)?;
        net.matmul(s, v)?
    } else {
        let s = net.weight("s", &[1], Start::Zeros)?;
        let other = net.attend([k, k, v], factor, false)?;
        net.mul(s, other)?
    };
    let v = net.sub(v, less)?;
    let y = net.attend([q, k, v], factor, false)?;
    let y = net.proj(y)?;
    net.output("y", y);
    Ok(())
}
