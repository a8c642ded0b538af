//! Surgery on experts: what must change nothing changes nothing, and what changes something gives what a model that was built so
//! gives.

use harness::{Tolerance, model, root};
use ir::graph::Kind;
use ir::{Graph, Scalar, Tensor, Weight};
use passes::Cx;
use passes::edit::{self, EditError, Layer, Method, Momentum, Router, Upcycling};

fn golden(case: &str) -> Graph {
    model(&root().join("tests/golden/moe").join(case).join("model.onnx"))
}

fn exposed(graph: &Graph) -> (Graph, Vec<Layer>) {
    let graph = edit::expose(graph.clone(), &Cx::default()).expect("the rules run");
    let layers = edit::layers(&graph).expect("it has experts");
    (graph, layers)
}

fn inputs(graph: &Graph, vocabulary: i64) -> Vec<Tensor> {
    let mut random = harness::Random::new(11);
    let input = |ty: &ir::TensorType| {
        let shape = ty.fixed_shape().expect("fixed sizes");
        match ty.dtype.is_float() {
            true => random.tensor(ty.dtype, &shape),
            false => Tensor::from_fn(ty.dtype, &shape, |at| {
                Scalar::from_i64(ty.dtype, (7 * at.iter().sum::<usize>() as i64 + 3) % vocabulary)
            }),
        }
    };
    harness::input_types(graph).into_iter().map(input).collect()
}

fn assert_equal(what: &str, left: &Graph, right: &Graph, inputs: &[Tensor]) {
    let run = |graph: &Graph| {
        reference::run_graph(graph, inputs).unwrap_or_else(|e| panic!("{what}: {e}\n{graph}"))
    };
    for (left, right) in run(left).iter().zip(&run(right)) {
        Tolerance { atol: 2e-6, rtol: 1e-5 }.check(left, right).unwrap_or_else(|why| panic!("{what}: {why}"));
    }
}

/// The graph with some weights changed.
fn with_weights(graph: &Graph, change: &dyn Fn(&str, &Tensor) -> Option<Tensor>) -> Graph {
    let mut graph = graph.clone();
    for id in graph.order() {
        let Kind::Weight(weight) = graph.node(id).kind.clone() else { continue };
        if let Some(other) = change(weight.name(), &weight.tensor()) {
            let value = graph.add_weight(Weight::from_tensor(weight.name(), &other), ir::Origin::none());
            graph.replace_uses(id.into(), value);
        }
    }
    graph
}

/// Whether a weight holds something for each of eight experts.
fn is_of_experts(name: &str, tensor: &Tensor) -> bool {
    tensor.shape().len() > 1 && tensor.shape()[0] == 8 && !name.starts_with("gate.")
}

/// Experts `e` and `e + half` with the weights of `e`.
fn twins(name: &str, tensor: &Tensor) -> Option<Tensor> {
    let half = tensor.shape().first().copied()? / 2;
    let twin = |at: &[usize]| tensor.at(&[&[at[0] % half], &at[1..]].concat());
    is_of_experts(name, tensor).then(|| Tensor::from_fn(tensor.dtype(), tensor.shape(), twin))
}

#[test]
fn merging_equal_experts_is_the_identity() {
    for case in ["smoe_dense", "smoe_gather", "smoe_softmax_topk", "smoe_sorted"] {
        let plain = with_weights(&golden(case), &twins);
        let (mut graph, layers) = exposed(&plain);
        let [layer] = &layers[..] else { panic!("{case}: one layer") };
        for method in Method::ALL.map(|(_, method)| method) {
            let groups =
                edit::merge(&mut graph.clone(), layer, 4, method, &[1.0; 8]).expect("it can be merged");
            assert_eq!(groups[..4], groups[4..], "{case}: twins are one group");
        }
        edit::merge(&mut graph, layer, 4, Method::Frequency, &[3.0, 0.0, 1.0, 5.0, 1.0, 0.0, 2.0, 2.0])
            .expect("merged");
        let graph = edit::clean(graph, &Cx::default()).expect("it cleans up");
        assert_equal(case, &plain, &graph, &inputs(&plain, 1));
        let [merged] = &edit::layers(&graph).expect("it still has experts")[..] else { panic!("one layer") };
        assert_eq!((merged.experts, merged.chosen), (4, layer.chosen), "{case}");
    }
}

#[test]
fn a_merged_expert_is_the_mean_of_its_group() {
    let (graph, layers) = exposed(&golden("smoe_dense"));
    let shares = [5.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 2.0];
    for method in [Method::Average, Method::Frequency] {
        let mut merged = graph.clone();
        let groups = edit::merge(&mut merged, &layers[0], 1, method, &shares).expect("it can be merged");
        assert_eq!(groups, [0; 8]);
        // All experts become that mean: then it does not matter which is chosen.
        let mean = |name: &str, tensor: &Tensor| {
            let weight = |expert: usize| if method == Method::Average { 1.0 } else { shares[expert] };
            let total: f64 = (0..8).map(weight).sum();
            let element = |at: &[usize]| {
                let of = |expert: usize| weight(expert) * tensor.at(&[&[expert], &at[1..]].concat()).to_f64();
                Scalar::from_f64(tensor.dtype(), (0..8).map(of).sum::<f64>() / total)
            };
            is_of_experts(name, tensor).then(|| Tensor::from_fn(tensor.dtype(), tensor.shape(), element))
        };
        let plain = golden("smoe_dense");
        assert_equal("mean", &with_weights(&plain, &mean), &merged, &inputs(&plain, 1));
    }
}

#[test]
fn experts_that_are_left_out_are_as_if_they_had_never_been() {
    for case in ["smoe_dense", "smoe_loop", "smoe_softmax_topk", "smoe_softmax_topk_renorm", "smoe_topk1"] {
        let plain = golden(case);
        let (mut graph, layers) = exposed(&plain);
        let kept = [0, 2, 3, 5, 7];
        edit::prune(&mut graph, &layers[0], &kept).unwrap_or_else(|error| panic!("{case}: {error}"));
        let graph = edit::clean(graph, &Cx::default()).expect("it cleans up");
        let [pruned] = &edit::layers(&graph).expect("it still has experts")[..] else { panic!("one layer") };
        assert_eq!((pruned.experts, pruned.chosen), (5, layers[0].chosen), "{case}");
        // A bias of −10^9 keeps the router of the model as it was from choosing the others, or from counting them.
        let mut hidden = exposed(&plain).0;
        let scores = {
            let layer = &edit::layers(&hidden).expect("experts")[0];
            let mut scores = hidden.operands(layer.router)[0];
            while hidden.node(scores.node).op().is_some_and(|(def, _)| def.name != "matmul") {
                scores = hidden.operands(scores.node)[0];
            }
            scores
        };
        let never = Tensor::from_fn(ir::DType::F32, &[8], |at| {
            Scalar::f32(if kept.contains(&at[0]) { 0.0 } else { -1e9 })
        });
        let never = hidden.add_weight(Weight::from_tensor("never", &never), ir::Origin::none());
        let users = hidden.users(scores);
        let attrs = ops::math::add::ADD.check_attrs([]).expect("none");
        let shifted = hidden
            .add_op(&ops::math::add::ADD, &[scores, never], attrs, ir::Origin::none())
            .expect("it fits");
        for (user, operand) in users {
            let mut operands = hidden.operands(user);
            operands[operand] = shifted.into();
            let (def, attrs) =
                hidden.node(user).op().map(|(def, attrs)| (def, attrs.clone())).expect("an op");
            let again = hidden.add_op(def, &operands, attrs, ir::Origin::none()).expect("it fits");
            for result in 0..hidden.node(user).types.len() {
                let [old, new] = [user, again].map(|node| ir::Value { node, result });
                hidden.replace_uses(old, new);
            }
        }
        assert_equal(case, &hidden, &graph, &inputs(&plain, 1));
    }
    let (mut graph, layers) = exposed(&golden("smoe_dense"));
    let error = edit::prune(&mut graph, &layers[0], &[1]).expect_err("a token chooses two");
    assert!(matches!(&error, EditError::Unfit { .. }) && error.to_string().contains("2 of 8"), "{error}");
}

fn negated(name: &str, tensor: &Tensor) -> Option<Tensor> {
    let last = name.ends_with("experts.w2") || name.ends_with("experts.b2");
    last.then(|| {
        Tensor::from_fn(tensor.dtype(), tensor.shape(), |at| {
            Scalar::from_f64(tensor.dtype(), -tensor.at(at).to_f64())
        })
    })
}

/// Both golden cases have the same weights.
#[test]
fn a_plain_checkpoint_becomes_one_with_momentum_and_back() {
    let plain = golden("lm_smoe");
    let (mut graph, layers) = exposed(&plain);
    assert_eq!(layers.len(), 4);
    edit::set_momentum(&mut graph, &layers, Momentum::On { mu: 0.7, gamma: 1.0 }).expect("residual streams");
    let graph = edit::clean(graph, &Cx::default()).expect("it cleans up");
    let built = with_weights(&golden("lm_momentum_dense"), &negated);
    let tokens = inputs(&plain, 61);
    assert_equal("momentum", &built, &graph, &tokens);

    let layers = edit::layers(&graph).expect("experts");
    let again = edit::set_momentum(&mut graph.clone(), &layers, Momentum::On { mu: 0.5, gamma: 1.0 });
    assert!(again.expect_err("it has momentum").to_string().contains("momentum already"));
    let mut back = graph;
    edit::set_momentum(&mut back, &layers, Momentum::Off).expect("it has momentum");
    assert_equal("back", &plain, &back, &tokens);

    // Without any momentum kept, nothing changes.
    let (mut graph, layers) = exposed(&plain);
    edit::set_momentum(&mut graph, &layers, Momentum::On { mu: 0.0, gamma: 1.0 }).expect("residual streams");
    assert_equal("mu = 0", &plain, &graph, &tokens);
    let off = edit::set_momentum(&mut exposed(&plain).0, &layers, Momentum::Off);
    assert!(off.expect_err("it has none").to_string().contains("no layer has momentum"));
}

#[test]
fn routers_are_swapped() {
    let swapped = |graph: &Graph, router: Router| {
        let (mut graph, layers) = exposed(graph);
        edit::set_router(&mut graph, &layers[0], router).expect("a plain router");
        edit::clean(graph, &Cx::default()).expect("it cleans up")
    };
    // There and back again.
    let plain = golden("smoe_softmax_topk");
    let renormalised = swapped(&plain, Router::SoftmaxTopkRenorm);
    let x = inputs(&plain, 1);
    assert_equal("back", &plain, &swapped(&renormalised, Router::SoftmaxTopk), &x);
    // Without the sum's quotient, each token is less by one factor.
    let run = |graph: &Graph| reference::run_graph(graph, &x).expect("it runs").remove(0).to_f64();
    for (less, more) in run(&plain).chunks(16).zip(run(&renormalised).chunks(16)) {
        let factor = less[0] / more[0];
        assert!((0.1..1.0).contains(&factor), "{factor}");
        assert!(less.iter().zip(more).all(|(less, more)| (less - factor * more).abs() < 1e-5));
    }
    // The softmax of what is chosen is what is chosen of the softmax, divided by its sum.
    let plain = golden("smoe_softmax_topk_renorm");
    let (mut graph, layers) = exposed(&plain);
    edit::set_router(&mut graph, &layers[0], Router::TopkSoftmax).expect("a plain router");
    assert_equal("equal", &plain, &graph, &inputs(&plain, 1));
    // Gates of sigmoids add up to 1, too.
    let mut graph = swapped(&plain, Router::Sigmoid);
    let combine = edit::layers(&graph).expect("experts")[0].combine.expect("a sum");
    let gates = graph.operands(combine)[1];
    graph.set_outputs([("gates".to_owned(), gates)]);
    let found = reference::run_graph(&graph, &inputs(&plain, 1)).expect("it runs").remove(0).to_f64();
    assert!(found.chunks(2).all(|pair| (pair[0] + pair[1] - 1.0).abs() < 1e-6 && pair[0] < 0.9), "{found:?}");
}

/// A transformer's dense layers become experts, and give what they gave.
#[test]
fn upcycling_changes_nothing_at_first() {
    let plain = model(&root().join("tests/golden/attention/elliptical_vit_4layer/model.onnx"));
    let mut graph = edit::expose(plain.clone(), &Cx::default()).expect("the rules run");
    let layers =
        edit::upcycle(&mut graph, Upcycling { experts: 4, chosen: 2, seed: 5 }).expect("it has dense layers");
    assert_eq!(layers.len(), 4);
    let graph = edit::clean(graph, &Cx::default()).expect("it cleans up");
    assert!(ir::verify::verify(&graph).is_empty());
    let found = edit::layers(&graph).expect("experts");
    assert_eq!(found.iter().map(|layer| (layer.experts, layer.chosen)).collect::<Vec<_>>(), [(4, 2); 4]);
    assert_equal("upcycled", &plain, &graph, &inputs(&plain, 1));
    let wrong = edit::upcycle(&mut graph.clone(), Upcycling { experts: 2, chosen: 3, seed: 5 });
    assert!(wrong.expect_err("three of two").to_string().contains("3 of 2"));
    let none = edit::upcycle(&mut graph.clone(), Upcycling { experts: 2, chosen: 1, seed: 5 });
    assert!(none.expect_err("no dense layer is left").to_string().contains("no dense layer"));
}

#[test]
fn a_model_without_experts_is_refused() {
    let graph = model(&root().join("models/zoo/digits.onnx"));
    let graph = edit::expose(graph, &Cx::default()).expect("the rules run");
    assert_eq!(edit::layers(&graph), Err(EditError::NoExperts));
}
