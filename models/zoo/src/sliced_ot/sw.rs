//! Sliced Wasserstein distances: SW, SWGG and LCVSW, of two sets of as many points with equal masses.
//!
//! With `L` directions `θ_l`, and `x_(i)`, `y_(i)` the projections on one of them in ascending order:
//!
//! - SW: `( (1/L) Σ_l W_l )^(1/p)`, `W_l = (1/n) Σ_i |x_(i) − y_(i)|ᵖ`;
//! - SWGG (min-SWGG² by random search, arXiv 2307.01770): `min_l (1/n) Σ_i ‖X_σ(i) − Y_τ(i)‖²` with `σ`, `τ` the orders on
//!   direction `l`;
//! - LCVSW (arXiv 2305.00402, lower bound): `√(mean_l W_l − γ mean_l C_l)` with `p = 2`, `d = mean X − mean Y`,
//!   `C_l = ⟨θ_l, d⟩² − ‖d‖²/dim`, `γ = mean_l((W_l − mean W) C_l) / (mean_l C_l² + 1e-24)`.
//!
//! Both sets are projected and sorted as one array. Baselines, written from the published definitions; verified against
//! the reference in the golden cases, and SW with `p = 1` against the transport on trees.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::reduce::reduce_mean::REDUCE_MEAN;
use ops::reduce::reduce_min::REDUCE_MIN;

use super::sample::{OfTree, Stream};
use super::{Sets, WRITTEN_OUT, exponent, sum_of};
use crate::init::Start;
use crate::net::{Built, Net};
use crate::setting::{Config, Setting, integer, real};
use crate::{Entry, Form};

pub(super) const FORMS: &[Form] = &[
    Form { name: "sampled", about: "directions are weights, drawn from the seed", defaults: &[] },
    Form { name: "given", about: "directions are inputs", defaults: &[] },
];

pub(super) const DIM: Setting = integer("dim", 3, 1, "coordinates d of a point");
pub(super) const LINES: Setting = integer("lines", 100, 1, "directions L");

const BASELINE: &str = "baseline, ours from the published definition";

/// SW.
pub const SW: Entry = Entry {
    name: "sw",
    about: "SW: sliced Wasserstein distance of sets of as many points",
    paper: "",
    status: BASELINE,
    forms: FORMS,
    settings: &[DIM, LINES, real("p", 2.0, "exponent p, at least 1")],
    small: &[("lines", "16")],
    build: |config, net| {
        let p = exponent(config)?;
        let projected = Projected::build(config, net)?;
        let costs = projected.costs(net, p)?;
        let value = net.mean_root(costs, projected.lines, p)?;
        net.output("value", value);
        Ok(())
    },
};

/// SWGG.
pub const SWGG: Entry = Entry {
    name: "swgg",
    about: "SWGG: the cheapest transport plan of those that directions order",
    paper: "Fast Optimal Transport through Sliced Generalized Wasserstein Geodesics, arXiv 2307.01770",
    status: BASELINE,
    forms: FORMS,
    settings: &[DIM, LINES],
    small: &[("lines", "16")],
    build: swgg,
};

/// LCVSW.
pub const LCVSW: Entry = Entry {
    name: "lcvsw",
    about: "LCVSW: sliced Wasserstein distance with a control variate",
    paper: "Sliced Wasserstein Estimation with Control Variates, arXiv 2305.00402",
    status: BASELINE,
    forms: FORMS,
    settings: &[DIM, LINES],
    small: &[("lines", "16")],
    build: lcvsw,
};

/// Two sets of points, projected.
struct Projected {
    x: Value,
    y: Value,
    theta: Value,
    lines: usize,
    /// `[2, L, n]`: coordinates on the directions.
    on_lines: Value,
}

impl Projected {
    fn build(config: &Config, net: &mut Net) -> Built<Projected> {
        let [dim, lines] = ["dim", "lines"].map(|name| config.integer(name));
        let Sets { x, y, .. } = Sets::input(net, dim, true);
        let theta = directions(config, net, [lines, dim])?;
        let points = both(net, [x, y])?;
        let on_lines = on_lines(net, points, theta, dim)?;
        Ok(Projected { x, y, theta, lines, on_lines })
    }

    /// `W_l` on every direction: `[L]`.
    fn costs(&self, net: &mut Net, p: f64) -> Built<Value> {
        costs(net, self.on_lines, p)
    }
}

/// Directions `[L, d]`: an input, or drawn, direction `l` from stream `2l + 1` of [`super::sample`].
pub(super) fn directions(config: &Config, net: &mut Net, [lines, dim]: [usize; 2]) -> Built<Value> {
    if config.form() == "given" {
        return Ok(net.input("theta", DType::F32, [lines, dim].map(Dim::from)));
    }
    let seed = net.seed(config);
    let direction = |line: u64| vec![Stream::new(seed, 2 * line + 1).direction(dim, &[])];
    let directions = OfTree::new(&direction);
    net.weight("theta", &[lines, dim], Start::At(&|at| directions.at(at[0], 0, at[1])))
}

/// Both sets `[n, d]` as one array, `[2, n, d]`.
pub(super) fn both(net: &mut Net, sets: [Value; 2]) -> Built<Value> {
    let [x, y] = [net.unsqueeze(sets[0], 0)?, net.unsqueeze(sets[1], 0)?];
    net.concat(&[x, y], 0)
}

/// Both sets `[2, n, d]` on directions `[L, d]`: `[2, L, n]`.
pub(super) fn on_lines(net: &mut Net, points: Value, theta: Value, dim: usize) -> Built<Value> {
    if dim > WRITTEN_OUT {
        let points = net.transposed(points)?;
        return net.matmul(theta, points);
    }
    let count = net.size(points, 1);
    sum_of(net, dim, &mut |net, c| {
        let (theta, x) = (net.slice(theta, -1, c, 1usize)?, net.slice(points, -1, c, 1usize)?);
        let x = net.reshape(x, [Dim::constant(2), Dim::constant(1), count.clone()])?;
        net.mul(theta, x)
    })
}

/// `(1/n) Σ_i |x_(i) − y_(i)|ᵖ` of coordinates `[2, L, n]`: `[L]`.
pub(super) fn costs(net: &mut Net, on_lines: Value, p: f64) -> Built<Value> {
    let [sorted, _] = net.sorted(on_lines)?;
    let (x, y) = (net.slice(sorted, 0, 0usize, 1usize)?, net.slice(sorted, 0, 1usize, 1usize)?);
    let apart = net.sub(x, y)?;
    let apart = net.abs(apart)?;
    let apart = net.power(apart, p)?;
    let apart = net.squeeze(apart, 0)?;
    net.reduced(&REDUCE_MEAN, apart, &[-1], false)
}

fn swgg(config: &Config, net: &mut Net) -> Built<()> {
    let projected = Projected::build(config, net)?;
    let [_, order] = net.sorted(projected.on_lines)?;
    let mut paired = Vec::with_capacity(2);
    for (at, set) in [projected.x, projected.y].into_iter().enumerate() {
        let order = net.slice(order, 0, at, 1usize)?;
        let order = net.squeeze(order, 0)?;
        paired.push(net.gather(set, order)?);
    }
    let apart = net.sub(paired[0], paired[1])?;
    let squares = net.square(apart)?;
    let squares = net.total_of(squares)?;
    let costs = net.reduced(&REDUCE_MEAN, squares, &[-1], false)?;
    let value = net.reduced(&REDUCE_MIN, costs, &[0], true)?;
    net.output("value", value);
    Ok(())
}

fn lcvsw(config: &Config, net: &mut Net) -> Built<()> {
    let projected = Projected::build(config, net)?;
    let w = projected.costs(net, 2.0)?;
    let (x, y) = (net.mean(projected.x, 0)?, net.mean(projected.y, 0)?);
    let d = net.sub(x, y)?;
    let along = net.mul(projected.theta, d)?;
    let along = net.total_of(along)?;
    let (along, square) = (net.square(along)?, net.square(d)?);
    let square = net.mean(square, -1)?;
    let square = net.squeeze(square, -1)?;
    let c = net.sub(along, square)?;
    let (mean_w, mean_c) = (net.mean(w, 0)?, net.mean(c, 0)?);
    let off = net.sub(w, mean_w)?;
    let joint = net.mul(off, c)?;
    let joint = net.mean(joint, 0)?;
    let own = net.square(c)?;
    let own = net.mean(own, 0)?;
    let own = net.shift(own, 1e-24)?;
    let gamma = net.div(joint, own)?;
    let correction = net.mul(gamma, mean_c)?;
    let value = net.sub(mean_w, correction)?;
    let value = net.sqrt(value)?;
    net.output("value", value);
    Ok(())
}
