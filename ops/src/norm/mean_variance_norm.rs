//! `mean_variance_norm(x) = (x − μ) / (σ + 10⁻⁹)`, `μ` and `σ` the mean and the deviation along `axes`.
//!
//! Shapes: any float type; the result has the type of `x`. Errors: those of the ops that it stands for.
//! Source: ONNX MeanVarianceNormalization, opset 13.

use ir::OpDef;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::composite::{Composite, in_arithmetic};
use crate::math::add::ADD;
use crate::math::div::DIV;
use crate::math::mul::MUL;
use crate::math::sqrt::SQRT;
use crate::math::sub::SUB;
use crate::norm::AXES;
use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_mean::REDUCE_MEAN;

/// Mean 0 and deviation 1 along axes.
pub static MEAN_VARIANCE_NORM: OpDef =
    OpDef::new("mean_variance_norm", &["x"], &Composite(expand)).attrs(&[AXES.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("MeanVarianceNormalization", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let axes = attrs.get(AXES);
    in_arithmetic(b, x, |b, x| {
        let mean = reduce(b, &REDUCE_MEAN, x[0], &axes, true)?;
        let centred = b.op(&SUB, &[x[0], mean])?;
        let squares = b.op(&MUL, &[centred, centred])?;
        let variance = reduce(b, &REDUCE_MEAN, squares, &axes, true)?;
        let deviation = b.op(&SQRT, &[variance])?;
        let little = b.scalar(b.ty(deviation).dtype, 1e-9);
        let below = b.op(&ADD, &[deviation, little])?;
        b.op(&DIV, &[centred, below])
    })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axes = node.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    Ok(vec![b.op_with(&MEAN_VARIANCE_NORM, &[node.input(0)?], [AXES.is(axes)])?])
}

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let axes = vec![("axes", NodeAttr::Ints(e.attrs.get(AXES)))];
    e.ty(0).dtype.is_float().then(|| e.same_with("MeanVarianceNormalization", axes))
}
