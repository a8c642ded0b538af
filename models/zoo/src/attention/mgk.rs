//! Transformer-MGK (Nguyen et al. 2021, arXiv 2110.08678): a key is a mixture of two Gaussians instead of a point.
//!
//! - (M1) `a_ijr = −γ_r ‖q_i − k_jr‖²`, `γ_r = 1/(2σ_r²)`, `σ_r² = √d`; the released language model has `γ₁` three times as
//!   large (`sharp=3`);
//! - (M2) `mode=soft`: `w_ij = Σ_r π_r exp(a_ijr)`, `P_ij = w_ij / (Σ_j' w_ij' + ε)`; without `ε` that is
//!   `softmax_j LSE_r(a_ijr + log π_r)`, which does not underflow (`evaluation=lse`);
//! - (M3) `mode=hard`: `P_i· = softmax_j max_r a_ijr`; priors are not looked at.
//!
//! Keys are of two projections (`keys=projected`: `w_k`, `w_k2`), or `k_jr = W xⱼ − μ_r` (`keys=shifted`: `mu: [2, H, d]`).
//! Priors `π`, between 0 and 1, are two numbers (`prior=scalar`), or numbers for each head and place (`prior=placed`:
//! `[2, H, 1, N]`, so that N is fixed). Verified against the authors' code.

use ir::Dim;
use ir::graph::Value;
use ops::reduce::reduce_sum::REDUCE_SUM;

use super::{layer_input, scale};
use crate::init::Start;
use crate::net::{Built, Net, symbol};
use crate::setting::{Config, choice, flag, integer, real};
use crate::{Entry, Form};

/// The model.
pub const MGK: Entry = Entry {
    name: "transformer-mgk",
    about: "a layer of Transformer-MGK: keys are mixtures of two Gaussians",
    paper: "Transformer-MGK, arXiv 2110.08678",
    status: "verified against the authors' code",
    forms: &[
        Form { name: "lra", about: "of the encoder for the Long Range Arena", defaults: &[] },
        Form {
            name: "lm",
            about: "of the language model for WikiText-103, causal",
            defaults: &[
                ("dim", "128"),
                ("heads", "8"),
                ("sharp", "3"),
                ("prior", "placed"),
                ("causal", "true"),
                ("bias", "false"),
                ("epsilon", "1e-6"),
            ],
        },
    ],
    settings: &[
        integer("dim", 64, 1, "width C of tokens"),
        integer("heads", 2, 1, "heads H"),
        choice("keys", &["projected", "shifted"], "where the second key comes from"),
        choice("prior", &["scalar", "placed"], "what has priors of its own"),
        integer("tokens", 256, 1, "how many tokens there are, where places have priors"),
        choice("mode", &["soft", "hard"], "the sum of both components, or the larger one"),
        choice("evaluation", &["exp", "lse"], "how the sum is computed"),
        real("epsilon", 0.0, "what is added to sums of weights"),
        real("sharp", 1.0, "how many times as peaked the second component is"),
        flag("causal", false, "whether no query sees a key after itself"),
        flag("bias", true, "whether projections have biases"),
    ],
    small: &[("dim", "32"), ("heads", "4")],
    build,
};

fn build(config: &Config, net: &mut Net) -> Built<()> {
    let (dim, heads, bias) = (config.integer("dim"), config.integer("heads"), config.flag("bias"));
    let is_placed = config.word("prior") == "placed";
    let tokens = if is_placed { Dim::from(config.integer("tokens")) } else { symbol("N") };
    let x = layer_input(config, net, tokens)?;
    let project = |net: &mut Net, name: &str| {
        let y = net.affine(x, name, dim, bias)?;
        net.heads(y, heads)
    };
    let (q, k, v) = (project(net, "w_q")?, project(net, "w_k")?, project(net, "w_v")?);
    let keys = match config.word("keys") {
        "projected" => [k, project(net, "w_k2")?],
        _ => shifted(net, k)?,
    };
    let priors = priors(config, net, is_placed)?;
    let y = attend(config, net, [q, v], keys, priors)?;
    let y = net.merged(y)?;
    let y = net.affine(y, "proj", dim, bias)?;
    net.output("y", y);
    Ok(())
}

/// `k − μ_r`.
fn shifted(net: &mut Net, k: Value) -> Built<[Value; 2]> {
    let (heads, width) = (net.width(k, 1), net.width(k, 3));
    // The first begins at 0, the other around it.
    let start = |at: &[usize]| if at[0] == 0 { 0.0 } else { 0.5 * spread(at[1] * width + at[2]) };
    let mu = net.weight("mu", &[2, heads, width], Start::At(&start))?;
    let mut keys = [k; 2];
    for (r, key) in keys.iter_mut().enumerate() {
        let own = net.slice(mu, 0, r, 1i64)?;
        let own = net.reshape(own, [heads.into(), Dim::constant(1), width.into()])?;
        *key = net.sub(k, own)?;
    }
    Ok(keys)
}

/// Numbers of variance 1 that fill −√3..√3 evenly (multiples of the golden ratio).
fn spread(index: usize) -> f64 {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    ((index as f64 + 1.0) * golden).fract().mul_add(2.0, -1.0) * 3f64.sqrt()
}

/// `π_r`, each of which broadcasts to scores.
fn priors(config: &Config, net: &mut Net, is_placed: bool) -> Built<[Value; 2]> {
    let shape =
        if is_placed { vec![2, config.integer("heads"), 1, config.integer("tokens")] } else { vec![2] };
    let all = net.weight("pi", &shape, Start::Splat(0.5))?;
    let mut priors = [all; 2];
    for (r, prior) in priors.iter_mut().enumerate() {
        let own = net.slice(all, 0, r, 1i64)?;
        let own = net.squeeze(own, 0)?;
        *prior = net.clamp(own, 0.0, 1.0)?;
    }
    Ok(priors)
}

fn attend(
    config: &Config,
    net: &mut Net,
    [q, v]: [Value; 2],
    keys: [Value; 2],
    priors: [Value; 2],
) -> Built<Value> {
    let causal = config.flag("causal");
    let precision = 0.5 * scale(net.width(q, -1));
    let mut energies = keys;
    for (energy, sharp) in energies.iter_mut().zip([1.0, config.real("sharp")]) {
        *energy = net.energy(q, *energy, precision * sharp)?;
    }
    if config.word("mode") == "hard" {
        let scores = net.max(energies[0], energies[1])?;
        return net.attend_scored(scores, v, causal);
    }
    if config.word("evaluation") == "lse" {
        let mut logits = energies;
        for (logit, prior) in logits.iter_mut().zip(priors) {
            let prior = net.log(prior)?;
            *logit = net.add(*logit, prior)?;
        }
        let scores = log_sum_exp(net, logits)?;
        return net.attend_scored(scores, v, causal);
    }
    let mut terms = energies;
    for (term, prior) in terms.iter_mut().zip(priors) {
        let weight = net.exp(*term)?;
        *term = net.mul(prior, weight)?;
    }
    let mut weights = net.add(terms[0], terms[1])?;
    if causal {
        weights = net.masked(weights, 0.0)?;
    }
    let mut sum = net.sum(weights, -1)?;
    let epsilon = config.real("epsilon");
    if epsilon != 0.0 {
        sum = net.shift(sum, epsilon)?;
    }
    let weights = net.div(weights, sum)?;
    net.matmul(weights, v)
}

/// `log Σ_r exp x_r`, of numbers less the largest of them.
fn log_sum_exp(net: &mut Net, terms: [Value; 2]) -> Built<Value> {
    let mut stack = terms;
    for term in &mut stack {
        *term = net.unsqueeze(*term, 0)?;
    }
    let all = net.concat(&stack, 0)?;
    let most = net.most(all, 0)?;
    let rest = net.sub(all, most)?;
    let rest = net.exp(rest)?;
    let sum = net.reduced(&REDUCE_SUM, rest, &[0], false)?;
    let log = net.log(sum)?;
    let most = net.squeeze(most, 0)?;
    net.add(log, most)
}

impl Net<'_> {
    /// (M1) `−γ ‖q_i − k_j‖²`, as `−γ (‖q_i‖² − 2 q_i·k_j + ‖k_j‖²)`.
    fn energy(&mut self, q: Value, k: Value, precision: f64) -> Built<Value> {
        let [of_q, of_k] = [q, k].map(|x| {
            let squares = self.mul(x, x)?;
            self.sum(squares, -1)
        });
        let (of_q, of_k) = (of_q?, of_k?);
        let product = self.scores([q, k], 2.0)?;
        let distance = self.sub(of_q, product)?;
        let of_k = self.transposed(of_k)?;
        let distance = self.add(distance, of_k)?;
        self.scale(distance, -precision)
    }
}
