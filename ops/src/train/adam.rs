//! ONNX Adam: `v' = α·v + (1 − α)·g`, `h' = β·h + (1 − β)·g²`, `x' = (1 − λ)·(x − r'·v'/(√h' + ε))`, where
//! `r' = r·√(1 − βᵗ)/(1 − αᵗ)` after the first update. Source: ONNX Adam, opset 1; Kingma, Ba 2015.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use super::{Before, DOMAIN, mixed, scaled, updated, with};
use crate::math::add::ADD;
use crate::math::div::DIV;
use crate::math::gt::GT;
use crate::math::mul::MUL;
use crate::math::pow::POW;
use crate::math::sqrt::SQRT;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Adam", import).in_domain(DOMAIN)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (alpha, beta) = (node.float_or("alpha", 0.9)?, node.float_or("beta", 0.999)?);
    let epsilon = node.float_or("epsilon", 1e-6)?;
    let decay = node.float_or("norm_coefficient_post", 0.0)?;
    updated(node, b, 2, &|b, before| {
        let square = b.op(&MUL, &[before.gradient, before.gradient])?;
        let mean = mixed(b, (alpha, before.states[0]), (1.0 - alpha, before.gradient))?;
        let spread = mixed(b, (beta, before.states[1]), (1.0 - beta, square))?;
        let root = b.op(&SQRT, &[spread])?;
        let root = with(b, &ADD, root, epsilon)?;
        let direction = b.op(&DIV, &[mean, root])?;
        let rate = corrected(b, before, alpha, beta)?;
        let step = b.op(&MUL, &[rate, direction])?;
        let next = b.op(&SUB, &[before.parameter, step])?;
        let next = if decay == 0.0 { next } else { scaled(b, next, 1.0 - decay)? };
        Ok(vec![next, mean, spread])
    })
}

/// The learning rate, corrected for means that started at zero.
fn corrected(b: &mut Build, before: &Before, alpha: f64, beta: f64) -> Result<Value, OpError> {
    let dtype = b.ty(before.updates).dtype;
    let mut rest = |base: f64| -> Result<Value, OpError> {
        let (base, one) = (b.scalar(dtype, base), b.scalar(dtype, 1.0));
        let power = b.op(&POW, &[base, before.updates])?;
        b.op(&SUB, &[one, power])
    };
    let (of_mean, of_spread) = (rest(alpha)?, rest(beta)?);
    let root = b.op(&SQRT, &[of_spread])?;
    let rate = b.op(&MUL, &[before.rate, root])?;
    let rate = b.op(&DIV, &[rate, of_mean])?;
    let started = with(b, &GT, before.updates, 0.0)?;
    b.op(&WHERE, &[started, rate, before.rate])
}
