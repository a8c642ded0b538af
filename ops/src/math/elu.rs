//! `elu(x) = x` where `x ≥ 0`, else `alpha · (eˣ − 1)`, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Elu, opset 22.

use ir::OpDef;
use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::exp::EXP;
use crate::math::lt::LT;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::export::{ToOnnx, activation, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};

/// `elu(x) = x` where `x ≥ 0`, else `alpha · (eˣ − 1)`.
pub static ELU: OpDef = OpDef::new("elu", &["x"], &Pointwise(expand)).attrs(&[ALPHA.or(|| Attr::Float(1.0))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Elu", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| activation(e, "Elu", &[("alpha", e.attrs.get(ALPHA))]));

/// The limit at −∞ is `−alpha`.
pub const ALPHA: Key<f64> = key("alpha");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let dtype = b.ty(x[0]).dtype;
        let zero = b.scalar(dtype, 0.0);
        let one = b.scalar(dtype, 1.0);
        let alpha = b.scalar(dtype, attrs.get(ALPHA));
        let exp = b.op(&EXP, &[x[0]])?;
        let exp = b.op(&SUB, &[exp, one])?;
        let curve = b.op(&MUL, &[alpha, exp])?;
        let below = b.op(&LT, &[x[0], zero])?;
        b.op(&WHERE, &[below, curve, x[0]])
    })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let alpha = node.float_or("alpha", 1.0)?;
    Ok(vec![b.op_with(&ELU, &[node.input(0)?], [ALPHA.is(alpha)])?])
}
