//! `eq(a, b)`: is `a = b`?, elementwise; NaN equals nothing.
//!
//! Shapes: operands of one type broadcast. The result is bool.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match.
//! Source: ONNX Equal, opset 19.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::onnx::{Import, zip};

/// `eq(a, b)`: is `a = b`?.
pub static EQ: OpDef = OpDef::new("eq", &["a", "b"], &Zip(Binary::Eq));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[zip("Equal", &EQ)];
