//! `group_norm(x) = (x − μ) / √(σ² + epsilon)`, `μ` and `σ²` of each group of channels of each image.
//!
//! Shapes: `x: [N, C, …]`, of floats, `groups` divides `C`; the result has the type of `x`. Errors:
//! [`OpError::Attribute`], and those of the ops that it stands for. Source: Wu, He 2018; ONNX
//! GroupNormalization, opset 21, of which scale and bias are products and sums of their own; before, they
//! were per group; onnxruntime, contrib operators, GroupNorm and SkipGroupNorm, whose images are `[N, …, C]` unless
//! `channels_last` is 0, and which may end in a SiLU.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{Dim, OpDef};

use crate::composite::Composite;
use crate::linalg::conv::add_bias;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::silu::SILU;
use crate::norm::instance_norm::scale_channels;
use crate::norm::layer_norm::LAYER_NORM;
use crate::norm::{AXES, EPSILON, EPSILON_SPEC};
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::shape::broadcast::broadcast;
use crate::shape::reshape::reshape;
use crate::shape::transpose::{channels_first, channels_last};

/// Mean 0 and variance 1 in each group of channels.
pub static GROUP_NORM: OpDef =
    OpDef::new("group_norm", &["x"], &Composite(expand)).attrs(&[GROUPS.spec(), EPSILON_SPEC]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("GroupNormalization", |node, b| import(node, b, true)),
    since("GroupNormalization", 21, |node, b| import(node, b, false)),
    by("GroupNorm", |node, b| {
        let x = node.input(0)?;
        Ok(vec![activated(node, b, x)?])
    })
    .in_domain("com.microsoft"),
    by("SkipGroupNorm", import_skip).in_domain("com.microsoft"),
];

/// Into how many groups the channels are divided.
pub const GROUPS: Key<i64> = key("groups");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let shape = b.ty(x[0]).shape.clone();
    if shape.len() < 2 {
        return Err(OpError::RankAtLeast { operand: "x", least: 2, found: shape.len() });
    }
    let mut grouped = vec![shape[0].clone(), attrs.get(GROUPS).into(), per_group(&shape, attrs.get(GROUPS))?];
    grouped.extend_from_slice(&shape[2..]);
    let rank = grouped.len() as i64;
    let grouped = reshape(b, x[0], grouped)?;
    let along = [AXES.is((2..rank).collect()), EPSILON.is(attrs.get(EPSILON))];
    let y = b.op_with(&LAYER_NORM, &[grouped], along)?;
    reshape(b, y, shape)
}

/// Of a sum, which is the other result. What is added may be one for each channel of each image, `[N, C]`.
fn import_skip(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, mut skip) = (node.input(0)?, node.input(3)?);
    let shape = b.ty(skip).shape.clone();
    if let [images, channels] = &shape[..] {
        let mut wide = vec![Dim::constant(1); b.ty(x).rank()];
        wide[0] = images.clone();
        let at = if node.flag("channels_last", true)? { b.ty(x).rank() - 1 } else { 1 };
        wide[at] = channels.clone();
        skip = reshape(b, skip, wide)?;
    }
    let mut sum = b.op(&ADD, &[x, skip])?;
    if let Some(bias) = node.optional_input(4) {
        sum = match node.flag("channels_last", true)? {
            true => b.op(&ADD, &[sum, bias])?,
            false => add_bias(b, sum, bias)?,
        };
    }
    Ok(vec![activated(node, b, sum)?, sum])
}

/// onnxruntime's, of images with channels where the node says. Gamma and beta may be wider than `x`.
fn activated(node: &NodeView, b: &mut Build, x: Value) -> Result<Value, ImportError> {
    let dtype = b.ty(x).dtype;
    let wide = dtype.arithmetic();
    let are_last = node.flag("channels_last", true)?;
    let groups = node.int("groups")?;
    let groups = GROUPS.is(node.required("groups", groups)?);
    let epsilon = EPSILON.is(node.float_or("epsilon", 1e-5)?);
    let x = convert(b, x, wide)?;
    let x = if are_last { channels_first(b, x)? } else { x };
    let normal = b.op_with(&GROUP_NORM, &[x], [groups, epsilon])?;
    let (gamma, beta) = (node.input(1)?, node.input(2)?);
    let (gamma, beta) = (convert(b, gamma, wide)?, convert(b, beta, wide)?);
    let y = scale_channels(b, normal, gamma, beta)?;
    let y = match node.int("activation")? {
        Some(0) => y,
        Some(1) => b.op(&SILU, &[y])?,
        Some(other) => return Err(ImportError::value("activation", other, "0 and 1")),
        None => node.required("activation", None)?,
    };
    let y = if are_last { channels_last(b, y)? } else { y };
    Ok(convert(b, y, dtype)?)
}

/// Channels of a group.
fn per_group(shape: &[Dim], groups: i64) -> Result<Dim, OpError> {
    let channels = if groups < 1 { None } else { shape[1].exact_div(&groups.into()) };
    channels.ok_or(OpError::Attribute { key: GROUPS.name, why: "it does not divide the channels" })
}

/// `stash_type` is the type that it is computed in: `f32` or better here.
fn import(node: &NodeView, b: &mut Build, scales_groups: bool) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["stash_type"]);
    let x = node.input(0)?;
    let groups = node.int("num_groups")?;
    let groups = node.required("num_groups", groups)?;
    let epsilon = EPSILON.is(node.float_or("epsilon", 1e-5)?);
    let y = b.op_with(&GROUP_NORM, &[x], [GROUPS.is(groups), epsilon])?;
    let (mut scale, mut bias) = (node.input(1)?, node.input(2)?);
    if scales_groups {
        let shape = b.ty(x).shape.clone();
        let each = per_group(&shape, groups)?;
        for parameter in [&mut scale, &mut bias] {
            let column = reshape(b, *parameter, vec![groups.into(), Dim::constant(1)])?;
            let wide = broadcast(b, column, vec![groups.into(), each.clone()])?;
            *parameter = reshape(b, wide, vec![shape[1].clone()])?;
        }
    }
    Ok(vec![scale_channels(b, y, scale, bias)?])
}
