//! `reduce_sum(x) = Σ x` along `axes`; of nothing 0.
//!
//! Shapes: the axes go, or stay with size 1 if `keep_dims`. The result has the type of `x`, not bool. Sums of
//! 16-bit floats are carried in `f32`. Errors: [`DType`](ir::op::OpError::DType),
//! [`Axis`](ir::op::OpError::Axis), [`Attribute`](ir::op::OpError::Attribute) for an axis that comes twice.
//! Source: ONNX ReduceSum, opset 13; ReduceL1, L2, LogSum, LogSumExp, SumSquare, opset 18.

use ir::OpDef;
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Reduce;
use ir::op::OpError;

use crate::composite::in_arithmetic;
use crate::math::abs::ABS;
use crate::math::add::ADD;
use crate::math::exp::EXP;
use crate::math::is_inf::IS_INF;
use crate::math::log::LOG;
use crate::math::mul::MUL;
use crate::math::sqrt::SQRT;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::{ATTRS, Along, SUMS_OF, import_operand, import_reduction, reduce, to_onnx};
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::shape::reshape::reshape;

/// The sum along axes.
pub static REDUCE_SUM: OpDef = OpDef::new("reduce_sum", &["x"], &Along(Reduce::Sum)).attrs(ATTRS);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("ReduceSum", |node, b| import_reduction(node, b, &REDUCE_SUM, 13)),
    by("ReduceL1", |node, b| import(node, b, &|b, x| b.op(&ABS, &[x]), &|_, sum| Ok(sum))),
    by("ReduceL2", |node, b| import(node, b, &|b, x| b.op(&MUL, &[x, x]), &|b, sum| b.op(&SQRT, &[sum]))),
    by("ReduceLogSum", |node, b| import(node, b, &|_, x| Ok(x), &|b, sum| b.op(&LOG, &[sum]))),
    by("ReduceSumSquare", |node, b| import(node, b, &|b, x| b.op(&MUL, &[x, x]), &|_, sum| Ok(sum))),
    by("ReduceLogSumExp", import_log_sum_exp),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| Some(to_onnx(e, "ReduceSum", &SUMS_OF)));

type Step<'a> = &'a dyn Fn(&mut Build, Value) -> Result<Value, OpError>;

/// `after(Σ before(x))`.
fn import(node: &NodeView, b: &mut Build, before: Step, after: Step) -> Result<Vec<Value>, ImportError> {
    let operand = import_operand(node, b, 18)?;
    let y = in_arithmetic(b, &[operand.x], |b, x| {
        let each = before(b, x[0])?;
        let sum = reduce(b, &REDUCE_SUM, each, &operand.axes, operand.keep)?;
        after(b, sum)
    })?;
    Ok(vec![operand.shaped(b, y)?])
}

/// `m + ln Σ exp(x − m)` with `m` the largest element, or 0 where that is infinite.
fn import_log_sum_exp(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let operand = import_operand(node, b, 18)?;
    let (axes, keep) = (&operand.axes, operand.keep);
    let y = in_arithmetic(b, &[operand.x], |b, x| {
        let zero = b.scalar(b.ty(x[0]).dtype, 0.0);
        let largest = reduce(b, &REDUCE_MAX, x[0], axes, true)?;
        let infinite = b.op(&IS_INF, &[largest])?;
        let largest = b.op(&WHERE, &[infinite, zero, largest])?;
        let shifted = b.op(&SUB, &[x[0], largest])?;
        let exp = b.op(&EXP, &[shifted])?;
        let sum = reduce(b, &REDUCE_SUM, exp, axes, keep)?;
        let log = b.op(&LOG, &[sum])?;
        let shape = b.ty(log).shape.clone();
        let largest = reshape(b, largest, shape)?;
        b.op(&ADD, &[log, largest])
    })?;
    Ok(vec![operand.shaped(b, y)?])
}
