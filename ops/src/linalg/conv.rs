//! `conv(x, w)[n, m, i…] = Σ x[n, c, i·stride + k·dilation − low …] · w[m, c, k…]` over `c` and `k`, `x`
//! being 0 outside.
//!
//! Shapes: `x: [N, C, …]`, `w: [M, C/groups, kernel…]`, of one type of numbers; the result is `[N, M, …]`.
//! Output channel `m` sees the channels of its group only. Sums of 16-bit floats are carried in `f32`.
//! Errors: [`OpError::RankAtLeast`], [`OpError::Rank`], [`OpError::Size`], [`OpError::DTypes`],
//! [`OpError::Attribute`]. Source: ONNX Conv, opset 22; onnxruntime, contrib operators, FusedConv, which adds another
//! array and has an activation, NhwcConv and NhwcFusedConv, whose images are `[N, …, C]`.

use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, Reduce};
use ir::op::{Eval, Infer, OpError, Requirement, Semantics};
use ir::tensor::for_each_index;
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType};

use crate::composite::in_arithmetic;
use crate::linalg::fused_activation;
use crate::linalg::matmul::MATMUL;
use crate::math::add::ADD;
use crate::onnx::export::{Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reference::{self, Products};
use crate::shape::concat::{self, CONCAT};
use crate::shape::reshape::reshape;
use crate::shape::slice::{self, SLICE};
use crate::shape::transpose::{channels_first, channels_last};
use crate::window::{DILATIONS, HIGH, LOW, STRIDES, Window, around, fold_over, import_sliding, sliding};

/// The convolution (in truth a correlation: the kernel is not flipped).
pub static CONV: OpDef = OpDef::new("conv", &["x", "w"], &Conv).attrs(&[
    STRIDES.spec(),
    DILATIONS.spec(),
    LOW.spec(),
    HIGH.spec(),
    GROUPS.or(|| Attr::Int(1)),
]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("Conv", import),
    by("FusedConv", |node, b| {
        let y = import(node, b)?[0];
        Ok(vec![finished(node, b, y)?])
    })
    .in_domain("com.microsoft"),
    by("NhwcConv", |node, b| {
        let w = filters(node, b)?;
        Ok(vec![import_channels_last(node, b, w)?])
    })
    .in_domain("com.microsoft"),
    by("NhwcFusedConv", |node, b| {
        let y = import_channels_last(node, b, node.input(1)?)?;
        Ok(vec![finished(node, b, y)?])
    })
    .in_domain("com.microsoft"),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Ops(as_ops));

/// Into how many groups the channels are divided.
pub const GROUPS: Key<i64> = key("groups");

struct Conv;

impl Semantics for Conv {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, w) = (cx.operands[0], cx.operands[1]);
        let dtype = cx.common_dtype()?;
        cx.want_arithmetic(0, "x")?;
        if dtype == DType::Bool {
            return Err(OpError::DType { operand: "x", expected: "a number", found: dtype });
        }
        if x.rank() < 3 {
            return Err(OpError::RankAtLeast { operand: "x", least: 3, found: x.rank() });
        }
        cx.want_rank(1, "w", x.rank())?;
        let groups = cx.attrs.get(GROUPS);
        if groups < 1 {
            return Err(OpError::Attribute { key: GROUPS.name, why: "it must be 1 or more" });
        }
        let (left, right) = (x.shape[1].clone(), w.shape[1].clone() * groups.into());
        if left != right {
            return Err(OpError::Size { what: "channels of `x` and of `w`", left, right });
        }
        if w.shape[0].exact_div(&groups.into()).is_none() {
            return Err(OpError::Attribute {
                key: GROUPS.name,
                why: "it does not divide the output channels",
            });
        }
        let windows = Window::new(w.shape[2..].to_vec(), cx.attrs, false)?.count(&x.shape[2..])?;
        let channels = [x.shape[0].clone(), w.shape[0].clone()];
        Ok(vec![TensorType::new(dtype, channels.into_iter().chain(windows))])
    }

    fn requires(&self, cx: &Infer) -> Vec<Requirement> {
        let (image, kernel) = (&cx.operands[0].shape[2..], cx.operands[1].shape[2..].to_vec());
        Window::new(kernel, cx.attrs, false).map_or_else(|_| Vec::new(), |window| window.fits(image))
    }

    /// One of 16-bit floats is one in `f32`, rounded.
    fn expand(&self, b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Option<Vec<Value>>, OpError> {
        let dtype = b.ty(x[0]).dtype;
        if dtype == dtype.arithmetic() {
            return Ok(None);
        }
        let y = in_arithmetic(b, x, |b, x| {
            let sizes = [STRIDES.is(attrs.get(STRIDES)), DILATIONS.is(attrs.get(DILATIONS))];
            let sizes = sizes.into_iter().chain([LOW.is(attrs.get(LOW)), HIGH.is(attrs.get(HIGH))]);
            b.op_with(&CONV, x, sizes.chain([GROUPS.is(attrs.get(GROUPS))]))
        })?;
        Ok(Some(vec![y]))
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, w) = (cx.operands[0], cx.operands[1]);
        let window = Window::new(w.ty().shape[2..].to_vec(), cx.attrs, false)?;
        let low = reference::numbers(LOW.name, &window.low)?;
        let groups = cx.attrs.get(GROUPS) as usize;
        let (channels, per_group) = (w.shape()[1], w.shape()[0] / groups);
        let (image, kernel) = (&x.shape()[2..], &w.shape()[2..]);
        let products = Products::new(x, w);
        let (pixels, weights): (usize, usize) = (image.iter().product(), kernel.iter().product());
        let mut result = Tensor::splat(Scalar::from_i64(dtype, 0), &shape);
        for_each_index(&shape[2..], |at| {
            // What the window at this place covers: positions in the image and in the kernel.
            let mut covered = Vec::new();
            let mut position_in_kernel = 0;
            for_each_index(kernel, |k| {
                if let Some(position) = window.position_in(image, at, k, &low) {
                    let pixel = position.iter().zip(image).fold(0, |pixel, (&i, &size)| pixel * size + i);
                    covered.push((pixel, position_in_kernel));
                }
                position_in_kernel += 1;
            });
            for_each_index(&shape[..2], |nm| {
                let first = nm[0] * x.shape()[1] + nm[1] / per_group * channels;
                let pairs = (0..channels).flat_map(|c| {
                    let (from, with) = ((first + c) * pixels, (nm[1] * channels + c) * weights);
                    covered.iter().map(move |(pixel, weight)| (from + pixel, with + weight))
                });
                let sum = products.sum(dtype, pairs);
                result.set(result.position(&[nm, at].concat()), sum);
            });
        });
        Ok(vec![result])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (x, w) = (cx.operands[0].clone(), cx.operands[1].clone());
        let window = Window::new(w.shape[2..].to_vec(), cx.attrs, false).ok()?;
        let groups = cx.attrs.get(GROUPS);
        let per_group = w.shape[0].exact_div(&groups.into())?;
        cx.each(|cx, at| {
            let group = if groups == 1 { Dim::constant(0) } else { at[1].floor_div(&per_group) };
            let first = group * w.shape[1].clone();
            fold_over(cx, Reduce::Sum, &w.shape[1..], &|cx, ck| {
                let (position, inside) = window.positions(&at[2..], &ck[1..], &x.shape[2..]);
                let channel = first.clone() + ck[0].clone();
                let from = [at[0].clone(), channel].into_iter().chain(position);
                let image = cx.load(0, from.map(Expr::from));
                let weight = cx.load(1, [&at[1]].into_iter().chain(ck).map(Expr::from));
                let image = match inside {
                    Some(inside) => inside.select(image, Expr::number(x.dtype, 0.0)),
                    None => image,
                };
                image * weight
            })
        })
    }
}

/// The bias is added to each output channel.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, w) = (node.input(0)?, node.input(1)?);
    let y = convolve(node, b, x, w)?;
    Ok(vec![match node.optional_input(2) {
        Some(bias) => add_bias(b, y, bias)?,
        None => y,
    }])
}

/// What is behind a convolution: another array is added, and there is an activation.
fn finished(node: &NodeView, b: &mut Build, y: Value) -> Result<Value, ImportError> {
    let y = match node.optional_input(3) {
        Some(other) => b.op(&ADD, &[y, other])?,
        None => y,
    };
    fused_activation::by_list(node, b, y)
}

/// With images `[N, …, C]`.
fn import_channels_last(node: &NodeView, b: &mut Build, w: Value) -> Result<Value, ImportError> {
    let x = channels_first(b, node.input(0)?)?;
    let mut y = convolve(node, b, x, w)?;
    if let Some(bias) = node.optional_input(2) {
        y = add_bias(b, y, bias)?;
    }
    Ok(channels_last(b, y)?)
}

/// The weights of NhwcConv. Those that onnxruntime makes are `[M, kernel…, C/groups]`; where `kernel_shape` or the number of
/// channels says otherwise, they are those of Conv, as its documentation has them.
fn filters(node: &NodeView, b: &mut Build) -> Result<Value, ImportError> {
    let (x, w) = (node.ty(b, 0)?, node.input(1)?);
    let shape = b.ty(w).shape.clone();
    let (Some(channels), [_, kernel @ .., own]) = (x.shape.last(), &shape[..]) else { return Ok(w) };
    let groups = Dim::constant(node.int_or("group", 1)?);
    let is_stated = |sizes: &[i64]| sizes.iter().map(|&size| Dim::constant(size)).eq(kernel.iter().cloned());
    let fits = node.ints("kernel_shape")?.is_none_or(|sizes| is_stated(&sizes));
    if fits && own.clone() * groups == *channels { Ok(channels_first(b, w)?) } else { Ok(w) }
}

/// The convolution that the attributes of the node describe, of an image and its weights.
///
/// # Errors
/// Operands of another rank, and what the op says of them.
pub(crate) fn convolve(node: &NodeView, b: &mut Build, x: Value, w: Value) -> Result<Value, ImportError> {
    let (image, kernel) = (b.ty(x).shape.clone(), b.ty(w).shape.clone());
    if image.len() < 3 || kernel.len() != image.len() {
        let (expected, found) = (image.len().max(3), kernel.len());
        return Err(OpError::Rank { operand: "W", expected, found }.into());
    }
    // `kernel_shape` repeats the shape of the weights.
    node.ignore(&["kernel_shape"]);
    let sliding = import_sliding(node, &kernel[2..], &image[2..])?;
    let groups = [GROUPS.is(node.int_or("group", 1)?)];
    Ok(b.op_with(&CONV, &[x, w], sliding.into_iter().chain(groups))?)
}

/// `bias: [C]` added to `y: [N, C, …]`.
///
/// # Errors
/// [`OpError::Size`] if it has another size.
pub(crate) fn add_bias(b: &mut Build, y: Value, bias: Value) -> Result<Value, OpError> {
    let bias = along_channels(b, bias, b.ty(y).rank())?;
    b.op(&ADD, &[y, bias])
}

/// `x: [C]` as `[C, 1, …]`, which broadcasts along axis 1 of `rank` axes.
///
/// # Errors
/// [`OpError::Rank`] if it is no vector.
pub(crate) fn along_channels(b: &mut Build, x: Value, rank: usize) -> Result<Value, OpError> {
    let mut shape = b.ty(x).shape.clone();
    if shape.len() != 1 {
        return Err(OpError::Rank { operand: "per-channel values", expected: 1, found: shape.len() });
    }
    if rank < 2 {
        return Err(OpError::RankAtLeast { operand: "x", least: 2, found: rank });
    }
    shape.resize(rank - 1, Dim::constant(1));
    reshape(b, x, shape)
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let mut how = sliding(e.attrs)?;
    how.push(("group", NodeAttr::Int(e.attrs.get(GROUPS))));
    e.ty(0).dtype.is_float().then(|| e.same_with("Conv", how))
}

/// With zeros around the image; of integers as a matrix product, which is exact.
fn as_ops(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Vec<Value>, OpError> {
    let (low, high) = (attrs.get(LOW), attrs.get(HIGH));
    let (wide, nothing) = (around(b, x[0], &low, &high, 0.0)?, vec![Dim::constant(0); low.len()]);
    if b.ty(x[0]).dtype.is_float() {
        let how = [STRIDES.is(attrs.get(STRIDES)), DILATIONS.is(attrs.get(DILATIONS))];
        let how = how.into_iter().chain([LOW.is(nothing.clone()), HIGH.is(nothing)]);
        let y = b.op_with(&CONV, &[wide, x[1]], how.chain([GROUPS.is(attrs.get(GROUPS))]))?;
        return Ok(vec![y]);
    }
    Ok(vec![unfolded(b, wide, x[1], attrs)?])
}

/// The convolution of an image without padding: for each place of the kernel the part of the image that it meets, beside
/// each other, times the weights.
fn unfolded(b: &mut Build, x: Value, w: Value, attrs: &Attrs) -> Result<Value, OpError> {
    let (image, weights) = (b.ty(x).shape.clone(), b.ty(w).shape.clone());
    let (strides, dilations, groups) = (attrs.get(STRIDES), attrs.get(DILATIONS), attrs.get(GROUPS));
    let kernel = ir::TensorType::new(DType::I64, weights[2..].iter().cloned()).fixed_shape();
    let why = "of integers, and with a kernel whose size is no number";
    let kernel = kernel.ok_or(OpError::Attribute { key: GROUPS.name, why })?;
    let count = |axis: usize| {
        let span = Dim::constant((kernel[axis] as i64 - 1) * dilations[axis] + 1);
        (image[2 + axis].clone() - span).floor_div(&strides[axis].into()) + Dim::constant(1)
    };
    let windows: Vec<Dim> = (0..kernel.len()).map(count).collect();
    let (groups_of, places) = (Dim::constant(groups), windows.iter().cloned().product::<Dim>());
    let own = weights[1].clone();
    let mut parts = Vec::new();
    let mut refused = Ok(());
    for_each_index(&kernel, |k| {
        let mut part = || {
            let zeros = [Dim::constant(0), Dim::constant(0)];
            let starts = k.iter().zip(&dilations).map(|(&k, &by)| Dim::constant(k as i64 * by));
            let attrs = [
                slice::STARTS.is(zeros.into_iter().chain(starts).collect()),
                slice::SIZES.is([&image[..2], &windows].concat()),
                slice::STEPS.is([&[1, 1], strides.as_slice()].concat()),
            ];
            let part = b.op_with(&SLICE, &[x], attrs)?;
            let one = Dim::constant(1);
            let shape = vec![image[0].clone(), groups_of.clone(), own.clone(), one, places.clone()];
            reshape(b, part, shape)
        };
        match part() {
            Ok(part) => parts.push(part),
            Err(error) => refused = Err(error),
        }
    });
    refused?;
    let parts = b.op_with(&CONCAT, &parts, [concat::AXIS.is(3)])?;
    let depth = own * Dim::from(kernel.iter().product::<usize>());
    let columns = vec![image[0].clone(), groups_of.clone(), depth.clone(), places];
    let columns = reshape(b, parts, columns)?;
    let each = weights[0]
        .exact_div(&groups_of)
        .ok_or(OpError::Attribute { key: GROUPS.name, why: "it does not divide the output channels" })?;
    let rows = reshape(b, w, vec![groups_of, each, depth])?;
    let y = b.op(&MATMUL, &[rows, columns])?;
    reshape(b, y, [&[image[0].clone(), weights[0].clone()], windows.as_slice()].concat())
}
