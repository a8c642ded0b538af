//! How the weights of quantized experts lie: an option says what the model leaves open, and nothing is guessed.

use std::path::Path;

use harness::root;

use crate::say;

#[test]
fn a_layout_that_the_model_leaves_open_is_asked_for() {
    let model = root().join("tests/data/onnx/invalid/qmoe_without_layout/model.onnx");
    let check = |options: &str| say(Path::new(""), &format!("check {} {options}", model.display()));
    let done = check("").exits(1);
    for word in ["experts", "square", "--qmoe-layout raw", "--qmoe-layout sm80"] {
        assert!(done.out.contains(word), "{done}");
    }
    check("--qmoe-layout raw").succeeds();
    check("--qmoe-layout sm80").succeeds();
    let done = check("--qmoe-layout rows").exits(2);
    assert!(done.err.contains("the layouts are raw, sm80"), "{done}");
    let done = say(Path::new(""), "check zoo:digits --qmoe-layout raw").exits(2);
    assert!(done.err.contains("egraft::cli::onnx_only") && done.err.contains("--qmoe-layout"), "{done}");
}
