//! Where the elements of a resized axis come from: positions in the original, and weights.

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

/// For each tap and each element of the result: where it reads, and with which weight.
pub(crate) struct Taps {
    pub positions: Vec<Vec<i64>>,
    pub weights: Vec<Vec<f64>>,
    /// For each element of the result: does it lie outside?
    pub outside: Vec<bool>,
}

impl Interpolation {
    /// For an axis that goes from `from` to `to` elements; `roi` is the part that [`Place::Crop`] takes.
    pub(crate) fn taps(&self, from: i64, to: i64, scale: f64, roi: [f64; 2]) -> Taps {
        let mut taps = Taps { positions: Vec::new(), weights: Vec::new(), outside: Vec::new() };
        for i in 0..to.max(0) {
            let x = self.position(i as f64, from as f64, to as f64, scale, roi);
            let last = from - 1;
            taps.outside.push(self.place == Place::Crop && !(0.0..=last as f64).contains(&x));
            for (tap, (position, weight)) in self.around(x, from, scale).into_iter().enumerate() {
                if taps.positions.len() == tap {
                    taps.positions.push(Vec::new());
                    taps.weights.push(Vec::new());
                }
                taps.positions[tap].push(position.clamp(0, last.max(0)));
                taps.weights[tap].push(weight);
            }
        }
        taps
    }

    fn position(&self, i: f64, from: f64, to: f64, scale: f64, roi: [f64; 2]) -> f64 {
        // Not a whole number where a scale is given.
        let resized = scale * from;
        match self.place {
            Place::HalfPixel => (i + 0.5) / scale - 0.5,
            Place::HalfPixelSymmetric => from / 2.0 * (1.0 - to / resized) + (i + 0.5) / scale - 0.5,
            Place::PytorchHalfPixel if resized == 1.0 => -0.5,
            Place::PytorchHalfPixel => (i + 0.5) / scale - 0.5,
            Place::TfHalfPixel => (i + 0.5) / scale,
            Place::AlignCorners if resized == 1.0 => 0.0,
            Place::AlignCorners => i * (from - 1.0) / (resized - 1.0),
            Place::Asymmetric => i / scale,
            Place::Crop => {
                let [start, end] = roi;
                let inside = if resized == 1.0 {
                    (end - start) * (from - 1.0) / 2.0
                } else {
                    i * (end - start) * (from - 1.0) / (resized - 1.0)
                };
                inside + start * (from - 1.0)
            }
        }
    }

    /// The elements around `x` with their weights; always as many for one scale.
    fn around(&self, x: f64, size: i64, scale: f64) -> Vec<(i64, f64)> {
        // `x` lies right of `left`, or on the element after it.
        let left = x.ceil() as i64 - 1;
        let ratio = x - left as f64;
        let narrowed = if self.antialias { scale.min(1.0) } else { 1.0 };
        let window = |reach: f64, weight: &dyn Fn(f64) -> f64| -> Vec<(i64, f64)> {
            let first = (-reach / narrowed).floor() as i64 + 1;
            let taps = first..2 - first;
            taps.map(|tap| (left + tap, weight(narrowed * (tap as f64 - ratio)))).collect()
        };
        let mut taps = match self.kind {
            Kind::Nearest(nearest) => {
                let right = match nearest {
                    _ if ratio == 1.0 => true,
                    Nearest::PreferFloor => ratio > 0.5,
                    Nearest::PreferCeil => ratio >= 0.5,
                    Nearest::Floor => false,
                    Nearest::Ceil => true,
                };
                return vec![(left + i64::from(right), 1.0)];
            }
            Kind::Linear => window(1.0, &|d| (1.0 - d.abs()).clamp(0.0, 1.0)),
            Kind::Cubic(a) => window(2.0, &|d| cubic(d.abs(), a)),
        };
        if self.inside_only {
            for (position, weight) in &mut taps {
                if !(0..size).contains(position) {
                    *weight = 0.0;
                }
            }
        }
        if self.inside_only || self.antialias {
            let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
            taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
        }
        taps
    }
}

/// The convolution kernel of Keys 1981 at distance `d`.
fn cubic(d: f64, a: f64) -> f64 {
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taps(kind: Kind, place: Place, from: i64, to: i64) -> Taps {
        let interpolation = Interpolation { kind, place, antialias: false, inside_only: false };
        interpolation.taps(from, to, to as f64 / from as f64, [0.0, 1.0])
    }

    #[test]
    fn the_nearest_element_is_repeated() {
        let nearest = |nearest, place| taps(Kind::Nearest(nearest), place, 2, 6).positions.remove(0);
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
                    let taps = all.taps(from, to, to as f64 / from as f64, [0.0, 1.0]);
                    for i in 0..to as usize {
                        let sum: f64 = taps.weights.iter().map(|weights| weights[i]).sum();
                        assert!((sum - 1.0).abs() < 1e-12, "{kind:?} {from} {to}: {sum}");
                    }
                }
            }
        }
    }

    #[test]
    fn corners_stay_where_they_are() {
        let taps = taps(Kind::Linear, Place::AlignCorners, 3, 5);
        let at = |i: usize| -> f64 {
            taps.positions.iter().zip(&taps.weights).map(|(p, w)| p[i] as f64 * w[i]).sum()
        };
        assert_eq!([at(0), at(1), at(4)], [0.0, 0.5, 2.0]);
    }
}
