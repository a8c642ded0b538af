//! `log_softmax(x)ᵢ = xᵢ − ln Σⱼ exp(xⱼ)` along `axis`.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: [`Axis`](OpError::Axis), and those of the
//! ops that it stands for. Source: ONNX LogSoftmax, opset 13; before, all axes from `axis` on were one.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Composite, in_arithmetic};
use crate::math::exp::EXP;
use crate::math::log::LOG;
use crate::math::sub::SUB;
use crate::norm::softmax::import_flattened;
use crate::norm::{AXIS, along_axis};
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::reduce::along::reduce;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::reduce::reduce_sum::REDUCE_SUM;

/// The logarithm of softmax.
pub static LOG_SOFTMAX: OpDef = OpDef::new("log_softmax", &["x"], &Composite(expand)).attrs(&[AXIS.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("LogSoftmax", import_old), since("LogSoftmax", 13, import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| along_axis(e, "LogSoftmax"));

/// The maximum is subtracted first, as for softmax.
fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let axis = attrs.get(AXIS);
    in_arithmetic(b, x, |b, x| {
        let max = reduce(b, &REDUCE_MAX, x[0], &[axis], true)?;
        let shifted = b.op(&SUB, &[x[0], max])?;
        let exp = b.op(&EXP, &[shifted])?;
        let sum = reduce(b, &REDUCE_SUM, exp, &[axis], true)?;
        let log = b.op(&LOG, &[sum])?;
        b.op(&SUB, &[shifted, log])
    })
}

fn import_old(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    import_flattened(node, b, &|b, x, axis| b.op_with(&LOG_SOFTMAX, &[x], [AXIS.is(axis)]))
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axis = AXIS.is(node.int_or("axis", -1)?);
    Ok(vec![b.op_with(&LOG_SOFTMAX, &[node.input(0)?], [axis])?])
}
