//! `modulo(a, b) = a − b·⌊a/b⌋`: remainder with the sign of `b`, Python's `%`, elementwise; an integer modulo
//! 0 is 0.
//!
//! Shapes: operands of one type broadcast. The result has their type.
//! Errors: [`DTypes`](ir::op::OpError::DTypes) and [`Size`](ir::op::OpError::Size) if operands don't match,
//! [`DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX Mod, opset 13.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::scalar::Binary;

use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::elementwise::Zip;
use crate::math::lt::LT;
use crate::math::ne::NE;
use crate::math::rem::REM;
use crate::math::r#where::WHERE;
use crate::math::xor::XOR;
use crate::onnx::export::{Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use ir::attr::Attrs;
use ir::op::OpError;

/// `modulo(a, b) = a − b·⌊a/b⌋`.
pub static MODULO: OpDef = OpDef::new("modulo", &["a", "b"], &Zip(Binary::Mod));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Mod", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Ops(as_ops));

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let op = if node.flag("fmod", false)? { &REM } else { &MODULO };
    Ok(vec![b.op(op, &[node.input(0)?, node.input(1)?])?])
}

/// In ONNX, it is there for integers; of floats there is the other remainder.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    e.ty(0).dtype.is_int().then(|| e.same("Mod"))
}

/// The remainder with the sign of `a`, and once more `b` where that is not the sign of `b`.
fn as_ops(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Vec<Value>, OpError> {
    let zero = b.scalar(b.ty(x[0]).dtype, 0.0);
    let rest = b.op(&REM, x)?;
    let (negative, wanted) = (b.op(&LT, &[rest, zero])?, b.op(&LT, &[x[1], zero])?);
    let (differs, some) = (b.op(&XOR, &[negative, wanted])?, b.op(&NE, &[rest, zero])?);
    let wrong = b.op(&AND, &[differs, some])?;
    let moved = b.op(&ADD, &[rest, x[1]])?;
    Ok(vec![b.op(&WHERE, &[wrong, moved, rest])?])
}
