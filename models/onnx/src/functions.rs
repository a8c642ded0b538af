//! Model-local functions: a table of them, and what opening them amounts to.
//!
//! A call is opened where it stands, so a function is never a node. That is finite, and small enough, only where
//! [`Functions::new`] finds no problem.

use std::collections::BTreeMap;

use ir::At;
use ir::origin::{Origin, Place};
use onnx_protobuf::{FunctionProto, NodeProto, OperatorSetIdProto};

use crate::error::ImportProblem;
use crate::export;
use crate::metadata;
use crate::structure::{self, Body};
use crate::whole::{self, Whole};

/// Opened, a model may have so many nodes: some ten times the largest that exporters write.
const MAX_NODES: u64 = 1 << 20;

/// Calls may be nested so deep.
const MAX_DEPTH: usize = 100;

/// Domain, name, overload: what a node calls a function by.
type Key<'a> = (&'a str, &'a str, &'a str);

/// A function, with its nodes sorted.
pub(crate) struct Function<'a> {
    pub(crate) proto: &'a FunctionProto,
    /// The nodes, those that give a value before those that use it.
    pub(crate) order: Vec<usize>,
    pub(crate) opsets: BTreeMap<&'a str, i64>,
    /// The op of ours that it stands for.
    pub(crate) whole: Option<Whole>,
}

/// The functions of a model.
pub(crate) struct Functions<'a> {
    list: Vec<Function<'a>>,
    by_key: BTreeMap<Key<'a>, usize>,
}

/// What a function amounts to when it is opened.
#[derive(Clone, Copy)]
struct Opened {
    nodes: u64,
    depth: usize,
}

impl<'a> Functions<'a> {
    /// The table, and what is wrong with it: names given twice, recursion, sizes out of bounds, broken bodies.
    pub(crate) fn new(protos: &'a [FunctionProto]) -> (Functions<'a>, Vec<At<ImportProblem>>) {
        let mut table = Functions { list: Vec::new(), by_key: BTreeMap::new() };
        let mut problems = Vec::new();
        for proto in protos {
            let key = (metadata::domain(&proto.domain), proto.name.as_str(), proto.overload.as_str());
            let (opsets, more) = opsets(&proto.opset_import);
            problems.extend(more.into_iter().map(|error| here(proto, error)));
            let prefix = format!("{}/", name(proto));
            let given = proto.input.iter().map(|input| (input.as_str(), "the input")).collect();
            let outputs = proto.output.iter().map(String::as_str).collect();
            let structure = structure::check(&Body { given, nodes: &proto.node, outputs, prefix: &prefix });
            problems.extend(
                structure
                    .problems
                    .into_iter()
                    .map(|at| if at.origin.is_empty() { here(proto, at.error) } else { at }),
            );
            let whole = whole::read(proto, &|name| of_ours(protos, name));
            table.list.push(Function { proto, order: structure.order, opsets, whole });
            if table.by_key.insert(key, table.list.len() - 1).is_some() {
                problems.push(here(proto, ImportProblem::FunctionTwice { function: name(proto) }));
            }
        }
        (table, problems)
    }

    /// The function that `node` calls, if it calls one. It takes precedence over an operator of that name.
    pub(crate) fn called_by(&self, node: &NodeProto) -> Option<&Function<'a>> {
        Some(&self.list[self.index(node)?])
    }

    fn index(&self, node: &NodeProto) -> Option<usize> {
        let key = (metadata::domain(&node.domain), node.op_type.as_str(), node.overload.as_str());
        self.by_key.get(&key).copied()
    }

    /// What speaks against opening all calls in `nodes`, those of the graph called `graph`.
    pub(crate) fn check_calls(&self, graph: &str, nodes: &[NodeProto]) -> Vec<At<ImportProblem>> {
        let mut known = vec![None; self.list.len()];
        for index in 0..self.list.len() {
            if let Err(error) = self.open(index, &mut Vec::new(), &mut known) {
                return vec![here(self.list[index].proto, error)];
            }
        }
        let mut total: u64 = 0;
        for node in nodes {
            // All functions are known by now.
            let opened = self.open_node(node, &mut Vec::new(), &mut known);
            let nodes = opened.map_or(u64::MAX, |opened| opened.nodes);
            if let Some(index) = self.index(node).filter(|_| nodes > MAX_NODES) {
                let function = name(self.list[index].proto);
                let error = ImportProblem::TooManyNodes { function, nodes, limit: MAX_NODES };
                let place = Place { name: node.name.clone(), op: metadata::op(node), ..Place::default() };
                return vec![At { node: None, origin: Origin::place(place), error }];
            }
            total = total.saturating_add(nodes);
        }
        if total > MAX_NODES {
            let error =
                ImportProblem::TooManyNodes { function: graph.to_owned(), nodes: total, limit: MAX_NODES };
            return vec![At { node: None, origin: Origin::none(), error }];
        }
        Vec::new()
    }

    /// The size of function `index` when all calls in it are opened, too.
    fn open(
        &self,
        index: usize,
        callers: &mut Vec<usize>,
        known: &mut [Option<Opened>],
    ) -> Result<Opened, ImportProblem> {
        if let Some(opened) = known[index] {
            return Ok(opened);
        }
        if let Some(first) = callers.iter().position(|&caller| caller == index) {
            let names = callers[first..].iter().map(|&caller| name(self.list[caller].proto)).collect();
            return Err(ImportProblem::Recursion { names });
        }
        let proto = self.list[index].proto;
        let too_deep = || ImportProblem::CallDepth { function: name(proto), limit: MAX_DEPTH };
        if callers.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        callers.push(index);
        let mut opened = Opened { nodes: 0, depth: 1 };
        for node in &proto.node {
            let inner = self.open_node(node, callers, known)?;
            opened.nodes = opened.nodes.saturating_add(inner.nodes);
            opened.depth = opened.depth.max(inner.depth + 1);
        }
        callers.pop();
        if opened.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        known[index] = Some(opened);
        Ok(opened)
    }

    /// The size of a node when all calls in it, and in the graphs that it holds, are opened.
    fn open_node(
        &self,
        node: &NodeProto,
        callers: &mut Vec<usize>,
        known: &mut [Option<Opened>],
    ) -> Result<Opened, ImportProblem> {
        if let Some(index) = self.index(node) {
            return self.open(index, callers, known);
        }
        let mut opened = Opened { nodes: 1, depth: 0 };
        let bodies = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
        for node in bodies.flat_map(|body| &body.node) {
            let inner = self.open_node(node, callers, known)?;
            opened.nodes = opened.nodes.saturating_add(inner.nodes);
            opened.depth = opened.depth.max(inner.depth);
        }
        Ok(opened)
    }
}

/// The function of our domain that is called so.
fn of_ours<'a>(protos: &'a [FunctionProto], name: &str) -> Option<&'a FunctionProto> {
    protos.iter().find(|proto| proto.domain == export::DOMAIN && proto.name == name)
}

/// The version of each domain, and domains with two.
pub(crate) fn opsets(imports: &[OperatorSetIdProto]) -> (BTreeMap<&str, i64>, Vec<ImportProblem>) {
    let mut opsets = BTreeMap::new();
    let mut problems = Vec::new();
    for import in imports {
        let domain = metadata::domain(&import.domain);
        if let Some(first) = opsets.insert(domain, import.version)
            && first != import.version
        {
            let (domain, second) = (domain_name(domain), import.version);
            problems.push(ImportProblem::OpsetTwice { domain, first, second });
        }
        let (least, most) = (*ops::onnx::OPSETS.start(), *ops::onnx::OPSETS.end());
        if domain.is_empty() && !(least..=most).contains(&import.version) {
            problems.push(ImportProblem::Opset { found: import.version, least, most });
        }
    }
    (opsets, problems)
}

/// A domain as messages name it.
pub(crate) fn domain_name(domain: &str) -> String {
    if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() }
}

/// A function as messages name it: `domain.Name`, with the overload behind a colon.
pub(crate) fn name(proto: &FunctionProto) -> String {
    let domain = if proto.domain.is_empty() { String::new() } else { format!("{}.", proto.domain) };
    let overload = if proto.overload.is_empty() { String::new() } else { format!(":{}", proto.overload) };
    format!("{domain}{}{overload}", proto.name)
}

/// `error`, at the function itself.
fn here(proto: &FunctionProto, error: ImportProblem) -> At<ImportProblem> {
    let place = Place { name: name(proto), op: "function".to_owned(), ..Place::default() };
    At { node: None, origin: Origin::place(place), error }
}
