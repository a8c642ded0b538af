//! `softsign(x) = x/(1 + |x|)`, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Softsign, opset 22.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::abs::ABS;
use crate::math::add::ADD;
use crate::math::div::DIV;
use crate::onnx::{Import, same};

/// `softsign(x) = x/(1 + |x|)`.
pub static SOFTSIGN: OpDef = OpDef::new("softsign", &["x"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Softsign", &SOFTSIGN)];

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let one = b.scalar(b.ty(x[0]).dtype, 1.0);
        let size = b.op(&ABS, &[x[0]])?;
        let below = b.op(&ADD, &[one, size])?;
        b.op(&DIV, &[x[0], below])
    })
}
