//! Control flow: `Loop`, and what it shares with `Scan` and `If`: bodies, which are graphs of their own.

use std::collections::{BTreeMap, BTreeSet};

use ir::build::Build;
use ir::graph::{Graph, Value};
use ir::op::OpError;
use ir::origin::Place;
use ir::{DType, Dim, Scalar, Symbol, Tensor};
use onnx_protobuf::{GraphProto, NodeProto, ValueInfoProto};
use ops::flow::as_size::as_size;
use ops::flow::r#loop::{Repeat, repeat};
use ops::math::cast::convert;
use ops::math::max::MAX;
use ops::onnx::ImportError;
use ops::shape::reshape::{reshape, reshape_checked};
use ops::shape::size::size;
use ops::shape::slice::slice_axis;

use crate::error::ImportProblem;
use crate::excerpt::Excerpt;
use crate::frame::Frame;
use crate::nodes::{Binding, Importer, Scope};
use crate::sequences::POSITION;
use crate::structure::{self, Structure};
use crate::types::declared_numbers;

/// Bodies inside bodies inside bodies, at most so deep.
const MAX_DEPTH: usize = 32;

/// More iterations than this are no limit: exporters write the largest integer.
pub(crate) const ENDLESS: i64 = 1 << 62;

impl<'a> Importer<'a> {
    /// Reports an error of an op that a node becomes.
    pub(crate) fn report_op(&mut self, place: &Place, error: impl Into<ImportError>) {
        let opset = self.scope().opsets.get("").copied().unwrap_or(0);
        let (error, excerpt) = (Box::new(error.into()), Box::<Excerpt>::default());
        self.report(place, ImportProblem::Node { opset, error, excerpt });
    }

    /// `Some` of a result; an error is reported.
    pub(crate) fn made<T>(&mut self, place: &Place, result: Result<T, OpError>) -> Option<T> {
        result.map_err(|error| self.report_op(place, error)).ok()
    }

    pub(crate) fn unsupported(&mut self, place: &Place, what: &str, help: &str) {
        let error = ImportError::Unsupported { what: what.to_owned(), help: help.to_owned() };
        self.report_op(place, error);
    }

    pub(crate) fn graph_attribute(
        &mut self,
        node: &'a NodeProto,
        name: &str,
        place: &Place,
    ) -> Option<&'a GraphProto> {
        let found = node.attribute.iter().find(|attribute| attribute.name == name);
        match found.and_then(|attribute| attribute.g.as_ref()) {
            Some(graph) => Some(graph),
            None => {
                let why = "is no graph, and must be one";
                self.report(place, ImportProblem::Attribute { name: name.to_owned(), why });
                None
            }
        }
    }

    /// The names of a body, its nodes in order.
    pub(crate) fn body_structure(&mut self, graph: &'a GraphProto, place: &Place) -> Option<Structure> {
        if self.frames.len() > MAX_DEPTH || self.scopes.len() > 4 * MAX_DEPTH {
            self.unsupported(
                place,
                "control flow nested this deep",
                "simplify the model before exporting it",
            );
            return None;
        }
        let scopes = self.scopes.clone();
        let outer = move |name: &str| {
            let mut visible = true;
            scopes.iter().rev().any(|scope| {
                let found = visible && scope.values.contains_key(name);
                visible &= scope.inherits;
                found
            })
        };
        let structure = structure::check_nested(graph, &format!("{}/", place.name), &outer);
        let fatal = structure.is_fatal;
        let (mut structure, problems) = (Structure { problems: Vec::new(), ..structure }, structure.problems);
        structure.is_fatal = fatal;
        self.problems.extend(problems);
        (!fatal).then_some(structure)
    }

    /// Opens a scope for what is below this node, in the current graph.
    pub(crate) fn push_scope(&mut self, place: &Place) {
        let outer = self.scope();
        let scope = Scope {
            values: BTreeMap::new(),
            opsets: outer.opsets,
            arguments: outer.arguments.clone(),
            function: outer.function.clone(),
            call: outer.call.clone(),
            body: Some(place.name.clone()),
            frame: self.frames.len() - 1,
            inherits: true,
            held: Vec::new(),
        };
        self.scopes.push(scope);
    }

    /// Opens a scope for a graph inside the current one, with its constants.
    pub(crate) fn enter(&mut self, graph: &'a GraphProto, place: &Place) {
        self.push_scope(place);
        for tensor in &graph.initializer {
            let binding = match crate::tensor::weight(&tensor.name, tensor.clone(), self.files) {
                Ok(weight) => Binding::Value(self.build().weight(weight)),
                Err(error) => {
                    let name = tensor.name.clone();
                    self.report(place, ImportProblem::Tensor { name, error });
                    Binding::Poisoned
                }
            };
            self.bind(&tensor.name, binding);
        }
        for sparse in &graph.sparse_initializer {
            self.report(place, ImportProblem::Sparse { name: sparse.values.name.clone() });
            self.bind(&sparse.values.name, Binding::Poisoned);
        }
    }

    /// What the outputs of the graph that was entered last stand for; leaves it.
    pub(crate) fn leave(&mut self, graph: &'a GraphProto) -> Vec<Binding> {
        let outputs = graph.output.iter().map(|output| self.binding(&output.name)).collect();
        self.scopes.pop();
        outputs
    }

    /// Adds the nodes of a graph, which takes `inputs`, to the current one. Gives what its outputs stand for.
    pub(crate) fn inline(
        &mut self,
        graph: &'a GraphProto,
        inputs: &[Value],
        place: &Place,
    ) -> Option<Vec<Binding>> {
        let structure = self.body_structure(graph, place)?;
        self.enter(graph, place);
        for (input, &value) in graph.input.iter().zip(inputs) {
            self.bind(&input.name, Binding::Value(value));
        }
        self.add_nodes(&graph.node, &structure.order);
        Some(self.leave(graph))
    }

    /// A body as a graph of its own. `inputs` gives names to what it takes besides captures. Gives the frame and what
    /// the outputs stand for, or nothing if something was reported.
    pub(crate) fn body_of(
        &mut self,
        graph: &'a GraphProto,
        place: &Place,
        inputs: impl FnOnce(&mut Importer<'a>),
    ) -> Option<(Frame, Vec<Binding>)> {
        let before = self.problems.len();
        let structure = self.body_structure(graph, place)?;
        let name = if graph.name.is_empty() { "body" } else { &graph.name };
        let frame = self.frame().body(name);
        self.frames.push(frame);
        self.enter(graph, place);
        inputs(self);
        self.add_nodes(&graph.node, &structure.order);
        let outputs = self.leave(graph);
        let frame = self.frames.pop().expect("it was pushed above");
        (self.problems.len() == before).then_some((frame, outputs))
    }

    /// The same of a body that gives tensors.
    pub(crate) fn body(
        &mut self,
        graph: &'a GraphProto,
        place: &Place,
        inputs: impl FnOnce(&mut Importer<'a>),
    ) -> Option<(Frame, Vec<Value>)> {
        let (frame, outputs) = self.body_of(graph, place, inputs)?;
        let value = |binding| if let Binding::Value(value) = binding { Some(value) } else { None };
        let values: Option<Vec<Value>> = outputs.into_iter().map(value).collect();
        if values.is_none() {
            let help = "carry one sequence through all iterations, or put its elements together first";
            self.unsupported(place, "a body that gives a sequence where a tensor is taken", help);
        }
        Some((frame, values?))
    }

    /// Binds the results of `node`. It may leave some out, and not ask for more than there are.
    pub(crate) fn bind_all(
        &mut self,
        node: &'a NodeProto,
        place: &Place,
        bindings: Vec<Binding>,
    ) -> Option<()> {
        if let Some(value) = node.output.get(bindings.len()) {
            self.report(place, ImportProblem::NoOutput { value: value.clone() });
            return None;
        }
        for (output, binding) in node.output.iter().zip(bindings) {
            self.bind(output, binding);
        }
        Some(())
    }

    pub(crate) fn condition(&mut self, value: Value, place: &Place) -> Option<Value> {
        let ty = self.graph().ty(value).clone();
        if ty.dtype != DType::Bool {
            let found = ty.dtype;
            self.report_op(place, OpError::DType { operand: "cond", expected: "bool", found });
            return None;
        }
        let scalar = reshape(self.build(), value, vec![]);
        self.made(place, scalar)
    }

    pub(crate) fn known(&self, value: Value) -> Option<Dim> {
        let frame = self.frame();
        frame.known.borrow_mut().of(frame.build.graph(), value)?.into_iter().next()
    }

    pub(crate) fn add_loop(&mut self, node: &'a NodeProto, place: &Place) -> Option<()> {
        if self.carries_lists(node) {
            return self.add_unrolled_loop(node, place);
        }
        let state = self.sees_sequences().then(|| self.state());
        let done = self.add_rolled_loop(node, place);
        let Some(state) = state.filter(|_| done.is_none()) else { return done };
        // Elements of different shapes may be taken out of a sequence: then each iteration is another.
        let problems = self.undo(state);
        let is_known = node.input.first().is_some_and(|name| match self.binding(name) {
            Binding::Value(count) => self.constant(count).is_some(),
            _ => false,
        });
        if is_known && problems.iter().any(|at| is_about_position(&at.error)) {
            return self.add_unrolled_loop(node, place);
        }
        self.problems.extend(problems);
        None
    }

    fn add_rolled_loop(&mut self, node: &'a NodeProto, place: &Place) -> Option<()> {
        let inputs = self.operands(node, place)?;
        let graph = self.graph_attribute(node, "body", place)?;
        self.build().set_origin(ir::Origin::place(place.clone()));
        let count = match inputs.first().copied().flatten() {
            None => None,
            Some(count) => {
                let count = self.trip_count(count);
                Some(self.made(place, count)?).filter(|count| count.as_const().is_none_or(|n| n < ENDLESS))
            }
        };
        let cond = match inputs.get(1).copied().flatten() {
            None => None,
            Some(cond) => Some(self.condition(cond, place)?),
        };
        let given: Option<Vec<Value>> = inputs.iter().skip(2).copied().collect();
        let Some(given) = given else {
            self.report_op(place, ImportError::MissingInput { index: 2 });
            return None;
        };
        self.loop_fits(graph, given.len(), place)?;
        let names: Vec<&'a str> = graph.input.iter().map(|input| input.name.as_str()).collect();
        let first = cond.map(|cond| self.known(cond));
        let parts = LoopParts {
            graph,
            given: &given,
            index_name: Some(names[0]),
            cond_name: Some(names[1]),
            names: &names[2..],
            elements: &[],
        };
        let made = self.loop_body(&parts, place, true)?;
        let LoopBody { graph: body, captures, index, changing, given, ends } = made;
        // A condition that always holds is none.
        let known_first = first.flatten().and_then(|first| first.as_const());
        let cond = match (cond, ends, known_first) {
            (None, false, _) | (Some(_), false, Some(1)) => None,
            (Some(cond), ..) => Some(cond),
            (None, true, _) => Some(self.build().constant(&Tensor::scalar(Scalar::bool(true)))),
        };
        let body = if cond.is_some() { body } else { without_condition(body) };
        if cond.is_none() && count.is_none() {
            self.unsupported(place, "a loop that nothing ends", "give it a trip count or a condition");
            return None;
        }
        let carried = given.len();
        let repeated = Repeat { body, index, count, cond, carried: given, captures, changing };
        let results = repeat(self.build(), repeated, "loop");
        let results = self.made(place, results)?;
        debug_assert!(results.len() >= carried, "bug: a loop without its values");
        self.bind_all(node, place, results.into_iter().map(Binding::Value).collect())
    }

    /// Does a body take and give what a loop that carries so many values asks for?
    pub(crate) fn loop_fits(&mut self, graph: &GraphProto, carried: usize, place: &Place) -> Option<()> {
        if graph.input.len() == carried + 2 && graph.output.len() > carried {
            return Some(());
        }
        let why = "takes or gives another number of values than the loop asks for";
        self.report(place, ImportProblem::Attribute { name: "body".to_owned(), why });
        None
    }

    /// A trip count as a size: known, or what is computed.
    fn trip_count(&mut self, count: Value) -> Result<Dim, OpError> {
        if let Some(known) = self.known(count) {
            return Ok(Dim::larger(&known, &Dim::constant(0)));
        }
        let b = self.build();
        let count = reshape(b, count, vec![])?;
        let count = convert(b, count, DType::I64)?;
        let zero = b.scalar(DType::I64, 0.0);
        let count = b.op(&MAX, &[count, zero])?;
        as_size(b, count, "count", None)
    }

    /// The body of a loop: imported again until the sizes of what it carries are those that it gives.
    pub(crate) fn loop_body(
        &mut self,
        parts: &LoopParts<'a, '_>,
        place: &Place,
        has_cond: bool,
    ) -> Option<LoopBody> {
        let mut given = parts.given.to_vec();
        let mut changing: BTreeMap<(usize, usize), Symbol> = BTreeMap::new();
        let first = usize::from(has_cond);
        loop {
            let index = self.build().fresh_symbol("index");
            let types: Vec<ir::TensorType> = given
                .iter()
                .map(|value| self.graph().ty(*value).clone())
                .enumerate()
                .map(|(i, ty)| {
                    let size = |(axis, dim): (usize, Dim)| changing.get(&(i, axis)).map_or(dim, Dim::from);
                    ty.with_shape(ty.shape.iter().cloned().enumerate().map(size).collect::<Vec<_>>())
                })
                .collect();
            let fixed: BTreeSet<Symbol> = changing.values().cloned().chain([index.clone()]).collect();
            let problems = self.problems.len();
            let mut carried = Vec::new();
            let body = self.body(parts.graph, place, |importer| {
                importer.frame_mut().fixed.extend(fixed);
                carried = importer.loop_inputs(parts, &types, &index);
            });
            let Some((mut frame, outputs)) = body else {
                debug_assert!(self.problems.len() > problems, "bug: a body is refused without a reason");
                return None;
            };
            let mut again = false;
            for (i, &input) in carried.iter().enumerate() {
                let (now, next) = (frame.build.ty(input).clone(), frame.build.ty(outputs[first + i]).clone());
                if now.dtype != next.dtype || now.rank() != next.rank() {
                    let error = if now.dtype == next.dtype {
                        OpError::Rank { operand: "carried", expected: now.rank(), found: next.rank() }
                    } else {
                        OpError::DTypes { left: now.dtype, right: next.dtype }
                    };
                    self.report_op(place, error);
                    return None;
                }
                for axis in 0..now.rank() {
                    if now.shape[axis] != next.shape[axis] && !changing.contains_key(&(i, axis)) {
                        let symbol = self.build().fresh_symbol("carried");
                        changing.insert((i, axis), symbol);
                        again = true;
                    }
                }
            }
            if again {
                continue;
            }
            // What the body wants of sizes holds for what is carried in, too.
            for (i, &input) in carried.iter().enumerate() {
                let (wanted, ty) = (frame.build.ty(input).clone(), self.graph().ty(given[i]).clone());
                let fits = (0..ty.rank())
                    .all(|axis| ty.shape[axis] == wanted.shape[axis] || changing.contains_key(&(i, axis)));
                if !fits {
                    let shape = (0..ty.rank()).map(|axis| {
                        let keep = changing.contains_key(&(i, axis));
                        if keep { ty.shape[axis].clone() } else { wanted.shape[axis].clone() }
                    });
                    let shape = shape.collect();
                    let seen = reshape_checked(self.build(), given[i], shape);
                    given[i] = self.made(place, seen)?;
                }
            }
            let ends = has_cond && {
                let known = frame.known.borrow_mut().of(frame.build.graph(), outputs[0]);
                known.and_then(|cond| cond.first().and_then(Dim::as_const)) != Some(1)
            };
            let mut outputs = outputs;
            let changing_sizes: BTreeSet<Symbol> =
                changing.values().cloned().chain([index.clone()]).collect();
            let infos = &parts.graph.output[first + given.len()..];
            for (output, info) in outputs[first + given.len()..].iter_mut().zip(infos) {
                let seen = as_declared(&mut frame.build, *output, info, &changing_sizes);
                *output = self.made(place, seen)?;
            }
            if has_cond {
                let scalar = reshape(&mut frame.build, outputs[0], vec![]);
                outputs[0] = self.made(place, scalar)?;
            }
            let finished = frame.finish(outputs, self.frame_mut());
            let (graph, captures) = self.made(place, finished)?;
            let mut symbols: Vec<Symbol> = changing.into_values().collect();
            symbols.dedup();
            return Some(LoopBody { graph, captures, index, changing: symbols, given, ends });
        }
    }

    /// Names what a loop's body takes. Gives the inputs for what it carries.
    fn loop_inputs(
        &mut self,
        parts: &LoopParts<'a, '_>,
        types: &[ir::TensorType],
        index: &Symbol,
    ) -> Vec<Value> {
        let mut carried = Vec::new();
        for (&name, ty) in parts.names.iter().zip(types) {
            let value = self.frame_mut().input(ty.clone());
            self.bind(name, Binding::Value(value));
            carried.push(value);
        }
        if let Some(name) = parts.index_name {
            let rank = parts.graph.input.first().map_or(0, crate::types::declared_rank);
            let number = size(self.build(), DType::I64, &Dim::from(index))
                .and_then(|number| reshape(self.build(), number, vec![Dim::constant(1); rank]));
            let binding = number.map_or(Binding::Poisoned, Binding::Value);
            self.bind(name, binding);
        }
        if let Some(name) = parts.cond_name {
            // It runs, so it holds.
            let holds = self.build().constant(&Tensor::scalar(Scalar::bool(true)));
            self.bind(name, Binding::Value(holds));
        }
        for element in parts.elements {
            let source = self.inward(element.source, element.frame);
            let value = element.take(self.build(), source, index);
            let binding = value.map_or(Binding::Poisoned, Binding::Value);
            self.bind(element.name, binding);
        }
        carried
    }
}

/// A loop as its node describes it.
pub(crate) struct LoopParts<'a, 'p> {
    pub(crate) graph: &'a GraphProto,
    /// What it carries first.
    pub(crate) given: &'p [Value],
    pub(crate) index_name: Option<&'a str>,
    pub(crate) cond_name: Option<&'a str>,
    /// The names of what it carries.
    pub(crate) names: &'p [&'a str],
    pub(crate) elements: &'p [Element<'a>],
}

/// The body of a loop, and what belongs to it.
pub(crate) struct LoopBody {
    pub(crate) graph: Graph,
    pub(crate) captures: Vec<Value>,
    pub(crate) index: Symbol,
    pub(crate) changing: Vec<Symbol>,
    pub(crate) given: Vec<Value>,
    /// May its condition end it?
    pub(crate) ends: bool,
}

/// What a scan takes one element of in each iteration.
pub(crate) struct Element<'a> {
    /// The name of the element.
    pub(crate) name: &'a str,
    /// Of what, and the graph in the making that this belongs to, by position.
    pub(crate) source: Value,
    pub(crate) frame: usize,
    pub(crate) axis: usize,
    pub(crate) count: Dim,
    pub(crate) backwards: bool,
}

impl Element<'_> {
    fn take(&self, b: &mut Build, source: Value, index: &Symbol) -> Result<Value, OpError> {
        let at = match self.backwards {
            true => self.count.clone() - Dim::constant(1) - Dim::from(index),
            false => Dim::from(index),
        };
        let element = slice_axis(b, source, self.axis, at, Dim::constant(1))?;
        let mut shape = b.ty(element).shape.clone();
        shape.remove(self.axis);
        reshape(b, element, shape)
    }
}

/// An element of a stack. Where it follows from the sizes alone that each iteration may give another shape, the model
/// can know better: a number that it declares is taken, and checked when it runs.
fn as_declared(
    b: &mut Build,
    element: Value,
    info: &ValueInfoProto,
    changing: &BTreeSet<Symbol>,
) -> Result<Value, OpError> {
    let shape = b.ty(element).shape.clone();
    let decided = b.graph().deciders();
    let varies = |size: &Dim| {
        let mut varies = false;
        size.for_each_symbol(&mut |symbol| {
            varies |= changing.contains(symbol) || decided.contains_key(symbol)
        });
        varies
    };
    let Some(declared) = declared_numbers(info).filter(|declared| declared.len() == shape.len()) else {
        return Ok(element);
    };
    let seen = shape.iter().zip(declared);
    let seen = seen.map(|(size, declared)| match declared {
        Some(number) if varies(size) => number.into(),
        _ => size.clone(),
    });
    reshape_checked(b, element, seen.collect())
}

/// Is it that a position in a sequence is not known?
fn is_about_position(problem: &ImportProblem) -> bool {
    let ImportProblem::Node { error, .. } = problem else { return false };
    match &**error {
        ImportError::RunTimeValue { input, .. } | ImportError::InputValue { input, .. } => *input == POSITION,
        _ => false,
    }
}

/// The body without its first output.
fn without_condition(mut body: Graph) -> Graph {
    let outputs: Vec<(String, Value)> =
        body.outputs().into_iter().skip(1).enumerate().map(|(i, value)| (format!("y{i}"), value)).collect();
    body.set_outputs(outputs);
    let needed = body.needed(body.roots());
    body.retain(|id| needed.contains(&id));
    body
}
