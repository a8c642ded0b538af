//! onnxruntime's Attention: queries, keys and values are one product of the input with weights; then
//! `softmax(mask(scale · q kᵀ)) v` by heads.
//!
//! - `input: [N, L, I]`, `weights: [I, D + D + E]`, `bias: [D + D + E]`; `qkv_hidden_sizes` gives `D`, `D`, `E`, which
//!   are equal without it. The result is `[N, L, E]`.
//! - `past` and `present` are keys and values by heads, `[2, N, heads, P, D / heads]`.
//! - A mask of integers says what is padding; `mask_filter_value` is added there. `unidirectional` queries see no later
//!   key.
//!
//! Source: onnxruntime, contrib operators, Attention.

use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::linalg::by_heads;
use crate::linalg::matmul::MATMUL;
use crate::linalg::padding_mask;
use crate::math::add::ADD;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::concat::{self, CONCAT};
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;

/// The op.
pub static ONNX: &[Import] = &[by("Attention", import).in_domain("com.microsoft")];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    refuse(node)?;
    let heads = node.int("num_heads")?;
    let heads = node.required("num_heads", heads)?;
    let parts = projected(node, b)?;
    let mut apart = |part: Value| by_heads::apart(b, part, heads, ("input", "num_heads"));
    let (q, mut k, mut v) = (apart(parts[0])?, apart(parts[1])?, apart(parts[2])?);
    let mut past = Dim::constant(0);
    if let Some(given) = node.optional_input(4) {
        let (past_key, past_value) = (part(b, given, 0)?, part(b, given, 1)?);
        k = by_heads::continued(b, past_key, "past", k)?;
        v = by_heads::continued(b, past_value, "past", v)?;
        past = b.ty(given).shape[3].clone();
    }
    let y = padding_mask::attend(node, b, [q, k, v], past, 3)?.y;
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
            what: "Attention with do_rotary".to_owned(),
            help:
                "export with RotaryEmbedding nodes before a MultiHeadAttention, or with GroupQueryAttention"
                    .to_owned(),
        });
    }
    if node.flag("past_present_share_buffer", false)? {
        return Err(ImportError::Unsupported {
            what: "Attention with past_present_share_buffer".to_owned(),
            help: "export the model with a past that ends where the new keys start".to_owned(),
        });
    }
    Ok(())
}

/// Queries, keys and values, `[N, L, …]`.
fn projected(node: &NodeView, b: &mut Build) -> Result<[Value; 3], ImportError> {
    let mut all = b.op(&MATMUL, &[node.input(0)?, node.input(1)?])?;
    if let Some(bias) = node.optional_input(2) {
        all = b.op(&ADD, &[all, bias])?;
    }
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
