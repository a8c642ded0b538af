//! `gather(x, indices)[…, i…, …] = x[…, indices[i…], …]` at `axis`.
//!
//! Shapes: `x` of any type, `indices: i32 or i64`; the result has the axes of `indices` in place of `axis`.
//! A negative index counts from the end; an index out of range takes the nearest element, and from an axis of
//! size 0 a zero. Errors: [`OpError::DType`], [`OpError::Axis`]. Source: ONNX Gather, opset 13.

use ir::attr::{Attr, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::kernel::Expr;
use ir::kernel::lower::{Compute, Lower};
use ir::op::{Eval, Infer, OpError, Semantics, Sizes, normalize_axis};
use ir::scalar::Binary;
use ir::tensor::for_each_index;
use ir::{DType, Dim, OpDef, Scalar, Tensor, TensorType};

use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reference;

/// Elements at indices that are known at run time.
pub static GATHER: OpDef =
    OpDef::new("gather", &["x", "indices"], &Gather).attrs(&[AXIS.or(|| Attr::Int(0))]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Gather", import)];

/// The axis of `x` that is indexed; negative counts from the end.
pub const AXIS: Key<i64> = key("axis");

struct Gather;

impl Semantics for Gather {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        if !matches!(indices.dtype, DType::I32 | DType::I64) {
            let expected = "i32 or i64";
            return Err(OpError::DType { operand: "indices", expected, found: indices.dtype });
        }
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank())?;
        let shape = x.shape[..axis].iter().chain(&indices.shape).chain(&x.shape[axis + 1..]);
        Ok(vec![x.with_shape(shape.cloned())])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let (dtype, shape) = reference::result(self, cx)?;
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        let axis = normalize_axis(cx.attrs.get(AXIS), x.shape().len())?;
        let (size, inner) = (x.shape()[axis] as i64, axis + indices.shape().len());
        let element = |at: &[usize]| {
            if size == 0 {
                return Scalar::from_i64(dtype, 0);
            }
            let index = indices.at(&at[axis..inner]).to_i64();
            let index = if index < 0 { index + size } else { index }.clamp(0, size - 1);
            let from: Vec<usize> = at[..axis]
                .iter()
                .copied()
                .chain([index as usize])
                .chain(at[inner..].iter().copied())
                .collect();
            x.at(&from)
        };
        Ok(vec![Tensor::from_fn(dtype, &shape, element)])
    }

    fn lower(&self, cx: &mut Lower) -> Option<Compute> {
        let (x, indices) = (cx.operands[0], cx.operands[1]);
        let axis = normalize_axis(cx.attrs.get(AXIS), x.rank()).ok()?;
        let (size, inner) = (x.shape[axis].clone(), axis + indices.rank());
        cx.each(|cx, at| {
            let index = cx.load(1, at[axis..inner].iter().map(Expr::from)).cast(DType::I64);
            let (zero, extent) = (Expr::from(Dim::constant(0)), Expr::from(&size));
            let from_end = index.clone() + extent.clone();
            let index = index.clone().less(zero.clone()).select(from_end, index);
            let index = Expr::binary(Binary::Max, index, zero.clone());
            let last = Expr::from(size.clone() - Dim::constant(1));
            let index = Expr::binary(Binary::Min, index, last);
            let outer = at[..axis].iter().map(Expr::from);
            let element = cx.load(0, outer.chain([index]).chain(at[inner..].iter().map(Expr::from)));
            match size.as_const() {
                Some(size) if size > 0 => element,
                _ => {
                    let nothing = Expr::constant(Scalar::from_i64(element.dtype(), 0));
                    zero.less(extent).select(element, nothing)
                }
            }
        })
    }

    /// Of a vector, at indices that are numbers.
    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let (x, indices) = (cx.operands[0].as_ref()?, cx.operands[1].as_ref()?);
        let shape = cx.types[0].fixed_shape()?;
        let axis = normalize_axis(cx.attrs.get(AXIS), shape.len()).ok()?;
        let indices: Vec<i64> = indices.iter().map(Dim::as_const).collect::<Option<_>>()?;
        let extent = i64::try_from(shape[axis]).ok().filter(|&extent| extent > 0)?;
        let (outer, inner) = (&shape[..axis], &shape[axis + 1..]);
        let row: usize = inner.iter().product();
        let mut result = Vec::new();
        for_each_index(outer, |at| {
            let before = at.iter().zip(outer).fold(0, |position, (&i, &size)| position * size + i);
            for &index in &indices {
                let index = if index < 0 { index + extent } else { index }.clamp(0, extent - 1) as usize;
                let start = (before * shape[axis] + index) * row;
                result.extend_from_slice(&x[start..start + row]);
            }
        });
        Some(result)
    }
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let axis = node.int_or("axis", 0)?;
    Ok(vec![b.op_with(&GATHER, &[node.input(0)?, node.input(1)?], [AXIS.is(axis)])?])
}
