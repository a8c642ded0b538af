//! Steps of optimizers: ONNX ops that give parameters and states after one update.
//!
//! Inputs are the learning rate, the number of updates so far, then the parameters, their gradients, and each kind of
//! state, as many of each as there are parameters. Outputs are the parameters, then the states. Source: ONNX
//! `ai.onnx.preview.training`, opset 1.

pub mod adagrad;
pub mod adam;
pub mod momentum;

use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpDef, OpError};

use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::mul::MUL;
use crate::onnx::{ImportError, NodeView};
use crate::shape::reshape::reshape;

/// The domain of these ops.
const DOMAIN: &str = "ai.onnx.preview.training";

/// One parameter, before an update.
struct Before {
    /// The learning rate, and the number of updates so far, both without axes and of the parameter's type.
    rate: Value,
    updates: Value,
    parameter: Value,
    /// With that of the regularization.
    gradient: Value,
    states: Vec<Value>,
}

/// The new parameter, and its states.
type Update<'u> = dyn Fn(&mut Build, &Before) -> Result<Vec<Value>, OpError> + 'u;

/// The update of every parameter, each of which has so many states.
fn updated(
    node: &NodeView,
    b: &mut Build,
    states: usize,
    update: &Update<'_>,
) -> Result<Vec<Value>, ImportError> {
    let inputs = node.inputs()?;
    let kinds = 2 + states;
    let count = inputs.len().saturating_sub(2) / kinds;
    if count == 0 || inputs.len() != 2 + count * kinds {
        return Err(ImportError::MissingInput { index: 2 + (count + 1) * kinds - 1 });
    }
    let decay = node.float_or("norm_coefficient", 0.0)?;
    let mut kinds = vec![Vec::new(); 1 + states];
    for i in 0..count {
        let of_kind = |kind: usize| inputs[2 + kind * count + i];
        let parameter = of_kind(0);
        let dtype = b.ty(parameter).dtype;
        let mut number = |value: Value| {
            let value = convert(b, value, dtype)?;
            reshape(b, value, vec![])
        };
        let (rate, updates) = (number(inputs[0])?, number(inputs[1])?);
        let shrinks = scaled(b, parameter, decay)?;
        let gradient = b.op(&ADD, &[shrinks, of_kind(1)])?;
        let states = (2..2 + states).map(of_kind).collect();
        let after = update(b, &Before { rate, updates, parameter, gradient, states })?;
        kinds.iter_mut().zip(after).for_each(|(kind, value)| kind.push(value));
    }
    Ok(kinds.concat())
}

/// `factor·x`.
fn scaled(b: &mut Build, x: Value, factor: f64) -> Result<Value, OpError> {
    let factor = b.scalar(b.ty(x).dtype, factor);
    b.op(&MUL, &[x, factor])
}

/// `factor·x + rest·y`.
fn mixed(b: &mut Build, (factor, x): (f64, Value), (rest, y): (f64, Value)) -> Result<Value, OpError> {
    let (x, y) = (scaled(b, x, factor)?, scaled(b, y, rest)?);
    b.op(&ADD, &[x, y])
}

/// `op` of `x` and a number.
fn with(b: &mut Build, op: &'static OpDef, x: Value, number: f64) -> Result<Value, OpError> {
    let number = b.scalar(b.ty(x).dtype, number);
    b.op(op, &[x, number])
}
