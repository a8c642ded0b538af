//! ONNX RNN as a loop: `h' = f(X·Wᵀ + h·Rᵀ + b)`. Source: ONNX RNN, opset 22.

use ir::build::Build;
use ir::graph::Value;

use super::{Direction, Layer, Step};
use crate::math::add::ADD;
use crate::onnx::{Import, ImportError, NodeView, by};

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("RNN", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let layer = Layer::of(node, b, &["Tanh"], 2)?;
    let mut parts = Vec::new();
    for direction in 0..layer.directions {
        let weight = layer.matrix(b, node.input(1)?, direction)?;
        let recurrence = layer.matrix(b, node.input(2)?, direction)?;
        let bias = layer.bias(b, node.optional_input(3), direction)?;
        let states = vec![layer.state(b, node.optional_input(5), direction)?];
        parts.push(Direction { weight, bias, recurrence, extra: vec![], states });
    }
    layer.run(b, parts, &cell)
}

fn cell(b: &mut Build, step: &Step) -> Result<Vec<Value>, ImportError> {
    let own = step.recurrence.product(b, step.states[0])?;
    let sum = b.op(&ADD, &[step.input, own])?;
    Ok(vec![step.activate(b, 0, sum)?])
}
