//! Small parts of the file: types, attributes, tensors.

use ir::{DType, Dim, TensorType, Weight};
use onnx_protobuf::{
    AttributeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
    tensor_shape_proto, type_proto,
};
use ops::onnx::NodeAttr;
use ops::onnx::export::code_of;
use protobuf::{EnumOrUnknown, MessageField};

/// The number of an element type.
pub(super) fn code(dtype: DType) -> i32 {
    i32::try_from(code_of(dtype)).expect("numbers of types are small")
}

/// A value's name and type.
pub(super) fn value_info(name: &str, ty: &TensorType) -> ValueInfoProto {
    let shape =
        TensorShapeProto { dim: ty.shape.iter().map(dimension).collect(), ..TensorShapeProto::default() };
    let tensor = type_proto::Tensor {
        elem_type: code(ty.dtype),
        shape: MessageField::some(shape),
        ..type_proto::Tensor::default()
    };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), type_: MessageField::some(ty), ..ValueInfoProto::default() }
}

fn dimension(dim: &Dim) -> tensor_shape_proto::Dimension {
    use tensor_shape_proto::dimension::Value;
    let value = match (dim.as_const(), dim.as_symbol()) {
        (Some(size), _) => Value::DimValue(size),
        (None, Some(symbol)) => Value::DimParam(symbol.name().to_owned()),
        (None, None) => Value::DimParam(dim.to_string()),
    };
    tensor_shape_proto::Dimension { value: Some(value), ..tensor_shape_proto::Dimension::default() }
}

/// A node's attribute.
pub(super) fn attribute(name: &str, value: &NodeAttr) -> AttributeProto {
    let mut proto = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
    let text = |text: &String| text.clone().into_bytes();
    let kind = match value {
        NodeAttr::Int(value) => {
            proto.i = *value;
            AttributeType::INT
        }
        NodeAttr::Ints(values) => {
            proto.ints.clone_from(values);
            AttributeType::INTS
        }
        NodeAttr::Float(value) => {
            proto.f = *value as f32;
            AttributeType::FLOAT
        }
        NodeAttr::Floats(values) => {
            proto.floats = values.iter().map(|&value| value as f32).collect();
            AttributeType::FLOATS
        }
        NodeAttr::Str(value) => {
            proto.s = text(value);
            AttributeType::STRING
        }
        NodeAttr::Strs(values) => {
            proto.strings = values.iter().map(text).collect();
            AttributeType::STRINGS
        }
        NodeAttr::Tensor(weight) => {
            proto.t = MessageField::some(tensor(weight));
            AttributeType::TENSOR
        }
        NodeAttr::Graph(_) => unreachable!("bug: graphs are written by the exporter itself"),
    };
    proto.type_ = EnumOrUnknown::new(kind);
    proto
}

/// A graph as an attribute.
pub(super) fn graph_attribute(name: &str, graph: onnx_protobuf::GraphProto) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        g: MessageField::some(graph),
        type_: EnumOrUnknown::new(AttributeType::GRAPH),
        ..AttributeProto::default()
    }
}

/// A tensor without its elements.
pub(super) fn tensor_header(name: &str, weight: &Weight) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: weight.shape().iter().map(|&size| size as i64).collect(),
        data_type: code(weight.dtype()),
        ..TensorProto::default()
    }
}

/// A small tensor.
pub(super) fn tensor(weight: &Weight) -> TensorProto {
    let mut raw_data = Vec::new();
    let done = super::stream::for_each_piece::<std::convert::Infallible>(weight, &mut |piece| {
        raw_data.extend_from_slice(piece);
        Ok(())
    });
    let Ok(()) = done;
    TensorProto { raw_data, ..tensor_header("", weight) }
}
