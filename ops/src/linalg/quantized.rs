//! ONNX MatMulInteger, ConvInteger, QLinearMatMul and QLinearConv: products of quantized numbers.
//!
//! Operands become `i32` without their zeros; the product is exact, but for sums that leave `i32`, which wrap. The
//! last two multiply it with `scale_a · scale_b / scale_y` and quantize it. Source: ONNX, opsets 10 and 21.

use ir::DType;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::linalg::conv::{add_bias, convolve};
use crate::linalg::matmul::MATMUL;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::mul::MUL;
use crate::math::quantize::{along_axis, centred, saturated};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::reshape::reshape;

/// The ONNX ops.
pub static ONNX: &[Import] = &[
    by("MatMulInteger", |node, b| {
        let zeros = [node.optional_input(2), node.optional_input(3)];
        Ok(vec![matmul(node, b, [0, 1], zeros)?])
    }),
    by("ConvInteger", |node, b| {
        let zeros = [node.optional_input(2), node.optional_input(3)];
        Ok(vec![conv(node, b, [0, 1], zeros)?])
    }),
    by("QLinearMatMul", |node, b| {
        let product = matmul(node, b, [0, 3], [node.optional_input(2), node.optional_input(5)])?;
        let rank = b.ty(product).rank();
        let (a, c) = (per_row(b, node.input(1)?)?, per_column(b, node.input(4)?, rank)?);
        Ok(vec![requantized(node, b, product, [a, c])?])
    }),
    by("QLinearConv", |node, b| {
        let mut product = conv(node, b, [0, 3], [node.optional_input(2), node.optional_input(5)])?;
        if let Some(bias) = node.optional_input(8) {
            product = add_bias(b, product, bias)?;
        }
        let rank = b.ty(product).rank();
        let (x, w) = (reshape(b, node.input(1)?, vec![])?, along_axis(b, node.input(4)?, 1, rank)?);
        Ok(vec![requantized(node, b, product, [x, w])?])
    }),
];

/// The product of these two inputs without their zeros.
fn matmul(
    node: &NodeView,
    b: &mut Build,
    inputs: [usize; 2],
    zeros: [Option<Value>; 2],
) -> Result<Value, ImportError> {
    let (left, right) = (node.input(inputs[0])?, node.input(inputs[1])?);
    let rank = b.ty(right).rank();
    let left_zero = zeros[0].map(|zero| per_row(b, zero)).transpose()?;
    let right_zero = zeros[1].map(|zero| per_column(b, zero, rank)).transpose()?;
    let operands = [centred(b, left, left_zero, DType::I32)?, centred(b, right, right_zero, DType::I32)?];
    Ok(b.op(&MATMUL, &operands)?)
}

/// One value, or one for each row: a vector becomes a column.
fn per_row(b: &mut Build, value: Value) -> Result<Value, OpError> {
    let mut shape = b.ty(value).shape.clone();
    if shape.iter().all(|size| size.is(1)) {
        return reshape(b, value, vec![]);
    }
    if shape.len() == 1 {
        shape.push(ir::Dim::constant(1));
    }
    reshape(b, value, shape)
}

/// One value, or one for each column.
fn per_column(b: &mut Build, value: Value, rank: usize) -> Result<Value, OpError> {
    if b.ty(value).rank() > 1 { Ok(value) } else { along_axis(b, value, rank - 1, rank) }
}

/// The convolution of these two inputs without their zeros. What lies outside the image is the zero.
fn conv(
    node: &NodeView,
    b: &mut Build,
    inputs: [usize; 2],
    zeros: [Option<Value>; 2],
) -> Result<Value, ImportError> {
    let (x, w) = (node.input(inputs[0])?, node.input(inputs[1])?);
    let rank = b.ty(w).rank();
    let x_zero = zeros[0].map(|zero| reshape(b, zero, vec![])).transpose()?;
    let w_zero = zeros[1].map(|zero| along_axis(b, zero, 0, rank)).transpose()?;
    let (x, w) = (centred(b, x, x_zero, DType::I32)?, centred(b, w, w_zero, DType::I32)?);
    convolve(node, b, x, w)
}

/// An exact product, times the scales of the operands, quantized with inputs 6 and 7.
fn requantized(
    node: &NodeView,
    b: &mut Build,
    product: Value,
    scales: [Value; 2],
) -> Result<Value, ImportError> {
    let zero = node.input(7)?;
    let scale = reshape(b, node.input(6)?, vec![])?;
    let zero = reshape(b, zero, vec![])?;
    let wide = b.ty(scale).dtype.arithmetic();
    let [left, right] = [convert(b, scales[0], wide)?, convert(b, scales[1], wide)?];
    let scale = convert(b, scale, wide)?;
    let both = b.op(&MUL, &[left, right])?;
    let factor = b.op(&DIV, &[both, scale])?;
    let product = convert(b, product, wide)?;
    let y = b.op(&MUL, &[product, factor])?;
    let to = b.ty(zero).dtype;
    saturated(b, y, Some(zero), to)
}
