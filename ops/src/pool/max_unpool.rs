//! What max pooling took, put back where it was, among zeros.
//!
//! `x: [N, C, …]` and the places that MaxPool gave, which count the elements of the whole array. Its sizes are the
//! smallest that pooling makes those of `x` from; `output_shape` may ask for more, which follows behind and is not counted.
//! Source: ONNX MaxUnpool, opset 22, and its tests.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::math::cast::convert;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::broadcast::broadcast;
use crate::shape::pad::{HIGH, LOW, PAD};
use crate::shape::reshape::reshape;
use crate::shape::scatter_nd::SCATTER_ND;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("MaxUnpool", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (x, places) = (node.input(0)?, node.input(1)?);
    let ty = b.ty(x).clone();
    let kernel = node.ints("kernel_shape")?;
    let kernel = node.required("kernel_shape", kernel)?;
    let rank = kernel.len();
    if ty.rank() != rank + 2 {
        return Err(OpError::Rank { operand: "X", expected: rank + 2, found: ty.rank() }.into());
    }
    let list = |name: &str, count: usize, default: i64| -> Result<Vec<i64>, ImportError> {
        let given = node.ints(name)?.unwrap_or_else(|| vec![default; count]);
        if given.len() == count {
            return Ok(given);
        }
        Err(ImportError::Attribute { name: name.to_owned(), why: format!("{count} numbers are needed") })
    };
    let (strides, pads) = (list("strides", rank, 1)?, list("pads", 2 * rank, 0)?);
    let mut shape = ty.shape.clone();
    for (axis, size) in shape[2..].iter_mut().enumerate() {
        let window = Dim::constant(kernel[axis]) - pads[axis].into() - pads[rank + axis].into();
        *size = (size.clone() - Dim::constant(1)) * strides[axis].into() + window;
        if size.as_const().is_some_and(|size| size < 0) {
            return Err(ImportError::value("pads", size, "amounts that leave something"));
        }
    }
    let zero = b.scalar(ty.dtype, 0.0);
    let empty = broadcast(b, zero, vec![shape.iter().cloned().product()])?;
    let column = vec![ty.elements(), Dim::constant(1)];
    let places = convert(b, places, DType::I64)?;
    let places = reshape(b, places, column)?;
    let values = reshape(b, x, vec![ty.elements()])?;
    let filled = b.op(&SCATTER_ND, &[empty, places, values])?;
    let mut y = reshape(b, filled, shape.clone())?;
    if let Some(wanted) = node.sizes(b, 2, "output_shape")? {
        if wanted.len() != shape.len() {
            let (expected, found) = (shape.len(), wanted.len());
            return Err(OpError::Rank { operand: "output_shape", expected, found }.into());
        }
        let behind = wanted.into_iter().zip(&shape).map(|(wanted, size)| wanted - size.clone()).collect();
        let before = vec![Dim::constant(0); shape.len()];
        y = b.op_with(&PAD, &[y, zero], [LOW.is(before), HIGH.is(behind)])?;
    }
    Ok(vec![y])
}
