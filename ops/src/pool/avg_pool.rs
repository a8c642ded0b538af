//! `avg_pool(x)`: the mean of each window.
//!
//! What lies outside the image adds nothing, and counts only with `include_pad`; what lies beyond the padding
//! never counts. Shapes: `x: [N, C, …]`, of floats; the result is `[N, C, windows…]`. See [`crate::window`].
//! Errors: [`DType`](ir::op::OpError::DType), [`Rank`](ir::op::OpError::Rank),
//! [`Size`](ir::op::OpError::Size), [`Attribute`](ir::op::OpError::Attribute). Source: ONNX AveragePool and
//! GlobalAveragePool, opset 22.

use ir::OpDef;
use ir::attr::Attr;
use ir::build::Build;
use ir::graph::Value;

use crate::onnx::{Import, ImportError, NodeView, by};
use crate::pool::slide::{INCLUDE_PAD, Slide, import_global, import_window};
use crate::reduce::reduce_mean::REDUCE_MEAN;
use crate::window::{CEIL_SPEC, DILATIONS, HIGH, KERNEL, LOW, STRIDES};

/// The mean of each window.
pub static AVG_POOL: OpDef = OpDef::new("avg_pool", &["x"], &Slide::Mean).attrs(&[
    KERNEL.spec(),
    STRIDES.spec(),
    DILATIONS.spec(),
    LOW.spec(),
    HIGH.spec(),
    CEIL_SPEC,
    INCLUDE_PAD.or(|| Attr::Bool(false)),
]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] =
    &[by("AveragePool", import), by("GlobalAveragePool", |node, b| import_global(node, b, &REDUCE_MEAN))];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mut attrs = import_window(node, b)?;
    attrs.push(INCLUDE_PAD.is(node.flag("count_include_pad", false)?));
    Ok(vec![b.op_with(&AVG_POOL, &[node.input(0)?], attrs)?])
}
