//! Mixtures of experts on every backend: rows that meet the matrix that they name, however few or many they are and
//! whichever they name.

use harness::{Everywhere, Random, root, run_native};
use ir::build::Build;
use ir::kernel::{Body, KernelKind, Stmt};
use ir::program::Program;
use ir::{DType, Dim, Graph, Scalar, Tensor, TensorType, Value};

/// Two layers of experts that a token goes to, as rules leave them: `Σₖ gates·(w₂·relu(w₁·x + b₁) + b₂)`.
struct Layer {
    experts: usize,
    width: usize,
    hidden: usize,
    chosen: usize,
    /// Are the matrices inputs?
    given: bool,
}

const SMALL: Layer = Layer { experts: 4, width: 16, hidden: 40, chosen: 2, given: false };

impl Layer {
    fn graph(&self) -> Graph {
        let Layer { experts, width, hidden, chosen, given } = *self;
        let mut b = Build::new("experts");
        let mut random = Random::new(7);
        let tokens = Dim::symbol("n");
        let sized = |sizes: &[usize]| {
            let sizes = sizes.iter().map(|&size| Dim::constant(size as i64));
            [tokens.clone()].into_iter().chain(sizes).collect::<Vec<_>>()
        };
        let x = b.input("x", TensorType::new(DType::F32, sized(&[1, width])));
        let ids = b.input("ids", TensorType::new(DType::I64, sized(&[chosen])));
        let gates = b.input("gates", TensorType::new(DType::F32, sized(&[chosen])));
        let mut weight = |b: &mut Build, shape: &[usize], name: &str| match given {
            true => b.input(name, TensorType::fixed(DType::F32, shape)),
            false => b.constant(&small(&random.tensor(DType::F32, shape))),
        };
        let [w1, b1, w2, b2] = [
            weight(&mut b, &[experts, width, hidden], "w1"),
            weight(&mut b, &[experts, hidden], "b1"),
            weight(&mut b, &[experts, hidden, width], "w2"),
            weight(&mut b, &[experts, width], "b2"),
        ];
        let mut op = |name: &str, operands: &[Value]| {
            b.op(ops::find(name).expect("an op"), operands).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let bias = op("gather", &[b1, ids]);
        let h = op("grouped_matmul", &[x, w1, ids]);
        let h = op("add", &[h, bias]);
        let h = op("relu", &[h]);
        let bias = op("gather", &[b2, ids]);
        let y = op("grouped_matmul", &[h, w2, ids]);
        let y = op("add", &[y, bias]);
        let y = op("combine", &[y, gates]);
        b.finish(vec![y])
    }

    /// Inputs for so many tokens, of which `which` says the experts.
    fn inputs(&self, tokens: usize, which: &dyn Fn(usize, usize) -> i64) -> Vec<Tensor> {
        let mut random = Random::new(tokens as u64 + 1);
        let ids = Tensor::from_fn(DType::I64, &[tokens, self.chosen], |at| {
            Scalar::from_i64(DType::I64, which(at[0], at[1]))
        });
        let mut float = |shape: &[usize]| random.tensor(DType::F32, shape);
        let mut inputs = vec![float(&[tokens, 1, self.width]), ids, float(&[tokens, self.chosen])];
        if self.given {
            let (e, d, h) = (self.experts, self.width, self.hidden);
            inputs.extend([float(&[e, d, h]), float(&[e, h]), float(&[e, h, d]), float(&[e, d])]);
        }
        inputs
    }

    /// For tokens of these numbers, with experts in turn.
    fn check(&self, name: &str, tokens: &[usize]) {
        let mut everywhere = Everywhere::new(name, &self.graph());
        is_grouped(everywhere.program());
        let experts = self.experts;
        for &tokens in tokens {
            let inputs = self.inputs(tokens, &|t, k| ((t * 7 + k * 3) % experts) as i64);
            everywhere.run(&inputs);
            same_bits(everywhere.program(), &inputs);
        }
    }
}

/// Numbers whose sums stay near 1.
fn small(tensor: &Tensor) -> Tensor {
    let values = tensor.to_f64();
    let mut values = values.iter().map(|value| Scalar::f32((value * 0.05) as f32));
    Tensor::from_fn(DType::F32, tensor.shape(), |_| values.next().expect("one for each"))
}

/// Two products for the micro-kernels, and what follows them in their kernels.
fn is_grouped(program: &Program) {
    let kinds: Vec<KernelKind> = program.kernels.iter().map(|kernel| kernel.kind).collect();
    let expected = [KernelKind::GroupedMatmul, KernelKind::GroupedMatmul, KernelKind::Combine];
    assert_eq!(kinds, expected, "{program}");
    for kernel in &program.kernels[..2] {
        let Body::Loops(body) = &kernel.body else { panic!("stages are left\n{program}") };
        let grouped = |stmt: &Stmt| matches!(stmt, Stmt::Gemm(gemm) if gemm.group.is_some());
        assert_eq!(body.iter().filter(|stmt| grouped(stmt)).count(), 1, "{program}");
    }
}

/// The same bits walked and as native code, by any number of threads.
fn same_bits(program: &Program, inputs: &[Tensor]) {
    let walked = reference::run_program(program, 0, inputs).unwrap_or_else(|e| panic!("{e}\n{program}"));
    for threads in [1, 2] {
        let native = run_native(program, inputs, threads).unwrap_or_else(|e| panic!("{e}\n{program}"));
        assert_eq!(walked, native, "by {threads} threads\n{program}");
    }
}

#[test]
fn few_and_many_tokens() {
    SMALL.check("experts", &[1, 2, 5, 9, 70, 0]);
}

#[test]
fn sums_in_several_stretches() {
    Layer { experts: 3, width: 270, hidden: 36, chosen: 2, given: false }.check("deep experts", &[1, 40]);
}

#[test]
fn matrices_that_are_inputs() {
    Layer { given: true, ..SMALL }.check("given experts", &[1, 6, 60]);
}

#[test]
fn one_expert_has_all_tokens_and_ids_count_from_the_end_or_lead_nowhere() {
    let mut everywhere = Everywhere::new("skewed experts", &SMALL.graph());
    let which: [&dyn Fn(usize, usize) -> i64; 4] =
        [&|_, _| 2, &|t, _| if t == 11 { 0 } else { 3 }, &|t, k| -((t + k) as i64 % 4) - 1, &|t, k| {
            (t * 5 + k * 9) as i64 - 40
        }];
    for which in which {
        let inputs = SMALL.inputs(37, which);
        everywhere.run(&inputs);
        same_bits(everywhere.program(), &inputs);
    }
}

/// The trained models of `models/zoo/digits_moe`, dense and in loops: the same few kernels, and the same digits.
#[test]
fn trained_models_are_sparse_in_both_spellings() {
    let zoo = root().join("models/zoo");
    let digits: Vec<Tensor> = (0..10)
        .map(|digit| {
            let file = runner::files::read_one(&zoo.join(format!("digits/{digit}.npy")))
                .expect("a file of the repository");
            egraft::tensors::from_file(&file)
        })
        .collect();
    let pixels: Vec<f32> = digits.iter().flat_map(|image| image.to_f64()).map(|pixel| pixel as f32).collect();
    let images = Tensor::from_f32(&[10, 1, 8, 8], &pixels);
    for kind in ["plain", "momentum", "ac"] {
        let [dense, looped] = ["", "-loop"].map(|spelling| {
            let graph = harness::model(&zoo.join(format!("digits_moe/{kind}{spelling}.onnx")));
            let program = harness::compile(&graph, 2);
            let count = |kind: &str| {
                let calls = program.entries[0].calls().into_iter();
                calls.filter(|call| program.kernels[call.kernel].kind.name() == kind).count()
            };
            let kinds = ["attention", "route", "grouped_matmul", "combine"].map(count);
            assert_eq!(kinds, [3, 3, 6, 3], "{kind}{spelling}");
            run_native(&program, std::slice::from_ref(&images), 2).expect("it runs").remove(0)
        });
        harness::Tolerance { atol: 1e-5, rtol: 1e-4 }
            .check(&dense, &looped)
            .unwrap_or_else(|why| panic!("{kind}: {why}"));
        let rows = dense.to_f64();
        let right =
            rows.chunks(10).enumerate().filter(|(digit, row)| row.iter().all(|x| x <= &row[*digit])).count();
        assert!(right >= 9, "{kind}: {right} of 10 digits are read");
    }
}
