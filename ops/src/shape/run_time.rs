//! Axes that are known only when the model runs.
//!
//! An axis is either named or not, which is a size of 0 or 1. With these, an axis of size `n` is seen as two, of which
//! one has size `n` and the other 1, and what works on named axes works on the second of each pair.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::flow::as_size::{as_size, check_size};
use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::eq::EQ;
use crate::math::lt::LT;
use crate::math::not::NOT;
use crate::math::or::OR;
use crate::math::r#where::WHERE;
use crate::reduce::along::reduce;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::iota::iota;
use crate::shape::reshape::{reshape, reshape_checked};
use crate::shape::size::{size, sizes};
use crate::shape::slice::slice_axis;

/// A tensor has at most so many axes, where which of them are meant is known only when the model runs.
const MAX_RANK: usize = 8;

/// Axes of a tensor that are named by a vector of numbers; negative ones count from the end.
pub struct RunTimeAxes {
    /// For each axis whether it is named: `bool[rank]`.
    named: Value,
    shape: Vec<Dim>,
}

/// Which axes of a tensor of this shape `axes` names. Without any, all are if `all_if_none`. That there are such axes
/// is checked when the model runs.
///
/// # Errors
/// `axes` is no vector of integers; [`OpError::TooManyAxes`].
pub fn axes(b: &mut Build, axes: Value, shape: Vec<Dim>, all_if_none: bool) -> Result<RunTimeAxes, OpError> {
    if !b.ty(axes).dtype.is_int() {
        return Err(OpError::DType { operand: "axes", expected: "an integer", found: b.ty(axes).dtype });
    }
    if shape.len() > MAX_RANK {
        return Err(OpError::TooManyAxes { rank: shape.len(), limit: MAX_RANK });
    }
    let rank = Dim::from(shape.len());
    let count = b.ty(axes).elements();
    let axes = reshape(b, axes, vec![Dim::constant(1), count.clone()])?;
    let axes = convert(b, axes, DType::I64)?;
    let zero = b.scalar(DType::I64, 0.0);
    let all = b.scalar(DType::I64, shape.len() as f64);
    let (negative, from_end) = (b.op(&LT, &[axes, zero])?, b.op(&ADD, &[axes, all])?);
    let axes = b.op(&WHERE, &[negative, from_end, axes])?;
    let each = iota(b, rank.clone(), DType::I64)?;
    let each = reshape(b, each, vec![rank, Dim::constant(1)])?;
    let same = b.op(&EQ, &[each, axes])?;
    // Each number names one axis, or there is none that it could name.
    let found = convert(b, same, DType::I64)?;
    let found = reduce(b, &REDUCE_SUM, found, &[0, 1], false)?;
    check_size(b, found, "axes_in_range", count.clone())?;
    let mut named = reduce(b, &REDUCE_MAX, same, &[1], false)?;
    if all_if_none && count.as_const().is_none_or(|count| count == 0) {
        let count = size(b, DType::I64, &count)?;
        let none = b.op(&EQ, &[count, zero])?;
        named = b.op(&OR, &[named, none])?;
    }
    Ok(RunTimeAxes { named, shape })
}

/// Is `named`, an `i64` without axes, the axis `axis` of so many?
///
/// # Errors
/// `named` has another type.
pub fn is_axis(b: &mut Build, named: Value, axis: usize, rank: usize) -> Result<Value, OpError> {
    let [here, from_end] = [axis as f64, axis as f64 - rank as f64].map(|axis| b.scalar(DType::I64, axis));
    let (here, from_end) = (b.op(&EQ, &[named, here])?, b.op(&EQ, &[named, from_end])?);
    b.op(&OR, &[here, from_end])
}

impl RunTimeAxes {
    /// `x` with two axes for each: those that are not named, with size 1 for those that are, at even positions; the
    /// other way round at odd ones. Gives also the shape with size 1 for each named axis.
    ///
    /// # Errors
    /// `x` has another shape.
    pub fn split(&self, b: &mut Build, x: Value, wanted: &str) -> Result<(Value, Vec<Dim>), OpError> {
        let one = b.scalar(DType::I64, 1.0);
        let (mut pairs, mut kept) = (Vec::new(), Vec::new());
        for (axis, extent) in self.shape.iter().enumerate() {
            let named = slice_axis(b, self.named, 0, axis.into(), Dim::constant(1))?;
            let named = reshape(b, named, vec![])?;
            let extent_here = size(b, DType::I64, extent)?;
            let outer = b.op(&WHERE, &[named, one, extent_here])?;
            let inner = b.op(&WHERE, &[named, extent_here, one])?;
            // An empty axis has room for one, too.
            let bound = Some(Dim::larger(extent, &Dim::constant(1)));
            let outer = as_size(b, outer, wanted, bound.clone())?;
            kept.push(outer.clone());
            pairs.push(outer);
            pairs.push(as_size(b, inner, wanted, bound)?);
        }
        Ok((reshape_checked(b, x, pairs)?, kept))
    }

    /// The sizes of the `count` axes that are not named.
    ///
    /// # Errors
    /// None that these ops give; the signature is that of every build step.
    pub fn unnamed(&self, b: &mut Build, count: usize, wanted: &str) -> Result<Vec<Dim>, OpError> {
        let here = self.places(b, count)?;
        let ty = ir::TensorType::new(DType::I64, [Dim::from(self.shape.len())]);
        let extents = sizes(b, &self.shape, &ty)?;
        let zero = b.scalar(DType::I64, 0.0);
        let extents = b.op(&WHERE, &[here, extents, zero])?;
        let found = reduce(b, &REDUCE_SUM, extents, &[1], false)?;
        as_sizes(b, found, count, wanted)
    }

    /// The sizes of all axes, where named ones have size 1, and the others are `old`, in order.
    ///
    /// # Errors
    /// None that these ops give; the signature is that of every build step.
    pub fn filled(&self, b: &mut Build, old: &[Dim], wanted: &str) -> Result<Vec<Dim>, OpError> {
        let here = self.places(b, old.len())?;
        let ty = ir::TensorType::new(DType::I64, [Dim::from(old.len()), Dim::constant(1)]);
        let extents = sizes(b, old, &ty)?;
        let zero = b.scalar(DType::I64, 0.0);
        let extents = b.op(&WHERE, &[here, extents, zero])?;
        let found = reduce(b, &REDUCE_SUM, extents, &[0], false)?;
        let ones = convert(b, self.named, DType::I64)?;
        let found = b.op(&ADD, &[found, ones])?;
        as_sizes(b, found, self.shape.len(), wanted)
    }

    /// Is an axis that is not named the one at a place among those? `bool[count, rank]`.
    fn places(&self, b: &mut Build, count: usize) -> Result<Value, OpError> {
        let rank = self.shape.len();
        let kept = b.op(&NOT, &[self.named])?;
        // The place of each among those that are kept: how many are kept before it.
        let each = iota(b, rank.into(), DType::I64)?;
        let column = reshape(b, each, vec![rank.into(), Dim::constant(1)])?;
        let before = b.op(&LT, &[each, column])?;
        let before = b.op(&AND, &[before, kept])?;
        let before = convert(b, before, DType::I64)?;
        let place = reduce(b, &REDUCE_SUM, before, &[1], false)?;
        let wanted = iota(b, count.into(), DType::I64)?;
        let wanted = reshape(b, wanted, vec![count.into(), Dim::constant(1)])?;
        let here = b.op(&EQ, &[place, wanted])?;
        b.op(&AND, &[here, kept])
    }
}

/// The elements of a vector as sizes.
fn as_sizes(b: &mut Build, vector: Value, count: usize, wanted: &str) -> Result<Vec<Dim>, OpError> {
    let element = |i: usize| {
        let one = slice_axis(b, vector, 0, i.into(), Dim::constant(1))?;
        let one = reshape(b, one, vec![])?;
        as_size(b, one, wanted, None)
    };
    (0..count).map(element).collect()
}
