//! LSTM of ONNX and DynamicQuantizeLSTM of onnxruntime as a loop: with `g = X·Wᵀ + h·Rᵀ + b` in the order input, output,
//! forget, cell, `i = f(g_i + P_i⊙c)`, `f = f(g_f + P_f⊙c)` (`1 − i` with `input_forget`), `c' = f⊙c + i⊙g(g_c)`,
//! `o = f(g_o + P_o⊙c')`, `h' = o⊙h(c')`.
//!
//! The second has `Wᵀ` and `Rᵀ` as integers, with a scale and a zero for each direction, or for each of its columns; all of
//! `X`, and `h` of each step, are quantized as DynamicQuantizeLinear does, and the products are exact. Source: ONNX LSTM,
//! opset 22; onnxruntime, contrib operators, DynamicQuantizeLSTM.

use ir::DType;
use ir::build::Build;
use ir::graph::Value;

use super::{Direction, Layer, Matrix, Step, complement};
use crate::math::add::ADD;
use crate::math::mul::MUL;
use crate::math::quantize::centred;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::slice::slice_axis;

/// The ops that become it.
pub static ONNX: &[Import] = &[
    by("LSTM", |node, b| {
        import(node, b, 2, &|layer, b, index, direction| {
            Ok(layer.matrix(b, node.input(index)?, direction)?)
        })
    }),
    by("DynamicQuantizeLSTM", |node, b| {
        import(node, b, 1, &|layer, b, index, direction| {
            let mut part = |index: usize| -> Result<Value, ImportError> {
                Ok(layer.part(b, node.input(index)?, direction)?)
            };
            // Behind the peepholes come scales and zeros, in the order of the matrices.
            let at = 6 + 2 * index;
            let (value, scale, zero) = (part(index)?, part(at)?, part(at + 1)?);
            Ok(Matrix { value: centred(b, value, Some(zero), DType::I32)?, scale: Some(scale) })
        })
    })
    .in_domain("com.microsoft"),
];

/// The matrix that input `index` is in one direction.
type Matrices<'m> = dyn Fn(&Layer, &mut Build, usize, usize) -> Result<Matrix, ImportError> + 'm;

fn import(
    node: &NodeView,
    b: &mut Build,
    hidden: usize,
    matrix: &Matrices<'_>,
) -> Result<Vec<Value>, ImportError> {
    let layer = Layer::of(node, b, &["Sigmoid", "Tanh", "Tanh"], hidden)?;
    let couples = node.flag("input_forget", false)?;
    let mut parts = Vec::new();
    for direction in 0..layer.directions {
        let weight = matrix(&layer, b, 1, direction)?;
        let recurrence = matrix(&layer, b, 2, direction)?;
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
    layer.run(b, parts, &|b, step| cell(b, step, couples))
}

fn cell(b: &mut Build, step: &Step, couples: bool) -> Result<Vec<Value>, ImportError> {
    let (h, c) = (step.states[0], step.states[1]);
    let own = step.recurrence.product(b, h)?;
    let gates = b.op(&ADD, &[step.input, own])?;
    // With peepholes, the gates see the cell, too.
    let gate = |b: &mut Build, index: i64, cell: Value| -> Result<Value, ImportError> {
        let gate = step.gate(b, gates, index)?;
        match step.extra.get(index as usize).filter(|_| index < 3) {
            None => Ok(gate),
            Some(&peephole) => {
                let seen = b.op(&MUL, &[peephole, cell])?;
                Ok(b.op(&ADD, &[gate, seen])?)
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
