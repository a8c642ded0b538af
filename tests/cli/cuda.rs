//! `--target cuda`: sources in a folder, and what there is not yet.

use std::fs;

use super::{folder, say};

const COMPILE: &str = "compile zoo:momentum-smoe --target cuda --emit cu -o {D}/sources";

#[test]
fn a_layer_of_experts_is_four_readable_files() {
    let folder = folder();
    say(folder.path(), COMPILE).succeeds();
    let mut names: Vec<String> = fs::read_dir(folder.path().join("sources"))
        .expect("it is made")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in &names {
        let text = fs::read_to_string(folder.path().join("sources").join(name)).expect("readable");
        let (stem, first) = (name.trim_end_matches(".cu"), text.lines().next().unwrap_or_default());
        assert!(first.starts_with(&format!("// {stem}: ")), "{name}: {first}");
        for part in ["// of momentum-smoe.mlp", "//   kernel @", "extern \"C\" __global__ void"] {
            assert!(text.contains(part), "{name}: {part}:\n{text}");
        }
    }
    // Again, to the same folder, which is replaced as a whole.
    fs::write(folder.path().join("sources/old.cu"), "").expect("writable");
    let report = say(folder.path(), &format!("{COMPILE} --json")).succeeds().json();
    assert_eq!(report["kernels"].as_array().map(Vec::len), Some(4), "{report}");
    assert!(!folder.path().join("sources/old.cu").exists());
}

#[test]
fn a_folder_of_other_files_is_left_alone() {
    let folder = folder();
    fs::create_dir(folder.path().join("sources")).expect("writable");
    fs::write(folder.path().join("sources/notes.txt"), "mine").expect("writable");
    say(folder.path(), COMPILE).refused("egraft::cli::other_files", &["notes.txt"]);
    let left = fs::read_dir(folder.path().join("sources")).expect("it is there").count();
    assert_eq!(left, 1);
}

#[test]
fn what_needs_a_device_says_so() {
    let folder = folder();
    say(folder.path(), "compile zoo:digits --emit cu -o {D}/sources")
        .refused("egraft::cli::emit", &["--target cuda"]);
    say(folder.path(), "compile zoo:digits --target cuda -o {D}/digits").exits(1);
    say(folder.path(), "run zoo:digits --target cuda").exits(1);
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
}
