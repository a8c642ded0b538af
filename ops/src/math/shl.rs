//! `shl(a, b) = a ≪ b`, elementwise; 0 if the amount is the width or more.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match,
//! [`DType`](ir::op::OpError::DType) for anything but integers.
//! Source: ONNX BitShift, opset 11.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::math::shift::{as_bit_shift, shifted};
use crate::math::shr::SHR;
use crate::onnx::export::{Body, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};

/// `shl(a, b) = a ≪ b`.
pub static SHL: OpDef = OpDef::new("shl", &["a", "b"], &Zip(Binary::Shl));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("BitShift", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx =
    nodes(|e| as_bit_shift(e, "LEFT")).or(Body::Nodes(|e| Some(vec![shifted(e, "LEFT")])));

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let direction = node.str("direction")?;
    let op = match node.required("direction", direction)? {
        "LEFT" => &SHL,
        "RIGHT" => &SHR,
        other => return Err(ImportError::value("direction", other, "LEFT and RIGHT")),
    };
    Ok(vec![b.op(op, &[node.input(0)?, node.input(1)?])?])
}
