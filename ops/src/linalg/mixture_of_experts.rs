//! onnxruntime's MoE: `y[t] = Σₖ gates[t, k] · expert(ids[t, k])(x[t])`. What its weights are is all that QMoE
//! ([`quantized_experts`](super::quantized_experts)) has of its own.
//!
//! - `input: [T, H]` or `[B, S, H]`, `router_probs: [T, E]`, which are scores and no probabilities, `fc1: [E, F, H]`,
//!   `fc2: [E, H, I]`, `fc3: [E, I, H]`, each with a bias of its first two axes or without. Older files have the last two
//!   axes of all three the other way round, which their sizes tell. 16-bit floats are computed in `f32`.
//! - The gates of a token are the `k` largest of the softmax of its scores, divided by their sum where
//!   `normalize_routing_weights` says so. Of equal ones, that of the later expert counts as larger.
//! - An expert is `fc2 · act(fc1 · x)`, or `fc2 · (act(fc1 · x) ∘ fc3 · x)`. For `swiglu`,
//!   `g · σ(alpha · g) · (l + beta)` with `g ≤ limit` and `|l| ≤ limit`: both are rows of `fc1` in turn
//!   (`swiglu_fusion` 1), its halves (2), or those of `fc1` and `fc3` (0); with `swiglu_limit_after_activation`,
//!   `g · σ(alpha · g) ≤ limit` instead. For `geglu`, `gelu(g) · l`. `gelu` is that with the hyperbolic tangent, `relu2`
//!   the square of `relu`.
//!
//! Source: onnxruntime, contrib operators, MoE; what it leaves open is as onnxruntime computes it on a CPU.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::linalg::combine::combine;
use crate::linalg::grouped_matmul::grouped_matmul;
use crate::math::add::ADD;
use crate::math::cast::convert;
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
use crate::shape::gather_elements::{self, GATHER_ELEMENTS};
use crate::shape::reshape::reshape;
use crate::shape::slice::{SIZES, SLICE, STARTS, STEPS, slice_axis};
use crate::shape::transpose::swap_last_two;

/// The op.
pub static ONNX: &[Import] = &[by("MoE", import).in_domain("com.microsoft")];

/// The matrices of one layer of all experts, `f32[E, N, K]`, and their biases.
pub(super) struct Weights {
    pub(super) matrices: Value,
    pub(super) bias: Option<Value>,
}

/// Where the gates of a token come from.
pub(super) struct Gates {
    /// The gates of all experts; without, they are the softmax of the scores.
    pub(super) given: Option<Value>,
    /// Are those of the chosen experts divided by their sum?
    pub(super) normalized: bool,
}

/// What `fc1`, `fc2` and `fc3` are.
pub(super) struct Layers {
    pub(super) first: Weights,
    pub(super) second: Weights,
    pub(super) third: Option<Weights>,
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let turned = is_turned(node, b)?;
    let mut layer = |at: usize| -> Result<Weights, ImportError> {
        let matrices = node.input(at)?;
        let matrices = if turned { swap_last_two(b, matrices)? } else { matrices };
        let matrices = convert(b, matrices, DType::F32)?;
        Ok(Weights { matrices, bias: node.optional_input(at + 1) })
    };
    let (first, second) = (layer(2)?, layer(4)?);
    let third = node.optional_input(6).map(|_| layer(6)).transpose()?;
    let layers = Layers { first, second, third };
    let gates = Gates { given: None, normalized: node.flag("normalize_routing_weights", false)? };
    mixture(node, b, layers, gates)
}

/// Do the matrices have their columns before their rows? Where both fit, they have not.
fn is_turned(node: &NodeView, b: &Build) -> Result<bool, ImportError> {
    let x = node.ty(b, 0)?;
    let Some(width) = x.shape.last() else { return Ok(false) };
    let fits = |at: usize, axis: usize| {
        let matrices = node.optional_input(at).map(|value| b.ty(value).shape.clone());
        matrices.is_none_or(|shape| shape.get(axis) == Some(width))
    };
    let all = |[outer, inner]: [usize; 2]| fits(2, outer) && fits(4, inner) && fits(6, outer);
    Ok(!all([2, 1]) && all([1, 2]))
}

/// The experts of these layers.
///
/// # Errors
/// What the attributes ask for and is not supported; [`OpError::Size`].
pub(super) fn mixture(
    node: &NodeView,
    b: &mut Build,
    Layers { first, second, third }: Layers,
    gates: Gates,
) -> Result<Vec<Value>, ImportError> {
    let (x, scores) = (node.input(0)?, node.input(1)?);
    if node.flag("use_sparse_mixer", false)? {
        let what = format!("{} with use_sparse_mixer", node.op_type);
        return Err(unsupported(&what, "export the router as ops of its own"));
    }
    let ty = b.ty(x).clone();
    let (dtype, shape) = (ty.dtype, ty.shape);
    let Some((width, rows)) = shape.split_last() else {
        return Err(OpError::RankAtLeast { operand: "input", least: 2, found: 0 }.into());
    };
    let tokens: Dim = rows.iter().cloned().product();
    let x = convert(b, x, DType::F32)?;
    let x = reshape(b, x, vec![tokens, Dim::constant(1), width.clone()])?;
    let scores = convert(b, scores, DType::F32)?;
    let (ids, gates) = route(node, b, scores, &gates)?;
    let first = layer(b, x, ids, &first)?;
    let third = third.map(|third| layer(b, x, ids, &third)).transpose()?;
    let hidden = activation(node, b, first, third)?;
    let y = layer(b, hidden, ids, &second)?;
    let y = combine(b, y, gates)?;
    let y = reshape(b, y, shape)?;
    Ok(vec![convert(b, y, dtype)?])
}

pub(super) fn unsupported(what: &str, help: &str) -> ImportError {
    ImportError::Unsupported { what: what.to_owned(), help: help.to_owned() }
}

/// Which experts each token goes to, and with which weights.
fn route(node: &NodeView, b: &mut Build, scores: Value, from: &Gates) -> Result<(Value, Value), ImportError> {
    let k = node.required("k", node.int("k")?)?;
    let shape = b.ty(scores).shape.clone();
    let [_, experts] = &shape[..] else {
        let (operand, found) = ("router_probs", shape.len());
        return Err(OpError::Rank { operand, expected: 2, found }.into());
    };
    let Some(last) = experts.as_const().map(|experts| experts - 1) else {
        let what = format!("{} with an unknown number of experts", node.op_type);
        return Err(unsupported(&what, "export it with fixed weights"));
    };
    let shares = b.op_with(&SOFTMAX, &[scores], [AXIS.is(1)])?;
    // From the last expert to the first: of equal ones the first is taken.
    let starts = vec![Dim::constant(0), Dim::constant(last)];
    let backwards = [STARTS.is(starts), SIZES.is(shape.clone()), STEPS.is(vec![1, -1])];
    let shares = b.op_with(&SLICE, &[shares], backwards)?;
    let [mut gates, ids] = topk(b, shares, 1, k.into(), true)?;
    let last = b.scalar(DType::I64, last as f64);
    let ids = b.op(&SUB, &[last, ids])?;
    if let Some(given) = from.given {
        let given = convert(b, given, DType::F32)?;
        gates = b.op_with(&GATHER_ELEMENTS, &[given, ids], [gather_elements::AXIS.is(1)])?;
    }
    if from.normalized {
        let sum = b.op_with(&REDUCE_SUM, &[gates], [AXES.is(vec![1]), KEEP_DIMS.is(true)])?;
        gates = b.op(&DIV, &[gates, sum])?;
    }
    Ok((ids, gates))
}

/// What a layer makes of each slot's row.
fn layer(b: &mut Build, x: Value, ids: Value, weights: &Weights) -> Result<Value, ImportError> {
    let matrices = swap_last_two(b, weights.matrices)?;
    let y = grouped_matmul(b, x, matrices, ids)?;
    let Some(bias) = weights.bias else { return Ok(y) };
    let bias = convert(b, bias, DType::F32)?;
    let bias = b.op_with(&GATHER, &[bias, ids], [gather::AXIS.is(0)])?;
    Ok(b.op(&ADD, &[y, bias])?)
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
        let late = node.flag("swiglu_limit_after_activation", false)?;
        return swiglu(b, gate, linear, [alpha?.unwrap_or(1.0), beta?.unwrap_or(0.0)], (limit?, late));
    }
    node.ignore(&numbers);
    node.ignore(&["swiglu_limit_after_activation"]);
    if name == "geglu" {
        let (gate, linear) = halves(b, first, third, fusion)?;
        let gate = b.op_with(&GELU, &[gate], [gelu::APPROXIMATE.is("tanh".to_owned())])?;
        return Ok(b.op(&MUL, &[gate, linear])?);
    }
    let y = match name {
        "relu" => b.op(&RELU, &[first])?,
        "relu2" => {
            let y = b.op(&RELU, &[first])?;
            b.op(&MUL, &[y, y])?
        }
        "gelu" => b.op_with(&GELU, &[first], [gelu::APPROXIMATE.is("tanh".to_owned())])?,
        "silu" => b.op(&SILU, &[first])?,
        "identity" => first,
        other => {
            let known = "relu, relu2, gelu, geglu, silu, swiglu and identity";
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

/// `g · σ(alpha · g) · (l + beta)`, with a limit before the activation, or after it.
fn swiglu(
    b: &mut Build,
    mut gate: Value,
    mut linear: Value,
    [alpha, beta]: [f64; 2],
    (limit, late): (Option<f64>, bool),
) -> Result<Value, ImportError> {
    let bounds = limit.filter(|limit| limit.is_finite());
    let bounds = bounds.map(|limit| [-limit, limit].map(|bound| b.scalar(DType::F32, bound)));
    if let Some([low, high]) = bounds {
        gate = if late { gate } else { b.op(&MIN, &[gate, high])? };
        linear = b.op(&CLIP, &[linear, low, high])?;
    }
    let mut open = if alpha == 1.0 {
        b.op(&SILU, &[gate])?
    } else {
        let alpha = b.scalar(DType::F32, alpha);
        let scaled = b.op(&MUL, &[gate, alpha])?;
        let open = b.op(&SIGMOID, &[scaled])?;
        b.op(&MUL, &[gate, open])?
    };
    if let (Some([_, high]), true) = (bounds, late) {
        open = b.op(&MIN, &[open, high])?;
    }
    if beta != 0.0 {
        let beta = b.scalar(DType::F32, beta);
        linear = b.op(&ADD, &[linear, beta])?;
    }
    Ok(b.op(&MUL, &[open, linear])?)
}
