//! `attention(q, k, v, x…)[…, i, d] = Σⱼ softmaxⱼ(score(Σₑ q[…, i, e]·k[…, j, e])) · v[…, j, d]`.
//!
//! Shapes: `q: […, N, D]`, `k: […, M, D]`, `v: […, M, E]`, all `f32`; leading axes broadcast, so that heads which share
//! keys are an axis of size 1 there; the result is `[…, N, E]`. The region `score` gives what the softmax takes for a
//! raw product, which it finds at `[…, i, j]`: scales, biases (further operands), masks and windows (`-inf`) are all
//! regions. A row of `-inf` alone, or of no keys, gives NaN.
//!
//! Errors: [`OpError::RankAtLeast`], [`OpError::Size`], [`OpError::DType`], and [`OpError::Attribute`] for a region that
//! does not fit. Source: Vaswani et al. 2017. Fusion makes it; no ONNX op is imported as one.

use ir::attr::{Attr, Key, key};
use ir::dim::Symbol;
use ir::kernel::eval::{Names, eval};
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, ExprKind, Reduce};
use ir::op::{Eval, Infer, OpError, Semantics};
use ir::region::operand_number;
use ir::scalar::Unary;
use ir::{DType, Dim, OpDef, Region, Scalar, Tensor, TensorType};

use crate::linalg::matmul::MATMUL;
use crate::linalg::region;
use crate::math::div::DIV;
use crate::math::elementwise::is_nonnegative;
use crate::norm;
use crate::norm::softmax::SOFTMAX;
use crate::onnx::export::{Body, ToOnnx, function};
use crate::reference;
use crate::shape::broadcast::broadcast;
use crate::shape::size::size;
use crate::shape::transpose::swap_last_two;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;

/// Attention over keys and values; further operands are what the region loads.
pub static ATTENTION: OpDef =
    OpDef::variadic("attention", "x", 3, &Attention).attrs(&[SCORE.or(|| Attr::Region(Region::identity()))]);

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Ops(as_ops));

/// What becomes of a raw product before the softmax.
pub const SCORE: Key<Region> = key("score");

/// The operands that every attention has.
const NAMES: [&str; 3] = ["q", "k", "v"];

struct Attention;

impl Semantics for Attention {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        for (operand, ty) in NAMES.into_iter().zip(cx.operands) {
            if ty.rank() < 2 {
                return Err(OpError::RankAtLeast { operand, least: 2, found: ty.rank() });
            }
            if ty.dtype != DType::F32 {
                return Err(OpError::DType { operand, expected: "f32", found: ty.dtype });
            }
        }
        let [q, k, v] = [0, 1, 2].map(|i| Matrix::of(cx.operands[i]));
        let same = |what, left: &Dim, right: &Dim| match left == right {
            true => Ok(()),
            false => Err(OpError::Size { what, left: left.clone(), right: right.clone() }),
        };
        same("width of queries and keys", q.cols, k.cols)?;
        same("number of keys and values", k.rows, v.rows)?;
        let clash = |(left, right)| OpError::Size { what: "batch axes do not broadcast", left, right };
        let batch = ir::types::broadcast(q.batch, k.batch).map_err(clash)?;
        let batch = ir::types::broadcast(&batch, v.batch).map_err(clash)?;
        check(&cx.attrs.get(SCORE), cx.operands, batch.len() + 2)?;
        Ok(vec![TensorType::new(DType::F32, batch.into_iter().chain([q.rows.clone(), v.cols.clone()]))])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let score = cx.attrs.get(SCORE);
        let [q, k, v] = [0, 1, 2].map(|i| Rows::of(cx.operands[i]));
        let mut values = vec![0.0; shape.iter().product()];
        let (rows, width) = (shape[..shape.len() - 1].to_vec(), shape[shape.len() - 1]);
        let mut position = 0;
        let mut result = Ok(());
        ir::tensor::for_each_index(&rows, |at| {
            let row = &mut values[position..position + width];
            result = result.clone().and_then(|()| one_row(&score, cx.operands, [&q, &k, &v], at, row));
            position += width;
        });
        result?;
        let mut values = values.into_iter();
        let element = |_: &[usize]| Scalar::from_f64(dtype, values.next().expect("one for each element"));
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let score = cx.attrs.get(SCORE);
        let [q, k, v] = [0, 1, 2].map(|i| cx.operands[i].clone());
        let result = cx.results[0].shape.clone();
        let (batch, [keys, depth]) = (&result[..result.len() - 2], [&k.shape, &q.shape].map(|s| s.len()));
        let (keys, depth) = (k.shape[keys - 2].clone(), q.shape[depth - 1].clone());
        let rows: Vec<Dim> = result[..result.len() - 1].to_vec();
        let scores: Vec<Dim> = rows.iter().cloned().chain([keys.clone()]).collect();
        let at_row = |source: &Symbol, at: &[Dim]| Expr::load(source.clone(), DType::F32, exprs(at));

        let raw = cx.stage(&scores, |cx, at| {
            let (batch, ij) = at.split_at(at.len() - 2);
            cx.fold(Reduce::Sum, &depth, |cx, e| {
                let left = cx.load(0, matrix_index(&q, batch, [&ij[0], e]));
                left * cx.load(1, matrix_index(&k, batch, [&ij[1], e]))
            })
        });
        let scored = cx.stage(&scores, |_, at| score.apply(&at_row(&raw, at), at));
        let last = |at: &[Dim], j: &Dim| at.iter().cloned().chain([j.clone()]).collect::<Vec<_>>();
        let most =
            cx.stage(&rows, |cx, at| cx.fold(Reduce::Max, &keys, |_, j| at_row(&scored, &last(at, j))));
        let weights = cx.stage(&scores, |_, at| {
            Expr::unary(Unary::Exp, at_row(&scored, at) - at_row(&most, &at[..at.len() - 1]))
        });
        let total =
            cx.stage(&rows, |cx, at| cx.fold(Reduce::Sum, &keys, |_, j| at_row(&weights, &last(at, j))));
        let sum = cx.stage(&result, |cx, at| {
            let (row, d) = at.split_at(at.len() - 1);
            cx.fold(Reduce::Sum, &keys, |cx, j| {
                let value = cx.load(2, matrix_index(&v, &row[..batch.len()], [j, &d[0]]));
                at_row(&weights, &last(row, j)) * value
            })
        });
        cx.stage(&result, |_, at| at_row(&sum, at) / at_row(&total, &at[..at.len() - 1]));
        cx.finish()
    }
}

/// The type of an operand as matrices.
struct Matrix<'a> {
    batch: &'a [Dim],
    rows: &'a Dim,
    cols: &'a Dim,
}

impl<'a> Matrix<'a> {
    fn of(ty: &'a TensorType) -> Matrix<'a> {
        let (batch, last) = ty.shape.split_at(ty.rank() - 2);
        Matrix { batch, rows: &last[0], cols: &last[1] }
    }
}

/// Does the region fit operands of these types, and scores of so many axes?
fn check(score: &Region, operands: &[&TensorType], rank: usize) -> Result<(), OpError> {
    let refuse = |why| OpError::Attribute { key: SCORE.name, why };
    let mut wrong = None;
    score.body().walk(&mut |e| match e.kind() {
        ExprKind::Load { source, dtype, at } => match operand_number(source).and_then(|n| operands.get(n)) {
            None => wrong = Some("it loads an operand that is not there"),
            Some(ty) if ty.dtype != *dtype => wrong = Some("it loads an operand as another type"),
            Some(ty) if ty.rank() != at.len() => {
                wrong = Some("it indexes an operand by another number of axes")
            }
            Some(_) => {}
        },
        ExprKind::Fold(_) => wrong = Some("it folds"),
        _ => {}
    });
    if score.body().dtype() != DType::F32 {
        wrong = Some("it does not give an f32");
    }
    if score.symbols().0.last().is_some_and(|&axis| axis >= rank) {
        wrong = Some("it speaks of an axis that scores do not have");
    }
    wrong.map_or(Ok(()), |why| Err(refuse(why)))
}

fn exprs(at: &[Dim]) -> impl Iterator<Item = Expr> {
    at.iter().map(Expr::from)
}

/// An index of an operand: its batch axes broadcast to `batch`, the last two are given.
fn matrix_index(ty: &TensorType, batch: &[Dim], last: [&Dim; 2]) -> Vec<Expr> {
    let sizes = &ty.shape[..ty.rank() - 2];
    let batch = sizes.iter().zip(&batch[batch.len() - sizes.len()..]);
    let batch = batch.map(|(size, i)| if size.is(1) { Dim::constant(0) } else { i.clone() });
    batch.chain(last.map(Dim::clone)).map(Expr::from).collect()
}

/// An operand's values as matrices.
struct Rows {
    values: Vec<f64>,
    shape: Vec<usize>,
}

impl Rows {
    fn of(tensor: &Tensor) -> Rows {
        Rows { values: tensor.to_f64(), shape: tensor.shape().to_vec() }
    }

    fn count(&self) -> usize {
        self.shape[self.shape.len() - 2]
    }

    /// Row `i` of the matrix that broadcasts to `batch`.
    fn row(&self, batch: &[usize], i: usize) -> &[f64] {
        let (sizes, matrix) = self.shape.split_at(self.shape.len() - 2);
        let batch = batch[batch.len() - sizes.len()..].iter().zip(sizes);
        let which = batch.fold(0, |which, (&i, &size)| which * size + if size == 1 { 0 } else { i });
        let start = (which * matrix[0] + i) * matrix[1];
        &self.values[start..start + matrix[1]]
    }
}

/// The row of the result at `at`.
fn one_row(
    score: &Region,
    operands: &[&Tensor],
    [q, k, v]: [&Rows; 3],
    at: &[usize],
    row: &mut [f64],
) -> Result<(), OpError> {
    let (batch, i) = (&at[..at.len() - 1], at[at.len() - 1]);
    let query = q.row(batch, i);
    let scores: Vec<f64> = (0..k.count())
        .map(|j| {
            let raw: f64 = query.iter().zip(k.row(batch, j)).map(|(a, b)| a * b).sum();
            let at = at.iter().chain([&j]).map(|&i| i as i64).collect();
            let mut names = Place { number: Scalar::from_f64(DType::F32, raw), at, operands };
            Ok(eval(score.body(), &mut names)?.to_f64())
        })
        .collect::<Result<_, OpError>>()?;
    let larger = |a: f64, b: &f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(*b) };
    let most = scores.iter().fold(f64::NEG_INFINITY, larger);
    let weights: Vec<f64> = scores.iter().map(|t| (t - most).exp()).collect();
    let total: f64 = weights.iter().sum();
    for (d, y) in row.iter_mut().enumerate() {
        let sum: f64 = weights.iter().enumerate().map(|(j, weight)| weight * v.row(batch, j)[d]).sum();
        *y = sum / total;
    }
    Ok(())
}

/// What the names of a region stand for.
struct Place<'a> {
    number: Scalar,
    at: Vec<i64>,
    operands: &'a [&'a Tensor],
}

impl Names for Place<'_> {
    type Error = OpError;

    fn index(&mut self, dim: &Dim) -> Result<i64, OpError> {
        let known = dim.eval(&|symbol| self.at.get(Region::axis_number(symbol)?).copied());
        known.ok_or(OpError::Attribute { key: SCORE.name, why: "a size that no input of the graph fixes" })
    }

    fn load(&mut self, source: &Symbol, at: &[i64]) -> Result<Scalar, OpError> {
        let tensor = operand_number(source).and_then(|n| self.operands.get(n));
        let inside = |tensor: &&Tensor| {
            let mut sizes = at.iter().zip(tensor.shape());
            sizes.all(|(&i, &size)| usize::try_from(i).is_ok_and(|i| i < size))
        };
        let at: Vec<usize> = at.iter().map(|&i| i.max(0) as usize).collect();
        match tensor.copied().filter(inside) {
            Some(tensor) => Ok(tensor.get(tensor.position(&at))),
            None => Err(OpError::Attribute { key: SCORE.name, why: "it loads an element that is not there" }),
        }
    }

    fn scalar(&mut self, _: &Symbol) -> Result<Scalar, OpError> {
        Ok(self.number)
    }

    fn enter(&mut self, _: &Symbol, _: i64) {}
}

/// All scores, the region as ops on them, and a softmax.
fn as_ops(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Vec<Value>, OpError> {
    let turned = swap_last_two(b, x[1])?;
    let raw = b.op(&MATMUL, &[x[0], turned])?;
    let clash = |(left, right)| OpError::Size { what: "batch axes do not broadcast", left, right };
    let (scores, values) = (b.ty(raw).shape.clone(), b.ty(x[2]).shape.clone());
    let (batch, last) = scores.split_at(scores.len() - 2);
    let batch = ir::types::broadcast(batch, &values[..values.len() - 2]).map_err(clash)?;
    let raw = broadcast(b, raw, [&batch, last].concat())?;
    let score = region::as_ops(b, &attrs.get(SCORE), raw, x)?;
    let weights = b.op_with(&SOFTMAX, &[score], [norm::AXIS.is(-1)])?;
    let sum = b.op(&MATMUL, &[weights, x[2]])?;
    let (keys, one) = (last[1].clone(), Dim::constant(1));
    if is_nonnegative(&(keys.clone() - one.clone())) {
        return Ok(vec![sum]);
    }
    // Of no keys, nothing by nothing.
    let some = size(b, DType::F32, &keys.smaller(&one))?;
    Ok(vec![b.op(&DIV, &[sum, some])?])
}
