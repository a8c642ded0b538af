//! Normalisations. Scales and biases are ordinary products and sums after them.

pub mod batch_norm;
pub mod embed_layer_norm;
pub mod group_norm;
pub mod instance_norm;
pub mod layer_norm;
pub mod local_response_norm;
pub mod log_softmax;
pub mod lp_norm;
pub mod mean_variance_norm;
pub mod rms_norm;
pub mod softmax;

use ir::attr::{Attr, AttrSpec, Key, key};

use crate::onnx::NodeAttr;
use crate::onnx::export::Emit;

/// The axis along which is normalised; negative counts from the end.
pub const AXIS: Key<i64> = key("axis");

/// The axes along which is normalised; negative ones count from the end.
pub const AXES: Key<Vec<i64>> = key("axes");

/// Added to the variance, so that its root is never 0.
pub const EPSILON: Key<f64> = key("epsilon");

/// The declaration of [`EPSILON`].
pub const EPSILON_SPEC: AttrSpec = EPSILON.or(|| Attr::Float(1e-5));

/// The node of ONNX of that name, along [`AXIS`]; of floats.
fn along_axis(e: &mut Emit, op_type: &str) -> Option<Vec<String>> {
    let axis = vec![("axis", NodeAttr::Int(e.attrs.get(AXIS)))];
    e.ty(0).dtype.is_float().then(|| e.same_with(op_type, axis))
}
