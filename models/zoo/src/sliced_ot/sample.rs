//! Trees drawn from a seed: the same numbers on every machine.
//!
//! Every tree has streams of its own, so that the first trees of many are those of few. Stream `s` of seed `q` is
//! splitmix64 from the state `q + 2⁶⁴/φ · (s + 1)` scrambled once; tree `l` has stream `2l` for what its lines start from
//! and `2l + 1` for their directions.
//!
//! - A *normal* number: `u`, `v` uniform in `−1..1` until `0 < u² + v² = s < 1`, then `u √(−2 ln s / s)` (Marsaglia's polar
//!   method, of whose two numbers one is used).
//! - A *direction*: `d` normal numbers `g`, divided by `|g|`: uniform on the sphere.
//! - A *frame*: `k` directions, each less its projections on those before it (twice, against rounding), normalised:
//!   uniform among orthonormal frames (Haar), as the QR decomposition of normal numbers is.
//!
//! Integer arithmetic and `+ − × ÷ √` of f64, each of which rounds the same everywhere: `ln` is computed from these.

use std::cell::RefCell;
use std::f64::consts::LN_2;

use crate::init::Init;

/// Terms of the series of the logarithm: `(1/3)^(2·20 + 1)` is beyond the last place of an f64.
const TERMS: u32 = 20;

/// The numbers of one stream, in order.
pub(super) struct Stream(Init);

impl Stream {
    pub(super) fn new(seed: u64, number: u64) -> Stream {
        let state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number.wrapping_add(1)));
        Stream(Init::new(Init::new(state).bits()))
    }

    /// Uniform from `low` to below `high`.
    pub(super) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + self.0.unit() * (high - low)
    }

    /// A normal number of mean 0 and variance 1.
    pub(super) fn normal(&mut self) -> f64 {
        loop {
            let (u, v) = (self.uniform(-1.0, 1.0), self.uniform(-1.0, 1.0));
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                return u * (-2.0 * ln(s) / s).sqrt();
            }
        }
    }

    /// Uniform on the unit sphere of so many coordinates, at right angles to unit vectors that are so to each other.
    pub(super) fn direction(&mut self, dim: usize, across: &[Vec<f64>]) -> Vec<f64> {
        loop {
            let mut g: Vec<f64> = (0..dim).map(|_| self.normal()).collect();
            for other in across.iter().chain(across) {
                let along = dot(&g, other);
                g.iter_mut().zip(other).for_each(|(g, other)| *g -= along * other);
            }
            let length = dot(&g, &g).sqrt();
            // What is left of a vector that lies along the others is rounding.
            if length > 1e-6 {
                return g.into_iter().map(|g| g / length).collect();
            }
        }
    }

    /// `count` directions, at right angles to each other if they are a frame.
    pub(super) fn directions(&mut self, count: usize, dim: usize, frame: bool) -> Vec<Vec<f64>> {
        let mut all: Vec<Vec<f64>> = Vec::with_capacity(count);
        for _ in 0..count {
            let next = self.direction(dim, if frame { &all } else { &[] });
            all.push(next);
        }
        all
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// `ln x` of a normal number `x > 0`: `x = 2^e m` with `√½ ≤ m < √2`, and
/// `ln m = 2 Σ y^(2i+1) / (2i+1)` with `y = (m − 1) / (m + 1)`.
fn ln(x: f64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut m = f64::from_bits(bits & FRACTION | 1023 << 52);
    if m >= std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let y = (m - 1.0) / (m + 1.0);
    let square = y * y;
    let series = (0..TERMS).rev().fold(0.0, |sum, i| sum * square + 1.0 / f64::from(2 * i + 1));
    exponent as f64 * LN_2 + 2.0 * y * series
}

/// What one tree has, computed when its numbers are asked for, tree by tree.
pub(super) struct OfTree<'a> {
    draw: &'a dyn Fn(u64) -> Vec<Vec<f64>>,
    /// The tree that was asked for last, and its rows.
    last: RefCell<(Option<usize>, Vec<Vec<f64>>)>,
}

impl<'a> OfTree<'a> {
    /// The rows of numbers that each tree has, by the tree's number.
    pub(super) fn new(draw: &'a dyn Fn(u64) -> Vec<Vec<f64>>) -> OfTree<'a> {
        OfTree { draw, last: RefCell::default() }
    }

    /// The number at this place of this row of a tree.
    pub(super) fn at(&self, tree: usize, row: usize, place: usize) -> f64 {
        let mut last = self.last.borrow_mut();
        if last.0 != Some(tree) {
            *last = (Some(tree), (self.draw)(tree as u64));
        }
        last.1[row][place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_one() {
        for i in 1..2000 {
            let x = f64::from(i) / 1000.0;
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * (1.0 + x.ln().abs()), "{x}: {} {}", ln(x), x.ln());
        }
        assert_eq!(ln(1.0), 0.0);
        assert!((ln(1e-300) - 1e-300f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn frames_are_orthonormal_and_normal_numbers_normal() {
        let frame = Stream::new(3, 1).directions(4, 5, true);
        for (i, a) in frame.iter().enumerate() {
            for (j, b) in frame.iter().enumerate() {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((dot(a, b) - expected).abs() < 1e-14, "{i} {j}: {}", dot(a, b));
            }
        }
        let mut stream = Stream::new(7, 0);
        let numbers: Vec<f64> = (0..20_000).map(|_| stream.normal()).collect();
        let moment = |power: i32| numbers.iter().map(|x| x.powi(power)).sum::<f64>() / 20_000.0;
        // Standard errors of these means are 0.007, 0.01 and 0.07.
        assert!(moment(1).abs() < 0.03 && (moment(2) - 1.0).abs() < 0.04 && (moment(4) - 3.0).abs() < 0.3);
    }

    #[test]
    fn streams_are_fixed_for_ever() {
        // These numbers are part of the sampler's promise: they may never change.
        let bits = [0, 1].map(|number| Stream::new(0, number).0.bits());
        assert_eq!(bits, [0x46b7_3e79_f0c3_7c00, 0xee27_51b9_2135_351c]);
        let theta = Stream::new(0, 1).direction(3, &[]);
        let expected = [0.866_752_294_811_182_1, -0.146_005_283_722_695_9, -0.476_888_788_466_037_16];
        assert!(theta.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{theta:?}");
    }
}
