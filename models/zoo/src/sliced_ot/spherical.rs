//! Baselines on the sphere: S3W and SSW, of unit vectors of `R^D` with equal masses.
//!
//! - S3W: points are sent to the plane from the north pole, `z = 2 x_{1..D−1} / (1 − x_D)`, then to a ball,
//!   `h(z) = arccos(−(‖z‖² − 1) / (‖z‖² + 1)) / π · z / ‖z‖`, and compared as `sw` does, as a mean of `p`-th powers without a
//!   root. `1 − x_D` is at least `1e-6`, `‖z‖²` at least `1e-8`.
//! - SSW: points are projected on planes `U_l: [D, 2]` and to the angle there, as a part of the circle in `0..1`.
//!   `target=points`: the mean of the circular `W_1`, `Σ_j w_j |F_j − median|` with gaps `w` and the level median of the
//!   difference `F` of distribution functions. `target=uniform`: `W_2²` to the uniform law in closed form,
//!   `mean x² − (mean x)² + Σ_i (n + 1 − 2i) x_(i) / n² + 1/12`.
//!
//! Written from the published definitions (S3W as its released code has it, which sums over points where this takes the
//! mean); verified against the reference in the golden cases. Where a point is projected to the middle of a plane, its angle
//! is 0. SSW's `W_2` between two sets is left out.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::math::atan::ATAN;
use ops::math::floor::FLOOR;
use ops::math::lt::LT;
use ops::reduce::reduce_sum::REDUCE_SUM;
use ops::shape::size::size;

use super::sample::{OfTree, Stream};
use super::sw::{FORMS, LINES, both, costs, directions, on_lines};
use super::{Clouds, Sets, exponent};
use crate::Entry;
use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, Setting, choice, flag, integer, real};

const DIM: Setting = integer("dim", 3, 2, "coordinates D of a unit vector");

const BASELINE: &str = "baseline, ours from the published definition";

/// S3W.
pub const S3W: Entry = Entry {
    name: "s3w",
    about: "S3W: stereographic spherical sliced Wasserstein distance, to the power p",
    paper: "Stereographic Spherical Sliced Wasserstein Distances, arXiv 2402.02345",
    status: BASELINE,
    forms: FORMS,
    settings: &[DIM, LINES, real("p", 2.0, "exponent p, at least 1")],
    small: &[("lines", "16")],
    build: s3w,
};

/// SSW.
pub const SSW: Entry = Entry {
    name: "ssw",
    about: "SSW: spherical sliced Wasserstein distance, W_1 of two sets or W_2 squared to the uniform law",
    paper: "Spherical Sliced-Wasserstein, arXiv 2206.08780",
    status: BASELINE,
    forms: FORMS,
    settings: &[
        DIM,
        LINES,
        choice("target", &["points", "uniform"], "what the points are compared with"),
        flag("weighted", false, "whether masses are inputs"),
    ],
    small: &[("lines", "16")],
    build: ssw,
};

fn s3w(config: &Config, net: &mut Net) -> Built<()> {
    let [dim, lines] = ["dim", "lines"].map(|name| config.integer(name));
    let p = exponent(config)?;
    let Sets { x, y, .. } = Sets::input(net, dim, true);
    let theta = directions(config, net, [lines, dim - 1])?;
    let points = both(net, [x, y])?;
    let points = net.in_ball(points, dim)?;
    let on_lines = on_lines(net, points, theta, dim - 1)?;
    let costs = costs(net, on_lines, p)?;
    let value = net.mean_root(costs, lines, 1.0)?;
    net.output("value", value);
    Ok(())
}

fn ssw(config: &Config, net: &mut Net) -> Built<()> {
    let [dim, lines] = ["dim", "lines"].map(|name| config.integer(name));
    let value = if config.word("target") == "uniform" {
        let x = net.input("X", DType::F32, [symbol("n"), dim.into()]);
        let planes = planes(config, net, [lines, dim])?;
        let points = net.transposed(x)?;
        let angles = net.angles(points, planes, dim)?;
        net.uniform_cost(angles)?
    } else {
        let sets = Sets::input(net, dim, false);
        let planes = planes(config, net, [lines, dim])?;
        let Clouds { points, masses, .. } = sets.with_masses(net, config.flag("weighted")).clouds(net)?;
        let angles = net.angles(points, planes, dim)?;
        net.circular_cost(angles, masses)?
    };
    let value = net.mean_root(value, lines, 1.0)?;
    net.output("value", value);
    Ok(())
}

/// Planes `U: [L, D, 2]`: an input, or drawn, two orthonormal directions from stream `2l + 1` of [`super::sample`].
fn planes(config: &Config, net: &mut Net, [lines, dim]: [usize; 2]) -> Built<Value> {
    if config.form() == "given" {
        return Ok(net.input("U", DType::F32, [lines, dim, 2].map(Dim::from)));
    }
    let seed = net.seed(config);
    let frame = |plane: u64| Stream::new(seed, 2 * plane + 1).directions(2, dim, true);
    let frames = OfTree::new(&frame);
    net.weight("U", &[lines, dim, 2], Start::At(&|at| frames.at(at[0], at[2], at[1])))
}

impl Net<'_> {
    /// Unit vectors `[…, D]` in the ball, `[…, D − 1]`.
    fn in_ball(&mut self, x: Value, dim: usize) -> Built<Value> {
        let (flat, height) = (self.slice(x, -1, 0usize, dim - 1)?, self.slice(x, -1, dim - 1, 1usize)?);
        let height = self.clamp(height, f64::NEG_INFINITY, 1.0 - 1e-6)?;
        let (one, two) = (self.scalar(1.0), self.scalar(2.0));
        let under = self.sub(one, height)?;
        let flat = self.mul(flat, two)?;
        let z = self.div(flat, under)?;
        let square = self.square(z)?;
        let square = self.sum(square, -1)?;
        let least = self.scalar(1e-8);
        let square = self.max(square, least)?;
        let (over, under) = (self.sub(one, square)?, self.add(square, one)?);
        let cosine = self.div(over, under)?;
        let angle = self.arccos(cosine)?;
        let angle = self.scale(angle, 1.0 / std::f64::consts::PI)?;
        let length = self.sqrt(square)?;
        let factor = self.div(angle, length)?;
        self.mul(factor, z)
    }

    /// Where points `[D, N]` are on the circles of planes `[L, D, 2]`, from 0 to 1: `[L, N]`.
    fn angles(&mut self, points: Value, planes: Value, dim: usize) -> Built<Value> {
        let axes = self.transposed(planes)?;
        let at = super::product(self, axes, points, dim)?;
        let (x, y) = (self.slice(at, 1, 0usize, 1usize)?, self.slice(at, 1, 1usize, 1usize)?);
        let (x, y) = (self.squeeze(x, 1)?, self.squeeze(y, 1)?);
        let (zero, half) = (self.scalar(0.0), self.scalar(0.5));
        let slope = self.div(y, x)?;
        let angle = self.op(&ATAN, &[slope], [])?;
        let part = self.scale(angle, 0.5 / std::f64::consts::PI)?;
        // The other half of the circle is on the left; in the middle there is no angle.
        let left = self.op(&LT, &[x, zero], [])?;
        let turn = self.select(left, half, zero)?;
        let part = self.add(part, turn)?;
        let (of_x, of_y) = (self.abs(x)?, self.abs(y)?);
        let length = self.max(of_x, of_y)?;
        let off = self.op(&LT, &[zero, length], [])?;
        let part = self.select(off, part, zero)?;
        let whole = self.op(&FLOOR, &[part], [])?;
        self.sub(part, whole)
    }

    /// The circular `W_1` on every circle, `[L]`, of angles `[L, N]` and signed masses `[N]`.
    fn circular_cost(&mut self, angles: Value, masses: Value) -> Built<Value> {
        let [c, places] = self.sorted(angles)?;
        let masses = self.gather(masses, places)?;
        let levels = self.cumsum(masses, -1, [false, false])?;
        let last = self.size(c, -1) - Dim::constant(1);
        let (first, end) = (self.slice(c, -1, 0usize, 1usize)?, self.slice(c, -1, last.clone(), 1usize)?);
        let one = self.scalar(1.0);
        let around = self.sub(first, end)?;
        let around = self.add(around, one)?;
        let steps = self.steps(c)?;
        let gaps = self.concat(&[steps, around], -1)?;
        // The median: the first level, in ascending order, up to which gaps make half of the circle.
        let [ordered, order] = self.sorted(levels)?;
        let in_order = self.gather_along(gaps, order)?;
        let upto = self.cumsum(in_order, -1, [false, false])?;
        let half = self.scalar(0.5);
        let before = self.op(&LT, &[upto, half], [])?;
        let before = self.make("cast", |b| ops::math::cast::convert(b, before, DType::I64))?;
        let before = self.reduced(&REDUCE_SUM, before, &[-1], true)?;
        let last = self.make("size", |b| size(b, DType::I64, &last))?;
        let at = self.op(&ops::math::min::MIN, &[before, last], [])?;
        let median = self.gather_along(ordered, at)?;
        let off = self.sub(levels, median)?;
        let cost = self.weighted(gaps, off, 1.0)?;
        self.total_of(cost)
    }

    /// `W_2²` to the uniform law on every circle, `[L]`, of angles `[L, n]`. With `m` the mean and places `i` from 0,
    /// `Σ_i (n − 1 − 2i) x_(i) = −2 Σ_i i (x_(i) − m)`.
    fn uniform_cost(&mut self, angles: Value) -> Built<Value> {
        let [c, _] = self.sorted(angles)?;
        let count = self.size(c, -1);
        let mean = self.mean(c, -1)?;
        let off = self.sub(c, mean)?;
        let square = self.square(off)?;
        let square = self.mean(square, -1)?;
        let place = self.iota([count.clone()], 0, DType::F32)?;
        let order = self.mul(place, off)?;
        let order = self.mean(order, -1)?;
        let order = self.scale(order, -2.0)?;
        let n = self.make("size", |b| size(b, DType::F32, &count))?;
        let order = self.div(order, n)?;
        let value = self.add(square, order)?;
        let value = self.shift(value, 1.0 / 12.0)?;
        self.squeeze(value, -1)
    }
}
