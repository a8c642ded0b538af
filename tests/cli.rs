//! The command line from outside: exit codes, streams, JSON, what is refused and how, and that no input makes it
//! panic.

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/bisect.rs"]
mod bisect;
#[path = "cli/cuda.rs"]
mod cuda;
#[path = "cli/damaged.rs"]
mod damaged;
#[path = "cli/edit.rs"]
mod edit;
#[path = "cli/experts.rs"]
mod experts;
#[path = "cli/explain.rs"]
mod explain;
#[path = "cli/export.rs"]
mod export;
#[path = "cli/external.rs"]
mod external;
#[path = "cli/lint.rs"]
mod lint;
#[path = "cli/lists.rs"]
mod lists;
#[path = "cli/reports.rs"]
mod reports;
#[path = "cli/states.rs"]
mod states;
#[path = "cli/tract.rs"]
mod tract;
#[path = "cli/verify.rs"]
mod verify;
#[path = "cli/zoo.rs"]
mod zoo;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::program::{Done, call, egraft, run};
use harness::root;
use ir::{DType, Tensor};
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

/// The Python that egraft would start, if it has onnxruntime.
fn python_with_onnxruntime() -> Option<String> {
    let python = std::env::var("EGRAFT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", "import onnxruntime"]).output();
    has.is_ok_and(|done| done.status.success()).then_some(python)
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
        ("compile {M} -o {D}/m --disable-rule no-such-rule", "egraft::cli::unknown_rule", &["no-such-rule"]),
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

#[test]
fn a_model_is_not_replaced_by_what_is_made_of_it() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::copy(digits(), at("m.onnx")).expect("writable");
    say(folder.path(), "opt {D}/m.onnx -o {D}/m.ir").exits(0);
    let before = [fs::read(at("m.onnx")).expect("it is there"), fs::read(at("m.ir")).expect("it is there")];
    let files = names(folder.path());
    for line in [
        "compile {D}/m.onnx -o {D}/m.onnx",
        "compile {D}/m.onnx -o {D}/./m.onnx --emit lib",
        "compile {D}/m.ir -o {D}/m.ir --emit ir",
        "opt {D}/m.ir -o {D}/m.ir",
        // The header of this library would have its name.
        "compile {D}/m.onnx -o {D}/m.h --emit lib",
    ] {
        say(folder.path(), line).refused("egraft::cli::same_file", &[]);
        assert_eq!(names(folder.path()), files, "{line}");
    }
    let after = [fs::read(at("m.onnx")).expect("it is there"), fs::read(at("m.ir")).expect("it is there")];
    assert!(before == after);
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

/// What is used before it is defined is an error, also where it is used in its own definition.
#[test]
fn nothing_is_made_of_itself() {
    let folder = folder();
    let graph = "graph @g(%x: f32[n]) -> f32[n] {\n  %0 = relu %0 : f32[n]\n  return %x\n}\n";
    let kernel = |body: &str| {
        format!(
            "program @p {{\n  kernel @k kind=fused [](%x: f32[4], %y: write f32[4]) loops {{\n    {body}\n    \
             for i0 in 0..4 {{\n      %y[i0] = %x[i0]\n    }}\n  }}\n  entry @main(%x: f32[4]) -> (%y: f32[4]) \
             {{\n    call @k(%x, %y) []\n  }}\n}}\n"
        )
    };
    fs::write(folder.path().join("good.kir"), kernel("let %a = 1.0")).expect("writable");
    say(folder.path(), "check {D}/good.kir").succeeds();
    for (name, text) in [
        ("node.ir", graph.to_owned()),
        ("let.kir", kernel("let %a = %a + 1.0")),
        ("var.kir", kernel("var %a = %a + 1.0")),
        ("set.kir", kernel("set %a = %a + 1.0")),
        ("set_only.kir", kernel("set %a = 1.0")),
    ] {
        fs::write(folder.path().join(name), text).expect("writable");
        let done = say(folder.path(), &format!("check {{D}}/{name}")).exits(2);
        assert!(done.err.contains("not defined") || done.err.contains("no variable"), "{done}");
    }
}

#[test]
fn names_from_files_cannot_move_the_cursor() {
    let folder = folder();
    let bad = folder.path().join("m.ir");
    fs::write(&bad, "graph @g(%x: f32[n]) -> f32[n] {\n  \u{1b}[2J\u{7}\n}\n").expect("writable");
    let done = say(folder.path(), "check {D}/m.ir").exits(2);
    assert!(!done.err.contains(['\u{1b}', '\u{7}']), "{done}");
}
