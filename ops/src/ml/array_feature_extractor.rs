//! Some of the columns of an array: elements of the last axis, of which there is at least one before.
//!
//! Source: ONNX ai.onnx.ml.ArrayFeatureExtractor, version 1.

use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::ml::DOMAIN;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::reshape::reshape;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("ArrayFeatureExtractor", import).in_domain(DOMAIN)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (mut x, index) = (node.input(0)?, node.input(1)?);
    let shape = b.ty(x).shape.clone();
    match shape.as_slice() {
        [] => return Err(OpError::RankAtLeast { operand: "X", least: 1, found: 0 }.into()),
        [length] => x = reshape(b, x, vec![Dim::constant(1), length.clone()])?,
        _ => {}
    }
    let count = b.ty(index).elements();
    let index = reshape(b, index, vec![count])?;
    Ok(vec![b.op_with(&GATHER, &[x, index], [AXIS.is(-1)])?])
}
