//! onnxruntime's MultiHeadAttention: `softmax(mask(scale · q kᵀ)) v` by heads.
//!
//! - `query: [N, L, D]`, `key: [N, M, D]`, `value: [N, M, E]`; or keys and values as they are kept, `[N, heads, M, …]`;
//!   or packed, `key: [N, M, heads, 2, …]`, `query: [N, L, heads, 3, …]`. `bias: [D + D + E]` is added to what is not
//!   kept. The result is `[N, L, E]`; then keys and values with the past, and what the softmax takes.
//! - A mask of integers says what is padding; `mask_filter_value` is added there. `unidirectional` queries see no later
//!   key.
//!
//! Source: onnxruntime, contrib operators, MultiHeadAttention.

use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::linalg::by_heads;
use crate::linalg::padding_mask;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;
use crate::shape::transpose::transpose;

/// The op.
pub static ONNX: &[Import] = &[by("MultiHeadAttention", import).in_domain("com.microsoft")];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    if node.optional_input(8).is_some() || node.optional_input(9).is_some() {
        return Err(ImportError::Unsupported {
            what: "MultiHeadAttention with past_sequence_length or cache_indirection".to_owned(),
            help: "export the model with a past that ends where the new keys start".to_owned(),
        });
    }
    let [q, mut k, mut v] = operands(node, b)?;
    let mut past = Dim::constant(0);
    match (node.optional_input(6), node.optional_input(7)) {
        (Some(past_key), Some(past_value)) => {
            k = by_heads::continued(b, past_key, "past_key", k)?;
            v = by_heads::continued(b, past_value, "past_value", v)?;
            past = b.ty(past_key).shape[2].clone();
        }
        (None, None) => {}
        (Some(_), None) => return Err(ImportError::MissingInput { index: 7 }),
        (None, Some(_)) => return Err(ImportError::MissingInput { index: 6 }),
    }
    let masks = [node.optional_input(4), node.optional_input(5)];
    let done = padding_mask::attend(node, b, [q, k, v], past, masks)?;
    let dtype = b.ty(q).dtype;
    Ok(vec![by_heads::together(b, done.y)?, k, v, convert(b, done.masked, dtype)?])
}

/// Queries, keys and values, `[N, heads, L, …]`.
fn operands(node: &NodeView, b: &mut Build) -> Result<[Value; 3], ImportError> {
    let heads = node.int("num_heads")?;
    let heads = node.required("num_heads", heads)?;
    let query = node.input(0)?;
    if b.ty(query).rank() == 5 {
        let parts = [packed(b, query, 0)?, packed(b, query, 1)?, packed(b, query, 2)?];
        return biased(node, b, parts);
    }
    let key = node.input(1)?;
    let q = by_heads::apart(b, query, heads, ("query", "num_heads"))?;
    match b.ty(key).rank() {
        3 => {
            let k = by_heads::apart(b, key, heads, ("key", "num_heads"))?;
            let v = by_heads::apart(b, node.input(2)?, heads, ("value", "num_heads"))?;
            biased(node, b, [q, k, v])
        }
        5 => {
            let parts = [q, packed(b, key, 0)?, packed(b, key, 1)?];
            biased(node, b, parts)
        }
        _ => {
            let kept = [key, node.input(2)?];
            for (operand, x) in ["key", "value"].into_iter().zip(kept) {
                if b.ty(x).rank() != 4 {
                    return Err(OpError::Rank { operand, expected: 4, found: b.ty(x).rank() }.into());
                }
            }
            let [q] = biased(node, b, [q])?;
            Ok([q, kept[0], kept[1]])
        }
    }
}

/// One of several in `[N, L, heads, count, H]`, as `[N, heads, L, H]`.
fn packed(b: &mut Build, x: Value, which: i64) -> Result<Value, OpError> {
    let mut shape = b.ty(x).shape.clone();
    let part = slice_axis(b, x, 3, which.into(), Dim::constant(1))?;
    shape.remove(3);
    let part = reshape(b, part, shape)?;
    transpose(b, part, vec![0, 2, 1, 3])
}

/// The first ones of queries, keys and values with their part of the bias.
fn biased<const COUNT: usize>(
    node: &NodeView,
    b: &mut Build,
    mut parts: [Value; COUNT],
) -> Result<[Value; COUNT], ImportError> {
    let Some(bias) = node.optional_input(3) else { return Ok(parts) };
    if b.ty(bias).rank() != 1 {
        return Err(OpError::Rank { operand: "bias", expected: 1, found: b.ty(bias).rank() }.into());
    }
    let mut start = Dim::constant(0);
    for part in &mut parts {
        let [_, heads, _, width] = &b.ty(*part).shape[..] else { continue };
        let (size, shape) =
            (heads.clone() * width.clone(), vec![heads.clone(), Dim::constant(1), width.clone()]);
        let own = slice_axis(b, bias, 0, start.clone(), size.clone())?;
        let own = reshape(b, own, shape)?;
        *part = b.op(&ADD, &[*part, own])?;
        start = start + size;
    }
    Ok(parts)
}
