//! `erf(x) = 2/√π ∫₀ˣ exp(−t²) dt`, elementwise.
//!
//! Shapes: any. The result has the type of `x`. Errors: [`DType`](ir::op::OpError::DType) for anything but
//! floats. Source: ONNX Erf, opset 13.

use ir::OpDef;
use ir::scalar::Unary;

use crate::math::elementwise::Map;
use crate::onnx::{Import, same};

/// `erf(x) = 2/√π ∫₀ˣ exp(−t²) dt`.
pub static ERF: OpDef = OpDef::new("erf", &["x"], &Map(Unary::Erf));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Erf", &ERF)];
