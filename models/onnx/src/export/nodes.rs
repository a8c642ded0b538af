//! Graphs, node by node.

use std::collections::{BTreeMap, BTreeSet};

use ir::graph::{Graph, Kind as NodeKind, NodeId, Value};
use ir::op::Flow;
use ir::{At, TensorType};
use onnx_protobuf::GraphProto;
use ops::Entry;
use ops::onnx::export::{Emit, Place, Sink};

use super::proto::value_info;
use super::scope::{Kind, Scope, Writer, at};
use super::{ExportProblem, graph_proto};

type Exporting<T> = Result<T, At<ExportProblem>>;

impl Writer {
    /// The model's graph.
    pub(super) fn model(&mut self, graph: &Graph) -> Exporting<GraphProto> {
        self.scopes.push(Scope::new(Kind::Model));
        let mut inputs = Vec::new();
        for &input in graph.inputs() {
            let (name, ty) = (graph.input_name(input).to_owned(), &graph.node(input).types[0]);
            inputs.push(value_info(&name, ty));
            self.bind(input.into(), name, ty);
        }
        for &input in graph.inputs() {
            self.solve(graph.input_name(input), &graph.node(input).types[0]);
        }
        let wanted = wanted(graph);
        self.graph_nodes(graph, &wanted)?;
        let mut outputs = Vec::new();
        for (name, value) in graph.output_names().into_iter().zip(graph.outputs()) {
            let found = self.name(value);
            if found != name {
                self.push(("", "Identity"), vec![found], vec![name.to_owned()], &vec![]);
            }
            outputs.push(value_info(name, graph.ty(value)));
        }
        let scope = self.scopes.pop().expect("it was pushed above");
        Ok(GraphProto { input: inputs, output: outputs, ..graph_proto(scope.nodes) })
    }

    /// The nodes that the outputs of a graph need, and those that compare sizes; its inputs have names. `wanted` gives names to results.
    pub(super) fn graph_nodes(&mut self, graph: &Graph, wanted: &BTreeMap<Value, String>) -> Exporting<()> {
        let needed = graph.needed(graph.roots());
        let order: Vec<NodeId> = graph.order().into_iter().filter(|id| needed.contains(id)).collect();
        // Constants first: what looks ahead may read them.
        for &id in &order {
            if let NodeKind::Weight(weight) = &graph.node(id).kind {
                let name = self.weight(weight);
                self.scope().values.insert(id.into(), name);
            }
        }
        for id in order {
            if graph.node(id).op().is_some() && !self.is_bound(graph, id) {
                self.graph_node(graph, id, wanted)?;
            }
        }
        Ok(())
    }

    /// Does the node before it stand for this one, too?
    fn is_bound(&self, graph: &Graph, id: NodeId) -> bool {
        let scope = self.scopes.last().expect("bug: something is being written");
        graph.node(id).types.len() == 1 && scope.absorbed.contains(&id.into())
    }

    fn graph_node(&mut self, graph: &Graph, id: NodeId, wanted: &BTreeMap<Value, String>) -> Exporting<()> {
        let node = graph.node(id);
        let Some((def, attrs)) = node.op() else { return Ok(()) };
        self.set_label(def.name, &node.origin);
        let operands = graph.operands(id);
        let names: Vec<String> = operands.iter().map(|&value| self.name(value)).collect();
        let types: Vec<TensorType> = operands.iter().map(|&value| graph.ty(value).clone()).collect();
        let start = self.scope().nodes.len();
        let mut stands_for: Vec<Value> =
            (0..node.types.len()).map(|result| Value { node: id, result }).collect();
        let mut results = match graph.flow(id) {
            Some(Flow::Size { name, size, bound }) => {
                let made = self.as_size(&names[0], (&name, &size), bound.as_ref());
                vec![made.map_err(|problem| at(graph, id, problem))?]
            }
            Some(flow) => self.flow(graph, id, &flow, &names)?,
            None => {
                let entry = ops::ALL.iter().find(|entry| entry.op == def);
                let entry = entry.expect("bug: an op that is not among all");
                let is_outermost = self.scopes.len() == 1;
                let place = Place { graph, node: id, is_outermost };
                match self.plain(entry, (&names, &types), attrs, &node.types, place, &mut stands_for) {
                    Some(results) => results,
                    None => self
                        .call(entry, (&names, &types), attrs, &node.types)
                        .map_err(|problem| at(graph, id, problem))?,
                }
            }
        };
        self.check().map_err(|problem| at(graph, id, problem))?;
        for (result, value) in results.iter_mut().zip(&stands_for) {
            if let Some(name) = wanted.get(value) {
                self.rename(start, result, name);
            }
        }
        for (name, value) in results.into_iter().zip(stands_for) {
            self.bind(value, name, &graph.ty(value).clone());
        }
        Ok(())
    }

    /// The nodes of an op, if it becomes some.
    fn plain(
        &mut self,
        entry: &Entry,
        (names, types): (&[String], &[TensorType]),
        attrs: &ir::attr::Attrs,
        results: &[TensorType],
        place: Place,
        stands_for: &mut [Value],
    ) -> Option<Vec<String>> {
        let mut emit = Emit::new(self, (names, types), attrs, results, Some(place));
        let made = entry.write(&mut emit)?;
        let absorbed = emit.absorbed().to_vec();
        if let Some(&last) = absorbed.last() {
            // What is between has no name, and nobody else reads it.
            stands_for[0] = last;
            self.scope().absorbed.extend(absorbed);
        }
        Some(made)
    }

    /// Calls a result of the nodes from `start` on `name` instead, if they give it.
    fn rename(&mut self, start: usize, result: &mut String, name: &str) {
        let nodes = &mut self.scope().nodes[start..];
        if !nodes.iter().any(|node| node.output.contains(result)) {
            return;
        }
        for node in nodes {
            let names = node.output.iter_mut().chain(&mut node.input);
            names.filter(|other| *other == result).for_each(|other| name.clone_into(other));
        }
        name.clone_into(result);
    }

    /// The results of a body or function, each given by a node of its own.
    pub(super) fn given(&mut self, results: Vec<String>) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut given = Vec::new();
        for result in results {
            let is_own = self.scope().nodes.iter().any(|node| node.output.contains(&result));
            let is_constant = self
                .scope()
                .nodes
                .iter()
                .any(|node| node.op_type == "Constant" && node.output.contains(&result));
            given.push(match is_own && !is_constant && seen.insert(result.clone()) {
                true => result,
                false => self.node("Identity", &[&result], 1, vec![]).remove(0),
            });
        }
        given
    }
}

/// The names that results get since outputs have them. Inputs and constants have names of their own.
fn wanted(graph: &Graph) -> BTreeMap<Value, String> {
    let mut wanted = BTreeMap::new();
    for (name, value) in graph.output_names().into_iter().zip(graph.outputs()) {
        if graph.node(value.node).op().is_some() {
            wanted.entry(value).or_insert_with(|| name.to_owned());
        }
    }
    wanted
}
