//! Numbers that must be known when a model is compiled: lengths of sequences, and positions in them.
//!
//! They are constants, or follow from sizes. Where they follow from small inputs of the model, the caller may give
//! those: the model is then made for these values, and checks them when it runs.

use std::collections::BTreeSet;

use ir::build::Build;
use ir::graph::{Kind, Value};
use ir::op::{MAX_SIZES, OpError};
use ir::origin::Place;
use ir::{DType, Dim, NodeId, Scalar, Tensor};
use ops::flow::as_size::check_size;
use ops::math::cast::convert;
use ops::onnx::ImportError;
use ops::shape::reshape::reshape;
use ops::shape::slice::slice_axis;

use crate::error::ImportProblem;
use crate::nodes::Importer;

impl Importer<'_> {
    /// The elements of a small value; `None` if they are not known when the model is compiled.
    pub(crate) fn constant(&self, value: Value) -> Option<Vec<i64>> {
        let frame = self.frame();
        let (mut known, graph) = (frame.known.borrow_mut(), frame.build.graph());
        let sizes = known.of(graph, value);
        if let Some(numbers) = sizes.and_then(|sizes| sizes.iter().map(Dim::as_const).collect()) {
            return Some(numbers);
        }
        let tensor = known.constant(graph, value)?;
        (!tensor.dtype().is_float()).then(|| tensor.to_i64())
    }

    /// The elements of what is input `index` of a node, called `input`.
    ///
    /// # Errors
    /// They are not known, and what would help.
    pub(crate) fn numbers(
        &self,
        value: Value,
        index: usize,
        input: &'static str,
    ) -> Result<Vec<i64>, ImportError> {
        if let Some(numbers) = self.constant(value) {
            return Ok(numbers);
        }
        match self.inputs_behind(value) {
            Some(names) if !names.is_empty() => Err(ImportError::InputValue { index, input, names }),
            Some(_) if !self.is_of_an_iteration(value) => Err(ImportError::Unsupported {
                what: format!("an input (`{input}`) that depends on sizes"),
                help: "fix the symbolic sizes with --dim".to_owned(),
            }),
            _ => Err(ImportError::RunTimeValue { index, input }),
        }
    }

    /// The same; an error is reported.
    pub(crate) fn numbers_at(
        &mut self,
        value: Value,
        index: usize,
        input: &'static str,
        place: &Place,
    ) -> Option<Vec<i64>> {
        self.numbers(value, index, input).map_err(|error| self.report_op(place, error)).ok()
    }

    /// Does it follow from a number that changes with each iteration of a loop?
    fn is_of_an_iteration(&self, value: Value) -> bool {
        let frame = self.frame();
        let sizes = frame.known.borrow_mut().of(frame.build.graph(), value);
        sizes.into_iter().flatten().any(|size| frame.fixed.iter().any(|symbol| size.mentions(symbol)))
    }

    /// The small inputs of the model that a value of the current graph follows from; `None` where it follows from
    /// more than those and sizes.
    pub(crate) fn inputs_behind(&self, value: Value) -> Option<Vec<String>> {
        let mut names = BTreeSet::new();
        let mut open: Vec<(usize, NodeId)> = vec![(self.frames.len() - 1, value.node)];
        let mut seen: BTreeSet<(usize, NodeId)> = open.iter().copied().collect();
        while let Some((at, id)) = open.pop() {
            let frame = &self.frames[at];
            let graph = frame.build.graph();
            let node = graph.node(id);
            let before: Vec<(usize, NodeId)> = match &node.kind {
                Kind::Input(name) if at == 0 => {
                    let ty = &node.types[0];
                    let is_small = match ty.elements().as_const() {
                        Some(count) => count <= MAX_SIZES,
                        None => ty.rank() == 1,
                    };
                    if ty.dtype.is_float() || !is_small {
                        return None;
                    }
                    names.insert(name.clone());
                    Vec::new()
                }
                Kind::Input(_) => {
                    let (outer, _) = frame.captures.iter().find(|(_, inner)| inner.node == id)?;
                    vec![(at - 1, outer.node)]
                }
                _ => graph.needs(id, &graph.deciders()).into_iter().map(|id| (at, id)).collect(),
            };
            open.extend(before.into_iter().filter(|node| seen.insert(*node)));
        }
        Some(names.into_iter().collect())
    }
}

/// A constant of the type of the input `x`, which must have these elements: that is checked when the model runs.
pub(crate) fn with_value(
    b: &mut Build,
    x: Value,
    name: &str,
    values: &[i64],
) -> Result<Value, ImportProblem> {
    let ty = b.ty(x).clone();
    let refused = |why| ImportProblem::GivenInput { name: name.to_owned(), why };
    if ty.dtype.is_float() {
        return Err(refused("a value is given, and it is of floats: only integers and bools can be"));
    }
    let shape = ty.fixed_shape();
    let shape = shape.filter(|shape| shape.iter().product::<usize>() == values.len());
    let shape =
        shape.ok_or_else(|| refused("its value is given with another number of elements than it has"))?;
    check(b, x, name, values).map_err(|_| refused("its value cannot be compared with what is given"))?;
    let mut numbers = values.iter();
    Ok(b.constant(&Tensor::from_fn(ty.dtype, &shape, |_| {
        Scalar::from_i64(ty.dtype, *numbers.next().expect("one for each element"))
    })))
}

fn check(b: &mut Build, x: Value, name: &str, values: &[i64]) -> Result<(), OpError> {
    let flat = reshape(b, x, vec![Dim::from(values.len())])?;
    let flat = convert(b, flat, DType::I64)?;
    for (i, &value) in values.iter().enumerate() {
        let element = slice_axis(b, flat, 0, Dim::from(i), Dim::constant(1))?;
        let element = reshape(b, element, vec![])?;
        check_size(b, element, name, value.into())?;
    }
    Ok(())
}
