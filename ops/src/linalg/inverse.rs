//! The inverse of each matrix: a loop over columns brings the largest element of each to the diagonal, scales its row, and
//! takes it from all others; what that makes of the identity is the result.
//!
//! `x: […, M, M]`; 16-bit floats are computed in `f32`. A matrix without an inverse gives no numbers.
//! Source: onnxruntime, contrib operators, Inverse.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::flow::r#loop::{Repeat, repeat};
use crate::linalg::det::{Pivoted, pivoted, square};
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::broadcast::broadcast;
use crate::shape::concat::{AXIS, CONCAT};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;

/// The op.
pub static ONNX: &[Import] = &[by("Inverse", import).in_domain("com.microsoft")];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = b.ty(x).clone();
    let (batch, rows) = square(&ty)?;
    let (one, wide) = (Dim::constant(1), ty.dtype.arithmetic());
    let count: Dim = batch.iter().cloned().product();
    let shape = vec![count, rows.clone(), rows.clone()];
    let matrices = convert(b, x, wide)?;
    let matrices = reshape(b, matrices, shape.clone())?;
    let number = iota(b, rows.clone(), DType::I64)?;
    let column = reshape(b, number, vec![rows.clone(), one])?;
    let identity = b.op(&EQ, &[column, number])?;
    let identity = convert(b, identity, wide)?;
    let identity = broadcast(b, identity, shape)?;
    let both = b.op_with(&CONCAT, &[matrices, identity], [AXIS.is(2)])?;
    let index = b.fresh_symbol("column");
    let mut body = Build::new("eliminate");
    body.set_origin(b.origin().clone());
    let inside = body.input("in0", b.ty(both).clone());
    let after = eliminate(&mut body, inside, &Dim::from(&index))?;
    let parts = Repeat {
        body: body.finish(vec![after]),
        index,
        count: Some(rows.clone()),
        cond: None,
        carried: vec![both],
        captures: vec![],
        changing: vec![],
    };
    let both = repeat(b, parts, "inverse")?[0];
    let inverse = slice_axis(b, both, 2, rows.clone(), rows.clone())?;
    let inverse = reshape(b, inverse, ty.shape.clone())?;
    Ok(vec![convert(b, inverse, ty.dtype)?])
}

/// Matrices whose column `at` is that of the identity.
fn eliminate(b: &mut Build, x: Value, at: &Dim) -> Result<Value, OpError> {
    let Pivoted { matrices, row, rows, here, .. } = pivoted(b, x, at)?;
    let pivot = slice_axis(b, row, 2, at.clone(), Dim::constant(1))?;
    let row = b.op(&DIV, &[row, pivot])?;
    let factor = slice_axis(b, matrices, 2, at.clone(), Dim::constant(1))?;
    let part = b.op(&MUL, &[factor, row])?;
    let rest = b.op(&SUB, &[matrices, part])?;
    let is_here = b.op(&EQ, &[rows, here])?;
    b.op(&WHERE, &[is_here, row, rest])
}
