//! `broadcast(x)`: `x` stretched to `shape` as in numpy.
//!
//! Shapes: right-aligned, each size of `x` is 1 or that of `shape`. Errors: [`OpError::Size`] else.
//! Source: ONNX Expand, opset 13; Tile, opset 13; ConstantOfShape, opset 25.

use ir::attr::Attrs;
use ir::attr::{Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes, normalize_axis};
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType};

use crate::flow::as_size::{as_size, check_size};
use crate::math::elementwise::broadcast_sizes;
use crate::math::eq::EQ;
use crate::math::or::OR;
use crate::math::r#where::WHERE;
use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::reference;
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::size::size;

/// Stretched as in numpy.
pub static BROADCAST: OpDef = OpDef::new("broadcast", &["x"], &Broadcast).attrs(&[SHAPE.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("Expand", import),
    by("Tile", import_tile_axis),
    since("Tile", 6, import_tile),
    by("ConstantOfShape", import_constant_of_shape),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

/// The sizes of the result.
pub const SHAPE: Key<Vec<Dim>> = key("shape");

struct Broadcast;

impl Semantics for Broadcast {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, shape) = (cx.operands[0], cx.attrs.get(SHAPE));
        if x.rank() > shape.len() {
            return Err(OpError::Rank { operand: "x", expected: shape.len(), found: x.rank() });
        }
        let skip = shape.len() - x.rank();
        for (left, right) in x.shape.iter().zip(&shape[skip..]) {
            if !left.is(1) && left != right {
                let (left, right) = (left.clone(), right.clone());
                return Err(OpError::Size { what: "operand does not broadcast", left, right });
            }
        }
        Ok(vec![x.with_shape(shape)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        Ok(vec![Tensor::from_fn(dtype, &shape, |at| reference::broadcast_at(cx.operands[0], at))])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        cx.pointwise(|x| x[0].clone())
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        broadcast_sizes(cx, |x| Some(x[0].clone()))
    }

    fn is_identity(&self, _: &Attrs) -> bool {
        true
    }

    fn after_itself(&self, outer: &Attrs, _: &Attrs) -> Option<Attrs> {
        Some(outer.clone())
    }
}

/// `x` stretched to this shape: itself, if that is its shape.
///
/// # Errors
/// [`OpError::Size`].
pub fn broadcast(b: &mut Build, x: Value, shape: Vec<Dim>) -> Result<Value, OpError> {
    if b.ty(x).shape == shape { Ok(x) } else { b.op_with(&BROADCAST, &[x], [SHAPE.is(shape)]) }
}

/// In ONNX, sizes 1 in `shape` stretch, too.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    if node.is_raw(b, 1) {
        return import_run_time(node, b);
    }
    let shape = node.sizes(b, 1, "shape")?.ok_or(ImportError::MissingInput { index: 1 })?;
    let both = ir::types::broadcast(&b.ty(x).shape, &shape);
    let shape =
        both.map_err(|(left, right)| OpError::Size { what: "operand does not broadcast", left, right })?;
    Ok(vec![broadcast(b, x, shape)?])
}

/// The same, where `shape` is known only when the model runs: whether it or `x` stretches, too, along axes of `x` whose
/// size is not known to be 1.
fn import_run_time(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mut y = node.input(0)?;
    let given = node.elements(b, 1, "shape")?;
    let sizes = b.ty(y).shape.clone();
    let rank = sizes.len().max(given.len());
    let sizes = [vec![Dim::constant(1); rank - sizes.len()], sizes].concat();
    y = reshape(b, y, sizes.clone())?;
    let mut shape = sizes.clone();
    for (i, wanted) in given.iter().enumerate() {
        let axis = rank - given.len() + i;
        let old = &sizes[axis];
        if old.is(1) {
            shape[axis] = as_size(b, *wanted, node.op_type, None)?;
            continue;
        }
        let (extent, one) = (size(b, DType::I64, old)?, b.scalar(DType::I64, 1.0));
        let (stays, equal) = (b.op(&EQ, &[*wanted, one])?, b.op(&EQ, &[*wanted, extent])?);
        let mut fits = b.op(&OR, &[stays, equal])?;
        if old.as_const().is_none() {
            let stretches = b.op(&EQ, &[extent, one])?;
            fits = b.op(&OR, &[fits, stretches])?;
            let new = b.op(&WHERE, &[stays, extent, *wanted])?;
            shape[axis] = as_size(b, new, node.op_type, None)?;
            // Beyond the only element, there is that element.
            let counted = iota(b, shape[axis].clone(), DType::I64)?;
            y = b.op_with(&GATHER, &[y, counted], [AXIS.is(axis as i64)])?;
        }
        let found = b.op(&WHERE, &[fits, extent, *wanted])?;
        check_size(b, found, node.op_type, old.clone())?;
    }
    Ok(vec![broadcast(b, y, shape)?])
}

/// Each axis repeated: a new axis in front of it, stretched, then both as one.
fn import_tile(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let repeats = node.sizes(b, 1, "repeats")?.ok_or(ImportError::MissingInput { index: 1 })?;
    Ok(vec![tile(b, x, &repeats)?])
}

/// Before opset 6: along one axis.
fn import_tile_axis(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let tiles = node.sizes(b, 1, "tiles")?.and_then(|sizes| sizes.first().cloned());
    let tiles = tiles.ok_or(ImportError::MissingInput { index: 1 })?;
    let axis = node.sizes(b, 2, "axis")?.and_then(|axis| axis.first().cloned());
    let axis = axis.ok_or(ImportError::MissingInput { index: 2 })?;
    let axis = axis.as_const().ok_or(ImportError::RunTimeValue { index: 2, input: "axis" })?;
    let mut repeats = vec![Dim::constant(1); b.ty(x).rank()];
    let axis = normalize_axis(axis, repeats.len())?;
    repeats[axis] = tiles;
    Ok(vec![tile(b, x, &repeats)?])
}

fn tile(b: &mut Build, x: Value, repeats: &[Dim]) -> Result<Value, OpError> {
    let sizes = b.ty(x).shape.clone();
    if repeats.len() != sizes.len() {
        let (expected, found) = (sizes.len(), repeats.len());
        return Err(OpError::Rank { operand: "repeats", expected, found });
    }
    let pairs = |first: &dyn Fn(usize) -> Dim| -> Vec<Dim> {
        (0..sizes.len()).flat_map(|axis| [first(axis), sizes[axis].clone()]).collect()
    };
    let split = reshape(b, x, pairs(&|_| Dim::constant(1)))?;
    let wide = broadcast(b, split, pairs(&|axis| repeats[axis].clone()))?;
    let shape = sizes.iter().zip(repeats).map(|(size, times)| size.clone() * times.clone()).collect();
    reshape(b, wide, shape)
}

/// Without `value`, it is an `f32` zero.
fn import_constant_of_shape(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let shape = node.sizes(b, 0, "input")?.ok_or(ImportError::MissingInput { index: 0 })?;
    let value = match node.tensor("value")? {
        None => Scalar::f32(0.0),
        Some(tensor) if tensor.elements() == 1 => tensor.get(0),
        Some(_) => {
            let why = "it must have one element".to_owned();
            return Err(ImportError::Attribute { name: "value".to_owned(), why });
        }
    };
    let value = b.constant(&Tensor::scalar(value));
    Ok(vec![broadcast(b, value, shape)?])
}

/// In ONNX, a size of 1 leaves what is there.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let (x, mut shape) = (e.ty(0).shape.clone(), e.attrs.get(SHAPE));
    let skip = shape.len() - x.len();
    for (size, own) in shape[skip..].iter_mut().zip(&x) {
        if size == own {
            *size = Dim::constant(1);
        }
    }
    let shape = e.sizes(&shape);
    Some(vec![e.node("Expand", &[e.x(0), shape])])
}
