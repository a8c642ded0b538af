//! `pad(x, value)`: `x` with `value` around it.
//!
//! Shapes: `value` is one element of the type of `x`; axis `i` grows by `low[i] + high[i]`. A negative amount
//! cuts off. Errors: [`OpError::DTypes`], [`OpError::Rank`], [`OpError::Attribute`]. Source: ONNX Pad, opset
//! 25.

use ir::attr::{Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, normalize_axis};
use ir::{Dim, OpDef, Tensor, TensorType};

use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::reference;
use crate::shape::extend::{self, EXTEND};
use crate::shape::reshape::reshape;

/// `x` with a value around it.
pub static PAD: OpDef = OpDef::new("pad", &["x", "value"], &Pad).attrs(&[LOW.spec(), HIGH.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Pad", import_attributes), since("Pad", 11, import_inputs)];

/// How much is added before the first element, for each axis.
pub const LOW: Key<Vec<Dim>> = key("low");

/// How much is added after the last element, for each axis.
pub const HIGH: Key<Vec<Dim>> = key("high");

struct Pad;

/// The sizes of `x` grown by these amounts.
pub(crate) fn grown(x: &TensorType, low: &[Dim], high: &[Dim]) -> Result<TensorType, OpError> {
    for (key, amounts) in [(LOW.name, low), (HIGH.name, high)] {
        if amounts.len() != x.rank() {
            return Err(OpError::Attribute { key, why: "one for each axis is needed" });
        }
    }
    let shape = x.shape.iter().zip(low.iter().zip(high));
    let shape: Vec<Dim> =
        shape.map(|(size, (low, high))| low.clone() + size.clone() + high.clone()).collect();
    if shape.iter().any(|size| size.as_const().is_some_and(|size| size < 0)) {
        return Err(OpError::Attribute { key: LOW.name, why: "more is cut off than there is" });
    }
    Ok(x.with_shape(shape))
}

impl Semantics for Pad {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        cx.common_dtype()?;
        cx.want_rank(1, "value", 0)?;
        Ok(vec![grown(cx.operands[0], &cx.attrs.get(LOW), &cx.attrs.get(HIGH))?])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, value) = (cx.operands[0], cx.operands[1].get(0));
        let low = reference::numbers(LOW.name, &cx.attrs.get(LOW))?;
        let element = |at: &[usize]| {
            let from = at.iter().zip(&low).map(|(&i, &low)| usize::try_from(i as i64 - low).ok());
            let inside: Option<Vec<usize>> =
                from.zip(x.shape()).map(|(i, &size)| i.filter(|&i| i < size)).collect();
            inside.map_or(value, |from| x.at(&from))
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (low, high) = (cx.attrs.get(LOW), cx.attrs.get(HIGH));
        cx.each(|cx, at| {
            let from: Vec<Dim> = at.iter().zip(&low).map(|(i, low)| i.clone() - low.clone()).collect();
            let guards = from.iter().zip(&cx.operands[0].shape).zip(low.iter().zip(&high));
            let inside = guards.map(|((i, size), (low, high))| crate::window::inside(i, size, low, high));
            let inside = crate::window::all(inside);
            let element = cx.load(0, from.into_iter().map(Expr::from));
            let value = cx.load(1, []);
            inside.map_or(element.clone(), |inside| inside.select(element, value))
        })
    }
}

fn import_attributes(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let pads = node.ints("pads")?;
    let pads = node.required("pads", pads)?.into_iter().map(Dim::constant).collect();
    let value = b.scalar(node.ty(b, 0)?.dtype, node.float_or("value", 0.0)?);
    import(node, b, pads, Some(value), None)
}

fn import_inputs(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let pads = node.sizes(b, 1, "pads")?.ok_or(ImportError::MissingInput { index: 1 })?;
    let axes = node.const_ints(b, 3, "axes")?;
    import(node, b, pads, node.optional_input(2), axes)
}

/// ONNX lists all amounts before, then all amounts after.
fn import(
    node: &NodeView,
    b: &mut Build,
    pads: Vec<Dim>,
    value: Option<Value>,
    axes: Option<Vec<i64>>,
) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = b.ty(x).clone();
    let axes = axes.unwrap_or_else(|| (0..ty.rank() as i64).collect());
    if pads.len() != 2 * axes.len() {
        let why = format!("{} amounts for {} axes", pads.len(), axes.len());
        return Err(ImportError::Attribute { name: "pads".to_owned(), why });
    }
    let mut low = vec![Dim::constant(0); ty.rank()];
    let mut high = low.clone();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = normalize_axis(axis, ty.rank())?;
        (low[axis], high[axis]) = (pads[i].clone(), pads[axes.len() + i].clone());
    }
    if low.iter().chain(&high).all(|amount| amount.is(0)) {
        return Ok(vec![x]);
    }
    let amounts = [LOW.is(low), HIGH.is(high)];
    match node.str_or("mode", "constant")? {
        "constant" => {
            let value = match value {
                Some(value) => reshape(b, value, vec![])?,
                None => b.scalar(ty.dtype, 0.0),
            };
            Ok(vec![b.op_with(&PAD, &[x, value], amounts)?])
        }
        mode @ ("edge" | "reflect" | "wrap") => {
            let attrs = amounts.into_iter().chain([extend::MODE.is(mode.to_owned())]);
            Ok(vec![b.op_with(&EXTEND, &[x], attrs)?])
        }
        other => Err(ImportError::value("mode", other, "constant, edge, reflect and wrap")),
    }
}
