//! MomentumSMoE (Teo, Nguyen 2024, arXiv 2410.14574): layers of experts as steps of an optimiser, whose state goes from
//! layer to layer through one pass.
//!
//! `layer`: `x, m: [B, S, D]` (Adam: `x, p, v, m`) → `y = LN(u)` (M4) and the next state, `u` and the state by (M3), (M5) and
//! (M6), or (M8) of `step`. `lm`: the language model (M13), whose state begins at zero.
//!
//! Verified against the authors' code: layers of all three, the language models of heavy ball and Adam; around the robust
//! layer, the language model is read. Nesterov (M9) and sign (M10) are reconstructed. As in that code, only the first layer
//! of experts takes the step of Adam, later ones that of the heavy ball; and `κ = 1` takes the residual away there, which
//! survives in the norm around the layer.

use ir::DType;
use ir::graph::Value;

use super::language::{DEPTH, HEADS, Half, SPAN, WORDS};
use super::layer::{CHOSEN, DIM, EXPERTS, HIDDEN, Layer, Plan};
use super::smoe;
use super::step::{BETA1, BETA2, EPSILON, GAMMA, GAMMA_ADAM, KAPPA, LIPSCHITZ, MU, ROBUST_K, State, Step};
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, choice, flag, real};
use crate::{Entry, Form};

const LAYER: Form =
    Form { name: "layer", about: "a layer of experts with its norm and its state", defaults: &[] };
const LM: Form =
    Form { name: "lm", about: "language model, of the medium size for WikiText-103", defaults: &[] };

/// Heavy ball.
pub const MOMENTUM_SMOE: Entry = Entry {
    name: "momentum-smoe",
    about: "MomentumSMoE: layers of experts are steps of a heavy ball",
    paper: "MomentumSMoE, arXiv 2410.14574",
    status: "verified against the authors' code; the steps of Nesterov and of signs are reconstructed, without a source",
    forms: &[
        LAYER,
        LM,
        Form {
            name: "variants",
            about: "both reconstructed steps of the same experts, without norm",
            defaults: &[],
        },
    ],
    settings: &[
        DIM,
        HIDDEN,
        EXPERTS,
        CHOSEN,
        choice("step", &["heavy-ball", "nesterov", "sign"], "how the state moves: (M3), (M9) or (M10)"),
        MU,
        GAMMA,
        real("sign_gamma", 0.1, "step size of signs (M10)"),
        DEPTH,
        HEADS,
        SPAN,
        WORDS,
    ],
    small: &[("dim", "16"), ("hidden", "32"), ("experts", "8")],
    build: momentum,
};

/// Adam.
pub const ADAM_SMOE: Entry = Entry {
    name: "adam-smoe",
    about: "AdamSMoE: the first layer of experts is a step of Adam, later ones are steps of a heavy ball",
    paper: "MomentumSMoE, arXiv 2410.14574",
    status: "verified against the authors' code",
    forms: &[LAYER, LM],
    settings: &[
        DIM,
        HIDDEN,
        EXPERTS,
        CHOSEN,
        MU,
        GAMMA_ADAM,
        GAMMA,
        BETA1,
        BETA2,
        EPSILON,
        KAPPA,
        flag("first", true, "whether the layer is the first one of experts"),
        DEPTH,
        HEADS,
        SPAN,
        WORDS,
    ],
    small: &[("dim", "16"), ("hidden", "32"), ("experts", "8")],
    build: adam,
};

/// Robust momentum.
pub const ROBUST_MOMENTUM_SMOE: Entry = Entry {
    name: "robust-momentum-smoe",
    about: "Robust MomentumSMoE: experts are evaluated ahead of the residual stream",
    paper: "MomentumSMoE, arXiv 2410.14574",
    status: "the layer is verified against the authors' code; the language model around it is read",
    forms: &[LAYER, LM],
    settings: &[
        DIM,
        HIDDEN,
        EXPERTS,
        CHOSEN,
        real("mu", 0.2, "momentum μ of (M7), from 0 to below 1"),
        ROBUST_K,
        LIPSCHITZ,
        DEPTH,
        HEADS,
        SPAN,
        WORDS,
    ],
    small: &[("dim", "16"), ("hidden", "32"), ("experts", "8")],
    build: robust,
};

fn momentum(config: &Config, net: &mut Net) -> Built<()> {
    let nesterov = || Step::Nesterov { mu: config.real("mu"), gamma: config.real("gamma") };
    let sign = || Step::Sign { mu: config.real("mu"), gamma: config.real("sign_gamma") };
    if config.form() == "variants" {
        return variants(config, net, [("nag", nesterov()), ("sign", sign())]);
    }
    let step = match config.word("step") {
        "heavy-ball" => Step::heavy_ball(config),
        "nesterov" => nesterov(),
        _ => sign(),
    };
    one_state(config, net, step)
}

fn robust(config: &Config, net: &mut Net) -> Built<()> {
    let step = Step::robust(config, "mu")?;
    one_state(config, net, step)
}

/// A model whose state is one array.
fn one_state(config: &Config, net: &mut Net, step: Step) -> Built<()> {
    let plan = Plan::of(config)?;
    if config.form() == "lm" {
        return smoe::plain(config, net, plan, |_| Half::Experts, step);
    }
    let [x, m] = ["x", "m"].map(|name| tokens(net, name, &plan));
    let mut state = State { momentum: Some(m), ..State::default() };
    let y = net.within("mlp", |net| smoe::sublayer(net, plan, step, x, &mut state, false))?;
    net.output("y", y);
    net.output("m_next", state.momentum.unwrap_or(m));
    Ok(())
}

fn adam(config: &Config, net: &mut Net) -> Built<()> {
    let (plan, step) = (Plan::of(config)?, Step::adam(config));
    if config.form() == "lm" {
        return smoe::plain(config, net, plan, |_| Half::Experts, step);
    }
    let [x, p, v, m] = ["x", "p", "v", "m"].map(|name| tokens(net, name, &plan));
    let mut state = State { momentum: Some(m), mean: Some(p), square: Some(v) };
    let is_first = config.flag("first");
    let y = net.within("mlp", |net| smoe::sublayer(net, plan, step, x, &mut state, is_first))?;
    net.output("y", y);
    net.output("p_next", state.mean.unwrap_or(p));
    net.output("v_next", state.square.unwrap_or(v));
    net.output("m_next", state.momentum.unwrap_or(m));
    Ok(())
}

/// `x, m: [B, S, D]` → `x_nag, m_nag, x_sign, m_sign`.
fn variants(config: &Config, net: &mut Net, steps: [(&str, Step); 2]) -> Built<()> {
    let plan = Plan::of(config)?;
    let [x, m] = ["x", "m"].map(|name| tokens(net, name, &plan));
    let layer = net.within("moe", |net| Layer::new(net, plan))?;
    for (name, step) in steps {
        let mut state = State { momentum: Some(m), ..State::default() };
        let u = step.take(net, [x, x], &mut state, false, |net, x| layer.of(net, x))?;
        net.output(&format!("x_{name}"), u);
        net.output(&format!("m_{name}"), state.momentum.unwrap_or(m));
    }
    Ok(())
}

/// `[B, S, D]`.
fn tokens(net: &mut Net, name: &str, plan: &Plan) -> Value {
    net.input(name, DType::F32, [symbol("B"), symbol("S"), plan.dim.into()])
}
