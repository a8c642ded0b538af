//! Models of papers about attention. One file is one family; equations have the tags of the formula sheet.
//!
//! Per-head tensors are `[B, H, N, d]`: batch, heads, tokens, width of a head; `C = H·d`.

pub mod elliptical;

use ir::graph::Value;

use crate::net::{Built, Net};

/// The factor of scores of heads of this width: `1/√d`.
pub(crate) fn scale(width: usize) -> f64 {
    (width as f64).sqrt().recip()
}

impl Net<'_> {
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
