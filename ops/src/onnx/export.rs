//! What an ops' file says of the way back: the nodes of ONNX that an op becomes.
//!
//! An op whose import is [`same`](super::same) or [`zip`](super::zip) needs to say nothing. Others give a
//! [`ToOnnx`]: nodes of ONNX where there are such, and the body of a model-local function where there are none. A
//! composite op needs no body: its expansion is one.
//!
//! Promises
//! - nodes mean what the op means, wherever ONNX defines the value. An index that lies out of range, which an op takes as the
//!   nearest one or leaves out, is put right before a node sees it, unless it is plain data (see `indices.rs`);
//! - sizes stay symbolic: [`Emit::size`] and [`Emit::sizes`] compute them where they are no numbers.
//!
//! Deliberately absent: protobuf, names and their uniqueness, functions and how calls are told apart, which are the
//! exporter's ([`Sink`]); control flow.

use ir::attr::Attrs;
use ir::build::Build;
use ir::graph::{Graph, NodeId, Value};
use ir::op::{OpDef, OpError};
use ir::{DType, Dim, Scalar, Tensor, TensorType, Weight};

use super::import::How;
use super::{NodeAttr, dtype_of, indices};
use crate::Entry;

/// The version of the default domain that nodes are written for: the first that has a GELU, truth values in `ReduceMax`
/// and everything else that is written, and that other engines have long known. A graph that needs more gets more: see
/// [`Emit::need`].
pub const OPSET: i64 = 20;

/// The first version whose elementwise ops all take `bf16`.
pub const OPSET_OF_BF16: i64 = 22;

/// The attributes of a node of ONNX.
pub type Attributes = Vec<(&'static str, NodeAttr)>;

/// Nodes of ONNX for an op: its results; `None` where there are none for these operands.
pub type Nodes = fn(&mut Emit) -> Option<Vec<String>>;

/// The same as simpler ops.
pub type Ops = fn(&mut Build, &[Value], &Attrs) -> Result<Vec<Value>, OpError>;

/// The body of the function that an op becomes.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// Nodes of ONNX.
    Nodes(Nodes),
    /// Ops, which become nodes in turn.
    Ops(Ops),
}

/// How an op becomes ONNX.
#[derive(Debug, Clone, Copy)]
pub struct ToOnnx {
    /// As nodes; by default, as the import tells that is the same op.
    pub nodes: Option<Nodes>,
    /// Where that is not to be: as a function with this body; by default, with the op's expansion.
    pub body: Option<Body>,
}

/// What the imports and the expansion say.
pub const DERIVED: ToOnnx = ToOnnx { nodes: None, body: None };

/// As nodes.
pub const fn nodes(nodes: Nodes) -> ToOnnx {
    ToOnnx { nodes: Some(nodes), body: None }
}

/// As a function.
pub const fn function(body: Body) -> ToOnnx {
    ToOnnx { nodes: None, body: Some(body) }
}

impl ToOnnx {
    /// The same; where there are no nodes, as a function with this body.
    pub const fn or(self, body: Body) -> ToOnnx {
        ToOnnx { body: Some(body), ..self }
    }
}

/// The number of an element type in `TensorProto.DataType`.
pub fn code_of(dtype: DType) -> i64 {
    (1..=26).find(|&code| dtype_of(code) == Some(dtype)).expect("every element type has a number")
}

/// The first version of the default domain that knows an element type.
pub fn opset_of(dtype: DType) -> i64 {
    match dtype {
        DType::BF16 => OPSET_OF_BF16,
        DType::I4 | DType::U4 => 21,
        DType::F4E2M1 => 23,
        DType::F8E8M0 => 24,
        DType::I2 | DType::U2 => 25,
        _ => OPSET,
    }
}

/// Where nodes go: the graph, body or function that is being written.
pub trait Sink {
    /// Adds a node of the default domain with so many outputs: their names.
    fn node(&mut self, op_type: &str, inputs: &[&str], outputs: usize, attributes: Attributes)
    -> Vec<String>;

    /// A constant.
    fn constant(&mut self, tensor: &Tensor) -> String;

    /// A size as a vector of one `i64`.
    fn size(&mut self, size: &Dim) -> String;

    /// At least this version of the default domain is needed.
    fn need(&mut self, opset: i64);

    /// The name of a value of the graph that has one.
    fn name(&self, value: Value) -> String;
}

/// A node of a graph, for who looks around it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// The node.
    pub node: NodeId,
    /// Are the graph's inputs those of the model?
    pub is_outermost: bool,
}

/// An op that becomes ONNX, as its file sees it.
pub struct Emit<'a> {
    sink: &'a mut dyn Sink,
    operands: &'a [String],
    types: &'a [TensorType],
    results: &'a [TensorType],
    /// Its attributes.
    pub attrs: &'a Attrs,
    place: Option<Place<'a>>,
    absorbed: Vec<Value>,
}

impl<'a> Emit<'a> {
    /// Operands with names and types, and what is between them and the results of these types.
    pub fn new(
        sink: &'a mut dyn Sink,
        (operands, types): (&'a [String], &'a [TensorType]),
        attrs: &'a Attrs,
        results: &'a [TensorType],
        place: Option<Place<'a>>,
    ) -> Emit<'a> {
        Emit { sink, operands, types, results, attrs, place, absorbed: Vec::new() }
    }

    /// The name of operand `index`.
    pub fn x(&self, index: usize) -> String {
        self.operands[index].clone()
    }

    /// The names of all operands.
    pub fn all(&self) -> &'a [String] {
        self.operands
    }

    /// The type of operand `index`.
    pub fn ty(&self, index: usize) -> &'a TensorType {
        &self.types[index]
    }

    /// The type of result `index`.
    pub fn result(&self, index: usize) -> &'a TensorType {
        &self.results[index]
    }

    /// Operand `index`, if it is a constant.
    pub fn weight(&self, index: usize) -> Option<&'a Weight> {
        let Place { graph, node, .. } = self.place?;
        graph.node(graph.operands(node).get(index)?.node).weight()
    }

    /// May a node that demands indices in range have operand `index` as it is, for an axis of this size?
    pub fn is_in_range(&self, index: usize, size: &Dim) -> bool {
        let Some(place) = self.place else { return false };
        let operand = place.graph.operands(place.node)[index];
        indices::are_in_range(place.graph, operand, size, place.is_outermost)
    }

    /// A node with one output: its name.
    pub fn node<S: AsRef<str>>(&mut self, op_type: &str, inputs: &[S]) -> String {
        self.node_with(op_type, inputs, vec![])
    }

    /// A node with attributes and one output: its name.
    pub fn node_with<S: AsRef<str>>(
        &mut self,
        op_type: &str,
        inputs: &[S],
        attributes: Attributes,
    ) -> String {
        self.nodes(op_type, inputs, 1, attributes).remove(0)
    }

    /// A node with so many outputs: their names.
    pub fn nodes<S: AsRef<str>>(
        &mut self,
        op_type: &str,
        inputs: &[S],
        outputs: usize,
        attributes: Attributes,
    ) -> Vec<String> {
        let inputs: Vec<&str> = inputs.iter().map(AsRef::as_ref).collect();
        self.sink.node(op_type, &inputs, outputs, attributes)
    }

    /// The node called `op_type` of all operands.
    pub fn same(&mut self, op_type: &str) -> Vec<String> {
        self.same_with(op_type, vec![])
    }

    /// The node called `op_type` of all operands, with attributes.
    pub fn same_with(&mut self, op_type: &str, attributes: Attributes) -> Vec<String> {
        let results = self.results.len();
        self.nodes(op_type, self.operands, results, attributes)
    }

    /// A constant.
    pub fn constant(&mut self, tensor: &Tensor) -> String {
        self.sink.constant(tensor)
    }

    /// A number without axes, rounded to `dtype`.
    pub fn number(&mut self, dtype: DType, value: f64) -> String {
        self.constant(&Tensor::scalar(Scalar::from_f64(dtype, value)))
    }

    /// A vector of `i64`.
    pub fn ints(&mut self, values: &[i64]) -> String {
        self.constant(&Tensor::from_i64(&[values.len()], values))
    }

    /// A size as an `i64` without axes.
    pub fn size(&mut self, size: &Dim) -> String {
        match size.as_const() {
            Some(value) => self.constant(&Tensor::from_i64(&[], &[value])),
            None => {
                let (vector, first) = (self.sink.size(size), self.ints(&[0]));
                self.node("Squeeze", &[vector, first])
            }
        }
    }

    /// Sizes as a vector of `i64`.
    pub fn sizes(&mut self, sizes: &[Dim]) -> String {
        let numbers: Option<Vec<i64>> = sizes.iter().map(Dim::as_const).collect();
        if let Some(numbers) = numbers {
            return self.ints(&numbers);
        }
        let parts: Vec<String> = sizes
            .chunk_by(|a, b| a.as_const().is_some() && b.as_const().is_some())
            .map(|run| match run.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>() {
                Some(numbers) => self.ints(&numbers),
                None => self.sink.size(&run[0]),
            })
            .collect();
        match parts.as_slice() {
            [one] => one.clone(),
            _ => self.node_with("Concat", &parts, vec![("axis", NodeAttr::Int(0))]),
        }
    }

    /// `x` of type `from` in type `to`: itself, if that is its type.
    pub fn cast(&mut self, x: String, from: DType, to: DType) -> String {
        if from == to { x } else { self.cast_always(x, to) }
    }

    /// A conversion, also to the same type.
    pub fn cast_always(&mut self, x: String, to: DType) -> String {
        self.need(opset_of(to));
        let mut attributes = vec![("to", NodeAttr::Int(code_of(to)))];
        if to.is_float() && to.is_narrow() {
            attributes.push(("saturate", NodeAttr::Int(0)));
        }
        if to == DType::F8E8M0 {
            attributes.push(("round_mode", NodeAttr::Str("nearest".to_owned())));
        }
        self.node_with("Cast", &[x], attributes)
    }

    /// The node called `op_type` of all operands, which it takes as one of `types`: others are converted to the last of
    /// these, and the results back.
    pub fn as_one_of(&mut self, op_type: &str, types: &[DType], attributes: Attributes) -> Vec<String> {
        let own = self.ty(0).dtype;
        let taken = if types.contains(&own) { own } else { types[types.len() - 1] };
        let operands: Vec<String> = (0..self.operands.len())
            .map(|index| match self.ty(index).dtype == own {
                true => self.cast(self.x(index), own, taken),
                false => self.x(index),
            })
            .collect();
        let results = self.nodes(op_type, &operands, self.results.len(), attributes);
        let types = self.results.iter().map(|ty| ty.dtype);
        results
            .into_iter()
            .zip(types)
            .map(|(result, dtype)| if dtype == own { self.cast(result, taken, own) } else { result })
            .collect()
    }

    /// At least this version of the default domain is needed.
    pub fn need(&mut self, opset: i64) {
        self.sink.need(opset);
    }

    /// If nothing but a `def` reads the result, once, and its other operand is a constant or an input: that operand. Its
    /// result is the one that the nodes give, then.
    pub fn absorb(&mut self, def: &OpDef) -> Option<(Value, TensorType)> {
        let Place { graph, node, .. } = self.place?;
        let value = self.absorbed.last().copied().unwrap_or_else(|| node.into());
        let users = graph.users(value);
        let &[(user, at)] = users.as_slice() else { return None };
        let is_output = graph.outputs().contains(&value);
        let (found, _) = graph.node(user).op()?;
        if is_output || found != def {
            return None;
        }
        let other = *graph.operands(user).get(1 - at.min(1))?;
        graph.node(other.node).op().is_none().then(|| {
            self.absorbed.push(user.into());
            (other, graph.ty(other).clone())
        })
    }

    /// Takes back what was absorbed.
    pub fn give_back(&mut self) {
        self.absorbed.clear();
    }

    /// Takes back what was absorbed last.
    pub fn give_back_last(&mut self) {
        self.absorbed.pop();
    }

    /// The name of a constant or an input of the graph, which [`Emit::absorb`] gave.
    pub fn other(&mut self, value: Value) -> String {
        self.sink.name(value)
    }

    /// The values that the results stand for instead of the node's own.
    pub fn absorbed(&self) -> &[Value] {
        &self.absorbed
    }
}

/// The node of floats called `op_type` with these numbers as attributes, if they can be: they are `f32` there.
pub(crate) fn activation(
    e: &mut Emit,
    op_type: &str,
    numbers: &[(&'static str, f64)],
) -> Option<Vec<String>> {
    let (dtype, values) = (e.ty(0).dtype, numbers.iter().map(|&(_, value)| value).collect::<Vec<_>>());
    let attributes = numbers.iter().map(|&(name, value)| (name, NodeAttr::Float(value))).collect();
    (dtype.is_float() && fit(dtype, &values)).then(|| e.same_with(op_type, attributes))
}

/// The node called `truths` of truth values, and the one called `others` of other operands.
pub(crate) fn logical(e: &mut Emit, truths: &str, others: &str) -> Vec<String> {
    let is_truth = e.ty(0).dtype == DType::Bool;
    e.same(if is_truth { truths } else { others })
}

/// The comparison called `op_type`, which is there for numbers.
pub(crate) fn comparison(e: &mut Emit, op_type: &str) -> Vec<String> {
    if e.ty(0).dtype != DType::Bool {
        return e.same(op_type);
    }
    let operands = [0, 1].map(|index| e.cast(e.x(index), DType::Bool, DType::I32));
    vec![e.node(op_type, &operands)]
}

/// Do these numbers stay what they are as attributes, for a computation in `dtype`?
pub fn fit(dtype: DType, values: &[f64]) -> bool {
    dtype != DType::F64 || values.iter().all(|&value| f64::from(value as f32) == value)
}

impl Entry {
    /// The nodes that it becomes, if it becomes some.
    pub fn write(&self, e: &mut Emit) -> Option<Vec<String>> {
        match self.to_onnx.nodes {
            Some(nodes) => nodes(e),
            None => {
                let is_same = |import: &&super::Import| import.domain.is_empty();
                let found =
                    self.onnx.iter().filter(is_same).find(|import| !matches!(import.how, How::By(_)))?;
                // ONNX has floats in mind where we have any number.
                let is_composite = !e.ty(0).dtype.is_float() && self.is_composite(e);
                (self.to_onnx.body.is_none() && !is_composite).then(|| e.same(found.op_type))
            }
        }
    }

    /// Is it given by an expansion?
    fn is_composite(&self, e: &Emit) -> bool {
        let mut b = Build::new(self.op.name);
        let x: Vec<Value> = e.types.iter().map(|ty| b.input("x", ty.clone())).collect();
        self.op.semantics.expand(&mut b, &x, e.attrs).is_ok_and(|expanded| expanded.is_some())
    }
}
