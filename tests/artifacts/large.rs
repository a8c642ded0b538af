//! Models larger than memory: what compiling them takes does not depend on their size.
//!
//! Their weights are files of holes, and so is what is written of them: the tests need no disk.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::program::{egraft, run};

use crate::folder;

/// A field of a protobuf message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&varint(u64::from(number << 3 | 2)), &varint(bytes.len() as u64), bytes].concat()
}

/// A field of a protobuf message that holds a number.
fn count(number: u8, value: u64) -> Vec<u8> {
    [varint(u64::from(number << 3)), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// An `f32` input or output of `rows` times `size`.
fn info(name: &str, size: u64) -> Vec<u8> {
    let shape = [field(1, &field(2, b"rows")), field(1, &count(1, size))].concat();
    let tensor = [count(1, 1), field(2, &shape)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// The chain of `layers` products with matrices of `size` times `size`, each zero but for one element of its own.
/// Every second one is transposed first.
fn model(folder: &Path, layers: u64, size: u64) -> PathBuf {
    let bytes = size * size * 4;
    let mut data = File::create(folder.join("data")).expect("the folder is writable");
    data.set_len(layers * bytes).expect("files may have holes");
    let mut graph = field(2, b"large");
    let mut x = "x".to_owned();
    for layer in 0..layers {
        data.seek(SeekFrom::Start(layer * bytes + layer * 4)).expect("it is inside");
        data.write_all(&1f32.to_le_bytes()).expect("there is room");
        let (w, y) = (format!("w{layer}"), format!("y{layer}"));
        let entry = |key: &str, value: &str| {
            field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
        };
        let tensor = [
            count(1, size),
            count(1, size),
            count(2, 1),
            field(8, w.as_bytes()),
            entry("location", "data"),
            entry("offset", &(layer * bytes).to_string()),
            entry("length", &bytes.to_string()),
            count(14, 1),
        ];
        graph.extend(field(5, &tensor.concat()));
        let node = |op: &str, inputs: &[&str], output: &str| {
            let inputs = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect::<Vec<_>>();
            field(1, &[inputs, field(2, output.as_bytes()), field(4, op.as_bytes())].concat())
        };
        let turned = format!("t{layer}");
        if layer % 2 == 1 {
            graph.extend(node("Transpose", &[&w], &turned));
        }
        graph.extend(node("MatMul", &[&x, if layer % 2 == 1 { &turned } else { &w }], &y));
        x = y;
    }
    graph.extend(field(11, &info("x", size)));
    graph.extend(field(12, &info(&x, size)));
    let model = [count(1, 8), field(8, &count(2, 17)), field(7, &graph)].concat();
    let path = folder.join("large.onnx");
    fs::write(&path, model).expect("the folder is writable");
    path
}

/// Compiles the model with so many bytes of memory that are not pages of files.
fn compiles_within(memory: u64, layers: u64, size: u64) {
    let folder = folder();
    let model = model(folder.path(), layers, size);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", &format!("ulimit -d {} && exec \"$0\" compile \"$1\" -o \"$2\" --json", memory >> 10)]);
    let out = folder.path().join("large");
    let report = run(limited.arg(egraft()).arg(&model).arg(&out)).succeeds().json();
    let weights = layers * size * size * 4;
    assert_eq!(report["weight_bytes"], weights);
    assert!(report["disk_bytes"].as_u64() > Some(weights));
    let sidecar = fs::metadata(folder.path().join("large.weights")).expect("it was written");
    assert_eq!(sidecar.len(), weights + (1 << 16));
    // What is zero takes no room.
    let blocks = std::os::unix::fs::MetadataExt::blocks(&sidecar);
    assert!(blocks * 512 < 64 << 20, "{} MB are on the disk", blocks * 512 / 1_000_000);
}

#[test]
fn compiling_takes_little_memory_whatever_the_weights_are() {
    compiles_within(64 << 20, 24, 2048);
}

/// The same at the size that is promised: 500 MB and three times the largest tensor.
#[test]
#[ignore = "hashing 6 GB takes a minute in a debug build"]
fn six_gigabytes_are_compiled_in_little_memory() {
    compiles_within(500_000_000 + 3 * (256 << 20), 24, 8192);
}
