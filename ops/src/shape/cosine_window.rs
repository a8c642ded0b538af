//! Windows that are sums of cosines: `y[i] = Σ_k a_k·cos(2πki/N)`, with `N` the size, or one less if it is symmetric.
//!
//! Source: ONNX HannWindow, HammingWindow, BlackmanWindow, opset 17.

use std::f64::consts::TAU;

use ir::DType;
use ir::Dim;
use ir::build::Build;
use ir::graph::Value;

use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::cos::COS;
use crate::math::div::DIV;
use crate::math::mul::MUL;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::iota::iota;
use crate::shape::size::size;

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("HannWindow", |node, b| import(node, b, &[0.5, -0.5])),
    by("HammingWindow", |node, b| import(node, b, &[25.0 / 46.0, -21.0 / 46.0])),
    by("BlackmanWindow", |node, b| import(node, b, &[0.42, -0.5, 0.08])),
];

fn import(node: &NodeView, b: &mut Build, factors: &[f64]) -> Result<Vec<Value>, ImportError> {
    let sizes = node.sizes(b, 0, "size")?;
    let length =
        sizes.and_then(|sizes| sizes.first().cloned()).ok_or(ImportError::MissingInput { index: 0 })?;
    let result = node.dtype("output_datatype")?.unwrap_or(DType::F32);
    let dtype = if result == DType::F64 { DType::F64 } else { DType::F32 };
    let turns = if node.flag("periodic", true)? { length.clone() } else { length.clone() - Dim::constant(1) };
    // A window of one element has nowhere to go.
    let turns = size(b, dtype, &Dim::larger(&turns, &Dim::constant(1)))?;
    let i = iota(b, length, dtype)?;
    let mut y = b.scalar(dtype, factors[0]);
    for (k, &factor) in factors.iter().enumerate().skip(1) {
        let (speed, factor) = (b.scalar(dtype, TAU * k as f64), b.scalar(dtype, factor));
        let angle = b.op(&MUL, &[i, speed])?;
        let angle = b.op(&DIV, &[angle, turns])?;
        let wave = b.op(&COS, &[angle])?;
        let wave = b.op(&MUL, &[wave, factor])?;
        y = b.op(&ADD, &[y, wave])?;
    }
    Ok(vec![convert(b, y, result)?])
}
