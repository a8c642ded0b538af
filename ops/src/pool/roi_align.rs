//! Boxes of an image, each cut into bins whose samples are pooled.
//!
//! Along an axis, bin `p` of a box from `start` of length `l` is sampled at `start + (p + (i + ½)/g)·l/bins`, `i` below `g`,
//! by linear interpolation; what lies more than one element outside counts as 0, and inside of that the border goes on.
//! `g` is `sampling_ratio` or, without one, `⌈l/bins⌉`. The result is the mean of a bin's samples, or, with `max`, the
//! largest of all weighted elements that they are made of. Source: He, Gkioxari, Dollár, Girshick 2017; ONNX RoiAlign,
//! opset 22.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::flow::as_size::as_size;
use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::ceil::CEIL;
use crate::math::div::DIV;
use crate::math::gt::GT;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::max::MAX;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::sampling::{Axis, Outside, Tap, combinations, row};
use crate::shape::size::size;
use crate::shape::slice::slice_axis;
use crate::shape::transpose::transpose;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("RoiAlign", import)];

/// The samples of all boxes along an axis, `[R, bins, G]`, with axes of size 1 for the other axis of the image.
struct Samples {
    taps: Vec<Tap>,
    /// How many there are for each box, if that differs: `[R, 1, 1, 1, 1]`; which of them there are.
    some: Option<(Value, Value)>,
    /// How many there are at most.
    count: Dim,
}

/// What is the same for both axes.
struct Boxes {
    /// `[R, 4]`: both coordinates of one corner and of the other, the last axis first.
    corners: Value,
    number: Dim,
    half_pixel: bool,
    ratio: i64,
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let is_max = match node.str_or("mode", "avg")? {
        "avg" => false,
        "max" => true,
        other => return Err(ImportError::value("mode", other, "avg and max")),
    };
    // Before opset 16, there was but one way to count.
    let default = if node.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = match node.str_or("coordinate_transformation_mode", default)? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => {
            let known = "half_pixel and output_half_pixel";
            return Err(ImportError::value("coordinate_transformation_mode", other, known));
        }
    };
    let (x, rois) = (node.input(0)?, node.input(1)?);
    for (operand, value, expected) in [("X", x, 4), ("rois", rois, 2)] {
        let found = b.ty(value).rank();
        if found != expected {
            return Err(OpError::Rank { operand, expected, found }.into());
        }
    }
    let (ty, number) = (b.ty(x).clone(), b.ty(rois).shape[0].clone());
    let wide = ty.dtype.arithmetic();
    let scale = b.scalar(wide, node.float_or("spatial_scale", 1.0)?);
    let corners = convert(b, rois, wide)?;
    let corners = b.op(&MUL, &[corners, scale])?;
    let boxes =
        Boxes { corners, number: number.clone(), half_pixel, ratio: node.int_or("sampling_ratio", 0)? };
    let bins = [node.int_or("output_height", 1)?, node.int_or("output_width", 1)?];
    let mut axes = Vec::new();
    for (axis, bins) in bins.into_iter().enumerate() {
        if bins < 1 {
            let name = ["output_height", "output_width"][axis];
            return Err(ImportError::value(name, bins, "1 and more"));
        }
        axes.push(boxes.samples(b, axis, bins, &ty.shape[2 + axis])?);
    }
    // Channels last: one index takes all of them.
    let image = transpose(b, x, vec![0, 2, 3, 1])?;
    let image = convert(b, image, wide)?;
    let [batch, channels, extents @ ..] = ty.shape.as_slice() else { unreachable!("its rank was checked") };
    let pixels = batch.clone() * extents.iter().cloned().product();
    let rows = reshape(b, image, vec![pixels, channels.clone()])?;
    let which = convert(b, node.input(2)?, DType::I64)?;
    let which = reshape(b, which, [vec![number], vec![Dim::constant(1); 4]].concat())?;
    let meet = if is_max { &MAX } else { &ADD };
    let mut samples: Option<Value> = None;
    let taps: Vec<Vec<Tap>> = axes.iter().map(|axis| axis.taps.clone()).collect();
    for combination in combinations(&taps) {
        let taken = row(b, rows, which, extents, &combination)?;
        samples = Some(match samples {
            None => taken,
            Some(samples) => b.op(meet, &[samples, taken])?,
        });
    }
    let samples = samples.expect("there are two taps for each axis");
    let y = if is_max { largest(b, samples, &axes)? } else { mean(b, samples, &axes)? };
    let y = transpose(b, y, vec![0, 3, 1, 2])?;
    Ok(vec![convert(b, y, ty.dtype)?])
}

/// Of the samples `[R, H, G, W, G, C]`, whose weights are 0 where there is none.
fn mean(b: &mut Build, samples: Value, axes: &[Samples]) -> Result<Value, OpError> {
    let dtype = b.ty(samples).dtype;
    let mut sum = reduce(b, &REDUCE_SUM, samples, &[2, 4], false)?;
    for axis in axes {
        let count = match axis.some {
            None => size(b, dtype, &axis.count)?,
            Some((count, _)) => {
                let shape = b.ty(count).shape[..4].to_vec();
                reshape(b, count, shape)?
            }
        };
        sum = b.op(&DIV, &[sum, count])?;
    }
    Ok(sum)
}

/// The same for the largest; 0 of none.
fn largest(b: &mut Build, samples: Value, axes: &[Samples]) -> Result<Value, OpError> {
    let lowest = b.scalar(b.ty(samples).dtype, f64::NEG_INFINITY);
    let (mut samples, adaptive) = (samples, axes.iter().any(|axis| axis.some.is_some()));
    for (_, exists) in axes.iter().filter_map(|axis| axis.some) {
        let column = [b.ty(exists).shape.clone(), vec![Dim::constant(1)]].concat();
        let exists = reshape(b, exists, column)?;
        samples = b.op(&WHERE, &[exists, samples, lowest])?;
    }
    let y = reduce(b, &REDUCE_MAX, samples, &[2, 4], false)?;
    if !adaptive {
        return Ok(y);
    }
    let (zero, found) = (b.scalar(b.ty(y).dtype, 0.0), b.op(&GT, &[y, lowest])?);
    b.op(&WHERE, &[found, y, zero])
}

impl Boxes {
    /// The samples along axis `axis` of the image, which has this extent.
    fn samples(&self, b: &mut Build, axis: usize, bins: i64, extent: &Dim) -> Result<Samples, OpError> {
        let (dtype, one) = (b.ty(self.corners).dtype, Dim::constant(1));
        let number = |b: &mut Build, value: f64| b.scalar(dtype, value);
        let shift = number(b, if self.half_pixel { 0.5 } else { 0.0 });
        let end = |b: &mut Build, column: usize| -> Result<Value, OpError> {
            let end = slice_axis(b, self.corners, 1, column.into(), one.clone())?;
            let end = reshape(b, end, vec![self.number.clone(), one.clone(), one.clone()])?;
            b.op(&SUB, &[end, shift])
        };
        let (start, stop) = (end(b, 1 - axis)?, end(b, 3 - axis)?);
        let mut length = b.op(&SUB, &[stop, start])?;
        if !self.half_pixel {
            let least = number(b, 1.0);
            length = b.op(&MAX, &[length, least])?;
        }
        let parts = number(b, bins as f64);
        let bin = b.op(&DIV, &[length, parts])?;
        // How many samples there are at most; for each box; and at least 1.
        let (most, counts) = if self.ratio > 0 {
            (Dim::constant(self.ratio), None)
        } else {
            let counts = b.op(&CEIL, &[bin])?;
            let most = reduce(b, &REDUCE_MAX, counts, &[0, 1, 2], false)?;
            let most = convert(b, most, DType::I64)?;
            let least = b.scalar(DType::I64, 1.0);
            let most = b.op(&MAX, &[most, least])?;
            (as_size(b, most, "samples", None)?, Some(counts))
        };
        let least = number(b, 1.0);
        let divisor = match counts {
            Some(counts) => b.op(&MAX, &[counts, least])?,
            None => size(b, dtype, &most)?,
        };
        let i = iota(b, most.clone(), dtype)?;
        let half = number(b, 0.5);
        let middle = b.op(&ADD, &[i, half])?;
        let step = b.op(&DIV, &[bin, divisor])?;
        let inner = b.op(&MUL, &[middle, step])?;
        let p = iota(b, Dim::constant(bins), dtype)?;
        let p = reshape(b, p, vec![Dim::constant(bins), one.clone()])?;
        let outer = b.op(&MUL, &[p, bin])?;
        let position = b.op(&ADD, &[start, outer])?;
        let position = b.op(&ADD, &[position, inner])?;
        let exists = match counts {
            Some(counts) => Some(b.op(&LT, &[i, counts])?),
            None => None,
        };
        let taps = taps(b, position, extent, exists)?;
        let wide = |b: &mut Build, value: Value| spread(b, value, axis);
        let mut spread_taps = Vec::new();
        for Tap { index, weight } in taps {
            let weight = match weight {
                Some(weight) => Some(wide(b, weight)?),
                None => None,
            };
            spread_taps.push(Tap { index: wide(b, index)?, weight });
        }
        let some = match exists {
            Some(exists) => Some((wide(b, divisor)?, wide(b, exists)?)),
            None => None,
        };
        Ok(Samples { taps: spread_taps, some, count: most })
    }
}

/// The elements around positions `[R, bins, G]`. Nothing counts where there is no sample, or one far outside.
fn taps(b: &mut Build, position: Value, extent: &Dim, exists: Option<Value>) -> Result<Vec<Tap>, OpError> {
    let dtype = b.ty(position).dtype;
    let (low, high) = (b.scalar(dtype, -1.0), size(b, dtype, extent)?);
    let (above, below) = (b.op(&LE, &[low, position])?, b.op(&LE, &[position, high])?);
    let mut counts = b.op(&AND, &[above, below])?;
    if let Some(exists) = exists {
        counts = b.op(&AND, &[counts, exists])?;
    }
    let axis = Axis::new(b, extent, dtype, Outside::Border)?;
    let inside = axis.fold_back(b, position)?;
    let (mut taps, nothing) = (axis.linear(b, inside)?, b.scalar(dtype, 0.0));
    for weight in taps.iter_mut().filter_map(|tap| tap.weight.as_mut()) {
        *weight = b.op(&WHERE, &[counts, *weight, nothing])?;
    }
    Ok(taps)
}

/// `[R, bins, G]` as `[R, bins, G, 1, 1]` for the first axis of the image, as `[R, 1, 1, bins, G]` for the second.
fn spread(b: &mut Build, value: Value, axis: usize) -> Result<Value, OpError> {
    let shape = b.ty(value).shape.clone();
    let mut spread = vec![Dim::constant(1); 5];
    spread[0] = shape[0].clone();
    spread[1 + 2 * axis..3 + 2 * axis].clone_from_slice(&shape[1..]);
    reshape(b, value, spread)
}
