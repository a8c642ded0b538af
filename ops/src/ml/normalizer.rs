//! Rows divided by their norm: the largest size of an element (`MAX`), the sum of sizes (`L1`), or the root of the sum of
//! squares (`L2`); rows of zeros stay. Results are `f32`. Source: ONNX ai.onnx.ml.Normalizer, version 1.

use ir::DType;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::math::abs::ABS;
use crate::math::cast::convert;
use crate::math::div::DIV;
use crate::math::max::MAX;
use crate::math::mul::MUL;
use crate::math::sqrt::SQRT;
use crate::ml::DOMAIN;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_max::REDUCE_MAX;
use crate::reduce::reduce_sum::REDUCE_SUM;

/// The ONNX op.
pub static ONNX: &[Import] = &[by("Normalizer", import).in_domain(DOMAIN)];

/// Norms are at least this: nothing is divided by 0.
const LEAST: f64 = 1e-30;

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let x = node.input(0)?;
    let rank = b.ty(x).rank();
    if !(1..=2).contains(&rank) {
        return Err(OpError::Rank { operand: "X", expected: 2, found: rank }.into());
    }
    let wide = if b.ty(x).dtype == DType::F32 { DType::F32 } else { DType::F64 };
    let x = convert(b, x, wide)?;
    let last = rank as i64 - 1;
    let norm = match node.str_or("norm", "MAX")? {
        "MAX" => {
            let sizes = b.op(&ABS, &[x])?;
            reduce(b, &REDUCE_MAX, sizes, &[last], true)?
        }
        "L1" => {
            let sizes = b.op(&ABS, &[x])?;
            reduce(b, &REDUCE_SUM, sizes, &[last], true)?
        }
        "L2" => {
            let squares = b.op(&MUL, &[x, x])?;
            let sum = reduce(b, &REDUCE_SUM, squares, &[last], true)?;
            b.op(&SQRT, &[sum])?
        }
        other => return Err(ImportError::value("norm", other, "MAX, L1 and L2")),
    };
    let least = b.scalar(wide, LEAST);
    let norm = b.op(&MAX, &[norm, least])?;
    let y = b.op(&DIV, &[x, norm])?;
    Ok(vec![convert(b, y, DType::F32)?])
}
