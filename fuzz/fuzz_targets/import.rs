//! Bytes as an ONNX model: the importer gives a valid graph, which prints and parses, or says why not; and it reads no
//! file but those in the model's folder.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use fuzz::{stored, weights_of, wire};
use ir::text::parse_graph;
use ir::weight::Bytes;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use onnx::external::{resolve_external, validate_location};
use onnx::{FileError, Files, ImportOptions, import};

/// Models beyond this say nothing new.
const MAX_BYTES: usize = 1 << 15;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    wire::mutate(data, size, max_size, seed)
});

/// A folder with a model, its data in two places, and links out of it.
struct Folder {
    root: PathBuf,
    model: PathBuf,
}

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let root = std::env::temp_dir().join(format!("egraft-fuzz-{}", std::process::id()));
    let inside = root.join("inside");
    std::fs::create_dir_all(inside.join("data")).expect("a folder for files can be made");
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 12).collect();
    for file in ["secret", "inside/w", "inside/weights.bin", "inside/data/w"] {
        std::fs::write(root.join(file), &bytes).expect("it can be written");
    }
    for (link, to) in [("inside/out", "../secret"), ("inside/up", ".."), ("inside/link", "data/w")] {
        let _ = std::os::unix::fs::symlink(to, root.join(link));
    }
    Folder { root: root.canonicalize().expect("it was just made"), model: inside.join("w") }
});

struct Beside<'a>(&'a Folder);

impl Files for Beside<'_> {
    fn external(&self, location: &str, offset: u64, length: u64) -> Result<Bytes, FileError> {
        assert!(validate_location(location).is_ok(), "{location:?} is no place inside");
        let path = resolve_external(&self.0.model, location)?;
        assert!(path.starts_with(self.0.root.join("inside")), "{location:?} leads to {}", path.display());
        read(&path, location, offset, length)
    }
}

fn read(path: &Path, location: &str, offset: u64, length: u64) -> Result<Bytes, FileError> {
    let bytes = std::fs::read(path).map_err(|error| FileError::io(location, &error))?;
    let size = bytes.len() as u64;
    let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
    let part = range.and_then(|(offset, length)| bytes.get(offset..offset.checked_add(length)?));
    let outside = FileError::Range { location: location.to_owned(), offset, length, size };
    part.map(|part| part.to_vec().into()).ok_or(outside)
}

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() > MAX_BYTES {
        return;
    }
    let model = match import(bytes, &Beside(&FOLDER), &ImportOptions::default()) {
        Ok(model) => model,
        Err(failure) => {
            assert!(!failure.problems().is_empty(), "a refusal has a reason");
            return;
        }
    };
    let printed = model.graph.to_string();
    let violations = ir::verify::verify(&model.graph);
    assert!(violations.is_empty(), "{violations:?}\n{printed}");
    let again = parse_graph(&printed, &ops::find, &stored(weights_of(&model.graph)));
    let again = again.unwrap_or_else(|errors| panic!("printed, it does not parse: {errors:?}\n{printed}"));
    assert_eq!(again.to_string(), printed, "printed and parsed");
});
