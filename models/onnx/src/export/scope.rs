//! What is being written: the model's graph, the bodies and functions around the current node, and what has a name.

use std::collections::{BTreeMap, BTreeSet};

use ir::graph::Value;
use ir::origin::Place;
use ir::weight::Hash;
use ir::{At, DType, Dim, Graph, Origin, Symbol, Tensor, TensorType, Weight};
use onnx_protobuf::{FunctionProto, NodeProto, OperatorSetIdProto, StringStringEntryProto};
use ops::onnx::NodeAttr;
use ops::onnx::export::{Attributes, OPSET, Sink, opset_of};

use super::ExportProblem;
use super::functions::{DOMAIN, Functions};
use super::names::Names;
use super::proto::{attribute, tensor};

/// Functions and bodies inside each other, at most so deep.
pub(super) const MAX_DEPTH: usize = 64;

/// The keys of what is noted of a node's origin.
pub(crate) const MODULE: &str = "egraft.module";
pub(crate) const SOURCE: &str = "egraft.source";

/// What tells a size.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// An axis of a value is `factor · size + offset`.
    Axis { value: String, axis: usize, factor: i64, offset: i64 },
    /// A number without axes.
    Number(String),
}

/// What a graph in the making is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The model's graph.
    Model,
    /// A body: it sees what is around it.
    Body,
    /// The body of a function: it sees nothing else.
    Function,
}

/// A graph in the making.
pub(super) struct Scope {
    pub(super) kind: Kind,
    pub(super) nodes: Vec<NodeProto>,
    /// The names of the graph's values.
    pub(super) values: BTreeMap<Value, String>,
    /// What tells the sizes that it knows.
    pub(super) symbols: BTreeMap<Symbol, Source>,
    /// Sizes that are expressions and that an axis of a value has.
    pub(super) axes: BTreeMap<Dim, (String, usize)>,
    /// Sizes as vectors of one number.
    pub(super) sizes: BTreeMap<Dim, String>,
    constants: BTreeMap<(DType, Vec<usize>, Hash), String>,
    /// What the nodes before it stand for, too.
    pub(super) absorbed: BTreeSet<Value>,
}

impl Scope {
    pub(super) fn new(kind: Kind) -> Scope {
        Scope {
            kind,
            nodes: Vec::new(),
            values: BTreeMap::new(),
            symbols: BTreeMap::new(),
            axes: BTreeMap::new(),
            sizes: BTreeMap::new(),
            constants: BTreeMap::new(),
            absorbed: BTreeSet::new(),
        }
    }
}

/// A model in the making.
pub(super) struct Writer {
    /// The graph, or a function, then the bodies around the current node.
    pub(super) scopes: Vec<Scope>,
    /// The names of the graph, then those of the functions around the current node.
    pub(super) names: Vec<Names>,
    pub(super) functions: Functions,
    weights: Vec<(String, Weight)>,
    opset: i64,
    /// What nodes that are added are called after, and stand for.
    pub(super) label: String,
    pub(super) origin: Option<Place>,
    /// What went wrong where nothing could be said.
    pub(super) problem: Option<ExportProblem>,
}

impl Writer {
    pub(super) fn new(graph: &Graph) -> Writer {
        let mut names = Names::default();
        for name in graph.output_names() {
            names.take(name);
        }
        for &input in graph.inputs() {
            names.take(graph.input_name(input));
        }
        Writer {
            scopes: Vec::new(),
            names: vec![names],
            functions: Functions::default(),
            weights: Vec::new(),
            opset: OPSET,
            label: String::new(),
            origin: None,
            problem: None,
        }
    }

    pub(super) fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("bug: something is being written")
    }

    /// The scopes that are seen from here, the innermost first.
    pub(super) fn visible(&self) -> impl Iterator<Item = &Scope> {
        let outer = self.scopes.iter().rposition(|scope| scope.kind != Kind::Body).unwrap_or(0);
        self.scopes[outer..].iter().rev()
    }

    /// The outermost scope that is seen from here, which holds constants.
    fn root(&mut self) -> &mut Scope {
        let outer = self.scopes.iter().rposition(|scope| scope.kind != Kind::Body).unwrap_or(0);
        &mut self.scopes[outer]
    }

    pub(super) fn unique(&mut self, wanted: &str) -> String {
        self.names.last_mut().expect("bug: something is being written").unique(wanted)
    }

    /// From now on, nodes are called after the origin of a node, or after its op.
    pub(super) fn set_label(&mut self, op: &str, origin: &Origin) {
        let place = origin.places().first();
        self.label = place.map_or(op, |place| place.name.as_str()).to_owned();
        self.origin = place.map(|place| Place::clone(place));
    }

    /// A node of any domain with outputs of these names.
    pub(super) fn push(
        &mut self,
        (domain, op_type): (&str, &str),
        inputs: Vec<String>,
        outputs: Vec<String>,
        attributes: &Attributes,
    ) {
        let mut proto = NodeProto {
            name: outputs.first().cloned().unwrap_or_default(),
            domain: domain.to_owned(),
            op_type: op_type.to_owned(),
            input: inputs,
            output: outputs,
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            ..NodeProto::default()
        };
        if let (Some(place), true) = (&self.origin, self.names.len() == 1) {
            for (key, value) in [(MODULE, &place.module), (SOURCE, &place.source)] {
                if !value.is_empty() {
                    let (key, value) = (key.to_owned(), value.clone());
                    proto.metadata_props.push(StringStringEntryProto {
                        key,
                        value,
                        ..StringStringEntryProto::default()
                    });
                }
            }
        }
        self.scope().nodes.push(proto);
    }

    /// A constant: an initializer of the graph, or a node of a function.
    pub(super) fn weight(&mut self, weight: &Weight) -> String {
        let key = (weight.dtype(), weight.shape().to_vec(), weight.hash());
        let is_named = !weight.name().is_empty();
        if let Some(known) = self.root().constants.get(&key)
            && !is_named
        {
            return known.clone();
        }
        self.need(opset_of(weight.dtype()));
        let name = self.unique(if is_named { weight.name() } else { "constant" });
        if self.root().kind == Kind::Function {
            let mut value = attribute("value", &NodeAttr::Int(0));
            value.t = protobuf::MessageField::some(tensor(weight));
            value.type_ = protobuf::EnumOrUnknown::new(onnx_protobuf::attribute_proto::AttributeType::TENSOR);
            value.i = 0;
            let node = NodeProto {
                op_type: "Constant".to_owned(),
                output: vec![name.clone()],
                attribute: vec![value],
                ..NodeProto::default()
            };
            self.root().nodes.push(node);
        } else {
            self.weights.push((name.clone(), weight.renamed(name.as_str())));
        }
        if !is_named {
            self.root().constants.insert(key, name.clone());
        }
        name
    }

    /// `value` of the graph is called `name`, and what its sizes tell is known.
    pub(super) fn bind(&mut self, value: Value, name: String, ty: &TensorType) {
        self.need(opset_of(ty.dtype));
        for (axis, size) in ty.shape.iter().enumerate() {
            match size.as_symbol() {
                Some(symbol) if self.visible().any(|scope| scope.symbols.contains_key(symbol)) => {}
                Some(symbol) => {
                    let source = Source::Axis { value: name.clone(), axis, factor: 1, offset: 0 };
                    self.scope().symbols.insert(symbol.clone(), source);
                }
                None if size.as_const().is_none() => {
                    self.scope().axes.entry(size.clone()).or_insert_with(|| (name.clone(), axis));
                }
                None => {}
            }
        }
        self.scope().values.insert(value, name);
    }

    /// Sizes that only follow from what an axis is an expression of: `2·n + 1`.
    pub(super) fn solve(&mut self, name: &str, ty: &TensorType) {
        for (axis, size) in ty.shape.iter().enumerate() {
            let mut symbols = Vec::new();
            size.for_each_symbol(&mut |symbol| symbols.push(symbol.clone()));
            let [symbol] = symbols.as_slice() else { continue };
            let is_known = self.visible().any(|scope| scope.symbols.contains_key(symbol));
            let parts = size.linear_in(symbol).filter(|_| !is_known);
            let Some((factor, offset)) = parts else { continue };
            let (Some(factor), Some(offset)) = (factor.as_const(), offset.as_const()) else { continue };
            let source = Source::Axis { value: name.to_owned(), axis, factor, offset };
            self.scope().symbols.insert(symbol.clone(), source);
        }
    }

    /// The first thing that went wrong, at this node.
    pub(super) fn check(&mut self) -> Result<(), ExportProblem> {
        match self.problem.take() {
            Some(problem) => Err(problem),
            None if self.scopes.len() > MAX_DEPTH => Err(ExportProblem::TooDeep { limit: MAX_DEPTH }),
            None => Ok(()),
        }
    }

    /// The versions of the domains that are used.
    pub(super) fn opsets(&self) -> Vec<OperatorSetIdProto> {
        let import = |domain: &str, version: i64| OperatorSetIdProto {
            domain: domain.to_owned(),
            version,
            ..OperatorSetIdProto::default()
        };
        let own = (!self.functions.is_empty()).then(|| import(DOMAIN, 1));
        std::iter::once(import("", self.opset)).chain(own).collect()
    }

    pub(super) fn take_weights(&mut self) -> Vec<(String, Weight)> {
        std::mem::take(&mut self.weights)
    }

    pub(super) fn take_functions(&mut self) -> Vec<FunctionProto> {
        let opsets = self.opsets();
        std::mem::take(&mut self.functions).finish(&opsets)
    }
}

impl Sink for Writer {
    fn node(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        outputs: usize,
        attributes: Attributes,
    ) -> Vec<String> {
        let label = std::mem::take(&mut self.label);
        let outputs: Vec<String> = match outputs {
            1 => vec![self.unique(&label)],
            _ => (0..outputs).map(|number| self.unique(&format!("{label}.{number}"))).collect(),
        };
        self.label = label;
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        self.push(("", op_type), inputs, outputs.clone(), &attributes);
        outputs
    }

    fn constant(&mut self, tensor: &Tensor) -> String {
        self.weight(&Weight::from_tensor("", tensor))
    }

    fn size(&mut self, size: &Dim) -> String {
        self.size_of(size)
    }

    fn need(&mut self, opset: i64) {
        self.opset = self.opset.max(opset);
    }

    fn name(&self, value: Value) -> String {
        let found = self.visible().find_map(|scope| scope.values.get(&value));
        found.cloned().expect("bug: constants and inputs have names")
    }
}

/// `problem`, at a node of a graph.
pub(super) fn at(graph: &Graph, node: ir::NodeId, problem: ExportProblem) -> At<ExportProblem> {
    graph.at(node, problem)
}
