//! Control flow: `If`, `Loop` and their bodies.

use std::collections::BTreeMap;

use ir::graph::{Graph, NodeId, Value};
use ir::op::{Decided, Flow};
use ir::{At, DType, Dim, Scalar, Symbol, Tensor, TensorType};
use onnx_protobuf::{GraphProto, NodeProto};
use ops::onnx::export::Sink;

use super::proto::{graph_attribute, value_info};
use super::scope::{Kind, MAX_DEPTH, Scope, Source, Writer, at};
use super::{ExportProblem, graph_proto};

/// What a loop is made of.
struct Loop<'a> {
    body: &'a Graph,
    index: &'a Symbol,
    count: Option<&'a Dim>,
    cond: bool,
    carried: usize,
    sizes: &'a [Decided],
}

impl Writer {
    /// The results of a node of control flow with these operands.
    pub(super) fn flow(
        &mut self,
        graph: &Graph,
        id: NodeId,
        flow: &Flow,
        operands: &[String],
    ) -> Result<Vec<String>, At<ExportProblem>> {
        if self.scopes.len() > MAX_DEPTH {
            return Err(at(graph, id, ExportProblem::TooDeep { limit: MAX_DEPTH }));
        }
        match flow {
            Flow::Size { .. } => unreachable!("bug: sizes are written elsewhere"),
            Flow::If { then, otherwise, taken, .. } => {
                let (label, origin) = (self.label.clone(), self.origin.clone());
                let (captures, others) = operands[1..].split_at(*taken);
                let then = self.branch(then, captures)?;
                let otherwise = self.branch(otherwise, others)?;
                (self.label, self.origin) = (label, origin);
                let outputs = graph.node(id).types.len();
                let outputs: Vec<String> = (0..outputs).map(|_| self.unique(&self.label.clone())).collect();
                self.push(("", "If"), vec![operands[0].clone()], outputs.clone(), &vec![]);
                self.add_graphs(vec![("then_branch", then), ("else_branch", otherwise)]);
                Ok(outputs)
            }
            Flow::Loop { body, index, count, cond, carried, sizes, .. } => {
                let parts =
                    Loop { body, index, count: count.as_ref(), cond: *cond, carried: *carried, sizes };
                self.repeat(graph, id, &parts, operands)
            }
        }
    }

    fn add_graphs(&mut self, graphs: Vec<(&str, GraphProto)>) {
        let node: &mut NodeProto = self.scope().nodes.last_mut().expect("it was just added");
        node.attribute.extend(graphs.into_iter().map(|(name, graph)| graph_attribute(name, graph)));
    }

    fn branch(&mut self, body: &Graph, captures: &[String]) -> Result<GraphProto, At<ExportProblem>> {
        self.scopes.push(Scope::new(Kind::Body));
        for (&input, name) in body.inputs().iter().zip(captures) {
            self.bind(input.into(), name.clone(), &body.node(input).types[0]);
        }
        self.graph_nodes(body, &BTreeMap::new())?;
        let results: Vec<String> = body.outputs().into_iter().map(|value| self.name(value)).collect();
        Ok(self.finish_body(body, results, &body.outputs()))
    }

    /// Leaves a body: its nodes, with results that are these values.
    fn finish_body(&mut self, body: &Graph, results: Vec<String>, values: &[Value]) -> GraphProto {
        self.label = "result".to_owned();
        let results = self.given(results);
        let scope = self.scopes.pop().expect("bug: a body is left that was not entered");
        let infos = results.iter().zip(values);
        let output = infos.map(|(name, &value)| value_info(name, body.ty(value))).collect();
        GraphProto { name: self.unique(body.name()), output, ..graph_proto(scope.nodes) }
    }

    fn repeat(
        &mut self,
        graph: &Graph,
        id: NodeId,
        parts: &Loop,
        operands: &[String],
    ) -> Result<Vec<String>, At<ExportProblem>> {
        let (label, origin) = (self.label.clone(), self.origin.clone());
        let count = parts.count.map_or_else(String::new, |count| {
            let (vector, first) = (self.size_of(count), self.constant(&Tensor::from_i64(&[1], &[0])));
            self.node("Squeeze", &[&vector, &first], 1, vec![]).remove(0)
        });
        self.check().map_err(|problem| at(graph, id, problem))?;
        let has_cond = usize::from(parts.cond);
        let given = &operands[has_cond..];
        let [number, goes_on] = ["iteration", "goes_on"].map(|name| self.unique(name));
        self.scopes.push(Scope::new(Kind::Body));
        let scalar = |dtype| TensorType::scalar(dtype);
        let mut inputs =
            vec![value_info(&number, &scalar(DType::I64)), value_info(&goes_on, &scalar(DType::Bool))];
        self.scope().symbols.insert(parts.index.clone(), Source::Number(number.clone()));
        let body = parts.body;
        for (at, &input) in body.inputs().iter().enumerate() {
            let ty = &body.node(input).types[0];
            if at >= parts.carried {
                self.bind(input.into(), given[at].clone(), ty);
                continue;
            }
            let name = self.unique("carried");
            for (axis, size) in ty.shape.iter().enumerate() {
                // In the body, a size that changes is that of what is carried.
                if let Some(symbol) = size.as_symbol()
                    && parts.sizes.iter().any(|decided| decided.name == *symbol)
                {
                    let source = Source::Axis { value: name.clone(), axis, factor: 1, offset: 0 };
                    self.scope().symbols.entry(symbol.clone()).or_insert(source);
                }
            }
            inputs.push(value_info(&name, ty));
            self.bind(input.into(), name, ty);
        }
        self.graph_nodes(body, &BTreeMap::new())?;
        let values = body.outputs();
        let mut results: Vec<String> = values.iter().map(|&value| self.name(value)).collect();
        if !parts.cond {
            results.insert(0, self.constant(&Tensor::scalar(Scalar::bool(true))));
        }
        let counted = self.counts_itself(graph, id, parts);
        let mut proto = self.loop_body(body, results, &values, (parts.cond, counted.then_some(&number)));
        proto.input = inputs;
        (self.label, self.origin) = (label, origin);
        let types = graph.node(id).types.len();
        let mut outputs: Vec<String> = (0..types).map(|_| self.unique(&self.label.clone())).collect();
        let trips = counted.then(|| self.unique("trips"));
        let cond = if parts.cond { operands[0].clone() } else { String::new() };
        let inputs = [count, cond].into_iter().chain(given[..parts.carried].iter().cloned()).collect();
        let all = outputs.iter().cloned().chain(trips.clone()).collect();
        self.push(("", "Loop"), inputs, all, &vec![]);
        self.add_graphs(vec![("body", proto)]);
        if let (Some(value), Some(decided)) = (trips, parts.sizes.first()) {
            let source = Source::Axis { value, axis: 0, factor: 1, offset: 0 };
            self.scope().symbols.insert(decided.name.clone(), source);
        }
        outputs.truncate(types);
        Ok(outputs)
    }

    /// The body of a loop: the condition first, which is a constant if there is none; the number of the iteration last, if
    /// it is stacked.
    fn loop_body(
        &mut self,
        body: &Graph,
        mut results: Vec<String>,
        values: &[Value],
        (has_cond, number): (bool, Option<&String>),
    ) -> GraphProto {
        results.extend(number.cloned());
        self.label = "result".to_owned();
        let results = self.given(results);
        let scope = self.scopes.pop().expect("bug: a body is left that was not entered");
        let mut types: Vec<TensorType> = values.iter().map(|&value| body.ty(value).clone()).collect();
        if !has_cond {
            types.insert(0, TensorType::scalar(DType::Bool));
        }
        types.extend(number.map(|_| TensorType::scalar(DType::I64)));
        let output = results.iter().zip(&types).map(|(name, ty)| value_info(name, ty)).collect();
        GraphProto { name: self.unique(body.name()), output, ..graph_proto(scope.nodes) }
    }

    /// Is the number of iterations needed, and no stack tells it?
    fn counts_itself(&self, graph: &Graph, id: NodeId, parts: &Loop) -> bool {
        let stacks = parts.body.outputs().len() - usize::from(parts.cond) - parts.carried;
        let Some(decided) = parts.sizes.first().filter(|first| parts.cond && stacks == 0 && first.is_free())
        else {
            return false;
        };
        let mut is_used = false;
        for other in graph.order().into_iter().filter(|&other| other != id) {
            if let Some((_, attrs)) = graph.node(other).op() {
                attrs.for_each_symbol(&mut |symbol| is_used |= *symbol == decided.name);
            }
        }
        is_used
    }
}
