//! `leaky_relu(x) = x` where `x ≥ 0`, else `alpha · x`, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX LeakyRelu, opset 16.

use ir::OpDef;
use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::lt::LT;
use crate::math::mul::MUL;
use crate::math::r#where::WHERE;
use crate::onnx::export::{ToOnnx, activation, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};

/// `leaky_relu(x) = x` where `x ≥ 0`, else `alpha · x`.
pub static LEAKY_RELU: OpDef =
    OpDef::new("leaky_relu", &["x"], &Pointwise(expand)).attrs(&[ALPHA.or(|| Attr::Float(0.01))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("LeakyRelu", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| activation(e, "LeakyRelu", &[("alpha", e.attrs.get(ALPHA))]));

/// The slope below 0.
pub const ALPHA: Key<f64> = key("alpha");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let dtype = b.ty(x[0]).dtype;
        let zero = b.scalar(dtype, 0.0);
        let alpha = b.scalar(dtype, attrs.get(ALPHA));
        let below = b.op(&LT, &[x[0], zero])?;
        let scaled = b.op(&MUL, &[x[0], alpha])?;
        b.op(&WHERE, &[below, scaled, x[0]])
    })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let alpha = node.float_or("alpha", 0.01)?;
    Ok(vec![b.op_with(&LEAKY_RELU, &[node.input(0)?], [ALPHA.is(alpha)])?])
}
