//! `route(scores) = values, ids`: the `k` largest scores of each row in descending order, and where they stand; what
//! `topk` gives, as expressions.
//!
//! Each of `k` passes over a row finds the largest score that none before it took, and the first place of it. So
//! whatever makes the scores and whatever becomes of the values can be one kernel with it. Shapes: `scores: […, E]`,
//! `f32`, `E` a number from `k` to [`LONGEST`]; `values: […, k]`, `ids: i64` of that shape. Errors:
//! [`OpError::RankAtLeast`], [`OpError::DType`], [`OpError::Size`], [`OpError::Attribute`]. Source: the router of
//! Shazeer et al. 2017 (arXiv 1701.06538). A rule makes it; no ONNX op is imported as one.

use ir::attr::{Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, KernelKind, Reduce};
use ir::op::{Eval, Infer, OpError, Semantics};
use ir::scalar::Binary;
use ir::{DType, Dim, OpDef, Symbol, Tensor, TensorType};

use crate::onnx::export::{Body, ToOnnx, function};
use crate::order::topk::{first, topk};
use ir::attr::Attrs;

/// The largest scores of each row, and where they stand.
pub static ROUTE: OpDef = OpDef::new("route", &["scores"], &Route).attrs(&[K.spec()]);

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Ops(as_ops));

/// How many scores are taken of a row: 1 to [`MOST_TAKEN`].
pub const K: Key<i64> = key("k");

/// Most scores that are taken: each is a pass over the row.
pub const MOST_TAKEN: i64 = 16;

/// Longest row: what each pass leaves of it is kept. Every place in it is an `f32`.
pub const LONGEST: i64 = 1 << 12;

struct Route;

impl Semantics for Route {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (scores, k) = (cx.operands[0], cx.attrs.get(K));
        if scores.dtype != DType::F32 {
            return Err(OpError::DType { operand: "scores", expected: "f32", found: scores.dtype });
        }
        if !(1..=MOST_TAKEN).contains(&k) {
            return Err(OpError::Attribute { key: K.name, why: "it is not from 1 to 16" });
        }
        let Some((experts, rows)) = scores.shape.split_last() else {
            return Err(OpError::RankAtLeast { operand: "scores", least: 1, found: 0 });
        };
        if experts.as_const().is_none_or(|experts| !(k..=LONGEST).contains(&experts)) {
            let what = "a row has a known number of scores, as many as are taken, and at most 4096";
            return Err(OpError::Size { what, left: experts.clone(), right: Dim::constant(k) });
        }
        let values = TensorType::new(DType::F32, rows.iter().cloned().chain([Dim::constant(k)]));
        let ids = values.with_dtype(DType::I64);
        Ok(vec![values, ids])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let scores = cx.operands[0];
        let axis = scores.shape().len() - 1;
        let k = usize::try_from(cx.attrs.get(K)).unwrap_or(0);
        Ok(first(scores, axis, k, true).into())
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (experts, rows) = cx.operands[0].shape.split_last()?;
        let [zero, last] = [Dim::constant(0), experts.clone() - Dim::constant(1)].map(Expr::from);
        let mut left = Lower::operand_name(0);
        let (mut values, mut places) = (Vec::new(), Vec::new());
        for taken in 1..=cx.attrs.get(K) {
            let place = place_of_largest(cx, &left, &places);
            values.push(cx.stage(rows, |cx, at| {
                // It is a place; that it is one can be seen, too.
                let index = Expr::binary(Binary::Max, element(&place, at).cast(DType::I64), zero.clone());
                let index = Expr::binary(Binary::Min, index, last.clone());
                cx.load(0, at.iter().map(Expr::from).chain([index]))
            }));
            if taken < cx.attrs.get(K) {
                left = without(cx, &left, &place);
            }
            places.push(place);
        }
        let shape = cx.results[0].shape.clone();
        cx.stage(&shape, |_, at| one_of(&values, at));
        cx.stage(&shape, |_, at| one_of(&places, at).cast(DType::I64));
        cx.finish()
    }

    fn kind(&self) -> Option<KernelKind> {
        Some(KernelKind::Route)
    }
}

/// The first place of the largest of the scores that are `left` of each row, or of a NaN if there is one, not counting
/// the places that are `taken`. Places are `f32` here, as scores are.
fn place_of_largest(cx: &mut Lower, left: &Symbol, taken: &[Symbol]) -> Symbol {
    let Some((experts, rows)) = cx.operands[0].shape.split_last() else { return left.clone() };
    let score = |at: &[Dim], e: &Dim| element(left, &[at, std::slice::from_ref(e)].concat());
    let largest = cx.stage(rows, |cx, at| cx.fold(Reduce::Max, experts, |_, e| score(at, e)));
    cx.stage(rows, |cx, at| {
        cx.fold(Reduce::Min, experts, |_, e| {
            let score = score(at, e);
            let is_largest = score.clone().equals(element(&largest, at));
            let is_nan = Expr::binary(Binary::Ne, score.clone(), score);
            let is_it = Expr::binary(Binary::Or, is_largest, is_nan);
            let place = Expr::from(e).cast(DType::F32);
            // What is left may be −∞ everywhere, as are the places that are taken.
            let differs = |taken: &Symbol| Expr::binary(Binary::Ne, place.clone(), element(taken, at));
            let is_it = taken.iter().map(differs).fold(is_it, Expr::and);
            is_it.select(place.clone(), Expr::from(experts).cast(DType::F32))
        })
    })
}

/// The scores, with −∞ at a place of each row.
fn without(cx: &mut Lower, scores: &Symbol, place: &Symbol) -> Symbol {
    let shape = cx.operands[0].shape.clone();
    cx.stage(&shape, |_, at| {
        let (e, row) = at.split_last().expect("bug: scores have an axis of experts");
        let taken = Expr::from(e).cast(DType::F32).equals(element(place, row));
        taken.select(Expr::number(DType::F32, f64::NEG_INFINITY), element(scores, at))
    })
}

fn element(array: &Symbol, at: &[Dim]) -> Expr {
    Expr::load(array.clone(), DType::F32, at.iter().map(Expr::from))
}

/// The element of the array that the last index counts.
fn one_of(arrays: &[Symbol], at: &[Dim]) -> Expr {
    let (which, row) = at.split_last().expect("bug: a result has an axis of what is taken");
    let each = arrays.iter().enumerate().rev().map(|(number, array)| (number, element(array, row)));
    let chosen = each.reduce(|(_, rest), (number, this)| {
        let here = Expr::from(which).equals(Expr::from(Dim::constant(number as i64)));
        (number, here.select(this, rest))
    });
    chosen.expect("bug: at least one score is taken").1
}

/// The `k` largest scores of each row, in order, and where they stand.
///
/// # Errors
/// What the op says of its operand.
pub fn route(b: &mut Build, scores: Value, k: i64) -> Result<[Value; 2], OpError> {
    let results = b.ops_with(&ROUTE, &[scores], [K.is(k)])?;
    Ok([results[0], results[1]])
}

fn as_ops(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Vec<Value>, OpError> {
    Ok(topk(b, x[0], -1, attrs.get(K).into(), true)?.to_vec())
}
