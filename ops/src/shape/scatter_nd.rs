//! `scatter_nd(x, indices, updates)`: `x`, but for `y[indices[i…], …] = updates[i…, …]`; or combined with what is there
//! by `reduction`.
//!
//! Each index is a vector of `q` numbers, and names an element of `x`, or a slice if `q` is less than its rank. Updates
//! come in row-major order, so of several at one place the last one stays, and sums have one order. A negative number
//! counts from the end; an index out of range writes nothing. Shapes: `x` and `updates` of one type, not bool where
//! they are combined; `indices: i32 or i64[i…, q]` with a number `q`; `updates: [i…, the last axes of x]`; the result
//! has the type of `x`. Errors: [`OpError::RankAtLeast`], [`OpError::Rank`], [`OpError::Size`], [`OpError::DType`],
//! [`OpError::DTypes`]. Source: ONNX ScatterND, opset 18.

use ir::build::Build;
use ir::dim::Symbol;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, KernelKind, Stmt};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes};
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType};

use crate::index::from_start;
use crate::math::elementwise::wrapped;
use crate::onnx::export::{Attributes, Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, since};
use crate::shape::scatter::{
    REDUCTION, REDUCTION_SPEC, Reduction, check_types, from_end, inside, is_inside, is_inside_node, position,
    scattered, scattered_sizes,
};
use ir::types::strides;

/// Elements or slices put, or combined, at indices.
pub static SCATTER_ND: OpDef =
    OpDef::new("scatter_nd", &["x", "indices", "updates"], &ScatterNd).attrs(&[REDUCTION_SPEC]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[since("ScatterND", 11, import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Nodes(guarded));

struct ScatterNd;

/// How many numbers an index has, if it is one that `x` admits.
fn depth(x: &TensorType, indices: &TensorType) -> Result<usize, OpError> {
    let Some(last) = indices.shape.last() else {
        return Err(OpError::RankAtLeast { operand: "indices", least: 1, found: 0 });
    };
    let depth = last.as_const().and_then(|depth| usize::try_from(depth).ok()).ok_or_else(|| {
        let (left, right) = (last.clone(), Dim::from(x.rank() as i64));
        OpError::Size { what: "the last axis of `indices` must have a size that is a number", left, right }
    })?;
    match depth <= x.rank() {
        true => Ok(depth),
        false => Err(OpError::RankAtLeast { operand: "x", least: depth, found: x.rank() }),
    }
}

/// From which position of the updates to which of `x`, in order.
fn moves(x: &[usize], indices: &[i64], shape: &[usize]) -> Vec<(usize, usize)> {
    let (outer, depth) = (&shape[..shape.len() - 1], shape[shape.len() - 1]);
    let slice: usize = x[depth..].iter().product();
    let mut moves = Vec::new();
    for number in 0..outer.iter().product() {
        let index = &indices[number * depth..(number + 1) * depth];
        let index: Option<Vec<usize>> = index.iter().zip(x).map(|(&i, &size)| inside(i, size)).collect();
        if let Some(index) = index {
            let start = position(&index, x) * slice;
            moves.extend((0..slice).map(|i| (number * slice + i, start + i)));
        }
    }
    moves
}

impl Semantics for ScatterNd {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        check_types(cx)?;
        let [x, indices, updates] = [cx.operands[0], cx.operands[1], cx.operands[2]];
        let depth = depth(x, indices)?;
        let expected = [&indices.shape[..indices.rank() - 1], &x.shape[depth..]].concat();
        cx.want_rank(2, "updates", expected.len())?;
        for (size, update) in expected.into_iter().zip(&updates.shape) {
            if size != *update {
                let (left, right) = (update.clone(), size);
                return Err(OpError::Size { what: "updates do not fit the indices", left, right });
            }
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let [x, indices, updates] = [cx.operands[0], cx.operands[1], cx.operands[2]];
        let moves = moves(x.shape(), &indices.to_i64(), indices.shape());
        Ok(vec![scattered(x, updates, &moves, Reduction::find(cx.attrs.get(REDUCTION))?)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (x, indices) = (cx.operands[0].clone(), cx.operands[1].clone());
        let reduction = Reduction::find(cx.attrs.get(REDUCTION)).ok()?;
        let depth = depth(&x, &indices).ok()?;
        let store = |at: Vec<Expr>, value| Stmt::Store { target: Lower::result_name(0), at, value };
        let mut body = cx.each_index(&x.shape, |cx, at| {
            let at: Vec<Expr> = at.iter().map(Expr::from).collect();
            vec![store(at.clone(), cx.load(0, at))]
        });
        body.extend(cx.each_index(&indices.shape[..indices.rank() - 1], |cx, at| {
            let from: Vec<Expr> = at.iter().map(Expr::from).collect();
            let (mut each, mut to) = (Vec::new(), Vec::new());
            let mut cond = Expr::constant(Scalar::bool(true));
            for (i, size) in x.shape[..depth].iter().enumerate() {
                let name = Symbol::new(format!("to{i}"));
                let own = from.iter().cloned().chain([Expr::from(Dim::from(i as i64))]);
                let value = from_end(cx.load(1, own).cast(DType::I64), size);
                to.push(Expr::var(name.clone(), DType::I64));
                cond = cond.and(is_inside(to[i].clone(), size));
                each.push(Stmt::Let { name, value });
            }
            let then = cx.each_index(&x.shape[depth..], |cx, inner| {
                to.extend(inner.iter().map(Expr::from));
                let from: Vec<Expr> = from.into_iter().chain(inner.iter().map(Expr::from)).collect();
                let old = Expr::load(Lower::result_name(0), x.dtype, to.clone());
                vec![store(to, reduction.expr(old, cx.load(2, from)))]
            });
            if depth == 0 {
                return then;
            }
            each.push(Stmt::If { cond, then });
            each
        }));
        cx.loops(KernelKind::Data, body)
    }

    /// At indices that are numbers.
    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let [x, indices, updates] = [0, 1, 2].map(|i| cx.operands[i].as_ref());
        let indices: Vec<i64> = indices?.iter().map(Dim::as_const).collect::<Option<_>>()?;
        let moves = moves(&cx.types[0].fixed_shape()?, &indices, &cx.types[1].fixed_shape()?);
        let reduction = Reduction::find(cx.attrs.get(REDUCTION)).ok()?;
        let sizes = scattered_sizes(x?, updates?, &moves, reduction)?;
        sizes.iter().map(|size| wrapped(size, cx.result.dtype)).collect()
    }
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let operands = [node.input(0)?, node.input(1)?, node.input(2)?];
    let reduction = node.str_or("reduction", "none")?.to_owned();
    Ok(vec![b.op_with(&SCATTER_ND, &operands, [REDUCTION.is(reduction)])?])
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let depth = depth(e.ty(0), e.ty(1)).ok()?;
    if !e.ty(0).shape[..depth].iter().all(|size| e.is_in_range(1, size)) {
        return None;
    }
    let indices = e.cast(e.x(1), e.ty(1).dtype, DType::I64);
    Some(vec![e.node_with("ScatterND", &[e.x(0), indices, e.x(2)], how(e))])
}

/// The indexed axes as one; what is put out of range goes behind its last element, and is cut off.
fn guarded(e: &mut Emit) -> Option<Vec<String>> {
    let depth = depth(e.ty(0), e.ty(1)).ok().filter(|&depth| depth > 0)?;
    let (shape, last) = (e.ty(0).shape.clone(), e.ints(&[-1]));
    let (indices, extents) = from_start(e, &shape[..depth], false);
    let each = is_inside_node(e, &indices, &extents);
    let each = e.cast_always(each, DType::I32);
    let kept = vec![("keepdims", NodeAttr::Int(1))];
    let all = e.node_with("ReduceMin", &[&each, &last], kept.clone());
    let all = e.cast_always(all, DType::Bool);
    let strides = e.sizes(&strides(&shape[..depth]));
    let parts = e.node("Mul", &[indices, strides]);
    let place = e.node_with("ReduceSum", &[&parts, &last], kept);
    let count: Dim = shape[..depth].iter().cloned().product();
    let behind = e.size(&count);
    let to = e.node("Where", &[all, place, behind]);
    let rest = &shape[depth..];
    let allow = vec![("allowzero", NodeAttr::Int(1))];
    let flat = e.sizes(&[std::slice::from_ref(&count), rest].concat());
    let flat = e.node_with("Reshape", &[e.x(0), flat], allow.clone());
    let mut amounts = vec![0; 2 * (rest.len() + 1)];
    amounts[rest.len() + 1] = 1;
    let (amounts, zero) = (e.ints(&amounts), e.number(e.ty(0).dtype, 0.0));
    let wide = e.node("Pad", &[flat, amounts, zero]);
    let attributes = how(e);
    let y = e.node_with("ScatterND", &[wide, to, e.x(2)], attributes);
    let (start, end) = (e.ints(&[0]), e.sizes(&[count]));
    let (first, shape) = (e.ints(&[0]), e.sizes(&shape));
    let y = e.node("Slice", &[y, start, end, first]);
    Some(vec![e.node_with("Reshape", &[y, shape], allow)])
}

fn how(e: &Emit) -> Attributes {
    vec![("reduction", NodeAttr::Str(e.attrs.get(REDUCTION)))]
}
