//! ONNX Momentum: `v' = α·v + β·g` (`g` alone at the first update), `x' = x − r·v'`, or with Nesterov's momentum
//! `x' = x − r·(g + α·v')`. Source: ONNX Momentum, opset 1.

use ir::build::Build;
use ir::graph::Value;

use super::{DOMAIN, mixed, scaled, updated, with};
use crate::math::add::ADD;
use crate::math::gt::GT;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::math::r#where::WHERE;
use crate::onnx::{Import, ImportError, NodeView, by};

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Momentum", import).in_domain(DOMAIN)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (alpha, beta) = (node.float("alpha")?, node.float("beta")?);
    let (alpha, beta) = (node.required("alpha", alpha)?, node.required("beta", beta)?);
    let looks_ahead = match node.str_or("mode", "standard")? {
        "standard" => false,
        "nesterov" => true,
        other => return Err(ImportError::value("mode", other, "standard and nesterov")),
    };
    updated(node, b, 1, &|b, before| {
        let weighted = scaled(b, before.gradient, beta)?;
        let started = with(b, &GT, before.updates, 0.0)?;
        let added = b.op(&WHERE, &[started, weighted, before.gradient])?;
        let kept = scaled(b, before.states[0], alpha)?;
        let velocity = b.op(&ADD, &[kept, added])?;
        let direction = match looks_ahead {
            false => velocity,
            true => mixed(b, (1.0, before.gradient), (alpha, velocity))?,
        };
        let step = b.op(&MUL, &[before.rate, direction])?;
        Ok(vec![b.op(&SUB, &[before.parameter, step])?, velocity])
    })
}
