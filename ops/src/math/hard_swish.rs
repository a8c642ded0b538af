//! `hard_swish(x) = x · max(0, min(1, x/6 + 1/2))`, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX HardSwish, opset 22.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::hard_sigmoid::{ALPHA, BETA, HARD_SIGMOID};
use crate::math::mul::MUL;
use crate::onnx::{Import, same};

/// `hard_swish(x) = x · max(0, min(1, x/6 + 1/2))`.
pub static HARD_SWISH: OpDef = OpDef::new("hard_swish", &["x"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("HardSwish", &HARD_SWISH)];

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let gate = b.op_with(&HARD_SIGMOID, &[x[0]], [ALPHA.is(1.0 / 6.0), BETA.is(0.5)])?;
        b.op(&MUL, &[x[0], gate])
    })
}
