//! Optimal transport between point sets along lines: sliced and tree-sliced Wasserstein distances.
//!
//! A distance takes `X: [n, d]` and `Y: [m, d]`, the points of two measures, and gives `value: [1]`. Masses are `1/n` and
//! `1/m`, or, where the model is `weighted`, the inputs `a: [n]` and `b: [m]`, which should have the same sum. Two forms:
//!
//! - `sampled` (the default): lines are weights, drawn from the seed as `sample.rs` states, or read from a file of weights;
//! - `given`: lines are inputs.
//!
//! Notation of the sheet: `L` trees of `k` lines, `N = n + m`. Both point sets are one after the other in all arrays, with
//! masses of the second negative. Points of at most [`WRITTEN_OUT`] coordinates are taken coordinate by coordinate, so that
//! their products are arithmetic and projection, distances and split are one kernel; with more there are matrix products.

mod blocks;
mod lines;
mod sample;
pub mod sphere;
pub mod spherical;
pub mod sw;
pub mod tree;

use ir::graph::Value;
use ir::{DType, Dim};
use ops::math::lt::LT;
use ops::order::cumsum::CUMSUM;
use ops::order::prefix;
use ops::order::topk::topk;
use ops::shape::gather_elements::{self, GATHER_ELEMENTS};
use ops::shape::size::size;

use self::blocks::Block;
use crate::net::{Built, Net, symbol};
use crate::setting::Config;

/// Points of at most so many coordinates are taken coordinate by coordinate.
pub const WRITTEN_OUT: usize = 8;

/// What a distance is taken of.
struct Clouds {
    /// `[d, N]`: the coordinates of both point sets.
    points: Value,
    /// `[N]`: signed masses.
    masses: Value,
    /// Coordinates `d`.
    dim: usize,
}

/// Points as the caller has them.
struct Sets {
    x: Value,
    y: Value,
    /// How many there are.
    sizes: [Dim; 2],
    dim: usize,
    /// Their masses, if these are not equal.
    masses: Option<[Value; 2]>,
}

impl Sets {
    /// The inputs `X` and `Y`, of as many points if they are `paired`.
    fn input(net: &mut Net, dim: usize, paired: bool) -> Sets {
        let sizes = [symbol("n"), symbol(if paired { "n" } else { "m" })];
        let [x, y] = [("X", &sizes[0]), ("Y", &sizes[1])]
            .map(|(name, size)| net.input(name, DType::F32, [size.clone(), dim.into()]));
        Sets { x, y, sizes, dim, masses: None }
    }

    /// With the inputs `a` and `b` as their masses, if they are `weighted`.
    fn with_masses(self, net: &mut Net, weighted: bool) -> Sets {
        let input = |(name, size): (&str, &Dim)| net.input(name, DType::F32, [size.clone()]);
        let names = [("a", &self.sizes[0]), ("b", &self.sizes[1])];
        Sets { masses: weighted.then(|| names.map(input)), ..self }
    }

    /// The same for the trees of a block.
    fn of(&self, net: &mut Net, block: &Block) -> Sets {
        let mut shared = |value| block.shared(net, value);
        let (x, y) = (shared(self.x), shared(self.y));
        Sets {
            x,
            y,
            sizes: self.sizes.clone(),
            dim: self.dim,
            masses: self.masses.map(|each| each.map(shared)),
        }
    }

    /// Both, with their masses.
    fn clouds(self, net: &mut Net) -> Built<Clouds> {
        let masses = match self.masses {
            Some(masses) => self.given(net, masses)?,
            None => self.equal(net)?,
        };
        let [x, y] = [net.transposed(self.x)?, net.transposed(self.y)?];
        Ok(Clouds { points: net.concat(&[x, y], 1)?, masses, dim: self.dim })
    }

    /// Is each point of the first set?
    fn first(&self, net: &mut Net) -> Built<Value> {
        let [n, m] = self.sizes.clone();
        let place = net.iota([n.clone() + m], 0, DType::I64)?;
        let count = net.make("size", |b| size(b, DType::I64, &n))?;
        net.op(&LT, &[place, count], [])
    }

    fn given(&self, net: &mut Net, masses: [Value; 2]) -> Built<Value> {
        let masses = net.concat(&masses, 0)?;
        let negative = net.neg(masses)?;
        let first = self.first(net)?;
        net.select(first, masses, negative)
    }

    fn equal(&self, net: &mut Net) -> Built<Value> {
        let mut one = net.scalar(1.0);
        let mut each = Vec::with_capacity(2);
        for points in &self.sizes {
            let count = net.make("size", |b| size(b, DType::F32, points))?;
            each.push(net.div(one, count)?);
            one = net.scalar(-1.0);
        }
        let first = self.first(net)?;
        net.select(first, each[0], each[1])
    }
}

impl Clouds {
    /// `⟨v, point⟩` of vectors `[…, k, d]` with every point: `[…, k, N]`.
    fn against(&self, net: &mut Net, vectors: Value) -> Built<Value> {
        product(net, vectors, self.points, self.dim)
    }

    /// The coordinates of points, one by one, `[1, N]` each.
    fn coordinate(&self, net: &mut Net, number: usize) -> Built<Value> {
        net.slice(self.points, 0, number, 1usize)
    }
}

/// `[…, k, d] · [d, N]`.
fn product(net: &mut Net, vectors: Value, points: Value, dim: usize) -> Built<Value> {
    if dim > WRITTEN_OUT {
        return net.matmul(vectors, points);
    }
    sum_of(net, dim, &mut |net, c| {
        let (v, x) = (net.slice(vectors, -1, c, 1usize)?, net.slice(points, 0, c, 1usize)?);
        net.mul(v, x)
    })
}

/// `Σ_c term(c)`, written out.
fn sum_of(
    net: &mut Net,
    count: usize,
    term: &mut dyn FnMut(&mut Net, usize) -> Built<Value>,
) -> Built<Value> {
    let mut sum = term(net, 0)?;
    for c in 1..count {
        let next = term(net, c)?;
        sum = net.add(sum, next)?;
    }
    Ok(sum)
}

impl Net<'_> {
    /// All elements of the last axis in ascending order, and where they stood.
    fn sorted(&mut self, x: Value) -> Built<[Value; 2]> {
        let size = self.size(x, -1);
        self.make("topk", |b| topk(b, x, -1, size, false))
    }

    /// The elements of the last axis at these places of it.
    fn gather_along(&mut self, x: Value, places: Value) -> Built<Value> {
        self.op(&GATHER_ELEMENTS, &[x, places], [gather_elements::AXIS.is(-1)])
    }

    /// The sum up to each element of an axis; from each on, if `reverse`; without the element, if `exclusive`.
    fn cumsum(&mut self, x: Value, axis: i64, [exclusive, reverse]: [bool; 2]) -> Built<Value> {
        let attrs = [prefix::AXIS.is(axis), prefix::EXCLUSIVE.is(exclusive), prefix::REVERSE.is(reverse)];
        self.op(&CUMSUM, &[x], attrs)
    }

    /// `xᵖ` of what is not negative.
    fn power(&mut self, x: Value, p: f64) -> Built<Value> {
        if p == 1.0 {
            return Ok(x);
        }
        let p = self.scalar(p);
        self.pow(x, p)
    }

    /// `x²`.
    fn square(&mut self, x: Value) -> Built<Value> {
        self.power(x, 2.0)
    }

    /// From each element of the last axis to the next one: one fewer.
    fn steps(&mut self, x: Value) -> Built<Value> {
        let [before, after] = [self.but_last(x)?, self.but_first(x)?];
        self.sub(after, before)
    }

    /// Without the last element of the last axis.
    fn but_last(&mut self, x: Value) -> Built<Value> {
        let rest = self.size(x, -1) - Dim::constant(1);
        self.slice(x, -1, 0usize, rest)
    }

    /// Without the first element of the last axis.
    fn but_first(&mut self, x: Value) -> Built<Value> {
        let rest = self.size(x, -1) - Dim::constant(1);
        self.slice(x, -1, 1usize, rest)
    }

    /// `(mean over rows of costs)^(1/p)` of `costs: [rows, …]`, all of a row's being added: `[1]`.
    fn mean_root(&mut self, costs: Value, rows: usize, p: f64) -> Built<Value> {
        let axes: Vec<i64> = (0..self.ty(costs).rank() as i64).collect();
        let all = self.reduced(&ops::reduce::reduce_sum::REDUCE_SUM, costs, &axes, false)?;
        let mean = self.scale(all, 1.0 / rows as f64)?;
        let root = self.power(mean, 1.0 / p)?;
        self.reshape(root, [Dim::constant(1)])
    }
}

/// The exponent: at least 1.
fn exponent(config: &Config) -> Built<f64> {
    let p = config.real("p");
    if p < 1.0 {
        return Err(config.unfit(format!("`p` = {p} is no exponent of a distance: it is at least 1")));
    }
    Ok(p)
}
