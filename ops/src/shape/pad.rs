//! `pad(x, value)`: `x` with `value` around it.
//!
//! Shapes: `value` is one element of the type of `x`; axis `i` grows by `low[i] + high[i]`. A negative amount
//! cuts off. Errors: [`OpError::DTypes`], [`OpError::Rank`], [`OpError::Attribute`]. Source: ONNX Pad, opset
//! 25; CenterCropPad, opset 18; onnxruntime, contrib operators, Pad.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::dim::Condition;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Requirement, Semantics, normalize_axis};
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use crate::flow::as_size::as_size;
use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::elementwise::is_nonnegative;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::reference;
use crate::shape::extend::{self, EXTEND};
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::run_time;
use crate::shape::size::size;

/// `x` with a value around it.
pub static PAD: OpDef = OpDef::new("pad", &["x", "value"], &Pad).attrs(&[LOW.spec(), HIGH.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("Pad", import_attributes),
    since("Pad", 11, import_inputs),
    by("Pad", import_inputs).in_domain("com.microsoft"),
    by("CenterCropPad", import_centered),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

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

/// Where amounts may be negative, no more is cut off than there is.
pub(crate) fn enough_is_left(x: &TensorType, attrs: &Attrs) -> Vec<Requirement> {
    let (low, high) = (attrs.get(LOW), attrs.get(HIGH));
    let grown = |axis: usize| low[axis].clone() + x.shape[axis].clone() + high[axis].clone();
    let cut = (0..x.rank()).filter(|&axis| !(is_nonnegative(&low[axis]) && is_nonnegative(&high[axis])));
    let what = "no more is cut off than there is";
    cut.map(|axis| Requirement { condition: Condition::at_most(Dim::constant(0), grown(axis)), what })
        .collect()
}

impl Semantics for Pad {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        cx.common_dtype()?;
        cx.want_rank(1, "value", 0)?;
        Ok(vec![grown(cx.operands[0], &cx.attrs.get(LOW), &cx.attrs.get(HIGH))?])
    }

    fn requires(&self, cx: &Infer) -> Vec<Requirement> {
        enough_is_left(cx.operands[0], cx.attrs)
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
    let name = if node.opset < 2 { "paddings" } else { "pads" };
    let pads = node.ints(name)?;
    let pads = node.required(name, pads)?.into_iter().map(Dim::constant).collect();
    let value = b.scalar(node.ty(b, 0)?.dtype, node.float_or("value", 0.0)?);
    import(node, b, pads, Some(value), None)
}

fn import_inputs(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axes_are_known = node.optional_input(3).is_none() || node.known(b, 3).is_some();
    if !axes_are_known || node.is_raw(b, 1) {
        return import_run_time(node, b);
    }
    let pads = node.sizes(b, 1, "pads")?.ok_or(ImportError::MissingInput { index: 1 })?;
    let axes = node.const_ints(b, 3, "axes")?;
    import(node, b, pads, node.optional_input(2), axes)
}

/// Amounts, which may be negative, and axes that are known only when the model runs: each element of the result is looked
/// up in `x`.
fn import_run_time(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = b.ty(x).clone();
    let (rank, amounts) = (ty.rank(), node.elements(b, 1, "pads")?);
    let axes = match node.optional_input(3) {
        Some(_) => node.elements(b, 3, "axes")?,
        None => (0..rank).map(|axis| b.scalar(DType::I64, axis as f64)).collect(),
    };
    if amounts.len() != 2 * axes.len() {
        return Err(count_error(amounts.len(), axes.len()));
    }
    let mode = node.str_or("mode", "constant")?;
    if !["constant", "edge", "reflect", "wrap"].contains(&mode) {
        return Err(ImportError::value("mode", mode, "constant, edge, reflect and wrap"));
    }
    let value = match node.optional_input(2) {
        Some(value) => reshape(b, value, vec![])?,
        None => b.scalar(ty.dtype, 0.0),
    };
    let fixed = match node.optional_input(3) {
        Some(_) => node.known(b, 3),
        None => Some((0..rank).map(Dim::from).collect()),
    };
    let (low, high) = amounts.split_at(axes.len());
    let mut y = x;
    for axis in 0..rank {
        let here = |named: &Dim| [axis as i64, axis as i64 - rank as i64].iter().any(|&axis| named.is(axis));
        let [mut before, mut after] = [b.scalar(DType::I64, 0.0); 2];
        match fixed.as_ref().map(|axes| axes.iter().position(here)) {
            Some(None) => continue,
            Some(Some(i)) => (before, after) = (low[i], high[i]),
            None => {
                for (i, &named) in axes.iter().enumerate() {
                    let named = run_time::is_axis(b, named, axis, rank)?;
                    before = b.op(&WHERE, &[named, low[i], before])?;
                    after = b.op(&WHERE, &[named, high[i], after])?;
                }
            }
        }
        let extent = size(b, DType::I64, &ty.shape[axis])?;
        let grown = b.op(&ADD, &[extent, before])?;
        let grown = b.op(&ADD, &[grown, after])?;
        let grown = as_size(b, grown, node.op_type, None)?;
        let counted = iota(b, grown.clone(), DType::I64)?;
        let from = b.op(&SUB, &[counted, before])?;
        let index = extend::continued(b, mode, from, extent)?;
        y = b.op_with(&GATHER, &[y, index], [AXIS.is(axis as i64)])?;
        if mode == "constant" {
            let zero = b.scalar(DType::I64, 0.0);
            let (right, left) = (b.op(&LE, &[zero, from])?, b.op(&LT, &[from, extent])?);
            let inside = b.op(&AND, &[right, left])?;
            let column = [vec![grown], vec![Dim::constant(1); rank - axis - 1]].concat();
            let inside = reshape(b, inside, column)?;
            y = b.op(&WHERE, &[inside, y, value])?;
        }
    }
    Ok(vec![y])
}

fn count_error(pads: usize, axes: usize) -> ImportError {
    ImportError::Attribute { name: "pads".to_owned(), why: format!("{pads} amounts for {axes} axes") }
}

/// Zeros around `x`, or less of it, so that its axes have given sizes; what is odd falls to the end.
fn import_centered(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = b.ty(x).clone();
    let wanted = node.sizes(b, 1, "shape")?.ok_or(ImportError::MissingInput { index: 1 })?;
    let axes = node.ints("axes")?.unwrap_or_else(|| (0..ty.rank() as i64).collect());
    if wanted.len() != axes.len() {
        let why = format!("{} axes, and `shape` has {} sizes", axes.len(), wanted.len());
        return Err(ImportError::Attribute { name: "axes".to_owned(), why });
    }
    let mut low = vec![Dim::constant(0); ty.rank()];
    let mut high = low.clone();
    let half = |amount: Dim| Dim::larger(&amount, &Dim::constant(0)).floor_div(&Dim::constant(2));
    for (size, axis) in wanted.into_iter().zip(axes) {
        let axis = normalize_axis(axis, ty.rank())?;
        let more = size - ty.shape[axis].clone();
        low[axis] = half(more.clone()) - half(-more.clone());
        high[axis] = more - low[axis].clone();
    }
    let nothing = b.scalar(ty.dtype, 0.0);
    Ok(vec![b.op_with(&PAD, &[x, nothing], [LOW.is(low), HIGH.is(high)])?])
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
        return Err(count_error(pads.len(), axes.len()));
    }
    let mut low = vec![Dim::constant(0); ty.rank()];
    let mut high = low.clone();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = normalize_axis(axis, ty.rank())?;
        (low[axis], high[axis]) = (pads[i].clone(), pads[axes.len() + i].clone());
    }
    let mode = node.str_or("mode", "constant")?;
    if low.iter().chain(&high).all(|amount| amount.is(0)) {
        return Ok(vec![x]);
    }
    let amounts = [LOW.is(low), HIGH.is(high)];
    match mode {
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

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let amounts = [e.attrs.get(LOW), e.attrs.get(HIGH)].concat();
    let amounts = e.sizes(&amounts);
    Some(vec![e.node("Pad", &[e.x(0), amounts, e.x(1)])])
}
