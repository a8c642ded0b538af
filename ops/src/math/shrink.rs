//! `shrink(x) = x − bias` above `lambd`, `x + bias` below `−lambd`, else 0; elementwise.
//!
//! Shapes: any type of numbers; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Shrink, opset 9.

use ir::OpDef;
use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::Pointwise;
use crate::math::add::ADD;
use crate::math::gt::GT;
use crate::math::lt::LT;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::export::{ToOnnx, activation, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};

/// `shrink(x) = x − bias` above `lambd`, `x + bias` below `−lambd`, else 0.
pub static SHRINK: OpDef = OpDef::new("shrink", &["x"], &Pointwise(expand))
    .attrs(&[LAMBD.or(|| Attr::Float(0.5)), BIAS.or(|| Attr::Float(0.0))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Shrink", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx =
    nodes(|e| activation(e, "Shrink", &[("lambd", e.attrs.get(LAMBD)), ("bias", e.attrs.get(BIAS))]));

/// The threshold.
pub const LAMBD: Key<f64> = key("lambd");

/// How far what is kept moves towards 0.
pub const BIAS: Key<f64> = key("bias");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let dtype = b.ty(x[0]).dtype;
    let (threshold, bias, zero) = (attrs.get(LAMBD), attrs.get(BIAS), b.scalar(dtype, 0.0));
    let (high, low, bias) = (b.scalar(dtype, threshold), b.scalar(dtype, -threshold), b.scalar(dtype, bias));
    let (above, below) = (b.op(&GT, &[x[0], high])?, b.op(&LT, &[x[0], low])?);
    let (down, up) = (b.op(&SUB, &[x[0], bias])?, b.op(&ADD, &[x[0], bias])?);
    let rest = b.op(&WHERE, &[below, up, zero])?;
    b.op(&WHERE, &[above, down, rest])
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let attrs = [LAMBD.is(node.float_or("lambd", 0.5)?), BIAS.is(node.float_or("bias", 0.0)?)];
    Ok(vec![b.op_with(&SHRINK, &[node.input(0)?], attrs)?])
}
