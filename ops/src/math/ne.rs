//! `ne(a, b)`: is `a ≠ b`?, elementwise; NaN differs from everything.
//!
//! Shapes: operands of one type broadcast. The result is bool.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match.
//! Source: IEEE 754.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::onnx::Import;

/// `ne(a, b)`: is `a ≠ b`?.
pub static NE: OpDef = OpDef::new("ne", &["a", "b"], &Zip(Binary::Ne));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[];
