//! Folds over windows: one [`Semantics`] for all pools, and what their ONNX imports share.
//!
//! Shapes: `x: [N, C, …]`, of one window axis for each axis after the channels. What lies outside the image
//! does not count.

use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, Reduce};
use ir::op::{Eval, Infer, OpDef, OpError, Requirement, Semantics};
use ir::tensor::for_each_index;
use ir::{DType, Dim, Scalar, Tensor, TensorType};

use crate::onnx::export::{Attributes, Emit};
use crate::onnx::{ImportError, NodeAttr, NodeView};
use crate::reference;
use crate::window::{
    CEIL, DILATIONS, HIGH, KERNEL, LOW, STRIDES, Window, around, fold_over, import_sliding, sliding,
};

/// Does the mean count padding as zeros?
pub const INCLUDE_PAD: Key<bool> = key("include_pad");

/// What becomes of the elements of a window.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Slide {
    /// The largest.
    Max,
    /// The sum.
    Sum,
    /// The sum divided by their number.
    Mean,
}

impl Slide {
    fn fold(self) -> Reduce {
        if self == Slide::Max { Reduce::Max } else { Reduce::Sum }
    }

    fn window(cx: &ir::attr::Attrs) -> Result<Window, OpError> {
        let kernel = cx.get(KERNEL);
        if kernel.iter().any(|&size| size < 1) {
            return Err(OpError::Attribute { key: KERNEL.name, why: "it must be 1 or more" });
        }
        Window::new(kernel.into_iter().map(Dim::constant).collect(), cx, cx.get(CEIL))
    }
}

impl Semantics for Slide {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let x = cx.operands[0];
        cx.want_arithmetic(0, "x")?;
        if x.dtype == DType::Bool || (*self == Slide::Mean && !x.dtype.is_float()) {
            let expected = if *self == Slide::Mean { "a float" } else { "a number" };
            return Err(OpError::DType { operand: "x", expected, found: x.dtype });
        }
        let window = Slide::window(cx.attrs)?;
        cx.want_rank(0, "x", window.kernel.len() + 2)?;
        let windows = window.count(&x.shape[2..])?;
        Ok(vec![x.with_shape(x.shape[..2].iter().cloned().chain(windows))])
    }

    fn requires(&self, cx: &Infer) -> Vec<Requirement> {
        Slide::window(cx.attrs).map_or_else(|_| Vec::new(), |window| window.fits(&cx.operands[0].shape[2..]))
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, window) = (cx.operands[0], Slide::window(cx.attrs)?);
        let low = reference::numbers(LOW.name, &window.low)?;
        let kernel: Vec<usize> = cx.attrs.get(KERNEL).iter().map(|&size| size as usize).collect();
        let include_pad = *self == Slide::Mean && cx.attrs.get(INCLUDE_PAD);
        // The padded image, on which padding counts.
        let high = reference::numbers(crate::window::HIGH.name, &window.high)?;
        let image = &x.shape()[2..];
        let padded: Vec<usize> =
            (0..image.len()).map(|axis| (image[axis] as i64 + low[axis] + high[axis]) as usize).collect();
        let element = |at: &[usize]| {
            let mut elements = Vec::new();
            let mut count = 0;
            for_each_index(&kernel, |k| {
                if let Some(position) = window.position_in(image, &at[2..], k, &low) {
                    elements.push(x.at(&[&at[..2], position.as_slice()].concat()));
                }
                let counted = if include_pad {
                    window.position_in(&padded, &at[2..], k, &vec![0; low.len()])
                } else {
                    window.position_in(image, &at[2..], k, &low)
                };
                count += usize::from(counted.is_some());
            });
            match self {
                Slide::Mean => {
                    let sum: f64 = elements.iter().map(|x| x.to_f64()).sum();
                    Scalar::from_f64(dtype, sum / count.max(1) as f64)
                }
                _ => reference::fold(self.fold(), dtype, elements.into_iter()),
            }
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (x, window) = (cx.operands[0].clone(), Slide::window(cx.attrs).ok()?);
        let (op, wide) = (self.fold(), x.dtype.arithmetic());
        let include_pad = *self == Slide::Mean && cx.attrs.get(INCLUDE_PAD);
        cx.each(|cx, at| {
            let fold = fold_over(cx, op, &window.kernel, &|cx, k| {
                let (position, inside) = window.positions(&at[2..], k, &x.shape[2..]);
                let from = at[..2].iter().cloned().chain(position);
                let element = cx.load(0, from.map(Expr::from)).cast(wide);
                match inside {
                    Some(inside) => inside.select(element, Expr::constant(op.neutral(wide))),
                    None => element,
                }
            });
            let value = match self {
                Slide::Mean => {
                    fold / Expr::from(counted(&window, &at[2..], &x.shape[2..], include_pad)).cast(wide)
                }
                _ => fold,
            };
            value.cast(x.dtype)
        })
    }
}

/// How many elements of the window `at` lie in the image (with padding: in the padded image), at least 1.
///
/// Along an axis, those with `first ≤ i·stride + k·dilation − low < end`.
fn counted(window: &Window, at: &[Dim], image: &[Dim], include_pad: bool) -> Dim {
    let (zero, one) = (Dim::constant(0), Dim::constant(1));
    let along = |axis: usize| {
        let kernel = &window.kernel[axis];
        let (low, high) = (&window.low[axis], &window.high[axis]);
        let unpadded = low.is(0) && high.is(0);
        if !window.ceil && (include_pad || unpadded) {
            return kernel.clone();
        }
        let (first, end) = if include_pad {
            (-low.clone(), image[axis].clone() + high.clone())
        } else {
            (zero.clone(), image[axis].clone())
        };
        let start = window.position(axis, &at[axis], &zero);
        let dilation = Dim::constant(window.dilations[axis]);
        let before = Dim::larger(&(first - start.clone()).ceil_div(&dilation), &zero);
        let upto = Dim::smaller(&(end - start).ceil_div(&dilation), kernel);
        upto - before
    };
    let count: Dim = (0..image.len()).map(along).product();
    if count.as_const().is_some() { count } else { Dim::larger(&count, &one) }
}

/// The attributes of an ONNX pool, but those that only one of them has.
///
/// # Errors
/// A missing `kernel_shape`, or attributes of another length.
pub(crate) fn import_window(node: &NodeView, b: &Build) -> Result<Vec<(&'static str, Attr)>, ImportError> {
    window_on(node, &node.ty(b, 0)?.shape)
}

/// The same on images `[N, C, …]` that are no input of the node.
///
/// # Errors
/// As [`import_window`].
pub(crate) fn window_on(node: &NodeView, x: &[Dim]) -> Result<Vec<(&'static str, Attr)>, ImportError> {
    let kernel = node.ints("kernel_shape")?;
    let kernel = node.required("kernel_shape", kernel)?;
    if x.len() != kernel.len() + 2 {
        let (expected, found) = (kernel.len() + 2, x.len());
        return Err(OpError::Rank { operand: "X", expected, found }.into());
    }
    let sizes: Vec<Dim> = kernel.iter().map(|&size| size.into()).collect();
    let sliding = import_sliding(node, &sizes, &x[2..])?;
    let ceil = CEIL.is(node.flag("ceil_mode", false)?);
    Ok(sliding.into_iter().chain([KERNEL.is(kernel), ceil]).collect())
}

/// An ONNX global pool: a reduction along every axis after the channels.
///
/// # Errors
/// What the reduction says.
pub(crate) fn import_global(
    node: &NodeView,
    b: &mut Build,
    op: &'static OpDef,
) -> Result<Vec<Value>, ImportError> {
    let axes: Vec<i64> = (2..node.ty(b, 0)?.rank() as i64).collect();
    Ok(vec![crate::reduce::along::reduce(b, op, node.input(0)?, &axes, true)?])
}

/// The attributes of ONNX of a pool, if it can say so.
pub(crate) fn to_onnx_window(e: &Emit) -> Option<Attributes> {
    let mut how = sliding(e.attrs)?;
    how.push(("kernel_shape", NodeAttr::Ints(e.attrs.get(KERNEL))));
    how.push(("ceil_mode", NodeAttr::Int(e.attrs.get(CEIL).into())));
    Some(how)
}

/// The pool of an image with `value` around it, and no other padding.
///
/// # Errors
/// What the pool says.
pub(crate) fn unpadded(
    b: &mut Build,
    x: Value,
    op: &'static OpDef,
    attrs: &Attrs,
    value: f64,
) -> Result<Value, OpError> {
    let (low, high) = (attrs.get(LOW), attrs.get(HIGH));
    let (wide, nothing) = (around(b, x, &low, &high, value)?, vec![Dim::constant(0); low.len()]);
    let how =
        [KERNEL.is(attrs.get(KERNEL)), STRIDES.is(attrs.get(STRIDES)), DILATIONS.is(attrs.get(DILATIONS))];
    let none = [LOW.is(nothing.clone()), HIGH.is(nothing), CEIL.is(attrs.get(CEIL))];
    b.op_with(op, &[wide], how.into_iter().chain(none))
}
