//! onnxruntime's MatMulNBits: `x · Wᵀ + bias`, `W = (q − zero) · scale` by blocks of its rows.
//!
//! `x: […, K]`, `q: [N, blocks, block · bits / 8]`, packed; scales `[N, blocks]`, zeros likewise, or packed along each row.
//! A deprecated `g_idx: [K]` says to which block each column belongs. With `weight_prepacked` 1, `q` is packed for GPUs
//! (`math/block_quantized.rs`). 16-bit floats are computed in `f32`.
//! Source: onnxruntime, contrib operators, MatMulNBits.

use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::linalg::matmul::MATMUL;
use crate::math::add::ADD;
use crate::math::block_quantized::{Packing, import_bits, import_block};
use crate::math::cast::convert;
use crate::math::quantize::dequantized;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;
use crate::shape::transpose::swap_last_two;

/// The op.
pub static ONNX: &[Import] = &[by("MatMulNBits", import).in_domain("com.microsoft")];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    // How exact it is at least.
    node.ignore(&["accuracy_level"]);
    let x = node.input(0)?;
    let dtype = b.ty(x).dtype;
    let wide = dtype.arithmetic();
    let weights = weights(node, b, wide)?;
    let columns = swap_last_two(b, weights)?;
    let x = convert(b, x, wide)?;
    let mut y = b.op(&MATMUL, &[x, columns])?;
    if let Some(bias) = node.optional_input(5) {
        let bias = convert(b, bias, wide)?;
        y = b.op(&ADD, &[y, bias])?;
    }
    Ok(vec![convert(b, y, dtype)?])
}

/// `W: [N, K]`.
fn weights(node: &NodeView, b: &mut Build, wide: ir::DType) -> Result<Value, ImportError> {
    let [rows, columns] = ["N", "K"].map(|name| node.int(name).and_then(|size| node.required(name, size)));
    let (rows, columns) = (Dim::constant(rows?), Dim::constant(columns?));
    let block = node.required("block_size", import_block(node)?)?;
    let packing = Packing { bits: import_bits(node, "bits", 4)?, block: Some(block) };
    let blocks = packing.blocks(&columns);
    let padded = blocks.clone() * block.into();
    let w = match node.int_or("weight_prepacked", 0)? {
        0 => {
            let packed = reshape(b, node.input(1)?, vec![rows.clone(), packing.bytes(&padded)])?;
            let whole = packing.unpacked(b, packed)?;
            slice_axis(b, whole, 1, Dim::constant(0), columns.clone())?
        }
        1 => {
            let shape = [Dim::constant(1), rows.clone(), columns.clone()];
            let w = packing.unpacked_from_tiles(b, node.input(1)?, shape)?;
            reshape(b, w, vec![rows.clone(), columns.clone()])?
        }
        other => return Err(ImportError::value("weight_prepacked", other, "0 and 1")),
    };
    let each = vec![rows, blocks];
    let scale = reshape(b, node.input(2)?, each.clone())?;
    let zero = packing.zeros(b, node.optional_input(3), &each)?;
    let Some(groups) = node.optional_input(4) else {
        return Ok(packing.dequantized(b, w, [zero, scale], wide)?);
    };
    if b.ty(groups).rank() != 1 {
        return Err(OpError::Rank { operand: "g_idx", expected: 1, found: b.ty(groups).rank() }.into());
    }
    let groups = slice_axis(b, groups, 0, Dim::constant(0), columns)?;
    let scale = b.op_with(&GATHER, &[scale, groups], [AXIS.is(1)])?;
    let zero = match b.ty(zero).rank() {
        0 => zero,
        _ => b.op_with(&GATHER, &[zero, groups], [AXIS.is(1)])?,
    };
    Ok(dequantized(b, w, Some(zero), scale, wide)?)
}
