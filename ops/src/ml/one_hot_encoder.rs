//! A row for each element, 1 where it is the category, else 0, in `f32`. An element that is no category is a row of zeros.
//!
//! Not imported: strings, and models that must fail where an element is no category (`zeros` 0).
//! Source: ONNX ai.onnx.ml.OneHotEncoder, version 1.

use ir::build::Build;
use ir::graph::Value;
use ir::{DType, Dim, Tensor};

use crate::math::cast::convert;
use crate::math::eq::EQ;
use crate::ml::DOMAIN;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::reshape::reshape;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("OneHotEncoder", import).in_domain(DOMAIN)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    if node.strs("cats_strings")?.is_some_and(|categories| !categories.is_empty()) {
        return Err(ImportError::Unsupported {
            what: "OneHotEncoder with categories that are strings".to_owned(),
            help: "encode strings as numbers before they come to the model".to_owned(),
        });
    }
    let categories = node.ints("cats_int64s")?;
    let categories = node.required("cats_int64s", categories)?;
    if !node.flag("zeros", true)? {
        return Err(ImportError::Unsupported {
            what: "OneHotEncoder that fails at run time for what is no category".to_owned(),
            help: "export it with the attribute `zeros` 1, where that is a row of zeros".to_owned(),
        });
    }
    let x = node.input(0)?;
    let x = convert(b, x, DType::I64)?;
    let column = [&b.ty(x).shape[..], &[Dim::constant(1)]].concat();
    let x = reshape(b, x, column)?;
    let categories = b.constant(&Tensor::from_i64(&[categories.len()], &categories));
    let is_it = b.op(&EQ, &[x, categories])?;
    Ok(vec![convert(b, is_it, DType::F32)?])
}
