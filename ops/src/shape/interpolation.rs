//! Where the elements of a resized axis come from: positions in the original, and weights.
//!
//! They are computed by ops; where sizes and scales are known, these are evaluated when the model is compiled.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::flow::as_size::as_size;
use crate::math::abs::ABS;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::ceil::CEIL;
use crate::math::clip::CLIP;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::floor::FLOOR;
use crate::math::le::LE;
use crate::math::lt::LT;
use crate::math::max::MAX;
use crate::math::min::MIN;
use crate::math::mul::MUL;
use crate::math::or::OR;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::size::size;

/// How an axis is resized.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interpolation {
    pub kind: Kind,
    pub place: Place,
    /// Widen the window when the axis shrinks.
    pub antialias: bool,
    /// What lies outside has no weight; else it is what lies at the border.
    pub inside_only: bool,
}

/// What is made of the elements around a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// One of them.
    Nearest(Nearest),
    /// Two, by distance.
    Linear,
    /// Four, by a cubic of this coefficient.
    Cubic(f64),
}

/// Which element is the nearest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nearest {
    /// The nearest; of two, the left one.
    PreferFloor,
    /// The nearest; of two, the right one.
    PreferCeil,
    /// The left one.
    Floor,
    /// The right one.
    Ceil,
}

/// Which position of the original an element of the result has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    TfHalfPixel,
    AlignCorners,
    Asymmetric,
    /// Of a part of the original; what lies outside of the original gets a value of its own.
    Crop,
}

/// A number, and its value where it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number {
    /// `f64[]`.
    pub value: Value,
    pub known: Option<f64>,
}

impl Number {
    pub(crate) fn known(b: &mut Build, number: f64) -> Number {
        Number { value: b.scalar(DType::F64, number), known: Some(number) }
    }

    /// `value`, which has one element.
    pub(crate) fn computed(b: &mut Build, value: Value) -> Result<Number, OpError> {
        let value = reshape(b, value, vec![])?;
        Ok(Number { value: convert(b, value, DType::F64)?, known: None })
    }

    pub(crate) fn size(b: &mut Build, of: &Dim) -> Result<Number, OpError> {
        Ok(Number { value: size(b, DType::F64, of)?, known: of.as_const().map(|of| of as f64) })
    }
}

/// How an axis changes.
pub(crate) struct Resized {
    pub from: Dim,
    pub to: Dim,
    pub scale: Number,
    /// Start and end of the part that [`Place::Crop`] takes.
    pub roi: [Number; 2],
}

/// Where elements of the result come from.
pub(crate) struct Taps {
    /// For each element of the result and each tap: where it reads. `i64[to, taps]`, of the nearest one `i64[to]`.
    pub positions: Value,
    /// With which weight, if there is more than one tap: `f64[to, taps]`.
    pub weights: Option<Value>,
    /// For each element of the result, if that can be: does it lie outside? `bool[to]`.
    pub outside: Option<Value>,
}

impl Interpolation {
    pub(crate) fn taps(&self, b: &mut Build, axis: &Resized) -> Result<Taps, OpError> {
        let x = self.position(b, axis)?;
        let zero = b.scalar(DType::F64, 0.0);
        let last = axis.from.clone() - Dim::constant(1);
        let last = size(b, DType::F64, &Dim::larger(&last, &Dim::constant(0)))?;
        let outside = match self.place {
            Place::Crop => {
                let (left, right) = (b.op(&LT, &[x, zero])?, b.op(&LT, &[last, x])?);
                Some(b.op(&OR, &[left, right])?)
            }
            _ => None,
        };
        // `x` lies right of `left`, or on the element after it.
        let one = b.scalar(DType::F64, 1.0);
        let left = b.op(&CEIL, &[x])?;
        let left = b.op(&SUB, &[left, one])?;
        let ratio = b.op(&SUB, &[x, left])?;
        let (positions, weights) = match self.kind {
            Kind::Nearest(nearest) => {
                let half = b.scalar(DType::F64, 0.5);
                let right = match nearest {
                    Nearest::PreferFloor => b.op(&LT, &[half, ratio])?,
                    Nearest::PreferCeil => b.op(&LE, &[half, ratio])?,
                    Nearest::Floor => b.op(&EQ, &[ratio, one])?,
                    Nearest::Ceil => b.op(&LE, &[zero, ratio])?,
                };
                let right = convert(b, right, DType::F64)?;
                (b.op(&ADD, &[left, right])?, None)
            }
            Kind::Linear => self.window(b, axis, [left, ratio], 1.0)?,
            Kind::Cubic(_) => self.window(b, axis, [left, ratio], 2.0)?,
        };
        let weights = match weights {
            Some(weights) => Some(self.normal(b, weights, positions, last)?),
            None => None,
        };
        let positions = b.op(&CLIP, &[positions, zero, last])?;
        Ok(Taps { positions: convert(b, positions, DType::I64)?, weights, outside })
    }

    /// The positions in the original: `f64[to]`.
    fn position(&self, b: &mut Build, axis: &Resized) -> Result<Value, OpError> {
        let i = iota(b, axis.to.clone(), DType::F64)?;
        let (from, to) = (size(b, DType::F64, &axis.from)?, size(b, DType::F64, &axis.to)?);
        let [half, one, two] = [0.5, 1.0, 2.0].map(|number| b.scalar(DType::F64, number));
        let scale = axis.scale.value;
        // Not a whole number where a scale is given.
        let resized = b.op(&MUL, &[scale, from])?;
        let is_one = b.op(&EQ, &[resized, one])?;
        let last = b.op(&SUB, &[from, one])?;
        let resized_last = b.op(&SUB, &[resized, one])?;
        let middle = b.op(&ADD, &[i, half])?;
        let middle = b.op(&DIV, &[middle, scale])?;
        let half_pixel = b.op(&SUB, &[middle, half])?;
        match self.place {
            Place::HalfPixel => Ok(half_pixel),
            Place::HalfPixelSymmetric => {
                let part = b.op(&DIV, &[to, resized])?;
                let rest = b.op(&SUB, &[one, part])?;
                let centre = b.op(&DIV, &[from, two])?;
                let offset = b.op(&MUL, &[centre, rest])?;
                b.op(&ADD, &[offset, half_pixel])
            }
            Place::PytorchHalfPixel => {
                let at_once = b.scalar(DType::F64, -0.5);
                b.op(&WHERE, &[is_one, at_once, half_pixel])
            }
            Place::TfHalfPixel => Ok(middle),
            Place::Asymmetric => b.op(&DIV, &[i, scale]),
            Place::AlignCorners => {
                let zero = b.scalar(DType::F64, 0.0);
                let x = b.op(&MUL, &[i, last])?;
                let x = b.op(&DIV, &[x, resized_last])?;
                b.op(&WHERE, &[is_one, zero, x])
            }
            Place::Crop => {
                let [start, end] = [axis.roi[0].value, axis.roi[1].value];
                let length = b.op(&SUB, &[end, start])?;
                let length = b.op(&MUL, &[length, last])?;
                let x = b.op(&MUL, &[i, length])?;
                let x = b.op(&DIV, &[x, resized_last])?;
                let centre = b.op(&DIV, &[length, two])?;
                let inside = b.op(&WHERE, &[is_one, centre, x])?;
                let start = b.op(&MUL, &[start, last])?;
                b.op(&ADD, &[inside, start])
            }
        }
    }

    /// The positions around `left` within `reach`, and their weights.
    fn window(
        &self,
        b: &mut Build,
        axis: &Resized,
        [left, ratio]: [Value; 2],
        reach: f64,
    ) -> Result<(Value, Option<Value>), OpError> {
        let one = b.scalar(DType::F64, 1.0);
        let narrowed = match (self.antialias, axis.scale.known) {
            (false, _) => Number::known(b, 1.0),
            (true, Some(scale)) => Number::known(b, scale.min(1.0)),
            (true, None) => Number { value: b.op(&MIN, &[axis.scale.value, one])?, known: None },
        };
        // From `first` to `1 − first`.
        let (first, count) = match narrowed.known {
            Some(narrowed) => {
                let first = (-reach / narrowed).floor() + 1.0;
                (b.scalar(DType::F64, first), Dim::constant(2 - 2 * first as i64))
            }
            None => {
                let reach = b.scalar(DType::F64, -reach);
                let first = b.op(&DIV, &[reach, narrowed.value])?;
                let first = b.op(&FLOOR, &[first])?;
                let first = b.op(&ADD, &[first, one])?;
                let two = b.scalar(DType::F64, 2.0);
                let count = b.op(&SUB, &[one, first])?;
                let count = b.op(&MUL, &[count, two])?;
                let count = convert(b, count, DType::I64)?;
                (first, as_size(b, count, "taps", None)?)
            }
        };
        let column = vec![axis.to.clone(), Dim::constant(1)];
        let (left, ratio) = (reshape(b, left, column.clone())?, reshape(b, ratio, column)?);
        let tap = iota(b, count.clone(), DType::F64)?;
        let tap = b.op(&ADD, &[tap, first])?;
        let tap = reshape(b, tap, vec![Dim::constant(1), count])?;
        let positions = b.op(&ADD, &[left, tap])?;
        let distance = b.op(&SUB, &[tap, ratio])?;
        let distance = b.op(&MUL, &[distance, narrowed.value])?;
        let distance = b.op(&ABS, &[distance])?;
        let weights = match self.kind {
            Kind::Cubic(a) => cubic(b, distance, a)?,
            _ => {
                let zero = b.scalar(DType::F64, 0.0);
                let near = b.op(&SUB, &[one, distance])?;
                b.op(&MAX, &[near, zero])?
            }
        };
        Ok((positions, Some(weights)))
    }

    /// The weights, where they must add up to one because some of them don't count, or because there are more of them.
    fn normal(&self, b: &mut Build, weights: Value, positions: Value, last: Value) -> Result<Value, OpError> {
        let mut weights = weights;
        let zero = b.scalar(DType::F64, 0.0);
        if self.inside_only {
            let nearest = b.op(&CLIP, &[positions, zero, last])?;
            let is_inside = b.op(&EQ, &[nearest, positions])?;
            weights = b.op(&WHERE, &[is_inside, weights, zero])?;
        }
        if self.inside_only || self.antialias {
            let sum = reduce(b, &REDUCE_SUM, weights, &[1], true)?;
            weights = b.op(&DIV, &[weights, sum])?;
        }
        Ok(weights)
    }
}

/// The convolution kernel of Keys 1981 at distance `d`.
fn cubic(b: &mut Build, d: Value, a: f64) -> Result<Value, OpError> {
    let [near, far] = [[a + 2.0, -(a + 3.0), 0.0, 1.0], [a, -5.0 * a, 8.0 * a, -4.0 * a]].map(|factors| {
        let mut y = b.scalar(DType::F64, factors[0]);
        for factor in &factors[1..] {
            let factor = b.scalar(DType::F64, *factor);
            y = b.op(&MUL, &[y, d])?;
            y = b.op(&ADD, &[y, factor])?;
        }
        Ok::<Value, OpError>(y)
    });
    let [zero, one, two] = [0.0, 1.0, 2.0].map(|number| b.scalar(DType::F64, number));
    let (is_near, is_far) = (b.op(&LE, &[d, one])?, b.op(&LT, &[d, two])?);
    let far = b.op(&WHERE, &[is_far, far?, zero])?;
    b.op(&WHERE, &[is_near, near?, far])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions and weights for an axis that goes from `from` to `to` elements; its sizes are known only when the
    /// model runs if `computed`.
    fn taps(interpolation: &Interpolation, from: i64, to: i64, computed: bool) -> (Vec<i64>, Vec<f64>) {
        let mut b = Build::new("taps");
        let scale = to as f64 / from as f64;
        let mut inputs = Vec::new();
        let (scale, to) = if computed {
            let [scale_in, to_in] = [("scale", DType::F64), ("to", DType::I64)]
                .map(|(name, dtype)| b.input(name, ir::TensorType::scalar(dtype)));
            inputs.push(ir::Tensor::scalar(ir::Scalar::from_f64(DType::F64, scale)));
            inputs.push(ir::Tensor::scalar(ir::Scalar::from_i64(DType::I64, to)));
            (Number::computed(&mut b, scale_in).unwrap(), as_size(&mut b, to_in, "to", None).unwrap())
        } else {
            (Number::known(&mut b, scale), Dim::constant(to))
        };
        let roi = [Number::known(&mut b, 0.0), Number::known(&mut b, 1.0)];
        let axis = Resized { from: from.into(), to, scale, roi };
        let taps = interpolation.taps(&mut b, &axis).unwrap();
        let results = [Some(taps.positions), taps.weights].into_iter().flatten().collect();
        let results = ir::graph::eval(&b.finish(results), &inputs).unwrap();
        (results[0].to_i64(), results.get(1).map(ir::Tensor::to_f64).unwrap_or_default())
    }

    fn plain(kind: Kind, place: Place) -> Interpolation {
        Interpolation { kind, place, antialias: false, inside_only: false }
    }

    #[test]
    fn the_nearest_element_is_repeated() {
        let nearest = |nearest, place| taps(&plain(Kind::Nearest(nearest), place), 2, 6, false).0;
        assert_eq!(nearest(Nearest::Floor, Place::Asymmetric), [0, 0, 0, 1, 1, 1]);
        assert_eq!(nearest(Nearest::PreferFloor, Place::HalfPixel), [0, 0, 0, 1, 1, 1]);
        assert_eq!(nearest(Nearest::Ceil, Place::Asymmetric), [0, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn weights_add_up_to_one() {
        for kind in [Kind::Linear, Kind::Cubic(-0.75)] {
            for (from, to) in [(5, 8), (8, 3)] {
                for (antialias, inside_only) in [(false, false), (true, false), (false, true), (true, true)] {
                    let all = Interpolation { kind, place: Place::HalfPixel, antialias, inside_only };
                    let (_, weights) = taps(&all, from, to, false);
                    for row in weights.chunks(weights.len() / to as usize) {
                        let sum: f64 = row.iter().sum();
                        assert!((sum - 1.0).abs() < 1e-12, "{kind:?} {from} {to}: {sum}");
                    }
                    assert_eq!(taps(&all, from, to, true), taps(&all, from, to, false));
                }
            }
        }
    }

    #[test]
    fn corners_stay_where_they_are() {
        let (positions, weights) = taps(&plain(Kind::Linear, Place::AlignCorners), 3, 5, false);
        let at =
            |i: usize| -> f64 { (2 * i..2 * i + 2).map(|tap| positions[tap] as f64 * weights[tap]).sum() };
        assert_eq!([at(0), at(1), at(4)], [0.0, 0.5, 2.0]);
    }
}
