//! ONNX QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear: numbers as integers times a scale.
//!
//! `quantize(x) = saturate(round(x / scale) + zero)`, `dequantize(q) = (q − zero) · scale`. Scale and zero are one for
//! the tensor, one for each index of `axis`, or one for each block of `block_size` indices of it. Integers have 2, 4, 8 or
//! 16 bits, and dequantized ones may have 32; floats have 4 or 8, and are rounded once, as they are made. Source: ONNX
//! QuantizeLinear and DequantizeLinear, opset 25; DynamicQuantizeLinear, opset 11.

use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Reduce;
use ir::op::{OpError, normalize_axis};
use ir::{DType, Dim};

use crate::math::add::ADD;
use crate::math::cast::{convert, saturating};
use crate::math::clip::CLIP;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::max::MAX;
use crate::math::min::MIN;
use crate::math::mul::MUL;
use crate::math::neg::NEG;
use crate::math::round::ROUND;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::reduce::reduce_min::REDUCE_MIN;
use crate::shape::broadcast::broadcast;
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;

/// The ONNX ops.
pub static ONNX: &[Import] = &[
    by("QuantizeLinear", import_quantize),
    by("DequantizeLinear", import_dequantize),
    by("DynamicQuantizeLinear", |node, b| Ok(dynamically(b, node.input(0)?)?.into())),
    by("QuantizeLinear", import_quantize).in_domain("com.microsoft"),
    by("DequantizeLinear", import_dequantize).in_domain("com.microsoft"),
];

fn import_quantize(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let saturate = node.flag("saturate", true)?;
    let (x, scale) = (node.input(0)?, node.input(1)?);
    let scale = spread(node, b, scale)?;
    let (zero, given) = (node.optional_input(2), node.dtype("output_dtype")?);
    let to = zero.map(|zero| b.ty(zero).dtype).or(given).unwrap_or(DType::U8);
    let zero = zero.map(|zero| spread(node, b, zero)).transpose()?;
    let precision = node.dtype("precision")?.unwrap_or(b.ty(scale).dtype);
    let wide = if precision == DType::F64 { DType::F64 } else { DType::F32 };
    let (x, scale) = (convert(b, x, wide)?, convert(b, scale, wide)?);
    let scaled = b.op(&DIV, &[x, scale])?;
    // A power of two alone is no quantized number.
    if to.is_int() || !to.is_narrow() || to == DType::F8E8M0 {
        return Ok(vec![saturated(b, scaled, zero, to)?]);
    }
    let moved = match zero {
        Some(zero) => {
            let zero = convert(b, zero, wide)?;
            b.op(&ADD, &[scaled, zero])?
        }
        None => scaled,
    };
    Ok(vec![if saturate { saturating(b, moved, to)? } else { convert(b, moved, to)? }])
}

fn import_dequantize(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, scale) = (node.input(0)?, node.input(1)?);
    let to = node.dtype("output_dtype")?.unwrap_or(b.ty(scale).dtype);
    let zero = node.optional_input(2).map(|zero| spread(node, b, zero)).transpose()?;
    let scale = spread(node, b, scale)?;
    let y = dequantized(b, x, zero, scale, to.arithmetic())?;
    Ok(vec![convert(b, y, to)?])
}

/// `(x − zero) · scale` in type `wide`, where zero and scale broadcast to `x`.
///
/// # Errors
/// [`OpError::Size`] if they do not.
pub(crate) fn dequantized(
    b: &mut Build,
    x: Value,
    zero: Option<Value>,
    scale: Value,
    wide: DType,
) -> Result<Value, OpError> {
    let has_floats = [Some(x), zero].into_iter().flatten().any(|value| b.ty(value).dtype.is_float());
    let whole = centred(b, x, zero, if has_floats { wide } else { DType::I32 })?;
    let (whole, scale) = (convert(b, whole, wide)?, convert(b, scale, wide)?);
    b.op(&MUL, &[whole, scale])
}

/// `x` as bytes, their scale and their zero: the range of `x`, with 0 in it, becomes that of a byte.
///
/// # Errors
/// What the ops say of anything but floats.
pub(crate) fn dynamically(b: &mut Build, x: Value) -> Result<[Value; 3], ImportError> {
    let axes: Vec<i64> = (0..b.ty(x).rank() as i64).collect();
    let dtype = b.ty(x).dtype;
    let [nothing, one, steps] = [0.0, 1.0, 255.0].map(|value| b.scalar(dtype, value));
    let (high, low) = (reduce(b, &REDUCE_MAX, x, &axes, false)?, reduce(b, &REDUCE_MIN, x, &axes, false)?);
    let (high, low) = (b.op(&MAX, &[high, nothing])?, b.op(&MIN, &[low, nothing])?);
    let range = b.op(&SUB, &[high, low])?;
    let is_point = b.op(&EQ, &[range, nothing])?;
    let range = b.op(&WHERE, &[is_point, one, range])?;
    let scale = b.op(&DIV, &[range, steps])?;
    let zero = b.op(&DIV, &[low, scale])?;
    let zero = b.op(&NEG, &[zero])?;
    let zero = saturated(b, zero, None, DType::U8)?;
    let scaled = b.op(&DIV, &[x, scale])?;
    Ok([saturated(b, scaled, Some(zero), DType::U8)?, scale, zero])
}

/// `saturate(round(x) + zero)` as a `to`.
pub(crate) fn saturated(
    b: &mut Build,
    x: Value,
    zero: Option<Value>,
    to: DType,
) -> Result<Value, ImportError> {
    if !to.is_int() || to.bits() > 16 {
        return Err(ImportError::Unsupported {
            what: format!("quantization to {to}"),
            help: "export the model with integers of at most 16 bits, or floats of 8 or 4".to_owned(),
        });
    }
    let dtype = b.ty(x).dtype;
    let mut y = b.op(&ROUND, &[x])?;
    if let Some(zero) = zero {
        let zero = convert(b, zero, dtype)?;
        y = b.op(&ADD, &[y, zero])?;
    }
    let [least, most] = [Reduce::Max, Reduce::Min].map(|op| op.neutral(to).to_f64());
    let (least, most) = (b.scalar(dtype, least), b.scalar(dtype, most));
    let inside = b.op(&CLIP, &[y, least, most])?;
    Ok(convert(b, inside, to)?)
}

/// `x − zero` in type `wide`.
pub(crate) fn centred(b: &mut Build, x: Value, zero: Option<Value>, wide: DType) -> Result<Value, OpError> {
    let x = convert(b, x, wide)?;
    match zero {
        None => Ok(x),
        Some(zero) => {
            let zero = convert(b, zero, wide)?;
            b.op(&SUB, &[x, zero])
        }
    }
}

/// A scale or a zero such that it broadcasts to the first input.
fn spread(node: &NodeView, b: &mut Build, value: Value) -> Result<Value, ImportError> {
    let (shape, given) = (node.ty(b, 0)?.shape, b.ty(value).shape.clone());
    let (axis, block) = (node.int_or("axis", 1)?, node.int_or("block_size", 0)?);
    if given.iter().all(|size| size.is(1)) {
        return Ok(reshape(b, value, vec![])?);
    }
    let axis = normalize_axis(axis, shape.len())?;
    if block == 0 {
        return Ok(along_axis(b, value, axis, shape.len())?);
    }
    Ok(along_blocks(b, value, &shape, axis, block)?)
}

/// One value for each block of `block` indices of `axis`, for tensors of this shape. The last block may be cut.
///
/// # Errors
/// [`OpError::Rank`] if it has another number of axes; [`OpError::Attribute`] for blocks of nothing.
pub(crate) fn along_blocks(
    b: &mut Build,
    value: Value,
    shape: &[Dim],
    axis: usize,
    block: i64,
) -> Result<Value, OpError> {
    let given = b.ty(value).shape.clone();
    if given.len() != shape.len() {
        return Err(OpError::Rank { operand: "scale", expected: shape.len(), found: given.len() });
    }
    if block < 1 {
        return Err(OpError::Attribute { key: "block_size", why: "it must be 1 or more" });
    }
    let block = Dim::constant(block);
    let split = |size: Dim| [&given[..=axis], &[size], &given[axis + 1..]].concat();
    let column = reshape(b, value, split(Dim::constant(1)))?;
    let wide = broadcast(b, column, split(block.clone()))?;
    let mut whole = given.clone();
    whole[axis] = given[axis].clone() * block;
    let whole = reshape(b, wide, whole)?;
    slice_axis(b, whole, axis, Dim::constant(0), shape[axis].clone())
}

/// One value, or one for each index of `axis`, in a shape that broadcasts to tensors of this rank.
pub(crate) fn along_axis(b: &mut Build, value: Value, axis: usize, rank: usize) -> Result<Value, OpError> {
    let elements = b.ty(value).elements();
    if elements.is(1) {
        return reshape(b, value, vec![]);
    }
    let mut shape = vec![Dim::constant(1); rank];
    shape[axis] = elements;
    reshape(b, value, shape)
}
