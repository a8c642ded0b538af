//! `egraft bench`: what it reports, what it writes, and what it refuses. No time decides a test.

use std::fs;
use std::path::Path;

use harness::program::{call, run};
use serde_json::Value;

use crate::{folder, names, python_with_onnxruntime, say};

/// The report of a bench that must succeed; notes on random inputs are all it may say else.
#[track_caller]
fn report(folder: &Path, line: &str) -> Value {
    let done = say(folder, line).exits(0);
    assert!(done.err.lines().all(|line| line.starts_with("note: input `")), "{done}");
    done.json()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("`{key}` is no list in {value}"))
}

#[track_caller]
fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("`{key}` is no number in {value}"))
}

fn sum(values: &[Value], key: &str) -> f64 {
    values.iter().map(|value| number(value, key)).sum()
}

#[test]
fn a_model_and_its_artifact_are_timed_kernel_by_kernel() {
    let folder = folder();
    say(folder.path(), "compile {M} -o {D}/m").succeeds();
    let launches = say(folder.path(), "inspect {M} --kernels --json").succeeds().json();
    let steps = list(&launches, "kernels").len();
    for what in ["{M} --dim batch=3", "{D}/m --dim batch=3", "{M} {I} --threads 2"] {
        let report = report(folder.path(), &format!("bench {what} --iters 7 --warmup 1 --json"));
        assert_eq!((&report["runs"], &report["warmup"]), (&7.into(), &1.into()));
        assert_eq!((&report["entry"], &report["against"]), (&"main".into(), &Value::Null));
        let latency = ["min", "median", "p90", "p99"].map(|name| number(&report["latency_ms"], name));
        assert!(latency.is_sorted() && latency[0] > 0.0 && number(&report["latency_ms"], "mean") > 0.0);
        for figure in ["fma_gflops", "read_gbps", "read_bytes"] {
            assert!(number(&report["machine"], figure) > 0.0, "{figure}");
        }
        let profile = &report["profile"];
        let (kernels, of_steps) = (list(profile, "kernels"), list(profile, "steps"));
        assert_eq!((of_steps.len(), sum(kernels, "calls")), (steps, steps as f64), "{what}");
        for rows in [kernels, of_steps] {
            assert!(rows.iter().all(|row| number(row, "mean_ms") >= 0.0 && number(row, "median_ms") >= 0.0));
            assert!(rows.iter().all(|row| (0.0..=1.0).contains(&number(row, "share"))), "{profile}");
            // Rounding apart: kernels run inside of runs, one after the other.
            assert!(sum(rows, "mean_ms") <= number(profile, "mean_ms") * (1.0 + 1e-9), "{profile}");
        }
        // The costs are those that `inspect` tells. What is compiled for one size may keep weights in another layout,
        // so bytes are those of the same compilation.
        let batch = if what.contains("=3") { 3 } else { 1 };
        let line = format!("inspect {{M}} --kernels --json --dim batch={batch}");
        let fixed = say(folder.path(), &line).succeeds().json();
        for (step, launch) in of_steps.iter().zip(list(&fixed, "kernels")) {
            for key in ["name", "kind", "origins"] {
                assert_eq!(step[key], launch[key], "{what}");
            }
            assert_eq!(number(step, "flops"), number(launch, "flops"), "{what}");
            let bytes = number(launch, "bytes_read") + number(launch, "bytes_written");
            assert!(number(step, "bytes") == bytes || !what.starts_with("{M} --dim"), "{what}: {step}");
        }
    }
}

#[test]
fn people_get_a_table() {
    let folder = folder();
    let done = say(folder.path(), "bench {M} {I} --iters 3 --threads 1").succeeds();
    for word in ["3 runs after 5 on 1 thread", "median", "p99", "GFLOP/s", "of peak", "outside of kernels"] {
        assert!(done.out.contains(word), "`{word}` is not in it: {done}");
    }
}

/// Calls in loops are made more often than they are written.
#[test]
fn loops_make_their_calls_several_times() {
    let folder = folder();
    let model = crate::case("loop_grows").join("model.onnx");
    let report = report(folder.path(), &format!("bench {} --iters 2 --json", model.display()));
    let calls = sum(list(&report["profile"], "steps"), "calls");
    assert_eq!(calls, sum(list(&report["profile"], "kernels"), "calls"));
}

#[test]
fn a_run_can_be_looked_at_as_a_trace() {
    let folder = folder();
    let report = report(folder.path(), "bench {M} --iters 2 --json --profile {D}/trace.json");
    let trace: Value = serde_json::from_slice(&fs::read(folder.path().join("trace.json")).expect("written"))
        .expect("a trace is JSON");
    let events = trace.as_array().expect("a list of events");
    assert_eq!(events.len(), 1 + list(&report["profile"], "steps").len(), "the run, and each kernel");
    let ends: Vec<f64> = events.iter().map(|event| number(event, "ts") + number(event, "dur")).collect();
    assert!(events.iter().all(|event| event["ph"] == "X" && event["name"].is_string()), "{trace}");
    assert!(ends.iter().all(|end| *end <= ends[0] + 1e-6), "no kernel ends after the run: {trace}");
    let args = &events[1]["args"];
    assert!(args["origins"].is_array() && args["flops"].is_u64() && args["bytes"].is_u64(), "{args}");
    // Without a name it has one.
    run(std::process::Command::new(harness::program::egraft())
        .current_dir(folder.path())
        .arg("bench")
        .arg(crate::digits())
        .args(["--iters", "1", "--profile"]))
    .exits(0);
    assert_eq!(names(folder.path()), ["trace.json"]);
}

#[test]
fn what_cannot_be_timed_is_refused_before_any_work() {
    let folder = folder();
    say(folder.path(), "compile {M} -o {D}/m").succeeds();
    for (line, code, words) in [
        ("bench {D}/m --against onnxruntime", "egraft::cli::against", &["m", ".onnx"][..]),
        ("bench {M} --profile {D}/none/t.json", "egraft::cli::no_folder", &["none"]),
        ("bench {M} --profile {M}", "egraft::cli::same_file", &["digits.onnx"]),
        ("bench {D}/m --fp strict", "egraft::runner::usage", &["--fp"]),
        ("bench {M} {I} {I}", "egraft::runner::usage", &["2"]),
        ("bench {M} --entry train", "egraft::runner::unknown_entry", &["train"]),
    ] {
        say(folder.path(), line).refused(code, words);
    }
    for line in ["bench", "bench {M} --iters 0", "bench {M} --against hope", "bench {M} --python p"] {
        assert_eq!(say(folder.path(), line).exits(2).out, "", "{line}");
    }
    assert_eq!(names(folder.path()), ["m"], "nothing else is written");
}

/// Another engine that is not there: the message says how to get it.
#[cfg(unix)]
#[test]
fn other_engines_must_be_there() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let gone = "bench {M} {I} --against onnxruntime --python /nonexistent/python";
    say(folder.path(), gone)
        .refused("egraft::cli::python", &["/nonexistent/python", "--python", "$EGRAFT_PYTHON"]);
    // What stands for Python answers as the script does where the package is missing, or not at all.
    let python = folder.path().join("python");
    // Before anything else is done: the model is not even read.
    fs::write(folder.path().join("bad.onnx"), "no model").expect("the folder is writable");
    for verb in ["bench", "verify"] {
        let line = format!("{verb} {{D}}/bad.onnx --against onnxruntime --python /nonexistent/python");
        say(folder.path(), &line).refused("egraft::cli::python", &["/nonexistent/python", "pip install"]);
    }
    for (answer, words) in [
        (r#"echo '{"error": "ModuleNotFoundError: No module named x"}'"#, &["No module named x", "pip"][..]),
        ("true", &["without an answer"]),
        ("echo what", &["what"]),
    ] {
        fs::write(&python, format!("#!/bin/sh\n{answer}\n")).expect("the folder is writable");
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("it is ours");
        for line in ["bench {M} {I}", "bench {D}/bad.onnx", "verify {D}/bad.onnx"] {
            let line = format!("{line} --against onnxruntime --python {{D}}/python");
            say(folder.path(), &line).refused("egraft::cli::onnxruntime", words);
        }
    }
}

/// With the real one, where this machine has it.
#[test]
fn onnxruntime_takes_turns() {
    let Some(python) = python_with_onnxruntime() else { return };
    let folder = folder();
    let line = format!("bench {{M}} {{I}} --iters 9 --against onnxruntime --python {python} --json");
    let report = say(folder.path(), &line).succeeds().json();
    let duel = &report["against"];
    assert!(duel["engine"].as_str().is_some_and(|name| name.starts_with("onnxruntime ")), "{duel}");
    assert_eq!(
        (list(duel, "ratios").len() as f64, number(duel, "runs_per_round")),
        (number(duel, "rounds"), 1.0)
    );
    assert!(["ours_ms", "theirs_ms", "ratio"].iter().all(|key| number(duel, key) > 0.0), "{duel}");
    assert_eq!(call(["explain", "egraft::cli::mismatch"]).exits(0).err, "");
}
