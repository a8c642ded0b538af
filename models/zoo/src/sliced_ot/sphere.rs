//! STSW (Tran et al. 2025, arXiv 2503.11249): spherical trees, which are great half circles from a root to its antipode.
//!
//! Points are unit vectors of `R^D`. A tree has a root `x` and `k` directions `y_l` at right angles to it; a point goes to
//! all of its half circles, to the coordinate that is its own distance from the root:
//!
//! - `q(y) = ⟨x, y⟩`, `c(y) = arccos q`;
//! - `β_l(y) = arccos(⟨y, y_l⟩ / √(1 − q²)) · √(1 − q²)` (eq. 14), `α(y) = softmax_l(−δ β_l)` (eq. 15);
//! - with points sorted by `c`, `c_0 = 0`, and `S_{l,j}` the signed mass of half circle `l` from point `j` on,
//!   `STSW = ((1/L) Σ_trees Σ_l Σ_j (c_j − c_{j−1}) |S_{l,j}|ᵖ)^(1/p)` (eq. 19).
//!
//! As in the released code, arguments of arccos are clamped to `−1 + ε..1 − ε`, `ε = 1e-6`, and `√(1 − q²)` is `sin c` of the
//! clamped angle where it is a factor, `max(|y − q x|, 1e-12)` where it divides.
//!
//! Verified against the released code and exact transport on the tree (sheet, section 13); equations are quoted from
//! reviews, the paper's text could not be read. `sampled` draws trees by its law: `x` uniform on the sphere, `y_l` uniform on
//! the great sphere across; not its random numbers.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::math::acos::ACOS;
use ops::reduce::reduce_sum::REDUCE_SUM;

use super::blocks::{BLOCK, by_blocks};
use super::sample::{OfTree, Stream};
use super::{Clouds, Sets, WRITTEN_OUT, exponent, product, sum_of};
use crate::init::Start;
use crate::net::{Built, Net};
use crate::setting::{Config, flag, integer, real};
use crate::{Entry, Form};

/// How near to ±1 the arguments of arccos come.
const EPSILON: f64 = 1e-6;

/// The model.
pub const STSW: Entry = Entry {
    name: "stsw",
    about: "STSW: spherical tree-sliced Wasserstein distance of unit vectors",
    paper: "Spherical Tree-Sliced Wasserstein Distance, arXiv 2503.11249",
    status: "verified against the authors' code and exact transport on the tree; the paper's text could not be read",
    forms: &[
        Form { name: "sampled", about: "trees are weights, drawn from the seed", defaults: &[] },
        Form { name: "given", about: "trees are inputs", defaults: &[] },
    ],
    settings: &[
        integer("dim", 3, 2, "coordinates D of a unit vector"),
        integer("trees", 200, 1, "trees L"),
        BLOCK,
        integer("lines", 5, 1, "half circles k of a tree"),
        real("p", 2.0, "exponent p, at least 1"),
        real("delta", 2.0, "sharpness of the split"),
        flag("weighted", false, "whether masses are inputs"),
    ],
    small: &[("trees", "6")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let [dim, trees, lines] = ["dim", "trees", "lines"].map(|name| config.integer(name));
    let (p, weighted) = (exponent(config)?, config.flag("weighted"));
    let sets = Sets::input(net, dim, false);
    let [root, dirs] = match config.form() {
        "given" => [("root", 1), ("dirs", lines)]
            .map(|(name, rows)| net.input(name, DType::F32, [trees, rows, dim].map(Dim::from))),
        _ => sampled(net.seed(config), net, [trees, lines, dim])?,
    };
    let sets = sets.with_masses(net, weighted);
    let costs = by_blocks(config, net, |net, block| {
        let clouds = sets.of(net, block).clouds(net)?;
        let [root, dirs] = [block.own(net, root)?, block.own(net, dirs)?];
        let (c, masses) = clouds.on_sphere(net, [root, dirs], config.real("delta"))?;
        net.sphere_cost(c, masses, p)
    })?;
    let value = net.mean_root(costs, trees, p)?;
    net.output("value", value);
    Ok(())
}

/// Roots and directions that are weights: of the streams of a tree ([`super::sample`]), the first gives a direction for the
/// root, and the second one for each half circle, less its part along the root.
fn sampled(seed: u64, net: &mut Net, [trees, lines, dim]: [usize; 3]) -> Built<[Value; 2]> {
    let root = |tree: u64| vec![Stream::new(seed, 2 * tree).direction(dim, &[])];
    let across = |tree: u64| {
        let (root, mut stream) = (root(tree), Stream::new(seed, 2 * tree + 1));
        (0..lines).map(|_| stream.direction(dim, &root)).collect()
    };
    let (roots, dirs) = (OfTree::new(&root), OfTree::new(&across));
    let root = net.weight("root", &[trees, 1, dim], Start::At(&|at| roots.at(at[0], 0, at[2])))?;
    let dirs = net.weight("dirs", &[trees, lines, dim], Start::At(&|at| dirs.at(at[0], at[1], at[2])))?;
    Ok([root, dirs])
}

impl Clouds {
    /// Coordinates `[L, N]`, the same on all half circles of a tree, and signed masses `[L, k, N]`.
    fn on_sphere(&self, net: &mut Net, [root, dirs]: [Value; 2], delta: f64) -> Built<(Value, Value)> {
        let q = self.against(net, root)?;
        let c = net.arccos(q)?;
        let across = self.across(net, root, dirs, q)?;
        let angle = net.arccos(across)?;
        let sine = net.sin(c)?;
        let beta = net.mul(angle, sine)?;
        let scores = net.scale(beta, -delta)?;
        let parts = net.softmax(scores, 1)?;
        let masses = net.mul(parts, self.masses)?;
        Ok((net.squeeze(c, 1)?, masses))
    }

    /// `⟨u, y_l⟩` of `u = (y − q x) / max(|y − q x|, 1e-12)`: `[L, k, N]`.
    fn across(&self, net: &mut Net, root: Value, dirs: Value, q: Value) -> Built<Value> {
        if self.dim > WRITTEN_OUT {
            let root = net.transposed(root)?;
            let along = net.mul(root, q)?;
            let off = net.sub(self.points, along)?;
            let squares = net.square(off)?;
            let square = net.reduced(&REDUCE_SUM, squares, &[1], true)?;
            let dot = product(net, dirs, off, self.dim)?;
            return net.over_length(dot, square);
        }
        let mut off = Vec::with_capacity(self.dim);
        for c in 0..self.dim {
            let (x, y) = (net.slice(root, -1, c, 1usize)?, self.coordinate(net, c)?);
            let along = net.mul(q, x)?;
            off.push(net.sub(y, along)?);
        }
        let square = sum_of(net, self.dim, &mut |net, c| net.square(off[c]))?;
        let dot = sum_of(net, self.dim, &mut |net, c| {
            let direction = net.slice(dirs, -1, c, 1usize)?;
            net.mul(direction, off[c])
        })?;
        net.over_length(dot, square)
    }
}

impl Net<'_> {
    /// `arccos x` of what is clamped to where its slope is bounded.
    pub(super) fn arccos(&mut self, x: Value) -> Built<Value> {
        let x = self.clamp(x, -1.0 + EPSILON, 1.0 - EPSILON)?;
        self.op(&ACOS, &[x], [])
    }

    /// `dot / max(√square, 1e-12)`.
    fn over_length(&mut self, dot: Value, square: Value) -> Built<Value> {
        let length = self.sqrt(square)?;
        let least = self.scalar(1e-12);
        let length = self.max(length, least)?;
        self.div(dot, length)
    }

    /// Eq. 19 of every tree, `[L]`, of coordinates `[L, N]` and masses `[L, k, N]`: one sort for all half circles.
    fn sphere_cost(&mut self, c: Value, masses: Value, p: f64) -> Built<Value> {
        let [sorted, places] = self.sorted(c)?;
        let places = self.unsqueeze(places, 1)?;
        let shape = self.ty(masses).shape.clone();
        let places = self.broadcast(places, shape)?;
        let masses = self.gather_along(masses, places)?;
        let beyond = self.cumsum(masses, -1, [false, true])?;
        let beyond = self.abs(beyond)?;
        let beyond = self.power(beyond, p)?;
        let beyond = self.reduced(&REDUCE_SUM, beyond, &[1], false)?;
        let (steps, rest) = (self.steps(sorted)?, self.but_first(beyond)?);
        let edges = self.mul(steps, rest)?;
        let edges = self.total_of(edges)?;
        let (first, all) = (self.slice(sorted, -1, 0usize, 1usize)?, self.slice(beyond, -1, 0usize, 1usize)?);
        let to_root = self.mul(first, all)?;
        let to_root = self.squeeze(to_root, -1)?;
        self.add(edges, to_root)
    }
}
