//! `seat(ids)[s] = #{r before s : ids[r] = ids[s]}`: how many before it have the same id, and −1 for an id that is none
//! of `0..count`.
//!
//! Before is by the axes in the order `by`, the outermost first: all first choices of tokens before all second ones, say.
//! Shapes: `ids: […]`, `i32 or i64`; the result is `i64` of the same sizes. Errors: [`OpError::DType`],
//! [`OpError::Attribute`] for axes that are not each there once. Source: the seats of experts of limited capacity
//! (Lepikhin et al. 2020, arXiv 2006.16668). Rules make it; no ONNX op is imported as one.

use ir::attr::{Key, key};
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, KernelKind, Stmt};
use ir::op::{Eval, Infer, OpError, Semantics};
use ir::scalar::Binary;
use ir::tensor::for_each_index;
use ir::{DType, Dim, OpDef, Scalar, Symbol, Tensor, TensorType};

use crate::index::want_indices;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::eq::EQ;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::onnx::export::{Body, ToOnnx, function};
use crate::order::cumsum::CUMSUM;
use crate::order::prefix;
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::reference;
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::transpose::transpose;
use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::Value;

/// The place of each among those with its id.
pub static SEAT: OpDef = OpDef::new("seat", &["ids"], &Seat).attrs(&[COUNT.spec(), BY.spec()]);

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Ops(as_ops));

/// How many ids there are.
pub const COUNT: Key<Dim> = key("count");

/// The axes, the outermost first.
pub const BY: Key<Vec<i64>> = key("by");

/// The axes by which elements of such a rank come one after the other.
fn axes(by: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    let axes: Vec<usize> = by.iter().filter_map(|&axis| usize::try_from(axis).ok()).collect();
    let each_once = (0..rank).all(|axis| axes.contains(&axis)) && axes.len() == rank && by.len() == rank;
    let refused = OpError::Attribute { key: BY.name, why: "it does not name each axis once" };
    if each_once { Ok(axes) } else { Err(refused) }
}

/// The index of an element from its digits along these axes.
fn index<T: Clone>(axes: &[usize], digits: &[T]) -> Vec<T> {
    let digit = |axis: usize| axes.iter().position(|&by| by == axis).map(|place| digits[place].clone());
    (0..axes.len()).map(|axis| digit(axis).expect("each axis is there once")).collect()
}

struct Seat;

impl Semantics for Seat {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let ids = cx.operands[0];
        want_indices("ids", ids)?;
        axes(&cx.attrs.get(BY), ids.rank())?;
        Ok(vec![ids.with_dtype(DType::I64)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let count = reference::numbers(COUNT.name, &[cx.attrs.get(COUNT)])?[0];
        let mut taken = vec![0; usize::try_from(count).unwrap_or(0)];
        let ids = cx.operands[0];
        let mut seats = Tensor::splat(Scalar::from_i64(dtype, -1), &shape);
        let axes = axes(&cx.attrs.get(BY), shape.len())?;
        let sizes: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
        for_each_index(&sizes, |digits| {
            let at = seats.position(&index(&axes, digits));
            let own = usize::try_from(ids.get(at).to_i64()).ok().and_then(|id| taken.get_mut(id));
            if let Some(own) = own {
                seats.set(at, Scalar::from_i64(dtype, std::mem::replace(own, *own + 1)));
            }
        });
        Ok(vec![seats])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (count, shape) = (cx.attrs.get(COUNT), cx.operands[0].shape.clone());
        let axes = axes(&cx.attrs.get(BY), shape.len()).ok()?;
        let sizes: Vec<Dim> = axes.iter().map(|&axis| shape[axis].clone()).collect();
        let taken = cx.scratch(TensorType::new(DType::I64, [count.clone()]));
        let [zero, one] = [0, 1].map(|number| Expr::from(Dim::constant(number)));
        let store =
            |target: &Symbol, at: Vec<Expr>, value: Expr| Stmt::Store { target: target.clone(), at, value };
        let mut body = cx.each_index(std::slice::from_ref(&count), |_, id| {
            vec![store(&taken, vec![(&id[0]).into()], zero.clone())]
        });
        body.extend(cx.each_index(&sizes, |cx, digits| {
            let at: Vec<Expr> = index(&axes, digits).iter().map(Expr::from).collect();
            let (name, id) = (Symbol::new("seat.id"), Expr::var(Symbol::new("seat.id"), DType::I64));
            let own = Expr::load(taken.clone(), DType::I64, [id.clone()]);
            let least = Expr::binary(Binary::Le, zero, id.clone());
            let known = Expr::binary(Binary::And, least, id.clone().less(Expr::from(&count)));
            let result = Lower::result_name(0);
            let then = vec![store(&result, at.clone(), own.clone()), store(&taken, vec![id], own + one)];
            vec![
                Stmt::Let { name, value: cx.load(0, at.clone()).cast(DType::I64) },
                store(&result, at, Expr::from(Dim::constant(-1))),
                Stmt::If { cond: known, then },
            ]
        }));
        cx.loops(KernelKind::Scan, body)
    }
}

/// Prefix sums of the ids, one-hot.
fn as_ops(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Vec<Value>, OpError> {
    let (by, count) = (attrs.get(BY), attrs.get(COUNT));
    let ordered = transpose(b, x[0], by.clone())?;
    let ordered = convert(b, ordered, DType::I64)?;
    let shape = b.ty(ordered).shape.clone();
    let column = reshape(b, ordered, vec![shape.iter().cloned().product(), Dim::constant(1)])?;
    let ids = iota(b, count, DType::I64)?;
    let is_own = b.op(&EQ, &[column, ids])?;
    let is_own = convert(b, is_own, DType::I64)?;
    let before = b.op_with(&CUMSUM, &[is_own], [prefix::AXIS.is(0), prefix::EXCLUSIVE.is(true)])?;
    let own = b.op(&MUL, &[before, is_own])?;
    let (seats, known) =
        (reduce(b, &REDUCE_SUM, own, &[1], false)?, reduce(b, &REDUCE_SUM, is_own, &[1], false)?);
    let one = b.scalar(DType::I64, 1.0);
    let behind = b.op(&ADD, &[seats, known])?;
    let seats = b.op(&SUB, &[behind, one])?;
    let seats = reshape(b, seats, shape)?;
    let back = (0..by.len() as i64).map(|axis| by.iter().position(|&by| by == axis).unwrap_or(0) as i64);
    Ok(vec![transpose(b, seats, back.collect())?])
}
