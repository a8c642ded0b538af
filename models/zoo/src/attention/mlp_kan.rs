//! MLP-KAN (arXiv 2410.03027): a feed-forward layer of experts, half of which are Kolmogorov-Arnold networks.
//!
//! - (P1) a layer of those: `u = LN(x)`, `b_cg = 1 − tanh²((u_c − g)/0.33)`, `g` 8 points from −2 to 2 (`grid`, fixed),
//!   `y = W·vec(b)` without bias; `vec` has the points of a channel side by side;
//! - (P2) `p = softmax(W_g x)` over E experts, the best K of which are taken, with gates that sum to 1:
//!   `y = Σ p̂_e expert_e(x)`.
//!
//! The first half of the experts are MLPs with GELU (`mlps`), the others two layers of (P1) with half the width in between
//! (`kans`). `x: [T, C]` → `y: [T, C]`. Every expert is computed for every token, and those that are not chosen have gate 0.
//! Verified against the authors' code, which routes so; the paper's equations speak of soft dispatch.

use ir::graph::Value;
use ir::{DType, Dim};

use crate::Entry;
use crate::init::Start;
use crate::net::{Activation, Built, Net, symbol};
use crate::setting::{Config, integer};

/// How wide a bump is around its point.
const WIDTH: f64 = 0.33;

/// The points are between this and its opposite.
const END: f64 = 2.0;

/// The model.
pub const MLP_KAN: Entry = Entry {
    name: "mlp-kan",
    about: "a layer of MLP-KAN: experts that are MLPs or Kolmogorov-Arnold networks",
    paper: "MLP-KAN, arXiv 2410.03027",
    status: "verified against the authors' code, which takes the best experts only",
    forms: &[],
    settings: &[
        integer("dim", 192, 1, "width C of tokens"),
        integer("hidden", 192, 2, "width inside of an MLP; inside of a KAN half of it"),
        integer("experts", 8, 2, "experts E, of which the first half are MLPs"),
        integer("chosen", 2, 1, "experts K that a token goes to"),
        integer("points", 8, 2, "points of the grid of a KAN"),
    ],
    small: &[("dim", "24"), ("hidden", "16")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let [dim, hidden, experts, chosen, points] =
        ["dim", "hidden", "experts", "chosen", "points"].map(|name| config.integer(name));
    if chosen > experts {
        return Err(config.unfit(format!("`chosen` = {chosen} of `experts` = {experts}")));
    }
    let x = net.input("x", DType::F32, [symbol("T"), dim.into()]);
    let scores = net.project(x, "gate", experts)?;
    let scores = net.softmax(scores, -1)?;
    let [gates, ids] = net.topk(scores, chosen)?;
    let whole = net.sum(gates, -1)?;
    let gates = net.div(gates, whole)?;
    let gates = net.spread(gates, ids, experts)?;
    let mlps = experts / 2;
    let mut sum: Option<Value> = None;
    for expert in 0..experts {
        let y = match expert.checked_sub(mlps) {
            None => net.feed_forward(x, &format!("mlps.{expert}"), hidden, Activation::Gelu)?,
            Some(kan) => net.within(format!("kans.{kan}"), |net| {
                let y = net.within("0", |net| bumps(net, x, hidden / 2, points))?;
                net.within("1", |net| bumps(net, y, dim, points))
            })?,
        };
        let gate = net.slice(gates, -1, expert, 1i64)?;
        let term = net.mul(gate, y)?;
        sum = Some(match sum {
            Some(sum) => net.add(sum, term)?,
            None => term,
        });
    }
    net.output("y", sum.expect("there are experts"));
    Ok(())
}

/// (P1): `x: [T, C]` → `[T, to]`.
fn bumps(net: &mut Net, x: Value, to: usize, points: usize) -> Built<Value> {
    let (tokens, width) = (net.size(x, 0), net.width(x, -1));
    let x = net.layer_norm(x, "norm", 1e-5)?;
    let point = |at: &[usize]| -END + 2.0 * END * at[0] as f64 / (points - 1) as f64;
    let grid = net.weight("grid", &[points], Start::At(&point))?;
    let x = net.unsqueeze(x, -1)?;
    let x = net.sub(x, grid)?;
    let width_of_bump = net.scalar(WIDTH);
    let x = net.div(x, width_of_bump)?;
    let t = net.tanh(x)?;
    let square = net.mul(t, t)?;
    let one = net.scalar(1.0);
    let bump = net.sub(one, square)?;
    let bump = net.reshape(bump, [tokens, Dim::from(width * points)])?;
    net.project(bump, "lin", to)
}

impl Net<'_> {
    /// `gates, ids: [T, K]` → `[T, E]`: the gate of each expert, 0 for those that are not chosen.
    pub(crate) fn spread(&mut self, gates: Value, ids: Value, experts: usize) -> Built<Value> {
        let all = self.iota([experts.into()], 0, DType::I64)?;
        let ids = self.unsqueeze(ids, -1)?;
        let is_chosen = self.eq(ids, all)?;
        let gates = self.unsqueeze(gates, -1)?;
        let zero = self.scalar(0.0);
        let each = self.select(is_chosen, gates, zero)?;
        let all = self.sum(each, -2)?;
        self.squeeze(all, -2)
    }
}
