//! Test data of ONNX: files of a `TensorProto`, a `SequenceProto` or an `OptionalProto`, whichever the model declares.
//!
//! The protobuf library that we use knows tensors only; the fields around them are read here (`onnx-data.proto`).

use ir::Tensor;
use onnx_protobuf::TensorProto;

use crate::error::ImportProblem;
use crate::ports::Kind;
use crate::wire::{self, Message};
use crate::{NoFiles, read, tensor};

/// What a file of test data holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// A tensor.
    Tensor(Tensor),
    /// A sequence of tensors.
    Sequence(Vec<Tensor>),
    /// An optional without an element.
    Nothing,
}

/// Reads a tensor alone: its name and itself.
///
/// # Errors
/// What is wrong with the bytes or with the tensor; external data is not read.
pub fn read_tensor(bytes: &[u8]) -> Result<(String, Tensor), ImportProblem> {
    wire::screen(bytes, Message::Tensor)?;
    named_tensor(bytes)
}

/// Reads test data of an input or output of this kind: the name in it, and itself.
///
/// # Errors
/// What is wrong with the bytes or with a tensor in them, and elements that are no tensors; external data is not read.
pub fn read_data(bytes: &[u8], kind: Kind) -> Result<(String, Data), ImportProblem> {
    match kind {
        Kind::Tensor => read_tensor(bytes).map(|(name, tensor)| (name, Data::Tensor(tensor))),
        Kind::Sequence => {
            wire::screen(bytes, Message::Sequence)?;
            Ok((name_of(bytes), Data::Sequence(elements(bytes)?)))
        }
        Kind::Optional | Kind::OptionalSequence => {
            wire::screen(bytes, Message::Optional)?;
            let mut held = Data::Nothing;
            for (number, content) in wire::fields(bytes) {
                held = match number {
                    NAME => continue,
                    VALUES => Data::Tensor(named_tensor(content)?.1),
                    SEQUENCE => Data::Sequence(elements(content)?),
                    _ => return Err(ImportProblem::Data { holds: "an optional" }),
                };
            }
            Ok((name_of(bytes), held))
        }
    }
}

/// The field for the name, of both messages.
const NAME: u64 = 1;
/// `SequenceProto.tensor_values` and `OptionalProto.tensor_value`.
const VALUES: u64 = 3;
/// `OptionalProto.sequence_value`.
const SEQUENCE: u64 = 5;

fn name_of(bytes: &[u8]) -> String {
    let name = wire::fields(bytes).find(|(number, _)| *number == NAME);
    name.map_or_else(String::new, |(_, name)| String::from_utf8_lossy(name).into_owned())
}

fn named_tensor(bytes: &[u8]) -> Result<(String, Tensor), ImportProblem> {
    let proto: TensorProto = read(bytes)?;
    let name = proto.name.clone();
    match tensor::tensor(proto, &NoFiles) {
        Ok(tensor) => Ok((name, tensor)),
        Err(error) => Err(ImportProblem::Tensor { name, error }),
    }
}

fn elements(bytes: &[u8]) -> Result<Vec<Tensor>, ImportProblem> {
    let mut tensors = Vec::new();
    for (number, content) in wire::fields(bytes) {
        match number {
            NAME => {}
            VALUES => tensors.push(named_tensor(content)?.1),
            _ => return Err(ImportProblem::Data { holds: "a sequence" }),
        }
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use onnx_protobuf::Message as _;

    use super::*;

    /// A field of bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).expect("it is short")];
        bytes.extend(content);
        bytes
    }

    fn tensor(value: f32) -> Vec<u8> {
        let proto =
            TensorProto { dims: vec![1], data_type: 1, float_data: vec![value], ..TensorProto::default() };
        proto.write_to_bytes().expect("memory takes it")
    }

    fn number(value: f32) -> Tensor {
        Tensor::from_f32(&[1], &[value])
    }

    #[test]
    fn sequences_and_optionals_are_read() {
        let list = [field(1, b"x"), vec![0x10, 1], field(3, &tensor(1.0)), field(3, &tensor(2.0))].concat();
        let two = Data::Sequence(vec![number(1.0), number(2.0)]);
        assert_eq!(read_data(&list, Kind::Sequence), Ok(("x".to_owned(), two.clone())));
        let held = [field(1, b"o"), vec![0x10, 3], field(5, &list)].concat();
        assert_eq!(read_data(&held, Kind::OptionalSequence), Ok(("o".to_owned(), two)));
        let held = field(3, &tensor(4.0));
        assert_eq!(read_data(&held, Kind::Optional), Ok((String::new(), Data::Tensor(number(4.0)))));
        assert_eq!(read_data(&[0x10, 0], Kind::Optional), Ok((String::new(), Data::Nothing)));
        assert_eq!(read_data(&[], Kind::Sequence), Ok((String::new(), Data::Sequence(vec![]))));
    }

    #[test]
    fn other_elements_are_refused() {
        for number in [4, 5, 6, 7] {
            let error = read_data(&field(number, &[]), Kind::Sequence).expect_err("no tensor");
            assert_eq!(error.code(), "egraft::onnx::data");
        }
        assert!(read_data(&field(7, &[]), Kind::Optional).is_err());
        assert!(read_data(&[0x1a, 5, 0], Kind::Sequence).is_err(), "cut off");
        assert!(read_data(&field(3, &[0x0b]), Kind::Sequence).is_err(), "a group inside of a tensor");
    }
}
