//! `rms_norm(x) = x / √(mean(x²) + epsilon)`, the mean along `axes`.
//!
//! Shapes: any float type; the result has the type of `x`; 16-bit floats are computed in `f32`. Errors: those
//! of the ops that it stands for. Source: Zhang, Sennrich 2019; ONNX RMSNormalization, opset 23, whose scale
//! is a product of its own.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Composite, in_arithmetic};
use crate::math::add::ADD;
use crate::math::mul::MUL;
use crate::math::reciprocal::RECIPROCAL;
use crate::math::sqrt::SQRT;
use crate::norm::layer_norm::{SKIP_EPSILON, axes_from, skip_sum};
use crate::norm::{AXES, EPSILON, EPSILON_SPEC};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_mean::REDUCE_MEAN;

/// Root mean square 1 along axes.
pub static RMS_NORM: OpDef =
    OpDef::new("rms_norm", &["x"], &Composite(expand)).attrs(&[AXES.spec(), EPSILON_SPEC]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("RMSNormalization", import),
    by("SimplifiedLayerNormalization", import),
    by("SimplifiedLayerNormalization", import).in_domain("com.microsoft"),
    by("SkipSimplifiedLayerNormalization", import_skip).in_domain("com.microsoft"),
];

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let (axes, epsilon) = (attrs.get(AXES), attrs.get(EPSILON));
    in_arithmetic(b, x, |b, x| {
        let squares = b.op(&MUL, &[x[0], x[0]])?;
        let mean = reduce(b, &REDUCE_MEAN, squares, &axes, true)?;
        let epsilon = b.scalar(b.ty(x[0]).dtype, epsilon);
        let sum = b.op(&ADD, &[mean, epsilon])?;
        let root = b.op(&SQRT, &[sum])?;
        let scale = b.op(&RECIPROCAL, &[root])?;
        b.op(&MUL, &[x[0], scale])
    })
}

/// `stash_type` is the type that it is computed in: `f32` or better here.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["stash_type"]);
    let (x, scale) = (node.input(0)?, node.input(1)?);
    let axes = axes_from(node.int_or("axis", -1)?, b.ty(x).rank())?;
    let epsilon = node.float_or("epsilon", 1e-5)?;
    let y = b.op_with(&RMS_NORM, &[x], [AXES.is(axes), EPSILON.is(epsilon)])?;
    Ok(vec![b.op(&MUL, &[y, scale])?])
}

/// onnxruntime's: of a sum, which is the last output. Means are not.
fn import_skip(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    if node.output_used(1) || node.output_used(2) {
        return Err(ImportError::Unsupported {
            what: "SkipSimplifiedLayerNormalization with outputs 1 and 2".to_owned(),
            help: "export the model for inference".to_owned(),
        });
    }
    let sum = skip_sum(node, b, 3)?;
    let epsilon = node.float_or("epsilon", SKIP_EPSILON)?;
    let y = b.op_with(&RMS_NORM, &[sum], [AXES.is(vec![-1]), EPSILON.is(epsilon)])?;
    let y = b.op(&MUL, &[y, node.input(2)?])?;
    Ok(vec![y, sum, sum, sum])
}
