//! ONNX Attention: `softmax(mask(softcap(scale · q kᵀ))) v`, by heads, as matrix products and a softmax.
//!
//! - Operands are `[N, heads, L, D]`, or `[N, L, heads · D]` with the numbers of heads. Several heads of `q` may
//!   share one of `k` and `v`; those are not copied.
//! - What a query may see is one condition: not later than itself (`is_causal`), in its window, not padding
//!   (`nonpad_kv_seqlen`), and what a mask of truth values allows. Scores elsewhere are −∞; a mask of floats is added.
//! - A query that may see nothing gives zeros. Only where that can happen it is looked for: a causal mask alone always
//!   leaves the first key.
//!
//! Source: Vaswani et al. 2017; ONNX Attention, opset 25.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Scalar, Tensor};

use crate::linalg::matmul::MATMUL;
use crate::linalg::rotary_embedding::split_heads;
use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::elementwise::is_nonnegative;
use crate::math::eq::EQ;
use crate::math::ge::GE;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::mul::MUL;
use crate::math::not::NOT;
use crate::math::sub::SUB;
use crate::math::tanh::TANH;
use crate::math::r#where::WHERE;
use crate::norm::AXIS;
use crate::norm::softmax::SOFTMAX;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::shape::concat::{self, CONCAT};
use crate::shape::iota;
use crate::shape::pad::{self, PAD};
use crate::shape::reshape::reshape;
use crate::shape::size::size;
use crate::shape::transpose::{swap_last_two, transpose};

/// The ONNX op.
pub static ONNX: &[Import] = &[by("Attention", import)];

/// What a query may see, and what is added to its scores.
#[derive(Default)]
struct Mask {
    /// A condition that broadcasts to the scores.
    allowed: Option<Value>,
    /// What is added, of the scores' type.
    added: Option<Value>,
    /// Can a query see nothing?
    may_be_empty: bool,
}

impl Mask {
    fn allow(&mut self, b: &mut Build, condition: Value) -> Result<(), OpError> {
        self.allowed = Some(match self.allowed {
            None => condition,
            Some(others) => b.op(&AND, &[others, condition])?,
        });
        Ok(())
    }

    fn apply(&self, b: &mut Build, scores: Value) -> Result<Value, OpError> {
        let mut scores = scores;
        if let Some(added) = self.added {
            scores = b.op(&ADD, &[scores, added])?;
        }
        match self.allowed {
            None => Ok(scores),
            Some(allowed) => {
                let never = infinity(b, b.ty(scores).dtype);
                b.op(&WHERE, &[allowed, scores, never])
            }
        }
    }

    /// For each query: can it see nothing?
    fn empty(&self, b: &mut Build) -> Result<Option<Value>, OpError> {
        let last = |b: &mut Build, x: Value| reduce(b, &REDUCE_MAX, x, &[-1], true);
        if !self.may_be_empty {
            return Ok(None);
        }
        let Some(added) = self.added else {
            let Some(allowed) = self.allowed else { return Ok(None) };
            let any = last(b, allowed)?;
            return Ok(Some(b.op(&NOT, &[any])?));
        };
        let never = infinity(b, b.ty(added).dtype);
        let bias = match self.allowed {
            None => added,
            Some(allowed) => b.op(&WHERE, &[allowed, added, never])?,
        };
        let most = last(b, bias)?;
        Ok(Some(b.op(&EQ, &[most, never])?))
    }
}

/// −∞.
fn infinity(b: &mut Build, dtype: DType) -> Value {
    b.scalar(dtype, f64::NEG_INFINITY)
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let flat = node.ty(b, 0)?.rank() == 3;
    let q = heads(node, b, 0, "q_num_heads")?;
    let (mut k, mut v) = (heads(node, b, 1, "kv_num_heads")?, heads(node, b, 2, "kv_num_heads")?);
    let mut past = Dim::constant(0);
    if let (Some(past_key), Some(past_value)) = (node.optional_input(4), node.optional_input(5)) {
        let along = |b: &mut Build, parts: [Value; 2]| b.op_with(&CONCAT, &parts, [concat::AXIS.is(2)]);
        if b.ty(past_key).rank() != 4 {
            let found = b.ty(past_key).rank();
            return Err(OpError::Rank { operand: "past_key", expected: 4, found }.into());
        }
        past = b.ty(past_key).shape[2].clone();
        (k, v) = (along(b, [past_key, k])?, along(b, [past_value, v])?);
    }
    let (dtype, shape) = (b.ty(q).dtype, b.ty(q).shape.clone());
    let keys = b.ty(k).shape[2].clone();
    let kv_heads = b.ty(k).shape[1].clone();
    let clash = || OpError::Size {
        what: "heads of `K`, which must divide those of `Q`",
        left: kv_heads.clone(),
        right: shape[1].clone(),
    };
    let shared = shape[1].exact_div(&kv_heads).ok_or_else(clash)?;

    // The root of the scale on both sides, as the specification has it: what is multiplied stays small.
    let scale = match node.float("scale")? {
        Some(scale) => b.scalar(dtype, scale.sqrt()),
        None => {
            let width = shape[3].as_const().ok_or_else(|| ImportError::Unsupported {
                what: format!("a scale of 1/√{}", shape[3]),
                help: "fix the width of the heads with --dim, or give the attribute `scale`".to_owned(),
            })?;
            b.scalar(dtype, (width as f64).sqrt().recip().sqrt())
        }
    };
    let (q, scaled_k) = (b.op(&MUL, &[q, scale])?, b.op(&MUL, &[k, scale])?);
    // Heads that share keys have an axis of their own, along which keys and values broadcast.
    let grouped = |b: &mut Build, x: Value, count: [Dim; 2]| {
        let shape = b.ty(x).shape.clone();
        let [heads, each] = count;
        reshape(b, x, vec![shape[0].clone(), heads, each, shape[2].clone(), shape[3].clone()])
    };
    let one = Dim::constant(1);
    let transposed = swap_last_two(b, scaled_k)?;
    let by_group = [kv_heads.clone(), shared.clone()];
    let (left, right) =
        (grouped(b, q, by_group.clone())?, grouped(b, transposed, [kv_heads.clone(), one.clone()])?);
    let product = b.op(&MATMUL, &[left, right])?;
    let scores_shape = vec![shape[0].clone(), shape[1].clone(), shape[2].clone(), keys.clone()];
    let raw = reshape(b, product, scores_shape)?;
    let capped = match node.float_or("softcap", 0.0)? {
        cap if cap > 0.0 => {
            let cap = b.scalar(dtype, cap);
            let small = b.op(&DIV, &[raw, cap])?;
            let tanh = b.op(&TANH, &[small])?;
            b.op(&MUL, &[tanh, cap])?
        }
        _ => raw,
    };
    let mask = mask(node, b, dtype, &shape[2], &keys, &past)?;
    let masked = mask.apply(b, capped)?;
    let precise = match node.dtype("softmax_precision")? {
        Some(precision) => convert(b, masked, precision)?,
        None => masked,
    };
    let mut weights = b.op_with(&SOFTMAX, &[precise], [AXIS.is(-1)])?;
    if let Some(empty) = mask.empty(b)? {
        let zero = b.scalar(b.ty(weights).dtype, 0.0);
        weights = b.op(&WHERE, &[empty, zero, weights])?;
    }
    let weights = convert(b, weights, dtype)?;

    let (left, right) = (grouped(b, weights, by_group)?, grouped(b, v, [kv_heads, one])?);
    let product = b.op(&MATMUL, &[left, right])?;
    let width = b.ty(v).shape[3].clone();
    let mut y =
        reshape(b, product, vec![shape[0].clone(), shape[1].clone(), shape[2].clone(), width.clone()])?;
    if flat {
        let moved = transpose(b, y, vec![0, 2, 1, 3])?;
        y = reshape(b, moved, vec![shape[0].clone(), shape[2].clone(), shape[1].clone() * width])?;
    }
    let shown = match node.int_or("qk_matmul_output_mode", 0)? {
        0 => raw,
        1 => capped,
        2 => masked,
        3 => weights,
        other => return Err(ImportError::value("qk_matmul_output_mode", other, "0 to 3")),
    };
    Ok(vec![y, k, v, shown])
}

/// Input `index` as `[N, heads, L, D]`.
fn heads(node: &NodeView, b: &mut Build, index: usize, attribute: &str) -> Result<Value, ImportError> {
    let x = node.input(index)?;
    let shape = b.ty(x).shape.clone();
    let count = node.int_or(attribute, 0)?;
    match shape.len() {
        4 => Ok(x),
        3 => {
            let split = reshape(b, x, split_heads(&shape, count, attribute)?)?;
            Ok(transpose(b, split, vec![0, 2, 1, 3])?)
        }
        found => {
            let operand = ["Q", "K", "V"][index];
            Err(OpError::Rank { operand, expected: 4, found }.into())
        }
    }
}

/// What each of `queries` may see of `keys`, of which `past` come before the first query.
fn mask(
    node: &NodeView,
    b: &mut Build,
    dtype: DType,
    queries: &Dim,
    keys: &Dim,
    past: &Dim,
) -> Result<Mask, ImportError> {
    let mut mask = Mask::default();
    if let Some(given) = node.optional_input(3) {
        let given = lengthened(b, given, keys)?;
        mask.may_be_empty = true;
        match b.ty(given).dtype {
            DType::Bool => mask.allow(b, given)?,
            _ => mask.added = Some(convert(b, given, dtype)?),
        }
    }
    let one = Dim::constant(1);
    let along = |b: &mut Build, axis: i64| {
        let shape =
            if axis == 0 { vec![queries.clone(), one.clone()] } else { vec![one.clone(), keys.clone()] };
        b.op_with(&iota::IOTA, &[], [iota::SHAPE.is(shape), iota::AXIS.is(axis), iota::DTYPE.is(DType::I64)])
    };
    let valid = match node.optional_input(6) {
        None => None,
        Some(count) => {
            let count = convert(b, count, DType::I64)?;
            let images = b.ty(count).elements();
            Some(reshape(b, count, vec![images, one.clone(), one.clone(), one.clone()])?)
        }
    };
    let [left, right] = [node.int_or("left_window_size", -1)?, node.int_or("right_window_size", -1)?];
    let causal = node.flag("is_causal", false)?;
    if causal || left >= 0 || right >= 0 {
        let before = match valid {
            Some(valid) => {
                let queries = size(b, DType::I64, queries)?;
                b.op(&SUB, &[valid, queries])?
            }
            None => size(b, DType::I64, past)?,
        };
        let (query, key) = (along(b, 0)?, along(b, 1)?);
        let query = b.op(&ADD, &[query, before])?;
        if causal {
            let seen = b.op(&LE, &[key, query])?;
            mask.allow(b, seen)?;
        }
        for (width, side, compare) in [(left, &SUB, &GE), (right, &ADD, &LE)] {
            if width >= 0 {
                let width = b.constant(&Tensor::scalar(Scalar::from_i64(DType::I64, width)));
                let border = b.op(side, &[query, width])?;
                let seen = b.op(compare, &[key, border])?;
                mask.allow(b, seen)?;
                mask.may_be_empty = true;
            }
        }
    }
    if let Some(valid) = valid {
        let key = along(b, 1)?;
        let seen = b.op(&LT, &[key, valid])?;
        mask.allow(b, seen)?;
        mask.may_be_empty = true;
    }
    Ok(mask)
}

/// A mask for fewer keys forbids the others.
fn lengthened(b: &mut Build, mask: Value, keys: &Dim) -> Result<Value, ImportError> {
    let ty = b.ty(mask).clone();
    let Some(last) = ty.shape.last() else {
        return Err(OpError::RankAtLeast { operand: "attn_mask", least: 1, found: 0 }.into());
    };
    let missing = keys.clone() - last.clone();
    if missing.is(0) {
        return Ok(mask);
    }
    if !is_nonnegative(&missing) {
        let (left, right) = (last.clone(), keys.clone());
        return Err(OpError::Size { what: "last axis of `attn_mask`, and keys", left, right }.into());
    }
    let never = match ty.dtype {
        DType::Bool => b.scalar(DType::Bool, 0.0),
        dtype => infinity(b, dtype),
    };
    let low = vec![Dim::constant(0); ty.rank()];
    let mut high = low.clone();
    high[ty.rank() - 1] = missing;
    Ok(b.op_with(&PAD, &[mask, never], [pad::LOW.is(low), pad::HIGH.is(high)])?)
}
