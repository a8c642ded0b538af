//! Nodes of onnxruntime's own domain on every backend: they compute what their formulas say in `f64`, where onnxruntime has
//! no kernel that could say it (`data/onnx/valid` holds those for which it has), and what is not supported says so.
//!
//! Results in `f32` may be `1e-4` apart from the formula, relative to one and the number; quantized ones by one step, where
//! the formula lies between two.

use harness::{Everywhere, Random, node_graph};
use ir::build::Build;
use ir::float_format::FloatFormat;
use ir::{DType, Graph, Scalar, Tensor, Value};
use ops::onnx::{ImportError, NodeAttr};

/// The operands of a node: inputs of the graph, weights, or nothing.
struct Node {
    b: Build,
    operands: Vec<Option<Value>>,
    given: Vec<Tensor>,
}

impl Node {
    fn new() -> Node {
        Node { b: Build::new("node"), operands: Vec::new(), given: Vec::new() }
    }

    fn input(mut self, x: &Tensor) -> Node {
        self.operands.push(Some(self.b.input(&format!("x{}", self.given.len()), x.ty())));
        self.given.push(x.clone());
        self
    }

    fn known(mut self, x: &Tensor) -> Node {
        self.operands.push(Some(self.b.constant(x)));
        self
    }

    fn number(self, dtype: DType, value: f64) -> Node {
        self.known(&Tensor::scalar(Scalar::from_f64(dtype, value)))
    }

    fn none(mut self) -> Node {
        self.operands.push(None);
        self
    }

    fn graph(
        self,
        op: &str,
        attrs: &[(&str, NodeAttr)],
        results: usize,
    ) -> Result<(Graph, Vec<Tensor>), ImportError> {
        Ok((node_graph(self.b, &format!("com.microsoft.{op}"), self.operands, attrs, results)?, self.given))
    }

    /// The results, on which all backends agree.
    fn run(self, op: &str, attrs: &[(&str, NodeAttr)], results: usize) -> Vec<Tensor> {
        let (graph, given) = self.graph(op, attrs, results).unwrap_or_else(|error| panic!("{op}: {error}"));
        Everywhere::new(op, &graph).run(&given)
    }

    /// Why the node is refused.
    fn refused(self, op: &str, attrs: &[(&str, NodeAttr)]) -> String {
        match self.graph(op, attrs, 1) {
            Ok((graph, _)) => panic!("{op} is imported: {graph}"),
            Err(error) => error.to_string(),
        }
    }
}

fn int(name: &'static str, value: i64) -> (&'static str, NodeAttr) {
    (name, NodeAttr::Int(value))
}

fn ints(name: &'static str, values: &[i64]) -> (&'static str, NodeAttr) {
    (name, NodeAttr::Ints(values.to_vec()))
}

fn text(name: &'static str, value: &str) -> (&'static str, NodeAttr) {
    (name, NodeAttr::Str(value.to_owned()))
}

fn float(name: &'static str, value: f64) -> (&'static str, NodeAttr) {
    (name, NodeAttr::Float(value))
}

/// Numbers between −1 and 1.
fn floats(seed: u64, shape: &[usize]) -> Tensor {
    let mut random = Random::new(seed);
    Tensor::from_fn(DType::F32, shape, |_| Scalar::f32(random.number(1.0) as f32))
}

/// Integers of all sizes that the type has.
fn integers(seed: u64, dtype: DType, shape: &[usize]) -> Tensor {
    let mut random = Random::new(seed);
    Tensor::from_fn(dtype, shape, |_| Scalar::from_bits(dtype, random.bits() & 0xff))
}

/// A tensor of this shape whose elements are those of a formula.
fn formula(shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Vec<f64> {
    let mut all = Vec::new();
    ir::tensor::for_each_index(shape, |at| all.push(f(at)));
    all
}

fn near(what: &str, found: &Tensor, shape: &[usize], f: impl FnMut(&[usize]) -> f64) {
    assert_eq!(found.shape(), shape, "{what}");
    let step = if found.dtype().is_int() { 1.0 } else { 0.0 };
    for (i, (found, expected)) in found.to_f64().into_iter().zip(formula(shape, f)).enumerate() {
        let tolerance = step + 1e-4 * (1.0 + expected.abs());
        assert!((found - expected).abs() <= tolerance, "{what}, element {i}: {found} instead of {expected}");
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// With the hyperbolic tangent.
fn fast_gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// `Φ(x)·x`, by the series of the error function.
fn gelu(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    let (mut term, mut sum) = (z, z);
    for n in 1..60 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    0.5 * x * (1.0 + sum * 2.0 / std::f64::consts::PI.sqrt())
}

/// The integer of so many bits at a place of bytes along the last axis.
fn unpacked(bytes: &Tensor, at: &[usize], bits: usize) -> f64 {
    let (last, outer) = at.split_last().expect("an axis");
    let byte = bytes.at(&[outer, &[last * bits / 8]].concat()).to_i64();
    ((byte >> (last * bits % 8)) & ((1 << bits) - 1)) as f64
}

#[test]
fn gelus_and_sums() {
    let (x, bias, w) = (floats(1, &[2, 3, 8]), floats(2, &[8]), floats(3, &[8, 4]));
    let at = |t: &Tensor, at: &[usize]| t.at(at).to_f64();
    let y = Node::new().input(&x).known(&bias).run("BiasSplitGelu", &[], 1);
    near("BiasSplitGelu", &y[0], &[2, 3, 4], |i| {
        let sum = |k: usize| at(&x, &[i[0], i[1], k]) + at(&bias, &[k]);
        sum(i[2]) * gelu(sum(i[2] + 4))
    });
    let own = floats(4, &[4]);
    let y = Node::new().input(&x).known(&w).known(&own).run("GemmFastGelu", &[], 1);
    near("GemmFastGelu", &y[0], &[2, 3, 4], |i| {
        let sum: f64 = (0..8).map(|k| at(&x, &[i[0], i[1], k]) * at(&w, &[k, i[2]])).sum();
        fast_gelu(sum + at(&own, &[i[2]]))
    });
    let skip = floats(5, &[2, 3, 8]);
    let y = Node::new().input(&x).known(&bias).input(&skip).run("BiasAdd", &[], 1);
    near("BiasAdd", &y[0], &[2, 3, 8], |i| at(&x, i) + at(&bias, &i[2..]) + at(&skip, i));
    let y =
        Node::new().input(&x).known(&bias).input(&skip).number(DType::F32, 0.5).run("BiasDropout", &[], 2);
    near("BiasDropout", &y[0], &[2, 3, 8], |i| at(&x, i) + at(&bias, &i[2..]) + at(&skip, i));
    assert!(y[1].values().all(Scalar::to_bool), "all elements are kept");
}

#[test]
fn group_norms() {
    let (x, gamma, beta) = (floats(1, &[2, 3, 2, 8]), floats(2, &[8]), floats(3, &[8]));
    let (skip, bias) = (floats(4, &[2, 8]), floats(5, &[8]));
    let at = |t: &Tensor, at: &[usize]| t.at(at).to_f64();
    let sum = |i: &[usize]| at(&x, i) + at(&skip, &[i[0], i[3]]) + at(&bias, &[i[3]]);
    // Two groups of four channels.
    let normal = |value: &dyn Fn(&[usize]) -> f64, i: &[usize]| {
        let group = i[3] / 4 * 4;
        let all = formula(&[3, 2, 4], |k| value(&[i[0], k[0], k[1], group + k[2]]));
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
        (value(i) - mean) / (variance + 1e-3).sqrt() * at(&gamma, &[i[3]]) + at(&beta, &[i[3]])
    };
    let attrs = |activation: i64, last: i64| {
        [int("activation", activation), int("channels_last", last), int("groups", 2), float("epsilon", 1e-3)]
    };
    let y = Node::new().input(&x).known(&gamma).known(&beta).run("GroupNorm", &attrs(1, 1), 1);
    near("GroupNorm", &y[0], &[2, 3, 2, 8], |i| {
        let y = normal(&|i| at(&x, i), i);
        y * sigmoid(y)
    });
    let skipped = Node::new().input(&x).known(&gamma).known(&beta).input(&skip).known(&bias);
    let y = skipped.run("SkipGroupNorm", &attrs(0, 1), 2);
    near("SkipGroupNorm", &y[0], &[2, 3, 2, 8], |i| normal(&sum, i));
    near("the sum", &y[1], &[2, 3, 2, 8], sum);
    let turned = Tensor::from_fn(DType::F32, &[2, 8, 3, 2], |i| x.at(&[i[0], i[2], i[3], i[1]]));
    let y = Node::new().input(&turned).known(&gamma).known(&beta).input(&skip).known(&bias);
    let y = y.run("SkipGroupNorm", &attrs(0, 0), 1);
    near("channels first", &y[0], &[2, 8, 3, 2], |i| normal(&sum, &[i[0], i[2], i[3], i[1]]));
    let other = Node::new().input(&x).known(&gamma).known(&beta).refused("GroupNorm", &attrs(2, 1));
    assert!(other.contains("`2`; known are 0 and 1"), "{other}");
}

#[test]
fn convolutions_with_channels_last() {
    let (x, w, bias) = (floats(1, &[2, 5, 4, 6]), floats(2, &[4, 2, 3, 3]), floats(3, &[4]));
    let z = floats(4, &[2, 4, 2, 4]);
    let at = |t: &Tensor, at: &[usize]| t.at(at).to_f64();
    // Two groups; weights as those of Conv.
    let conv = |i: &[usize]| {
        let window = formula(&[3, 2, 3], |k| {
            at(&x, &[i[0], i[1] + k[1], i[2] + k[2], i[3] / 2 * 3 + k[0]]) * at(&w, &[i[3], k[1], k[2], k[0]])
        });
        window.iter().sum::<f64>() + at(&bias, &[i[3]])
    };
    let attrs = [int("group", 2), ints("kernel_shape", &[2, 3])];
    let y = Node::new().input(&x).known(&w).known(&bias).run("NhwcConv", &attrs, 1);
    near("NhwcConv", &y[0], &[2, 4, 2, 4], conv);
    let turned = Tensor::from_fn(DType::F32, &[4, 3, 2, 3], |i| w.at(&[i[0], i[2], i[3], i[1]]));
    let relu = [&attrs[..], &[text("activation", "Relu")]].concat();
    let y = Node::new().input(&x).known(&turned).known(&bias).input(&z).run("NhwcFusedConv", &relu, 1);
    near("NhwcFusedConv", &y[0], &[2, 4, 2, 4], |i| (conv(i) + at(&z, i)).max(0.0));
    // As the documentation has them: the kernel's shape tells.
    let y = Node::new().input(&x).known(&turned).known(&bias).run("NhwcConv", &attrs, 1);
    near("NhwcConv, as Conv", &y[0], &[2, 4, 2, 4], conv);
    let mish = [&attrs[..], &[text("activation", "Mish")]].concat();
    let why = Node::new().input(&x).known(&turned).refused("NhwcFusedConv", &mish);
    assert!(why.contains("`Mish`; known are Relu"), "{why}");
    let clip = [&attrs[..], &[text("activation", "Clip")]].concat();
    let why = Node::new().input(&x).known(&turned).refused("NhwcFusedConv", &clip);
    assert!(why.contains("activation_params"), "{why}");
}

#[test]
fn products_with_activations() {
    let (a, w) = (floats(1, &[2, 3, 4]), floats(2, &[2, 5, 4]));
    let product = |i: &[usize]| -> f64 {
        (0..4).map(|k| a.at(&[i[0], i[1], k]).to_f64() * w.at(&[i[0], i[2], k]).to_f64()).sum()
    };
    let attrs =
        [int("transB", 1), float("alpha", 2.0), text("activation", "Elu"), float("activation_alpha", 0.5)];
    let y = Node::new().input(&a).input(&w).run("FusedMatMulActivation", &attrs, 1);
    near("Elu", &y[0], &[2, 3, 5], |i| {
        let y = 2.0 * product(i);
        if y < 0.0 { 0.5 * y.exp_m1() } else { y }
    });
    let attrs = [int("transB", 1), text("activation", "Softmax"), int("activation_axis", 1)];
    let y = Node::new().input(&a).input(&w).run("FusedMatMulActivation", &attrs, 1);
    near("Softmax", &y[0], &[2, 3, 5], |i| {
        let sum: f64 = (0..3).map(|j| product(&[i[0], j, i[2]]).exp()).sum();
        product(i).exp() / sum
    });
}

#[test]
fn half_transforms() {
    let x = floats(1, &[2, 3, 6]);
    let y = Node::new().input(&x).run("Rfft", &[int("signal_ndim", 1)], 1);
    near("Rfft", &y[0], &[2, 3, 4, 2], |i| {
        let turn = |j: usize| -std::f64::consts::TAU * (i[2] * j) as f64 / 6.0;
        let part = |j: usize| if i[3] == 0 { turn(j).cos() } else { turn(j).sin() };
        (0..6).map(|j| x.at(&[i[0], i[1], j]).to_f64() * part(j)).sum()
    });
    let why = Node::new().input(&x).refused("Rfft", &[int("signal_ndim", 2)]);
    assert!(why.contains("`2`; known are 1"), "{why}");
}

#[test]
fn quantized_means_and_shares() {
    let (x, scale, zero) = (integers(1, DType::I8, &[2, 3, 4]), 0.05, -7.0);
    let value = |i: &[usize]| (x.at(i).to_f64() - zero) * scale;
    let quantized =
        |y: f64, scale: f64, zero: f64| ((y / scale).round_ties_even() + zero).clamp(-128.0, 127.0);
    let node = |scales: [f64; 2], zeros: [f64; 2]| {
        let node = Node::new().input(&x).number(DType::F32, scales[0]).number(DType::I8, zeros[0]);
        node.number(DType::F32, scales[1]).number(DType::I8, zeros[1])
    };
    let mean =
        |attrs: &[(&str, NodeAttr)]| node([scale, 0.03], [zero, 5.0]).run("QLinearReduceMean", attrs, 1);
    let y = mean(&[ints("axes", &[1]), int("keepdims", 0)]);
    near("along an axis", &y[0], &[2, 4], |i| {
        quantized((0..3).map(|k| value(&[i[0], k, i[1]])).sum::<f64>() / 3.0, 0.03, 5.0)
    });
    let y = mean(&[ints("axes", &[0, 2]), int("keepdims", 1)]);
    near("along two", &y[0], &[1, 3, 1], |i| {
        let all = formula(&[2, 4], |k| value(&[k[0], i[1], k[1]]));
        quantized(all.iter().sum::<f64>() / 8.0, 0.03, 5.0)
    });
    for (version, axis, shared) in [(13, 1, &[1][..]), (11, 1, &[1, 2])] {
        let attrs = [int("opset", version), int("axis", axis)];
        let y = node([scale, 1.0 / 256.0], [zero, -128.0]).run("QLinearSoftmax", &attrs, 1);
        near("QLinearSoftmax", &y[0], &[2, 3, 4], |i| {
            let all = formula(&[3, 4], |k| {
                let among = shared.contains(&2) || k[1] == i[2];
                if among { value(&[i[0], k[0], k[1]]).exp() } else { 0.0 }
            });
            quantized(value(i).exp() / all.iter().sum::<f64>(), 1.0 / 256.0, -128.0)
        });
    }
    let why = Node::new().input(&x).none().refused("QLinearSigmoid", &[]);
    assert!(why.contains("input 1 is missing"), "{why}");
}

/// Bytes that are known become integers of their size, those that are computed are shifted: the same numbers.
#[test]
fn weights_of_few_bits() {
    for bits in [2, 4, 8] {
        let (x, bytes) = (floats(1, &[3, 40]), integers(2, DType::U8, &[5, 3, 2 * bits]));
        let scales = floats(3, &[5, 3]);
        let zeros = integers(4, DType::U8, &[5, (3 * bits).div_ceil(8)]);
        let flat = Tensor::new(DType::U8, vec![5, 6 * bits], bytes.bytes().to_vec()).expect("as many bytes");
        let expected = |block: &dyn Fn(usize) -> usize| {
            let (x, flat, scales, zeros) = (&x, &flat, &scales, &zeros);
            let weight = move |j: usize, k: usize, block: usize| {
                (unpacked(flat, &[j, k], bits) - unpacked(zeros, &[j, block], bits))
                    * scales.at(&[j, block]).to_f64()
            };
            formula(&[3, 5], |i| (0..40).map(|k| x.at(&[i[0], k]).to_f64() * weight(i[1], k, block(k))).sum())
        };
        let attrs = [int("K", 40), int("N", 5), int("bits", bits as i64), int("block_size", 16)];
        let check = |what: &str, node: Node, block: &dyn Fn(usize) -> usize| {
            let y = node.run("MatMulNBits", &attrs, 1);
            let mut expected = expected(block).into_iter();
            near(&format!("{what}, {bits} bits"), &y[0], &[3, 5], |_| expected.next().expect("one each"));
        };
        let known = || Node::new().input(&x).known(&bytes).known(&scales);
        check("known", known().known(&zeros), &|k| k / 16);
        check("computed", Node::new().input(&x).input(&bytes).input(&scales).input(&zeros), &|k| k / 16);
        let groups = Tensor::from_fn(DType::I32, &[40], |at| Scalar::from_i64(DType::I32, at[0] as i64 % 3));
        check("in groups", known().known(&zeros).known(&groups), &|k| k % 3);
        let halves = Tensor::from_fn(DType::F16, &[3, 40], |at| x.at(at).cast(DType::F16));
        let scales = Tensor::from_fn(DType::F16, &[5, 3], |at| scales.at(at).cast(DType::F16));
        let y = Node::new().input(&halves).known(&bytes).known(&scales).run("MatMulNBits", &attrs, 1);
        assert_eq!(y[0].dtype(), DType::F16);
    }
}

#[test]
fn weights_of_few_bits_that_are_refused() {
    let (x, bytes, scales) = (floats(1, &[3, 32]), integers(2, DType::U8, &[5, 2, 8]), floats(3, &[5, 2]));
    let sizes = [int("K", 32), int("N", 5)];
    let why = |attrs: &[(&'static str, NodeAttr)]| {
        let node = Node::new().input(&x).known(&bytes).known(&scales);
        node.refused("MatMulNBits", &[&sizes[..], attrs].concat())
    };
    assert!(why(&[]).contains("`block_size`: is missing"), "{}", why(&[]));
    assert!(why(&[int("block_size", 24)]).contains("powers of two"));
    assert!(why(&[int("block_size", 16), int("bits", 3)]).contains("`3`; known are 2, 4 and 8"));
    assert!(why(&[int("block_size", 16), int("weight_prepacked", 1)]).contains("which come in tiles of"));
    assert!(why(&[int("block_size", 16), int("weight_prepacked", 2)]).contains("`2`; known are 0 and 1"));
    let wrong = why(&[int("block_size", 32)]);
    assert!(wrong.contains("number of elements: 10 against 5"), "{wrong}");
    let ids = Tensor::from_i64(&[2], &[0, 1]);
    let gather = |table: &Tensor, attrs: &[(&'static str, NodeAttr)]| {
        let scales = floats(3, &[5, 2]);
        Node::new().known(table).input(&ids).known(&scales).refused("GatherBlockQuantized", attrs)
    };
    let table = integers(2, DType::U8, &[5, 16]);
    assert!(gather(&table, &[int("block_size", 16), int("gather_axis", 1)]).contains("gather_axis"));
    assert!(gather(&table, &[int("block_size", 16), int("bits", 5)]).contains("2, 4 and 8"));
    let flat = integers(2, DType::U8, &[5, 4, 4]);
    assert!(gather(&flat, &[int("block_size", 16), int("quantize_axis", 2)]).contains("scales"));
}

/// Narrow floats have one scale for each block, or one that stands for all rows.
#[test]
fn tables_of_floats() {
    let ids = Tensor::from_i64(&[4], &[2, 0, 7, -1]);
    let table = Tensor::from_fn(DType::F8E4M3FN, &[3, 32], |at| {
        Scalar::from_f64(DType::F32, (at[0] * 32 + at[1]) as f64 / 16.0 - 3.0).cast(DType::F8E4M3FN)
    });
    let row = |i: usize| [2, 0, 9, 2][i];
    for (block, shape) in [(16, [3, 2]), (0, [3, 1]), (16, [1, 2])] {
        let scales = floats(5, &shape);
        let y = Node::new().known(&table).input(&ids).known(&scales);
        let y = y.run("GatherBlockQuantized", &[int("block_size", block)], 1);
        near("a table", &y[0], &[4, 32], |i| match row(i[0]) {
            9 => 0.0,
            at => {
                let scale = [at.min(shape[0] - 1), (i[1] / 16).min(shape[1] - 1)];
                table.at(&[at, i[1]]).to_f64() * scales.at(&scale).to_f64()
            }
        });
    }
}

/// Three tokens of 32 elements, three experts, hidden layers of 64.
const TOKENS: usize = 3;
const WIDTH: usize = 32;
const EXPERTS: usize = 3;
const HIDDEN: usize = 64;

/// What a matrix `[E, N, K]` holds.
type Matrix<'m> = &'m dyn Fn(usize, usize, usize) -> f64;

/// What hidden elements are, of what the first and the third matrices give.
type Act<'a> = &'a dyn Fn(&[f64], &[f64]) -> Vec<f64>;

/// Two experts for each token, whose gates add up to one, and what they make of the rows of `fc1`, and of `fc3`.
fn mixed([x, scores]: [&Tensor; 2], [fc1, fc2, fc3]: [Matrix; 3], rows: usize, act: Act) -> Vec<f64> {
    let mut all = Vec::new();
    for token in 0..TOKENS {
        let share = |e: usize| scores.at(&[token, e]).to_f64().exp();
        let mut order: Vec<usize> = (0..EXPERTS).collect();
        order.sort_by(|&a, &b| share(b).total_cmp(&share(a)));
        let total = share(order[0]) + share(order[1]);
        let mut y = vec![0.0; WIDTH];
        for &e in &order[..2] {
            let row = |m: Matrix, j: usize| -> f64 {
                (0..WIDTH).map(|k| m(e, j, k) * x.at(&[token, k]).to_f64()).sum()
            };
            let first: Vec<f64> = (0..rows).map(|j| row(fc1, j)).collect();
            let third: Vec<f64> = (0..rows).map(|j| row(fc3, j)).collect();
            let hidden = act(&first, &third);
            for (j, y) in y.iter_mut().enumerate() {
                *y += share(e) / total * (0..HIDDEN).map(|k| fc2(e, j, k) * hidden[k]).sum::<f64>();
            }
        }
        all.extend(y);
    }
    all
}

fn tokens() -> [Tensor; 2] {
    [floats(1, &[TOKENS, WIDTH]), floats(2, &[TOKENS, EXPERTS])]
}

fn check_experts(what: &str, y: &[Tensor], expected: Vec<f64>) {
    let mut expected = expected.into_iter();
    near(what, &y[0], &[TOKENS, WIDTH], |_| expected.next().expect("one each"));
}

fn relu(x: &[f64], _: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x.max(0.0)).collect()
}

/// Floats of 8 bits with scales of squares, or of experts.
#[test]
fn experts_of_bytes_that_are_floats() {
    let [x, scores] = tokens();
    let narrow = |seed: u64, shape: &[usize]| {
        let wide = floats(seed, shape);
        Tensor::from_fn(DType::F8E4M3FN, shape, |at| wide.at(at).cast(DType::F8E4M3FN))
    };
    let (w1, w2) = (narrow(3, &[EXPERTS, HIDDEN, WIDTH]), narrow(4, &[EXPERTS, WIDTH, HIDDEN]));
    let (s1, s2) = (floats(5, &[EXPERTS, 3, 2]), floats(6, &[EXPERTS, 2, 3]));
    let attrs = [int("k", 2), text("quant_type", "fp8"), int("block_size", 24)];
    let node = Node::new().input(&x).input(&scores).known(&w1).known(&s1).none().known(&w2).known(&s2);
    let y = node.run("QMoE", &attrs, 1);
    let scaled = |w: &Tensor, s: &Tensor, [e, n, k]: [usize; 3]| {
        w.at(&[e, n, k]).to_f64() * s.at(&[e, n / 24, k / 24]).to_f64()
    };
    let (fc1, fc2) = (
        |e: usize, n: usize, k: usize| scaled(&w1, &s1, [e, n, k]),
        |e: usize, n: usize, k: usize| scaled(&w2, &s2, [e, n, k]),
    );
    check_experts("squares", &y, mixed([&x, &scores], [&fc1, &fc2, &fc1], HIDDEN, &relu));
    let global = floats(7, &[EXPERTS]);
    let mut node = Node::new().input(&x).input(&scores).known(&w1).none().none().known(&w2);
    for _ in 6..15 {
        node = node.none();
    }
    let y = node.known(&global).known(&global).run("QMoE", &attrs[..2], 1);
    let scaled = |w: &Tensor, [e, n, k]: [usize; 3]| w.at(&[e, n, k]).to_f64() * global.at(&[e]).to_f64();
    let (fc1, fc2) = (
        |e: usize, n: usize, k: usize| scaled(&w1, [e, n, k]),
        |e: usize, n: usize, k: usize| scaled(&w2, [e, n, k]),
    );
    check_experts("one each", &y, mixed([&x, &scores], [&fc1, &fc2, &fc1], HIDDEN, &relu));
}

/// Floats of 4 bits, packed along rows, or along columns.
#[test]
fn experts_of_nibbles() {
    let [x, scores] = tokens();
    let global = floats(7, &[EXPERTS]);
    for (kind, along_rows, block, of) in [
        ("fp4", true, 32, DType::F8E8M0),
        ("nvfp4", false, 16, DType::F8E4M3FN),
        ("nvfp4, by rows", true, 16, DType::F8E4M3FN),
    ] {
        let bytes = |seed: u64, rows: usize, columns: usize| {
            let shape = if along_rows { [EXPERTS, rows, columns / 2] } else { [EXPERTS, columns, rows / 2] };
            integers(seed, DType::U8, &shape)
        };
        let scale = |seed: u64, rows: usize, columns: usize| {
            let wide = floats(seed, &[EXPERTS, rows, columns / block]);
            let size = |x: Scalar| Scalar::f32(x.to_f64().abs().max(0.01) as f32);
            Tensor::from_fn(of, wide.shape(), |at| size(wide.at(at)).cast(of))
        };
        let (w1, w2) = (bytes(3, HIDDEN, WIDTH), bytes(4, WIDTH, HIDDEN));
        let (s1, s2) = (scale(5, HIDDEN, WIDTH), scale(6, WIDTH, HIDDEN));
        let mut node = Node::new().input(&x).input(&scores);
        // Dimensions stay those of columns, whatever the order of the bytes is.
        let declared = |w: &Tensor| match kind {
            "nvfp4, by rows" => {
                let shape = w.shape();
                let bytes = vec![shape[0], shape[2] * 2, shape[1] / 2];
                Tensor::new(DType::U8, bytes, w.bytes().to_vec()).expect("as many bytes")
            }
            _ => w.clone(),
        };
        node = node.known(&declared(&w1)).known(&s1).none().known(&declared(&w2)).known(&s2);
        for _ in 7..15 {
            node = node.none();
        }
        let name = kind.split(',').next().expect("a name");
        let prepacked = int("weights_prepacked", i64::from(kind.contains(',')));
        let attrs = [int("k", 2), text("quant_type", name), prepacked];
        let y = node.known(&global).known(&global).run("QMoE", &attrs, 1);
        let number = |w: &Tensor, s: &Tensor, [e, n, k]: [usize; 3]| {
            let code = unpacked(w, &if along_rows { [e, n, k] } else { [e, k, n] }, 4);
            let value = FloatFormat::of(DType::F4E2M1).expect("a float").decode(code as u32);
            value * s.at(&[e, n, k / block]).to_f64() * global.at(&[e]).to_f64()
        };
        let (fc1, fc2) = (
            |e: usize, n: usize, k: usize| number(&w1, &s1, [e, n, k]),
            |e: usize, n: usize, k: usize| number(&w2, &s2, [e, n, k]),
        );
        check_experts(kind, &y, mixed([&x, &scores], [&fc1, &fc2, &fc1], HIDDEN, &relu));
    }
}

/// Matrices of three layers, and a limit behind the activation.
#[test]
fn experts_with_three_layers() {
    let [x, scores] = tokens();
    let w = [3, 4, 5].map(|seed| {
        let shape = if seed == 4 { [EXPERTS, WIDTH, HIDDEN] } else { [EXPERTS, HIDDEN, WIDTH] };
        integers(seed, DType::U8, &shape)
    });
    let s = [6, 7, 8].map(|seed| {
        let wide = floats(seed, &[EXPERTS, if seed == 7 { WIDTH } else { HIDDEN }]);
        Tensor::from_fn(DType::F32, wide.shape(), |at| Scalar::f32(wide.at(at).to_f64() as f32 / 300.0))
    });
    let matrix = |at: usize| {
        let (w, s) = (w[at].clone(), s[at].clone());
        move |e: usize, n: usize, k: usize| (w.at(&[e, n, k]).to_f64() - 128.0) * s.at(&[e, n]).to_f64()
    };
    let (fc1, fc2, fc3) = (matrix(0), matrix(1), matrix(2));
    let glu = |x: &[f64], by: &[f64]| -> Vec<f64> {
        let open = |x: f64| (x * sigmoid(1.5 * x)).min(0.2);
        x.iter().zip(by).map(|(x, by)| open(*x) * (by.clamp(-0.2, 0.2) + 1.0)).collect()
    };
    let mut attrs = vec![
        int("k", 2),
        int("expert_weight_bits", 8),
        text("activation_type", "swiglu"),
        float("activation_alpha", 1.5),
        float("activation_beta", 1.0),
        float("swiglu_limit", 0.2),
        int("swiglu_limit_after_activation", 1),
    ];
    let node = || {
        let node = Node::new().input(&x).input(&scores).known(&w[0]).known(&s[0]).none();
        node.known(&w[1]).known(&s[1]).none().known(&w[2]).known(&s[2])
    };
    let y = node().run("QMoE", &attrs, 1);
    check_experts("swiglu", &y, mixed([&x, &scores], [&fc1, &fc2, &fc3], HIDDEN, &glu));
    // Those that are computed are the same.
    let given = Node::new().input(&x).input(&scores).input(&w[0]).input(&s[0]).none();
    let given = given.input(&w[1]).input(&s[1]).none().input(&w[2]).input(&s[2]);
    check_experts(
        "computed",
        &given.run("QMoE", &attrs, 1),
        mixed([&x, &scores], [&fc1, &fc2, &fc3], HIDDEN, &glu),
    );
    attrs[2] = text("activation_type", "relu2");
    let square = |x: &[f64], by: &[f64]| -> Vec<f64> {
        x.iter().zip(by).map(|(x, by)| x.max(0.0).powi(2) * by).collect()
    };
    let y = node().run("QMoE", &attrs, 1);
    check_experts("relu2", &y, mixed([&x, &scores], [&fc1, &fc2, &fc3], HIDDEN, &square));
    let double = Node::new().input(&x).input(&scores).known(&w[0]).known(&s[0]).none();
    let narrow = integers(9, DType::U8, &[EXPERTS, WIDTH, HIDDEN / 2]);
    let attrs = [
        int("k", 2),
        int("expert_weight_bits", 8),
        text("activation_type", "geglu"),
        int("swiglu_fusion", 2),
        int("weights_prepacked", 0),
    ];
    let y = double.known(&narrow).known(&s[1]).run("QMoE", &attrs, 1);
    let fc2 = |e: usize, n: usize, k: usize| match k {
        k if k < HIDDEN / 2 => (narrow.at(&[e, n, k]).to_f64() - 128.0) * s[1].at(&[e, n]).to_f64(),
        _ => 0.0,
    };
    let halves = |x: &[f64], _: &[f64]| -> Vec<f64> {
        let (gate, linear) = x.split_at(HIDDEN / 2);
        let mut y: Vec<f64> = gate.iter().zip(linear).map(|(g, l)| fast_gelu(*g) * l).collect();
        y.resize(HIDDEN, 0.0);
        y
    };
    check_experts("geglu", &y, mixed([&x, &scores], [&fc1, &fc2, &fc1], HIDDEN, &halves));
}

/// Files of earlier versions have matrices the other way round; 16-bit floats are computed in 32.
#[test]
fn experts_as_they_were() {
    let [x, scores] = tokens();
    let (w1, w2) = (floats(3, &[EXPERTS, HIDDEN, WIDTH]), floats(4, &[EXPERTS, WIDTH, HIDDEN]));
    let turned = |w: &Tensor| {
        let [e, n, k] = [0, 1, 2].map(|axis| w.shape()[axis]);
        Tensor::from_fn(DType::F32, &[e, k, n], |at| w.at(&[at[0], at[2], at[1]]))
    };
    let (fc1, fc2) = (
        |e: usize, n: usize, k: usize| w1.at(&[e, n, k]).to_f64(),
        |e: usize, n: usize, k: usize| w2.at(&[e, n, k]).to_f64(),
    );
    let expected = mixed([&x, &scores], [&fc1, &fc2, &fc1], HIDDEN, &relu);
    let attrs = [int("k", 2), int("normalize_routing_weights", 1)];
    for [w1, w2] in [[w1.clone(), w2.clone()], [turned(&w1), turned(&w2)]] {
        let node = Node::new().input(&x).input(&scores).known(&w1).none().known(&w2);
        check_experts("MoE", &node.run("MoE", &attrs, 1), expected.clone());
    }
    let half = |x: &Tensor| Tensor::from_fn(DType::F16, x.shape(), |at| x.at(at).cast(DType::F16));
    let node = Node::new().input(&half(&x)).input(&half(&scores)).known(&half(&w1)).none().known(&half(&w2));
    let y = node.run("MoE", &attrs, 1).remove(0);
    assert_eq!(y.dtype(), DType::F16);
    for (found, expected) in y.to_f64().into_iter().zip(expected) {
        assert!((found - expected).abs() < 0.05 * (1.0 + expected.abs()), "{found} instead of {expected}");
    }
}

/// Rows of integers `[N, K]` as onnxruntime's documentation says that they are packed for GPUs, step by step: columns are
/// permuted in groups, columns of `V` rows come in tiles of 64 in turn, and in each 32 bits even elements before odd ones.
fn tiled(w: &Tensor, bits: usize) -> Tensor {
    let [rows, columns] = [0, 1].map(|axis| w.shape()[axis]);
    let permutation: &[usize] = match bits {
        8 => &[0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15],
        _ => &[
            0, 1, 8, 9, 16, 17, 24, 25, 2, 3, 10, 11, 18, 19, 26, 27, 4, 5, 12, 13, 20, 21, 28, 29, 6, 7, 14,
            15, 22, 23, 30, 31,
        ],
    };
    let tile = permutation.len();
    let permuted = |n: usize, k: usize| w.at(&[n, k / tile * tile + permutation[k % tile]]).to_i64() as u8;
    let together = 16 / bits;
    let mut flat = vec![0; rows * columns];
    for n in 0..rows {
        for k in 0..columns {
            let start = n / together * columns * together;
            flat[start + k / 64 * 64 * together + n % together * 64 + k % 64] = permuted(n, k);
        }
    }
    let word = 32 / bits;
    let interleaved = flat.chunks(word).flat_map(|word| {
        let (even, odd) = (word.iter().step_by(2), word.iter().skip(1).step_by(2));
        even.chain(odd).copied().collect::<Vec<u8>>()
    });
    let all: Vec<u8> = interleaved.collect();
    let each = 8 / bits;
    let join = |some: &[u8]| {
        some.iter().rev().fold(0_u8, |byte, part| byte.checked_shl(bits as u32).unwrap_or(0) | part)
    };
    let bytes: Vec<u8> = all.chunks(each).map(join).collect();
    Tensor::new(DType::U8, vec![columns, rows / each], bytes).expect("as many bytes")
}

/// The same experts, whose integers lie in rows, or in tiles.
#[test]
fn experts_packed_for_gpus() {
    let scores = floats(2, &[TOKENS, EXPERTS]);
    let (x, hidden, width) = (floats(1, &[TOKENS, 64]), 128, 64);
    for bits in [4, 8] {
        let layer = |seed: u64, rows: usize, columns: usize| {
            let mut random = Random::new(seed);
            let each = 8 / bits;
            let mut rows_of = Vec::new();
            let mut tiles = Vec::new();
            for _ in 0..EXPERTS {
                let w = Tensor::from_fn(DType::U8, &[rows, columns], |_| {
                    Scalar::from_i64(DType::U8, (random.bits() % (1 << bits)) as i64)
                });
                let of = |at: usize| w.get(at).to_i64() as u8;
                let packed = (0..rows * columns / each)
                    .map(|byte| (0..each).fold(0_u8, |all, i| all | (of(byte * each + i) << (i * bits))));
                rows_of.extend(packed);
                tiles.extend_from_slice(tiled(&w, bits).bytes());
            }
            let tensor = |shape: [usize; 3], bytes: Vec<u8>| {
                Tensor::new(DType::U8, shape.to_vec(), bytes).expect("as many bytes")
            };
            (tensor([EXPERTS, rows, columns / each], rows_of), tensor([EXPERTS, columns, rows / each], tiles))
        };
        let (raw1, tiled1) = layer(3, hidden, width);
        let (raw2, tiled2) = layer(4, width, hidden);
        let (s1, s2) = (floats(5, &[EXPERTS, hidden, width / 32]), floats(6, &[EXPERTS, width, hidden / 32]));
        let attrs = [int("k", 2), int("expert_weight_bits", bits as i64), int("block_size", 32)];
        let node = |w1: &Tensor, w2: &Tensor| {
            let node = Node::new().input(&x).input(&scores).known(w1).known(&s1).none();
            node.known(w2).known(&s2)
        };
        let expected = node(&raw1, &raw2).run("QMoE", &attrs, 1).remove(0).to_f64();
        let found = node(&tiled1, &tiled2).run("QMoE", &attrs, 1);
        let mut expected = expected.into_iter();
        near(&format!("{bits} bits"), &found[0], &[TOKENS, width], |_| expected.next().expect("one each"));
        let prepacked = [&attrs[..], &[int("weights_prepacked", 1)]].concat();
        let text = |attrs: &[(&str, NodeAttr)]| match node(&tiled1, &tiled2).graph("QMoE", attrs, 1) {
            Ok((graph, _)) => graph.to_string(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(text(&attrs), text(&prepacked), "the shape says what the attribute says");
    }
}

#[test]
fn weights_packed_for_gpus() {
    for bits in [4, 8] {
        let (x, scales) = (floats(1, &[3, 128]), floats(2, &[8, 4]));
        let mut random = Random::new(3);
        let w = Tensor::from_fn(DType::U8, &[8, 128], |_| {
            Scalar::from_i64(DType::U8, (random.bits() % (1 << bits)) as i64)
        });
        let bytes = tiled(&w, bits).bytes().to_vec();
        let bytes = Tensor::new(DType::U8, vec![8, 4, 32 * bits / 8], bytes).expect("as many bytes");
        let attrs = [
            int("K", 128),
            int("N", 8),
            int("bits", bits as i64),
            int("block_size", 32),
            int("weight_prepacked", 1),
        ];
        let y = Node::new().input(&x).known(&bytes).known(&scales).run("MatMulNBits", &attrs, 1);
        near("MatMulNBits", &y[0], &[3, 8], |i| {
            let zero = f64::from(1 << (bits - 1));
            let weight = |k: usize| (w.at(&[i[1], k]).to_f64() - zero) * scales.at(&[i[1], k / 32]).to_f64();
            (0..128).map(|k| x.at(&[i[0], k]).to_f64() * weight(k)).sum()
        });
    }
}

#[test]
fn experts_that_are_refused() {
    let [x, scores] = tokens();
    let why = |shapes: [[usize; 3]; 2], attrs: &[(&'static str, NodeAttr)]| {
        let [w1, w2] = shapes.map(|shape| integers(3, DType::U8, &shape));
        let (s1, s2) = (floats(5, &[EXPERTS, HIDDEN]), floats(6, &[EXPERTS, WIDTH]));
        let node = Node::new().input(&x).input(&scores).known(&w1).known(&s1).none().known(&w2).known(&s2);
        node.refused("QMoE", &[&[int("k", 2)], attrs].concat())
    };
    let raw = [[EXPERTS, HIDDEN, WIDTH / 2], [EXPERTS, WIDTH, HIDDEN / 2]];
    let packed = [[EXPERTS, WIDTH, HIDDEN / 2], [EXPERTS, HIDDEN, WIDTH / 2]];
    assert!(why(packed, &[]).contains("which come in tiles of: 32 against 64"), "{}", why(packed, &[]));
    assert!(why(raw, &[int("weights_prepacked", 3)]).contains("-1, 0 and 1"));
    assert!(why(packed, &[int("weights_prepacked", 0)]).contains("sizes of the matrices of experts"));
    assert!(why(raw, &[text("quant_type", "wfp4afp8")]).contains("int, fp8, fp4 and nvfp4"));
    assert!(
        why(raw, &[text("quant_type", "fp4"), int("block_size", 16)])
            .contains("`16`; known are 32 for `fp4`")
    );
    assert!(why(raw, &[int("expert_weight_bits", 3)]).contains("2, 4 and 8"));
    assert!(why(raw, &[int("use_sparse_mixer", 1)]).contains("QMoE with use_sparse_mixer"));
    assert!(why(raw, &[text("activation_type", "mish")]).contains("relu2"));
    assert!(why(raw, &[text("quant_type", "fp8")]).contains("sizes of the matrices of experts"));
    let alone = Node::new().input(&x).input(&scores).known(&integers(3, DType::U8, &raw[0]));
    assert!(alone.refused("QMoE", &[int("k", 2)]).contains("input 5 is missing"));
    let wide = [[EXPERTS, HIDDEN, WIDTH], [EXPERTS, WIDTH, HIDDEN]];
    assert!(why(wide, &[]).contains("sizes of the matrices of experts"));
}
