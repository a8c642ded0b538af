//! Links and files on a real disk: what external data may be, and what not.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use onnx::external::{FileError, resolve_external};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, relative: &str) -> PathBuf {
        fs::canonicalize(self.0.path()).expect("it exists").join(relative)
    }

    fn file(&self, relative: &str) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(&path, b"0123456789").expect("a file");
        path
    }

    fn link(&self, relative: &str, target: &str) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        symlink(target, &path).expect("a link");
        path
    }
}

fn escapes(result: &Result<PathBuf, FileError>) -> bool {
    matches!(result, Err(FileError::LinkEscapes { .. }))
}

#[test]
fn a_plain_file_beside_the_model_or_below() {
    let folder = Folder::new();
    let model = folder.file("model.onnx");
    let (beside, below) = (folder.file("w.bin"), folder.file("data/w.bin"));
    assert_eq!(resolve_external(&model, "w.bin"), Ok(beside.clone()));
    assert_eq!(resolve_external(&model, "data/w.bin"), Ok(below));
    assert_eq!(resolve_external(&model, "data/../w.bin"), Ok(beside));
}

#[test]
fn the_layout_of_model_hubs() {
    let folder = Folder::new();
    let blob = folder.file("blobs/2222");
    folder.file("blobs/1111");
    let model = folder.link("snapshots/abc/model.onnx", "../../blobs/1111");
    folder.link("snapshots/abc/model.onnx_data", "../../blobs/2222");
    assert_eq!(resolve_external(&model, "model.onnx_data"), Ok(blob.clone()));

    let nested = folder.link("snapshots/abc/onnx/model.onnx", "../../../blobs/1111");
    folder.link("snapshots/abc/onnx/weights", "../../../blobs/2222");
    assert_eq!(resolve_external(&nested, "weights"), Ok(blob));
}

#[test]
fn a_hub_link_to_elsewhere_is_refused() {
    let folder = Folder::new();
    folder.file("blobs/1111");
    folder.file("secret");
    let model = folder.link("snapshots/abc/model.onnx", "../../blobs/1111");
    folder.link("snapshots/abc/weights", "../../secret");
    assert!(escapes(&resolve_external(&model, "weights")));
}

#[test]
fn links_that_leave_the_folder_are_refused() {
    let folder = Folder::new();
    let model = folder.file("model/model.onnx");
    folder.file("outside.bin");
    folder.file("elsewhere/w.bin");
    folder.link("model/w.bin", "../outside.bin");
    folder.link("model/absolute", "/etc/passwd");
    folder.link("model/data", "../elsewhere");
    folder.link("model/twice", "w.bin");
    for location in ["w.bin", "absolute", "data/w.bin", "twice"] {
        assert!(escapes(&resolve_external(&model, location)), "{location}");
    }
}

#[test]
fn links_inside_the_folder_are_followed() {
    let folder = Folder::new();
    let model = folder.file("model/model.onnx");
    let target = folder.file("model/data/w.bin");
    folder.link("model/w.bin", "data/w.bin");
    assert_eq!(resolve_external(&model, "w.bin"), Ok(target));
}

#[test]
fn a_folder_that_begins_with_the_same_letters_is_outside() {
    let folder = Folder::new();
    let model = folder.file("model/model.onnx");
    folder.file("model-private/w.bin");
    folder.link("model/w.bin", "../model-private/w.bin");
    assert!(escapes(&resolve_external(&model, "w.bin")));
}

#[test]
fn only_files_that_exist() {
    let folder = Folder::new();
    let model = folder.file("model.onnx");
    folder.file("data/w.bin");
    folder.link("dangling", "nowhere");
    folder.link("round", "round");
    assert!(matches!(resolve_external(&model, "missing.bin"), Err(FileError::Io { .. })));
    assert!(matches!(resolve_external(&model, "dangling"), Err(FileError::Io { .. })));
    assert!(matches!(resolve_external(&model, "round"), Err(FileError::Io { .. })));
    assert!(matches!(resolve_external(&model, "data"), Err(FileError::NotAFile { .. })));
}

#[test]
fn a_model_in_the_current_folder() {
    // A bare name has no parent; the folder is then the current one, where this crate's manifest lies.
    let found = resolve_external(Path::new("Cargo.toml"), "src/lib.rs").expect("the crate's own source");
    assert!(found.ends_with("src/lib.rs"));
}
