//! Surgery on experts, on the command line.

use harness::root;

use crate::{folder, names, say};

#[test]
fn an_edited_model_is_written_and_told_of() {
    let folder = folder();
    let smoe = root().join("tests/golden/moe/smoe_dense/model.onnx").display().to_string();
    let edit = |line: &str| say(folder.path(), &format!("edit {smoe} {line}"));
    let report = edit("-o {D}/small.ir --prune-experts 6 --merge-experts 3 --merge-by frequency --json")
        .succeeds()
        .json();
    let layers = report["layers"].as_array().expect("a list");
    assert_eq!(layers.len(), 2, "{report}");
    assert_eq!((&layers[0]["experts"], &layers[1]["experts"]), (&8.into(), &6.into()), "{report}");
    let chosen = layers[0]["chosen"].as_array().expect("how often each is chosen");
    assert_eq!(
        chosen.iter().filter_map(serde_json::Value::as_f64).sum::<f64>(),
        48.0,
        "two for each of 24 tokens"
    );
    let error = report["errors"][0]["max_distance"].as_f64().expect("a number");
    assert!(error > 0.0, "{report}");
    let kernels = say(folder.path(), "inspect {D}/small.ir --kernels --json").succeeds().json();
    let experts: Vec<_> = kernels["kernels"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|k| k["experts"]["count"].as_i64())
        .collect();
    assert_eq!(experts, [3, 3], "{kernels}");
    say(folder.path(), "verify {D}/small.ir").succeeds();

    std::fs::create_dir(folder.path().join("same")).expect("the folder is writable");
    let same = edit("-o {D}/same/m.ir --merge-experts 8").succeeds();
    assert!(same.out.contains("y: 0.000e0 away at most"), "{same}");
    let curved = edit("-o {D}/same/m.ir --merge-experts 8 --cluster-by outputs --merge-by camex").succeeds();
    assert!(curved.out.contains("y: 0.000e0 away at most"), "{curved}");
    edit("-o {D}/m.ir").refused("egraft::edit::nothing", &["--prune-experts", "--fold-shared-experts"]);
    edit("-o {D}/m.ir --fold-shared-experts").refused("egraft::edit::unfit", &["no dense expert"]);
    edit("-o {D}/m.ir --router ac").refused("egraft::edit::unfit", &["layer before"]);
    edit("-o {D}/m.ir --merge-experts 2 --cluster-by magic").exits(2);
    edit("-o {D}/m.ir --router sigmoid --cluster-by outputs").exits(2);
    edit("-o {D}/m.onnxx --merge-experts 2").refused("egraft::cli::emit", &["m.onnxx"]);
    edit("-o {D}/m.ir --prune-experts 1").refused("egraft::edit::unfit", &["8", "2"]);
    edit("-o {D}/m.ir --merge-experts 9").refused("egraft::edit::unfit", &["8", "9"]);
    edit("-o {D}/m.ir --momentum 0.7").refused("egraft::edit::node", &["residual"]);
    edit("-o {D}/m.ir --merge-experts 2 --merge-by magic").exits(2);
    edit("-o {D}/m.ir --momentum fast").exits(2);
    say(folder.path(), "edit {M} -o {D}/m.ir --merge-experts 2")
        .refused("egraft::edit::no_experts", &["experts"]);
    assert_eq!(names(folder.path()), ["same", "small.ir", "weights.bin"]);
}

#[test]
fn shared_experts_are_folded() {
    let folder = folder();
    let model = "zoo:deepseek-moe --set dim=16 --set hidden=12 --set experts=8 --set k=3 --set shared=2";
    let report = say(folder.path(), &format!("edit {model} -o {{D}}/m.ir --fold-shared-experts --json"))
        .succeeds()
        .json();
    let done = report["layers"][0]["done"].as_str().unwrap_or_default();
    assert!(done.contains("[8, 9], which every token takes"), "{report}");
    assert!(report["errors"][0]["max_distance"].as_f64().is_some_and(|error| error < 1e-5), "{report}");
    say(folder.path(), "verify {D}/m.ir").succeeds();
    // It is read again as what it is.
    say(folder.path(), "edit {D}/m.ir -o {D}/n.ir --merge-experts 2")
        .refused("egraft::edit::unfit", &["folded in already (2)"]);
}
