//! `x·Wᵀ + c`, as a score for each target, or for each class, of which the one with the best score is chosen.
//!
//! A classifier of two classes may have one row of coefficients: its score counts for the second class and, negated, for the
//! first. Source: ONNX ai.onnx.ml.LinearRegressor and LinearClassifier, version 1.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Scalar, Tensor};

use crate::linalg::matmul::MATMUL;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::ge::GE;
use crate::math::neg::NEG;
use crate::math::r#where::WHERE;
use crate::ml::post_transform::PostTransform;
use crate::ml::{DOMAIN, as_rows};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::arg_max::ARG_MAX;
use crate::reduce::position::position;
use crate::shape::concat::{self, CONCAT};
use crate::shape::gather::{AXIS, GATHER};
use crate::shape::reshape::reshape;

/// The ONNX ops.
pub static ONNX: &[Import] = &[
    by("LinearRegressor", import_regressor).in_domain(DOMAIN),
    by("LinearClassifier", import_classifier).in_domain(DOMAIN),
];

/// `[N, rows]` for `x: [N, C]`, in `f32`.
fn scores(node: &NodeView, b: &mut Build, rows: Option<usize>) -> Result<Value, ImportError> {
    let x = as_rows(b, node.input(0)?)?;
    let features = b.ty(x).shape[1].as_const().and_then(|count| usize::try_from(count).ok());
    let given = node.floats("coefficients")?;
    let given = node.required("coefficients", given)?;
    let wrong = |why: String| ImportError::Attribute { name: "coefficients".to_owned(), why };
    let (rows, features) = match (rows, features) {
        (Some(rows), _) if rows > 0 => (rows, given.len() / rows),
        (None, Some(features)) if features > 0 => (given.len() / features, features),
        _ => return Err(wrong("their shape does not follow from the model".to_owned())),
    };
    if rows * features != given.len() {
        return Err(wrong(format!("there are {}, which are no {rows} rows of {features}", given.len())));
    }
    let number = |values: &[f64], i: usize| Scalar::from_f64(DType::F32, values[i]);
    let w = b.constant(&Tensor::from_fn(DType::F32, &[features, rows], |at| {
        number(&given, at[1] * features + at[0])
    }));
    let x = convert(b, x, DType::F32)?;
    let mut y = b.op(&MATMUL, &[x, w])?;
    if let Some(intercepts) = node.floats("intercepts")?.filter(|intercepts| !intercepts.is_empty()) {
        if intercepts.len() != rows {
            let why = format!("{rows} are needed, there are {}", intercepts.len());
            return Err(ImportError::Attribute { name: "intercepts".to_owned(), why });
        }
        let c = b.constant(&Tensor::from_fn(DType::F32, &[rows], |at| number(&intercepts, at[0])));
        y = b.op(&ADD, &[y, c])?;
    }
    Ok(y)
}

fn import_regressor(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let targets = node.int_or("targets", 1)?;
    let y = scores(node, b, Some(targets.max(0) as usize))?;
    let transform = PostTransform::named(node.str_or("post_transform", "NONE")?)?;
    Ok(vec![transform.of(b, y)?])
}

fn import_classifier(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    // Whether classes compete is not said by it, but by the transform.
    node.ignore(&["multi_class"]);
    let labels = labels(node, "classlabels_ints", "classlabels_strings")?;
    let transform = PostTransform::named(node.str_or("post_transform", "NONE")?)?;
    let mut y = scores(node, b, None)?;
    if b.ty(y).shape[1].is(1) && labels.len() == 2 {
        let other = b.op(&NEG, &[y])?;
        y = b.op_with(&CONCAT, &[other, y], [concat::AXIS.is(1)])?;
    }
    let y = transform.of(b, y)?;
    if b.ty(y).shape[1].is(1) {
        // Of one class alone: is it that?
        let threshold = b.scalar(DType::F32, if transform == PostTransform::None { 0.0 } else { 0.5 });
        let is_it = b.op(&GE, &[y, threshold])?;
        let (label, none) = (
            b.scalar(DType::I64, labels.first().map_or(1.0, |&label| label as f64)),
            b.scalar(DType::I64, 0.0),
        );
        let label = b.op(&WHERE, &[is_it, label, none])?;
        let label = reshape(b, label, vec![b.ty(y).shape[0].clone()])?;
        return Ok(vec![label, y]);
    }
    Ok(vec![best(b, y, &labels)?, y])
}

/// The labels of classes, which must be integers.
///
/// # Errors
/// Labels that are strings.
pub(crate) fn labels(node: &NodeView, ints: &str, strings: &str) -> Result<Vec<i64>, ImportError> {
    if node.strs(strings)?.is_some_and(|strings| !strings.is_empty()) {
        return Err(ImportError::Unsupported {
            what: "a classifier whose labels are strings".to_owned(),
            help: "export the model with labels that are integers".to_owned(),
        });
    }
    Ok(node.ints(ints)?.unwrap_or_default())
}

/// The label with the best score of each row of scores `[N, E]`; the number of the class if there are no labels.
///
/// # Errors
/// What is said of scores that are no matrix.
pub(crate) fn best(b: &mut Build, scores: Value, labels: &[i64]) -> Result<Value, OpError> {
    let class = position(b, &ARG_MAX, scores, 1, false, false)?;
    if labels.is_empty() {
        return Ok(class);
    }
    let labels = b.constant(&Tensor::from_i64(&[labels.len()], labels));
    b.op_with(&GATHER, &[labels, class], [AXIS.is(0)])
}
