//! `max_pool(x)`: the largest element of each window; NaN if any is.
//!
//! Shapes: `x: [N, C, …]`, of numbers; the result is `[N, C, windows…]`. See [`crate::window`]. Errors:
//! [`DType`](ir::op::OpError::DType), [`Rank`](ir::op::OpError::Rank), [`Size`](ir::op::OpError::Size),
//! [`Attribute`](ir::op::OpError::Attribute). Source: ONNX MaxPool and GlobalMaxPool, opset 22.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;

use crate::onnx::{Import, ImportError, NodeView, by};
use crate::pool::slide::{Slide, import_global, import_window};
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::window::{CEIL_SPEC, DILATIONS, HIGH, KERNEL, LOW, STRIDES};

/// The largest element of each window.
pub static MAX_POOL: OpDef = OpDef::new("max_pool", &["x"], &Slide::Max).attrs(&[
    KERNEL.spec(),
    STRIDES.spec(),
    DILATIONS.spec(),
    LOW.spec(),
    HIGH.spec(),
    CEIL_SPEC,
]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] =
    &[by("MaxPool", import), by("GlobalMaxPool", |node, b| import_global(node, b, &REDUCE_MAX))];

/// `storage_order` speaks of the second output, which is not imported.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["storage_order"]);
    let window = import_window(node, b)?;
    Ok(vec![b.op_with(&MAX_POOL, &[node.input(0)?], window)?])
}
