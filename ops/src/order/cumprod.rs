//! `cumprod(x)[…, i, …] = Π x[…, j, …]` over `j ≤ i` along `axis`; `j < i` if `exclusive`, `j ≥ i` (`j > i`) if `reverse`.
//!
//! Shapes: any number type, at least one axis; the result has the type of `x`. 16-bit floats are multiplied in `f32`,
//! integers wrap. Errors: [`OpError::Axis`](ir::op::OpError::Axis), [`OpError::DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX CumProd, opset 26.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Reduce;

use crate::onnx::{Import, ImportError, NodeView, since};
use crate::order::prefix::{ATTRS, Prefix, import_prefix};

/// The product of every prefix.
pub static CUMPROD: OpDef = OpDef::new("cumprod", &["x"], &Prefix(Reduce::Prod)).attrs(ATTRS);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[since("CumProd", 26, import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    import_prefix(node, b, &CUMPROD)
}
