//! Columns of several arrays beside each other, in `f32`. `inputdimensions` says how many each has.
//!
//! Source: ONNX ai.onnx.ml.FeatureVectorizer, version 1.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim};

use crate::math::cast::convert;
use crate::ml::{DOMAIN, as_rows};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::concat::{self, CONCAT};

/// The ONNX op.
pub static ONNX: &[Import] = &[by("FeatureVectorizer", import).in_domain(DOMAIN)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let inputs = node.inputs()?;
    let widths = node.ints("inputdimensions")?.unwrap_or_default();
    if !widths.is_empty() && widths.len() != inputs.len() {
        let why = format!("{} sizes for {} inputs", widths.len(), inputs.len());
        return Err(ImportError::Attribute { name: "inputdimensions".to_owned(), why });
    }
    let mut parts = Vec::new();
    for (at, input) in inputs.into_iter().enumerate() {
        let x = as_rows(b, input)?;
        if let Some(&width) = widths.get(at) {
            let (left, right) = (b.ty(x).shape[1].clone(), Dim::constant(width));
            if left != right {
                return Err(OpError::Size { what: "columns, and `inputdimensions`", left, right }.into());
            }
        }
        parts.push(convert(b, x, DType::F32)?);
    }
    Ok(vec![b.op_with(&CONCAT, &parts, [concat::AXIS.is(1)])?])
}
