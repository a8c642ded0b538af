//! The sparse mixture of experts that the other models of this folder begin from, and its language model.
//!
//! `layer`: `x: [N, D]` → `y = SMoE(x): [N, D]`, with gates (G1) or (G2) and, if `capacity` is not 0, the seats of (G4) and
//! (D5). `lm`: (M13) of (M1) with `o = LN(h1 + SMoE(h1))`.
//!
//! Verified against the authors' code: gates (G1), the language model. Read in code, and not run: (G2), capacity. Capacities
//! are whole numbers throughout: `⌈N K cf / E⌉` is that of the decimal `cf`, not of its nearest float.

use ir::DType;
use ir::graph::Value;

use super::language::{self, DEPTH, HEADS, Half, NORM, SPAN, WORDS};
use super::layer::{ACTIVATION, CHOSEN, DIM, EXPERTS, HIDDEN, Layer, Plan, activation};
use super::step::{State, Step};
use crate::net::{Built, CAPACITY, Capacity, MULTIPLE, Net, ORDER, Order, PRIORITY, symbol};
use crate::setting::{Config, flag};
use crate::{Entry, Form};

/// The model.
pub const SMOE: Entry = Entry {
    name: "smoe",
    about: "sparse mixture of experts: each token goes to k of them",
    paper: "the baseline of MomentumSMoE, arXiv 2410.14574",
    status: "verified against the authors' code; gates chosen after the softmax and capacity are read in code, not run",
    forms: &[
        Form { name: "layer", about: "a layer of experts", defaults: &[] },
        Form { name: "lm", about: "language model, of the medium size for WikiText-103", defaults: &[] },
    ],
    settings: &[
        DIM,
        HIDDEN,
        EXPERTS,
        CHOSEN,
        ORDER,
        ACTIVATION,
        flag("bias", true, "whether the scores of a router have a bias"),
        CAPACITY,
        MULTIPLE,
        PRIORITY,
        DEPTH,
        HEADS,
        SPAN,
        WORDS,
    ],
    small: &[("dim", "16"), ("hidden", "32"), ("experts", "8")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let plan = Plan::of(config)?;
    if config.form() == "lm" {
        return plain(config, net, plan, |_| Half::Experts, Step::Residual);
    }
    let plan = Plan {
        order: Order::of(config),
        activation: activation(config),
        bias: config.flag("bias"),
        capacity: Capacity::of(config)?,
        ..plan
    };
    let x = net.input("x", DType::F32, [symbol("N"), plan.dim.into()]);
    let layer = Layer::new(net, plan)?;
    let y = layer.of(net, x)?;
    net.output("y", y);
    Ok(())
}

/// (M13) whose layers of experts take a step, with the state that goes from one to the next.
pub(super) fn plain(
    config: &Config,
    net: &mut Net,
    plan: Plan,
    half: impl Fn(usize) -> Half,
    step: Step,
) -> Built<()> {
    let mut state = State::default();
    language::model(config, net, &plan, half, |net, i, h| sublayer(net, plan, step, h, &mut state, i == 0))
}

/// (M4) `LN(u)`, `u` of the step, by the weights `moe` and `norm`.
pub(super) fn sublayer(
    net: &mut Net,
    plan: Plan,
    step: Step,
    x: Value,
    state: &mut State,
    is_first: bool,
) -> Built<Value> {
    let layer = net.within("moe", |net| Layer::new(net, plan))?;
    let u = step.take(net, [x, x], state, is_first, |net, x| net.within("moe", |net| layer.of(net, x)))?;
    net.layer_norm(u, "norm", NORM)
}
