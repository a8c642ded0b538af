//! The momentum with which experts join the residual stream, on or off.
//!
//! A plain layer is `x + y`, where `y` is the weighted sum of its experts. With momentum (MomentumSMoE, Teo and Nguyen 2024,
//! arXiv 2410.14574, equations 10 and 11) it is `x − γ·p` with `p = f + μ·p'`, where `p'` is that of the layer before and `f = −y`: so
//! the experts of a plain checkpoint are negated, their last matrices and biases. `μ = 0` and `γ = 1` change nothing.

use ir::graph::Value;
use ir::{Graph, NodeId, Scalar, Tensor, Weight};
use ops::math::add::ADD;
use ops::math::mul::MUL;
use ops::math::neg::NEG;
use ops::math::sub::SUB;
use ops::shape::reshape::RESHAPE;

use super::layer::{Layer, constant, is, name_of};
use super::{EditError, rebuild};

/// Momentum: its constants, or none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Momentum {
    /// `x − γ·p`, `p = −y + μ·p'`.
    On {
        /// μ, how much of the momentum stays.
        mu: f64,
        /// γ, the step.
        gamma: f64,
    },
    /// `x + y`.
    Off,
}

/// How a layer's result joins the residual stream.
struct Joint {
    /// The node that adds it.
    node: NodeId,
    /// The residual.
    stream: Value,
    /// The result of the experts, as the node has it.
    result: Value,
    /// Is it subtracted?
    subtracts: bool,
}

/// Sets the momentum of all layers.
///
/// # Errors
/// A layer whose result does not join a residual stream, or streams of different types.
pub fn set_momentum(graph: &mut Graph, layers: &[Layer], momentum: Momentum) -> Result<(), EditError> {
    let joints = layers.iter().map(|layer| joint(graph, layer)).collect::<Result<Vec<_>, _>>()?;
    match momentum {
        Momentum::On { mu, gamma } => on(graph, layers, &joints, mu, gamma),
        Momentum::Off => off(graph, layers, &joints),
    }
}

fn on(graph: &mut Graph, layers: &[Layer], joints: &[Joint], mu: f64, gamma: f64) -> Result<(), EditError> {
    let mut before: Option<Value> = None;
    for (layer, joint) in layers.iter().zip(joints) {
        let refuse = |why: &str| EditError::Unfit { what: layer.name.clone(), why: why.to_owned() };
        if joint.subtracts || momentum_of(graph, joint.result).is_some() {
            return Err(refuse("it has momentum already"));
        }
        if before.is_some_and(|before| graph.ty(before) != graph.ty(joint.result)) {
            return Err(refuse("its tokens are not those of the layer before, whose momentum it would take"));
        }
        let origin = graph.node(joint.node).origin.clone();
        let force = negated(graph, layer, joint.result, &origin)?;
        let state = match before {
            None => force,
            Some(before) => {
                let kept = scaled(graph, before, mu, &origin)?;
                op(graph, &ADD, &[kept, force], &origin)?
            }
        };
        let step = scaled(graph, state, gamma, &origin)?;
        let next = op(graph, &SUB, &[joint.stream, step], &origin)?;
        graph.replace_uses(joint.node.into(), next);
        before = Some(state);
    }
    Ok(())
}

fn off(graph: &mut Graph, layers: &[Layer], joints: &[Joint]) -> Result<(), EditError> {
    let mut found = false;
    for (layer, joint) in layers.iter().zip(joints) {
        let origin = graph.node(joint.node).origin.clone();
        let (force, is_state) = match momentum_of(graph, joint.result) {
            Some(force) => (force, true),
            None => (joint.result, false),
        };
        if !joint.subtracts && !is_state {
            continue;
        }
        found = true;
        let result = if joint.subtracts { negated(graph, layer, force, &origin)? } else { force };
        let next = op(graph, &ADD, &[joint.stream, result], &origin)?;
        graph.replace_uses(joint.node.into(), next);
    }
    match found {
        true => Ok(()),
        false => {
            let what = layers.first().map_or_else(String::new, |layer| layer.name.clone());
            Err(EditError::Unfit { what, why: "no layer has momentum".to_owned() })
        }
    }
}

/// Where the result of a layer joins the residual stream: through other shapes and scales at most.
fn joint(graph: &Graph, layer: &Layer) -> Result<Joint, EditError> {
    let wrong = |graph: &Graph, id: NodeId| EditError::Node {
        what: layer.name.clone(),
        why: "the experts' results do not join a residual stream",
        node: name_of(graph, id),
    };
    let Some(combine) = layer.combine else { return Err(wrong(graph, layer.router)) };
    let mut value = Value::from(combine);
    for _ in 0..16 {
        let users = graph.users(value);
        for &(user, operand) in &users {
            let operands = graph.operands(user);
            let stream = |at: usize| graph.ty(operands[at]) == graph.ty(user.into());
            let dense = |at: usize| !is_scaled_state(graph, operands[at]);
            if is(graph, user, &ADD) && stream(1 - operand) && dense(1 - operand) {
                let joint =
                    Joint { node: user, stream: operands[1 - operand], result: value, subtracts: false };
                return Ok(joint);
            }
            if is(graph, user, &SUB) && operand == 1 && stream(0) {
                return Ok(Joint { node: user, stream: operands[0], result: value, subtracts: true });
            }
        }
        let onward = users.iter().map(|(user, _)| *user).find(|&user| {
            is(graph, user, &RESHAPE)
                || is(graph, user, &MUL)
                || is(graph, user, &ADD)
                || is(graph, user, &NEG)
        });
        match onward {
            Some(user) => value = user.into(),
            None => return Err(wrong(graph, combine)),
        }
    }
    Err(wrong(graph, combine))
}

/// Is a value `μ·p`, with a constant?
fn is_scaled_state(graph: &Graph, value: Value) -> bool {
    let constant = |value: &Value| constant(graph, *value).is_some_and(|tensor| tensor.elements() == 1);
    let all_zero = constant_zero(graph, value);
    all_zero || is(graph, value.node, &MUL) && graph.operands(value.node).iter().any(constant)
}

fn constant_zero(graph: &Graph, value: Value) -> bool {
    constant(graph, value).is_some_and(|tensor| tensor.values().all(|value| value.to_f64() == 0.0))
}

/// The force, if a value is `μ·p' + f`.
fn momentum_of(graph: &Graph, value: Value) -> Option<Value> {
    let mut value = value;
    // γ·p
    if is(graph, value.node, &MUL) {
        let operands = graph.operands(value.node);
        value = operands.into_iter().find(|operand| constant(graph, *operand).is_none())?;
    }
    if !is(graph, value.node, &ADD) {
        return None;
    }
    let [a, b] = graph.operands(value.node)[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(kept, force)| is_scaled_state(graph, kept).then_some(force))
}

/// The negative of a layer's result: by its last matrices and their biases, where nothing but a sum is between these and the
/// result.
fn negated(graph: &mut Graph, layer: &Layer, result: Value, origin: &ir::Origin) -> Result<Value, EditError> {
    let Some(parts) = linear_parts(graph, layer) else { return op(graph, &NEG, &[result], origin) };
    for (user, operand, stack) in parts {
        let mut values = stack.values();
        let negative = |_: &[usize]| {
            Scalar::from_f64(stack.dtype(), -values.next().expect("one for each element").to_f64())
        };
        let negative = Tensor::from_fn(stack.dtype(), stack.shape(), negative);
        let weight = graph.add_weight(Weight::from_tensor("negated", &negative), origin.clone());
        let mut operands = graph.operands(user);
        operands[operand] = weight;
        rebuild::replace(graph, user, &operands)?;
    }
    Ok(result)
}

/// The constants that a layer's result is linear in: those of the last product, and tables that are added to it.
fn linear_parts(graph: &Graph, layer: &Layer) -> Option<Vec<(NodeId, usize, Tensor)>> {
    let &last = layer.products.last()?;
    let mut parts = vec![(last, 1, constant(graph, graph.operands(last)[1])?)];
    let mut value = Value::from(last);
    while graph.users(value).len() == 1 {
        let (user, operand) = graph.users(value)[0];
        if Some(user) == layer.combine {
            return Some(parts);
        }
        let other = *graph.operands(user).get(1 - operand.min(1))?;
        if !is(graph, user, &ADD) || !layer.tables.contains(&other.node) {
            return None;
        }
        parts.push((other.node, 0, constant(graph, graph.operands(other.node)[0])?));
        value = user.into();
    }
    None
}

fn op(
    graph: &mut Graph,
    def: &'static ir::OpDef,
    operands: &[Value],
    origin: &ir::Origin,
) -> Result<Value, EditError> {
    let attrs = def.check_attrs([]).expect("bug: the op has no attributes that must be given");
    Ok(graph.add_op(def, operands, attrs, origin.clone())?.into())
}

/// `factor · x`; `x` itself for 1.
fn scaled(graph: &mut Graph, x: Value, factor: f64, origin: &ir::Origin) -> Result<Value, EditError> {
    if factor == 1.0 {
        return Ok(x);
    }
    let dtype = graph.ty(x).dtype;
    let factor = Tensor::scalar(Scalar::from_f64(dtype, factor));
    let factor = graph.add_weight(Weight::from_tensor("", &factor), origin.clone());
    op(graph, &MUL, &[x, factor], origin)
}
