//! `add(a, b) = a + b`, elementwise; integers wrap.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match,
//! [`DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX Add, opset 14; Sum and Mean, opset 13; onnxruntime, contrib operators, BiasAdd, which is a sum of three.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::scalar::Binary;

use crate::math::div::DIV;
use crate::math::elementwise::{Zip, chain};
use crate::onnx::{Import, ImportError, NodeView, by, zip};

/// `add(a, b) = a + b`.
pub static ADD: OpDef = OpDef::new("add", &["a", "b"], &Zip(Binary::Add));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    zip("Add", &ADD),
    by("Sum", import_sum),
    by("Mean", import_mean),
    by("BiasAdd", import_sum).in_domain("com.microsoft"),
];

fn import_sum(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    Ok(vec![chain(node, b, &ADD)?])
}

fn import_mean(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let sum = chain(node, b, &ADD)?;
    let count = b.scalar(b.ty(sum).dtype, node.input_count() as f64);
    Ok(vec![b.op(&DIV, &[sum, count])?])
}
