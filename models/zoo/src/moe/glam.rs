//! GLaM (Du et al. 2022, arXiv 2112.06905) as MomentumSMoE has it: layers of experts and dense layers in turn.
//!
//! `lm`: (M13) whose layers are, from the first on, `h1 = LN1(h + Attn(h))`, `h' = LN2(h1 + o)` with the step of `step` in
//! `o`, and `h' = LN2(h1 + FF(h1))`. Dense layers hand the state on unchanged, so that momentum links consecutive layers of
//! experts. `pair`: one layer of each on hidden states, `h: [B, S, D]`, `caches: [2, B, W, D]` → `y: [B, S, D]`.
//!
//! Verified against the authors' code: the language models, plain, of the heavy ball and of Adam.

use ir::DType;

use super::language::{HEADS, Half, Language, SPAN, WORDS};
use super::layer::{CHOSEN, DIM, EXPERTS, HIDDEN, Plan};
use super::smoe;
use super::step::{BETA1, BETA2, EPSILON, GAMMA, KAPPA, MU, State, Step};
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, choice, integer, real};
use crate::{Entry, Form};

/// The model.
pub const GLAM: Entry = Entry {
    name: "glam",
    about: "GLaM, MomentumGLaM and AdamGLaM: layers of experts and dense layers in turn",
    paper: "GLaM, arXiv 2112.06905; MomentumSMoE, arXiv 2410.14574",
    status: "verified against the code of MomentumSMoE's authors",
    forms: &[
        Form {
            name: "pair",
            about: "a layer of experts and a dense layer, on hidden states",
            defaults: &[("depth", "2"), ("span", "2048")],
        },
        Form {
            name: "lm",
            about: "language model, of the medium size for WikiText-103",
            defaults: &[("depth", "12"), ("span", "2048")],
        },
    ],
    settings: &[
        DIM,
        HIDDEN,
        EXPERTS,
        CHOSEN,
        choice(
            "step",
            &["residual", "momentum", "adam"],
            "what experts do to the residual stream: (M1), (M3) or (M5)",
        ),
        MU,
        real("gamma1", 0.8, "step size γ₁ of Adam (M5)"),
        GAMMA,
        BETA1,
        BETA2,
        EPSILON,
        KAPPA,
        integer("depth", 12, 1, "layers L of both kinds, the first of experts"),
        HEADS,
        SPAN,
        WORDS,
    ],
    small: &[("dim", "32"), ("hidden", "32"), ("experts", "8"), ("heads", "4"), ("span", "8")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let plan = Plan::of(config)?;
    let step = match config.word("step") {
        "residual" => Step::Residual,
        "momentum" => Step::heavy_ball(config),
        _ => Step::adam(config),
    };
    let half = |i: usize| if i.is_multiple_of(2) { Half::Experts } else { Half::Dense };
    if config.form() == "lm" {
        return smoe::plain(config, net, plan, half, step);
    }
    let mut h = net.input("h", DType::F32, [symbol("B"), symbol("S"), plan.dim.into()]);
    let language = Language::new(config, net, &plan)?;
    let mut state = State::default();
    for i in 0..config.integer("depth") {
        h = net.within(format!("layers.{i}"), |net| {
            language
                .layer(net, i, h, &half(i), |net, h| smoe::sublayer(net, plan, step, h, &mut state, i == 0))
        })?;
    }
    net.output("y", h);
    Ok(())
}
