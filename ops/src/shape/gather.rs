//! `gather(x, indices)[…, i…, …] = x[…, indices[i…], …]` at `axis`.
//!
//! Shapes: `x` of any type, `indices: i32 or i64`; the result has the axes of `indices` in place of `axis`.
//! A negative index counts from the end; an index out of range takes the nearest element, and from an axis of
//! size 0 a zero. Errors: [`OpError::DType`], [`OpError::Axis`]. Source: ONNX Gather, opset 13.

use ir::attr::{Attr, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes, normalize_axis};
use ir::tensor::for_each_index;
use ir::{Dim, OpDef, Scalar, Tensor, TensorType};

use crate::index::{nearest, nearest_expr, nearest_indices, not_empty, or_zero, position, want_indices};
use crate::onnx::export::{Attributes, Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reference;

/// Elements at indices that are known at run time.
pub static GATHER: OpDef =
    OpDef::new("gather", &["x", "indices"], &Gather).attrs(&[AXIS.or(|| Attr::Int(0))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Gather", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Nodes(nearest_to_onnx));

/// The axis of `x` that is indexed; negative counts from the end.
pub const AXIS: Key<i64> = key("axis");

struct Gather;

impl Gather {
    /// Where the element at `at` comes from, where `index` reads the indices; `None` if there is nothing.
    fn source(
        axis: usize,
        shape: &[usize],
        indices: usize,
        at: &[usize],
        index: impl FnOnce(&[usize]) -> i64,
    ) -> Option<Vec<usize>> {
        let inner = axis + indices;
        let chosen = nearest(index(&at[axis..inner]), shape[axis])?;
        Some([&at[..axis], &[chosen], &at[inner..]].concat())
    }
}

impl Semantics for Gather {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        want_indices("indices", indices)?;
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank())?;
        let shape = x.shape[..axis].iter().chain(&indices.shape).chain(&x.shape[axis + 1..]);
        Ok(vec![x.with_shape(shape.cloned())])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        let axis = normalize_axis(cx.attrs.get(AXIS), x.shape().len())?;
        let element = |at: &[usize]| {
            let from =
                Gather::source(axis, x.shape(), indices.shape().len(), at, |at| indices.at(at).to_i64());
            from.map_or(Scalar::from_i64(dtype, 0), |from| x.at(&from))
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank()).ok()?;
        let (size, inner) = (x.shape[axis].clone(), axis + indices.rank());
        cx.each(|cx, at| {
            let index = cx.load(1, at[axis..inner].iter().map(Expr::from));
            let index = nearest_expr(index, &size);
            let outer = at[..axis].iter().map(Expr::from);
            let element = cx.load(0, outer.chain([index]).chain(at[inner..].iter().map(Expr::from)));
            or_zero([&size], element)
        })
    }

    /// At indices that are numbers.
    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let (x, indices) = (cx.operands[0].as_ref()?, cx.operands[1].as_ref()?);
        let (shape, at_shape) = (cx.types[0].fixed_shape()?, cx.types[1].fixed_shape()?);
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len()).ok()?;
        let indices: Vec<i64> = indices.iter().map(Dim::as_const).collect::<Option<_>>()?;
        let mut result = Vec::new();
        for_each_index(&cx.result.fixed_shape()?, |at| {
            let from =
                Gather::source(axis, &shape, at_shape.len(), at, |at| indices[position(at, &at_shape)]);
            result.push(from.map(|from| x[position(&from, &shape)].clone()));
        });
        result.into_iter().collect()
    }
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axis = node.int_or("axis", 0)?;
    Ok(vec![b.op_with(&GATHER, &[node.input(0)?, node.input(1)?], [AXIS.is(axis)])?])
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let axis = normalize_axis(e.attrs.get(AXIS), e.ty(0).rank()).ok()?;
    e.is_in_range(1, &e.ty(0).shape[axis]).then(|| e.same_with("Gather", at(axis)))
}

/// The same at the nearest indices.
fn nearest_to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let axis = normalize_axis(e.attrs.get(AXIS), e.ty(0).rank()).ok()?;
    let (x, indices) = (not_empty(e, &[axis]), nearest_indices(e, &e.ty(0).shape[axis..=axis], true));
    Some(vec![e.node_with("Gather", &[x, indices], at(axis))])
}

fn at(axis: usize) -> Attributes {
    vec![("axis", NodeAttr::Int(axis as i64))]
}
