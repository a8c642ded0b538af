//! Support vector machines: sums of `coefficient · K(x, vector)`, of which one is a value, or those of each pair of classes
//! vote.
//!
//! - `K` is `x·v` (`LINEAR`), `(γ x·v + c)ᵈ` (`POLY`), `e^(−γ|x − v|²)` (`RBF`) or `tanh(γ x·v + c)` (`SIGMOID`);
//!   `kernel_params` are `γ`, `c` and `d`.
//! - SVMRegressor adds `rho`; with `one_class` its value is 1 or −1. Without vectors, the coefficients are those of `x`.
//! - SVMClassifier has `vectors_per_class` and, for each pair of classes, coefficients of the vectors of both and a `rho`: a
//!   positive sum is a vote for the first. Of equal votes the first class counts. Sums are the scores; two classes have `−s`
//!   and `s`.
//! - `prob_a` and `prob_b` make the probabilities of two classes, `σ(−(a·s + b))` that of the first; onnxruntime approaches
//!   them to within 0.0025. For more classes they are not imported, nor are strings, nor classifiers without vectors.
//!
//! Source: ONNX ai.onnx.ml.SVMRegressor and SVMClassifier, version 1; what they leave open is as onnxruntime computes it.

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Scalar, Tensor};

use crate::linalg::matmul::MATMUL;
use crate::math::add::ADD;
use crate::math::cast::convert;
use crate::math::exp::EXP;
use crate::math::gt::GT;
use crate::math::mul::MUL;
use crate::math::neg::NEG;
use crate::math::pow::POW;
use crate::math::sigmoid::SIGMOID;
use crate::math::sub::SUB;
use crate::math::tanh::TANH;
use crate::math::r#where::WHERE;
use crate::ml::linear_model::{best, labels};
use crate::ml::post_transform::PostTransform;
use crate::ml::{DOMAIN, as_rows};
use crate::onnx::{Import, ImportError, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::concat::{AXIS, CONCAT};
use crate::shape::reshape::reshape;

/// The ONNX ops.
pub static ONNX: &[Import] = &[
    by("SVMRegressor", import_regressor).in_domain(DOMAIN),
    by("SVMClassifier", import_classifier).in_domain(DOMAIN),
];

/// `K`, and the numbers that a machine has.
struct Machine {
    kernel: String,
    gamma: f64,
    offset: f64,
    degree: f64,
    coefficients: Vec<f64>,
    vectors: Vec<f64>,
    rho: Vec<f64>,
}

impl Machine {
    fn of(node: &NodeView) -> Result<Machine, ImportError> {
        let list = |name: &str| node.floats(name).map(Option::unwrap_or_default);
        let params = list("kernel_params")?;
        let [gamma, offset, degree] = match params[..] {
            [] => [0.0, 0.0, 3.0],
            [gamma, offset, degree] => [gamma, offset, degree],
            _ => return Err(wrong("kernel_params", "they are gamma, coef0 and degree".to_owned())),
        };
        let kernel = node.str_or("kernel_type", "LINEAR")?.to_owned();
        if !["LINEAR", "POLY", "RBF", "SIGMOID"].contains(&kernel.as_str()) {
            return Err(ImportError::value("kernel_type", kernel, "LINEAR, POLY, RBF and SIGMOID"));
        }
        let (coefficients, vectors, rho) = (list("coefficients")?, list("support_vectors")?, list("rho")?);
        Ok(Machine { kernel, gamma, offset, degree, coefficients, vectors, rho })
    }

    /// `K(x, v)` for each row of `x` and each of so many vectors `v`, `[N, count]`.
    fn kernels(&self, b: &mut Build, x: Value, vectors: &[f64], count: usize) -> Result<Value, ImportError> {
        let features = b.ty(x).shape[1].as_const().and_then(|features| usize::try_from(features).ok());
        let Some(features) = features.filter(|features| features * count == vectors.len()) else {
            let columns = b.ty(x).shape[1].clone();
            let why = format!("{} numbers for {count} vectors of {columns}", vectors.len());
            return Err(wrong("support_vectors", why));
        };
        let number = |value: f64| Scalar::from_f64(DType::F32, value);
        let turned =
            Tensor::from_fn(DType::F32, &[features, count], |at| number(vectors[at[1] * features + at[0]]));
        let turned = b.constant(&turned);
        if self.kernel == "RBF" {
            let one = Dim::constant(1);
            let each = reshape(b, x, vec![b.ty(x).shape[0].clone(), Dim::from(features), one])?;
            let apart = b.op(&SUB, &[each, turned])?;
            let squares = b.op(&MUL, &[apart, apart])?;
            let distance = reduce(b, &REDUCE_SUM, squares, &[1], false)?;
            let factor = b.scalar(DType::F32, -self.gamma);
            let scaled = b.op(&MUL, &[distance, factor])?;
            return Ok(b.op(&EXP, &[scaled])?);
        }
        let product = b.op(&MATMUL, &[x, turned])?;
        if self.kernel == "LINEAR" {
            return Ok(product);
        }
        let [gamma, offset, degree] =
            [self.gamma, self.offset, self.degree].map(|value| b.scalar(DType::F32, value));
        let scaled = b.op(&MUL, &[product, gamma])?;
        let moved = b.op(&ADD, &[scaled, offset])?;
        Ok(if self.kernel == "POLY" { b.op(&POW, &[moved, degree])? } else { b.op(&TANH, &[moved])? })
    }
}

fn wrong(name: &str, why: String) -> ImportError {
    ImportError::Attribute { name: name.to_owned(), why }
}

/// `x · w + c`, `w: [K, columns]`.
fn linear(b: &mut Build, x: Value, w: &Tensor, c: &[f64]) -> Result<Value, OpError> {
    let c = Tensor::from_fn(DType::F32, &[c.len()], |at| Scalar::from_f64(DType::F32, c[at[0]]));
    let (w, c) = (b.constant(w), b.constant(&c));
    let product = b.op(&MATMUL, &[x, w])?;
    b.op(&ADD, &[product, c])
}

/// The input as rows of `f32`.
fn rows(node: &NodeView, b: &mut Build) -> Result<Value, ImportError> {
    let x = as_rows(b, node.input(0)?)?;
    Ok(convert(b, x, DType::F32)?)
}

fn import_regressor(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let machine = Machine::of(node)?;
    let transform = PostTransform::named(node.str_or("post_transform", "NONE")?)?;
    let count = node.int_or("n_supports", 0)?.max(0) as usize;
    let x = rows(node, b)?;
    let [rho] = machine.rho[..] else {
        return Err(wrong("rho", format!("one number is needed, there are {}", machine.rho.len())));
    };
    let seen = if count > 0 { machine.kernels(b, x, &machine.vectors, count)? } else { x };
    let coefficients = &machine.coefficients;
    if b.ty(seen).shape[1] != Dim::from(coefficients.len()) {
        let why = format!("{} numbers for {} vectors or columns", coefficients.len(), b.ty(seen).shape[1]);
        return Err(wrong("coefficients", why));
    }
    let w = Tensor::from_fn(DType::F32, &[coefficients.len(), 1], |at| {
        Scalar::from_f64(DType::F32, coefficients[at[0]])
    });
    let sum = linear(b, seen, &w, &[rho])?;
    if node.flag("one_class", false)? {
        let [zero, one, other] = [0.0, 1.0, -1.0].map(|value| b.scalar(DType::F32, value));
        let inside = b.op(&GT, &[sum, zero])?;
        return Ok(vec![b.op(&WHERE, &[inside, one, other])?]);
    }
    Ok(vec![transform.of(b, sum)?])
}

fn import_classifier(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let machine = Machine::of(node)?;
    let labels = labels(node, "classlabels_ints", "classlabels_strings")?;
    let transform = PostTransform::named(node.str_or("post_transform", "NONE")?)?;
    let counts = node.ints("vectors_per_class")?.unwrap_or_default();
    let counts: Vec<usize> = counts.into_iter().map(|count| count.max(0) as usize).collect();
    let slopes = [node.floats("prob_a")?.unwrap_or_default(), node.floats("prob_b")?.unwrap_or_default()];
    let x = rows(node, b)?;
    let total: usize = counts.iter().sum();
    if total == 0 {
        return Err(ImportError::Unsupported {
            what: "SVMClassifier without support vectors".to_owned(),
            help: "export it as a LinearClassifier".to_owned(),
        });
    }
    let sums = pairwise(b, x, &machine, &counts, total)?;
    let pairs = counts.len() * (counts.len() - 1) / 2;
    let votes = votes(b, sums, counts.len())?;
    let label = best(b, votes, &labels)?;
    if slopes.iter().all(Vec::is_empty) {
        let scores = if pairs == 1 { both(b, sums, transform)? } else { transform.of(b, sums)? };
        return Ok(vec![label, scores]);
    }
    let ([slope], [offset], 1) = (&slopes[0][..], &slopes[1][..], pairs) else {
        return Err(ImportError::Unsupported {
            what: "SVMClassifier with probabilities of more than two classes".to_owned(),
            help: "export it without probabilities (`prob_a` and `prob_b`)".to_owned(),
        });
    };
    let (slope, offset) = (b.scalar(DType::F32, *slope), b.scalar(DType::F32, *offset));
    let scaled = b.op(&MUL, &[sums, slope])?;
    let moved = b.op(&ADD, &[scaled, offset])?;
    let second = b.op(&SIGMOID, &[moved])?;
    let turned = b.op(&NEG, &[moved])?;
    let first = b.op(&SIGMOID, &[turned])?;
    let chances = b.op_with(&CONCAT, &[first, second], [AXIS.is(1)])?;
    Ok(vec![label, transform.of(b, chances)?])
}

/// The sum for each pair of classes, `[N, pairs]`, in the order (0, 1), (0, 2), …, (1, 2), ….
fn pairwise(
    b: &mut Build,
    x: Value,
    machine: &Machine,
    counts: &[usize],
    total: usize,
) -> Result<Value, ImportError> {
    let classes = counts.len();
    let (pairs, coefficients) = (classes * (classes - 1) / 2, &machine.coefficients);
    if coefficients.len() != (classes - 1) * total {
        let why = format!("{} numbers for {total} vectors of {classes} classes", coefficients.len());
        return Err(wrong("coefficients", why));
    }
    if machine.rho.len() != pairs {
        return Err(wrong("rho", format!("{pairs} are needed, there are {}", machine.rho.len())));
    }
    let kernels = machine.kernels(b, x, &machine.vectors, total)?;
    let starts: Vec<usize> = (0..classes).map(|class| counts[..class].iter().sum()).collect();
    let mut w = vec![0.0; total * pairs];
    let mut pair = 0;
    for first in 0..classes {
        for second in first + 1..classes {
            // Coefficients of a class against the others stand in as many rows as there are others.
            for (class, row) in [(first, second - 1), (second, first)] {
                for vector in starts[class]..starts[class] + counts[class] {
                    w[vector * pairs + pair] = coefficients[row * total + vector];
                }
            }
            pair += 1;
        }
    }
    let w = Tensor::from_fn(DType::F32, &[total, pairs], |at| {
        Scalar::from_f64(DType::F32, w[at[0] * pairs + at[1]])
    });
    Ok(linear(b, kernels, &w, &machine.rho)?)
}

/// How many pairs each class wins, `[N, classes]`: the first of a pair with a positive sum, else the second.
fn votes(b: &mut Build, sums: Value, classes: usize) -> Result<Value, OpError> {
    let pairs: Vec<(usize, usize)> =
        (0..classes).flat_map(|first| (first + 1..classes).map(move |second| (first, second))).collect();
    let zero = b.scalar(DType::F32, 0.0);
    let won = b.op(&GT, &[sums, zero])?;
    let won = convert(b, won, DType::F32)?;
    // A pair gives its second a vote, and moves it to the first if that wins.
    let moves = Tensor::from_fn(DType::F32, &[pairs.len(), classes], |at| {
        let (first, second) = pairs[at[0]];
        Scalar::f32(f32::from(i8::from(at[1] == first) - i8::from(at[1] == second)))
    });
    let base: Vec<f64> = (0..classes)
        .map(|class| pairs.iter().filter(|(_, second)| *second == class).count() as f64)
        .collect();
    linear(b, won, &moves, &base)
}

/// The scores of two classes, `−s` and `s`, transformed.
fn both(b: &mut Build, sums: Value, transform: PostTransform) -> Result<Value, ImportError> {
    if ![PostTransform::None, PostTransform::Logistic].contains(&transform) {
        return Err(ImportError::Unsupported {
            what: "SVMClassifier of two classes with another transform than LOGISTIC".to_owned(),
            help: "export it with `post_transform` NONE or LOGISTIC, or with probabilities".to_owned(),
        });
    }
    let other = b.op(&NEG, &[sums])?;
    let scores = b.op_with(&CONCAT, &[other, sums], [AXIS.is(1)])?;
    Ok(transform.of(b, scores)?)
}
