//! What models keep from run to run, on the command line.

use std::path::Path;

use harness::program::{Done, run};
use harness::root;
use ir::Tensor;

use crate::{folder, names, save, say};

/// `egraft` with `{S}` for the folder of such models.
fn with(folder: &Path, line: &str) -> Done {
    let states = root().join("tests/data/onnx/states").display().to_string();
    say(folder, &line.replace("{S}", &states))
}

const KEEP: &str = "--keep past.*=present.* --capacity 16";

/// The models, called as entries are to be called.
fn prefill_and_step(folder: &Path) {
    for name in ["prefill", "step"] {
        let from = root().join("tests/data/onnx/states").join(name).join("model.onnx");
        std::fs::copy(from, folder.join(format!("{name}.onnx"))).expect("the folder is writable");
    }
    save(&folder.join("prompt.npy"), &Tensor::from_i64(&[1, 4], &[3, 1, 4, 1]));
    for (number, token) in [5, 9].into_iter().enumerate() {
        save(&folder.join(format!("{number}.npy")), &Tensor::from_i64(&[1, 1], &[token]));
    }
}

#[test]
fn several_models_are_one_artifact_that_goes_on() {
    let folder = folder();
    let at = folder.path();
    prefill_and_step(at);
    let done = with(at, &format!("compile {{D}}/prefill.onnx {{D}}/step.onnx -o {{D}}/m {KEEP}")).succeeds();
    assert!(done.out.contains("kernel launches"), "{done}");
    let m = |line: &str| {
        let mut command = std::process::Command::new(at.join("m"));
        command.current_dir(at).args(line.split_whitespace());
        run(&mut command)
    };
    let report = m("--inspect --json").succeeds().json();
    let entries = report["entries"].as_array().expect("a list");
    assert_eq!(entries.len(), 2, "{report}");
    assert_eq!(entries[0]["states"], entries[1]["states"], "{report}");
    assert_eq!(entries[1]["inputs"].as_array().map(Vec::len), Some(1), "{report}");

    // All tokens at once, in three runs of one process, and in three processes that hand over the states.
    let logits = |done: Done| {
        let report = done.succeeds().json();
        let runs = report["runs"].as_array().cloned().unwrap_or_else(|| vec![report.clone()]);
        runs.last().expect("a run")["outputs"].clone()
    };
    m("--entry prefill prompt.npy --save-state a.npz").succeeds();
    m("--entry step 0.npy --state a.npz --save-state b.safetensors").succeeds();
    let apart = logits(m("--entry step 1.npy --state b.safetensors --json"));
    let together = logits(m("--entry step 0.npy 1.npy --keep-state --state a.npz --json"));
    assert_eq!(apart, together);
    let forgotten = logits(m("--entry step 0.npy 1.npy --state a.npz --json"));
    assert_ne!(apart, forgotten, "each run begins with the same states");

    m("--entry step 0.npy --state gone.npz").refused("egraft::runner::read", &["gone.npz"]);
    m("--entry step 0.npy --state 0.npy").exits(2);
    save(&at.join("two.npy"), &Tensor::from_i64(&[2, 1], &[1, 2]));
    m("--entry step two.npy --state a.npz").refused("egraft::runner::state", &["past.0.key", "expected"]);
    let done = m("--entry step 0.npy --bench 3 --state a.npz --json").succeeds();
    assert_eq!(done.json()["ms"].as_array().map(Vec::len), Some(3), "each run begins with the same length");
    let bench = with(at, "bench {D}/m --entry step {D}/0.npy --state {D}/a.npz --iters 2 --json");
    bench.succeeds();
}

#[test]
fn what_is_no_state_is_refused() {
    let folder = folder();
    prefill_and_step(folder.path());
    for (line, code, words) in [
        (
            "{D}/step.onnx --keep past.*=present.*",
            "egraft::passes::state",
            &["present.0.key", "--capacity"][..],
        ),
        ("{D}/step.onnx --keep a=b", "egraft::cli::no_state", &["a=b", "logits", "present.0.key"]),
        (
            "{D}/step.onnx --keep past.*=presents.*",
            "egraft::passes::state",
            &["past.0.key", "presents.0.key"],
        ),
        ("{D}/step.onnx --keep ids=logits --capacity 4", "egraft::passes::state", &["ids", "logits"]),
        (
            "{D}/step.onnx --keep past.*=present.* --capacity 4 --dim past=3",
            "egraft::passes::state",
            &["past.0.key", "size of its own"],
        ),
        (
            "{D}/prefill.onnx {D}/prefill.onnx --keep past.*=present.* --capacity 4",
            "egraft::cli::several_models",
            &["prefill"],
        ),
        (
            "{D}/prefill.onnx {D}/step.onnx --emit ir --keep past.*=present.* --capacity 4",
            "egraft::cli::several_models",
            &["graph"],
        ),
    ] {
        let done = with(folder.path(), &format!("compile {line} -o {{D}}/m"));
        done.refused(code, words);
    }
    for line in ["--keep a", "--keep =b", "--keep a*=b", "--keep a=b --capacity 0"] {
        with(folder.path(), &format!("compile {{D}}/step.onnx -o {{D}}/m {line}")).exits(2);
    }
    let line = format!("verify {{D}}/step.onnx {KEEP}");
    with(folder.path(), &line).refused("egraft::cli::keep", &["--keep"]);
    with(folder.path(), &format!("compile {{D}}/step.onnx -o {{D}}/m.kir --emit kir {KEEP}")).succeeds();
    let line = format!("compile {{D}}/m.kir -o {{D}}/m {KEEP}");
    with(folder.path(), &line).refused("egraft::cli::too_late_for_states", &["graph"]);
    with(folder.path(), "compile {D}/m.kir -o {D}/m").succeeds();
    let all = ["0.npy", "1.npy", "m", "m.kir", "prefill.onnx", "prompt.npy", "step.onnx"];
    let found = names(folder.path());
    assert_eq!(
        found.iter().filter(|name| *name != "weights.bin").collect::<Vec<_>>(),
        all.iter().collect::<Vec<_>>()
    );
}
