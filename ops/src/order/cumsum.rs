//! `cumsum(x)[…, i, …] = Σ x[…, j, …]` over `j ≤ i` along `axis`; `j < i` if `exclusive`, `j ≥ i` (`j > i`) if `reverse`.
//!
//! Shapes: any number type, at least one axis; the result has the type of `x`. 16-bit floats are summed in `f32`,
//! integers wrap. Errors: [`OpError::Axis`](ir::op::OpError::Axis), [`OpError::DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX CumSum, opset 11.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Reduce;

use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, since};
use crate::order::prefix::{ATTRS, AXIS, EXCLUSIVE, Prefix, REVERSE, import_prefix};
use ir::DType;

/// The sum of every prefix.
pub static CUMSUM: OpDef = OpDef::new("cumsum", &["x"], &Prefix(Reduce::Sum)).attrs(ATTRS);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[since("CumSum", 11, import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    import_prefix(node, b, &CUMSUM)
}

/// The types that it takes in ONNX and in most engines.
const TYPES: [DType; 6] = [DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32, DType::I64];

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let own = e.ty(0).dtype;
    let taken = if TYPES.contains(&own) { own } else { DType::I64 };
    let (x, axis) = (e.cast(e.x(0), own, taken), e.number(DType::I64, e.attrs.get(AXIS) as f64));
    let flag = |value: bool| NodeAttr::Int(value.into());
    let how = vec![("exclusive", flag(e.attrs.get(EXCLUSIVE))), ("reverse", flag(e.attrs.get(REVERSE)))];
    let y = e.node_with("CumSum", &[x, axis], how);
    Some(vec![e.cast(y, taken, own)])
}
