//! CAMEx (Nguyen et al. 2025, arXiv 2502.18821): experts are merged into one matrix per text, along directions that learned
//! curvatures turn; and what it is compared with.
//!
//! `Wᵢ: [O, I]` expert `i`, `Wₘ` the base, `τᵢ = Wᵢ − Wₘ`, `s: [B, E]` gates:
//!
//! - (C1) `W = Σᵢ sᵢ Wᵢ` (`variant=smear`); (C2) `W = Wₘ + α Σᵢ sᵢ τᵢ` (`domain`); (C3) `W = Wₘ + α Σᵢ sᵢ Mᵢ τᵢ` (`camex`);
//! - (C4) `Mᵢ τᵢ = Σᵣ (Co1ᵣᵢ ⊗ Co2ᵣᵢ) τᵢ (Ci1ᵣᵢ ⊗ Ci2ᵣᵢ)ᵀ`, `O = o1·o2`, `I = i1·i2`, `o1` and `i1` the largest divisors up to the
//!   roots;
//! - (C5), (C6) with `ties=true`, `Mᵢ τᵢ` counts only where `sign τᵢ = sign Σⱼ τⱼ`;
//! - (C10) `y = x Wᵀ` for all tokens of the text, `s` the gates (G1) of the mean of `x` over them;
//! - (C11) `segment-ffn`: tokens come in segments of `T`; the gates of one are those of the segment before it, and the first has
//!   its own;
//! - (C12) `dynamic`: only the first layer has a base, `Wₘˡ⁺¹ = Wₘˡ + (γ/E) Σᵢ Mᵢˡ τᵢˡ`;
//! - (C13) `ffn`: `x + Wo'(act(Wi'(RMSNorm(x))))`, both matrices merged, each by the mean of its own input;
//! - (C7) Fisher `Σᵢ Fᵢ Wᵢ / (Σᵢ Fᵢ + 1e-12)`, (C8) TIES `Wₘ + λ · mean of those of the largest |τᵢ| that have the sign of their
//!   sum`, (C9) DARE `Wₘ + mean of τᵢ (1 − drop) / (1 − p)`: `merge`.
//!
//! What no input is part of (`Mᵢ τᵢ`, masks, all but the last base) is computed when the model is compiled, if there is room
//! for it. The factors of `M` begin as identities, so that `M` is `R` times that.
//!
//! Verified against the authors' code: linear layers of all variants without biases, also of segments. Read: the block around
//! them. Reconstructed: `dynamic`, which is in no released code. DARE drops nothing when a model runs: it is `camex` without
//! `ties`. That code merges the chosen raw experts alone where `2k < E`, whatever the variant; here the variant counts.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::norm::rms_norm::RMS_NORM;
use ops::norm::{AXES, EPSILON};
use ops::reduce::reduce_mean::REDUCE_MEAN;
use ops::reduce::reduce_sum::REDUCE_SUM;

use super::layer::{ACTIVATION, activation};
use super::merging;
use crate::init::Start;
use crate::net::{Activation, Built, Net, Order, symbol};
use crate::setting::{Config, choice, flag, integer, real};
use crate::{Entry, Form};

/// Terms of a curvature (C4) are made together as long as they have no more elements than this: 4 MiB, which is what results
/// may take that are computed from weights when a model is compiled.
const TOGETHER: usize = 1 << 20;

/// The model.
pub const CAMEX: Entry = Entry {
    name: "camex",
    about: "CAMEx: experts merged into one matrix per text, along curved directions",
    paper: "CAMEx, arXiv 2502.18821",
    status: "linear layers are verified against the authors' code, blocks around them read; dynamic is reconstructed; \
             merge has the definitions of the cited methods",
    forms: &[
        Form { name: "ffn", about: "a feed-forward block, of the size of T5-base", defaults: &[] },
        Form {
            name: "segment-ffn",
            about: "a feed-forward block of causal segments, of the size of GPT-2 small",
            defaults: &[("activation", "gelu-tanh")],
        },
        Form {
            name: "dynamic",
            about: "feed-forward blocks whose bases come from one another",
            defaults: &[],
        },
        Form {
            name: "linear",
            about: "one linear layer, with its gates and its merged matrices",
            defaults: &[],
        },
        Form {
            name: "curvature",
            about: "the curvatures of a linear layer, applied to directions",
            defaults: &[],
        },
        Form { name: "merge", about: "Fisher, TIES and DARE, of experts that are inputs", defaults: &[] },
    ],
    settings: &[
        integer("dim", 768, 1, "width of tokens"),
        integer("hidden", 3072, 1, "width between the two matrices of a block"),
        integer("in", 768, 1, "width I of what a linear layer reads"),
        integer("out", 3072, 1, "width O of what a linear layer makes"),
        integer("experts", 7, 1, "experts E"),
        integer("k", 0, 0, "how many experts have gates; 0: all"),
        integer("rank", 8, 1, "terms R of a curvature (C4)"),
        choice("variant", &["camex", "domain", "smear"], "how experts are merged: (C3), (C2) or (C1)"),
        flag(
            "ties",
            true,
            "whether directions count only where their signs agree with that of their sum (C6)",
        ),
        real("alpha", 1.0, "step α from the base (C2), (C3)"),
        ACTIVATION,
        integer("segment", 256, 1, "tokens T of a segment (C11)"),
        integer("depth", 2, 1, "blocks of form=dynamic"),
        real("gamma", 1.0, "step γ from base to base (C12)"),
        real("density", 0.2, "share of directions that TIES keeps, above 0 up to 1"),
        real("lambda", 1.0, "step λ from the base, of TIES"),
        real("drop", 0.1, "share p of directions that DARE drops, from 0 to below 1"),
    ],
    small: &[("dim", "24"), ("hidden", "36"), ("experts", "4"), ("rank", "2")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    match config.form() {
        "linear" => {
            let plan = Plan::of(config)?;
            let sizes = ["in", "out"].map(|name| config.integer(name));
            let x = net.input("x", DType::F32, [symbol("B"), symbol("S"), sizes[0].into()]);
            let linear = net.within("m", |net| Linear::new(net, plan, sizes, true))?;
            let gates = linear.gates(net, x)?;
            let merged = linear.merged(net, linear.base, gates)?;
            let y = apply(net, x, merged)?;
            for (name, value) in [("y", y), ("gate", gates), ("merged", merged)] {
                net.output(name, value);
            }
            Ok(())
        }
        "curvature" => {
            let plan =
                Plan { variant: Variant::Camex { rank: config.integer("rank") }, ..Plan::bare(config) };
            let sizes = ["in", "out"].map(|name| config.integer(name));
            let shape = [plan.experts, sizes[1], sizes[0]].map(Dim::from);
            let tau = net.input("tau", DType::F32, shape);
            let linear = net.within("m", |net| Linear::new(net, plan, sizes, true))?;
            let moved = linear.curved(net, tau)?;
            net.output("m_tau", moved);
            Ok(())
        }
        "merge" => merging::build(config, net),
        form => blocks(config, net, form),
    }
}

/// `x: [B, S, D]` → `y: [B, S, D]`.
fn blocks(config: &Config, net: &mut Net, form: &str) -> Built<()> {
    let (plan, act) = (Plan::of(config)?, activation(config));
    let sizes = ["dim", "hidden"].map(|name| config.integer(name));
    let segment = (form == "segment-ffn").then(|| config.integer("segment"));
    let tokens = match segment {
        Some(segment) => symbol("segments") * Dim::from(segment),
        None => symbol("S"),
    };
    let mut x = net.input("x", DType::F32, [symbol("B"), tokens, sizes[0].into()]);
    if form != "dynamic" {
        let block = Block::new(net, plan, sizes, act, true)?;
        x = block.of(net, x, block.bases(), segment)?;
        net.output("y", x);
        return Ok(());
    }
    if plan.variant == Variant::Smear {
        return Err(
            config.unfit("the blocks of `form` = dynamic have bases, which `variant` = smear does not read")
        );
    }
    let (depth, gamma) = (config.integer("depth"), config.real("gamma"));
    let mut bases = None;
    for i in 0..depth {
        x = net.within(format!("layers.{i}"), |net| {
            let block = Block::new(net, plan, sizes, act, i == 0)?;
            let own = bases.unwrap_or_else(|| block.bases());
            let y = block.of(net, x, own, None)?;
            if i + 1 < depth {
                let [first, second] = [(&block.first, own[0]), (&block.second, own[1])]
                    .map(|(linear, base)| linear.next_base(net, base, gamma));
                bases = Some([Some(first?), Some(second?)]);
            }
            Ok(y)
        })?;
    }
    net.output("y", x);
    Ok(())
}

/// How experts are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Camex { rank: usize },
    Domain,
    Smear,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    experts: usize,
    k: usize,
    variant: Variant,
    ties: bool,
    alpha: f64,
}

impl Plan {
    /// With nothing but the number of experts.
    fn bare(config: &Config) -> Plan {
        let experts = config.integer("experts");
        Plan { experts, k: experts, variant: Variant::Smear, ties: false, alpha: 1.0 }
    }

    fn of(config: &Config) -> Built<Plan> {
        let bare = Plan::bare(config);
        let k = match config.integer("k") {
            0 => bare.experts,
            k if k <= bare.experts => k,
            k => return Err(config.unfit(format!("`k` = {k} is more than `experts` = {}", bare.experts))),
        };
        let variant = match config.word("variant") {
            "camex" => Variant::Camex { rank: config.integer("rank") },
            "domain" => Variant::Domain,
            _ => return Ok(Plan { k, ..bare }),
        };
        Ok(Plan { k, variant, ties: config.flag("ties"), alpha: config.real("alpha"), ..bare })
    }
}

/// A linear layer of experts that are merged. It has a base also where nothing reads it, as in the authors' code.
struct Linear {
    plan: Plan,
    /// `w_gate: [I, E]`.
    gate: Value,
    /// `base: [O, I]`, unless it is another layer's.
    base: Option<Value>,
    /// `weight: [E, O, I]`.
    weight: Value,
    /// `curve_o1: [R, E, o1, o1]`, and those of `o2`, `i1`, `i2`.
    curves: Option<[Value; 4]>,
}

impl Linear {
    fn new(net: &mut Net, plan: Plan, [from, to]: [usize; 2], has_base: bool) -> Built<Linear> {
        let start = Start::Xavier { fan_in: from, fan_out: to };
        let gate = net.weight("w_gate", &[from, plan.experts], Start::Normal { deviation: 0.02 })?;
        let base = has_base.then(|| net.weight("base", &[to, from], start)).transpose()?;
        let weight = net.weight("weight", &[plan.experts, to, from], start)?;
        let curves = match plan.variant {
            Variant::Camex { rank } => {
                let ([o1, o2], [i1, i2]) = (near_square(to), near_square(from));
                let identity = Start::At(&|at| f64::from(u8::from(at[2] == at[3])));
                let mut factor =
                    |name: &str, size: usize| net.weight(name, &[rank, plan.experts, size, size], identity);
                Some([
                    factor("curve_o1", o1)?,
                    factor("curve_o2", o2)?,
                    factor("curve_i1", i1)?,
                    factor("curve_i2", i2)?,
                ])
            }
            Variant::Domain | Variant::Smear => None,
        };
        Ok(Linear { plan, gate, base, weight, curves })
    }

    /// The gates of all experts, 0 for those that are not chosen: `x: […, S, I]` → `s: […, E]`.
    fn gates(&self, net: &mut Net, x: Value) -> Built<Value> {
        let pooled = net.reduced(&REDUCE_MEAN, x, &[-2], false)?;
        let scores = net.matmul(pooled, self.gate)?;
        let Plan { experts, k, .. } = self.plan;
        if k == experts {
            return net.softmax(scores, -1);
        }
        let routing = net.routed(scores, k, Order::Chosen)?;
        let hot = net.one_hot(routing.ids, experts)?;
        let gates = net.unsqueeze(routing.gates, -1)?;
        let weighed = net.mul(hot, gates)?;
        net.reduced(&REDUCE_SUM, weighed, &[-2], false)
    }

    /// `τ: [E, O, I]`.
    fn tau(&self, net: &mut Net, base: Value) -> Built<Value> {
        net.sub(self.weight, base)
    }

    /// (C4): `[E, O, I]` → `[E, O, I]`, the same without curvature. As many terms are made at once as [`TOGETHER`] allows:
    /// all of them take `R` times the memory of the experts.
    fn curved(&self, net: &mut Net, tau: Value) -> Built<Value> {
        let (Some(curves), Variant::Camex { rank }) = (self.curves, self.plan.variant) else {
            return Ok(tau);
        };
        let elements: usize = (0..3).map(|axis| net.width(tau, axis)).product();
        let together = (TOGETHER / elements).clamp(1, rank);
        let mut sum = None;
        for first in (0..rank).step_by(together) {
            let count = together.min(rank - first);
            let mut factors = curves;
            for factor in &mut factors {
                *factor = net.slice(*factor, 0, first, count)?;
            }
            let terms = turned(net, tau, factors)?;
            let terms = match count {
                1 => net.squeeze(terms, 0)?,
                _ => net.reduced(&REDUCE_SUM, terms, &[0], false)?,
            };
            sum = Some(match sum {
                None => terms,
                Some(sum) => net.add(sum, terms)?,
            });
        }
        Ok(sum.unwrap_or(tau))
    }

    /// (C1) to (C5): `s: […, E]` → `W: […, O, I]`. No base is needed for (C1).
    fn merged(&self, net: &mut Net, base: Option<Value>, gates: Value) -> Built<Value> {
        let base = base.filter(|_| self.plan.variant != Variant::Smear);
        let Some(base) = base else { return weighed(net, gates, self.weight) };
        let tau = self.tau(net, base)?;
        let mut moved = self.curved(net, tau)?;
        if self.plan.ties {
            let agrees = merging::agrees(net, tau)?;
            let zero = net.scalar(0.0);
            moved = net.select(agrees, moved, zero)?;
        }
        let moved = weighed(net, gates, moved)?;
        let moved = if self.plan.alpha == 1.0 { moved } else { net.scale(moved, self.plan.alpha)? };
        net.add(base, moved)
    }

    /// (C12): `Wₘ + (γ/E) Σᵢ Mᵢ τᵢ`.
    fn next_base(&self, net: &mut Net, base: Option<Value>, gamma: f64) -> Built<Value> {
        let base = base.expect("bug: the first block has bases");
        let tau = self.tau(net, base)?;
        let moved = self.curved(net, tau)?;
        let moved = net.reduced(&REDUCE_MEAN, moved, &[0], false)?;
        let moved = net.scale(moved, gamma)?;
        net.add(base, moved)
    }

    /// (C10), or (C11) with segments: `x: [B, S, I]` → `[B, S, O]`.
    fn of(&self, net: &mut Net, x: Value, base: Option<Value>, segment: Option<usize>) -> Built<Value> {
        let Some(segment) = segment else {
            let gates = self.gates(net, x)?;
            let merged = self.merged(net, base, gates)?;
            return apply(net, x, merged);
        };
        let (batch, count, from) = (net.size(x, 0), symbol("segments"), net.size(x, 2));
        let x = net.reshape(x, [batch.clone(), count.clone(), segment.into(), from])?;
        let own = self.gates(net, x)?;
        let first = net.slice(own, 1, 0i64, 1i64)?;
        let before = net.slice(own, 1, 0i64, count.clone() - Dim::constant(1))?;
        let gates = net.concat(&[first, before], 1)?;
        let merged = self.merged(net, base, gates)?;
        let y = apply(net, x, merged)?;
        let to = net.size(y, -1);
        net.reshape(y, [batch, count * Dim::from(segment), to])
    }
}

/// Terms of (C4): `(Co1 ⊗ Co2) τ (Ci1 ⊗ Ci2)ᵀ` for each term and expert, of `τ: [E, O, I]` and factors `[r, E, o1, o1]` and so
/// on: `[r, E, O, I]`.
///
/// Each of the first three is the left matrix of a product, whose columns are all axes behind its own.
fn turned(net: &mut Net, tau: Value, [o1, o2, i1, i2]: [Value; 4]) -> Built<Value> {
    let [experts, to, from] = [0, 1, 2].map(|axis| net.width(tau, axis));
    let terms = net.width(o1, 0);
    let [a, b, c, d] = [o1, o2, i1, i2].map(|factor| net.width(factor, -1));
    let t = net.reshape(tau, [experts, a, b * from].map(Dim::from))?;
    let t = net.matmul(o1, t)?;
    let t = net.reshape(t, [terms, experts, a, b, from].map(Dim::from))?;
    let o2 = net.unsqueeze(o2, 2)?;
    let t = net.matmul(o2, t)?;
    let t = net.reshape(t, [terms, experts, to, c, d].map(Dim::from))?;
    let i1 = net.unsqueeze(i1, 2)?;
    let t = net.matmul(i1, t)?;
    let t = net.reshape(t, [terms, experts, to * c, d].map(Dim::from))?;
    let i2 = net.transposed(i2)?;
    let t = net.matmul(t, i2)?;
    net.reshape(t, [terms, experts, to, from].map(Dim::from))
}

/// `Σᵢ sᵢ Wᵢ`: `s: […, E]`, `[E, O, I]` → `[…, O, I]`.
fn weighed(net: &mut Net, gates: Value, matrices: Value) -> Built<Value> {
    let [experts, to, from] = [0, 1, 2].map(|axis| net.width(matrices, axis));
    let flat = net.reshape(matrices, [experts, to * from].map(Dim::from))?;
    let merged = net.matmul(gates, flat)?;
    let shape = net.ty(merged).shape.clone();
    let rows = shape[..shape.len() - 1].iter().cloned();
    net.reshape(merged, rows.chain([to.into(), from.into()]))
}

/// `x Wᵀ`: `[…, S, I]`, `[…, O, I]` → `[…, S, O]`.
fn apply(net: &mut Net, x: Value, matrix: Value) -> Built<Value> {
    let matrix = net.transposed(matrix)?;
    net.matmul(x, matrix)
}

/// The largest divisor up to the root, and what it is multiplied with.
fn near_square(size: usize) -> [usize; 2] {
    let divisor = (1..=size.isqrt()).rev().find(|divisor| size.is_multiple_of(*divisor)).unwrap_or(1);
    [divisor, size / divisor]
}

/// (C13).
struct Block {
    /// `norm.weight: [D]`.
    norm: Value,
    /// `wi`.
    first: Linear,
    /// `wo`.
    second: Linear,
    activation: Activation,
}

impl Block {
    fn new(
        net: &mut Net,
        plan: Plan,
        [dim, hidden]: [usize; 2],
        activation: Activation,
        has_base: bool,
    ) -> Built<Block> {
        let norm = net.within("norm", |net| net.weight("weight", &[dim], Start::Ones))?;
        let first = net.within("wi", |net| Linear::new(net, plan, [dim, hidden], has_base))?;
        let second = net.within("wo", |net| Linear::new(net, plan, [hidden, dim], has_base))?;
        Ok(Block { norm, first, second, activation })
    }

    fn bases(&self) -> [Option<Value>; 2] {
        [self.first.base, self.second.base]
    }

    fn of(&self, net: &mut Net, x: Value, bases: [Option<Value>; 2], segment: Option<usize>) -> Built<Value> {
        let h = net.op(&RMS_NORM, &[x], [AXES.is(vec![-1]), EPSILON.is(1e-6)])?;
        let h = net.mul(h, self.norm)?;
        let h = self.first.of(net, h, bases[0], segment)?;
        let h = net.activated(h, self.activation)?;
        let y = self.second.of(net, h, bases[1], segment)?;
        net.add(x, y)
    }
}
