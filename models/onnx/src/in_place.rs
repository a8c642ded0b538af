//! Large tensors stay in the model's file: what is parsed is the model without their bytes.
//!
//! The parser copies what it reads, so a model of many gigabytes would take as many of memory. Here each large
//! `raw_data` is replaced by its place in the file, in a field that `onnx.proto` does not have.

use onnx_protobuf::TensorProto;
use protobuf::{Message as _, UnknownValueRef};

use crate::wire::{Message, varint};

/// Smaller `raw_data` is left where it is.
const LARGE: usize = 4096;

/// The field of a tensor with the place of its `raw_data`: offset and length, of 64 bits each, little-endian.
const PLACE: u32 = 1000;

/// The number of `raw_data`.
const RAW_DATA: u64 = 9;

/// `model`, which [`crate::wire::screen`] has accepted, without large `raw_data`.
pub(crate) fn without_raw_data(model: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    // The messages around `at`: which one, where it ends, and where its length and its contents are in `out`.
    let mut open = vec![(Message::Model, model.len(), 0..0)];
    while let Some((message, end, length)) = open.last().cloned() {
        if at == end {
            set_length(&mut out, length);
            open.pop();
            continue;
        }
        let start = at;
        let tag = number(model, &mut at);
        let (field, wire) = (tag >> 3, tag & 7);
        let tag_end = at;
        let bytes = match wire {
            0 => {
                number(model, &mut at);
                0
            }
            1 => 8,
            5 => 4,
            _ => number(model, &mut at) as usize,
        };
        let (value, stop) = (at, at + bytes);
        if let (2, Some(child)) = (wire, message.child(field)) {
            let length = out.len() + (tag_end - start)..out.len() + (value - start);
            out.extend_from_slice(&model[start..value]);
            open.push((child, stop, length));
            continue;
        }
        at = stop;
        match (message, field, wire) {
            (Message::Tensor, field, _) if field == u64::from(PLACE) => {}
            (Message::Tensor, RAW_DATA, 2) if bytes >= LARGE => {
                // The tag of the field, length-delimited, in two bytes, and the length.
                let tag = PLACE << 3 | 2;
                out.extend_from_slice(&[tag as u8 & 0x7f | 0x80, (tag >> 7) as u8, 16]);
                out.extend_from_slice(&(value as u64).to_le_bytes());
                out.extend_from_slice(&(bytes as u64).to_le_bytes());
            }
            _ => out.extend_from_slice(&model[start..stop]),
        }
    }
    out
}

/// Writes the length of the message that ends where `out` does. It takes as many bytes as before: it has not grown.
fn set_length(out: &mut [u8], place: std::ops::Range<usize>) {
    let mut length = out.len() - place.end;
    let last = place.end.saturating_sub(1);
    for at in place {
        out[at] = (length & 0x7f) as u8 | if at < last { 0x80 } else { 0 };
        length >>= 7;
    }
}

fn number(model: &[u8], at: &mut usize) -> u64 {
    varint(model, at).expect("bug: the bytes were not screened")
}

/// Where in the model's file the `raw_data` of a tensor lies, if it was left there: offset and length.
pub(crate) fn place(tensor: &TensorProto) -> Option<(usize, usize)> {
    let fields = tensor.special_fields().unknown_fields();
    let Some(UnknownValueRef::LengthDelimited(place)) = fields.get(PLACE) else { return None };
    let (offset, length) = place.split_first_chunk::<8>()?;
    let number = |bytes: [u8; 8]| usize::try_from(u64::from_le_bytes(bytes)).ok();
    Some((number(*offset)?, number(length.try_into().ok()?)?))
}

#[cfg(test)]
mod tests {
    use onnx_protobuf::{GraphProto, ModelProto};

    use super::*;
    use crate::wire::screen;

    #[test]
    fn large_tensors_are_left_where_they_are() {
        let raw =
            |bytes: usize| TensorProto { raw_data: vec![7; bytes], name: "w".into(), ..Default::default() };
        let initializer = vec![raw(3), raw(LARGE), raw(100_000), raw(LARGE - 1)];
        let graph = GraphProto { initializer, name: "g".into(), ..Default::default() };
        let model = ModelProto { graph: Some(graph).into(), ir_version: 8, ..Default::default() };
        let bytes = model.write_to_bytes().expect("a model is written");
        let small = without_raw_data(&bytes);
        assert!(small.len() < 2 * LARGE);
        assert_eq!(screen(&small, Message::Model), Ok(()));
        let read = ModelProto::parse_from_bytes(&small).expect("it is a model");
        assert_eq!((read.ir_version, read.graph.name.as_str()), (8, "g"));
        for (before, after) in model.graph.initializer.iter().zip(&read.graph.initializer) {
            let found = match place(after) {
                Some((offset, length)) => &bytes[offset..offset + length],
                None => &after.raw_data,
            };
            assert_eq!((found, after.name.as_str()), (before.raw_data.as_slice(), "w"));
            // A place that the file itself gives is none.
            let again = without_raw_data(&small);
            assert!(!again.windows(2).any(|pair| pair == [0xc2, 0x3e]));
        }
    }
}
