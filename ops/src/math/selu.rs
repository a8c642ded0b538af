//! `selu(x) = gamma · x` where `x > 0`, else `gamma · alpha · (eˣ − 1)`, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Selu, opset 22.

use ir::OpDef;
use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::elu::{self, ELU};
use crate::math::mul::MUL;
use crate::onnx::export::{ToOnnx, activation, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};

/// `selu(x) = gamma · x` where `x > 0`, else `gamma · alpha · (eˣ − 1)`.
pub static SELU: OpDef = OpDef::new("selu", &["x"], &Pointwise(expand))
    .attrs(&[ALPHA.or(|| Attr::Float(SELU_ALPHA)), GAMMA.or(|| Attr::Float(SELU_GAMMA))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Selu", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx =
    nodes(|e| activation(e, "Selu", &[("alpha", e.attrs.get(ALPHA)), ("gamma", e.attrs.get(GAMMA))]));

/// The limit at −∞ is `−gamma · alpha`.
pub const ALPHA: Key<f64> = key("alpha");

/// The slope above 0.
pub const GAMMA: Key<f64> = key("gamma");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let curve = b.op_with(&ELU, &[x[0]], [elu::ALPHA.is(attrs.get(ALPHA))])?;
        let gamma = b.scalar(b.ty(x[0]).dtype, attrs.get(GAMMA));
        b.op(&MUL, &[gamma, curve])
    })
}

/// The constants for which activations keep mean 0 and variance 1.
const SELU_ALPHA: f64 = 1.673_263_192_176_818_8;
const SELU_GAMMA: f64 = 1.050_701_022_148_132_3;

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    // Opset 1 had fewer digits.
    let (alpha, gamma) = if node.opset < 6 { (1.6732, 1.0507) } else { (SELU_ALPHA, SELU_GAMMA) };
    let (alpha, gamma) = (node.float_or("alpha", alpha)?, node.float_or("gamma", gamma)?);
    Ok(vec![b.op_with(&SELU, &[node.input(0)?], [ALPHA.is(alpha), GAMMA.is(gamma)])?])
}
