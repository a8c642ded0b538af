//! ONNX FlexAttention: `prob_mod(softmax(score_mod(scale · q kᵀ))) v`, by heads, where `score_mod` and `prob_mod` are
//! graphs that the node brings.
//!
//! - Shapes: `q: [N, heads, L, D]`, `k: [N, kv_heads, S, D]`, `v: [N, kv_heads, S, E]`; the result is `[N, heads, L, E]`.
//!   `kv_heads` divides `heads`; several heads of `q` that share one of `k` and `v` stand beside each other.
//! - Each graph makes one `[N, heads, L, S]` of another, in `softmax_precision`: `f32`, or `f64` for operands in `f64`, if
//!   it is not given.
//! - Products of 16-bit floats are computed in `f32`.
//!
//! What is in the graphs only an importer can say. It takes the op step by step, with the nodes of the graphs between.
//!
//! Source: ONNX FlexAttention, opset 1 of `ai.onnx.preview`.

use ir::DType;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::linalg::by_heads;
use crate::math::cast::convert;
use crate::norm::AXIS;
use crate::norm::softmax::SOFTMAX;
use crate::onnx::{Import, ImportError, NodeView, by};

/// The domain of the op.
pub const DOMAIN: &str = "ai.onnx.preview";

/// The graph that makes other scores of scores.
pub const SCORE_MOD: &str = "score_mod";

/// The graph that makes other weights of weights.
pub const PROB_MOD: &str = "prob_mod";

/// The op without graphs.
pub static ONNX: &[Import] = &[by("FlexAttention", import).in_domain(DOMAIN)];

/// `q, k, v → scores`, which `score_mod` takes.
pub static SCORES: Import = by("FlexAttention", scores).in_domain(DOMAIN);

/// `scores, score_mod(scores) → weights`, which `prob_mod` takes.
pub static WEIGHTS: Import = by("FlexAttention", weights).in_domain(DOMAIN);

/// `weights, prob_mod(weights), v → y`.
pub static RESULT: Import = by("FlexAttention", result).in_domain(DOMAIN);

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let scores = scores_of(node, b)?;
    let weights = weights_of(node, b, scores)?;
    Ok(vec![result_of(b, weights, node.input(2)?)?])
}

fn scores(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&[SCORE_MOD, PROB_MOD]);
    Ok(vec![scores_of(node, b)?])
}

fn weights(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["scale", SCORE_MOD, PROB_MOD]);
    let scores = modified(node, b, SCORE_MOD, "scores before and after `score_mod`")?;
    Ok(vec![weights_of(node, b, scores)?])
}

fn result(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["scale", "softmax_precision", SCORE_MOD, PROB_MOD]);
    let weights = modified(node, b, PROB_MOD, "weights before and after `prob_mod`")?;
    Ok(vec![result_of(b, weights, node.input(2)?)?])
}

fn scores_of(node: &NodeView, b: &mut Build) -> Result<Value, ImportError> {
    let [q, k, v] = [node.input(0)?, node.input(1)?, node.input(2)?];
    let dtype = b.ty(q).dtype;
    for (operand, x) in [("Q", q), ("K", k), ("V", v)] {
        let ty = b.ty(x);
        if ty.rank() != 4 {
            return Err(OpError::Rank { operand, expected: 4, found: ty.rank() }.into());
        }
        if !ty.dtype.is_float() {
            return Err(OpError::DType { operand, expected: "a float", found: ty.dtype }.into());
        }
        if ty.dtype != dtype {
            return Err(OpError::DTypes { left: dtype, right: ty.dtype }.into());
        }
    }
    for (what, [x, y], axis) in [
        ("members of the batch of `Q` and `K`", [q, k], 0),
        ("members of the batch of `Q` and `V`", [q, v], 0),
        ("heads of `K` and `V`", [k, v], 1),
        ("number of keys and values", [k, v], 2),
        ("width of queries and keys", [q, k], 3),
    ] {
        same_size(what, b, [x, y], axis)?;
    }
    let scale = by_heads::scale(node.float("scale")?, &b.ty(q).shape[3])?;
    let scores = by_heads::scores(b, q, k, scale)?;
    let dtype = before(node, SCORE_MOD, dtype)?;
    Ok(convert(b, scores, dtype)?)
}

fn weights_of(node: &NodeView, b: &mut Build, scores: Value) -> Result<Value, ImportError> {
    let dtype = b.ty(scores).dtype;
    let scores = convert(b, scores, dtype.arithmetic())?;
    let weights = b.op_with(&SOFTMAX, &[scores], [AXIS.is(-1)])?;
    let dtype = before(node, PROB_MOD, dtype)?;
    Ok(convert(b, weights, dtype)?)
}

fn result_of(b: &mut Build, weights: Value, v: Value) -> Result<Value, OpError> {
    let y = by_heads::weighted(b, weights, v)?;
    convert(b, y, b.ty(v).dtype)
}

/// The element type before a graph: the one that the node asks for, or, without that graph, what is as precise.
fn before(node: &NodeView, graph: &str, dtype: DType) -> Result<DType, ImportError> {
    let name = "softmax_precision";
    let precision = node.dtype(name)?.unwrap_or(dtype.arithmetic());
    if !precision.is_float() {
        return Err(ImportError::value(name, precision, "float types"));
    }
    Ok(if node.has(graph) { precision } else { precision.arithmetic() })
}

/// Input 1, which a graph makes of input 0.
fn modified(
    node: &NodeView,
    b: &Build,
    graph: &'static str,
    what: &'static str,
) -> Result<Value, ImportError> {
    let (given, made) = (node.input(0)?, node.input(1)?);
    let (before, after) = (b.ty(given), b.ty(made));
    if before.dtype != after.dtype {
        let expected = before.dtype.name();
        return Err(OpError::DType { operand: graph, expected, found: after.dtype }.into());
    }
    if before.rank() != after.rank() {
        return Err(OpError::Rank { operand: graph, expected: before.rank(), found: after.rank() }.into());
    }
    for axis in 0..before.rank() {
        same_size(what, b, [given, made], axis)?;
    }
    Ok(made)
}

fn same_size(what: &'static str, b: &Build, [x, y]: [Value; 2], axis: usize) -> Result<(), OpError> {
    let [left, right] = [x, y].map(|x| b.ty(x).shape[axis].clone());
    if left == right { Ok(()) } else { Err(OpError::Size { what, left, right }) }
}
