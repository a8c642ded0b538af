//! Blocks of an image, put together again: what lies in several of them is added up.
//!
//! `x: [N, C·K, L]` holds `L` positions of blocks of `K` elements; element `h` of the image is the sum, over the places `k`
//! of a block, of position `(h + pad − k·dilation)/stride`, where that is one. Source: ONNX Col2Im, opset 18.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::iota::iota;
use crate::shape::reshape::{reshape, reshape_checked};
use crate::shape::size::size;

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Col2Im", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = b.ty(x).clone();
    if ty.rank() != 3 {
        return Err(OpError::Rank { operand: "input", expected: 3, found: ty.rank() }.into());
    }
    let image = node.sizes(b, 1, "image_shape")?.ok_or(ImportError::MissingInput { index: 1 })?;
    let block = node.sizes(b, 2, "block_shape")?.ok_or(ImportError::MissingInput { index: 2 })?;
    let rank = image.len();
    let list = |name: &str, count: usize, default: i64| -> Result<Vec<i64>, ImportError> {
        let given = node.ints(name)?.unwrap_or_else(|| vec![default; count]);
        if given.len() == count {
            return Ok(given);
        }
        Err(ImportError::Attribute { name: name.to_owned(), why: format!("{count} numbers are needed") })
    };
    if block.len() != rank {
        return Err(OpError::Rank { operand: "block_shape", expected: rank, found: block.len() }.into());
    }
    let (dilations, strides) = (list("dilations", rank, 1)?, list("strides", rank, 1)?);
    let pads = list("pads", 2 * rank, 0)?;
    if strides.iter().chain(&dilations).any(|&step| step < 1) {
        return Err(ImportError::value("strides", "less than 1", "steps of 1 and more"));
    }
    // Arrays over the image, then the block.
    let number = |b: &mut Build, number: i64| b.constant(&ir::Tensor::from_i64(&[], &[number]));
    let along = |b: &mut Build, at: usize, extent: &Dim| -> Result<Value, OpError> {
        let mut shape = vec![Dim::constant(1); 2 * rank];
        shape[at] = extent.clone();
        let counted = iota(b, extent.clone(), DType::I64)?;
        reshape(b, counted, shape)
    };
    let zero = number(b, 0);
    let (mut place, mut position, mut positions, mut exists) = (zero, zero, number(b, 1), None);
    for axis in 0..rank {
        let (pixel, tap) = (along(b, axis, &image[axis])?, along(b, rank + axis, &block[axis])?);
        let (dilation, stride) = (number(b, dilations[axis]), number(b, strides[axis]));
        let (low, one) = (number(b, pads[axis]), number(b, 1));
        let (extent, taps) = (size(b, DType::I64, &image[axis])?, size(b, DType::I64, &block[axis])?);
        // How many positions there are along this axis.
        let reach = b.op(&SUB, &[taps, one])?;
        let reach = b.op(&MUL, &[reach, dilation])?;
        let around = number(b, pads[axis] + pads[rank + axis] - 1);
        let free = b.op(&ADD, &[extent, around])?;
        let free = b.op(&SUB, &[free, reach])?;
        let steps = b.op(&DIV, &[free, stride])?;
        let count = b.op(&ADD, &[steps, one])?;
        let offset = b.op(&MUL, &[tap, dilation])?;
        let from = b.op(&ADD, &[pixel, low])?;
        let from = b.op(&SUB, &[from, offset])?;
        let here = b.op(&DIV, &[from, stride])?;
        let exact = b.op(&MUL, &[here, stride])?;
        for condition in [(&EQ, [exact, from]), (&LE, [zero, from]), (&LT, [here, count])] {
            let holds = b.op(condition.0, &condition.1)?;
            exists = Some(match exists {
                None => holds,
                Some(exists) => b.op(&AND, &[exists, holds])?,
            });
        }
        let scaled = b.op(&MUL, &[place, taps])?;
        place = b.op(&ADD, &[scaled, tap])?;
        let scaled = b.op(&MUL, &[position, count])?;
        position = b.op(&ADD, &[scaled, here])?;
        positions = b.op(&MUL, &[positions, count])?;
    }
    let places: Dim = block.iter().cloned().product();
    let channels = match ty.shape[1].exact_div(&places) {
        Some(channels) => channels,
        None => ty.shape[1].floor_div(&Dim::larger(&places, &Dim::constant(1))),
    };
    let rows = vec![ty.shape[0].clone(), channels, places * ty.shape[2].clone()];
    let rows = reshape_checked(b, x, rows)?;
    let row = b.op(&MUL, &[place, positions])?;
    let index = b.op(&ADD, &[row, position])?;
    let taken = b.op_with(&GATHER, &[rows, index], [AXIS.is(2)])?;
    let nothing = b.scalar(ty.dtype, 0.0);
    let exists = exists.unwrap_or_else(|| b.constant(&ir::Tensor::scalar(ir::Scalar::bool(true))));
    let taken = b.op(&WHERE, &[exists, taken, nothing])?;
    let taps: Vec<i64> = (0..rank as i64).map(|axis| axis - rank as i64).collect();
    Ok(vec![reduce(b, &REDUCE_SUM, taken, &taps, false)?])
}
