//! What an ONNX importer sees of the ops, and what the ops see of an ONNX node.
//!
//! Each op's file says which ONNX ops become it: a list of [`Import`]s, each valid from one opset version on.
//! [`find_import`] picks one; [`Import::convert`] adds the nodes. No protobuf here: the importer fills a
//! [`NodeView`].
//!
//! Promises
//! - what a node asks for is done or refused: an attribute that a conversion does not read is an error;
//! - nothing is read at run time that must be known at compile time: [`ImportError::RunTimeValue`] says which
//!   input. Sizes may be read at run time: [`NodeView::sizes`] makes them symbols.
//!
//! Deliberately absent: control flow (`If`, `Loop`, `Scan`) and sequences, which are the importer's.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use ir::build::Build;
use ir::graph::{Graph, Kind, KnownSizes, SizeValues, Value};
use ir::op::{Eval, MAX_SIZES, OpDef, OpError, Sizes};
use ir::{DType, Dim, Scalar, Tensor, TensorType};

use crate::flow::as_size::as_size;
use crate::math::cast::convert;
use crate::shape::reshape::reshape;
use crate::shape::size::{size, sizes};
use crate::shape::slice::slice_axis;

/// Versions of the default domain that imports are written for.
pub const OPSETS: RangeInclusive<i64> = 7..=28;

/// The value of a node's attribute.
#[derive(Debug, Clone)]
pub enum NodeAttr {
    /// An integer, also an element type by its number (see [`dtype_of`]).
    Int(i64),
    /// Several.
    Ints(Vec<i64>),
    /// A number.
    Float(f64),
    /// Several.
    Floats(Vec<f64>),
    /// A string.
    Str(String),
    /// Several.
    Strs(Vec<String>),
    /// A tensor.
    Tensor(Tensor),
    /// A nested graph, by its name.
    Graph(String),
}

impl NodeAttr {
    /// What it is, in messages.
    fn kind(&self) -> &'static str {
        match self {
            NodeAttr::Int(_) => "an integer",
            NodeAttr::Ints(_) => "a list of integers",
            NodeAttr::Float(_) => "a number",
            NodeAttr::Floats(_) => "a list of numbers",
            NodeAttr::Str(_) => "a string",
            NodeAttr::Strs(_) => "a list of strings",
            NodeAttr::Tensor(_) => "a tensor",
            NodeAttr::Graph(_) => "a graph",
        }
    }
}

/// The element type with this number in `TensorProto.DataType`, if we have it.
pub fn dtype_of(code: i64) -> Option<DType> {
    Some(match code {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        _ => return None,
    })
}

/// What a number of `TensorProto.DataType` that [`dtype_of`] refuses is called.
pub fn dtype_name(code: i64) -> String {
    let name = match code {
        8 => "string",
        14 => "complex64",
        15 => "complex128",
        17 => "float8e4m3fn",
        18 => "float8e4m3fnuz",
        19 => "float8e5m2",
        20 => "float8e5m2fnuz",
        21 => "uint4",
        22 => "int4",
        23 => "float4e2m1",
        24 => "float8e8m0",
        25 => "uint2",
        26 => "int2",
        _ => return dtype_of(code).map_or_else(|| format!("number {code}"), |dtype| dtype.name().to_owned()),
    };
    name.to_owned()
}

/// Why a node can't be imported. Says what is wrong; the importer adds where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// An input that the op requires is absent.
    #[error("input {index} is missing")]
    MissingInput {
        /// Its position.
        index: usize,
    },
    /// An attribute is absent, of another kind than the op declares, or has a value that makes no sense.
    #[error("attribute `{name}`: {why}")]
    Attribute {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Legal ONNX that is not supported.
    #[error("{what} is not supported: {help}")]
    Unsupported {
        /// What it is.
        what: String,
        /// The way out.
        help: String,
    },
    /// An input that must be a constant, or follow from shapes, is computed at run time.
    #[error(
        "input {index} (`{input}`) is computed at run time, but it must be a constant or follow from shapes: fix it \
         in the exported model, or simplify the model before compiling"
    )]
    RunTimeValue {
        /// Its position.
        index: usize,
        /// Its name in the ONNX specification.
        input: &'static str,
    },
    /// What the op says of these operands.
    #[error(transparent)]
    Op(#[from] OpError),
}

impl ImportError {
    /// A value of an attribute that the conversion does not know.
    pub fn value(name: &str, value: impl std::fmt::Display, known: &str) -> ImportError {
        ImportError::Attribute { name: name.to_owned(), why: format!("`{value}`; known are {known}") }
    }

    /// A stable code, for `egraft explain`.
    pub fn code(&self) -> &'static str {
        match self {
            ImportError::MissingInput { .. } => "egraft::onnx::input",
            ImportError::Attribute { .. } => "egraft::onnx::attribute",
            ImportError::Unsupported { .. } => "egraft::onnx::unsupported",
            ImportError::RunTimeValue { .. } => "egraft::onnx::run_time_value",
            ImportError::Op(error) => error.code(),
        }
    }
}

/// A node of an ONNX graph, as a conversion sees it.
pub struct NodeView<'a> {
    /// Its op.
    pub op_type: &'a str,
    /// Its domain; `""` for `ai.onnx`.
    pub domain: &'a str,
    /// The version imported for that domain.
    pub opset: i64,
    /// Its name, maybe empty.
    pub name: &'a str,
    inputs: Vec<Option<Value>>,
    outputs: Vec<bool>,
    attributes: &'a BTreeMap<String, NodeAttr>,
    known: &'a RefCell<Known>,
    /// What sizes must agree on is checked when the model runs, where it is not known now.
    lenient: bool,
    read: RefCell<BTreeSet<&'a str>>,
}

impl<'a> NodeView<'a> {
    /// A node without name, of the default domain at this version, without inputs and with one output.
    pub fn new(
        op_type: &'a str,
        opset: i64,
        attributes: &'a BTreeMap<String, NodeAttr>,
        known: &'a RefCell<Known>,
    ) -> Self {
        NodeView {
            op_type,
            domain: "",
            opset,
            name: "",
            inputs: Vec::new(),
            outputs: vec![true],
            attributes,
            known,
            lenient: false,
            read: RefCell::default(),
        }
    }

    /// The same of another domain, `opset` being its version.
    pub fn in_domain(self, domain: &'a str) -> Self {
        NodeView { domain, ..self }
    }

    /// The same, with what is not known about sizes left to a check when the model runs, where there is one.
    pub fn leniently(self, lenient: bool) -> Self {
        NodeView { lenient, ..self }
    }

    /// May what is not known about sizes be checked when the model runs?
    pub fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// The same with a name.
    pub fn named(self, name: &'a str) -> Self {
        NodeView { name, ..self }
    }

    /// The same with these inputs; `None` for one whose name is empty.
    pub fn with_inputs(self, inputs: Vec<Option<Value>>) -> Self {
        NodeView { inputs, ..self }
    }

    /// The same with these outputs: for each, whether it has a name.
    pub fn with_outputs(self, outputs: Vec<bool>) -> Self {
        NodeView { outputs, ..self }
    }

    /// Number of inputs that the node lists, those left empty included.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Number of outputs that the node lists, those left empty included.
    pub fn output_count(&self) -> usize {
        self.outputs.len()
    }

    /// Has output `index` a name?
    pub fn output_used(&self, index: usize) -> bool {
        self.outputs.get(index).copied().unwrap_or(false)
    }

    /// A required input.
    pub fn input(&self, index: usize) -> Result<Value, ImportError> {
        self.optional_input(index).ok_or(ImportError::MissingInput { index })
    }

    /// An optional input.
    pub fn optional_input(&self, index: usize) -> Option<Value> {
        self.inputs.get(index).copied().flatten()
    }

    /// All inputs, none of which may be left empty.
    pub fn inputs(&self) -> Result<Vec<Value>, ImportError> {
        (0..self.inputs.len()).map(|index| self.input(index)).collect()
    }

    fn attribute(&self, name: &str) -> Option<&'a NodeAttr> {
        let (name, attr) = self.attributes.get_key_value(name)?;
        self.read.borrow_mut().insert(name);
        Some(attr)
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        take: impl FnOnce(&'a NodeAttr) -> Option<T>,
    ) -> Result<Option<T>, ImportError> {
        let Some(attr) = self.attribute(name) else { return Ok(None) };
        match take(attr) {
            Some(value) => Ok(Some(value)),
            None => {
                let why = format!("expected {expected}, found {}", attr.kind());
                Err(ImportError::Attribute { name: name.to_owned(), why })
            }
        }
    }

    /// Is the attribute given?
    pub fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Result<Option<i64>, ImportError> {
        self.typed(name, "an integer", |a| if let NodeAttr::Int(v) = a { Some(*v) } else { None })
    }

    /// An integer attribute with a default.
    pub fn int_or(&self, name: &str, default: i64) -> Result<i64, ImportError> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An integer attribute that means a truth value.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, ImportError> {
        Ok(self.int_or(name, i64::from(default))? != 0)
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, ImportError> {
        self.typed(name, "a list of integers", |a| match a {
            NodeAttr::Ints(v) => Some(v.clone()),
            // Writers that don't distinguish an empty list of numbers from one of integers.
            NodeAttr::Floats(v) if v.is_empty() => Some(Vec::new()),
            _ => None,
        })
    }

    /// A number.
    pub fn float(&self, name: &str) -> Result<Option<f64>, ImportError> {
        self.typed(name, "a number", |a| if let NodeAttr::Float(v) = a { Some(*v) } else { None })
    }

    /// A number with a default.
    pub fn float_or(&self, name: &str, default: f64) -> Result<f64, ImportError> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// A list of numbers.
    pub fn floats(&self, name: &str) -> Result<Option<Vec<f64>>, ImportError> {
        self.typed(name, "a list of numbers", |a| match a {
            NodeAttr::Floats(v) => Some(v.clone()),
            NodeAttr::Ints(v) if v.is_empty() => Some(Vec::new()),
            _ => None,
        })
    }

    /// A string.
    pub fn str(&self, name: &str) -> Result<Option<&'a str>, ImportError> {
        self.typed(name, "a string", |a| if let NodeAttr::Str(v) = a { Some(v.as_str()) } else { None })
    }

    /// A string with a default.
    pub fn str_or(&self, name: &str, default: &'static str) -> Result<&'a str, ImportError> {
        Ok(self.str(name)?.unwrap_or(default))
    }

    /// A list of strings.
    pub fn strs(&self, name: &str) -> Result<Option<&'a [String]>, ImportError> {
        self.typed(name, "a list of strings", |a| {
            if let NodeAttr::Strs(v) = a { Some(v.as_slice()) } else { None }
        })
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Result<Option<&'a Tensor>, ImportError> {
        self.typed(name, "a tensor", |a| if let NodeAttr::Tensor(v) = a { Some(v) } else { None })
    }

    /// An element type given by its number.
    pub fn dtype(&self, name: &str) -> Result<Option<DType>, ImportError> {
        let Some(code) = self.int(name)? else { return Ok(None) };
        dtype_of(code).map(Some).ok_or_else(|| ImportError::Unsupported {
            what: format!("element type {}", dtype_name(code)),
            help: "export the model with a float, integer or bool type of 8 bits or more".to_owned(),
        })
    }

    /// `value`, or that the attribute `name` is missing.
    pub fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, ImportError> {
        value.ok_or_else(|| ImportError::Attribute { name: name.to_owned(), why: "is missing".to_owned() })
    }

    /// These attributes do not change what is computed here.
    pub fn ignore(&self, names: &[&str]) {
        for name in names {
            self.attribute(name);
        }
    }

    /// The elements of input `index`, row-major, if they are integers known as sizes.
    pub fn known(&self, b: &Build, index: usize) -> Option<Vec<Dim>> {
        let value = self.optional_input(index)?;
        let sizes = self.known.borrow_mut().of(b.graph(), value);
        if sizes.is_some() || b.ty(value).dtype.is_float() {
            return sizes;
        }
        // Shape arithmetic that passes through floats.
        let constant = self.constant(b, index)?;
        Some(constant.to_i64().into_iter().map(Dim::constant).collect())
    }

    /// The elements of input `index` (called `input`) as sizes: known ones, or what is computed when the model runs,
    /// where none may be negative. `None` if it is left empty.
    ///
    /// # Errors
    /// [`ImportError::RunTimeValue`] if not even the number of elements is known.
    pub fn sizes(
        &self,
        b: &mut Build,
        index: usize,
        input: &'static str,
    ) -> Result<Option<Vec<Dim>>, ImportError> {
        let Some(value) = self.optional_input(index) else { return Ok(None) };
        if let Some(known) = self.known(b, index) {
            return Ok(Some(known));
        }
        // Sizes are integers, whatever type they come in.
        let value = if b.ty(value).dtype.is_float() { convert(b, value, DType::I64)? } else { value };
        let mut known = self.known.borrow_mut();
        let pinned = known.pin(b, value, self.op_type)?.ok_or(ImportError::RunTimeValue { index, input })?;
        known.of(b.graph(), pinned).map(Some).ok_or(ImportError::RunTimeValue { index, input })
    }

    /// Does input `index` come as it is from an input of the model, or from what is no arithmetic on sizes? Numbers
    /// in it may be negative then.
    pub fn is_raw(&self, b: &Build, index: usize) -> bool {
        let Some(value) = self.optional_input(index) else { return false };
        let mut known = self.known.borrow_mut();
        known.of(b.graph(), value).is_none() && !known.is_arithmetic(b.graph(), value)
    }

    /// The elements of input `index` (called `input`), an `i64` without axes for each.
    ///
    /// # Errors
    /// [`ImportError::RunTimeValue`] if their number is not known; a missing input.
    pub fn elements(
        &self,
        b: &mut Build,
        index: usize,
        input: &'static str,
    ) -> Result<Vec<Value>, ImportError> {
        if let Some(known) = self.known(b, index) {
            return Ok(known.iter().map(|dim| size(b, DType::I64, dim)).collect::<Result<_, _>>()?);
        }
        let value = self.input(index)?;
        scalars(b, value)?.ok_or(ImportError::RunTimeValue { index, input })
    }

    /// The elements of input `index` (called `input`), which must be known numbers. `None` if it is left
    /// empty.
    pub fn const_ints(
        &self,
        b: &Build,
        index: usize,
        input: &'static str,
    ) -> Result<Option<Vec<i64>>, ImportError> {
        if self.optional_input(index).is_none() {
            return Ok(None);
        }
        let sizes = self.known(b, index).ok_or(ImportError::RunTimeValue { index, input })?;
        let numbers: Option<Vec<i64>> = sizes.iter().map(Dim::as_const).collect();
        numbers.map(Some).ok_or(ImportError::RunTimeValue { index, input })
    }

    /// The value of input `index`, if it is a weight, or follows from weights and known sizes in few steps on
    /// small tensors.
    pub fn constant(&self, b: &Build, index: usize) -> Option<Tensor> {
        let value = self.optional_input(index)?;
        match b.graph().node(value.node).weight() {
            Some(weight) => Some(weight.tensor()),
            None => {
                fold(b.graph(), value, &mut self.known.borrow_mut().sizes, &mut BTreeMap::new(), FOLD_DEPTH)
            }
        }
    }

    /// The type of a required input.
    pub fn ty(&self, b: &Build, index: usize) -> Result<TensorType, ImportError> {
        Ok(b.ty(self.input(index)?).clone())
    }

    /// The attributes that the conversion did not read.
    fn unread(&self) -> Option<&'a str> {
        let read = self.read.borrow();
        self.attributes.keys().map(String::as_str).find(|name| !read.contains(name))
    }
}

/// What an importer knows about integers in a graph: sizes that follow from shapes, and those that nodes read when the
/// model runs.
#[derive(Debug, Clone, Default)]
pub struct Known {
    sizes: KnownSizes,
    /// Values whose elements were made sizes, and what to use for them.
    pins: BTreeMap<Value, Value>,
}

impl Known {
    /// Nothing yet.
    pub fn new() -> Known {
        Known::default()
    }

    /// The elements of `value`, row-major, if they are known as sizes.
    pub fn of(&mut self, graph: &Graph, value: Value) -> Option<Vec<Dim>> {
        let value = self.pins.get(&value).copied().unwrap_or(value);
        self.sizes.of(graph, value)
    }

    /// The graph was changed: sizes must be looked up again.
    pub fn forget(&mut self) {
        self.sizes = KnownSizes::new();
    }

    /// What stands for values whose elements were made sizes.
    pub fn pinned(&self) -> impl Iterator<Item = Value> {
        self.pins.values().copied()
    }

    /// Would the elements be known as sizes if those of the operands were?
    fn is_arithmetic(&mut self, graph: &Graph, value: Value) -> bool {
        let Some((def, attrs)) = graph.node(value.node).op() else { return false };
        if value.result != 0 || def.semantics.flow(attrs).is_some() {
            return false;
        }
        let values = graph.operands(value.node);
        let types: Vec<&TensorType> = values.iter().map(|&v| graph.ty(v)).collect();
        let count = |ty: &TensorType| ty.elements().as_const().filter(|count| *count <= MAX_SIZES);
        let operands: Option<Vec<_>> = values
            .iter()
            .zip(&types)
            .enumerate()
            .map(|(i, (&value, ty))| {
                let stand_in = || {
                    let count = count(ty).filter(|_| !ty.dtype.is_float())?;
                    Some((0..count).map(|n| Dim::symbol(format!("?{i}.{n}"))).collect())
                };
                Some(self.of(graph, value).or_else(stand_in))
            })
            .collect();
        let Some(operands) = operands else { return false };
        let cx = Sizes { types: &types, operands: &operands, attrs, result: graph.ty(value) };
        !values.is_empty() && def.semantics.sizes(&cx).is_some()
    }

    /// A value with the same elements, each of which is a size: where they follow from others by arithmetic on sizes,
    /// those others are made sizes. `None` if their number is not known.
    fn pin(&mut self, b: &mut Build, value: Value, wanted: &str) -> Result<Option<Value>, OpError> {
        if let Some(&pinned) = self.pins.get(&value) {
            return Ok(Some(pinned));
        }
        if self.sizes.of(b.graph(), value).is_some() {
            return Ok(Some(value));
        }
        let ty = b.ty(value).clone();
        let pinned = if self.is_arithmetic(b.graph(), value) {
            let node = b.graph().node(value.node);
            let (def, attrs) =
                node.op().map(|(def, attrs)| (def, attrs.clone())).expect("arithmetic is an op");
            let mut operands = Vec::new();
            for operand in b.graph().operands(value.node) {
                let small = b.ty(operand).elements().as_const().is_some_and(|n| n <= MAX_SIZES);
                let pinned = if small && !b.ty(operand).dtype.is_float() {
                    self.pin(b, operand, wanted)?
                } else {
                    None
                };
                operands.push(pinned.unwrap_or(operand));
            }
            let attrs = attrs.iter().map(|(name, attr)| (name, attr.clone())).collect::<Vec<_>>();
            b.op_with(def, &operands, attrs)?
        } else {
            let Some(elements) = scalars(b, value)? else { return Ok(None) };
            let mut parts = Vec::new();
            for element in elements {
                let size = as_size(b, element, wanted, None)?;
                parts.push(size);
            }
            sizes(b, &parts, &ty)?
        };
        self.pins.insert(value, pinned);
        Ok(Some(pinned))
    }
}

/// The elements of `value`, an `i64` without axes for each; `None` if their number is not known to be small.
fn scalars(b: &mut Build, value: Value) -> Result<Option<Vec<Value>>, OpError> {
    let count = b.ty(value).elements().as_const().filter(|count| *count <= MAX_SIZES);
    let Some(count) = count else { return Ok(None) };
    let flat = reshape(b, value, vec![count.into()])?;
    let flat = convert(b, flat, DType::I64)?;
    let element = |i: i64| {
        let one = slice_axis(b, flat, 0, i.into(), Dim::constant(1))?;
        reshape(b, one, vec![])
    };
    Ok(Some((0..count).map(element).collect::<Result<_, _>>()?))
}

/// How many steps [`fold`] follows.
const FOLD_DEPTH: usize = 64;

/// The value of `value`, if it follows from small weights and known sizes.
fn fold(
    graph: &Graph,
    value: Value,
    sizes: &mut KnownSizes,
    done: &mut BTreeMap<Value, Option<Tensor>>,
    depth: usize,
) -> Option<Tensor> {
    if let Some(tensor) = done.get(&value) {
        return tensor.clone();
    }
    let ty = graph.ty(value);
    if depth == 0 || ty.elements().as_const().is_none_or(|elements| elements > MAX_SIZES) {
        return None;
    }
    let mut known = || {
        let known: Vec<i64> = sizes.of(graph, value)?.iter().map(Dim::as_const).collect::<Option<_>>()?;
        let shape = ty.fixed_shape()?;
        let mut numbers = known.into_iter();
        Some(Tensor::from_fn(ty.dtype, &shape, |_| {
            Scalar::from_i64(ty.dtype, numbers.next().expect("one for each element"))
        }))
    };
    let tensor = known().or_else(|| match &graph.node(value.node).kind {
        Kind::Input(_) => None,
        Kind::Weight(weight) => Some(weight.tensor()),
        Kind::Op { def, attrs } => {
            let operands = graph.operands(value.node).into_iter();
            let operands: Vec<Tensor> =
                operands.map(|x| fold(graph, x, sizes, done, depth - 1)).collect::<Option<_>>()?;
            let operands: Vec<&Tensor> = operands.iter().collect();
            let results =
                def.semantics.eval(&Eval { operands: &operands, attrs, sizes: &SizeValues::new() }).ok()?;
            results.into_iter().nth(value.result)
        }
    });
    done.insert(value, tensor.clone());
    tensor
}

/// A conversion: the results of the node, at least as many as it has outputs with names.
pub type Convert = fn(&NodeView, &mut Build) -> Result<Vec<Value>, ImportError>;

/// How a node becomes ours.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// The op with the same operands and no attributes.
    Same(&'static OpDef),
    /// By a function.
    By(Convert),
}

/// An ONNX op from some version on.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// Its name.
    pub op_type: &'static str,
    /// Its domain; `""` for `ai.onnx`.
    pub domain: &'static str,
    /// The first version that this is for.
    pub since: i64,
    /// How it becomes ours.
    pub how: How,
}

/// `op_type` is `op` with the same operands, at every version.
pub const fn same(op_type: &'static str, op: &'static OpDef) -> Import {
    Import { op_type, domain: "", since: 1, how: How::Same(op) }
}

/// `op_type` is what `convert` makes of it, at every version.
pub const fn by(op_type: &'static str, convert: Convert) -> Import {
    since(op_type, 1, convert)
}

/// `op_type` is what `convert` makes of it, from this version on.
pub const fn since(op_type: &'static str, since: i64, convert: Convert) -> Import {
    Import { op_type, domain: "", since, how: How::By(convert) }
}

impl Import {
    /// The same in another domain.
    pub const fn in_domain(self, domain: &'static str) -> Import {
        Import { domain, ..self }
    }

    /// Adds the nodes that `node` becomes. There may be more results than it has outputs, never fewer named
    /// ones.
    ///
    /// # Errors
    /// Why the node can't be imported; also an attribute that nothing here reads.
    pub fn convert(&self, node: &NodeView, b: &mut Build) -> Result<Vec<Value>, ImportError> {
        let results = match self.how {
            How::Same(op) => b.ops_with(op, &node.inputs()?, [])?,
            How::By(convert) => convert(node, b)?,
        };
        if let Some(name) = node.unread() {
            let why = format!("{} has no such attribute at version {}", node.op_type, node.opset);
            return Err(ImportError::Attribute { name: name.to_owned(), why });
        }
        if let Some(index) = (results.len()..node.output_count()).find(|&index| node.output_used(index)) {
            return Err(ImportError::Unsupported {
                what: format!("output {index} of {}", node.op_type),
                help: "export the model without it".to_owned(),
            });
        }
        Ok(results)
    }
}

/// What [`find_import`] finds.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    /// The import for this version.
    Import(&'static Import),
    /// No version of this op is known.
    UnknownOp,
    /// The op is known from this version on only.
    UnknownVersion {
        /// That version.
        since: i64,
    },
}

/// The import of `op_type` at version `opset` of `domain` (`""` for `ai.onnx`): the latest that is not newer.
pub fn find_import(domain: &str, op_type: &str, opset: i64) -> Found {
    let versions = || {
        let entries = crate::ALL.iter().flat_map(|entry| entry.onnx);
        let others = crate::IMPORTS.iter().copied().flatten();
        entries.chain(others).filter(|import| import.op_type == op_type && import.domain == domain)
    };
    match versions().filter(|import| import.since <= opset).max_by_key(|import| import.since) {
        Some(import) => Found::Import(import),
        None => match versions().map(|import| import.since).min() {
            Some(since) => Found::UnknownVersion { since },
            None => Found::UnknownOp,
        },
    }
}
