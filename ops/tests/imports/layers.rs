//! Layers of networks: products, activations, normalisation, recurrence, losses, training.

use super::*;

#[test]
fn softmax_flattens_before_opset_13() {
    let softmax = |opset: i64, attrs: &[(&str, NodeAttr)]| {
        let mut m = Model::new(opset);
        let x = m.input(DType::F32, &["n", "2", "3"]);
        let y = m.add("Softmax", &[x], attrs);
        assert_eq!(m.shape(y), "f32[n, 2, 3]");
        m.eval(y, &[Tensor::splat(Scalar::f32(1.0), &[1, 2, 3])]).to_f64()[0]
    };
    assert!((softmax(12, &[]) - 1.0 / 6.0).abs() < 1e-6);
    assert!((softmax(13, &[]) - 1.0 / 3.0).abs() < 1e-6);
    assert!((softmax(13, &[("axis", int(1))]) - 1.0 / 2.0).abs() < 1e-6);
    assert!((softmax(12, &[("axis", int(-1))]) - 1.0 / 3.0).abs() < 1e-6);
}

#[test]
fn clip_takes_bounds_from_attributes_and_from_inputs() {
    let x = Tensor::from_f32(&[3], &[-2.0, 0.5, 2.0]);
    let mut old = Model::new(6 + 1);
    let input = old.input(DType::F32, &["3"]);
    let y = old.add("Clip", &[input], &[("min", NodeAttr::Float(-1.0)), ("max", NodeAttr::Float(1.0))]);
    assert_eq!(old.eval(y, std::slice::from_ref(&x)).to_f64(), [-1.0, 0.5, 1.0]);
    let mut new = Model::new(13);
    let (input, high) = (new.input(DType::F32, &["3"]), new.scalar(DType::F32, 1.0));
    let y = new.add("Clip", &[input, None, high], &[]);
    assert_eq!(new.eval(y, &[x]).to_f64(), [-2.0, 0.5, 1.0]);
}

#[test]
fn convolutions_pad_by_themselves() {
    let conv = |size: &str, mode: &str| {
        let mut m = Model::new(11);
        let (x, w) = (m.input(DType::F32, &["1", "1", size]), m.input(DType::F32, &["1", "1", "4"]));
        let attrs = [("auto_pad", str(mode)), ("strides", ints(&[2]))];
        let y = m.add("Conv", &[x, w], &attrs);
        m.eval(y, &[counting(&[1, 1, 5]), Tensor::splat(Scalar::f32(1.0), &[1, 1, 4])]).to_f64()
    };
    for size in ["5", "n"] {
        assert_eq!(conv(size, "SAME_UPPER"), [3.0, 10.0, 7.0], "{size}");
        assert_eq!(conv(size, "SAME_LOWER"), [1.0, 6.0, 9.0], "{size}");
        assert_eq!(conv(size, "VALID"), [6.0], "{size}");
    }
}

#[test]
fn matrix_products_of_vectors_lose_an_axis() {
    let shape = |a: &[&str], b: &[&str]| {
        let mut m = Model::new(13);
        let (a, b) = (m.input(DType::F32, a), m.input(DType::F32, b));
        let y = m.add("MatMul", &[a, b], &[]);
        m.shape(y)
    };
    assert_eq!(shape(&["k"], &["k"]), "f32[]");
    assert_eq!(shape(&["k"], &["2", "k", "n"]), "f32[2, n]");
    assert_eq!(shape(&["2", "m", "k"], &["k"]), "f32[2, m]");
    assert_eq!(shape(&["b", "1", "m", "k"], &["h", "k", "n"]), "f32[b, h, m, n]");
}

#[test]
fn gemm_scales_and_transposes() {
    let mut m = Model::new(13);
    let (a, b) = (m.input(DType::F32, &["2", "3"]), m.input(DType::F32, &["2", "2"]));
    let c = m.floats(&[10.0, 20.0]);
    let attrs = [("transA", int(1)), ("alpha", NodeAttr::Float(2.0)), ("beta", NodeAttr::Float(0.5))];
    let y = m.add("Gemm", &[a, b, c], &attrs);
    let y = m.eval(y, &[counting(&[2, 3]), counting(&[2, 2])]);
    assert_eq!((y.shape(), y.to_f64()), (&[3, 2][..], vec![17.0, 28.0, 21.0, 36.0, 25.0, 44.0]));
}

#[test]
fn dropout_keeps_everything_and_says_so() {
    let mut m = Model::new(13);
    let x = m.input(DType::F32, &["n"]);
    let results = m.convert_to("Dropout", &[x], &[("seed", int(3))], &[true, true]).expect("imports");
    assert_eq!(Some(results[0]), x);
    let (ratio, training) = (m.scalar(DType::F32, 0.0), m.scalar(DType::Bool, 1.0));
    assert_eq!(m.add("Dropout", &[x, ratio, training], &[]), x);
    assert_eq!(m.eval(Some(results[1]), &[counting(&[2])]).to_i64(), [1, 1]);
}

/// A contraction of two operands is one matrix product, without anything that moves elements.
#[test]
fn einsum_contracts_by_matrix_products() {
    let mut m = Model::new(12);
    let (a, c) = (m.input(DType::F32, &["b", "i", "k"]), m.input(DType::F32, &["b", "k", "j"]));
    let y = m.add("Einsum", &[a, c], &[("equation", str("bik, bkj -> bij"))]);
    assert_eq!(m.shape(y), "f32[b, i, j]");
    let einsum = ops::find("einsum").expect("an op");
    let mut b = Build::new("expansion");
    let x = ["b i k", "b k j"]
        .map(|text| b.input(text, TensorType::new(DType::F32, text.split(' ').map(Dim::symbol))));
    let attrs = [("equation".to_owned(), ir::attr::Attr::Str("bik,bkj->bij".into()))];
    let attrs = einsum.check_attrs(attrs).expect("they are declared");
    einsum.semantics.expand(&mut b, &x, &attrs).expect("it fits");
    let made: Vec<&str> =
        b.take_made().iter().filter_map(|&id| b.graph().node(id).op()).map(|(op, _)| op.name).collect();
    assert_eq!(made, ["matmul"]);
    let error = m.convert("Einsum", &[a, c], &[("equation", str("bik,bkj->bix"))]).unwrap_err();
    assert!(error.to_string().contains("in no operand"), "{error}");
}

#[test]
fn numbers_are_quantized_by_axis_and_by_block() {
    let x = Tensor::from_f32(&[2, 4], &[0.0, 1.0, 2.0, 3.0, -4.0, 500.0, -500.0, 2.5]);
    let quantize = |scale: &[usize], scales: &[f32], attrs: &[(&str, NodeAttr)]| {
        let mut m = Model::new(21);
        let input = m.input(DType::F32, &["n", "4"]);
        let scale = Some(m.b.constant(&Tensor::from_f32(scale, scales)));
        let y = m.add("QuantizeLinear", &[input, scale], attrs);
        let y = m.add("DequantizeLinear", &[y, scale], attrs);
        m.eval(y, std::slice::from_ref(&x)).to_f64()
    };
    let signed = ("output_dtype", int(3));
    let whole = quantize(&[], &[1.0], &[]);
    // Ties go to even numbers; a byte ends at 0 and 255.
    assert_eq!(whole, [0.0, 1.0, 2.0, 3.0, 0.0, 255.0, 0.0, 2.0]);
    let columns = [("axis", int(-1))];
    let columns = quantize(&[4], &[1.0, 2.0, 4.0, 0.5], &columns);
    assert_eq!(columns, [0.0, 0.0, 0.0, 3.0, 0.0, 500.0, 0.0, 2.5]);
    let mut m = Model::new(21);
    let input = m.input(DType::F32, &["2", "4"]);
    let scale = Some(m.b.constant(&Tensor::from_f32(&[2, 2], &[1.0, 2.0, 4.0, 5.0])));
    let y = m.add("QuantizeLinear", &[input, scale], &[("axis", int(1)), ("block_size", int(2)), signed]);
    assert_eq!(m.eval(y, &[x]).to_i64(), [0, 1, 1, 2, -1, 125, -100, 0]);
}

#[test]
fn quantized_products_leave_out_the_zeros() {
    let byte = |m: &mut Model, shape: &[usize], values: &[i64]| {
        let mut values = values.iter();
        let next = |_: &[usize]| Scalar::from_i64(DType::U8, *values.next().expect("one for each element"));
        Some(m.b.constant(&Tensor::from_fn(DType::U8, shape, next)))
    };
    let mut m = Model::new(10);
    let (a, c) = (byte(&mut m, &[1, 2], &[11, 9]), byte(&mut m, &[2, 1], &[3, 200]));
    let (a_zero, c_zero) = (byte(&mut m, &[], &[10]), byte(&mut m, &[], &[0]));
    let y = m.add("MatMulInteger", &[a, c, a_zero, c_zero], &[]);
    assert_eq!(m.shape(y), "i32[1, 1]");
    let (half, one) = (m.scalar(DType::F32, 0.5), m.scalar(DType::F32, 1.0));
    let q = m.add("QLinearMatMul", &[a, half, a_zero, c, one, c_zero, one, a_zero], &[]);
    let graph = m.b.finish(vec![y.expect("a value"), q.expect("a value")]);
    let values = ir::graph::eval(&graph, &[]).unwrap_or_else(|at| panic!("{}", at.error));
    // 1·3 − 1·200, and half of it with 10 added is below what a byte holds.
    assert_eq!(values.iter().map(|y| y.to_i64()[0]).collect::<Vec<_>>(), [-197, 0]);
}

#[test]
fn losses_leave_out_what_is_ignored() {
    let mut m = Model::new(13);
    let (x, target) = (m.input(DType::F32, &["3", "2"]), m.ints(&[0, 1, -5]));
    let attrs = [("ignore_index", int(-5)), ("reduction", str("mean"))];
    let y = m.add("NegativeLogLikelihoodLoss", &[x, target], &attrs);
    assert_eq!(m.eval(y, &[counting(&[3, 2])]).to_f64(), [-1.5]);
}

/// A layer over sequences of different lengths gives what it gives for each of them alone, and zeros behind.
#[test]
fn a_recurrent_layer_keeps_to_the_lengths_of_sequences() {
    for (op, gates, direction) in [
        ("RNN", 1, "reverse"),
        ("GRU", 3, "bidirectional"),
        ("LSTM", 4, "forward"),
        ("LSTM", 4, "bidirectional"),
    ] {
        let directions = if direction == "bidirectional" { 2 } else { 1 };
        let numbers = |shape: &[usize], seed: usize| {
            let mut at = seed;
            Tensor::from_fn(DType::F32, shape, |_| {
                at = (at * 7 + 3) % 101;
                Scalar::f32(at as f32 / 50.0 - 1.0)
            })
        };
        let x = numbers(&[4, 2, 3], 1);
        let run = |x: &Tensor, lengths: Option<&[i64]>| -> Vec<Tensor> {
            let mut m = Model::new(14);
            let batch = x.shape()[1].to_string();
            let input = m.input(DType::F32, &["t", &batch, "3"]);
            let (w, r) = (numbers(&[directions, gates * 2, 3], 5), numbers(&[directions, gates * 2, 2], 9));
            let (w, r) = (Some(m.b.constant(&w)), Some(m.b.constant(&r)));
            let mut inputs = vec![input, w, r, None];
            let mut given = vec![x.clone()];
            if let Some(lengths) = lengths {
                inputs.push(m.input(DType::I64, &[&batch]));
                given.push(Tensor::from_i64(&[lengths.len()], lengths));
            }
            let attrs = [("direction", str(direction)), ("hidden_size", int(2))];
            let results = m.convert_to(op, &inputs, &attrs, &[true, true]).expect("it is supported");
            let graph = m.b.finish(results);
            ir::graph::eval(&graph, &given).unwrap_or_else(|at| panic!("{}", at.error))
        };
        let lengths = [2, 4];
        let found = run(&x, Some(&lengths));
        for (member, &length) in lengths.iter().enumerate() {
            let length = length as usize;
            let alone = Tensor::from_fn(DType::F32, &[length, 1, 3], |at| x.at(&[at[0], member, at[2]]));
            let expected = run(&alone, None);
            for direction in 0..directions {
                for unit in 0..2 {
                    for t in 0..4 {
                        let there = found[0].at(&[t, direction, member, unit]).to_f64();
                        let wanted = match t < length {
                            true => expected[0].at(&[t, direction, 0, unit]).to_f64(),
                            false => 0.0,
                        };
                        assert_eq!(there, wanted, "{op} {direction} {member} {t}");
                    }
                    for (last, wanted) in found[1..].iter().zip(&expected[1..]) {
                        let there = last.at(&[direction, member, unit]);
                        assert_eq!(there, wanted.at(&[direction, 0, unit]), "{op} {direction} {member}");
                    }
                }
            }
        }
    }
}

#[test]
fn caches_are_written_from_a_place_on() {
    let scatter = |mode: &str, places: &[i64]| {
        let mut m = Model::new(24);
        let (cache, new) = (m.input(DType::F32, &["b", "s", "1"]), m.input(DType::F32, &["b", "2", "1"]));
        let first = m.input(DType::I64, &["b"]);
        let y = m.add("TensorScatter", &[cache, new, first], &[("mode", str(mode))]);
        let cache = Tensor::splat(Scalar::f32(9.0), &[2, 3, 1]);
        m.eval(y, &[cache, counting(&[2, 2, 1]), Tensor::from_i64(&[2], places)]).to_f64()
    };
    assert_eq!(scatter("linear", &[0, 1]), [0.0, 1.0, 9.0, 9.0, 2.0, 3.0]);
    assert_eq!(scatter("circular", &[2, 4]), [1.0, 9.0, 0.0, 9.0, 2.0, 3.0]);
}

#[test]
fn batches_are_normalised_by_their_own_moments() {
    let mut m = Model::new(15);
    let x = m.input(DType::F32, &["n", "1", "2"]);
    let [scale, bias, mean, variance] = [2.0, 1.0, 1.0, 4.0].map(|number| m.floats(&[number]));
    let attrs =
        [("training_mode", int(1)), ("momentum", NodeAttr::Float(0.5)), ("epsilon", NodeAttr::Float(0.0))];
    let results = m.convert_to("BatchNormalization", &[x, scale, bias, mean, variance], &attrs, &[true; 3]);
    let graph = m.b.finish(results.expect("it is supported"));
    let x = Tensor::from_f32(&[2, 1, 2], &[0.0, 2.0, 4.0, 6.0]);
    let found = ir::graph::eval(&graph, &[x]).unwrap_or_else(|at| panic!("{}", at.error));
    let unit = 2.0 / 5.0_f64.sqrt();
    let expected = [1.0 - 3.0 * unit, 1.0 - unit, 1.0 + unit, 1.0 + 3.0 * unit];
    assert!(found[0].to_f64().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5));
    assert_eq!([found[1].to_f64(), found[2].to_f64()], [[2.0], [4.5]]);
}

/// From zero with a gradient of 1, one update of each optimizer, for two parameters at once.
#[test]
fn optimizers_update_every_parameter() {
    let update = |op: &str, states: usize, updates: i64, attrs: &[(&str, f64)]| -> Vec<Vec<f64>> {
        let mut m = Model::new(1);
        let mut inputs = vec![m.scalar(DType::F32, 0.5), m.scalar(DType::I64, updates as f64)];
        for number in [0.0, 1.0].into_iter().chain(vec![0.0; states]) {
            inputs.extend([m.floats(&[number]), m.floats(&[number, 2.0 * number])]);
        }
        let mut given: Vec<(&str, NodeAttr)> =
            attrs.iter().map(|&(name, value)| (name, NodeAttr::Float(value))).collect();
        if op == "Momentum" {
            given.push(("mode", str("nesterov")));
        }
        let op = format!("ai.onnx.preview.training.{op}");
        let outputs = vec![true; 2 + 2 * states];
        let results = m.convert_to(&op, &inputs, &given, &outputs).expect("it is supported");
        let graph = m.b.finish(results);
        let found = ir::graph::eval(&graph, &[]).unwrap_or_else(|at| panic!("{}", at.error));
        found.iter().map(Tensor::to_f64).collect()
    };
    let adagrad = update("Adagrad", 1, 3, &[("decay_factor", 1.0), ("epsilon", 0.0)]);
    assert_eq!(adagrad, [vec![-0.125], vec![-0.125; 2], vec![1.0], vec![1.0, 4.0]]);
    let momentum = [("alpha", 0.5), ("beta", 0.25), ("norm_coefficient", 0.0)];
    assert_eq!(update("Momentum", 1, 0, &momentum)[1..3], [vec![-0.75, -1.5], vec![1.0]]);
    assert_eq!(update("Momentum", 1, 1, &momentum)[1..3], [vec![-0.5625, -1.125], vec![0.25]]);
    let adam = [("alpha", 0.5), ("beta", 0.75), ("epsilon", 0.0)];
    // Corrected, the first update goes by the rate alone.
    assert_eq!(
        update("Adam", 2, 1, &adam),
        [vec![-0.5], vec![-0.5; 2], vec![0.5], vec![0.5, 1.0], vec![0.25], vec![0.25, 1.0]]
    );
    assert_eq!(update("Adam", 2, 0, &adam)[0], [-0.5]);
}

/// The first of the largest elements, by rows or by columns; padding is never one.
#[test]
fn pools_say_where_the_largest_element_lies() {
    let positions = |size: &str, by_columns: i64| {
        let mut m = Model::new(12);
        let x = m.input(DType::F32, &["n", "1", size, "3"]);
        let attrs = [
            ("kernel_shape", ints(&[2, 2])),
            ("pads", ints(&[1, 0, 0, 0])),
            ("strides", ints(&[1, 1])),
            ("storage_order", int(by_columns)),
        ];
        let y = m.convert_to("MaxPool", &[x], &attrs, &[true, true]).expect("it is supported");
        let x = Tensor::from_f32(
            &[2, 1, 2, 3],
            &[-1.0, -5.0, -5.0, -2.0, -1.0, -7.0, 4.0, 4.0, 3.0, 4.0, 0.0, 5.0],
        );
        m.eval(Some(y[1]), &[x]).to_i64()
    };
    for size in ["2", "h"] {
        assert_eq!(positions(size, 0), [0, 1, 0, 4, 6, 7, 6, 11]);
        assert_eq!(positions(size, 1), [0, 2, 0, 3, 6, 8, 6, 11]);
    }
}

/// A sequence in two parts, the second with the state that the first one leaves, gives what it gives as a whole.
#[test]
fn layers_with_a_state_go_on_where_they_stopped() {
    let numbers = |shape: &[usize], seed: usize| {
        let mut at = seed;
        Tensor::from_fn(DType::F32, shape, |_| {
            at = (at * 7 + 3) % 101;
            Scalar::f32(at as f32 / 64.0 - 0.75)
        })
    };
    let run = |op: &str, inputs: &[Option<Tensor>], attrs: &[(&str, NodeAttr)]| -> Vec<Tensor> {
        let mut m = Model::new(27);
        let mut given = Vec::new();
        let values: Vec<Option<Value>> = inputs
            .iter()
            .map(|input| {
                let tensor = input.as_ref()?;
                given.push(tensor.clone());
                let sizes: Vec<String> = tensor.shape().iter().map(ToString::to_string).collect();
                m.input(DType::F32, &sizes.iter().map(String::as_str).collect::<Vec<_>>())
            })
            .collect();
        let results = m.convert_to(op, &values, attrs, &[true, true]).expect("it is supported");
        ir::graph::eval(&m.b.finish(results), &given).unwrap_or_else(|at| panic!("{}", at.error))
    };
    let close =
        |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5) && a.len() == b.len();

    let (x, w) = (numbers(&[1, 2, 5], 1), numbers(&[2, 1, 3], 5));
    let conv = |x: &Tensor, state: Option<Tensor>| {
        let inputs = [Some(x.clone()), Some(w.clone()), Some(numbers(&[2], 9)), state];
        run("CausalConvWithState", &inputs, &[("activation", str("silu"))])
    };
    let whole = conv(&x, None);
    let first = conv(&part(&x, 2, 0, 1), None);
    let second = conv(&part(&x, 2, 1, 4), Some(first[1].clone()));
    assert!(close(&first[0].to_f64(), &part(&whole[0], 2, 0, 1).to_f64()));
    assert!(close(&second[0].to_f64(), &part(&whole[0], 2, 1, 4).to_f64()));
    assert_eq!(second[1].to_f64(), whole[1].to_f64());

    for (rule, decay, beta) in [("linear", 0, 0), ("gated", 2, 0), ("delta", 0, 1), ("gated_delta", 4, 2)] {
        let all = [(8, 1), (4, 5), (6, 9), (decay, 13), (beta, 17)]
            .map(|(width, seed)| (width > 0).then(|| numbers(&[1, 5, width], seed)));
        let attend = |from: usize, count: usize, state: Option<Tensor>| {
            let [query, key, value, decay, beta] = all.clone().map(|x| x.map(|x| part(&x, 1, from, count)));
            let attrs = [("q_num_heads", int(4)), ("kv_num_heads", int(2)), ("update_rule", str(rule))];
            run("LinearAttention", &[query, key, value, state, decay, beta], &attrs)
        };
        let whole = attend(0, 5, None);
        let first = attend(0, 2, None);
        let second = attend(2, 3, Some(first[1].clone()));
        assert_eq!(whole[0].shape(), [1, 5, 12]);
        assert!(close(&first[0].to_f64(), &part(&whole[0], 1, 0, 2).to_f64()), "{rule}");
        assert!(close(&second[0].to_f64(), &part(&whole[0], 1, 2, 3).to_f64()), "{rule}");
        assert!(close(&second[1].to_f64(), &whole[1].to_f64()), "{rule}");
    }
}

/// onnxruntime's normalisations of sums, which give the sum, too.
#[test]
fn sums_are_normalised() {
    let numbers = |values: &[f32]| Tensor::from_f32(&[values.len()], values);
    let (x, skip) =
        (Tensor::from_f32(&[1, 2, 2], &[1.0, 2.0, 0.0, 4.0]), Tensor::from_f32(&[2, 2], &[1.0; 4]));
    let norm = |op: &str, more: &[Tensor]| {
        let mut m = Model::new(1);
        let all: Vec<Tensor> = [&[x.clone(), skip.clone(), numbers(&[2.0, 2.0])], more].concat();
        let inputs: Vec<_> = (0..all.len()).map(|i| Some(m.b.input(&format!("x{i}"), all[i].ty()))).collect();
        let made = m.convert_to(op, &inputs, &[], &[true, false, false, true]).expect("it is supported");
        let graph = m.b.finish(vec![made[0], made[3]]);
        let found = ir::graph::eval(&graph, &all).unwrap_or_else(|at| panic!("{}", at.error));
        [found[0].to_f64(), found[1].to_f64()]
    };
    let close = |found: &[f64], expected: [f64; 4]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
    };
    let [y, sum] =
        norm("com.microsoft.SkipLayerNormalization", &[numbers(&[0.5, 0.5]), numbers(&[0.0, 1.0])]);
    close(&y, [-1.5, 2.5, -1.5, 2.5]);
    close(&sum, [2.0, 4.0, 1.0, 6.0]);
    let [y, sum] = norm("com.microsoft.SkipSimplifiedLayerNormalization", &[numbers(&[0.0, 1.0])]);
    let rms = [10.0_f64.sqrt(), 18.5_f64.sqrt()];
    close(&y, [4.0 / rms[0], 8.0 / rms[0], 2.0 / rms[1], 12.0 / rms[1]]);
    close(&sum, [2.0, 4.0, 1.0, 6.0]);
}
