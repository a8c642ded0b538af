//! `scatter_elements(x, indices, updates)`: `x`, but for `y[…, indices[…, i, …], …] = updates[…, i, …]` at `axis`; or
//! combined with what is there by `reduction`.
//!
//! Updates come in row-major order, so of several at one place the last one stays, and sums have one order. A negative
//! index counts from the end; an index out of range writes nothing. Shapes: `x` and `updates` of one type, not bool
//! where they are combined; `indices: i32 or i64`, of the shape of `updates` and of the rank of `x`, and along the
//! other axes no larger than it; the result has the type of `x`. Errors: [`OpError::Axis`], [`OpError::Rank`],
//! [`OpError::Size`], [`OpError::DType`], [`OpError::DTypes`]. Source: ONNX ScatterElements, opset 18.

use ir::attr::{Attr, Key, key};
use ir::build::Build;
use ir::dim::Symbol;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, KernelKind, Stmt};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes, normalize_axis};
use ir::tensor::for_each_index;
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use crate::index::{from_start, padded};
use crate::math::elementwise::{is_nonnegative, wrapped};
use crate::onnx::export::{Attributes, Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, since};
use crate::shape::scatter::{
    REDUCTION, REDUCTION_SPEC, Reduction, check_types, from_end, inside, is_inside, is_inside_node, position,
    scattered, scattered_sizes,
};

/// Elements put, or combined, at indices along an axis.
pub static SCATTER_ELEMENTS: OpDef =
    OpDef::new("scatter_elements", &["x", "indices", "updates"], &ScatterElements)
        .attrs(&[AXIS.or(|| Attr::Int(0)), REDUCTION_SPEC]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[since("Scatter", 9, import), since("ScatterElements", 11, import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Nodes(guarded));

/// The axis of `x` that is indexed; negative counts from the end.
pub const AXIS: Key<i64> = key("axis");

struct ScatterElements;

/// From which position of the updates to which of `x`, in order.
fn moves(x: &[usize], axis: usize, indices: &[i64], shape: &[usize]) -> Vec<(usize, usize)> {
    let mut moves = Vec::new();
    for_each_index(shape, |at| {
        let from = position(at, shape);
        let mut to = at.to_vec();
        let along = inside(indices[from], x[axis]);
        to[axis] = along.unwrap_or(0);
        if along.is_some() && to.iter().zip(x).all(|(i, size)| i < size) {
            moves.push((from, position(&to, x)));
        }
    });
    moves
}

impl Semantics for ScatterElements {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        check_types(cx)?;
        let [x, indices, updates] = [cx.operands[0], cx.operands[1], cx.operands[2]];
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank())?;
        cx.want_rank(1, "indices", x.rank())?;
        cx.want_rank(2, "updates", x.rank())?;
        for (at, (size, update)) in indices.shape.iter().zip(&updates.shape).enumerate() {
            let (left, right) = (size.clone(), update.clone());
            if size != update {
                return Err(OpError::Size { what: "indices and updates have different sizes", left, right });
            }
            let excess = size.clone() - x.shape[at].clone() - Dim::constant(1);
            if at != axis && is_nonnegative(&excess) {
                let right = x.shape[at].clone();
                return Err(OpError::Size { what: "there are more indices than elements", left, right });
            }
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let [x, indices, updates] = [cx.operands[0], cx.operands[1], cx.operands[2]];
        let axis = normalize_axis(cx.attrs.get(AXIS), x.shape().len())?;
        let moves = moves(x.shape(), axis, &indices.to_i64(), indices.shape());
        Ok(vec![scattered(x, updates, &moves, Reduction::find(cx.attrs.get(REDUCTION))?)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (x, indices) = (cx.operands[0].clone(), cx.operands[1].clone());
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank()).ok()?;
        let reduction = Reduction::find(cx.attrs.get(REDUCTION)).ok()?;
        let store = |at: Vec<Expr>, value| Stmt::Store { target: Lower::result_name(0), at, value };
        let mut body = cx.each_index(&x.shape, |cx, at| {
            let at: Vec<Expr> = at.iter().map(Expr::from).collect();
            vec![store(at.clone(), cx.load(0, at))]
        });
        body.extend(cx.each_index(&indices.shape, |cx, at| {
            let from: Vec<Expr> = at.iter().map(Expr::from).collect();
            let name = Symbol::new("scatter.to");
            let index = Expr::var(name.clone(), DType::I64);
            let value = from_end(cx.load(1, from.clone()).cast(DType::I64), &x.shape[axis]);
            let mut cond = is_inside(index.clone(), &x.shape[axis]);
            for (i, (own, size)) in at.iter().zip(indices.shape.iter().zip(&x.shape)).enumerate() {
                if i != axis && !is_nonnegative(&(size.1.clone() - size.0.clone())) {
                    cond = Expr::from(own).less(size.1.into()).and(cond);
                }
            }
            let mut to = from.clone();
            to[axis] = index;
            let old = Expr::load(Lower::result_name(0), x.dtype, to.clone());
            let then = vec![store(to, reduction.expr(old, cx.load(2, from)))];
            vec![Stmt::Let { name, value }, Stmt::If { cond, then }]
        }));
        cx.loops(KernelKind::Data, body)
    }

    /// At indices that are numbers.
    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let [x, indices, updates] = [0, 1, 2].map(|i| cx.operands[i].as_ref());
        let (x, updates) = (x?, updates?);
        let indices: Vec<i64> = indices?.iter().map(Dim::as_const).collect::<Option<_>>()?;
        let shape = cx.types[0].fixed_shape()?;
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len()).ok()?;
        let moves = moves(&shape, axis, &indices, &cx.types[1].fixed_shape()?);
        let reduction = Reduction::find(cx.attrs.get(REDUCTION)).ok()?;
        let sizes = scattered_sizes(x, updates, &moves, reduction)?;
        sizes.iter().map(|size| wrapped(size, cx.result.dtype)).collect()
    }
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let operands = [node.input(0)?, node.input(1)?, node.input(2)?];
    let reduction = node.str_or("reduction", "none")?.to_owned();
    let attrs = [AXIS.is(node.int_or("axis", 0)?), REDUCTION.is(reduction)];
    Ok(vec![b.op_with(&SCATTER_ELEMENTS, &operands, attrs)?])
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let axis = normalize_axis(e.attrs.get(AXIS), e.ty(0).rank()).ok()?;
    e.is_in_range(1, &e.ty(0).shape[axis]).then(|| e.same_with("ScatterElements", how(e, axis)))
}

/// What is put out of range goes behind the last element, and is cut off.
fn guarded(e: &mut Emit) -> Option<Vec<String>> {
    let (rank, axis) = (e.ty(0).rank(), normalize_axis(e.attrs.get(AXIS), e.ty(0).rank()).ok()?);
    let (indices, extent) = from_start(e, &e.ty(0).shape[axis..=axis], true);
    let inside = is_inside_node(e, &indices, &extent);
    let to = e.node("Where", &[&inside, &indices, &extent]);
    let mut amounts = vec![0; 2 * rank];
    amounts[rank + axis] = 1;
    let wide = padded(e, &amounts);
    let attributes = how(e, axis);
    let y = e.node_with("ScatterElements", &[wide, to, e.x(2)], attributes);
    let (start, end, axes) = (e.ints(&[0]), e.sizes(&e.ty(0).shape[axis..=axis]), e.ints(&[axis as i64]));
    Some(vec![e.node("Slice", &[y, start, end, axes])])
}

fn how(e: &Emit, axis: usize) -> Attributes {
    vec![("axis", NodeAttr::Int(axis as i64)), ("reduction", NodeAttr::Str(e.attrs.get(REDUCTION)))]
}
