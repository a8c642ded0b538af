//! `as_size(x) = x`: a number that is computed when the model runs becomes a size.
//!
//! Shapes: `x: i64[]`, not negative. `names` holds the name of the size, `sizes` what stands for it: the symbol of that
//! name, which gets its value here, or another expression, with which `x` is compared then. `bound` is an expression
//! that `x` does not exceed, or −1 where none is known. Errors: [`OpError::DType`], [`OpError::Rank`],
//! [`OpError::Attribute`]; a negative number when the model runs. Source: run-time shapes, counts of ONNX NonZero,
//! trip counts.

use ir::attr::{Attr, Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::{Eval, Flow, Infer, OpError, Semantics, Sizes};
use ir::{DType, Dim, OpDef, Tensor, TensorType};

use super::{NAMES, SIZES, check_names, decided};
use crate::onnx::Import;

/// A number as a size.
pub static AS_SIZE: OpDef =
    OpDef::new("as_size", &["x"], &AsSize).attrs(&[NAMES.spec(), SIZES.spec(), BOUND.or(|| Attr::Int(-1))]);

/// Imports need it, and no ONNX op is it.
pub static ONNX: &[Import] = &[];

/// What the number does not exceed; −1 if nothing is known.
pub const BOUND: Key<Dim> = key("bound");

struct AsSize;

impl Semantics for AsSize {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let x = cx.operands[0];
        if x.dtype != DType::I64 {
            return Err(OpError::DType { operand: "x", expected: "i64", found: x.dtype });
        }
        cx.want_rank(0, "x", 0)?;
        check_names(cx.attrs)?;
        if cx.attrs.get(NAMES).len() != 1 {
            return Err(OpError::Attribute { key: NAMES.name, why: "one name is needed" });
        }
        Ok(vec![TensorType::scalar(DType::I64)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![cx.operands[0].clone()])
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        Some(cx.attrs.get(SIZES))
    }

    fn flow(&self, attrs: &Attrs) -> Option<Flow> {
        let decided = decided(attrs).into_iter().next()?;
        let bound = Some(attrs.get(BOUND)).filter(|bound| !bound.is(-1));
        Some(Flow::Size { name: decided.name, size: decided.size, bound })
    }
}

/// `x`, an `i64` without axes, as a size called `wanted` or so, and at most `bound`.
///
/// # Errors
/// [`OpError`] if `x` is no such value.
pub fn as_size(b: &mut Build, x: Value, wanted: &str, bound: Option<Dim>) -> Result<Dim, OpError> {
    let symbol = b.fresh_symbol(wanted);
    let bound = bound.unwrap_or_else(|| Dim::constant(-1));
    let size = Dim::from(&symbol);
    let attrs = [NAMES.is(vec![symbol.to_string()]), SIZES.is(vec![size.clone()]), BOUND.is(bound)];
    b.op_with(&AS_SIZE, &[x], attrs)?;
    Ok(size)
}

/// A check, when the model runs, that `x`, an `i64` without axes, is `size`.
///
/// # Errors
/// [`OpError`] if `x` is no such value.
pub fn check_size(b: &mut Build, x: Value, wanted: &str, size: Dim) -> Result<(), OpError> {
    let name = b.fresh_symbol(wanted).to_string();
    b.op_with(&AS_SIZE, &[x], [NAMES.is(vec![name]), SIZES.is(vec![size])])?;
    Ok(())
}
