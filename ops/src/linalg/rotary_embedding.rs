//! `rotary_embedding(x, cos, sin)`: pairs of elements of each row, turned by angles.
//!
//! `(u, v)` becomes `(u·cos − v·sin, u·sin + v·cos)`. The pairs are elements `i` and `h + i` of a row for `i` below
//! `h`, or with `interleaved` elements `2i` and `2i + 1`; what follows the first `2h` elements stays as it is.
//!
//! Shapes: `x: […, D]` of floats, `cos` and `sin: […, h]` of its type, where `2h ≤ D` and leading axes broadcast to
//! those of `x`. The result has the type of `x`; 16-bit floats are computed in `f32`. Errors: those of the ops
//! that it stands for. Source: Su et al. 2021; ONNX RotaryEmbedding, opset 23.

use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, OpDef};

use crate::composite::{Composite, in_arithmetic};
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::concat::{self, CONCAT};
use crate::shape::gather::{self, GATHER};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;

/// Pairs of elements turned by angles.
pub static ROTARY_EMBEDDING: OpDef = OpDef::new("rotary_embedding", &["x", "cos", "sin"], &Composite(expand))
    .attrs(&[INTERLEAVED.or(|| Attr::Bool(false))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] =
    &[by("RotaryEmbedding", import), by("RotaryEmbedding", import_contrib).in_domain("com.microsoft")];

/// Do the elements of a pair lie side by side?
pub const INTERLEAVED: Key<bool> = key("interleaved");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let (shape, angles) = (b.ty(x[0]).shape.clone(), b.ty(x[1]).shape.clone());
    for (operand, ty) in [("x", b.ty(x[0])), ("cos", b.ty(x[1]))] {
        if ty.rank() == 0 {
            return Err(OpError::RankAtLeast { operand, least: 1, found: 0 });
        }
    }
    let last = shape.len() - 1;
    let half = angles[angles.len() - 1].clone();
    let turned = half.clone() * Dim::constant(2);
    let interleaved = attrs.get(INTERLEAVED);
    in_arithmetic(b, x, |b, x| {
        let [all, cos, sin] = [x[0], x[1], x[2]];
        let zero = Dim::constant(0);
        let pairs = slice_axis(b, all, last, zero.clone(), turned.clone())?;
        // The two of a pair along an axis of their own.
        let (pair, sizes) = match interleaved {
            true => (last + 1, [half.clone(), Dim::constant(2)]),
            false => (last, [Dim::constant(2), half]),
        };
        let split = reshape(b, pairs, [&shape[..last], &sizes].concat())?;
        let (mut one, mut flat) = (b.ty(split).shape.clone(), b.ty(split).shape.clone());
        one[pair] = Dim::constant(1);
        flat.remove(pair);
        let part = |b: &mut Build, which: i64| {
            let part = slice_axis(b, split, pair, which.into(), Dim::constant(1))?;
            reshape(b, part, flat.clone())
        };
        let (u, v) = (part(b, 0)?, part(b, 1)?);
        let [u_cos, v_sin] = [b.op(&MUL, &[u, cos])?, b.op(&MUL, &[v, sin])?];
        let [u_sin, v_cos] = [b.op(&MUL, &[u, sin])?, b.op(&MUL, &[v, cos])?];
        let (u, v) = (b.op(&SUB, &[u_cos, v_sin])?, b.op(&ADD, &[u_sin, v_cos])?);
        let (u, v) = (reshape(b, u, one.clone())?, reshape(b, v, one)?);
        let both = b.op_with(&CONCAT, &[u, v], [concat::AXIS.is(pair as i64)])?;
        let mut pairs = shape.clone();
        pairs[last] = turned.clone();
        let both = reshape(b, both, pairs)?;
        if shape[last] == turned {
            return Ok(both);
        }
        let rest = slice_axis(b, all, last, turned.clone(), shape[last].clone() - turned)?;
        b.op_with(&CONCAT, &[both, rest], [concat::AXIS.is(last as i64)])
    })
}

/// `X: [N, heads, L, D]`, or `[N, L, heads · D]` with `num_heads`. With positions, the angles of each are rows of
/// the caches.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let shape = b.ty(x).shape.clone();
    let heads = node.int_or("num_heads", 0)?;
    // Where the axis of the heads stands among those of `x` as `[N, …, …, D]`.
    let (x, heads_at) = match shape.len() {
        4 => (x, 1),
        3 => (reshape(b, x, split_heads(&shape, heads, "num_heads")?)?, 2),
        found => return Err(OpError::Rank { operand: "X", expected: 4, found }.into()),
    };
    let given = node.int_or("rotary_embedding_dim", 0)?;
    let turned = if given == 0 { shape_of(b, x, 3) } else { Dim::constant(given) };
    let mut angles = Vec::new();
    for index in [1, 2] {
        let mut cache = node.input(index)?;
        if let Some(positions) = node.optional_input(3) {
            cache = b.op_with(&GATHER, &[cache, positions], [gather::AXIS.is(0)])?;
        }
        let shape = b.ty(cache).shape.clone();
        let half = shape.last().cloned().unwrap_or_else(|| Dim::constant(0));
        let whole = half * Dim::constant(2);
        if shape.len() != 3 || whole != turned {
            return Err(OpError::Size { what: ANGLES, left: whole, right: turned }.into());
        }
        angles.push(for_all_heads(b, cache, heads_at)?);
    }
    let interleaved = INTERLEAVED.is(node.flag("interleaved", false)?);
    let y = b.op_with(&ROTARY_EMBEDDING, &[x, angles[0], angles[1]], [interleaved])?;
    Ok(vec![reshape(b, y, shape)?])
}

/// In onnxruntime's, positions come before the caches, and may be one number, from which on they count.
fn import_contrib(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    if node.flag("is_packed_batching", false)? {
        return Err(ImportError::Unsupported {
            what: "RotaryEmbedding with is_packed_batching".to_owned(),
            help: "export the model with one row of the batch for each sequence".to_owned(),
        });
    }
    if node.float_or("scale", 1.0)? != 1.0 {
        return Err(ImportError::Unsupported {
            what: "RotaryEmbedding with a scale".to_owned(),
            help: "export the model with caches that are scaled".to_owned(),
        });
    }
    let (x, positions) = (node.input(0)?, node.input(1)?);
    let (shape, cache) = (b.ty(x).shape.clone(), node.ty(b, 2)?.shape);
    let half = cache.last().cloned().unwrap_or_else(|| Dim::constant(0));
    let (heads, turned) = (node.int_or("num_heads", 0)?, node.int_or("rotary_embedding_dim", 0)?);
    if turned != 0 && half.clone() * Dim::constant(2) != Dim::constant(turned) {
        let left = half * Dim::constant(2);
        return Err(OpError::Size { what: ANGLES, left, right: turned.into() }.into());
    }
    let (x, rows, heads_at) = match shape.len() {
        4 => (x, shape[2].clone(), 1),
        3 if heads > 0 => (reshape(b, x, split_heads(&shape, heads, "num_heads")?)?, shape[1].clone(), 2),
        // Heads are as wide as what is turned.
        3 => {
            let width = half * Dim::constant(2);
            let clash = || OpError::Size { what: ANGLES, left: width.clone(), right: shape[2].clone() };
            let heads = shape[2].exact_div(&width).ok_or_else(clash)?;
            let split = vec![shape[0].clone(), shape[1].clone(), heads, width.clone()];
            (reshape(b, x, split)?, shape[1].clone(), 2)
        }
        found => return Err(OpError::Rank { operand: "input", expected: 4, found }.into()),
    };
    let positions = match b.ty(positions).rank() {
        2 => positions,
        _ => {
            let (first, counted) = (convert(b, positions, DType::I64)?, iota(b, rows, DType::I64)?);
            b.op(&ADD, &[counted, first])?
        }
    };
    let cos = at_places(b, node.input(2)?, positions, heads_at)?;
    let sin = at_places(b, node.input(3)?, positions, heads_at)?;
    let interleaved = INTERLEAVED.is(node.flag("interleaved", false)?);
    let y = b.op_with(&ROTARY_EMBEDDING, &[x, cos, sin], [interleaved])?;
    Ok(vec![reshape(b, y, shape)?])
}

/// What caches and heads must agree on.
const ANGLES: &str = "elements that `cos_cache` or `sin_cache` turn";

/// The rows of a cache of angles at places `[L]` or `[N, L]`, for all heads, whose axis is `heads_at` of `[N, …, …, D]`.
///
/// # Errors
/// [`OpError::Rank`] of places.
pub(crate) fn at_places(
    b: &mut Build,
    cache: Value,
    places: Value,
    heads_at: usize,
) -> Result<Value, OpError> {
    let places = match b.ty(places).shape.clone() {
        shape if shape.len() == 1 => reshape(b, places, [&[Dim::constant(1)], &shape[..]].concat())?,
        shape if shape.len() == 2 => places,
        shape => return Err(OpError::Rank { operand: "position_ids", expected: 2, found: shape.len() }),
    };
    let rows = b.op_with(&GATHER, &[cache, places], [gather::AXIS.is(0)])?;
    for_all_heads(b, rows, heads_at)
}

/// `[N, L, h]` with an axis of size 1 for the heads.
fn for_all_heads(b: &mut Build, angles: Value, heads_at: usize) -> Result<Value, OpError> {
    let mut shape = b.ty(angles).shape.clone();
    shape.insert(heads_at, Dim::constant(1));
    reshape(b, angles, shape)
}

fn shape_of(b: &Build, x: Value, axis: usize) -> Dim {
    b.ty(x).shape[axis].clone()
}

/// `[N, L, heads · D]` as `[N, L, heads, D]`.
///
/// # Errors
/// Where the attribute `name`, which gives the heads, is missing or does not divide.
pub(crate) fn split_heads(shape: &[Dim], heads: i64, name: &str) -> Result<Vec<Dim>, ImportError> {
    let wrong = |why: &str| ImportError::Attribute { name: name.to_owned(), why: why.to_owned() };
    if heads < 1 {
        return Err(wrong("operands without an axis of heads need it"));
    }
    let width = shape[2].exact_div(&heads.into()).ok_or_else(|| wrong("it does not divide the last axis"))?;
    Ok(vec![shape[0].clone(), shape[1].clone(), heads.into(), width])
}
