//! Bytes that are no model: a failure or a graph, never a panic, and no memory beyond what the bytes justify.

use std::fs;
use std::path::Path;

use onnx::{ImportOptions, NoFiles, PortKind, import, read_data, read_tensor};

fn models() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/onnx/valid");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("models").map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let models: Vec<Vec<u8>> =
        paths.iter().filter_map(|path| fs::read(path.join("model.onnx")).ok()).collect();
    assert!(models.len() > 10);
    models
}

/// Numbers that look random and are the same every time (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[test]
fn models_cut_anywhere() {
    for model in models() {
        let step = (model.len() / 64).max(1);
        for end in (0..model.len()).step_by(step) {
            // A cut at the border of a field leaves well-formed bytes; then something is missing, or nothing is.
            let _ = import(&model[..end], &NoFiles, &ImportOptions::default());
        }
        assert!(import(&model[..model.len() / 2], &NoFiles, &ImportOptions::default()).is_err());
    }
}

#[test]
fn models_with_bytes_changed() {
    let mut numbers = Numbers(1);
    for model in models() {
        for _ in 0..40 {
            let mut changed = model.clone();
            for _ in 0..=numbers.next() % 3 {
                let at = numbers.next() as usize % changed.len();
                changed[at] = numbers.next() as u8;
            }
            let _ = import(&changed, &NoFiles, &ImportOptions::default());
        }
    }
}

#[test]
fn random_bytes_are_refused() {
    let mut numbers = Numbers(2);
    for length in 1..300 {
        let bytes: Vec<u8> = (0..length).map(|_| numbers.next() as u8).collect();
        assert!(import(&bytes, &NoFiles, &ImportOptions::default()).is_err());
        let _ = read_tensor(&bytes);
        let _ = read_data(&bytes, PortKind::Sequence);
        let _ = read_data(&bytes, PortKind::OptionalSequence);
    }
}

#[test]
fn a_million_nested_groups_do_not_end_the_stack() {
    let failure = import(&[0x0b; 1_000_000], &NoFiles, &ImportOptions::default()).expect_err("groups");
    assert_eq!(failure.problems()[0].error.code(), "egraft::onnx::malformed");
    assert!(read_tensor(&[0x0b; 1_000_000]).is_err());
}

#[test]
fn tensors_alone() {
    // f32[2] "a" in raw_data.
    let bytes = [0x08, 2, 0x10, 1, 0x42, 1, b'a', 0x4a, 8, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0];
    let (name, tensor) = read_tensor(&bytes).expect("a tensor");
    assert_eq!((name.as_str(), tensor.to_f64()), ("a", vec![1.0, -2.0]));
    for end in 1..bytes.len() {
        assert!(read_tensor(&bytes[..end]).is_err(), "cut at {end}");
    }
}
