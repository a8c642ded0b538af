//! ONNX Attention: `softmax(mask(softcap(scale · q kᵀ))) v`, by heads.
//!
//! - Operands are `[N, heads, L, D]`, or `[N, L, heads · D]` with the numbers of heads.
//! - What a query may see is one condition: not later than itself (`is_causal`), in its window, not padding
//!   (`nonpad_kv_seqlen`), and what a mask of truth values allows. A mask of floats is added.
//! - A query that may see nothing gives zeros. Only where that can happen it is looked for: a causal mask alone always
//!   leaves the first key.
//!
//! Source: ONNX Attention, opset 25.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Scalar, Tensor};

use crate::linalg::by_heads::{self, Attended, Mask, Scoring};
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::ge::GE;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::sub::SUB;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::size::size;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("Attention", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let flat = node.ty(b, 0)?.rank() == 3;
    let q = heads(node, b, 0, "q_num_heads")?;
    let (mut k, mut v) = (heads(node, b, 1, "kv_num_heads")?, heads(node, b, 2, "kv_num_heads")?);
    let mut past = Dim::constant(0);
    if let (Some(past_key), Some(past_value)) = (node.optional_input(4), node.optional_input(5)) {
        k = by_heads::continued(b, past_key, "past_key", k)?;
        v = by_heads::continued(b, past_value, "past_value", v)?;
        past = b.ty(past_key).shape[2].clone();
    }
    let (dtype, shape) = (b.ty(q).dtype, b.ty(q).shape.clone());
    let keys = b.ty(k).shape[2].clone();
    let how = Scoring {
        scale: by_heads::scale(node.float("scale")?, &shape[3])?,
        softcap: node.float_or("softcap", 0.0)?,
        precision: node.dtype("softmax_precision")?.unwrap_or(dtype),
    };
    let mask = mask(node, b, &shape[2], &keys, &past)?;
    let Attended { mut y, raw, capped, masked, weights } = by_heads::attend(b, [q, k, v], &how, &mask)?;
    if flat {
        y = by_heads::together(b, y)?;
    }
    let shown = match node.int_or("qk_matmul_output_mode", 0)? {
        0 => raw,
        1 => capped,
        2 => masked,
        3 => weights,
        other => return Err(ImportError::value("qk_matmul_output_mode", other, "0 to 3")),
    };
    Ok(vec![y, k, v, convert(b, shown, dtype)?])
}

/// Input `index` as `[N, heads, L, D]`.
fn heads(node: &NodeView, b: &mut Build, index: usize, attribute: &str) -> Result<Value, ImportError> {
    let x = node.input(index)?;
    let count = node.int_or(attribute, 0)?;
    let operand = ["Q", "K", "V"][index];
    match b.ty(x).rank() {
        4 => Ok(x),
        3 => by_heads::apart(b, x, count, (operand, attribute)),
        found => Err(OpError::Rank { operand, expected: 4, found }.into()),
    }
}

/// What each of `queries` may see of `keys`, of which `past` come before the first query.
fn mask(node: &NodeView, b: &mut Build, queries: &Dim, keys: &Dim, past: &Dim) -> Result<Mask, ImportError> {
    let mut mask = Mask::default();
    if let Some(given) = node.optional_input(3) {
        let given = lengthened(b, given, keys)?;
        mask.may_be_empty = true;
        match b.ty(given).dtype {
            DType::Bool => mask.allow(b, given)?,
            _ => mask.add(given),
        }
    }
    let valid = match node.optional_input(6) {
        None => None,
        Some(count) => Some(by_heads::for_each_image(b, count)?),
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
        let (query, key) = (by_heads::query_places(b, queries, before)?, by_heads::key_places(b, keys)?);
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
        let key = by_heads::key_places(b, keys)?;
        let seen = b.op(&LT, &[key, valid])?;
        mask.allow(b, seen)?;
        mask.may_be_empty = true;
    }
    Ok(mask)
}

/// A mask for fewer keys forbids the others.
fn lengthened(b: &mut Build, mask: Value, keys: &Dim) -> Result<Value, ImportError> {
    let ty = b.ty(mask).clone();
    let Some(last) = ty.rank().checked_sub(1) else {
        return Err(OpError::RankAtLeast { operand: "attn_mask", least: 1, found: 0 }.into());
    };
    let never = if ty.dtype == DType::Bool { 0.0 } else { f64::NEG_INFINITY };
    Ok(by_heads::lengthened(b, mask, last, keys, (never, "last axis of `attn_mask`, and keys"))?)
}
