//! ONNX NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: `−w[t] · log p[t]` for each target `t`, maybe
//! summed, or divided by the sum of the weights.
//!
//! A target that is `ignore_index` counts nothing. Source: ONNX NegativeLogLikelihoodLoss, opset 22;
//! SoftmaxCrossEntropyLoss, opset 13.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{Dim, Scalar, Tensor};

use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::mul::MUL;
use crate::math::neg::NEG;
use crate::math::r#where::WHERE;
use crate::norm::AXIS;
use crate::norm::log_softmax::LOG_SOFTMAX;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_mean::REDUCE_MEAN;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::gather::GATHER;
use crate::shape::gather_elements::{self, GATHER_ELEMENTS};
use crate::shape::reshape::reshape;

/// The ONNX ops.
pub static ONNX: &[Import] = &[
    by("NegativeLogLikelihoodLoss", |node, b| {
        let log_probabilities = node.input(0)?;
        Ok(vec![loss(node, b, log_probabilities)?])
    }),
    by("SoftmaxCrossEntropyLoss", |node, b| {
        let log_probabilities = b.op_with(&LOG_SOFTMAX, &[node.input(0)?], [AXIS.is(1)])?;
        Ok(vec![loss(node, b, log_probabilities)?, log_probabilities])
    }),
];

/// The loss of log-probabilities `[N, C, …]` for targets `[N, …]`.
fn loss(node: &NodeView, b: &mut Build, x: Value) -> Result<Value, ImportError> {
    let target = node.input(1)?;
    let dtype = b.ty(x).dtype;
    let shape = b.ty(target).shape.clone();
    if shape.is_empty() || b.ty(x).rank() != shape.len() + 1 {
        let (expected, found) = (shape.len() + 1, b.ty(x).rank());
        return Err(OpError::Rank { operand: "input", expected, found }.into());
    }
    let mut column = shape.clone();
    column.insert(1, Dim::constant(1));
    let classes = reshape(b, target, column)?;
    let chosen = b.op_with(&GATHER_ELEMENTS, &[x, classes], [gather_elements::AXIS.is(1)])?;
    let chosen = reshape(b, chosen, shape.clone())?;
    let mut losses = b.op(&NEG, &[chosen])?;

    let mut weights = match node.optional_input(2) {
        Some(weights) => Some(b.op(&GATHER, &[weights, target])?),
        None => None,
    };
    if let Some(weights) = weights {
        losses = b.op(&MUL, &[losses, weights])?;
    }
    if let Some(ignored) = node.int("ignore_index")? {
        let integer = b.ty(target).dtype;
        let ignored = b.constant(&Tensor::scalar(Scalar::from_i64(integer, ignored)));
        let ignored = b.op(&EQ, &[target, ignored])?;
        let (zero, one) = (b.scalar(dtype, 0.0), b.scalar(dtype, 1.0));
        losses = b.op(&WHERE, &[ignored, zero, losses])?;
        weights = Some(b.op(&WHERE, &[ignored, zero, weights.unwrap_or(one)])?);
    }
    let axes: Vec<i64> = (0..shape.len() as i64).collect();
    match node.str_or("reduction", "mean")? {
        "none" => Ok(losses),
        "sum" => Ok(reduce(b, &REDUCE_SUM, losses, &axes, false)?),
        "mean" => {
            let Some(weights) = weights else {
                return Ok(reduce(b, &REDUCE_MEAN, losses, &axes, false)?);
            };
            let sum = reduce(b, &REDUCE_SUM, losses, &axes, false)?;
            let count = reduce(b, &REDUCE_SUM, weights, &axes, false)?;
            Ok(b.op(&DIV, &[sum, count])?)
        }
        other => Err(ImportError::value("reduction", other, "none, sum and mean")),
    }
}
