//! onnxruntime's GatherBlockQuantized: rows of a quantized table, `(q − zero) · scale` by blocks of an axis. Rows that
//! there are not are zeros.
//!
//! `data` are integers of 4 bits, bytes that hold several of 2 or 4 along the last axis, or narrow floats, without zeros.
//! Scales and zeros have the axes of `data`. Without zeros, those of bytes are in the middle of the range.
//! Source: onnxruntime, contrib operators, GatherBlockQuantized.

use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpError, normalize_axis};
use ir::{DType, Dim};

use crate::math::and::AND;
use crate::math::block_quantized::{Packing, import_bits};
use crate::math::cast::convert;
use crate::math::ge::GE;
use crate::math::lt::LT;
use crate::math::quantize::{along_blocks, dequantized};
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::reshape::reshape;
use crate::shape::size::size;

/// The op.
pub static ONNX: &[Import] = &[by("GatherBlockQuantized", import).in_domain("com.microsoft")];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (mut data, indices, scales) = (node.input(0)?, node.input(1)?, node.input(2)?);
    let ty = b.ty(data).clone();
    let rank = ty.rank();
    let gathered = normalize_axis(node.int_or("gather_axis", 0)?, rank)?;
    let axis = normalize_axis(node.int_or("quantize_axis", 1)?, rank)?;
    if b.ty(scales).rank() != rank {
        return Err(OpError::Rank { operand: "scales", expected: rank, found: b.ty(scales).rank() }.into());
    }
    let bits = import_bits(node, "bits", 4)?;
    let given = node.int_or("block_size", 128)?;
    let mut zeros = node.optional_input(3);
    if ty.dtype == DType::U8 {
        if axis + 1 != rank || gathered == axis {
            let known = "that of another axis than the last, along which bytes hold several elements";
            return Err(ImportError::value("gather_axis", gathered, known));
        }
        let packing = Packing { bits, block: Some(given) };
        data = packing.unpacked(b, data)?;
        let each = b.ty(scales).shape.clone();
        zeros = Some(packing.zeros(b, zeros, &each)?);
    }
    let block = match given {
        0 if ty.dtype.is_float() => b.ty(data).shape[axis].as_const().unwrap_or(0),
        block => block,
    };
    let wide = b.ty(scales).dtype.arithmetic();
    let table = Table { gathered, axis, indices };
    let y = if gathered == axis {
        let shape = b.ty(data).shape.clone();
        let scale = along_blocks(b, scales, &shape, axis, block)?;
        let zero = zeros.map(|zero| along_blocks(b, zero, &shape, axis, block)).transpose()?;
        let whole = dequantized(b, data, zero, scale, wide)?;
        table.rows(b, whole)?
    } else {
        let rows = table.rows(b, data)?;
        let shape = b.ty(rows).shape.clone();
        let place = table.place(b, axis);
        let mut spread = |value: Value| {
            if b.ty(value).rank() == 0 {
                return Ok(value);
            }
            let own = table.rows(b, value)?;
            along_blocks(b, own, &shape, place, block)
        };
        let (scale, zero) = (spread(scales)?, zeros.map(&mut spread).transpose()?);
        dequantized(b, rows, zero, scale, wide)?
    };
    let y = table.zero_elsewhere(b, y, &ty.shape[gathered])?;
    let dtype = b.ty(scales).dtype;
    Ok(vec![convert(b, y, dtype)?])
}

/// What is gathered: `indices` along one axis of tensors that are quantized along another.
struct Table {
    gathered: usize,
    axis: usize,
    indices: Value,
}

impl Table {
    /// The rows of a tensor of the table's axes. One row alone stands for all.
    fn rows(&self, b: &mut Build, x: Value) -> Result<Value, OpError> {
        let shape = b.ty(x).shape.clone();
        if !shape[self.gathered].is(1) || self.gathered == self.axis {
            return b.op_with(&GATHER, &[x, self.indices], [AXIS.is(self.gathered as i64)]);
        }
        let ones = vec![Dim::constant(1); b.ty(self.indices).rank()];
        reshape(b, x, [&shape[..self.gathered], &ones, &shape[self.gathered + 1..]].concat())
    }

    /// Which axis of the rows an axis of the table becomes.
    fn place(&self, b: &Build, axis: usize) -> usize {
        if axis < self.gathered { axis } else { axis + b.ty(self.indices).rank() - 1 }
    }

    /// `y`, but zeros for indices beyond a table of so many rows.
    fn zero_elsewhere(&self, b: &mut Build, y: Value, rows: &Dim) -> Result<Value, OpError> {
        let index = convert(b, self.indices, DType::I64)?;
        let (end, start) = (size(b, DType::I64, rows)?, size(b, DType::I64, &-rows.clone())?);
        let (above, below) = (b.op(&GE, &[index, start])?, b.op(&LT, &[index, end])?);
        let is_there = b.op(&AND, &[above, below])?;
        let behind = vec![Dim::constant(1); b.ty(y).rank() - self.gathered - b.ty(index).rank()];
        let shape = [&b.ty(index).shape[..], &behind].concat();
        let is_there = reshape(b, is_there, shape)?;
        let zero = b.scalar(b.ty(y).dtype, 0.0);
        b.op(&WHERE, &[is_there, y, zero])
    }
}
