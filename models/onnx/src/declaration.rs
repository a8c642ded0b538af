//! What a model says of itself, in its own words: names, types and sizes of inputs and outputs, and whatever its maker
//! noted. Other engines show this to programs, which rely on it.
//!
//! Deliberately absent: what any of it means. Sizes are not made equal, and no type is refused.

use std::collections::BTreeSet;

use onnx_protobuf::tensor_shape_proto::dimension::Value as DimValue;
use onnx_protobuf::type_proto::Value as TypeValue;
use onnx_protobuf::{ModelProto, ValueInfoProto};

use crate::error::ImportProblem;
use crate::numbers::{Told, told};
use crate::parse_in_place;
use crate::ports::{Kind, declared};

/// What a model says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// What wrote it.
    pub producer: String,
    /// The version of that.
    pub producer_version: String,
    /// Whose model it is.
    pub domain: String,
    /// Which version of it.
    pub version: i64,
    /// A description.
    pub description: String,
    /// The name of its graph.
    pub graph: String,
    /// A description of that.
    pub graph_description: String,
    /// Its notes, by key.
    pub notes: Vec<(String, String)>,
    /// The inputs that are no initializers.
    pub inputs: Vec<Declared>,
    /// The inputs that are initializers: they may be left out.
    pub defaults: Vec<Declared>,
    /// The outputs.
    pub outputs: Vec<Declared>,
}

/// An input or an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The type of its elements, as `TensorProto.DataType` numbers them; 0 if it says none, or is no tensor.
    pub element: i32,
    /// What it is told by, if it is an output that is a map or a text.
    pub told: Option<Told>,
    /// Its sizes; `None` if it does not even say how many.
    pub shape: Option<Vec<Size>>,
}

/// A size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Size {
    /// A number.
    Number(i64),
    /// A name or an expression.
    Text(String),
    /// Nothing is said.
    Open,
}

/// What the model in these bytes says of itself; nothing else of it is looked at.
///
/// # Errors
/// What is wrong with the bytes.
pub fn declaration(model: &[u8]) -> Result<Declaration, ImportProblem> {
    let proto: ModelProto = parse_in_place(model)?;
    let graph = proto.graph.as_ref().ok_or(ImportProblem::NoGraph)?;
    let constants: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let of = |info: &&ValueInfoProto| Declared::of(info);
    let (defaults, inputs): (Vec<_>, Vec<_>) =
        graph.input.iter().partition(|info| constants.contains(info.name.as_str()));
    Ok(Declaration {
        producer: proto.producer_name.clone(),
        producer_version: proto.producer_version.clone(),
        domain: proto.domain.clone(),
        version: proto.model_version,
        description: proto.doc_string.clone(),
        graph: graph.name.clone(),
        graph_description: graph.doc_string.clone(),
        notes: proto.metadata_props.iter().map(|note| (note.key.clone(), note.value.clone())).collect(),
        inputs: inputs.iter().map(of).collect(),
        defaults: defaults.iter().map(of).collect(),
        outputs: graph
            .output
            .iter()
            .map(|info| Declared { told: told(graph, &info.name), ..Declared::of(info) })
            .collect(),
    })
}

impl Declared {
    fn of(info: &ValueInfoProto) -> Declared {
        let (kind, ty) = declared(info.type_.as_ref());
        let tensor = match ty.and_then(|ty| ty.value.as_ref()) {
            Some(TypeValue::TensorType(tensor)) => Some(tensor),
            _ => None,
        };
        let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
        let size = |value: &Option<DimValue>| match value {
            Some(DimValue::DimValue(number)) if *number >= 0 => Size::Number(*number),
            Some(DimValue::DimParam(text)) if !text.is_empty() => Size::Text(text.clone()),
            _ => Size::Open,
        };
        Declared {
            name: info.name.clone(),
            kind,
            told: None,
            element: tensor.map_or(0, |tensor| tensor.elem_type),
            shape: shape.map(|shape| shape.dim.iter().map(|dim| size(&dim.value)).collect()),
        }
    }
}
