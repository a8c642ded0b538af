//! ONNX Resize and Upsample: an image at another size, one axis after the other.
//!
//! Along an axis, element `i` of the result is a weighted sum of elements around a position in `x`; positions and
//! weights are tables that are made here, so the axis must have a known size. An axis of unknown size can be
//! enlarged by a whole number without interpolation: there, elements are repeated.
//!
//! Source: ONNX Resize, opset 19; Keys 1981 for `cubic`.

use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpError, normalize_axis};
use ir::{DType, Dim, Scalar, Tensor};

use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::mul::MUL;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::shape::broadcast::broadcast;
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::interpolation::{Interpolation, Kind, Nearest, Place, Taps};
use crate::shape::reshape::reshape;

/// The ONNX ops.
pub static ONNX: &[Import] = &[
    by("Upsample", |node, b| {
        let scales = node.floats("scales")?;
        let scales = node.required("scales", scales)?;
        resize(node, b, &Sizes::Scales(scales), &before_11(node)?)
    }),
    since("Upsample", 9, import_10),
    by("Resize", import_10),
    since("Resize", 11, import),
];

/// What the sizes of the result are given by, for each axis that is resized.
enum Sizes {
    Scales(Vec<f64>),
    Sizes(Vec<Dim>),
}

/// How, and which axes.
struct Options {
    interpolation: Interpolation,
    axes: Option<Vec<i64>>,
    /// Start and end of the part of the image that is taken, for each of the axes, in parts of it.
    roi: Option<Vec<f64>>,
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

/// The elements of input `index`, which must be known; `None` if it is left out or empty.
fn numbers(
    node: &NodeView,
    b: &Build,
    index: usize,
    input: &'static str,
) -> Result<Option<Vec<f64>>, ImportError> {
    if node.optional_input(index).is_none() {
        return Ok(None);
    }
    let known = node.constant(b, index).ok_or(ImportError::RunTimeValue { index, input })?;
    Ok(Some(known.to_f64()).filter(|numbers| !numbers.is_empty()))
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
    let targets =
        targets(&axes.iter().map(|&axis| ty.shape[axis].clone()).collect::<Vec<_>>(), sizes, options)?;
    let is_nearest = matches!(options.interpolation.kind, Kind::Nearest(_));
    // Weights are no integers, and 16-bit floats would round after each axis.
    let dtype = match ty.dtype {
        dtype if is_nearest => dtype,
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let mut y = convert(b, x, dtype)?;
    for (place, (&axis, target)) in axes.iter().zip(&targets).enumerate() {
        let roi = options.roi.as_ref().map(|roi| [roi[place], roi[place + axes.len()]]);
        let whole = roi.is_none_or(|roi| roi == [0.0, 1.0]);
        if target.scale == 1.0 && target.size == ty.shape[axis] && whole {
            continue;
        }
        y = along(b, y, axis, target, roi.unwrap_or([0.0, 1.0]), options)?;
    }
    Ok(vec![convert(b, y, ty.dtype)?])
}

/// The size of an axis of the result, and by how much it is larger.
struct Target {
    size: Dim,
    scale: f64,
}

fn unknown(size: &Dim) -> ImportError {
    ImportError::Unsupported {
        what: format!("a resized axis of {size}"),
        help: "fix the symbolic sizes of the image with --dim".to_owned(),
    }
}

fn targets(from: &[Dim], sizes: &Sizes, options: &Options) -> Result<Vec<Target>, ImportError> {
    let number = |size: &Dim| size.as_const().map(|size| size as f64).ok_or_else(|| unknown(size));
    match sizes {
        Sizes::Scales(scales) => {
            let target = |(from, &scale): (&Dim, &f64)| {
                let size = match from.as_const() {
                    _ if scale == 1.0 => from.clone(),
                    // In `f32`, as ONNX infers it: 3 times 5/3 is 5.
                    Some(from) => Dim::constant((from as f32 * scale as f32).floor() as i64),
                    // See `repeated`.
                    None if scale.fract() == 0.0 && scale > 0.0 => from.clone() * Dim::constant(scale as i64),
                    None => return Err(unknown(from)),
                };
                Ok(Target { size, scale })
            };
            from.iter().zip(scales).map(target).collect()
        }
        Sizes::Sizes(sizes) if options.aspect == "stretch" => {
            let target = |(from, size): (&Dim, &Dim)| {
                let scale = match from == size {
                    true => 1.0,
                    false => number(size)? / number(from)?,
                };
                Ok(Target { size: size.clone(), scale })
            };
            from.iter().zip(sizes).map(target).collect()
        }
        Sizes::Sizes(sizes) => {
            let scales = from.iter().zip(sizes).map(|(from, size)| Ok(number(size)? / number(from)?));
            let scales: Vec<f64> = scales.collect::<Result<_, ImportError>>()?;
            let pick = if options.aspect == "not_larger" { f64::min } else { f64::max };
            let scale = scales.into_iter().reduce(pick).unwrap_or(1.0);
            let target = |from: &Dim| {
                Ok(Target { size: Dim::constant((number(from)? * scale + 0.5).floor() as i64), scale })
            };
            from.iter().map(target).collect()
        }
    }
}

/// `x` resized along one axis.
fn along(
    b: &mut Build,
    x: Value,
    axis: usize,
    target: &Target,
    roi: [f64; 2],
    options: &Options,
) -> Result<Value, ImportError> {
    let ty = b.ty(x).clone();
    let numbers = ty.shape[axis].as_const().zip(target.size.as_const());
    let Some((from, to)) = numbers else {
        return repeated(b, x, axis, target, options);
    };
    let Taps { positions, weights, outside } = options.interpolation.taps(from, to, target.scale, roi);
    let mut column = vec![1; ty.rank()];
    column[axis] = usize::try_from(to).map_err(|_| unknown(&target.size))?;
    let mut sum: Option<Value> = None;
    for (positions, weights) in positions.iter().zip(&weights) {
        let index = b.constant(&Tensor::from_i64(&[positions.len()], positions));
        let mut taken = b.op_with(&GATHER, &[x, index], [AXIS.is(axis as i64)])?;
        if weights.iter().any(|&weight| weight != 1.0) {
            let weights = table(b, ty.dtype, &column, axis, |i| weights[i]);
            taken = b.op(&MUL, &[taken, weights])?;
        }
        sum = Some(match sum {
            None => taken,
            Some(sum) => b.op(&ADD, &[sum, taken])?,
        });
    }
    let y = sum.ok_or_else(|| unknown(&target.size))?;
    if !outside.contains(&true) {
        return Ok(y);
    }
    let outside = table(b, DType::Bool, &column, axis, |i| f64::from(u8::from(outside[i])));
    let value = b.scalar(ty.dtype, options.outside);
    Ok(b.op(&WHERE, &[outside, value, y])?)
}

fn table(b: &mut Build, dtype: DType, shape: &[usize], axis: usize, of: impl Fn(usize) -> f64) -> Value {
    b.constant(&Tensor::from_fn(dtype, shape, |at| Scalar::from_f64(dtype, of(at[axis]))))
}

/// Each element of an axis a whole number of times, where that is what the nearest one means.
fn repeated(
    b: &mut Build,
    x: Value,
    axis: usize,
    target: &Target,
    options: &Options,
) -> Result<Value, ImportError> {
    let shape = b.ty(x).shape.clone();
    let copies = matches!(
        (&options.interpolation.kind, options.interpolation.place),
        (Kind::Nearest(Nearest::Floor), Place::Asymmetric)
            | (Kind::Nearest(Nearest::PreferFloor | Nearest::PreferCeil), Place::HalfPixel)
    );
    if !copies || target.scale.fract() != 0.0 || target.scale < 1.0 {
        return Err(unknown(&shape[axis]));
    }
    let times = Dim::constant(target.scale as i64);
    let split = |times: Dim| [&shape[..=axis], &[times], &shape[axis + 1..]].concat();
    let column = reshape(b, x, split(Dim::constant(1)))?;
    let wide = broadcast(b, column, split(times))?;
    let mut whole = shape.clone();
    whole[axis] = target.size.clone();
    reshape(b, wide, whole).map_err(|error: OpError| error.into())
}
