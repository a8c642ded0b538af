//! `--against tract`, with the feature `tract` and without. Program and tests are built with the same features:
//! `cargo build --features tract`, then `cargo test -p egraft-tests --features tract`.

use crate::{folder, say};

/// The message tells how to get it.
#[cfg(not(feature = "tract"))]
#[test]
fn without_the_feature_there_is_no_tract() {
    let folder = folder();
    // Nothing else is done: the model is not even read.
    std::fs::write(folder.path().join("bad.onnx"), "no model").expect("the folder is writable");
    for line in ["bench {M} {I}", "bench {M} --threads 2", "bench {D}/bad.onnx", "verify {D}/bad.onnx"] {
        let done = say(folder.path(), &format!("{line} --against tract"));
        done.refused("egraft::cli::without_tract", &["cargo install egraft --features tract"]);
    }
}

#[cfg(feature = "tract")]
mod with_it {
    use std::path::Path;

    use harness::root;
    use serde_json::Value;

    use super::{folder, say};

    /// Networks of each family.
    const GOLDEN: [&str; 10] = [
        "attention/elliptical_lm_4layer_scaled",
        "attention/kerple_log",
        "attention/mgk_lm_causal",
        "attention/rpc_layer_dynamic",
        "exports/qwen3_moe_batched_mm",
        "moe/lm_smoe",
        "moe/smoe_dense_dynamic",
        "moe/vit_robust",
        "sliced_ot/dbtsw_5d_p2",
        "sliced_ot/sw_p2",
    ];

    #[test]
    fn golden_networks_agree() {
        for name in GOLDEN {
            let case = root().join("tests/golden").join(name).display().to_string();
            let line = format!(
                "verify {case}/model.onnx --data {case}/tensors.safetensors --against tract --rtol 1e-3 --json"
            );
            let report = say(Path::new(""), &line).succeeds().json();
            let cases = report["cases"].as_array().expect("cases");
            assert!(report["ok"] == true && !cases.is_empty(), "{name}: {report}");
            let is_whole = |case: &Value| {
                case["against"] == "tract"
                    && case["outputs"].as_array().is_some_and(|outputs| !outputs.is_empty())
            };
            assert!(cases.iter().all(is_whole), "{name}: {report}");
        }
    }

    #[test]
    fn both_run_on_one_thread() {
        let folder = folder();
        let line = "bench {M} {I} --iters 9 --against tract --json";
        let report = say(folder.path(), line).succeeds().json();
        let duel = &report["against"];
        assert_eq!((&report["threads"], &duel["engine"]), (&1.into(), &"tract".into()));
        let ratios = duel["ratios"].as_array().expect("a list");
        assert_eq!(Some(ratios.len() as u64), duel["rounds"].as_u64());
        assert!(ratios.iter().all(|ratio| ratio.as_f64().is_some_and(|ratio| ratio > 0.0)), "{duel}");
        let line = "bench {M} {I} --threads 2 --against tract";
        say(folder.path(), line).refused("egraft::cli::threads", &["one thread", "--threads 1"]);
    }

    #[test]
    fn what_tract_refuses_it_says_itself() {
        let model = root().join("tests/golden/attention/kerple_log_unfolded/model.onnx");
        for verb in ["bench", "verify"] {
            let line = format!("{verb} {} --against tract", model.display());
            say(Path::new(""), &line)
                .refused("egraft::cli::tract", &["SplitToSequence", "compare with onnxruntime"]);
        }
    }
}
