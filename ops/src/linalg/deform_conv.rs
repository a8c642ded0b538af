//! A convolution that looks beside its places: each element of the kernel reads `x` at its place plus an offset that is
//! data, by linear interpolation, 0 outside, maybe times a mask.
//!
//! `y[n, m, o] = Σ x̂[n, c, o·stride + k·dilation − low + offset[n, c, k, o]] · mask[n, c, k, o] · w[m, c, k]` over `c` and
//! `k`, plus a bias. What is read becomes columns, which a product adds up. Source: Zhu, Hu, Lin, Dai 2019; ONNX
//! DeformConv, opset 22. Images have two axes.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::linalg::conv::add_bias;
use crate::linalg::matmul::MATMUL;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::mul::MUL;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::sampling::{Axis, Outside, Tap, combinations, row};
use crate::shape::slice::slice_axis;
use crate::shape::transpose::transpose;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("DeformConv", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, w, offset) = (node.input(0)?, node.input(1)?, node.input(2)?);
    let [image, kernel, places] = [x, w, offset].map(|value| b.ty(value).shape.clone());
    for (operand, found) in [("X", image.len()), ("W", kernel.len()), ("offset", places.len())] {
        if found != 4 {
            return Err(OpError::Rank { operand, expected: 4, found }.into());
        }
    }
    // `kernel_shape` repeats the shape of the weights.
    node.ignore(&["kernel_shape"]);
    let (groups, offset_groups) = (node.int_or("group", 1)?, node.int_or("offset_group", 1)?);
    let (dtype, wide) = (b.ty(x).dtype, b.ty(x).dtype.arithmetic());
    let shared = |name: &'static str, size: &Dim, groups: i64| match size.exact_div(&groups.into()) {
        Some(part) if groups > 0 => Ok(part),
        _ => Err(ImportError::value(name, groups, "divisors of the number of channels")),
    };
    let per_group = shared("group", &image[1], groups)?;
    let outputs = shared("group", &kernel[0], groups)?;
    let channels = shared("offset_group", &image[1], offset_groups)?;
    if kernel[1] != per_group {
        let (left, right) = (per_group, kernel[1].clone());
        return Err(OpError::Size { what: "channels of `X` and of `W`", left, right }.into());
    }
    // Of offsets, the kernel's elements come before the axes, and these before the places.
    let [batch, _, height, width] = image.as_slice() else { unreachable!("its rank was checked") };
    let og = Dim::constant(offset_groups);
    let taps = [batch, &og, &kernel[2], &kernel[3]].map(Clone::clone);
    let (result, one) = (&places[2..], Dim::constant(1));
    let offset = convert(b, offset, wide)?;
    let offset = reshape(b, offset, [&taps[..], &[Dim::constant(2)], result].concat())?;
    let mut axes = Vec::new();
    for (axis, extent) in [height, width].into_iter().enumerate() {
        let own = slice_axis(b, offset, 4, axis.into(), one.clone())?;
        let own = reshape(b, own, [&taps[..], result].concat())?;
        let start = places_along(node, b, axis, [extent, &kernel[2 + axis], &result[axis]], wide)?;
        let position = b.op(&ADD, &[own, start])?;
        let along = Axis::new(b, extent, wide, Outside::Zeros)?;
        axes.push(along.linear(b, position)?);
    }
    let masked = match node.optional_input(4) {
        None => None,
        Some(mask) => {
            let mask = convert(b, mask, wide)?;
            Some(reshape(b, mask, [&taps[..], result, std::slice::from_ref(&one)].concat())?)
        }
    };
    let columns = columns(b, x, &axes, masked, (&og, &channels))?;
    // One product for each group.
    let depth = per_group * kernel[2].clone() * kernel[3].clone();
    let (groups, pixels) = (Dim::constant(groups), result.iter().cloned().product::<Dim>());
    let columns = reshape(b, columns, vec![batch.clone(), groups.clone(), depth.clone(), pixels])?;
    let columns = convert(b, columns, dtype)?;
    let w = reshape(b, w, vec![groups, outputs, depth])?;
    let y = b.op(&MATMUL, &[w, columns])?;
    let y = reshape(b, y, [&[batch.clone(), kernel[0].clone()], result].concat())?;
    Ok(vec![match node.optional_input(3) {
        Some(bias) => add_bias(b, y, bias)?,
        None => y,
    }])
}

/// Where the kernel's elements lie along an axis without an offset: `o·stride + k·dilation − low`, as `[K, 1, O, 1]` for the
/// first axis of the image and `[1, K, 1, O]` for the second. Offsets must be there for as many places as there are.
fn places_along(
    node: &NodeView,
    b: &mut Build,
    axis: usize,
    [extent, kernel, result]: [&Dim; 3],
    dtype: DType,
) -> Result<Value, ImportError> {
    let at = |name: &str, index: usize, count: usize, default: i64| match node.ints(name)? {
        None => Ok(default),
        Some(list) if list.len() == count => Ok(list[index]),
        Some(_) => {
            Err(ImportError::Attribute { name: name.to_owned(), why: format!("{count} numbers are needed") })
        }
    };
    let (stride, dilation) = (at("strides", axis, 2, 1)?, at("dilations", axis, 2, 1)?);
    let (low, high) = (at("pads", axis, 4, 0)?, at("pads", 2 + axis, 4, 0)?);
    if stride < 1 {
        return Err(ImportError::value("strides", stride, "steps of 1 and more"));
    }
    let one = Dim::constant(1);
    let reach = (kernel.clone() - one.clone()) * dilation.into();
    let free = extent.clone() + low.into() + high.into() - reach - one.clone();
    let count = free.floor_div(&stride.into()) + one;
    if count != *result {
        let what = "places that `offset` is for";
        return Err(OpError::Size { what, left: count, right: result.clone() }.into());
    }
    let mut along = |place: usize, count: &Dim, step: i64| -> Result<Value, OpError> {
        let counted = iota(b, count.clone(), dtype)?;
        let step = b.scalar(dtype, step as f64);
        let scaled = b.op(&MUL, &[counted, step])?;
        let mut shape = vec![Dim::constant(1); 4];
        shape[place + axis] = count.clone();
        reshape(b, scaled, shape)
    };
    let (tap, place) = (along(0, kernel, dilation)?, along(2, result, stride)?);
    let low = b.scalar(dtype, -(low as f64));
    let start = b.op(&ADD, &[tap, low])?;
    Ok(b.op(&ADD, &[start, place])?)
}

/// What the kernel's elements read: `[N, offset groups, C of each, K…, O…]`.
fn columns(
    b: &mut Build,
    x: Value,
    axes: &[Vec<Tap>],
    mask: Option<Value>,
    (offset_groups, channels): (&Dim, &Dim),
) -> Result<Value, OpError> {
    let shape = b.ty(x).shape.clone();
    let [batch, _, extents @ ..] = shape.as_slice() else { unreachable!("it is an image") };
    let wide = b.ty(x).dtype.arithmetic();
    // Channels last: one index takes all of them.
    let images =
        reshape(b, x, [&[batch.clone(), offset_groups.clone(), channels.clone()], extents].concat())?;
    let images = transpose(b, images, vec![0, 1, 3, 4, 2])?;
    let images = convert(b, images, wide)?;
    let count = batch.clone() * offset_groups.clone();
    let rows = reshape(b, images, vec![count.clone() * extents.iter().cloned().product(), channels.clone()])?;
    let which = iota(b, count, DType::I64)?;
    let beside = [vec![batch.clone(), offset_groups.clone()], vec![Dim::constant(1); 4]].concat();
    let which = reshape(b, which, beside)?;
    let mut sum: Option<Value> = None;
    for combination in combinations(axes) {
        let taken = row(b, rows, which, extents, &combination)?;
        sum = Some(match sum {
            None => taken,
            Some(sum) => b.op(&ADD, &[sum, taken])?,
        });
    }
    let mut read = sum.expect("there are two taps for each axis");
    if let Some(mask) = mask {
        read = b.op(&MUL, &[read, mask])?;
    }
    transpose(b, read, vec![0, 1, 6, 2, 3, 4, 5])
}
