//! `size()`: a size as an `i64` without axes.
//!
//! How a count enters arithmetic: the number of elements that a mean divides by. Source: ONNX Size, opset 25.

use ir::attr::{Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes};
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType};

use crate::math::cast::convert;
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reference;
use crate::shape::concat::{AXIS, CONCAT};
use crate::shape::reshape::reshape;

/// A size as an `i64`.
pub static SIZE: OpDef = OpDef::new("size", &[], &SizeOf).attrs(&[VALUE.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Size", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(vec![e.size(&e.attrs.get(VALUE))]));

/// The size.
pub const VALUE: Key<Dim> = key("value");

struct SizeOf;

impl Semantics for SizeOf {
    fn infer(&self, _: &Infer) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![TensorType::scalar(DType::I64)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let value = reference::numbers(VALUE.name, &[cx.attrs.get(VALUE)])?[0];
        Ok(vec![Tensor::scalar(Scalar::from_i64(DType::I64, value))])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let value = cx.attrs.get(VALUE);
        cx.each(|_, _| Expr::from(value))
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        Some(vec![cx.attrs.get(VALUE)])
    }
}

/// `size` as a `dtype` without axes: a constant, if it is a number.
///
/// # Errors
/// None that these ops give; the signature is that of every build step.
pub fn size(b: &mut Build, dtype: DType, size: &Dim) -> Result<Value, OpError> {
    match size.as_const() {
        Some(value) => Ok(b.constant(&Tensor::scalar(Scalar::from_i64(dtype, value)))),
        None => {
            let value = b.op_with(&SIZE, &[], [VALUE.is(size.clone())])?;
            convert(b, value, dtype)
        }
    }
}

/// These sizes as the elements of a tensor of this type.
///
/// # Errors
/// None that these ops give; the signature is that of every build step.
pub fn sizes(b: &mut Build, elements: &[Dim], ty: &TensorType) -> Result<Value, OpError> {
    let numbers: Option<Vec<i64>> = elements.iter().map(Dim::as_const).collect();
    let flat = match (numbers, elements) {
        (Some(numbers), _) => b.constant(&Tensor::from_i64(&[numbers.len()], &numbers)),
        (None, _) => {
            let mut parts = Vec::with_capacity(elements.len());
            for element in elements {
                let part = size(b, DType::I64, element)?;
                parts.push(reshape(b, part, vec![Dim::constant(1)])?);
            }
            if let [part] = parts[..] { part } else { b.op_with(&CONCAT, &parts, [AXIS.is(0)])? }
        }
    };
    let shaped = reshape(b, flat, ty.shape.clone())?;
    convert(b, shaped, ty.dtype)
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let elements = node.ty(b, 0)?.elements();
    Ok(vec![size(b, DType::I64, &elements)?])
}
