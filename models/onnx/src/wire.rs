//! A look over protobuf bytes before they are parsed.
//!
//! The reader that we use trusts its input in two ways that we can't afford: it follows nested groups without a
//! limit (the stack ends before the file does), and it reserves memory for lengths before it compares them with
//! what is left. So this walks over the fields first, by an explicit stack and without allocating per field.
//!
//! Promises: after [`screen`] every length lies inside its message, no message holds a group (ONNX has none), and
//! messages are nested at most [`MAX_DEPTH`] deep.
//!
//! Deliberately absent: what the fields mean. Text is not checked for UTF-8, numbers not for their range.

/// Messages may be nested so deep; the parser has the same limit.
pub(crate) const MAX_DEPTH: usize = 100;

/// The messages of `onnx.proto`, as far as they nest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Tensor,
    SparseTensor,
    Value,
    Type,
    TensorType,
    /// `Sequence` and `Optional`.
    Wrapper,
    Map,
    Shape,
    Dimension,
    Training,
    Annotation,
    /// `SequenceProto`, in test data.
    Sequence,
    /// `OptionalProto`, in test data.
    Optional,
    /// A message without messages in it.
    Flat,
}

impl Message {
    /// The message in field `number`, if one is there. Source: `onnx.proto`, IR version 10.
    pub(crate) fn child(self, number: u64) -> Option<Message> {
        use Message as M;
        Some(match (self, number) {
            (M::Model, 7) => M::Graph,
            (M::Model, 8 | 14) => M::Flat,
            (M::Model, 20) => M::Training,
            (M::Model, 25) => M::Function,
            (M::Training, 1 | 2) => M::Graph,
            (M::Training, 3 | 4) => M::Flat,
            (M::Graph, 1) => M::Node,
            (M::Graph, 5) => M::Tensor,
            (M::Graph, 11..=13) => M::Value,
            (M::Graph, 14) => M::Annotation,
            (M::Graph, 15) => M::SparseTensor,
            (M::Graph, 16) => M::Flat,
            (M::Annotation, 2) => M::Flat,
            (M::Function, 7) => M::Node,
            (M::Function, 9 | 14) => M::Flat,
            (M::Function, 11) => M::Attribute,
            (M::Function, 12) => M::Value,
            (M::Node, 5) => M::Attribute,
            (M::Node, 9) => M::Flat,
            (M::Attribute, 5 | 10) => M::Tensor,
            (M::Attribute, 6 | 11) => M::Graph,
            (M::Attribute, 14 | 15) => M::Type,
            (M::Attribute, 22 | 23) => M::SparseTensor,
            (M::Tensor, 3 | 13 | 16) => M::Flat,
            (M::SparseTensor, 1 | 2) => M::Tensor,
            (M::Value, 2) => M::Type,
            (M::Value, 4) => M::Flat,
            (M::Type, 1 | 8) => M::TensorType,
            (M::Type, 4 | 9) => M::Wrapper,
            (M::Type, 5) => M::Map,
            (M::TensorType, 2) => M::Shape,
            (M::Wrapper, 1) | (M::Map, 2) => M::Type,
            (M::Shape, 1) => M::Dimension,
            (M::Sequence | M::Optional, 3) => M::Tensor,
            (M::Sequence | M::Optional, 4) => M::SparseTensor,
            (M::Sequence | M::Optional, 5) => M::Sequence,
            (M::Sequence | M::Optional, 7) => M::Optional,
            _ => return None,
        })
    }
}

/// What is wrong with the bytes, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} at byte {at}")]
pub struct WireError {
    /// Byte offset.
    pub at: usize,
    /// What is wrong.
    pub why: WireProblem,
}

/// What is wrong with protobuf bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireProblem {
    /// The file ends inside a field: it was cut, or it is no protobuf.
    #[error("the file is truncated: a field needs {needed} bytes and {left} are left")]
    Truncated {
        /// Bytes that it states.
        needed: u64,
        /// Bytes that there are.
        left: u64,
    },
    /// A number of more than 64 bits.
    #[error("a number is malformed or cut off")]
    Number,
    /// A field with a tag that ONNX files don't use.
    #[error("there is no field with tag {tag} in an ONNX file")]
    Tag {
        /// The tag.
        tag: u64,
    },
    /// Messages nested deeper than the limit.
    #[error("messages are nested more than {MAX_DEPTH} deep")]
    Depth,
}

/// Checks that `bytes` is well-formed as a `root` message, without understanding it.
///
/// # Errors
/// The first place where it is not.
pub(crate) fn screen(bytes: &[u8], root: Message) -> Result<(), WireError> {
    let mut at = 0;
    // The messages around `at`: which one, and where it ends.
    let mut open = vec![(root, bytes.len())];
    while let Some(&(message, end)) = open.last() {
        if at == end {
            open.pop();
            continue;
        }
        let start = at;
        let error = |why| WireError { at: start, why };
        let tag = varint(&bytes[..end], &mut at).ok_or(error(WireProblem::Number))?;
        let (number, wire) = (tag >> 3, tag & 7);
        if number == 0 || tag > u64::from(u32::MAX) {
            return Err(error(WireProblem::Tag { tag }));
        }
        let length = match wire {
            0 => {
                varint(&bytes[..end], &mut at).ok_or(error(WireProblem::Number))?;
                0
            }
            1 => 8,
            2 => varint(&bytes[..end], &mut at).ok_or(error(WireProblem::Number))?,
            5 => 4,
            // Groups among them.
            _ => return Err(error(WireProblem::Tag { tag })),
        };
        let left = (end - at) as u64;
        if length > left {
            return Err(error(WireProblem::Truncated { needed: length, left }));
        }
        let stop = at + length as usize;
        match message.child(number).filter(|_| wire == 2) {
            Some(_) if open.len() > MAX_DEPTH => return Err(error(WireProblem::Depth)),
            Some(child) => open.push((child, stop)),
            None => at = stop,
        }
    }
    Ok(())
}

/// The fields of bytes in a message that [`screen`] accepts, each with its number; numbers are left out.
pub(crate) fn fields(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let tag = varint(bytes, &mut at)?;
            match tag & 7 {
                0 => drop(varint(bytes, &mut at)?),
                1 => at += 8,
                5 => at += 4,
                _ => {
                    let length = usize::try_from(varint(bytes, &mut at)?).ok()?;
                    let content = bytes.get(at..at.checked_add(length)?)?;
                    at += length;
                    return Some((tag >> 3, content));
                }
            }
        }
        None
    })
}

/// A base-128 number of at most ten bytes at `at`, which moves behind it.
pub(crate) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for position in 0..10 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if position == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(bytes: &[u8]) -> WireProblem {
        screen(bytes, Message::Model).expect_err("malformed").why
    }

    #[test]
    fn flat_fields_pass() {
        assert_eq!(screen(&[], Message::Model), Ok(()));
        // ir_version = 10, producer_name = "ab", graph = { name = "g" }.
        assert_eq!(screen(&[0x08, 10, 0x12, 2, b'a', b'b', 0x3a, 3, 0x12, 1, b'g'], Message::Model), Ok(()));
    }

    #[test]
    fn lengths_stay_inside() {
        assert_eq!(why(&[0x12, 5, b'a']), WireProblem::Truncated { needed: 5, left: 1 });
        // The inner length leaves the graph, though not the file.
        assert_eq!(why(&[0x3a, 3, 0x12, 4, 0, 0, 0, 0]), WireProblem::Truncated { needed: 4, left: 1 });
        assert_eq!(why(&[0x08]), WireProblem::Number);
        assert_eq!(why(&[0xff; 12]), WireProblem::Number);
        assert_eq!(why(&[0x09, 0, 0]), WireProblem::Truncated { needed: 8, left: 2 });
    }

    #[test]
    fn groups_and_field_zero_are_refused() {
        assert_eq!(why(&[0x0b; 1_000_000]), WireProblem::Tag { tag: 0x0b });
        assert_eq!(why(&[0x00, 0x00]), WireProblem::Tag { tag: 0 });
    }

    #[test]
    fn depth_is_limited() {
        // Sequence of sequence of …: field 4 of a type holds a wrapper whose field 1 holds a type.
        let mut ty = vec![];
        for level in 0..200 {
            let mut outer = vec![if level % 2 == 0 { 0x0a } else { 0x22 }];
            let mut length = ty.len();
            while length > 0x7f {
                outer.push(length as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.extend(&ty);
            ty = outer;
        }
        assert_eq!(screen(&ty, Message::Type).expect_err("too deep").why, WireProblem::Depth);
    }
}
