//! `hard_sigmoid(x) = max(0, min(1, alpha · x + beta))`, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX HardSigmoid, opset 22.

use ir::OpDef;
use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::add::ADD;
use crate::math::max::MAX;
use crate::math::min::MIN;
use crate::math::mul::MUL;
use crate::onnx::export::{ToOnnx, activation, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};

/// `hard_sigmoid(x) = max(0, min(1, alpha · x + beta))`.
pub static HARD_SIGMOID: OpDef = OpDef::new("hard_sigmoid", &["x"], &Pointwise(expand))
    .attrs(&[ALPHA.or(|| Attr::Float(0.2)), BETA.or(|| Attr::Float(0.5))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("HardSigmoid", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx =
    nodes(|e| activation(e, "HardSigmoid", &[("alpha", e.attrs.get(ALPHA)), ("beta", e.attrs.get(BETA))]));

/// The slope.
pub const ALPHA: Key<f64> = key("alpha");

/// The value at 0.
pub const BETA: Key<f64> = key("beta");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let dtype = b.ty(x[0]).dtype;
        let zero = b.scalar(dtype, 0.0);
        let one = b.scalar(dtype, 1.0);
        let alpha = b.scalar(dtype, attrs.get(ALPHA));
        let beta = b.scalar(dtype, attrs.get(BETA));
        let line = b.op(&MUL, &[x[0], alpha])?;
        let line = b.op(&ADD, &[line, beta])?;
        let line = b.op(&MIN, &[line, one])?;
        b.op(&MAX, &[line, zero])
    })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let alpha = node.float_or("alpha", 0.2)?;
    let beta = node.float_or("beta", 0.5)?;
    Ok(vec![b.op_with(&HARD_SIGMOID, &[node.input(0)?], [ALPHA.is(alpha), BETA.is(beta)])?])
}
