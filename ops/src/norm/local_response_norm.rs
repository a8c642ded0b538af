//! `local_response_norm(x) = x / (bias + alpha/size · Σ x²)^beta`, the sum over `size` neighbouring channels.
//!
//! Shapes: `x: [N, C, …]`, of floats; the result has the type of `x`. The channels are those from
//! `c − ⌊(size − 1)/2⌋` to `c + ⌈(size − 1)/2⌉`. Errors: those of the ops that it stands for.
//! Source: Krizhevsky, Sutskever, Hinton 2012, section 3.3; ONNX LRN, opset 13.

use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{Dim, OpDef};

use crate::composite::{Composite, in_arithmetic};
use crate::math::add::ADD;
use crate::math::div::DIV;
use crate::math::mul::MUL;
use crate::math::pow::POW;
use crate::onnx::export::{Emit, ToOnnx, fit, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::pool::sum_pool::SUM_POOL;
use crate::shape::reshape::reshape;
use crate::window::{DILATIONS, HIGH, KERNEL, LOW, STRIDES};

/// Normalised by neighbouring channels.
pub static LOCAL_RESPONSE_NORM: OpDef =
    OpDef::new("local_response_norm", &["x"], &Composite(expand)).attrs(&[
        SIZE.spec(),
        ALPHA.or(|| Attr::Float(1e-4)),
        BETA.or(|| Attr::Float(0.75)),
        BIAS.or(|| Attr::Float(1.0)),
    ]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("LRN", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

/// How many channels are summed.
pub const SIZE: Key<i64> = key("size");

/// The weight of the mean square.
pub const ALPHA: Key<f64> = key("alpha");

/// The exponent.
pub const BETA: Key<f64> = key("beta");

/// What is added to the weighted mean square.
pub const BIAS: Key<f64> = key("bias");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let size = attrs.get(SIZE);
    if size < 1 {
        return Err(OpError::Attribute { key: SIZE.name, why: "it must be 1 or more" });
    }
    in_arithmetic(b, x, |b, x| {
        let ty = b.ty(x[0]).clone();
        if ty.rank() < 2 {
            return Err(OpError::RankAtLeast { operand: "x", least: 2, found: ty.rank() });
        }
        let number = |b: &mut Build, value: f64| b.scalar(ty.dtype, value);
        let squares = b.op(&MUL, &[x[0], x[0]])?;
        // As an image of one channel whose rows are the channels.
        let rest: Dim = ty.shape[2..].iter().cloned().product();
        let image = vec![ty.shape[0].clone(), Dim::constant(1), ty.shape[1].clone(), rest];
        let image = reshape(b, squares, image)?;
        let (before, after) = ((size - 1) / 2, size / 2);
        let window = [
            KERNEL.is(vec![size, 1]),
            STRIDES.is(vec![1, 1]),
            DILATIONS.is(vec![1, 1]),
            LOW.is(vec![before.into(), Dim::constant(0)]),
            HIGH.is(vec![after.into(), Dim::constant(0)]),
        ];
        let sums = b.op_with(&SUM_POOL, &[image], window)?;
        let sums = reshape(b, sums, ty.shape.clone())?;
        let weight = number(b, attrs.get(ALPHA) / size as f64);
        let weighted = b.op(&MUL, &[sums, weight])?;
        let bias = number(b, attrs.get(BIAS));
        let base = b.op(&ADD, &[weighted, bias])?;
        let beta = number(b, attrs.get(BETA));
        let power = b.op(&POW, &[base, beta])?;
        b.op(&DIV, &[x[0], power])
    })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let size = node.int("size")?;
    let attrs = [
        SIZE.is(node.required("size", size)?),
        ALPHA.is(node.float_or("alpha", 1e-4)?),
        BETA.is(node.float_or("beta", 0.75)?),
        BIAS.is(node.float_or("bias", 1.0)?),
    ];
    Ok(vec![b.op_with(&LOCAL_RESPONSE_NORM, &[node.input(0)?], attrs)?])
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let numbers = [e.attrs.get(ALPHA), e.attrs.get(BETA), e.attrs.get(BIAS)];
    let [alpha, beta, bias] = numbers.map(NodeAttr::Float);
    let how =
        vec![("size", NodeAttr::Int(e.attrs.get(SIZE))), ("alpha", alpha), ("beta", beta), ("bias", bias)];
    let dtype = e.ty(0).dtype;
    (dtype.is_float() && fit(dtype, &numbers)).then(|| e.same_with("LRN", how))
}
