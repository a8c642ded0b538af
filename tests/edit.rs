//! Surgery on experts: what must change nothing changes nothing, and what changes something gives what a model that was built so
//! gives.

use std::collections::BTreeMap;

use harness::{Tolerance, model, root};
use ir::graph::Kind;
use ir::{DType, Graph, Scalar, Tensor, Weight};
use passes::Cx;
use passes::edit::{
    self, Calibration, Cluster, EditError, Gates, Layer, Merging, Method, Mixing, Momentum, Router,
    Upcycling, Wanted,
};

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
        let sizes = ty.shape.iter().map(|dim| dim.eval(&|_| Some(9)).expect("small sizes"));
        let shape: Vec<usize> =
            sizes.map(|size| usize::try_from(size).expect("sizes are not negative")).collect();
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

/// What merging goes by, of these shares and nothing else.
fn shares(layer: &Layer, chosen: &[f64]) -> Calibration {
    let mut calibration = Calibration::new(layer, Wanted::default());
    calibration.chosen = chosen.to_vec();
    calibration
}

/// What is measured of a layer on the inputs.
fn measured(graph: &Graph, layer: &Layer, wanted: Wanted, inputs: &[Tensor]) -> Calibration {
    let shown = edit::probe(graph, layer, wanted).expect("the experts can be shown");
    assert!(ir::verify::verify(&shown).is_empty());
    let mut calibration = Calibration::new(layer, wanted);
    calibration.add(&reference::run_graph(&shown, inputs).expect("it runs"));
    calibration
}

/// Merging of every kind.
fn mergings() -> impl Iterator<Item = Merging> {
    let of = |cluster| Method::ALL.into_iter().map(move |(_, method)| Merging { cluster, method, seed: 1 });
    Cluster::ALL.into_iter().flat_map(move |(_, cluster)| of(cluster))
}

/// Those with the means of weights alike.
fn by(method: Method) -> Merging {
    Merging { cluster: Cluster::Weights, method, seed: 1 }
}

#[test]
fn merging_equal_experts_is_the_identity() {
    for case in ["smoe_dense", "smoe_gather", "smoe_softmax_topk", "smoe_sorted"] {
        let plain = with_weights(&golden(case), &twins);
        let (mut graph, layers) = exposed(&plain);
        let [layer] = &layers[..] else { panic!("{case}: one layer") };
        let x = inputs(&plain, 1);
        for merging in mergings() {
            let mut graph = graph.clone();
            let calibration = measured(&graph, layer, merging.wants(), &x);
            let groups = edit::merge(&mut graph, layer, 4, merging, &calibration).expect("it can be merged");
            assert_eq!(groups[..4], groups[4..], "{case}, {merging:?}: twins are one group");
            assert_equal(case, &plain, &graph, &x);
        }
        let shares = shares(layer, &[3.0, 0.0, 1.0, 5.0, 1.0, 0.0, 2.0, 2.0]);
        edit::merge(&mut graph, layer, 4, by(Method::Frequency), &shares).expect("merged");
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
        let all = self::shares(&layers[0], &shares);
        let groups = edit::merge(&mut merged, &layers[0], 1, by(method), &all).expect("it can be merged");
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

/// The weights of a graph by name.
fn weights(graph: &Graph) -> BTreeMap<String, Tensor> {
    let weights = graph.order().into_iter().filter_map(|id| graph.node(id).weight().cloned());
    weights.map(|weight| (weight.name().to_owned(), weight.tensor())).collect()
}

/// Clusters by outputs are those of every expert on every token, joined by mean distances.
#[test]
fn experts_that_say_alike_are_one_cluster() {
    let plain = golden("smoe_dense");
    let (graph, layers) = exposed(&plain);
    let x = inputs(&plain, 1);
    let wanted = Wanted { outputs: true, moments: false };
    let mut calibration = measured(&graph, &layers[0], wanted, &x);
    let of = weights(&plain);
    let [w1, b1, w2, b2] = ["w1", "b1", "w2", "b2"].map(|name| &of[&format!("experts.{name}")]);
    let (tokens, wide) = (x[0].shape()[0], w1.shape()[1]);
    assert_eq!(calibration.outputs.len(), 8);
    assert_eq!(calibration.chosen.iter().sum::<f64>(), 2.0 * tokens as f64);
    for (e, said) in calibration.outputs.iter().enumerate() {
        for (d, said) in said.iter().enumerate() {
            let of_token = |n: usize| {
                let hidden = |h: usize| {
                    let terms =
                        (0..w1.shape()[2]).map(|k| w1.at(&[e, h, k]).to_f64() * x[0].at(&[n, k]).to_f64());
                    (terms.sum::<f64>() + b1.at(&[e, h]).to_f64()).max(0.0)
                };
                (0..wide).map(|h| w2.at(&[e, d, h]).to_f64() * hidden(h)).sum::<f64>()
                    + b2.at(&[e, d]).to_f64()
            };
            let expected: f64 = (0..tokens).map(of_token).sum();
            assert!((said - expected).abs() < 1e-3, "expert {e}, feature {d}: {said}, expected {expected}");
        }
    }
    // 0 and 1 are joined first, then 2.5 and 3.6. Of 5 to {2.5, 3.6}, the mean distance is 1.95; means of clusters would say
    // the same, and nearest members 1.4. From {0, 1} to 2.5 and 3.6 it is 2.55 on average.
    let places = [0.0, 1.0, 2.5, 3.6, 5.0, 40.0, 60.0, 90.0];
    calibration.outputs = places.iter().map(|&place| vec![place, 0.0]).collect();
    let merging = Merging { cluster: Cluster::Outputs, ..Merging::default() };
    for (count, expected) in
        [(7, [0, 0, 1, 2, 3, 4, 5, 6]), (6, [0, 0, 1, 1, 2, 3, 4, 5]), (5, [0, 0, 1, 1, 1, 2, 3, 4])]
    {
        let groups =
            edit::merge(&mut graph.clone(), &layers[0], count, merging, &calibration).expect("merged");
        assert_eq!(groups, expected, "{count}");
    }
    let nothing = shares(&layers[0], &[1.0; 8]);
    let error = edit::merge(&mut graph.clone(), &layers[0], 4, merging, &nothing).expect_err("no outputs");
    assert!(error.to_string().contains("not measured"), "{error}");
}

/// Biases that a model puts together are the experts', too.
#[test]
fn tables_may_be_put_together() {
    let plain = spelling("stacked_experts");
    let (mut graph, layers) = exposed(&plain);
    assert_eq!((layers[0].products.len(), layers[0].tables.len()), (2, 2));
    assert!(layers[0].others.is_empty());
    let x = inputs(&plain, 1);
    let merging = Merging { cluster: Cluster::Outputs, ..by(Method::Frequency) };
    let calibration = measured(&graph, &layers[0], merging.wants(), &x);
    edit::merge(&mut graph, &layers[0], 6, merging, &calibration).expect("each is a group of its own");
    assert_equal("six groups", &plain, &graph, &x);
}

/// The stack of a layer's product, and its elements of an expert.
fn stack(graph: &Graph, layer: &Layer, product: usize, expert: usize) -> Vec<f64> {
    let value = graph.operands(layer.products[product])[1];
    let mut shown = graph.clone();
    shown.set_outputs([("stack".to_owned(), value)]);
    let inputs = inputs(graph, 1);
    let all = reference::run_graph(&shown, &inputs).expect("it is a constant").remove(0);
    let size = all.elements() / all.shape()[0];
    all.to_f64()[expert * size..(expert + 1) * size].to_vec()
}

/// `Σ ‖x W − x Wₑ‖²` of products with one matrix instead of those of the experts, over the rows that meet each.
fn loss(one: &[f64], matrices: &[Vec<f64>], moments: &[Vec<f64>]) -> f64 {
    let rows = moments[0].len().isqrt();
    let columns = one.len() / rows;
    let of_expert = |(matrix, moments): (&Vec<f64>, &Vec<f64>)| {
        let apart: Vec<f64> = one.iter().zip(matrix).map(|(one, own)| one - own).collect();
        let pair = |i: usize, k: usize| {
            let together = (0..columns).map(|j| apart[i * columns + j] * apart[k * columns + j]).sum::<f64>();
            moments[i * rows + k] * together
        };
        (0..rows).map(|i| (0..rows).map(|k| pair(i, k)).sum::<f64>()).sum::<f64>()
    };
    matrices.iter().zip(moments).map(of_expert).sum()
}

#[test]
fn curvatures_of_data_make_what_products_say_nearest() {
    let plain = golden("smoe_dense");
    let (graph, layers) = exposed(&plain);
    let layer = &layers[0];
    let merging = by(Method::Camex);
    let calibration = measured(&graph, layer, merging.wants(), &inputs(&plain, 1));
    let merged = |method: Method, calibration: &Calibration| {
        let mut graph = graph.clone();
        let groups = edit::merge(&mut graph, layer, 1, by(method), calibration).expect("it can be merged");
        assert_eq!(groups, [0; 8]);
        edit::clean(graph, &Cx::default()).expect("it cleans up")
    };
    let result = merged(Method::Camex, &calibration);
    let of = |graph: &Graph, product| stack(graph, &edit::layers(graph).expect("experts")[0], product, 0);
    for product in 0..2 {
        let matrices: Vec<Vec<f64>> = (0..8).map(|expert| stack(&graph, layer, product, expert)).collect();
        let moments = &calibration.moments[product];
        let least = loss(&of(&result, product), &matrices, moments);
        for method in [Method::Average, Method::Frequency, Method::Ties] {
            let other = loss(&of(&merged(method, &calibration), product), &matrices, moments);
            assert!(least < 0.9 * other, "product {product}: {least}, and {other} by {method:?}");
        }
        // A small step in any direction makes it no better, up to what keeps the curvature from being singular.
        let mut random = harness::Random::new(3);
        let step: Vec<f64> = of(&result, product).iter().map(|w| w + random.number(0.02)).collect();
        assert!(least < loss(&step, &matrices, moments), "product {product}");
    }
    // The same curvature everywhere is none.
    let mut flat = shares(layer, &[1.0; 8]);
    flat.moments = calibration.moments.iter().map(|all| vec![all[0].clone(); 8]).collect();
    for moments in flat.moments.iter_mut().flatten() {
        let rows = moments.len().isqrt();
        (0..rows).for_each(|i| moments[i * rows + i] += 1.0);
    }
    let [camex, average] = [Method::Camex, Method::Average].map(|method| merged(method, &flat));
    assert_equal("equal curvatures", &average, &camex, &inputs(&plain, 1));
}

/// Rows of a matrix count as much as what is read by them.
#[test]
fn fisher_information_is_that_of_what_each_row_reads() {
    let plain = golden("smoe_dense");
    let (graph, layers) = exposed(&plain);
    let layer = &layers[0];
    let calibration = measured(&graph, layer, by(Method::Fisher).wants(), &inputs(&plain, 1));
    let mut merged = graph.clone();
    edit::merge(&mut merged, layer, 1, by(Method::Fisher), &calibration).expect("it can be merged");
    let merged = edit::clean(merged, &Cx::default()).expect("it cleans up");
    for product in 0..2 {
        let found = stack(&merged, &edit::layers(&merged).expect("experts")[0], product, 0);
        let matrices: Vec<Vec<f64>> = (0..8).map(|expert| stack(&graph, layer, product, expert)).collect();
        let features = calibration.moments[product][0].len().isqrt();
        for (at, found) in found.iter().enumerate() {
            let row = at / (matrices[0].len() / features);
            let fisher = |expert: usize| calibration.moments[product][expert][row * features + row];
            let total: f64 = (0..8).map(fisher).sum();
            let mean = (0..8).map(|expert| fisher(expert) * matrices[expert][at]).sum::<f64>() / total;
            // Features that a ReLU always closes are read by none: then the mean is the plain one.
            let plain = matrices.iter().map(|matrix| matrix[at]).sum::<f64>() / 8.0;
            let expected = if total > 0.0 { mean } else { plain };
            assert!((found - expected).abs() < 1e-6, "product {product}, {at}: {found}, expected {expected}");
        }
    }
}

/// DARE drops a tenth of the differences to the mean, and makes up for it by the others.
#[test]
fn dropped_differences_are_a_tenth() {
    let plain = golden("smoe_dense");
    let (graph, layers) = exposed(&plain);
    let merged = |seed: u64| {
        let mut graph = graph.clone();
        let merging = Merging { seed, ..by(Method::Dare) };
        edit::merge(&mut graph, &layers[0], 1, merging, &shares(&layers[0], &[1.0; 8])).expect("merged");
        let graph = edit::clean(graph, &Cx::default()).expect("it cleans up");
        stack(&graph, &edit::layers(&graph).expect("experts")[0], 0, 0)
    };
    let experts: Vec<Vec<f64>> = (0..8).map(|expert| stack(&graph, &layers[0], 0, expert)).collect();
    let found = merged(4);
    let mut dropped = [0_usize; 2];
    for (at, found) in found.iter().enumerate() {
        let mean = experts.iter().map(|expert| expert[at]).sum::<f64>() / 8.0;
        let apart: Vec<f64> = experts.iter().map(|expert| (expert[at] - mean) / (8.0 * 0.9)).collect();
        // What is missing is a sum of some differences: of the fewest that explain it, since all together they are 0.
        let sum = |which: u32| (0..8).filter(|bit| which >> bit & 1 == 0).map(|bit| apart[bit]).sum::<f64>();
        let explains = |which: &u32| (found - mean - sum(*which)).abs() < 1e-7;
        let which = (0..256_u32).filter(explains).min_by_key(|which| which.count_ones());
        let which = which.unwrap_or_else(|| panic!("{at}: {found} is no mean of kept differences"));
        dropped[0] += which.count_ones() as usize;
        dropped[1] += 8;
    }
    let share = dropped[0] as f64 / dropped[1] as f64;
    assert!((share - 0.1).abs() < 0.03, "{share} of {} are dropped", dropped[1]);
    assert_eq!(found, merged(4), "the same seed draws the same");
    assert_ne!(found, merged(5), "another seed draws others");
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
        edit::set_router(&mut graph, &layers, 0, router).expect("a plain router");
        edit::clean(graph, &Cx::default()).expect("it cleans up")
    };
    // There and back again.
    let plain = golden("smoe_softmax_topk");
    let renormalised = swapped(&plain, Router::Gates(Gates::SoftmaxTopkRenorm));
    let x = inputs(&plain, 1);
    assert_equal("back", &plain, &swapped(&renormalised, Router::Gates(Gates::SoftmaxTopk)), &x);
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
    edit::set_router(&mut graph, &layers, 0, Router::Gates(Gates::TopkSoftmax)).expect("a plain router");
    assert_equal("equal", &plain, &graph, &inputs(&plain, 1));
    // Gates of sigmoids add up to 1, too.
    let mut graph = swapped(&plain, Router::Gates(Gates::Sigmoid));
    let combine = edit::layers(&graph).expect("experts")[0].combine.expect("a sum");
    let gates = graph.operands(combine)[1];
    graph.set_outputs([("gates".to_owned(), gates)]);
    let found = reference::run_graph(&graph, &inputs(&plain, 1)).expect("it runs").remove(0).to_f64();
    assert!(found.chunks(2).all(|pair| (pair[0] + pair[1] - 1.0).abs() < 1e-6 && pair[0] < 0.9), "{found:?}");
}

type Params = BTreeMap<String, Tensor>;

fn set(settings: &str) -> Vec<(String, String)> {
    let pairs = settings.split_whitespace().map(|pair| pair.split_once('=').expect("a key and a value"));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Random weights of a built-in model, from −1/2 to 1/2.
fn params(model: &str, settings: &str) -> Params {
    let described = zoo::find(model).expect("it is there").describe(&set(settings)).expect("it is described");
    let mut random = harness::Random::new(29);
    let mut tensor =
        |shape: &[usize]| Tensor::from_fn(DType::F32, shape, |_| Scalar::f32(random.number(0.5) as f32));
    let params = described.params.into_iter();
    params.map(|(name, ty)| (name, tensor(&ty.fixed_shape().expect("sizes are numbers")))).collect()
}

fn build(model: &str, settings: &str, params: &Params) -> Graph {
    let weight =
        |(name, tensor): (&String, &Tensor)| (name.clone(), Weight::of(name.clone(), tensor.clone()));
    let weights: BTreeMap<String, Weight> = params.iter().map(weight).collect();
    zoo::find(model).expect("it is there").build(&set(settings), Some(&weights)).expect("it is built")
}

fn changed(tensor: &Tensor, change: impl Fn(&[usize], f64) -> f64) -> Tensor {
    let element = |at: &[usize]| Scalar::from_f64(tensor.dtype(), change(at, tensor.at(at).to_f64()));
    Tensor::from_fn(tensor.dtype(), tensor.shape(), element)
}

fn with_ac(graph: &Graph) -> Graph {
    let (mut graph, layers) = exposed(graph);
    for number in 0..layers.len() {
        let layers = edit::layers(&graph).expect("experts");
        let is_set = edit::set_router(&mut graph, &layers, number, Router::Ac).expect("plain routers");
        assert_eq!(is_set, number > 0);
        graph = edit::clean(graph, &Cx::default()).expect("it cleans up");
        assert!(ir::verify::verify(&graph).is_empty());
    }
    graph
}

/// A plain language model with routers of unit rows, and without their biases, becomes the one that is built so.
#[test]
fn a_plain_checkpoint_gets_routers_of_clusters() {
    const SIZES: &str = "form=lm dim=16 hidden=12 experts=6 heads=2 span=5 depth=3 words=61";
    let mut plain = params("smoe", SIZES);
    let mut ac = params("acmoe", &format!("{SIZES} plain=1"));
    for (name, tensor) in &mut ac {
        let Some(layer) = name.strip_suffix("embedding") else {
            *tensor = plain[name].clone();
            continue;
        };
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{layer}{part}"));
        let rows = plain[&weight].clone();
        let norm = |e: usize| (0..16).map(|d| rows.at(&[e, d]).to_f64().powi(2)).sum::<f64>().sqrt();
        plain.insert(weight, changed(&rows, |at, x| x / norm(at[0])));
        plain.insert(bias.clone(), changed(&plain[&bias], |_, _| 0.0));
        *tensor = rows;
    }
    let plain = build("smoe", SIZES, &plain);
    let built = build("acmoe", &format!("{SIZES} plain=1"), &ac);
    let words = inputs(&plain, 61);
    assert_equal("ac", &built, &with_ac(&plain), &words);
    let [before, after] =
        [&plain, &built].map(|graph| reference::run_graph(graph, &words).expect("it runs").remove(0));
    assert!(Tolerance::F32.check(&before, &after).is_err(), "routers of clusters choose otherwise");
}

/// One cluster is everywhere as tight as all of them on average.
#[test]
fn a_router_of_one_cluster_is_the_plain_one() {
    const SIZES: &str = "form=lm dim=16 hidden=12 experts=6 heads=2 span=5 depth=2 words=61 k=1";
    let mut params = params("smoe", SIZES);
    let is_first_bias = |name: &str| name.starts_with("layers.0.") && name.ends_with("gate.bias");
    let (_, bias) = params.iter_mut().find(|(name, _)| is_first_bias(name)).expect("routers have biases");
    *bias = changed(bias, |at, _| if at[0] == 0 { 50.0 } else { 0.0 });
    let plain = build("smoe", SIZES, &params);
    assert_equal("one cluster", &plain, &with_ac(&plain), &inputs(&plain, 61));
    let (mut graph, layers) = exposed(&golden("smoe_dense"));
    let error = edit::set_router(&mut graph, &layers, 0, Router::Ac).expect_err("one layer");
    assert!(
        matches!(&error, EditError::Unfit { .. }) && error.to_string().contains("layer before"),
        "{error}"
    );
}

/// How many kernels the graph runs.
fn launches(graph: &Graph) -> usize {
    harness::compile(graph, 2).entries.iter().map(|entry| entry.calls().len()).sum()
}

/// The graph with its shared experts folded: as many of them, the same values, and so many kernels less.
fn folded(what: &str, plain: &Graph, experts: &[usize], fewer: usize) -> Graph {
    let mut graph = edit::expose(plain.clone(), &Cx::default()).expect("the rules run");
    let found = edit::fold_shared(&mut graph).unwrap_or_else(|error| panic!("{what}: {error}\n{graph}"));
    assert_eq!(found.into_iter().flat_map(|shared| shared.experts).collect::<Vec<_>>(), experts, "{what}");
    let graph = edit::clean(graph, &Cx::default()).expect("it cleans up");
    assert!(ir::verify::verify(&graph).is_empty(), "{what}");
    assert_equal(what, plain, &graph, &inputs(plain, 1));
    let [before, after] = [plain, &graph].map(launches);
    assert_eq!(before - after, fewer, "{what}: {before} kernels become {after}");
    graph
}

#[test]
fn shared_experts_become_experts_that_every_token_takes() {
    const SIZES: &str = "dim=16 hidden=12 experts=8 shared=2 k=3 factor=1.5";
    let plain = build("deepseek-moe", SIZES, &params("deepseek-moe", SIZES));
    let graph = folded("deepseek-moe", &plain, &[8, 9], 2);
    let layers = edit::layers(&graph).expect("it still has experts");
    assert_eq!((layers[0].experts, layers[0].always, layers[0].chosen), (8, 2, 3));
    // What counts experts comes before, what does not may come after.
    let error = edit::prune(&mut graph.clone(), &layers[0], &[0, 1, 2, 3]).expect_err("it is folded");
    assert!(error.to_string().contains("folded in already (2)"), "{error}");
    let mut moving = graph.clone();
    edit::set_momentum(&mut moving, &layers, Momentum::On { mu: 0.0, gamma: 1.0 })
        .expect("a residual stream");
    assert_equal("momentum", &plain, &moving, &inputs(&plain, 1));
}

/// Experts whose first matrices are one, and a shared one twice as wide, with matrices of its own and a gate.
const GATED: &str = "
weights @route : f32[6, 4] = splat 0.0
weights @first : f32[4, 6, 6] = splat 0.0
weights @bias : f32[4, 6] = splat 0.0
weights @last : f32[4, 3, 6] = splat 0.0
weights @gate : f32[6, 1] = splat 0.0
weights @up : f32[6, 6] = splat 0.0
weights @act : f32[6, 6] = splat 0.0
weights @shift : f32[6] = splat 0.0
weights @down : f32[6, 6] = splat 0.0
graph @g(%u: f32[b, n, 6]) -> f32[b, n, 6] {
  %x = tanh %u : f32[b, n, 6]
  %flat = reshape %x {shape=[b*n, 6]} : f32[b*n, 6]
  %scores = matmul %flat, @route : f32[b*n, 4]
  %values, %ids = topk %scores {k=2} : f32[b*n, 2], i64[b*n, 2]
  %gates = softmax %values {axis=-1} : f32[b*n, 2]
  %rows = reshape %flat {shape=[b*n, 1, 6]} : f32[b*n, 1, 6]
  %wide = grouped_matmul %rows, @first, %ids : f32[b*n, 2, 6]
  %biases = gather @bias, %ids : f32[b*n, 2, 6]
  %both = add %wide, %biases : f32[b*n, 2, 6]
  %left = slice %both {sizes=[b*n, 2, 3], starts=[0, 0, 0], steps=[1, 1, 1]} : f32[b*n, 2, 3]
  %right = slice %both {sizes=[b*n, 2, 3], starts=[0, 0, 3], steps=[1, 1, 1]} : f32[b*n, 2, 3]
  %on = silu %left : f32[b*n, 2, 3]
  %h = mul %on, %right : f32[b*n, 2, 3]
  %said = grouped_matmul %h, @last, %ids : f32[b*n, 2, 6]
  %sum = combine %said, %gates : f32[b*n, 6]
  %routed = reshape %sum {shape=[b, n, 6]} : f32[b, n, 6]
  %s0 = matmul %x, @up : f32[b, n, 6]
  %s1 = matmul %x, @act : f32[b, n, 6]
  %s2 = add %s1, @shift : f32[b, n, 6]
  %s3 = silu %s2 : f32[b, n, 6]
  %s4 = mul %s0, %s3 : f32[b, n, 6]
  %s5 = matmul %s4, @down : f32[b, n, 6]   from \"/shared/down\"
  %t0 = matmul %x, @gate : f32[b, n, 1]
  %t1 = sigmoid %t0 : f32[b, n, 1]
  %s6 = mul %t1, %s5 : f32[b, n, 6]
  %y0 = add %s6, %u : f32[b, n, 6]
  %y = add %routed, %y0 : f32[b, n, 6]
  return %y
}
";

/// The graph that a text says, with random weights.
fn random_weights(text: &str) -> Graph {
    let mut random = harness::Random::new(5);
    let random = std::cell::RefCell::new(&mut random);
    let drawn = |_: &str, tensor: &Tensor| Some(random.borrow_mut().tensor(tensor.dtype(), tensor.shape()));
    with_weights(&harness::graph(text), &drawn)
}

#[test]
fn a_shared_expert_is_compared_with_the_routed_ones_op_by_op() {
    folded("gated", &random_weights(GATED), &[4, 5], 2);
    folded("spelling", &spelling("deepseek_masked_loop"), &[6], 2);
    // The same again without its gate: another one.
    let twice = "%y1 = add %s6, %u : f32[b, n, 6]\n  %y0 = add %y1, %s5 : f32[b, n, 6]";
    let twice = GATED.replace("%y0 = add %s6, %u : f32[b, n, 6]", twice);
    folded("twice", &random_weights(&twice), &[4, 5, 6, 7], 2);
    let refused = |change: &[(&str, &str)], why: &str| {
        let text = change.iter().fold(GATED.to_owned(), |text, (old, new)| {
            assert!(text.contains(old), "{old}");
            text.replace(old, new)
        });
        let mut graph = edit::expose(random_weights(&text), &Cx::default()).expect("the rules run");
        let error = edit::fold_shared(&mut graph).expect_err(why);
        assert!(matches!(&error, EditError::Unfit { .. }) && error.to_string().contains(why), "{error}");
    };
    refused(&[("silu %s2", "relu %s2")], "not computed as the routed ones are, at");
    refused(&[("matmul %x, @act", "matmul %u, @act")], "reads other values than the routed ones");
    refused(
        &[
            ("@up : f32[6, 6]", "@up : f32[6, 5]"),
            ("@act : f32[6, 6]", "@act : f32[6, 5]"),
            ("@shift : f32[6]", "@shift : f32[5]"),
            ("@down : f32[6, 6]", "@down : f32[5, 6]"),
            ("@up : f32[b, n, 6]", "@up : f32[b, n, 5]"),
            ("@act : f32[b, n, 6]", "@act : f32[b, n, 5]"),
            ("@shift : f32[b, n, 6]", "@shift : f32[b, n, 5]"),
            ("silu %s2 : f32[b, n, 6]", "silu %s2 : f32[b, n, 5]"),
            ("mul %s0, %s3 : f32[b, n, 6]", "mul %s0, %s3 : f32[b, n, 5]"),
        ],
        "a matrix of the shared expert is 5 x 6, and those of the routed ones, 3 x 6, are no part of it, at `/shared/down`",
    );
    refused(&[("add %routed, %y0", "add %routed, %u")], "no dense expert");
    refused(&[("add %wide, %biases", "mul %wide, %biases")], "not computed as");
}

fn spelling(case: &str) -> Graph {
    model(&root().join("tests/golden/spellings").join(case).join("model.onnx"))
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

/// The encoder that MoLEx builds, of three layers, in a form.
fn molex(form: &str) -> Graph {
    let settings = format!("{form} dim=8 heads=2 hidden=6 depth=3 rank=2");
    let pairs = settings.split_whitespace().filter_map(|pair| pair.split_once('='));
    let settings: Vec<(String, String)> = pairs.map(|(key, value)| (key.into(), value.into())).collect();
    zoo::find("molex").expect("it is there").build(&settings, None).expect("the settings fit")
}

/// The layers of an encoder become those of MoLEx: what is built so, with the gates that were drawn, is the same function.
#[test]
fn layers_become_experts_of_each_other() {
    let base = molex("form=base");
    let exposed = edit::expose(base.clone(), &Cx::default()).expect("the rules run");
    let mixed = |own: f64| {
        let mut graph = exposed.clone();
        let layers = edit::mix_layers(&mut graph, Mixing { own, seed: 3 }).expect("it has layers");
        assert_eq!(layers.len(), 3, "{layers:?}");
        let graph = edit::clean(graph, &Cx::default()).expect("it cleans up");
        assert!(ir::verify::verify(&graph).is_empty());
        graph
    };
    let x = inputs(&base, 1);
    assert_equal("alone", &base, &mixed(1.0), &x);
    let graph = mixed(0.75);
    let gates: Vec<Tensor> = graph
        .order()
        .into_iter()
        .filter_map(|id| graph.node(id).weight().filter(|weight| weight.name() == "gate.weight").cloned())
        .map(|weight| weight.tensor())
        .collect();
    let [a, b, c] = &gates[..] else { panic!("{} gates", gates.len()) };
    let drawn = |name: &str, tensor: &Tensor| {
        let all = |at: &[usize]| [a, b, c][at[0]].at(&[at[2], at[1]]);
        (name == "gate_w").then(|| Tensor::from_fn(tensor.dtype(), tensor.shape(), all))
    };
    assert_equal("mixed", &with_weights(&molex("alpha=0.75"), &drawn), &graph, &x);
    let mut dense = edit::expose(golden("smoe_dense"), &Cx::default()).expect("the rules run");
    let error = edit::mix_layers(&mut dense, Mixing { own: 0.9, seed: 3 }).expect_err("one layer");
    assert!(error.to_string().contains("no layers of one form"), "{error}");
}

#[test]
fn a_model_without_experts_is_refused() {
    let graph = model(&root().join("models/zoo/digits.onnx"));
    let graph = edit::expose(graph, &Cx::default()).expect("the rules run");
    assert_eq!(edit::layers(&graph), Err(EditError::NoExperts));
}
