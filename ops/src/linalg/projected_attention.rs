//! onnxruntime's Attention and QAttention: queries, keys and values are one product of the input with weights; then
//! `softmax(mask(scale · q kᵀ)) v` by heads. The second has both quantized, with a scale and a zero for all of the input,
//! and for all of the weights or each of their columns.
//!
//! - `input: [N, L, I]`, `weights: [I, D + D + E]`, `bias: [D + D + E]`; `qkv_hidden_sizes` gives `D`, `D`, `E`, which
//!   are equal without it. The result is `[N, L, E]`.
//! - `past` and `present` are keys and values by heads, `[2, N, heads, P, D / heads]`.
//! - A mask of integers says what is padding; `mask_filter_value` is added there. `unidirectional` queries see no later
//!   key.
//!
//! Source: onnxruntime, contrib operators, Attention and QAttention.

use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::linalg::by_heads;
use crate::linalg::matmul::MATMUL;
use crate::linalg::padding_mask;
use crate::linalg::quantized::float_matmul;
use crate::math::add::ADD;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::concat::{self, CONCAT};
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;

/// The ops.
pub static ONNX: &[Import] = &[
    by("Attention", import).in_domain("com.microsoft"),
    by("QAttention", import_quantized).in_domain("com.microsoft"),
];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mut all = b.op(&MATMUL, &[node.input(0)?, node.input(1)?])?;
    if let Some(bias) = node.optional_input(2) {
        all = b.op(&ADD, &[all, bias])?;
    }
    attend(node, b, all, node.optional_input(4), [node.optional_input(3), node.optional_input(5)])
}

fn import_quantized(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let zeros = [node.optional_input(6), node.optional_input(7)];
    let scales = [node.input(3)?, node.input(4)?];
    let all = float_matmul(b, [node.input(0)?, node.input(1)?], zeros, scales, node.optional_input(2))?;
    attend(node, b, all, node.optional_input(8), [node.optional_input(5), None])
}

/// Attention of `[N, L, D + D + E]`, with a past, a mask and what is added to scores, if they are there.
fn attend(
    node: &NodeView,
    b: &mut Build,
    projected: Value,
    past: Option<Value>,
    masks: [Option<Value>; 2],
) -> Result<Vec<Value>, ImportError> {
    refuse(node)?;
    let heads = node.int("num_heads")?;
    let heads = node.required("num_heads", heads)?;
    let parts = parts(node, b, projected)?;
    let mut apart = |part: Value| by_heads::apart(b, part, heads, ("input", "num_heads"));
    let (q, mut k, mut v) = (apart(parts[0])?, apart(parts[1])?, apart(parts[2])?);
    let mut before = Dim::constant(0);
    if let Some(given) = past {
        let (past_key, past_value) = (part(b, given, 0)?, part(b, given, 1)?);
        k = by_heads::continued(b, past_key, "past", k)?;
        v = by_heads::continued(b, past_value, "past", v)?;
        before = b.ty(given).shape[3].clone();
    }
    let y = padding_mask::attend(node, b, [q, k, v], before, masks)?.y;
    let mut results = vec![by_heads::together(b, y)?];
    if node.output_used(1) {
        let mut whole = |x: Value| {
            let shape = [&[Dim::constant(1)], &b.ty(x).shape[..]].concat();
            reshape(b, x, shape)
        };
        let both = [whole(k)?, whole(v)?];
        results.push(b.op_with(&CONCAT, &both, [concat::AXIS.is(0)])?);
    }
    Ok(results)
}

/// What is not supported.
fn refuse(node: &NodeView) -> Result<(), ImportError> {
    node.ignore(&["rotary_embedding_dim"]);
    if node.flag("do_rotary", false)? {
        return Err(ImportError::Unsupported {
            what: format!("{} with do_rotary", node.op_type),
            help:
                "export with RotaryEmbedding nodes before a MultiHeadAttention, or with GroupQueryAttention"
                    .to_owned(),
        });
    }
    if node.flag("past_present_share_buffer", false)? {
        return Err(ImportError::Unsupported {
            what: format!("{} with past_present_share_buffer", node.op_type),
            help: "export the model with a past that ends where the new keys start".to_owned(),
        });
    }
    Ok(())
}

/// Queries, keys and values, `[N, L, …]`.
fn parts(node: &NodeView, b: &mut Build, all: Value) -> Result<[Value; 3], ImportError> {
    let axis = b.ty(all).rank() - 1;
    let width = b.ty(all).shape[axis].clone();
    let sizes: Vec<Dim> = match node.ints("qkv_hidden_sizes")? {
        Some(sizes) => sizes.into_iter().map(Dim::constant).collect(),
        None => {
            let third = width.exact_div(&Dim::constant(3));
            let three = Dim::constant(3);
            let clash = || OpError::Size {
                what: "columns of `weights`, which are three equal parts",
                left: width.clone(),
                right: three,
            };
            vec![third.ok_or_else(clash)?; 3]
        }
    };
    let [q, k, v] = &sizes[..] else {
        return Err(ImportError::Attribute {
            name: "qkv_hidden_sizes".to_owned(),
            why: "it has three sizes".to_owned(),
        });
    };
    Ok([
        slice_axis(b, all, axis, Dim::constant(0), q.clone())?,
        slice_axis(b, all, axis, q.clone(), k.clone())?,
        slice_axis(b, all, axis, q.clone() + k.clone(), v.clone())?,
    ])
}

/// Keys or values of `past`.
fn part(b: &mut Build, past: Value, which: i64) -> Result<Value, OpError> {
    let shape = b.ty(past).shape.clone();
    if shape.len() != 5 {
        return Err(OpError::Rank { operand: "past", expected: 5, found: shape.len() });
    }
    let part = slice_axis(b, past, 0, which.into(), Dim::constant(1))?;
    reshape(b, part, shape[1..].to_vec())
}
