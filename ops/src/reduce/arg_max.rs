//! `arg_max(x)`: the position of the largest element along `axis`, the first such or, with `last`, the last; that of a
//! NaN if there is one; along an axis of size 0 it is −1.
//!
//! Shapes: `x` of numbers; the axis goes, or stays with size 1 if `keep_dims`. The result is `i64`. Errors:
//! [`DType`](ir::op::OpError::DType), [`Axis`](ir::op::OpError::Axis). Source: ONNX ArgMax, opset 13.

use ir::OpDef;
use ir::kernel::Reduce;

use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, by};
use crate::reduce::position::{ATTRS, Position, import_position, to_onnx};

/// The position of the largest element along an axis.
pub static ARG_MAX: OpDef = OpDef::new("arg_max", &["x"], &Position(Reduce::Max)).attrs(ATTRS);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("ArgMax", |node, b| import_position(node, b, &ARG_MAX))];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(to_onnx(e, "ArgMax")));
