//! `topk(x) = values, indices`: the first `k` elements along `axis` in descending order (`largest`) or in ascending
//! order, and where they stood.
//!
//! Of equal elements, the one at the lower index comes first; NaN is the largest value. Shapes: `x` of any type and of
//! at least one axis; `values` has its type, `indices: i64`, and both the shape of `x` with size `k` at `axis`. With
//! `k` the size of the axis, this sorts. A `k` that turns out to be larger than the axis gives zeros behind the last
//! element. Errors: [`OpError::Axis`], [`OpError::Size`] for a `k` that is known to be larger, [`OpError::Attribute`]
//! for one that is negative. Source: ONNX TopK, opset 11.

use ir::attr::{Attr, Key, key};
use ir::build::Build;
use ir::dim::Condition;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{KernelKind, Sort, Stmt};
use ir::op::{Eval, Infer, OpError, Requirement, Semantics, Sizes, normalize_axis};
use ir::tensor::for_each_index;
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType};

use crate::math::elementwise::is_nonnegative;
use crate::onnx::export::{Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, since};
use crate::reference;

/// The first elements in order, and where they stood.
pub static TOPK: OpDef = OpDef::new("topk", &["x"], &TopK).attrs(&[
    AXIS.or(|| Attr::Int(-1)),
    K.spec(),
    LARGEST.or(|| Attr::Bool(true)),
]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[since("TopK", 1, import_attribute), since("TopK", 10, import_operand)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx);

/// The axis along which elements are ordered; negative counts from the end.
pub const AXIS: Key<i64> = key("axis");

/// How many elements there are in the result.
pub const K: Key<Dim> = key("k");

/// Do the largest come first? Else the smallest.
pub const LARGEST: Key<bool> = key("largest");

struct TopK;

impl Semantics for TopK {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, k) = (cx.operands[0], cx.attrs.get(K));
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank())?;
        let one = Dim::constant(1);
        cx.want_arithmetic(0, "x")?;
        if is_nonnegative(&(-k.clone() - one.clone())) {
            return Err(OpError::Attribute { key: K.name, why: "it is negative" });
        }
        if is_nonnegative(&(k.clone() - x.shape[axis].clone() - one)) {
            let (what, right) = ("k is larger than the axis", x.shape[axis].clone());
            return Err(OpError::Size { what, left: k, right });
        }
        let mut values = x.clone();
        values.shape[axis] = k;
        let indices = values.with_dtype(DType::I64);
        Ok(vec![values, indices])
    }

    fn requires(&self, cx: &Infer) -> Vec<Requirement> {
        let (x, k) = (cx.operands[0], cx.attrs.get(K));
        let Ok(axis) = normalize_axis(cx.attrs.get(AXIS), x.rank()) else { return Vec::new() };
        let condition = Condition::at_most(k, x.shape[axis].clone());
        vec![Requirement { condition, what: "the axis has as many elements as are taken" }]
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (_, shape) = reference::result(self, cx)?;
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len())?;
        Ok(first(cx.operands[0], axis, shape[axis], cx.attrs.get(LARGEST)).into())
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let x = cx.operands[0];
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank()).ok()?;
        let sort = Sort {
            keys: Lower::operand_name(0),
            axis,
            descending: cx.attrs.get(LARGEST),
            values: Some(Lower::result_name(0)),
            positions: Some(Lower::result_name(1)),
            scratch: cx.scratch(Sort::scratch_type(x, axis)),
        };
        cx.loops(KernelKind::Sort, vec![Stmt::Sort(Box::new(sort))])
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        reference::of_numbers(self, cx)
    }
}

/// The reference: the first `k` elements along `axis` in order, and where they stood.
pub(crate) fn first(x: &Tensor, axis: usize, k: usize, largest: bool) -> [Tensor; 2] {
    let mut shape = x.shape().to_vec();
    shape[axis] = k;
    let mut values = Tensor::splat(Scalar::from_i64(x.dtype(), 0), &shape);
    let mut indices = Tensor::splat(Scalar::from_i64(DType::I64, 0), &shape);
    let mut rows = shape;
    rows[axis] = 1;
    for_each_index(&rows, |row| {
        let along = |i: usize| {
            let mut at = row.to_vec();
            at[axis] = i;
            at
        };
        let mut order: Vec<usize> = (0..x.shape()[axis]).collect();
        order.sort_by(|&a, &b| {
            let ascending = x.at(&along(a)).order(x.at(&along(b)));
            if largest { ascending.reverse() } else { ascending }
        });
        for (to, &from) in order.iter().take(k).enumerate() {
            let to = values.position(&along(to));
            values.set(to, x.at(&along(from)));
            indices.set(to, Scalar::from_i64(DType::I64, from as i64));
        }
    });
    [values, indices]
}

/// The `k` largest (or smallest) elements along `axis`, in order, and their indices.
///
/// # Errors
/// What `topk` says of its operand.
pub fn topk(b: &mut Build, x: Value, axis: i64, k: Dim, largest: bool) -> Result<[Value; 2], OpError> {
    let results = b.ops_with(&TOPK, &[x], [AXIS.is(axis), K.is(k), LARGEST.is(largest)])?;
    Ok([results[0], results[1]])
}

fn import_attribute(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let k = node.required("k", node.int("k")?)?;
    Ok(topk(b, node.input(0)?, node.int_or("axis", -1)?, k.into(), true)?.to_vec())
}

/// `sorted` may be unset: any order will do, also this one.
fn import_operand(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let k = node.sizes(b, 1, "K")?.and_then(|sizes| sizes.first().cloned());
    let k = k.ok_or(ImportError::MissingInput { index: 1 })?;
    node.ignore(&["sorted"]);
    Ok(topk(b, node.input(0)?, node.int_or("axis", -1)?, k, node.flag("largest", true)?)?.to_vec())
}

/// The types that it takes in ONNX and in most engines.
const TYPES: [DType; 5] = [DType::F16, DType::F32, DType::F64, DType::I32, DType::I64];

fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let own = e.ty(0).dtype;
    let taken = match own {
        _ if TYPES.contains(&own) => own,
        DType::BF16 => DType::F32,
        _ => DType::I64,
    };
    let (x, k) = (e.cast(e.x(0), own, taken), e.sizes(&[e.attrs.get(K)]));
    let how = vec![
        ("axis", NodeAttr::Int(e.attrs.get(AXIS))),
        ("largest", NodeAttr::Int(e.attrs.get(LARGEST).into())),
        ("sorted", NodeAttr::Int(1)),
    ];
    let mut results = e.nodes("TopK", &[x, k], 2, how);
    results[0] = e.cast(results[0].clone(), taken, own);
    Some(results)
}
