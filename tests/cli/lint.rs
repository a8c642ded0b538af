//! What `egraft check` warns of: experts that no token reaches, parts in `f64`, sizes that are said to be open and are not.
//! A warning is no failure.

use std::fs;
use std::path::Path;

use harness::program::call;
use harness::root;
use serde_json::Value;

use crate::{folder, model, say};

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

/// What is warned of in a text: node and code.
#[track_caller]
fn warnings(text: &str) -> Vec<(String, String)> {
    let folder = folder();
    let model = folder.path().join("m.ir");
    fs::write(&model, text).expect("writable");
    warnings_of(&model)
}

/// What is warned of in a file.
#[track_caller]
fn warnings_of(model: &Path) -> Vec<(String, String)> {
    let report = call(["check".as_ref(), model.as_os_str(), "--json".as_ref()]).succeeds().json();
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

/// A model of `f32` that goes through `f64` from `/to` to `/back`.
fn island(body: &str) -> String {
    format!(
        "weights @scale : f64[3] = [0.5, 0.25, 1.5]
weights @narrow : f32[3] = [0.5, 0.25, 1.5]

graph @g(%x: f32[n, 3]) -> f32[n, 3] {{
{body}
}}
"
    )
}

const SCALED: &str = "  %0 = cast %x {to=f64} : f64[n, 3] from \"/to\"(\"Cast\")
  %1 = mul %0, @scale : f64[n, 3] from \"/scale\"(\"Mul\")
  %2 = exp %1 : f64[n, 3] from \"/exp\"(\"Exp\")
  %3 = cast %2 {to=f32} : f32[n, 3] from \"/back\"(\"Cast\")
  return %3";

#[test]
fn parts_in_f64_are_named_with_their_cause() {
    assert_eq!(warnings(&island(SCALED)), warning("/to", "f64_island"));
    let said = |text: &str| {
        let folder = folder();
        fs::write(folder.path().join("m.ir"), text).expect("writable");
        say(folder.path(), "check {D}/m.ir").succeeds().out
    };
    let by_constant = said(&island(SCALED));
    assert!(
        by_constant.contains("3 nodes") && by_constant.contains("the constant `scale` is f64"),
        "{by_constant}"
    );
    let by_cast = said(&island(&SCALED.replace("mul %0, @scale", "mul %0, %0")));
    assert!(by_cast.contains("the model casts to it"), "{by_cast}");
    // A table of f64, of which rows are taken.
    let table = "weights @table : f64[4, 3] = splat 0.5

graph @g(%x: i64[n]) -> f32[n, 3] {
  %0 = gather @table, %x : f64[n, 3] from \"/rows\"(\"Gather\")
  %1 = cast %0 {to=f32} : f32[n, 3] from \"/back\"(\"Cast\")
  return %1
}
";
    assert_eq!(warnings(table), warning("/rows", "f64_island"));
    // Two of them.
    let two = "  %0 = cast %x {to=f64} : f64[n, 3] from \"/a\"(\"Cast\")
  %1 = exp %0 : f64[n, 3] from \"/exp\"(\"Exp\")
  %2 = cast %1 {to=f32} : f32[n, 3] from \"/b\"(\"Cast\")
  %3 = cast %2 {to=f64} : f64[n, 3] from \"/c\"(\"Cast\")
  %4 = mul %3, %3 : f64[n, 3] from \"/mul\"(\"Mul\")
  %5 = cast %4 {to=f32} : f32[n, 3] from \"/d\"(\"Cast\")
  return %5";
    let both = [warning("/a", "f64_island"), warning("/c", "f64_island")].concat();
    assert_eq!(warnings(&island(two)), both);
}

#[test]
fn f64_that_costs_nothing_or_is_meant_is_no_island() {
    // The constant is narrowed before it meets anything.
    let narrowed = "  %0 = cast @scale {to=f32} : f32[3]
  %1 = mul %x, %0 : f32[n, 3]
  return %1";
    // A constant is computed in f64.
    let folded = "  %0 = cast @narrow {to=f64} : f64[3]
  %1 = mul %0, @scale : f64[3]
  %2 = cast %1 {to=f32} : f32[3]
  %3 = mul %x, %2 : f32[n, 3]
  return %3";
    // Nothing is computed between the casts.
    let moved = "  %0 = cast %x {to=f64} : f64[n, 3]
  %1 = transpose %0 {perm=[1, 0]} : f64[3, n]
  %2 = cast %1 {to=f32} : f32[3, n]
  %3 = transpose %2 {perm=[1, 0]} : f32[n, 3]
  return %3";
    // One number, and one operator that is defined by f64.
    let number = "  %0 = reduce_sum %x {axes=[0, 1]} : f32[1, 1]
  %1 = cast %0 {to=f64} : f64[1, 1]
  %2 = exp %1 : f64[1, 1]
  %3 = cast %2 {to=f32} : f32[1, 1]
  %4 = mul %x, %3 : f32[n, 3]
  return %4";
    let operator = SCALED.replace("/to\"(\"Cast", "/op\"(\"Op").replace("/scale\"(\"Mul", "/op\"(\"Op");
    let operator = operator.replace("/exp\"(\"Exp", "/op\"(\"Op").replace("/back\"(\"Cast", "/op\"(\"Op");
    for body in [narrowed, folded, moved, number, operator.as_str()] {
        assert_eq!(warnings(&island(body)), [], "{body}");
    }
    // A model of f64, and integers counted in it.
    let wide = island(SCALED).replace("(%x: f32[n, 3])", "(%x: f32[n, 3], %y: f64[2])");
    assert_eq!(warnings(&wide), []);
    let counted = "graph @g(%x: i64[n]) -> i64[n] {
  %0 = cast %x {to=f64} : f64[n]
  %1 = mul %0, %0 : f64[n]
  %2 = floor %1 : f64[n]
  %3 = cast %2 {to=i64} : i64[n]
  return %3
}
";
    assert_eq!(warnings(counted), []);
}

#[test]
fn sizes_that_a_sample_has_chosen_are_named() {
    let of = |name: &str| warnings_of(&model(name));
    for name in ["traced_batch", "traced_length", "traced_batch_and_length"] {
        let found = of(name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(found[0].1, "egraft::lint::fixed_size", "{name}");
    }
    let said = |options: &str| {
        say(folder().path(), &format!("check {} {options}", model("traced_batch").display())).succeeds().out
    };
    let warned = said("");
    assert!(warned.contains("`batch`") && warned.contains("has to be 1"), "{warned}");
    // Whoever says it means it.
    let meant = said("--dim batch=1");
    assert!(!meant.contains("warning"), "{meant}");
    assert_eq!(of("sizes_of_inputs_kept"), []);
}
