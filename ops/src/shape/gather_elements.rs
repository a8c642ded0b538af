//! `gather_elements(x, indices)[…, i, …] = x[…, indices[…, i, …], …]` at `axis`: each element chooses along
//! one axis.
//!
//! Shapes: `x` of any type, `indices: i32 or i64` of its rank; the result has the shape of `indices`, which off
//! the axis is no larger than `x`. Indices mean what they do for `gather`: negative ones count from the end;
//! out of range, the nearest element is taken, and from an axis of size 0 a zero. Errors: [`OpError::DType`],
//! [`OpError::Rank`], [`OpError::Axis`], [`OpError::Size`]. Source: ONNX GatherElements, opset 13.

use ir::attr::{Attr, Key, key};
use ir::build::Build;
use ir::dim::Ranges;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes, normalize_axis};
use ir::tensor::for_each_index;
use ir::{Dim, OpDef, Scalar, Tensor, TensorType};

use crate::index::{nearest, nearest_expr, nearest_indices, not_empty, or_zero, position, want_indices};
use crate::math::elementwise::is_nonnegative;
use crate::onnx::export::{Attributes, Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reference;

/// Elements chosen one by one along an axis.
pub static GATHER_ELEMENTS: OpDef =
    OpDef::new("gather_elements", &["x", "indices"], &GatherElements).attrs(&[AXIS.or(|| Attr::Int(0))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("GatherElements", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Nodes(nearest_to_onnx));

/// The axis of `x` that is indexed; negative counts from the end.
pub const AXIS: Key<i64> = key("axis");

struct GatherElements;

impl Semantics for GatherElements {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        want_indices("indices", indices)?;
        cx.want_rank(1, "indices", x.rank())?;
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank())?;
        for (other, (left, right)) in indices.shape.iter().zip(&x.shape).enumerate() {
            let room = (right.clone() - left.clone()).simplify(&Ranges::new());
            if other != axis && !is_nonnegative(&room) {
                let (left, right) = (left.clone(), right.clone());
                return Err(OpError::Size { what: "more indices than elements off the axis", left, right });
            }
        }
        Ok(vec![indices.with_dtype(x.dtype)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len())?;
        let element = |at: &[usize]| {
            let from = source(axis, x.shape(), at, indices.at(at).to_i64());
            from.map_or(Scalar::from_i64(dtype, 0), |from| x.at(&from))
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let x = cx.operands[0];
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank()).ok()?;
        cx.each(|cx, at| {
            let mut from: Vec<Expr> = at.iter().map(Expr::from).collect();
            from[axis] = nearest_expr(cx.load(1, from.clone()), &x.shape[axis]);
            or_zero([&x.shape[axis]], cx.load(0, from))
        })
    }

    /// At indices that are numbers.
    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let (x, indices) = (cx.operands[0].as_ref()?, cx.operands[1].as_ref()?);
        let (shape, at_shape) = (cx.types[0].fixed_shape()?, cx.types[1].fixed_shape()?);
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len()).ok()?;
        let indices: Vec<i64> = indices.iter().map(Dim::as_const).collect::<Option<_>>()?;
        let mut result = Vec::new();
        for_each_index(&at_shape, |at| {
            let from = source(axis, &shape, at, indices[position(at, &at_shape)]);
            result.push(from.map(|from| x[position(&from, &shape)].clone()));
        });
        result.into_iter().collect()
    }
}

/// Where the element at `at` comes from; `None` if there is nothing.
fn source(axis: usize, shape: &[usize], at: &[usize], index: i64) -> Option<Vec<usize>> {
    let mut from = at.to_vec();
    from[axis] = nearest(index, shape[axis])?;
    Some(from)
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axis = AXIS.is(node.int_or("axis", 0)?);
    Ok(vec![b.op_with(&GATHER_ELEMENTS, &[node.input(0)?, node.input(1)?], [axis])?])
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let axis = normalize_axis(e.attrs.get(AXIS), e.ty(0).rank()).ok()?;
    e.is_in_range(1, &e.ty(0).shape[axis]).then(|| e.same_with("GatherElements", at(axis)))
}

/// The same at the nearest indices.
fn nearest_to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let axis = normalize_axis(e.attrs.get(AXIS), e.ty(0).rank()).ok()?;
    let (x, indices) = (not_empty(e, &[axis]), nearest_indices(e, &e.ty(0).shape[axis..=axis], true));
    Some(vec![e.node_with("GatherElements", &[x, indices], at(axis))])
}

fn at(axis: usize) -> Attributes {
    vec![("axis", NodeAttr::Int(axis as i64))]
}
