//! onnxruntime's MoE, against its definition: gates, ties, activations, which rows a swiglu takes.

use super::*;

/// Three tokens, four experts, hidden layers of six.
const TOKENS: usize = 3;
const WIDTH: usize = 4;
const EXPERTS: usize = 4;
const HIDDEN: usize = 6;

fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let mut at = seed;
    Tensor::from_fn(DType::F32, shape, |_| {
        at = (at * 7 + 3) % 101;
        Scalar::f32(at as f32 / 50.0 - 1.0)
    })
}

/// Scores of which two are equal.
fn scores() -> Tensor {
    Tensor::from_f32(&[TOKENS, EXPERTS], &[0.5, 2.0, 2.0, 1.0, -1.0, 0.0, 0.5, 0.5, 3.0, 1.0, 3.0, 3.0])
}

/// What the hidden elements are, of what the first and the third matrices give.
type Act<'a> = &'a dyn Fn(&[f64], &[f64]) -> Vec<f64>;

struct Layer {
    x: Tensor,
    fc1: [Tensor; 2],
    fc2: [Tensor; 2],
    fc3: Option<[Tensor; 2]>,
}

impl Layer {
    /// With so many rows for each hidden element in the first matrices.
    fn new(rows: usize, third: bool) -> Layer {
        let hidden = HIDDEN * rows;
        Layer {
            x: numbers(&[TOKENS, WIDTH], 5),
            fc1: [numbers(&[EXPERTS, hidden, WIDTH], 17), numbers(&[EXPERTS, hidden], 29)],
            fc2: [numbers(&[EXPERTS, WIDTH, HIDDEN], 41), numbers(&[EXPERTS, WIDTH], 3)],
            fc3: third.then(|| [numbers(&[EXPERTS, HIDDEN, WIDTH], 11), numbers(&[EXPERTS, HIDDEN], 23)]),
        }
    }

    fn imported(&self, attrs: &[(&str, NodeAttr)]) -> Vec<f64> {
        let scores = scores();
        let third = self.fc3.iter().flatten();
        let given: Vec<&Tensor> =
            [&self.x, &scores].into_iter().chain(&self.fc1).chain(&self.fc2).chain(third).collect();
        let mut m = Model::new(1);
        let operands: Vec<Option<Value>> =
            given.iter().enumerate().map(|(i, x)| Some(m.b.input(&format!("x{i}"), x.ty()))).collect();
        let y = m.add("com.microsoft.MoE", &operands, attrs);
        let given: Vec<Tensor> = given.into_iter().cloned().collect();
        m.eval(y, &given).to_f64()
    }

    /// By the definition: two experts for each token, and of equal scores the later.
    fn defined(&self, normalized: bool, act: Act) -> Vec<f64> {
        let mut all = Vec::new();
        for token in 0..TOKENS {
            let row: Vec<f64> = (0..EXPERTS).map(|e| scores().at(&[token, e]).to_f64().exp()).collect();
            let total: f64 = row.iter().sum();
            let mut order: Vec<usize> = (0..EXPERTS).rev().collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let kept: f64 = if normalized { order[..2].iter().map(|&e| row[e]).sum() } else { total };
            let mut y = vec![0.0; WIDTH];
            for &e in &order[..2] {
                let x: Vec<f64> = (0..WIDTH).map(|d| self.x.at(&[token, d]).to_f64()).collect();
                let third = self.fc3.as_ref().map_or_else(Vec::new, |fc3| linear(fc3, e, &x));
                let hidden = act(&linear(&self.fc1, e, &x), &third);
                for (y, own) in y.iter_mut().zip(linear(&self.fc2, e, &hidden)) {
                    *y += row[e] / kept * own;
                }
            }
            all.extend(y);
        }
        all
    }
}

/// `W x + b` of expert `e`.
fn linear([w, b]: &[Tensor; 2], e: usize, x: &[f64]) -> Vec<f64> {
    let row = |i: usize| x.iter().enumerate().map(|(k, x)| w.at(&[e, i, k]).to_f64() * x).sum::<f64>();
    (0..w.shape()[1]).map(|i| row(i) + b.at(&[e, i]).to_f64()).collect()
}

fn agree(found: &[f64], expected: &[f64]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found:?} instead of {expected:?}");
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn gates_and_activations() {
    let each = |f: fn(f64) -> f64| move |x: &[f64], _: &[f64]| x.iter().map(|&x| f(x)).collect::<Vec<_>>();
    let tanh =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
    let layer = Layer::new(1, false);
    for normalized in [false, true] {
        let norm = ("normalize_routing_weights", int(i64::from(normalized)));
        let of = |name: &str| layer.imported(&[("k", int(2)), norm.clone(), ("activation_type", str(name))]);
        agree(&of("relu"), &layer.defined(normalized, &each(|x| x.max(0.0))));
        agree(&of("gelu"), &layer.defined(normalized, &each(tanh)));
        agree(&of("silu"), &layer.defined(normalized, &each(|x| x * sigmoid(x))));
        agree(&of("identity"), &layer.defined(normalized, &each(|x| x)));
    }
    let gated = Layer::new(1, true);
    let by_third = |x: &[f64], by: &[f64]| x.iter().zip(by).map(|(x, by)| x * sigmoid(*x) * by).collect();
    agree(
        &gated.imported(&[("k", int(2)), ("activation_type", str("silu"))]),
        &gated.defined(false, &by_third),
    );
}

#[test]
fn the_two_parts_of_a_swiglu() {
    let numbers = [
        ("activation_alpha", NodeAttr::Float(1.5)),
        ("activation_beta", NodeAttr::Float(1.0)),
        ("swiglu_limit", NodeAttr::Float(0.75)),
    ];
    let glu = |gate: f64, linear: f64| {
        let (gate, linear) = (gate.min(0.75), linear.clamp(-0.75, 0.75));
        gate * sigmoid(1.5 * gate) * (linear + 1.0)
    };
    let imported = |layer: &Layer, fusion: i64| {
        let own = [("k", int(2)), ("activation_type", str("swiglu")), ("swiglu_fusion", int(fusion))];
        layer.imported(&[&own[..], &numbers[..]].concat())
    };
    let wide = Layer::new(2, false);
    let in_turn = |x: &[f64], _: &[f64]| x.chunks(2).map(|pair| glu(pair[0], pair[1])).collect();
    agree(&imported(&wide, 1), &wide.defined(false, &in_turn));
    let halves = |x: &[f64], _: &[f64]| (0..HIDDEN).map(|i| glu(x[i], x[HIDDEN + i])).collect();
    agree(&imported(&wide, 2), &wide.defined(false, &halves));
    let apart = Layer::new(1, true);
    let third = |x: &[f64], by: &[f64]| x.iter().zip(by).map(|(x, by)| glu(*x, *by)).collect();
    agree(&imported(&apart, 0), &apart.defined(false, &third));
}

#[test]
fn what_is_not_supported_says_so() {
    let mut m = Model::new(1);
    let operands = [
        m.input(DType::F32, &["n", "4"]),
        m.input(DType::F32, &["n", "4"]),
        m.input(DType::F32, &["4", "6", "4"]),
        None,
        m.input(DType::F32, &["4", "4", "6"]),
    ];
    let mut why = |attrs: &[(&str, NodeAttr)]| {
        m.convert("com.microsoft.MoE", &operands, attrs).expect_err("it is refused").to_string()
    };
    assert!(why(&[]).contains("`k`"));
    assert!(why(&[("k", int(2)), ("use_sparse_mixer", int(1))]).contains("use_sparse_mixer"));
    assert!(why(&[("k", int(2)), ("activation_type", str("mish"))]).contains("swiglu"));
    let swiglu = [("k", int(2)), ("activation_type", str("swiglu"))];
    assert!(why(&swiglu).contains("fc3"));
}
