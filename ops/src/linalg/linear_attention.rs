//! Attention whose memory is a matrix for each head: a loop over time whose state is `S: [B, H, d_k, d_v]`.
//!
//! `S ← exp(g)·S` (gated), `v ← β·(v − Sᵀk)` (delta), `S ← S + k⊗v`, `o = scale·Sᵀq`. Several query heads may read one
//! state. Everything is carried in `f32`, or `f64`. Source: ONNX LinearAttention, opset 27; Yang et al. 2024.

use ir::Dim;
use std::slice::from_ref;

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use super::matmul::MATMUL;
use super::rotary_embedding::split_heads;
use crate::flow::r#loop::{Repeat, repeat};
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::exp::EXP;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::broadcast::broadcast;
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;
use crate::shape::transpose::transpose;

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("LinearAttention", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    // How many steps are taken at once changes nothing.
    node.ignore(&["chunk_size"]);
    let rule = node.str_or("update_rule", "gated_delta")?;
    let (is_gated, is_delta) = match rule {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => {
            return Err(ImportError::value("update_rule", other, "linear, gated, delta and gated_delta"));
        }
    };
    for (index, wanted, name) in [(4, is_gated, "decay"), (5, is_delta, "beta")] {
        if node.optional_input(index).is_some() != wanted {
            let why = format!("`{rule}` {} `{name}`", if wanted { "needs" } else { "has no" });
            return Err(ImportError::Attribute { name: "update_rule".to_owned(), why });
        }
    }
    let query_heads = node.int("q_num_heads")?;
    let query_heads = node.required("q_num_heads", query_heads)?;
    let heads = node.int("kv_num_heads")?;
    let heads = node.required("kv_num_heads", heads)?;
    if heads < 1 || query_heads < 1 || query_heads % heads != 0 {
        return Err(ImportError::value("q_num_heads", query_heads, "multiples of `kv_num_heads`"));
    }
    let ty = node.ty(b, 0)?;
    let dtype = ty.dtype.arithmetic();
    let beta_is_shared = is_delta && node.ty(b, 5)?.shape.last().is_some_and(|size| size.is(1));
    let mut split = |index: usize, heads: i64, name: &'static str| -> Result<Value, ImportError> {
        let x = node.input(index)?;
        let shape = b.ty(x).shape.clone();
        if shape.len() != 3 {
            return Err(OpError::Rank { operand: name, expected: 3, found: shape.len() }.into());
        }
        let shape = split_heads(&shape, heads, name)?;
        let x = convert(b, x, dtype)?;
        let x = reshape(b, x, shape)?;
        // Time first.
        Ok(transpose(b, x, vec![1, 0, 2, 3])?)
    };
    let query = split(0, query_heads, "query")?;
    let (key, value) = (split(1, heads, "key")?, split(2, heads, "value")?);
    let decay = if is_gated { Some(split(4, heads, "decay")?) } else { None };
    // One rate may hold for all heads.
    let rates = if beta_is_shared { 1 } else { heads };
    let beta = if is_delta { Some(split(5, rates, "beta")?) } else { None };
    let (keys, values) = (b.ty(key).shape.clone(), b.ty(value).shape.clone());
    let (steps, batch, width) = (keys[0].clone(), keys[1].clone(), keys[3].clone());
    let state_shape = vec![batch, heads.into(), width.clone(), values[3].clone()];
    let (state, state_dtype) = match node.optional_input(3) {
        Some(state) => {
            let found = b.ty(state).clone();
            if let Some((left, right)) = found.shape.iter().zip(&state_shape).find(|(a, b)| a != b) {
                let (left, right) = (left.clone(), right.clone());
                return Err(OpError::Size { what: "`past_state` and the heads", left, right }.into());
            }
            (convert(b, state, dtype)?, found.dtype)
        }
        None => {
            let zero = b.scalar(dtype, 0.0);
            (broadcast(b, zero, state_shape)?, ty.dtype)
        }
    };
    let given = node.float_or("scale", 0.0)?;
    let scale = match (given, width.as_const()) {
        (0.0, Some(width)) => 1.0 / (width as f64).sqrt(),
        (0.0, None) => {
            return Err(ImportError::Unsupported {
                what: format!("heads of {width} elements without `scale`"),
                help: "fix the size with --dim".to_owned(),
            });
        }
        (given, _) => given,
    };
    let scale = b.scalar(dtype, scale);
    let query = b.op(&MUL, &[query, scale])?;
    let captures: Vec<Value> =
        [Some(query), Some(key), Some(value), decay, beta].into_iter().flatten().collect();
    let index = b.fresh_symbol("step");
    let mut body = Build::new("linear_attention");
    body.set_origin(b.origin().clone());
    let mut take = |b: &Build, value: Value| {
        let name = format!("in{}", body.graph().inputs().len());
        body.input(&name, b.ty(value).clone())
    };
    let before = take(b, state);
    let inside: Vec<Value> = captures.iter().map(|&value| take(b, value)).collect();
    let mut now = Vec::new();
    for value in inside {
        let row = slice_axis(&mut body, value, 0, Dim::from(&index), Dim::constant(1))?;
        let shape = body.ty(row).shape[1..].to_vec();
        now.push(reshape(&mut body, row, shape)?);
    }
    let group = query_heads / heads;
    let outputs = step(&mut body, before, &now, is_gated, group)?;
    let body = body.finish(outputs);
    let count = Some(steps);
    let parts = Repeat { body, index, count, cond: None, carried: vec![state], captures, changing: vec![] };
    let results = repeat(b, parts, "step")?;
    // `[T, B, H, group, d_v]`.
    let output = transpose(b, results[1], vec![1, 0, 2, 3, 4])?;
    let shape = b.ty(output).shape.clone();
    let all: Dim = shape[2..].iter().cloned().product();
    let output = reshape(b, output, vec![shape[0].clone(), shape[1].clone(), all])?;
    Ok(vec![convert(b, output, ty.dtype)?, convert(b, results[0], state_dtype)?])
}

/// The next state, and what is read from it: `[B, H, group, d_v]`.
fn step(
    b: &mut Build,
    state: Value,
    now: &[Value],
    is_gated: bool,
    group: i64,
) -> Result<Vec<Value>, OpError> {
    let (key, value) = (b.ty(now[1]).shape.clone(), b.ty(now[2]).shape.clone());
    let one = Dim::constant(1);
    let with = |shape: &[Dim], at: usize| [&shape[..at], from_ref(&one), &shape[at..]].concat();
    let (column, row) = (reshape(b, now[1], with(&key, 3))?, reshape(b, now[1], with(&key, 2))?);
    let mut new = reshape(b, now[2], with(&value, 2))?;
    let mut state = state;
    if is_gated {
        let decay = with(&b.ty(now[3]).shape.clone(), 3);
        let decay = reshape(b, now[3], decay)?;
        let decay = b.op(&EXP, &[decay])?;
        state = b.op(&MUL, &[state, decay])?;
    }
    if let Some(&beta) = now.get(3 + usize::from(is_gated)) {
        let known = b.op(&MATMUL, &[row, state])?;
        let rest = b.op(&SUB, &[new, known])?;
        let beta_shape = with(&b.ty(beta).shape.clone(), 3);
        let beta = reshape(b, beta, beta_shape)?;
        new = b.op(&MUL, &[beta, rest])?;
    }
    let added = b.op(&MUL, &[column, new])?;
    let next = b.op(&ADD, &[state, added])?;
    let query = vec![key[0].clone(), key[1].clone(), group.into(), key[2].clone()];
    let query = reshape(b, now[0], query)?;
    Ok(vec![next, b.op(&MATMUL, &[query, next])?])
}
