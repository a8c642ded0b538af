//! One-hot encoding: `on` where the index along a new axis is the element, `off` elsewhere.
//!
//! A comparison with `0, 1, …, depth − 1`. A negative index counts from the end; an index out of range gives `off`
//! everywhere. Source: ONNX OneHot, opset 11.

use ir::build::Build;
use ir::graph::Value;
use ir::op::normalize_axis;
use ir::{DType, Dim, Tensor};

use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::eq::EQ;
use crate::math::lt::LT;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, since};
use crate::shape::gather::GATHER;
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::size::size;

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[since("OneHot", 9, import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (indices, values) = (node.input(0)?, node.input(2)?);
    let depth = match node.constant(b, 1).filter(|depth| depth.dtype().is_float()) {
        Some(depth) => depth.to_i64().first().map(|&depth| Dim::constant(depth)),
        None => node.sizes(b, 1, "depth")?.and_then(|sizes| sizes.first().cloned()),
    };
    let depth = depth.ok_or(ImportError::MissingInput { index: 1 })?;
    let mut shape = b.ty(indices).shape.clone();
    let axis = normalize_axis(node.int_or("axis", -1)?, shape.len() + 1)?;
    let behind = shape.len() - axis;
    shape.insert(axis, Dim::constant(1));
    let index = convert(b, indices, DType::I64)?;
    let index = reshape(b, index, shape)?;
    let (zero, end) = (b.scalar(DType::I64, 0.0), size(b, DType::I64, &depth)?);
    let (negative, from_end) = (b.op(&LT, &[index, zero])?, b.op(&ADD, &[index, end])?);
    let index = b.op(&WHERE, &[negative, from_end, index])?;
    let counted = iota(b, depth.clone(), DType::I64)?;
    let column = [depth].into_iter().chain(std::iter::repeat_n(Dim::constant(1), behind)).collect();
    let counted = reshape(b, counted, column)?;
    let is_on = b.op(&EQ, &[index, counted])?;
    let mut value = |at: i64| {
        let at = b.constant(&Tensor::from_i64(&[], &[at]));
        b.op(&GATHER, &[values, at])
    };
    let (off, on) = (value(0)?, value(1)?);
    Ok(vec![b.op(&WHERE, &[is_on, on, off])?])
}
