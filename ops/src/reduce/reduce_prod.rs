//! `reduce_prod(x)`: `Π x` along `axes`; of nothing 1.
//!
//! Shapes: the axes go, or stay with size 1 if `keep_dims`. The result has the type of `x`. Errors:
//! [`Axis`](ir::op::OpError::Axis), [`Attribute`](ir::op::OpError::Attribute) for an axis that comes twice.
//! Source: ONNX ReduceProd, opset 18.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Reduce;

use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::{ATTRS, Along, SUMS_OF, import_reduction, to_onnx};

/// `Π x` along axes.
pub static REDUCE_PROD: OpDef = OpDef::new("reduce_prod", &["x"], &Along(Reduce::Prod)).attrs(ATTRS);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("ReduceProd", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(to_onnx(e, "ReduceProd", &SUMS_OF)));

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    import_reduction(node, b, &REDUCE_PROD, 18)
}
