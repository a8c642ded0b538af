//! `reduce_mean(x) = Σ x / count` along `axes`; of nothing NaN. Integers truncate.
//!
//! Shapes: the axes go, or stay with size 1 if `keep_dims`. The result has the type of `x`, not bool.
//! Errors: those of `reduce_sum`. Source: ONNX ReduceMean, opset 18; GlobalAveragePool, opset 22.

use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{Dim, OpDef};

use crate::composite::{Composite, in_arithmetic};
use crate::math::div::DIV;
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::{ATTRS, AXES, KEEP_DIMS, SUMS_OF, folded, import_reduction, reduce, to_onnx};
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::size::size;

/// The mean along axes.
pub static REDUCE_MEAN: OpDef = OpDef::new("reduce_mean", &["x"], &Composite(expand)).attrs(ATTRS);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("ReduceMean", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(|e| e.ty(0).dtype.is_float().then(|| to_onnx(e, "ReduceMean", &SUMS_OF)));

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let (axes, keep) = (attrs.get(AXES), attrs.get(KEEP_DIMS));
    in_arithmetic(b, x, |b, x| {
        let ty = b.ty(x[0]).clone();
        let folded = folded(&axes, ty.rank())?;
        let count: Dim =
            ty.shape.iter().zip(folded).filter(|(_, f)| *f).map(|(size, _)| size.clone()).product();
        let sum = reduce(b, &REDUCE_SUM, x[0], &axes, keep)?;
        let count = size(b, ty.dtype, &count)?;
        b.op(&DIV, &[sum, count])
    })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    import_reduction(node, b, &REDUCE_MEAN, 18)
}
