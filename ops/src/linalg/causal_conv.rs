//! A convolution along time that sees the present and the past of one channel at a time; what comes before the first
//! element is a state, and the last elements are the next one.
//!
//! Source: ONNX CausalConvWithState, opset 27.

use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use super::conv::{CONV, GROUPS, add_bias};
use crate::math::silu::SILU;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::concat::{self, CONCAT};
use crate::shape::pad::{self, PAD};
use crate::shape::slice::slice_axis;
use crate::window::{DILATIONS, HIGH, LOW, STRIDES};

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("CausalConvWithState", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, w) = (node.input(0)?, node.input(1)?);
    let (ty, kernel) = (b.ty(x).clone(), b.ty(w).clone());
    for (operand, found) in [("input", ty.rank()), ("weight", kernel.rank())] {
        if found != 3 {
            return Err(OpError::Rank { operand, expected: 3, found }.into());
        }
    }
    let groups = kernel.shape[0].as_const().ok_or_else(|| ImportError::Unsupported {
        what: format!("a convolution of {} channels", kernel.shape[0]),
        help: "fix the number of channels with --dim".to_owned(),
    })?;
    let before = kernel.shape[2].clone() - Dim::constant(1);
    let padded = match node.optional_input(3) {
        Some(state) => b.op_with(&CONCAT, &[state, x], [concat::AXIS.is(2)])?,
        None => {
            let zero = b.scalar(ty.dtype, 0.0);
            let low = vec![Dim::constant(0), Dim::constant(0), before.clone()];
            b.op_with(&PAD, &[x, zero], [pad::LOW.is(low), pad::HIGH.is(vec![Dim::constant(0); 3])])?
        }
    };
    let attrs = [
        STRIDES.is(vec![1]),
        DILATIONS.is(vec![1]),
        LOW.is(vec![Dim::constant(0)]),
        HIGH.is(vec![Dim::constant(0)]),
        GROUPS.is(groups),
    ];
    let mut y = b.op_with(&CONV, &[padded, w], attrs)?;
    if let Some(bias) = node.optional_input(2) {
        y = add_bias(b, y, bias)?;
    }
    y = match node.str_or("activation", "none")? {
        "none" => y,
        "silu" | "swish" => b.op(&SILU, &[y])?,
        other => return Err(ImportError::value("activation", other, "none, silu and swish")),
    };
    let state = slice_axis(b, padded, 2, b.ty(padded).shape[2].clone() - before.clone(), before)?;
    Ok(vec![y, state])
}
