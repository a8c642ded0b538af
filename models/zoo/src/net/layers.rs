//! The layers that papers take for granted.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::math::gelu::{APPROXIMATE, GELU};
use ops::math::silu::SILU;
use ops::norm::layer_norm::LAYER_NORM;
use ops::norm::{AXES, EPSILON};

use super::{Built, Net};
use crate::init::Start;

/// Between the two products of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x Φ(x)`.
    Gelu,
    /// `x Φ(x)`, of which the hyperbolic tangent is an approximation.
    GeluTanh,
    /// `x / (1 + e⁻ˣ)`.
    Silu,
}

impl Net<'_> {
    /// `y = x Wᵀ + b`, `name.weight: [to, from]`, `name.bias: [to]`, along the last axis.
    pub(crate) fn linear(&mut self, x: Value, name: &str, to: usize) -> Built<Value> {
        let y = self.project(x, name, to)?;
        self.within(name, |net| {
            let bias = net.weight("bias", &[to], Start::Zeros)?;
            net.add(y, bias)
        })
    }

    /// `y = x Wᵀ`, `name.weight: [to, from]`, along the last axis.
    pub(crate) fn project(&mut self, x: Value, name: &str, to: usize) -> Built<Value> {
        let from = self.width(x, -1);
        self.within(name, |net| {
            let start = Start::Xavier { fan_in: from, fan_out: to };
            let weight = net.weight("weight", &[to, from], start)?;
            let weight = net.transposed(weight)?;
            net.matmul(x, weight)
        })
    }

    /// [`Net::linear`] if `bias`, else [`Net::project`].
    pub(crate) fn affine(&mut self, x: Value, name: &str, to: usize, bias: bool) -> Built<Value> {
        if bias { self.linear(x, name, to) } else { self.project(x, name, to) }
    }

    /// `(x − μ) / √(σ² + epsilon) · g + b` along the last axis, `name.weight` and `name.bias` of its size.
    pub(crate) fn layer_norm(&mut self, x: Value, name: &str, epsilon: f64) -> Built<Value> {
        let width = self.width(x, -1);
        self.within(name, |net| {
            let weight = net.weight("weight", &[width], Start::Ones)?;
            let bias = net.weight("bias", &[width], Start::Zeros)?;
            let y = net.op(&LAYER_NORM, &[x], [AXES.is(vec![-1]), EPSILON.is(epsilon)])?;
            let y = net.mul(y, weight)?;
            net.add(y, bias)
        })
    }

    /// The rows of `name.weight: [words, width]` that `tokens` names.
    pub(crate) fn embedding(
        &mut self,
        tokens: Value,
        name: &str,
        [words, width]: [usize; 2],
    ) -> Built<Value> {
        self.within(name, |net| {
            let table = net.weight("weight", &[words, width], Start::Normal { deviation: 0.02 })?;
            net.gather(table, tokens)
        })
    }

    /// `fc2(act(fc1(x)))`, back to the width of `x`.
    pub(crate) fn feed_forward(
        &mut self,
        x: Value,
        name: &str,
        hidden: usize,
        activation: Activation,
    ) -> Built<Value> {
        let width = self.width(x, -1);
        self.within(name, |net| {
            let h = net.linear(x, "fc1", hidden)?;
            let h = net.activated(h, activation)?;
            net.linear(h, "fc2", width)
        })
    }

    /// An activation, elementwise.
    pub(crate) fn activated(&mut self, x: Value, activation: Activation) -> Built<Value> {
        match activation {
            Activation::Relu => self.relu(x),
            Activation::Gelu => self.gelu(x),
            Activation::GeluTanh => self.op(&GELU, &[x], [APPROXIMATE.is("tanh".to_owned())]),
            Activation::Silu => self.op(&SILU, &[x], []),
        }
    }

    /// `[B, N, C]` as `[B, H, N, C/H]`: channel `c` belongs to head `⌊c / (C/H)⌋`.
    pub(crate) fn heads(&mut self, x: Value, heads: usize) -> Built<Value> {
        let (batch, tokens, width) = (self.size(x, 0), self.size(x, 1), self.width(x, 2));
        let x = self.reshape(x, [batch, tokens, heads.into(), (width / heads).into()])?;
        self.transpose(x, &[0, 2, 1, 3])
    }

    /// `[B, H, N, d]` as `[B, N, H·d]`.
    pub(crate) fn merged(&mut self, x: Value) -> Built<Value> {
        let (heads, width) = (self.width(x, 1), self.width(x, 3));
        let x = self.transpose(x, &[0, 2, 1, 3])?;
        let (batch, tokens) = (self.size(x, 0), self.size(x, 1));
        self.reshape(x, [batch, tokens, (heads * width).into()])
    }

    /// Where row and column are the same: `[size, size]` truth values.
    pub(crate) fn diagonal(&mut self, size: &Dim) -> Built<Value> {
        let one = Dim::constant(1);
        let row = self.iota([size.clone(), one.clone()], 0, DType::I64)?;
        let column = self.iota([one, size.clone()], 1, DType::I64)?;
        self.eq(row, column)
    }

    /// Which key a query may see that sees none after itself: `[N, N]` truth values, `j ≤ i`.
    pub(crate) fn causal(&mut self, tokens: &Dim) -> Built<Value> {
        let one = Dim::constant(1);
        let query = self.iota([tokens.clone(), one.clone()], 0, DType::I64)?;
        let key = self.iota([one, tokens.clone()], 1, DType::I64)?;
        self.le(key, query)
    }
}
