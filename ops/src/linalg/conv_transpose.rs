//! ONNX ConvTranspose: the convolution with the flipped kernel of the image with zeros between its elements.
//!
//! With stride 1, `y = conv(x, flip(w))`: `flip` reverses the kernel and exchanges its channels. Along an axis with
//! stride `s`, `y[s·q + r] = Σ x[q − j] · w[s·j + r]` over `j`: each remainder `r` has a kernel of its own, and these are
//! channels of one convolution with stride 1, whose results are put beside each other. Where such an axis is dilated, too,
//! or the sizes of the kernel are not known, `y = conv(spread(x), flip(w))`: `spread` puts `stride − 1` zeros after each
//! element. Source: Dumoulin, Visin 2016, section 4; Shi et al. 2016, arXiv:1609.07009; ONNX ConvTranspose, opset 22.

use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::linalg::conv::{CONV, GROUPS, add_bias};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::pad::{self, PAD};
use crate::shape::reshape::reshape;
use crate::shape::slice::{self, SLICE};
use crate::shape::transpose::transpose;
use crate::window::{DILATIONS, HIGH, LOW, STRIDES};

/// The ONNX op.
pub static ONNX: &[Import] = &[by("ConvTranspose", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, w) = (node.input(0)?, node.input(1)?);
    let (image, kernel) = (b.ty(x).shape.clone(), b.ty(w).shape.clone());
    if image.len() < 3 || kernel.len() != image.len() {
        let (expected, found) = (image.len().max(3), kernel.len());
        return Err(OpError::Rank { operand: "W", expected, found }.into());
    }
    node.ignore(&["kernel_shape"]);
    let rank = image.len() - 2;
    let ones = vec![1; rank];
    let strides = node.ints("strides")?.unwrap_or_else(|| ones.clone());
    let dilations = node.ints("dilations")?.unwrap_or_else(|| ones.clone());
    let extra = node.ints("output_padding")?.unwrap_or_else(|| vec![0; rank]);
    let given = node.ints("pads")?.unwrap_or_else(|| vec![0; 2 * rank]);
    for (name, count, expected) in [
        ("strides", strides.len(), rank),
        ("dilations", dilations.len(), rank),
        ("output_padding", extra.len(), rank),
        ("pads", given.len(), 2 * rank),
    ] {
        if count != expected {
            let why = format!("{count} values, expected {expected}");
            return Err(ImportError::Attribute { name: name.to_owned(), why });
        }
    }
    let output = node.ints("output_shape")?;
    let mode = node.str_or("auto_pad", "NOTSET")?;
    let (mut before, mut sizes) = (vec![], vec![]);
    for axis in 0..rank {
        let (stride, one) = (Dim::constant(strides[axis]), Dim::constant(1));
        let size = &image[axis + 2];
        let reach = (kernel[axis + 2].clone() - one.clone()) * dilations[axis].into();
        // Without padding, the result has this size.
        let full = (size.clone() - one.clone()) * stride.clone() + reach.clone() + one + extra[axis].into();
        let wanted = match (&output, mode) {
            (Some(output), _) => {
                let own = output.len().checked_sub(rank).map(|skip| Dim::constant(output[skip + axis]));
                Some(own.ok_or_else(|| ImportError::Attribute {
                    name: "output_shape".to_owned(),
                    why: format!("{} values, expected {rank}", output.len()),
                })?)
            }
            (None, "SAME_UPPER" | "SAME_LOWER") => Some(size.clone() * stride.clone()),
            (None, "VALID" | "NOTSET" | "") => None,
            (None, other) => {
                return Err(ImportError::value(
                    "auto_pad",
                    other,
                    "NOTSET, VALID, SAME_UPPER and SAME_LOWER",
                ));
            }
        };
        let (cut, size) = match wanted {
            Some(wanted) => {
                let total = full - wanted.clone();
                let half = total.floor_div(&Dim::constant(2));
                (if mode == "SAME_UPPER" { half } else { total - half }, wanted)
            }
            None if mode == "VALID" => (Dim::constant(0), full),
            None => {
                let (cut, rest) = (Dim::constant(given[axis]), Dim::constant(given[rank + axis]));
                (cut.clone(), full - cut - rest)
            }
        };
        before.push(cut);
        sizes.push(size);
    }
    let groups = node.int_or("group", 1)?;
    let steps: Vec<Step> =
        strides.into_iter().zip(dilations).map(|(stride, dilation)| Step { stride, dilation }).collect();
    let by_remainder = steps.iter().all(|step| step.stride == 1 || step.stride > 1 && step.dilation == 1);
    let kernel: Option<Vec<i64>> =
        kernel[2..].iter().map(|size| size.as_const().filter(|&size| size > 0)).collect();
    let window = Window { groups, steps, before, sizes };
    let y = match kernel {
        Some(kernel) if by_remainder => by_remainders(b, x, w, &kernel, &window)?,
        _ => of_spread(b, x, w, &window)?,
    };
    Ok(vec![match node.optional_input(2) {
        Some(bias) => add_bias(b, y, bias)?,
        None => y,
    }])
}

/// What an axis of the image does with an element: the distance of its copies, and of what is added to them.
struct Step {
    stride: i64,
    dilation: i64,
}

/// How elements of the image meet the kernel, and what is left of the result: from `before` on, `sizes`.
struct Window {
    groups: i64,
    steps: Vec<Step>,
    before: Vec<Dim>,
    sizes: Vec<Dim>,
}

/// The convolution of `x` with the kernels of all remainders, put beside each other.
fn by_remainders(
    b: &mut Build,
    x: Value,
    w: Value,
    kernel: &[i64],
    window: &Window,
) -> Result<Value, OpError> {
    let Window { groups, steps, before, sizes } = window;
    let image = b.ty(x).shape.clone();
    let rank = steps.len();
    let (mut low, mut high, mut starts) = (vec![], vec![], vec![Dim::constant(0); 2]);
    let (mut taps, mut counts) = (vec![], vec![]);
    for (axis, step) in steps.iter().enumerate() {
        let stride = Dim::constant(step.stride);
        let tap = (kernel[axis] + step.stride - 1) / step.stride;
        let reach = Dim::constant((tap - 1) * step.dilation);
        // Of the positions that an element of the image makes, those that are left.
        let first = before[axis].floor_div(&stride);
        let count = (before[axis].clone() + sizes[axis].clone()).ceil_div(&stride) - first.clone();
        starts.push(before[axis].clone() - first.clone() * stride);
        low.push(reach.clone() - first.clone());
        high.push(count.clone() - image[axis + 2].clone() + first);
        taps.push(tap);
        counts.push(count);
    }
    let dilations = steps.iter().map(|step| step.dilation).collect();
    let kernels = kernels_of_remainders(b, w, *groups, kernel, steps, &taps)?;
    let attrs =
        [STRIDES.is(vec![1; rank]), DILATIONS.is(dilations), LOW.is(low), HIGH.is(high), GROUPS.is(*groups)];
    let y = b.op_with(&CONV, &[x, kernels], attrs)?;
    let channels = b.ty(w).shape[1].clone() * (*groups).into();
    let head = [image[0].clone(), channels];
    let strides = || steps.iter().map(|step| Dim::constant(step.stride));
    let apart = head.iter().cloned().chain(strides()).chain(counts.iter().cloned()).collect();
    let apart = reshape(b, y, apart)?;
    let perm = (0..rank as i64).flat_map(|axis| [2 + rank as i64 + axis, 2 + axis]);
    let beside = transpose(b, apart, [0, 1].into_iter().chain(perm).collect())?;
    let joined = counts.into_iter().zip(strides()).map(|(count, stride)| count * stride);
    let joined = reshape(b, beside, head.iter().cloned().chain(joined).collect())?;
    let sizes: Vec<Dim> = head.into_iter().chain(sizes.iter().cloned()).collect();
    if b.ty(joined).shape == sizes {
        return Ok(joined);
    }
    let attrs = [slice::STARTS.is(starts), slice::SIZES.is(sizes), slice::STEPS.is(vec![1; rank + 2])];
    b.op_with(&SLICE, &[joined], attrs)
}

/// `[C, M/groups, k…]` as `[M·strides…, C/groups, taps…]`: for each remainder the elements of the kernel that meet there,
/// reversed.
fn kernels_of_remainders(
    b: &mut Build,
    w: Value,
    groups: i64,
    kernel: &[i64],
    steps: &[Step],
    taps: &[i64],
) -> Result<Value, OpError> {
    let ty = b.ty(w).clone();
    let (inputs, outputs) = (in_group(&ty.shape[0], groups)?, ty.shape[1].clone());
    let rank = kernel.len();
    let mut more = vec![Dim::constant(0); 2];
    more.extend((0..rank).map(|axis| Dim::constant(taps[axis] * steps[axis].stride - kernel[axis])));
    let zero = b.scalar(ty.dtype, 0.0);
    let nothing = vec![Dim::constant(0); rank + 2];
    let even = b.op_with(&PAD, &[w, zero], [pad::LOW.is(nothing), pad::HIGH.is(more)])?;
    let parts = (0..rank).flat_map(|axis| [taps[axis], steps[axis].stride]).map(Dim::constant);
    let head = [Dim::constant(groups), inputs.clone(), outputs.clone()];
    let parts: Vec<Dim> = head.into_iter().chain(parts).collect();
    let apart = reshape(b, even, parts.clone())?;
    let is_tap = |axis: usize| axis >= 3 && (axis - 3).is_multiple_of(2);
    let starts = (0..parts.len())
        .map(|axis| if is_tap(axis) { parts[axis].clone() - Dim::constant(1) } else { Dim::constant(0) });
    let ways = (0..parts.len()).map(|axis| if is_tap(axis) { -1 } else { 1 });
    let attrs = [slice::STARTS.is(starts.collect()), slice::STEPS.is(ways.collect()), slice::SIZES.is(parts)];
    let reversed = b.op_with(&SLICE, &[apart], attrs)?;
    let axes = 0..rank as i64;
    let perm = [0, 2].into_iter().chain(axes.clone().map(|axis| 4 + 2 * axis));
    let perm = perm.chain([1]).chain(axes.map(|axis| 3 + 2 * axis)).collect();
    let ordered = transpose(b, reversed, perm)?;
    let strides = steps.iter().fold(Dim::constant(groups), |all, step| all * step.stride.into());
    let shape = [outputs * strides, inputs].into_iter().chain(taps.iter().map(|&tap| tap.into()));
    reshape(b, ordered, shape.collect())
}

/// The convolution of the spread image.
fn of_spread(b: &mut Build, x: Value, w: Value, window: &Window) -> Result<Value, OpError> {
    let Window { groups, steps, before, sizes } = window;
    let (image, kernel) = (b.ty(x).shape.clone(), b.ty(w).shape.clone());
    let (mut low, mut high) = (vec![], vec![]);
    for (axis, step) in steps.iter().enumerate() {
        let reach = (kernel[axis + 2].clone() - Dim::constant(1)) * step.dilation.into();
        low.push(reach.clone() - before[axis].clone());
        // The spread image ends with stride − 1 zeros that don't belong to it, or do.
        high.push(sizes[axis].clone() + before[axis].clone() - image[axis + 2].clone() * step.stride.into());
    }
    let strides: Vec<i64> = steps.iter().map(|step| step.stride).collect();
    let spread = spread(b, x, &strides)?;
    let flipped = flip(b, w, *groups)?;
    let ones = vec![1; steps.len()];
    let dilations = steps.iter().map(|step| step.dilation).collect();
    let attrs = [STRIDES.is(ones), DILATIONS.is(dilations), LOW.is(low), HIGH.is(high), GROUPS.is(*groups)];
    b.op_with(&CONV, &[spread, flipped], attrs)
}

/// How many of the input channels a group sees.
fn in_group(channels: &Dim, groups: i64) -> Result<Dim, OpError> {
    let why = "it does not divide the input channels";
    channels.exact_div(&groups.into()).ok_or(OpError::Attribute { key: GROUPS.name, why })
}

/// `stride − 1` zeros after each element of `[N, C, …]`.
fn spread(b: &mut Build, x: Value, strides: &[i64]) -> Result<Value, OpError> {
    if strides.iter().all(|&stride| stride == 1) {
        return Ok(x);
    }
    let ty = b.ty(x).clone();
    let (mut apart, mut joined) = (ty.shape[..2].to_vec(), ty.shape[..2].to_vec());
    let mut high = vec![Dim::constant(0); 2];
    for (size, &stride) in ty.shape[2..].iter().zip(strides) {
        apart.extend([size.clone(), Dim::constant(1)]);
        high.extend([Dim::constant(0), Dim::constant(stride - 1)]);
        joined.push(size.clone() * stride.into());
    }
    let apart = reshape(b, x, apart)?;
    let zero = b.scalar(ty.dtype, 0.0);
    let low = vec![Dim::constant(0); high.len()];
    let padded = b.op_with(&PAD, &[apart, zero], [pad::LOW.is(low), pad::HIGH.is(high)])?;
    reshape(b, padded, joined)
}

/// `[C, M/groups, k…]` as `[M, C/groups, k…]` with the kernel reversed.
fn flip(b: &mut Build, w: Value, groups: i64) -> Result<Value, OpError> {
    let shape = b.ty(w).shape.clone();
    let channels = in_group(&shape[0], groups)?;
    let one = Dim::constant(1);
    let starts = shape
        .iter()
        .enumerate()
        .map(|(axis, size)| if axis < 2 { Dim::constant(0) } else { size.clone() - one.clone() });
    let starts = starts.collect();
    let steps = (0..shape.len()).map(|axis| if axis < 2 { 1 } else { -1 }).collect();
    let attrs = [slice::STARTS.is(starts), slice::SIZES.is(shape.clone()), slice::STEPS.is(steps)];
    let reversed = b.op_with(&SLICE, &[w], attrs)?;
    let kernel = &shape[2..];
    let grouped =
        [Dim::constant(groups), channels.clone(), shape[1].clone()].into_iter().chain(kernel.to_vec());
    let grouped = reshape(b, reversed, grouped.collect())?;
    let mut perm: Vec<i64> = (0..=shape.len() as i64).collect();
    perm.swap(1, 2);
    let swapped = transpose(b, grouped, perm)?;
    let joined = [shape[1].clone() * groups.into(), channels].into_iter().chain(kernel.to_vec()).collect();
    reshape(b, swapped, joined)
}
