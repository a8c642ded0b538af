//! `combine(y, gates)[…, d] = Σₖ gates[…, k] · y[…, k, d]`: what several experts say of a token, weighed.
//!
//! Shapes: `y: […, K, D]`, `gates: […, K]`, both `f32`, with the same sizes; `K` is a number. Terms are added in
//! ascending order, each with one rounding. Errors: [`OpError::RankAtLeast`], [`OpError::Size`], [`OpError::DType`].
//! Source: the experts of Shazeer et al. 2017 (arXiv 1701.06538). Rules make it; no ONNX op is imported as one.

use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, KernelKind};
use ir::op::{Eval, Infer, OpError, Semantics};
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType};

use crate::linalg::matmul::MATMUL;
use crate::onnx::export::{Body, ToOnnx, function};
use crate::reference;
use crate::shape::reshape::reshape;
use ir::attr::Attrs;

/// A weighted sum over the last axis but one.
pub static COMBINE: OpDef = OpDef::new("combine", &["y", "gates"], &Combine);

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Ops(as_ops));

/// Most terms: they are written out.
pub const MOST_TERMS: i64 = 64;

struct Combine;

impl Semantics for Combine {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (y, gates) = (cx.operands[0], cx.operands[1]);
        for (operand, ty) in [("y", y), ("gates", gates)] {
            if ty.dtype != DType::F32 {
                return Err(OpError::DType { operand, expected: "f32", found: ty.dtype });
            }
        }
        let [rows @ .., terms, width] = &y.shape[..] else {
            return Err(OpError::RankAtLeast { operand: "y", least: 2, found: y.rank() });
        };
        if terms.as_const().is_none_or(|terms| terms > MOST_TERMS) {
            let (what, right) = ("terms are a number, at most so many", Dim::constant(MOST_TERMS));
            return Err(OpError::Size { what, left: terms.clone(), right });
        }
        let own = rows.iter().chain([terms]);
        if !own.clone().eq(&gates.shape) {
            let (left, right) = (own.cloned().product(), gates.shape.iter().cloned().product());
            return Err(OpError::Size { what: "each term has a gate", left, right });
        }
        Ok(vec![TensorType::new(DType::F32, rows.iter().chain([width]).cloned())])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (y, gates) = (cx.operands[0], cx.operands[1]);
        let terms = y.shape()[y.shape().len() - 2];
        let element = |at: &[usize]| {
            let (rows, d) = at.split_at(at.len() - 1);
            let term = |k: usize| {
                let weight = gates.at(&[rows, &[k]].concat()).to_f64();
                weight * y.at(&[rows, &[k, d[0]]].concat()).to_f64()
            };
            Scalar::from_f64(dtype, (0..terms).map(term).sum())
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let y = cx.operands[0];
        let terms = y.shape[y.rank() - 2].as_const()?;
        cx.each(|cx, at| {
            let (rows, d) = at.split_at(at.len() - 1);
            let index = |k: i64| rows.iter().cloned().chain([Dim::constant(k)]);
            (0..terms).fold(Expr::number(DType::F32, 0.0), |sum, k| {
                let gate = cx.load(1, index(k).map(Expr::from));
                let term = cx.load(0, index(k).chain([d[0].clone()]).map(Expr::from));
                if k == 0 { gate * term } else { Expr::fma(gate, term, sum) }
            })
        })
    }

    fn kind(&self) -> Option<KernelKind> {
        Some(KernelKind::Combine)
    }
}

/// The sum of `y` over its last axis but one, weighed by `gates`.
///
/// # Errors
/// What the op says of its operands.
pub fn combine(b: &mut Build, y: Value, gates: Value) -> Result<Value, OpError> {
    b.op(&COMBINE, &[y, gates])
}

/// For each token, a row of gates times the matrix of what the experts say.
fn as_ops(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Vec<Value>, OpError> {
    let mut row = b.ty(x[1]).shape.clone();
    row.insert(row.len() - 1, Dim::constant(1));
    let gates = reshape(b, x[1], row)?;
    let sum = b.op(&MATMUL, &[gates, x[0]])?;
    let mut shape = b.ty(x[0]).shape.clone();
    shape.remove(shape.len() - 2);
    Ok(vec![reshape(b, sum, shape)?])
}
