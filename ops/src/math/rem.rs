//! `rem(a, b)`: remainder with the sign of `a`, C's `%` and `fmod`, elementwise; an integer modulo 0 is 0.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match,
//! [`DType`](ir::op::OpError::DType) for bool.
//! Source: C99.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, NodeAttr};

/// `rem(a, b)`: remainder with the sign of `a`, C's `%` and `fmod`.
pub static REM: OpDef = OpDef::new("rem", &["a", "b"], &Zip(Binary::Rem));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(e.same_with("Mod", vec![("fmod", NodeAttr::Int(1))])));
