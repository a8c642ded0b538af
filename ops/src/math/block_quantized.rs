//! Weights of onnxruntime's quantized ops: `(w − zero) · scale`, where integers of 2 or 4 bits lie several in a byte, the
//! first in the lowest bits, and scale and zero are one for each block of the last axis.
//!
//! Weights that are known become integers of that size, and nothing is copied; bytes that are computed are shifted. Without
//! a zero it is the middle of the range.
//!
//! onnxruntime also has matrices packed as products of GPUs of compute capability 8.0 and later take them. With `V` integers
//! in 16 bits, element `(n, k)` lies at `[⌊n/V⌋, t, n mod V, m, q, l, h]` of `[N/V, K/64, V, 8/V, 4, 2, V]`, where
//! `k = 64t + 8V·m + 8h + 2q + l`: columns in tiles of 64 that `V` rows share in turn, and in them those that one thread
//! takes beside each other, even ones before odd ones. Source: onnxruntime, `docs/contrib_ops/cuda/moe_qmoe.md`.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Scalar, Tensor};

use crate::math::and::AND;
use crate::math::quantize::{along_blocks, dequantized};
use crate::math::shr::SHR;
use crate::onnx::{ImportError, NodeView};
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;
use crate::shape::transpose::transpose;

/// How the integers lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packing {
    /// 2, 4 or 8.
    pub(crate) bits: i64,
    /// So many elements of the last axis share a scale and a zero; all of them without.
    pub(crate) block: Option<i64>,
}

/// The bits of an element, an attribute of this name.
///
/// # Errors
/// Other numbers than 2, 4 and 8.
pub(crate) fn import_bits(node: &NodeView, name: &str, default: i64) -> Result<i64, ImportError> {
    match node.int_or(name, default)? {
        bits @ (2 | 4 | 8) => Ok(bits),
        other => Err(ImportError::value(name, other, "2, 4 and 8")),
    }
}

/// `block_size`, if it is there.
///
/// # Errors
/// Sizes that are no power of two from 16 on.
pub(crate) fn import_block(node: &NodeView) -> Result<Option<i64>, ImportError> {
    match node.int("block_size")? {
        Some(block) if block < 16 || block & (block - 1) != 0 => {
            Err(ImportError::value("block_size", block, "powers of two from 16 on"))
        }
        block => Ok(block),
    }
}

/// The elements of this type that bytes hold along the last axis, if they are known: nothing is copied.
pub(crate) fn split(b: &mut Build, bytes: Value, dtype: DType) -> Option<Value> {
    let weight = b.graph().node(bytes.node).weight()?;
    let split = weight.split(weight.name(), dtype)?;
    Some(b.weight(split))
}

impl Packing {
    /// How many elements lie in a byte.
    pub(crate) fn each(self) -> i64 {
        8 / self.bits
    }

    /// How many bytes so many elements take.
    pub(crate) fn bytes(self, elements: &Dim) -> Dim {
        elements.ceil_div(&Dim::constant(self.each()))
    }

    /// How many blocks so many elements are.
    pub(crate) fn blocks(self, elements: &Dim) -> Dim {
        self.block.map_or(Dim::constant(1), |block| elements.ceil_div(&Dim::constant(block)))
    }

    /// The integers of bytes, along the last axis.
    ///
    /// # Errors
    /// [`OpError::DType`] if these are no bytes; [`OpError::RankAtLeast`].
    pub(crate) fn unpacked(self, b: &mut Build, x: Value) -> Result<Value, OpError> {
        let ty = b.ty(x).clone();
        if ty.dtype != DType::U8 {
            return Err(OpError::DType { operand: "packed integers", expected: "u8", found: ty.dtype });
        }
        let Some(last) = ty.rank().checked_sub(1) else {
            return Err(OpError::RankAtLeast { operand: "packed integers", least: 1, found: 0 });
        };
        let dtype = match self.bits {
            2 => DType::U2,
            4 => DType::U4,
            _ => return Ok(x),
        };
        if let Some(known) = split(b, x, dtype) {
            return Ok(known);
        }
        let column = reshape(b, x, [&ty.shape[..], &[Dim::constant(1)]].concat())?;
        let shifts = Tensor::from_fn(DType::U8, &[self.each() as usize], |at| {
            Scalar::from_i64(DType::U8, at[0] as i64 * self.bits)
        });
        let (shifts, mask) = (b.constant(&shifts), b.scalar(DType::U8, f64::from((1 << self.bits) - 1)));
        let shifted = b.op(&SHR, &[column, shifts])?;
        let apart = b.op(&AND, &[shifted, mask])?;
        let mut shape = ty.shape;
        shape[last] = shape[last].clone() * self.each().into();
        reshape(b, apart, shape)
    }

    /// The integers `[E, N, K]` of bytes that are packed for GPUs.
    ///
    /// # Errors
    /// [`OpError::Size`] if they are not as many, or their rows and columns are no whole tiles.
    pub(crate) fn unpacked_from_tiles(
        self,
        b: &mut Build,
        x: Value,
        [experts, rows, columns]: [Dim; 3],
    ) -> Result<Value, OpError> {
        const TILE: i64 = 64;
        let together = 16 / self.bits;
        let whole = |size: &Dim, by: i64| {
            let (left, right) = (size.clone(), Dim::constant(by));
            let what = "rows or columns of weights that are packed for GPUs, which come in tiles of";
            size.exact_div(&right).ok_or(OpError::Size { what, left, right })
        };
        let (groups, tiles) = (whole(&rows, together)?, whole(&columns, TILE)?);
        let flat = reshape(b, x, vec![experts.clone(), self.bytes(&(rows.clone() * columns.clone()))])?;
        let flat = self.unpacked(b, flat)?;
        let parts = [together, TILE / (8 * together), 4, 2, together].map(Dim::constant);
        let split = [experts.clone(), groups, tiles].into_iter().chain(parts).collect();
        let split = reshape(b, flat, split)?;
        let ordered = transpose(b, split, vec![0, 1, 3, 2, 4, 7, 5, 6])?;
        reshape(b, ordered, vec![experts, rows, columns])
    }

    /// `zeros` of the same packing, unless they are floats, in the shape of `scales`; the middle of the range without.
    ///
    /// # Errors
    /// [`OpError::Size`] of other numbers of zeros.
    pub(crate) fn zeros(self, b: &mut Build, zeros: Option<Value>, scales: &[Dim]) -> Result<Value, OpError> {
        let Some(zeros) = zeros else {
            return Ok(b.scalar(DType::I32, f64::from(1 << (self.bits - 1))));
        };
        if b.ty(zeros).dtype.is_float() {
            return reshape(b, zeros, scales.to_vec());
        }
        let Some((last, outer)) = scales.split_last() else { return reshape(b, zeros, vec![]) };
        let packed = reshape(b, zeros, [outer, &[self.bytes(last)]].concat())?;
        let zeros = self.unpacked(b, packed)?;
        slice_axis(b, zeros, outer.len(), Dim::constant(0), last.clone())
    }

    /// `(w − zero) · scale` in type `wide`: integers `[…, K]`, scales and zeros `[…, blocks]`, or `[…]` without blocks.
    ///
    /// # Errors
    /// [`OpError::Size`] of other scales.
    pub(crate) fn dequantized(
        self,
        b: &mut Build,
        w: Value,
        [zero, scale]: [Value; 2],
        wide: DType,
    ) -> Result<Value, OpError> {
        let shape = b.ty(w).shape.clone();
        let mut spread = |value: Value| match self.block {
            _ if b.ty(value).rank() == 0 => Ok(value),
            Some(block) => along_blocks(b, value, &shape, shape.len() - 1, block),
            None => {
                let column = [&b.ty(value).shape[..], &[Dim::constant(1)]].concat();
                reshape(b, value, column)
            }
        };
        let (zero, scale) = (spread(zero)?, spread(scale)?);
        dequantized(b, w, Some(zero), scale, wide)
    }
}
