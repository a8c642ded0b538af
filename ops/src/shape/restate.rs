//! `restate(x)`: `x`, whose sizes are said in other words.
//!
//! Shapes: as many sizes in `shape` as `x` has, each equal to the one in its place: known, or checked when the model
//! runs. Errors: [`OpError::Rank`]; [`OpError::Size`] if two cannot be equal.
//! Source: ONNX models of symbolic sizes that operands must have in common, such as those of a skip connection.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::dim::Condition;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Requirement, Semantics, Sizes};
use ir::{Dim, OpDef, Tensor, TensorType};

use crate::onnx::Import;
use crate::onnx::export::{Body, ToOnnx, function};
use crate::reference;

/// The same under other sizes that are equal.
pub static RESTATE: OpDef = OpDef::new("restate", &["x"], &Restate).attrs(&[SHAPE.spec()]);

/// Imports need it, and no ONNX op is it.
pub static ONNX: &[Import] = &[];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Nodes(|e| Some(e.same("Identity"))));

/// The sizes of the result.
pub const SHAPE: Key<Vec<Dim>> = key("shape");

struct Restate;

/// For each axis, that its size is the stated one.
fn conditions(cx: &Infer) -> Vec<Condition> {
    let pairs = cx.operands[0].shape.iter().cloned().zip(cx.attrs.get(SHAPE));
    pairs.filter(|(is, said)| is != said).map(|(is, said)| Condition::equal(is, said)).collect()
}

impl Semantics for Restate {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, shape) = (cx.operands[0], cx.attrs.get(SHAPE));
        cx.want_rank(0, "x", shape.len())?;
        match conditions(cx).into_iter().find(Condition::is_refuted) {
            Some(Condition { left, right, .. }) => Err(OpError::Size { what: "restated size", left, right }),
            None => Ok(vec![x.with_shape(shape)]),
        }
    }

    fn requires(&self, cx: &Infer) -> Vec<Requirement> {
        let what = "sizes that must be the same are (only one that is known to be 1 is stretched)";
        conditions(cx).into_iter().map(|condition| Requirement { condition, what }).collect()
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let ((_, shape), x) = (reference::result(self, cx)?, cx.operands[0]);
        match x.shape().iter().zip(&shape).find(|(is, said)| is != said) {
            Some((&left, &right)) => {
                Err(OpError::Size { what: "restated size", left: left.into(), right: right.into() })
            }
            None => Ok(vec![x.clone()]),
        }
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        cx.pointwise(|x| x[0].clone())
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        cx.operands[0].clone()
    }

    fn is_identity(&self, _: &Attrs) -> bool {
        true
    }
}

/// `x` under these sizes: itself, if they are its own.
///
/// # Errors
/// [`OpError::Rank`], or [`OpError::Size`] if two sizes cannot be equal.
pub fn restate(b: &mut Build, x: Value, shape: Vec<Dim>) -> Result<Value, OpError> {
    if b.ty(x).shape == shape { Ok(x) } else { b.op_with(&RESTATE, &[x], [SHAPE.is(shape)]) }
}
