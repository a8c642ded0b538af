//! Built-in models against what must be true of them, whatever their weights: other models that they become in a limit, and
//! formulas written out in `f64`.

use std::collections::{BTreeMap, BTreeSet};

use harness::{Everywhere, Random, Tolerance};
use ir::{DType, Graph, Scalar, Tensor, Weight};

/// Sums of a few dozen products of numbers around 1, in `f32` and in another order.
const NEAR: Tolerance = Tolerance { atol: 2e-5, rtol: 1e-4 };

/// Weights by name.
type Params = BTreeMap<String, Tensor>;

fn set(settings: &str) -> Vec<(String, String)> {
    let pairs = settings.split_whitespace().map(|pair| pair.split_once('=').expect("a key and a value"));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Random weights that the model wants, from −1/2 to 1/2.
fn params(model: &str, settings: &str) -> Params {
    let described = zoo::find(model).expect("it is there").describe(&set(settings)).expect("it is described");
    let mut random = Random::new(11);
    let mut tensor = |shape: &[usize]| {
        let mut number = || Scalar::f32(random.number(0.5) as f32);
        Tensor::from_fn(DType::F32, shape, |_| number())
    };
    let params = described.params.into_iter();
    params.map(|(name, ty)| (name, tensor(&ty.fixed_shape().expect("sizes are numbers")))).collect()
}

fn build(model: &str, settings: &str, params: &Params) -> Graph {
    let weights: BTreeMap<String, Weight> = params
        .iter()
        .map(|(name, tensor)| (name.clone(), Weight::of(name.clone(), tensor.clone())))
        .collect();
    let entry = zoo::find(model).expect("it is there");
    entry.build(&set(settings), Some(&weights)).unwrap_or_else(|error| panic!("{error}"))
}

/// The outputs of a model, by the reference.
fn run(model: &str, settings: &str, params: &Params, inputs: &[Tensor]) -> Vec<Tensor> {
    let graph = build(model, settings, params);
    reference::run_graph(&graph, inputs).unwrap_or_else(|error| panic!("{model} {settings}: {error}"))
}

fn near(expected: &Tensor, found: &Tensor) {
    NEAR.check(expected, found).unwrap_or_else(|why| panic!("{why}"));
}

fn random(seed: u64, shape: &[usize]) -> Tensor {
    Random::new(seed).tensor(DType::F32, shape)
}

/// Each number changed.
fn changed(tensor: &Tensor, change: impl Fn(f64) -> f64) -> Tensor {
    let mut values = tensor.to_f64().into_iter().map(change);
    Tensor::from_fn(DType::F32, tensor.shape(), |_| Scalar::f32(values.next().expect("one for each") as f32))
}

/// A matrix in `f64`: rows of what lies at an index of the leading axes.
fn matrix(tensor: &Tensor, at: &[usize]) -> Vec<Vec<f64>> {
    let [rows, cols] = [0, 1].map(|axis| tensor.shape()[at.len() + axis]);
    let number = |i: usize, j: usize| tensor.at(&[at, &[i, j]].concat()).to_f64();
    (0..rows).map(|i| (0..cols).map(|j| number(i, j)).collect()).collect()
}

fn vector(tensor: &Tensor, at: usize) -> Vec<f64> {
    (0..tensor.shape()[1]).map(|j| tensor.at(&[at, j]).to_f64()).collect()
}

/// `W x`.
fn product(matrix: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    matrix.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn added(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let all: Vec<f64> = x.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = all.iter().sum();
    all.iter().map(|x| x / sum).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// The `k` places of the largest, in descending order.
fn largest(x: &[f64], k: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..x.len()).collect();
    places.sort_by(|&a, &b| x[b].total_cmp(&x[a]).then(a.cmp(&b)));
    places.truncate(k);
    places
}

/// `W2 (silu(W1 x) ∘ W3 x)`, of the matrices at an index of the leading axes.
fn gated(params: &Params, scope: &str, at: &[usize], x: &[f64]) -> Vec<f64> {
    let [w1, w3, w2] = ["w1", "w3", "w2"].map(|name| matrix(&params[&format!("{scope}.{name}")], at));
    let (gate, up) = (product(&w1, x), product(&w3, x));
    let h: Vec<f64> = gate.iter().zip(&up).map(|(gate, up)| silu(*gate) * up).collect();
    product(&w2, &h)
}

/// All rows as one tensor.
fn rows(rows: &[Vec<f64>]) -> Tensor {
    let numbers: Vec<f32> = rows.iter().flatten().map(|&x| x as f32).collect();
    Tensor::from_f32(&[rows.len(), rows[0].len()], &numbers)
}

/// The model says what the rows say, evaluated, walked and as native code.
fn says(model: &str, settings: &str, params: &Params, x: &Tensor, expected: &[Vec<f64>]) {
    let mut everywhere = Everywhere::new(model, &build(model, settings, params));
    let found = everywhere.run(std::slice::from_ref(x));
    near(&rows(expected), &found[0]);
}

const LAYER: &str = "dim=6 hidden=5 experts=4 order=softmax-topk bias=false";

/// What [`LAYER`] says where experts have so many seats, and tokens take them in this order.
fn seated(params: &Params, x: &Tensor, seats: usize, by_gate: bool) -> Vec<Vec<f64>> {
    let tokens = x.shape()[0];
    let wg = matrix(&params["gate.weight"], &[]);
    let shares: Vec<Vec<f64>> = (0..tokens).map(|n| softmax(&product(&wg, &vector(x, n)))).collect();
    let mut order: Vec<usize> = (0..tokens).collect();
    if by_gate {
        let first = |n: usize| shares[n].iter().copied().fold(0.0, f64::max);
        order.sort_by(|&a, &b| first(b).total_cmp(&first(a)));
    }
    let mut y = vec![vec![0.0; 6]; tokens];
    let mut taken = [0; 4];
    for choice in 0..2 {
        for &n in &order {
            let e = largest(&shares[n], 2)[choice];
            taken[e] += 1;
            if taken[e] <= seats {
                let [w1, w2] = ["w1", "w2"].map(|name| matrix(&params[&format!("experts.{name}")], &[e]));
                let [b1, b2] = ["b1", "b2"].map(|name| vector(&params[&format!("experts.{name}")], e));
                let h: Vec<f64> = added(&product(&w1, &vector(x, n)), &b1);
                let h: Vec<f64> = h.iter().map(|x| x.max(0.0)).collect();
                let out = added(&product(&w2, &h), &b2);
                y[n] = y[n].iter().zip(out).map(|(y, out)| y + shares[n][e] * out).collect();
            }
        }
    }
    y
}

#[test]
fn experts_of_limited_capacity_take_first_choices_first() {
    let params = params("smoe", LAYER);
    let x = random(3, &[9, 6]);
    // ⌈9 · 2 · 0.6 / 4⌉ = 3.
    for (priority, by_gate) in [("position", false), ("gate", true)] {
        let settings = format!("{LAYER} capacity=0.6 multiple=0 priority={priority}");
        says("smoe", &settings, &params, &x, &seated(&params, &x, 3, by_gate));
    }
    // Some are turned away, and not the same ones.
    let all = [seated(&params, &x, 3, false), seated(&params, &x, 3, true), seated(&params, &x, 9, false)];
    let distinct: BTreeSet<String> = all.iter().map(|y| format!("{y:?}")).collect();
    assert_eq!(distinct.len(), 3, "{all:?}");
}

#[test]
fn a_capacity_for_all_tokens_is_none() {
    let params = params("smoe", LAYER);
    let x = random(4, &[7, 6]);
    let free = run("smoe", LAYER, &params, std::slice::from_ref(&x));
    for priority in ["position", "gate"] {
        let settings = format!("{LAYER} capacity=4 priority={priority}");
        assert_eq!(free, run("smoe", &settings, &params, std::slice::from_ref(&x)), "{priority}");
    }
}

#[test]
fn capacities_are_decimals_that_can_be_counted() {
    let smoe = zoo::find("smoe").expect("it is there");
    for bad in ["-1", "0.1234567", "1e9"] {
        let error = smoe.describe(&set(&format!("capacity={bad}"))).expect_err("it is refused");
        assert!(error.to_string().contains("at most 6 decimals"), "{error}");
    }
}

const LM: &str = "form=lm dim=8 hidden=6 experts=4 heads=2 span=3 depth=3 words=7";

/// Words, and caches of three layers.
fn text() -> Vec<Tensor> {
    let ids = Tensor::from_i64(&[2, 4], &[0, 3, 6, 1, 5, 5, 2, 4]);
    vec![ids, random(5, &[3, 2, 3, 8])]
}

#[test]
fn a_heavy_ball_without_momentum_is_the_plain_model() {
    let plain = params("smoe", LM);
    // Momentum subtracts what the plain model adds.
    let negated = |(name, tensor): (&String, &Tensor)| {
        let of_result = [".w2", ".b2"].iter().any(|end| name.ends_with(end));
        (name.clone(), changed(tensor, |x| if of_result { -x } else { x }))
    };
    let momentum: Params = plain.iter().map(negated).collect();
    let expected = run("smoe", LM, &plain, &text());
    let found = run("momentum-smoe", &format!("{LM} mu=0 gamma=1"), &momentum, &text());
    near(&expected[0], &found[0]);
    let moved = run("momentum-smoe", LM, &momentum, &text());
    assert!(NEAR.check(&expected[0], &moved[0]).is_err(), "momentum makes no difference");
}

#[test]
fn adam_without_a_direction_has_no_step() {
    const ADAM: &str = "dim=4 hidden=3 experts=2 kappa=0";
    let mut params = params("adam-smoe", ADAM);
    for name in ["mlp.moe.experts.w2", "mlp.moe.experts.b2"] {
        let zero = changed(&params[name], |_| 0.0);
        params.insert(name.to_owned(), zero);
    }
    let x = random(6, &[1, 3, 4]);
    let zero = changed(&x, |_| 0.0);
    let inputs = [x, zero.clone(), zero.clone(), zero];
    // 0 / √(0 + 1e-8) is 0: the ε stays what it is.
    let stepped = run("adam-smoe", ADAM, &params, &inputs);
    assert!(stepped[0].to_f64().iter().all(|y| y.is_finite()), "{:?}", stepped[0]);
    let stepped = run("adam-smoe", &format!("{ADAM} epsilon=0"), &params, &inputs);
    assert!(stepped[0].to_f64().iter().all(|y| y.is_nan()), "{:?}", stepped[0]);
}

#[test]
fn robust_coefficients_are_those_of_the_formula() {
    // μ = 0.2, k = 1.25: γ = 0.96, μᵣ = 0.04, α = 1/24; p' = μᵣ p − y, and without experts y = 0.
    const ROBUST: &str = "dim=4 hidden=3 experts=2";
    let mut params = params("robust-momentum-smoe", ROBUST);
    for name in ["mlp.moe.experts.w2", "mlp.moe.experts.b2"] {
        let zero = changed(&params[name], |_| 0.0);
        params.insert(name.to_owned(), zero);
    }
    let [x, m] = [7, 8].map(|seed| random(seed, &[1, 2, 4]));
    let found = run("robust-momentum-smoe", ROBUST, &params, &[x, m.clone()]);
    near(&changed(&m, |m| 0.04 * m), &found[1]);
    let robust = zoo::find("robust-momentum-smoe").expect("it is there");
    for bad in ["robust_k=1", "mu=1", "lipschitz=0"] {
        let error = robust.describe(&set(bad)).expect_err("it is refused");
        assert!(error.to_string().contains("divides"), "{error}");
    }
}

#[test]
fn layers_that_mix_with_no_share_are_the_base_model() {
    for level in ["batch", "sequence", "token"] {
        let sizes = "dim=8 heads=2 hidden=6 depth=3 rank=2";
        let mixing = format!("{sizes} k=2 level={level}");
        let mut params = params("molex", &mixing);
        let alone = changed(&params["alpha"], |_| 1.0);
        params.insert("alpha".to_owned(), alone);
        let z = random(9, &[2, 4, 8]);
        let mixed = run("molex", &mixing, &params, std::slice::from_ref(&z));
        params.retain(|name, _| name.starts_with("params."));
        let base = run("molex", &format!("{sizes} form=base"), &params, std::slice::from_ref(&z));
        near(&base[0], &mixed[0]);
    }
}

#[test]
fn merging_equal_experts_gives_that_expert() {
    let x = random(10, &[2, 3, 6]);
    for variant in ["camex rank=2", "camex rank=2 ties=false", "domain", "smear", "smear k=1"] {
        let settings = format!("form=linear in=6 out=4 experts=3 variant={variant}");
        let mut params = params("camex", &settings);
        let base = params["m.base"].clone();
        let all = Tensor::from_fn(DType::F32, &[3, 4, 6], |at| base.at(&at[1..]));
        params.insert("m.weight".to_owned(), all);
        let found = run("camex", &settings, &params, std::slice::from_ref(&x));
        let merged = Tensor::from_fn(DType::F32, &[2, 4, 6], |at| base.at(&at[1..]));
        near(&merged, &found[2]);
    }
    let base = random(12, &[4, 6]);
    let all = Tensor::from_fn(DType::F32, &[3, 4, 6], |at| base.at(&at[1..]));
    let fisher = changed(&random(13, &[3, 4, 6]), |x| x.abs() + 0.1);
    let dropped = changed(&all, |_| 0.0);
    let inputs = [base.clone(), all, fisher, dropped];
    let settings = "form=merge in=6 out=4 experts=3 drop=0";
    for found in run("camex", settings, &Params::new(), &inputs) {
        near(&base, &found);
    }
}

#[test]
fn curvatures_of_identities_multiply_by_their_rank() {
    let tau = random(14, &[2, 4, 6]);
    let settings = set("form=curvature in=6 out=4 experts=2 rank=3");
    let graph = zoo::find("camex").expect("it is there").build(&settings, None).expect("it is built");
    let found = reference::run_graph(&graph, std::slice::from_ref(&tau)).expect("it runs");
    near(&changed(&tau, |x| 3.0 * x), &found[0]);
}

#[test]
fn deepseek_adds_shared_and_routed_experts() {
    const SETTINGS: &str = "dim=6 hidden=5 experts=4 shared=2 k=2 factor=1.5";
    let params = params("deepseek-moe", SETTINGS);
    let u = random(15, &[7, 6]);
    let gate = matrix(&params["gate.weight"], &[]);
    let of = |n: usize| {
        let u = vector(&u, n);
        let shares = softmax(&product(&gate, &u));
        let shared = gated(&params, "shared", &[], &u);
        largest(&shares, 2).into_iter().fold(added(&u, &shared), |y, e| {
            let out: Vec<f64> =
                gated(&params, "experts", &[e], &u).iter().map(|x| 1.5 * shares[e] * x).collect();
            added(&y, &out)
        })
    };
    let expected: Vec<Vec<f64>> = (0..7).map(of).collect();
    says("deepseek-moe", SETTINGS, &params, &u, &expected);
}

#[test]
fn sigmoid_scores_do_not_compete() {
    const SETTINGS: &str = "dim=6 hidden=5 experts=4 k=2";
    let params = params("sigma-moe", SETTINGS);
    let x = random(16, &[7, 6]);
    let select = matrix(&params["expert_sel"], &[]);
    let of = |n: usize| {
        let x = vector(&x, n);
        let scores: Vec<f64> = product(&select, &x).iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
        largest(&scores, 2).into_iter().fold(vec![0.0; 6], |y, e| {
            let [keys, values] = ["keys", "values"].map(|name| turned(&matrix(&params[name], &[e])));
            let h: Vec<f64> = product(&keys, &x).iter().map(|x| x.max(0.0)).collect();
            let out: Vec<f64> = product(&values, &h).iter().map(|x| scores[e] * x).collect();
            added(&y, &out)
        })
    };
    let expected: Vec<Vec<f64>> = (0..7).map(of).collect();
    says("sigma-moe", SETTINGS, &params, &x, &expected);
}

/// The transpose.
fn turned(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    (0..matrix[0].len()).map(|j| matrix.iter().map(|row| row[j]).collect()).collect()
}

#[test]
fn pieces_of_tokens_go_to_experts_of_their_own() {
    const SETTINGS: &str = "dim=6 heads=2 hidden=5 experts=4 k=2";
    let params = params("mh-moe", SETTINGS);
    let x = random(17, &[7, 6]);
    let [head, merge, gate] =
        ["head", "merge", "gate"].map(|name| matrix(&params[&format!("{name}.weight")], &[]));
    let piece = |x: &[f64]| {
        let scores = product(&gate, x);
        let chosen = largest(&scores, 2);
        let gates = softmax(&[scores[chosen[0]], scores[chosen[1]]]);
        chosen.into_iter().zip(gates).fold(vec![0.0; 3], |y, (e, gate)| {
            let out: Vec<f64> = gated(&params, "experts", &[e], x).iter().map(|x| gate * x).collect();
            added(&y, &out)
        })
    };
    let of = |n: usize| {
        let x = product(&head, &vector(&x, n));
        product(&merge, &[piece(&x[..3]), piece(&x[3..])].concat())
    };
    let expected: Vec<Vec<f64>> = (0..7).map(of).collect();
    says("mh-moe", SETTINGS, &params, &x, &expected);
}

#[test]
fn forms_without_a_golden_case_run_alike_everywhere() {
    let ids = Tensor::from_i64(&[2, 3], &[0, 3, 6, 1, 5, 2]);
    let lm = "dim=8 hidden=6 experts=4 heads=2 span=3";
    for (model, settings, inputs) in [
        (
            "vmoe",
            "form=vit dim=8 hidden=6 experts=4 heads=2 depth=2 layers=1 step=robust capacity=0.5 multiple=0 \
             priority=gate image=8 patch=4 classes=3"
                .to_owned(),
            vec![random(18, &[2, 3, 8, 8])],
        ),
        ("glam", format!("{lm} depth=3 step=adam"), vec![random(19, &[2, 3, 8]), random(20, &[3, 2, 3, 8])]),
        (
            "acmoe",
            format!("form=glam {lm} depth=3 plain=1 words=7 empty=skip"),
            vec![ids, random(21, &[3, 2, 3, 8])],
        ),
    ] {
        let graph = build(model, &settings, &params(model, &settings));
        let found = Everywhere::new(model, &graph).run(&inputs);
        assert!(found[0].to_f64().iter().all(|x| x.is_finite()), "{model}: {found:?}");
    }
}
