//! Bytes as a file of tensors: the readers of the command line give tensors or say why not.
//!
//! The first byte says of which format the others are.

#![no_main]

use std::path::Path;

use fuzz::wire;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use onnx::{PortKind, read_data};
use runner::files::{npy, parse_all};

/// Formats whose bytes are protobuf messages.
const MESSAGES: std::ops::RangeInclusive<u8> = 3..=6;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match data[..size].first() {
        Some(format) if MESSAGES.contains(format) && size > 1 && max_size > 1 => {
            1 + wire::mutate(&mut data[1..], size - 1, max_size - 1, seed)
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&format, bytes)) = bytes.split_first() else { return };
    match format {
        0 => one(bytes),
        1 => many("x.npz", bytes),
        2 => many("x.safetensors", bytes),
        3 => data(bytes, PortKind::Tensor),
        4 => data(bytes, PortKind::Sequence),
        5 => data(bytes, PortKind::Optional),
        6 => data(bytes, PortKind::OptionalSequence),
        _ => {}
    }
});

/// What is read can be written, and is read again.
fn one(bytes: &[u8]) {
    let Ok(tensor) = npy::read(bytes) else { return };
    let mut written = Vec::new();
    npy::write(&tensor, &mut written).expect("memory takes what came from a .npy file");
    let again = npy::read(&written).expect("it was just written");
    assert_eq!((again.dtype(), again.dims(), again.bytes()), (tensor.dtype(), tensor.dims(), tensor.bytes()));
}

fn many(name: &str, bytes: &[u8]) {
    let Ok(tensors) = parse_all(Path::new(name), bytes) else { return };
    for (_, tensor) in tensors {
        let elements: usize = tensor.dims().iter().product();
        assert_eq!(tensor.bytes().len(), elements * tensor.dtype().bytes());
    }
}

fn data(bytes: &[u8], kind: PortKind) {
    let _ = read_data(bytes, kind);
}
