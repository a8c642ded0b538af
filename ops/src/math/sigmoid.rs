//! `sigmoid(x) = 1/(1 + e⁻ˣ)`, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Sigmoid, opset 13.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::add::ADD;
use crate::math::div::DIV;
use crate::math::exp::EXP;
use crate::math::neg::NEG;
use crate::onnx::{Import, same};

/// `sigmoid(x) = 1/(1 + e⁻ˣ)`.
pub static SIGMOID: OpDef = OpDef::new("sigmoid", &["x"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Sigmoid", &SIGMOID)];

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let one = b.scalar(b.ty(x[0]).dtype, 1.0);
        let minus = b.op(&NEG, &[x[0]])?;
        let exp = b.op(&EXP, &[minus])?;
        let below = b.op(&ADD, &[one, exp])?;
        b.op(&DIV, &[one, below])
    })
}
