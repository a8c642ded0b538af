//! `silu(x) = x · sigmoid(x)`, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: Elfwing, Uchibe, Doya 2017; ONNX Swish, opset 24; SwiGLU, opset 28; onnxruntime, contrib
//! operators, QuickGelu.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::mul::MUL;
use crate::math::sigmoid::SIGMOID;
use crate::onnx::{Import, ImportError, NodeView, by};

/// `silu(x) = x · sigmoid(x)`.
pub static SILU: OpDef = OpDef::new("silu", &["x"], &Pointwise(expand));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("Swish", |node, b| Ok(vec![swish(node, b, 1.0)?])),
    by("SwiGLU", import_gated),
    by("QuickGelu", |node, b| Ok(vec![swish(node, b, 1.702)?])).in_domain("com.microsoft"),
];

fn expand(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let gate = b.op(&SIGMOID, &[x[0]])?;
        b.op(&MUL, &[x[0], gate])
    })
}

/// SwiGLU is Swish of one operand, times another.
fn import_gated(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let gate = swish(node, b, 1.0)?;
    Ok(vec![b.op(&MUL, &[gate, node.input(1)?])?])
}

/// `x · sigmoid(α·x)`, with an attribute for `α`.
fn swish(node: &NodeView, b: &mut Build, alpha: f64) -> Result<Value, ImportError> {
    let (x, alpha) = (node.input(0)?, node.float_or("alpha", alpha)?);
    if alpha == 1.0 {
        return Ok(b.op(&SILU, &[x])?);
    }
    Ok(in_arithmetic(b, &[x], |b, x| {
        let alpha = b.scalar(b.ty(x[0]).dtype, alpha);
        let scaled = b.op(&MUL, &[x[0], alpha])?;
        let gate = b.op(&SIGMOID, &[scaled])?;
        b.op(&MUL, &[x[0], gate])
    })?)
}
