//! Nodes into a graph: one after the other, functions opened, sizes unified where an op needs it.
//!
//! A node that can't be imported is reported, and its outputs are *poisoned*: what depends on them is looked up, so
//! that every unsupported op is reported at once, but not converted, so that nothing is reported twice.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use ir::build::Build;
use ir::graph::{KnownSizes, Value};
use ir::op::OpError;
use ir::origin::{Origin, Place};
use ir::{At, Graph, NodeId, Symbol};
use onnx_protobuf::NodeProto;
use ops::onnx::{Found, Import, ImportError, NodeView, find_import};

use crate::Files;
use crate::attributes::{self, Arguments};
use crate::error::ImportProblem;
use crate::excerpt::excerpt;
use crate::functions::{self, Function, Functions};
use crate::metadata;
use crate::unify::{self, Unified};

/// One node makes at most so many pairs of sizes equal.
const MAX_ROUNDS: usize = 64;

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Binding {
    /// A value of the graph.
    Value(Value),
    /// An input of a function that the call leaves out.
    Absent,
    /// What could not be made; it was reported.
    Poisoned,
}

/// The names and versions that hold in a graph or in one call of a function.
struct Scope<'a> {
    values: BTreeMap<&'a str, Binding>,
    opsets: &'a BTreeMap<&'a str, i64>,
    arguments: Arguments<'a>,
    /// The function whose body this is.
    function: Option<String>,
    /// The call, for what the body's nodes don't say themselves.
    call: Place,
}

/// A graph in the making.
pub(crate) struct Importer<'a> {
    build: Build,
    sizes: RefCell<KnownSizes>,
    functions: &'a Functions<'a>,
    files: &'a dyn Files,
    /// The graph's own names, then those of the calls around the current node.
    scopes: Vec<Scope<'a>>,
    pub(crate) problems: Vec<At<ImportProblem>>,
    pub(crate) unified: Vec<Unified>,
    /// Domains without a version, reported already.
    no_opset: BTreeSet<String>,
}

impl<'a> Importer<'a> {
    /// On a graph whose inputs and weights are there, and have names.
    pub(crate) fn new(
        build: Build,
        values: BTreeMap<&'a str, Binding>,
        opsets: &'a BTreeMap<&'a str, i64>,
        functions: &'a Functions<'a>,
        files: &'a dyn Files,
    ) -> Importer<'a> {
        let scope = Scope { values, opsets, arguments: None, function: None, call: Place::default() };
        Importer {
            build,
            sizes: RefCell::new(KnownSizes::new()),
            functions,
            files,
            scopes: vec![scope],
            problems: Vec::new(),
            unified: Vec::new(),
            no_opset: BTreeSet::new(),
        }
    }

    /// The graph so far.
    pub(crate) fn graph(&self) -> &Graph {
        self.build.graph()
    }

    /// The graph.
    pub(crate) fn into_graph(self) -> Graph {
        self.build.into_graph()
    }

    /// What a name of the current scope stands for. Names that nothing gives were reported.
    pub(crate) fn binding(&self, name: &str) -> Binding {
        self.scope().values.get(name).copied().unwrap_or(Binding::Poisoned)
    }

    fn scope(&self) -> &Scope<'a> {
        self.scopes.last().expect("the graph's own scope stays")
    }

    fn bind(&mut self, name: &'a str, binding: Binding) {
        if !name.is_empty() {
            self.scopes.last_mut().expect("the graph's own scope stays").values.insert(name, binding);
        }
    }

    fn report(&mut self, place: &Place, error: ImportProblem) {
        self.problems.push(At { node: None, origin: Origin::place(place.clone()), error });
    }

    /// Adds `nodes` in this order.
    pub(crate) fn add_nodes(&mut self, nodes: &'a [NodeProto], order: &[usize]) {
        for &index in order {
            let node = &nodes[index];
            let place = self.place(node, index);
            if self.add_node(node, &place).is_none() {
                for output in &node.output {
                    self.bind(output, Binding::Poisoned);
                }
            }
        }
    }

    /// The origin of a node: in a function, below the call.
    fn place(&self, node: &NodeProto, index: usize) -> Place {
        let mut place = metadata::place(node, index);
        let call = &self.scope().call;
        if !call.name.is_empty() {
            place.name = format!("{}/{}", call.name, place.name);
        }
        if place.module.is_empty() {
            place.module.clone_from(&call.module);
        }
        if place.source.is_empty() {
            place.source.clone_from(&call.source);
        }
        place
    }

    /// Adds one node and binds its outputs; `None` if it could not be made.
    fn add_node(&mut self, node: &'a NodeProto, place: &Place) -> Option<()> {
        let functions = self.functions;
        if let Some(function) = functions.called_by(node) {
            return self.open_call(node, function, place);
        }
        let (import, opset) = self.find(node, place)?;
        let inputs = self.operands(node)?;
        let results = self.convert(node, (import, opset), &inputs, place)?;
        for (output, result) in node.output.iter().zip(results) {
            self.bind(output, Binding::Value(result));
        }
        Some(())
    }

    /// The version that the current scope imports for the node's domain.
    fn opset(&mut self, node: &NodeProto, place: &Place) -> Option<i64> {
        let domain = metadata::domain(&node.domain);
        let version = self.scope().opsets.get(domain).copied();
        if version.is_none() {
            let domain = functions::domain_name(domain);
            if self.no_opset.insert(domain.clone()) {
                self.report(place, ImportProblem::NoOpset { domain });
            }
        }
        version
    }

    /// The import for a node, with the version of its domain.
    fn find(&mut self, node: &NodeProto, place: &Place) -> Option<(&'static Import, i64)> {
        let opset = self.opset(node, place)?;
        let domain = metadata::domain(&node.domain);
        let op = place.op.clone();
        let error = match find_import(domain, &node.op_type, opset) {
            Found::Import(import) => return Some((import, opset)),
            Found::UnknownVersion { since } => ImportProblem::OpNewerThanOpset { op, opset, since },
            Found::UnknownOp => {
                let (reason, help) = if domain.is_empty() {
                    (
                        "egraft has no such operator",
                        "`egraft ops` lists those that there are; export the model without this one",
                    )
                } else {
                    (
                        "the operator is not part of ONNX, and the model brings no function for it",
                        "export the model with standard operators, or with model-local functions",
                    )
                };
                ImportProblem::UnsupportedOp { op, opset, reason, help }
            }
        };
        self.report(place, error);
        None
    }

    /// The operands; `None` if one of them is poisoned. Inputs left empty at the end don't count.
    fn operands(&self, node: &NodeProto) -> Option<Vec<Option<Value>>> {
        let mut operands = Vec::with_capacity(node.input.len());
        for name in &node.input {
            operands.push(match name.as_str() {
                "" => None,
                name => match self.binding(name) {
                    Binding::Value(value) => Some(value),
                    Binding::Absent => None,
                    Binding::Poisoned => return None,
                },
            });
        }
        while operands.last() == Some(&None) {
            operands.pop();
        }
        Some(operands)
    }

    /// The results of a node. Where its op says that two sizes must agree, and they can, they do from then on.
    fn convert(
        &mut self,
        node: &'a NodeProto,
        (import, opset): (&Import, i64),
        inputs: &[Option<Value>],
        place: &Place,
    ) -> Option<Vec<Value>> {
        let resolved = match attributes::resolve(&node.attribute, &self.scope().arguments) {
            Ok(resolved) => resolved,
            Err(error) => {
                self.report(place, error);
                return None;
            }
        };
        let attributes = match attributes::values(&resolved.given, self.files) {
            Ok(attributes) => attributes,
            Err(error) => {
                self.report(place, error);
                return None;
            }
        };
        self.build.set_origin(Origin::place(place.clone()));
        // Each round makes two sizes equal for good, and a node has only so many.
        let mut rounds = 0..MAX_ROUNDS;
        let error = loop {
            let view = NodeView::new(&node.op_type, opset, &attributes, &self.sizes)
                .in_domain(metadata::domain(&node.domain))
                .named(&place.name)
                .with_inputs(inputs.to_vec())
                .with_outputs(node.output.iter().map(|name| !name.is_empty()).collect());
            let error = match import.convert(&view, &mut self.build) {
                Ok(results) => return Some(results),
                Err(error) => error,
            };
            let ImportError::Op(OpError::Size { left, right, .. }) = &error else { break error };
            if rounds.next().is_none() {
                break error;
            }
            let Some((symbol, size)) = unify::solve(&self.graph().symbols(), left, right) else {
                break error;
            };
            let unified =
                Unified { symbol, size, left: left.clone(), right: right.clone(), by: place.clone() };
            self.substitute(unified)?;
        };
        let error = match (resolved.dropped.first(), &self.scope().function) {
            (Some(&(attribute, reference)), Some(function)) => ImportProblem::FunctionAttribute {
                attribute: attribute.to_owned(),
                reference: reference.to_owned(),
                function: function.clone(),
                error: Box::new(error),
            },
            _ => {
                let excerpt = Box::new(excerpt(self.graph(), node, inputs));
                ImportProblem::Node { opset, error: Box::new(error), excerpt }
            }
        };
        self.report(place, error);
        None
    }

    /// Replaces a symbol in the whole graph. Where an earlier node does not stand it, this is reported, and the
    /// graph stays as it was.
    fn substitute(&mut self, unified: Unified) -> Option<()> {
        // What failed conversions left behind need not suit the new sizes.
        self.discard_unbound();
        let before = self.graph().clone();
        let with = |symbol: &Symbol| (*symbol == unified.symbol).then(|| unified.size.clone());
        let replaced = self.build.graph_mut().substitute(&with);
        self.sizes = RefCell::new(KnownSizes::new());
        match replaced {
            Ok(()) => {
                self.unified.push(unified);
                Some(())
            }
            Err(at) => {
                *self.build.graph_mut() = before;
                let Unified { left, right, by, .. } = unified;
                let unify = |error| ImportProblem::Unify { left, right, by: by.name, error: Box::new(error) };
                self.problems.push(At { node: None, ..at.map(unify) });
                None
            }
        }
    }

    /// Removes what failed conversions left behind: nodes that no name leads to.
    fn discard_unbound(&mut self) {
        let bound =
            self.scopes.iter().flat_map(|scope| scope.values.values()).filter_map(|binding| match binding {
                Binding::Value(value) => Some(value.node),
                Binding::Absent | Binding::Poisoned => None,
            });
        let needed = needed(self.graph(), bound);
        self.build.graph_mut().retain(|id| needed.contains(&id));
        // Ids of removed nodes may come again for others.
        self.sizes = RefCell::new(KnownSizes::new());
    }

    /// Keeps what the outputs need, and the inputs.
    pub(crate) fn set_outputs(&mut self, outputs: Vec<(String, Value)>) {
        let needed = needed(self.graph(), outputs.iter().map(|(_, value)| value.node));
        let graph = self.build.graph_mut();
        graph.set_outputs(outputs);
        graph.retain(|id| needed.contains(&id));
    }

    /// Adds the nodes of a function's body in place of a call.
    fn open_call(&mut self, node: &'a NodeProto, function: &'a Function<'a>, place: &Place) -> Option<()> {
        let proto = function.proto;
        let name = functions::name(proto);
        for (what, has, given) in [
            ("inputs", proto.input.len(), node.input.len()),
            ("outputs", proto.output.len(), node.output.len()),
        ] {
            if given > has {
                self.report(place, ImportProblem::Call { function: name, what, has, given });
                return None;
            }
        }
        let resolved = match attributes::resolve(&node.attribute, &self.scope().arguments) {
            Ok(resolved) => resolved.given,
            Err(error) => {
                self.report(place, error);
                return None;
            }
        };
        let mut arguments: BTreeMap<&str, _> =
            proto.attribute_proto.iter().map(|default| (default.name.as_str(), default)).collect();
        for (attribute, value) in resolved {
            if !arguments.contains_key(attribute) && !proto.attribute.iter().any(|name| name == attribute) {
                let why = "is none of the function's";
                self.report(place, ImportProblem::Attribute { name: attribute.to_owned(), why });
                return None;
            }
            arguments.insert(attribute, value);
        }
        let mut values: BTreeMap<&str, Binding> = BTreeMap::new();
        for (position, input) in proto.input.iter().enumerate() {
            let binding = match node.input.get(position).map(String::as_str) {
                None | Some("") => Binding::Absent,
                Some(outer) => self.binding(outer),
            };
            values.insert(input, binding);
        }
        self.scopes.push(Scope {
            values,
            opsets: &function.opsets,
            arguments: Some(arguments),
            function: Some(name),
            call: place.clone(),
        });
        self.add_nodes(&proto.node, &function.order);
        let results: Vec<Binding> = proto.output.iter().map(|output| self.binding(output)).collect();
        self.scopes.pop();
        for (output, mut result) in node.output.iter().zip(results) {
            // The body hands on an input, and this call leaves it out.
            if matches!(result, Binding::Absent) && !output.is_empty() {
                self.report(place, ImportProblem::NoOutput { value: output.clone() });
                result = Binding::Poisoned;
            }
            self.bind(output, result);
        }
        Some(())
    }
}

/// `roots` and all that they are made of.
fn needed(graph: &Graph, roots: impl Iterator<Item = NodeId>) -> BTreeSet<NodeId> {
    let mut needed = BTreeSet::new();
    let mut open: Vec<NodeId> = roots.collect();
    while let Some(id) = open.pop() {
        if needed.insert(id) {
            open.extend(graph.operands(id).into_iter().map(|value| value.node));
        }
    }
    needed
}
