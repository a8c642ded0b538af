//! Loops over sequences: their bodies are added once for each iteration.
//!
//! `SequenceMap` (opset 17) applies its body to each element of its sequences. A `Loop` (opset 11) that carries a
//! sequence or an optional, or takes elements of different shapes out of one, is opened: how often it runs must be
//! known when the model is compiled.

use ir::op::OpError;
use ir::origin::Place;
use ir::{DType, Dim, Scalar, Tensor, Value};
use onnx_protobuf::{GraphProto, NodeProto};
use ops::onnx::ImportError;

use crate::control::ENDLESS;
use crate::error::ImportProblem;
use crate::nodes::{Binding, Importer};
use crate::ports::{self, Kind};
use crate::sequences::Sequence;
use crate::structure::Structure;
use crate::types::declared_rank;

/// A loop is opened for so many iterations at most.
const MAX_UNROLLED: usize = 1 << 12;

impl<'a> Importer<'a> {
    /// Does a loop carry sequences or optionals?
    pub(crate) fn carries_lists(&mut self, node: &'a NodeProto) -> bool {
        let bodies = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
        let mut inputs = bodies.flat_map(|body| body.input.iter().skip(2));
        inputs.any(|info| ports::declared(info.type_.as_ref()).0 != Kind::Tensor)
            || node
                .input
                .iter()
                .skip(2)
                .any(|name| matches!(self.binding(name), Binding::Sequence(_) | Binding::Nothing))
    }

    /// What could take elements out of a sequence at positions that are not known: is one in sight?
    pub(crate) fn sees_sequences(&self) -> bool {
        let mut bindings = self.scopes.iter().flat_map(|scope| scope.values.values());
        bindings.any(|binding| matches!(binding, Binding::Sequence(_)))
    }

    pub(crate) fn add_unrolled_loop(&mut self, node: &'a NodeProto, place: &Place) -> Option<()> {
        let held = self.scope().held.len();
        let results = self.unrolled_loop(node, place);
        self.scope_mut().held.truncate(held);
        self.bind_all(node, place, results?)
    }

    fn unrolled_loop(&mut self, node: &'a NodeProto, place: &Place) -> Option<Vec<Binding>> {
        let graph = self.graph_attribute(node, "body", place)?;
        let given = self.bindings(node)?;
        self.build().set_origin(ir::Origin::place(place.clone()));
        let count = match given.first() {
            Some(Binding::Value(count)) => {
                let count = self.numbers_at(*count, 0, "M", place)?.first().copied().unwrap_or(0).max(0);
                (count < ENDLESS).then_some(count as usize)
            }
            _ => None,
        };
        let mut goes_on = match given.get(1) {
            Some(Binding::Value(cond)) => self.holds(*cond, place)?,
            _ => true,
        };
        let mut carried: Vec<Binding> = given.into_iter().skip(2).collect();
        if carried.iter().any(|binding| matches!(binding, Binding::Absent)) {
            self.report_op(place, ImportError::MissingInput { index: 2 });
            return None;
        }
        self.loop_fits(graph, carried.len(), place)?;
        let structure = self.body_structure(graph, place)?;
        let mut stacks = vec![Vec::new(); graph.output.len() - carried.len() - 1];
        let mut done = 0;
        while goes_on && count.is_none_or(|count| done < count) {
            if done == MAX_UNROLLED {
                let what = "a loop over sequences of more than 4096 iterations";
                self.unsupported(place, what, "give it a smaller trip count, or carry a tensor");
                return None;
            }
            let mut inputs = self.loop_counter(graph, done);
            inputs.extend(carried.iter().cloned());
            let mut outputs = self.iteration(graph, &structure, inputs, place)?.into_iter();
            let cond = outputs.next();
            done += 1;
            carried = outputs.by_ref().take(carried.len()).collect();
            for (stack, output) in stacks.iter_mut().zip(outputs) {
                let Binding::Value(element) = output else {
                    self.unsupported(place, "a stack of sequences", "put their elements together first");
                    return None;
                };
                self.scope_mut().held.push(element);
                stack.push(element);
            }
            if count != Some(done) {
                let Some(Binding::Value(cond)) = cond else {
                    self.unsupported(place, "a condition that is no tensor", "give a truth value");
                    return None;
                };
                goes_on = self.holds(cond, place)?;
            }
        }
        self.build().set_origin(ir::Origin::place(place.clone()));
        let mut results = carried;
        for stack in stacks {
            let stack = self.joined(&stack, 0, true).map_err(|error| self.report_op(place, error)).ok()?;
            results.push(Binding::Value(stack));
        }
        Some(results)
    }

    fn holds(&mut self, cond: Value, place: &Place) -> Option<bool> {
        let numbers = self.numbers_at(cond, 1, "cond", place)?;
        Some(numbers.first().is_some_and(|&cond| cond != 0))
    }

    /// The number of the iteration, and that the condition holds.
    fn loop_counter(&mut self, graph: &GraphProto, iteration: usize) -> Vec<Binding> {
        let shape = vec![1; graph.input.first().map_or(0, declared_rank)];
        let number = Tensor::splat(Scalar::from_i64(DType::I64, iteration as i64), &shape);
        let holds = Tensor::scalar(Scalar::bool(true));
        [number, holds].map(|tensor| Binding::Value(self.build().constant(&tensor))).into()
    }

    /// Adds the nodes of a body to the current graph, whose inputs stand for these. Gives what its outputs stand for;
    /// `None` if something was reported.
    fn iteration(
        &mut self,
        graph: &'a GraphProto,
        structure: &Structure,
        inputs: Vec<Binding>,
        place: &Place,
    ) -> Option<Vec<Binding>> {
        let before = self.problems.len();
        self.enter(graph, place);
        for (info, binding) in graph.input.iter().zip(inputs) {
            self.bind(&info.name, binding);
        }
        self.add_nodes(&graph.node, &structure.order);
        let outputs = self.leave(graph);
        let is_whole = !outputs.iter().any(|output| matches!(output, Binding::Poisoned));
        (is_whole && self.problems.len() == before).then_some(outputs)
    }

    pub(crate) fn add_sequence_map(&mut self, node: &'a NodeProto, place: &Place) -> Option<()> {
        let held = self.scope().held.len();
        let results = self.sequence_map(node, place);
        self.scope_mut().held.truncate(held);
        self.bind_all(node, place, results?)
    }

    fn sequence_map(&mut self, node: &'a NodeProto, place: &Place) -> Option<Vec<Binding>> {
        let graph = self.graph_attribute(node, "body", place)?;
        let given = self.bindings(node)?;
        let Some(Binding::Sequence(first)) = given.first() else {
            self.report_op(place, ImportError::MissingInput { index: 0 });
            return None;
        };
        if graph.input.len() != given.len() || graph.output.len() < node.output.len() {
            let why = "takes or gives another number of values than the node";
            self.report(place, ImportProblem::Attribute { name: "body".to_owned(), why });
            return None;
        }
        let count = first.len();
        for binding in &given {
            if let Binding::Sequence(other) = binding
                && other.len() != count
            {
                let (left, right) = (Dim::from(count), Dim::from(other.len()));
                let what = "sequences differ in length";
                self.report_op(place, OpError::Size { what, left, right });
                return None;
            }
        }
        let structure = self.body_structure(graph, place)?;
        let mut results = vec![Vec::new(); graph.output.len()];
        for index in 0..count {
            let element = |binding: &Binding| match binding {
                Binding::Sequence(sequence) => sequence.get(index).map_or(Binding::Poisoned, Binding::Value),
                other => other.clone(),
            };
            let inputs = given.iter().map(element).collect();
            let outputs = self.iteration(graph, &structure, inputs, place)?;
            for (result, output) in results.iter_mut().zip(outputs) {
                let Binding::Value(output) = output else {
                    self.unsupported(place, "a sequence of sequences", "put their elements together first");
                    return None;
                };
                self.scope_mut().held.push(output);
                result.push(output);
            }
        }
        Some(results.into_iter().map(|values| Binding::Sequence(Sequence::new(values))).collect())
    }
}
