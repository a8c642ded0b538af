//! ONNX ConvTranspose: the convolution with the flipped kernel of the image with zeros between its elements.
//!
//! `y = conv(spread(x), flip(w))` with stride 1: `spread` puts `stride − 1` zeros after each element, `flip`
//! reverses the kernel and exchanges its channels. Source: Dumoulin, Visin 2016, section 4; ONNX
//! ConvTranspose, opset 22.

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
    let (mut low, mut high) = (vec![], vec![]);
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
        let (before, after) = match wanted {
            Some(wanted) => {
                let total = full - wanted;
                let half = total.floor_div(&Dim::constant(2));
                let rest = total - half.clone();
                if mode == "SAME_UPPER" { (half, rest) } else { (rest, half) }
            }
            None if mode == "VALID" => (Dim::constant(0), Dim::constant(0)),
            None => (given[axis].into(), given[rank + axis].into()),
        };
        // The spread image ends with stride − 1 zeros that don't belong to it.
        low.push(reach.clone() - before);
        high.push(reach - after + Dim::constant(extra[axis] - (strides[axis] - 1)));
    }
    let spread = spread(b, x, &strides)?;
    let groups = node.int_or("group", 1)?;
    let flipped = flip(b, w, groups)?;
    let attrs = [STRIDES.is(ones), DILATIONS.is(dilations), LOW.is(low), HIGH.is(high), GROUPS.is(groups)];
    let y = b.op_with(&CONV, &[spread, flipped], attrs)?;
    Ok(vec![match node.optional_input(2) {
        Some(bias) => add_bias(b, y, bias)?,
        None => y,
    }])
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
    let channels = shape[0].exact_div(&groups.into());
    let why = "it does not divide the input channels";
    let channels = channels.ok_or(OpError::Attribute { key: GROUPS.name, why })?;
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
