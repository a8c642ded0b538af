//! `where(c, a, b) = a` where `c` holds, else `b`; elementwise.
//!
//! Shapes: `c` is bool, `a` and `b` have one type; all broadcast. The result has the type of `a`. Errors:
//! [`OpError::DType`] if `c` is not bool, [`OpError::DTypes`] and [`OpError::Size`] if operands don't match.
//! Source: ONNX Where, opset 16.

use ir::attr::Attrs;
use ir::build::Build;
use ir::dtype::Class;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes};
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use crate::math::and::AND;
use crate::math::elementwise::broadcast_sizes;
use crate::math::not::NOT;
use crate::math::or::OR;
use crate::onnx::export::{Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, same};
use crate::reference;

/// `a` where `c` holds, else `b`.
pub static WHERE: OpDef = OpDef::new("where", &["c", "a", "b"], &Where);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[same("Where", &WHERE)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Ops(as_ops));

struct Where;

impl Semantics for Where {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let [c, a, b] = [cx.operands[0], cx.operands[1], cx.operands[2]];
        if c.dtype != DType::Bool {
            return Err(OpError::DType { operand: "c", expected: "bool", found: c.dtype });
        }
        if a.dtype != b.dtype {
            return Err(OpError::DTypes { left: a.dtype, right: b.dtype });
        }
        Ok(vec![TensorType::new(a.dtype, cx.broadcast()?)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let chosen = |at: &[usize]| {
            let holds = reference::broadcast_at(cx.operands[0], at).to_bool();
            reference::broadcast_at(cx.operands[if holds { 1 } else { 2 }], at)
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, chosen)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        cx.pointwise(|x| x[0].clone().select(x[1].clone(), x[2].clone()))
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        broadcast_sizes(cx, |x| match x[0].as_const() {
            Some(holds) => Some(x[if holds != 0 { 1 } else { 2 }].clone()),
            None => (x[1] == x[2]).then(|| x[1].clone()),
        })
    }

    fn is_elementwise(&self) -> bool {
        true
    }
}

/// Engines choose between floats, and integers of some widths.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let own = e.ty(1).dtype;
    let taken = match own {
        DType::Bool => return None,
        DType::I32 | DType::I64 | DType::U8 => own,
        dtype if matches!(dtype.class(), Class::Float) && !dtype.is_narrow() => dtype,
        dtype if dtype.is_narrow() && dtype.is_float() => DType::F32,
        dtype if dtype.bits() < 32 => DType::I32,
        _ => DType::I64,
    };
    let operands = [1, 2].map(|index| e.cast(e.x(index), own, taken));
    let [yes, no] = operands;
    let y = e.node("Where", &[e.x(0), yes, no]);
    Some(vec![e.cast(y, taken, own)])
}

/// Between truth values.
fn as_ops(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Vec<Value>, OpError> {
    let otherwise = b.op(&NOT, &[x[0]])?;
    let (yes, no) = (b.op(&AND, &[x[0], x[1]])?, b.op(&AND, &[otherwise, x[2]])?);
    Ok(vec![b.op(&OR, &[yes, no])?])
}
