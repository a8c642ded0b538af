//! Control flow and sizes that values decide: each model compiled once, run with several values and sizes, on every
//! backend.
//!
//! The graphs of `data/control` have results that are computed here, from what ONNX says of the ops; the models of
//! `data/onnx/valid` come with theirs.

use std::fs;

use harness::{Everywhere, check_all, root};
use ir::{DType, Scalar, Tensor};

#[path = "control/counts.rs"]
mod counts;
#[path = "control/errors.rs"]
mod errors;
#[path = "control/models.rs"]
mod models;

/// A graph of `data/control`, compiled.
fn compiled(name: &str) -> Everywhere {
    let path = root().join(format!("tests/data/control/{name}.ir"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Everywhere::new(name, &harness::graph(&text))
}

/// All agree with each other, and with this.
fn gives(model: &mut Everywhere, inputs: &[Tensor], expected: &[Tensor]) {
    let found = model.run(inputs);
    check_all(expected, &found).unwrap_or_else(|why| panic!("{why}, with {inputs:?}"));
}

fn integers(shape: &[usize], values: &[i64]) -> Tensor {
    let mut at = values.iter();
    Tensor::from_fn(DType::I64, shape, |_| Scalar::from_i64(DType::I64, *at.next().expect("as many")))
}

fn integer(value: i64) -> Tensor {
    integers(&[], &[value])
}

fn row(values: &[i64]) -> Tensor {
    integers(&[values.len()], values)
}

fn truth(value: bool) -> Tensor {
    Tensor::scalar(Scalar::bool(value))
}

fn floats(shape: &[usize], values: &[f64]) -> Tensor {
    let mut at = values.iter();
    Tensor::from_fn(DType::F32, shape, |_| Scalar::from_f64(DType::F32, *at.next().expect("as many")))
}

#[test]
fn a_loop_that_a_condition_ends() {
    let mut model = compiled("collatz");
    for first in [6, 1, 27, 0, 2, 97] {
        let (mut n, mut path) = (first, Vec::new());
        while n > 1 {
            path.push(n);
            n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
        }
        let numbers: Vec<i64> = (0..path.len() as i64).collect();
        gives(&mut model, &[integer(first)], &[integer(n), row(&path), row(&numbers)]);
    }
}

#[test]
fn a_loop_that_a_count_ends() {
    let mut model = compiled("fibonacci");
    for (count, a, b) in [(10, 0, 1), (0, 5, 7), (1, 5, 7), (3, -1, 2), (40, 0, 1)] {
        let (mut u, mut v, mut all) = (a, b, Vec::new());
        for _ in 0..count {
            all.push(u);
            (u, v) = (v, u + v);
        }
        gives(&mut model, &[integer(count), integer(a), integer(b)], &[integer(u), integer(v), row(&all)]);
    }
    model.refuse(&[integer(-1), integer(0), integer(1)], &["n", "-1"]);
    gives(&mut model, &[integer(1), integer(3), integer(4)], &[integer(4), integer(7), row(&[3])]);
}

#[test]
fn a_carried_value_that_grows() {
    let mut model = compiled("pascal");
    for count in [0, 1, 5, 2, 20, 0] {
        let mut values = vec![1];
        for _ in 0..count {
            let before = std::iter::once(&0).chain(&values);
            values = before.zip(values.iter().chain([&0])).map(|(a, b)| a + b).collect();
        }
        gives(&mut model, &[integer(count)], &[row(&values), integer(1 << count)]);
    }
}

#[test]
fn a_carried_value_that_shrinks() {
    let mut model = compiled("halves");
    for n in [1, 2, 5, 16, 7] {
        let x: Vec<f64> = (0..2 * n).map(|i| 1.0 + f64::from(i) / 64.0).collect();
        let mut y = x.clone();
        loop {
            y = y[..y.len().div_ceil(2)].iter().map(|v| v * v).collect();
            if y.len() <= 1 {
                break;
            }
        }
        let size = y.len();
        gives(&mut model, &[floats(&[x.len()], &x)], &[floats(&[size], &y), integer(size as i64)]);
    }
}

#[test]
fn loops_in_loops() {
    let mut model = compiled("triangle");
    for count in [0, 1, 2, 6, 3] {
        let x = [0.5, -2.0];
        let (mut sum, mut sums) = ([0.0; 2], Vec::new());
        for i in 0..count {
            for j in 0..i {
                sum = [0, 1].map(|k| sum[k] + x[k] * f64::from(10 * i + j));
            }
            sums.extend(sum);
        }
        let expected = [floats(&[2], &sum), floats(&[count as usize, 2], &sums)];
        gives(&mut model, &[integer(i64::from(count)), floats(&[2], &x)], &expected);
    }
}

#[test]
fn branches_of_different_sizes() {
    let mut model = compiled("branch_sizes");
    for rows in [3, 1, 0, 5] {
        for (c, d, times) in [(true, true, 3), (true, false, 1), (false, true, 2), (false, false, 2)] {
            let x: Vec<f64> = (0..2 * rows).map(|i| i as f64 - 1.5).collect();
            let squares: Vec<f64> = x.repeat(times).iter().map(|v| v * v).collect();
            let k = rows * times;
            let at = |i: usize, j: usize| {
                squares[2 * i] * squares[2 * j] + squares[2 * i + 1] * squares[2 * j + 1]
            };
            let products: Vec<f64> = (0..k * k).map(|p| at(p / k, p % k)).collect();
            let expected = [floats(&[k, 2], &squares), floats(&[k, k], &products)];
            gives(&mut model, &[truth(c), truth(d), floats(&[rows, 2], &x)], &expected);
        }
    }
}

#[test]
fn values_that_no_op_of_a_body_makes() {
    let mut model = compiled("same_value_twice");
    for (c, count, n) in [(true, 3, 2), (false, 4, 2), (true, 0, 3), (false, 1, 1), (true, 2, 0)] {
        let x: Vec<f64> = (0..n).map(|i| 1.0 + f64::from(i)).collect();
        let y: Vec<f64> = (0..n).map(|i| 0.5 - f64::from(i)).collect();
        let a = if c { x.clone() } else { y.iter().map(|v| -v).collect::<Vec<f64>>() };
        let (mut u, mut v, mut w, mut all) = (a.clone(), y.clone(), y.clone(), Vec::new());
        for _ in 0..count {
            all.extend(w);
            let sum = u.iter().zip(&a).map(|(u, k)| u + k).collect();
            (u, v, w) = (v.clone(), sum, v);
        }
        let n = n as usize;
        let of = |values: &[f64]| floats(&[n], values);
        let expected = [of(&a), of(&a), of(&u), of(&v), of(&w), floats(&[count as usize, n], &all)];
        gives(&mut model, &[truth(c), integer(count), of(&x), of(&y)], &expected);
    }
}

#[test]
fn sizes_that_are_counted() {
    let mut model = compiled("positives");
    for x in [&[1.0, -2.0, 0.0, 3.0, 4.0][..], &[-1.0, -2.0], &[], &[7.0], &[1.0, 2.0, 3.0], &[-1.0; 40]] {
        let at: Vec<i64> = (0..x.len() as i64).filter(|&i| x[i as usize] > 0.0).collect();
        let values: Vec<f64> = at.iter().map(|&i| 10.0 * x[i as usize]).collect();
        let y: Vec<f64> = x.iter().map(|&v| if v > 0.0 { 10.0 * v } else { v }).collect();
        let expected = [
            floats(&[values.len()], &values),
            row(&at),
            floats(&[y.len()], &y),
            floats(&[], &[values.iter().sum()]),
        ];
        gives(&mut model, &[floats(&[x.len()], x)], &expected);
    }
}
