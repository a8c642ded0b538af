//! `egraft verify --bisect`, and the same with a wrong rule planted into the compiler.

use egraft::bisect::{Guilty, Judge, Verdict, bisect};
use egraft::{Error, Options, Source};
use harness::{check_all, input_types, random_inputs};
use ir::Tensor;
use passes::egraph::rules::planted;
use passes::pipeline::State;
use serde_json::json;

use crate::{folder, say};

/// Compares with fixed outputs, or with the reference.
struct Compared {
    inputs: Vec<Tensor>,
    expected: Vec<Tensor>,
    tried: usize,
}

impl Compared {
    fn is_good(&mut self, model: Source, options: &Options, expected: &[Tensor]) -> Result<bool, Error> {
        self.tried += 1;
        let found = egraft::compile(model, options, &mut ())?.run(&self.inputs, 1)?;
        Ok(check_all(expected, &found).is_ok())
    }
}

fn reference(model: &Source, inputs: &[Tensor]) -> Vec<Tensor> {
    let State::Graph(graph) = &model.state else { panic!("it is a graph") };
    reference::run_graph(graph, inputs).unwrap_or_else(|error| panic!("{error}"))
}

impl Judge for Compared {
    type Error = Error;

    fn outputs(&mut self, model: Source, options: &Options) -> Result<bool, Error> {
        let expected = self.expected.clone();
        self.is_good(model, options, &expected)
    }

    fn value(&mut self, model: Source, options: &Options) -> Result<bool, Error> {
        let expected = reference(&model, &self.inputs);
        self.is_good(model, options, &expected)
    }
}

/// What is found out about a model with a wrong rule in the compiler, and how often a model was run.
fn found(text: &str, options: &Options, spoilt: bool) -> (Verdict, usize) {
    let graph = harness::graph(text);
    let inputs = random_inputs(input_types(&graph), 1, &|_| 3);
    let model = Source::of_graph(graph, options);
    let mut expected = reference(&model, &inputs);
    if spoilt {
        let zeros = vec![0.0; expected[0].elements()];
        expected[0] = Tensor::from_f32(expected[0].shape(), &zeros);
    }
    let mut judge = Compared { inputs, expected, tried: 0 };
    let verdict = bisect(&model, options, &mut judge).unwrap_or_else(|error| panic!("{error}"));
    (verdict, judge.tried)
}

/// Two rules find something here: the wrong one, and one that makes a softmax.
const MODEL: &str = r#"graph @g(%x: f32[3, 4]) -> f32[3, 4] {
  %0 = exp %x : f32[3, 4] from "/Exp"("Exp", "", "")
  %1 = reduce_sum %0 {axes=[1]} : f32[3, 1] from "/ReduceSum"("ReduceSum", "", "")
  %2 = div %0, %1 : f32[3, 4] from "/Div"("Div", "", "")
  %3 = tanh %2 : f32[3, 4] from "/Tanh"("Tanh", "", "")
  %4 = exp %3 : f32[3, 4] from "/Exp_1"("Exp", "", "")
  return %4 as "y"
}
"#;

fn planted() -> Options {
    Options { extra_rules: planted::RULES, ..Options::default() }
}

#[test]
fn a_planted_rule_is_found_with_the_node_that_it_spoils() {
    let (verdict, tried) = found(MODEL, &planted(), false);
    let Verdict::Rules { guilty, node } = verdict else { panic!("{verdict:?}") };
    assert_eq!(guilty, [Guilty { rule: "planted".to_owned(), alone: true }]);
    assert_eq!(node.map(|place| place.name.clone()), Some("/Tanh".to_owned()));
    assert!(tried < 10, "{tried}");
}

#[test]
fn rules_are_not_blamed_for_what_is_wrong_without_them() {
    for options in [Options::default(), planted()] {
        assert_eq!(found(MODEL, &options, true).0, Verdict::NoRule { unoptimised: false });
    }
}

/// The command line has no such rule: what is wrong there are the data.
#[test]
fn wrong_data_are_no_rules_fault() {
    let folder = folder();
    say(folder.path(), "verify {M} --bisect").succeeds();
    let report = say(folder.path(), "verify {M} --bisect --json").succeeds().json();
    assert_eq!((&report["ok"], &report["bisect"]), (&true.into(), &json!(null)));
    say(folder.path(), "run {M} {I} --outputs {D}/y.npz").succeeds();
    let y = runner::files::read_all(&folder.path().join("y.npz")).unwrap_or_else(|error| panic!("{error}"));
    let image = harness::root().join("models/zoo/digits/3.npy");
    let x = runner::files::read_one(&image).unwrap_or_else(|error| panic!("{error}"));
    let wrong = Tensor::from_f32(&[1, 10], &[0.5; 10]);
    let wrong = egraft::tensors::to_file(&wrong).expect("it is small");
    assert_eq!(y.len(), 1);
    let file = folder.path().join("wrong.safetensors");
    runner::files::write_all(&file, &[("image", &x), ("probabilities", &wrong)]).expect("writable");
    let done = say(folder.path(), "verify {M} --data {D}/wrong.safetensors --bisect").exits(1);
    assert!(done.out.contains("no rule is guilty") && done.out.contains("with -O0 they are wrong"), "{done}");
    let report =
        say(folder.path(), "verify {M} --data {D}/wrong.safetensors --bisect --json").exits(1).json();
    let bisected = json!({"guilty": [], "node": null, "ok_without_rules": false, "ok_unoptimised": false});
    assert_eq!(report["bisect"], bisected);
    say(folder.path(), "verify {M} --bisect --per-node").exits(2);
}
