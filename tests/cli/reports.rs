//! What commands print: JSON with the keys that tools rely on, help that names every option, explanations.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Command;

use harness::program::{call, egraft, mentions, run};
use harness::root;
use serde_json::Value;

use crate::{digits, folder, say};

#[track_caller]
fn has_keys(value: &Value, keys: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("this is no object: {value}"));
    for key in keys {
        assert!(object.contains_key(*key), "`{key}` is missing in {value}");
    }
}

/// Kinds of kernels that tools may rely on.
const KINDS: [&str; 11] = [
    "attention",
    "route",
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

/// With an axis of choices (Mixtral) and without (Switch).
#[test]
fn inspect_says_how_many_experts_a_token_meets() {
    for (case, chosen, count) in [("mixtral_index_add", 2, 6), ("switch_index_copy", 1, 6)] {
        let model = root().join("tests/golden/spellings").join(case).join("model.onnx");
        let report = call(["inspect", &model.display().to_string(), "--kernels", "--json"]).succeeds().json();
        let kernels = report["kernels"].as_array().expect("a list");
        let experts: Vec<&Value> =
            kernels.iter().map(|kernel| &kernel["experts"]).filter(|e| !e.is_null()).collect();
        assert_eq!(experts.len(), 2, "{case}: {report}");
        for experts in experts {
            assert_eq!([&experts["chosen"], &experts["count"]], [chosen, count], "{case}");
            let [sparse, dense] =
                [&experts["flops"], &experts["flops_dense"]].map(|n| n.as_i64().expect("a number"));
            assert_eq!(sparse * count, dense * chosen, "{case}");
        }
    }
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
        ("check {M} --json", &["model", "ok", "problems", "lints"]),
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
        ("rules --json", &["rules"]),
        (
            "explain {M} --json",
            &["model", "options", "kernels", "missed", "not_allowed", "rewrites", "launches"],
        ),
        ("zoo list --json", &["models"]),
        ("zoo show digits --json", &["name", "status", "settings", "inputs", "outputs", "weights"]),
        ("compile {M} -o {D}/m.kir --emit kir --json", &["model", "output", "passes"]),
    ] {
        has_keys(&say(folder.path(), line).succeeds().json(), keys);
    }
    let outputs = say(folder.path(), "run {M} {I} --json").succeeds().json();
    let output = &outputs["outputs"][0];
    has_keys(output, &["name", "dtype", "shape", "values", "truncated"]);
    assert_eq!((&output["dtype"], output["values"].as_array().map(Vec::len)), (&"f32".into(), Some(10)));
}

/// Names of files are bytes, JSON is text.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_are_shown_as_well_as_they_can() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder();
    let (model, out) = (OsStr::from_bytes(b"m\xff.onnx"), OsStr::from_bytes(b"a\xff"));
    fs::copy(digits(), folder.path().join(model)).expect("writable");
    let egraft =
        |args: &[&OsStr]| run(Command::new(egraft()).current_dir(folder.path()).args(args)).succeeds();
    for emit in ["exe", "obj", "ir"] {
        let args = [
            "compile".as_ref(),
            model,
            "-o".as_ref(),
            out,
            "--json".as_ref(),
            "--emit".as_ref(),
            emit.as_ref(),
        ];
        let report = egraft(&args).json();
        assert_eq!((&report["output"], &report["model"]), (&"a\u{fffd}".into(), &"m\u{fffd}.onnx".into()));
        assert!(fs::metadata(folder.path().join(out)).expect("it was written").len() > 1000);
    }
    egraft(&["check".as_ref(), model, "--json".as_ref()]).json();
    egraft(&["inspect".as_ref(), model, "--kernels".as_ref(), "--json".as_ref()]).json();
}

/// The options that each verb has, of those that users know from other tools.
const OPTIONS: [(&str, &str); 13] = [
    ("compile", "--output -o --emit --opt -O --dump --timing COMMON"),
    ("run", "--input --inputs --outputs --seed --bench --warmup --entry --inspect COMMON"),
    ("verify", "--data --through --against --atol --rtol --per-node --bisect --seed COMMON"),
    ("bench", "--input --inputs --seed --entry --warmup --iters --against --python --profile COMMON"),
    ("check", "COMMON"),
    ("inspect", "--kernels COMMON"),
    ("explain", "COMMON"),
    ("opt", "--passes --stop-after --start-from --print-after --output --timing COMMON"),
    ("ops", "--markdown --json"),
    ("passes", "--json"),
    ("rules", "--json"),
    ("zoo", "--json list show build"),
    ("completions", "bash zsh fish"),
];

const COMMON: &str =
    "--target --mcpu --threads --dim --input-shape --fp --disable-rule --no-fallback --set --params --json";

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
fn the_page_of_built_in_models_and_its_pictures_are_up_to_date() {
    let again = "`egraft zoo list --markdown --pictures docs/zoo > docs/zoo.md`";
    let folder = folder();
    let told = say(folder.path(), "zoo list --markdown --pictures {D}/zoo").succeeds().out;
    let written = fs::read_to_string(root().join("docs/zoo.md")).expect("it is there");
    assert!(written == told, "docs/zoo.md is old: {again}");
    let pictures = |folder: &Path| -> BTreeMap<OsString, String> {
        let files = fs::read_dir(folder).expect("it is there").map(|file| file.expect("readable"));
        files.map(|file| (file.file_name(), fs::read_to_string(file.path()).expect("a text"))).collect()
    };
    let [written, drawn] =
        [root().join("docs"), folder.path().to_owned()].map(|folder| pictures(&folder.join("zoo")));
    assert!(written == drawn, "docs/zoo is old: {again}");
    for (name, picture) in &drawn {
        assert!(picture.len() < 48_000, "{}: {} bytes are no small picture", name.display(), picture.len());
    }
}

#[test]
fn passes_and_completions_are_listed() {
    let passes = call(["passes"]).succeeds().out;
    for pass in [
        "read_stored",
        "fold_constants",
        "canonicalize",
        "cse",
        "dce",
        "expand",
        "fuse",
        "schedule",
        "plan_memory",
    ] {
        assert!(passes.lines().any(|line| line.starts_with(pass)), "{pass}:\n{passes}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = call(["completions", shell]).succeeds().out;
        assert!(
            ["egraft", "compile", "verify", "bench", "rules", "bisect", "input-shape"]
                .iter()
                .all(|word| script.contains(word)),
            "{shell}"
        );
    }
}
