//! `egraft verify`: in which order it works, through what it runs a model, and which data it understands.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::program::Done;
use harness::root;
use serde_json::Value;

use crate::{folder, python_with_onnxruntime, say};

/// `egraft verify` of a golden case with its tensors; `{C}` is its folder.
fn golden(case: &str, options: &str) -> Done {
    let case = root().join("tests/golden").join(case);
    let line = format!("verify {{C}}/model.onnx --data {{C}}/tensors.safetensors {options}");
    say(Path::new(""), &line.replace("{C}", &case.display().to_string()))
}

/// Sizes that the run decides: a library is asked for these outputs afterwards.
#[test]
fn outputs_of_sizes_that_a_run_decides() {
    let has_cc = Command::new("cc").arg("--version").output().is_ok();
    for case in ["loop_grows", "nonzero_and_back", "run_time_axes", "mixed_counts_in_branches"] {
        let folder = root().join("tests/data/onnx/valid").join(case);
        for through in ["jit", "exe", "lib"].into_iter().filter(|through| *through != "lib" || has_cc) {
            let line = format!("verify {{C}}/model.onnx --data {{C}} --through {through} --json");
            let report = say(Path::new(""), &line.replace("{C}", &folder.display().to_string()));
            assert_eq!(report.succeeds().json()["ok"], true, "{case} through {through}");
        }
    }
}

/// A model that does not compile, and data that can't be read: it is the model that is complained about. So the
/// compiler has ended before the first byte of the data is looked at.
#[test]
fn the_model_is_compiled_before_the_data_are_read() {
    let folder = folder();
    let text = "graph @sum(%x: f32[n + m]) -> f32[n + m] {\n  %0 = exp %x : f32[n + m]\n  return %0\n}\n";
    fs::write(folder.path().join("sum.ir"), text).expect("the folder is writable");
    fs::write(folder.path().join("bad.npz"), "no archive").expect("the folder is writable");
    for data in ["bad.npz", "gone.safetensors"] {
        for through in ["jit", "exe", "lib"] {
            let line = format!("verify {{D}}/sum.ir --data {{D}}/{data} --through {through}");
            let done = say(folder.path(), &line).exits(1);
            assert!(done.err.contains("egraft::cli::unsolvable_size"), "{done}");
            assert!(!done.err.contains(data), "{done}");
        }
    }
    // With a model that compiles, it is the data.
    say(folder.path(), "verify {M} --data {D}/bad.npz").refused("egraft::runner::npz", &["bad.npz"]);
}

#[test]
fn every_way_to_run_a_model_gives_the_same() {
    let has_cc = Command::new("cc").arg("--version").output().is_ok();
    for through in ["jit", "exe", "lib"] {
        if through == "lib" && !has_cc {
            continue;
        }
        for threads in [1, 3] {
            let options = format!("--through {through} --threads {threads} --no-fallback --json");
            let report = golden("attention/rpc_layer_dynamic", &options).succeeds().json();
            assert_eq!(report["ok"], true, "{report}");
            // The set at other sizes, too: one library serves both.
            let names: Vec<&str> = report["cases"]
                .as_array()
                .expect("cases")
                .iter()
                .filter_map(|c| c["name"].as_str())
                .collect();
            assert_eq!(names, ["in.*", "in2.*"], "{through}");
        }
    }
}

/// What a library refuses, it says in its own words.
#[test]
fn a_library_says_what_it_refuses() {
    if Command::new("cc").arg("--version").output().is_err() {
        return;
    }
    let folder = folder();
    let image = ir::Tensor::from_f32(&[1, 2, 2], &[0.0; 4]);
    let image = egraft::tensors::to_file(&image).expect("it is small");
    let data = folder.path().join("small.safetensors");
    runner::files::write_all(&data, &[("image", &image)]).expect("the folder is writable");
    for (through, code) in [("jit", "egraft::runtime::rank"), ("lib", "egraft::cli::library")] {
        let line = format!("verify {{M}} --data {{D}}/small.safetensors --through {through}");
        say(folder.path(), &line).refused(code, &["rank", "3"]);
    }
}

#[test]
fn other_engines_give_outputs_of_onnx_models() {
    let folder = folder();
    say(folder.path(), "compile {M} -o {D}/m.ir --emit ir").succeeds();
    for (line, words) in [
        ("verify {D}/m.ir --against onnxruntime", "m.ir"),
        ("verify {D}/m.ir --against tract", "m.ir"),
        ("verify zoo:smoe --against onnxruntime", "zoo:smoe"),
        ("verify {M} --against onnxruntime --per-node", "--per-node"),
    ] {
        say(folder.path(), line).refused("egraft::cli::against", &[words]);
    }
}

/// With the real one, where this machine has it: also at other sizes, for which the model is loaded again.
#[test]
fn onnxruntime_is_a_second_opinion() {
    let Some(python) = python_with_onnxruntime() else { return };
    let options = format!("--against onnxruntime --python {python} --json");
    let report = golden("attention/rpc_layer_dynamic", &options).succeeds().json();
    let cases = report["cases"].as_array().expect("cases");
    assert_eq!((&report["ok"], cases.len()), (&true.into(), 2), "{report}");
    let is_by_it = |case: &Value| case["against"].as_str().is_some_and(|by| by.starts_with("onnxruntime "));
    assert!(cases.iter().all(is_by_it), "{report}");
    // Whatever the data say: it is another engine that is asked.
    let folder = folder();
    let digits =
        say(folder.path(), &format!("verify {{M}} --against onnxruntime --python {python}")).succeeds();
    assert!(digits.out.contains("agree with onnxruntime"), "{digits}");
}

/// Scores that only exact sums tell apart: another expert is no numeric error, and is said to be none. With the choices
/// of the reference, what is left is within the tolerance.
#[test]
fn another_expert_is_told_from_numeric_error() {
    let folder = folder();
    let text = "graph @near(%x: f32[n, 2, 17], %table: f32[2, 3]) -> f32[n, 3] {\n  \
         %0 = reduce_sum %x {axes=[2], keep_dims=false} : f32[n, 2]\n  \
         %1, %2 = topk %0 {k=1} : f32[n, 1], i64[n, 1]\n  \
         %3 = reshape %2 {shape=[n]} : i64[n]\n  \
         %4 = gather %table, %3 {axis=0} : f32[n, 3]\n  return %4 as \"y\"\n}\n";
    fs::write(folder.path().join("near.ir"), text).expect("the folder is writable");
    let mut rows = vec![0.0f32; 2 * 2 * 17];
    // Lanes take the 1 to the large number, where it is lost; the exact sum keeps it.
    (rows[0], rows[1], rows[16], rows[17]) = (1e9, -1e9, 1.0, 0.5);
    rows[34] = 3.0;
    let x = ir::Tensor::from_f32(&[2, 2, 17], &rows);
    let table = ir::Tensor::from_f32(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let [x, table] = [x, table].map(|t| egraft::tensors::to_file(&t).expect("it is small"));
    let data = folder.path().join("near.safetensors");
    runner::files::write_all(&data, &[("x", &x), ("table", &table)]).expect("the folder is writable");
    let line = "verify {D}/near.ir --data {D}/near.safetensors";
    let done = say(folder.path(), line).exits(1);
    assert!(done.out.contains("1 of 2 tokens go to other experts"), "{done}");
    assert!(done.out.contains("token 0: [1] instead of [0], by a margin of 5.000e-1"), "{done}");
    let report = say(folder.path(), &format!("{line} --json")).exits(1).json();
    assert_eq!(report["cases"][0]["routing"][0]["flips"][0]["margin"], 0.5, "{report}");
    say(folder.path(), &format!("{line} --pin-routing")).succeeds();
}
