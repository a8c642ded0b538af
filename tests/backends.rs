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

    /// All results of an op, as outputs.
    fn outs(&mut self, name: &str, operands: &[Value], attrs: Vec<(&'static str, Attr)>) -> Vec<Value> {
        let results = self.b.ops_with(op(name), operands, attrs).unwrap_or_else(|e| panic!("{name}: {e}"));
        self.outputs.extend(&results);
        results
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
            assert!(matches!(def.name, "cast" | "bitcast"), "`{}` has no case", def.name);
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
fn bitcast_of_special_values() {
    let mut case = Case::new();
    let values = special(DType::F32);
    let x = case.b.input("x", values.ty());
    for to in [DType::I32, DType::U32, DType::F32] {
        let y = case.op("bitcast", &[x], vec![("to", Attr::DType(to))]);
        case.out(y);
    }
    case.check_on("bitcast", &[values]);
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

fn top(axis: i64, k: &str, largest: bool) -> Vec<(&'static str, Attr)> {
    vec![("axis", Attr::Int(axis)), ("k", Attr::dim(dims(&[k]).remove(0))), ("largest", Attr::Bool(largest))]
}

#[test]
fn the_first_in_order() {
    for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_narrow()) {
        let mut case = Case::new();
        let x = case.input(dtype, &["n", "17"]);
        case.outs("topk", &[x], top(1, "5", true));
        case.outs("topk", &[x], top(-1, "17", false));
        case.outs("topk", &[x], top(0, "n", true));
        case.check(&format!("topk of {dtype}"));
    }
    let mut case = Case::new();
    let x = case.x(&["2", "n", "300", "3"]);
    case.outs("topk", &[x], top(2, "7", true));
    case.outs("topk", &[x], top(1, "min(n, 2)", false));
    case.outs("topk", &[x], top(3, "0", true));
    let empty = case.x(&["n", "0"]);
    case.outs("topk", &[empty], top(0, "1", true));
    case.outs("topk", &[empty], top(1, "0", true));
    case.check("topk along every axis");
    let values = special(DType::F32);
    for largest in [true, false] {
        let mut case = Case::new();
        let x = case.b.input("x", values.ty());
        case.outs("topk", &[x], top(0, "19", largest));
        case.check_on("topk of special values", std::slice::from_ref(&values));
    }
}

#[test]
fn routes() {
    let taken = |k: i64| vec![("k", Attr::Int(k))];
    let mut case = Case::new();
    let rows = case.x(&["n", "2", "17"]);
    case.outs("route", &[rows], taken(1));
    case.outs("route", &[rows], taken(5));
    let few = case.x(&["3", "3"]);
    case.outs("route", &[few], taken(3));
    let empty = case.x(&["0", "3"]);
    case.outs("route", &[empty], taken(2));
    case.check("route");
    let values = special(DType::F32);
    let mut case = Case::new();
    let row = case.b.input("x", values.ty());
    case.outs("route", &[row], taken(16));
    case.check_on("route of special values", std::slice::from_ref(&values));
}

/// Experts with what makes their scores and their rows, for more tokens than are taken at a time.
#[test]
fn routers_with_their_products() {
    for (tokens, experts, k) in
        [("n", "40", 4), ("2*n", "7", 2), ("65*n", "5", 1), ("130", "16", 3), ("20", "300", 2)]
    {
        let mut case = Case::new();
        let rows = [tokens, "9"];
        let (x, state) = (case.x(&rows), case.x(&rows));
        let (gate, bias) = (case.x(&["9", experts]), case.x(&[experts]));
        let ahead = case.op("add", &[x, state], vec![]);
        let ahead = case.op("tanh", &[ahead], vec![]);
        let scores = case.op("matmul", &[ahead, gate], vec![]);
        let scores = case.op("add", &[scores, bias], vec![]);
        let weights = case.op("softmax", &[scores], vec![("axis", Attr::Int(1))]);
        let chosen = case.outs("route", &[weights], vec![("k", Attr::Int(k))]);
        let gates = case.op("softmax", &[chosen[0]], vec![("axis", Attr::Int(1))]);
        let tokens = case.op("reshape", &[ahead], vec![("shape", sizes(&[tokens, "1", "9"]))]);
        let w = case.x(&[experts, "9", "5"]);
        let results = case.op("grouped_matmul", &[tokens, w, chosen[1]], vec![]);
        let combined = case.op("combine", &[results, gates], vec![]);
        case.out(combined);
        case.check(&format!("a router of {experts} experts"));
    }
}

/// From a projection over the norm to the gates, for tokens that lie along two axes, in another order, and for few.
#[test]
fn routers_with_norms_and_projections() {
    for (b, s, tokens, turned) in [
        ("2", "n", "2*n", false),
        ("3", "50", "150", false),
        ("2", "65*n", "130*n", true),
        ("2", "3", "6", false),
        ("1", "1", "1", false),
    ] {
        let mut case = Case::new();
        let (x, state) = (case.x(&[b, s, "9"]), case.x(&[b, s, "9"]));
        let (project, gate) = (case.x(&["9", "9"]), case.x(&["9", "7"]));
        let heads = match turned {
            true => {
                let heads = case.x(&[s, b, "9"]);
                case.op("transpose", &[heads], vec![("perm", ints(&[1, 0, 2]))])
            }
            false => x,
        };
        let projected = case.op("matmul", &[heads, project], vec![]);
        let sum = case.op("add", &[state, projected], vec![]);
        let norm = case.op("layer_norm", &[sum], vec![("axes", ints(&[2])), ("epsilon", Attr::Float(1e-5))]);
        let rows = case.op("reshape", &[norm], vec![("shape", sizes(&[tokens, "9"]))]);
        let scores = case.op("matmul", &[rows, gate], vec![]);
        let chosen = case.outs("route", &[scores], vec![("k", Attr::Int(2))]);
        let gates = case.op("softmax", &[chosen[0]], vec![("axis", Attr::Int(1))]);
        let each = case.op("reshape", &[rows], vec![("shape", sizes(&[tokens, "1", "9"]))]);
        let w = case.x(&["7", "9", "9"]);
        let results = case.op("grouped_matmul", &[each, w, chosen[1]], vec![]);
        let combined = case.op("combine", &[results, gates], vec![]);
        let combined = case.op("reshape", &[combined], vec![("shape", sizes(&[b, s, "9"]))]);
        let out = case.op("add", &[norm, combined], vec![]);
        case.out(out);
        case.check(&format!("a layer of {tokens} tokens"));
    }
}

/// What stays in memory for a sort, what it reads through a view, and what goes on after it.
#[test]
fn sorts_among_other_ops() {
    let mut case = Case::new();
    let x = case.x(&["n", "2", "12"]);
    let scores = case.op("softmax", &[x], vec![("axis", Attr::Int(2))]);
    let rows = case.op("reshape", &[scores], vec![("shape", sizes(&["2*n", "12"]))]);
    let best = case.b.ops_with(op("topk"), &[rows], top(1, "3", true)).expect("12 are enough");
    let gates = case.op("softmax", &[best[0]], vec![("axis", Attr::Int(1))]);
    let gates = case.op("reshape", &[gates], vec![("shape", sizes(&["n", "2", "3"]))]);
    case.out(gates);
    let ids = case.op("reshape", &[best[1]], vec![("shape", sizes(&["n", "6"]))]);
    case.out(ids);
    let zeros = case.op("sub", &[rows, rows], vec![]);
    let reduction = vec![("axis", Attr::Int(1)), ("reduction", Attr::Str("add".into()))];
    let dense = case.op("scatter_elements", &[zeros, best[1], best[0]], reduction);
    let dense = case.op("add", &[dense, rows], vec![]);
    case.out(dense);
    let sums = case.op("cumsum", &[dense], vec![("axis", Attr::Int(0))]);
    let sums = case.op("reshape", &[sums], vec![("shape", sizes(&["n", "24"]))]);
    case.out(sums);
    // A sort of what a sort gave, of a weight, and of an input.
    let again = case.b.ops_with(op("topk"), &[best[1]], top(0, "2*n", false)).expect("all of them");
    case.out(again[1]);
    let w = case.b.constant(&harness::Random::new(3).tensor(DType::F32, &[5, 2]));
    case.outs("topk", &[w], top(0, "4", false));
    case.outs("topk", &[x], top(2, "12", false));
    case.check("sorts among other ops");
}

#[test]
fn folds_of_prefixes() {
    for name in ["cumsum", "cumprod"] {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U8] {
            let mut case = Case::new();
            for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
                let x = case.input(dtype, &["n", "7", "19"]);
                for axis in 0..3 {
                    let flags = [("exclusive", Attr::Bool(exclusive)), ("reverse", Attr::Bool(reverse))];
                    let attrs = [("axis", Attr::Int(axis))].into_iter().chain(flags).collect();
                    let y = case.op(name, &[x], attrs);
                    case.out(y);
                }
            }
            let empty = case.input(dtype, &["n", "0"]);
            for axis in 0..2 {
                let y = case.op(name, &[empty], vec![("axis", Attr::Int(axis))]);
                case.out(y);
            }
            case.check(&format!("{name} of {dtype}"));
        }
    }
    // Large enough for threads and lanes.
    let mut case = Case::new();
    let x = case.x(&["40", "30", "60"]);
    for axis in 0..3 {
        let y = case.op("cumsum", &[x], vec![("axis", Attr::Int(axis))]);
        case.out(y);
    }
    case.check("cumsum of many");
}

#[test]
fn scattered_elements() {
    for dtype in DType::ALL {
        let mut case = Case::new();
        for reduction in ["none", "add", "mul", "max", "min"] {
            if (dtype == DType::Bool || dtype.is_narrow()) && reduction != "none" {
                continue;
            }
            let how = ("reduction", Attr::Str(reduction.into()));
            // Indices lie in −3..=3: from the end, several times the same, and out of range.
            let (x, at, y) = (
                case.input(dtype, &["3", "n", "2"]),
                case.input(DType::I64, &["7", "n", "2"]),
                case.input(dtype, &["7", "n", "2"]),
            );
            let z = case.op("scatter_elements", &[x, at, y], vec![("axis", Attr::Int(0)), how.clone()]);
            case.out(z);
            let (at, y) = (case.input(DType::I32, &["2", "m", "9"]), case.input(dtype, &["2", "m", "9"]));
            let z = case.op("scatter_elements", &[x, at, y], vec![("axis", Attr::Int(-1)), how.clone()]);
            case.out(z);
            let (at, y) = (case.input(DType::I64, &["6", "2"]), case.input(dtype, &["6", "2"]));
            let z = case.op("scatter_nd", &[x, at, y], vec![how.clone()]);
            case.out(z);
            let (at, y) =
                (case.input(DType::I64, &["n", "4", "1"]), case.input(dtype, &["n", "4", "n", "2"]));
            let z = case.op("scatter_nd", &[x, at, y], vec![how.clone()]);
            case.out(z);
            let (at, y) = (case.input(DType::I64, &["0", "1"]), case.input(dtype, &["0", "n", "2"]));
            let z = case.op("scatter_nd", &[x, at, y], vec![how]);
            case.out(z);
        }
        case.check(&format!("scattering of {dtype}"));
    }
    let mut case = Case::new();
    let (x, at, y) = (case.x(&["64", "80"]), case.input(DType::I64, &["64", "200"]), case.x(&["64", "200"]));
    let attrs = vec![("axis", Attr::Int(1)), ("reduction", Attr::Str("add".into()))];
    let z = case.op("scatter_elements", &[x, at, y], attrs);
    case.out(z);
    case.check("scattering of many");
}

#[test]
fn what_is_not_zero_and_what_is_different() {
    for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_narrow()) {
        let mut case = Case::new();
        for shape in [&["n", "4"][..], &["n"], &["2", "n", "3"], &[], &["n", "0"]] {
            let x = case.input(dtype, shape);
            case.outs("nonzero", &[x], vec![]);
            for sorted in [true, false] {
                case.outs("unique", &[x], vec![("sorted", Attr::Bool(sorted))]);
                for axis in 0..shape.len() as i64 {
                    case.outs("unique", &[x], vec![("sorted", Attr::Bool(sorted)), ("axis", ints(&[axis]))]);
                }
            }
        }
        case.check(&format!("compaction of {dtype}"));
    }
    let mut case = Case::new();
    let values = special(DType::F32);
    let x = case.b.input("x", values.ty());
    let twice = case.op("concat", &[x, x], vec![("axis", Attr::Int(0))]);
    case.outs("nonzero", &[twice], vec![]);
    case.outs("unique", &[twice], vec![]);
    case.outs("unique", &[twice], vec![("sorted", Attr::Bool(false))]);
    case.check_on("compaction of special values", &[values]);
}

/// Sizes may be called like the scalars inside of kernels.
#[test]
fn sizes_with_the_names_of_scalars() {
    let mut case = Case::new();
    let x = case.input(DType::I32, &["count", "here", "same"]);
    case.outs("nonzero", &[x], vec![]);
    case.outs("unique", &[x], vec![("sorted", Attr::Bool(false))]);
    case.outs("unique", &[x], vec![("axis", ints(&[1]))]);
    let x = case.x(&["sum", "to", "acc0"]);
    let y = case.op("cumsum", &[x], vec![("axis", Attr::Int(1))]);
    case.out(y);
    let at = case.input(DType::I64, &["sum", "to", "acc0"]);
    let y = case.op("scatter_elements", &[x, at, x], vec![("axis", Attr::Int(2))]);
    case.out(y);
    let x = case.x(&["t0", "m0"]);
    let y = case.op("softmax", &[x], vec![("axis", Attr::Int(1))]);
    case.out(y);
    case.check("names");
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

/// Indices from the data, negative ones and some out of range.
#[test]
fn gathers() {
    let at = |shape: &[usize]| {
        let mut next = -9;
        Tensor::from_fn(DType::I64, shape, |_| {
            next += 2;
            Scalar::from_i64(DType::I64, if next > 9 { next - 17 } else { next })
        })
    };
    type Gather =
        (&'static str, (&'static str, Attr), &'static [&'static str], &'static [usize], &'static [usize]);
    let cases: [Gather; 6] = [
        ("gather", ("axis", Attr::Int(1)), &["n", "5", "3"], &[2, 5, 3], &[2, 2]),
        ("gather_elements", ("axis", Attr::Int(1)), &["3", "n", "4"], &[3, 5, 4], &[2, 4, 4]),
        ("gather_elements", ("axis", Attr::Int(0)), &["n", "4"], &[0, 4], &[3, 4]),
        ("gather_nd", ("batch_dims", Attr::Int(0)), &["n", "5", "3"], &[2, 5, 3], &[7, 2]),
        ("gather_nd", ("batch_dims", Attr::Int(1)), &["3", "n", "4"], &[3, 5, 4], &[3, 2, 1]),
        ("gather_nd", ("batch_dims", Attr::Int(0)), &["n", "2"], &[0, 2], &[3, 1]),
    ];
    let mut random = harness::Random::new(11);
    for (name, attr, shape, sizes, indices) in cases {
        let mut case = Case::new();
        let x = case.x(shape);
        let at = case.b.constant(&at(indices));
        // A constant index would fold: this one is computed.
        let at = case.op("neg", &[at], vec![]);
        let y = case.op(name, &[x, at], vec![attr]);
        case.out(y);
        case.check_on(&format!("{name} of {sizes:?}"), &[random.tensor(DType::F32, sizes)]);
    }
}

#[test]
fn positions_of_extrema() {
    for name in ["arg_max", "arg_min"] {
        for dtype in [DType::F32, DType::F16, DType::I64, DType::U8] {
            let mut case = Case::new();
            let x = case.input(dtype, &["n", "17", "3"]);
            for (axis, last) in [(1, false), (1, true), (-1, false)] {
                let attrs = vec![("axis", Attr::Int(axis)), ("last", Attr::Bool(last))];
                let y = case.op(name, &[x], attrs);
                case.out(y);
            }
            case.check(&format!("{name} of {dtype}"));
        }
        let mut case = Case::new();
        let values = special(DType::F32);
        let x = case.b.input("x", values.ty());
        let y = case.op(name, &[x], vec![("axis", Attr::Int(0))]);
        case.out(y);
        case.check_on(&format!("{name} of special values"), &[values]);
    }
}

#[test]
fn einsum() {
    for (equation, shapes) in [
        ("bqhd,bkhd->bhqk", &[&["2", "n", "3", "8"][..], &["2", "5", "3", "8"]][..]),
        ("ij,jk,kl->il", &[&["n", "7"], &["7", "33"], &["33", "5"]]),
        ("...ii->...i", &[&["2", "n", "n"]]),
        ("bi,bj->bij", &[&["n", "3"], &["n", "5"]]),
        ("ij->", &[&["n", "17"]]),
    ] {
        let mut case = Case::new();
        let x: Vec<Value> = shapes.iter().map(|shape| case.x(shape)).collect();
        let y = case.op("einsum", &x, vec![("equation", Attr::Str(equation.into()))]);
        case.out(y);
        case.check(equation);
    }
}

#[test]
fn rotary_embedding() {
    for interleaved in [false, true] {
        let mut case = Case::new();
        let (x, cos, sin) =
            (case.x(&["2", "n", "3", "10"]), case.x(&["2", "n", "1", "4"]), case.x(&["2", "n", "1", "4"]));
        let y = case.op("rotary_embedding", &[x, cos, sin], vec![("interleaved", Attr::Bool(interleaved))]);
        case.out(y);
        case.check(&format!("rotary embedding, interleaved: {interleaved}"));
    }
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
    for (name, bound) in [("exp", 2.0), ("log", 2.0), ("tanh", 3.0), ("erf", 6.0)] {
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
