//! Models written as ONNX, on the command line.

use harness::root;

use crate::{folder, names, say};

#[test]
fn graphs_are_written_as_onnx() {
    let folder = folder();
    let line = |line: &str| say(folder.path(), line);
    line("opt {M} --passes dce -o {D}/again.onnx").succeeds();
    line("compile {M} --emit onnx -o {D}/rewritten.onnx").succeeds();
    line("zoo build digits -o {D}/zoo.onnx --set channels=4").succeeds();
    let digits = root().join("models/zoo/digits/3.npy").display().to_string();
    let class = |model: &str| {
        let done = line(&format!("run {{D}}/{model} {digits} --json")).succeeds().json();
        done["outputs"].clone()
    };
    assert_eq!(class("again.onnx"), line("run {M} {I} --json").succeeds().json()["outputs"]);
    assert_eq!(class("again.onnx"), class("rewritten.onnx"));
    line("verify {D}/zoo.onnx").succeeds();
    let smoe = root().join("tests/golden/moe/smoe_dense/model.onnx").display().to_string();
    line(&format!("edit {smoe} -o {{D}}/edited.onnx --merge-experts 4")).succeeds();
    let kernels = line("inspect {D}/edited.onnx --kernels --json").succeeds().json();
    let experts: Vec<_> = kernels["kernels"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|k| k["experts"]["count"].as_i64())
        .collect();
    assert_eq!(experts, [4, 4], "what is read again are experts again: {kernels}");

    line("compile {M} --emit onnx -o -").exits(2);
    line("compile {M} --emit kir -o {D}/m.kir").succeeds();
    line("opt {D}/m.kir -o {D}/m.onnx").refused("egraft::cli::no_graph", &["m.onnx"]);
    let all = ["again.onnx", "edited.onnx", "m.kir", "rewritten.onnx", "zoo.onnx"];
    let found = names(folder.path());
    assert_eq!(
        found.iter().filter(|name| *name != "weights.bin").collect::<Vec<_>>(),
        all.iter().collect::<Vec<_>>()
    );
}
