//! `ne(a, b)`: is `a ≠ b`?, elementwise; NaN differs from everything.
//!
//! Shapes: operands of one type broadcast. The result is bool.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match.
//! Source: IEEE 754.

use ir::OpDef;
use ir::scalar::Binary;

use crate::math::elementwise::Zip;
use crate::math::eq::EQ;
use crate::math::not::NOT;
use crate::onnx::Import;
use crate::onnx::export::{Body, ToOnnx, function};
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

/// `ne(a, b)`: is `a ≠ b`?.
pub static NE: OpDef = OpDef::new("ne", &["a", "b"], &Zip(Binary::Ne));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Ops(as_ops));

fn as_ops(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Vec<Value>, OpError> {
    let equal = b.op(&EQ, x)?;
    Ok(vec![b.op(&NOT, &[equal])?])
}
