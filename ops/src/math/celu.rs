//! `celu(x) = max(x, 0) + min(alpha · (exp(x/alpha) − 1), 0)`, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Celu, opset 12.

use ir::OpDef;
use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::add::ADD;
use crate::math::div::DIV;
use crate::math::exp::EXP;
use crate::math::max::MAX;
use crate::math::min::MIN;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::onnx::export::{Emit, ToOnnx, activation, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use ir::DType;

/// `celu(x) = max(x, 0) + min(alpha · (exp(x/alpha) − 1), 0)`.
pub static CELU: OpDef =
    OpDef::new("celu", &["x"], &Pointwise(expand)).attrs(&[ALPHA.or(|| Attr::Float(1.0))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Celu", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

/// The limit at −∞ is `−alpha`.
pub const ALPHA: Key<f64> = key("alpha");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let dtype = b.ty(x[0]).dtype;
        let zero = b.scalar(dtype, 0.0);
        let one = b.scalar(dtype, 1.0);
        let alpha = b.scalar(dtype, attrs.get(ALPHA));
        let scaled = b.op(&DIV, &[x[0], alpha])?;
        let exp = b.op(&EXP, &[scaled])?;
        let exp = b.op(&SUB, &[exp, one])?;
        let curve = b.op(&MUL, &[alpha, exp])?;
        let below = b.op(&MIN, &[curve, zero])?;
        let above = b.op(&MAX, &[x[0], zero])?;
        b.op(&ADD, &[above, below])
    })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let alpha = node.float_or("alpha", 1.0)?;
    Ok(vec![b.op_with(&CELU, &[node.input(0)?], [ALPHA.is(alpha)])?])
}

/// In ONNX, it is there for `f32` alone.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let alpha = [("alpha", e.attrs.get(ALPHA))];
    if e.ty(0).dtype == DType::F32 { activation(e, "Celu", &alpha) } else { None }
}
