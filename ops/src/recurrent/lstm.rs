//! ONNX LSTM as a loop: with `g = X·Wᵀ + h·Rᵀ + b` in the order input, output, forget, cell,
//! `i = f(g_i + P_i⊙c)`, `f = f(g_f + P_f⊙c)` (`1 − i` with `input_forget`), `c' = f⊙c + i⊙g(g_c)`,
//! `o = f(g_o + P_o⊙c')`, `h' = o⊙h(c')`. Source: ONNX LSTM, opset 22.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use super::{Direction, Layer, Step, complement};
use crate::linalg::matmul::MATMUL;
use crate::math::add::ADD;
use crate::math::mul::MUL;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::slice::slice_axis;

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("LSTM", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let layer = Layer::of(node, b, &["Sigmoid", "Tanh", "Tanh"])?;
    let couples = node.flag("input_forget", false)?;
    let mut parts = Vec::new();
    for direction in 0..layer.directions {
        let weight = layer.part(b, node.input(1)?, direction)?;
        let recurrence = layer.part(b, node.input(2)?, direction)?;
        let bias = layer.bias(b, node.optional_input(3), direction)?;
        let states = [5, 6].map(|index| layer.state(b, node.optional_input(index), direction));
        let states = states.into_iter().collect::<Result<_, _>>()?;
        let mut extra = Vec::new();
        if let Some(peepholes) = node.optional_input(7) {
            let peepholes = layer.part(b, peepholes, direction)?;
            for gate in 0..3_i64 {
                let start = layer.hidden.clone() * gate.into();
                extra.push(slice_axis(b, peepholes, 0, start, layer.hidden.clone())?);
            }
        }
        parts.push(Direction { weight, bias, recurrence, extra, states });
    }
    Ok(layer.run(b, parts, &|b, step| cell(b, step, couples))?)
}

fn cell(b: &mut Build, step: &Step, couples: bool) -> Result<Vec<Value>, OpError> {
    let (h, c) = (step.states[0], step.states[1]);
    let own = b.op(&MATMUL, &[h, step.extra[0]])?;
    let gates = b.op(&ADD, &[step.input, own])?;
    // With peepholes, the gates see the cell, too.
    let gate = |b: &mut Build, index: i64, cell: Value| -> Result<Value, OpError> {
        let gate = step.gate(b, gates, index)?;
        match step.extra.get(1 + index as usize).filter(|_| index < 3) {
            None => Ok(gate),
            Some(&peephole) => {
                let seen = b.op(&MUL, &[peephole, cell])?;
                b.op(&ADD, &[gate, seen])
            }
        }
    };
    let input = gate(b, 0, c)?;
    let input = step.activate(b, 0, input)?;
    let forget = if couples {
        complement(b, input)?
    } else {
        let forget = gate(b, 2, c)?;
        step.activate(b, 0, forget)?
    };
    let candidate = step.gate(b, gates, 3)?;
    let candidate = step.activate(b, 1, candidate)?;
    let kept = b.op(&MUL, &[forget, c])?;
    let added = b.op(&MUL, &[input, candidate])?;
    let next = b.op(&ADD, &[kept, added])?;
    let output = gate(b, 1, next)?;
    let output = step.activate(b, 0, output)?;
    let shown = step.activations[2].apply(b, next)?;
    Ok(vec![b.op(&MUL, &[output, shown])?, next])
}
