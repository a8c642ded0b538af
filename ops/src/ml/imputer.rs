//! Numbers in place of those that are missing: `x` where it is not `replaced_value`, which may be NaN, else the number for
//! its column, or the one for all.
//!
//! Source: ONNX ai.onnx.ml.Imputer, version 1.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{Dim, Scalar, Tensor};

use crate::math::eq::EQ;
use crate::math::is_nan::IS_NAN;
use crate::math::r#where::WHERE;
use crate::ml::DOMAIN;
use crate::onnx::{Import, ImportError, NodeView, by};

/// The ONNX op.
pub static ONNX: &[Import] = &[by("Imputer", import).in_domain(DOMAIN)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let ty = b.ty(x).clone();
    let (given, missing): (Vec<Scalar>, Scalar) = if ty.dtype.is_float() {
        node.ignore(&["imputed_value_int64s", "replaced_value_int64"]);
        let given = node.floats("imputed_value_floats")?.unwrap_or_default();
        let missing = node.float_or("replaced_value_float", 0.0)?;
        let number = |value: f64| Scalar::from_f64(ty.dtype, value);
        (given.into_iter().map(number).collect(), number(missing))
    } else {
        node.ignore(&["imputed_value_floats", "replaced_value_float"]);
        let given = node.ints("imputed_value_int64s")?.unwrap_or_default();
        let missing = node.int_or("replaced_value_int64", 0)?;
        let number = |value: i64| Scalar::from_i64(ty.dtype, value);
        (given.into_iter().map(number).collect(), number(missing))
    };
    let columns = ty.shape.last().ok_or(OpError::RankAtLeast { operand: "X", least: 1, found: 0 })?;
    let imputed = match &given[..] {
        [one] => Tensor::scalar(*one),
        all if !all.is_empty() && *columns == Dim::from(all.len()) => {
            Tensor::from_fn(ty.dtype, &[all.len()], |at| all[at[0]])
        }
        all => {
            let name = if ty.dtype.is_float() { "imputed_value_floats" } else { "imputed_value_int64s" };
            let why = format!("{} numbers for {columns} columns", all.len());
            return Err(ImportError::Attribute { name: name.to_owned(), why });
        }
    };
    let imputed = b.constant(&imputed);
    let is_missing = if ty.dtype.is_float() && missing.to_f64().is_nan() {
        b.op(&IS_NAN, &[x])?
    } else {
        let missing = b.constant(&Tensor::scalar(missing));
        b.op(&EQ, &[x, missing])?
    };
    Ok(vec![b.op(&WHERE, &[is_missing, imputed, x])?])
}
