//! The attention nodes of ONNX and of onnxruntime, in their forms: each becomes one kernel `attention`, whatever its mask
//! is, and computes the same everywhere.

use std::collections::BTreeMap;

use harness::{Everywhere, check_all, input_types, model, node_graph, random_inputs, root, tensors};
use ir::build::Build;
use ir::kernel::KernelKind;
use ir::{DType, Dim, Graph, Scalar, Tensor, TensorType};
use ops::onnx::NodeAttr;

/// An input of a node.
enum Input {
    /// It is left out.
    No,
    /// Random numbers of this type; `n` and `m` are sizes.
    Random(DType, &'static str),
    /// These integers.
    Ints(&'static [usize], &'static [i64]),
}

use Input::{Ints, No, Random};

/// Random floats.
const fn floats(shape: &'static str) -> Input {
    Random(DType::F32, shape)
}

/// How many queries and keys there are, where that is open.
const SIZES: [(&str, i64); 2] = [("n", 5), ("m", 9)];

fn dims(shape: &str) -> Vec<Dim> {
    shape.split(", ").map(|size| size.parse().map_or_else(|_| Dim::symbol(size), Dim::constant)).collect()
}

/// The graph of one node, and what its inputs are.
fn node(op: &str, inputs: &[Input], attrs: &[(&str, NodeAttr)], results: usize) -> (Graph, Vec<Tensor>) {
    let mut b = Build::new("node");
    let mut given: BTreeMap<usize, Tensor> = BTreeMap::new();
    let mut operands = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let name = format!("x{number}");
        operands.push(match input {
            No => None,
            Random(dtype, shape) => Some(b.input(&name, TensorType::new(*dtype, dims(shape)))),
            Ints(shape, values) => {
                let mut values = values.iter();
                let next = |_: &[usize]| Scalar::from_i64(DType::I32, *values.next().expect("one each"));
                let tensor = Tensor::from_fn(DType::I32, shape, next);
                given.insert(b.graph().inputs().len(), tensor.clone());
                Some(b.input(&name, tensor.ty()))
            }
        });
    }
    let graph = node_graph(b, op, operands, attrs, results).unwrap_or_else(|error| panic!("{op}: {error}"));
    let size = |symbol: &ir::dim::Symbol| {
        SIZES.iter().find(|(name, _)| *name == symbol.name()).map_or(1, |(_, size)| *size)
    };
    let mut tensors = random_inputs(input_types(&graph), 1, &size);
    for (number, tensor) in given {
        tensors[number] = tensor;
    }
    (graph, tensors)
}

fn check(what: &str, op: &str, inputs: &[Input], attrs: &[(&str, NodeAttr)], results: usize) {
    let (graph, tensors) = node(op, inputs, attrs, results);
    let name = format!("{op}, {what}");
    let mut everywhere = Everywhere::new(&name, &graph);
    let program = everywhere.program();
    let kernels: Vec<KernelKind> = program.kernels.iter().map(|kernel| kernel.kind).collect();
    let count = kernels.iter().filter(|&&kind| kind == KernelKind::Attention).count();
    assert_eq!(count, 1, "{name}: {kernels:?}\n{graph}\n{program}");
    everywhere.run(&tensors);
}

fn int(name: &'static str, value: i64) -> (&'static str, NodeAttr) {
    (name, NodeAttr::Int(value))
}

#[test]
fn masks_of_onnx() {
    let q_k_v = || vec![floats("2, 4, n, 4"), floats("2, 2, m, 4"), floats("2, 2, m, 4")];
    let with = |more: Vec<Input>| q_k_v().into_iter().chain(more).collect::<Vec<_>>();
    let check = |what: &str, more: Vec<Input>, attrs: &[(&str, NodeAttr)]| {
        check(what, "Attention", &with(more), attrs, 1);
    };
    check("no mask", vec![], &[]);
    check("causal", vec![], &[int("is_causal", 1)]);
    check("a window", vec![], &[int("left_window_size", 2), int("right_window_size", 1)]);
    check("a condition", vec![Random(DType::Bool, "n, m")], &[]);
    check("a condition for each head", vec![Random(DType::Bool, "2, 4, n, m")], &[]);
    check("a condition for each image", vec![Random(DType::Bool, "2, 1, n, m")], &[int("is_causal", 1)]);
    check("numbers", vec![floats("n, m")], &[("softcap", NodeAttr::Float(2.0))]);
    check("numbers for each head", vec![floats("2, 4, n, m")], &[int("is_causal", 1)]);
    check("padding", vec![No, No, No, Ints(&[2], &[5, 9])], &[]);
    check("causal, padding", vec![No, No, No, Ints(&[2], &[7, 9])], &[int("is_causal", 1)]);
    check("a past", vec![No, floats("2, 2, 3, 4"), floats("2, 2, 3, 4")], &[int("is_causal", 1)]);
}

#[test]
fn heads_beside_each_other() {
    let attrs = [int("q_num_heads", 4), int("kv_num_heads", 4)];
    let rows = [floats("2, n, 16"), floats("2, m, 16"), floats("2, m, 16"), Random(DType::Bool, "n, m")];
    check("beside each other", "Attention", &rows, &attrs, 1);
}

#[test]
fn masks_of_onnxruntime() {
    let heads = int("num_heads", 2);
    let masks = || {
        [
            ("none", No),
            ("ends", Ints(&[2], &[3, 5])),
            ("ends and places", Ints(&[8], &[3, 5, 0, 5, 10, 0, 5, 10])),
            ("keys", Random(DType::I32, "2, n")),
            ("queries and keys", Random(DType::I32, "2, n, n")),
        ]
    };
    for later in [0, 1] {
        let attrs = [heads.clone(), int("unidirectional", later)];
        for (what, mask) in masks().into_iter().chain([("ends and starts", Ints(&[4], &[3, 5, 1, 0]))]) {
            let inputs = [floats("2, n, 6"), floats("6, 24"), floats("24"), mask];
            check(what, "com.microsoft.Attention", &inputs, &attrs, 2);
        }
        for (what, mask) in masks() {
            let inputs = [floats("2, n, 8"), floats("2, n, 8"), floats("2, n, 8"), floats("24"), mask];
            check(what, "com.microsoft.MultiHeadAttention", &inputs, &attrs, 3);
        }
    }
    let large = Random(DType::I32, "2, 1, 12, 12");
    let inputs =
        [floats("2, 5, 6"), floats("6, 24"), No, large, floats("2, 2, 2, 3, 4"), floats("1, 2, 5, 8")];
    check("earlier queries, too", "com.microsoft.Attention", &inputs, &[heads], 2);
}

#[test]
fn operands_of_multi_head_attention() {
    let heads = [int("num_heads", 2)];
    let check = |what: &str, inputs: &[Input]| {
        check(what, "com.microsoft.MultiHeadAttention", inputs, &heads, 1);
    };
    check("packed", &[floats("2, n, 2, 3, 4"), No, No, floats("24")]);
    check("keys and values packed", &[floats("2, n, 8"), floats("2, m, 2, 2, 4")]);
    check("kept", &[floats("2, n, 8"), floats("2, 2, m, 4"), floats("2, 2, m, 4"), floats("24")]);
    let rows = [floats("2, n, 8"), floats("2, m, 8"), floats("2, m, 8"), No, No, floats("1, 2, n, m")];
    check("a bias of scores", &rows);
}

#[test]
fn caches_of_group_query_attention() {
    let heads = [int("num_heads", 4), int("kv_num_heads", 2)];
    let with = |more: &[(&'static str, NodeAttr)]| [&heads[..], more].concat();
    let check = |what: &str, inputs: &[Input], attrs: &[(&'static str, NodeAttr)], results: usize| {
        check(what, "com.microsoft.GroupQueryAttention", inputs, &with(attrs), results);
    };
    let prompt = || {
        let total = [Ints(&[2], &[4, 4]), Ints(&[1], &[5])];
        [floats("2, n, 16"), floats("2, n, 8"), floats("2, n, 8"), No, No].into_iter().chain(total)
    };
    let prompt = |more: Vec<Input>| prompt().chain(more).collect::<Vec<_>>();
    check("a prompt", &prompt(vec![]), &[], 3);
    check("a window", &prompt(vec![]), &[int("local_window_size", 2)], 1);
    check("not causal", &prompt(vec![]), &[int("causal", 0)], 1);
    check("smooth", &prompt(vec![]), &[int("smooth_softmax", 1)], 1);
    check("sinks", &prompt(vec![No, No, No, floats("1, 4, n, n"), floats("4")]), &[], 1);
    let turned = vec![floats("16, 2"), floats("16, 2")];
    check("turned", &prompt(turned), &[int("do_rotary", 1), ("softcap", NodeAttr::Float(2.0))], 3);

    let step = |cache: &'static str, last: &'static [i64], total: &'static [i64]| {
        let new = [floats("2, 1, 16"), floats("2, 1, 8"), floats("2, 1, 8"), floats(cache), floats(cache)];
        let lengths = [Ints(&[2], last), Ints(&[1], total)];
        new.into_iter().chain(lengths).chain([floats("16, 2"), floats("16, 2")]).collect::<Vec<_>>()
    };
    check("a step", &step("2, 2, 6, 4", &[6, 4], &[7]), &[int("do_rotary", 1)], 3);
    check("a step in a cache with room", &step("2, 2, 16, 4", &[6, 4], &[7]), &[int("do_rotary", 1)], 3);
}

#[test]
fn flex_attention() {
    let q_k_v = |dtype: DType, heads: [&'static str; 3]| heads.map(|shape| Random(dtype, shape));
    let check = |what: &str, inputs: [Input; 3], attrs: &[(&str, NodeAttr)]| {
        check(what, "ai.onnx.preview.FlexAttention", &inputs, attrs, 1);
    };
    let alike = ["2, 4, n, 4", "2, 4, m, 4", "2, 4, m, 4"];
    let shared = ["2, 4, n, 4", "2, 2, m, 4", "2, 2, m, 6"];
    check("heads alike", q_k_v(DType::F32, alike), &[]);
    check("heads that share keys", q_k_v(DType::F32, shared), &[("scale", NodeAttr::Float(0.3))]);
    check("in 16 bits", q_k_v(DType::F16, shared), &[]);
    check("in 16 bits, precisely", q_k_v(DType::BF16, alike), &[int("softmax_precision", 1)]);
    check("no more than 16 bits", q_k_v(DType::F16, alike), &[int("softmax_precision", 10)]);
}

/// The models of `data/onnx/valid` whose attention has graphs of its own, and what they become.
#[test]
fn graphs_of_flex_attention() {
    use KernelKind::{Attention, Fused, Matmul};
    let whole = &[Attention][..];
    for (name, kernels) in [
        ("causal", whole),
        ("slopes", whole),
        ("documents", whole),
        ("of_equal_sizes", whole),
        // What is scaled for each key are the values.
        ("scaled_weights", &[Fused, Attention]),
        // What the weights are is known when all of them are, and no scale takes its place.
        ("other_weights", &[Fused, Matmul, Fused, Matmul]),
    ] {
        let folder = root().join(format!("tests/data/onnx/valid/flex_attention_{name}"));
        let mut everywhere = Everywhere::new(name, &model(&folder.join("model.onnx")));
        let program = everywhere.program();
        let found: Vec<KernelKind> = program.kernels.iter().map(|kernel| kernel.kind).collect();
        assert_eq!(found, kernels, "{name}: {program}");
        let set = folder.join("set_0");
        let found = everywhere.run(&tensors(&set, "input"));
        check_all(&tensors(&set, "output"), &found).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}
