//! Models of papers about attention. One file is one family; equations have the tags of the formula sheet.
//!
//! Per-head tensors are `[B, H, N, d]`: batch, heads, tokens, width of a head; `C = H·d`.

pub mod dynamic_conv;
pub mod elliptical;
pub mod fare;
pub mod kernelized;
pub mod kerple;
pub mod mgk;
pub mod mlp_kan;
pub mod mosa;
pub mod primal_dual;
pub mod rpc;
pub mod scaled;
pub mod transformer;

use ir::graph::Value;
use ir::{DType, Dim};

use crate::net::{Built, Net, symbol};
use crate::setting::Config;

/// The factor of scores of heads of this width: `1/√d`.
pub(crate) fn scale(width: usize) -> f64 {
    (width as f64).sqrt().recip()
}

/// `x: f32[B, N, C]`, the input of a layer. Setting: `dim` (C), a multiple of `heads`.
pub(crate) fn layer_input(config: &Config, net: &mut Net, tokens: Dim) -> Built<Value> {
    config.part("dim", "heads")?;
    Ok(net.input("x", DType::F32, [symbol("B"), tokens, config.integer("dim").into()]))
}

impl Net<'_> {
    /// `x: [B, N, C]` → queries, keys and values by heads, of one linear layer (`qkv`).
    pub(crate) fn qkv(&mut self, x: Value, heads: usize) -> Built<[Value; 3]> {
        let dim = self.width(x, -1);
        let all = self.linear(x, "qkv", 3 * dim)?;
        let [q, k, v] = self.chunk(all)?;
        Ok([self.heads(q, heads)?, self.heads(k, heads)?, self.heads(v, heads)?])
    }

    /// `[B, H, N, d]` → `[B, N, C]`: heads side by side, and a linear layer (`proj`).
    pub(crate) fn proj(&mut self, y: Value) -> Built<Value> {
        let y = self.merged(y)?;
        let dim = self.width(y, -1);
        self.linear(y, "proj", dim)
    }

    /// (A1) `softmax(scale · q kᵀ) v`; `causal`: no query sees a key after itself.
    pub(crate) fn attend(&mut self, [q, k, v]: [Value; 3], scale: f64, causal: bool) -> Built<Value> {
        let scores = self.scores([q, k], scale)?;
        self.attend_scored(scores, v, causal)
    }

    /// `scale · q kᵀ`.
    pub(crate) fn scores(&mut self, [q, k]: [Value; 2], scale: f64) -> Built<Value> {
        let k = self.transposed(k)?;
        let scores = self.matmul(q, k)?;
        self.scale(scores, scale)
    }

    /// `softmax(scores) v`, with the mask of [`Net::attend`].
    pub(crate) fn attend_scored(&mut self, scores: Value, v: Value, causal: bool) -> Built<Value> {
        let scores = if causal { self.masked(scores, f64::NEG_INFINITY)? } else { scores };
        let weights = self.softmax(scores, -1)?;
        self.matmul(weights, v)
    }

    /// The scores of keys that are not after the query, and `elsewhere` for the others.
    pub(crate) fn masked(&mut self, scores: Value, elsewhere: f64) -> Built<Value> {
        let seen = self.causal(&self.size(scores, -1))?;
        let elsewhere = self.scalar(elsewhere);
        self.select(seen, scores, elsewhere)
    }
}
