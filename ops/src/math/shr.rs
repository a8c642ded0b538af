//! `shr(a, b) = a ≫ b`, elementwise; arithmetic if signed; amounts of the width or more act as width − 1 if
//! signed, else give 0.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match,
//! [`DType`](ir::op::OpError::DType) for anything but integers.
//! Source: Rust.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::math::shift::{as_bit_shift, shifted};
use crate::onnx::Import;
use crate::onnx::export::{Body, ToOnnx, nodes};

/// `shr(a, b) = a ≫ b`.
pub static SHR: OpDef = OpDef::new("shr", &["a", "b"], &Zip(Binary::Shr));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx =
    nodes(|e| as_bit_shift(e, "RIGHT")).or(Body::Nodes(|e| Some(vec![shifted(e, "RIGHT")])));
