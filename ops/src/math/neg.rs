//! `neg(x) = −x`, elementwise; integers wrap.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX Neg, opset 13.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::math::sub::SUB;
use crate::onnx::export::{Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, same};
use ir::attr::Attrs;
use ir::build::Build;
use ir::dtype::Class;
use ir::graph::Value;
use ir::op::OpError;

/// `neg(x) = −x`.
pub static NEG: OpDef = OpDef::new("neg", &["x"], &Map(Unary::Neg));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Neg", &NEG)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Ops(as_ops));

/// In ONNX, numbers without a sign have no negative.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    (e.ty(0).dtype.class() != Class::Unsigned).then(|| e.same("Neg"))
}

fn as_ops(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Vec<Value>, OpError> {
    let zero = b.scalar(b.ty(x[0]).dtype, 0.0);
    Ok(vec![b.op(&SUB, &[zero, x[0]])?])
}
