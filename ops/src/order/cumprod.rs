//! `cumprod(x)[…, i, …] = Π x[…, j, …]` over `j ≤ i` along `axis`; `j < i` if `exclusive`, `j ≥ i` (`j > i`) if `reverse`.
//!
//! Shapes: any number type, at least one axis; the result has the type of `x`. 16-bit floats are multiplied in `f32`,
//! integers wrap. Errors: [`OpError::Axis`], [`OpError::DType`] for bool.
//! Source: ONNX CumProd, opset 26.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Reduce;

use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::r#where::WHERE;
use crate::onnx::export::{Body, ToOnnx, function};
use crate::onnx::{Import, ImportError, NodeView, since};
use crate::order::prefix::{ATTRS, AXIS, EXCLUSIVE, Prefix, REVERSE, import_prefix};
use crate::reduce::along::reduce;
use crate::reduce::reduce_prod::REDUCE_PROD;
use crate::shape::iota::{self, IOTA};
use crate::shape::reshape::reshape;
use ir::attr::Attrs;
use ir::op::{OpError, normalize_axis};
use ir::{DType, Dim};

/// The product of every prefix.
pub static CUMPROD: OpDef = OpDef::new("cumprod", &["x"], &Prefix(Reduce::Prod)).attrs(ATTRS);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[since("CumProd", 26, import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Ops(as_ops));

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    import_prefix(node, b, &CUMPROD)
}

/// The product of a row that holds each prefix, and ones behind it.
fn as_ops(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Vec<Value>, OpError> {
    let ty = b.ty(x[0]).clone();
    let axis = normalize_axis(attrs.get(AXIS), ty.rank())?;
    let mut rows = ty.shape.clone();
    rows.insert(axis, Dim::constant(1));
    let rows = reshape(b, x[0], rows)?;
    let square = [vec![ty.shape[axis].clone(); 2], vec![Dim::constant(1); ty.rank() - axis - 1]].concat();
    let counted =
        |along: i64| [iota::SHAPE.is(square.clone()), iota::AXIS.is(along), iota::DTYPE.is(DType::I64)];
    let (to, from) = (b.op_with(&IOTA, &[], counted(0))?, b.op_with(&IOTA, &[], counted(1))?);
    let (first, second) = if attrs.get(REVERSE) { (to, from) } else { (from, to) };
    let inside = b.op(if attrs.get(EXCLUSIVE) { &LT } else { &LE }, &[first, second])?;
    let one = b.scalar(ty.dtype, 1.0);
    let factors = b.op(&WHERE, &[inside, rows, one])?;
    Ok(vec![reduce(b, &REDUCE_PROD, factors, &[axis as i64 + 1], false)?])
}
