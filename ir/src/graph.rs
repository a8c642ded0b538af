//! The graph: tensors flowing between ops.
//!
//! A [`Graph`] is a directed acyclic multigraph. Nodes are inputs, weights and op applications; an edge is a use
//! of a value and knows which result it leaves from and which operand it enters. Nested graphs are attributes of
//! control-flow ops.
//!
//! Promises
//! - every node has its result types from the moment it exists;
//! - an id stays valid until its node is removed (a later node may then get the same id);
//! - walks start at the roots and follow operands in order, so equal graphs print equally.
//!
//! Deliberately absent: names of ops, and any notion of execution order beyond "operands first".

mod eval;
mod known;

use std::collections::{BTreeMap, BTreeSet};

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::{EdgeRef, NodeIndexable};

use crate::attr::Attrs;
use crate::dim::{Dim, Symbol};
use crate::op::{Flow, Infer, OpDef, OpError};
use crate::origin::{At, Origin};
use crate::types::TensorType;
use crate::weight::Weight;

pub use eval::{SizeValues, Trace, bind, eval, eval_all, eval_in};
pub use known::KnownSizes;

/// A node of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NodeIndex);

/// One result of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    /// The node.
    pub node: NodeId,
    /// Which of its results.
    pub result: usize,
}

impl From<NodeId> for Value {
    fn from(node: NodeId) -> Self {
        Value { node, result: 0 }
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// An input of the graph, with its name.
    Input(String),
    /// A constant.
    Weight(Weight),
    /// An op applied to operands.
    Op {
        /// Which op.
        def: &'static OpDef,
        /// Its attributes, checked and complete.
        attrs: Attrs,
    },
}

/// A node: what it is, its results' types, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Input, weight or op.
    pub kind: Kind,
    /// The types of its results.
    pub types: Vec<TensorType>,
    /// The nodes of the imported model that it stands for.
    pub origin: Origin,
}

impl Node {
    /// Its op and attributes, if it is an op.
    pub fn op(&self) -> Option<(&'static OpDef, &Attrs)> {
        match &self.kind {
            Kind::Op { def, attrs } => Some((def, attrs)),
            _ => None,
        }
    }

    /// Its weight, if it is one.
    pub fn weight(&self) -> Option<&Weight> {
        match &self.kind {
            Kind::Weight(weight) => Some(weight),
            _ => None,
        }
    }
}

/// A use of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    result: usize,
    operand: usize,
}

/// An output of the graph: its name, what it is, and the position of the input that it is in the next run.
#[derive(Debug, Clone, PartialEq)]
struct Output {
    name: String,
    value: Value,
    kept: Option<usize>,
}

/// Tensors flowing between ops. See the [module](self).
#[derive(Debug, Clone)]
pub struct Graph {
    name: String,
    wires: StableDiGraph<Node, Use>,
    inputs: Vec<NodeId>,
    outputs: Vec<Output>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Graph {
        Graph { name: name.into(), wires: StableDiGraph::new(), inputs: Vec::new(), outputs: Vec::new() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The input nodes, in order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The output values, in order.
    pub fn outputs(&self) -> Vec<Value> {
        self.outputs.iter().map(|output| output.value).collect()
    }

    /// The outputs' names, in order.
    pub fn output_names(&self) -> Vec<&str> {
        self.outputs.iter().map(|output| output.name.as_str()).collect()
    }

    /// The name of an input node.
    pub fn input_name(&self, input: NodeId) -> &str {
        match &self.node(input).kind {
            Kind::Input(name) => name,
            _ => unreachable!("bug: only inputs are listed as inputs"),
        }
    }

    /// Replaces the outputs. None is kept.
    pub fn set_outputs(&mut self, outputs: impl IntoIterator<Item = (String, Value)>) {
        let output = |(name, value)| Output { name, value, kept: None };
        self.outputs = outputs.into_iter().map(output).collect();
    }

    /// Adds an output.
    pub fn add_output(&mut self, name: impl Into<String>, value: Value) {
        self.outputs.push(Output { name: name.into(), value, kept: None });
    }

    /// Makes `value` an output that is kept: it is the input at position `input` in the next run.
    pub fn keep(&mut self, name: impl Into<String>, value: Value, input: usize) {
        self.outputs.push(Output { name: name.into(), value, kept: Some(input) });
    }

    /// For each output, the position of the input that it is in the next run, if it is kept: a state.
    pub fn kept(&self) -> Vec<Option<usize>> {
        self.outputs.iter().map(|output| output.kept).collect()
    }

    /// Is it a node of this graph?
    pub fn contains(&self, id: NodeId) -> bool {
        self.wires.contains_node(id.0)
    }

    /// The node.
    pub fn node(&self, id: NodeId) -> &Node {
        self.wires.node_weight(id.0).expect("bug: id of a removed node")
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.node(value.node).types[value.result]
    }

    /// The nodes that give symbols their values while the graph runs.
    pub fn deciders(&self) -> BTreeMap<Symbol, NodeId> {
        let mut deciders = BTreeMap::new();
        for id in self.wires.node_indices().map(NodeId) {
            if let Some(flow) = self.flow(id) {
                for symbol in flow.decides() {
                    deciders.entry(symbol).or_insert(id);
                }
            }
        }
        deciders
    }

    /// What a node does around kernels, if it does.
    pub fn flow(&self, id: NodeId) -> Option<Flow> {
        let (def, attrs) = self.wires.node_weight(id.0)?.op()?;
        def.semantics.flow(attrs)
    }

    /// The nodes that must run before `id`: its operands, and those that decide sizes in its attributes.
    pub fn needs(&self, id: NodeId, deciders: &BTreeMap<Symbol, NodeId>) -> Vec<NodeId> {
        let mut needs: Vec<NodeId> = self.operands(id).into_iter().map(|value| value.node).collect();
        if deciders.is_empty() {
            return needs;
        }
        if let Some((_, attrs)) = self.node(id).op() {
            attrs.for_each_symbol(&mut |symbol| {
                if let Some(&decider) = deciders.get(symbol)
                    && decider != id
                    && !needs.contains(&decider)
                {
                    needs.push(decider);
                }
            });
        }
        needs
    }

    /// The nodes that the graph is for: those that compare sizes when it runs, and those of its outputs.
    pub fn roots(&self) -> Vec<NodeId> {
        let checks = self.wires.node_indices().map(NodeId).filter(|&id| match self.flow(id) {
            Some(Flow::Size { name, size, .. }) => size.as_symbol() != Some(&name),
            _ => false,
        });
        checks.chain(self.outputs.iter().map(|output| output.value.node)).collect()
    }

    /// `roots` and all that they need.
    pub fn needed(&self, roots: impl IntoIterator<Item = NodeId>) -> BTreeSet<NodeId> {
        let deciders = self.deciders();
        let mut needed = BTreeSet::new();
        let mut open: Vec<NodeId> = roots.into_iter().collect();
        while let Some(id) = open.pop() {
            if needed.insert(id) {
                open.extend(self.needs(id, &deciders));
            }
        }
        needed
    }

    /// Every node, operands before users: first what the roots reach (postorder, operands left to right), then the
    /// inputs and dead nodes that they don't, in order of creation.
    ///
    /// In a graph with a cycle, each node still comes once.
    pub fn order(&self) -> Vec<NodeId> {
        let deciders = self.deciders();
        let mut seen = vec![false; self.wires.node_bound()];
        // An output may name a node that was removed: it has no place.
        let mut is_new =
            |id: NodeId| seen.get_mut(id.0.index()).is_some_and(|seen| !std::mem::replace(seen, true));
        let mut order = Vec::with_capacity(self.wires.node_count());
        let rest = self.wires.node_indices().map(NodeId);
        let roots = self.roots().into_iter().chain(rest);
        for root in roots.collect::<Vec<_>>() {
            // (node, its operands, how many of them are done): an explicit stack, for graphs thousands deep.
            let mut stack = vec![];
            if is_new(root) {
                stack.push((root, self.needs(root, &deciders), 0));
            }
            while let Some((node, operands, done)) = stack.last_mut() {
                match operands.get(*done) {
                    Some(operand) => {
                        let next = *operand;
                        *done += 1;
                        if is_new(next) {
                            let operands = self.needs(next, &deciders);
                            stack.push((next, operands, 0));
                        }
                    }
                    None => {
                        order.push(*node);
                        stack.pop();
                    }
                }
            }
        }
        order
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.wires.node_count()
    }

    /// Is it without nodes?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The operands of a node, in order.
    pub fn operands(&self, id: NodeId) -> Vec<Value> {
        let mut operands: Vec<(usize, Value)> = self
            .wires
            .edges_directed(id.0, Direction::Incoming)
            .map(|edge| {
                let Use { result, operand } = *edge.weight();
                (operand, Value { node: NodeId(edge.source()), result })
            })
            .collect();
        operands.sort_unstable();
        operands.into_iter().map(|(_, value)| value).collect()
    }

    /// Who uses a value: `(user, operand position)`, in no particular order but the same one every time.
    pub fn users(&self, value: Value) -> Vec<(NodeId, usize)> {
        let mut users: Vec<(NodeId, usize)> = self
            .wires
            .edges_directed(value.node.0, Direction::Outgoing)
            .filter(|edge| edge.weight().result == value.result)
            .map(|edge| (NodeId(edge.target()), edge.weight().operand))
            .collect();
        users.sort_unstable();
        users
    }

    /// Adds an input.
    pub fn add_input(&mut self, name: impl Into<String>, ty: TensorType, origin: Origin) -> Value {
        let node = Node { kind: Kind::Input(name.into()), types: vec![ty], origin };
        let id = NodeId(self.wires.add_node(node));
        self.inputs.push(id);
        id.into()
    }

    /// A new input in the place of `old`, with another type. The old node is no input from now on: the caller replaces
    /// its uses and removes it.
    pub fn replace_input(&mut self, old: NodeId, ty: TensorType) -> Value {
        let Node { kind, origin, .. } = self.node(old).clone();
        let new = NodeId(self.wires.add_node(Node { kind, types: vec![ty], origin }));
        for input in &mut self.inputs {
            if *input == old {
                *input = new;
            }
        }
        new.into()
    }

    /// Adds a weight.
    pub fn add_weight(&mut self, weight: Weight, origin: Origin) -> Value {
        let types = vec![weight.ty()];
        NodeId(self.wires.add_node(Node { kind: Kind::Weight(weight), types, origin })).into()
    }

    /// Adds an op application, with its types inferred.
    ///
    /// # Errors
    /// What `infer` says of these operands.
    pub fn add_op(
        &mut self,
        def: &'static OpDef,
        operands: &[Value],
        attrs: Attrs,
        origin: Origin,
    ) -> Result<NodeId, OpError> {
        if !def.arity.admits(operands.len()) {
            return Err(arity_error(def, operands.len()));
        }
        let types = {
            let operands: Vec<&TensorType> = operands.iter().map(|value| self.ty(*value)).collect();
            def.result_types(&Infer { operands: &operands, attrs: &attrs })?
        };
        Ok(self.add_node_unchecked(Node { kind: Kind::Op { def, attrs }, types, origin }, operands))
    }

    /// Adds a node with the types that it states. For parsers: [`crate::verify`] checks afterwards.
    pub fn add_node_unchecked(&mut self, node: Node, operands: &[Value]) -> NodeId {
        let is_input = matches!(node.kind, Kind::Input(_));
        let id = NodeId(self.wires.add_node(node));
        if is_input {
            self.inputs.push(id);
        }
        for (operand, value) in operands.iter().enumerate() {
            self.wires.add_edge(value.node.0, id.0, Use { result: value.result, operand });
        }
        id
    }

    /// Connects one more operand, after those that `id` has. For parsers and tests of the verifier.
    pub fn push_operand_unchecked(&mut self, id: NodeId, value: Value) {
        let operand = self.operands(id).len();
        self.wires.add_edge(value.node.0, id.0, Use { result: value.result, operand });
    }

    /// Makes every use of `old`, outputs included, a use of `new`. Their types are equal.
    pub fn replace_uses(&mut self, old: Value, new: Value) {
        assert_eq!(self.ty(old), self.ty(new), "bug: a value replaced by one of another type");
        for (user, operand) in self.users(old) {
            let edge = self
                .wires
                .edges_connecting(old.node.0, user.0)
                .find(|edge| edge.weight().operand == operand)
                .map(|edge| edge.id())
                .expect("the user was just listed");
            self.wires.remove_edge(edge);
            self.wires.add_edge(new.node.0, user.0, Use { result: new.result, operand });
        }
        for output in &mut self.outputs {
            if output.value == old {
                output.value = new;
            }
        }
    }

    /// Adds origins to a node: it now also stands for those.
    pub fn join_origin(&mut self, id: NodeId, origin: &Origin) {
        let node = self.wires.node_weight_mut(id.0).expect("bug: id of a removed node");
        node.origin = node.origin.join(origin);
    }

    /// Removes a node that is no input and that nothing uses any more.
    pub fn remove(&mut self, id: NodeId) {
        debug_assert!(!self.inputs.contains(&id), "bug: inputs stay");
        self.wires.remove_node(id.0);
    }

    /// Removes the nodes that `keep` refuses; inputs always stay. Says how many went.
    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) -> usize {
        let before = self.len();
        let inputs = self.inputs.clone();
        self.wires.retain_nodes(|_, index| inputs.contains(&NodeId(index)) || keep(NodeId(index)));
        before - self.len()
    }

    /// Every size replaced through `with`, in types and attributes, and all types inferred again.
    ///
    /// # Errors
    /// A node that the new sizes do not suit.
    pub fn substitute(&mut self, with: &dyn Fn(&Symbol) -> Option<Dim>) -> Result<(), At<OpError>> {
        for id in self.order() {
            let operands = self.operands(id);
            let node = self.node(id);
            let (kind, types) = match &node.kind {
                Kind::Op { def, attrs } => {
                    let attrs = attrs.substitute(with).map_err(|error| self.at(id, error))?;
                    let operands: Vec<&TensorType> = operands.iter().map(|v| self.ty(*v)).collect();
                    let types = def
                        .semantics
                        .infer(&Infer { operands: &operands, attrs: &attrs })
                        .map_err(|error| self.at(id, error))?;
                    (Kind::Op { def, attrs }, types)
                }
                kind => (kind.clone(), node.types.iter().map(|ty| ty.substitute(with)).collect()),
            };
            let node = self.wires.node_weight_mut(id.0).expect("the order lists existing nodes");
            node.kind = kind;
            node.types = types;
        }
        Ok(())
    }

    /// Every symbol of the inputs' types, in order of appearance.
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut symbols = Vec::new();
        for &input in &self.inputs {
            for dim in &self.node(input).types[0].shape {
                dim.for_each_symbol(&mut |symbol| {
                    if !symbols.contains(symbol) {
                        symbols.push(symbol.clone());
                    }
                });
            }
        }
        symbols
    }

    /// Calls `visit` with each symbol in types and attributes.
    pub fn for_each_symbol(&self, visit: &mut dyn FnMut(&Symbol)) {
        for node in self.wires.node_weights() {
            match &node.kind {
                Kind::Op { attrs, .. } => attrs.for_each_symbol(visit),
                Kind::Input(_) => node.types[0].shape.iter().for_each(|dim| dim.for_each_symbol(visit)),
                Kind::Weight(_) => {}
            }
        }
    }

    /// Calls `visit` with this graph and with those nested in it, in the order of the text.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Graph)) {
        visit(self);
        // Most graphs have none in them: those need no order.
        let nested = |node: &'a Node| node.op().map_or_else(Vec::new, |(_, attrs)| attrs.graphs());
        if self.wires.node_weights().all(|node| nested(node).is_empty()) {
            return;
        }
        for id in self.order() {
            nested(self.node(id)).into_iter().for_each(|graph| graph.walk(visit));
        }
    }

    /// Every graph in the attributes of its nodes changed by `change`, which must keep the types of inputs and
    /// outputs; says whether one was.
    ///
    /// # Errors
    /// The first that `change` gives.
    pub fn change_nested<E>(
        &mut self,
        change: &mut dyn FnMut(&mut Graph) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let mut changed = false;
        for node in self.wires.node_weights_mut() {
            if let Kind::Op { attrs, .. } = &mut node.kind {
                changed |= attrs.change_graphs(change)?;
            }
        }
        Ok(changed)
    }

    /// `error`, at this node.
    pub fn at<E>(&self, id: NodeId, error: E) -> At<E> {
        At { node: Some(id), origin: self.node(id).origin.clone(), error }
    }
}

pub(crate) fn arity_error(def: &'static OpDef, found: usize) -> OpError {
    let expected = match def.arity {
        crate::op::Arity::Fixed(names) => format!("{} ({})", names.len(), names.join(", ")),
        crate::op::Arity::Variadic(_, least) => format!("at least {least}"),
    };
    OpError::Arity { expected, found }
}
