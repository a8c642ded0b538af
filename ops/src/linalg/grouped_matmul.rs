//! `grouped_matmul(x, w, ids)[…, j] = Σₖ x[…, k] · w[ids[…], k, j]`: each row meets the matrix that its id names.
//!
//! Shapes: `x: […, K]` and `w: [E, K, N]`, both `f32`, `ids: […]`, `i32 or i64`; the axes of `ids` and the leading ones
//! of `x` broadcast: a token that goes to several experts is an axis of size 1 in `x`. A negative id counts from the
//! end; an id out of range takes the nearest matrix, and from no matrix a zero. Errors: [`OpError::RankAtLeast`],
//! [`OpError::Rank`], [`OpError::Size`], [`OpError::DType`]. Source: the experts of Shazeer et al. 2017 (arXiv
//! 1701.06538). Rules make it; no ONNX op is imported as one.

use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, Reduce};
use ir::op::{Eval, Infer, OpError, Semantics};
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use crate::index::{nearest, nearest_expr, or_zero, want_indices};
use crate::linalg::matmul::MATMUL;
use crate::onnx::export::{Body, ToOnnx, function};
use crate::reference::{self, Products, broadcast_at};
use crate::shape::gather::{self, GATHER};
use crate::shape::reshape::reshape;
use ir::attr::Attrs;

/// Products of rows with chosen matrices.
pub static GROUPED_MATMUL: OpDef = OpDef::new("grouped_matmul", &["x", "w", "ids"], &GroupedMatmul);

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Ops(as_ops));

struct GroupedMatmul;

impl Semantics for GroupedMatmul {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let [x, w, ids] = [0, 1, 2].map(|i| cx.operands[i]);
        want_indices("ids", ids)?;
        for (operand, ty) in [("x", x), ("w", w)] {
            if ty.dtype != DType::F32 {
                return Err(OpError::DType { operand, expected: "f32", found: ty.dtype });
            }
        }
        let [_, depth, cols] = &w.shape[..] else {
            return Err(OpError::Rank { operand: "w", expected: 3, found: w.rank() });
        };
        let Some((own, rows)) = x.shape.split_last() else {
            return Err(OpError::RankAtLeast { operand: "x", least: 1, found: 0 });
        };
        if own != depth {
            let (left, right) = (own.clone(), depth.clone());
            return Err(OpError::Size { what: "columns of `x` and rows of `w`", left, right });
        }
        let clash =
            |(left, right)| OpError::Size { what: "rows of `x` and ids do not broadcast", left, right };
        let rows = ir::types::broadcast(rows, &ids.shape).map_err(clash)?;
        Ok(vec![TensorType::new(DType::F32, rows.into_iter().chain([cols.clone()]))])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let [x, w, ids] = [0, 1, 2].map(|i| cx.operands[i]);
        let products = Products::new(x, w);
        let [experts, depth, cols] = [0, 1, 2].map(|axis| w.shape()[axis]);
        let element = |at: &[usize]| {
            let (rows, j) = at.split_at(at.len() - 1);
            let row = row_of(x.shape(), rows) * depth;
            let pairs =
                |expert: usize| (0..depth).map(move |k| (row + k, (expert * depth + k) * cols + j[0]));
            match nearest(broadcast_at(ids, rows).to_i64(), experts) {
                Some(expert) => products.sum(dtype, pairs(expert)),
                None => products.sum(dtype, std::iter::empty()),
            }
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let [x, w] = [0, 1].map(|i| cx.operands[i].clone());
        let (experts, depth) = (&w.shape[0], &w.shape[1]);
        cx.each(|cx, at| {
            let (rows, j) = at.split_at(at.len() - 1);
            let expert = nearest_expr(cx.load_broadcast(2, rows), experts);
            let own = x.shape[..x.rank() - 1].iter();
            let row: Vec<Expr> = own
                .zip(&rows[rows.len() + 1 - x.rank()..])
                .map(|(size, i)| Expr::from(if size.is(1) { Dim::constant(0) } else { i.clone() }))
                .collect();
            cx.fold(Reduce::Sum, depth, |cx, k| {
                let left = cx.load(0, row.into_iter().chain([k.into()]));
                let right = cx.load(1, [expert, k.into(), (&j[0]).into()]);
                left * or_zero([experts], right)
            })
        })
    }
}

/// The row of an operand of this shape that broadcasts to `at`.
fn row_of(shape: &[usize], at: &[usize]) -> usize {
    let sizes = &shape[..shape.len() - 1];
    let at = sizes.iter().zip(&at[at.len() - sizes.len()..]);
    at.fold(0, |row, (&size, &i)| row * size + if size == 1 { 0 } else { i })
}

/// Each row of `x` times the matrix of `w` that its id names.
///
/// # Errors
/// What the op says of its operands.
pub fn grouped_matmul(b: &mut Build, x: Value, w: Value, ids: Value) -> Result<Value, OpError> {
    b.op(&GROUPED_MATMUL, &[x, w, ids])
}

/// Each row times a copy of its matrix.
fn as_ops(b: &mut Build, x: &[Value], _: &Attrs) -> Result<Vec<Value>, OpError> {
    let matrices = b.op_with(&GATHER, &[x[1], x[2]], [gather::AXIS.is(0)])?;
    let mut row = b.ty(x[0]).shape.clone();
    row.insert(row.len() - 1, Dim::constant(1));
    let rows = reshape(b, x[0], row)?;
    let products = b.op(&MATMUL, &[rows, matrices])?;
    let mut shape = b.ty(products).shape.clone();
    shape.remove(shape.len() - 2);
    Ok(vec![reshape(b, products, shape)?])
}
