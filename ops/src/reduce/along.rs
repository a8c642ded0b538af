//! Folds along axes: one [`Semantics`] for all reductions, and what their ONNX imports share.
//!
//! A reduction over no axes is `x` itself; over an axis of size 0 it gives the fold's neutral element.

use ir::attr::{Attr, AttrSpec, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::lower::{Compute, Lower};
use ir::kernel::{Expr, Reduce};
use ir::op::{Eval, Infer, OpDef, OpError, Semantics, Sizes, normalize_axis};
use ir::tensor::for_each_index;
use ir::{DType, Dim, Tensor, TensorType};

use crate::math::elementwise::wrapped;
use crate::onnx::export::Emit;
use crate::onnx::{ImportError, NodeAttr, NodeView};
use crate::reference;
use crate::shape::reshape::reshape_checked;
use crate::shape::run_time;
use crate::window::fold_over;

/// The axes that are folded; negative ones count from the end.
pub const AXES: Key<Vec<i64>> = key("axes");

/// Do the folded axes stay, with size 1?
pub const KEEP_DIMS: Key<bool> = key("keep_dims");

/// The attributes of every reduction.
pub const ATTRS: &[AttrSpec] = &[AXES.spec(), KEEP_DIMS.or(|| Attr::Bool(true))];

/// A fold along axes.
pub struct Along(pub Reduce);

impl Along {
    /// The fold on elements of this type: on truth values, the largest is "any" and the smallest "all".
    fn fold(&self, dtype: DType) -> Reduce {
        match self.0 {
            Reduce::Max if dtype == DType::Bool => Reduce::Any,
            Reduce::Min if dtype == DType::Bool => Reduce::All,
            op => op,
        }
    }
}

/// For each axis: is it folded?
///
/// # Errors
/// [`OpError::Axis`], or [`OpError::Attribute`] for an axis that comes twice.
pub(crate) fn folded(axes: &[i64], rank: usize) -> Result<Vec<bool>, OpError> {
    let mut folded = vec![false; rank];
    for &axis in axes {
        let axis = normalize_axis(axis, rank)?;
        if std::mem::replace(&mut folded[axis], true) {
            return Err(OpError::Attribute { key: AXES.name, why: "an axis comes twice" });
        }
    }
    Ok(folded)
}

impl Semantics for Along {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, keep) = (cx.operands[0], cx.attrs.get(KEEP_DIMS));
        cx.want_arithmetic(0, "x")?;
        if x.dtype == DType::Bool && !self.0.function().accepts(DType::Bool) {
            return Err(OpError::DType { operand: "x", expected: "a number", found: x.dtype });
        }
        let folded = folded(&cx.attrs.get(AXES), x.rank())?;
        let shape = x.shape.iter().zip(folded).filter(|(_, folded)| keep || !folded);
        Ok(vec![
            x.with_shape(shape.map(|(size, folded)| if folded { Dim::constant(1) } else { size.clone() })),
        ])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, keep) = (cx.operands[0], cx.attrs.get(KEEP_DIMS));
        let folded = folded(&cx.attrs.get(AXES), x.shape().len())?;
        let inner: Vec<usize> =
            x.shape().iter().zip(&folded).filter(|(_, f)| **f).map(|(&size, _)| size).collect();
        let element = |at: &[usize]| {
            let mut elements = Vec::new();
            for_each_index(&inner, |k| elements.push(x.at(&merge(&folded, keep, at, k))));
            reference::fold(self.fold(dtype), dtype, elements.into_iter())
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (x, keep) = (cx.operands[0].clone(), cx.attrs.get(KEEP_DIMS));
        let folded = folded(&cx.attrs.get(AXES), x.rank()).ok()?;
        let inner: Vec<Dim> =
            x.shape.iter().zip(&folded).filter(|(_, f)| **f).map(|(size, _)| size.clone()).collect();
        let (op, wide) = (self.fold(x.dtype), x.dtype.arithmetic());
        cx.each(|cx, at| {
            let fold = fold_over(cx, op, &inner, &|cx, k| {
                let from = merge(&folded, keep, at, k);
                cx.load(0, from.into_iter().map(Expr::from)).cast(wide)
            });
            fold.cast(x.dtype)
        })
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let (x, keep) = (cx.operands[0].as_ref()?, cx.attrs.get(KEEP_DIMS));
        let shape = cx.types[0].fixed_shape()?;
        let folded = folded(&cx.attrs.get(AXES), shape.len()).ok()?;
        let inner: Vec<usize> =
            shape.iter().zip(&folded).filter(|(_, f)| **f).map(|(&size, _)| size).collect();
        let mut result = Vec::new();
        for_each_index(&cx.result.fixed_shape()?, |at| {
            let mut elements = Vec::new();
            for_each_index(&inner, |k| {
                let index = merge(&folded, keep, at, k);
                elements.push(x[index.iter().zip(&shape).fold(0, |p, (&i, &size)| p * size + i)].clone());
            });
            result.push(elements);
        });
        let combine = |elements: Vec<Dim>| -> Option<Dim> {
            let mut elements = elements.into_iter();
            match self.0 {
                Reduce::Sum => Some(elements.sum()),
                Reduce::Prod => Some(elements.product()),
                // Of nothing there is no size.
                Reduce::Max => elements.next().map(|first| elements.fold(first, |a, b| Dim::larger(&a, &b))),
                Reduce::Min => elements.next().map(|first| elements.fold(first, |a, b| Dim::smaller(&a, &b))),
                Reduce::Any | Reduce::All => None,
            }
        };
        result.into_iter().map(|elements| wrapped(&combine(elements)?, cx.result.dtype)).collect()
    }
}

/// The index in the operand: folded axes from `inner`, the others from `outer`, where folded ones may have
/// kept a place.
fn merge<T: Clone>(folded: &[bool], keep: bool, outer: &[T], inner: &[T]) -> Vec<T> {
    let (mut outer, mut inner) = (outer.iter(), inner.iter());
    let next = |folded: &bool| {
        let own = if *folded && !keep { None } else { outer.next() };
        let own = if *folded { inner.next() } else { own };
        own.cloned().expect("there is one index for each axis")
    };
    folded.iter().map(next).collect()
}

/// `x` reduced along `axes`, which stay with size 1 if `keep_dims`.
///
/// # Errors
/// What the reduction says of these operands.
pub fn reduce(
    b: &mut Build,
    op: &'static OpDef,
    x: Value,
    axes: &[i64],
    keep_dims: bool,
) -> Result<Value, OpError> {
    b.op_with(op, &[x], [AXES.is(axes.to_vec()), KEEP_DIMS.is(keep_dims)])
}

/// The operand of an ONNX reduction, the axes that are folded, and what becomes of the result.
pub(crate) struct Operand {
    /// What is folded.
    pub(crate) x: Value,
    /// Along these axes.
    pub(crate) axes: Vec<i64>,
    /// Do they stay, with size 1?
    pub(crate) keep: bool,
    /// The shape that the result gets, where axes are known only when the model runs.
    shape: Option<Vec<Dim>>,
}

impl Operand {
    /// The result in its shape.
    ///
    /// # Errors
    /// [`OpError::Size`].
    pub(crate) fn shaped(&self, b: &mut Build, result: Value) -> Result<Value, OpError> {
        match &self.shape {
            None => Ok(result),
            Some(shape) => reshape_checked(b, result, shape.clone()),
        }
    }
}

/// The operand of an ONNX reduction, whose axes are an operand from version `operand_since` on.
///
/// # Errors
/// A number of axes that is not known, where they don't stay.
pub(crate) fn import_operand(
    node: &NodeView,
    b: &mut Build,
    operand_since: i64,
) -> Result<Operand, ImportError> {
    let x = node.input(0)?;
    let rank = b.ty(x).rank() as i64;
    let (noop, keep) = (node.flag("noop_with_empty_axes", false)?, node.flag("keepdims", true)?);
    let given = if node.opset < operand_since {
        node.ints("axes")?
    } else {
        match node.optional_input(1) {
            Some(axes) if node.known(b, 1).is_none() => return at_run_time(node, b, axes, noop, keep),
            _ => node.const_ints(b, 1, "axes")?,
        }
    };
    let axes = match given {
        Some(axes) if !axes.is_empty() => axes,
        _ if noop => vec![],
        _ => (0..rank).collect(),
    };
    Ok(Operand { x, axes, keep, shape: None })
}

/// The same with axes that are computed when the model runs.
fn at_run_time(
    node: &NodeView,
    b: &mut Build,
    axes: Value,
    noop: bool,
    keep: bool,
) -> Result<Operand, ImportError> {
    let x = node.input(0)?;
    let shape = b.ty(x).shape.clone();
    let count = b.ty(axes).elements().as_const();
    let rank = shape.len();
    let named = run_time::axes(b, axes, shape, !noop)?;
    let (x, kept) = named.split(b, x, node.op_type)?;
    let shape = match (keep, count) {
        (true, _) => kept,
        (false, Some(count)) if count > 0 || noop => {
            named.unnamed(b, rank.saturating_sub(count as usize), node.op_type)?
        }
        (false, Some(_)) => vec![],
        (false, None) => return Err(ImportError::RunTimeValue { index: 1, input: "axes" }),
    };
    let axes = (0..rank as i64).map(|axis| 2 * axis + 1).collect();
    Ok(Operand { x, axes, keep: false, shape: Some(shape) })
}

/// An ONNX reduction that is `op`.
///
/// # Errors
/// As [`import_operand`], or what the reduction says.
pub(crate) fn import_reduction(
    node: &NodeView,
    b: &mut Build,
    op: &'static OpDef,
    operand_since: i64,
) -> Result<Vec<Value>, ImportError> {
    let operand = import_operand(node, b, operand_since)?;
    let result = reduce(b, op, operand.x, &operand.axes, operand.keep)?;
    Ok(vec![operand.shaped(b, result)?])
}

/// The types that sums and products of ONNX take.
pub(crate) const SUMS_OF: [DType; 8] =
    [DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32, DType::U32, DType::U64, DType::I64];

/// The types that extrema of ONNX take.
pub(crate) const EXTREMA_OF: [DType; 11] = [
    DType::F16,
    DType::BF16,
    DType::F32,
    DType::F64,
    DType::I8,
    DType::U8,
    DType::I32,
    DType::U32,
    DType::U64,
    DType::Bool,
    DType::I64,
];

/// The reduction as the node of ONNX that takes `types`.
pub(crate) fn to_onnx(e: &mut Emit, op_type: &str, types: &[DType]) -> Vec<String> {
    let (axes, keep) = (e.attrs.get(AXES), e.attrs.get(KEEP_DIMS));
    if axes.is_empty() {
        return e.same("Identity");
    }
    let own = e.ty(0).dtype;
    let taken = if types.contains(&own) { own } else { DType::I64 };
    let (x, axes) = (e.cast(e.x(0), own, taken), e.ints(&axes));
    let y = e.node_with(op_type, &[x, axes], vec![("keepdims", NodeAttr::Int(keep.into()))]);
    vec![e.cast(y, taken, own)]
}
