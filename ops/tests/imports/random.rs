//! Random numbers: their distribution, and that they are the same each time.

use super::*;

const COUNT: usize = 4000;

fn draw(op: &str, attrs: &[(&str, NodeAttr)]) -> Vec<f64> {
    let attrs = [attrs, &[("shape", ints(&[COUNT as i64]))]].concat();
    run(22, op, &[], &attrs, 1).remove(0).to_f64()
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// How far each number is from the next.
fn correlation(x: &[f64]) -> f64 {
    let (centre, pairs) = (mean(x), x.windows(2));
    let products: Vec<f64> = pairs.map(|pair| (pair[0] - centre) * (pair[1] - centre)).collect();
    let squares: Vec<f64> = x.iter().map(|x| (x - centre).powi(2)).collect();
    mean(&products) / mean(&squares)
}

#[test]
fn they_are_spread_evenly_between_two_bounds() {
    for dtype in [1, 10, 11] {
        let x = draw("RandomUniform", &[("low", number(2.0)), ("high", number(6.0)), ("dtype", int(dtype))]);
        assert!(x.iter().all(|x| (2.0..=6.0).contains(x)), "{dtype}");
        for tenth in 0..10 {
            let low = 2.0 + 0.4 * f64::from(tenth);
            let share = x.iter().filter(|x| (low..low + 0.4).contains(x)).count() as f64 / COUNT as f64;
            assert!((share - 0.1).abs() < 0.02, "{dtype}: {share} of them from {low} on");
        }
        assert!(correlation(&x).abs() < 0.05);
    }
}

#[test]
fn they_are_normal_around_a_mean() {
    let x = draw("RandomNormal", &[("mean", number(3.0)), ("scale", number(2.0))]);
    assert!((mean(&x) - 3.0).abs() < 0.1);
    let within =
        |reach: f64| x.iter().filter(|x| (*x - 3.0).abs() < 2.0 * reach).count() as f64 / COUNT as f64;
    for (reach, share) in [(0.5, 0.3829), (1.0, 0.6827), (2.0, 0.9545)] {
        assert!((within(reach) - share).abs() < 0.02, "{reach}: {}", within(reach));
    }
    assert!(correlation(&x).abs() < 0.05);
}

#[test]
fn a_seed_and_else_the_name_choose_them() {
    let seeded = |seed: f64| draw("RandomUniform", &[("seed", number(seed))]);
    assert_eq!(seeded(1.0), seeded(1.0));
    assert_ne!(seeded(1.0), seeded(2.0));
    let named = |name: &str| {
        let (sizes, mut b) = (RefCell::default(), Build::new("model"));
        let attributes = BTreeMap::from([("shape".to_owned(), ints(&[4]))]);
        let node = NodeView::new("RandomNormal", 22, &attributes, &sizes).named(name);
        let Found::Import(import) = find_import("", "RandomNormal", 22) else { panic!("it is known") };
        let made = import.convert(&node, &mut b).expect("imports");
        ir::graph::eval(&b.finish(made), &[]).expect("evaluates").remove(0).to_f64()
    };
    assert_eq!(named("a"), named("a"));
    assert_ne!(named("a"), named("b"));
}

#[test]
fn shapes_and_types_may_be_those_of_an_operand() {
    let mut m = Model::new(22);
    let (x, whole) = (m.input(DType::F16, &["n", "3"]), m.input(DType::I64, &["n"]));
    let y = m.add("RandomNormalLike", &[x], &[]);
    assert_eq!(m.shape(y), "f16[n, 3]");
    let y = m.add("RandomUniformLike", &[whole], &[("dtype", int(11))]);
    assert_eq!(m.shape(y), "f64[n]");
    let error = m.convert("RandomUniformLike", &[whole], &[]).unwrap_err();
    assert_eq!(error.to_string(), "attribute `dtype`: `i64`; known are floats");
}

#[test]
fn chances_come_true_as_often_as_they_say() {
    let x = Tensor::from_fn(DType::F32, &[COUNT, 3], |at| Scalar::f32([0.0, 0.25, 1.0][at[1]]));
    let y = run(22, "Bernoulli", &[x], &[("dtype", int(7))], 1).remove(0);
    assert_eq!(y.dtype(), DType::I64);
    let share = |column: usize| mean(&y.to_f64().into_iter().skip(column).step_by(3).collect::<Vec<_>>());
    assert_eq!((share(0), share(2)), (0.0, 1.0));
    assert!((share(1) - 0.25).abs() < 0.03, "{}", share(1));
    // Logarithms of 1, 2 and 5, up to a constant.
    let logits = floats(&[2, 3], &[0.0, 2_f32.ln(), 5_f32.ln(), 7.0, 7.0 + 2_f32.ln(), 7.0 + 5_f32.ln()]);
    let y = run(22, "Multinomial", &[logits], &[("sample_size", int(COUNT as i64))], 1).remove(0);
    assert_eq!((y.dtype(), y.shape()), (DType::I32, &[2, COUNT][..]));
    for (class, chance) in [1.0 / 8.0, 2.0 / 8.0, 5.0 / 8.0].into_iter().enumerate() {
        let share =
            y.to_i64().iter().filter(|found| **found == class as i64).count() as f64 / (2.0 * COUNT as f64);
        assert!((share - chance).abs() < 0.02, "{class}: {share}");
    }
}

#[test]
fn dropout_in_training_keeps_the_mean() {
    let x = Tensor::splat(Scalar::f32(3.0), &[COUNT]);
    let ratio = Tensor::scalar(Scalar::f32(0.25));
    let drop = |training: bool, known: bool| {
        let mut m = Model::new(13);
        let (input, share) = (m.input(DType::F32, &["n"]), m.input(DType::F32, &[]));
        let training = Tensor::scalar(Scalar::bool(training));
        let flag = if known { Some(m.b.constant(&training)) } else { m.input(DType::Bool, &[]) };
        let made = m.convert_to("Dropout", &[input, share, flag], &[("seed", int(5))], &[true; 2]);
        let graph = m.b.finish(made.expect("imports"));
        let given = [x.clone(), ratio.clone(), training];
        ir::graph::eval(&graph, &given[..if known { 2 } else { 3 }]).expect("evaluates")
    };
    for known in [false, true] {
        let results = drop(true, known);
        let (y, mask) = (results[0].to_f64(), results[1].to_i64());
        assert!(y.iter().zip(&mask).all(|(y, mask)| *y == if *mask == 1 { 4.0 } else { 0.0 }));
        assert!((mean(&y) - 3.0).abs() < 0.1, "{}", mean(&y));
        let results = drop(false, known);
        assert_eq!(results[0].to_f64(), x.to_f64());
        assert!(results[1].to_i64().iter().all(|kept| *kept == 1));
    }
}
