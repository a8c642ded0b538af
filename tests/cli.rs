//! The command line from outside: exit codes, streams, JSON, what is refused and how, and that no input makes it
//! panic.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use egraft::{ErrorKind, Options};
use harness::program::{Done, call, egraft, mentions, run};
use harness::{Random, root};
use ir::{DType, Tensor};
use serde_json::Value;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("the system has room for temporary files")
}

fn digits() -> PathBuf {
    root().join("models/zoo/digits.onnx")
}

fn case(name: &str) -> PathBuf {
    root().join("tests/data/onnx/valid").join(name)
}

fn model(name: &str) -> PathBuf {
    case(name).join("model.onnx")
}

/// `egraft` with the words of `line`; `{D}` is `folder`, `{M}` the digits, `{I}` an image.
fn say(folder: &Path, line: &str) -> Done {
    let place = |word: &str| {
        word.replace("{D}", &folder.display().to_string())
            .replace("{M}", &digits().display().to_string())
            .replace("{I}", &root().join("models/zoo/digits/3.npy").display().to_string())
    };
    call(line.split_whitespace().map(place))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn save(path: &Path, tensor: &Tensor) {
    let tensor = egraft::tensors::to_file(tensor).expect("it is small");
    let mut bytes = Vec::new();
    runner::files::npy::write(&tensor, &mut bytes).expect("memory takes it");
    fs::write(path, bytes).expect("the folder is writable");
}

// Usage.

#[test]
fn bad_usage_is_refused_without_results() {
    let folder = folder();
    for line in [
        "",
        "frobnicate",
        "compile",
        "compile {M}",
        "compile -o {D}/m",
        "compile {M} -o {D}/m --emit cake",
        "compile {M} -o {D}/m -O4",
        "compile {M} -o {D}/m --nonsense",
        "compile {M} {M} -o {D}/m",
        "compile {M} -o {D}/m --dim batch",
        "compile {M} -o {D}/m --dim batch=-1",
        "compile {M} -o {D}/m --dim =4",
        "compile {M} -o {D}/m --input-shape image",
        "compile {M} -o {D}/m --input-shape image:1x-1x8x8",
        "compile {M} -o {D}/m --fp sloppy",
        "compile {M} -o {D}/m --target toaster",
        "compile {M} -o {D}/m --threads 0",
        "run",
        "run {M} --seed x",
        "run {M} --bench 0",
        "run {M} --warmup 3",
        "run {M} --input image",
        "verify",
        "verify {M} --atol -1",
        "verify {M} --through water",
        "verify {M} --against hope",
        "check",
        "inspect",
        "inspect {M} --kernel",
        "explain a b",
        "opt",
        "opt {M} --passes dce --stop-after dce",
        "ops --markdown --json",
        "passes x",
        "zoo build",
        "completions",
        "completions cobol",
    ] {
        let done = say(folder.path(), line).exits(2);
        assert_eq!(done.out, "", "{done}");
        assert!(!done.err.is_empty(), "{done}");
    }
    assert_eq!(names(folder.path()), [""; 0], "nothing is written");
}

#[test]
fn what_options_name_must_exist() {
    let folder = folder();
    for (line, code, words) in [
        ("compile {M} -o {D}/m --mcpu z80", "egraft::cli::mcpu", &["z80", "x86-64-v3"][..]),
        ("compile {M} -o {D}/m --dim n=4", "egraft::onnx::option", &["n", "batch"]),
        ("compile {M} -o {D}/m --input-shape picture:1x1x8x8", "egraft::onnx::option", &["picture", "image"]),
        ("compile {M} -o {D}/m --input-shape image:1x8x8", "egraft::onnx::option", &["image"]),
        ("compile {M} -o {D}/m --input-shape image:1x1x8x9", "egraft::onnx::option", &["image", "9"]),
        ("compile {M} -o {D}/m --disable-rule no-such-rule", "unknown_rule", &["no-such-rule"]),
        ("compile {M} -o {D}/m --set experts=4", "egraft::cli::settings", &["--set"]),
        ("compile zoo:nothing -o {D}/m", "egraft::cli::zoo_model", &["nothing"]),
        ("zoo build nothing -o {D}/m.onnx", "egraft::cli::zoo_model", &["nothing"]),
        ("compile {D}/m.pt -o {D}/m", "egraft::cli::unknown_format", &["m.pt", ".onnx"]),
        ("opt {M} --passes dce,fuze", "egraft::passes::unknown_pass", &["fuze", "egraft passes"]),
        ("opt {M} -O0 --stop-after fuse", "egraft::cli::passes", &["fuse"]),
        ("explain egraft::op::sise", "egraft::cli::unknown_code", &["egraft::op::sise"]),
        ("ops LayerNormalization", "egraft::cli::unknown_op", &["layer_norm"]),
        ("run {M} --entry train", "egraft::runner::unknown_entry", &["train", "main"]),
    ] {
        say(folder.path(), line).refused(code, words);
    }
    assert_eq!(names(folder.path()), [""; 0], "nothing is written");
    // The same of a text.
    say(folder.path(), "compile {M} -o {D}/m.ir --emit ir").succeeds();
    say(folder.path(), "compile {M} -o {D}/m.prog --emit prog").succeeds();
    for (line, code, words) in [
        ("compile {D}/m.ir -o {D}/m --dim n=4", "egraft::cli::unknown_dim", &["n", "batch"][..]),
        ("run {D}/m.ir --input-shape picture:1x8", "egraft::cli::unknown_input", &["picture", "image"]),
        ("check {D}/m.ir --input-shape image:1x8x8", "egraft::cli::input_shape", &["image", "4 axes"]),
        ("check {D}/m.ir --input-shape image:1x1x8x9", "egraft::cli::input_shape", &["image", "axis 3", "9"]),
        ("compile {D}/m.prog -o {D}/m --emit ir", "egraft::cli::emit", &["program"]),
        ("compile {D}/m.prog -o {D}/m --emit kir", "egraft::cli::emit", &["planned"]),
    ] {
        say(folder.path(), line).refused(code, words);
    }
}

#[test]
fn missing_files_are_named() {
    let folder = folder();
    for (line, code) in [
        ("compile {D}/gone.onnx -o {D}/m", "egraft::cli::read"),
        ("compile {D}/gone.kir -o {D}/m", "egraft::cli::read"),
        ("run {D}/gone.onnx", "egraft::cli::read"),
        ("run {D}/gone", "egraft::runtime::io"),
        ("run {M} {D}/gone.npy", "egraft::runner::read"),
        ("run {M} --input image={D}/gone.npy", "egraft::runner::read"),
        ("run {M} --inputs {D}/gone.npz", "egraft::runner::read"),
        ("verify {D}/gone.onnx", "egraft::cli::read"),
        ("verify {M} --data {D}/gone.npz", "egraft::runner::read"),
        ("check {D}/gone.onnx", "egraft::cli::read"),
        ("inspect {D}/gone.onnx", "egraft::cli::read"),
        ("inspect {D}/gone", "egraft::runtime::io"),
        ("opt {D}/gone.ir", "egraft::cli::read"),
        // A folder is no file either.
        ("run {D}", "egraft::runtime::io"),
    ] {
        let done = say(folder.path(), line).refused(code, &[]);
        let what = if line.contains("gone") { "gone" } else { "tmp" };
        assert!(done.err.contains(what), "{done}");
    }
    fs::create_dir(folder.path().join("folder.onnx")).expect("writable");
    say(folder.path(), "check {D}/folder.onnx").refused("egraft::cli::read", &[]);
}

// Output.

#[test]
fn outputs_that_cannot_be_written_leave_nothing() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("taken")).expect("writable");
    fs::write(at("file"), "x").expect("writable");
    fs::create_dir(at("notes")).expect("writable");
    fs::write(at("notes/mine.txt"), "x").expect("writable");
    for (line, code) in [
        ("compile {M} -o {D}/taken", "egraft::cli::output_folder"),
        ("compile {M} -o {D}/taken/", "egraft::cli::output_folder"),
        ("compile {M} -o {D}/taken --emit ir", "egraft::cli::output_folder"),
        ("compile {M} -o {D}/taken --emit lib", "egraft::cli::output_folder"),
        ("compile {M} -o {D}/nowhere/m", "egraft::cli::no_folder"),
        ("compile {M} -o {D}/file/m", "egraft::cli::no_folder"),
        ("opt {M} -o {D}/nowhere/m.ir", "egraft::cli::no_folder"),
        ("run {M} --outputs {D}/nowhere/y.npz", "egraft::runner::write"),
        ("run {M} --outputs {D}/y.csv", "egraft::runner::format"),
        ("compile {M} -o {D}/m --dump {D}/notes", "egraft::cli::not_a_dump"),
        ("compile {M} -o {D}/m --dump {D}/file", "egraft::cli::write"),
        ("compile {M} -o -", "egraft::cli::output_folder"),
    ] {
        say(folder.path(), line).refused(code, &[]);
        assert_eq!(names(folder.path()), ["file", "notes", "taken"], "{line}");
    }
    assert_eq!(names(&at("taken")), [""; 0]);
    assert_eq!(names(&at("notes")), ["mine.txt"]);
    assert_eq!(fs::read(at("file")).expect("it is there"), b"x");
    #[cfg(target_os = "linux")]
    say(folder.path(), "compile {M} -o /proc/model").refused("egraft::cli::write", &["/proc/model"]);
}

#[cfg(unix)]
#[test]
fn outputs_are_replaced_as_a_whole() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let (out, other) = (folder.path().join("m"), folder.path().join("other"));
    fs::write(&out, "what was there").expect("writable");
    fs::hard_link(&out, &other).expect("the system has hard links");
    // A compilation that fails leaves what was there.
    let bad = root().join("tests/data/onnx/invalid/cycle/model.onnx");
    call([OsStr::new("compile"), bad.as_os_str(), OsStr::new("-o"), out.as_os_str()]).exits(2);
    assert_eq!(fs::read(&out).expect("it is there"), b"what was there");
    // One that succeeds makes a new file: whoever has the old one open keeps it.
    say(folder.path(), "compile {M} -o {D}/m").succeeds();
    assert_eq!(fs::read(&other).expect("it is there"), b"what was there");
    let made = fs::metadata(&out).expect("it is there");
    assert!(made.len() > 100_000 && made.permissions().mode() & 0o100 != 0, "{made:?}");
    // So a program can be replaced while it runs, and a link stays a link.
    std::os::unix::fs::symlink(&out, folder.path().join("link")).expect("writable");
    say(folder.path(), "compile {M} -o {D}/link -O0").succeeds();
    assert!(fs::symlink_metadata(folder.path().join("link")).expect("it is there").is_symlink());
    let report = say(folder.path(), "inspect {D}/m --json").succeeds().json();
    assert_eq!(report["meta"]["options"]["level"], 0);
    assert_eq!(names(folder.path()), ["link", "m", "other"]);
}

#[test]
fn results_go_to_standard_output_and_nothing_else_does() {
    let folder = folder();
    let text = say(folder.path(), "compile {M} -o - --emit kir").succeeds().out;
    assert!(text.contains("program @") && text.contains("kernel @"), "{text}");
    let told = say(folder.path(), "compile {M} -o {D}/m --timing").succeeds().out;
    assert!(told.contains("executable") && told.contains("ms  fuse") && told.contains("in all"), "{told}");
    assert!(say(folder.path(), "compile {M} -o {D}/m.ir --emit ir").succeeds().out.is_empty());
    // What is random is said, but not among the results.
    let done = say(folder.path(), "run {M} --json").exits(0);
    done.json();
    assert_eq!(done.err, "note: input `image` f32[1, 1, 8, 8] is random (seed 0)\n");
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for args in [&["ops", "--markdown"][..], &["explain"], &["completions", "bash"], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("the system has pipes");
        drop(reader);
        let child = Command::new(egraft()).args(args).stdout(writer).stderr(Stdio::piped()).spawn();
        let done = child.and_then(|child| child.wait_with_output()).expect("it starts");
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), err.as_ref()), (Some(0), ""), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let child = Command::new(egraft()).args(["explain"]).stdout(full).stderr(Stdio::piped()).spawn();
    let done = child.and_then(|child| child.wait_with_output()).expect("it starts");
    let err = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{err}");
    assert!(err.contains("egraft::cli::stdout"), "{err}");
}

// JSON.

#[track_caller]
fn has_keys(value: &Value, keys: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("this is no object: {value}"));
    for key in keys {
        assert!(object.contains_key(*key), "`{key}` is missing in {value}");
    }
}

/// Kinds of kernels that tools may rely on.
const KINDS: [&str; 12] = [
    "attention",
    "route",
    "plan",
    "grouped_matmul",
    "combine",
    "matmul",
    "conv",
    "fused",
    "data",
    "sort",
    "scan",
    "other",
];

#[test]
fn compile_and_inspect_report_in_json() {
    let folder = folder();
    for line in ["compile {M} -o {D}/m --json", "inspect {M} --kernels --json"] {
        let report = say(folder.path(), line).succeeds().json();
        has_keys(
            &report,
            &["model", "target", "kernels", "peak_bytes", "weight_bytes", "passes", "rewrites"],
        );
        assert!(report["rewrites"].is_object() && report["weight_bytes"].is_u64(), "{report}");
        let kernels = report["kernels"].as_array().expect("a list");
        assert!(!kernels.is_empty());
        for kernel in kernels {
            has_keys(kernel, &["name", "kind", "origins", "rules", "flops", "bytes_read", "bytes_written"]);
            assert!(KINDS.iter().any(|kind| kernel["kind"] == *kind), "{kernel}");
            let is_size = |key: &str| kernel[key].is_u64() || kernel[key].is_string();
            assert!(["flops", "bytes_read", "bytes_written"].into_iter().all(is_size), "{kernel}");
            assert!(kernel["origins"].as_array().is_some_and(|origins| !origins.is_empty()), "{kernel}");
        }
        let passes = report["passes"].as_array().expect("a list");
        assert!(passes.len() > 5);
        for pass in passes {
            has_keys(pass, &["name", "ms", "changed"]);
            assert!(
                pass["ms"].as_f64().is_some_and(|ms| ms >= 0.0) && pass["changed"].is_boolean(),
                "{pass}"
            );
        }
    }
    // Sizes are numbers where they are known.
    let fixed = say(folder.path(), "inspect {M} --kernels --json --dim batch=4").succeeds().json();
    assert_eq!(fixed["kernels"][0]["bytes_written"], 4 * 16 * 64 * 4);
    assert_eq!(fixed["options"]["dims"]["batch"], 4);
    let symbolic = say(folder.path(), "inspect {M} --kernels --json").succeeds().json();
    assert_eq!(symbolic["kernels"][0]["bytes_written"], "4096*batch");
}

#[test]
fn every_reporting_verb_speaks_json() {
    let folder = folder();
    say(folder.path(), "compile {M} -o {D}/m").succeeds();
    for (line, keys) in [
        ("run {M} {I} --json", &["entry", "outputs"][..]),
        ("run {D}/m {I} --json", &["entry", "outputs"]),
        (
            "run {D}/m {I} --json --bench 2 --warmup 0",
            &["entry", "threads", "ms", "min", "median", "p90", "p99"],
        ),
        ("run {D}/m --json --inspect", &["header", "entries", "kernels", "weight_bytes", "meta"]),
        ("verify {M} --json", &["model", "ok", "cases"]),
        ("check {M} --json", &["model", "ok", "problems"]),
        (
            "inspect {M} --json",
            &["model", "blake3", "producer", "entries", "ops", "parameters", "weight_bytes"],
        ),
        ("inspect {D}/m --json", &["header", "entries", "kernels", "weights", "weight_bytes", "meta"]),
        ("explain egraft::op::size --json", &["code", "meaning", "remedy"]),
        ("explain --json", &["codes"]),
        ("ops --json", &["ops"]),
        ("ops conv --json", &["name", "operands", "attributes", "onnx"]),
        ("passes --json", &["passes", "pipelines"]),
        ("zoo list --json", &["models"]),
        ("compile {M} -o {D}/m.kir --emit kir --json", &["model", "output", "passes"]),
    ] {
        has_keys(&say(folder.path(), line).succeeds().json(), keys);
    }
    let outputs = say(folder.path(), "run {M} {I} --json").succeeds().json();
    let output = &outputs["outputs"][0];
    has_keys(output, &["name", "dtype", "shape", "values", "truncated"]);
    assert_eq!((&output["dtype"], output["values"].as_array().map(Vec::len)), (&"f32".into(), Some(10)));
}

// Help.

/// The options that each verb has, of those that users know from other tools.
const OPTIONS: [(&str, &str); 11] = [
    ("compile", "--output -o --emit --opt -O --dump --timing COMMON"),
    ("run", "--input --inputs --outputs --seed --bench --warmup --entry --inspect COMMON"),
    ("verify", "--data --through --against --atol --rtol --per-node --seed COMMON"),
    ("check", "COMMON"),
    ("inspect", "--kernels COMMON"),
    ("explain", "--json"),
    ("opt", "--passes --stop-after --start-from --print-after --output --timing COMMON"),
    ("ops", "--markdown --json"),
    ("passes", "--json"),
    ("zoo", "--json list build"),
    ("completions", "bash zsh fish"),
];

const COMMON: &str =
    "--target --mcpu --threads --dim --input-shape --fp --disable-rule --no-fallback --set --json";

#[test]
fn help_names_every_option() {
    let all = call(["--help"]).succeeds().out;
    for (verb, options) in OPTIONS {
        assert!(mentions(&all, verb), "{verb}:\n{all}");
        let help = call([verb, "--help"]).succeeds().out;
        let short = call([verb, "-h"]).succeeds().out;
        for option in options.replace("COMMON", COMMON).split_whitespace() {
            assert!(mentions(&help, option), "{verb} {option}:\n{help}");
            assert!(mentions(&short, option), "{verb} {option}:\n{short}");
        }
    }
    assert_eq!(call(["--version"]).succeeds().out, concat!("egraft ", env!("CARGO_PKG_VERSION"), "\n"));
    for code in ["0 success", "1 mismatch", "2 bad usage", "70"] {
        assert!(mentions(&all, code), "{code}:\n{all}");
    }
}

#[test]
fn an_artifact_knows_the_options_of_run() {
    let folder = folder();
    say(folder.path(), "compile {M} -o {D}/m").succeeds();
    let program = folder.path().join("m");
    let help = run(Command::new(&program).arg("--help")).succeeds().out;
    let of_run = call(["run", "--help"]).succeeds().out;
    let options =
        "--input --inputs --outputs --seed --dim --entry --threads --bench --warmup --json --inspect";
    for option in options.split_whitespace() {
        assert!(mentions(&help, option) && mentions(&of_run, option), "{option}");
    }
    run(Command::new(&program).args(["--thread", "2"])).refused("egraft::runner::usage", &["--threads"]);
    // What is about compiling is refused for what is compiled.
    for option in ["-O0", "--mcpu host", "--input-shape image:1x1x8x8", "--fp strict"] {
        say(folder.path(), &format!("run {{D}}/m {option}")).refused("egraft::runner::usage", &["compiling"]);
    }
}

#[test]
fn every_code_is_explained() {
    let all = call(["explain", "--json"]).succeeds().json();
    let codes = all["codes"].as_array().expect("a list");
    assert!(codes.len() > 50, "{}", codes.len());
    let listed = call(["explain"]).succeeds().out;
    for code in codes {
        let text = |key: &str| code[key].as_str().expect("a text").to_owned();
        assert!(text("meaning").len() > 15 && text("remedy").len() > 5, "{code}");
        assert!(listed.lines().any(|line| line.starts_with(&text("code"))), "{code}");
        let told = call(["explain", &text("code")]).succeeds().out;
        for part in [text("code"), text("meaning"), text("remedy")] {
            assert!(told.contains(&part), "`{part}` is not in it:\n{told}");
        }
    }
}

#[test]
fn the_reference_of_ops_is_up_to_date() {
    let written = fs::read_to_string(root().join("docs/ops.md")).expect("it is there");
    let told = call(["ops", "--markdown"]).succeeds().out;
    assert!(written == told, "docs/ops.md is old: write `egraft ops --markdown` to it");
    let lines = call(["ops"]).succeeds().out;
    assert!(lines.lines().count() > 80 && lines.contains("Conv"), "{lines}");
    let conv = call(["ops", "conv"]).succeeds().out;
    assert!(conv.contains("groups") || conv.contains("group"), "{conv}");
}

#[test]
fn passes_and_completions_are_listed() {
    let passes = call(["passes"]).succeeds().out;
    for pass in ["fold_constants", "canonicalize", "cse", "dce", "expand", "fuse", "schedule", "plan_memory"]
    {
        assert!(passes.lines().any(|line| line.starts_with(pass)), "{pass}:\n{passes}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = call(["completions", shell]).succeeds().out;
        assert!(
            ["egraft", "compile", "verify", "input-shape"].iter().all(|word| script.contains(word)),
            "{shell}"
        );
    }
}

// Choices that change what is made.

#[test]
fn sizes_can_be_fixed() {
    let folder = folder();
    for option in ["--dim batch=2", "--input-shape image:2x1x8x8"] {
        say(folder.path(), &format!("compile {{M}} -o {{D}}/m {option}")).succeeds();
        let report = say(folder.path(), "inspect {D}/m --json").succeeds().json();
        assert_eq!(report["entries"][0]["outputs"][0]["shape"], serde_json::json!(["2", "10"]), "{option}");
        say(folder.path(), "run {D}/m {I}").refused("egraft::runtime::dim", &["image", "axis 0", "1", "2"]);
        say(folder.path(), "run {D}/m").exits(0);
    }
    // A symbol of another name is a symbol.
    say(folder.path(), "compile {M} -o {D}/m --input-shape image:Nx1x8x8").succeeds();
    let report = say(folder.path(), "inspect {D}/m --json").succeeds().json();
    assert_eq!(report["entries"][0]["symbols"], serde_json::json!(["N"]));
    say(folder.path(), "run {D}/m --dim N=5").exits(0);
}

#[test]
fn opt_runs_chosen_passes() {
    let folder = folder();
    let whole = say(folder.path(), "opt {M}").succeeds().out;
    assert!(whole.contains("program @") && whole.contains("arena"), "{whole}");
    let graph = say(folder.path(), "opt {M} --stop-after cse").succeeds().out;
    assert!(graph.contains("graph @") && graph.contains("relu"), "{graph}");
    let lowered = say(folder.path(), "opt {M} --stop-after to_stages").succeeds().out;
    assert!(lowered.contains("stages"), "{lowered}");
    let one = say(folder.path(), "opt {M} --passes expand").succeeds().out;
    assert!(!one.contains("= relu"), "relu is a composite op:\n{one}");
    let printed = say(folder.path(), "opt {M} --print-after fuse --print-after schedule").succeeds().out;
    assert!(printed.starts_with("; after fuse") && printed.contains("\n; after schedule"), "{printed}");
    let timed = say(folder.path(), "opt {M} --timing").succeeds().out;
    assert!(timed.starts_with(&whole) && timed.contains("ms  plan_memory"), "{timed}");
    // Written, it goes on where it ended.
    say(folder.path(), "opt {M} --stop-after to_stages -o {D}/m.kir").succeeds();
    assert_eq!(names(folder.path()), ["m.kir", "weights.bin"]);
    assert_eq!(say(folder.path(), "opt {D}/m.kir").succeeds().out, whole);
    say(folder.path(), "opt {M} --stop-after cse -o {D}/m.ir").succeeds();
    assert_eq!(say(folder.path(), "opt {D}/m.ir").succeeds().out, whole);
    say(folder.path(), "opt {D}/m.kir --start-from expand --stop-after expand").exits(2);
}

// Verify.

#[test]
fn verify_compares_with_data_and_reference() {
    let folder = folder();
    let with = |model: &str, options: &str| {
        let line = format!("verify {} {options}", self::model(model).display());
        say(folder.path(), &line)
    };
    let told = with("cnn_small", "").succeeds().out;
    assert!(told.contains("ok") && told.contains("the reference"), "{told}");
    let data = case("cnn_small").display().to_string();
    let told = with("cnn_small", &format!("--data {data} --through exe --rtol 1e-3")).succeeds().out;
    assert!(told.contains("set_0: ok") && told.contains("the data"), "{told}");
    with("mlp_gelu", "--per-node").succeeds();
    let report = with("mlp_relu", &format!("--json --data {}", case("mlp_relu").display())).succeeds().json();
    assert_eq!((report["cases"].as_array().map(Vec::len), &report["ok"]), (Some(3), &true.into()));

    // Wrong data is a mismatch, and what is most wrong is shown.
    let image = say(folder.path(), "run {M} {I} --outputs {D}/y.npz");
    image.succeeds();
    let y = runner::files::read_all(&folder.path().join("y.npz")).unwrap_or_else(|e| panic!("{e}"));
    let x =
        runner::files::read_one(&root().join("models/zoo/digits/3.npy")).unwrap_or_else(|e| panic!("{e}"));
    let mut wrong = egraft::tensors::from_file(&y[0].1).to_f64();
    wrong[7] += 0.5;
    let wrong: Vec<f32> = wrong.into_iter().map(|value| value as f32).collect();
    let wrong = egraft::tensors::to_file(&Tensor::from_f32(&[1, 10], &wrong)).expect("it is small");
    let file = folder.path().join("wrong.safetensors");
    runner::files::write_all(&file, &[("image", &x), ("probabilities", &wrong)]).expect("writable");
    let done = say(folder.path(), "verify {M} --data {D}/wrong.safetensors").exits(1);
    assert!(done.out.contains("1 of 10 elements") && done.out.contains("[0, 7]"), "{done}");
    assert_eq!(done.err, "");
    let done = say(folder.path(), "verify {M} --data {D}/wrong.safetensors --json").exits(1);
    let report = done.json();
    assert_eq!(report["ok"], false);
    assert_eq!(report["cases"][0]["outputs"][0]["worst"]["index"], serde_json::json!([0, 7]));
    // Tolerances are what is asked for, and the reference may be asked instead.
    say(folder.path(), "verify {M} --data {D}/wrong.safetensors --atol 0.6").succeeds();
    say(folder.path(), "verify {M} --data {D}/wrong.safetensors --against reference").succeeds();
    say(folder.path(), "verify {M} --data {D}").refused("egraft::cli::no_data", &["image"]);
}

// Inputs at run time.

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    say(folder.path(), "compile {M} -o {D}/m").succeeds();
    save(
        &at("double.npy"),
        &Tensor::from_fn(DType::F64, &[1, 1, 8, 8], |_| ir::Scalar::from_f64(DType::F64, 0.5)),
    );
    save(
        &at("bytes.npy"),
        &Tensor::from_fn(DType::U8, &[1, 1, 8, 8], |_| ir::Scalar::from_i64(DType::U8, 1)),
    );
    save(&at("flat.npy"), &Tensor::from_f32(&[64], &[0.0; 64]));
    save(&at("wide.npy"), &Tensor::from_f32(&[1, 1, 8, 9], &[0.0; 72]));
    save(&at("good.npy"), &Tensor::from_f32(&[2, 1, 8, 8], &[0.0; 128]));
    let good = runner::files::read_one(&at("good.npy")).unwrap_or_else(|error| panic!("{error}"));
    runner::files::write_all(&at("other.npz"), &[("picture", &good)]).expect("writable");
    runner::files::write_all(&at("both.safetensors"), &[("image", &good), ("x", &good)]).expect("writable");
    for (options, code, words) in [
        ("{D}/double.npy", "egraft::runtime::dtype", &["image", "f64", "f32"][..]),
        ("{D}/bytes.npy", "egraft::runtime::dtype", &["image", "u8", "f32"]),
        ("{D}/flat.npy", "egraft::runtime::rank", &["image", "rank 1", "expected 4"]),
        ("{D}/wide.npy", "egraft::runtime::dim", &["image", "axis 3", "9", "expected 8"]),
        ("--input picture={D}/good.npy", "egraft::runner::unknown_input", &["picture", "image"]),
        ("--inputs {D}/other.npz", "egraft::runner::unknown_input", &["picture", "image"]),
        ("--inputs {D}/both.safetensors", "egraft::runner::unknown_input", &["x", "image"]),
        ("--input image={D}/good.npy --input image={D}/good.npy", "duplicate_input", &["image"]),
        ("--input image={D}/good.npy {D}/good.npy", "egraft::runner::files", &["1", "0"]),
        ("{D}/good.npy --dim batch=3", "egraft::runner::dim_conflict", &["batch", "3", "2"]),
        ("--dim n=3", "egraft::runner::unknown_dim", &["n", "batch"]),
        ("--dim batch=9000000000000000000", "egraft::runner::random_input", &["image"]),
        ("{D}/good.npy {D}/good.npy --bench 3", "egraft::runner::usage", &["2 runs", "--bench"]),
        ("{D}/both.safetensors", "egraft::runner::format", &["both.safetensors", ".npy"]),
    ] {
        let of_artifact = format!("run {{D}}/m {options}");
        say(folder.path(), &of_artifact).refused(code, words);
        // A model has no symbol left that `--dim` did not fix: it says so earlier.
        if !options.contains("--dim") {
            say(folder.path(), &format!("run {{M}} {options}")).refused(code, words);
        }
        let args: Vec<String> = options
            .split_whitespace()
            .map(|word| word.replace("{D}", &folder.path().display().to_string()))
            .collect();
        run(Command::new(at("m")).args(args)).refused(code, words);
    }
    say(folder.path(), "run {D}/m {D}/good.npy --dim batch=2").succeeds();
}

// Damaged files.

/// Bytes that are not what they should be: cut at several places, and random.
fn spoiled(good: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut random = Random::new(good.len() as u64);
    let mut all: Vec<(String, Vec<u8>)> = [0, 1, 7, good.len() / 3, good.len() / 2, good.len() * 9 / 10]
        .into_iter()
        .map(|len| (format!("cut to {len} bytes"), good[..len].to_vec()))
        .collect();
    for len in [1, 16, 300, 5000] {
        all.push((format!("{len} random bytes"), (0..len).map(|_| random.bits() as u8).collect()));
    }
    all.push(("zeros".to_owned(), vec![0; 4096]));
    all
}

#[test]
fn damaged_models_are_refused() {
    let folder = folder();
    let dump = folder.path().join("dump");
    say(folder.path(), "compile {M} -o {D}/m --dump {D}/dump").succeeds();
    fs::remove_file(folder.path().join("m")).expect("it was written");
    let find = |extension: &str| {
        let name = names(&dump).into_iter().find(|name| name.ends_with(extension)).expect("it was dumped");
        dump.join(name)
    };
    let good = [
        ("onnx", digits()),
        ("ir", find(".ir")),
        ("kir", find(".kir")),
        ("prog", find(".prog")),
        ("bin", dump.join("weights.bin")),
    ];
    let place = folder.path().join("bad");
    fs::create_dir(&place).expect("writable");
    fs::copy(find(".ir"), place.join("whole.ir")).expect("writable");
    let mut count = 0;
    for (extension, good) in good {
        for (what, bytes) in spoiled(&fs::read(&good).expect("it is there")) {
            let is_weights = extension == "bin";
            let bad =
                if is_weights { place.join("weights.bin") } else { place.join(format!("m.{extension}")) };
            fs::write(&bad, &bytes).expect("writable");
            if !is_weights {
                fs::copy(dump.join("weights.bin"), place.join("weights.bin")).expect("writable");
            }
            let model = if is_weights { place.join("whole.ir") } else { bad };
            let model = model.display();
            let verbs = [
                format!("check {model}"),
                format!("compile {model} -o {{D}}/out"),
                format!("run {model}"),
                format!("opt {model}"),
            ];
            // One of the verbs for each is enough: they read models in one way.
            let done = say(folder.path(), &verbs[count % verbs.len()]);
            assert!(done.code == Some(2) && done.err.contains("egraft::"), "{extension} {what}: {done}");
            done.exits(2);
            assert_eq!(names(folder.path()), ["bad", "dump"], "{extension} {what}");
            count += 1;
        }
    }
    println!("{count} damaged models refused");
}

#[test]
fn damaged_tensors_are_refused() {
    let folder = folder();
    let x =
        runner::files::read_one(&root().join("models/zoo/digits/3.npy")).unwrap_or_else(|e| panic!("{e}"));
    let mut count = 0;
    for extension in ["npy", "npz", "safetensors"] {
        let (good, bad) = (folder.path().join("good").with_extension(extension), folder.path().join("bad"));
        let bad = bad.with_extension(extension);
        match extension {
            "npy" => drop(fs::copy(root().join("models/zoo/digits/3.npy"), &good).expect("writable")),
            _ => runner::files::write_all(&good, &[("image", &x)]).expect("writable"),
        }
        for (what, bytes) in spoiled(&fs::read(&good).expect("it is there")) {
            fs::write(&bad, &bytes).expect("writable");
            let option = if extension == "npy" { "" } else { "--inputs" };
            let done = say(folder.path(), &format!("run {{M}} {option} {{D}}/bad.{extension}"));
            assert!(done.code == Some(2), "{what}: {done}");
            done.refused(&format!("egraft::runner::{extension}"), &[]);
            count += 1;
        }
    }
    println!("{count} damaged files of tensors refused");
}

/// The same text with something changed: a character, a number, a word, a line.
fn changed_text(text: &str, random: &mut Random) -> String {
    const NUMBERS: [&str; 8] =
        ["0", "1", "-1", "3", "4294967296", "1099511627776", "9223372036854775807", "1e999"];
    let mut pick = |count: usize| (random.bits() % count.max(1) as u64) as usize;
    let lines: Vec<&str> = text.lines().collect();
    let row = pick(lines.len());
    let words: Vec<&str> = lines[row].split_inclusive([' ', ',', '(', ')', '[', ']', ':']).collect();
    let (word, other) = (pick(words.len()), pick(words.len()));
    let mut changed = lines[row].to_owned();
    match pick(6) {
        0 => return [&lines[..row], &lines[row + 1..]].concat().join("\n"),
        1 => return [&lines[..row], &[lines[pick(lines.len())]], &lines[row..]].concat().join("\n"),
        2 if !words.is_empty() => {
            let mut words = words;
            words.swap(word, other);
            changed = words.concat();
        }
        3 if !words.is_empty() => {
            let mut words = words;
            words[word] = words[other];
            changed = words.concat();
        }
        // The first number of the line from some place on.
        4 => {
            let from = words[..word].iter().map(|word| word.len()).sum::<usize>();
            if let Some(at) = changed[from..].find(|c: char| c.is_ascii_digit()) {
                let at = from + at;
                let end =
                    changed[at..].find(|c: char| !c.is_ascii_digit()).map_or(changed.len(), |len| at + len);
                changed.replace_range(at..end, NUMBERS[pick(NUMBERS.len())]);
            }
        }
        _ => {
            let at = changed.char_indices().nth(pick(changed.chars().count())).map(|(at, _)| at);
            if let Some(at) = at {
                let character = char::from(b' ' + pick(95) as u8);
                changed.replace_range(
                    at..at + changed[at..].chars().next().map_or(0, char::len_utf8),
                    &character.to_string(),
                );
            }
        }
    }
    [&lines[..row], &[changed.as_str()], &lines[row + 1..]].concat().join("\n")
}

/// The same bytes with a few changed.
fn changed_bytes(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..1 + random.bits() % 3 {
        let at = random.bits() as usize % changed.len();
        changed[at] = match random.bits() % 3 {
            0 => bytes[random.bits() as usize % bytes.len()],
            1 => bytes[at] ^ 1 << (random.bits() % 8),
            _ => random.bits() as u8,
        };
    }
    changed
}

/// How often each file is changed.
const ROUNDS: usize = 60;

/// Models in any form with a few things changed are compiled or refused. In this process, so that they can be many.
#[test]
fn changed_models_never_panic() {
    let folder = folder();
    let mut sources = Vec::new();
    for name in ["cnn_small", "mlp_gelu", "functions_nested", "shape_split_heads"] {
        let dump = folder.path().join(name);
        let line = format!("compile {} -o {{D}}/m --dump {}", model(name).display(), dump.display());
        say(folder.path(), &line).succeeds();
        fs::copy(model(name), dump.join("model.onnx")).expect("writable");
        for extension in [".onnx", ".ir", "to_stages.kir", "schedule.kir", ".prog"] {
            let of_kind = names(&dump).into_iter().rfind(|name| name.ends_with(extension));
            sources.push(dump.join(of_kind.unwrap_or_else(|| panic!("there is no {extension} of {name}"))));
        }
    }
    let mut random = Random::new(11);
    let (mut good, mut refused, mut wrong) = (0, 0, Vec::new());
    for source in sources {
        let bytes = fs::read(&source).expect("it is there");
        let extension = source.extension().and_then(OsStr::to_str).expect("they have one");
        // Beside the original: that is where weights are.
        let path = source.with_file_name(format!("changed.{extension}"));
        for _ in 0..ROUNDS {
            let changed = match std::str::from_utf8(&bytes).ok().filter(|_| extension != "onnx") {
                Some(text) => changed_text(text, &mut random).into_bytes(),
                None => changed_bytes(&bytes, &mut random),
            };
            fs::write(&path, &changed).expect("writable");
            let options = Options { verify: true, ..Options::default() };
            let compiled = std::panic::catch_unwind(|| {
                egraft::load(&path, &options).and_then(|model| egraft::compile(model, &options, &mut ()))
            });
            let why = match compiled {
                Ok(Ok(_)) => {
                    good += 1;
                    continue;
                }
                Ok(Err(error)) if error.kind() != ErrorKind::Bug => {
                    refused += 1;
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panics".to_owned(),
            };
            let what = source.strip_prefix(folder.path()).unwrap_or(&source).display();
            let difference = String::from_utf8_lossy(&changed)
                .lines()
                .zip(String::from_utf8_lossy(&bytes).lines())
                .find(|(is, was)| is != was)
                .map(|(is, was)| format!("  was {was}\n  is  {is}"));
            wrong.push(format!("{what}: {why}\n{}", difference.unwrap_or_default()));
        }
    }
    println!("{good} changed models compile, {refused} are refused");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(good > 20 && refused > 100, "both should be common: {good} and {refused}");
}

// External data.

/// Copies the model with external data: `weights_a.bin`, `data/weights_b.bin`, `data/bias.bin`.
fn with_external_data(folder: &Path) {
    let from = case("external_data");
    fs::create_dir_all(folder.join("data")).expect("writable");
    for file in ["model.onnx", "weights_a.bin", "data/weights_b.bin", "data/bias.bin"] {
        fs::copy(from.join(file), folder.join(file)).expect("it is there");
    }
}

#[test]
fn external_data_stays_inside_its_folder() {
    let folder = folder();
    let place = folder.path().join("model");
    with_external_data(&place);
    let check = |line: &str| say(folder.path(), line);
    check("check {D}/model/model.onnx").succeeds();
    let expected = format!("verify {{D}}/model/model.onnx --data {}", case("external_data").display());
    check(&expected).succeeds();
    for invalid in ["external_parent", "external_parent_inside", "external_absolute"] {
        let model = root().join("tests/data/onnx/invalid").join(invalid).join("model.onnx");
        call([OsStr::new("check"), model.as_os_str()]).refused("egraft::onnx::external_path", &["w"]);
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed_inside_only() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let check = |line: &str| say(folder.path(), line);

    // Out of the folder: a file, a folder, and a link behind a link.
    for escape in ["file", "data", "twice"] {
        let place = at(escape);
        with_external_data(&place);
        let outside = at(&format!("outside-{escape}"));
        fs::create_dir(&outside).expect("writable");
        match escape {
            "data" => {
                fs::rename(place.join("data"), outside.join("data")).expect("writable");
                symlink(outside.join("data"), place.join("data")).expect("writable");
            }
            _ => {
                fs::rename(place.join("weights_a.bin"), outside.join("w")).expect("writable");
                if escape == "twice" {
                    symlink(outside.join("w"), place.join("data/inner")).expect("writable");
                    symlink("data/inner", place.join("weights_a.bin")).expect("writable");
                } else {
                    symlink(outside.join("w"), place.join("weights_a.bin")).expect("writable");
                }
            }
        }
        let done = check(&format!("check {{D}}/{escape}/model.onnx"));
        done.refused("egraft::onnx::external_path", &["link"]);
    }

    // Inside of the folder.
    let place = at("inside");
    with_external_data(&place);
    fs::rename(place.join("weights_a.bin"), place.join("data/a")).expect("writable");
    symlink("data/a", place.join("weights_a.bin")).expect("writable");
    check("check {D}/inside/model.onnx").succeeds();

    // As model hubs do it: snapshots of links into a folder of blobs.
    let (snapshot, blobs) = (at("hub/snapshots/abc"), at("hub/blobs"));
    with_external_data(&snapshot);
    fs::create_dir_all(&blobs).expect("writable");
    for (blob, file, up) in [
        ("1f", "model.onnx", "../.."),
        ("2a", "weights_a.bin", "../.."),
        ("3b", "data/weights_b.bin", "../../.."),
        ("4c", "data/bias.bin", "../../.."),
    ] {
        fs::rename(snapshot.join(file), blobs.join(blob)).expect("writable");
        symlink(format!("{up}/blobs/{blob}"), snapshot.join(file)).expect("writable");
    }
    check("check {D}/hub/snapshots/abc/model.onnx").succeeds();
    let line = "verify {D}/hub/snapshots/abc/model.onnx --data";
    check(&format!("{line} {}", case("external_data").display())).succeeds();
    // A blob that is a link out of the hub is an escape, too.
    let outside = at("outside-hub");
    fs::rename(blobs.join("2a"), &outside).expect("writable");
    symlink(&outside, blobs.join("2a")).expect("writable");
    check("check {D}/hub/snapshots/abc/model.onnx").refused("egraft::onnx::external_path", &["link"]);
}

// Diagnostics.

#[test]
fn diagnostics_point_into_the_model() {
    let folder = folder();
    // A text: the place in it.
    let bad = folder.path().join("m.ir");
    fs::write(&bad, "graph @g(%x: f32[n, 4]) -> f32[n, 4] {\n  %0 = reluu %x : f32[n, 4]\n  return %0\n}\n")
        .expect("writable");
    let done = say(folder.path(), "check {D}/m.ir").exits(2);
    for part in ["m.ir:2", "%0 = reluu %x", "egraft::", "egraft explain"] {
        assert!(done.err.contains(part), "`{part}` is not in it: {done}");
    }
    // An ONNX model: the node, its op and the file; no colours where no terminal is.
    let model = root().join("tests/data/onnx/invalid/matmul_sizes_differ/model.onnx");
    let done =
        call([OsStr::new("check"), model.as_os_str()]).refused("egraft::op::size", &["matmul", "MatMul"]);
    assert!(done.err.contains("model.onnx") && !done.err.contains('\u{1b}'), "{done}");
}

#[test]
fn names_from_files_cannot_move_the_cursor() {
    let folder = folder();
    let bad = folder.path().join("m.ir");
    fs::write(&bad, "graph @g(%x: f32[n]) -> f32[n] {\n  \u{1b}[2J\u{7}\n}\n").expect("writable");
    let done = say(folder.path(), "check {D}/m.ir").exits(2);
    assert!(!done.err.contains(['\u{1b}', '\u{7}']), "{done}");
}
