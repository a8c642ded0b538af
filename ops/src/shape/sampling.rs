//! Elements of an image around positions that are data: what GridSample, RoiAlign and DeformConv share.
//!
//! Along an axis, a position stands for a few elements, each with a weight ([`Tap`]); an image of several axes is
//! sampled at every combination of these.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::math::add::ADD;
use crate::math::and::AND;
use crate::math::cast::convert;
use crate::math::clip::CLIP;
use crate::math::floor::FLOOR;
use crate::math::ge::GE;
use crate::math::le::LE;
use crate::math::min::MIN;
use crate::math::modulo::MODULO;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::shape::gather::GATHER;
use crate::shape::reshape::reshape;
use crate::shape::size::size;

/// What there is outside of an image: nothing, the elements at its border, or its mirror image.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Outside {
    Zeros,
    Border,
    Mirrored,
}

/// An axis of the image.
pub(crate) struct Axis {
    /// The last index, as a float.
    pub(crate) last: Value,
    /// The borders at which it is mirrored: a start and a width.
    pub(crate) border: (Value, Value),
    pub(crate) outside: Outside,
}

/// One element along an axis: its index and its weight, for each position.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    pub(crate) index: Value,
    pub(crate) weight: Option<Value>,
}

/// Every choice of one tap for each axis.
pub(crate) fn combinations(taps: &[Vec<Tap>]) -> Vec<Vec<&Tap>> {
    let mut all = vec![vec![]];
    for axis in taps {
        let mut longer = Vec::new();
        for chosen in &all {
            longer.extend(axis.iter().map(|tap| [chosen.as_slice(), &[tap]].concat()));
        }
        all = longer;
    }
    all
}

impl Axis {
    /// An axis of this size, as positions of this type count it, that is not mirrored.
    pub(crate) fn new(b: &mut Build, length: &Dim, dtype: DType, outside: Outside) -> Result<Axis, OpError> {
        let last = size(b, dtype, &(length.clone() - Dim::constant(1)))?;
        let nowhere = b.scalar(dtype, 0.0);
        Ok(Axis { last, border: (nowhere, last), outside })
    }

    /// The two elements around a position, weighted by how near they are.
    pub(crate) fn linear(&self, b: &mut Build, x: Value) -> Result<Vec<Tap>, OpError> {
        let one = b.scalar(b.ty(x).dtype, 1.0);
        let left = b.op(&FLOOR, &[x])?;
        let ratio = b.op(&SUB, &[x, left])?;
        let (right, rest) = (b.op(&ADD, &[left, one])?, b.op(&SUB, &[one, ratio])?);
        Ok(vec![self.tap(b, left, Some(rest))?, self.tap(b, right, Some(ratio))?])
    }

    /// A position as it is inside of the image; zeros are dealt with by weights.
    pub(crate) fn fold_back(&self, b: &mut Build, x: Value) -> Result<Value, OpError> {
        let zero = b.scalar(b.ty(x).dtype, 0.0);
        match self.outside {
            Outside::Zeros => Ok(x),
            Outside::Border => b.op(&CLIP, &[x, zero, self.last]),
            Outside::Mirrored => {
                // Forth and back is a period.
                let (start, width) = self.border;
                let period = b.op(&ADD, &[width, width])?;
                let x = b.op(&SUB, &[x, start])?;
                let forth = b.op(&MODULO, &[x, period])?;
                let back = b.op(&SUB, &[period, forth])?;
                let x = b.op(&MIN, &[forth, back])?;
                b.op(&ADD, &[x, start])
            }
        }
    }

    /// The element at a whole number.
    pub(crate) fn tap(&self, b: &mut Build, index: Value, weight: Option<Value>) -> Result<Tap, OpError> {
        let dtype = b.ty(index).dtype;
        let [zero, one] = [0.0, 1.0].map(|value| b.scalar(dtype, value));
        let weight = match self.outside {
            Outside::Zeros => {
                let (above, below) = (b.op(&GE, &[index, zero])?, b.op(&LE, &[index, self.last])?);
                let inside = b.op(&AND, &[above, below])?;
                Some(b.op(&WHERE, &[inside, weight.unwrap_or(one), zero])?)
            }
            _ => weight,
        };
        let index = self.fold_back(b, index)?;
        let index = b.op(&CLIP, &[index, zero, self.last])?;
        Ok(Tap { index: convert(b, index, DType::I64)?, weight })
    }
}

/// Weighted rows of images that lie one behind the other, `rows: […, C]`: one for each axis of `extents` is chosen by
/// `taps`, in the image whose number is `image`. All of them broadcast to the shape that the result has before `C`.
pub(crate) fn row(
    b: &mut Build,
    rows: Value,
    image: Value,
    extents: &[Dim],
    taps: &[&Tap],
) -> Result<Value, OpError> {
    let mut index = image;
    for (extent, tap) in extents.iter().zip(taps) {
        let extent = size(b, DType::I64, extent)?;
        index = b.op(&MUL, &[index, extent])?;
        index = b.op(&ADD, &[index, tap.index])?;
    }
    let mut taken = b.op(&GATHER, &[rows, index])?;
    for weight in taps.iter().filter_map(|tap| tap.weight) {
        let column = [b.ty(weight).shape.clone(), vec![Dim::constant(1)]].concat();
        let weight = reshape(b, weight, column)?;
        let weight = convert(b, weight, b.ty(taken).dtype)?;
        taken = b.op(&MUL, &[taken, weight])?;
    }
    Ok(taken)
}
