//! `nonzero(x) = indices, count`: the index of every element that is not zero, in row-major order.
//!
//! Shapes: `x` of any type and shape; `indices: i64[rank, elements]`, of which the first `count` columns are indices
//! and the others 0; `count: i64[]`. NaN is not zero. Errors: none. Source: ONNX NonZero, opset 13, whose result has
//! the first `count` columns only.

use ir::build::Build;
use ir::dim::Symbol;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, KernelKind, Stmt};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes};
use ir::tensor::for_each_index;
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType};

use crate::flow::as_size::as_size;
use crate::onnx::export::{Body, Emit, ToOnnx, function};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reference;
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::reshape::reshape;
use crate::shape::slice::slice_axis;

/// The indices of what is not zero, and how many there are.
pub static NONZERO: OpDef = OpDef::new("nonzero", &["x"], &NonZero);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("NonZero", import), by("Compress", import_compress)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = function(Body::Nodes(to_onnx));

struct NonZero;

fn index(i: usize) -> Scalar {
    Scalar::from_i64(DType::I64, i as i64)
}

impl Semantics for NonZero {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let x = cx.operands[0];
        cx.want_arithmetic(0, "x")?;
        let indices = TensorType::new(DType::I64, [Dim::from(x.rank() as i64), x.elements()]);
        Ok(vec![indices, TensorType::scalar(DType::I64)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (_, shape) = reference::result(self, cx)?;
        let x = cx.operands[0];
        let mut indices = Tensor::splat(index(0), &shape);
        let mut count = 0;
        for_each_index(x.shape(), |at| {
            if x.at(at).to_bool() {
                for (axis, &i) in at.iter().enumerate() {
                    indices.set(indices.position(&[axis, count]), index(i));
                }
                count += 1;
            }
        });
        Ok(vec![indices, Tensor::scalar(index(count))])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (name, x) = (Symbol::new("nonzero.count"), cx.operands[0]);
        let count = Expr::var(name.clone(), DType::I64);
        let store = |to: usize, at: Vec<Expr>, value: Expr| {
            let target = Lower::result_name(to);
            Stmt::Store { target, at, value }
        };
        let zero = Expr::from(Dim::constant(0));
        let all = cx.results[0].shape.clone();
        let mut body =
            cx.each_index(&all, |_, at| vec![store(0, at.iter().map(Expr::from).collect(), zero.clone())]);
        body.push(Stmt::Var { name: name.clone(), init: zero });
        body.extend(cx.each_index(&x.shape, |cx, at| {
            let mut then: Vec<Stmt> = at
                .iter()
                .enumerate()
                .map(|(axis, i)| store(0, vec![Dim::from(axis as i64).into(), count.clone()], i.into()))
                .collect();
            then.push(Stmt::Set { name, value: count.clone() + Expr::from(Dim::constant(1)) });
            let cond = cx.load(0, at.iter().map(Expr::from)).cast(DType::Bool);
            vec![Stmt::If { cond, then }]
        }));
        body.push(store(1, vec![], count));
        cx.loops(KernelKind::Data, body)
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        reference::of_numbers(self, cx)
    }
}

/// The indices that say something, and how many there are, as a size.
pub(crate) fn indices(node: &NodeView, b: &mut Build, x: Value) -> Result<(Value, Dim), OpError> {
    let elements = b.ty(x).elements();
    let results = b.ops_with(&NONZERO, &[x], [])?;
    let count = as_size(b, results[1], node.op_type, Some(elements))?;
    Ok((slice_axis(b, results[0], 1, Dim::constant(0), count.clone())?, count))
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    Ok(vec![indices(node, b, x)?.0])
}

/// The slices of `x` along `axis` (of the flattened `x` without one) whose entry in the condition holds. A condition
/// may be shorter than the axis.
fn import_compress(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let mut x = node.input(0)?;
    let axis = match node.int("axis")? {
        Some(axis) => axis,
        None => {
            let elements = b.ty(x).elements();
            x = reshape(b, x, vec![elements])?;
            0
        }
    };
    let (chosen, count) = indices(node, b, node.input(1)?)?;
    let chosen = reshape(b, chosen, vec![count])?;
    Ok(vec![b.op_with(&GATHER, &[x, chosen], [AXIS.is(axis)])?])
}

/// The indices that say something, with zeros behind them, and their number.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let x = e.cast(e.x(0), e.ty(0).dtype, DType::Bool);
    let found = e.node("NonZero", &[x]);
    let shape = e.node_with("Shape", &[&found], vec![("start", NodeAttr::Int(1))]);
    let (elements, none) = (e.sizes(&[e.ty(0).elements()]), e.ints(&[0]));
    let rest = e.node("Sub", &[&elements, &shape]);
    let zeros = e.ints(&[0, 0, 0]);
    let amounts = e.node_with("Concat", &[zeros, rest], vec![("axis", NodeAttr::Int(0))]);
    let zero = e.number(DType::I64, 0.0);
    Some(vec![e.node("Pad", &[found, amounts, zero]), e.node("Squeeze", &[shape, none])])
}
