//! What merging of experts is compared with, of experts that are inputs: (C6) to (C9) of [`camex`](super::camex).
//!
//! `base: [O, I]`, `weight, fisher, dropped: [E, O, I]` (1 where DARE drops) → `merged_fisher, merged_ties, merged_dare: [O, I]`.
//! Source: Matena, Raffel 2022; Yadav et al. 2023; Yu et al. 2024, by their standard definitions.

use ir::graph::Value;
use ir::{DType, Dim};
use ops::reduce::reduce_mean::REDUCE_MEAN;
use ops::reduce::reduce_sum::REDUCE_SUM;

use crate::net::{Built, Net};
use crate::setting::Config;

/// Added to the sum of Fisher information, so that it is never 0.
const LEAST_FISHER: f64 = 1e-12;

/// All three.
pub(super) fn build(config: &Config, net: &mut Net) -> Built<()> {
    let [experts, to, from] = ["experts", "out", "in"].map(|name| config.integer(name));
    let [density, lambda, drop] = ["density", "lambda", "drop"].map(|name| config.real(name));
    if !(density > 0.0 && density <= 1.0 && (0.0..1.0).contains(&drop)) {
        let why =
            format!("`density` = {density} is to be above 0 up to 1, and `drop` = {drop} from 0 to below 1");
        return Err(config.unfit(why));
    }
    let base = net.input("base", DType::F32, [to, from].map(Dim::from));
    let [weight, fisher, dropped] = ["weight", "fisher", "dropped"]
        .map(|name| net.input(name, DType::F32, [experts, to, from].map(Dim::from)));
    let fisher = by_fisher(net, weight, fisher)?;
    let tau = net.sub(weight, base)?;
    let ties = ties(net, tau, density)?;
    let dare = dare(net, tau, dropped, drop)?;
    net.output("merged_fisher", fisher);
    let ties = net.scale(ties, lambda)?;
    for (name, step) in [("merged_ties", ties), ("merged_dare", dare)] {
        let merged = net.add(base, step)?;
        net.output(name, merged);
    }
    Ok(())
}

/// (C6): where the sign of an expert's direction is that of the sum over experts; 0 has a sign of its own.
/// `tau: [E, …]` → truth values of that shape.
pub(super) fn agrees(net: &mut Net, tau: Value) -> Built<Value> {
    let sum = net.reduced(&REDUCE_SUM, tau, &[0], false)?;
    let (own, whole) = (net.sign(tau)?, net.sign(sum)?);
    net.eq(own, whole)
}

/// (C7).
fn by_fisher(net: &mut Net, weight: Value, fisher: Value) -> Built<Value> {
    let weighed = net.mul(fisher, weight)?;
    let above = net.reduced(&REDUCE_SUM, weighed, &[0], false)?;
    let below = net.reduced(&REDUCE_SUM, fisher, &[0], false)?;
    let below = net.shift(below, LEAST_FISHER)?;
    net.div(above, below)
}

/// (C8) without base and λ: the directions of each expert that are among its largest, with the sign of their sum, averaged.
fn ties(net: &mut Net, tau: Value, density: f64) -> Built<Value> {
    let [experts, to, from] = [0, 1, 2].map(|axis| net.width(tau, axis));
    let kept = ((density * (to * from) as f64).round_ties_even() as usize).max(1);
    let tau = net.reshape(tau, [experts, to * from].map(Dim::from))?;
    let size = net.abs(tau)?;
    let [largest, _] = net.topk(size, kept)?;
    let least = net.slice(largest, -1, kept - 1, 1usize)?;
    let zero = net.scalar(0.0);
    let is_kept = net.le(least, size)?;
    let kept = net.select(is_kept, tau, zero)?;
    let agrees = agrees(net, kept)?;
    let sum = net.select(agrees, kept, zero)?;
    // A direction of 0 agrees with a sum of 0, and is none.
    let moves = net.sign(sum)?;
    let moves = net.abs(moves)?;
    let count = net.reduced(&REDUCE_SUM, moves, &[0], false)?;
    let one = net.scalar(1.0);
    let count = net.max(count, one)?;
    let sum = net.reduced(&REDUCE_SUM, sum, &[0], false)?;
    let mean = net.div(sum, count)?;
    net.reshape(mean, [to, from].map(Dim::from))
}

/// (C9) without base, with λ = 1.
fn dare(net: &mut Net, tau: Value, dropped: Value, drop: f64) -> Built<Value> {
    let one = net.scalar(1.0);
    let kept = net.sub(one, dropped)?;
    let kept = net.mul(tau, kept)?;
    let kept = net.scale(kept, (1.0 - drop).recip())?;
    net.reduced(&REDUCE_MEAN, kept, &[0], false)
}
