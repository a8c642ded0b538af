//! Transforms of signals, and what is done with spectra.

use std::f64::consts::TAU;

use super::*;

/// `Σ_j x[j]·e^(∓2πijk/n)` for each `k`, from real and imaginary parts.
fn transform(x: &[[f64; 2]], inverse: bool) -> Vec<[f64; 2]> {
    let n = x.len();
    let sign = if inverse { 1.0 } else { -1.0 };
    let at = |k: usize| {
        let terms = x.iter().enumerate().map(|(j, [re, im])| {
            let (sin, cos) = (sign * TAU * ((j * k) % n) as f64 / n as f64).sin_cos();
            [re * cos - im * sin, re * sin + im * cos]
        });
        terms.fold([0.0; 2], |sum, term| [sum[0] + term[0], sum[1] + term[1]])
    };
    (0..n).map(at).collect()
}

fn pairs(x: &Tensor) -> Vec<[f64; 2]> {
    x.to_f64().chunks(2).map(|pair| [pair[0], pair[1]]).collect()
}

fn dft(x: &Tensor, attrs: &[(&str, NodeAttr)]) -> Tensor {
    run(17, "DFT", std::slice::from_ref(x), attrs, 1).remove(0)
}

/// Powers of 2, other products, primes, and what is made of large ones.
const LENGTHS: [usize; 10] = [1, 2, 3, 60, 64, 65, 96, 127, 201, 256];

#[test]
fn transforms_of_any_length() {
    for n in LENGTHS {
        let x = noise(&[1, n, 2]);
        let expected = transform(&pairs(&x), false).concat();
        assert_near(&dft(&x, &[]), &expected, &format!("{n} elements"));
        let inverse = dft(&x, &[("inverse", int(1))]);
        let expected: Vec<f64> = transform(&pairs(&x), true).concat();
        let expected: Vec<f64> = expected.into_iter().map(|part| part / n as f64).collect();
        assert_near(&inverse, &expected, &format!("{n} elements, inverse"));
    }
}

#[test]
fn half_of_the_transform_of_real_numbers_says_all_and_leads_back() {
    for n in [2, 6, 80, 128, 134] {
        let x = noise(&[1, n, 1]);
        let all: Vec<[f64; 2]> = x.to_f64().into_iter().map(|re| [re, 0.0]).collect();
        let y = dft(&x, &[("onesided", int(1))]);
        assert_eq!(y.shape(), [1, n / 2 + 1, 2]);
        assert_near(&y, &transform(&all, false)[..n / 2 + 1].concat(), &format!("{n} elements"));
        let back = dft(&y, &[("onesided", int(1)), ("inverse", int(1))]);
        assert_eq!(back.shape(), [1, n, 1]);
        assert_near(&back, &x.to_f64(), &format!("{n} elements, and back"));
    }
}

#[test]
fn signals_are_cut_or_filled_up_with_zeros() {
    let x = noise(&[1, 6, 1]);
    for n in [3_usize, 6, 10] {
        let mut m = Model::new(17);
        let (input, length) = (m.input(DType::F32, &["1", "6", "1"]), m.ints(&[n as i64]));
        let y = m.add("DFT", &[input, length], &[]);
        let mut given: Vec<[f64; 2]> = x.to_f64().into_iter().map(|re| [re, 0.0]).collect();
        given.resize(n, [0.0; 2]);
        assert_near(
            &m.eval(y, std::slice::from_ref(&x)),
            &transform(&given, false).concat(),
            &format!("{n}"),
        );
    }
}

/// The same for an axis that an input names, known or not, from either end.
#[test]
fn the_axis_may_be_an_input() {
    let x = noise(&[3, 4, 2, 1]);
    for (axis, from_end) in [(0, -4), (1, -3), (2, -2)] {
        for attrs in [&[][..], &[("onesided", int(1))]] {
            let given = [attrs, &[("axis", int(axis))]].concat();
            let expected = run(17, "DFT", std::slice::from_ref(&x), &given, 1).remove(0);
            for named in [axis, from_end] {
                let mut m = Model::new(20);
                let input = m.input(DType::F32, &["3", "4", "2", "1"]);
                let axis = m.scalar(DType::I64, named as f64);
                let y = m.add("DFT", &[input, None, axis], attrs);
                assert_eq!(m.eval(y, std::slice::from_ref(&x)).to_f64(), expected.to_f64());
                let mut m = Model::new(20);
                let (input, axis) = (m.input(DType::F32, &["3", "4", "2", "1"]), m.input(DType::I64, &[]));
                let y = m.add("DFT", &[input, None, axis], attrs);
                let y = m.eval(y, &[x.clone(), i64s(&[], &[named])]);
                assert_eq!(y.shape(), expected.shape(), "{named}");
                assert_near(&y, &expected.to_f64(), &format!("axis {named} at run time"));
            }
        }
    }
    let mut m = Model::new(20);
    let input = m.input(DType::F32, &["3", "4", "1"]);
    let last = m.scalar(DType::I64, 2.0);
    assert!(m.convert("DFT", &[input, None, last], &[]).is_err(), "parts of numbers are no signal");
}

#[test]
fn parts_of_a_signal_are_transformed_under_a_window() {
    let (x, window) = (noise(&[1, 20, 1]), floats(&[6], &[0.5, 1.0, 2.0, 1.0, 0.5, 0.25]));
    let mut m = Model::new(17);
    let (signal, step) = (m.input(DType::F32, &["1", "n", "1"]), m.ints(&[4]));
    let (given, length) = (m.input(DType::F32, &["6"]), m.ints(&[6]));
    let y = m.add("STFT", &[signal, step, given, length], &[]);
    let y = m.eval(y, &[x.clone(), window.clone()]);
    assert_eq!(y.shape(), [1, 4, 4, 2]);
    let (x, window) = (x.to_f64(), window.to_f64());
    let mut expected = Vec::new();
    for frame in 0..4 {
        let part: Vec<[f64; 2]> = (0..6).map(|i| [x[4 * frame + i] * window[i], 0.0]).collect();
        expected.extend(transform(&part, false)[..4].concat());
    }
    assert_near(&y, &expected, "four frames");
}

/// Edges at 0, 1, 4, 8 and 16 of a transform of 32 elements, by the formula of the mel scale.
#[test]
fn bands_rise_and_fall_between_their_edges() {
    let mut m = Model::new(17);
    let [bands, length, rate] = [4.0, 32.0, 8000.0].map(|value| m.scalar(DType::I64, value));
    let [low, high] = [0.0, 4000.0].map(|value| m.scalar(DType::F32, value));
    let y = m.add("MelWeightMatrix", &[bands, length, rate, low, high], &[]);
    let y = m.eval(y, &[]);
    assert_eq!(y.shape(), [17, 4]);
    let mel = |f: f64| 2595.0 * (1.0 + f / 700.0).log10();
    let edge = |e: f64| 700.0 * (10_f64.powf(mel(4000.0) * e / 6.0 / 2595.0) - 1.0);
    let edges: Vec<f64> = (0..6).map(|e| (33.0 * edge(f64::from(e)) / 8000.0).floor()).collect();
    let weight = |f: f64, band: usize| {
        let [low, middle, high] = [edges[band], edges[band + 1], edges[band + 2]];
        if f < low || f > high || (f == high && middle < high) {
            0.0
        } else if f < middle {
            (f - low) / (middle - low)
        } else {
            if high > middle { (high - f) / (high - middle) } else { 1.0 }
        }
    };
    let expected: Vec<f64> = (0..17)
        .flat_map(|f| (0..4).map(move |band| (f, band)))
        .map(|(f, band)| weight(f64::from(f), band))
        .collect();
    assert_near(&y, &expected, "weights");
    assert!(expected.iter().sum::<f64>() > 4.0);
}

/// Counts of single numbers, and of pairs that are 1 or 2 apart.
#[test]
fn sequences_are_counted_in_rows() {
    let x = i64s(&[2, 6], &[2, 3, 2, 3, 3, 9, 3, 3, 3, 2, 2, 2]);
    let attrs = |mode: &str, skips: i64| {
        vec![
            ("mode", str(mode)),
            ("min_gram_length", int(1)),
            ("max_gram_length", int(2)),
            ("max_skip_count", int(skips)),
            ("ngram_counts", ints(&[0, 2])),
            ("ngram_indexes", ints(&[4, 0, 1, 2])),
            ("pool_int64s", ints(&[2, 9, 2, 3, 3, 3])),
            ("weights", numbers(&[0.5, 2.0, 1.0, 1.0, 3.0])),
        ]
    };
    let count = |mode: &str, skips: i64| {
        run(9, "TfIdfVectorizer", std::slice::from_ref(&x), &attrs(mode, skips), 1).remove(0).to_f64()
    };
    // Places: 9, (2, 3), (3, 3), none, 2.
    assert_eq!(count("TF", 0), [1.0, 2.0, 1.0, 0.0, 2.0, 0.0, 0.0, 2.0, 0.0, 3.0]);
    assert_eq!(count("TF", 1), [1.0, 3.0, 2.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 3.0]);
    assert_eq!(count("IDF", 0), [0.5, 2.0, 1.0, 0.0, 3.0, 0.0, 0.0, 1.0, 0.0, 3.0]);
    assert_eq!(count("TFIDF", 0), [0.5, 4.0, 1.0, 0.0, 6.0, 0.0, 0.0, 2.0, 0.0, 9.0]);
    let row = part(&Tensor::from_fn(DType::F32, &[2, 6], |at| x.at(at).cast(DType::F32)), 0, 0, 1);
    let row = i64s(&[6], &row.to_i64());
    assert_eq!(run(9, "TfIdfVectorizer", &[row], &attrs("TF", 0), 1).remove(0).shape(), [5]);
    let mut m = Model::new(9);
    let input = m.input(DType::I64, &["n"]);
    let mut same = attrs("TF", 0);
    for wrong in [[0, 0, 1, 2], [0, 1, 2, i64::MAX], [0, 1, 2, -1]] {
        same[5] = ("ngram_indexes", ints(&wrong));
        assert!(m.convert("TfIdfVectorizer", &[input], &same).is_err(), "{wrong:?}");
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let mut m = Model::new(17);
    let (x, none, frame) = (m.input(DType::F32, &["2", "8", "1"]), m.ints(&[0]), m.ints(&[4]));
    let refused = |m: &mut Model, op: &str, inputs: &[Option<Value>], attrs: &[(&str, NodeAttr)]| {
        m.convert(op, inputs, attrs).expect_err("it is refused").to_string()
    };
    assert!(refused(&mut m, "DFT", &[x, none], &[]).contains("dft_length"));
    assert!(refused(&mut m, "STFT", &[x, none, None, frame], &[]).contains("frame_step"));
    assert!(refused(&mut m, "RandomUniform", &[], &[("shape", ints(&[2, -1]))]).contains("shape"));
    let (image, rois, which) = (
        m.input(DType::F32, &["1", "1", "4", "4"]),
        m.input(DType::F32, &["2", "4"]),
        m.input(DType::I64, &["2"]),
    );
    let attrs = [("output_height", int(0))];
    assert!(refused(&mut m, "RoiAlign", &[image, rois, which], &attrs).contains("output_height"));
    let rows = m.input(DType::F32, &["3", "4"]);
    assert!(refused(&mut m, "Multinomial", &[rows], &[("sample_size", int(-1))]).contains("sample_size"));
    let window = [("kernel_shape", ints(&[2, 2])), ("pads", ints(&[i64::MAX, 0, i64::MAX, 0]))];
    let places = m.input(DType::I64, &["1", "1", "4", "4"]);
    assert!(refused(&mut m, "MaxUnpool", &[image, places], &window).contains("pads"));
}
