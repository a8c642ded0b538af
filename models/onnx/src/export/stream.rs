//! The bytes of a model, in pieces: all but the weights is made in memory, and they follow from where they are.

use std::io::{self, Write};

use ir::pieces::Sink;
use ir::{DType, Weight};
use onnx_protobuf::{GraphProto, ModelProto, StringStringEntryProto, tensor_proto::DataLocation};
use protobuf::{CodedOutputStream, EnumOrUnknown, Message};

use super::proto::tensor_header;
use super::{ExportOptions, ExportProblem, MOST_INLINE};

/// The numbers of fields in `onnx.proto`: a model's graph, a graph's initializers, a tensor's elements.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

/// Smaller tensors stay in the model: shapes and numbers, which readers want before they look for files.
const SMALL: u64 = 1 << 10;

/// Tensors in the file of weights begin at multiples of this, and large ones at pages.
const ALIGN: u64 = 64;
const PAGE: u64 = 4096;

/// A part of the model's file.
enum Part {
    Bytes(Vec<u8>),
    Elements(Weight),
}

/// A model, ready to be written.
pub struct Exported {
    model: Vec<Part>,
    /// Weights in the file beside it, and where each begins.
    data: Vec<(u64, Weight)>,
}

impl Exported {
    pub(super) fn new(
        model: &ModelProto,
        graph: &GraphProto,
        weights: Vec<(String, Weight)>,
        options: &ExportOptions,
    ) -> Result<Exported, ExportProblem> {
        let total: u64 = weights.iter().map(|(_, weight)| bytes_of(weight)).sum();
        let external = options.external || total > MOST_INLINE;
        if external && options.data_file.is_empty() {
            return Err(ExportProblem::NoDataFile { limit: MOST_INLINE });
        }
        let mut parts = vec![Part::Bytes(encoded(model))];
        let mut inner = vec![Part::Bytes(encoded(graph))];
        let (mut data, mut end) = (Vec::new(), 0u64);
        for (name, weight) in weights {
            let mut header = tensor_header(&name, &weight);
            let length = bytes_of(&weight);
            let is_outside = external && length >= SMALL;
            if is_outside {
                let start = end.next_multiple_of(if length >= PAGE { PAGE } else { ALIGN });
                end = start + length;
                header.data_location = EnumOrUnknown::new(DataLocation::EXTERNAL);
                header.external_data = entries(&options.data_file, start, length);
                data.push((start, weight.clone()));
            }
            let mut tensor = encoded(&header);
            if !is_outside {
                tensor.extend(field(RAW_DATA, length));
            }
            let whole = tensor.len() as u64 + if is_outside { 0 } else { length };
            inner.push(Part::Bytes([field(INITIALIZER, whole), tensor].concat()));
            if !is_outside {
                inner.push(Part::Elements(weight));
            }
        }
        let length = inner.iter().map(Part::length).sum();
        parts.push(Part::Bytes(field(GRAPH, length)));
        parts.extend(inner);
        Ok(Exported { model: parts, data })
    }

    /// Writes the model.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_model(&self, out: &mut dyn Write) -> io::Result<()> {
        for part in &self.model {
            match part {
                Part::Bytes(bytes) => out.write_all(bytes)?,
                Part::Elements(weight) => for_each_piece(weight, &mut |piece| out.write_all(piece))?,
            }
        }
        Ok(())
    }

    /// Are there weights that belong to the file beside the model?
    pub fn has_data(&self) -> bool {
        !self.data.is_empty()
    }

    /// Writes the file beside the model.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_data(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut at = 0;
        for (start, weight) in &self.data {
            let gap = usize::try_from(start - at).expect("a gap is less than a page");
            out.write_all(&vec![0; gap])?;
            for_each_piece(weight, &mut |piece| out.write_all(piece))?;
            at = start + bytes_of(weight);
        }
        Ok(())
    }

    /// The model as bytes, for small ones.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = self.write_model(&mut bytes);
        written.expect("memory takes what is written");
        bytes
    }
}

impl Part {
    fn length(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Elements(weight) => bytes_of(weight),
        }
    }
}

fn encoded(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().expect("bug: messages without required fields are always complete")
}

/// What stands before a field of so many bytes.
fn field(number: u32, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut stream = CodedOutputStream::vec(&mut bytes);
    let written = stream
        .write_raw_varint32(number << 3 | 2)
        .and_then(|()| stream.write_raw_varint64(length))
        .and_then(|()| stream.flush());
    written.expect("memory takes what is written");
    drop(stream);
    bytes
}

fn entries(file: &str, start: u64, length: u64) -> Vec<StringStringEntryProto> {
    let entry = |(key, value): (&str, String)| StringStringEntryProto {
        key: key.to_owned(),
        value,
        ..StringStringEntryProto::default()
    };
    let all = [("location", file.to_owned()), ("offset", start.to_string()), ("length", length.to_string())];
    all.into_iter().map(entry).collect()
}

/// The bytes of a weight in a file, where elements of fewer than 8 bits share one.
fn bytes_of(weight: &Weight) -> u64 {
    (weight.elements() as u64 * weight.dtype().bits() as u64).div_ceil(8)
}

/// The elements as a file has them, in pieces.
pub(super) fn for_each_piece<E>(weight: &Weight, sink: Sink<'_, E>) -> Result<(), E> {
    let dtype = weight.dtype();
    if dtype.bits() >= 8 || dtype == DType::Bool {
        return weight.for_each_piece(sink);
    }
    let (bits, each) = (dtype.bits(), 8 / dtype.bits());
    let mut left: Vec<u8> = Vec::new();
    let packed = |bytes: &[u8]| -> Vec<u8> {
        let byte = |elements: &[u8]| {
            let shifted = elements.iter().enumerate().map(|(at, &e)| (e & ((1 << bits) - 1)) << (at * bits));
            shifted.fold(0, |byte, element| byte | element)
        };
        bytes.chunks(each).map(byte).collect()
    };
    weight.for_each_piece(&mut |piece| {
        left.extend_from_slice(piece);
        let whole = left.len() / each * each;
        let rest = left.split_off(whole);
        let bytes = packed(&left);
        left = rest;
        sink(&bytes)
    })?;
    if left.is_empty() { Ok(()) } else { sink(&packed(&left)) }
}
