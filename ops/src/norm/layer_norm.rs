//! `layer_norm(x) = (x − μ) / √(σ² + epsilon)`, `μ` and `σ²` the mean and the variance along `axes`.
//!
//! Shapes: any float type; the result has the type of `x`; 16-bit floats are computed in `f32`. Errors: those
//! of the ops that it stands for. Source: Ba, Kiros, Hinton 2016; ONNX LayerNormalization, opset 17, of which
//! scale and bias are products and sums of their own.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpError, normalize_axis};

use crate::composite::{Composite, in_arithmetic};
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::mul::MUL;
use crate::math::reciprocal::RECIPROCAL;
use crate::math::sqrt::SQRT;
use crate::math::sub::SUB;
use crate::norm::{AXES, EPSILON, EPSILON_SPEC};
use crate::onnx::export::{Attributes, Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_mean::REDUCE_MEAN;
use ir::{DType, Dim, TensorType};

/// Mean 0 and variance 1 along axes.
pub static LAYER_NORM: OpDef =
    OpDef::new("layer_norm", &["x"], &Composite(expand)).attrs(&[AXES.spec(), EPSILON_SPEC]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] =
    &[by("LayerNormalization", import), by("SkipLayerNormalization", import_skip).in_domain("com.microsoft")];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Nodes(alone));

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let (axes, epsilon) = (attrs.get(AXES), attrs.get(EPSILON));
    in_arithmetic(b, x, |b, x| {
        let (_, centred, scale) = moments(b, x[0], &axes, epsilon)?;
        b.op(&MUL, &[centred, scale])
    })
}

/// `μ`, `x − μ` and `1/√(σ² + epsilon)`.
fn moments(b: &mut Build, x: Value, axes: &[i64], epsilon: f64) -> Result<(Value, Value, Value), OpError> {
    let mean = reduce(b, &REDUCE_MEAN, x, axes, true)?;
    let centred = b.op(&SUB, &[x, mean])?;
    let squares = b.op(&MUL, &[centred, centred])?;
    let variance = reduce(b, &REDUCE_MEAN, squares, axes, true)?;
    let epsilon = b.scalar(b.ty(x).dtype, epsilon);
    let sum = b.op(&ADD, &[variance, epsilon])?;
    let deviation = b.op(&SQRT, &[sum])?;
    let scale = b.op(&RECIPROCAL, &[deviation])?;
    Ok((mean, centred, scale))
}

/// All axes from `axis` of a rank on.
pub(crate) fn axes_from(axis: i64, rank: usize) -> Result<Vec<i64>, OpError> {
    let first = normalize_axis(axis, rank)?;
    Ok((first as i64..rank as i64).collect())
}

/// The mean and the inverse deviation are outputs, too. `stash_type` is the type that they are computed in:
/// `f32` or better here.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["stash_type"]);
    let x = node.input(0)?;
    let axes = axes_from(node.int_or("axis", -1)?, b.ty(x).rank())?;
    let epsilon = node.float_or("epsilon", 1e-5)?;
    scaled(node, b, x, &axes, epsilon, [node.optional_input(1), node.optional_input(2)])
}

/// The normalisation times a scale and with a bias, if there are some; the mean and the inverse deviation, if they are
/// outputs.
fn scaled(
    node: &NodeView,
    b: &mut Build,
    x: Value,
    axes: &[i64],
    epsilon: f64,
    [scale, bias]: [Option<Value>; 2],
) -> Result<Vec<Value>, ImportError> {
    let mut y = b.op_with(&LAYER_NORM, &[x], [AXES.is(axes.to_vec()), EPSILON.is(epsilon)])?;
    if let Some(scale) = scale {
        y = b.op(&MUL, &[y, scale])?;
    }
    if let Some(bias) = bias {
        y = b.op(&ADD, &[y, bias])?;
    }
    let mut results = vec![y];
    if node.output_used(1) || node.output_used(2) {
        let wide = b.ty(x).dtype.arithmetic();
        let wide = convert(b, x, wide)?;
        let (mean, _, scale) = moments(b, wide, axes, epsilon)?;
        results.extend([mean, scale]);
    }
    Ok(results)
}

/// onnxruntime's: of a sum, which is the last output.
fn import_skip(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let sum = skip_sum(node, b, 4)?;
    let epsilon = node.float_or("epsilon", SKIP_EPSILON)?;
    let parts = [Some(node.input(2)?), node.optional_input(3)];
    let mut results = scaled(node, b, sum, &[-1], epsilon, parts)?;
    results.resize(4, sum);
    Ok(results)
}

/// The epsilon of onnxruntime's normalisations of sums, without the attribute.
pub(crate) const SKIP_EPSILON: f64 = 1e-12;

/// The sum that onnxruntime's normalisations of sums take: of the first two inputs, and of input `bias`.
///
/// # Errors
/// What they say of their types.
pub(crate) fn skip_sum(node: &NodeView, b: &mut Build, bias: usize) -> Result<Value, ImportError> {
    let mut sum = b.op(&ADD, &[node.input(0)?, node.input(1)?])?;
    if let Some(bias) = node.optional_input(bias) {
        sum = b.op(&ADD, &[sum, bias])?;
    }
    Ok(sum)
}

/// In ONNX with a scale, and maybe a bias, if these come next.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let (how, parts) = normalised(e)?;
    let dtype = e.ty(0).dtype;
    let is_part = |found: &(Value, TensorType)| found.1.shape == parts && found.1.dtype == dtype;
    let scale = e.absorb(&MUL).filter(is_part);
    let Some((scale, _)) = scale else {
        e.give_back();
        return None;
    };
    let mut inputs = vec![e.x(0), e.other(scale)];
    if let Some((bias, ty)) = e.absorb(&ADD) {
        match ty.shape == parts {
            true => inputs.push(e.other(bias)),
            false => e.give_back_last(),
        }
    }
    Some(vec![e.node_with("LayerNormalization", &inputs, how)])
}

/// Alone, with ones for the scale.
fn alone(e: &mut Emit) -> Option<Vec<String>> {
    let (how, parts) = normalised(e)?;
    let (one, shape) = (e.number(e.ty(0).dtype, 1.0), e.sizes(&parts));
    let scale = e.node("Expand", &[one, shape]);
    Some(vec![e.node_with("LayerNormalization", &[e.x(0), scale], how)])
}

/// The attributes in ONNX and the sizes of what is normalised, where that is the last axes, in a type that is summed as we
/// do.
fn normalised(e: &Emit) -> Option<(Attributes, Vec<Dim>)> {
    let (x, epsilon) = (e.ty(0), e.attrs.get(EPSILON));
    let rank = x.rank();
    let mut axes: Vec<usize> =
        e.attrs.get(AXES).iter().map(|&axis| normalize_axis(axis, rank).ok()).collect::<Option<_>>()?;
    axes.sort_unstable();
    let first = rank - axes.len();
    let fits =
        !axes.is_empty() && axes.into_iter().eq(first..rank) && x.dtype.is_float() && x.dtype != DType::F64;
    let how = vec![("axis", NodeAttr::Int(first as i64)), ("epsilon", NodeAttr::Float(epsilon))];
    fits.then(|| (how, x.shape[first..].to_vec()))
}
