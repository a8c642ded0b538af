//! Models with sequences and optionals: what they are compiled for comes from options, or from the data.

use std::fs;
use std::path::Path;

use harness::program::Done;
use harness::root;

use crate::{folder, save, say};

/// `egraft` with `{L}` for the folder of such a model.
fn with(case: &str, line: &str) -> Done {
    let case = root().join("tests/data/onnx/lists").join(case).display().to_string();
    say(Path::new(""), &line.replace("{L}", &case))
}

#[test]
fn data_tell_what_a_model_is_compiled_for() {
    for (case, told, sets) in [
        ("pairwise", vec!["x of length 2", "y of length 2"], 1),
        ("grow", vec!["start of length 1", "n=3"], 2),
    ] {
        for through in ["jit", "exe"] {
            let line = format!("verify {{L}}/model.onnx --data {{L}} --through {through} --json");
            let report = with(case, &line).succeeds().json();
            assert_eq!(report["ok"], true, "{report}");
            assert_eq!(report["compiled_for"], serde_json::json!(told), "{report}");
            assert_eq!(report["cases"].as_array().map(Vec::len), Some(sets), "{report}");
        }
    }
    let done = with("pairwise", "verify {L}/model.onnx --data {L}").succeeds();
    assert!(done.out.starts_with("compiled for x of length 2, y of length 2"), "{done}");
}

/// An optional that is there is another model than one that is not.
#[test]
fn sets_that_need_two_compilations_are_told_apart() {
    with("fallback", "verify {L}/model.onnx --data {L}")
        .refused("egraft::cli::verify_input", &["given", "set_1"]);
    for (set, told) in [("set_0", serde_json::json!(["given absent"])), ("set_1", serde_json::Value::Null)] {
        let line = format!("verify {{L}}/model.onnx --data {{L}}/{set} --json");
        let report = with("fallback", &line).succeeds().json();
        assert_eq!((&report["ok"], &report["compiled_for"]), (&true.into(), &told), "{report}");
    }
}

#[test]
fn options_tell_the_same_and_are_refused_where_they_do_not_suit() {
    let verify = |case: &str, options: &str| with(case, &format!("verify {{L}}/model.onnx {options}"));
    verify("pairwise", "--length x=2 --length y=2").succeeds();
    verify("fallback", "--absent given").succeeds();
    verify("grow", "--length start=1 --value n=2 --input-shape start.0:4").succeeds();
    for (case, options, code, word) in [
        ("pairwise", "", "egraft::onnx::length", "--length"),
        ("grow", "--length start=1", "egraft::onnx::input_value", "--value"),
    ] {
        let done = verify(case, options).exits(1);
        assert!(done.err.contains(code) && done.err.contains(word), "{done}");
    }
    for (case, options, code, words) in [
        ("pairwise", "--length x=2 --length y=1", "egraft::op::size", vec!["2", "1"]),
        ("pairwise", "--length z=2", "egraft::onnx::option", vec!["`z`"]),
        ("fallback", "--absent x", "egraft::onnx::option", vec!["`x`", "no optional"]),
        ("fallback", "--data {L}/set_1 --absent given", "egraft::cli::verify_input", vec!["`given`"]),
        ("fallback", "--against onnxruntime", "egraft::cli::against", vec!["`given`"]),
        ("grow", "--length start=1 --value x=1", "egraft::onnx::option", vec!["`x`"]),
    ] {
        verify(case, options).refused(code, &words);
    }
    say(Path::new(""), "verify {M} --length image=2").refused("egraft::onnx::option", &["image"]);
}

/// A sequence that is shorter than the data have it is a mismatch, whatever its elements are.
#[test]
fn another_length_is_a_mismatch() {
    let done = with("grow", "verify {L}/model.onnx --data {L} --value n=2").exits(1);
    assert!(done.err.contains("egraft::cli::verify_length") && done.err.contains("`all`"), "{done}");
}

/// Elements have names of their own; the value that an artifact was made for is the only one that it takes.
#[test]
fn an_artifact_takes_what_it_was_compiled_for() {
    let folder = folder();
    let at = folder.path();
    let model = root().join("tests/data/onnx/lists/grow/model.onnx").display().to_string();
    let line = format!("compile {model} -o {{D}}/grow --length start=1 --value n=2");
    say(at, &line).succeeds();
    let number = |value: i64| ir::Tensor::from_i64(&[], &[value]);
    save(&at.join("two.npy"), &number(2));
    save(&at.join("three.npy"), &number(3));
    save(&at.join("row.npy"), &ir::Tensor::from_f32(&[2], &[1.0, 2.0]));
    let inputs = "--input x={D}/row.npy --input start.0={D}/row.npy --outputs {D}/all.npz";
    say(at, &format!("run {{D}}/grow --input n={{D}}/two.npy {inputs}")).succeeds();
    let named = runner::files::read_all(&at.join("all.npz")).expect("it was written");
    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["all.0", "all.1", "all.2", "length"]);
    say(at, &format!("run {{D}}/grow --input n={{D}}/three.npy {inputs}"))
        .refused("egraft::runtime::requirement", &["3", "2"]);
    // What it was compiled for is recorded; a text form has tensors only.
    say(at, &format!("compile {model} -o {{D}}/grow.ir --emit ir --length start=1 --value n=2")).succeeds();
    let text = fs::read_to_string(at.join("grow.ir")).expect("it was written");
    assert!(text.contains("\"lengths\"") && text.contains("\"values\""), "{text}");
    say(at, "verify {D}/grow.ir --length start=1").refused("egraft::cli::onnx_only", &["--length"]);
}

/// Other engines see the model, not what it is compiled for.
#[test]
fn other_engines_are_given_tensors_only() {
    let line = "bench {L}/model.onnx --against onnxruntime --length x=1 --length y=1";
    with("pairwise", line).refused("egraft::cli::against", &["`x`"]);
}
