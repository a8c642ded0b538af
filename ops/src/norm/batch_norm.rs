//! `batch_norm(x, scale, bias, mean, variance) = (x − mean) / √(variance + epsilon) · scale + bias`, per
//! channel.
//!
//! Shapes: `x: [N, C, …]`, the others `[C]`; the result has the type of `x`; 16-bit floats are computed in
//! `f32`. Errors: those of the ops that it stands for. Source: Ioffe, Szegedy 2015, at inference; ONNX
//! BatchNormalization, opset 15.

use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{Dim, OpDef};

use crate::composite::{Composite, in_arithmetic};
use crate::linalg::conv::along_channels;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::mul::MUL;
use crate::math::sqrt::SQRT;
use crate::math::sub::SUB;
use crate::norm::{EPSILON, EPSILON_SPEC};
use crate::onnx::export::{Emit, ToOnnx, fit, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_mean::REDUCE_MEAN;
use crate::shape::reshape::reshape;

/// Normalised by known moments.
pub static BATCH_NORM: OpDef =
    OpDef::new("batch_norm", &["x", "scale", "bias", "mean", "variance"], &Composite(expand))
        .attrs(&[EPSILON_SPEC]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("BatchNormalization", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

/// As `x · f + (bias − mean · f)` with `f = scale/√(variance + epsilon)`: two steps for each element, and the
/// rest is constant where the parameters are.
fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    in_arithmetic(b, x, |b, x| {
        let ty = b.ty(x[0]).clone();
        let [scale, bias, mean, variance] = [x[1], x[2], x[3], x[4]];
        let wide = b.ty(variance).dtype;
        let epsilon = b.scalar(wide, attrs.get(EPSILON));
        let sum = b.op(&ADD, &[variance, epsilon])?;
        let deviation = b.op(&SQRT, &[sum])?;
        let scale = convert(b, scale, wide)?;
        let factor = b.op(&DIV, &[scale, deviation])?;
        let mean = convert(b, mean, wide)?;
        let shift = b.op(&MUL, &[mean, factor])?;
        let bias = convert(b, bias, wide)?;
        let shift = b.op(&SUB, &[bias, shift])?;
        let (factor, shift) = (convert(b, factor, ty.dtype)?, convert(b, shift, ty.dtype)?);
        let (factor, shift) = (along_channels(b, factor, ty.rank())?, along_channels(b, shift, ty.rank())?);
        let scaled = b.op(&MUL, &[x[0], factor])?;
        b.op(&ADD, &[scaled, shift])
    })
}

/// By the moments of the batch, with which the known ones are mixed: the result, the mixed mean and variance.
fn by_the_batch(
    b: &mut Build,
    operands: &[Value],
    epsilon: f64,
    momentum: f64,
) -> Result<Vec<Value>, OpError> {
    let (x, known) = (operands[0], [operands[3], operands[4]]);
    let ty = b.ty(x).clone();
    if ty.rank() < 2 {
        return Err(OpError::RankAtLeast { operand: "X", least: 2, found: ty.rank() });
    }
    let wide = b.ty(known[0]).dtype.arithmetic();
    let axes: Vec<i64> = (0..ty.rank() as i64).filter(|&axis| axis != 1).collect();
    let sample = convert(b, x, wide)?;
    let mean = reduce(b, &REDUCE_MEAN, sample, &axes, false)?;
    let centre = along_channels(b, mean, ty.rank())?;
    let distance = b.op(&SUB, &[sample, centre])?;
    let square = b.op(&MUL, &[distance, distance])?;
    let variance = reduce(b, &REDUCE_MEAN, square, &axes, false)?;
    let operands = [x, operands[1], operands[2], mean, variance];
    let mut results = vec![b.op_with(&BATCH_NORM, &operands, [EPSILON.is(epsilon)])?];
    let (old, new) = (b.scalar(wide, momentum), b.scalar(wide, 1.0 - momentum));
    for (known, moment) in known.into_iter().zip([mean, variance]) {
        let dtype = b.ty(known).dtype;
        let known = convert(b, known, wide)?;
        let (kept, added) = (b.op(&MUL, &[known, old])?, b.op(&MUL, &[moment, new])?);
        let running = b.op(&ADD, &[kept, added])?;
        results.push(convert(b, running, dtype)?);
    }
    Ok(results)
}

/// Before opset 9, `spatial` could be unset: then each place of the image is a channel of its own.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mut operands: Vec<Value> = (0..5).map(|index| node.input(index)).collect::<Result<_, _>>()?;
    let x = b.ty(operands[0]).clone();
    let spatial = node.opset >= 9 || node.flag("spatial", true)?;
    if !spatial {
        let Some((batch, image)) = x.shape.split_first() else {
            return Err(OpError::RankAtLeast { operand: "X", least: 2, found: 0 }.into());
        };
        let places: Dim = image.iter().cloned().product();
        operands[0] = reshape(b, operands[0], vec![batch.clone(), places.clone()])?;
        for operand in &mut operands[1..] {
            *operand = reshape(b, *operand, vec![places.clone()])?;
        }
    }
    let momentum = node.float_or("momentum", 0.9)?;
    let epsilon = node.float_or("epsilon", 1e-5)?;
    let mut results = if is_training(node)? {
        by_the_batch(b, &operands, epsilon, momentum)?
    } else {
        vec![b.op_with(&BATCH_NORM, &operands, [EPSILON.is(epsilon)])?]
    };
    if !spatial {
        for (i, result) in results.iter_mut().enumerate() {
            let shape = if i == 0 { &x.shape[..] } else { &x.shape[1..] };
            *result = reshape(b, *result, shape.to_vec())?;
        }
    }
    Ok(results)
}

/// Opset 14 says it by an attribute, as did those before 7; between, more than one output says it.
fn is_training(node: &NodeView) -> Result<bool, ImportError> {
    Ok(match node.opset {
        ..7 => !node.flag("is_test", false)?,
        7..14 => (1..node.output_count()).any(|index| node.output_used(index)),
        _ => node.flag("training_mode", false)?,
    })
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let epsilon = e.attrs.get(EPSILON);
    let floats = (0..5).all(|index| e.ty(index).dtype.is_float()) && fit(e.ty(0).dtype, &[epsilon]);
    floats.then(|| e.same_with("BatchNormalization", vec![("epsilon", NodeAttr::Float(epsilon))]))
}
