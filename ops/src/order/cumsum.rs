//! `cumsum(x)[…, i, …] = Σ x[…, j, …]` over `j ≤ i` along `axis`; `j < i` if `exclusive`, `j ≥ i` (`j > i`) if `reverse`.
//!
//! Shapes: any number type, at least one axis; the result has the type of `x`. 16-bit floats are summed in `f32`,
//! integers wrap. Errors: [`OpError::Axis`](ir::op::OpError::Axis), [`OpError::DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX CumSum, opset 11.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Reduce;

use crate::onnx::{Import, ImportError, NodeView, since};
use crate::order::prefix::{ATTRS, Prefix, import_prefix};

/// The sum of every prefix.
pub static CUMSUM: OpDef = OpDef::new("cumsum", &["x"], &Prefix(Reduce::Sum)).attrs(ATTRS);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[since("CumSum", 11, import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    import_prefix(node, b, &CUMSUM)
}
