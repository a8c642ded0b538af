//! `reduce_min(x)`: the smallest element along `axes`; NaN if any is; of nothing the greatest value of the
//! type; for bool, are all true.
//!
//! Shapes: the axes go, or stay with size 1 if `keep_dims`. The result has the type of `x`. Errors:
//! [`Axis`](ir::op::OpError::Axis), [`Attribute`](ir::op::OpError::Attribute) for an axis that comes twice.
//! Source: ONNX ReduceMin, opset 18.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Reduce;

use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::{ATTRS, Along, EXTREMA_OF, import_reduction, to_onnx};

/// The smallest element along axes.
pub static REDUCE_MIN: OpDef = OpDef::new("reduce_min", &["x"], &Along(Reduce::Min)).attrs(ATTRS);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("ReduceMin", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(to_onnx(e, "ReduceMin", &EXTREMA_OF)));

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    import_reduction(node, b, &REDUCE_MIN, 18)
}
