//! Nodes into a graph: one after the other, functions opened, sizes unified where an op needs it.
//!
//! A node that can't be imported is reported, and its outputs are *poisoned*: what depends on them is looked up, so
//! that every unsupported op is reported at once, but not converted, so that nothing is reported twice.

use std::collections::{BTreeMap, BTreeSet};

use ir::build::Build;
use ir::dim::{Atom, Condition, Ranges};
use ir::graph::Value;
use ir::op::OpError;
use ir::origin::{Origin, Place};
use ir::{At, Dim, Graph, NodeId, Symbol};
use onnx_protobuf::NodeProto;
use ops::onnx::{ExpertLayout, Found, Import, ImportError, NodeView, find_import};
use ops::shape::restate::restate;

use crate::Files;
use crate::attributes::{self, Arguments};
use crate::error::ImportProblem;
use crate::excerpt::excerpt;
use crate::flex_attention;
use crate::frame::Frame;
use crate::functions::{self, Function, Functions};
use crate::metadata;
use crate::sequences::Sequence;
use crate::unify::{self, Unified};

/// One node makes at most so many pairs of sizes equal.
pub(crate) const MAX_ROUNDS: usize = 64;

/// What a name stands for.
#[derive(Debug, Clone)]
pub(crate) enum Binding {
    /// A value of the graph.
    Value(Value),
    /// Several values, in order.
    Sequence(Sequence),
    /// An optional without an element.
    Nothing,
    /// An input of a function that the call leaves out.
    Absent,
    /// What could not be made; it was reported.
    Poisoned,
}

/// The names and versions that hold in a graph, in a body, or in one call of a function.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    pub(crate) values: BTreeMap<&'a str, Binding>,
    pub(crate) opsets: &'a BTreeMap<&'a str, i64>,
    pub(crate) arguments: Arguments<'a>,
    /// The function whose body this is.
    pub(crate) function: Option<String>,
    /// The call, for what the body's nodes don't say themselves.
    pub(crate) call: Place,
    /// The node whose body this is.
    pub(crate) body: Option<String>,
    /// The graph in the making that its values belong to, by position.
    pub(crate) frame: usize,
    /// Do the names of the scope around it hold here, too?
    pub(crate) inherits: bool,
    /// Values that will be needed, and that no name stands for yet.
    pub(crate) held: Vec<Value>,
}

/// Bodies are read again until their sizes are known, and one side of a branch after the other: so many nodes at most.
pub(crate) const MAX_LOOKED_AT: u64 = 1 << 20;

/// A graph in the making.
pub(crate) struct Importer<'a> {
    /// The graph, then the bodies around the current node, each inside the one before.
    pub(crate) frames: Vec<Frame>,
    pub(crate) functions: &'a Functions<'a>,
    pub(crate) files: &'a dyn Files,
    /// The graph's own names, then those of bodies and calls around the current node.
    pub(crate) scopes: Vec<Scope<'a>>,
    pub(crate) problems: Vec<At<ImportProblem>>,
    pub(crate) unified: Vec<Unified>,
    /// Domains without a version, reported already.
    pub(crate) no_opset: BTreeSet<String>,
    /// How often it was tried how to go on behind a branch.
    pub(crate) attempts: usize,
    /// An attempt is made, which ends with the first problem: so many were there before.
    pub(crate) attempt: Option<usize>,
    /// Nodes that were looked at, those of attempts and repetitions included.
    looked_at: u64,
    /// How the weights of quantized experts lie, where the model does not say so.
    pub(crate) experts: Option<ExpertLayout>,
}

/// Operators of classic models whose inputs or outputs are maps or strings.
const OF_MAPS: [&str; 4] = ["CastMap", "CategoryMapper", "DictVectorizer", "ZipMap"];

/// What became of a node.
pub(crate) enum Added {
    /// Its outputs have values.
    Done,
    /// It was reported, or depends on what was.
    Failed,
    /// It is a branch whose sides differ in rank: only one of them can go on.
    Diverges,
}

impl From<Option<()>> for Added {
    fn from(done: Option<()>) -> Added {
        if done.is_some() { Added::Done } else { Added::Failed }
    }
}

/// What an attempt may change.
#[derive(Clone)]
pub(crate) struct State<'a> {
    frames: Vec<Frame>,
    scopes: Vec<Scope<'a>>,
    problems: usize,
    unified: usize,
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
        let scope = Scope {
            values,
            opsets,
            arguments: None,
            function: None,
            call: Place::default(),
            body: None,
            frame: 0,
            inherits: false,
            held: Vec::new(),
        };
        Importer {
            frames: vec![Frame::outermost(build)],
            functions,
            files,
            scopes: vec![scope],
            problems: Vec::new(),
            unified: Vec::new(),
            no_opset: BTreeSet::new(),
            attempts: 0,
            attempt: None,
            looked_at: 0,
            experts: None,
        }
    }

    /// The current graph so far.
    pub(crate) fn graph(&self) -> &Graph {
        self.frame().build.graph()
    }

    /// The outermost graph.
    pub(crate) fn into_graph(mut self) -> Graph {
        self.frames.remove(0).build.into_graph()
    }

    pub(crate) fn frame(&self) -> &Frame {
        self.frames.last().expect("the outermost graph stays")
    }

    pub(crate) fn frame_mut(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the outermost graph stays")
    }

    pub(crate) fn build(&mut self) -> &mut Build {
        &mut self.frame_mut().build
    }

    /// What can be undone.
    pub(crate) fn state(&self) -> State<'a> {
        State {
            frames: self.frames.clone(),
            scopes: self.scopes.clone(),
            problems: self.problems.len(),
            unified: self.unified.len(),
        }
    }

    /// Undoes everything since `state`. Gives the problems that were found meanwhile.
    pub(crate) fn undo(&mut self, state: State<'a>) -> Vec<At<ImportProblem>> {
        (self.frames, self.scopes) = (state.frames, state.scopes);
        self.unified.truncate(state.unified);
        self.problems.split_off(state.problems)
    }

    /// What a name stands for, in the current graph. Names that nothing gives were reported.
    pub(crate) fn binding(&mut self, name: &str) -> Binding {
        let mut from = None;
        for scope in self.scopes.iter().rev() {
            if let Some(binding) = scope.values.get(name) {
                from = Some((binding.clone(), scope.frame));
                break;
            }
            if !scope.inherits {
                break;
            }
        }
        match from {
            None => Binding::Poisoned,
            Some((Binding::Value(value), frame)) => Binding::Value(self.inward(value, frame)),
            Some((Binding::Sequence(sequence), frame)) => {
                Binding::Sequence(sequence.map(|value| self.inward(value, frame)))
            }
            Some((other, _)) => other,
        }
    }

    /// A value of the graph at position `frame`, in the current one: captured by all between.
    pub(crate) fn inward(&mut self, mut value: Value, frame: usize) -> Value {
        for inner in frame + 1..self.frames.len() {
            let (outer, rest) = self.frames.split_at_mut(inner);
            let outer = outer.last_mut().expect("there is one outside");
            value = rest[0].capture(outer, value);
        }
        value
    }

    pub(crate) fn scope(&self) -> &Scope<'a> {
        self.scopes.last().expect("the graph's own scope stays")
    }

    pub(crate) fn scope_mut(&mut self) -> &mut Scope<'a> {
        self.scopes.last_mut().expect("the graph's own scope stays")
    }

    pub(crate) fn bind(&mut self, name: &'a str, binding: Binding) {
        if !name.is_empty() {
            self.scope_mut().values.insert(name, binding);
        }
    }

    pub(crate) fn report(&mut self, place: &Place, error: ImportProblem) {
        self.problems.push(At { node: None, origin: Origin::place(place.clone()), error });
    }

    /// Adds `nodes` in this order. Gives the number of those before the first problem.
    pub(crate) fn add_nodes(&mut self, nodes: &'a [NodeProto], order: &[usize]) -> usize {
        let mut good = None;
        for (done, &index) in order.iter().enumerate() {
            let (node, before) = (&nodes[index], self.problems.len());
            if self.attempt.is_some_and(|problems| before > problems) || self.is_exhausted() {
                return good.unwrap_or(done);
            }
            self.looked_at += 1;
            let place = self.place(node, index);
            match self.add_node(node, &place) {
                Added::Done => {}
                Added::Failed => self.poison(node),
                Added::Diverges => {
                    let more = self.choose(nodes, &order[done..], &place);
                    return good.unwrap_or(done + more);
                }
            }
            if self.problems.len() > before {
                good.get_or_insert(done);
            }
        }
        good.unwrap_or(order.len())
    }

    /// Were too many nodes looked at? Then nothing more is.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.looked_at > MAX_LOOKED_AT
    }

    pub(crate) fn poison(&mut self, node: &'a NodeProto) {
        for output in &node.output {
            self.bind(output, Binding::Poisoned);
        }
    }

    /// The origin of a node: in a function, below the call; in a body, below the node that holds it, unless it has a
    /// name of its own.
    fn place(&self, node: &NodeProto, index: usize) -> Place {
        let mut place = metadata::place(node, index);
        let Scope { call, body, .. } = self.scope();
        let above = if node.name.is_empty() { body.as_ref().unwrap_or(&call.name) } else { &call.name };
        if !above.is_empty() {
            place.name = format!("{above}/{}", place.name);
        }
        if place.module.is_empty() {
            place.module.clone_from(&call.module);
        }
        if place.source.is_empty() {
            place.source.clone_from(&call.source);
        }
        place
    }

    /// Adds one node and binds its outputs.
    fn add_node(&mut self, node: &'a NodeProto, place: &Place) -> Added {
        let functions = self.functions;
        if let Some(function) = functions.called_by(node) {
            if let Some(whole) = &function.whole
                && self.add_whole(node, whole, place).is_some()
            {
                return Added::Done;
            }
            return self.open_call(node, function, place).into();
        }
        if metadata::domain(&node.domain).is_empty() {
            match node.op_type.as_str() {
                "If" => return self.add_if(node, place),
                "Loop" => return self.add_loop(node, place).into(),
                "Scan" => return self.add_scan(node, place).into(),
                _ => {}
            }
            if self.is_about_lists(node) {
                return self.add_list_op(node, place).into();
            }
        }
        if flex_attention::is_modified(node) {
            return self.add_flex_attention(node, place).into();
        }
        self.add_op(node, place).into()
    }

    fn add_op(&mut self, node: &'a NodeProto, place: &Place) -> Option<()> {
        let (import, opset) = self.find(node, place)?;
        let inputs = self.operands(node, place)?;
        let results = self.convert(node, (import, opset), &inputs, place)?;
        for (output, result) in node.output.iter().zip(results) {
            self.bind(output, Binding::Value(result));
        }
        Some(())
    }

    /// The version that the current scope imports for the node's domain.
    pub(crate) fn opset(&mut self, node: &NodeProto, place: &Place) -> Option<i64> {
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
                let (reason, help) = if domain == "ai.onnx.ml" && OF_MAPS.contains(&node.op_type.as_str()) {
                    (
                        "it takes or makes maps or strings, and egraft computes with numbers alone",
                        "export the model without it; converters of classic models have an option for that, such as \
                         `zipmap`",
                    )
                } else if domain.is_empty() || domain.starts_with("ai.onnx.") {
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
    pub(crate) fn operands(&mut self, node: &NodeProto, place: &Place) -> Option<Vec<Option<Value>>> {
        let mut operands = Vec::with_capacity(node.input.len());
        for name in &node.input {
            operands.push(match name.as_str() {
                "" => None,
                name => match self.binding(name) {
                    Binding::Value(value) => Some(value),
                    Binding::Absent => None,
                    Binding::Poisoned => return None,
                    list @ (Binding::Sequence(_) | Binding::Nothing) => {
                        let what = match list {
                            Binding::Nothing => "an optional without an element",
                            _ => "a sequence of tensors",
                        };
                        self.report(place, ImportProblem::Sequence { value: name.to_owned(), what });
                        return None;
                    }
                },
            });
        }
        while operands.last() == Some(&None) {
            operands.pop();
        }
        Some(operands)
    }

    /// What the inputs stand for; `None` if one of them is poisoned.
    pub(crate) fn bindings(&mut self, node: &NodeProto) -> Option<Vec<Binding>> {
        let named = node.input.iter().map(|name| match name.as_str() {
            "" => Some(Binding::Absent),
            name => Some(self.binding(name)).filter(|binding| !matches!(binding, Binding::Poisoned)),
        });
        named.collect()
    }

    /// The results of a node. Where its op says that two sizes must agree, and they can, they do from then on.
    pub(crate) fn convert(
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
        self.build().set_origin(Origin::place(place.clone()));
        // Each round makes two sizes equal for good, and a node has only so many.
        let mut rounds = 0..MAX_ROUNDS;
        let given = inputs;
        let mut lenient = false;
        let mut inputs = given.to_vec();
        let error = loop {
            let Frame { build, known, .. } = self.frames.last_mut().expect("the outermost graph stays");
            let view = NodeView::new(&node.op_type, opset, &attributes, known)
                .in_domain(metadata::domain(&node.domain))
                .named(&place.name)
                .leniently(lenient)
                .with_experts(self.experts)
                .with_inputs(inputs.clone())
                .with_outputs(node.output.iter().map(|name| !name.is_empty()).collect());
            let error = match import.convert(&view, build) {
                Ok(results) => return Some(results),
                Err(error) => error,
            };
            let ImportError::Op(OpError::Size { left, right, .. }) = &error else { break error };
            if rounds.next().is_none() {
                break error;
            }
            let solution =
                if is_stretched(left) || is_stretched(right) { None } else { self.solve(left, right) };
            match solution {
                Some((symbol, size)) => {
                    let unified =
                        Unified { symbol, size, left: left.clone(), right: right.clone(), by: place.clone() };
                    self.substitute(unified, given)?;
                    // What was only seen as alike before is gone, and may be alike now.
                    (lenient, inputs) = (false, given.to_vec());
                }
                // What is left is to try again, and to check it when the model runs.
                None if !Condition::equal(left.clone(), right.clone()).is_refuted() => {
                    let seen = self.seen_alike(&inputs, left, right);
                    if lenient && seen == inputs {
                        break error;
                    }
                    (lenient, inputs) = (true, seen);
                }
                None => break error,
            }
        };
        let error = match (resolved.dropped.first(), &self.scope().function) {
            (Some(&(attribute, reference)), Some(function)) => ImportProblem::FunctionAttribute {
                attribute: attribute.to_owned(),
                reference: reference.to_owned(),
                function: function.clone(),
                error: Box::new(error),
            },
            _ => {
                let excerpt = Box::new(excerpt(self.graph(), node, &inputs));
                ImportProblem::Node { opset, error: Box::new(error), excerpt }
            }
        };
        self.report(place, error);
        None
    }

    /// The symbol to replace, and by what, so that two sizes of the current graph are equal.
    pub(crate) fn solve(&self, left: &Dim, right: &Dim) -> Option<(Symbol, Dim)> {
        let frame = self.frame();
        let mut symbols = self.frames[0].build.graph().symbols();
        let mut others: BTreeSet<Symbol> = BTreeSet::new();
        for dim in [left, right] {
            dim.for_each_symbol(&mut |symbol| {
                if !symbols.contains(symbol) {
                    others.insert(symbol.clone());
                }
            });
        }
        symbols.retain(|symbol| !frame.fixed.contains(symbol));
        let given = symbols.len();
        symbols.extend(others.into_iter().filter(|symbol| !frame.fixed.contains(symbol)));
        unify::solve(&symbols, given, left, right)
    }

    /// The inputs, with the size that says more in place of the other, which it must equal, or with 1 in place of one
    /// that is never more: that is checked when the model runs.
    fn seen_alike(&mut self, inputs: &[Option<Value>], left: &Dim, right: &Dim) -> Vec<Option<Value>> {
        let one = Dim::constant(1);
        let (kept, other) = if is_stretched(left) {
            (&one, left)
        } else if is_stretched(right) {
            (&one, right)
        } else if left.terms().count() + depth(left) <= right.terms().count() + depth(right) {
            (left, right)
        } else {
            (right, left)
        };
        let seen = |value: Value| {
            let shape = self.graph().ty(value).shape.clone();
            if other.as_const().is_some() || !shape.contains(other) {
                return value;
            }
            let shape = shape.into_iter().map(|size| if size == *other { kept.clone() } else { size });
            let shape = shape.collect();
            restate(self.build(), value, shape).unwrap_or(value)
        };
        let mut seen = seen;
        inputs.iter().map(|input| input.map(&mut seen)).collect()
    }

    /// Replaces a symbol in the whole graph. Where an earlier node does not stand it, this is reported, and the
    /// graph stays as it was.
    pub(crate) fn substitute(&mut self, unified: Unified, inputs: &[Option<Value>]) -> Option<()> {
        // What failed conversions left behind need not suit the new sizes.
        self.discard_unbound(inputs);
        let is_nested = self.frames.len() > 1;
        let frame = self.frame_mut();
        let before = frame.build.graph().clone();
        let with = |symbol: &Symbol| (*symbol == unified.symbol).then(|| unified.size.clone());
        let is_own = before.deciders().contains_key(&unified.symbol);
        let replaced = frame.build.graph_mut().substitute(&with);
        frame.known.borrow_mut().forget();
        match replaced {
            Ok(()) => {
                if !is_own && is_nested {
                    frame.local.push((unified.symbol, unified.size));
                } else if !is_own {
                    self.unified.push(unified);
                }
                Some(())
            }
            Err(at) => {
                *frame.build.graph_mut() = before;
                let Unified { left, right, by, .. } = unified;
                let unify = |error| ImportProblem::Unify { left, right, by: by.name, error: Box::new(error) };
                self.problems.push(At { node: None, ..at.map(unify) });
                None
            }
        }
    }

    /// Removes what failed conversions left behind: nodes that neither a name nor these inputs lead to.
    fn discard_unbound(&mut self, inputs: &[Option<Value>]) {
        let at = self.frames.len() - 1;
        let mut bound: Vec<NodeId> = inputs.iter().flatten().map(|value| value.node).collect();
        for scope in self.scopes.iter().filter(|scope| scope.frame == at) {
            for binding in scope.values.values() {
                match binding {
                    Binding::Value(value) => bound.push(value.node),
                    Binding::Sequence(sequence) => bound.extend(sequence.values().map(|value| value.node)),
                    Binding::Nothing | Binding::Absent | Binding::Poisoned => {}
                }
            }
            bound.extend(scope.held.iter().map(|value| value.node));
        }
        self.frame_mut().keep(bound);
    }

    /// Keeps what the outputs need, and the inputs.
    pub(crate) fn set_outputs(&mut self, outputs: Vec<(String, Value)>) {
        let graph = self.build().graph_mut();
        graph.set_outputs(outputs);
        let needed = graph.needed(graph.roots());
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
            body: None,
            frame: self.frames.len() - 1,
            inherits: false,
            held: Vec::new(),
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

/// Is a size that the model computes never more than 1? Then it is 1 wherever something is left to compute, and its axis
/// is stretched, as a slice with the last row of a bias.
fn is_stretched(dim: &Dim) -> bool {
    dim.as_const().is_none() && Ranges::new().is_nonnegative(&(Dim::constant(1) - dim.clone()))
}

/// How many atoms of a size are no symbols.
fn depth(dim: &Dim) -> usize {
    dim.terms().flat_map(|(atoms, _)| atoms).filter(|atom| !matches!(atom, Atom::Symbol(_))).count()
}
