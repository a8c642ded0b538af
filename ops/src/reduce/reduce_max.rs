//! `reduce_max(x)`: the largest element along `axes`; NaN if any is; of nothing the least value of the type;
//! for bool, is any true.
//!
//! Shapes: the axes go, or stay with size 1 if `keep_dims`. The result has the type of `x`. Errors:
//! [`Axis`](ir::op::OpError::Axis), [`Attribute`](ir::op::OpError::Attribute) for an axis that comes twice.
//! Source: ONNX ReduceMax, opset 18.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Reduce;

use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::{ATTRS, Along, EXTREMA_OF, import_reduction, to_onnx};

/// The largest element along axes.
pub static REDUCE_MAX: OpDef = OpDef::new("reduce_max", &["x"], &Along(Reduce::Max)).attrs(ATTRS);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("ReduceMax", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(to_onnx(e, "ReduceMax", &EXTREMA_OF)));

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    import_reduction(node, b, &REDUCE_MAX, 18)
}
