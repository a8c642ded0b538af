//! `sum_pool(x)`: the sum of each window.
//!
//! Shapes: `x: [N, C, …]`, of numbers; the result is `[N, C, windows…]`. See [`crate::window`]. Errors:
//! [`DType`](ir::op::OpError::DType), [`Rank`](ir::op::OpError::Rank), [`Size`](ir::op::OpError::Size),
//! [`Attribute`](ir::op::OpError::Attribute). Source: ONNX LpPool and GlobalLpPool, opset 22.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::in_arithmetic;
use crate::math::abs::ABS;
use crate::math::pow::POW;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::pool::slide::{Slide, import_window};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::window::{CEIL_SPEC, DILATIONS, HIGH, KERNEL, LOW, STRIDES};

/// The sum of each window.
pub static SUM_POOL: OpDef = OpDef::new("sum_pool", &["x"], &Slide::Sum).attrs(&[
    KERNEL.spec(),
    STRIDES.spec(),
    DILATIONS.spec(),
    LOW.spec(),
    HIGH.spec(),
    CEIL_SPEC,
]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("LpPool", import), by("GlobalLpPool", import_global)];

/// `(Σ |x|ᵖ)^(1/p)`, where `sum` sums.
fn norm(
    node: &NodeView,
    b: &mut Build,
    sum: impl FnOnce(&mut Build, Value) -> Result<Value, OpError>,
) -> Result<Vec<Value>, ImportError> {
    let p = if node.opset < 2 { node.float_or("p", 2.0)? } else { node.int_or("p", 2)? as f64 };
    let y = in_arithmetic(b, &[node.input(0)?], |b, x| {
        let dtype = b.ty(x[0]).dtype;
        let (power, root) = (b.scalar(dtype, p), b.scalar(dtype, 1.0 / p));
        let size = b.op(&ABS, &[x[0]])?;
        let each = b.op(&POW, &[size, power])?;
        let sum = sum(b, each)?;
        b.op(&POW, &[sum, root])
    })?;
    Ok(vec![y])
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let window = import_window(node, b)?;
    norm(node, b, |b, x| b.op_with(&SUM_POOL, &[x], window))
}

fn import_global(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axes: Vec<i64> = (2..node.ty(b, 0)?.rank() as i64).collect();
    norm(node, b, |b, x| reduce(b, &REDUCE_SUM, x, &axes, true))
}
