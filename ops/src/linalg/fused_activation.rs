//! The activation that onnxruntime puts into a product or a convolution: attributes name it and give its numbers.
//!
//! Source: onnxruntime, contrib operators, FusedConv, FusedGemm and FusedMatMulActivation.

use ir::build::Build;
use ir::graph::Value;

use crate::math::activation::Activation;
use crate::math::clip::CLIP;
use crate::norm::AXIS;
use crate::norm::softmax::SOFTMAX;
use crate::onnx::{ImportError, NodeView};

/// The names that are known.
const KNOWN: &str = "Relu, LeakyRelu, Clip, Sigmoid, HardSigmoid, Tanh, ScaledTanh, Elu, Softplus, Softsign, \
                     ThresholdedRelu, Affine and Softmax";

/// `activation` of `y`, with its numbers in the list `activation_params`.
///
/// # Errors
/// An activation that is not known; numbers that are missing.
pub(super) fn by_list(node: &NodeView, b: &mut Build, y: Value) -> Result<Value, ImportError> {
    let numbers = node.floats("activation_params")?.unwrap_or_default();
    activated(node, b, y, [0, 1].map(|at| numbers.get(at).copied()))
}

/// `activation` of `y`, with its numbers in `activation_alpha` and `activation_beta`.
///
/// # Errors
/// As [`by_list`].
pub(super) fn by_names(node: &NodeView, b: &mut Build, y: Value) -> Result<Value, ImportError> {
    // No activation that is known has a third number.
    node.ignore(&["activation_gamma"]);
    let (alpha, beta) = (node.float("activation_alpha")?, node.float("activation_beta")?);
    activated(node, b, y, [alpha, beta])
}

fn activated(
    node: &NodeView,
    b: &mut Build,
    y: Value,
    [alpha, beta]: [Option<f64>; 2],
) -> Result<Value, ImportError> {
    let given = node.str_or("activation", "")?;
    let axis = node.int_or("activation_axis", -1)?;
    let name = given.to_lowercase();
    match name.as_str() {
        "" => Ok(y),
        "clip" => {
            let dtype = b.ty(y).dtype;
            let [Some(least), Some(most)] = [alpha, beta] else {
                let why = "Clip needs its least and its largest value".to_owned();
                return Err(ImportError::Attribute { name: "activation_params".to_owned(), why });
            };
            let (least, most) = (b.scalar(dtype, least), b.scalar(dtype, most));
            Ok(b.op(&CLIP, &[y, least, most])?)
        }
        "softmax" => Ok(b.op_with(&SOFTMAX, &[y], [AXIS.is(axis)])?),
        _ if Activation::takes(&name).is_some() => Ok(Activation { name, alpha, beta }.apply(b, y)?),
        _ => Err(ImportError::value("activation", given, KNOWN)),
    }
}
