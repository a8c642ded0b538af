//! V-MoE (Riquelme et al. 2021, arXiv 2106.05974) and MomentumV-MoE, Robust MomentumV-MoE (arXiv 2410.14574).
//!
//! (M14) pre-norm: `x = x + MHA(LN1(x))`, `y = LN2(x)`; then
//!
//! - without momentum, `x' = x + f(y)`, `f` the experts or a dense layer;
//! - heavy ball: experts `m' = μ m + γ SMoE(y)`, `x' = LN3(x − m')`; dense layers `x' = LN3(x + MLP(y))`;
//! - robust (M8): experts at `y + α γ p`, `x' = LN3(x + γ p')`; dense layers `x' = LN3(x + MLP(y + α γ p))`.
//!
//! Dense layers leave the state alone. Gates are (G2) as they are, without bias of scores; GELU with the hyperbolic tangent;
//! norms have ε = 1e-6; a last norm. Capacity is that of inference, and all tokens of the batch are one group. `priority=gate`
//! is batch priority routing: of the tokens that come to an expert, those with the largest first gate are seated first.
//!
//! `encoder`: `x: [B, S, D]` → `y: [B, S, D]`. `vit`: `image: [B, 3, S, S]` → `logits: [B, classes]`, the encoder between
//! patches with a class token and a linear layer of that token.
//!
//! Read in the authors' code, and not run: the encoder. Reconstructed: what is around it in `vit`.

use ir::DType;
use ir::graph::Value;

use super::layer::{CHOSEN, Layer, Plan};
use super::step::{GAMMA, LIPSCHITZ, ROBUST_K, State, Step};
use crate::attention::scale;
use crate::net::{Activation, Built, Capacity, MULTIPLE, Net, Order, PRIORITY, symbol};
use crate::setting::{Config, choice, integer, integers, real};
use crate::{Entry, Form, vision};

/// ε of every norm.
const NORM: f64 = 1e-6;

/// The model.
pub const VMOE: Entry = Entry {
    name: "vmoe",
    about: "V-MoE, MomentumV-MoE: a vision transformer whose blocks have experts",
    paper: "V-MoE, arXiv 2106.05974; MomentumSMoE, arXiv 2410.14574",
    status: "the encoder is read in the authors' code, not run; what is around it in form=vit is reconstructed",
    forms: &[
        Form { name: "encoder", about: "blocks and the last norm, of the size S/32", defaults: &[] },
        Form { name: "vit", about: "vision transformer, of the size S/32", defaults: &[] },
    ],
    settings: &[
        integer("dim", 512, 1, "width D of tokens"),
        integer("hidden", 2048, 1, "width H of experts and dense layers"),
        integer("experts", 8, 1, "experts E"),
        CHOSEN,
        integer("heads", 8, 1, "heads of attention"),
        integer("depth", 8, 1, "blocks"),
        integers("layers", &[1, 3, 5, 7], 0, "the blocks that have experts, counted from 0"),
        choice("step", &["residual", "momentum", "robust"], "what experts do to the residual stream"),
        real("mu", 0.9, "momentum μ of the heavy ball"),
        GAMMA,
        real("robust_mu", 0.2, "momentum μ of (M7), from 0 to below 1"),
        ROBUST_K,
        LIPSCHITZ,
        real(
            "capacity",
            4.0,
            "capacity factor of experts (G4), with at most 6 decimals; 0: no token is dropped",
        ),
        MULTIPLE,
        PRIORITY,
        integer("image", 224, 1, "height and width of images"),
        integer("patch", 32, 1, "height and width of patches"),
        integer("classes", 1000, 1, "classes of images"),
    ],
    small: &[
        ("dim", "24"),
        ("hidden", "48"),
        ("experts", "8"),
        ("heads", "4"),
        ("depth", "4"),
        ("layers", "1,3"),
    ],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let plan = Plan {
        order: Order::All,
        activation: Activation::GeluTanh,
        bias: false,
        capacity: Capacity::of(config)?,
        ..Plan::of(config)?
    };
    if config.form() == "encoder" {
        let x = net.input("x", DType::F32, [symbol("B"), symbol("S"), plan.dim.into()]);
        let y = encoder(config, net, plan, x)?;
        net.output("y", y);
        return Ok(());
    }
    let x = vision::patches(config, net)?;
    let x = encoder(config, net, plan, x)?;
    let class = net.slice(x, 1, 0i64, 1i64)?;
    let class = net.squeeze(class, 1)?;
    let logits = net.linear(class, "head", config.integer("classes"))?;
    net.output("logits", logits);
    Ok(())
}

/// (M14): `x: [B, S, D]` → `[B, S, D]`.
fn encoder(config: &Config, net: &mut Net, plan: Plan, mut x: Value) -> Built<Value> {
    let (depth, with_experts) = (config.integer("depth"), config.integers("layers"));
    let heads = config.integer("heads");
    config.part("dim", "heads")?;
    if let Some(block) = with_experts.iter().find(|&&block| block >= depth) {
        return Err(config.unfit(format!("`layers` names block {block}, and `depth` = {depth}")));
    }
    let step = match config.word("step") {
        "residual" => Step::Residual,
        "momentum" => Step::heavy_ball(config),
        _ => Step::robust(config, "robust_mu")?,
    };
    let mut state = State::default();
    for i in 0..depth {
        let y = net.layer_norm(x, &format!("ln1.{i}"), NORM)?;
        let y = attend(net, i, y, heads)?;
        x = net.add(x, y)?;
        let y = net.layer_norm(x, &format!("ln2.{i}"), NORM)?;
        x = net.within(format!("mlp.{i}"), |net| {
            if with_experts.contains(&i) {
                let layer = Layer::new(net, plan)?;
                return step.take(net, [x, y], &mut state, false, |net, y| layer.of(net, y));
            }
            let y = step.ahead(net, y, &state)?;
            let y = net.linear(y, "0", plan.hidden)?;
            let y = net.activated(y, plan.activation)?;
            let y = net.linear(y, "2", plan.dim)?;
            net.add(x, y)
        })?;
        if !matches!(step, Step::Residual) {
            x = net.layer_norm(x, &format!("ln3.{i}"), NORM)?;
        }
    }
    net.layer_norm(x, "final", NORM)
}

/// Attention of block `i`, by `qkv` and `proj`.
fn attend(net: &mut Net, i: usize, x: Value, heads: usize) -> Built<Value> {
    let dim = net.width(x, -1);
    let x = net.linear(x, &format!("qkv.{i}"), 3 * dim)?;
    let [q, k, v] = net.chunk(x)?;
    let [q, k, v] = [net.heads(q, heads)?, net.heads(k, heads)?, net.heads(v, heads)?];
    let y = net.attend([q, k, v], scale(dim / heads), false)?;
    let y = net.merged(y)?;
    net.linear(y, &format!("proj.{i}"), dim)
}
