//! Sequences of tensors: lists that are known when the model is imported.
//!
//! A sequence is no value of a graph. What puts tensors into one and takes them out again disappears.

use std::collections::BTreeMap;

use ir::graph::Value;
use ir::op::{OpError, normalize_axis};
use ir::origin::Place;
use ir::{Dim, TensorType};
use onnx_protobuf::NodeProto;
use ops::onnx::{Found, ImportError, NodeAttr, NodeView, find_import};
use ops::shape::concat::{AXIS, CONCAT};
use ops::shape::reshape::reshape;
use ops::shape::size::sizes;
use ops::shape::slice::slice_axis;

use crate::error::ImportProblem;
use crate::frame::Frame;
use crate::nodes::{Binding, Importer};

/// Several values, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sequence(Vec<Value>);

impl Sequence {
    pub(crate) fn values(&self) -> impl Iterator<Item = Value> {
        self.0.iter().copied()
    }

    pub(crate) fn map(self, change: impl FnMut(Value) -> Value) -> Sequence {
        Sequence(self.0.into_iter().map(change).collect())
    }
}

/// Ops that make, change or read sequences.
const OPS: [&str; 8] = [
    "SequenceConstruct",
    "SequenceEmpty",
    "SplitToSequence",
    "SequenceAt",
    "SequenceLength",
    "SequenceInsert",
    "SequenceErase",
    "ConcatFromSequence",
];

/// Is it one of these ops?
pub(crate) fn is_sequence_op(op: &str) -> bool {
    OPS.contains(&op)
}

impl<'a> Importer<'a> {
    /// Adds a node that works on sequences; `None` if it does not.
    pub(crate) fn add_sequence_op(&mut self, node: &'a NodeProto, place: &Place) -> Option<Option<()>> {
        let hands_on = node.op_type == "Identity"
            && node.input.first().is_some_and(|name| matches!(self.binding(name), Binding::Sequence(_)));
        if hands_on {
            let binding = self.binding(&node.input[0]);
            node.output.iter().take(1).for_each(|output| self.bind(output, binding.clone()));
            return Some(Some(()));
        }
        if !is_sequence_op(&node.op_type) {
            return None;
        }
        self.build().set_origin(ir::Origin::place(place.clone()));
        let made = match self.sequence_op(node) {
            Ok(made) => made,
            Err(error) => {
                let opset = self.scope().opsets.get("").copied().unwrap_or(0);
                let error = ImportProblem::Node { opset, error: Box::new(error), excerpt: Box::default() };
                self.report(place, error);
                return Some(None);
            }
        };
        let bind = |binding: Binding| {
            node.output.iter().take(1).for_each(|output| self.bind(output, binding.clone()))
        };
        Some(made.map(bind))
    }

    /// What the output stands for; `None` where an operand was reported.
    fn sequence_op(&mut self, node: &'a NodeProto) -> Result<Option<Binding>, ImportError> {
        let bindings: Vec<Binding> = node
            .input
            .iter()
            .map(|name| if name.is_empty() { Binding::Absent } else { self.binding(name) })
            .collect();
        if bindings.iter().any(|binding| matches!(binding, Binding::Poisoned)) {
            return Ok(None);
        }
        let value = |index: usize| match bindings.get(index) {
            Some(Binding::Value(value)) => Some(*value),
            _ => None,
        };
        let needed = |index: usize| value(index).ok_or(ImportError::MissingInput { index });
        let list = || match bindings.first() {
            Some(Binding::Sequence(sequence)) => Ok(sequence.0.clone()),
            _ => Err(ImportError::MissingInput { index: 0 }),
        };
        let int = |name: &str| node.attribute.iter().find(|a| a.name == name).map(|a| a.i);
        Ok(Some(match node.op_type.as_str() {
            "SequenceEmpty" => Binding::Sequence(Sequence::default()),
            "SequenceConstruct" => {
                let values = (0..bindings.len()).map(needed).collect::<Result<_, _>>()?;
                Binding::Sequence(Sequence(values))
            }
            "SequenceLength" => {
                let count = Dim::from(list()?.len());
                Binding::Value(sizes(self.build(), &[count], &TensorType::scalar(ir::DType::I64))?)
            }
            "SequenceAt" => {
                let list = list()?;
                let at = self.position(needed(1)?, 1, list.len())?;
                let found = list.get(at).copied();
                Binding::Value(found.ok_or(OpError::Axis { axis: at as i64, rank: list.len() })?)
            }
            "SequenceInsert" => {
                let mut list = list()?;
                let at = match value(2) {
                    Some(at) => self.position(at, 2, list.len())?,
                    None => list.len(),
                };
                list.insert(at.min(list.len()), needed(1)?);
                Binding::Sequence(Sequence(list))
            }
            "SequenceErase" => {
                let mut list = list()?;
                let at = match value(1) {
                    Some(at) => self.position(at, 1, list.len())?,
                    None => list.len().saturating_sub(1),
                };
                if at >= list.len() {
                    return Err(OpError::Axis { axis: at as i64, rank: list.len() }.into());
                }
                list.remove(at);
                Binding::Sequence(Sequence(list))
            }
            "ConcatFromSequence" => {
                let axis = int("axis").unwrap_or(0);
                Binding::Value(self.joined(&list()?, axis, int("new_axis") == Some(1))?)
            }
            _ => {
                let (axis, keep) = (int("axis").unwrap_or(0), int("keepdims").unwrap_or(1) != 0);
                Binding::Sequence(Sequence(self.split(needed(0)?, value(1), axis, keep)?))
            }
        }))
    }

    /// The elements of a small value, which must be known numbers.
    fn numbers(&self, value: Value, index: usize, input: &'static str) -> Result<Vec<i64>, ImportError> {
        let frame = self.frame();
        let known = frame.known.borrow_mut().of(frame.build.graph(), value);
        let numbers = known.and_then(|known| known.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>());
        numbers.ok_or(ImportError::RunTimeValue { index, input })
    }

    fn position(&self, value: Value, index: usize, len: usize) -> Result<usize, ImportError> {
        let at = self.numbers(value, index, "position")?.first().copied().unwrap_or(0);
        let at = if at < 0 { at + len as i64 } else { at };
        usize::try_from(at).ok().filter(|&at| at <= len).ok_or(OpError::Axis { axis: at, rank: len }.into())
    }

    fn joined(&mut self, list: &[Value], axis: i64, new_axis: bool) -> Result<Value, ImportError> {
        let Some(&first) = list.first() else {
            let help = "there is nothing to give it a type".to_owned();
            return Err(ImportError::Unsupported { what: "joining an empty sequence".to_owned(), help });
        };
        let b = self.build();
        let mut parts = list.to_vec();
        if new_axis {
            let at = normalize_axis(axis, b.ty(first).rank() + 1)?;
            for part in &mut parts {
                let mut shape = b.ty(*part).shape.clone();
                shape.insert(at, Dim::constant(1));
                *part = reshape(b, *part, shape)?;
            }
        }
        Ok(b.op_with(&CONCAT, &parts, [AXIS.is(axis)])?)
    }

    fn split(
        &mut self,
        x: Value,
        parts: Option<Value>,
        axis: i64,
        keep: bool,
    ) -> Result<Vec<Value>, ImportError> {
        let ty = self.graph().ty(x).clone();
        let axis = normalize_axis(axis, ty.rank())?;
        if let Some(parts) = parts.filter(|&parts| self.graph().ty(parts).rank() > 0) {
            return self.split_into(x, parts, axis);
        }
        let size = ty.shape[axis].as_const();
        let size = size.ok_or_else(|| ImportError::Unsupported {
            what: "a sequence of a number of parts that is not known".to_owned(),
            help: "fix the symbolic sizes with --dim".to_owned(),
        })?;
        // Without a size, every part is one element.
        let (chunk, keep) = match parts {
            None => (1, keep),
            Some(chunk) => (self.numbers(chunk, 1, "split")?[0].max(1), true),
        };
        let b = self.build();
        let mut list = Vec::new();
        for start in (0..size).step_by(chunk as usize) {
            let mut part = slice_axis(b, x, axis, start.into(), chunk.min(size - start).into())?;
            if !keep {
                let mut shape = b.ty(part).shape.clone();
                shape.remove(axis);
                part = reshape(b, part, shape)?;
            }
            list.push(part);
        }
        Ok(list)
    }

    /// Into parts of sizes that may be known only when the model runs: as Split does it.
    fn split_into(&mut self, x: Value, parts: Value, axis: usize) -> Result<Vec<Value>, ImportError> {
        let count =
            self.graph().ty(parts).elements().as_const().and_then(|count| usize::try_from(count).ok());
        let count = count.ok_or(ImportError::RunTimeValue { index: 1, input: "split" })?;
        let Found::Import(import) = find_import("", "Split", SPLIT) else {
            unreachable!("bug: Split is an operator of that version")
        };
        let attributes = BTreeMap::from([("axis".to_owned(), NodeAttr::Int(axis as i64))]);
        let Frame { build, known, .. } = self.frame_mut();
        let view = NodeView::new("Split", SPLIT, &attributes, known)
            .leniently(true)
            .with_inputs(vec![Some(x), Some(parts)])
            .with_outputs(vec![true; count]);
        import.convert(&view, build)
    }
}

/// The version of Split that takes sizes as an input.
const SPLIT: i64 = 13;
