//! `is_inf(x)`: is it an infinity?, elementwise.
//!
//! Shapes: any. The result is bool. Errors: [`DType`](ir::op::OpError::DType) for anything but floats.
//! Source: ONNX IsInf, opset 20.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::scalar::Unary;

use crate::math::and::AND;
use crate::math::elementwise::Map;
use crate::math::gt::GT;
use crate::math::lt::LT;
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};

/// `is_inf(x)`: is it an infinity?
pub static IS_INF: OpDef = OpDef::new("is_inf", &["x"], &Map(Unary::IsInf));

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("IsInf", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(e.same("IsInf")));

/// Infinities of one sign are those that lie on its side of 0.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let infinite = b.op(&IS_INF, &[x])?;
    let sides = (node.flag("detect_negative", true)?, node.flag("detect_positive", true)?);
    let zero = b.scalar(b.ty(x).dtype, 0.0);
    let side = match sides {
        (true, true) => return Ok(vec![infinite]),
        (true, false) => b.op(&LT, &[x, zero])?,
        (false, true) => b.op(&GT, &[x, zero])?,
        (false, false) => {
            let never = b.scalar(ir::DType::Bool, 0.0);
            return Ok(vec![b.op(&AND, &[infinite, never])?]);
        }
    };
    Ok(vec![b.op(&AND, &[infinite, side])?])
}
