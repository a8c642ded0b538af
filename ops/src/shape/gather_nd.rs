//! `gather_nd(x, indices)[b…, q…, …] = x[b…, indices[b…, q…, 0], indices[b…, q…, 1], …, …]`: a row of indices
//! chooses along as many axes at once.
//!
//! Shapes: `x: [B…, D…, R…]` of any type, `indices: [B…, Q…, K]` of `i32 or i64`, with `batch_dims` axes `B` and
//! `K` axes `D`, `K` a number; the result is `[B…, Q…, R…]`. Indices mean what they do for `gather`: negative
//! ones count from the end; out of range, the nearest element is taken, and from an axis of size 0 a zero.
//! Errors: [`OpError::DType`], [`OpError::RankAtLeast`], [`OpError::Attribute`], [`OpError::Size`].
//! Source: ONNX GatherND, opset 13.

use ir::attr::{Attr, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes};
use ir::tensor::for_each_index;
use ir::{Dim, OpDef, Scalar, Tensor, TensorType};

use crate::index::{nearest, nearest_expr, nearest_indices, not_empty, or_zero, position, want_indices};
use crate::onnx::export::{Attributes, Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reference;
use ir::DType;

/// Parts chosen along several axes at once.
pub static GATHER_ND: OpDef =
    OpDef::new("gather_nd", &["x", "indices"], &GatherNd).attrs(&[BATCH_DIMS.or(|| Attr::Int(0))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("GatherND", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Nodes(nearest_to_onnx));

/// How many leading axes `x` and `indices` share.
pub const BATCH_DIMS: Key<i64> = key("batch_dims");

struct GatherNd;

impl Semantics for GatherNd {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        want_indices("indices", indices)?;
        let batch = usize::try_from(cx.attrs.get(BATCH_DIMS)).ok().filter(|&batch| batch < indices.rank());
        let why = "`indices` must have more axes, and it is not negative";
        let batch = batch.ok_or(OpError::Attribute { key: BATCH_DIMS.name, why })?;
        let (last, outer) = indices.shape.split_last().expect("its rank is larger than `batch_dims`");
        let count = last.as_const().and_then(|count| usize::try_from(count).ok());
        let why = "its last size must be a number: so many axes are indexed";
        let count = count.ok_or(OpError::Attribute { key: "indices", why })?;
        let least = batch + count;
        if x.rank() < least {
            return Err(OpError::RankAtLeast { operand: "x", least, found: x.rank() });
        }
        if let Some((left, right)) = x.shape.iter().zip(outer).take(batch).find(|(left, right)| left != right)
        {
            let (left, right) = (left.clone(), right.clone());
            return Err(OpError::Size { what: "leading axes of `x` and `indices`", left, right });
        }
        Ok(vec![x.with_shape(outer.iter().chain(&x.shape[least..]).cloned())])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        let batch = batch_dims(cx.attrs.get(BATCH_DIMS));
        let element = |at: &[usize]| {
            let from = source(batch, x.shape(), indices.shape(), at, &|at| indices.at(at).to_i64());
            from.map_or(Scalar::from_i64(dtype, 0), |from| x.at(&from))
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        let batch = batch_dims(cx.attrs.get(BATCH_DIMS));
        let rows = indices.rank() - 1;
        let count = usize::try_from(indices.shape[rows].as_const()?).ok()?;
        let indexed = &x.shape[batch..batch + count];
        cx.each(|cx, at| {
            let (row, rest) = at.split_at(rows);
            let mut from: Vec<Expr> = row[..batch].iter().map(Expr::from).collect();
            for (which, size) in indexed.iter().enumerate() {
                let index = cx.load(1, row.iter().cloned().chain([Dim::from(which)]).map(Expr::from));
                from.push(nearest_expr(index, size));
            }
            from.extend(rest.iter().map(Expr::from));
            or_zero(indexed, cx.load(0, from))
        })
    }

    /// At indices that are numbers.
    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let (x, indices) = (cx.operands[0].as_ref()?, cx.operands[1].as_ref()?);
        let (shape, at_shape) = (cx.types[0].fixed_shape()?, cx.types[1].fixed_shape()?);
        let batch = batch_dims(cx.attrs.get(BATCH_DIMS));
        let indices: Vec<i64> = indices.iter().map(Dim::as_const).collect::<Option<_>>()?;
        let mut result = Vec::new();
        for_each_index(&cx.result.fixed_shape()?, |at| {
            let from = source(batch, &shape, &at_shape, at, &|at| indices[position(at, &at_shape)]);
            result.push(from.map(|from| x[position(&from, &shape)].clone()));
        });
        result.into_iter().collect()
    }
}

fn batch_dims(given: i64) -> usize {
    usize::try_from(given).expect("`infer` checks it")
}

/// Where the element at `at` comes from, where `index` reads the indices; `None` if there is nothing.
fn source(
    batch: usize,
    shape: &[usize],
    indices: &[usize],
    at: &[usize],
    index: &dyn Fn(&[usize]) -> i64,
) -> Option<Vec<usize>> {
    let (row, rest) = at.split_at(indices.len() - 1);
    let mut from = row[..batch].to_vec();
    for which in 0..indices[row.len()] {
        let chosen = index(&[row, &[which]].concat());
        from.push(nearest(chosen, shape[batch + which])?);
    }
    from.extend(rest);
    Some(from)
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let batch = BATCH_DIMS.is(node.int_or("batch_dims", 0)?);
    Ok(vec![b.op_with(&GATHER_ND, &[node.input(0)?, node.input(1)?], [batch])?])
}

/// The node wants 64-bit indices.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let sizes = indexed(e)?;
    if !sizes.iter().all(|&axis| e.is_in_range(1, &e.ty(0).shape[axis])) {
        return None;
    }
    let indices = e.cast(e.x(1), e.ty(1).dtype, DType::I64);
    Some(vec![e.node_with("GatherND", &[e.x(0), indices], shared(e))])
}

/// The same at the nearest indices.
fn nearest_to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let axes = indexed(e)?;
    let sizes: Vec<Dim> = axes.iter().map(|&axis| e.ty(0).shape[axis].clone()).collect();
    let (x, indices) = (not_empty(e, &axes), nearest_indices(e, &sizes, false));
    Some(vec![e.node_with("GatherND", &[x, indices], shared(e))])
}

fn shared(e: &Emit) -> Attributes {
    vec![("batch_dims", NodeAttr::Int(e.attrs.get(BATCH_DIMS)))]
}

/// The axes of `x` that are indexed.
fn indexed(e: &Emit) -> Option<Vec<usize>> {
    let batch = batch_dims(e.attrs.get(BATCH_DIMS));
    let count = usize::try_from(e.ty(1).shape.last()?.as_const()?).ok()?;
    Some((batch..batch + count).collect())
}
