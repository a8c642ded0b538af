//! Parts of a model of narrower floats that are computed in `f64`.
//!
//! ONNX computes in the type of its operands, so a constant that a framework holds in `f64` makes the exporter cast what
//! it meets, and everything behind it, until something casts back. An island is what values of `f64` connect. It is told if
//! floats come into it from a narrower type or leave it as one, something is computed in it on more than one element, and
//! more than one node of the model takes part: an operator that is defined by `f64` is no island.
//!
//! Deliberately absent: models with an input of `f64`, integers that `f64` is the way of counting with, constants.

use std::collections::{BTreeMap, BTreeSet};

use ir::dtype::Class;
use ir::graph::Value;
use ir::{At, DType, Graph, NodeId, OpDef, TensorType};
use ops::math::cast::CAST;
use ops::shape::broadcast::BROADCAST;
use ops::shape::reshape::RESHAPE;
use ops::shape::transpose::TRANSPOSE;

use super::{IslandCause, Lint};

/// So many nodes are looked through for the constant behind an operand.
const DEEPEST: usize = 16;

/// The islands of a graph, in the order in which they begin.
pub(super) fn islands(graph: &Graph, order: &[NodeId], constants: &BTreeSet<NodeId>) -> Vec<At<Lint>> {
    if graph.inputs().iter().any(|&id| graph.node(id).types[0].dtype == DType::F64) {
        return Vec::new();
    }
    let all = Islands { graph, constants };
    let lints = all.connected(order).into_iter().filter_map(|nodes| all.lint(&nodes));
    lints.map(|(begin, lint)| graph.at(begin, lint)).collect()
}

struct Islands<'a> {
    graph: &'a Graph,
    constants: &'a BTreeSet<NodeId>,
}

impl Islands<'_> {
    /// Is it of `f64`, and no constant?
    fn is_wide(&self, value: Value) -> bool {
        self.graph.ty(value).dtype == DType::F64 && !self.constants.contains(&value.node)
    }

    fn is(&self, id: NodeId, ops: &[&OpDef]) -> bool {
        self.graph.node(id).op().is_some_and(|(def, _)| ops.contains(&def))
    }

    /// The nodes that give `f64`, those together that hand it on to each other; each list begins with its first.
    fn connected(&self, order: &[NodeId]) -> Vec<Vec<NodeId>> {
        let mut number: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut islands: Vec<Vec<NodeId>> = Vec::new();
        for &id in order {
            let results = self.graph.node(id).types.len();
            let wide = (0..results).any(|result| self.is_wide(Value { node: id, result }));
            if !wide || self.graph.node(id).op().is_none() || self.graph.flow(id).is_some() {
                continue;
            }
            let operands = self.graph.operands(id);
            let known: BTreeSet<usize> =
                operands.iter().filter_map(|value| number.get(&value.node).copied()).collect();
            let own = known.first().copied().unwrap_or(islands.len());
            if own == islands.len() {
                islands.push(Vec::new());
            }
            for other in known.into_iter().skip(1) {
                let nodes = std::mem::take(&mut islands[other]);
                number.extend(nodes.iter().map(|&node| (node, own)));
                islands[own].extend(nodes);
            }
            number.insert(id, own);
            islands[own].push(id);
        }
        islands.retain(|nodes| !nodes.is_empty());
        islands
    }

    /// Where an island begins, and what there is to say of it.
    fn lint(&self, nodes: &[NodeId]) -> Option<(NodeId, Lint)> {
        let within: BTreeSet<NodeId> = nodes.iter().copied().collect();
        let comes_from_elsewhere = |&id: &NodeId| {
            self.graph.operands(id).iter().any(|&v| self.is_wide(v) && !within.contains(&v.node))
        };
        let computes = |&&id: &&NodeId| {
            let many = |ty: &TensorType| !ty.elements().is(1);
            !self.is(id, &[&CAST, &RESHAPE, &TRANSPOSE, &BROADCAST])
                && self.graph.node(id).types.iter().any(many)
        };
        let &first = nodes.iter().find(computes).filter(|_| !nodes.iter().any(comes_from_elsewhere))?;
        let leaving = self.casts_out_of(nodes);
        let narrow = nodes
            .iter()
            .filter(|&&id| self.is(id, &[&CAST]))
            .map(|&id| self.graph.ty(self.graph.operands(id)[0]).dtype)
            .chain(leaving.iter().map(|&id| self.graph.node(id).types[0].dtype))
            .find(|&dtype| dtype.class() == Class::Float && dtype != DType::F64)?;
        let makers: BTreeSet<_> =
            nodes.iter().chain(&leaving).map(|&id| self.graph.node(id).origin.places().first()).collect();
        if makers.len() == 1 && !makers.contains(&None) {
            return None;
        }
        let cause = self.constant(first).map_or(IslandCause::Cast, |name| IslandCause::Constant { name });
        Some((nodes[0], Lint::F64Island { nodes: nodes.len(), narrow, cause }))
    }

    /// The casts of what these nodes give to other types, each once.
    fn casts_out_of(&self, nodes: &[NodeId]) -> BTreeSet<NodeId> {
        let results =
            |&id: &NodeId| (0..self.graph.node(id).types.len()).map(move |result| Value { node: id, result });
        let users = nodes.iter().flat_map(results).flat_map(|value| self.graph.users(value));
        users
            .map(|(user, _)| user)
            .filter(|&user| self.is(user, &[&CAST]) && self.graph.node(user).types[0].dtype != DType::F64)
            .collect()
    }

    /// The name of the `f64` constant that a node is given; `None` if it is given none.
    fn constant(&self, id: NodeId) -> Option<String> {
        let operands = self.graph.operands(id).into_iter();
        let given = operands.filter(|value| self.constants.contains(&value.node));
        given.filter_map(|value| self.behind(value)).next()
    }

    /// The name of the `f64` weight that a constant is made of.
    fn behind(&self, mut value: Value) -> Option<String> {
        for _ in 0..DEEPEST {
            if self.graph.ty(value).dtype != DType::F64 {
                return None;
            }
            if let Some(weight) = self.graph.node(value.node).weight() {
                return Some(weight.name().to_owned());
            }
            value = *self.graph.operands(value.node).first()?;
        }
        None
    }
}
