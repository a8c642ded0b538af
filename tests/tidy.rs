//! House rules that a compiler does not check: who may import whom, where `unsafe` may stand, how files begin.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in the workspace").to_path_buf()
}

/// Every Rust file of ours, relative to the root.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(folder).expect("the folder is there").map(|e| e.expect("readable").path()).collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !matches!(name, "target" | ".git" | ".venv" | "node_modules") {
                    walk(&path, found);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.into_iter().map(|p| p.strip_prefix(root()).expect("below the root").to_path_buf()).collect()
}

/// Room to what it may import of ours, and which foreign crates only it may see.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("ir", &[][..]),
        ("ops", &["ir"][..]),
        ("passes", &["ir", "ops"][..]),
        ("backends/reference", &["ir"][..]),
        ("backends/cranelift", &["ir"][..]),
        ("backends/cuda", &["ir"]),
        ("backends/runtime", &[][..]),
        ("backends/runner", &["runtime"][..]),
        ("models/onnx", &["ir", "ops"][..]),
        ("models/zoo", &["ir", "ops"][..]),
        ("python", &["ir", "passes", "runner", "runtime"][..]),
    ])
}

const OURS: [&str; 10] =
    ["ir", "ops", "passes", "reference", "cranelift", "cuda", "runtime", "runner", "onnx", "zoo"];

fn manifest(room: &str) -> toml::Table {
    let text = fs::read_to_string(root().join(room).join("Cargo.toml")).expect("every room has a manifest");
    text.parse().expect("manifests are TOML")
}

fn dependencies(manifest: &toml::Table, table: &str) -> BTreeSet<String> {
    manifest.get(table).and_then(|t| t.as_table()).map(|t| t.keys().cloned().collect()).unwrap_or_default()
}

#[test]
fn rooms_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (room, may) in allowed() {
        let manifest = manifest(room);
        for dependency in dependencies(&manifest, "dependencies") {
            if OURS.contains(&dependency.as_str()) && !may.contains(&dependency.as_str()) {
                wrong.push(format!("{room} imports {dependency}"));
            }
        }
        // Tests of a room may look at what the room may look at; some also at the second opinion.
        for dependency in dependencies(&manifest, "dev-dependencies") {
            let fine = may.contains(&dependency.as_str())
                || matches!(room, "models/onnx" | "ops") && dependency == "reference";
            if OURS.contains(&dependency.as_str()) && !fine {
                wrong.push(format!("{room} imports {dependency} in tests"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn foreign_crates_stay_in_their_room() {
    let only = [
        ("petgraph", "ir"),
        ("egg", "passes"),
        ("protobuf", "models/onnx"),
        ("onnx-protobuf", "models/onnx"),
        ("cranelift-codegen", "backends/cranelift"),
        ("cranelift-frontend", "backends/cranelift"),
        ("iced-x86", "backends/cranelift"),
        ("libloading", "backends/cuda"),
        ("clap", "."),
        ("miette", "."),
        ("indicatif", "."),
        ("pyo3", "python"),
    ];
    for room in allowed().keys().chain(&["."]) {
        let manifest = manifest(room);
        for dependency in dependencies(&manifest, "dependencies") {
            if let Some((_, home)) = only.iter().find(|(name, _)| *name == dependency) {
                assert_eq!(home, room, "{dependency} belongs to {home}");
            }
        }
    }
    let petgraph: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|p| p.starts_with("ir/src"))
        .filter(|p| fs::read_to_string(root().join(p)).expect("readable").contains("use petgraph"))
        .collect();
    assert_eq!(petgraph, [PathBuf::from("ir/src/graph.rs")], "only the graph sees petgraph");
}

/// Where `unsafe` may stand.
const UNSAFE: [&str; 8] = [
    "backends/runtime/",
    "backends/runner/",
    "backends/cranelift/src/jit",
    "backends/cuda/src/nvrtc.rs",
    "src/map.rs",
    "python/src/array.rs",
    "python/src/dlpack.rs",
    "python/src/sessions.rs",
];

#[test]
fn unsafe_stands_only_where_it_may_and_says_why() {
    let mut wrong = Vec::new();
    for path in sources() {
        let name = path.to_string_lossy().replace('\\', "/");
        let is_test = name.contains("/tests/") || name.starts_with("tests/") || name.contains("/examples/");
        let text = fs::read_to_string(root().join(&path)).expect("readable");
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let word = |w: &str| code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|t| t == w);
            if !word("unsafe") || code.contains('"') {
                continue;
            }
            if !is_test && !UNSAFE.iter().any(|place| name.starts_with(place)) {
                wrong.push(format!("{name}:{}: unsafe has no place here", at + 1));
            }
            let opens_block = code.contains("unsafe {") || code.contains("unsafe impl");
            let explained = lines[at.saturating_sub(12)..=at].iter().any(|l| l.contains("SAFETY:"));
            if opens_block && !explained {
                wrong.push(format!("{name}:{}: unsafe without a SAFETY comment", at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|path| !fs::read_to_string(root().join(path)).expect("readable").starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "files that do not begin with `//!`: {silent:?}");
}

#[test]
fn no_room_for_leftovers() {
    let names = ["utils", "util", "common", "helpers", "helper", "misc"];
    for path in sources() {
        for part in path.iter().filter_map(|p| p.to_str()) {
            let stem = part.trim_end_matches(".rs");
            assert!(!names.contains(&stem), "{}: name it after what it holds", path.display());
        }
    }
}

#[test]
fn every_op_has_its_file_and_its_entry() {
    let mut files: BTreeSet<String> = BTreeSet::new();
    for path in sources().iter().filter(|p| p.starts_with("ops/src") && p.components().count() == 4) {
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name").to_owned();
        let text = fs::read_to_string(root().join(path)).expect("readable");
        if text.contains(": OpDef =") {
            files.insert(stem);
        }
    }
    let names: BTreeSet<String> =
        ops::ALL.iter().map(|entry| entry.op.name.trim_end_matches('_').to_owned()).collect();
    let missing: Vec<&String> = names.difference(&files).collect();
    assert!(missing.is_empty(), "ops without a file of their name: {missing:?}");
}

#[test]
fn the_op_reference_is_current() {
    let path = root().join("docs/ops.md");
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == ops::markdown(),
        "docs/ops.md is stale: run `cargo egraft ops --markdown > docs/ops.md`"
    );
}

#[test]
fn compiler_and_runtime_agree_on_services() {
    let compiler: Vec<String> = ir::service::Service::all().into_iter().map(|s| s.name()).collect();
    assert_eq!(compiler, runtime::SERVICES, "the table of services");
    assert_eq!(ir::service::ABI_VERSION, runtime::ABI_VERSION, "the calling convention");
    let [theirs, ours] = [
        [runtime::gemm::MAX_AXES, runtime::gemm::MAX_GUARDS],
        [ir::kernel::operand::MAX_AXES, ir::kernel::operand::MAX_GUARDS],
    ];
    assert_eq!(ours, theirs, "operands of matrix products");
}

#[test]
fn fuzz_targets_are_listed_and_try_the_versions_that_are_built() {
    let table = |path: &str| -> toml::Table {
        fs::read_to_string(root().join(path)).expect("it is there").parse().expect("it is TOML")
    };
    let manifest = manifest("fuzz");
    assert!(manifest.contains_key("workspace"), "it needs another compiler than the workspace");
    let of = |table: &toml::Table, list: &str, key: &str| -> Vec<String> {
        let rows = table[list].as_array().expect("a list").iter();
        rows.map(|row| row[key].as_str().expect("a text").to_owned()).collect()
    };
    let listed: BTreeSet<String> = of(&manifest, "bin", "path").into_iter().collect();
    let found: BTreeSet<String> = sources()
        .iter()
        .filter_map(|path| path.strip_prefix("fuzz").ok())
        .filter(|path| path.starts_with("fuzz_targets"))
        .map(|path| path.to_string_lossy().replace('\\', "/"))
        .collect();
    assert_eq!(listed, found, "fuzz/Cargo.toml");
    let packages = |path: &str| -> BTreeSet<(String, String)> {
        let lock = table(path);
        of(&lock, "package", "name").into_iter().zip(of(&lock, "package", "version")).collect()
    };
    let (built, fuzzed) = (packages("Cargo.lock"), packages("fuzz/Cargo.lock"));
    let is_built = |name: &str| built.iter().any(|(built, _)| built == name);
    let other: Vec<_> = fuzzed.iter().filter(|row| is_built(&row.0) && !built.contains(row)).collect();
    assert!(other.is_empty(), "fuzz/Cargo.lock has other versions than Cargo.lock: {other:?}");
}

#[test]
fn snapshots_have_an_input_and_none_is_pending() {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root().join("tests/filetests"), &mut files);
    for path in &files {
        let name = path.to_string_lossy();
        assert!(!name.ends_with(".snap.new"), "{name} is pending: look at it, then `cargo bless`");
        if let Some(input) = name.strip_suffix(".snap") {
            assert!(Path::new(input).exists(), "{name} has no input");
        }
    }
}
