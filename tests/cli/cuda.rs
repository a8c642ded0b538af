//! `--target cuda`: sources in a folder, and what there is not yet.

use std::fs;

use super::{folder, names, say};

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

/// Is NVRTC there? Says so if not.
#[allow(clippy::print_stderr, reason = "who reads the tests should know what was not run")]
fn has_nvrtc(folder: &std::path::Path) -> bool {
    let tried = say(folder, "compile zoo:momentum-smoe --target cuda --emit ptx --arch sm_80 -o {D}/tried");
    if tried.code == Some(0) {
        return true;
    }
    tried.refused("egraft::cuda::no_nvrtc", &["pip install nvidia-cuda-nvrtc"]);
    eprintln!("NVRTC is not there: PTX and machine code of GPUs were not made");
    false
}

#[test]
fn a_file_for_each_kernel_and_architecture() {
    let folder = folder();
    if !has_nvrtc(folder.path()) {
        return;
    }
    say(folder.path(), "compile zoo:momentum-smoe --target cuda --emit cubin -o {D}/code").succeeds();
    let files = names(&folder.path().join("code"));
    assert_eq!(files.len(), 4 * 3, "{files:?}");
    for arch in ["sm_80", "sm_90a", "sm_100a"] {
        let of_arch = files.iter().filter(|name| name.ends_with(&format!(".{arch}.cubin")));
        assert_eq!(of_arch.count(), 4, "{arch}: {files:?}");
    }
    let code = fs::read(folder.path().join("code").join(&files[0])).expect("readable");
    assert!(code.starts_with(b"\x7fELF"), "machine code of GPUs is in ELF");
    let line = "compile zoo:momentum-smoe --target cuda --emit ptx --arch sm_80 -o {D}/text --json";
    let report = say(folder.path(), line).succeeds().json();
    assert_eq!(report["architectures"], serde_json::json!(["sm_80"]), "{report}");
    let files = names(&folder.path().join("text"));
    assert_eq!(files.len(), 4, "{files:?}");
    let text = fs::read_to_string(folder.path().join("text").join(&files[0])).expect("readable");
    assert!(text.contains(".target sm_80") && text.contains(".visible .entry"), "{text}");
    // NVRTC says what it does not know.
    say(folder.path(), "compile zoo:momentum-smoe --target cuda --emit ptx --arch sm_10 -o {D}/old")
        .refused("egraft::cuda::compile", &["sm_10", "--gpu-architecture"]);
}

/// With code for GPUs and no GPU at all.
#[test]
fn executables_hold_code_for_several_gpus() {
    let folder = folder();
    if !has_nvrtc(folder.path()) {
        return;
    }
    let line = "compile zoo:momentum-smoe --target cuda -o {D}/moe --json";
    let report = say(folder.path(), line).succeeds().json();
    let architectures = serde_json::json!(["sm_80", "sm_90a", "sm_100a", "compute_80"]);
    assert_eq!(report["target"]["architectures"], architectures, "{report}");
    let bytes = fs::read(folder.path().join("moe")).expect("it was written");
    let found = |part: &[u8]| bytes.windows(part.len()).filter(|window| *window == part).count();
    assert_eq!(found(b".target sm_80"), 4, "PTX of each kernel");
    assert!(
        found(b"\x7fELF") > 3 * 4,
        "the program itself, and machine code of each kernel and architecture"
    );
}

#[test]
fn architectures_are_of_gpus() {
    let folder = folder();
    say(folder.path(), "compile zoo:digits --arch sm_80 -o {D}/digits")
        .refused("egraft::cli::emit", &["--target cuda"]);
    say(folder.path(), "compile zoo:digits --target cuda --arch sm_80 --emit cu -o {D}/sources")
        .refused("egraft::cli::emit", &["--emit cubin"]);
    say(folder.path(), "compile zoo:digits --target cuda --emit ptx --arch ampere -o {D}/text").exits(2);
}

#[test]
fn what_there_is_not_says_so() {
    let folder = folder();
    say(folder.path(), "compile zoo:digits --emit cu -o {D}/sources")
        .refused("egraft::cli::emit", &["--target cuda"]);
    for verb in ["run", "bench", "verify"] {
        let done = say(folder.path(), &format!("{verb} zoo:digits --target cuda"));
        // On a machine with a GPU it may well run.
        if done.err.contains("egraft::device::no_driver") {
            done.refused("egraft::device::no_driver", &["--emit", "cu"]);
        }
    }
    assert_eq!(names(folder.path()), [""; 0]);
}
