//! Every rewrite rule, by its filetest `filetests/saturate/NAME.ir`: it is applied there, the meaning stays (to the bit
//! if the rule is exact), and with the rule disabled it has no part in the result.

use std::fs;

use harness::{Random, check_all, input_types, random_inputs, root, sizes_of_round};
use ir::Graph;
use passes::egraph::rules::{self, Exactness, Rule};
use passes::egraph::{Report, rewrite};
use passes::{Cx, FpMode};

fn example(rule: &Rule) -> Graph {
    let path = root().join(format!("tests/filetests/saturate/{}.ir", rule.name.replace('-', "_")));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    harness::graph(&text)
}

fn rewritten(graph: &Graph, cx: &Cx) -> (Graph, Report) {
    let mut graph = graph.clone();
    let report = rewrite(&mut graph, cx);
    let violations = ir::verify::verify(&graph);
    assert!(violations.is_empty(), "{violations:#?}\n{graph}");
    (graph, report)
}

/// Does the rule have a part in the graph?
fn takes_part(rule: &Rule, graph: &Graph) -> bool {
    let by = |id: &ir::NodeId| graph.node(*id).origin.rules().iter().any(|name| **name == *rule.name);
    graph.order().iter().any(by)
}

#[test]
fn every_rule_does_what_its_example_says() {
    for rule in rules::all() {
        let before = example(rule);
        let cx = Cx { fp: FpMode::Fast, ..Cx::default() };
        let (after, report) = rewritten(&before, &cx);
        assert!(report.applied.contains_key(rule.name), "`{}` is not applied:\n{after}", rule.name);
        assert!(takes_part(rule, &after), "`{}` has no part in the result:\n{after}", rule.name);

        let off = Cx { disabled_rules: vec![rule.name.to_owned()], ..cx };
        let (without, report) = rewritten(&before, &off);
        assert!(!report.applied.contains_key(rule.name), "`{}` is applied though disabled", rule.name);
        assert_ne!(without.to_string(), after.to_string(), "`{}` makes no difference", rule.name);
    }
}

#[test]
fn no_rule_changes_a_meaning() {
    for rule in rules::all() {
        let before = example(rule);
        // By itself, as far as it goes without others; and with all of them.
        let others = || rules::all().map(|other| other.name.to_owned()).filter(|name| name != rule.name);
        let alone = Cx { fp: FpMode::Fast, disabled_rules: others().collect(), ..Cx::default() };
        for cx in [alone, Cx { fp: FpMode::Fast, ..Cx::default() }] {
            let (after, _) = rewritten(&before, &cx);
            let exact = !cx.disabled_rules.is_empty() && rule.exactness == Exactness::Exact;
            for round in 0..3 {
                let types: Vec<ir::TensorType> = input_types(&before).into_iter().cloned().collect();
                let inputs = random_inputs(&types, round as u64, &sizes_of_round(round));
                let run = |graph: &Graph| reference::run_graph(graph, &inputs);
                let expected = run(&before).unwrap_or_else(|e| panic!("`{}`: {e}", rule.name));
                let found = run(&after).unwrap_or_else(|e| panic!("`{}`: {e}\n{after}", rule.name));
                check_all(&expected, &found).unwrap_or_else(|e| panic!("`{}`: {e}\n{after}", rule.name));
                let same = expected.iter().zip(&found).all(|(a, b)| a.bytes() == b.bytes());
                assert!(same || !exact, "`{}` is exact, but bits differ:\n{after}", rule.name);
            }
        }
    }
}

#[test]
fn strict_arithmetic_is_not_regrouped() {
    for rule in rules::all().filter(|rule| rule.exactness != Exactness::Exact) {
        let cx = Cx { fp: FpMode::Strict, ..Cx::default() };
        let (after, report) = rewritten(&example(rule), &cx);
        assert!(!report.applied.contains_key(rule.name), "`{}` is applied at strict", rule.name);
        assert!(!takes_part(rule, &after), "`{}` has a part at strict", rule.name);
    }
}

/// A transformer of so many layers as an exporter writes it, every layer with weights of its own.
fn transformer(layers: usize) -> Graph {
    let mut weights =
        String::from("weights @root : f32[] = splat 1.4142135\nweights @one : f32[] = splat 1.0\n");
    weights += "weights @half : f32[] = splat 0.5\nweights @scale : f32[] = splat 4.0\n";
    let mut body = String::new();
    let mut value = 0;
    let mut x = "%x".to_owned();
    for layer in 0..layers {
        let sizes = ["[64, 64]", "[64, 64]", "[64, 64]", "[64, 64]", "[64, 128]", "[128, 64]", "[64]"];
        for (n, size) in sizes.iter().enumerate() {
            weights += &format!("weights @w{layer}.{n} : f32{size} = splat 0.0\n");
        }
        let mut op = |text: String, ty: &str| {
            body += &format!("  %{value} = {text} : {ty}\n");
            value += 1;
            format!("%{}", value - 1)
        };
        let (flat, heads, square) = ("f32[b, n, 64]", "f32[b, 4, n, 16]", "f32[b, 4, n, n]");
        let norm = op(format!("layer_norm {x} {{axes=[2]}}"), flat);
        let norm = op(format!("mul {norm}, @w{layer}.6"), flat);
        let head = |n: usize, perm: &str, ty: &str, op: &mut dyn FnMut(String, &str) -> String| {
            let product = op(format!("matmul {norm}, @w{layer}.{n}"), flat);
            let split = op(format!("reshape {product} {{shape=[b, n, 4, 16]}}"), "f32[b, n, 4, 16]");
            op(format!("transpose {split} {{perm={perm}}}"), ty)
        };
        let q = head(0, "[0, 2, 1, 3]", heads, &mut op);
        let k = head(1, "[0, 2, 3, 1]", "f32[b, 4, 16, n]", &mut op);
        let v = head(2, "[0, 2, 1, 3]", heads, &mut op);
        let scores = op(format!("matmul {q}, {k}"), square);
        let scores = op(format!("div {scores}, @scale"), square);
        let softmax = op(format!("softmax {scores} {{axis=-1}}"), square);
        let y = op(format!("matmul {softmax}, {v}"), heads);
        let y = op(format!("transpose {y} {{perm=[0, 2, 1, 3]}}"), "f32[b, n, 4, 16]");
        let y = op(format!("reshape {y} {{shape=[b, n, 64]}}"), flat);
        let y = op(format!("matmul {y}, @w{layer}.3"), flat);
        let y = op(format!("add {x}, {y}"), flat);
        let norm = op(format!("layer_norm {y} {{axes=[2]}}"), flat);
        let wide = "f32[b, n, 128]";
        let h = op(format!("matmul {norm}, @w{layer}.4"), wide);
        let e = op(format!("div {h}, @root"), wide);
        let e = op(format!("erf {e}"), wide);
        let e = op(format!("add {e}, @one"), wide);
        let e = op(format!("mul {h}, {e}"), wide);
        let e = op(format!("mul {e}, @half"), wide);
        let h = op(format!("matmul {e}, @w{layer}.5"), flat);
        x = op(format!("add {y}, {h}"), flat);
    }
    let text = format!("{weights}graph @g(%x: f32[b, n, 64]) -> f32[b, n, 64] {{\n{body}  return {x}\n}}\n");
    let mut graph = harness::graph(&text);
    let mut random = Random::new(1);
    for id in graph.order() {
        let Some(weight) = graph.node(id).weight().filter(|weight| weight.elements() > 1).cloned() else {
            continue;
        };
        let contents = random.tensor(weight.dtype(), weight.shape());
        let new = graph.add_weight(ir::Weight::from_tensor(weight.name(), &contents), ir::Origin::none());
        graph.replace_uses(id.into(), new);
        graph.remove(id);
    }
    graph
}

#[test]
fn a_deep_model_is_rewritten_layer_by_layer() {
    let graph = transformer(24);
    let (after, report) = rewritten(&graph, &Cx::default());
    let count = |name: &str| {
        after
            .order()
            .iter()
            .filter(|&&id| after.node(id).op().is_some_and(|(def, _)| def.name == name))
            .count()
    };
    assert_eq!([count("attention"), count("softmax"), count("gelu")], [24, 0, 24]);
    assert_eq!(report.applied["attention"], 24);
    assert!(
        report.regions >= 24 && report.distinct <= 4,
        "{} of {} regions",
        report.distinct,
        report.regions
    );
    let (again, _) = rewritten(&graph, &Cx::default());
    assert_eq!(after.to_string(), again.to_string(), "two compilations differ");
}

#[test]
fn products_are_joined_once() {
    let rule = rules::find("joint-product").expect("it is a rule");
    let (_, report) = rewritten(&example(rule), &Cx::default());
    assert_eq!(report.applied[rule.name], 1);
}
