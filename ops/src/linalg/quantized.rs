//! Products of quantized numbers: MatMulInteger, ConvInteger, QLinearMatMul and QLinearConv of ONNX; MatMulIntegerToFloat,
//! DynamicQuantizeMatMul, QGemm and QLinearConv of onnxruntime.
//!
//! Operands become `i32` without their zeros; the product is exact, but for sums that leave `i32`, which wrap. It is
//! multiplied with the scales of the operands; where the result is quantized, it is divided by its scale before that.
//! DynamicQuantizeMatMul quantizes its first operand as DynamicQuantizeLinear does. Source: ONNX, opsets 10 and 21;
//! onnxruntime, contrib operators.

use ir::DType;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::linalg::conv::{add_bias, convolve};
use crate::linalg::matmul::MATMUL;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::mul::MUL;
use crate::math::quantize::{along_axis, centred, dynamically, saturated};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::reshape::reshape;
use crate::shape::transpose::{channels_first, channels_last, transpose};

/// The ops.
pub static ONNX: &[Import] = &[
    by("MatMulInteger", |node, b| {
        let operands = [node.input(0)?, node.input(1)?];
        Ok(vec![matmul(b, operands, [node.optional_input(2), node.optional_input(3)])?])
    }),
    by("ConvInteger", |node, b| {
        let operands = [node.input(0)?, node.input(1)?];
        Ok(vec![conv(node, b, operands, [node.optional_input(2), node.optional_input(3)])?])
    }),
    by("QLinearMatMul", |node, b| {
        let operands = [node.input(0)?, node.input(3)?];
        let product = matmul(b, operands, [node.optional_input(2), node.optional_input(5)])?;
        let rank = b.ty(product).rank();
        let (a, c) = (per_row(b, node.input(1)?)?, per_column(b, node.input(4)?, rank)?);
        Ok(vec![requantized(node, b, product, [a, c])?])
    }),
    by("QLinearConv", |node, b| Ok(vec![import_conv(node, b, node.input(0)?)?])),
    by("QLinearConv", |node, b| {
        let x = node.input(0)?;
        if !node.flag("channels_last", false)? {
            return Ok(vec![import_conv(node, b, x)?]);
        }
        let x = channels_first(b, x)?;
        let y = import_conv(node, b, x)?;
        Ok(vec![channels_last(b, y)?])
    })
    .in_domain("com.microsoft"),
    by("MatMulIntegerToFloat", |node, b| {
        let zeros = [node.optional_input(4), node.optional_input(5)];
        let operands = [node.input(0)?, node.input(1)?];
        Ok(vec![float_matmul(b, operands, zeros, [node.input(2)?, node.input(3)?], node.optional_input(6))?])
    })
    .in_domain("com.microsoft"),
    by("DynamicQuantizeMatMul", |node, b| {
        let [x, scale, zero] = dynamically(b, node.input(0)?)?;
        let (operands, zeros) = ([x, node.input(1)?], [Some(zero), node.optional_input(3)]);
        Ok(vec![float_matmul(b, operands, zeros, [scale, node.input(2)?], node.optional_input(4))?])
    })
    .in_domain("com.microsoft"),
    by("QGemm", import_gemm).in_domain("com.microsoft"),
];

/// QLinearConv of an image `[N, C, …]`.
fn import_conv(node: &NodeView, b: &mut Build, x: Value) -> Result<Value, ImportError> {
    let zeros = [node.optional_input(2), node.optional_input(5)];
    let mut product = conv(node, b, [x, node.input(3)?], zeros)?;
    if let Some(bias) = node.optional_input(8) {
        product = add_bias(b, product, bias)?;
    }
    let rank = b.ty(product).rank();
    let (x, w) = (reshape(b, node.input(1)?, vec![])?, along_axis(b, node.input(4)?, 1, rank)?);
    requantized(node, b, product, [x, w])
}

/// `alpha · scales · (A′B′ + C)`, quantized where the result has a scale.
fn import_gemm(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mut operands = [node.input(0)?, node.input(3)?];
    for (operand, (name, turned)) in operands.iter_mut().zip([("A", "transA"), ("B", "transB")]) {
        let found = b.ty(*operand).rank();
        if found != 2 {
            return Err(OpError::Rank { operand: name, expected: 2, found }.into());
        }
        if node.flag(turned, false)? {
            *operand = transpose(b, *operand, vec![1, 0])?;
        }
    }
    let mut product = matmul(b, operands, [node.optional_input(2), node.optional_input(5)])?;
    if let Some(bias) = node.optional_input(6) {
        product = b.op(&ADD, &[product, bias])?;
    }
    let scales = [per_row(b, node.input(1)?)?, per_column(b, node.input(4)?, 2)?];
    let mut factor = b.op(&MUL, &scales)?;
    let alpha = node.float_or("alpha", 1.0)?;
    if alpha != 1.0 {
        let alpha = b.scalar(b.ty(factor).dtype, alpha);
        factor = b.op(&MUL, &[factor, alpha])?;
    }
    let wide = b.ty(factor).dtype;
    let product = convert(b, product, wide)?;
    let Some(scale) = node.optional_input(7) else { return Ok(vec![b.op(&MUL, &[product, factor])?]) };
    let scale = reshape(b, scale, vec![])?;
    let factor = b.op(&DIV, &[factor, scale])?;
    let y = b.op(&MUL, &[product, factor])?;
    let zero = reshape(b, node.input(8)?, vec![])?;
    let to = b.ty(zero).dtype;
    Ok(vec![saturated(b, y, Some(zero), to)?])
}

/// The product of quantized operands with these zeros and scales, and a bias, as a float.
///
/// # Errors
/// [`OpError::Size`], and what the ops say of other operands.
pub(super) fn float_matmul(
    b: &mut Build,
    operands: [Value; 2],
    zeros: [Option<Value>; 2],
    [left, right]: [Value; 2],
    bias: Option<Value>,
) -> Result<Value, ImportError> {
    let product = matmul(b, operands, zeros)?;
    let rank = b.ty(product).rank();
    let to = b.ty(right).dtype;
    let wide = to.arithmetic();
    let (left, right) = (per_row(b, left)?, per_column(b, right, rank)?);
    let (left, right) = (convert(b, left, wide)?, convert(b, right, wide)?);
    let factor = b.op(&MUL, &[left, right])?;
    let product = convert(b, product, wide)?;
    let mut y = b.op(&MUL, &[product, factor])?;
    if let Some(bias) = bias {
        let bias = convert(b, bias, wide)?;
        y = b.op(&ADD, &[y, bias])?;
    }
    Ok(convert(b, y, to)?)
}

/// The product of these two without their zeros.
fn matmul(b: &mut Build, [left, right]: [Value; 2], zeros: [Option<Value>; 2]) -> Result<Value, ImportError> {
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

/// The convolution of these two without their zeros. What lies outside the image is the zero.
fn conv(
    node: &NodeView,
    b: &mut Build,
    [x, w]: [Value; 2],
    zeros: [Option<Value>; 2],
) -> Result<Value, ImportError> {
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
