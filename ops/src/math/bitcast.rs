//! `bitcast(x)`: the same bits as another type of the same width, elementwise. A truth value is a byte of 0 or 1; any other
//! byte is true, too.
//!
//! Shapes: any. Errors: [`OpError::Attribute`] for a type of another width. Source: ONNX BitCast, opset 26.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics};
use ir::{DType, OpDef, Scalar, Tensor, TensorType};

use crate::onnx::export::{Emit, ToOnnx, code_of, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reference;

/// The same bits as another type.
pub static BITCAST: OpDef = OpDef::new("bitcast", &["x"], &Bitcast).attrs(&[TO.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("BitCast", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

/// The type of the result.
pub const TO: Key<DType> = key("to");

struct Bitcast;

impl Semantics for Bitcast {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, to) = (cx.operands[0], cx.attrs.get(TO));
        if x.dtype.bits() != to.bits() {
            return Err(OpError::Attribute { key: TO.name, why: "a type of another width" });
        }
        Ok(vec![x.with_dtype(to)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let same = |at: &[usize]| match cx.operands[0].at(at) {
            x if [x.dtype(), dtype].contains(&DType::Bool) => x.cast(dtype),
            x => Scalar::from_bits(dtype, x.bits()),
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, same)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let to = cx.attrs.get(TO);
        let truth = [cx.operands[0].dtype, to].contains(&DType::Bool);
        cx.pointwise(|x| if truth { x[0].clone().cast(to) } else { x[0].clone().bitcast(to) })
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn is_identity(&self, _: &Attrs) -> bool {
        true
    }
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let to = node.dtype("to")?;
    let to = node.required("to", to)?;
    Ok(vec![b.op_with(&BITCAST, &[node.input(0)?], [TO.is(to)])?])
}

/// Between integers of one width, and truth values and bytes, a conversion does the same.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let (from, to) = (e.ty(0).dtype, e.attrs.get(TO));
    if !from.is_float() && !to.is_float() {
        return Some(vec![e.cast_always(e.x(0), to)]);
    }
    e.need(26);
    Some(e.same_with("BitCast", vec![("to", NodeAttr::Int(code_of(to)))]))
}
