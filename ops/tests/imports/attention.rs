//! Attention: ONNX's, and onnxruntime's, which take masks of integers, packed operands and caches.

use super::*;

/// All results of a node on these operands, those that are left out being `None`.
fn attend(op: &str, inputs: &[Option<&Tensor>], attrs: &[(&str, NodeAttr)], results: usize) -> Vec<Tensor> {
    let mut m = Model::new(1);
    let given: Vec<Tensor> = inputs.iter().flatten().map(|&x| x.clone()).collect();
    let mut input = |(i, x): (usize, &Option<&Tensor>)| x.map(|x| m.b.input(&format!("x{i}"), x.ty()));
    let operands: Vec<Option<Value>> = inputs.iter().enumerate().map(&mut input).collect();
    let made = m.convert_to(&format!("com.microsoft.{op}"), &operands, attrs, &vec![true; results]);
    let mut made = made.unwrap_or_else(|error| panic!("{op}: {error}"));
    made.truncate(results);
    ir::graph::eval(&m.b.finish(made), &given).unwrap_or_else(|at| panic!("{op}: {}", at.error))
}

/// Why a node is refused.
fn refused(op: &str, inputs: &[Option<&Tensor>], attrs: &[(&str, NodeAttr)]) -> String {
    let mut m = Model::new(1);
    let mut input = |(i, x): (usize, &Option<&Tensor>)| x.map(|x| m.b.input(&format!("x{i}"), x.ty()));
    let operands: Vec<Option<Value>> = inputs.iter().enumerate().map(&mut input).collect();
    m.convert(&format!("com.microsoft.{op}"), &operands, attrs).expect_err("it is refused").to_string()
}

fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let mut at = seed;
    Tensor::from_fn(DType::F32, shape, |_| {
        at = (at * 7 + 3) % 101;
        Scalar::f32(at as f32 / 50.0 - 1.0)
    })
}

fn i32s(shape: &[usize], values: &[i64]) -> Tensor {
    let mut values = values.iter();
    Tensor::from_fn(DType::I32, shape, |_| Scalar::from_i64(DType::I32, *values.next().expect("one each")))
}

/// `[N, L, heads · D]` as `[N, heads, L, D]`.
fn apart(x: &Tensor, heads: usize) -> Tensor {
    let [images, rows, width] = x.shape()[..] else { panic!("three axes") };
    let each = width / heads;
    let element = |at: &[usize]| x.at(&[at[0], at[2], at[1] * each + at[3]]);
    Tensor::from_fn(DType::F32, &[images, heads, rows, each], element)
}

/// Attention of operands by heads, as its definition has it: `score` gives what the softmax takes for a product at `[n,
/// h, i, j]`.
fn defined([q, k, v]: [&Tensor; 3], score: &dyn Fn([usize; 4], f64) -> f64) -> Vec<f64> {
    let ([images, heads, queries, depth], [_, kv_heads, keys, width]) = (sizes(q), sizes(v));
    let mut y = Vec::new();
    for n in 0..images {
        for i in 0..queries {
            for h in 0..heads {
                let kv = h / (heads / kv_heads);
                let product = |j: usize| -> f64 {
                    (0..depth).map(|e| q.at(&[n, h, i, e]).to_f64() * k.at(&[n, kv, j, e]).to_f64()).sum()
                };
                let weights: Vec<f64> = (0..keys).map(|j| score([n, h, i, j], product(j)).exp()).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..width {
                    let sum: f64 = (0..keys).map(|j| weights[j] * v.at(&[n, kv, j, d]).to_f64()).sum();
                    y.push(sum / total);
                }
            }
        }
    }
    y
}

fn sizes(x: &Tensor) -> [usize; 4] {
    x.shape().try_into().expect("four axes")
}

fn close(found: &Tensor, expected: &[f64], what: &str) {
    let found = found.to_f64();
    let fits = found.len() == expected.len()
        && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4 || a == b);
    assert!(fits, "{what}:\n{found:?}\n{expected:?}");
}

const TWO_HEADS: (&str, NodeAttr) = ("num_heads", NodeAttr::Int(2));

/// Two images, three queries and keys, two heads of two elements.
fn three() -> [Tensor; 3] {
    [1, 5, 9].map(|seed| numbers(&[2, 3, 4], seed))
}

#[test]
fn masks_of_integers_say_what_is_padding() {
    let [q, k, v] = three();
    let by_heads = [&q, &k, &v].map(|x| apart(x, 2));
    type Seen<'a> = &'a dyn Fn([usize; 4]) -> bool;
    let masks: &[(Tensor, Seen)] = &[
        (i32s(&[2], &[1, 3]), &|[n, .., j]| j < [1, 3][n]),
        (i32s(&[8], &[1, 3, 0, 3, 6, 0, 3, 6]), &|[n, .., j]| j < [1, 3][n]),
        (i32s(&[2, 3], &[1, 0, 1, 0, 1, 1]), &|[n, .., j]| (n, j) != (0, 1) && (n, j) != (1, 0)),
        (i32s(&[2, 3, 3], &(0..18).map(|i| i % 2).collect::<Vec<_>>()), &|[n, _, i, j]| {
            (n * 9 + i * 3 + j) % 2 == 1
        }),
    ];
    for (mask, seen) in masks {
        for causal in [false, true] {
            let attrs = [
                TWO_HEADS,
                ("unidirectional", int(causal.into())),
                ("scale", NodeAttr::Float(-0.5)),
                ("mask_filter_value", NodeAttr::Float(-3.0)),
            ];
            let score = |at: [usize; 4], product: f64| match causal && at[3] > at[2] {
                true => f64::NEG_INFINITY,
                false => product * -0.5 + if seen(at) { 0.0 } else { -3.0 },
            };
            let expected = defined(by_heads.each_ref(), &score);
            let inputs = [Some(&q), Some(&k), Some(&v), None, Some(mask)];
            let found = attend("MultiHeadAttention", &inputs, &attrs, 4);
            close(&found[0], &expected, &format!("{:?}, causal: {causal}", mask.shape()));
            assert_eq!(found[3].shape(), [2, 2, 3, 3]);
        }
    }
    let wrong = i32s(&[3], &[1, 2, 3]);
    let error =
        refused("MultiHeadAttention", &[Some(&q), Some(&k), Some(&v), None, Some(&wrong)], &[TWO_HEADS]);
    assert!(error.contains("elements of the mask"), "{error}");
    let later = numbers(&[2, 4, 4], 1);
    let attrs = [TWO_HEADS, ("unidirectional", int(1))];
    let error = refused("MultiHeadAttention", &[Some(&q), Some(&later), Some(&later)], &attrs);
    assert!(error.contains("3 against 4"), "{error}");
}

#[test]
fn operands_may_be_packed_or_kept() {
    let [q, k, v] = three();
    let bias = numbers(&[12], 13);
    let packed = |parts: &[&Tensor]| {
        Tensor::from_fn(DType::F32, &[2, 3, 2, parts.len(), 2], |at| {
            parts[at[3]].at(&[at[0], at[1], at[2] * 2 + at[4]])
        })
    };
    let run = |inputs: &[Option<&Tensor>]| attend("MultiHeadAttention", inputs, &[TWO_HEADS], 3);
    let whole = run(&[Some(&q), Some(&k), Some(&v), Some(&bias)]);
    let all = packed(&[&q, &k, &v]);
    assert_eq!(run(&[Some(&all), None, None, Some(&bias)])[0].to_f64(), whole[0].to_f64());
    let both = packed(&[&k, &v]);
    assert_eq!(run(&[Some(&q), Some(&both), None, Some(&bias)])[0].to_f64(), whole[0].to_f64());
    // What is kept has its bias.
    let kept = run(&[Some(&q), Some(&whole[1]), Some(&whole[2]), Some(&bias)]);
    assert_eq!(kept[0].to_f64(), whole[0].to_f64());
    // The last key after the first two, of which the past has no bias.
    let [early_k, early_v] = [&k, &v].map(|x| apart(&part(x, 1, 0, 2), 2));
    let [late_q, late_k, late_v] = [&q, &k, &v].map(|x| part(x, 1, 2, 1));
    let inputs =
        [Some(&late_q), Some(&late_k), Some(&late_v), None, None, None, Some(&early_k), Some(&early_v)];
    let attrs = [TWO_HEADS, ("unidirectional", int(1))];
    let later = attend("MultiHeadAttention", &inputs, &attrs, 3);
    let whole = attend("MultiHeadAttention", &[Some(&q), Some(&k), Some(&v)], &attrs, 3);
    close(&later[0], &part(&whole[0], 1, 2, 1).to_f64(), "the last query");
    assert_eq!([later[1].to_f64(), later[2].to_f64()], [whole[1].to_f64(), whole[2].to_f64()]);
    let lone = [Some(&q), Some(&k), Some(&v), None, None, None, Some(&early_k)];
    assert_eq!(refused("MultiHeadAttention", &lone, &[TWO_HEADS]), "input 7 is missing");
}

#[test]
fn projections_are_one_product() {
    let (x, w, bias) = (numbers(&[2, 3, 5], 1), numbers(&[5, 14], 2), numbers(&[14], 3));
    let sizes = ("qkv_hidden_sizes", ints(&[4, 4, 6]));
    let projected = Tensor::from_fn(DType::F32, &[2, 3, 14], |at| {
        let sum: f64 = (0..5).map(|e| x.at(&[at[0], at[1], e]).to_f64() * w.at(&[e, at[2]]).to_f64()).sum();
        Scalar::f32((sum + bias.at(&[at[2]]).to_f64()) as f32)
    });
    let [q, k, v] = [(0, 4), (4, 4), (8, 6)].map(|(from, count)| part(&projected, 2, from, count));
    // Keys 1 and 2 of the first image, 0 of the second; also for earlier queries, in a larger mask.
    let between = i32s(&[4], &[3, 1, 1, 0]);
    let large = Tensor::from_fn(DType::I32, &[2, 1, 5, 5], |at| {
        Scalar::from_i64(DType::I32, if at[0] == 0 { (at[3] > 0).into() } else { (at[3] == 0).into() })
    });
    let by_heads = [&q, &k, &v].map(|x| apart(x, 2));
    let score = |[n, _, _, j]: [usize; 4], product: f64| {
        product * 0.5_f64.sqrt() + if (n == 0) == (j > 0) { 0.0 } else { -10000.0 }
    };
    let expected = defined(by_heads.each_ref(), &score);
    for mask in [between, large] {
        let inputs = [Some(&x), Some(&w), Some(&bias), Some(&mask)];
        let found = attend("Attention", &inputs, &[TWO_HEADS, sizes.clone()], 1);
        close(&found[0], &expected, "masked");
    }
    let w = part(&w, 1, 0, 12);
    let attrs = [TWO_HEADS, ("unidirectional", int(1))];
    let whole = attend("Attention", &[Some(&x), Some(&w)], &attrs, 2);
    let first = attend("Attention", &[Some(&part(&x, 1, 0, 2)), Some(&w)], &attrs, 2);
    let inputs = [Some(&part(&x, 1, 2, 1)), Some(&w), None, None, Some(&first[1])];
    let second = attend("Attention", &inputs, &attrs, 2);
    close(&second[0], &part(&whole[0], 1, 2, 1).to_f64(), "the last query");
    close(&second[1], &whole[1].to_f64(), "keys and values");
    let error = refused("Attention", &[Some(&x), Some(&w)], &[TWO_HEADS, ("do_rotary", int(1))]);
    assert!(error.starts_with("Attention with do_rotary is not supported: export"), "{error}");
}

/// Four heads, of which two each share keys.
const GROUPED: [(&str, NodeAttr); 2] = [("num_heads", NodeAttr::Int(4)), ("kv_num_heads", NodeAttr::Int(2))];

fn grouped(rows: usize) -> [Tensor; 3] {
    [(8, 1), (4, 5), (4, 9)].map(|(width, seed)| numbers(&[2, rows, width], seed))
}

fn group_query(inputs: &[Option<&Tensor>], attrs: &[(&str, NodeAttr)], results: usize) -> Vec<Tensor> {
    attend("GroupQueryAttention", inputs, &[&GROUPED, attrs].concat(), results)
}

#[test]
fn groups_of_queries_share_keys() {
    let [q, k, v] = grouped(3);
    let by_heads = [apart(&q, 4), apart(&k, 2), apart(&v, 2)];
    let (last, total) = (i32s(&[2], &[2, 2]), i32s(&[], &[3]));
    let sink = numbers(&[4], 3);
    let scale = 0.5_f64.sqrt();
    let seen = |window: usize, i: usize, j: usize| j <= i && i < j + window;
    for (window, softcap) in [(9, 0.0), (1, 0.0), (2, 0.5)] {
        let score = |[_, _, i, j]: [usize; 4], product: f64| {
            let capped =
                if softcap > 0.0 { (product * scale / softcap).tanh() * softcap } else { product * scale };
            if seen(window, i, j) { capped } else { f64::NEG_INFINITY }
        };
        let expected = defined(by_heads.each_ref(), &score);
        let attrs = [("local_window_size", int(window as i64)), ("softcap", NodeAttr::Float(softcap))];
        let found =
            group_query(&[Some(&q), Some(&k), Some(&v), None, None, Some(&last), Some(&total)], &attrs, 3);
        close(&found[0], &expected, &format!("window {window}"));
        assert_eq!(found[1].to_f64(), by_heads[1].to_f64());
    }
    // A sink is a further key, whose value is 0.
    let longer = |x: &Tensor| {
        Tensor::from_fn(DType::F32, &[2, 2, 4, 2], |at| if at[2] < 3 { x.at(at) } else { Scalar::f32(0.0) })
    };
    let [long_k, long_v] = [&by_heads[1], &by_heads[2]].map(longer);
    for given in [Some(&sink), None] {
        let score = |[_, h, i, j]: [usize; 4], product: f64| match j {
            3 => given.map_or(0.0, |sink| sink.at(&[h]).to_f64()),
            _ if j <= i => product * scale,
            _ => f64::NEG_INFINITY,
        };
        let expected = defined([&by_heads[0], &long_k, &long_v], &score);
        let mut inputs = vec![Some(&q), Some(&k), Some(&v), None, None, Some(&last), Some(&total)];
        inputs.extend([None, None, None, None, given]);
        let found = group_query(&inputs, &[("smooth_softmax", int(1)), ("qk_output", int(2))], 4);
        close(&found[0], &expected, "sink");
        assert_eq!(found[3].shape(), [2, 4, 3, 3]);
    }
    let packed = Tensor::from_fn(DType::F32, &[2, 3, 16], |at| match at[2] {
        0..8 => q.at(at),
        8..12 => k.at(&[at[0], at[1], at[2] - 8]),
        _ => v.at(&[at[0], at[1], at[2] - 12]),
    });
    let one = group_query(&[Some(&packed), None, None, None, None, Some(&last), Some(&total)], &[], 1);
    let apart = group_query(&[Some(&q), Some(&k), Some(&v), None, None, Some(&last), Some(&total)], &[], 1);
    assert_eq!(one[0].to_f64(), apart[0].to_f64());
}

/// A sequence in steps gives what it gives as a whole, with a cache that grows and with one that has room, where members
/// of the batch are of different lengths, too.
#[test]
fn caches_go_on_where_they_end() {
    let [q, k, v] = grouped(5);
    let (cos, sin, scales) = (numbers(&[8, 1], 3), numbers(&[8, 1], 7), numbers(&[2], 5));
    let rows = |x: &Tensor, from: [usize; 2], count: usize| {
        let shape = [2, count, x.shape()[2]];
        Tensor::from_fn(DType::F32, &shape, |at| x.at(&[at[0], from[at[0]] + at[1], at[2]]))
    };
    let step = |from: [usize; 2], count: usize, cache: [Option<&Tensor>; 2], valid: Option<[usize; 2]>| {
        let [q, k, v] = [&q, &k, &v].map(|x| rows(x, from, count));
        let new = valid.unwrap_or([count; 2]);
        let ends = [0, 1].map(|n| (from[n] + new[n]) as i64);
        let last = i32s(&[2], &ends.map(|end| end - 1));
        let total = i32s(&[], &[ends[0].max(ends[1])]);
        let valid = valid.map(|valid| i32s(&[2], &valid.map(|count| count as i64)));
        let mut inputs = vec![Some(&q), Some(&k), Some(&v), cache[0], cache[1], Some(&last), Some(&total)];
        inputs.extend([Some(&cos), Some(&sin), None, None, None, None, None, Some(&scales), Some(&scales)]);
        inputs.push(valid.as_ref());
        group_query(&inputs, &[("do_rotary", int(1)), ("rotary_interleaved", int(1))], 3)
    };
    let whole = step([0, 0], 5, [None, None], None);
    let is_part = |found: &[Tensor], from: [usize; 2], count: usize, what: &str| {
        close(&found[0], &rows(&whole[0], from, count).to_f64(), what);
    };
    let first = step([0, 0], 3, [None, None], None);
    is_part(&first, [0, 0], 3, "the first three");
    let grown = step([3, 3], 2, [Some(&first[1]), Some(&first[2])], None);
    is_part(&grown, [3, 3], 2, "two more");
    close(&grown[1], &whole[1].to_f64(), "keys");
    close(&grown[2], &whole[2].to_f64(), "values");

    let empty = Tensor::splat(Scalar::f32(9.0), &[2, 2, 8, 2]);
    let first = step([0, 0], 3, [Some(&empty), Some(&empty)], None);
    is_part(&first, [0, 0], 3, "three in a cache with room");
    assert_eq!(first[1].shape(), [2, 2, 8, 2]);
    // The second member is treated as if it had two.
    let next = step([3, 2], 1, [Some(&first[1]), Some(&first[2])], None);
    is_part(&next, [3, 2], 1, "one more, at different places");
    let chunk = step([2, 2], 3, [Some(&next[1]), Some(&next[2])], Some([3, 1]));
    close(&part(&chunk[0], 1, 0, 1), &rows(&whole[0], [2, 2], 1).to_f64(), "a chunk");
    let [row, expected] = [&chunk[0], &rows(&whole[0], [2, 2], 3)].map(|x| part(x, 0, 0, 1));
    close(&row, &expected.to_f64(), "a chunk that is not padded");

    let last = i32s(&[2], &[4, 4]);
    let mut inputs = vec![Some(&q), Some(&k), Some(&v), None, None, Some(&last), Some(&last)];
    for attr in [("sliding_window_cache", int(1)), ("k_quant_type", str("PER_TENSOR"))] {
        let error = refused("GroupQueryAttention", &inputs, &[&GROUPED[..], &[attr]].concat());
        assert!(error.contains("is not supported: export the model with a cache"), "{error}");
    }
    inputs.extend([Some(&cos), Some(&sin), Some(&last)]);
    let error = refused("GroupQueryAttention", &inputs, &[&GROUPED[..], &[("do_rotary", int(1))]].concat());
    assert!(error.contains("`position_ids` has rank 1"), "{error}");
    inputs.truncate(7);
    inputs.extend([None, None, None, Some(&cos)]);
    let error = refused("GroupQueryAttention", &inputs, &GROUPED);
    assert!(error.contains("`attention_bias` has rank 2"), "{error}");
}

#[test]
fn attention_keeps_its_past() {
    let mut m = Model::new(23);
    let (q, kv) = (m.input(DType::F32, &["n", "q", "8"]), m.input(DType::F32, &["n", "q", "4"]));
    let past = m.input(DType::F32, &["n", "1", "p", "4"]);
    let attrs = [("q_num_heads", int(2)), ("kv_num_heads", int(1)), ("is_causal", int(1))];
    let results =
        m.convert_to("Attention", &[q, kv, kv, None, past, past], &attrs, &[true; 4]).expect("imports");
    let shapes: Vec<String> = results.iter().map(|&y| m.shape(Some(y))).collect();
    assert_eq!(shapes, ["f32[n, q, 8]", "f32[n, 1, p + q, 4]", "f32[n, 1, p + q, 4]", "f32[n, 2, q, p + q]"]);
    let error = m.convert("Attention", &[q, kv, kv], &[]).unwrap_err();
    assert!(error.to_string().contains("q_num_heads"), "{error}");
}

/// A query that may see nothing gives zeros, with masks of truth values and of floats.
#[test]
fn attention_to_nothing_is_zero() {
    for (dtype, never) in [(DType::Bool, 0.0), (DType::F32, f64::NEG_INFINITY)] {
        let mut m = Model::new(24);
        let x = m.input(DType::F32, &["1", "1", "2", "2"]);
        let mask = m.b.constant(&Tensor::from_fn(dtype, &[2, 2], |at| {
            let seen = if dtype == DType::Bool { 1.0 } else { 0.0 };
            Scalar::from_f64(dtype, if at[0] == 0 || at[1] == 0 { never } else { seen })
        }));
        let y = m.add("Attention", &[x, x, x, Some(mask)], &[]);
        assert_eq!(m.eval(y, &[counting(&[1, 1, 2, 2])]).to_f64(), [0.0, 0.0, 2.0, 3.0], "{dtype}");
    }
}

#[test]
fn rotations_take_rows_of_the_caches() {
    let mut m = Model::new(23);
    let x = m.input(DType::F32, &["n", "s", "8"]);
    let positions = m.input(DType::I64, &["n", "s"]);
    let cache = m.input(DType::F32, &["50", "1"]);
    let attrs = [("num_heads", int(2)), ("rotary_embedding_dim", int(2)), ("interleaved", int(1))];
    let y = m.add("RotaryEmbedding", &[x, cache, cache, positions], &attrs);
    assert_eq!(m.shape(y), "f32[n, s, 8]");
    let error = m.convert("RotaryEmbedding", &[x, cache, cache, positions], &attrs[..1]).unwrap_err();
    assert!(error.to_string().contains("2 against 4"), "{error}");
}

/// onnxruntime's positions come before the caches, and may be the first of all.
#[test]
fn rotations_count_from_a_position_on() {
    let (cos, sin) = (numbers(&[8, 2], 3), numbers(&[8, 2], 7));
    let x = numbers(&[2, 3, 8], 1);
    let turn = |positions: Tensor, attrs: &[(&str, NodeAttr)]| {
        attend("RotaryEmbedding", &[Some(&x), Some(&positions), Some(&cos), Some(&sin)], attrs, 1)[0].to_f64()
    };
    let all = i64s(&[2, 3], &[2, 3, 4, 2, 3, 4]);
    assert_eq!(turn(i64s(&[1], &[2]), &[]), turn(all.clone(), &[]));
    let attrs = [("num_heads", int(2)), ("rotary_embedding_dim", int(4))];
    assert_eq!(turn(all.clone(), &[]), turn(all.clone(), &attrs));
    let inputs = [Some(&x), Some(&all), Some(&cos), Some(&sin)];
    let error = refused("RotaryEmbedding", &inputs, &[("is_packed_batching", int(1))]);
    assert!(error.contains("one row of the batch for each sequence"), "{error}");
}
