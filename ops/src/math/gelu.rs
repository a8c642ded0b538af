//! `gelu(x) = x · Φ(x)`, `Φ` the normal distribution, elementwise.
//!
//! `x/2 · (1 + erf(x/√2))`; with `approximate = "tanh"` `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Gelu, opset 20; onnxruntime, contrib operators, Gelu, FastGelu, BiasGelu, BiasSplitGelu, GemmFastGelu.

use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{Dim, OpDef};

use crate::composite::{Pointwise, in_arithmetic};
use crate::linalg::matmul::product;
use crate::math::add::ADD;
use crate::math::erf::ERF;
use crate::math::mul::MUL;
use crate::math::tanh::TANH;
use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by, since};
use crate::shape::slice::slice_axis;

/// `gelu(x) = x · Φ(x)`, `Φ` the normal distribution.
pub static GELU: OpDef =
    OpDef::new("gelu", &["x"], &Pointwise(expand)).attrs(&[APPROXIMATE.or(|| Attr::Str("none".into()))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    since("Gelu", 20, import),
    by("Gelu", import_exact).in_domain("com.microsoft"),
    by("BiasGelu", |node, b| {
        let x = b.op(&ADD, &[node.input(0)?, node.input(1)?])?;
        Ok(vec![b.op(&GELU, &[x])?])
    })
    .in_domain("com.microsoft"),
    by("BiasSplitGelu", import_split).in_domain("com.microsoft"),
    by("FastGelu", |node, b| fast(b, node.input(0)?, node.optional_input(1))).in_domain("com.microsoft"),
    by("GemmFastGelu", |node, b| {
        let y = product(b, node.input(0)?, node.input(1)?)?;
        fast(b, y, node.optional_input(2))
    })
    .in_domain("com.microsoft"),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

/// `none` or `tanh`.
pub const APPROXIMATE: Key<String> = key("approximate");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let approximate = attrs.get(APPROXIMATE);
    if !["none", "tanh"].contains(&approximate.as_str()) {
        return Err(OpError::Unsupported { key: APPROXIMATE.name, value: approximate });
    }
    in_arithmetic(b, x, |b, x| {
        let dtype = b.ty(x[0]).dtype;
        let half = b.scalar(dtype, 0.5);
        let one = b.scalar(dtype, 1.0);
        let inner = if approximate == "tanh" {
            let cube = b.op(&MUL, &[x[0], x[0]])?;
            let cube = b.op(&MUL, &[cube, x[0]])?;
            let weight = b.scalar(dtype, 0.044715);
            let cube = b.op(&MUL, &[weight, cube])?;
            let sum = b.op(&ADD, &[x[0], cube])?;
            let scale = b.scalar(dtype, (2.0 / std::f64::consts::PI).sqrt());
            let scaled = b.op(&MUL, &[scale, sum])?;
            b.op(&TANH, &[scaled])?
        } else {
            let scale = b.scalar(dtype, std::f64::consts::FRAC_1_SQRT_2);
            let scaled = b.op(&MUL, &[x[0], scale])?;
            b.op(&ERF, &[scaled])?
        };
        let above = b.op(&ADD, &[one, inner])?;
        let halved = b.op(&MUL, &[half, x[0]])?;
        b.op(&MUL, &[halved, above])
    })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let approximate = node.str_or("approximate", "none")?.to_owned();
    Ok(vec![b.op_with(&GELU, &[node.input(0)?], [APPROXIMATE.is(approximate)])?])
}

fn import_exact(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    Ok(vec![b.op(&GELU, &[node.input(0)?])?])
}

/// With a bias, the first half of the last axis times GELU of the second.
fn import_split(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = b.op(&ADD, &[node.input(0)?, node.input(1)?])?;
    let shape = b.ty(x).shape.clone();
    let Some(last) = shape.len().checked_sub(1) else {
        return Err(OpError::RankAtLeast { operand: "X", least: 1, found: 0 }.into());
    };
    let half = shape[last].floor_div(&Dim::constant(2));
    let left = slice_axis(b, x, last, Dim::constant(0), half.clone())?;
    let right = slice_axis(b, x, last, half.clone(), half)?;
    let gate = b.op(&GELU, &[right])?;
    Ok(vec![b.op(&MUL, &[left, gate])?])
}

/// With the hyperbolic tangent, of `x` and a bias, if there is one.
fn fast(b: &mut Build, mut x: Value, bias: Option<Value>) -> Result<Vec<Value>, ImportError> {
    if let Some(bias) = bias {
        x = b.op(&ADD, &[x, bias])?;
    }
    Ok(vec![b.op_with(&GELU, &[x], [APPROXIMATE.is("tanh".to_owned())])?])
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let approximate = NodeAttr::Str(e.attrs.get(APPROXIMATE));
    e.ty(0).dtype.is_float().then(|| e.same_with("Gelu", vec![("approximate", approximate)]))
}
