//! Model-local functions: one for each op with its attributes and the types that its body is written for.
//!
//! A function is told by a text: the graph of its op alone, on operands whose symbols are called `n0`, `n1`, … in order of
//! appearance. Symbols that no operand's shape tells are further inputs. The text stands in the function's metadata,
//! with the hash of the body: so the importer knows the op, and sees whether somebody changed the body.

use std::collections::BTreeMap;

use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::{Graph, Value};
use ir::op::OpError;
use ir::weight::Hash;
use ir::{DType, Dim, Origin, Symbol, TensorType};
use onnx_protobuf::{FunctionProto, NodeProto, OperatorSetIdProto, StringStringEntryProto};
use ops::Entry;
use ops::flow::as_size::{AS_SIZE, BOUND};
use ops::flow::{NAMES, SIZES};
use ops::onnx::export::{Body, Emit, Sink};
use protobuf::Message;

use super::ExportProblem;
use super::names::Names;
use super::scope::{Kind, MAX_DEPTH, Scope, Source, Writer};

/// The domain of functions that stand for ops.
pub(crate) const DOMAIN: &str = "egraft";

/// The key of the text in a function's metadata.
pub(crate) const OP: &str = "egraft.op";

/// The key of the hash of its body.
pub(crate) const BODY: &str = "egraft.body";

/// The functions of a model.
#[derive(Default)]
pub(super) struct Functions {
    /// The name of each, by its text.
    names: BTreeMap<String, String>,
    taken: Names,
    protos: Vec<(String, FunctionProto)>,
}

impl Functions {
    pub(super) fn is_empty(&self) -> bool {
        self.protos.is_empty()
    }

    /// The functions, which read these versions of domains.
    pub(super) fn finish(self, opsets: &[OperatorSetIdProto]) -> Vec<FunctionProto> {
        let mut protos: Vec<(String, FunctionProto)> = self.protos;
        for (_, proto) in &mut protos {
            let uses = |domain: &str| domain.is_empty() || calls(&proto.node, domain);
            proto.opset_import = opsets.iter().filter(|import| uses(&import.domain)).cloned().collect();
        }
        let bare: Vec<FunctionProto> = protos.iter().map(|(_, proto)| proto.clone()).collect();
        let find = |name: &str| bare.iter().find(|proto| proto.name == name);
        for (text, proto) in &mut protos {
            let hash = body_hash(proto, &find).to_string();
            for (key, value) in [(OP, text.clone()), (BODY, hash)] {
                let key = key.to_owned();
                proto.metadata_props.push(StringStringEntryProto {
                    key,
                    value,
                    ..StringStringEntryProto::default()
                });
            }
        }
        protos.into_iter().map(|(_, proto)| proto).collect()
    }
}

fn calls(nodes: &[NodeProto], domain: &str) -> bool {
    nodes.iter().any(|node| {
        let bodies = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
        node.domain == domain || bodies.into_iter().any(|body| calls(&body.node, domain))
    })
}

/// The hash of what a function computes: its parameters, its nodes, and the functions of our domain that these call.
pub(crate) fn body_hash<'a>(proto: &FunctionProto, find: &dyn Fn(&str) -> Option<&'a FunctionProto>) -> Hash {
    fn add<'a>(
        bytes: &mut Vec<u8>,
        proto: &FunctionProto,
        find: &dyn Fn(&str) -> Option<&'a FunctionProto>,
        depth: usize,
    ) {
        let mut plain = FunctionProto {
            input: proto.input.clone(),
            output: proto.output.clone(),
            attribute: proto.attribute.clone(),
            attribute_proto: proto.attribute_proto.clone(),
            node: proto.node.clone(),
            opset_import: proto.opset_import.clone(),
            ..FunctionProto::default()
        };
        // How a domain is spelled, names and notes say nothing of what is computed.
        for node in &mut plain.node {
            node.name.clear();
            node.doc_string.clear();
            node.metadata_props.clear();
        }
        bytes.extend(plain.write_to_bytes().expect("bug: messages without required fields are complete"));
        for node in proto.node.iter().filter(|node| node.domain == DOMAIN && depth < MAX_DEPTH) {
            if let Some(called) = find(&node.op_type) {
                add(bytes, called, find, depth + 1);
            }
        }
    }
    let mut bytes = Vec::new();
    add(&mut bytes, proto, find, 0);
    Hash::of(&bytes)
}

/// A call: the op with symbols renamed, and what the function takes.
struct Call {
    attrs: Attrs,
    types: Vec<TensorType>,
    /// What symbols are called in the function, in order.
    renamed: Vec<(Symbol, Symbol)>,
    text: String,
}

impl Writer {
    /// The results of a call of the function that an op becomes.
    pub(super) fn call(
        &mut self,
        entry: &Entry,
        (names, types): (&[String], &[TensorType]),
        attrs: &Attrs,
        results: &[TensorType],
    ) -> Result<Vec<String>, ExportProblem> {
        let body = |error| ExportProblem::Body { op: entry.op.name.to_owned(), error: Box::new(error) };
        let call = match entry.op.semantics.is_elementwise().then(|| general(entry, types, attrs)) {
            Some(Ok(call)) => call,
            _ => renamed(entry, types, attrs).map_err(body)?,
        };
        let further: Vec<(Symbol, Symbol)> = call
            .renamed
            .iter()
            .filter(|(_, own)| {
                !call.types.iter().any(|ty| ty.shape.iter().any(|d| d.as_symbol() == Some(own)))
            })
            .cloned()
            .collect();
        let mut inputs = names.to_vec();
        for (symbol, _) in &further {
            inputs.push(self.scalar(&Dim::from(symbol)));
        }
        let function = match self.functions.names.get(&call.text) {
            Some(name) => name.clone(),
            None => self.define(entry, &call, &further)?,
        };
        let label = self.label.clone();
        let outputs: Vec<String> = results.iter().map(|_| self.unique(&label)).collect();
        self.push((DOMAIN, &function), inputs, outputs.clone(), &vec![]);
        Ok(outputs)
    }

    fn scalar(&mut self, size: &Dim) -> String {
        let (vector, first) = (self.size_of(size), self.constant(&ir::Tensor::from_i64(&[1], &[0])));
        self.node("Squeeze", &[&vector, &first], 1, vec![]).remove(0)
    }

    /// A number that the graph computes as a size called so, or as one that something else stands for: then, for who knows
    /// the op, it is compared.
    pub(super) fn as_size(
        &mut self,
        x: &str,
        (symbol, size): (&Symbol, &Dim),
        bound: Option<&Dim>,
    ) -> Result<String, ExportProblem> {
        let entry = ops::ALL.iter().find(|entry| *entry.op == AS_SIZE);
        let entry = entry.expect("bug: an op that is not among all");
        let body = |error| ExportProblem::Body { op: AS_SIZE.name.to_owned(), error: Box::new(error) };
        let bound = bound.cloned().unwrap_or_else(|| Dim::constant(-1));
        let (own, is_free) = (Symbol::new("size"), size.as_symbol() == Some(symbol));
        let attrs = [
            NAMES.is(vec![own.name().to_owned()]),
            SIZES.is(vec![if is_free { Dim::from(&own) } else { size.clone() }]),
            BOUND.is(bound),
        ];
        let attrs = AS_SIZE.check_attrs(attrs.map(|(key, attr)| (key.to_owned(), attr)));
        let attrs = attrs.map_err(|error| body(error.into()))?;
        let types = [TensorType::scalar(DType::I64)];
        let mut call = renamed_but(entry, &types, &attrs, &own).map_err(body)?;
        let further = std::mem::take(&mut call.renamed);
        let mut inputs = vec![x.to_owned()];
        for (symbol, _) in &further {
            inputs.push(self.scalar(&Dim::from(symbol)));
        }
        call.renamed.clone_from(&further);
        let function = match self.functions.names.get(&call.text) {
            Some(name) => name.clone(),
            None => self.define(entry, &call, &further)?,
        };
        let label = self.label.clone();
        let output = self.unique(&label);
        self.push((DOMAIN, &function), inputs, vec![output.clone()], &vec![]);
        if is_free {
            self.scope().symbols.insert(symbol.clone(), Source::Number(output.clone()));
        }
        Ok(output)
    }

    /// Writes a function, and gives its name.
    fn define(
        &mut self,
        entry: &Entry,
        call: &Call,
        further: &[(Symbol, Symbol)],
    ) -> Result<String, ExportProblem> {
        self.check()?;
        let name = self.functions.taken.unique(entry.op.name);
        self.functions.names.insert(call.text.clone(), name.clone());
        self.scopes.push(Scope::new(Kind::Function));
        self.names.push(Names::default());
        let (label, origin) =
            (std::mem::replace(&mut self.label, entry.op.name.to_owned()), self.origin.take());
        let mut inputs: Vec<String> = (0..call.types.len()).map(|i| self.unique(&format!("x{i}"))).collect();
        for (_, own) in further {
            let input = self.unique(own.name());
            self.scope().symbols.insert(own.clone(), Source::Number(input.clone()));
            inputs.push(input);
        }
        let results = self.body(entry, call, &inputs[..call.types.len()])?;
        let outputs = self.given(results);
        (self.label, self.origin) = (label, origin);
        self.names.pop();
        let scope = self.scopes.pop().expect("it was pushed above");
        let proto = FunctionProto {
            name: name.clone(),
            domain: DOMAIN.to_owned(),
            input: inputs,
            output: outputs,
            node: scope.nodes,
            ..FunctionProto::default()
        };
        self.functions.protos.push((call.text.clone(), proto));
        Ok(name)
    }

    /// The nodes of a function: those that the op's file gives, or its expansion's.
    fn body(&mut self, entry: &Entry, call: &Call, inputs: &[String]) -> Result<Vec<String>, ExportProblem> {
        let op = || entry.op.name.to_owned();
        let graph = graph_of(entry, &call.types, &call.attrs)
            .map_err(|error| ExportProblem::Body { op: op(), error: Box::new(error) })?;
        let results: Vec<TensorType> = graph.outputs().iter().map(|&value| graph.ty(value).clone()).collect();
        // The operands' shapes tell sizes; the graph itself is not written.
        for (&input, name) in graph.inputs().iter().zip(inputs) {
            self.bind(input.into(), name.clone(), &graph.node(input).types[0]);
        }
        if *entry.op == AS_SIZE {
            return Ok(vec![inputs[0].clone()]);
        }
        if let Some(Body::Nodes(nodes)) = entry.to_onnx.body {
            let mut emit = Emit::new(self, (inputs, &call.types), &call.attrs, &results, None);
            if let Some(results) = nodes(&mut emit) {
                self.check()?;
                return Ok(results);
            }
        }
        self.scope().values.clear();
        let mut b = Build::new(entry.op.name);
        let x: Vec<Value> =
            call.types.iter().enumerate().map(|(i, ty)| b.input(&format!("x{i}"), ty.clone())).collect();
        let made = match entry.to_onnx.body {
            Some(Body::Ops(ops)) => ops(&mut b, &x, &call.attrs).map(Some),
            _ => entry.op.semantics.expand(&mut b, &x, &call.attrs),
        };
        let made = made.map_err(|error| ExportProblem::Body { op: op(), error: Box::new(error) })?;
        let Some(made) = made else {
            let types = call.types.iter().map(TensorType::to_string).collect::<Vec<_>>().join(", ");
            return Err(ExportProblem::NoForm { op: op(), types });
        };
        let graph = b.finish(made);
        for (&input, name) in graph.inputs().iter().zip(inputs) {
            self.bind(input.into(), name.clone(), &graph.node(input).types[0]);
        }
        self.graph_nodes(&graph, &BTreeMap::new()).map_err(|at| at.error)?;
        Ok(graph.outputs().into_iter().map(|value| self.name(value)).collect())
    }
}

/// The op on operands of these types, as a graph of its own.
fn graph_of(entry: &Entry, types: &[TensorType], attrs: &Attrs) -> Result<Graph, OpError> {
    let mut graph = Graph::new(entry.op.name);
    let inputs: Vec<Value> = types
        .iter()
        .enumerate()
        .map(|(i, ty)| graph.add_input(format!("x{i}"), ty.clone(), Origin::none()))
        .collect();
    let node = graph.add_op(entry.op, &inputs, attrs.clone(), Origin::none())?;
    let results = graph.node(node).types.len();
    graph.set_outputs((0..results).map(|result| (format!("y{result}"), Value { node, result })));
    Ok(graph)
}

/// The symbols renamed to `n0`, `n1`, ….
fn renamed(entry: &Entry, types: &[TensorType], attrs: &Attrs) -> Result<Call, OpError> {
    renamed_but(entry, types, attrs, &Symbol::new(""))
}

fn renamed_but(entry: &Entry, types: &[TensorType], attrs: &Attrs, kept: &Symbol) -> Result<Call, OpError> {
    let mut symbols: Vec<Symbol> = Vec::new();
    let mut add = |symbol: &Symbol| {
        if symbol != kept && !symbols.contains(symbol) {
            symbols.push(symbol.clone());
        }
    };
    types.iter().flat_map(|ty| &ty.shape).for_each(|size| size.for_each_symbol(&mut add));
    attrs.for_each_symbol(&mut add);
    let renamed: Vec<(Symbol, Symbol)> =
        symbols.into_iter().enumerate().map(|(i, symbol)| (symbol, Symbol::new(format!("n{i}")))).collect();
    let with = |symbol: &Symbol| renamed.iter().find(|(old, _)| old == symbol).map(|(_, new)| Dim::from(new));
    let types: Vec<TensorType> = types.iter().map(|ty| ty.substitute(&with)).collect();
    let attrs = attrs.substitute(&with)?;
    let text = graph_of(entry, &types, &attrs)?.to_string();
    Ok(Call { attrs, types, renamed, text })
}

/// An elementwise op for any sizes: each size but 1 is a symbol, one for each axis.
fn general(entry: &Entry, types: &[TensorType], attrs: &Attrs) -> Result<Call, OpError> {
    let size = |(from_end, size): (usize, &Dim)| match size.is(1) {
        true => size.clone(),
        false => Dim::symbol(format!("n{from_end}")),
    };
    let types: Vec<TensorType> = types
        .iter()
        .map(|ty| {
            let mut shape: Vec<Dim> = ty.shape.iter().rev().enumerate().map(size).collect();
            shape.reverse();
            ty.with_shape(shape)
        })
        .collect();
    let text = graph_of(entry, &types, attrs)?.to_string();
    Ok(Call { attrs: attrs.clone(), types, renamed: Vec::new(), text })
}
