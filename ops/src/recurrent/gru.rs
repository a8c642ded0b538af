//! ONNX GRU as a loop: with gates in the order update, reset, hidden, `z = f(g_z)`, `r = f(g_r)`,
//! `n = g(X·W_hᵀ + (r⊙h)·R_hᵀ + b)`, or `g(X·W_hᵀ + r⊙(h·R_hᵀ + b_R) + b_W)` with `linear_before_reset`,
//! `h' = (1 − z)⊙n + z⊙h`. Source: ONNX GRU, opset 22.

use ir::build::Build;
use ir::graph::Value;
use ir::{Dim, Scalar, Tensor};

use super::{Direction, Layer, Step, complement, halves};
use crate::linalg::matmul::MATMUL;
use crate::math::add::ADD;
use crate::math::mul::MUL;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::broadcast::broadcast;
use crate::shape::slice::slice_axis;

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("GRU", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let layer = Layer::of(node, b, &["Sigmoid", "Tanh"], 2)?;
    let linear_first = node.flag("linear_before_reset", false)?;
    let mut parts = Vec::new();
    for direction in 0..layer.directions {
        let weight = layer.matrix(b, node.input(1)?, direction)?;
        let recurrence = layer.matrix(b, node.input(2)?, direction)?;
        let (bias, own) = match node.optional_input(3) {
            Some(bias) => {
                let bias = layer.part(b, bias, direction)?;
                let (input, own) = halves(b, bias)?;
                (Some(input), own)
            }
            None => {
                let zero = b.constant(&Tensor::scalar(Scalar::from_f64(b.ty(layer.x).dtype, 0.0)));
                (None, broadcast(b, zero, vec![layer.hidden.clone() * Dim::constant(3)])?)
            }
        };
        let states = vec![layer.state(b, node.optional_input(5), direction)?];
        parts.push(Direction { weight, bias, recurrence, extra: vec![own], states });
    }
    layer.run(b, parts, &|b, step| cell(b, step, linear_first))
}

fn cell(b: &mut Build, step: &Step, linear_first: bool) -> Result<Vec<Value>, ImportError> {
    let (h, recurrence, bias) = (step.states[0], step.recurrence.value, step.extra[0]);
    let two = step.hidden.clone() * Dim::constant(2);
    let first = slice_axis(b, recurrence, 1, Dim::constant(0), two.clone())?;
    let last = slice_axis(b, recurrence, 1, two.clone(), step.hidden.clone())?;
    let (first_bias, last_bias) = (
        slice_axis(b, bias, 0, Dim::constant(0), two.clone())?,
        slice_axis(b, bias, 0, two.clone(), step.hidden.clone())?,
    );
    let own = b.op(&MATMUL, &[h, first])?;
    let own = b.op(&ADD, &[own, first_bias])?;
    let input = slice_axis(b, step.input, 1, Dim::constant(0), two)?;
    let gates = b.op(&ADD, &[input, own])?;
    let update = step.gate(b, gates, 0)?;
    let update = step.activate(b, 0, update)?;
    let reset = step.gate(b, gates, 1)?;
    let reset = step.activate(b, 0, reset)?;
    let own = if linear_first {
        let own = b.op(&MATMUL, &[h, last])?;
        let own = b.op(&ADD, &[own, last_bias])?;
        b.op(&MUL, &[reset, own])?
    } else {
        let kept = b.op(&MUL, &[reset, h])?;
        let own = b.op(&MATMUL, &[kept, last])?;
        b.op(&ADD, &[own, last_bias])?
    };
    let input = step.gate(b, step.input, 2)?;
    let hidden = b.op(&ADD, &[input, own])?;
    let hidden = step.activate(b, 1, hidden)?;
    let open = complement(b, update)?;
    let added = b.op(&MUL, &[open, hidden])?;
    let kept = b.op(&MUL, &[update, h])?;
    Ok(vec![b.op(&ADD, &[added, kept])?])
}
