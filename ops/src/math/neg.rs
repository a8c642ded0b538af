//! `neg(x) = −x`, elementwise; integers wrap.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for bool.
//! Source: ONNX Neg, opset 13.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `neg(x) = −x`.
pub static NEG: OpDef = OpDef::new("neg", &["x"], &Map(Unary::Neg));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Neg", &NEG)];
