//! `gelu(x) = x · Φ(x)`, `Φ` the normal distribution, elementwise.
//!
//! `x/2 · (1 + erf(x/√2))`; with `approximate = "tanh"` `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX Gelu, opset 20.

use ir::OpDef;
use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Pointwise, in_arithmetic};
use crate::math::add::ADD;
use crate::math::erf::ERF;
use crate::math::mul::MUL;
use crate::math::tanh::TANH;
use crate::onnx::{Import, ImportError, NodeView, by, since};

/// `gelu(x) = x · Φ(x)`, `Φ` the normal distribution.
pub static GELU: OpDef =
    OpDef::new("gelu", &["x"], &Pointwise(expand)).attrs(&[APPROXIMATE.or(|| Attr::Str("none".into()))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    since("Gelu", 20, import),
    by("Gelu", import_exact).in_domain("com.microsoft"),
    by("FastGelu", import_fast).in_domain("com.microsoft"),
];

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

/// FastGelu adds a bias first, if there is one.
fn import_fast(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mut x = node.input(0)?;
    if let Some(bias) = node.optional_input(1) {
        x = b.op(&ADD, &[x, bias])?;
    }
    Ok(vec![b.op_with(&GELU, &[x], [APPROXIMATE.is("tanh".to_owned())])?])
}
