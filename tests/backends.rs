//! Every op on every backend: evaluated, walked unfused and fused, and as native code with one and two threads.
//!
//! Each op gets an ordinary case, one that broadcasts, a symbolic size, an empty tensor, an odd size that no vector
//! divides, and NaN and infinities where they are defined.

use harness::{agree_everywhere, input_types, random_inputs, sizes_of_round};
use ir::attr::Attr;
use ir::build::Build;
use ir::op::Arity;
use ir::{DType, Dim, Graph, OpDef, Scalar, Tensor, TensorType, Value};

fn op(name: &str) -> &'static OpDef {
    ops::find(name).unwrap_or_else(|| panic!("there is no op `{name}`"))
}

fn dims(shape: &[&str]) -> Vec<Dim> {
    shape.iter().map(|d| Dim::parse(d).expect("a size")).collect()
}

fn ints(values: &[i64]) -> Attr {
    Attr::List(values.iter().map(|&v| Attr::Int(v)).collect())
}

fn sizes(values: &[&str]) -> Attr {
    Attr::List(dims(values).into_iter().map(Attr::dim).collect())
}

/// A graph being built for a case.
struct Case {
    b: Build,
    outputs: Vec<Value>,
}

impl Case {
    fn new() -> Case {
        Case { b: Build::new("case"), outputs: Vec::new() }
    }

    fn input(&mut self, dtype: DType, shape: &[&str]) -> Value {
        let name = format!("in{}", self.b.graph().inputs().len());
        self.b.input(&name, TensorType::new(dtype, dims(shape)))
    }

    fn x(&mut self, shape: &[&str]) -> Value {
        self.input(DType::F32, shape)
    }

    fn op(&mut self, name: &str, operands: &[Value], attrs: Vec<(&'static str, Attr)>) -> Value {
        self.b.op_with(op(name), operands, attrs).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn out(&mut self, value: Value) {
        self.outputs.push(value);
    }

    fn check(self, name: &str) {
        let graph = self.b.finish(self.outputs);
        for round in 0..3 {
            let inputs = random_inputs(input_types(&graph), round as u64 + 1, &sizes_of_round(round));
            agree_everywhere(&format!("{name}, round {round}"), &graph, &inputs);
        }
    }

    fn check_on(self, name: &str, inputs: &[Tensor]) {
        let graph: Graph = self.b.finish(self.outputs);
        agree_everywhere(name, &graph, inputs);
    }
}

/// Values at which functions are special.
fn special(dtype: DType) -> Tensor {
    let values = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1e-30,
        88.0,
        -88.0,
        104.5,
        -104.5,
        0.625,
        3.0,
        -3.0,
        1e30,
        0.9225,
    ];
    let mut at = 0;
    Tensor::from_fn(dtype, &[values.len()], |_| {
        at += 1;
        Scalar::from_f64(dtype, values[at - 1])
    })
}

#[test]
fn elementwise_ops() {
    for entry in ops::ALL {
        let def = entry.op;
        let Arity::Fixed(operands) = def.arity else { continue };
        if !def.semantics.is_elementwise() {
            continue;
        }
        let mut case = Case::new();
        for dtype in DType::ALL {
            // An ordinary shape with an odd size, one that broadcasts, an empty one.
            for shapes in
                [[&["n", "17"][..], &["n", "17"]], [&["n", "1", "5"], &["4", "1"]], [&["0", "3"], &["3"]]]
            {
                let b = &mut case.b;
                let count = b.graph().inputs().len();
                let types: Vec<TensorType> = (0..operands.len())
                    .map(|i| {
                        let dtype = if def.name == "where" && i == 0 { DType::Bool } else { dtype };
                        TensorType::new(dtype, dims(shapes[i.min(1)]))
                    })
                    .collect();
                // Asked on types alone first: an input that nothing uses would remain.
                let borrowed: Vec<&TensorType> = types.iter().collect();
                let Ok(attrs) = def.check_attrs([]) else { continue };
                let cx = ir::op::Infer { operands: &borrowed, attrs: &attrs };
                if def.semantics.infer(&cx).is_err() {
                    continue;
                }
                let inputs: Vec<Value> = types
                    .into_iter()
                    .enumerate()
                    .map(|(i, ty)| b.input(&format!("in{}", count + i), ty))
                    .collect();
                let y = b.op(def, &inputs).unwrap_or_else(|e| panic!("{}: {e}", def.name));
                case.out(y);
            }
        }
        if case.outputs.is_empty() {
            // Ops with required attributes have cases of their own.
            assert!(matches!(def.name, "cast"), "`{}` has no case", def.name);
            continue;
        }
        case.check(def.name);
    }
}

#[test]
fn elementwise_ops_at_special_values() {
    for entry in ops::ALL {
        let def = entry.op;
        let Arity::Fixed(operands) = def.arity else { continue };
        if !def.semantics.is_elementwise() || def.name == "where" || def.check_attrs([]).is_err() {
            continue;
        }
        for dtype in [DType::F32, DType::F64] {
            let values = special(dtype);
            let len = values.elements();
            let mut case = Case::new();
            let mut inputs = vec![values.clone()];
            let row = case.b.input("a", values.ty());
            let mut xs = vec![row];
            if operands.len() == 2 {
                // Every value with every other.
                inputs.push(values.reshaped(&[len, 1]).expect("as many"));
                xs.push(case.b.input("b", TensorType::fixed(dtype, &[len, 1])));
            }
            let Ok(y) = case.b.op(def, &xs) else { continue };
            case.out(y);
            case.check_on(&format!("{} of {dtype} at special values", def.name), &inputs);
        }
    }
}

#[test]
fn cast_between_all_types() {
    for from in DType::ALL {
        let mut case = Case::new();
        let x = case.input(from, &["n", "19"]);
        for to in DType::ALL {
            let y = case.op("cast", &[x], vec![("to", Attr::DType(to))]);
            case.out(y);
        }
        case.check(&format!("cast from {from}"));
    }
    for from in [DType::F32, DType::F64] {
        let mut case = Case::new();
        let values = special(from);
        let x = case.b.input("x", values.ty());
        for to in DType::ALL {
            let y = case.op("cast", &[x], vec![("to", Attr::DType(to))]);
            case.out(y);
        }
        case.check_on(&format!("cast of special values of {from}"), &[values]);
    }
}

#[test]
fn matmul() {
    let shapes: [(&str, [&[&str]; 2]); 7] = [
        ("ordinary", [&["12", "64"], &["64", "32"]]),
        ("symbolic rows", [&["n", "7"], &["7", "5"]]),
        ("symbolic depth", [&["3", "n"], &["n", "33"]]),
        ("batch", [&["2", "n", "9"], &["2", "9", "4"]]),
        ("batch that broadcasts", [&["n", "1", "3", "5"], &["4", "5", "2"]]),
        ("empty depth", [&["3", "0"], &["0", "4"]]),
        ("no rows", [&["0", "3"], &["3", "4"]]),
    ];
    for (name, [a, b]) in shapes {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::I32] {
            let mut case = Case::new();
            let (a, b) = (case.input(dtype, a), case.input(dtype, b));
            let y = case.op("matmul", &[a, b], vec![]);
            case.out(y);
            case.check(&format!("matmul of {dtype}, {name}"));
        }
    }
}

/// A constant operand is laid out in panels, also when it is transposed first; bias and activation follow.
#[test]
fn matmul_with_weights() {
    for (rows, cols) in [(7, 5), (64, 33), (130, 64)] {
        let mut random = harness::Random::new(5);
        let mut case = Case::new();
        let x = case.x(&["n", &rows.to_string()]);
        let w = case.b.constant(&random.tensor(DType::F32, &[cols, rows]));
        let bias = case.b.constant(&random.tensor(DType::F32, &[cols]));
        let w = case.op("transpose", &[w], vec![("perm", ints(&[1, 0]))]);
        let y = case.op("matmul", &[x, w], vec![]);
        let y = case.op("add", &[y, bias], vec![]);
        let y = case.op("gelu", &[y], vec![]);
        case.out(y);
        case.check(&format!("linear {rows} to {cols}"));
    }
}

#[test]
fn conv() {
    let window = |strides: &[i64], dilations: &[i64], low: &[&str], high: &[&str], groups: i64| {
        vec![
            ("strides", ints(strides)),
            ("dilations", ints(dilations)),
            ("low", sizes(low)),
            ("high", sizes(high)),
            ("groups", Attr::Int(groups)),
        ]
    };
    type Window = Vec<(&'static str, Attr)>;
    let cases: Vec<(&str, &[&str], &[&str], Window)> = vec![
        (
            "ordinary",
            &["n", "3", "8", "8"],
            &["5", "3", "3", "3"],
            window(&[1, 1], &[1, 1], &["1", "1"], &["1", "1"], 1),
        ),
        (
            "strides",
            &["2", "3", "9", "7"],
            &["4", "3", "3", "2"],
            window(&[2, 3], &[1, 1], &["0", "1"], &["1", "0"], 1),
        ),
        (
            "dilations",
            &["1", "2", "9", "9"],
            &["3", "2", "2", "3"],
            window(&[1, 1], &[2, 3], &["2", "0"], &["0", "2"], 1),
        ),
        (
            "groups",
            &["n", "4", "5", "5"],
            &["6", "2", "3", "3"],
            window(&[1, 1], &[1, 1], &["1", "1"], &["1", "1"], 2),
        ),
        (
            "depthwise",
            &["n", "5", "6", "6"],
            &["5", "1", "3", "3"],
            window(&[1, 1], &[1, 1], &["1", "1"], &["1", "1"], 5),
        ),
        ("one axis", &["n", "3", "11"], &["17", "3", "4"], window(&[2], &[1], &["1"], &["2"], 1)),
        (
            "three axes",
            &["1", "2", "4", "5", "3"],
            &["3", "2", "2", "2", "2"],
            window(&[1, 1, 1], &[1, 1, 1], &["0", "0", "1"], &["0", "0", "1"], 1),
        ),
        (
            "pointwise",
            &["n", "6", "3", "3"],
            &["20", "6", "1", "1"],
            window(&[1, 1], &[1, 1], &["0", "0"], &["0", "0"], 1),
        ),
        (
            "no images",
            &["0", "3", "8", "8"],
            &["5", "3", "3", "3"],
            window(&[1, 1], &[1, 1], &["1", "1"], &["1", "1"], 1),
        ),
    ];
    for (name, x, w, attrs) in cases {
        for constant in [false, true] {
            let mut case = Case::new();
            let x = case.x(x);
            let w = if constant {
                let shape: Vec<usize> = w.iter().map(|d| d.parse().expect("a number")).collect();
                case.b.constant(&harness::Random::new(3).tensor(DType::F32, &shape))
            } else {
                case.x(w)
            };
            let y = case.op("conv", &[x, w], attrs.clone());
            let y = case.op("relu", &[y], vec![]);
            case.out(y);
            case.check(&format!("conv, {name}, constant weights: {constant}"));
        }
    }
}

#[test]
fn pools() {
    let attrs = |ceil: bool| {
        vec![
            ("kernel", ints(&[3, 2])),
            ("strides", ints(&[2, 2])),
            ("dilations", ints(&[1, 1])),
            ("low", sizes(&["1", "0"])),
            ("high", sizes(&["0", "1"])),
            ("ceil", Attr::Bool(ceil)),
        ]
    };
    for name in ["max_pool", "avg_pool"] {
        for ceil in [false, true] {
            let mut case = Case::new();
            let x = case.x(&["n", "3", "9", "7"]);
            let y = case.op(name, &[x], attrs(ceil));
            case.out(y);
            case.check(&format!("{name}, ceil: {ceil}"));
        }
    }
}

#[test]
fn reductions() {
    for name in ["reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"] {
        let mut case = Case::new();
        for (shape, axes) in [
            (&["n", "17"][..], &[1][..]),
            (&["3", "n", "5"], &[0, 2]),
            (&["4", "6"], &[0, 1]),
            (&["2", "0"], &[0]),
            (&["n", "3"], &[0]),
        ] {
            for keep in [false, true] {
                let x = case.x(shape);
                let y = case.op(name, &[x], vec![("axes", ints(axes)), ("keep_dims", Attr::Bool(keep))]);
                case.out(y);
            }
        }
        case.check(name);
    }
    for dtype in [DType::F64, DType::I32, DType::I64, DType::F16] {
        let mut case = Case::new();
        for name in ["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"] {
            let x = case.input(dtype, &["n", "5"]);
            let y = case.op(name, &[x], vec![("axes", ints(&[1])), ("keep_dims", Attr::Bool(false))]);
            case.out(y);
        }
        case.check(&format!("reductions of {dtype}"));
    }
}

#[test]
fn moving_elements() {
    let mut case = Case::new();
    let x = case.x(&["n", "4", "6"]);
    let y = case.op("transpose", &[x], vec![("perm", ints(&[2, 0, 1]))]);
    let y = case.op("relu", &[y], vec![]);
    case.out(y);
    let y = case.op("reshape", &[x], vec![("shape", sizes(&["2", "2*n", "6"]))]);
    let y = case.op("neg", &[y], vec![]);
    case.out(y);
    let y = case.op(
        "slice",
        &[x],
        vec![
            ("starts", sizes(&["0", "3", "1"])),
            ("sizes", sizes(&["n", "2", "3"])),
            ("steps", ints(&[1, -2, 2])),
        ],
    );
    case.out(y);
    let z = case.x(&["n", "2", "6"]);
    let y = case.op("concat", &[x, z, x], vec![("axis", Attr::Int(1))]);
    let y = case.op("abs", &[y], vec![]);
    case.out(y);
    let row = case.x(&["4", "1"]);
    let y = case.op("broadcast", &[row], vec![("shape", sizes(&["n", "4", "6"]))]);
    case.out(y);
    case.check("moving elements");
}

/// Outputs that no op computes: an input, a weight, one value under two names.
#[test]
fn outputs_that_need_copies() {
    let mut case = Case::new();
    let x = case.x(&["n", "3"]);
    let w = case.b.constant(&Tensor::from_f32(&[2], &[1.0, 2.0]));
    let y = case.op("neg", &[x], vec![]);
    let view = case.op("reshape", &[y], vec![("shape", sizes(&["3", "n"]))]);
    for value in [x, w, y, y, view] {
        case.out(value);
    }
    case.check("copies");
}

#[test]
fn norms() {
    let mut case = Case::new();
    let x = case.x(&["n", "5", "17"]);
    let y = case.op("softmax", &[x], vec![("axis", Attr::Int(2))]);
    case.out(y);
    let y = case.op("softmax", &[x], vec![("axis", Attr::Int(0))]);
    case.out(y);
    let y = case.op("log_softmax", &[x], vec![("axis", Attr::Int(1))]);
    case.out(y);
    case.check("softmax");
    let mut case = Case::new();
    let x = case.x(&["n", "4", "19"]);
    let (scale, bias) = (case.x(&["19"]), case.x(&["19"]));
    let y = case.op("layer_norm", &[x], vec![("axes", ints(&[2])), ("epsilon", Attr::Float(1e-5))]);
    let y = case.op("mul", &[y, scale], vec![]);
    let y = case.op("add", &[y, bias], vec![]);
    case.out(y);
    case.check("layer_norm");
}

/// A block of a network: what fusion meets in practice.
#[test]
fn attention_by_hand() {
    let mut case = Case::new();
    let (q, k, v) = (case.x(&["2", "t", "8"]), case.x(&["2", "t", "8"]), case.x(&["2", "t", "8"]));
    let kt = case.op("transpose", &[k], vec![("perm", ints(&[0, 2, 1]))]);
    let scores = case.op("matmul", &[q, kt], vec![]);
    let scale = case.b.scalar(DType::F32, 8f64.sqrt().recip());
    let scores = case.op("mul", &[scores, scale], vec![]);
    let weights = case.op("softmax", &[scores], vec![("axis", Attr::Int(2))]);
    let y = case.op("matmul", &[weights, v], vec![]);
    let y = case.op("add", &[y, q], vec![]);
    case.out(y);
    case.check("attention");
}

/// The distance of two `f32`s in units of the last place of the exact value.
fn ulps(found: f32, exact: f64) -> f64 {
    if f64::from(found) == exact || (found.is_nan() && exact.is_nan()) {
        return 0.0;
    }
    if !found.is_finite() {
        // Overflow is right where the exact value rounds to infinity.
        return if (exact as f32) == found { 0.0 } else { f64::INFINITY };
    }
    let exponent = (exact.abs() as f32).max(f32::MIN_POSITIVE).log2().floor();
    (f64::from(found) - exact).abs() / f64::from(exponent - 23.0).exp2()
}

/// The bounds that the pass `expand_math` states, over floats of every size and sign.
#[test]
fn functions_are_as_accurate_as_they_say() {
    let values: Vec<f32> = (0..u32::MAX).step_by(20_011).map(f32::from_bits).collect();
    let x = Tensor::from_f32(&[values.len()], &values);
    for (name, bound) in [("exp", 2.0), ("log", 2.0), ("tanh", 3.0), ("erf", 3.0)] {
        let mut case = Case::new();
        let input = case.x(&["n"]);
        let y = case.op(name, &[input], vec![]);
        let program = harness::compile(&case.b.finish(vec![y]), 2);
        let found = harness::run_native(&program, std::slice::from_ref(&x), 2).expect("it runs").remove(0);
        let function = ir::scalar::Unary::find(name).expect("a function");
        let mut worst = (0.0, 0.0);
        for (&x, y) in values.iter().zip(found.values()) {
            let exact = function.apply(Scalar::from_f64(DType::F64, f64::from(x))).to_f64();
            let error = ulps(y.to_f64() as f32, exact);
            if error > worst.0 {
                worst = (error, x);
            }
        }
        assert!(worst.0 <= bound, "{name}: {} ulp at {:e}, stated are {bound}", worst.0, worst.1);
    }
}
