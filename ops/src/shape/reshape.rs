//! `reshape(x)`: the same elements in row-major order, in another shape.
//!
//! Shapes: `shape` has as many elements as `x`. Errors: [`OpError::Size`] if that is not known to hold; with `checked`
//! if it cannot hold, and when the model runs.
//! Source: ONNX Reshape, opset 25; Flatten, Squeeze, Unsqueeze; onnxruntime, contrib operators, ExpandDims.

use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::dim::Condition;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Requirement, Semantics, Sizes, normalize_axis};
use ir::types::reindex;
use ir::{DType, Dim, OpDef, Tensor, TensorType, Weight};

use crate::flow::as_size::as_size;
use crate::math::div::DIV;
use crate::math::eq::EQ;
use crate::math::max::MAX;
use crate::math::mul::MUL;
use crate::math::r#where::WHERE;
use crate::onnx::export::{Body, Emit, ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by, since};
use crate::reference;
use crate::shape::run_time;
use crate::shape::size::size;

/// The same elements in another shape.
pub static RESHAPE: OpDef =
    OpDef::new("reshape", &["x"], &Reshape).attrs(&[SHAPE.spec(), CHECKED.or(|| Attr::Bool(false))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("Reshape", |node, b| {
        let shape = node.ints("shape")?;
        let shape = node.required("shape", shape)?.into_iter().map(Dim::constant).collect();
        import_to(node, b, shape, false)
    }),
    since("Reshape", 5, import),
    by("Flatten", import_flatten),
    by("Squeeze", |node, b| import_squeeze(node.ints("axes")?, node, b)),
    since("Squeeze", 13, |node, b| match computed_axes(node, b) {
        Some(axes) => squeeze_at_run_time(node, b, axes),
        None => import_squeeze(node.const_ints(b, 1, "axes")?, node, b),
    }),
    by("Unsqueeze", |node, b| import_unsqueeze(node.ints("axes")?, node, b)),
    since("Unsqueeze", 13, |node, b| match computed_axes(node, b) {
        Some(axes) => unsqueeze_at_run_time(node, b, axes),
        None => import_unsqueeze(node.const_ints(b, 1, "axes")?, node, b),
    }),
    by("ExpandDims", |node, b| import_unsqueeze(node.const_ints(b, 1, "axis")?, node, b))
        .in_domain("com.microsoft"),
];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx = nodes(to_onnx).or(Body::Nodes(|e| Some(vec![reshaped(e, &e.attrs.get(SHAPE))])));

/// The sizes of the result.
pub const SHAPE: Key<Vec<Dim>> = key("shape");

/// Is it left to a check when the model runs that there are as many elements?
pub const CHECKED: Key<bool> = key("checked");

struct Reshape;

impl Semantics for Reshape {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, shape) = (cx.operands[0], cx.attrs.get(SHAPE));
        let result = x.with_shape(shape);
        let (left, right) = (x.elements(), result.elements());
        let may_agree = cx.attrs.get(CHECKED) && !Condition::equal(left.clone(), right.clone()).is_refuted();
        if left != right && !may_agree {
            return Err(OpError::Size { what: "number of elements", left, right });
        }
        Ok(vec![result])
    }

    fn requires(&self, cx: &Infer) -> Vec<Requirement> {
        let to: Dim = cx.attrs.get(SHAPE).into_iter().product();
        let condition = Condition::equal(cx.operands[0].elements(), to);
        vec![Requirement { condition, what: "a reshape keeps the number of elements" }]
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (_, shape) = reference::result(self, cx)?;
        let x = cx.operands[0];
        let same = x.reshaped(&shape).ok_or_else(|| OpError::Size {
            what: "number of elements",
            left: x.elements().into(),
            right: shape.iter().product::<usize>().into(),
        })?;
        Ok(vec![same])
    }

    fn rearranged(&self, x: &[&Weight], attrs: &Attrs) -> Option<Weight> {
        let [x] = x else { return None };
        let size = |size: &Dim| usize::try_from(size.as_const()?).ok();
        let shape: Vec<usize> = attrs.get(SHAPE).iter().map(size).collect::<Option<_>>()?;
        x.reshaped(x.name(), &shape)
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (from, to) = (cx.operands[0].shape.clone(), cx.results[0].shape.clone());
        cx.each(|cx, at| cx.load(0, reindex(&from, &to, at).into_iter().map(Into::into)))
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        cx.operands[0].clone()
    }

    fn is_identity(&self, _: &Attrs) -> bool {
        true
    }

    fn after_itself(&self, outer: &Attrs, inner: &Attrs) -> Option<Attrs> {
        // What the inner one checks would be lost.
        (!inner.get(CHECKED)).then(|| outer.clone())
    }
}

/// `x` in this shape: itself, if that is its shape.
///
/// # Errors
/// [`OpError::Size`].
pub fn reshape(b: &mut Build, x: Value, shape: Vec<Dim>) -> Result<Value, OpError> {
    if b.ty(x).shape == shape { Ok(x) } else { b.op_with(&RESHAPE, &[x], [SHAPE.is(shape)]) }
}

/// As [`reshape`], where it is checked when the model runs that there are as many elements, if that is not known.
///
/// # Errors
/// [`OpError::Size`] if it cannot be.
pub fn reshape_checked(b: &mut Build, x: Value, shape: Vec<Dim>) -> Result<Value, OpError> {
    let ty = b.ty(x).clone();
    if ty.elements() == shape.iter().cloned().product() {
        return reshape(b, x, shape);
    }
    b.op_with(&RESHAPE, &[x], [SHAPE.is(shape), CHECKED.is(true)])
}

/// In lenient mode, a mismatch is left to the check.
fn shaped(node: &NodeView, b: &mut Build, x: Value, shape: Vec<Dim>) -> Result<Vec<Value>, ImportError> {
    Ok(vec![if node.is_lenient() { reshape_checked(b, x, shape)? } else { reshape(b, x, shape)? }])
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let keep_zero = node.flag("allowzero", false)?;
    if node.is_raw(b, 1) {
        return import_run_time(node, b, keep_zero);
    }
    let shape = node.sizes(b, 1, "shape")?.ok_or(ImportError::MissingInput { index: 1 })?;
    import_to(node, b, shape, keep_zero)
}

/// In ONNX, `-1` stands for what is left and, unless it is kept, `0` for the size of `x` there.
fn import_to(
    node: &NodeView,
    b: &mut Build,
    shape: Vec<Dim>,
    keep_zero: bool,
) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let from = b.ty(x).shape.clone();
    let mut shape: Vec<Dim> = shape
        .into_iter()
        .enumerate()
        .map(
            |(axis, size)| {
                if size.is(0) && !keep_zero { from.get(axis).cloned().unwrap_or(size) } else { size }
            },
        )
        .collect();
    if let Some(hole) = shape.iter().position(|size| size.is(-1)) {
        shape[hole] = Dim::constant(1);
        let total: Dim = from.into_iter().product();
        let rest: Dim = shape.iter().cloned().product();
        shape[hole] = match total.exact_div(&rest) {
            Some(size) => size,
            None if total.is(0) => Dim::constant(0),
            None if rest.as_const().is_none_or(|rest| rest > 0) => {
                // Whether it divides is checked when the model runs.
                shape[hole] = total.floor_div(&Dim::larger(&rest, &Dim::constant(1)));
                return Ok(vec![reshape_checked(b, x, shape)?]);
            }
            None => {
                return Err(ImportError::Unsupported {
                    what: format!("a reshape of {total} elements into rows of {rest}"),
                    help: "it is not known to divide; fix the symbolic sizes with --dim".to_owned(),
                });
            }
        };
    }
    if let Some(size) = shape.iter().find(|size| size.as_const().is_some_and(|size| size < 0)) {
        return Err(ImportError::value("shape", size, "sizes of 0 and more, and one -1"));
    }
    shaped(node, b, x, shape)
}

/// The same, where the numbers are known only when the model runs.
fn import_run_time(node: &NodeView, b: &mut Build, keep_zero: bool) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let from = b.ty(x).shape.clone();
    let [zero, one, hole] = [0.0, 1.0, -1.0].map(|value| b.scalar(DType::I64, value));
    let mut given = node.elements(b, 1, "shape")?;
    if !keep_zero {
        for (value, size_here) in given.iter_mut().zip(&from) {
            let (kept, is_zero) = (size(b, DType::I64, size_here)?, b.op(&EQ, &[*value, zero])?);
            *value = b.op(&WHERE, &[is_zero, kept, *value])?;
        }
    }
    let mut rest = one;
    for &value in &given {
        let is_hole = b.op(&EQ, &[value, hole])?;
        let factor = b.op(&WHERE, &[is_hole, one, value])?;
        rest = b.op(&MUL, &[rest, factor])?;
    }
    let total = size(b, DType::I64, &from.iter().cloned().product())?;
    let rest = b.op(&MAX, &[rest, one])?;
    let filling = b.op(&DIV, &[total, rest])?;
    let mut shape = Vec::with_capacity(given.len());
    for value in given {
        let is_hole = b.op(&EQ, &[value, hole])?;
        let value = b.op(&WHERE, &[is_hole, filling, value])?;
        shape.push(as_size(b, value, node.op_type, None)?);
    }
    Ok(vec![reshape_checked(b, x, shape)?])
}

/// The axes before `axis` become one, and the others become one.
fn import_flatten(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let shape = b.ty(x).shape.clone();
    let axis = node.int_or("axis", 1)?;
    let rank = shape.len();
    let at = if axis == rank as i64 { rank } else { normalize_axis(axis, rank)? };
    let (outer, inner) = shape.split_at(at);
    let shape = [outer, inner].map(|sizes| sizes.iter().cloned().product()).to_vec();
    Ok(vec![reshape(b, x, shape)?])
}

/// Without axes, every size that is known to be 1 goes.
fn import_squeeze(axes: Option<Vec<i64>>, node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let shape = b.ty(x).shape.clone();
    let gone: Vec<usize> = match axes {
        None => (0..shape.len()).filter(|&axis| shape[axis].is(1)).collect(),
        Some(axes) => axes.iter().map(|&axis| normalize_axis(axis, shape.len())).collect::<Result<_, _>>()?,
    };
    if let Some(&axis) = gone.iter().find(|&&axis| !node.is_lenient() && !shape[axis].is(1)) {
        let (left, right) = (shape[axis].clone(), Dim::constant(1));
        return Err(OpError::Size { what: "size of a squeezed axis", left, right }.into());
    }
    let kept = shape.into_iter().enumerate().filter(|(axis, _)| !gone.contains(axis));
    let kept = kept.map(|(_, size)| size).collect();
    shaped(node, b, x, kept)
}

/// The input `axes`, if what is in it is known only when the model runs.
fn computed_axes(node: &NodeView, b: &Build) -> Option<Value> {
    node.optional_input(1).filter(|_| node.known(b, 1).is_none())
}

/// How many axes there are: the rank of the result depends on it.
fn axis_count(b: &Build, axes: Value) -> Result<usize, ImportError> {
    let count = b.ty(axes).elements().as_const().and_then(|count| usize::try_from(count).ok());
    count.ok_or(ImportError::RunTimeValue { index: 1, input: "axes" })
}

/// That the axes that go have size 1 is checked with the number of elements.
fn squeeze_at_run_time(node: &NodeView, b: &mut Build, axes: Value) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let shape = b.ty(x).shape.clone();
    let count = axis_count(b, axes)?;
    let kept = shape.len().checked_sub(count).ok_or_else(|| ImportError::Attribute {
        name: "axes".to_owned(),
        why: format!("{count} axes of {}", shape.len()),
    })?;
    let named = run_time::axes(b, axes, shape, false)?;
    let shape = named.unnamed(b, kept, node.op_type)?;
    Ok(vec![reshape_checked(b, x, shape)?])
}

/// Axes count in the result.
fn unsqueeze_at_run_time(node: &NodeView, b: &mut Build, axes: Value) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let shape = b.ty(x).shape.clone();
    let rank = shape.len() + axis_count(b, axes)?;
    let named = run_time::axes(b, axes, vec![Dim::constant(1); rank], false)?;
    let shape = named.filled(b, &shape, node.op_type)?;
    Ok(vec![reshape_checked(b, x, shape)?])
}

/// Axes count in the result.
fn import_unsqueeze(
    axes: Option<Vec<i64>>,
    node: &NodeView,
    b: &mut Build,
) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let axes = node.required("axes", axes)?;
    let rank = b.ty(x).rank() + axes.len();
    let new: Vec<usize> = axes.iter().map(|&axis| normalize_axis(axis, rank)).collect::<Result<_, _>>()?;
    let mut old = b.ty(x).shape.clone().into_iter();
    let shape: Option<Vec<Dim>> =
        (0..rank).map(|axis| if new.contains(&axis) { Some(Dim::constant(1)) } else { old.next() }).collect();
    let shape = shape.ok_or_else(|| ImportError::Attribute {
        name: "axes".to_owned(),
        why: "an axis comes twice".to_owned(),
    })?;
    Ok(vec![reshape(b, x, shape)?])
}

/// In ONNX, 0 stands for the size that is there, and -1 for what is left.
fn to_onnx(e: &mut Emit) -> Option<Vec<String>> {
    let (from, mut shape) = (e.ty(0).shape.clone(), e.attrs.get(SHAPE));
    if e.attrs.get(CHECKED) {
        return None;
    }
    if shape.iter().any(|size| size.is(0)) || shape.iter().all(|size| size.as_const().is_some()) {
        return Some(vec![reshaped(e, &shape)]);
    }
    for (axis, size) in shape.iter_mut().enumerate() {
        if size.as_const().is_none() && from.get(axis) == Some(size) {
            *size = Dim::constant(0);
        }
    }
    let computed = |size: &&mut Dim| size.as_const().is_none();
    let mut left: Vec<&mut Dim> = shape.iter_mut().filter(computed).collect();
    match left.as_mut_slice() {
        [] => {}
        // Whether the other sizes are 0 together cannot be told: then nothing says what is left.
        [one] if e.attrs.get(SHAPE).iter().filter(|size| size.as_const().is_none()).count() == 1 => {
            **one = Dim::constant(-1);
        }
        _ => return Some(vec![reshaped(e, &e.attrs.get(SHAPE))]),
    }
    let shape = e.sizes(&shape);
    Some(vec![e.node("Reshape", &[e.x(0), shape])])
}

/// With all sizes as they are.
fn reshaped(e: &mut Emit, shape: &[Dim]) -> String {
    let numbers = shape.iter().all(|size| size.as_const().is_some_and(|size| size > 0));
    let shape = e.sizes(shape);
    let attributes = if numbers { vec![] } else { vec![("allowzero", NodeAttr::Int(1))] };
    e.node_with("Reshape", &[e.x(0), shape], attributes)
}
