//! `instance_norm(x) = (x − μ) / √(σ² + epsilon)`, `μ` and `σ²` of each channel of each image.
//!
//! Shapes: `x: [N, C, …]`, of floats; the result has the type of `x`. Errors: those of the ops that it stands
//! for. Source: Ulyanov, Vedaldi, Lempitsky 2016; ONNX InstanceNormalization, opset 22, of which scale and
//! bias are products and sums of their own.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::Composite;
use crate::linalg::conv::{add_bias, along_channels};
use crate::math::mul::MUL;
use crate::norm::layer_norm::LAYER_NORM;
use crate::norm::{AXES, EPSILON, EPSILON_SPEC};
use crate::onnx::export::{Body, Emit, ToOnnx, fit, function};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};

/// Mean 0 and variance 1 in each channel.
pub static INSTANCE_NORM: OpDef =
    OpDef::new("instance_norm", &["x"], &Composite(expand)).attrs(&[EPSILON_SPEC]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("InstanceNormalization", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Nodes(to_onnx));

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let rank = b.ty(x[0]).rank();
    if rank < 3 {
        return Err(OpError::RankAtLeast { operand: "x", least: 3, found: rank });
    }
    let attrs = [AXES.is((2..rank as i64).collect()), EPSILON.is(attrs.get(EPSILON))];
    b.op_with(&LAYER_NORM, &[x[0]], attrs)
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let epsilon = EPSILON.is(node.float_or("epsilon", 1e-5)?);
    let y = b.op_with(&INSTANCE_NORM, &[node.input(0)?], [epsilon])?;
    Ok(vec![scale_channels(b, y, node.input(1)?, node.input(2)?)?])
}

/// `x · scale + bias`, both per channel.
pub(crate) fn scale_channels(b: &mut Build, x: Value, scale: Value, bias: Value) -> Result<Value, OpError> {
    let rank = b.ty(x).rank();
    let scale = along_channels(b, scale, rank)?;
    let y = b.op(&MUL, &[x, scale])?;
    add_bias(b, y, bias)
}

/// In ONNX with a scale and a bias.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let (dtype, epsilon) = (e.ty(0).dtype, e.attrs.get(EPSILON));
    if !dtype.is_float() || !fit(dtype, &[epsilon]) {
        return None;
    }
    let channels = e.sizes(&e.ty(0).shape[1..2]);
    let [bias, scale] = [0.0, 1.0].map(|value| e.number(dtype, value));
    let scale = e.node("Expand", &[&scale, &channels]);
    let bias = e.node("Expand", &[&bias, &channels]);
    let how = vec![("epsilon", NodeAttr::Float(epsilon))];
    Some(vec![e.node_with("InstanceNormalization", &[e.x(0), scale, bias], how)])
}
