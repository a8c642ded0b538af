//! `iota()[i…] = i` along `axis`: `0, 1, 2, …`.
//!
//! Shapes: the result has `shape` and the type `dtype`, not bool. Errors: [`OpError::Axis`],
//! [`OpError::Attribute`]. Source: XLA Iota; ONNX Range, opset 11; EyeLike, opset 22; Trilu, opset 14.

use ir::attr::{Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes, normalize_axis};
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType};

use crate::flow::as_size::{as_size, check_size};
use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::ceil::CEIL;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::max::MAX;
use crate::math::mul::MUL;
use crate::math::ne::NE;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::export::{Body, Emit, ToOnnx, function};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reference;
use crate::shape::reshape::reshape;

/// `0, 1, 2, …` along an axis.
pub static IOTA: OpDef = OpDef::new("iota", &[], &Iota).attrs(&[SHAPE.spec(), AXIS.spec(), DTYPE.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] =
    &[by("Range", import_range), by("EyeLike", import_eye_like), by("Trilu", import_trilu)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Nodes(to_onnx));

/// The sizes of the result.
pub const SHAPE: Key<Vec<Dim>> = key("shape");

/// The axis along which it counts; negative counts from the end.
pub const AXIS: Key<i64> = key("axis");

/// The type of the result.
pub const DTYPE: Key<DType> = key("dtype");

struct Iota;

impl Semantics for Iota {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (shape, dtype) = (cx.attrs.get(SHAPE), cx.attrs.get(DTYPE));
        normalize_axis(cx.attrs.get(AXIS), shape.len())?;
        if dtype == DType::Bool {
            return Err(OpError::Attribute { key: DTYPE.name, why: "bool does not count" });
        }
        Ok(vec![TensorType::new(dtype, shape)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len())?;
        Ok(vec![Tensor::from_fn(dtype, &shape, |at| Scalar::from_i64(dtype, at[axis] as i64))])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (axis, dtype) = (cx.attrs.get(AXIS), cx.attrs.get(DTYPE));
        let axis = normalize_axis(axis, cx.results[0].rank()).ok()?;
        cx.each(|_, at| Expr::from(&at[axis]).cast(dtype))
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let shape = cx.result.fixed_shape()?;
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len()).ok()?;
        let counts =
            Tensor::from_fn(cx.result.dtype, &shape, |at| Scalar::from_i64(cx.result.dtype, at[axis] as i64));
        Some(counts.to_i64().into_iter().map(Dim::constant).collect())
    }
}

/// `0, 1, …, size − 1` of type `dtype`.
///
/// # Errors
/// [`OpError::Attribute`] for bool.
pub fn iota(b: &mut Build, size: Dim, dtype: DType) -> Result<Value, OpError> {
    b.op_with(&IOTA, &[], [SHAPE.is(vec![size]), AXIS.is(0), DTYPE.is(dtype)])
}

/// `start, start + delta, …` below `limit`: `max(⌈(limit − start)/delta⌉, 0)` elements.
fn import_range(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let dtype = node.ty(b, 0)?.dtype;
    let known: Option<Vec<Tensor>> = (0..3).map(|index| node.constant(b, index)).collect();
    let count = match known {
        Some(known) if known.iter().all(|bound| bound.elements() == 1) && dtype.is_float() => {
            let [start, limit, delta] = [0, 1, 2].map(|i| known[i].get(0).to_f64());
            Dim::constant(((limit - start) / delta).ceil().max(0.0) as i64)
        }
        _ => match symbolic_count(node, b)? {
            Some(count) => count,
            None => computed_count(node, b)?,
        },
    };
    let counted = iota(b, count, dtype)?;
    let (start, delta) = (reshape(b, node.input(0)?, vec![])?, reshape(b, node.input(2)?, vec![])?);
    let scaled = b.op(&MUL, &[counted, delta])?;
    Ok(vec![b.op(&ADD, &[scaled, start])?])
}

/// The number of elements, where the bounds are sizes and the step is a number.
fn symbolic_count(node: &NodeView, b: &mut Build) -> Result<Option<Dim>, ImportError> {
    let delta = node.known(b, 2).and_then(|delta| delta.first().and_then(Dim::as_const));
    let Some(delta) = delta.filter(|_| !node.ty(b, 0).is_ok_and(|ty| ty.dtype.is_float())) else {
        return Ok(None);
    };
    if delta == 0 {
        return Err(OpError::Attribute { key: "delta", why: "a step is 0" }.into());
    }
    // A bound that comes from outside may be negative.
    if [0, 1].into_iter().any(|index| node.is_raw(b, index)) {
        return Ok(None);
    }
    let mut bound = |index: usize, input| -> Result<Dim, ImportError> {
        let sizes = node.sizes(b, index, input)?;
        sizes.and_then(|sizes| sizes.first().cloned()).ok_or(ImportError::MissingInput { index })
    };
    let distance = bound(1, "limit")? - bound(0, "start")?;
    let distance = if delta < 0 { -distance } else { distance };
    let count = distance.ceil_div(&delta.abs().into());
    let is_size = crate::math::elementwise::is_nonnegative(&count);
    Ok(Some(if is_size { count } else { Dim::larger(&count, &Dim::constant(0)) }))
}

/// The number of elements, computed when the model runs.
fn computed_count(node: &NodeView, b: &mut Build) -> Result<Dim, ImportError> {
    let mut bounds = Vec::new();
    for index in 0..3 {
        bounds.push(reshape(b, node.input(index)?, vec![])?);
    }
    let dtype = b.ty(bounds[0]).dtype;
    // With a step of 0 it would never end.
    let nowhere = b.scalar(dtype, 0.0);
    let steps = b.op(&NE, &[bounds[2], nowhere])?;
    let steps = convert(b, steps, DType::I64)?;
    check_size(b, steps, "nonzero_delta", Dim::constant(1))?;
    let distance = b.op(&SUB, &[bounds[1], bounds[0]])?;
    let zero = b.scalar(DType::I64, 0.0);
    let count = if dtype.is_float() {
        let count = b.op(&DIV, &[distance, bounds[2]])?;
        let count = b.op(&CEIL, &[count])?;
        convert(b, count, DType::I64)?
    } else {
        // The ceiling of a quotient is the floor of its negative, negated; division truncates.
        let distance = convert(b, distance, DType::I64)?;
        let delta = convert(b, bounds[2], DType::I64)?;
        let whole = b.op(&DIV, &[distance, delta])?;
        let reached = b.op(&MUL, &[whole, delta])?;
        let short = b.op(&NE, &[reached, distance])?;
        let up = b.op(&LT, &[zero, delta])?;
        let more = b.op(&LT, &[zero, distance])?;
        let same_way = b.op(&EQ, &[up, more])?;
        let one_more = b.op(&AND, &[short, same_way])?;
        let one_more = convert(b, one_more, DType::I64)?;
        b.op(&ADD, &[whole, one_more])?
    };
    let count = b.op(&MAX, &[count, zero])?;
    Ok(as_size(b, count, node.op_type, None)?)
}

/// Ones on the diagonal that lies `k` above the main one.
fn import_eye_like(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let ty = node.ty(b, 0)?;
    let dtype = node.dtype("dtype")?.unwrap_or(ty.dtype);
    let k = b.scalar(DType::I64, node.int_or("k", 0)? as f64);
    let along = |axis: i64| [SHAPE.is(ty.shape.clone()), AXIS.is(axis), DTYPE.is(DType::I64)];
    if ty.rank() != 2 {
        return Err(OpError::Rank { operand: "input", expected: 2, found: ty.rank() }.into());
    }
    let (rows, columns) = (b.op_with(&IOTA, &[], along(0))?, b.op_with(&IOTA, &[], along(1))?);
    let diagonal = b.op(&ADD, &[rows, k])?;
    let ones = b.op(&EQ, &[diagonal, columns])?;
    Ok(vec![convert(b, ones, dtype)?])
}

/// The part of each matrix on and above (or below) the diagonal that lies `k` above the main one; 0
/// elsewhere.
fn import_trilu(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = b.ty(x).clone();
    if ty.rank() < 2 {
        return Err(OpError::RankAtLeast { operand: "input", least: 2, found: ty.rank() }.into());
    }
    let matrix = ty.shape[ty.rank() - 2..].to_vec();
    let along = |axis: i64| [SHAPE.is(matrix.clone()), AXIS.is(axis), DTYPE.is(DType::I64)];
    let (rows, columns) = (b.op_with(&IOTA, &[], along(0))?, b.op_with(&IOTA, &[], along(1))?);
    let diagonal = match node.optional_input(1) {
        None => rows,
        Some(k) => {
            let k = reshape(b, k, vec![])?;
            b.op(&ADD, &[rows, k])?
        }
    };
    let upper = node.flag("upper", true)?;
    let kept = b.op(&LE, &if upper { [diagonal, columns] } else { [columns, diagonal] })?;
    let nothing = b.scalar(ty.dtype, 0.0);
    Ok(vec![b.op(&WHERE, &[kept, x, nothing])?])
}

/// A range along one axis, stretched along the others.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let (shape, dtype) = (e.attrs.get(SHAPE), e.attrs.get(DTYPE));
    let axis = normalize_axis(e.attrs.get(AXIS), shape.len()).ok()?;
    let (start, limit, delta) = (e.number(DType::I64, 0.0), e.size(&shape[axis]), e.number(DType::I64, 1.0));
    let mut y = e.node("Range", &[start, limit, delta]);
    if axis + 1 < shape.len() {
        let mut column = vec![Dim::constant(1); shape.len() - axis];
        column[0] = Dim::constant(-1);
        let column = e.sizes(&column);
        y = e.node("Reshape", &[y, column]);
    }
    y = e.cast(y, DType::I64, dtype);
    let mut wide = shape.clone();
    wide[axis] = Dim::constant(1);
    if wide.iter().any(|size| !size.is(1)) {
        let wide = e.sizes(&wide);
        y = e.node("Expand", &[y, wide]);
    }
    Some(vec![y])
}
