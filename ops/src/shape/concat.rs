//! `concat(x…)`: the operands one after the other along `axis`.
//!
//! Shapes: operands of one type, equal in all axes but `axis`, where sizes add up.
//! Errors: [`OpError::DTypes`], [`OpError::Size`], [`OpError::Rank`], [`OpError::Axis`].
//! Source: ONNX Concat, opset 13.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes, normalize_axis};
use ir::tensor::for_each_index;
use ir::{Dim, OpDef, Tensor, TensorType, Weight};

use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reference;

/// The operands one after the other.
pub static CONCAT: OpDef = OpDef::variadic("concat", "x", 1, &Concat).attrs(&[AXIS.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Concat", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

/// The axis along which they lie; negative counts from the end.
pub const AXIS: Key<i64> = key("axis");

struct Concat;

impl Semantics for Concat {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let first = cx.operands[0];
        cx.common_dtype()?;
        let axis = normalize_axis(cx.attrs.get(AXIS), first.rank())?;
        let mut shape = first.shape.clone();
        for (index, x) in cx.operands.iter().enumerate().skip(1) {
            cx.want_rank(index, "x", first.rank())?;
            for (other, (left, right)) in first.shape.iter().zip(&x.shape).enumerate() {
                if other != axis && left != right {
                    let (left, right) = (left.clone(), right.clone());
                    return Err(OpError::Size { what: "sizes across the axis", left, right });
                }
            }
            shape[axis] = shape[axis].clone() + x.shape[axis].clone();
        }
        Ok(vec![first.with_shape(shape)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len())?;
        let mut from = vec![0; shape.len()];
        let element = |at: &[usize]| {
            from.copy_from_slice(at);
            let mut operands = cx.operands.iter();
            loop {
                let x = operands.next().expect("the result is as long as all operands");
                if from[axis] < x.shape()[axis] {
                    return x.at(&from);
                }
                from[axis] -= x.shape()[axis];
            }
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn rearranged(&self, x: &[&Weight], attrs: &Attrs) -> Option<Weight> {
        let axis = normalize_axis(attrs.get(AXIS), x.first()?.shape().len()).ok()?;
        Weight::concat(x[0].name(), x, axis)
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let axis = normalize_axis(cx.attrs.get(AXIS), cx.operands[0].rank()).ok()?;
        cx.each(|cx, at| {
            let mut start = Dim::constant(0);
            let mut parts = Vec::new();
            for (index, x) in cx.operands.iter().enumerate() {
                let mut from = at.to_vec();
                from[axis] = from[axis].clone() - start.clone();
                let inside = Expr::from(&from[axis]).less(Expr::from(&x.shape[axis]));
                parts.push((inside, cx.load(index, from.into_iter().map(Expr::from))));
                start = start + x.shape[axis].clone();
            }
            let (_, last) = parts.pop().expect("there is at least one operand");
            parts.into_iter().rev().fold(last, |rest, (inside, part)| inside.select(part, rest))
        })
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let axis = normalize_axis(cx.attrs.get(AXIS), cx.result.rank()).ok()?;
        let shapes: Vec<Vec<usize>> = cx.types.iter().map(|ty| ty.fixed_shape()).collect::<Option<_>>()?;
        let operands: Vec<&Vec<Dim>> = cx.operands.iter().map(Option::as_ref).collect::<Option<_>>()?;
        let mut result = Vec::new();
        for_each_index(&cx.result.fixed_shape()?, |at| {
            let mut from = at.to_vec();
            let mut part = 0;
            while from[axis] >= shapes[part][axis] {
                from[axis] -= shapes[part][axis];
                part += 1;
            }
            let position =
                from.iter().zip(&shapes[part]).fold(0, |position, (&i, &size)| position * size + i);
            result.push(operands[part][position].clone());
        });
        Some(result)
    }
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    // Before opset 4, it was 1 by default.
    let axis = node.int("axis")?.or((node.opset < 4).then_some(1));
    let axis = node.required("axis", axis)?;
    let parts = node.inputs()?;
    if let [one] = parts.as_slice() {
        return Ok(vec![*one]);
    }
    Ok(vec![b.op_with(&CONCAT, &parts, [AXIS.is(axis)])?])
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    if e.all().len() == 1 {
        return Some(e.same("Identity"));
    }
    let axis = NodeAttr::Int(e.attrs.get(AXIS));
    Some(e.same_with("Concat", vec![("axis", axis)]))
}
