//! How the result of experts enters the residual stream: `x → u`, with a state that goes from layer to layer.
//!
//! - (M1) `u = x + f`, `f = SMoE(x)`;
//! - (M3) heavy ball: `m' = μ m + γ f`, `u = x − m'`; with `p = −m/γ` it is (M2);
//! - (M5) Adam, in the first layer of experts: `p' = β₁ p + (1 − β₁) f`, `v' = β₂ v + (1 − β₂) f²`, `m' = μ m + γ₂ f`,
//!   `u = x − (γ₁ p' / √(v' + ε) + κ x)`; (M6) later ones: (M3) of `m`;
//! - (M7) robust: `γ = k (1 − μ)² (1 + μ) / L`, `μᵣ = k μ³ / (k − 1)`, `α = μ³ / ((k − 1)(1 − μ)² (1 + μ))`;
//!   (M8) `y = SMoE(x + α γ p)`, `p' = μᵣ p − y`, `u = x + γ p'`;
//! - (M9) Nesterov: `f = SMoE(x − μ m)`, then (M3); (M10) sign: `m' = μ m + (1 − μ) f`, `u = x − γ sign(m')`. Both are
//!   reconstructed: no source says that the paper has them.
//!
//! Momentum subtracts what (M1) adds: weights of a baseline become those of a momentum model by negating `W2` and `b2`.
//! States begin at zero in the first layer of each pass. All are `[B, S, D]`, as `x` is. The `ε` of (M5) is not negligible:
//! with no state yet, `√(v' + ε)` is 1e-4 where `f` is 0.

use ir::graph::Value;

use crate::net::{Built, Net};
use crate::setting::{Config, Setting, real};

pub(super) const MU: Setting = real("mu", 0.7, "momentum μ");
pub(super) const GAMMA: Setting =
    real("gamma", 1.0, "step size γ of the heavy ball (M3), γ₂ of the paper's code");
pub(super) const GAMMA_ADAM: Setting = real("gamma1", 1.0, "step size γ₁ of Adam (M5)");
pub(super) const BETA1: Setting = real("beta1", 0.9, "decay β₁ of the mean of f (M5)");
pub(super) const BETA2: Setting = real("beta2", 0.999, "decay β₂ of the mean of f² (M5)");
pub(super) const EPSILON: Setting = real("epsilon", 1e-8, "ε under the root (M5)");
pub(super) const KAPPA: Setting = real("kappa", 1.0, "weight decay κ (M5); 1 takes the residual away");
pub(super) const ROBUST_K: Setting = real("robust_k", 1.25, "k of (M7), more than 1");
pub(super) const LIPSCHITZ: Setting = real("lipschitz", 1.0, "Lipschitz constant L of (M7)");

/// A step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// (M1).
    Residual,
    /// (M3).
    HeavyBall { mu: f64, gamma: f64 },
    /// (M5), (M6).
    Adam(Adam),
    /// (M8).
    Robust(Robust),
    /// (M9).
    Nesterov { mu: f64, gamma: f64 },
    /// (M10).
    Sign { mu: f64, gamma: f64 },
}

/// The coefficients of (M5).
#[derive(Debug, Clone, Copy)]
pub(super) struct Adam {
    mu: f64,
    gamma1: f64,
    gamma2: f64,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    kappa: f64,
}

/// The coefficients of (M8).
#[derive(Debug, Clone, Copy)]
pub(super) struct Robust {
    gamma: f64,
    mu: f64,
    alpha: f64,
}

/// What goes from layer to layer; nothing where it is still zero.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    /// `m` of (M3) and (M10), `p` of (M8).
    pub(super) momentum: Option<Value>,
    /// `p` of (M5).
    pub(super) mean: Option<Value>,
    /// `v` of (M5).
    pub(super) square: Option<Value>,
}

impl Step {
    /// (M3), of the settings `mu` and `gamma`.
    pub(super) fn heavy_ball(config: &Config) -> Step {
        Step::HeavyBall { mu: config.real("mu"), gamma: config.real("gamma") }
    }

    /// (M5), of the settings that it names.
    pub(super) fn adam(config: &Config) -> Step {
        let [mu, gamma1, gamma2, beta1, beta2, epsilon, kappa] =
            ["mu", "gamma1", "gamma", "beta1", "beta2", "epsilon", "kappa"].map(|name| config.real(name));
        Step::Adam(Adam { mu, gamma1, gamma2, beta1, beta2, epsilon, kappa })
    }

    /// (M7), of the settings `robust_k`, `lipschitz`, and the one that is called `mu`.
    ///
    /// # Errors
    /// Numbers that the formulas divide by are not positive.
    pub(super) fn robust(config: &Config, mu: &str) -> Built<Step> {
        let [mu, k, lipschitz] = [mu, "robust_k", "lipschitz"].map(|name| config.real(name));
        if k <= 1.0 || lipschitz <= 0.0 || !(0.0..1.0).contains(&mu) {
            let why = "(M7) divides by k − 1, L, 1 − μ: `robust_k` is more than 1, `lipschitz` more than 0, \
                       and μ from 0 to below 1";
            return Err(config.unfit(why));
        }
        let whole = (1.0 - mu).powi(2) * (1.0 + mu);
        let (gamma, cube) = (k * whole / lipschitz, mu.powi(3));
        Ok(Step::Robust(Robust { gamma, mu: k * cube / (k - 1.0), alpha: cube / ((k - 1.0) * whole) }))
    }

    /// `u`, of the residual stream `x` and the experts, which read `anchor`: that is `x`, or its norm. `is_first`: it is the
    /// first layer of experts.
    pub(super) fn take(
        &self,
        net: &mut Net,
        [x, anchor]: [Value; 2],
        state: &mut State,
        is_first: bool,
        experts: impl FnOnce(&mut Net, Value) -> Built<Value>,
    ) -> Built<Value> {
        let anchor = self.ahead(net, anchor, state)?;
        let f = experts(net, anchor)?;
        match *self {
            Step::Residual => net.add(x, f),
            Step::HeavyBall { mu, gamma } | Step::Nesterov { mu, gamma } => {
                heavy_ball(net, [x, f], state, [mu, gamma])
            }
            Step::Adam(adam) if is_first => adam.take(net, [x, f], state),
            Step::Adam(Adam { mu, gamma2, .. }) => heavy_ball(net, [x, f], state, [mu, gamma2]),
            Step::Robust(Robust { gamma, mu, .. }) => {
                let p = match state.momentum {
                    None => net.neg(f)?,
                    Some(p) => {
                        let p = net.scale(p, mu)?;
                        net.sub(p, f)?
                    }
                };
                state.momentum = Some(p);
                let step = net.scale(p, gamma)?;
                net.add(x, step)
            }
            Step::Sign { mu, gamma } => {
                let m = decayed(net, state.momentum, f, [mu, 1.0 - mu])?;
                state.momentum = Some(m);
                let sign = net.sign(m)?;
                let step = net.scale(sign, gamma)?;
                net.sub(x, step)
            }
        }
    }

    /// Where the experts are evaluated: `x + α γ p` (M8), `x − μ m` (M9), and else `x`.
    pub(super) fn ahead(&self, net: &mut Net, x: Value, state: &State) -> Built<Value> {
        let factor = match *self {
            Step::Robust(Robust { gamma, alpha, .. }) => alpha * gamma,
            Step::Nesterov { mu, .. } => -mu,
            _ => return Ok(x),
        };
        let Some(momentum) = state.momentum else { return Ok(x) };
        let moved = net.scale(momentum, factor)?;
        net.add(x, moved)
    }
}

impl Adam {
    /// (M5).
    fn take(&self, net: &mut Net, [x, f]: [Value; 2], state: &mut State) -> Built<Value> {
        let mean = decayed(net, state.mean, f, [self.beta1, 1.0 - self.beta1])?;
        let square = net.mul(f, f)?;
        let square = decayed(net, state.square, square, [self.beta2, 1.0 - self.beta2])?;
        let momentum = decayed(net, state.momentum, f, [self.mu, self.gamma2])?;
        *state = State { momentum: Some(momentum), mean: Some(mean), square: Some(square) };
        let below = net.shift(square, self.epsilon)?;
        let below = net.sqrt(below)?;
        let step = net.scale(mean, self.gamma1)?;
        let step = net.div(step, below)?;
        let decay = net.scale(x, self.kappa)?;
        let step = net.add(step, decay)?;
        net.sub(x, step)
    }
}

/// (M3).
fn heavy_ball(net: &mut Net, [x, f]: [Value; 2], state: &mut State, by: [f64; 2]) -> Built<Value> {
    let m = decayed(net, state.momentum, f, by)?;
    state.momentum = Some(m);
    net.sub(x, m)
}

/// `old · state + new · f`.
fn decayed(net: &mut Net, state: Option<Value>, f: Value, [old, new]: [f64; 2]) -> Built<Value> {
    let f = if new == 1.0 { f } else { net.scale(f, new)? };
    let Some(state) = state else { return Ok(f) };
    let state = net.scale(state, old)?;
    net.add(state, f)
}
