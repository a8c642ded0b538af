//! Positions of an image under an affine map: `y[n, …, d] = Σ_j theta[n, d, j]·p_j`, where `p` is the place in the image,
//! the last axis first, from −1 to 1, and then 1.
//!
//! Source: ONNX AffineGrid, opset 20.

use ir::Dim;
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;

use crate::math::add::ADD;
use crate::math::div::DIV;
use crate::math::mul::MUL;
use crate::math::sub::SUB;
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::shape::iota::iota;
use crate::shape::reshape::reshape;
use crate::shape::size::size;
use crate::shape::slice::slice_axis;

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("AffineGrid", import)];

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let theta = node.input(0)?;
    let ty = b.ty(theta).clone();
    if ty.rank() != 3 {
        return Err(OpError::Rank { operand: "theta", expected: 3, found: ty.rank() }.into());
    }
    let sizes = node.sizes(b, 1, "size")?.ok_or(ImportError::MissingInput { index: 1 })?;
    if !(4..=5).contains(&sizes.len()) {
        let why = format!("4 or 5 sizes are needed, there are {}", sizes.len());
        return Err(ImportError::Attribute { name: "size".to_owned(), why });
    }
    let image = &sizes[2..];
    let dims = image.len();
    let wanted = [sizes[0].clone(), Dim::from(dims), Dim::from(dims + 1)];
    if let Some((left, right)) = ty.shape.iter().zip(wanted).find(|(found, wanted)| *found != wanted) {
        return Err(OpError::Size { what: "`theta` and the image", left: left.clone(), right }.into());
    }
    let corners = node.flag("align_corners", false)?;
    let mut sum: Option<Value> = None;
    for j in 0..=dims {
        let mut column = vec![Dim::constant(1); dims + 2];
        (column[0], column[dims + 1]) = (sizes[0].clone(), dims.into());
        let factor = slice_axis(b, theta, 2, j.into(), Dim::constant(1))?;
        let mut term = reshape(b, factor, column)?;
        if j < dims {
            let axis = dims - 1 - j;
            let mut along = vec![Dim::constant(1); dims + 2];
            along[1 + axis] = image[axis].clone();
            let place = place(b, &image[axis], corners, ty.dtype)?;
            let place = reshape(b, place, along)?;
            term = b.op(&MUL, &[term, place])?;
        }
        sum = Some(match sum {
            None => term,
            Some(sum) => b.op(&ADD, &[sum, term])?,
        });
    }
    Ok(sum.into_iter().collect())
}

/// From −1 to 1: the middles of the first and of the last element, or their outer ends.
fn place(b: &mut Build, extent: &Dim, corners: bool, dtype: ir::DType) -> Result<Value, OpError> {
    let i = iota(b, extent.clone(), dtype)?;
    let [one, two] = [1.0, 2.0].map(|number| b.scalar(dtype, number));
    let mut twice = b.op(&MUL, &[i, two])?;
    let steps = match corners {
        true => Dim::larger(&(extent.clone() - Dim::constant(1)), &Dim::constant(1)),
        false => {
            twice = b.op(&ADD, &[twice, one])?;
            extent.clone()
        }
    };
    let steps = size(b, dtype, &steps)?;
    let part = b.op(&DIV, &[twice, steps])?;
    b.op(&SUB, &[part, one])
}
