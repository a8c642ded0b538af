//! `put(x, rows)`: `x`, but for `y[…, at + i, …] = rows[…, i, …]` along `axis`.
//!
//! Shapes: `x` and `rows` of one type, and of equal sizes but for `axis`; `at + rows[axis] ≤ x[axis]`, as far as that is not
//! known, checked when the model runs. The result has the type of `x`. Errors: [`OpError::DTypes`], [`OpError::Rank`],
//! [`OpError::Size`], [`OpError::Axis`]. Source: caches of keys and values, to which a step of decoding adds rows.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::dim::Condition;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, KernelKind, Stmt};
use ir::op::{Eval, Infer, OpError, Requirement, Semantics, normalize_axis};
use ir::{Dim, OpDef, Tensor, TensorType};

use crate::onnx::Import;
use crate::onnx::export::{Body, ToOnnx, function};
use crate::reference;
use crate::shape::concat::{self, CONCAT};
use crate::shape::slice::slice_axis;

/// Rows put into an array.
pub static PUT: OpDef = OpDef::new("put", &["x", "rows"], &Put).attrs(&[AXIS.spec(), AT.spec()]);

/// States need it, and no ONNX op is it.
pub static ONNX: &[Import] = &[];

/// What it becomes: what is before the rows, the rows, what is behind them.
pub const TO_ONNX: ToOnnx = function(Body::Ops(parts));

/// The axis along which rows are counted.
pub const AXIS: Key<i64> = key("axis");

/// The place of the first row.
pub const AT: Key<Dim> = key("at");

struct Put;

/// The axis, and the condition that the rows fit.
fn fits(cx: &Infer) -> Result<(usize, Condition), OpError> {
    let (x, rows) = (cx.operands[0], cx.operands[1]);
    let axis = normalize_axis(cx.attrs.get(AXIS), x.rank())?;
    let end = cx.attrs.get(AT) + rows.shape[axis].clone();
    Ok((axis, Condition::at_most(end, x.shape[axis].clone())))
}

impl Semantics for Put {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        cx.common_dtype()?;
        let (x, rows) = (cx.operands[0], cx.operands[1]);
        cx.want_rank(1, "rows", x.rank())?;
        let (axis, condition) = fits(cx)?;
        for (i, (left, right)) in x.shape.iter().zip(&rows.shape).enumerate() {
            if i != axis && left != right {
                let (left, right) = (left.clone(), right.clone());
                return Err(OpError::Size { what: "an array and rows for it", left, right });
            }
        }
        match condition.is_refuted() {
            true => Err(OpError::Size { what: "rows end", left: condition.left, right: condition.right }),
            false => Ok(vec![x.clone()]),
        }
    }

    fn requires(&self, cx: &Infer) -> Vec<Requirement> {
        let what = "the rows that are put into an array end inside it (a state has room for them)";
        fits(cx).into_iter().map(|(_, condition)| Requirement { condition, what }).collect()
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, rows) = (cx.operands[0], cx.operands[1]);
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len())?;
        let first = cx.attrs.get(AT).as_const().and_then(|at| usize::try_from(at).ok());
        let first = first.ok_or(OpError::Attribute { key: AT.name, why: "it must be a place" })?;
        let element = |at: &[usize]| match at[axis].checked_sub(first) {
            Some(row) if row < rows.shape()[axis] => {
                let mut at = at.to_vec();
                at[axis] = row;
                rows.at(&at)
            }
            _ => x.at(at),
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    /// All of `x`, then the rows: where `x` and the result are one array, the former is nothing.
    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (x, rows) = (cx.operands[0].clone(), cx.operands[1].clone());
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank()).ok()?;
        let first = cx.attrs.get(AT);
        let store = |at: &[Dim], value| {
            let at = at.iter().map(Expr::from).collect();
            vec![Stmt::Store { target: Lower::result_name(0), at, value }]
        };
        let mut body = cx.each_index(&x.shape, |cx, at| store(at, cx.load(0, at.iter().map(Expr::from))));
        body.extend(cx.each_index(&rows.shape, |cx, at| {
            let row = cx.load(1, at.iter().map(Expr::from));
            let mut at = at.to_vec();
            at[axis] = at[axis].clone() + first;
            store(&at, row)
        }));
        cx.loops(KernelKind::Data, body)
    }
}

fn parts(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Vec<Value>, OpError> {
    let axis = normalize_axis(attrs.get(AXIS), b.ty(x[0]).rank())?;
    let (first, rows) = (attrs.get(AT), b.ty(x[1]).shape[axis].clone());
    let end = first.clone() + rows;
    let left = b.ty(x[0]).shape[axis].clone() - end.clone();
    let before = slice_axis(b, x[0], axis, Dim::constant(0), first)?;
    let behind = slice_axis(b, x[0], axis, end, left)?;
    Ok(vec![b.op_with(&CONCAT, &[before, x[1], behind], [concat::AXIS.is(axis as i64)])?])
}

/// `rows` in `x`, from `at` on along `axis`.
///
/// # Errors
/// [`OpError`] if they do not fit.
pub fn put(b: &mut Build, x: Value, rows: Value, axis: usize, at: Dim) -> Result<Value, OpError> {
    b.op_with(&PUT, &[x, rows], [AXIS.is(axis as i64), AT.is(at)])
}
