//! `cast(x)`: each element in another type.
//!
//! Floats round to nearest even; float to integer truncates, saturating, NaN to 0; integer to integer wraps;
//! to bool: not equal to zero. Shapes: any. Source: ONNX Cast, opset 13, where it defines the value.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes};
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use crate::math::elementwise::wrapped;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reference;

/// Each element in another type.
pub static CAST: OpDef = OpDef::new("cast", &["x"], &Cast).attrs(&[TO.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Cast", import), by("CastLike", import_like)];

/// The type of the result.
pub const TO: Key<DType> = key("to");

struct Cast;

impl Semantics for Cast {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![cx.operands[0].with_dtype(cx.attrs.get(TO))])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        Ok(vec![Tensor::from_fn(dtype, &shape, |at| cx.operands[0].at(at).cast(dtype))])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let to = cx.attrs.get(TO);
        cx.pointwise(|x| x[0].clone().cast(to))
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let to = cx.attrs.get(TO);
        cx.operands[0].as_ref()?.iter().map(|size| wrapped(size, to)).collect()
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn is_identity(&self, _: &Attrs) -> bool {
        true
    }
}

/// `x` in type `to`: itself, if that is its type.
///
/// # Errors
/// None that this op gives; the signature is that of every build step.
pub fn convert(b: &mut Build, x: Value, to: DType) -> Result<Value, OpError> {
    if b.ty(x).dtype == to { Ok(x) } else { b.op_with(&CAST, &[x], [TO.is(to)]) }
}

/// `saturate` and `round_mode` speak of 8-bit floats only.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["saturate", "round_mode"]);
    let to = node.dtype("to")?;
    let to = node.required("to", to)?;
    Ok(vec![convert(b, node.input(0)?, to)?])
}

fn import_like(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    node.ignore(&["saturate", "round_mode"]);
    let to = b.ty(node.input(1)?).dtype;
    Ok(vec![convert(b, node.input(0)?, to)?])
}
