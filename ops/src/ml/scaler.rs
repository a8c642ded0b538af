//! `(x − offset) · scale`, in `f32`, with one number for all or one for each element of the last axis.
//!
//! Source: ONNX ai.onnx.ml.Scaler, version 1.

use ir::build::Build;
use ir::graph::Value;
use ir::{DType, Scalar, Tensor};

use crate::math::cast::convert;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::ml::DOMAIN;
use crate::onnx::{Import, ImportError, NodeView, by};

/// The ONNX op.
pub static ONNX: &[Import] = &[by("Scaler", import).in_domain(DOMAIN)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    // Differences of `f64` and of large integers are taken before they are rounded.
    let wide = match b.ty(x).dtype {
        DType::F32 => DType::F32,
        _ => DType::F64,
    };
    let mut y = convert(b, x, wide)?;
    for (name, op) in [("offset", &SUB), ("scale", &MUL)] {
        let numbers = node.floats(name)?;
        let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) else { continue };
        let number = |i: usize| Scalar::from_f64(wide, numbers[i]);
        let numbers = match numbers.len() {
            1 => Tensor::scalar(number(0)),
            count => Tensor::from_fn(wide, &[count], |at| number(at[0])),
        };
        let numbers = b.constant(&numbers);
        y = b.op(op, &[y, numbers])?;
    }
    Ok(vec![convert(b, y, DType::F32)?])
}
