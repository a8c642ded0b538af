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
//! Deliberately absent: control flow (`If`, `Loop`, `Scan`), sequences, and what the graphs of other nodes
//! (`FlexAttention`) say, which are the importer's.

pub mod export;
mod import;
mod indices;
mod known;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use ir::build::Build;
use ir::graph::Value;
use ir::op::OpError;
use ir::{DType, Dim, Tensor, TensorType, Weight};

use crate::math::cast::convert;
use crate::shape::size::size;
use known::scalars;

pub use import::{Convert, Found, How, Import, by, find_import, same, since, zip};
pub use known::Known;

/// Versions of the default domain that imports are written for.
pub const OPSETS: RangeInclusive<i64> = 1..=28;

/// How the weights of quantized experts lie, where a model does not say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpertLayout {
    /// One row of packed integers after the other.
    Raw,
    /// As matrix products of GPUs of compute capability 8.0 and later take them.
    Sm80,
}

impl ExpertLayout {
    /// All of them.
    pub const ALL: [ExpertLayout; 2] = [ExpertLayout::Raw, ExpertLayout::Sm80];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            ExpertLayout::Raw => "raw",
            ExpertLayout::Sm80 => "sm80",
        }
    }
}

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
    Tensor(Weight),
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
        17 => DType::F8E4M3FN,
        18 => DType::F8E4M3FNUZ,
        19 => DType::F8E5M2,
        20 => DType::F8E5M2FNUZ,
        21 => DType::U4,
        22 => DType::I4,
        23 => DType::F4E2M1,
        24 => DType::F8E8M0,
        25 => DType::U2,
        26 => DType::I2,
        _ => return None,
    })
}

/// What the numbers of `TensorProto.DataType` were called before opset 6.
const DTYPE_NAMES: [&str; 16] = [
    "UNDEFINED",
    "FLOAT",
    "UINT8",
    "INT8",
    "UINT16",
    "INT16",
    "INT32",
    "INT64",
    "STRING",
    "BOOL",
    "FLOAT16",
    "DOUBLE",
    "UINT32",
    "UINT64",
    "COMPLEX64",
    "COMPLEX128",
];

/// What a number of `TensorProto.DataType` that [`dtype_of`] refuses is called.
pub fn dtype_name(code: i64) -> String {
    let name = match code {
        8 => "string",
        14 => "complex64",
        15 => "complex128",
        27 => "float6e2m3",
        28 => "float6e3m2",
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
    /// The same of an input that follows from inputs of the model: they may be given when it is compiled.
    #[error(
        "input {index} (`{input}`) must be known when the model is compiled, and follows from {} when it runs",
        inputs(names)
    )]
    InputValue {
        /// Its position.
        index: usize,
        /// Its name in the ONNX specification.
        input: &'static str,
        /// The inputs of the model.
        names: Vec<String>,
    },
    /// What the op says of these operands.
    #[error(transparent)]
    Op(#[from] OpError),
}

fn inputs(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("the {} {}", if names.len() == 1 { "input" } else { "inputs" }, names.join(", "))
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
            ImportError::InputValue { .. } => "egraft::onnx::input_value",
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
    experts: Option<ExpertLayout>,
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
            experts: None,
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

    /// The same with what somebody says of the weights of quantized experts.
    pub fn with_experts(self, experts: Option<ExpertLayout>) -> Self {
        NodeView { experts, ..self }
    }

    /// How the weights of quantized experts lie, if somebody says so.
    pub fn experts(&self) -> Option<ExpertLayout> {
        self.experts
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
    pub fn tensor(&self, name: &str) -> Result<Option<&'a Weight>, ImportError> {
        self.typed(name, "a tensor", |a| if let NodeAttr::Tensor(v) = a { Some(v) } else { None })
    }

    /// An element type given by its number; before opset 6, by its name in `TensorProto.DataType`.
    pub fn dtype(&self, name: &str) -> Result<Option<DType>, ImportError> {
        let had_names = self.domain.is_empty() && self.opset < 6;
        if let (true, Some(NodeAttr::Str(called))) = (had_names, self.attribute(name)) {
            let code = DTYPE_NAMES.iter().position(|name| name == called);
            let dtype = code.and_then(|code| dtype_of(code as i64));
            return dtype.map(Some).ok_or_else(|| ImportError::Unsupported {
                what: format!("element type {called}"),
                help: "export the model with a float, integer or bool type of 8 bits or more".to_owned(),
            });
        }
        let Some(code) = self.int(name)? else { return Ok(None) };
        dtype_of(code).map(Some).ok_or_else(|| ImportError::Unsupported {
            what: format!("element type {}", dtype_name(code)),
            help: "export the model with numbers or bools; complex numbers and floats of 6 bits are not supported".to_owned(),
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
        if let Some(constant) = self.constant(b, index) {
            let sizes = constant.to_f64().into_iter().map(|size| Dim::constant(size as i64));
            return Ok(Some(sizes.collect()));
        }
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
            None => self.known.borrow_mut().constant(b.graph(), value),
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
