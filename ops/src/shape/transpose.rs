//! `transpose(x)`: axis `i` of the result is axis `perm[i]` of `x`.
//!
//! Shapes: any. Errors: [`OpError::Attribute`] if `perm` is no permutation of the axes.
//! Source: ONNX Transpose, opset 25; DepthToSpace, opset 13, and SpaceToDepth, opset 28.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes};
use ir::tensor::for_each_index;
use ir::{Dim, OpDef, Tensor, TensorType, Weight};

use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reference;
use crate::shape::reshape::reshape;

/// Axes in another order.
pub static TRANSPOSE: OpDef = OpDef::new("transpose", &["x"], &Transpose).attrs(&[PERM.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("Transpose", import),
    by("DepthToSpace", import_depth_to_space),
    by("SpaceToDepth", import_space_to_depth),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx =
    nodes(|e| Some(e.same_with("Transpose", vec![("perm", NodeAttr::Ints(e.attrs.get(PERM)))])));

/// `perm[i]` is the axis of `x` that becomes axis `i` of the result.
pub const PERM: Key<Vec<i64>> = key("perm");

struct Transpose;

impl Semantics for Transpose {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, perm) = (cx.operands[0], cx.attrs.get(PERM));
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..x.rank() as i64) {
            return Err(OpError::Attribute { key: PERM.name, why: "not a permutation of the axes" });
        }
        Ok(vec![x.with_shape(perm.iter().map(|&axis| x.shape[axis as usize].clone()))])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let perm = cx.attrs.get(PERM);
        let mut from = vec![0; perm.len()];
        let element = |at: &[usize]| {
            for (&axis, &i) in perm.iter().zip(at) {
                from[axis as usize] = i;
            }
            cx.operands[0].at(&from)
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn rearranged(&self, x: &[&Weight], attrs: &Attrs) -> Option<Weight> {
        let [x] = x else { return None };
        let perm: Vec<usize> = attrs.get(PERM).into_iter().map(|axis| axis as usize).collect();
        Some(x.permuted(x.name(), &perm))
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let perm = cx.attrs.get(PERM);
        cx.each(|cx, at| {
            let mut from = at.to_vec();
            for (&axis, i) in perm.iter().zip(at) {
                from[axis as usize] = i.clone();
            }
            cx.load(0, from.into_iter().map(Expr::from))
        })
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let (x, perm) = (cx.operands[0].as_ref()?, cx.attrs.get(PERM));
        let shape = cx.types[0].fixed_shape()?;
        let mut result = Vec::new();
        let mut from = vec![0; perm.len()];
        for_each_index(&cx.result.fixed_shape()?, |at| {
            for (&axis, &i) in perm.iter().zip(at) {
                from[axis as usize] = i;
            }
            let position = from.iter().zip(&shape).fold(0, |position, (&i, &size)| position * size + i);
            result.push(x[position].clone());
        });
        Some(result)
    }

    fn is_identity(&self, attrs: &Attrs) -> bool {
        let perm = attrs.get(PERM);
        perm.iter().copied().eq(0..perm.len() as i64)
    }

    fn after_itself(&self, outer: &Attrs, inner: &Attrs) -> Option<Attrs> {
        let (outer, inner) = (outer.get(PERM), inner.get(PERM));
        let both: Vec<i64> = outer.iter().map(|&axis| inner[axis as usize]).collect();
        let (key, perm) = PERM.is(both);
        TRANSPOSE.check_attrs([(key.to_owned(), perm)]).ok()
    }
}

/// `x` with its axes in this order: itself, if that is their order.
///
/// # Errors
/// [`OpError::Attribute`] if it is no permutation.
pub fn transpose(b: &mut Build, x: Value, perm: Vec<i64>) -> Result<Value, OpError> {
    if perm.iter().copied().eq(0..b.ty(x).rank() as i64) {
        return Ok(x);
    }
    b.op_with(&TRANSPOSE, &[x], [PERM.is(perm)])
}

/// The last two axes exchanged.
///
/// # Errors
/// [`OpError::RankAtLeast`].
pub fn swap_last_two(b: &mut Build, x: Value) -> Result<Value, OpError> {
    let rank = b.ty(x).rank();
    if rank < 2 {
        return Err(OpError::RankAtLeast { operand: "x", least: 2, found: rank });
    }
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 1, rank - 2);
    transpose(b, x, perm)
}

/// `x: [N, …, C]` as `[N, C, …]`.
///
/// # Errors
/// [`OpError::RankAtLeast`].
pub(crate) fn channels_first(b: &mut Build, x: Value) -> Result<Value, OpError> {
    let last = last_axis(b, x)?;
    transpose(b, x, [0, last].into_iter().chain(1..last).collect())
}

/// `x: [N, C, …]` as `[N, …, C]`.
///
/// # Errors
/// [`OpError::RankAtLeast`].
pub(crate) fn channels_last(b: &mut Build, x: Value) -> Result<Value, OpError> {
    let last = last_axis(b, x)?;
    transpose(b, x, [0].into_iter().chain(2..=last).chain([1]).collect())
}

/// The last axis of images.
fn last_axis(b: &Build, x: Value) -> Result<i64, OpError> {
    match b.ty(x).rank() {
        found @ 0..3 => Err(OpError::RankAtLeast { operand: "x", least: 3, found }),
        rank => Ok(rank as i64 - 1),
    }
}

/// Without `perm`, the order is reversed.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let perm = match node.ints("perm")? {
        Some(perm) => perm,
        None => (0..b.ty(x).rank() as i64).rev().collect(),
    };
    Ok(vec![transpose(b, x, perm)?])
}

/// `[N, C, H, W]` and the block size.
fn image(node: &NodeView, b: &Build) -> Result<(Value, [Dim; 4], Dim), ImportError> {
    let x = node.input(0)?;
    let shape = b.ty(x).shape.clone();
    let sizes = <[Dim; 4]>::try_from(shape).map_err(|shape| OpError::Rank {
        operand: "input",
        expected: 4,
        found: shape.len(),
    })?;
    let block = node.int("blocksize")?;
    Ok((x, sizes, Dim::constant(node.required("blocksize", block)?)))
}

fn divided(size: &Dim, by: &Dim) -> Result<Dim, ImportError> {
    let clash =
        || OpError::Size { what: "size that the block must divide", left: size.clone(), right: by.clone() };
    Ok(size.exact_div(by).ok_or_else(clash)?)
}

fn import_depth_to_space(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, [n, c, h, w], s) = image(node, b)?;
    let depth = divided(&c, &(s.clone() * s.clone()))?;
    let [wide, high] = [w.clone() * s.clone(), h.clone() * s.clone()];
    let (blocks, perm) = match node.str_or("mode", "DCR")? {
        "DCR" => (vec![n.clone(), s.clone(), s, depth.clone(), h, w], vec![0, 3, 4, 1, 5, 2]),
        "CRD" => (vec![n.clone(), depth.clone(), s.clone(), s, h, w], vec![0, 1, 4, 2, 5, 3]),
        other => return Err(ImportError::value("mode", other, "DCR and CRD")),
    };
    let blocks = reshape(b, x, blocks)?;
    let moved = transpose(b, blocks, perm)?;
    Ok(vec![reshape(b, moved, vec![n, depth, high, wide])?])
}

fn import_space_to_depth(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, [n, c, h, w], s) = image(node, b)?;
    let (h, w) = (divided(&h, &s)?, divided(&w, &s)?);
    let blocks = vec![n.clone(), c.clone(), h.clone(), s.clone(), w.clone(), s.clone()];
    let blocks = reshape(b, x, blocks)?;
    let perm = match node.str_or("mode", "DCR")? {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        other => return Err(ImportError::value("mode", other, "DCR and CRD")),
    };
    let moved = transpose(b, blocks, perm)?;
    Ok(vec![reshape(b, moved, vec![n, c * s.clone() * s, h, w])?])
}
