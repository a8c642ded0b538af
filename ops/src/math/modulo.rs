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

use crate::math::elementwise::Zip;
use crate::math::rem::REM;
use crate::onnx::{Import, ImportError, NodeView, by};

/// `modulo(a, b) = a − b·⌊a/b⌋`.
pub static MODULO: OpDef = OpDef::new("modulo", &["a", "b"], &Zip(Binary::Mod));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Mod", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let op = if node.flag("fmod", false)? { &REM } else { &MODULO };
    Ok(vec![b.op(op, &[node.input(0)?, node.input(1)?])?])
}
