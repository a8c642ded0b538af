//! The first elements of each sequence of a batch, backwards: `y[t, b] = x[n_b − 1 − t, b]` below `n_b`, `x[t, b]` from
//! there on.
//!
//! Source: ONNX ReverseSequence, opset 10.

use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpError, normalize_axis};
use ir::{DType, Dim};

use crate::math::cast::convert;
use crate::math::lt::LT;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::broadcast::broadcast;
use crate::shape::gather_elements::{self, GATHER_ELEMENTS};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("ReverseSequence", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, lengths) = (node.input(0)?, node.input(1)?);
    let shape = b.ty(x).shape.clone();
    let batch = normalize_axis(node.int_or("batch_axis", 1)?, shape.len())?;
    let time = normalize_axis(node.int_or("time_axis", 0)?, shape.len())?;
    if batch == time {
        let why = "it is the batch axis, too".to_owned();
        return Err(ImportError::Attribute { name: "time_axis".to_owned(), why });
    }
    let along = |axis: usize| -> Vec<Dim> {
        let size = |other: usize| if other == axis { shape[axis].clone() } else { Dim::constant(1) };
        (0..shape.len()).map(size).collect()
    };
    let lengths = reshape(b, lengths, along(batch))?;
    let lengths = convert(b, lengths, DType::I64)?;
    let position = iota(b, shape[time].clone(), DType::I64)?;
    let position = reshape(b, position, along(time))?;
    let one = b.scalar(DType::I64, 1.0);
    let last = b.op(&SUB, &[lengths, one])?;
    let backwards = b.op(&SUB, &[last, position])?;
    let turns = b.op(&LT, &[position, lengths])?;
    let from = b.op(&WHERE, &[turns, backwards, position])?;
    let from = broadcast(b, from, shape)?;
    let taken = b.op_with(&GATHER_ELEMENTS, &[x, from], [gather_elements::AXIS.is(time as i64)]);
    taken.map(|y| vec![y]).map_err(|error: OpError| error.into())
}
