//! `lp_norm(x) = x / (Σ |x|ᵖ)^(1/p)` along `axis`, `p` 1 or 2; 0 where the sum is.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: [`OpError::Unsupported`] for another `p`,
//! and those of the ops that it stands for. Source: ONNX LpNormalization, opset 22.

use ir::OpDef;
use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Composite, in_arithmetic};
use crate::math::abs::ABS;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::mul::MUL;
use crate::math::sqrt::SQRT;
use crate::math::r#where::WHERE;
use crate::norm::AXIS;
use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;

/// Length 1 along an axis.
pub static LP_NORM: OpDef =
    OpDef::new("lp_norm", &["x"], &Composite(expand)).attrs(&[AXIS.spec(), P.or(|| Attr::Int(2))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("LpNormalization", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

/// Which norm: 1 or 2.
pub const P: Key<i64> = key("p");

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let (axis, p) = (attrs.get(AXIS), attrs.get(P));
    in_arithmetic(b, x, |b, x| {
        let each = match p {
            1 => b.op(&ABS, &[x[0]])?,
            2 => b.op(&MUL, &[x[0], x[0]])?,
            _ => return Err(OpError::Unsupported { key: P.name, value: p.to_string() }),
        };
        let sum = reduce(b, &REDUCE_SUM, each, &[axis], true)?;
        let length = if p == 2 { b.op(&SQRT, &[sum])? } else { sum };
        let dtype = b.ty(length).dtype;
        let (zero, one) = (b.scalar(dtype, 0.0), b.scalar(dtype, 1.0));
        let nothing = b.op(&EQ, &[length, zero])?;
        let length = b.op(&WHERE, &[nothing, one, length])?;
        b.op(&DIV, &[x[0], length])
    })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let attrs = [AXIS.is(node.int_or("axis", -1)?), P.is(node.int_or("p", 2)?)];
    Ok(vec![b.op_with(&LP_NORM, &[node.input(0)?], attrs)?])
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let how = vec![("axis", NodeAttr::Int(e.attrs.get(AXIS))), ("p", NodeAttr::Int(e.attrs.get(P)))];
    e.ty(0).dtype.is_float().then(|| e.same_with("LpNormalization", how))
}
