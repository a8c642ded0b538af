//! Single ops, by the names that formulas have for them.

use ir::graph::Value;
use ir::{DType, Dim, OpDef};
use ops::linalg::matmul::MATMUL;
use ops::math;
use ops::norm;
use ops::order::topk::topk;
use ops::reduce::along::reduce;
use ops::reduce::reduce_max::REDUCE_MAX;
use ops::reduce::reduce_mean::REDUCE_MEAN;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::broadcast::broadcast;
use ops::shape::concat::{self, CONCAT};
use ops::shape::gather::{self, GATHER};
use ops::shape::iota::{self, IOTA};
use ops::shape::reshape::reshape;
use ops::shape::size as sizes;
use ops::shape::slice::slice_axis;
use ops::shape::transpose::{swap_last_two, transpose};

use super::{Built, Net};

/// Elementwise functions of one or two values, of which the second may be broadcast to the first or the other way round.
macro_rules! elementwise {
    ($($(#[$doc:meta])* $name:ident($($x:ident),+) = $op:expr;)+) => {
        impl Net<'_> {
            $($(#[$doc])*
            pub(crate) fn $name(&mut self, $($x: Value),+) -> Built<Value> {
                self.op(&$op, &[$($x),+], [])
            })+
        }
    };
}

elementwise! {
    /// `a + b`.
    add(a, b) = math::add::ADD;
    /// `a − b`.
    sub(a, b) = math::sub::SUB;
    /// `a · b`, elementwise.
    mul(a, b) = math::mul::MUL;
    /// `a / b`.
    div(a, b) = math::div::DIV;
    /// The larger of both.
    max(a, b) = math::max::MAX;
    /// The smaller of both.
    min(a, b) = math::min::MIN;
    /// `aᵇ`.
    pow(a, b) = math::pow::POW;
    /// `a = b`?
    eq(a, b) = math::eq::EQ;
    /// `a ≤ b`?
    le(a, b) = math::le::LE;
    /// `a` where `c`, else `b`.
    select(c, a, b) = math::r#where::WHERE;
    /// `|x|`.
    abs(x) = math::abs::ABS;
    /// The sign of `x`.
    sign(x) = math::sign::SIGN;
    /// `−x`.
    neg(x) = math::neg::NEG;
    /// `eˣ`.
    exp(x) = math::exp::EXP;
    /// `log x`.
    log(x) = math::log::LOG;
    /// `√x`.
    sqrt(x) = math::sqrt::SQRT;
    /// `cos x`.
    cos(x) = math::cos::COS;
    /// `sin x`.
    sin(x) = math::sin::SIN;
    /// `tanh x`.
    tanh(x) = math::tanh::TANH;
    /// `1 / (1 + e⁻ˣ)`.
    sigmoid(x) = math::sigmoid::SIGMOID;
    /// `log(1 + eˣ)`.
    softplus(x) = math::softplus::SOFTPLUS;
    /// `max(x, 0)`.
    relu(x) = math::relu::RELU;
    /// `x Φ(x)`.
    gelu(x) = math::gelu::GELU;
    /// The product of matrices in the last two axes.
    matmul(a, b) = MATMUL;
}

impl Net<'_> {
    /// `x · factor`.
    pub(crate) fn scale(&mut self, x: Value, factor: f64) -> Built<Value> {
        let factor = self.scalar(factor);
        self.mul(x, factor)
    }

    /// `x + term`.
    pub(crate) fn shift(&mut self, x: Value, term: f64) -> Built<Value> {
        let term = self.scalar(term);
        self.add(x, term)
    }

    /// `x` from `low` to `high`.
    pub(crate) fn clamp(&mut self, x: Value, low: f64, high: f64) -> Built<Value> {
        let (low, high) = (self.scalar(low), self.scalar(high));
        self.op(&math::clip::CLIP, &[x, low, high], [])
    }

    /// Softmax along an axis.
    pub(crate) fn softmax(&mut self, x: Value, axis: i64) -> Built<Value> {
        self.op(&norm::softmax::SOFTMAX, &[x], [norm::AXIS.is(axis)])
    }

    /// The sum along an axis, which stays with size 1.
    pub(crate) fn sum(&mut self, x: Value, axis: i64) -> Built<Value> {
        self.reduced(&REDUCE_SUM, x, &[axis], true)
    }

    /// The mean along an axis, which stays with size 1.
    pub(crate) fn mean(&mut self, x: Value, axis: i64) -> Built<Value> {
        self.reduced(&REDUCE_MEAN, x, &[axis], true)
    }

    /// The maximum along an axis, which stays with size 1.
    pub(crate) fn most(&mut self, x: Value, axis: i64) -> Built<Value> {
        self.reduced(&REDUCE_MAX, x, &[axis], true)
    }

    /// The sum along axes, which stay with size 1.
    pub(crate) fn sum_over(&mut self, x: Value, axes: &[i64]) -> Built<Value> {
        self.reduced(&REDUCE_SUM, x, axes, true)
    }

    /// A size as a number, `i64` without axes.
    pub(crate) fn count(&mut self, size: &Dim) -> Built<Value> {
        self.make("size", |b| sizes::size(b, DType::I64, size))
    }

    /// `x` as elements of another type.
    pub(crate) fn cast(&mut self, x: Value, to: DType) -> Built<Value> {
        self.make("cast", |b| math::cast::convert(b, x, to))
    }

    /// A reduction along axes.
    pub(crate) fn reduced(&mut self, op: &'static OpDef, x: Value, axes: &[i64], keep: bool) -> Built<Value> {
        self.make(op.name, |b| reduce(b, op, x, axes, keep))
    }

    /// The same elements in another shape.
    pub(crate) fn reshape(&mut self, x: Value, shape: impl IntoIterator<Item = Dim>) -> Built<Value> {
        self.make("reshape", |b| reshape(b, x, shape.into_iter().collect()))
    }

    /// A new axis of size 1 before `axis`, which may count from the end of the result.
    pub(crate) fn unsqueeze(&mut self, x: Value, axis: i64) -> Built<Value> {
        let mut shape = self.ty(x).shape.clone();
        let rank = shape.len() as i64 + 1;
        let at = if axis < 0 { axis + rank } else { axis };
        shape.insert(usize::try_from(at).expect("bug: the axis is there"), Dim::constant(1));
        self.reshape(x, shape)
    }

    /// Without an axis of size 1.
    pub(crate) fn squeeze(&mut self, x: Value, axis: i64) -> Built<Value> {
        let mut shape = self.ty(x).shape.clone();
        shape.remove(self.axis(x, axis));
        self.reshape(x, shape)
    }

    /// The axes in another order.
    pub(crate) fn transpose(&mut self, x: Value, perm: &[i64]) -> Built<Value> {
        self.make("transpose", |b| transpose(b, x, perm.to_vec()))
    }

    /// The last two axes exchanged.
    pub(crate) fn transposed(&mut self, x: Value) -> Built<Value> {
        self.make("transpose", |b| swap_last_two(b, x))
    }

    /// `x` repeated to a shape.
    pub(crate) fn broadcast(&mut self, x: Value, shape: impl IntoIterator<Item = Dim>) -> Built<Value> {
        self.make("broadcast", |b| broadcast(b, x, shape.into_iter().collect()))
    }

    /// `size` indices of an axis from `start` on.
    pub(crate) fn slice(
        &mut self,
        x: Value,
        axis: i64,
        start: impl Into<Dim>,
        size: impl Into<Dim>,
    ) -> Built<Value> {
        let axis = self.axis(x, axis);
        self.make("slice", |b| slice_axis(b, x, axis, start.into(), size.into()))
    }

    /// The last axis cut in `N` equal pieces.
    pub(crate) fn chunk<const N: usize>(&mut self, x: Value) -> Built<[Value; N]> {
        let each = self.width(x, -1) / N;
        let mut pieces = [x; N];
        for (i, piece) in pieces.iter_mut().enumerate() {
            *piece = self.slice(x, -1, i * each, each)?;
        }
        Ok(pieces)
    }

    /// One after the other along an axis.
    pub(crate) fn concat(&mut self, parts: &[Value], axis: i64) -> Built<Value> {
        self.op(&CONCAT, parts, [concat::AXIS.is(axis)])
    }

    /// The rows of `x` along axis 0 that `ids` names.
    pub(crate) fn gather(&mut self, x: Value, ids: Value) -> Built<Value> {
        self.op(&GATHER, &[x, ids], [gather::AXIS.is(0)])
    }

    /// The `k` largest elements of the last axis, and where they stood.
    pub(crate) fn topk(&mut self, x: Value, k: impl Into<Dim>) -> Built<[Value; 2]> {
        self.make("topk", |b| topk(b, x, -1, k.into(), true))
    }

    /// `0, 1, 2, …` along one axis of a shape.
    pub(crate) fn iota(
        &mut self,
        shape: impl IntoIterator<Item = Dim>,
        axis: i64,
        dtype: DType,
    ) -> Built<Value> {
        let shape: Vec<Dim> = shape.into_iter().collect();
        self.op(&IOTA, &[], [iota::SHAPE.is(shape), iota::AXIS.is(axis), iota::DTYPE.is(dtype)])
    }
}
