//! `mish(x) = x · tanh(ln(1 + eˣ))`, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: Misra 2019; ONNX Mish, opset 22.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::mul::MUL;
use crate::math::softplus::SOFTPLUS;
use crate::math::tanh::TANH;
use crate::onnx::{Import, same};

/// `mish(x) = x · tanh(ln(1 + eˣ))`.
pub static MISH: OpDef = OpDef::new("mish", &["x"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Mish", &MISH)];

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let soft = b.op(&SOFTPLUS, &[x[0]])?;
        let gate = b.op(&TANH, &[soft])?;
        b.op(&MUL, &[x[0], gate])
    })
}
