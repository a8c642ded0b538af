//! The metrics of Elliptical Attention that no golden case has, against their formulas in `f64`.

use std::ops::Range;

use egraft::Options;
use harness::{Random, Tolerance};
use ir::{DType, Tensor};

const BATCH: usize = 2;
const HEADS: usize = 2;
const WIDTH: usize = 4;

/// Tokens of one head: `[N][d]`.
type Rows = Vec<Vec<f64>>;

/// The heads of `[B, H, N, d]`, one after the other.
fn heads(x: &Tensor) -> Vec<Rows> {
    let (tokens, values) = (x.shape()[2], x.to_f64());
    let head = |head: usize| {
        let row = |n: usize| values[(head * tokens + n) * WIDTH..][..WIDTH].to_vec();
        (0..tokens).map(row).collect()
    };
    (0..BATCH * HEADS).map(head).collect()
}

/// `softmax(q kᵀ/√d) v`.
fn attend(q: &Rows, k: &Rows, v: &Rows) -> Rows {
    let row = |q: &Vec<f64>| {
        let dot = |k: &Vec<f64>| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / (WIDTH as f64).sqrt();
        let weights: Vec<f64> = k.iter().map(|k| dot(k).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let each = |c: usize| weights.iter().zip(v).map(|(w, v)| w * v[c]).sum::<f64>() / sum;
        (0..WIDTH).map(each).collect()
    };
    q.iter().map(row).collect()
}

/// A number for each coordinate, of the numbers that it has for the tokens.
fn over_tokens(
    tokens: Range<usize>,
    number: impl Fn(usize, usize) -> f64,
    join: impl Fn(Vec<f64>) -> f64,
) -> Vec<f64> {
    (0..WIDTH).map(|c| join(tokens.clone().map(|n| number(n, c)).collect())).collect()
}

fn mean(numbers: Vec<f64>) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

fn lower_median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[(numbers.len() - 1) / 2]
}

/// (E2'), (E2'') or (E4) of one head, of `[q, k, v, v_prev, k_prev]`.
fn metric(name: &str, [q, k, v, before, keys]: [&Rows; 5]) -> Vec<f64> {
    let moved = |n: usize, c: usize| (v[n][c] - before[n][c]).abs();
    let tokens = 0..q.len();
    match name {
        "median" => over_tokens(tokens, moved, lower_median),
        "steps" => over_tokens(tokens, |n, c| moved(n, c) / ((k[n][c] - keys[n][c]).abs() + 1e-3), mean),
        _ => {
            let step = 0.5 / (WIDTH as f64).sqrt();
            let outputs = |c: usize, step: f64| {
                let mut q = q.clone();
                q.iter_mut().for_each(|q| q[c] += step);
                attend(&q, k, v)
            };
            let change = |c: usize| {
                let (up, down) = (outputs(c, step), outputs(c, -step));
                let change =
                    |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>();
                mean(up.iter().zip(&down).map(change).collect()) / (2.0 * step)
            };
            (0..WIDTH).map(change).collect()
        }
    }
}

#[test]
fn metrics_are_those_of_the_formula() {
    for (name, inputs, scaling) in [
        ("median", 4, "max"),
        ("median", 4, "none"),
        ("steps", 5, "max"),
        ("steps", 5, "mean"),
        ("outputs", 3, "none"),
    ] {
        let mut settings = vec![("form", "core"), ("heads", "2"), ("head_width", "4"), ("metric", name)];
        if name != "outputs" {
            settings.push(("scaling", scaling));
        }
        let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let options = Options { settings: settings.collect(), ..Options::default() };
        let source = egraft::source::build("elliptical", &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        let compiled = egraft::compile(source, &options, &mut ()).unwrap_or_else(|e| panic!("{name}: {e}"));
        for tokens in [1, 2, 5, 8] {
            let mut random = Random::new(tokens as u64);
            let tensor = |_| random.tensor(DType::F32, &[BATCH, HEADS, tokens, WIDTH]);
            let all: Vec<Tensor> = (0..5).map(tensor).collect();
            let found = compiled.run(&all[..inputs], 1).unwrap_or_else(|e| panic!("{name}: {e}"));
            let each: Vec<Vec<Rows>> = all.iter().map(heads).collect();
            let attended = |head: usize| {
                let rows = [0, 1, 2, 3, 4].map(|input| &each[input][head]);
                let mut m = metric(name, rows);
                let whole = match scaling {
                    "max" => m.iter().copied().fold(0.0, f64::max),
                    "mean" => mean(m.clone()),
                    _ => 1.0,
                };
                m.iter_mut().for_each(|m| *m /= whole);
                let scaled = |q: &Vec<f64>| q.iter().zip(&m).map(|(q, m)| q * m).collect();
                attend(&rows[0].iter().map(scaled).collect(), rows[1], rows[2]).concat()
            };
            let expected: Vec<f32> = (0..BATCH * HEADS).flat_map(attended).map(|y| y as f32).collect();
            let expected = Tensor::from_f32(&[BATCH, HEADS, tokens, WIDTH], &expected);
            Tolerance::F32
                .check(&expected, &found[0])
                .unwrap_or_else(|why| panic!("{name}, {scaling}, {tokens} tokens: {why}"));
        }
    }
}
