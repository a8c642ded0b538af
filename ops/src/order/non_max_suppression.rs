//! Of boxes that overlap, the ones with the best scores: a loop over the boxes of each class in the order of their scores,
//! which takes out what overlaps too much with the one that it is at, unless that one is out.
//!
//! Source: ONNX NonMaxSuppression, opset 11.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::flow::r#loop::{Repeat, repeat};
use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::gt::GT;
use crate::math::le::LE;
use crate::math::max::MAX;
use crate::math::min::MIN;
use crate::math::mul::MUL;
use crate::math::not::NOT;
use crate::math::sub::SUB;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::order::cumsum::CUMSUM;
use crate::order::nonzero::indices;
use crate::order::prefix;
use crate::order::topk::topk;
use crate::shape::broadcast::broadcast;
use crate::shape::concat::{self, CONCAT};
use crate::shape::gather_elements::{self, GATHER_ELEMENTS};
use crate::shape::gather_nd::GATHER_ND;
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;
use crate::shape::transpose::transpose;

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("NonMaxSuppression", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (boxes, scores) = (node.input(0)?, node.input(1)?);
    let (box_shape, shape) = (b.ty(boxes).shape.clone(), b.ty(scores).shape.clone());
    for (operand, found) in [("boxes", box_shape.len()), ("scores", shape.len())] {
        if found != 3 {
            return Err(OpError::Rank { operand, expected: 3, found }.into());
        }
    }
    let wanted = [shape[0].clone(), shape[2].clone(), Dim::constant(4)];
    if let Some((left, right)) = box_shape.iter().zip(wanted).find(|(found, wanted)| *found != wanted) {
        return Err(OpError::Size { what: "boxes and scores", left: left.clone(), right }.into());
    }
    let is_centred = node.flag("center_point_box", false)?;
    let number = |b: &mut Build, index: usize, dtype: DType| -> Result<Option<Value>, OpError> {
        let Some(value) = node.optional_input(index) else { return Ok(None) };
        let value = convert(b, value, dtype)?;
        Ok(Some(reshape(b, value, vec![])?))
    };
    let [ordered, order] = topk(b, scores, 2, shape[2].clone(), true)?;
    let corners = corners(b, boxes, is_centred)?;
    let mut sorted = Vec::new();
    for corner in corners {
        let corner = reshape(b, corner, vec![shape[0].clone(), Dim::constant(1), shape[2].clone()])?;
        let corner = broadcast(b, corner, shape.clone())?;
        sorted.push(b.op_with(&GATHER_ELEMENTS, &[corner, order], [gather_elements::AXIS.is(2)])?);
    }
    let threshold = match number(b, 3, DType::F32)? {
        Some(threshold) => threshold,
        None => b.scalar(DType::F32, 0.0),
    };
    let enough = match number(b, 4, DType::F32)? {
        Some(least) => b.op(&GT, &[ordered, least])?,
        None => {
            let all = b.constant(&ir::Tensor::scalar(ir::Scalar::bool(true)));
            broadcast(b, all, shape.clone())?
        }
    };
    let alive = suppressed(b, enough, sorted, threshold)?;
    // No more of each class than wanted, and without a number none.
    let limit = match number(b, 2, DType::I64)? {
        Some(limit) => limit,
        None => b.scalar(DType::I64, 0.0),
    };
    let counted = convert(b, alive, DType::I64)?;
    let attrs = [prefix::AXIS.is(2), prefix::EXCLUSIVE.is(false), prefix::REVERSE.is(false)];
    let rank = b.op_with(&CUMSUM, &[counted], attrs)?;
    let within = b.op(&LE, &[rank, limit])?;
    let kept = b.op(&AND, &[alive, within])?;
    // Batch, class and place in the order of scores become batch, class and box.
    let (places, count) = indices(node, b, kept)?;
    let places = transpose(b, places, vec![1, 0])?;
    let chosen = b.op(&GATHER_ND, &[order, places])?;
    let chosen = reshape(b, chosen, vec![count, Dim::constant(1)])?;
    let class = slice_axis(b, places, 1, Dim::constant(0), Dim::constant(2))?;
    Ok(vec![b.op_with(&CONCAT, &[class, chosen], [concat::AXIS.is(1)])?])
}

/// Smallest and largest corners along both axes: `[B, N]` each.
fn corners(b: &mut Build, boxes: Value, is_centred: bool) -> Result<[Value; 4], OpError> {
    let shape = b.ty(boxes).shape[..2].to_vec();
    let mut part = |at: i64| -> Result<Value, OpError> {
        let part = slice_axis(b, boxes, 2, at.into(), Dim::constant(1))?;
        reshape(b, part, shape.clone())
    };
    let (first, second, third, fourth) = (part(0)?, part(1)?, part(2)?, part(3)?);
    let half = b.scalar(b.ty(boxes).dtype, 0.5);
    let mut ends = |one: Value, other: Value| -> Result<[Value; 2], OpError> {
        if is_centred {
            let reach = b.op(&MUL, &[other, half])?;
            return Ok([b.op(&SUB, &[one, reach])?, b.op(&ADD, &[one, reach])?]);
        }
        Ok([b.op(&MIN, &[one, other])?, b.op(&MAX, &[one, other])?])
    };
    let ([low, high], [left, right]) = (ends(first, third)?, ends(second, fourth)?);
    Ok([low, high, left, right])
}

/// Which of the boxes `[B, C, N]` in order stay, of those that are `alive`.
fn suppressed(b: &mut Build, alive: Value, corners: Vec<Value>, threshold: Value) -> Result<Value, OpError> {
    let count = b.ty(alive).shape[2].clone();
    let captures: Vec<Value> = corners.into_iter().chain([threshold]).collect();
    let index = b.fresh_symbol("box");
    let mut body = Build::new("suppress");
    body.set_origin(b.origin().clone());
    let mut take = |value: Value| {
        let name = format!("in{}", body.graph().inputs().len());
        body.input(&name, b.ty(value).clone())
    };
    let before = take(alive);
    let inside: Vec<Value> = captures.iter().map(|&value| take(value)).collect();
    let after = suppress(&mut body, before, &inside, &Dim::from(&index))?;
    let body = body.finish(vec![after]);
    let parts = Repeat {
        body,
        index,
        count: Some(count),
        cond: None,
        carried: vec![alive],
        captures,
        changing: vec![],
    };
    Ok(repeat(b, parts, "box")?[0])
}

/// What is alive after the box at `index` has taken out those behind it that overlap with it.
fn suppress(b: &mut Build, alive: Value, parts: &[Value], index: &Dim) -> Result<Value, OpError> {
    let one = |b: &mut Build, x: Value| slice_axis(b, x, 2, index.clone(), Dim::constant(1));
    let zero = b.scalar(b.ty(parts[0]).dtype, 0.0);
    let (mut areas, mut own, mut common): (Option<Value>, Option<Value>, Option<Value>) = (None, None, None);
    for ends in parts[..4].chunks(2) {
        let (low, high) = (one(b, ends[0])?, one(b, ends[1])?);
        let from = b.op(&MAX, &[ends[0], low])?;
        let upto = b.op(&MIN, &[ends[1], high])?;
        let shared = b.op(&SUB, &[upto, from])?;
        let shared = b.op(&MAX, &[shared, zero])?;
        let (length, own_length) = (b.op(&SUB, &[ends[1], ends[0]])?, b.op(&SUB, &[high, low])?);
        for (product, factor) in [(&mut areas, length), (&mut own, own_length), (&mut common, shared)] {
            *product = Some(match *product {
                None => factor,
                Some(product) => b.op(&MUL, &[product, factor])?,
            });
        }
    }
    let [Some(areas), Some(own), Some(common)] = [areas, own, common] else {
        unreachable!("a box has two axes");
    };
    let both = b.op(&ADD, &[areas, own])?;
    let union = b.op(&SUB, &[both, common])?;
    let ratio = b.op(&DIV, &[common, union])?;
    let overlaps = b.op(&GT, &[ratio, parts[4]])?;
    let place = iota(b, b.ty(alive).shape[2].clone(), DType::I64)?;
    let here = crate::shape::size::size(b, DType::I64, index)?;
    let behind = b.op(&GT, &[place, here])?;
    let taken = b.op(&AND, &[overlaps, behind])?;
    let is_alive = one(b, alive)?;
    let taken = b.op(&AND, &[taken, is_alive])?;
    let stays = b.op(&NOT, &[taken])?;
    b.op(&AND, &[alive, stays])
}
