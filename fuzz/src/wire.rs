//! Protobuf messages changed in one field, at any depth, without knowing what the fields mean.

use crate::random::Random;

/// A field: its number and what it holds.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    number: u64,
    content: Content,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
}

/// Changes the message in `data[..size]`, which may become `max_size` long, and says how long it is then. What is no
/// message is changed byte by byte.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random::new(seed);
    let message = if random.one_in(4) { None } else { parse(&data[..size]) };
    let changed = message.filter(|fields| !fields.is_empty()).map(|mut fields| {
        let mut names = Vec::new();
        leaves(&fields, &mut names);
        for _ in 0..=random.below(3) {
            change(&mut fields, &names, &mut random);
        }
        encode(&fields)
    });
    match changed.filter(|bytes| bytes.len() <= max_size) {
        Some(bytes) => {
            data[..bytes.len()].copy_from_slice(&bytes);
            bytes.len()
        }
        None => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
    }
}

/// The fields of a message, if that is what the bytes are.
fn parse(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let content = match tag & 7 {
            0 => Content::Varint(varint(&mut bytes)?),
            1 => Content::Fixed64(*take(&mut bytes, 8)?.first_chunk()?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Content::Bytes(take(&mut bytes, length)?.to_vec())
            }
            5 => Content::Fixed32(*take(&mut bytes, 4)?.first_chunk()?),
            _ => return None,
        };
        fields.push(Field { number: (tag >> 3 != 0).then_some(tag >> 3)?, content });
    }
    Some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for at in 0..10 {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn encode(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, content } in fields {
        let mut tag = |kind: u64| put_varint(&mut out, number << 3 | kind);
        match content {
            Content::Varint(value) => {
                tag(0);
                put_varint(&mut out, *value);
            }
            Content::Fixed64(bytes) => {
                tag(1);
                out.extend(bytes);
            }
            Content::Bytes(bytes) => {
                tag(2);
                put_varint(&mut out, bytes.len() as u64);
                out.extend(bytes);
            }
            Content::Fixed32(bytes) => {
                tag(5);
                out.extend(bytes);
            }
        }
    }
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The message in a field, if what it holds can be one.
fn nested(content: &Content) -> Option<Vec<Field>> {
    match content {
        Content::Bytes(bytes) => parse(bytes).filter(|fields| !fields.is_empty()),
        _ => None,
    }
}

/// Every content that is no message, and short: names above all.
fn leaves(fields: &[Field], names: &mut Vec<Content>) {
    for field in fields {
        match nested(&field.content) {
            Some(inner) => leaves(&inner, names),
            None if matches!(&field.content, Content::Bytes(bytes) if bytes.len() < 64) => {
                names.push(field.content.clone());
            }
            None => {}
        }
    }
}

/// Changes one field, or one of those in it.
fn change(fields: &mut Vec<Field>, names: &[Content], random: &mut Random) {
    let at = random.below(fields.len());
    let Some(field) = fields.get_mut(at) else { return };
    if let Some(mut inner) = nested(&field.content)
        && !random.one_in(5)
    {
        change(&mut inner, names, random);
        field.content = Content::Bytes(encode(&inner));
        return;
    }
    let other = random.below(fields.len());
    match random.below(8) {
        0 => {
            fields.remove(at);
        }
        1 => fields.insert(other, fields[at].clone()),
        2 => fields.swap(at, other),
        3 => fields[at].content = fields[other].content.clone(),
        _ => change_content(&mut fields[at].content, names, random),
    }
}

fn change_content(content: &mut Content, names: &[Content], random: &mut Random) {
    match content {
        Content::Varint(value) => {
            *value = match random.below(4) {
                0 => random.int() as u64,
                1 => value.wrapping_add(1),
                2 => value.wrapping_sub(1),
                _ => random.below(32) as u64,
            }
        }
        Content::Bytes(_) if random.one_in(2) && !names.is_empty() => {
            *content = names[random.below(names.len())].clone();
        }
        Content::Bytes(bytes) if random.one_in(4) && bytes.len() >= 8 => {
            let at = 8 * random.below(bytes.len() / 8);
            bytes[at..at + 8].copy_from_slice(&random.int().to_le_bytes());
        }
        Content::Bytes(bytes) => {
            let length = bytes.len();
            bytes.resize(length + 16, 0);
            let length = libfuzzer_sys::fuzzer_mutate(bytes, length, length + 16);
            bytes.truncate(length);
        }
        Content::Fixed64(bytes) => *bytes = random.int().to_le_bytes(),
        Content::Fixed32(bytes) => *bytes = (random.bits() as u32).to_le_bytes(),
    }
}
