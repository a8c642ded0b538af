//! ONNX Adagrad: `h' = h + g²`, `x' = x − r/(1 + t·decay)·g/(√h' + ε)`. Source: ONNX Adagrad, opset 1.

use ir::build::Build;
use ir::graph::Value;

use super::{DOMAIN, scaled, updated, with};
use crate::math::add::ADD;
use crate::math::div::DIV;
use crate::math::mul::MUL;
use crate::math::sqrt::SQRT;
use crate::math::sub::SUB;
use crate::onnx::{Import, ImportError, NodeView, by};

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Adagrad", import).in_domain(DOMAIN)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let (epsilon, decay) = (node.float_or("epsilon", 1e-6)?, node.float_or("decay_factor", 0.0)?);
    updated(node, b, 1, &|b, before| {
        let slower = scaled(b, before.updates, decay)?;
        let slower = with(b, &ADD, slower, 1.0)?;
        let rate = b.op(&DIV, &[before.rate, slower])?;
        let square = b.op(&MUL, &[before.gradient, before.gradient])?;
        let sum = b.op(&ADD, &[before.states[0], square])?;
        let root = b.op(&SQRT, &[sum])?;
        let root = with(b, &ADD, root, epsilon)?;
        let step = b.op(&MUL, &[rate, before.gradient])?;
        let step = b.op(&DIV, &[step, root])?;
        Ok(vec![b.op(&SUB, &[before.parameter, step])?, sum])
    })
}
