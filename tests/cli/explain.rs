//! `egraft rules`, `egraft explain MODEL`, `--disable-rule`, and what other verbs say of rules.

use std::path::Path;

use harness::program::{Done, call};
use harness::root;
use serde_json::{Value, json};

use crate::say;

/// `egraft` with the words of `line`; `{E}` is the folder of small models for this.
fn on(line: &str) -> Done {
    let folder = root().join("tests/data/explain");
    say(Path::new(""), &line.replace("{E}", &folder.display().to_string()))
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap_or_else(|| panic!("this is no list: {list}"));
    list.iter().map(|text| text.as_str().unwrap_or_else(|| panic!("this is no text: {text}"))).collect()
}

/// The names of an entry's nodes.
fn nodes(entry: &Value) -> Vec<&str> {
    let nodes = entry["nodes"].as_array().unwrap_or_else(|| panic!("there are no nodes: {entry}"));
    nodes.iter().map(|node| node["name"].as_str().unwrap_or_default()).collect()
}

#[test]
fn rules_are_listed_with_what_must_hold() {
    let text = call(["rules"]).succeeds().out;
    let report = call(["rules", "--json"]).succeeds().json();
    let rules = report["rules"].as_array().expect("a list");
    for rule in rules {
        assert!(text.lines().any(|line| line.starts_with(rule["name"].as_str().expect("a name"))), "{rule}");
        let modes = match rule["exactness"].as_str() {
            Some("exact") => "strict",
            Some("reassociating") => "reassoc",
            Some("approximate") => "fast",
            _ => panic!("{rule}"),
        };
        assert_eq!(rule["fp"], modes, "{rule}");
        assert!(["fold", "explore", "raise"].iter().any(|set| rule["set"] == *set), "{rule}");
        assert!(!texts(&rule["anchors"]).is_empty() && rule["summary"].is_string(), "{rule}");
        assert!(texts(&rule["obligations"]).iter().all(|obligation| text.contains(obligation)), "{rule}");
    }
    let attention = rules.iter().find(|rule| rule["name"] == "attention").expect("there is such a rule");
    assert_eq!((&attention["set"], texts(&attention["anchors"])), (&json!("raise"), vec!["softmax"]));
    // What a test plants is no rule of the compiler.
    assert!(!text.contains("planted"), "{text}");
}

#[test]
fn names_of_rules_must_exist() {
    on("check {E}/attention.ir --disable-rule planted").refused("egraft::cli::unknown_rule", &["planted"]);
    on("explain {E}/attention.ir --disable-rule atention")
        .refused("egraft::cli::unknown_rule", &["atention", "did you mean `attention`?"]);
    on("check {E}/attention.ir --disable-rule attention --disable-rule x")
        .refused("egraft::cli::unknown_rule", &["x"]);
    let done = on("opt {E}/attention.ir --stop-after saturate --disable-rule attention").succeeds();
    assert!(done.out.contains("softmax") && !done.out.contains("= attention"), "{done}");
    let done = on("opt {E}/attention.ir --stop-after saturate").succeeds();
    assert!(!done.out.contains("softmax %") && done.out.contains("= attention"), "{done}");
}

#[test]
fn kernels_name_their_rules_and_nodes() {
    let report = on("explain {E}/attention.ir --json").succeeds().json();
    assert_eq!((&report["rewrites"], &report["rules_are_applied"]), (&json!({"attention": 1}), &true.into()));
    assert_eq!((&report["missed"], &report["not_allowed"]), (&json!([]), &json!([])));
    let kernels = report["kernels"].as_array().expect("a list");
    assert!(!kernels.is_empty());
    for kernel in kernels {
        assert_eq!(texts(&kernel["rules"]), ["attention"]);
        assert!(nodes(kernel).contains(&"/attn/Softmax"), "{kernel}");
        let first = &kernel["nodes"][0];
        assert_eq!(first["module"], "layers.0.attn");
        assert!(first["source"].as_str().is_some_and(|source| source.starts_with("model.py:")), "{first}");
    }
    let text = on("explain {E}/attention.ir").succeeds().out;
    let line = "from /attn/MatMul (MatMul) in layers.0.attn at model.py:10";
    for part in ["by attention", line, "more nodes", "rules: attention 1"] {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
}

#[test]
fn what_is_missed_names_its_obligation() {
    let text = on("explain {E}/over_queries.ir").succeeds().out;
    let parts = [
        "no attention at softmax\n  from /Softmax (Softmax)",
        "the softmax runs along the last axis",
        "found: axis 0 of",
    ];
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    let report = on("explain {E}/mask_of_scores.ir --json").succeeds().json();
    let missed = report["missed"].as_array().expect("a list");
    let attention = missed.iter().find(|missed| missed["rule"] == "attention").expect("it was missed");
    assert_eq!(attention["obligation"], "biases and masks do not depend on the scores");
    assert!(
        attention["found"].as_str().is_some_and(|found| found.starts_with("gt: bool[5, 7]")),
        "{attention}"
    );
    // Nodes without names have their numbers.
    assert_eq!(nodes(attention), ["%3"]);
    assert_eq!(attention["nodes"][0]["op"], "softmax");
}

#[test]
fn what_is_not_allowed_says_what_would_allow_it() {
    for (options, fp, disabled, way) in [
        ("--fp strict", json!("reassoc"), json!([]), "with --fp reassoc"),
        ("--disable-rule attention", json!(null), json!(["attention"]), "without --disable-rule attention"),
        (
            "--fp strict --disable-rule attention",
            json!("reassoc"),
            json!(["attention"]),
            "with --fp reassoc and without --disable-rule attention",
        ),
    ] {
        let line = format!("explain {{E}}/attention.ir {options}");
        let report = on(&format!("{line} --json")).succeeds().json();
        let withheld = report["not_allowed"].as_array().expect("a list");
        assert_eq!(withheld.len(), 1, "{report}");
        assert_eq!(withheld[0]["makes"], "attention");
        assert_eq!((&withheld[0]["fp"], &withheld[0]["disabled"]), (&fp, &disabled), "{options}");
        assert!(nodes(&withheld[0]).contains(&"/attn/Softmax"), "{report}");
        assert_eq!(report["rewrites"], json!({}), "{options}");
        let text = on(&line).succeeds().out;
        assert!(text.contains("not allowed: attention would make attention") && text.contains(way), "{text}");
    }
    let unfused = on("explain {E}/attention.ir -O0").succeeds().out;
    assert!(unfused.contains("no rules: -O0 applies none"), "{unfused}");
}

#[test]
fn a_part_of_a_model_can_be_asked_for() {
    let all = on("explain {E}/attention.ir --json").succeeds().json();
    let name = all["kernels"][0]["name"].as_str().expect("a name");
    for part in [name, &format!("@{name}"), "/attn/Where", "attn/Wh"] {
        let report = on(&format!("explain {{E}}/attention.ir {part} --json")).succeeds().json();
        assert!(report["kernels"].as_array().is_some_and(|kernels| !kernels.is_empty()), "{part}: {report}");
    }
    // A part that no rule had to do with is in some kernel, too.
    let text = on("explain {E}/over_queries.ir /MatMul_1").succeeds().out;
    assert!(text.contains("by fusion, without a rule") && !text.contains("no attention"), "{text}");
    on("explain {E}/attention.ir /attn/Softmac")
        .refused("egraft::cli::unknown_node", &["did you mean `/attn/Softmax`?"]);
}

#[test]
fn models_and_codes_are_told_apart() {
    on("explain egraft::op::size softmax").refused("egraft::cli::explain", &["softmax"]);
    on("explain egraft::op::size --fp strict").refused("egraft::cli::explain", &["--fp"]);
    on("explain gone.onnx").refused("egraft::cli::read", &["gone.onnx"]);
    on("explain egraft::cli::unknown_rul").refused("egraft::cli::unknown_code", &["unknown_rule"]);
    on("explain {E}/README.md").refused("egraft::cli::unknown_format", &["README.md"]);
    // A program is past all rules.
    let folder = crate::folder();
    say(folder.path(), "compile {M} -o {D}/m.prog --emit prog").succeeds();
    let text = say(folder.path(), "explain {D}/m.prog").succeeds().out;
    assert!(text.contains("no rules: the model is past them"), "{text}");
}

#[test]
fn other_reports_name_rules_too() {
    let report = on("inspect {E}/attention.ir --kernels --json").succeeds().json();
    assert_eq!(report["rewrites"], json!({"attention": 1}));
    let kernels = report["kernels"].as_array().expect("a list");
    assert!(kernels.iter().any(|kernel| texts(&kernel["rules"]) == ["attention"]), "{report}");
    let text = on("inspect {E}/attention.ir --kernels").succeeds().out;
    assert!(text.lines().next().is_some_and(|line| line.contains("rules")), "{text}");
    let folder = crate::folder();
    let model = root().join("tests/data/explain/attention.ir");
    let line = format!("compile {} -o {{D}}/m.ir --emit ir --json", model.display());
    assert_eq!(say(folder.path(), &line).succeeds().json()["rewrites"], json!({"attention": 1}));
    let strict = format!("{line} --fp strict");
    assert_eq!(say(folder.path(), &strict).succeeds().json()["rewrites"], json!({}));
}

#[test]
fn a_loop_over_experts_that_stays_says_why() {
    let folder = root().join("tests/filetests/reroll");
    let explained = |file: &str| {
        let path = folder.join(file).display().to_string();
        call(["explain", &path, "--json"]).succeeds().json()
    };
    for (file, anchor, found) in [
        (
            "another_activation_ends_the_loop.ir",
            "scatter_nd",
            "`relu` of \"/0/act\" against `gelu` of \"/2/act\"",
        ),
        ("missing_expert.ir", "scatter_nd", "no link for expert 3 of 4"),
        ("needed_elsewhere.ir", "scatter_nd", "`relu` of \"/1/act\""),
        (
            "every_token_through_different_experts.ir",
            "add",
            "`relu` of \"/0/act\" against `tanh` of \"/2/act\"",
        ),
        ("segments_that_overlap.ir", "concat", "`add` of \"/2/positions\" for part 2"),
    ] {
        let report = explained(file);
        let missed = report["missed"].as_array().expect("a list");
        let missed = missed.iter().find(|missed| missed["rule"] == "reroll");
        let missed = missed.unwrap_or_else(|| panic!("{file}: {report}"));
        assert_eq!((&missed["anchor"], &missed["found"]), (&json!(anchor), &json!(found)), "{file}");
    }
    let report = explained("loop_over_experts.ir");
    let missed = report["missed"].as_array().expect("a list");
    assert!(!missed.iter().any(|missed| missed["rule"] == "reroll"), "{report}");
    assert!(report["rewrites"]["reroll"].is_number(), "{report}");
    // The softmax of what a router has chosen is not meant to be attention.
    assert!(!missed.iter().any(|missed| missed["rule"] == "attention"), "{report}");
}
