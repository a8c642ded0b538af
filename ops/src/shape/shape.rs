//! `shape(x)`: the sizes of `x`, as a vector of `i64`.
//!
//! Shapes: any; the result is `i64[rank]`. Source: ONNX Shape, opset 25.

use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes};
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::slice::slice_axis;

/// The sizes of `x`.
pub static SHAPE: OpDef = OpDef::new("shape", &["x"], &ShapeOf);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Shape", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(e.same("Shape")));

struct ShapeOf;

impl Semantics for ShapeOf {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![TensorType::fixed(DType::I64, &[cx.operands[0].rank()])])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let shape: Vec<i64> = cx.operands[0].shape().iter().map(|&size| size as i64).collect();
        Ok(vec![Tensor::from_i64(&[shape.len()], &shape)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let shape = cx.operands[0].shape.clone();
        cx.each(|_, at| {
            let last = shape.last().cloned().unwrap_or_else(|| Dim::constant(0));
            (0..shape.len().saturating_sub(1)).rev().fold(Expr::from(last), |rest, axis| {
                let here = Expr::from(&at[0]).equals(Dim::from(axis).into());
                here.select(Expr::from(&shape[axis]), rest)
            })
        })
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        Some(cx.types[0].shape.clone())
    }
}

/// `start` and `end` choose a range of axes, clamped to those that there are.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let rank = b.ty(x).rank() as i64;
    let clamp = |axis: i64| if axis < 0 { axis + rank } else { axis }.clamp(0, rank);
    let start = clamp(node.int_or("start", 0)?);
    let end = clamp(node.int_or("end", rank)?).max(start);
    let shape = b.op(&SHAPE, &[x])?;
    Ok(vec![slice_axis(b, shape, 0, start.into(), (end - start).into())?])
}
