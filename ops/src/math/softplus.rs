//! `softplus(x) = ln(1 + eˣ)`, elementwise. As `max(x, 0) + ln(1 + e^−|x|)`, which does not overflow.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Softplus, opset 22.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::abs::ABS;
use crate::math::add::ADD;
use crate::math::exp::EXP;
use crate::math::log::LOG;
use crate::math::max::MAX;
use crate::math::neg::NEG;
use crate::onnx::{Import, same};

/// `softplus(x) = ln(1 + eˣ)`.
pub static SOFTPLUS: OpDef = OpDef::new("softplus", &["x"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Softplus", &SOFTPLUS)];

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let dtype = b.ty(x[0]).dtype;
        let zero = b.scalar(dtype, 0.0);
        let one = b.scalar(dtype, 1.0);
        let size = b.op(&ABS, &[x[0]])?;
        let minus = b.op(&NEG, &[size])?;
        let exp = b.op(&EXP, &[minus])?;
        let sum = b.op(&ADD, &[one, exp])?;
        let log = b.op(&LOG, &[sum])?;
        let above = b.op(&MAX, &[x[0], zero])?;
        b.op(&ADD, &[above, log])
    })
}
