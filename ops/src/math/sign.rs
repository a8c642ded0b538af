//! `sign(x)`: 1, −1 or `x` itself, which is a zero or NaN, elementwise.
//!
//! Shapes: any type of numbers; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Sign, opset 13.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::dtype::Class;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::Pointwise;
use crate::math::gt::GT;
use crate::math::lt::LT;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, same};

/// `sign(x)`: 1, −1 or `x` itself, which is a zero or NaN.
pub static SIGN: OpDef = OpDef::new("sign", &["x"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Sign", &SIGN)];

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    let dtype = b.ty(x[0]).dtype;
    let zero = b.scalar(dtype, 0.0);
    let one = b.scalar(dtype, 1.0);
    let above = b.op(&GT, &[x[0], zero])?;
    let rest = if matches!(dtype.class(), Class::Unsigned) {
        x[0]
    } else {
        let minus = b.scalar(dtype, -1.0);
        let below = b.op(&LT, &[x[0], zero])?;
        b.op(&WHERE, &[below, minus, x[0]])?
    };
    b.op(&WHERE, &[above, one, rest])
}
