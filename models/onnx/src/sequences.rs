//! Sequences of tensors, and optionals: lists that are known when the model is imported.
//!
//! Neither is a value of a graph. What puts tensors into one and takes them out again disappears.

use std::collections::BTreeMap;

use ir::graph::Value;
use ir::op::{OpError, normalize_axis};
use ir::origin::Place;
use ir::{Dim, Scalar, Tensor, TensorType};
use onnx_protobuf::NodeProto;
use ops::onnx::{Found, ImportError, NodeAttr, NodeView, find_import};
use ops::shape::concat::{AXIS, CONCAT};
use ops::shape::reshape::reshape;
use ops::shape::size::sizes;
use ops::shape::slice::slice_axis;

use crate::error::ImportProblem;
use crate::frame::Frame;
use crate::nodes::{Binding, Importer, MAX_ROUNDS};
use crate::ports::MAX_LENGTH;
use crate::unify::Unified;

/// Several values, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sequence(Vec<Value>);

impl Sequence {
    pub(crate) fn new(values: Vec<Value>) -> Sequence {
        Sequence(values)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = Value> {
        self.0.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<Value> {
        self.0.get(index).copied()
    }

    pub(crate) fn map(self, change: impl FnMut(Value) -> Value) -> Sequence {
        Sequence(self.0.into_iter().map(change).collect())
    }
}

/// Ops that make, change or read sequences and optionals, with the opset that each came with.
const OPS: [(&str, i64); 12] = [
    ("SequenceConstruct", 11),
    ("SequenceEmpty", 11),
    ("SplitToSequence", 11),
    ("SequenceAt", 11),
    ("SequenceLength", 11),
    ("SequenceInsert", 11),
    ("SequenceErase", 11),
    ("ConcatFromSequence", 11),
    ("SequenceMap", 17),
    ("Optional", 15),
    ("OptionalHasElement", 15),
    ("OptionalGetElement", 15),
];

/// Is it one of these ops?
pub(crate) fn is_list_op(op: &str) -> bool {
    OPS.iter().any(|(name, _)| *name == op)
}

impl<'a> Importer<'a> {
    /// Does a node work on sequences or optionals? `Identity` hands them on.
    pub(crate) fn is_about_lists(&mut self, node: &NodeProto) -> bool {
        let is_list = |binding: Binding| matches!(binding, Binding::Sequence(_) | Binding::Nothing);
        is_list_op(&node.op_type)
            || node.op_type == "Identity"
                && node.input.first().is_some_and(|name| !name.is_empty() && is_list(self.binding(name)))
    }

    /// Adds such a node.
    pub(crate) fn add_list_op(&mut self, node: &'a NodeProto, place: &Place) -> Option<()> {
        let opset = self.opset(node, place)?;
        let since = OPS.iter().find(|(name, _)| *name == node.op_type).map_or(1, |(_, since)| *since);
        if opset < since {
            let op = place.op.clone();
            self.report(place, ImportProblem::OpNewerThanOpset { op, opset, since });
            return None;
        }
        if node.op_type == "SequenceMap" {
            return self.add_sequence_map(node, place);
        }
        let bindings = self.bindings(node)?;
        self.build().set_origin(ir::Origin::place(place.clone()));
        let mut rounds = 0..MAX_ROUNDS;
        loop {
            let error = match self.list_op(node, &bindings) {
                Ok(made) => return self.bind_all(node, place, vec![made]),
                Err(error) => error,
            };
            // Tensors that are joined must agree in their sizes.
            let solution = match &error {
                ImportError::Op(OpError::Size { left, right, .. }) => {
                    self.solve(left, right).map(|solution| (solution, left.clone(), right.clone()))
                }
                _ => None,
            };
            let Some(((symbol, size), left, right)) = solution.filter(|_| rounds.next().is_some()) else {
                self.report_op(place, error);
                return None;
            };
            self.substitute(Unified { symbol, size, left, right, by: place.clone() }, &[])?;
        }
    }

    fn list_op(&mut self, node: &NodeProto, bindings: &[Binding]) -> Result<Binding, ImportError> {
        let held = bindings.first().filter(|held| !matches!(held, Binding::Absent));
        let held = held.cloned().unwrap_or(Binding::Nothing);
        match node.op_type.as_str() {
            "Identity" => Ok(held),
            "Optional" | "OptionalHasElement" | "OptionalGetElement" => self.optional_op(node, held),
            _ => self.sequence_op(node, bindings),
        }
    }

    /// An optional that is there is what it holds.
    fn optional_op(&mut self, node: &NodeProto, held: Binding) -> Result<Binding, ImportError> {
        let is_there = !matches!(held, Binding::Nothing);
        match node.op_type.as_str() {
            "Optional" => Ok(held),
            "OptionalHasElement" => {
                let is_there = Tensor::scalar(Scalar::bool(is_there));
                Ok(Binding::Value(self.build().constant(&is_there)))
            }
            _ if is_there => Ok(held),
            _ => Err(ImportError::Unsupported {
                what: "taking the element of an optional that has none".to_owned(),
                help: "compile the model with this input, not without".to_owned(),
            }),
        }
    }

    /// What the output stands for.
    fn sequence_op(&mut self, node: &NodeProto, bindings: &[Binding]) -> Result<Binding, ImportError> {
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
        Ok(match node.op_type.as_str() {
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
                let at = needed(1)?;
                if self.constant(at).is_none() && self.is_uniform(&list) {
                    return self.chosen(&list, at).map(Binding::Value);
                }
                let at = self.position(at, 1, list.len())?;
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
        })
    }

    /// Are all elements of one type?
    fn is_uniform(&self, list: &[Value]) -> bool {
        let mut types = list.iter().map(|&value| self.graph().ty(value));
        types.next().is_some_and(|first| types.all(|ty| ty == first))
    }

    /// The element at a position that the run decides: one of a stack.
    fn chosen(&mut self, list: &[Value], at: Value) -> Result<Value, ImportError> {
        let stack = self.joined(list, 0, true)?;
        let b = self.build();
        let at = reshape(b, at, vec![])?;
        let attributes = BTreeMap::from([("axis".to_owned(), NodeAttr::Int(0))]);
        Ok(self.import_as(("Gather", GATHER), &attributes, vec![Some(stack), Some(at)], 1)?[0])
    }

    /// What another op of ONNX makes of these operands.
    fn import_as(
        &mut self,
        (op, opset): (&'static str, i64),
        attributes: &BTreeMap<String, NodeAttr>,
        operands: Vec<Option<Value>>,
        results: usize,
    ) -> Result<Vec<Value>, ImportError> {
        let Found::Import(import) = find_import("", op, opset) else {
            unreachable!("bug: {op} is an operator of that version")
        };
        let Frame { build, known, .. } = self.frame_mut();
        let view = NodeView::new(op, opset, attributes, known)
            .leniently(true)
            .with_inputs(operands)
            .with_outputs(vec![true; results]);
        import.convert(&view, build)
    }

    fn position(&self, value: Value, index: usize, len: usize) -> Result<usize, ImportError> {
        let at = self.numbers(value, index, POSITION)?.first().copied().unwrap_or(0);
        let at = if at < 0 { at + len as i64 } else { at };
        usize::try_from(at).ok().filter(|&at| at <= len).ok_or(OpError::Axis { axis: at, rank: len }.into())
    }

    pub(crate) fn joined(&mut self, list: &[Value], axis: i64, new_axis: bool) -> Result<Value, ImportError> {
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
        bounded(size / chunk)?;
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
        let count = self.graph().ty(parts).elements().as_const();
        let count = bounded(count.ok_or(ImportError::RunTimeValue { index: 1, input: "split" })?)?;
        let attributes = BTreeMap::from([("axis".to_owned(), NodeAttr::Int(axis as i64))]);
        let made = self.import_as(("Split", SPLIT), &attributes, vec![Some(x), Some(parts)], count);
        match made {
            // It says which inputs of the model would help.
            Err(ImportError::RunTimeValue { index, input }) => Err(self
                .numbers(parts, index, input)
                .err()
                .unwrap_or(ImportError::RunTimeValue { index, input })),
            made => made,
        }
    }
}

/// So many tensors, if a sequence may have them.
fn bounded(count: i64) -> Result<usize, ImportError> {
    usize::try_from(count).ok().filter(|&count| count <= MAX_LENGTH).ok_or_else(|| ImportError::Unsupported {
        what: format!("a sequence of {count} tensors"),
        help: format!("make it of at most {MAX_LENGTH}"),
    })
}

/// What ONNX calls the place of an element.
pub(crate) const POSITION: &str = "position";

/// The version of Split that takes sizes as an input.
const SPLIT: i64 = 13;

/// The version of Gather that takes positions from behind.
const GATHER: i64 = 13;
