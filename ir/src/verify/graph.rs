//! Rules of a valid graph:
//!
//! - outputs and operands are results of nodes that there are;
//! - each op has as many operands as it takes, and the attributes that it declares;
//! - each result has the type that `infer` gives for the operands, a weight the type of its contents;
//! - no node depends on itself, also not through a size that it decides;
//! - a size is one of the inputs, or one node decides it;
//! - inputs have names of their own, and so have outputs;
//! - an output that is kept has the type of the input that it is in the next run, and no other is;
//! - the sizes of inputs are symbols or not negative;
//! - nested graphs are valid.
//!
//! Dead nodes are allowed.

use std::collections::{BTreeMap, BTreeSet};

use crate::attr::{Attr, AttrError};
use crate::dim::Symbol;
use crate::graph::{Graph, Kind, NodeId, Value, arity_error};
use crate::op::{Flow, Infer, OpError};
use crate::origin::{At, Origin};
use crate::types::TensorType;

/// What is wrong with a node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The op does not accept its operands.
    #[error("`{op}`: {error}")]
    Op {
        /// The op.
        op: &'static str,
        /// Why not.
        error: OpError,
    },
    /// A result has another type than the op gives.
    #[error("`{op}` gives {inferred}, declared is {declared}")]
    StaleType {
        /// The op.
        op: &'static str,
        /// What the op gives.
        inferred: String,
        /// What the graph says.
        declared: String,
    },
    /// A weight, or an input, of another type than its node states.
    #[error("this has the type {found}, declared is {declared}")]
    LeafType {
        /// What the graph says.
        declared: String,
        /// What it is.
        found: String,
    },
    /// An operand or an output that is no result of any node.
    #[error("{what} {index} is no result of any node")]
    NoValue {
        /// Operand or output.
        what: &'static str,
        /// Which.
        index: usize,
    },
    /// The node depends on itself.
    #[error("the node depends on itself")]
    Cycle,
    /// Two inputs, or two outputs, with one name.
    #[error("two {what}s are called \"{name}\"")]
    Twice {
        /// Input or output.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// An output that is kept as an input that there is not, that has another type, or that another output is.
    #[error("the output \"{name}\" is kept for an input, and {why}")]
    Kept {
        /// The output.
        name: String,
        /// What is wrong with that.
        why: String,
    },
    /// Two nodes, or a node and the inputs, give one size its value.
    #[error("the size `{size}` has a value already, and gets another one here")]
    DecidedTwice {
        /// The size.
        size: String,
    },
    /// A negative size.
    #[error("the size {size} of input \"{name}\" is negative")]
    NegativeSize {
        /// The input.
        name: String,
        /// The size.
        size: i64,
    },
    /// Something is wrong in a nested graph.
    #[error("in the graph `{key}`: {violation}")]
    Nested {
        /// The attribute that holds it.
        key: &'static str,
        /// What is wrong there.
        violation: Box<At<Violation>>,
    },
}

impl Violation {
    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Violation::Op { error, .. } => error.code(),
            Violation::StaleType { .. } => "egraft::verify::stale_type",
            Violation::LeafType { .. } => "egraft::verify::leaf_type",
            Violation::NoValue { .. } => "egraft::verify::no_value",
            Violation::Cycle => "egraft::verify::cycle",
            Violation::Twice { .. } => "egraft::verify::twice",
            Violation::Kept { .. } => "egraft::verify::kept",
            Violation::DecidedTwice { .. } => "egraft::verify::decided_twice",
            Violation::NegativeSize { .. } => "egraft::verify::negative_size",
            Violation::Nested { violation, .. } => violation.error.code(),
        }
    }
}

/// Every violation in a graph.
pub fn verify(graph: &Graph) -> Vec<At<Violation>> {
    let mut report = Vec::new();
    outputs_exist(graph, &mut report);
    names_are_unique(graph, &mut report);
    if !report.iter().all(|at| matches!(at.error, Violation::Twice { .. })) {
        // Nodes are walked from the outputs.
        return report;
    }
    let order = graph.order();
    let cyclic = acyclic(graph, &order, &mut report);
    for &id in &order {
        // Types on a cycle say nothing about each other.
        if operands_exist(graph, id, &mut report) && !cyclic.contains(&id) {
            attributes_are_declared(graph, id, &mut report);
            types_are_fresh(graph, id, &mut report);
        }
        nested_graphs(graph, id, &mut report);
    }
    kept_outputs_fit(graph, &mut report);
    sizes_are_not_negative(graph, &mut report);
    sizes_are_decided_once(graph, &order, &mut report);
    report
}

/// A size is that of an input, or one node decides it, by what does not depend on it.
fn sizes_are_decided_once(graph: &Graph, order: &[NodeId], report: &mut Vec<At<Violation>>) {
    let mut decided: BTreeSet<Symbol> = graph.symbols().into_iter().collect();
    for &id in order {
        let Some(flow) = graph.flow(id) else { continue };
        let own = flow.decides();
        for symbol in &own {
            if !decided.insert(symbol.clone()) {
                report.push(graph.at(id, Violation::DecidedTwice { size: symbol.to_string() }));
            }
        }
        let (limit, index) = match flow {
            Flow::Size { bound, .. } => (bound, None),
            Flow::Loop { count, index, body, .. } => {
                if body.symbols().contains(&index) {
                    report.push(graph.at(id, Violation::DecidedTwice { size: index.to_string() }));
                }
                (count, Some(index))
            }
            Flow::If { .. } => (None, None),
        };
        if let Some(limit) = limit
            && own.iter().chain(&index).any(|symbol| limit.mentions(symbol))
        {
            report.push(graph.at(id, Violation::Cycle));
        }
    }
}

fn exists(graph: &Graph, value: Value) -> bool {
    graph.contains(value.node) && value.result < graph.node(value.node).types.len()
}

/// Each output is a result of a node.
fn outputs_exist(graph: &Graph, report: &mut Vec<At<Violation>>) {
    for (index, value) in graph.outputs().into_iter().enumerate() {
        if !exists(graph, value) {
            let error = Violation::NoValue { what: "output", index };
            report.push(At { node: None, origin: Origin::none(), error });
        }
    }
}

/// Each output that is kept fits its input, which is that of no other.
fn kept_outputs_fit(graph: &Graph, report: &mut Vec<At<Violation>>) {
    let mut taken = BTreeSet::new();
    let outputs = graph.outputs().into_iter().zip(graph.output_names()).zip(graph.kept());
    for ((value, name), kept) in outputs {
        let Some(position) = kept else { continue };
        let why = match graph.inputs().get(position) {
            None => "there is no such input".to_owned(),
            Some(&input) if graph.ty(input.into()) != graph.ty(value) => {
                format!("has the type {}, not {}", graph.ty(value), graph.ty(input.into()))
            }
            Some(_) if !taken.insert(position) => "another is, too".to_owned(),
            Some(_) => continue,
        };
        report.push(graph.at(value.node, Violation::Kept { name: name.to_owned(), why }));
    }
}

/// Each operand is a result of a node.
fn operands_exist(graph: &Graph, id: NodeId, report: &mut Vec<At<Violation>>) -> bool {
    let before = report.len();
    for (index, value) in graph.operands(id).into_iter().enumerate() {
        if !exists(graph, value) {
            report.push(graph.at(id, Violation::NoValue { what: "operand", index }));
        }
    }
    report.len() == before
}

/// Each op has the attributes that it declares, of the declared kinds.
fn attributes_are_declared(graph: &Graph, id: NodeId, report: &mut Vec<At<Violation>>) {
    let Some((def, attrs)) = graph.node(id).op() else { return };
    let given = attrs.iter().map(|(key, attr)| (key.to_owned(), attr.clone()));
    let error = match def.check_attrs(given) {
        Ok(complete) if complete == *attrs => return,
        // Some default was not filled in.
        Ok(complete) => {
            complete.iter().find(|(key, _)| attrs.iter().all(|(other, _)| other != *key)).map(|(key, _)| {
                AttrError::Missing { op: def.name, key, kind: "filled in when the node is made" }
            })
        }
        Err(error) => Some(error),
    };
    report.extend(error.map(|error| graph.at(id, Violation::Op { op: def.name, error: error.into() })));
}

/// Each op has as many operands as it takes, and its results the types that `infer` gives for them.
fn types_are_fresh(graph: &Graph, id: NodeId, report: &mut Vec<At<Violation>>) {
    let node = graph.node(id);
    let text = |types: &[TensorType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (def, attrs) = match &node.kind {
        Kind::Op { def, attrs } => (def, attrs),
        Kind::Weight(weight) if node.types == [weight.ty()] => return,
        Kind::Input(_) if node.types.len() == 1 => return,
        leaf => {
            let found = match leaf {
                Kind::Weight(weight) => weight.ty().to_string(),
                _ => "of one tensor".to_owned(),
            };
            report.push(graph.at(id, Violation::LeafType { declared: text(&node.types), found }));
            return;
        }
    };
    let operands = graph.operands(id);
    if !def.arity.admits(operands.len()) {
        let error = arity_error(def, operands.len());
        report.push(graph.at(id, Violation::Op { op: def.name, error }));
        return;
    }
    let types: Vec<&TensorType> = operands.iter().map(|value| graph.ty(*value)).collect();
    match def.result_types(&Infer { operands: &types, attrs }) {
        Ok(inferred) if inferred == node.types => {}
        Ok(inferred) => {
            let (inferred, declared) = (text(&inferred), text(&node.types));
            report.push(graph.at(id, Violation::StaleType { op: def.name, inferred, declared }));
        }
        Err(error) => report.push(graph.at(id, Violation::Op { op: def.name, error })),
    }
}

/// No node depends on itself. Gives the nodes that do, or that depend on one that does.
fn acyclic(graph: &Graph, order: &[NodeId], report: &mut Vec<At<Violation>>) -> BTreeSet<NodeId> {
    // Take away what depends on nothing left; what remains is cycles and what hangs on them.
    let mut left: BTreeSet<NodeId> = order.iter().copied().collect();
    let mut waiting: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut users: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    let mut free = Vec::new();
    let deciders = graph.deciders();
    for &id in order {
        let needs = graph.needs(id, &deciders);
        for &needed in &needs {
            users.entry(needed).or_default().push(id);
        }
        if needs.is_empty() {
            free.push(id);
        }
        waiting.insert(id, needs.len());
    }
    while let Some(id) = free.pop() {
        left.remove(&id);
        for user in users.get(&id).into_iter().flatten() {
            let count = waiting.get_mut(user).expect("every user is in the order");
            *count -= 1;
            if *count == 0 {
                free.push(*user);
            }
        }
    }
    for &id in left.iter().filter(|&&id| reaches_itself(graph, id, &left, &deciders)) {
        report.push(graph.at(id, Violation::Cycle));
    }
    left
}

fn reaches_itself(
    graph: &Graph,
    from: NodeId,
    within: &BTreeSet<NodeId>,
    deciders: &BTreeMap<Symbol, NodeId>,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(id) = todo.pop() {
        for needed in graph.needs(id, deciders) {
            if needed == from {
                return true;
            }
            if within.contains(&needed) && seen.insert(needed) {
                todo.push(needed);
            }
        }
    }
    false
}

fn names_are_unique(graph: &Graph, report: &mut Vec<At<Violation>>) {
    let nowhere = |error| At { node: None, origin: Origin::none(), error };
    let inputs = graph.inputs().iter().map(|&id| graph.input_name(id)).collect();
    for (what, names) in [("input", inputs), ("output", graph.output_names())] {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                report.push(nowhere(Violation::Twice { what, name: name.to_owned() }));
            }
        }
    }
}

fn sizes_are_not_negative(graph: &Graph, report: &mut Vec<At<Violation>>) {
    for &id in graph.inputs() {
        for size in graph.node(id).types.iter().flat_map(|ty| &ty.shape).filter_map(crate::Dim::as_const) {
            if size < 0 {
                let name = graph.input_name(id).to_owned();
                report.push(graph.at(id, Violation::NegativeSize { name, size }));
            }
        }
    }
}

fn nested_graphs(graph: &Graph, id: NodeId, report: &mut Vec<At<Violation>>) {
    let Some((_, attrs)) = graph.node(id).op() else { return };
    for (key, attr) in attrs.iter() {
        if let Attr::Graph(inner) = attr {
            for violation in verify(inner) {
                report.push(graph.at(id, Violation::Nested { key, violation: Box::new(violation) }));
            }
        }
    }
}
