//! Distances on trees of lines: TSW-SL (Tran et al. 2025, arXiv 2406.13725) and Db-TSW (arXiv 2503.11050).
//!
//! A tree is `k` lines `s_l + t θ_l` in `R^d`. A point of mass `u` goes to all of them, to the coordinate
//! `t_l = ⟨x − s_l, θ_l⟩` with the part `α_l(x) u` (TSW-SL eq. 9, 12), and the distance is
//!
//! `( (1/L) Σ_trees Σ_edges w_e |μ(Γ_e) − ν(Γ_e)|ᵖ )^(1/p)` (TSW-SL eq. 5, 11, 13; `p = 1` is the papers' metric).
//!
//! - `split=distance` (Db-TSW): `α(x) = softmax_l(−δ ‖(x − s_l) − t_l θ_l‖)`;
//! - `split=uniform`: `α = 1/k`; `split=logits`: the softmax of `logits: [k]`, the same for all points (TSW-SL).
//! - `tree=star`: all lines go through `root: [L, 1, d]`; `tree=chain` (TSW-SL Algorithm 1): line `l + 1` starts on line `l` at
//!   the coordinate `junction_l`, the first one in `x1: [L, 1, d]`. What hangs below a line is seen from it as one more
//!   point at its junction, with the mass of all lines after it.
//!
//! A constant split of equal masses is balanced on each line: then roots and junctions drop out (section 0, item 1), and
//! the builder leaves them out. With `p = 1` the value is that of `sw` over the same `L·k` directions, here for sets that
//! need not have as many points: what lies between neighbours, times the difference of the distribution functions.
//!
//! Verified: the closed forms against exact transport on the tree, values against the released code (sheet, section 13).
//! Reconstructed: `sampled` draws trees by the laws of the paper (chain) and of the released code (star), not with its
//! random numbers. The sampled split `logits` begins uniform.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::reduce::reduce_sum::REDUCE_SUM;

use super::blocks::{BLOCK, Block, by_blocks};
use super::sample::{OfTree, Stream};
use super::{Clouds, Sets, WRITTEN_OUT, exponent, sum_of};
use crate::init::Start;
use crate::net::{Built, Net};
use crate::setting::{Config, Setting, choice, flag, integer, real};
use crate::{Entry, Form};

const FORMS: &[Form] = &[
    Form { name: "sampled", about: "trees are weights, drawn from the seed", defaults: &[] },
    Form { name: "given", about: "trees are inputs", defaults: &[] },
];

const DIM: Setting = integer("dim", 3, 1, "coordinates d of a point");
const TREES: Setting = integer("trees", 100, 1, "trees L");
const LINES: Setting = integer("lines", 4, 1, "lines k of a tree");
const P: Setting = real("p", 1.0, "exponent p, at least 1");
const WEIGHTED: Setting = flag("weighted", false, "whether masses are inputs");
const MEAN: Setting = real("mean", 0.0, "mean of each coordinate of a root");
const STD: Setting = real("std", 0.1, "standard deviation of each coordinate of a root");
const DISTANCE: Setting = choice(
    "distance",
    &["residual", "squares"],
    "how distances to lines are computed: exactly, or as |x − r|² − t²: less work for points of many coordinates, and wrong \
     near a line",
);

/// TSW-SL.
pub const TSW_SL: Entry = Entry {
    name: "tsw-sl",
    about: "TSW-SL: tree-sliced Wasserstein distance on systems of lines",
    paper: "Tree-Sliced Wasserstein on a System of Lines, arXiv 2406.13725",
    status: "closed forms verified against exact transport and the authors' code; the trees that are drawn follow \
             their laws, not their random numbers",
    forms: FORMS,
    settings: &[
        DIM,
        TREES,
        BLOCK,
        LINES,
        P,
        choice("tree", &["star", "chain"], "whether lines go through one root, or start on each other"),
        choice("split", &["uniform", "distance", "logits"], "how the mass of a point is split among lines"),
        real("delta", 2.0, "sharpness of the split by distance"),
        DISTANCE,
        WEIGHTED,
        MEAN,
        STD,
    ],
    small: &[("trees", "6")],
    build: |config, net| {
        let (chain, split) = (config.word("tree") == "chain", config.word("split"));
        build(config, net, Trees { chain, split, frame: false })
    },
};

/// Db-TSW.
pub const DB_TSW: Entry = Entry {
    name: "db-tsw",
    about: "Db-TSW: tree-sliced Wasserstein distance with a split by distances to lines",
    paper: "Distance-Based Tree-Sliced Wasserstein, arXiv 2503.11050",
    status: "verified against the authors' code and exact transport on the tree; the paper's text could not be read",
    forms: FORMS,
    settings: &[
        DIM,
        TREES,
        BLOCK,
        LINES,
        P,
        real("delta", 2.0, "sharpness of the split"),
        DISTANCE,
        WEIGHTED,
        MEAN,
        STD,
    ],
    small: &[("trees", "6")],
    build: |config, net| build(config, net, Trees { chain: false, split: "distance", frame: false }),
};

/// Db-TSW⊥: the lines of a tree are at right angles to each other.
pub const DB_TSW_PERP: Entry = Entry {
    name: "db-tsw-perp",
    about: "Db-TSW-perp: Db-TSW with orthonormal lines",
    settings: &[
        DIM,
        TREES,
        BLOCK,
        integer("lines", 3, 1, "lines k of a tree, at most d"),
        P,
        real("delta", 2.0, "sharpness of the split"),
        DISTANCE,
        WEIGHTED,
        MEAN,
        STD,
    ],
    build: |config, net| build(config, net, Trees { chain: false, split: "distance", frame: true }),
    ..DB_TSW
};

/// Which trees.
#[derive(Clone, Copy)]
struct Trees {
    chain: bool,
    split: &'static str,
    /// Are the lines of a tree at right angles?
    frame: bool,
}

/// The lines of all trees.
struct Lines {
    /// Directions `[L, k, d]`.
    theta: Value,
    /// Where they start: `[L, 1, d]` or `[L, k, d]`; not needed where they do not matter.
    from: Option<Value>,
    /// Of a chain, `[L, k − 1]`.
    junction: Option<Value>,
}

/// Sizes of the lines.
struct Sizes {
    dim: usize,
    trees: usize,
    lines: usize,
}

fn build(config: &Config, net: &mut Net, trees: Trees) -> Built<()> {
    let [dim, count, lines] = ["dim", "trees", "lines"].map(|name| config.integer(name));
    let (p, weighted) = (exponent(config)?, config.flag("weighted"));
    // Equal masses in constant parts are balanced on each line.
    let rootless = trees.split != "distance" && !weighted;
    if trees.chain && lines < 2 {
        return Err(config.unfit("a chain has at least 2 `lines`"));
    }
    let sets = Sets::input(net, dim, false);
    let sizes = Sizes { dim, trees: count, lines };
    let lines = match config.form() {
        "given" => trees.given(net, &sizes, rootless)?,
        _ => trees.sampled(config, net, &sizes, rootless)?,
    };
    let logits = (trees.split == "logits").then(|| trees.logits(config, net, &sizes)).transpose()?;
    let sets = sets.with_masses(net, weighted);
    let costs = by_blocks(config, net, |net, block| {
        let clouds = sets.of(net, block).clouds(net)?;
        let lines = lines.of(net, block)?;
        let logits = logits.map(|logits| block.shared(net, logits));
        if rootless {
            let t = clouds.against(net, lines.theta)?;
            let costs = net.balanced_cost(t, clouds.masses, p)?;
            let parts = net.constant_split(logits, sizes.lines)?;
            return net.weighted(costs, parts, p);
        }
        let (t, from) = clouds.on_lines(net, &lines)?;
        let masses = match trees.split {
            "distance" => clouds.by_distance(config, net, [lines.theta, from, t])?,
            _ => {
                let parts = net.constant_split(logits, sizes.lines)?;
                clouds.in_constant_parts(net, parts, t)?
            }
        };
        net.tree_costs(t, masses, &lines, p)
    })?;
    let value = net.mean_root(costs, sizes.trees, p)?;
    net.output("value", value);
    Ok(())
}

impl Lines {
    /// Those of the trees of a block.
    fn of(&self, net: &mut Net, block: &Block) -> Built<Lines> {
        let mut own = |value| block.own(net, value);
        let theta = own(self.theta)?;
        Ok(Lines {
            theta,
            from: self.from.map(&mut own).transpose()?,
            junction: self.junction.map(own).transpose()?,
        })
    }
}

impl Trees {
    /// Lines that are inputs, in the order of the golden cases. Those that do not matter are inputs all the same.
    fn given(&self, net: &mut Net, sizes: &Sizes, rootless: bool) -> Built<Lines> {
        let &Sizes { dim, trees, lines } = sizes;
        let f32s = |net: &mut Net, name: &str, shape: &[usize]| {
            net.input(name, DType::F32, shape.iter().map(|&size| Dim::from(size)))
        };
        if !self.chain {
            let theta = f32s(net, "theta", &[trees, lines, dim]);
            let root = f32s(net, "root", &[trees, 1, dim]);
            return Ok(Lines { theta, from: Some(root), junction: None });
        }
        let junction = f32s(net, "junction", &[trees, lines - 1]);
        let theta = f32s(net, "theta", &[trees, lines, dim]);
        let first = f32s(net, "x1", &[trees, 1, dim]);
        let from = (!rootless).then(|| net.chained(first, theta, junction, lines)).transpose()?;
        Ok(Lines { theta, from, junction: Some(junction) })
    }

    /// Lines that are weights. The streams of a tree are said in [`super::sample`]:
    ///
    /// - star: a root of `d` numbers `mean + std · normal`; `k` directions, or a frame;
    /// - chain: `d` numbers uniform in `−1..1` where the first line starts, then `k − 1` junctions uniform in `−1..1`;
    ///   `k` directions.
    fn sampled(&self, config: &Config, net: &mut Net, sizes: &Sizes, rootless: bool) -> Built<Lines> {
        let &Sizes { dim, trees, lines } = sizes;
        if self.frame && lines > dim {
            return Err(
                config.unfit(format!("`lines` = {lines} at right angles need `dim` = {dim} as large"))
            );
        }
        let seed = net.seed(config);
        let directions = |tree: u64| Stream::new(seed, 2 * tree + 1).directions(lines, dim, self.frame);
        let directions = OfTree::new(&directions);
        let at = |at: &[usize]| directions.at(at[0], at[1], at[2]);
        let theta = net.weight("theta", &[trees, lines, dim], Start::At(&at))?;
        if rootless {
            return Ok(Lines { theta, from: None, junction: None });
        }
        if !self.chain {
            let (mean, std) = (config.real("mean"), config.real("std"));
            let root = |tree: u64| {
                let mut stream = Stream::new(seed, 2 * tree);
                vec![(0..dim).map(|_| mean + std * stream.normal()).collect()]
            };
            let roots = OfTree::new(&root);
            let at = |at: &[usize]| roots.at(at[0], 0, at[2]);
            let root = net.weight("root", &[trees, 1, dim], Start::At(&at))?;
            return Ok(Lines { theta, from: Some(root), junction: None });
        }
        let start = |tree: u64| {
            let mut stream = Stream::new(seed, 2 * tree);
            let mut row = |count: usize| (0..count).map(|_| stream.uniform(-1.0, 1.0)).collect();
            vec![row(dim), row(lines - 1)]
        };
        let starts = OfTree::new(&start);
        let first = net.weight("x1", &[trees, 1, dim], Start::At(&|at| starts.at(at[0], 0, at[2])))?;
        let junction = Start::At(&|at| starts.at(at[0], 1, at[1]));
        let junction = net.weight("junction", &[trees, lines - 1], junction)?;
        let from = net.chained(first, theta, junction, lines)?;
        Ok(Lines { theta, from: Some(from), junction: Some(junction) })
    }

    fn logits(&self, config: &Config, net: &mut Net, sizes: &Sizes) -> Built<Value> {
        if config.form() == "given" {
            return Ok(net.input("logits", DType::F32, [Dim::from(sizes.lines)]));
        }
        net.weight("logits", &[sizes.lines], Start::Zeros)
    }
}

impl Clouds {
    /// The coordinates of all points on all lines, `[L, k, N]`, and where those start.
    fn on_lines(&self, net: &mut Net, lines: &Lines) -> Built<(Value, Value)> {
        let Some(from) = lines.from else { unreachable!("bug: it matters where these lines start") };
        let start = if self.dim > WRITTEN_OUT {
            let start = net.mul(lines.theta, from)?;
            net.sum(start, -1)?
        } else {
            sum_of(net, self.dim, &mut |net, c| {
                let [theta, from] = [lines.theta, from].map(|v| net.slice(v, -1, c, 1usize));
                net.mul(theta?, from?)
            })?
        };
        let t = self.against(net, lines.theta)?;
        Ok((net.sub(t, start)?, from))
    }

    /// Signed masses on all lines, `[L, k, N]`, split by distances to them.
    fn by_distance(&self, config: &Config, net: &mut Net, [theta, from, t]: [Value; 3]) -> Built<Value> {
        let distances = match config.word("distance") {
            "residual" => self.residuals(net, theta, from, t)?,
            _ => self.by_squares(net, from, t)?,
        };
        let scores = net.scale(distances, -config.real("delta"))?;
        let parts = net.softmax(scores, 1)?;
        net.mul(parts, self.masses)
    }

    /// Signed masses on all lines, as many as there are coordinates `t`, in these parts, `[]` or `[k]`.
    fn in_constant_parts(&self, net: &mut Net, parts: Value, t: Value) -> Built<Value> {
        let parts = if net.ty(parts).rank() == 0 { parts } else { net.unsqueeze(parts, -1)? };
        let masses = net.mul(parts, self.masses)?;
        let shape = net.ty(t).shape.clone();
        net.broadcast(masses, shape)
    }

    /// `‖x − (s + t θ)‖` (section 3).
    fn residuals(&self, net: &mut Net, theta: Value, from: Value, t: Value) -> Built<Value> {
        let squares = if self.dim <= WRITTEN_OUT {
            sum_of(net, self.dim, &mut |net, c| {
                let (theta, from) = (net.slice(theta, -1, c, 1usize)?, net.slice(from, -1, c, 1usize)?);
                let x = self.coordinate(net, c)?;
                let foot = net.mul(t, theta)?;
                let foot = net.add(foot, from)?;
                let off = net.sub(x, foot)?;
                net.square(off)
            })?
        } else {
            let (theta, from, t) =
                (net.unsqueeze(theta, -1)?, net.unsqueeze(from, -1)?, net.unsqueeze(t, 2)?);
            let foot = net.mul(t, theta)?;
            let foot = net.add(foot, from)?;
            let off = net.sub(self.points, foot)?;
            let squares = net.square(off)?;
            net.reduced(&REDUCE_SUM, squares, &[2], false)?
        };
        net.sqrt(squares)
    }

    /// `√max(‖x‖² − 2 ⟨s, x⟩ + ‖s‖² − t², 0)` (section 6: it cancels near a line).
    fn by_squares(&self, net: &mut Net, from: Value, t: Value) -> Built<Value> {
        let squares = net.square(self.points)?;
        let lengths = net.sum(squares, 0)?;
        let along = self.against(net, from)?;
        let along = net.scale(along, 2.0)?;
        let from = net.square(from)?;
        let from = net.sum(from, -1)?;
        let apart = net.sub(lengths, along)?;
        let apart = net.add(apart, from)?;
        let square = net.square(t)?;
        let rest = net.sub(apart, square)?;
        let rest = net.relu(rest)?;
        net.sqrt(rest)
    }
}

impl Net<'_> {
    /// `x_{l+1} = x_l + t_l θ_l` (TSW-SL Algorithm 1): where all lines of chains start, `[L, k, d]`.
    fn chained(&mut self, first: Value, theta: Value, junction: Value, lines: usize) -> Built<Value> {
        let theta = self.slice(theta, 1, 0usize, lines - 1)?;
        let junction = self.unsqueeze(junction, -1)?;
        let steps = self.mul(junction, theta)?;
        let steps = self.cumsum(steps, 1, [false, false])?;
        let rest = self.add(first, steps)?;
        self.concat(&[first, rest], 1)
    }

    /// `α_l` of a constant split: `[1]` or `[k]`.
    fn constant_split(&mut self, logits: Option<Value>, lines: usize) -> Built<Value> {
        match logits {
            Some(logits) => self.softmax(logits, -1),
            None => Ok(self.scalar(1.0 / lines as f64)),
        }
    }

    /// What it costs on each line, `[L, k]`, of coordinates and masses `[L, k, N]`.
    fn tree_costs(&mut self, t: Value, masses: Value, lines: &Lines, p: f64) -> Built<Value> {
        let Some(junction) = lines.junction else { return self.rooted_cost(t, masses, p) };
        let totals = self.total_of(masses)?;
        let after = self.cumsum(totals, -1, [true, true])?;
        let after = self.unsqueeze(after, -1)?;
        let trees = self.size(junction, 0);
        let none = self.scalar(0.0);
        let none = self.broadcast(none, [trees, Dim::constant(1)])?;
        let places = self.concat(&[junction, none], 1)?;
        let places = self.unsqueeze(places, -1)?;
        let (t, masses) = (self.concat(&[t, places], -1)?, self.concat(&[masses, after], -1)?);
        self.rooted_cost(t, masses, p)
    }
}
