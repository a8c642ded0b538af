//! Activations that a node names in an attribute, as recurrent layers and fused ops do. Source: ONNX LSTM, opset 22.

use ir::build::Build;
use ir::graph::Value;
use ir::op::{OpDef, OpError};

use crate::math::add::ADD;
use crate::math::mul::MUL;
use crate::math::relu::RELU;
use crate::math::sigmoid::SIGMOID;
use crate::math::softplus::SOFTPLUS;
use crate::math::softsign::SOFTSIGN;
use crate::math::tanh::TANH;
use crate::math::{elu, hard_sigmoid, leaky_relu, thresholded_relu};

/// An activation.
#[derive(Debug, Clone)]
pub(crate) struct Activation {
    /// Its name in small letters.
    pub(crate) name: String,
    /// Its first number; without, as ONNX has it for the op of that name.
    pub(crate) alpha: Option<f64>,
    /// Its second number.
    pub(crate) beta: Option<f64>,
}

impl Activation {
    /// Whether the activation of this name takes alpha and beta. `None` if there is none.
    pub(crate) fn takes(name: &str) -> Option<[bool; 2]> {
        NAMES.iter().find(|(known, ..)| *known == name).map(|&(_, alpha, beta)| [alpha, beta])
    }

    /// Its value.
    ///
    /// # Errors
    /// What the ops say of anything but floats.
    pub(crate) fn apply(&self, b: &mut Build, x: Value) -> Result<Value, OpError> {
        let dtype = b.ty(x).dtype;
        let (alpha, beta) = (|default| self.alpha.unwrap_or(default), |default| self.beta.unwrap_or(default));
        let mut scaled = |f: Option<&'static OpDef>, outer: f64, inner: f64, shift: f64| {
            let mut y = x;
            for (op, value) in [(&MUL, inner), (&ADD, shift)] {
                let value = b.scalar(dtype, value);
                y = b.op(op, &[y, value])?;
            }
            let Some(f) = f else { return Ok(y) };
            let y = b.op(f, &[y])?;
            let outer = b.scalar(dtype, outer);
            b.op(&MUL, &[y, outer])
        };
        match self.name.as_str() {
            "relu" => b.op(&RELU, &[x]),
            "tanh" => b.op(&TANH, &[x]),
            "sigmoid" => b.op(&SIGMOID, &[x]),
            "softsign" => b.op(&SOFTSIGN, &[x]),
            "softplus" => b.op(&SOFTPLUS, &[x]),
            "affine" => scaled(None, 1.0, alpha(1.0), beta(0.0)),
            "scaledtanh" => scaled(Some(&TANH), alpha(1.0), beta(1.0), 0.0),
            "leakyrelu" => b.op_with(&leaky_relu::LEAKY_RELU, &[x], [leaky_relu::ALPHA.is(alpha(0.01))]),
            "thresholdedrelu" => {
                b.op_with(&thresholded_relu::THRESHOLDED_RELU, &[x], [thresholded_relu::ALPHA.is(alpha(1.0))])
            }
            "elu" => b.op_with(&elu::ELU, &[x], [elu::ALPHA.is(alpha(1.0))]),
            _ => {
                let attrs = [hard_sigmoid::ALPHA.is(alpha(0.2)), hard_sigmoid::BETA.is(beta(0.5))];
                b.op_with(&hard_sigmoid::HARD_SIGMOID, &[x], attrs)
            }
        }
    }
}

/// The names that ONNX gives to activations, in small letters; then whether they take alpha and beta.
const NAMES: [(&str, bool, bool); 11] = [
    ("relu", false, false),
    ("tanh", false, false),
    ("sigmoid", false, false),
    ("affine", true, true),
    ("leakyrelu", true, false),
    ("thresholdedrelu", true, false),
    ("scaledtanh", true, true),
    ("hardsigmoid", true, true),
    ("elu", true, false),
    ("softsign", false, false),
    ("softplus", false, false),
];
