//! Attention by heads: `softmax(mask(softcap(scale · q kᵀ))) v`, as matrix products and a softmax. The attention ops of
//! ONNX and of onnxruntime share it.
//!
//! - Operands are `[N, heads, L, D]`. Several heads of `q` may share one of `k` and `v`; those are not copied.
//! - 16-bit floats are computed in `f32`.
//! - What a query may see is one condition: scores elsewhere are −∞. What is added to scores comes before that.
//!
//! Source: Vaswani et al. 2017.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::linalg::matmul::MATMUL;
use crate::linalg::rotary_embedding::split_heads;
use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::elementwise::is_nonnegative;
use crate::math::eq::EQ;
use crate::math::mul::MUL;
use crate::math::not::NOT;
use crate::math::tanh::TANH;
use crate::math::r#where::WHERE;
use crate::norm::AXIS;
use crate::norm::softmax::SOFTMAX;
use crate::onnx::{ImportError, NodeView};
use crate::reduce::along::reduce;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::shape::concat::{self, CONCAT};
use crate::shape::iota;
use crate::shape::pad::{self, PAD};
use crate::shape::reshape::reshape;
use crate::shape::size::size;
use crate::shape::transpose::{swap_last_two, transpose};

/// What a query may see, and what is added to its scores.
#[derive(Default)]
pub(super) struct Mask {
    /// A condition that broadcasts to the scores.
    allowed: Option<Value>,
    /// What is added, each of which broadcasts to the scores.
    added: Vec<Value>,
    /// The score of the last key, whatever the query is and whatever is allowed.
    pub(super) last: Option<Value>,
    /// Can a query see nothing? Then it gives zeros.
    pub(super) may_be_empty: bool,
}

impl Mask {
    /// A query may see what this condition allows, too.
    pub(super) fn allow(&mut self, b: &mut Build, condition: Value) -> Result<(), OpError> {
        self.allowed = Some(match self.allowed {
            None => condition,
            Some(others) => b.op(&AND, &[others, condition])?,
        });
        Ok(())
    }

    /// This is added to the scores, too.
    pub(super) fn add(&mut self, numbers: Value) {
        self.added.push(numbers);
    }

    /// `scores` where a query may see, else a number.
    pub(super) fn seen(&self, b: &mut Build, scores: Value, elsewhere: f64) -> Result<Value, OpError> {
        let Some(allowed) = self.allowed else { return Ok(scores) };
        let elsewhere = b.scalar(b.ty(scores).dtype, elsewhere);
        b.op(&WHERE, &[allowed, scores, elsewhere])
    }

    fn apply(&self, b: &mut Build, scores: Value) -> Result<Value, OpError> {
        let (mut scores, dtype) = (scores, b.ty(scores).dtype);
        for &added in &self.added {
            let added = convert(b, added, dtype)?;
            scores = b.op(&ADD, &[scores, added])?;
        }
        scores = self.seen(b, scores, f64::NEG_INFINITY)?;
        let Some(last) = self.last else { return Ok(scores) };
        let keys = b.ty(scores).shape[3].clone();
        let (key, end) = (key_places(b, &keys)?, size(b, DType::I64, &(keys - Dim::constant(1)))?);
        let is_last = b.op(&EQ, &[key, end])?;
        let last = convert(b, last, dtype)?;
        b.op(&WHERE, &[is_last, last, scores])
    }

    /// For each query: can it see nothing?
    fn empty(&self, b: &mut Build) -> Result<Option<Value>, OpError> {
        let most = |b: &mut Build, x: Value| reduce(b, &REDUCE_MAX, x, &[-1], true);
        if !self.may_be_empty {
            return Ok(None);
        }
        let mut sum: Option<Value> = None;
        for &added in &self.added {
            sum = Some(match sum {
                None => added,
                Some(sum) => b.op(&ADD, &[sum, added])?,
            });
        }
        let Some(added) = sum else {
            let Some(allowed) = self.allowed else { return Ok(None) };
            let any = most(b, allowed)?;
            return Ok(Some(b.op(&NOT, &[any])?));
        };
        let bias = self.seen(b, added, f64::NEG_INFINITY)?;
        let (most, never) = (most(b, bias)?, infinity(b, b.ty(added).dtype));
        Ok(Some(b.op(&EQ, &[most, never])?))
    }
}

/// −∞.
fn infinity(b: &mut Build, dtype: DType) -> Value {
    b.scalar(dtype, f64::NEG_INFINITY)
}

/// What becomes of scores before the softmax, besides the mask.
pub(super) struct Scoring {
    /// The factor of products of queries and keys.
    pub(super) scale: f64,
    /// `cap · tanh(scores / cap)`; 0 for none.
    pub(super) softcap: f64,
    /// The softmax is computed in this type, or a wider one.
    pub(super) precision: DType,
}

impl Scoring {
    /// The scale that onnxruntime's ops have, of which 0 is none.
    pub(super) fn by_scale(node: &NodeView, b: &Build, q: Value) -> Result<Scoring, ImportError> {
        let (ty, given) = (b.ty(q), node.float("scale")?.filter(|&scale| scale != 0.0));
        Ok(Scoring { scale: scale(given, &ty.shape[3])?, softcap: 0.0, precision: ty.dtype })
    }
}

/// What attention gives, and what it goes through: scores before the softcap, before the mask, and before the softmax.
pub(super) struct Attended {
    /// The result, of the type of the queries.
    pub(super) y: Value,
    pub(super) raw: Value,
    pub(super) capped: Value,
    pub(super) masked: Value,
    /// The softmax.
    pub(super) weights: Value,
}

/// Attention of `[q, k, v]`.
///
/// # Errors
/// [`OpError::Size`] where sizes do not agree.
pub(super) fn attend(
    b: &mut Build,
    [q, k, v]: [Value; 3],
    how: &Scoring,
    mask: &Mask,
) -> Result<Attended, OpError> {
    let dtype = b.ty(q).dtype;
    let wide = dtype.arithmetic();
    let raw = scores(b, q, k, how.scale)?;
    let capped = match how.softcap {
        cap if cap > 0.0 => {
            let cap = b.scalar(wide, cap);
            let small = b.op(&DIV, &[raw, cap])?;
            let tanh = b.op(&TANH, &[small])?;
            b.op(&MUL, &[tanh, cap])?
        }
        _ => raw,
    };
    let masked = mask.apply(b, capped)?;
    let precise = convert(b, masked, how.precision.arithmetic())?;
    let mut weights = b.op_with(&SOFTMAX, &[precise], [AXIS.is(-1)])?;
    if let Some(empty) = mask.empty(b)? {
        let zero = b.scalar(b.ty(weights).dtype, 0.0);
        weights = b.op(&WHERE, &[empty, zero, weights])?;
    }
    let weights = convert(b, weights, wide)?;
    let y = weighted(b, weights, v)?;
    Ok(Attended { y: convert(b, y, dtype)?, raw, capped, masked, weights })
}

/// `scale · q kᵀ: [N, heads, L, M]`, in the type that numbers like those of `q` are computed in.
///
/// # Errors
/// [`OpError::Size`] where sizes do not agree.
pub(super) fn scores(b: &mut Build, q: Value, k: Value, scale: f64) -> Result<Value, OpError> {
    let (wide, keys) = (b.ty(q).dtype.arithmetic(), b.ty(k).shape[2].clone());
    let [images, heads, queries] = [0, 1, 2].map(|axis| b.ty(q).shape[axis].clone());
    let (q, k) = (convert(b, q, wide)?, convert(b, k, wide)?);
    let scale = b.scalar(wide, scale);
    let (q, k) = (b.op(&MUL, &[q, scale])?, swap_last_two(b, k)?);
    let product = grouped_product(b, q, k)?;
    reshape(b, product, vec![images, heads, queries, keys])
}

/// `weights · v: [N, heads, L, D]`, with `weights: [N, heads, L, M]`, in the type that numbers like those are computed
/// in.
///
/// # Errors
/// [`OpError::Size`] where sizes do not agree.
pub(super) fn weighted(b: &mut Build, weights: Value, v: Value) -> Result<Value, OpError> {
    let (wide, width) = (b.ty(weights).dtype.arithmetic(), b.ty(v).shape[3].clone());
    let [images, heads, queries] = [0, 1, 2].map(|axis| b.ty(weights).shape[axis].clone());
    let (weights, v) = (convert(b, weights, wide)?, convert(b, v, wide)?);
    let product = grouped_product(b, weights, v)?;
    reshape(b, product, vec![images, heads, queries, width])
}

/// `x · y`, where several heads of `x: [N, heads, L, D]` may share one of `y`. They have an axis of their own then, along
/// which `y` broadcasts.
fn grouped_product(b: &mut Build, x: Value, y: Value) -> Result<Value, OpError> {
    let (heads, shared_heads) = (b.ty(x).shape[1].clone(), b.ty(y).shape[1].clone());
    let clash = || OpError::Size {
        what: "heads of keys, which must divide those of queries",
        left: shared_heads.clone(),
        right: heads.clone(),
    };
    let shared = heads.exact_div(&shared_heads).ok_or_else(clash)?;
    let grouped = |b: &mut Build, x: Value, each: &Dim| {
        if shared.is(1) {
            return Ok(x);
        }
        let shape = b.ty(x).shape.clone();
        let sizes = [&shape[0], &shared_heads, each, &shape[2], &shape[3]];
        reshape(b, x, sizes.map(Dim::clone).to_vec())
    };
    let (left, right) = (grouped(b, x, &shared)?, grouped(b, y, &Dim::constant(1))?);
    b.op(&MATMUL, &[left, right])
}

/// The factor of scores for rows of this width: what is given, or `1/√width`.
pub(super) fn scale(given: Option<f64>, width: &Dim) -> Result<f64, ImportError> {
    let default = || width.as_const().map(|width| (width as f64).sqrt().recip());
    given.or_else(default).ok_or_else(|| ImportError::Unsupported {
        what: format!("a scale of 1/√{width}"),
        help: "fix the width of the heads with --dim, or give the attribute `scale`".to_owned(),
    })
}

/// `x: [N, L, heads · D]` as `[N, heads, L, D]`.
///
/// # Errors
/// Where the attribute `name`, which gives the heads, is missing or does not divide; [`OpError::Rank`].
pub(super) fn apart(
    b: &mut Build,
    x: Value,
    heads: i64,
    (operand, name): (&'static str, &str),
) -> Result<Value, ImportError> {
    let shape = b.ty(x).shape.clone();
    if shape.len() != 3 {
        return Err(OpError::Rank { operand, expected: 3, found: shape.len() }.into());
    }
    let split = reshape(b, x, split_heads(&shape, heads, name)?)?;
    Ok(transpose(b, split, vec![0, 2, 1, 3])?)
}

/// `x: [N, heads, L, D]` as `[N, L, heads · D]`.
pub(super) fn together(b: &mut Build, x: Value) -> Result<Value, OpError> {
    let shape = b.ty(x).shape.clone();
    let moved = transpose(b, x, vec![0, 2, 1, 3])?;
    reshape(b, moved, vec![shape[0].clone(), shape[2].clone(), shape[1].clone() * shape[3].clone()])
}

/// What came before, and then what is new, of `[N, heads, L, D]`.
///
/// # Errors
/// [`OpError::Rank`] of the operand `name`, which came before; [`OpError::Size`].
pub(super) fn continued(
    b: &mut Build,
    past: Value,
    name: &'static str,
    new: Value,
) -> Result<Value, OpError> {
    let found = b.ty(past).rank();
    if found != 4 {
        return Err(OpError::Rank { operand: name, expected: 4, found });
    }
    b.op_with(&CONCAT, &[past, new], [concat::AXIS.is(2)])
}

/// The numbers of keys, as a row.
pub(super) fn key_places(b: &mut Build, keys: &Dim) -> Result<Value, OpError> {
    let shape = vec![Dim::constant(1), keys.clone()];
    b.op_with(&iota::IOTA, &[], [iota::SHAPE.is(shape), iota::AXIS.is(1), iota::DTYPE.is(DType::I64)])
}

/// The places of queries among the keys, as a column: `before` come before the first of them.
pub(super) fn query_places(b: &mut Build, queries: &Dim, before: Value) -> Result<Value, OpError> {
    let shape = vec![queries.clone(), Dim::constant(1)];
    let query =
        b.op_with(&iota::IOTA, &[], [iota::SHAPE.is(shape), iota::AXIS.is(0), iota::DTYPE.is(DType::I64)])?;
    b.op(&ADD, &[query, before])
}

/// One number for each member of a batch, against `[N, heads, L, L]`.
pub(super) fn for_each_image(b: &mut Build, numbers: Value) -> Result<Value, OpError> {
    let numbers = convert(b, numbers, DType::I64)?;
    let (images, one) = (b.ty(numbers).elements(), Dim::constant(1));
    reshape(b, numbers, vec![images, one.clone(), one.clone(), one])
}

/// `x` with `value` behind its end along an axis, up to this size.
///
/// # Errors
/// [`OpError::Size`] if it is longer.
pub(super) fn lengthened(
    b: &mut Build,
    x: Value,
    axis: usize,
    to: &Dim,
    (value, what): (f64, &'static str),
) -> Result<Value, OpError> {
    let ty = b.ty(x).clone();
    let missing = to.clone() - ty.shape[axis].clone();
    if missing.is(0) {
        return Ok(x);
    }
    if !is_nonnegative(&missing) {
        return Err(OpError::Size { what, left: ty.shape[axis].clone(), right: to.clone() });
    }
    let value = b.scalar(ty.dtype, value);
    let low = vec![Dim::constant(0); ty.rank()];
    let mut high = low.clone();
    high[axis] = missing;
    b.op_with(&PAD, &[x, value], [pad::LOW.is(low), pad::HIGH.is(high)])
}
