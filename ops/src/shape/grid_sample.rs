//! ONNX GridSample: elements of an image at positions that are data.
//!
//! A position goes from −1 to 1 over the image, last axis first. Around it, the nearest element is taken, or 2 or 4
//! along each axis are weighted; the result is the sum over all their combinations. Outside of the image there are
//! zeros, the elements at its border, or its mirror image. Source: ONNX GridSample, opset 22; onnxruntime, contrib operators, GridSample;
//! Keys 1981.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::floor::FLOOR;
use crate::math::max::MAX;
use crate::math::mul::MUL;
use crate::math::round::ROUND;
use crate::math::sub::SUB;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::concat::{self, CONCAT};
use crate::shape::gather_nd::{BATCH_DIMS, GATHER_ND};
use crate::shape::sampling::{Axis, Outside, Tap, combinations};
use crate::shape::size::size;
use crate::shape::slice::slice_axis;
use crate::shape::transpose::transpose;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("GridSample", import), by("GridSample", import).in_domain("com.microsoft")];

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mode = match node.str_or("mode", if node.opset < 20 { "bilinear" } else { "linear" })? {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" | "bicubic" => Mode::Cubic,
        other => return Err(ImportError::value("mode", other, "nearest, linear and cubic")),
    };
    let outside = match node.str_or("padding_mode", "zeros")? {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Mirrored,
        other => return Err(ImportError::value("padding_mode", other, "zeros, border and reflection")),
    };
    let corners = node.flag("align_corners", false)?;
    let (x, grid) = (node.input(0)?, node.input(1)?);
    let (ty, grid_shape) = (b.ty(x).clone(), b.ty(grid).shape.clone());
    let axes = ty.rank().saturating_sub(2);
    if axes == 0 || grid_shape.len() != ty.rank() || !grid_shape[ty.rank() - 1].is(axes as i64) {
        let (expected, found) = (ty.rank(), grid_shape.len());
        return Err(OpError::Rank { operand: "grid", expected, found }.into());
    }
    let wide = if ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let grid = convert(b, grid, wide)?;
    let mut taps: Vec<Vec<Tap>> = Vec::new();
    for axis in 0..axes {
        let position = slice_axis(b, grid, axes + 1, Dim::from(axes - 1 - axis), Dim::constant(1))?;
        taps.push(taps_along(b, position, &ty.shape[axis + 2], mode, outside, corners)?);
    }
    // Channels last: a row of indices takes all of them at once.
    let rank = ty.rank() as i64;
    let last: Vec<i64> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let image = transpose(b, x, last)?;
    let image = if mode == Mode::Nearest { image } else { convert(b, image, wide)? };
    let mut sum: Option<Value> = None;
    for combination in combinations(&taps) {
        let indices: Vec<Value> = combination.iter().map(|tap| tap.index).collect();
        let rows = b.op_with(&CONCAT, &indices, [concat::AXIS.is(-1)])?;
        let mut taken = b.op_with(&GATHER_ND, &[image, rows], [BATCH_DIMS.is(1)])?;
        for weight in combination.iter().filter_map(|tap| tap.weight) {
            let weight = convert(b, weight, b.ty(taken).dtype)?;
            taken = b.op(&MUL, &[taken, weight])?;
        }
        sum = Some(match sum {
            None => taken,
            Some(sum) => b.op(&ADD, &[sum, taken])?,
        });
    }
    let y = sum.expect("there is at least one tap for each axis");
    let first: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let y = transpose(b, y, first)?;
    Ok(vec![convert(b, y, ty.dtype)?])
}

fn taps_along(
    b: &mut Build,
    position: Value,
    length: &Dim,
    mode: Mode,
    outside: Outside,
    corners: bool,
) -> Result<Vec<Tap>, OpError> {
    let dtype = b.ty(position).dtype;
    let [one, half, zero] = [1.0, 0.5, 0.0].map(|value| b.scalar(dtype, value));
    let length = size(b, dtype, length)?;
    let last = b.op(&SUB, &[length, one])?;
    let from_start = b.op(&ADD, &[position, one])?;
    let (mut x, border) = if corners {
        let scaled = b.op(&MUL, &[from_start, last])?;
        // An axis of one element has no width to be mirrored in.
        (b.op(&MUL, &[scaled, half])?, (zero, b.op(&MAX, &[last, one])?))
    } else {
        let scaled = b.op(&MUL, &[from_start, length])?;
        let scaled = b.op(&SUB, &[scaled, one])?;
        (b.op(&MUL, &[scaled, half])?, (b.scalar(dtype, -0.5), length))
    };
    if mode == Mode::Nearest {
        x = b.op(&ROUND, &[x])?;
    }
    let axis = Axis { last, border, outside };
    x = axis.fold_back(b, x)?;
    if mode == Mode::Nearest {
        return Ok(vec![axis.tap(b, x, None)?]);
    }
    if mode == Mode::Linear {
        return axis.linear(b, x);
    }
    let left = b.op(&FLOOR, &[x])?;
    let ratio = b.op(&SUB, &[x, left])?;
    let mut taps = Vec::new();
    for (place, weight) in cubic(b, ratio)?.into_iter().enumerate() {
        let offset = b.scalar(dtype, place as f64 - 1.0);
        let index = b.op(&ADD, &[left, offset])?;
        taps.push(axis.tap(b, index, Some(weight))?);
    }
    Ok(taps)
}

/// The weights of the elements at −1, 0, 1 and 2 around a position between 0 and 1.
fn cubic(b: &mut Build, ratio: Value) -> Result<Vec<Value>, OpError> {
    const A: f64 = -0.75;
    let dtype = b.ty(ratio).dtype;
    // Of the distance, by Horner's scheme: below 1, and from 1 to 2.
    let (near, far) = ([A + 2.0, -(A + 3.0), 0.0, 1.0], [A, -5.0 * A, 8.0 * A, -4.0 * A]);
    let polynomial = |b: &mut Build, d: Value, factors: [f64; 4]| {
        let [first, rest @ ..] = factors.map(|factor| b.scalar(dtype, factor));
        rest.into_iter().try_fold(first, |sum, factor| {
            let sum = b.op(&MUL, &[sum, d])?;
            b.op(&ADD, &[sum, factor])
        })
    };
    let [one, two] = [1.0, 2.0].map(|value| b.scalar(dtype, value));
    let distances =
        [b.op(&ADD, &[ratio, one])?, ratio, b.op(&SUB, &[one, ratio])?, b.op(&SUB, &[two, ratio])?];
    let weights = distances.into_iter().zip([far, near, near, far]);
    weights.map(|(distance, factors)| polynomial(b, distance, factors)).collect()
}
