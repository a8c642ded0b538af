//! Attention as it is (Vaswani et al. 2017, arXiv 1706.03762): what the others of this family are changes of.
//!
//! (A1) `Y = softmax(q kᵀ/√d) v`, `q, k, v: [B, H, N, d]`; causal: no query sees a key after itself.

use ir::{DType, Dim};

use super::{layer_input, scale};
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, flag, integer};
use crate::{Entry, Form};

/// The model.
pub const TRANSFORMER: Entry = Entry {
    name: "transformer",
    about: "softmax attention, without change",
    paper: "Attention Is All You Need, arXiv 1706.03762",
    status: "verified against the frameworks' own attention",
    forms: &[
        Form {
            name: "layer",
            about: "queries, keys and values of one linear layer, heads, a linear layer",
            defaults: &[],
        },
        Form { name: "core", about: "attention alone", defaults: &[] },
    ],
    settings: &[
        integer("dim", 512, 1, "width C of tokens"),
        integer("heads", 8, 1, "heads H"),
        integer("head_width", 64, 1, "width d of a head"),
        flag("causal", false, "whether no query sees a key after itself"),
    ],
    small: &[("dim", "32"), ("heads", "4")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let (heads, causal) = (config.integer("heads"), config.flag("causal"));
    let y = if config.form() == "core" {
        let width = config.integer("head_width");
        let shape: [Dim; 4] = [symbol("B"), heads.into(), symbol("N"), width.into()];
        let qkv = ["q", "k", "v"].map(|name| net.input(name, DType::F32, shape.clone()));
        net.attend(qkv, scale(width), causal)?
    } else {
        let x = layer_input(config, net, symbol("N"))?;
        let qkv = net.qkv(x, heads)?;
        let y = net.attend(qkv, scale(net.width(qkv[0], -1)), causal)?;
        net.proj(y)?
    };
    net.output("y", y);
    Ok(())
}
