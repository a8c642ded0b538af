//! ONNX Resize and Upsample: an image at another size, one axis after the other.
//!
//! Along an axis, element `i` of the result is a weighted sum of elements around a position in `x`; positions and
//! weights are tables. An axis of unknown size that is enlarged by a whole number without interpolation needs none:
//! there, elements are repeated.
//!
//! Source: ONNX Resize, opset 19; Keys 1981 for `cubic`.

use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpError, normalize_axis};
use ir::{DType, Dim};

use crate::flow::as_size::as_size;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::floor::FLOOR;
use crate::math::max::MAX;
use crate::math::min::MIN;
use crate::math::mul::MUL;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::broadcast::broadcast;
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::interpolation::{Interpolation, Kind, Nearest, Number, Place, Resized, Taps};
use crate::shape::reshape::reshape;
use crate::shape::size::size;
use crate::shape::slice::slice_axis;

/// The ONNX ops.
pub static ONNX: &[Import] = &[
    by("Upsample", import_1),
    since("Upsample", 7, |node, b| {
        let scales = node.floats("scales")?;
        let scales =
            node.required("scales", scales)?.into_iter().map(|scale| Number::known(b, scale)).collect();
        resize(node, b, &Sizes::Scales(scales), &before_11(node)?)
    }),
    since("Upsample", 9, import_10),
    by("Resize", import_10),
    since("Resize", 11, import),
];

/// What the sizes of the result are given by, for each axis that is resized.
enum Sizes {
    Scales(Vec<Number>),
    Sizes(Vec<Dim>),
}

/// How, and which axes.
struct Options {
    interpolation: Interpolation,
    axes: Option<Vec<i64>>,
    /// Start and end of the part of the image that is taken, for each of the axes, in parts of it.
    roi: Option<Vec<Number>>,
    outside: f64,
    aspect: &'static str,
}

fn before_11(node: &NodeView) -> Result<Options, ImportError> {
    let kind = match node.str_or("mode", "nearest")? {
        "nearest" => Kind::Nearest(Nearest::Floor),
        "linear" | "bilinear" => Kind::Linear,
        other => return Err(ImportError::value("mode", other, "nearest and linear")),
    };
    let interpolation =
        Interpolation { kind, place: Place::Asymmetric, antialias: false, inside_only: false };
    Ok(Options { interpolation, axes: None, roi: None, outside: 0.0, aspect: "stretch" })
}

/// Of images alone.
fn import_1(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mut scales = vec![Number::known(b, 1.0); 2];
    for name in ["height_scale", "width_scale"] {
        let scale = node.float(name)?;
        scales.push(Number::known(b, node.required(name, scale)?));
    }
    resize(node, b, &Sizes::Scales(scales), &before_11(node)?)
}

fn import_10(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let scales = numbers(node, b, 1, "scales")?.ok_or(ImportError::MissingInput { index: 1 })?;
    resize(node, b, &Sizes::Scales(scales), &before_11(node)?)
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let nearest = node.str_or("nearest_mode", "round_prefer_floor")?;
    let cubic = node.float_or("cubic_coeff_a", -0.75)?;
    let kind = match node.str_or("mode", "nearest")? {
        "nearest" => Kind::Nearest(match nearest {
            "round_prefer_floor" => Nearest::PreferFloor,
            "round_prefer_ceil" => Nearest::PreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            other => {
                let known = "round_prefer_floor, round_prefer_ceil, floor and ceil";
                return Err(ImportError::value("nearest_mode", other, known));
            }
        }),
        "linear" => Kind::Linear,
        "cubic" => Kind::Cubic(cubic),
        other => return Err(ImportError::value("mode", other, "nearest, linear and cubic")),
    };
    let place = match node.str_or("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Place::HalfPixel,
        "half_pixel_symmetric" => Place::HalfPixelSymmetric,
        "pytorch_half_pixel" => Place::PytorchHalfPixel,
        // The name in opset 11; only nearest interpolation had it.
        "tf_half_pixel_for_nn" => Place::TfHalfPixel,
        "align_corners" => Place::AlignCorners,
        "asymmetric" => Place::Asymmetric,
        "tf_crop_and_resize" => Place::Crop,
        other => {
            let known = "half_pixel, half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric and \
                         tf_crop_and_resize";
            return Err(ImportError::value("coordinate_transformation_mode", other, known));
        }
    };
    let aspect = match node.str_or("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => "stretch",
        "not_larger" => "not_larger",
        "not_smaller" => "not_smaller",
        other => {
            let known = "stretch, not_larger and not_smaller";
            return Err(ImportError::value("keep_aspect_ratio_policy", other, known));
        }
    };
    let (antialias, inside_only) = (node.flag("antialias", false)?, node.flag("exclude_outside", false)?);
    // Only this mode has a use for it.
    let roi = if place == Place::Crop { numbers(node, b, 1, "roi")? } else { None };
    let options = Options {
        interpolation: Interpolation { kind, place, antialias, inside_only },
        axes: node.ints("axes")?,
        roi,
        outside: node.float_or("extrapolation_value", 0.0)?,
        aspect,
    };
    let sizes = match node.sizes(b, 3, "sizes")?.filter(|sizes| !sizes.is_empty()) {
        Some(sizes) => Sizes::Sizes(sizes),
        None => {
            let scales = numbers(node, b, 2, "scales")?;
            Sizes::Scales(scales.ok_or(ImportError::MissingInput { index: 2 })?)
        }
    };
    resize(node, b, &sizes, &options)
}

/// The elements of input `index`; `None` if it is left out or empty.
fn numbers(
    node: &NodeView,
    b: &mut Build,
    index: usize,
    input: &'static str,
) -> Result<Option<Vec<Number>>, ImportError> {
    let Some(value) = node.optional_input(index) else { return Ok(None) };
    let numbers: Vec<Number> = match node.constant(b, index) {
        Some(known) => known.to_f64().into_iter().map(|number| Number::known(b, number)).collect(),
        None => {
            let count = b.ty(value).elements();
            let count = count.as_const().ok_or(ImportError::RunTimeValue { index, input })?;
            let flat = reshape(b, value, vec![count.into()])?;
            let mut number = |i: i64| {
                let one = slice_axis(b, flat, 0, i.into(), Dim::constant(1))?;
                Number::computed(b, one)
            };
            (0..count).map(&mut number).collect::<Result<_, OpError>>()?
        }
    };
    Ok(Some(numbers).filter(|numbers| !numbers.is_empty()))
}

fn resize(
    node: &NodeView,
    b: &mut Build,
    sizes: &Sizes,
    options: &Options,
) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = b.ty(x).clone();
    let axes: Vec<usize> = match &options.axes {
        Some(axes) => axes.iter().map(|&axis| normalize_axis(axis, ty.rank())).collect::<Result<_, _>>()?,
        None => (0..ty.rank()).collect(),
    };
    let (count, name) = match sizes {
        Sizes::Scales(scales) => (scales.len(), "scales"),
        Sizes::Sizes(sizes) => (sizes.len(), "sizes"),
    };
    if count != axes.len() || options.roi.as_ref().is_some_and(|roi| roi.len() != 2 * count) {
        let why = format!("{} axes are resized, and it is given for {count}", axes.len());
        return Err(ImportError::Attribute { name: name.to_owned(), why });
    }
    let from: Vec<Dim> = axes.iter().map(|&axis| ty.shape[axis].clone()).collect();
    let targets = targets(b, &from, sizes, options)?;
    let is_nearest = matches!(options.interpolation.kind, Kind::Nearest(_));
    // Weights are no integers, and 16-bit floats would round after each axis.
    let dtype = match ty.dtype {
        dtype if is_nearest => dtype,
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let mut y = convert(b, x, dtype)?;
    for (place, (&axis, (to, scale))) in axes.iter().zip(targets).enumerate() {
        let roi = match &options.roi {
            Some(roi) => [roi[place], roi[place + axes.len()]],
            None => [0.0, 1.0].map(|end| Number::known(b, end)),
        };
        let from = ty.shape[axis].clone();
        let whole = roi.map(|end| end.known) == [Some(0.0), Some(1.0)];
        if scale.known == Some(1.0) && to == from && whole {
            continue;
        }
        y = along(b, y, axis, &Resized { from, to, scale, roi }, options)?;
    }
    Ok(vec![convert(b, y, ty.dtype)?])
}

/// The sizes of the result, and by how much they are larger.
fn targets(
    b: &mut Build,
    from: &[Dim],
    sizes: &Sizes,
    options: &Options,
) -> Result<Vec<(Dim, Number)>, OpError> {
    match sizes {
        Sizes::Scales(scales) => {
            from.iter().zip(scales).map(|(from, &scale)| Ok((scaled(b, from, scale)?, scale))).collect()
        }
        Sizes::Sizes(sizes) => {
            let mut scales = Vec::with_capacity(sizes.len());
            for (from, size) in from.iter().zip(sizes) {
                scales.push(match from == size {
                    true => Number::known(b, 1.0),
                    false => ratio(b, size, from)?,
                });
            }
            let pick = match options.aspect {
                "stretch" => return Ok(sizes.iter().cloned().zip(scales).collect()),
                "not_larger" => (f64::min as fn(f64, f64) -> f64, &MIN),
                _ => (f64::max as fn(f64, f64) -> f64, &MAX),
            };
            let Some(mut scale) = scales.first().copied() else { return Ok(Vec::new()) };
            for other in &scales[1..] {
                let known = scale.known.zip(other.known).map(|(a, b)| pick.0(a, b));
                scale = Number { value: b.op(pick.1, &[scale.value, other.value])?, known };
            }
            let half = Number::known(b, 0.5);
            from.iter().map(|from| Ok((floored(b, from, scale, half)?, scale))).collect()
        }
    }
}

/// `a/b`.
fn ratio(build: &mut Build, a: &Dim, b: &Dim) -> Result<Number, OpError> {
    let (a, b) = (Number::size(build, a)?, Number::size(build, b)?);
    Ok(Number {
        value: build.op(&DIV, &[a.value, b.value])?,
        known: a.known.zip(b.known).map(|(a, b)| a / b),
    })
}

/// `⌊from·scale⌋`, in `f32`, as ONNX infers it: 3 times 5/3 is 5.
fn scaled(b: &mut Build, from: &Dim, scale: Number) -> Result<Dim, OpError> {
    // Multiples of 1/1024 are exact in `f32`.
    let parts =
        |scale: f64| (0..=10).map(|n| 1 << n).find(|&parts: &i64| (scale * parts as f64).fract() == 0.0);
    match (from.as_const(), scale.known.map(|scale| (scale, parts(scale)))) {
        (_, Some((1.0, _))) => Ok(from.clone()),
        (Some(from), Some((scale, _))) => Ok(Dim::constant((from as f32 * scale as f32).floor() as i64)),
        (None, Some((scale, Some(parts)))) if scale > 0.0 => {
            let times = Dim::constant((scale * parts as f64) as i64);
            Ok((from.clone() * times).floor_div(&parts.into()))
        }
        _ => {
            let (from, scale) = (size(b, DType::F32, from)?, convert(b, scale.value, DType::F32)?);
            let size = b.op(&MUL, &[from, scale])?;
            let size = b.op(&FLOOR, &[size])?;
            let size = convert(b, size, DType::I64)?;
            as_size(b, size, "resized", None)
        }
    }
}

/// `⌊from·scale + more⌋`.
fn floored(b: &mut Build, from: &Dim, scale: Number, more: Number) -> Result<Dim, OpError> {
    let from = Number::size(b, from)?;
    if let (Some(from), Some(scale), Some(more)) = (from.known, scale.known, more.known) {
        return Ok(Dim::constant((from * scale + more).floor() as i64));
    }
    let size = b.op(&MUL, &[from.value, scale.value])?;
    let size = b.op(&ADD, &[size, more.value])?;
    let size = b.op(&FLOOR, &[size])?;
    let size = convert(b, size, DType::I64)?;
    as_size(b, size, "resized", None)
}

/// `x` resized along one axis.
fn along(
    b: &mut Build,
    x: Value,
    axis: usize,
    resized: &Resized,
    options: &Options,
) -> Result<Value, OpError> {
    let ty = b.ty(x).clone();
    if resized.from.as_const().is_none()
        && let Some(times) = copies(resized, options)
    {
        return repeated(b, x, axis, times);
    }
    let Taps { positions, weights, outside } = options.interpolation.taps(b, resized)?;
    let mut y = b.op_with(&GATHER, &[x, positions], [AXIS.is(axis as i64)])?;
    let behind = vec![Dim::constant(1); ty.rank() - axis - 1];
    if let Some(weights) = weights {
        let shape = [b.ty(weights).shape.clone(), behind.clone()].concat();
        let weights = reshape(b, weights, shape)?;
        let weights = convert(b, weights, ty.dtype)?;
        y = b.op(&MUL, &[y, weights])?;
        y = reduce(b, &REDUCE_SUM, y, &[axis as i64 + 1], false)?;
    }
    let Some(outside) = outside else { return Ok(y) };
    let outside = reshape(b, outside, [vec![resized.to.clone()], behind].concat())?;
    let value = b.scalar(ty.dtype, options.outside);
    b.op(&WHERE, &[outside, value, y])
}

/// How often each element is repeated, where that is what the nearest one means.
fn copies(resized: &Resized, options: &Options) -> Option<i64> {
    let copies = matches!(
        (&options.interpolation.kind, options.interpolation.place),
        (Kind::Nearest(Nearest::Floor), Place::Asymmetric)
            | (Kind::Nearest(Nearest::PreferFloor | Nearest::PreferCeil), Place::HalfPixel)
    );
    resized
        .scale
        .known
        .filter(|scale| copies && scale.fract() == 0.0 && *scale >= 1.0)
        .map(|scale| scale as i64)
}

/// Each element of an axis so many times.
fn repeated(b: &mut Build, x: Value, axis: usize, times: i64) -> Result<Value, OpError> {
    let shape = b.ty(x).shape.clone();
    let times = Dim::constant(times);
    let split = |times: Dim| [&shape[..=axis], &[times], &shape[axis + 1..]].concat();
    let column = reshape(b, x, split(Dim::constant(1)))?;
    let wide = broadcast(b, column, split(times.clone()))?;
    let mut whole = shape.clone();
    whole[axis] = shape[axis].clone() * times;
    reshape(b, wide, whole)
}
