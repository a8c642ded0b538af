//! A cache with new entries: from a place of its own for each member of the batch on, along one axis.
//!
//! Source: ONNX TensorScatter, opset 24.

use ir::DType;
use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpError, normalize_axis};

use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::modulo::MODULO;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::broadcast::broadcast;
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::scatter_elements::{self, SCATTER_ELEMENTS};
use crate::shape::size::size;

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("TensorScatter", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (cache, update) = (node.input(0)?, node.input(1)?);
    let (shape, new) = (b.ty(cache).shape.clone(), b.ty(update).shape.clone());
    if new.len() != shape.len() {
        return Err(OpError::Rank { operand: "update", expected: shape.len(), found: new.len() }.into());
    }
    let axis = normalize_axis(node.int_or("axis", -2)?, shape.len())?;
    let is_ring = match node.str_or("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(ImportError::value("mode", other, "linear and circular")),
    };
    let mut row = vec![Dim::constant(1); shape.len()];
    row[axis] = new[axis].clone();
    let place = iota(b, new[axis].clone(), DType::I64)?;
    let mut place = reshape(b, place, row)?;
    if let Some(first) = node.optional_input(2) {
        let mut column = vec![Dim::constant(1); shape.len()];
        column[0] = shape[0].clone();
        let first = reshape(b, first, column)?;
        let first = convert(b, first, DType::I64)?;
        place = b.op(&ADD, &[place, first])?;
    }
    if is_ring {
        let extent = size(b, DType::I64, &shape[axis])?;
        place = b.op(&MODULO, &[place, extent])?;
    }
    Ok(vec![written(b, cache, update, axis, place)?])
}

/// `cache` with the entries of `update` at these places along an axis, which broadcast to it.
///
/// # Errors
/// [`OpError::Size`].
pub(crate) fn written(
    b: &mut Build,
    cache: Value,
    update: Value,
    axis: usize,
    places: Value,
) -> Result<Value, OpError> {
    let places = broadcast(b, places, b.ty(update).shape.clone())?;
    b.op_with(&SCATTER_ELEMENTS, &[cache, places, update], [scatter_elements::AXIS.is(axis as i64)])
}
