//! `einsum(x…)`: products of elements, summed over the axes that the result leaves out; `equation` names the axes.
//!
//! In `"bik,bkj->bij"` each operand has its axes' letters, and the result those after the arrow; without an arrow
//! it has, in order of the alphabet, those that come once. A letter that comes twice in one operand is its
//! diagonal. `...` stands for any axes, aligned to the right, and leads in a result without arrow. Blanks don't
//! count. Operands are combined from left to right: shared letters that nothing needs any more are the depth of
//! a `matmul`, others its leading axes.
//!
//! Shapes: operands of one type of numbers; axes of one letter are equal, or 1 and broadcast. Errors:
//! [`OpError::Attribute`] for an equation that does not fit, [`OpError::Size`], and those of the ops that it
//! stands for. Source: ONNX Einsum, opset 12; numpy.

use ir::attr::{Attrs, Key, key};
use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, OpDef};

use crate::composite::Composite;
use crate::linalg::equation::{Equation, Label};
use crate::linalg::matmul::MATMUL;
use crate::math::mul::MUL;
use crate::onnx::export::{ToOnnx, nodes};
use crate::onnx::{Import, ImportError, NodeAttr, NodeView, by};
use crate::reduce::along::reduce;
use crate::reduce::reduce_sum::REDUCE_SUM;
use crate::shape::gather_elements::{self, GATHER_ELEMENTS};
use crate::shape::iota;
use crate::shape::reshape::reshape;
use crate::shape::transpose::transpose;

/// Sums of products, by the names of axes.
pub static EINSUM: OpDef = OpDef::variadic("einsum", "x", 1, &Composite(expand)).attrs(&[EQUATION.spec()]);

/// The ONNX ops that become it.
pub static ONNX: &[Import] = &[by("Einsum", import)];

/// What it becomes in ONNX.
pub const TO_ONNX: ToOnnx =
    nodes(|e| Some(e.same_with("Einsum", vec![("equation", NodeAttr::Str(e.attrs.get(EQUATION)))])));

/// The names of axes: `"ij,jk->ik"`.
pub const EQUATION: Key<String> = key("equation");

/// A value whose axes have names, each of them another.
struct Term {
    value: Value,
    labels: Vec<Label>,
}

impl Term {
    fn size(&self, b: &Build, label: Label) -> Dim {
        b.ty(self.value).shape[self.axis(label)].clone()
    }

    fn axis(&self, label: Label) -> usize {
        self.labels.iter().position(|&known| known == label).expect("the label is one of its own")
    }

    /// With its axes in this order.
    fn ordered(self, b: &mut Build, labels: Vec<Label>) -> Result<Term, OpError> {
        let perm = labels.iter().map(|&label| self.axis(label) as i64).collect();
        Ok(Term { value: transpose(b, self.value, perm)?, labels })
    }

    /// Summed over the axes that are not wanted.
    fn summed(self, b: &mut Build, wanted: impl Fn(Label) -> bool) -> Result<Term, OpError> {
        let (labels, gone): (Vec<Label>, Vec<Label>) = self.labels.iter().partition(|&&label| wanted(label));
        if gone.is_empty() {
            return Ok(self);
        }
        let axes: Vec<i64> = gone.iter().map(|&label| self.axis(label) as i64).collect();
        Ok(Term { value: reduce(b, &REDUCE_SUM, self.value, &axes, false)?, labels })
    }
}

fn expand(b: &mut Build, x: &[Value], attrs: &Attrs) -> Result<Value, OpError> {
    let ranks: Vec<usize> = x.iter().map(|&value| b.ty(value).rank()).collect();
    let equation = Equation::parse(&attrs.get(EQUATION), &ranks)
        .map_err(|why| OpError::Attribute { key: EQUATION.name, why })?;
    if b.ty(x[0]).dtype == DType::Bool {
        return Err(OpError::DType { operand: "x", expected: "a number", found: DType::Bool });
    }
    let mut result: Option<Term> = None;
    for (index, (&value, labels)) in x.iter().zip(&equation.operands).enumerate() {
        let rest = &equation.operands[index + 1..];
        let later = |label| equation.result.contains(&label) || rest.iter().any(|x| x.contains(&label));
        let term = diagonal(b, value, labels)?;
        let term = match result.take() {
            None => term.summed(b, later)?,
            Some(left) => product(b, left, term, &later)?,
        };
        result = Some(term);
    }
    let result = result.expect("there is at least one operand");
    Ok(result.ordered(b, equation.result)?.value)
}

/// Axes of one name become one: the elements whose indices are equal along them.
fn diagonal(b: &mut Build, x: Value, labels: &[Label]) -> Result<Term, OpError> {
    let (mut value, mut labels) = (x, labels.to_vec());
    let twice = |labels: &[Label]| {
        (0..labels.len()).find_map(|j| Some((labels[..j].iter().position(|&label| label == labels[j])?, j)))
    };
    while let Some((first, second)) = twice(&labels) {
        let mut at = b.ty(value).shape.clone();
        if at[first] != at[second] {
            let (left, right) = (at[first].clone(), at[second].clone());
            return Err(OpError::Size { what: "axes of one letter in an operand", left, right });
        }
        at[second] = Dim::constant(1);
        let along = [iota::SHAPE.is(at.clone()), iota::AXIS.is(first as i64), iota::DTYPE.is(DType::I64)];
        let index = b.op_with(&iota::IOTA, &[], along)?;
        let along = [gather_elements::AXIS.is(second as i64)];
        let column = b.op_with(&GATHER_ELEMENTS, &[value, index], along)?;
        at.remove(second);
        labels.remove(second);
        value = reshape(b, column, at)?;
    }
    Ok(Term { value, labels })
}

/// The product of two terms, summed over what is not needed `later`.
fn product(b: &mut Build, left: Term, right: Term, later: &dyn Fn(Label) -> bool) -> Result<Term, OpError> {
    for &label in left.labels.iter().filter(|label| right.labels.contains(label)) {
        let (a, c) = (left.size(b, label), right.size(b, label));
        if a != c && !a.is(1) && !c.is(1) {
            return Err(OpError::Size { what: "axes of one letter", left: a, right: c });
        }
    }
    // What only one of them has is summed before; so is an axis that the other one stretches along.
    let stretched = |b: &Build, x: &Term, other: &Term, label| {
        other.labels.contains(&label) && x.size(b, label) != other.size(b, label)
    };
    let early = |b: &Build, x: &Term, other: &Term| -> Vec<Label> {
        let alone = |label| !other.labels.contains(&label) || stretched(b, x, other, label);
        x.labels.iter().copied().filter(|&label| !later(label) && alone(label)).collect()
    };
    let (from_left, from_right) = (early(b, &left, &right), early(b, &right, &left));
    let left = left.summed(b, |label| !from_left.contains(&label))?;
    let right = right.summed(b, |label| !from_right.contains(&label))?;

    let (shared, rows): (Vec<Label>, Vec<Label>) =
        left.labels.iter().partition(|label| right.labels.contains(label));
    let (batch, depth): (Vec<Label>, Vec<Label>) = shared.iter().partition(|&&label| later(label));
    let columns: Vec<Label> =
        right.labels.iter().copied().filter(|label| !left.labels.contains(label)).collect();
    let labels = [batch.as_slice(), &rows, &columns].concat();
    let left = left.ordered(b, [batch.as_slice(), &rows, &depth].concat())?;
    let right = right.ordered(b, [batch.as_slice(), &depth, &columns].concat())?;
    let [left_shape, right_shape] = [&left, &right].map(|term| b.ty(term.value).shape.clone());
    let (_, left_rows) = left_shape[..batch.len() + rows.len()].split_at(batch.len());
    let right_columns = &right_shape[batch.len() + depth.len()..];
    let shape: Vec<Dim> = batch
        .iter()
        .enumerate()
        .map(|(axis, _)| if left_shape[axis].is(1) { &right_shape[axis] } else { &left_shape[axis] })
        .chain(left_rows)
        .chain(right_columns)
        .cloned()
        .collect();
    let one = Dim::constant(1);
    let value = if depth.is_empty() {
        // Rows and columns have axes of their own: an outer product, element by element.
        let ones = |count: usize| vec![one.clone(); count];
        let left = reshape(b, left.value, [left_shape.as_slice(), &ones(columns.len())].concat())?;
        let (batches, columns) = right_shape.split_at(batch.len());
        let right = reshape(b, right.value, [batches, &ones(rows.len()), columns].concat())?;
        b.op(&MUL, &[left, right])?
    } else {
        let all = |sizes: &[Dim]| sizes.iter().cloned().product::<Dim>();
        let deep = all(&left_shape[batch.len() + rows.len()..]);
        let matrix = |batch: &[Dim], last: [Dim; 2]| [batch, &last].concat();
        let left_matrix = matrix(&left_shape[..batch.len()], [all(left_rows), deep.clone()]);
        let right_matrix = matrix(&right_shape[..batch.len()], [deep, all(right_columns)]);
        let operands = [reshape(b, left.value, left_matrix)?, reshape(b, right.value, right_matrix)?];
        b.op(&MATMUL, &operands)?
    };
    Ok(Term { value: reshape(b, value, shape)?, labels })
}

fn import(node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
    let equation = node.str("equation")?;
    let equation = node.required("equation", equation)?.to_owned();
    Ok(vec![b.op_with(&EINSUM, &node.inputs()?, [EQUATION.is(equation)])?])
}
