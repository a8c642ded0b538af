//! `reshape(x)`: the same elements in row-major order, in another shape.
//!
//! Shapes: `shape` has as many elements as `x`. Errors: [`OpError::Size`] if that is not known to hold.
//! Source: ONNX Reshape, opset 25; Flatten, Squeeze, Unsqueeze.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes, normalize_axis};
use ir::types::reindex;
use ir::{Dim, OpDef, Tensor, TensorType};

use crate::onnx::{Import, ImportError, NodeView, by, since};
use crate::reference;

/// The same elements in another shape.
pub static RESHAPE: OpDef = OpDef::new("reshape", &["x"], &Reshape).attrs(&[SHAPE.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[
    by("Reshape", import),
    by("Flatten", import_flatten),
    by("Squeeze", |node, b| import_squeeze(node.ints("axes")?, node, b)),
    since("Squeeze", 13, |node, b| import_squeeze(node.const_ints(b, 1, "axes")?, node, b)),
    by("Unsqueeze", |node, b| import_unsqueeze(node.ints("axes")?, node, b)),
    since("Unsqueeze", 13, |node, b| import_unsqueeze(node.const_ints(b, 1, "axes")?, node, b)),
];

/// The sizes of the result.
pub const SHAPE: Key<Vec<Dim>> = key("shape");

struct Reshape;

impl Semantics for Reshape {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, shape) = (cx.operands[0], cx.attrs.get(SHAPE));
        let result = x.with_shape(shape);
        let (left, right) = (x.elements(), result.elements());
        if left != right {
            return Err(OpError::Size { what: "number of elements", left, right });
        }
        Ok(vec![result])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (_, shape) = reference::result(self, cx)?;
        let same = cx.operands[0].reshaped(&shape);
        Ok(vec![same.expect("the types have the same number of elements")])
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

    fn after_itself(&self, outer: &Attrs, _: &Attrs) -> Option<Attrs> {
        Some(outer.clone())
    }
}

/// `x` in this shape: itself, if that is its shape.
///
/// # Errors
/// [`OpError::Size`].
pub fn reshape(b: &mut Build, x: Value, shape: Vec<Dim>) -> Result<Value, OpError> {
    if b.ty(x).shape == shape { Ok(x) } else { b.op_with(&RESHAPE, &[x], [SHAPE.is(shape)]) }
}

/// In ONNX, `-1` stands for what is left and, without `allowzero`, `0` for the size of `x` there.
fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let from = b.ty(x).shape.clone();
    let shape = node.sizes(b, 1, "shape")?.ok_or(ImportError::MissingInput { index: 1 })?;
    let keep_zero = node.flag("allowzero", false)?;
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
    Ok(vec![reshape(b, x, shape)?])
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
    if let Some(&axis) = gone.iter().find(|&&axis| !shape[axis].is(1)) {
        let (left, right) = (shape[axis].clone(), Dim::constant(1));
        return Err(OpError::Size { what: "size of a squeezed axis", left, right }.into());
    }
    let kept = shape.into_iter().enumerate().filter(|(axis, _)| !gone.contains(axis));
    let kept = kept.map(|(_, size)| size).collect();
    Ok(vec![reshape(b, x, kept)?])
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
