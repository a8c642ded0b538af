//! What `egraft check` warns of: experts that no token reaches. A warning is no failure.

use std::fs;

use harness::root;
use serde_json::Value;

use crate::{folder, say};

/// Three experts, known by their masks; what is chosen from is to be said.
fn masks(scores: &str) -> String {
    format!(
        "weights @bias : f32[3] = [0.5, -100000.0, 0.0]
weights @scores : f32[4, 3] = splat 1.0
weights @e0 : i64[] = splat 0
weights @e1 : i64[] = splat 1
weights @e2 : i64[] = splat 2

graph @g(%x: f32[4, 3]) -> bool[4, 2], bool[4, 2], bool[4, 2] {{
  %0 = add %x, @bias : f32[4, 3]
  %1, %2 = topk {scores} {{k=2}} : f32[4, 2], i64[4, 2] from \"/router\"
  %3 = eq %2, @e0 : bool[4, 2]
  %4 = eq %2, @e1 : bool[4, 2]
  %5 = eq %2, @e2 : bool[4, 2]
  return %3, %4, %5
}}
"
    )
}

/// Two experts for rows that the model names.
const ROWS: &str = "weights @w : f32[3, 3] = splat 0.5
weights @first : i64[2, 1] = [0, 2]
weights @second : i64[1, 1] = splat 1
weights @zeros : f32[4, 3] = splat 0.0
weights @gate : f32[1, 3] = splat 0.5

graph @g(%x: f32[4, 3]) -> f32[4, 3] {
  %0 = reshape @first {shape=[2]} : i64[2]
  %1 = gather %x, %0 : f32[2, 3]
  %2 = matmul %1, @w : f32[2, 3]
  %3 = mul %2, @gate : f32[2, 3]
  %4 = scatter_nd @zeros, @first, %3 {reduction=\"add\"} : f32[4, 3]
  %5 = reshape @second {shape=[1]} : i64[1]
  %6 = gather %x, %5 : f32[1, 3]
  %7 = matmul %6, @w : f32[1, 3]
  %8 = mul %7, @gate : f32[1, 3]
  %9 = scatter_nd %4, @second, %8 {reduction=\"add\"} : f32[4, 3] from \"/sum\"
  return %9
}
";

/// What is warned of in a model: node and code.
#[track_caller]
fn warnings(text: &str) -> Vec<(String, String)> {
    let folder = folder();
    fs::write(folder.path().join("m.ir"), text).expect("writable");
    let report = say(folder.path(), "check {D}/m.ir --json").succeeds().json();
    let said = |lint: &Value, key: &str| lint[key].as_str().expect("a text").to_owned();
    let lints = report["lints"].as_array().expect("a list");
    for lint in lints {
        assert!(["reason", "remedy"].iter().all(|key| said(lint, key).len() > 20), "{lint}");
    }
    lints.iter().map(|lint| (said(lint, "node"), said(lint, "code"))).collect()
}

fn filetest(name: &str) -> String {
    fs::read_to_string(root().join("tests/filetests/reroll").join(name)).expect("it is there")
}

fn warning(node: &str, code: &str) -> Vec<(String, String)> {
    vec![(node.to_owned(), format!("egraft::lint::{code}"))]
}

#[test]
fn experts_that_are_nowhere_are_named() {
    assert_eq!(warnings(&filetest("missing_expert.ir")), warning("/topk", "missing_experts"));
    let folder = folder();
    fs::write(folder.path().join("m.ir"), filetest("missing_expert.ir")).expect("writable");
    let done = say(folder.path(), "check {D}/m.ir").succeeds();
    for part in
        ["m.ir: ok", "warning: node \"/topk\": ", "expert 3", "remedy: ", "egraft::lint::missing_experts"]
    {
        assert!(done.out.contains(part), "`{part}` is not in it: {done}");
    }
}

#[test]
fn a_choice_of_constants_is_none() {
    assert_eq!(warnings(&masks("@scores")), warning("/router", "constant_routing"));
    assert_eq!(warnings(ROWS), warning("/sum", "constant_routing"));
}

#[test]
fn experts_whose_bias_keeps_them_off_are_named() {
    assert_eq!(warnings(&masks("%0")), warning("/router", "unreachable_experts"));
    // All three are taken, then.
    let all = masks("%0").replace("k=2", "k=3").replace("[4, 2]", "[4, 3]");
    assert_eq!(warnings(&all), []);
}

#[test]
fn mixtures_of_experts_are_fine() {
    assert_eq!(warnings(&masks("%x")), []);
    for name in [
        "loop_over_experts.ir",
        "rows_of_a_one_hot_mask.ir",
        "parts_of_one_stack.ir",
        "every_token_through_different_experts.ir",
        "sorted_segments.ir",
        "where_a_token_chose_it.ir",
    ] {
        assert_eq!(warnings(&filetest(name)), [], "{name}");
    }
}
