//! `thresholded_relu(x) = x` where `x > alpha`, else 0, elementwise.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX ThresholdedRelu, opset 22.

use ir::OpDef;
use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::Pointwise;
use crate::math::gt::GT;
use crate::math::r#where::WHERE;
use crate::onnx::export::{ToOnnx, activation, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};

/// `thresholded_relu(x) = x` where `x > alpha`, else 0.
pub static THRESHOLDED_RELU: OpDef =
    OpDef::new("thresholded_relu", &["x"], &Pointwise(expand)).attrs(&[ALPHA.or(|| Attr::Float(1.0))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("ThresholdedRelu", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| activation(e, "ThresholdedRelu", &[("alpha", e.attrs.get(ALPHA))]));

/// The threshold.
pub const ALPHA: Key<f64> = key("alpha");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let dtype = b.ty(x[0]).dtype;
    let zero = b.scalar(dtype, 0.0);
    let alpha = b.scalar(dtype, attrs.get(ALPHA));
    let above = b.op(&GT, &[x[0], alpha])?;
    b.op(&WHERE, &[above, x[0], zero])
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let alpha = node.float_or("alpha", 1.0)?;
    Ok(vec![b.op_with(&THRESHOLDED_RELU, &[node.input(0)?], [ALPHA.is(alpha)])?])
}
