//! onnxruntime's MoE: `y[t] = Σₖ gates[t, k] · expert(ids[t, k])(x[t])`.
//!
//! - `input: [T, H]` or `[B, S, H]`, `router_probs: [T, E]`, which are scores and no probabilities, `fc1: [E, F, H]`,
//!   `fc2: [E, H, I]`, `fc3: [E, I, H]`, each with a bias of its first two axes or without.
//! - The gates of a token are the `k` largest of the softmax of its scores, divided by their sum where
//!   `normalize_routing_weights` says so. Of equal ones, that of the later expert counts as larger.
//! - An expert is `fc2 · act(fc1 · x)`, or `fc2 · (act(fc1 · x) ∘ fc3 · x)`. For `swiglu`,
//!   `g · σ(alpha · g) · (l + beta)` with `g ≤ limit` and `|l| ≤ limit`: both are rows of `fc1` in turn
//!   (`swiglu_fusion` 1), its halves (2), or those of `fc1` and `fc3` (0). `gelu` is that with the hyperbolic tangent.
//!
//! Source: onnxruntime, contrib operators, MoE; what it leaves open is as onnxruntime computes it on a CPU.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::linalg::combine::combine;
use crate::linalg::grouped_matmul::grouped_matmul;
use crate::math::add::ADD;
use crate::math::clip::CLIP;
use crate::math::div::DIV;
use crate::math::gelu::{self, GELU};
use crate::math::min::MIN;
use crate::math::mul::MUL;
use crate::math::relu::RELU;
use crate::math::sigmoid::SIGMOID;
use crate::math::silu::SILU;
use crate::math::sub::SUB;
use crate::norm::AXIS;
use crate::norm::softmax::SOFTMAX;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::order::topk::topk;
use crate::reduce::along::{AXES, KEEP_DIMS};
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::gather::{self, GATHER};
use crate::shape::reshape::reshape;
use crate::shape::slice::{SIZES, SLICE, STARTS, STEPS, slice_axis};
use crate::shape::transpose::swap_last_two;

/// The op.
pub static ONNX: &[Import] = &[by("MoE", import).in_domain("com.microsoft")];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, scores) = (node.input(0)?, node.input(1)?);
    if b.ty(x).dtype != DType::F32 {
        return Err(unsupported("MoE in 16 bits", "export the model in f32"));
    }
    if node.flag("use_sparse_mixer", false)? {
        return Err(unsupported("MoE with use_sparse_mixer", "export the router as ops of its own"));
    }
    let shape = b.ty(x).shape.clone();
    let Some((width, rows)) = shape.split_last() else {
        return Err(OpError::RankAtLeast { operand: "input", least: 2, found: 0 }.into());
    };
    let tokens: Dim = rows.iter().cloned().product();
    let x = reshape(b, x, vec![tokens, Dim::constant(1), width.clone()])?;
    let (ids, gates) = route(node, b, scores)?;
    let first = layer(node, b, x, ids, 2)?.ok_or(ImportError::MissingInput { index: 2 })?;
    let third = layer(node, b, x, ids, 6)?;
    let hidden = activation(node, b, first, third)?;
    let y = layer(node, b, hidden, ids, 4)?.ok_or(ImportError::MissingInput { index: 4 })?;
    let y = combine(b, y, gates)?;
    Ok(vec![reshape(b, y, shape)?])
}

fn unsupported(what: &str, help: &str) -> ImportError {
    ImportError::Unsupported { what: what.to_owned(), help: help.to_owned() }
}

/// Which experts each token goes to, and with which weights.
fn route(node: &NodeView, b: &mut Build, scores: Value) -> Result<(Value, Value), ImportError> {
    let k = node.required("k", node.int("k")?)?;
    let shape = b.ty(scores).shape.clone();
    let [_, experts] = &shape[..] else {
        let (operand, found) = ("router_probs", shape.len());
        return Err(OpError::Rank { operand, expected: 2, found }.into());
    };
    let Some(last) = experts.as_const().map(|experts| experts - 1) else {
        return Err(unsupported("MoE with an unknown number of experts", "export it with fixed weights"));
    };
    let shares = b.op_with(&SOFTMAX, &[scores], [AXIS.is(1)])?;
    // From the last expert to the first: of equal ones the first is taken.
    let starts = vec![Dim::constant(0), Dim::constant(last)];
    let backwards = [STARTS.is(starts), SIZES.is(shape.clone()), STEPS.is(vec![1, -1])];
    let shares = b.op_with(&SLICE, &[shares], backwards)?;
    let [mut gates, ids] = topk(b, shares, 1, k.into(), true)?;
    let last = b.scalar(DType::I64, last as f64);
    let ids = b.op(&SUB, &[last, ids])?;
    if node.flag("normalize_routing_weights", false)? {
        let sum = b.op_with(&REDUCE_SUM, &[gates], [AXES.is(vec![1]), KEEP_DIMS.is(true)])?;
        gates = b.op(&DIV, &[gates, sum])?;
    }
    Ok((ids, gates))
}

/// What the matrices and biases of inputs `at` and `at + 1` make of each slot's row, if they are there.
fn layer(
    node: &NodeView,
    b: &mut Build,
    x: Value,
    ids: Value,
    at: usize,
) -> Result<Option<Value>, ImportError> {
    let Some(matrices) = node.optional_input(at) else { return Ok(None) };
    let matrices = swap_last_two(b, matrices)?;
    let y = grouped_matmul(b, x, matrices, ids)?;
    let Some(bias) = node.optional_input(at + 1) else { return Ok(Some(y)) };
    let bias = b.op_with(&GATHER, &[bias, ids], [gather::AXIS.is(0)])?;
    Ok(Some(b.op(&ADD, &[y, bias])?))
}

fn activation(
    node: &NodeView,
    b: &mut Build,
    first: Value,
    third: Option<Value>,
) -> Result<Value, ImportError> {
    let name = node.str_or("activation_type", "relu")?;
    let fusion = node.int_or("swiglu_fusion", 0)?;
    let numbers = ["activation_alpha", "activation_beta", "swiglu_limit"];
    if name == "swiglu" {
        let (gate, linear) = halves(b, first, third, fusion)?;
        let [alpha, beta, limit] = numbers.map(|name| node.float(name));
        return swiglu(b, gate, linear, [alpha?.unwrap_or(1.0), beta?.unwrap_or(0.0)], limit?);
    }
    node.ignore(&numbers);
    let y = match name {
        "relu" => b.op(&RELU, &[first])?,
        "gelu" => b.op_with(&GELU, &[first], [gelu::APPROXIMATE.is("tanh".to_owned())])?,
        "silu" => b.op(&SILU, &[first])?,
        "identity" => first,
        other => {
            let known = "relu, gelu, silu, swiglu and identity";
            return Err(ImportError::value("activation_type", other, known));
        }
    };
    Ok(match third {
        Some(third) => b.op(&MUL, &[y, third])?,
        None => y,
    })
}

/// The gate and the linear part of a swiglu.
fn halves(
    b: &mut Build,
    first: Value,
    third: Option<Value>,
    fusion: i64,
) -> Result<(Value, Value), ImportError> {
    let shape = b.ty(first).shape.clone();
    let last = shape.len() - 1;
    let half = shape[last].floor_div(&Dim::constant(2));
    match (fusion, third) {
        (0, Some(third)) => Ok((first, third)),
        (1, None) => {
            let mut part = |start: i64| {
                let mut starts = vec![Dim::constant(0); shape.len()];
                let (mut sizes, mut steps) = (shape.clone(), vec![1; shape.len()]);
                (starts[last], sizes[last], steps[last]) = (start.into(), half.clone(), 2);
                b.op_with(&SLICE, &[first], [STARTS.is(starts), SIZES.is(sizes), STEPS.is(steps)])
            };
            Ok((part(0)?, part(1)?))
        }
        (2, None) => Ok((
            slice_axis(b, first, last, Dim::constant(0), half.clone())?,
            slice_axis(b, first, last, half.clone(), half)?,
        )),
        _ => {
            let known = "0 with fc3, and 1 or 2 without";
            Err(ImportError::value("swiglu_fusion", fusion, known))
        }
    }
}

/// `g · σ(alpha · g) · (l + beta)`.
fn swiglu(
    b: &mut Build,
    mut gate: Value,
    mut linear: Value,
    [alpha, beta]: [f64; 2],
    limit: Option<f64>,
) -> Result<Value, ImportError> {
    if let Some(limit) = limit.filter(|limit| limit.is_finite()) {
        let [low, high] = [-limit, limit].map(|bound| b.scalar(DType::F32, bound));
        gate = b.op(&MIN, &[gate, high])?;
        linear = b.op(&CLIP, &[linear, low, high])?;
    }
    let open = if alpha == 1.0 {
        b.op(&SILU, &[gate])?
    } else {
        let alpha = b.scalar(DType::F32, alpha);
        let scaled = b.op(&MUL, &[gate, alpha])?;
        let open = b.op(&SIGMOID, &[scaled])?;
        b.op(&MUL, &[gate, open])?
    };
    if beta != 0.0 {
        let beta = b.scalar(DType::F32, beta);
        linear = b.op(&ADD, &[linear, beta])?;
    }
    Ok(b.op(&MUL, &[open, linear])?)
}
