//! Weights that gather the frequencies of a spectrum into bands that are evenly apart to the ear.
//!
//! Band edges lie evenly on the mel scale, `mel(f) = 2595·log₁₀(1 + f/700)`; edge `e` is the frequency `⌊(N + 1)·f_e/rate⌋` of
//! a transform of length `N`. Weights of band `i` rise from 0 at edge `i` to 1 at edge `i + 1` and fall to 0 at edge
//! `i + 2`. They are computed in `f64`. Source: ONNX MelWeightMatrix, opset 17.

use std::f64::consts::LN_10;

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::exp::EXP;
use crate::math::floor::FLOOR;
use crate::math::ge::GE;
use crate::math::le::LE;
use crate::math::log::LOG;
use crate::math::lt::LT;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::size::size;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("MelWeightMatrix", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mut count = |index: usize, input: &'static str| -> Result<Dim, ImportError> {
        let sizes = node.sizes(b, index, input)?;
        sizes.and_then(|sizes| sizes.first().cloned()).ok_or(ImportError::MissingInput { index })
    };
    let (bands, length) = (count(0, "num_mel_bins")?, count(1, "dft_length")?);
    let wide = DType::F64;
    let mut number = |index: usize| -> Result<Value, ImportError> {
        let value = convert(b, node.input(index)?, wide)?;
        Ok(reshape(b, value, vec![])?)
    };
    let (rate, low, high) = (number(2)?, number(3)?, number(4)?);
    let [scale, width, one] = [2595.0 / LN_10, 700.0, 1.0].map(|value| b.scalar(wide, value));
    let mel = |b: &mut Build, frequency: Value| -> Result<Value, OpError> {
        let part = b.op(&DIV, &[frequency, width])?;
        let part = b.op(&ADD, &[part, one])?;
        let log = b.op(&LOG, &[part])?;
        b.op(&MUL, &[log, scale])
    };
    let (low, high) = (mel(b, low)?, mel(b, high)?);
    let parts = size(b, wide, &(bands.clone() + Dim::constant(2)))?;
    let range = b.op(&SUB, &[high, low])?;
    let step = b.op(&DIV, &[range, parts])?;
    let points = size(b, wide, &(length.clone() + Dim::constant(1)))?;
    let band = iota(b, bands.clone(), wide)?;
    // The frequency at edge `i + more` of band `i`.
    let edge = |b: &mut Build, more: f64| -> Result<Value, OpError> {
        let more = b.scalar(wide, more);
        let at = b.op(&ADD, &[band, more])?;
        let at = b.op(&MUL, &[at, step])?;
        let at = b.op(&ADD, &[at, low])?;
        let at = b.op(&DIV, &[at, scale])?;
        let at = b.op(&EXP, &[at])?;
        let at = b.op(&SUB, &[at, one])?;
        let at = b.op(&MUL, &[at, width])?;
        let at = b.op(&MUL, &[at, points])?;
        let at = b.op(&DIV, &[at, rate])?;
        b.op(&FLOOR, &[at])
    };
    let edges = [edge(b, 0.0)?, edge(b, 1.0)?, edge(b, 2.0)?];
    let rows = length.floor_div(&Dim::constant(2)) + Dim::constant(1);
    let frequency = iota(b, rows.clone(), wide)?;
    let frequency = reshape(b, frequency, vec![rows, Dim::constant(1)])?;
    let weights = weights(b, frequency, edges)?;
    let result = node.dtype("output_datatype")?.unwrap_or(DType::F32);
    Ok(vec![convert(b, weights, result)?])
}

/// Of each frequency, `[F, 1]`, for bands between edges `[B]`: the falling side counts where both meet, and a side without
/// width is 1 at its end.
fn weights(b: &mut Build, at: Value, [low, centre, high]: [Value; 3]) -> Result<Value, OpError> {
    let [zero, one] = [0.0, 1.0].map(|value| b.scalar(DType::F64, value));
    let side = |b: &mut Build, from: Value, to: Value| b.op(&SUB, &[to, from]);
    let (rise, fall) = (side(b, low, centre)?, side(b, centre, high)?);
    let (risen, left) = (side(b, low, at)?, side(b, at, high)?);
    let (begun, ended) = (b.op(&GE, &[at, low])?, b.op(&LE, &[at, centre])?);
    let rises = b.op(&AND, &[begun, ended])?;
    let (up, down) = (b.op(&DIV, &[risen, rise])?, b.op(&DIV, &[left, fall])?);
    let is_steep = b.op(&EQ, &[rise, zero])?;
    let up = b.op(&WHERE, &[is_steep, one, up])?;
    let y = b.op(&WHERE, &[rises, up, zero])?;
    // Without width, there is nothing between the ends.
    let (begun, ended) = (b.op(&GE, &[at, centre])?, b.op(&LT, &[at, high])?);
    let falls = b.op(&AND, &[begun, ended])?;
    b.op(&WHERE, &[falls, down, y])
}
