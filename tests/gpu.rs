//! Models on a GPU, without one: `egraft --target cuda` as users call it, on a driver that notes all calls (`harness::fake`).

use std::path::Path;
use std::process::Command;

use harness::fake::{Calls, Fake};
use harness::program::{call, run};
use harness::root;
use ir::Tensor;
use serde_json::Value;

/// The same values, up to what sums in another order make of them.
fn near(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => {
            let [a, b] = [a, b].map(|x| x.as_f64().unwrap_or(f64::NAN));
            (a - b).abs() <= 1e-5 + 1e-4 * a.abs()
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| near(a, b)))
        }
        _ => one == other,
    }
}

fn save(path: &Path, tensor: &Tensor) {
    let tensor = egraft::tensors::to_file(tensor).expect("it is small");
    let mut bytes = Vec::new();
    runner::files::npy::write(&tensor, &mut bytes).expect("memory takes it");
    std::fs::write(path, bytes).expect("the folder is writable");
}

#[test]
fn golden_cases_give_their_outputs() {
    let Some(fake) = Fake::shared() else { return };
    for case in [
        "attention/softmax_sdpa_causal",
        "attention/elliptical_layer_dynamic",
        "moe/momentum_layer",
        "moe/smoe_loop",
        "moe/smoe_dense_dynamic",
        "sliced_ot/tswsl_uniform_p2",
        "sliced_ot/dbtsw_unequal_weighted",
    ] {
        let folder = root().join("tests/golden").join(case);
        let folder = folder.display();
        let line =
            format!("verify {folder}/model.onnx --data {folder}/tensors.safetensors --target cuda --json");
        let (done, calls) = fake.egraft(&line);
        let report = done.succeeds().json();
        assert_eq!(report["ok"], true, "{case}: {report}");
        assert!(calls.count("cuLaunchKernel") > 0, "{case}");
        // All memory is given back.
        assert_eq!(calls.count("cuMemAlloc"), calls.count("cuMemFree"), "{case}");
    }
}

/// What is decided by values, this side looks at; such runs are never recorded.
#[test]
fn sizes_and_branches_are_read_from_the_gpu() {
    let Some(fake) = Fake::shared() else { return };
    for case in ["nonzero_and_back", "loop_grows"] {
        let folder = root().join("tests/data/onnx/valid").join(case);
        let line = format!("verify {0}/model.onnx --data {0} --target cuda --json", folder.display());
        let (done, calls) = fake.egraft(&line);
        assert_eq!(done.succeeds().json()["ok"], true, "{case}");
        assert_eq!(calls.count("cuStreamBeginCapture"), 0, "{case}");
        let told = call([
            "inspect",
            "--kernels",
            "--target",
            "cuda",
            "--json",
            &format!("{}/model.onnx", folder.display()),
        ]);
        assert!(told.succeeds().json()["target"]["looks"].as_u64() > Some(0), "{case}");
    }
}

/// The second run of equal sizes is recorded, and from then on repeated; other sizes are recorded anew.
#[test]
fn runs_of_equal_sizes_are_one_graph() {
    let Some(fake) = Fake::shared() else { return };
    let folder = tempfile::tempdir().expect("there is room");
    let text = "graph @m(%x: f32[n, 8], %w: f32[8, 8]) -> f32[n, 8] {\n  %0 = matmul %x, %w : f32[n, 8]\n  \
                %1 = softmax %0 {axis=1} : f32[n, 8]\n  return %1\n}\n";
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("m.ir"), text).expect("writable");
    let number = |i: usize| (i * 7 % 11) as f32 / 8.0;
    for (name, rows) in [("a", 3), ("b", 5), ("w", 8)] {
        let values: Vec<f32> = (0..rows * 8).map(number).collect();
        save(&folder.path().join(format!("{name}.npy")), &Tensor::from_f32(&[rows, 8], &values));
    }
    let [a, b, w] = ["a.npy", "b.npy", "w.npy"].map(at);
    let line = format!("run {} {a} {w} {a} {w} {a} {w} {b} {w} {b} {w} {b} {w} {b} {w} --json", at("m.ir"));
    let (done, calls) = fake.egraft(&format!("{line} --target cuda"));
    let (found, expected) = (done.succeeds().json(), call(line.split(' ')).succeeds().json());
    assert!(near(&expected, &found), "expected {expected}, found {found}");
    let counts =
        ["cuStreamBeginCapture", "cuGraphInstantiate", "cuGraphLaunch"].map(|name| calls.count(name));
    // Three runs, then four: each first one call by call, all others as graphs.
    assert_eq!(counts, [2, 2, 5]);
    assert_eq!(["cuMemcpyHtoD", "cuMemcpyDtoH"].map(|name| calls.count(name)), [14, 7], "inputs, outputs");
    let launches = calls.count("cuLaunchKernel");
    assert_eq!(launches % 4, 0, "as many in each of two runs and two recordings");
    assert_eq!(calls.count("cuLaunchKernel (captured)"), launches / 2);
    // What is timed is what users get; what is profiled runs call by call.
    let (done, calls) =
        fake.egraft(&format!("bench {} {a} {w} --target cuda --warmup 0 --iters 3 --json", at("m.ir")));
    let report = done.succeeds().json();
    assert_eq!(report["machine"]["device"], "a CPU that plays a GPU", "{report}");
    assert!(report["machine"]["copy_gbps"].as_f64() > Some(0.0), "{report}");
    assert_eq!(calls.count("cuGraphInstantiate"), 1);
    assert_eq!(calls.count("cuGraphLaunch"), 3);
}

/// States stay on the GPU from run to run, and can be saved and given.
#[test]
fn states_stay_on_the_gpu() {
    let Some(fake) = Fake::shared() else { return };
    let folder = tempfile::tempdir().expect("there is room");
    let at = |name: &str| folder.path().join(name).display().to_string();
    for (name, token) in [("0.npy", 5), ("1.npy", 9)] {
        save(Path::new(&at(name)), &Tensor::from_i64(&[1, 1], &[token]));
    }
    let step = root().join("tests/data/onnx/states/step/model.onnx").display().to_string();
    let told = |tokens: &str, more: &str, gpu: bool| -> Value {
        let tokens = tokens.split(' ').map(at).collect::<Vec<_>>().join(" ");
        let line = format!("run {step} {tokens} --keep past.*=present.* --capacity 16 --json {more}");
        match gpu {
            true => fake.egraft(&format!("{line} --target cuda")).0.succeeds().json(),
            false => call(line.split_whitespace()).succeeds().json(),
        }
    };
    let keep = "--keep-state";
    let expected = told("0.npy 1.npy 0.npy 1.npy", keep, false);
    let found = told("0.npy 1.npy 0.npy 1.npy", keep, true);
    assert!(near(&expected, &found), "expected {expected}, found {found}");
    let saved = at("state.npz");
    told("0.npy 1.npy", &format!("{keep} --save-state {saved}"), true);
    let found = told("0.npy 1.npy", &format!("{keep} --state {saved}"), true);
    let last =
        |report: &Value| report["runs"][report["runs"].as_array().map_or(0, Vec::len) - 1]["outputs"].clone();
    assert!(near(&last(&expected), &last(&found)), "expected {expected}, found {found}");
}

/// Executables and libraries hold machine code and PTX, and need the driver alone.
#[test]
fn artifacts_run_on_the_gpu() {
    let Some(fake) = Fake::shared() else { return };
    let folder = tempfile::tempdir().expect("there is room");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let case = root().join("tests/golden/moe/momentum_layer").display().to_string();
    for through in ["exe", "lib"] {
        let line = format!("verify {case}/model.onnx --data {case}/tensors.safetensors --target cuda");
        let (done, calls) = fake.egraft(&format!("{line} --through {through} --json"));
        assert_eq!(done.succeeds().json()["ok"], true, "{through}");
        assert!(calls.count("cuLaunchKernel") > 0, "{through}");
        assert_eq!(calls.count("cuMemAlloc"), calls.count("cuMemFree"), "{through}");
    }
    let compile = |arch: &str| {
        let line = format!("compile zoo:momentum-smoe --target cuda --arch {arch} -o {} --json", at("model"));
        let (done, calls) = fake.egraft(&line);
        (done.succeeds().json(), calls)
    };
    let (report, calls) = compile("sm_80");
    assert_eq!(report["target"]["architectures"], serde_json::json!(["sm_80", "compute_80"]), "{report}");
    assert_eq!(calls.count("nvrtcCompileProgram"), 2 * report["kernels"].as_array().map_or(0, Vec::len));
    let first = std::fs::read(at("model")).expect("it was written");
    // What was made before is found again, to the same bytes.
    let (_, calls) = compile("sm_80");
    assert_eq!(calls.count("nvrtcCompileProgram"), 0);
    assert_eq!(first, std::fs::read(at("model")).expect("it was written"));
    let (done, calls) = fake.run(Command::new(at("model")).args(["--seed", "1", "--json"]));
    let found = done.exits(0).json();
    let expected = call(["run", "zoo:momentum-smoe", "--seed", "1", "--json"]).exits(0).json();
    assert!(near(&expected, &found), "expected {expected}, found {found}");
    assert_eq!(calls.count("nvrtc"), 0);
    // Without a driver, and on a GPU for which there is no code, it says so.
    let alone = run(&mut Command::new(at("model")));
    if alone.code != Some(0) {
        alone.refused("egraft::device::no_driver", &["--target cpu"]);
    }
    compile("sm_90a");
    let (done, _) = fake.run(&mut Command::new(at("model")));
    done.refused("egraft::device::no_image", &["sm_80", "sm_90a", "compute_90", "--arch"]);
}

/// A kernel that writes where nobody put guards goes unnoticed, and is named where there are some.
#[test]
fn guards_tell_which_kernel_writes_beside_its_arrays() {
    let Some(fake) = Fake::shared() else { return };
    let case = root().join("tests/golden/moe/momentum_layer").display().to_string();
    let line = format!("verify {case}/model.onnx --data {case}/tensors.safetensors --target cuda");
    let counted = |calls: &Calls| calls.count("cuMemAlloc");
    let (done, plain) = fake.egraft(&line);
    done.succeeds();
    let (done, guarded) = fake.egraft(&format!("{line} --guard"));
    done.succeeds();
    assert!(counted(&guarded) > counted(&plain), "every buffer has memory of its own");
    assert_eq!(counted(&guarded), guarded.count("cuMemFree"));

    // In range for all sizes that the verifier tries: from 9 on it leaves its array.
    let planted = "program @planted {\n  kernel @shift kind=fused [n](%x: f32[n], %y: write f32[n]) loops {\n    \
                   for i0 in 0..n {\n      %y[i0 + floor(n, 9)] = %x[i0]\n    }\n  }\n  \
                   kernel @negate kind=fused [n](%x: f32[n], %y: write f32[n]) loops {\n    \
                   for i0 in 0..n {\n      %y[i0] = -%x[i0]\n    }\n  }\n  \
                   entry @main(%x: f32[n]) -> (%y: f32[n]) {\n    buffer %b : f32[n]\n    \
                   call @shift(%x, %b) [n=n]\n    call @negate(%b, %y) [n=n]\n  }\n}\n";
    let folder = tempfile::tempdir().expect("there is room");
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("planted.kir"), planted).expect("writable");
    for size in [8, 9] {
        let values: Vec<f32> = (0..size).map(|i| i as f32).collect();
        let x = egraft::tensors::to_file(&Tensor::from_f32(&[size], &values)).expect("it is small");
        let path = folder.path().join(format!("{size}.npz"));
        runner::files::write_all(&path, &[("x", &x)]).expect("writable");
    }
    let verify = |size: usize, more: &str| {
        fake.egraft(&format!(
            "verify {} --data {}/{size}.npz {more}",
            at("planted.kir"),
            folder.path().display()
        ))
        .0
    };
    verify(8, "--target cuda --guard").succeeds();
    let unseen = verify(9, "--target cuda");
    assert!(!unseen.err.contains("trespass"), "{unseen}");
    let done = verify(9, "--target cuda --guard");
    assert_eq!(done.code, Some(70), "{done}");
    for part in [
        "egraft::runtime::trespass",
        "kernel `shift` wrote 4 bytes",
        "0 bytes behind buffer 0 on, which has 36",
    ] {
        assert!(done.err.contains(part), "{part}: {done}");
    }
    verify(8, "--guard").refused("egraft::cli::guard", &["--target cuda"]);
    verify(8, "--target cuda --through exe --guard").refused("egraft::cli::guard", &["--through"]);
}

/// What is for a machine with a GPU runs here in small, but for PyTorch, and leaves the measured section alone.
#[test]
#[allow(clippy::print_stderr, reason = "who reads the tests should know what was not run")]
fn gpu_check_runs_in_small() {
    let Some(fake) = Fake::shared() else { return };
    let python = || Command::new("python3");
    if python().arg("--version").output().is_err() {
        eprintln!("there is no python3: scripts/gpu_check was not run");
        return;
    }
    let folder = tempfile::tempdir().expect("there is room");
    let written = folder.path().join("gpu.md");
    let check = |more: &[&str]| {
        let mut command = python();
        command.arg(root().join("scripts/gpu_check")).arg("--egraft").arg(harness::program::egraft());
        command.args(["--small", "--iters", "1", "--only", "attention/softmax_core_causal"]).args(more);
        fake.run(&mut command)
    };
    let (done, _) = check(&[]);
    assert_ne!(done.code, Some(0), "figures of a small run are no figures: {done}");
    let measured = "softmax|product|1 token|sw_p2";
    let (done, calls) = check(&["--measure", measured, "--output", &written.display().to_string()]);
    done.exits(0);
    assert!(calls.count("cuGraphLaunch") > 0);
    let text = std::fs::read_to_string(&written).expect("it was written");
    for part in [
        "1 of 1 golden cases give their outputs",
        "no kernel writes beside its arrays",
        "| softmax of 8 rows of 100 | f32 |",
        "| product, 40 × 48 × 32 | bf16 |",
        "| 8 experts, 2 chosen, 32 × 16, 1 token | f32 |",
        "| grouped_matmul | f32 | 2 |",
        "| sliced_ot/sw_p2 |",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains("was not measured:"), "{text}");
}
