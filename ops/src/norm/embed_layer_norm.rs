//! onnxruntime's EmbedLayerNormalization: `layer_norm(words[ids] + positions + segments[segment_ids]) · gamma + beta`.
//!
//! - `input_ids: [N, L]`, tables `[…, H]`; the result is `[N, L, H]`. Without `position_ids`, positions count from 0; segments
//!   may be left out.
//! - The other results are how many elements of `mask` are 1, for each of the batch, and the sum that is normalised.
//! - QEmbedLayerNormalization has quantized tables, gamma and beta, each with a scale and a zero.
//!
//! Source: onnxruntime, contrib operators, EmbedLayerNormalization and QEmbedLayerNormalization.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::eq::EQ;
use crate::math::mul::MUL;
use crate::math::quantize::dequantized;
use crate::norm::layer_norm::{LAYER_NORM, SKIP_EPSILON};
use crate::norm::{AXES, EPSILON};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::broadcast::broadcast;
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;

/// The ops.
pub static ONNX: &[Import] = &[
    by("EmbedLayerNormalization", import).in_domain("com.microsoft"),
    by("QEmbedLayerNormalization", import_quantized).in_domain("com.microsoft"),
];

/// The numbers that input `index` holds, once rows were taken from it.
type Numbers<'n> = dyn Fn(&mut Build, usize, Value) -> Result<Value, ImportError> + 'n;

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    // Whether anybody asks for the second result.
    node.ignore(&["mask_index_type"]);
    embedded(node, b, node.optional_input(8), &|_, _, rows| Ok(rows))
}

fn import_quantized(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    // Behind the mask come the scales of the tables, gamma and beta, and then their zeros.
    embedded(node, b, None, &|b, index, rows| {
        let scale = reshape(b, node.input(index + 6)?, vec![])?;
        let zero = reshape(b, node.input(index + 11)?, vec![])?;
        let to = b.ty(scale).dtype;
        Ok(dequantized(b, rows, Some(zero), scale, to)?)
    })
}

fn embedded(
    node: &NodeView,
    b: &mut Build,
    places: Option<Value>,
    numbers: &Numbers<'_>,
) -> Result<Vec<Value>, ImportError> {
    let ids = node.input(0)?;
    let shape = b.ty(ids).shape.clone();
    let [images, length] = &shape[..] else {
        return Err(OpError::Rank { operand: "input_ids", expected: 2, found: shape.len() }.into());
    };
    let rows = |b: &mut Build, table: usize, ids: Value| {
        let rows = b.op_with(&GATHER, &[node.input(table)?, ids], [AXIS.is(0)])?;
        numbers(b, table, rows)
    };
    let words = rows(b, 2, ids)?;
    let positions = match places {
        Some(places) => rows(b, 3, places)?,
        None => {
            let first = slice_axis(b, node.input(3)?, 0, Dim::constant(0), length.clone())?;
            numbers(b, 3, first)?
        }
    };
    let mut sum = b.op(&ADD, &[words, positions])?;
    if let Some(segments) = node.optional_input(1) {
        let segments = rows(b, 4, segments)?;
        sum = b.op(&ADD, &[sum, segments])?;
    }
    let epsilon = EPSILON.is(node.float_or("epsilon", SKIP_EPSILON)?);
    let normal = b.op_with(&LAYER_NORM, &[sum], [AXES.is(vec![-1]), epsilon])?;
    let (gamma, beta) = (node.input(5)?, node.input(6)?);
    let (gamma, beta) = (numbers(b, 5, gamma)?, numbers(b, 6, beta)?);
    let scaled = b.op(&MUL, &[normal, gamma])?;
    let y = b.op(&ADD, &[scaled, beta])?;
    Ok(vec![y, counted(node, b, images)?, sum])
}

/// How many elements of the mask are 1; none without.
fn counted(node: &NodeView, b: &mut Build, images: &Dim) -> Result<Value, ImportError> {
    let Some(mask) = node.optional_input(7) else {
        let zero = b.scalar(DType::I32, 0.0);
        return Ok(broadcast(b, zero, vec![images.clone()])?);
    };
    let one = b.scalar(b.ty(mask).dtype, 1.0);
    let is_one = b.op(&EQ, &[mask, one])?;
    let ones = convert(b, is_one, DType::I32)?;
    Ok(reduce(b, &REDUCE_SUM, ones, &[1], false)?)
}
