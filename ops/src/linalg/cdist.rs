//! Distances of each row of `a: [M, K]` from each row of `b: [N, K]`: `Σₖ (a[m, k] − b[n, k])²`, or the root of that.
//!
//! Source: onnxruntime, contrib operators, CDist, with the metrics `sqeuclidean` and `euclidean`, which it computes, too.

use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::math::mul::MUL;
use crate::math::sqrt::SQRT;
use crate::math::sub::SUB;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::reshape::reshape;

/// The op.
pub static ONNX: &[Import] = &[by("CDist", import).in_domain("com.microsoft")];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let has_root = match node.str_or("metric", "sqeuclidean")? {
        "sqeuclidean" => false,
        "euclidean" => true,
        other => return Err(ImportError::value("metric", other, "sqeuclidean and euclidean")),
    };
    let (left, right) = (node.input(0)?, node.input(1)?);
    let shape = b.ty(left).shape.clone();
    let [rows, columns] = &shape[..] else {
        return Err(OpError::Rank { operand: "A", expected: 2, found: shape.len() }.into());
    };
    let left = reshape(b, left, vec![rows.clone(), Dim::constant(1), columns.clone()])?;
    let apart = b.op(&SUB, &[left, right])?;
    let squares = b.op(&MUL, &[apart, apart])?;
    let sum = reduce(b, &REDUCE_SUM, squares, &[2], false)?;
    Ok(vec![if has_root { b.op(&SQRT, &[sum])? } else { sum }])
}
