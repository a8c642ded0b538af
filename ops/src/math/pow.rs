//! `pow(a, b) = aᵇ`, elementwise; integers wrap, a negative exponent of an integer truncates.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match,
//! [`DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX Pow, opset 15.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::scalar::Binary;

use crate::math::cast::convert;
use crate::math::elementwise::{Zip, aligned};
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use ir::DType;

/// `pow(a, b) = aᵇ`.
pub static POW: OpDef = OpDef::new("pow", &["a", "b"], &Zip(Binary::Pow));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Pow", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(e.as_one_of("Pow", &TYPES, vec![])));

/// ONNX lets the types differ; the result has that of the base. An integer to the power of a float is
/// computed in the float's type.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let [base, exponent] = aligned(node, b)?;
    let (result, other) = (b.ty(base).dtype, b.ty(exponent).dtype);
    let dtype = if other.is_float() && !result.is_float() { other } else { result };
    let operands = [convert(b, base, dtype)?, convert(b, exponent, dtype)?];
    let power = b.op(&POW, &operands)?;
    Ok(vec![convert(b, power, result)?])
}

/// The types of bases in ONNX.
const TYPES: [DType; 6] = [DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32, DType::I64];
