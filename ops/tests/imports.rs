//! ONNX nodes become what their version says: attributes that became inputs, defaults that changed, bounds
//! that count from the end, sizes that are symbols; and what can't be imported says so.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ir::build::Build;
use ir::graph::Value;
use ir::{DType, Dim, Scalar, Tensor, TensorType};
use ops::onnx::{Found, ImportError, Known, NodeAttr, NodeView, find_import};

/// A graph under construction, as an importer has it.
struct Model {
    b: Build,
    sizes: RefCell<Known>,
    opset: i64,
}

impl Model {
    fn new(opset: i64) -> Model {
        Model { b: Build::new("model"), sizes: RefCell::default(), opset }
    }

    fn input(&mut self, dtype: DType, shape: &[&str]) -> Option<Value> {
        let size = |text: &&str| text.parse::<i64>().map_or_else(|_| Dim::symbol(text), Dim::constant);
        let name = format!("x{}", self.b.graph().inputs().len());
        Some(self.b.input(&name, TensorType::new(dtype, shape.iter().map(size))))
    }

    fn ints(&mut self, values: &[i64]) -> Option<Value> {
        Some(self.b.constant(&Tensor::from_i64(&[values.len()], values)))
    }

    fn floats(&mut self, values: &[f32]) -> Option<Value> {
        Some(self.b.constant(&Tensor::from_f32(&[values.len()], values)))
    }

    fn scalar(&mut self, dtype: DType, value: f64) -> Option<Value> {
        Some(self.b.scalar(dtype, value))
    }

    fn convert_to(
        &mut self,
        op: &str,
        inputs: &[Option<Value>],
        attrs: &[(&str, NodeAttr)],
        outputs: &[bool],
    ) -> Result<Vec<Value>, ImportError> {
        let attributes: BTreeMap<String, NodeAttr> =
            attrs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let node = NodeView::new(op, self.opset, &attributes, &self.sizes)
            .with_inputs(inputs.to_vec())
            .with_outputs(outputs.to_vec());
        let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
        let Found::Import(import) = find_import(domain, op, self.opset) else { panic!("{op} is unknown") };
        import.convert(&node, &mut self.b)
    }

    fn convert(
        &mut self,
        op: &str,
        inputs: &[Option<Value>],
        attrs: &[(&str, NodeAttr)],
    ) -> Result<Option<Value>, ImportError> {
        Ok(Some(self.convert_to(op, inputs, attrs, &[true])?[0]))
    }

    fn add(&mut self, op: &str, inputs: &[Option<Value>], attrs: &[(&str, NodeAttr)]) -> Option<Value> {
        self.convert(op, inputs, attrs).unwrap_or_else(|error| panic!("{op}: {error}"))
    }

    fn shape(&self, value: Option<Value>) -> String {
        self.b.ty(value.expect("a value")).to_string()
    }

    fn eval(self, output: Option<Value>, inputs: &[Tensor]) -> Tensor {
        let graph = self.b.finish(vec![output.expect("a value")]);
        ir::graph::eval(&graph, inputs).unwrap_or_else(|at| panic!("{}", at.error)).remove(0)
    }
}

fn int(value: i64) -> NodeAttr {
    NodeAttr::Int(value)
}

fn ints(values: &[i64]) -> NodeAttr {
    NodeAttr::Ints(values.to_vec())
}

fn str(value: &str) -> NodeAttr {
    NodeAttr::Str(value.to_owned())
}

fn counting(shape: &[usize]) -> Tensor {
    let mut next = 0.0;
    Tensor::from_fn(DType::F32, shape, |_| {
        next += 1.0;
        Scalar::f32(next - 1.0)
    })
}

#[test]
fn the_latest_version_that_is_not_newer_is_found() {
    let since = |opset| match find_import("", "Squeeze", opset) {
        Found::Import(import) => import.since,
        _ => panic!("Squeeze is known"),
    };
    assert_eq!([since(7), since(12), since(13), since(28)], [1, 1, 13, 13]);
    assert!(matches!(find_import("", "NoSuchOp", 20), Found::UnknownOp));
    assert!(matches!(find_import("com.microsoft", "FusedMatMul", 1), Found::Import(_)));
    assert!(matches!(find_import("com.microsoft", "Relu", 1), Found::UnknownOp));
}

#[test]
fn imports_are_unambiguous() {
    let mut all: Vec<_> = ops::ALL
        .iter()
        .flat_map(|entry| entry.onnx)
        .chain(ops::IMPORTS.iter().copied().flatten())
        .map(|import| (import.domain, import.op_type, import.since))
        .collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "two imports of one op at one version");
    assert!(count > 130);
}

#[test]
fn an_attribute_that_nothing_reads_is_an_error() {
    let mut m = Model::new(13);
    let x = m.input(DType::F32, &["n"]);
    let error = m.convert("Relu", &[x], &[("slope", int(1))]).unwrap_err();
    assert_eq!(error.to_string(), "attribute `slope`: Relu has no such attribute at version 13");
    let error = m.convert("Softmax", &[x], &[("axis", str("last"))]).unwrap_err();
    assert_eq!(error.to_string(), "attribute `axis`: expected an integer, found a string");
}

#[test]
fn a_missing_input_and_an_unknown_output_are_errors() {
    let mut m = Model::new(13);
    let x = m.input(DType::F32, &["1", "1", "4"]);
    assert_eq!(m.convert("Add", &[x, None], &[]), Err(ImportError::MissingInput { index: 1 }));
    let error = m.convert_to("Relu", &[x], &[], &[true, true]).unwrap_err();
    assert!(error.to_string().starts_with("output 1 of Relu is not supported"), "{error}");
    assert!(m.convert_to("Relu", &[x], &[], &[true, false]).is_ok());
}

#[test]
fn a_shape_that_is_computed_at_run_time_becomes_sizes() {
    let mut m = Model::new(13);
    let (x, shape) = (m.input(DType::F32, &["n"]), m.input(DType::I64, &["2"]));
    let y = m.add("Reshape", &[x, shape], &[]);
    assert_eq!(m.shape(y), "f32[reshape_0, reshape_1]");
    // Of how many numbers there are the rank depends.
    let shape = m.input(DType::I64, &["k"]);
    let error = m.convert("Reshape", &[x, shape], &[]).unwrap_err();
    assert_eq!(error, ImportError::RunTimeValue { index: 1, input: "shape" });
    assert_eq!(error.code(), "egraft::onnx::run_time_value");
}

/// Where numbers follow from others by arithmetic on sizes, only those others are read when the model runs.
#[test]
fn known_sizes_stay_known_beside_computed_ones() {
    let mut m = Model::new(13);
    let (x, rows) = (m.input(DType::F32, &["n", "12"]), m.input(DType::I64, &["1"]));
    let shape = m.add("Shape", &[x], &[]);
    let (zero, four) = (m.ints(&[0]), m.ints(&[4]));
    let first = m.add("Gather", &[shape, zero], &[]);
    let all = m.add("Concat", &[first, rows, four], &[("axis", int(0))]);
    let y = m.add("ConstantOfShape", &[all], &[]);
    assert_eq!(m.shape(y), "f32[n, constantofshape_0, 4]");
    // The same numbers again are the same sizes.
    let y = m.add("ConstantOfShape", &[all], &[]);
    assert_eq!(m.shape(y), "f32[n, constantofshape_0, 4]");
}

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
fn reductions_take_axes_from_attributes_and_from_inputs() {
    let sum = |opset: i64, axes_at: &str, noop: bool| {
        let mut m = Model::new(opset);
        let x = m.input(DType::F32, &["2", "3"]);
        let mut attrs = vec![("keepdims", int(0))];
        let mut inputs = vec![x];
        match axes_at {
            "attribute" => attrs.push(("axes", ints(&[-1]))),
            "input" => inputs.push(m.ints(&[-1])),
            _ => {}
        }
        if noop {
            attrs.push(("noop_with_empty_axes", int(1)));
        }
        let y = m.add("ReduceSum", &inputs, &attrs);
        m.eval(y, &[counting(&[2, 3])]).to_f64()
    };
    assert_eq!(sum(11, "attribute", false), [3.0, 12.0]);
    assert_eq!(sum(13, "input", false), [3.0, 12.0]);
    assert_eq!(sum(13, "nowhere", false), [15.0]);
    assert_eq!(sum(13, "nowhere", true), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_mean_over_a_symbolic_axis_divides_by_its_size() {
    let mut m = Model::new(17);
    let x = m.input(DType::F32, &["n", "2"]);
    let y = m.add("ReduceMean", &[x], &[("axes", ints(&[0]))]);
    assert_eq!(m.eval(y, &[counting(&[3, 2])]).to_f64(), [2.0, 3.0]);
}

#[test]
fn slices_count_from_the_end_and_clamp() {
    let slice = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
        let mut m = Model::new(13);
        let x = m.input(DType::F32, &["5"]);
        let inputs = [x, m.ints(starts), m.ints(ends), m.ints(axes), m.ints(steps)];
        let y = m.add("Slice", &inputs, &[]);
        m.eval(y, &[counting(&[5])]).to_f64()
    };
    assert_eq!(slice(&[1], &[4], &[0], &[2]), [1.0, 3.0]);
    assert_eq!(slice(&[-3], &[i64::MAX], &[-1], &[1]), [2.0, 3.0, 4.0]);
    assert_eq!(slice(&[-1], &[i64::MIN], &[0], &[-1]), [4.0, 3.0, 2.0, 1.0, 0.0]);
    assert_eq!(slice(&[10], &[0], &[0], &[-2]), [4.0, 2.0]);
    assert_eq!(slice(&[4], &[2], &[0], &[1]), [0.0; 0]);
}

#[test]
fn slices_of_symbolic_axes_have_symbolic_sizes() {
    let mut m = Model::new(13);
    let x = m.input(DType::F32, &["n", "4"]);
    let (one, minus, end) = (m.ints(&[1]), m.ints(&[-1]), m.ints(&[i64::MAX]));
    let (axis, step) = (m.ints(&[0]), m.ints(&[-1]));
    let tail = m.add("Slice", &[x, one, end, axis], &[]);
    let but_one = Dim::symbol("n") - Dim::constant(1);
    assert_eq!(m.b.ty(tail.unwrap()).shape[0], Dim::larger(&but_one, &Dim::constant(0)));
    let zero = m.ints(&[0]);
    let head = m.add("Slice", &[x, zero, minus, axis], &[]);
    assert_eq!(m.shape(head), m.shape(tail));
    let last = m.add("Slice", &[x, minus, end, axis], &[]);
    assert_eq!(m.b.ty(last.unwrap()).shape[0], Dim::smaller(&Dim::symbol("n"), &Dim::constant(1)));
    let start = m.ints(&[i64::MIN]);
    let reversed = m.add("Slice", &[x, minus, start, axis, step], &[]);
    assert_eq!(m.shape(reversed), "f32[n, 4]");
    assert_eq!(m.eval(reversed, &[counting(&[2, 4])]).to_f64(), [4.0, 5.0, 6.0, 7.0, 0.0, 1.0, 2.0, 3.0]);
}

/// Whether `n − 2` counts from the end is known when the model runs.
#[test]
fn a_bound_of_either_sign_is_computed() {
    for (n, expected) in [(4, vec![2.0, 3.0]), (2, vec![0.0, 1.0]), (1, vec![0.0])] {
        let mut m = Model::new(13);
        let x = m.input(DType::F32, &["n"]);
        let (two, end) = (m.ints(&[2]), m.ints(&[i64::MAX]));
        let shape = m.add("Shape", &[x], &[]);
        let start = m.add("Sub", &[shape, two], &[]);
        let y = m.add("Slice", &[x, start, end], &[]);
        assert_eq!(m.eval(y, &[counting(&[n])]).to_f64(), expected, "{n}");
    }
}

/// Every slice of a symbolic axis, at every size, against the same slice of an axis of known size.
#[test]
fn slices_of_symbolic_axes_have_the_elements_of_known_ones() {
    let slice = |size: &str, n: usize, [start, end, step]: [i64; 3]| {
        let mut m = Model::new(13);
        let x = m.input(DType::F32, &[size]);
        let inputs = [x, m.ints(&[start]), m.ints(&[end]), m.ints(&[0]), m.ints(&[step])];
        let y = m.add("Slice", &inputs, &[]);
        m.eval(y, &[counting(&[n])]).to_f64()
    };
    let positions = |n: i64, [start, end, step]: [i64; 3]| -> Vec<f64> {
        let from_zero = |bound: i64| if bound < 0 { bound + n } else { bound };
        let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
        // In numpy, a start before the first element gives nothing going down; in ONNX, it is the first element.
        let (mut i, end) = (from_zero(start).max(0).min(high), from_zero(end).clamp(low, high));
        let mut all = vec![];
        while if step > 0 { i < end } else { i > end } {
            all.push(i as f64);
            i += step;
        }
        all
    };
    for n in 0..5 {
        for start in [-7, -3, -1, 0, 2, 4, 6] {
            for end in [-6, -2, -1, 0, 1, 3, 5] {
                for step in [-2, -1, 1, 3] {
                    let expected = positions(n, [start, end, step]);
                    for size in [n.to_string().as_str(), "n"] {
                        let found = slice(size, n as usize, [start, end, step]);
                        assert_eq!(found, expected, "[{start}:{end}:{step}] of {size} = {n}");
                    }
                }
            }
        }
    }
}

#[test]
fn reshape_copies_zeros_and_fills_the_hole() {
    let mut m = Model::new(14);
    let x = m.input(DType::F32, &["n", "6", "4"]);
    let heads = m.ints(&[0, 0, 2, -1]);
    let y = m.add("Reshape", &[x, heads], &[]);
    assert_eq!(m.shape(y), "f32[n, 6, 2, 2]");
    let rows = m.ints(&[-1, 8]);
    let y = m.add("Reshape", &[x, rows], &[]);
    assert_eq!(m.shape(y), "f32[3*n, 8]");
    let odd = m.ints(&[-1, 7]);
    // That it divides is checked when the model runs.
    let y = m.add("Reshape", &[x, odd], &[]);
    assert_eq!(m.shape(y), "f32[floor(24*n, 7), 7]");
}

/// `x.view(x.shape[0], x.shape[1] // 2, -1)` as PyTorch exports it.
#[test]
fn shape_arithmetic_is_followed() {
    let mut m = Model::new(17);
    let x = m.input(DType::F32, &["n", "8", "k"]);
    let shape = m.add("Shape", &[x], &[]);
    let (zero, one, two) = (m.ints(&[0]), m.ints(&[1]), m.ints(&[2]));
    let batch = m.add("Gather", &[shape, zero], &[]);
    let rows = m.add("Gather", &[shape, one], &[]);
    let half = m.add("Div", &[rows, two], &[]);
    let rest = m.ints(&[-1]);
    let target = m.add("Concat", &[batch, half, rest], &[("axis", int(0))]);
    let y = m.add("Reshape", &[x, target], &[]);
    assert_eq!(m.shape(y), "f32[n, 4, 2*k]");
}

/// `torch.where(shape == -1, ones, shape)`, which exporters write around every Expand.
#[test]
fn a_choice_between_sizes_is_followed() {
    let mut m = Model::new(17);
    let x = m.input(DType::F32, &["n", "1"]);
    let shape = m.add("Shape", &[x], &[]);
    let (four, minus) = (m.ints(&[4]), m.ints(&[-1]));
    let start = [("axis", int(0))];
    let zero = m.ints(&[0]);
    let batch = m.add("Gather", &[shape, zero], &[]);
    let wanted = m.add("Concat", &[batch, four], &start);
    let rank = m.ints(&[2]);
    let ones = [("value", NodeAttr::Tensor(Tensor::from_i64(&[1], &[1])))];
    let ones = m.add("ConstantOfShape", &[rank], &ones);
    let minus = m.add("Mul", &[ones, minus], &[]);
    let absent = m.add("Equal", &[wanted, minus], &[]);
    let target = m.add("Where", &[absent, ones, wanted], &[]);
    let y = m.add("Expand", &[x, target], &[]);
    assert_eq!(m.shape(y), "f32[n, 4]");
}

/// `floor(size · 0.5)` in floats, as older exporters write it.
#[test]
fn constants_through_floats_are_followed() {
    let mut m = Model::new(11);
    let x = m.input(DType::F32, &["8"]);
    let shape = m.add("Shape", &[x], &[]);
    let float = m.add("Cast", &[shape], &[("to", int(1))]);
    let half = m.floats(&[0.5]);
    let scaled = m.add("Mul", &[float, half], &[]);
    let floor = m.add("Floor", &[scaled], &[]);
    let target = m.add("Cast", &[floor], &[("to", int(7))]);
    let rest = m.ints(&[-1]);
    let target = m.add("Concat", &[target, rest], &[("axis", int(0))]);
    let y = m.add("Reshape", &[x, target], &[]);
    assert_eq!(m.shape(y), "f32[4, 2]");
}

#[test]
fn a_range_up_to_a_symbolic_size_counts() {
    let mut m = Model::new(17);
    let x = m.input(DType::F32, &["n"]);
    let shape = m.add("Shape", &[x], &[]);
    let zero = m.scalar(DType::I64, 0.0);
    let limit = m.add("Gather", &[shape, zero], &[]);
    let step = m.scalar(DType::I64, 1.0);
    let y = m.add("Range", &[zero, limit, step], &[]);
    assert_eq!(m.shape(y), "i64[n]");
    assert_eq!(m.eval(y, &[counting(&[4])]).to_i64(), [0, 1, 2, 3]);
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

/// All results of a node on these operands, which are inputs.
fn run(opset: i64, op: &str, inputs: &[Tensor], attrs: &[(&str, NodeAttr)], results: usize) -> Vec<Tensor> {
    let mut m = Model::new(opset);
    let operands: Vec<_> =
        inputs.iter().enumerate().map(|(i, x)| Some(m.b.input(&format!("x{i}"), x.ty()))).collect();
    let made = m.convert_to(op, &operands, attrs, &vec![true; results]);
    let made = made.unwrap_or_else(|error| panic!("{op} {opset}: {error}"));
    let graph = m.b.finish(made);
    ir::graph::eval(&graph, inputs).unwrap_or_else(|at| panic!("{}", at.error))
}

fn i64s(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_i64(shape, values)
}

#[test]
fn top_k_takes_its_k_from_where_the_version_has_it() {
    let x = Tensor::from_f32(&[2, 3], &[3.0, 5.0, 5.0, 1.0, 0.0, 2.0]);
    let found = run(9, "TopK", std::slice::from_ref(&x), &[("k", int(2)), ("axis", int(1))], 2);
    assert_eq!((found[0].to_f64(), found[1].to_i64()), (vec![5.0, 5.0, 2.0, 1.0], vec![1, 2, 2, 0]));
    for opset in [10, 11, 24] {
        let mut m = Model::new(opset);
        let (x, k) = (m.input(DType::F32, &["n", "3"]), m.ints(&[2]));
        let attrs = [("largest", int(0)), ("sorted", int(0)), ("axis", int(0))];
        let attrs = if opset == 10 { &attrs[2..] } else { &attrs[..] };
        let y = m.convert_to("TopK", &[x, k], attrs, &[true, true]).expect("imports");
        assert_eq!(m.shape(Some(y[0])), "f32[2, 3]");
        assert_eq!(m.shape(Some(y[1])), "i64[2, 3]");
    }
    // As many as there are: a sort.
    let mut m = Model::new(13);
    let x = m.input(DType::F32, &["n", "3"]);
    let shape = m.add("Shape", &[x], &[]);
    let zero = m.ints(&[0]);
    let k = m.add("Gather", &[shape, zero], &[]);
    let y = m.add("TopK", &[x, k], &[("axis", int(0))]);
    assert_eq!(m.shape(y), "f32[n, 3]");
    // More than there are.
    let mut m = Model::new(13);
    let (x, k) = (m.input(DType::F32, &["n", "3"]), m.ints(&[4]));
    let error = m.convert("TopK", &[x, k], &[]).unwrap_err();
    assert_eq!(error.to_string(), "k is larger than the axis: 4 against 3");
    let (x, k) = (m.input(DType::F32, &["n"]), m.input(DType::I64, &["1"]));
    let y = m.add("TopK", &[x, k], &[]);
    assert_eq!(m.shape(y), "f32[topk_0]");
}

#[test]
fn prefixes_exclude_and_reverse() {
    for (exclusive, reverse, expected) in [
        (0, 0, [1, 3, 6, 4, 9, 15]),
        (1, 0, [0, 1, 3, 0, 4, 9]),
        (0, 1, [6, 5, 3, 15, 11, 6]),
        (1, 1, [5, 3, 0, 11, 6, 0]),
    ] {
        for axis in [1, -1] {
            let mut m = Model::new(14);
            let (x, axis) = (m.input(DType::I64, &["n", "3"]), m.scalar(DType::I32, f64::from(axis)));
            let attrs = [("exclusive", int(exclusive)), ("reverse", int(reverse))];
            let y = m.add("CumSum", &[x, axis], &attrs);
            assert_eq!(m.eval(y, &[i64s(&[2, 3], &[1, 2, 3, 4, 5, 6])]).to_i64(), expected);
        }
    }
    let mut m = Model::new(26);
    let (x, axis) = (m.input(DType::I64, &["3"]), m.scalar(DType::I64, 0.0));
    let y = m.add("CumProd", &[x, axis], &[("exclusive", int(1))]);
    assert_eq!(m.eval(y, &[i64s(&[3], &[2, 3, 4])]).to_i64(), [1, 2, 6]);
}

/// Exporters fill shapes by scattering, and split by sums of sizes.
#[test]
fn sizes_pass_through_scatters_and_prefixes() {
    let mut m = Model::new(16);
    let x = m.input(DType::F32, &["n", "3"]);
    let shape = m.add("Shape", &[x], &[]);
    let (at, six) = (m.b.constant(&i64s(&[1, 1], &[-1])), m.ints(&[6]));
    let shape = m.add("ScatterND", &[shape, Some(at), six], &[]);
    let y = m.add("ConstantOfShape", &[shape], &[]);
    assert_eq!(m.shape(y), "f32[n, 6]");
    let (zero, one) = (m.ints(&[0]), m.ints(&[1]));
    let sums = m.add("CumSum", &[shape, zero], &[]);
    let at = m.add("ScatterElements", &[sums, zero, one], &[("reduction", str("add"))]);
    let y = m.add("ConstantOfShape", &[at], &[]);
    assert_eq!(m.shape(y), "f32[n + 1, n + 6]");
}

#[test]
fn scatters_combine_in_order() {
    let x = Tensor::from_f32(&[1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let (at, y) = (i64s(&[1, 4], &[1, -4, 1, 7]), Tensor::from_f32(&[1, 4], &[1.5, 2.0, -1.0, 9.0]));
    let inputs = [x, at, y];
    let scatter = |opset, op: &str, reduction: &[(&str, NodeAttr)]| {
        let attrs: Vec<_> = [("axis", int(1))].into_iter().chain(reduction.iter().cloned()).collect();
        run(opset, op, &inputs, &attrs, 1)[0].to_f64()
    };
    for (opset, op) in [(9, "Scatter"), (10, "Scatter"), (11, "ScatterElements"), (18, "ScatterElements")] {
        assert_eq!(scatter(opset, op, &[]), [1.0, -1.0, 3.0, 4.0, 5.0]);
    }
    for (reduction, expected) in [("add", 4.5), ("mul", -6.0), ("max", 2.0), ("min", -1.0)] {
        let found = scatter(18, "ScatterElements", &[("reduction", str(reduction))]);
        assert_eq!(found, [1.0, expected, 3.0, 4.0, 5.0], "{reduction}");
    }
    let mut m = Model::new(18);
    let x = m.input(DType::F32, &["2", "2"]);
    let (at, y) = (m.input(DType::I64, &["3", "1"]), m.input(DType::F32, &["3"]));
    let error = m.convert("ScatterND", &[x, at, y], &[]).unwrap_err();
    assert_eq!(error.to_string(), "operand `updates` has rank 1, expected 2");
    let y = m.input(DType::F32, &["3", "2"]);
    let error = m.convert("ScatterND", &[x, at, y], &[("reduction", str("mean"))]).unwrap_err();
    assert_eq!(error.to_string(), "`reduction = mean` is not supported");
}

#[test]
fn one_hot_counts_from_the_end_and_leaves_out_what_is_out_of_range() {
    for (opset, axis, shape) in [(9, -1, "f32[n, 4]"), (11, 0, "f32[4, n]"), (11, 1, "f32[n, 4]")] {
        let mut m = Model::new(opset);
        let indices = m.input(DType::F32, &["n"]);
        let (depth, values) = (m.scalar(DType::F32, 4.0), m.floats(&[-1.0, 7.0]));
        let y = m.add("OneHot", &[indices, depth, values], &[("axis", int(axis))]);
        assert_eq!(m.shape(y), shape);
        let found = m.eval(y, &[Tensor::from_f32(&[5], &[0.0, -1.0, 4.0, -5.0, 2.0])]);
        let on: Vec<usize> = (0..20).filter(|&i| found.get(i).to_f64() == 7.0).collect();
        assert_eq!(on, if axis == 0 { vec![0, 14, 16] } else { vec![0, 7, 18] }.as_slice());
        assert_eq!(found.to_f64().iter().filter(|&&v| v == -1.0).count(), 17);
    }
}

#[test]
fn powers_keep_the_type_of_the_base() {
    let mut m = Model::new(15);
    let (x, y) = (m.input(DType::I32, &["2"]), m.floats(&[2.0, 0.5]));
    let z = m.add("Pow", &[x, y], &[]);
    let base = Tensor::from_fn(DType::I32, &[2], |_| Scalar::from_i64(DType::I32, 9));
    let z = m.eval(z, &[base]);
    assert_eq!((z.dtype(), z.to_i64()), (DType::I32, vec![81, 3]));
}

#[test]
fn splits_may_have_a_smaller_last_part() {
    let mut m = Model::new(18);
    let x = m.input(DType::F32, &["7"]);
    let parts = m.convert_to("Split", &[x], &[("num_outputs", int(3))], &[true; 3]).expect("imports");
    let sizes: Vec<String> = parts.iter().map(|&part| m.shape(Some(part))).collect();
    assert_eq!(sizes, ["f32[3]", "f32[3]", "f32[1]"]);
    assert_eq!(m.eval(Some(parts[2]), &[counting(&[7])]).to_f64(), [6.0]);
}

#[test]
fn dropout_keeps_everything_and_says_so() {
    let mut m = Model::new(13);
    let x = m.input(DType::F32, &["n"]);
    let results = m.convert_to("Dropout", &[x], &[("seed", int(3))], &[true, true]).expect("imports");
    assert_eq!(Some(results[0]), x);
    assert_eq!(m.eval(Some(results[1]), &[counting(&[2])]).to_i64(), [1, 1]);
    let mut m = Model::new(13);
    let (x, ratio, training) =
        (m.input(DType::F32, &["n"]), m.scalar(DType::F32, 0.5), m.scalar(DType::Bool, 1.0));
    let error = m.convert("Dropout", &[x, ratio, training], &[]).unwrap_err();
    assert!(error.to_string().contains("inference mode"), "{error}");
}

#[test]
fn elements_and_parts_are_gathered() {
    let mut m = Model::new(13);
    let (x, at) = (m.input(DType::F32, &["2", "3"]), m.ints(&[-1, 0]));
    let column = m.ints(&[2, 1]);
    let at = m.add("Reshape", &[at, column], &[]);
    let y = m.add("GatherElements", &[x, at], &[("axis", int(1))]);
    assert_eq!(m.eval(y, &[counting(&[2, 3])]).to_f64(), [2.0, 3.0]);
    let parts = |batch: i64| {
        let mut m = Model::new(12);
        let (x, at) = (m.input(DType::F32, &["2", "2", "2"]), m.ints(&[1, 0]));
        let rows = m.ints(&[2, 1]);
        let at = m.add("Reshape", &[at, rows], &[]);
        let y = m.add("GatherND", &[x, at], &[("batch_dims", int(batch))]);
        m.eval(y, &[counting(&[2, 2, 2])]).to_f64()
    };
    assert_eq!(parts(0), [4.0, 5.0, 6.0, 7.0, 0.0, 1.0, 2.0, 3.0]);
    assert_eq!(parts(1), [2.0, 3.0, 4.0, 5.0]);
}

/// As numpy has it: the first of equals, or the last; and NaN is larger and smaller than everything.
#[test]
fn positions_of_extrema() {
    let position = |op: &str, values: &[f32], attrs: &[(&str, NodeAttr)]| {
        let mut m = Model::new(13);
        let x = m.input(DType::F32, &[&values.len().to_string()]);
        let y = m.add(op, &[x], attrs);
        m.eval(y, &[Tensor::from_f32(&[values.len()], values)]).to_i64()[0]
    };
    let last = [("select_last_index", int(1)), ("keepdims", int(0)), ("axis", int(-1))];
    assert_eq!(position("ArgMax", &[1.0, 3.0, 3.0], &[]), 1);
    assert_eq!(position("ArgMax", &[1.0, 3.0, 3.0], &last), 2);
    assert_eq!(position("ArgMin", &[0.0, -0.0, 1.0], &last), 1);
    assert_eq!(position("ArgMin", &[1.0, f32::NAN, f32::NEG_INFINITY, f32::NAN], &[]), 1);
    assert_eq!(position("ArgMax", &[f32::INFINITY, f32::NAN, f32::NAN], &last), 2);
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

/// Scales and sizes; tables, and copies for axes of unknown size that are enlarged without interpolation.
#[test]
fn images_are_resized() {
    let resize = |sizes: [&str; 2], scales: &[f32], attrs: &[(&str, NodeAttr)]| {
        let mut m = Model::new(13);
        let (x, scales) = (m.input(DType::F32, &sizes), m.floats(scales));
        let y = m.add("Resize", &[x, None, scales], attrs);
        (m.shape(y), m.eval(y, &[counting(&[1, 3])]).to_f64())
    };
    let doubled = vec![0.0, 0.0, 1.0, 1.0, 2.0, 2.0];
    for (size, shape) in [("3", "f32[n, 6]"), ("w", "f32[n, 2*w]")] {
        assert_eq!(resize(["n", size], &[1.0, 2.0], &[]), (shape.to_owned(), doubled.clone()));
    }
    let linear = [("mode", str("linear")), ("coordinate_transformation_mode", str("align_corners"))];
    assert_eq!(resize(["n", "3"], &[1.0, 5.0 / 3.0], &linear).1, [0.0, 0.5, 1.0, 1.5, 2.0]);
    assert_eq!(resize(["n", "w"], &[1.0, 1.5], &linear).0, "f32[n, floor(3*w, 2)]");
    let mut old = Model::new(7);
    let x = old.input(DType::F32, &["1", "3"]);
    let y = old.add("Upsample", &[x], &[("scales", NodeAttr::Floats(vec![1.0, 2.0]))]);
    assert_eq!(old.eval(y, &[counting(&[1, 3])]).to_f64(), doubled);
}

/// Where the size of the image, or what it becomes, is known only when the model runs, nothing changes.
#[test]
fn images_of_unknown_size_are_resized_as_those_of_known_size() {
    let resize = |size: &str, computed: bool, by: &str, attrs: &[(&str, NodeAttr)]| {
        let mut m = Model::new(19);
        let x = m.input(DType::F32, &["1", size]);
        let (given, inputs) = match by {
            "scales" => {
                let scales = Tensor::from_f32(&[2], &[1.0, 0.6]);
                let given = if computed { m.input(DType::F32, &["2"]) } else { m.floats(&[1.0, 0.6]) };
                (scales, [x, None, given, None])
            }
            _ => {
                let sizes = Tensor::from_i64(&[2], &[1, 8]);
                let given = if computed { m.input(DType::I64, &["2"]) } else { m.ints(&[1, 8]) };
                (sizes, [x, None, None, given])
            }
        };
        let y = m.add("Resize", &inputs, attrs);
        let inputs = [counting(&[1, 5]), given];
        m.eval(y, if computed { &inputs } else { &inputs[..1] }).to_f64()
    };
    for mode in ["nearest", "linear", "cubic"] {
        for place in
            ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
        {
            for antialias in [0, 1] {
                let attrs = [
                    ("mode", str(mode)),
                    ("coordinate_transformation_mode", str(place)),
                    ("antialias", int(antialias)),
                ];
                for by in ["scales", "sizes"] {
                    let known = resize("5", false, by, &attrs);
                    assert_eq!(known.len(), if by == "scales" { 3 } else { 8 });
                    for (size, computed) in [("w", false), ("5", true), ("w", true)] {
                        let found = resize(size, computed, by, &attrs);
                        assert_eq!(found, known, "{mode} {place} {antialias} {by} {size} {computed}");
                    }
                }
            }
        }
    }
}

/// Numbers that are read when the model runs may be negative, and mean what known ones mean.
#[test]
fn slices_and_pads_of_run_time_numbers_have_the_elements_of_known_ones() {
    let both = |op: &str, numbers: &[&[i64]], attrs: &[(&str, NodeAttr)]| {
        let run = |computed: bool| {
            let mut m = Model::new(19);
            let x = m.input(DType::F32, &["2", "n"]);
            let mut inputs = vec![x];
            let mut given = vec![counting(&[2, 4])];
            for numbers in numbers {
                inputs.push(if computed {
                    given.push(Tensor::from_i64(&[numbers.len()], numbers));
                    m.input(DType::I64, &[&numbers.len().to_string()])
                } else {
                    m.ints(numbers)
                });
            }
            if op == "Pad" {
                inputs.insert(2, None);
            }
            let y = m.add(op, &inputs, attrs);
            let y = m.eval(y, &given);
            (y.shape().to_vec(), y.to_f64())
        };
        assert_eq!(run(true), run(false), "{op} {numbers:?}");
    };
    for [start, end, step] in
        [[0, 4, 1], [1, 9, 2], [-1, -9, -1], [3, 0, -2], [-3, -1, 1], [2, 2, 3], [-7, -9, -2]]
    {
        both("Slice", &[&[start], &[end], &[1], &[step]], &[]);
        both("Slice", &[&[0, start], &[1, end], &[0, -1], &[1, step]], &[]);
    }
    for (pads, axes) in [([1, 2], 1), ([-1, 2], -1), ([0, -3], 1), ([1, -1], 0)] {
        for mode in ["constant", "edge", "reflect", "wrap"] {
            both("Pad", &[&pads, &[axes]], &[("mode", str(mode))]);
        }
    }
}

/// Either side stretches, and sizes that are neither equal nor 1 are refused when the model runs.
#[test]
fn run_time_shapes_stretch_and_are_stretched() {
    let expand = |sizes: [&str; 2], from: [usize; 2], to: &[i64]| {
        let mut m = Model::new(13);
        let (x, shape) = (m.input(DType::F32, &sizes), m.input(DType::I64, &[&to.len().to_string()]));
        let y = m.add("Expand", &[x, shape], &[]).expect("a value");
        let graph = m.b.finish(vec![y]);
        let inputs = [counting(&from), Tensor::from_i64(&[to.len()], to)];
        ir::graph::eval(&graph, &inputs).map(|y| (y[0].shape().to_vec(), y[0].to_f64()))
    };
    for sizes in [["2", "1"], ["n", "1"], ["n", "m"]] {
        let (shape, elements) = expand(sizes, [2, 1], &[2, 1, 3]).expect("it fits");
        assert_eq!((shape, elements), (vec![2, 2, 3], [[0.0; 3], [1.0; 3], [0.0; 3], [1.0; 3]].concat()));
        assert_eq!(expand(sizes, [2, 1], &[3]).expect("it fits").0, [2, 3]);
        assert!(expand(sizes, [2, 1], &[3, 1]).is_err(), "{sizes:?}");
    }
    assert_eq!(expand(["n", "m"], [1, 2], &[3, 1]).expect("it fits").1, [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
}

#[test]
fn axes_of_size_1_come_and_go_at_run_time() {
    let shape = |op: &str, from: &[usize], axes: &[i64]| {
        let mut m = Model::new(13);
        let sizes: Vec<String> = (0..from.len()).map(|axis| format!("n{axis}")).collect();
        let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
        let (x, given) = (m.input(DType::F32, &sizes), m.input(DType::I64, &[&axes.len().to_string()]));
        let y = m.add(op, &[x, given], &[]);
        m.eval(y, &[counting(from), Tensor::from_i64(&[axes.len()], axes)]).shape().to_vec()
    };
    assert_eq!(shape("Squeeze", &[1, 3, 1, 2], &[0]), [3, 1, 2]);
    assert_eq!(shape("Squeeze", &[1, 3, 1, 2], &[-2, 0]), [3, 2]);
    assert_eq!(shape("Unsqueeze", &[3, 2], &[0]), [1, 3, 2]);
    assert_eq!(shape("Unsqueeze", &[3, 2], &[-1, 1]), [3, 1, 2, 1]);
    assert_eq!(shape("Unsqueeze", &[3, 2], &[3, 0, 1]), [1, 1, 3, 1, 2]);
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

/// Positions of corners and of the middle, and one outside.
#[test]
fn images_are_sampled_at_positions() {
    let sample = |mode: &str, padding: &str, positions: &[f32]| {
        let mut m = Model::new(20);
        let (x, grid) =
            (m.input(DType::F32, &["n", "c", "h", "w"]), m.input(DType::F32, &["n", "p", "q", "2"]));
        let attrs = [("mode", str(mode)), ("padding_mode", str(padding)), ("align_corners", int(1))];
        let y = m.add("GridSample", &[x, grid], &attrs);
        assert_eq!(m.shape(y), "f32[n, c, p, q]");
        let grid = Tensor::from_f32(&[1, 1, positions.len() / 2, 2], positions);
        m.eval(y, &[counting(&[1, 1, 2, 3]), grid]).to_f64()
    };
    let positions = [-1.0, -1.0, 1.0, 1.0, 0.0, 0.0, 3.0, -1.0];
    assert_eq!(sample("linear", "zeros", &positions), [0.0, 5.0, 2.5, 0.0]);
    assert_eq!(sample("linear", "border", &positions), [0.0, 5.0, 2.5, 2.0]);
    assert_eq!(sample("nearest", "reflection", &positions[6..]), [0.0]);
    assert_eq!(sample("cubic", "border", &positions[..4]), [0.0, 5.0]);
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
fn sequences_are_reversed_up_to_their_lengths() {
    let mut m = Model::new(10);
    let (x, lengths) = (m.input(DType::F32, &["b", "t"]), m.input(DType::I64, &["b"]));
    let y = m.add("ReverseSequence", &[x, lengths], &[("batch_axis", int(0)), ("time_axis", int(1))]);
    let y = m.eval(y, &[counting(&[2, 4]), Tensor::from_i64(&[2], &[3, 1])]);
    assert_eq!(y.to_f64(), [2.0, 1.0, 0.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
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
fn images_are_cropped_and_padded_around_their_centre() {
    let centred = |from: &str, to: &[i64]| {
        let mut m = Model::new(18);
        let (x, shape) = (m.input(DType::F32, &[from]), m.ints(to));
        let y = m.add("CenterCropPad", &[x, shape], &[]);
        m.eval(y, &[counting(&[4])]).to_f64()
    };
    for from in ["4", "n"] {
        assert_eq!(centred(from, &[1]), [1.0]);
        assert_eq!(centred(from, &[2]), [1.0, 2.0]);
        assert_eq!(centred(from, &[7]), [0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0]);
    }
}

#[test]
fn windows_are_periodic_or_symmetric() {
    let window = |op: &str, size: i64, periodic: i64| {
        let mut m = Model::new(17);
        let length = m.input(DType::I64, &[]);
        let y = m.add(op, &[length], &[("periodic", int(periodic)), ("output_datatype", int(11))]);
        let y = m.eval(y, &[Tensor::from_i64(&[], &[size])]).to_f64();
        y.into_iter().map(|y| (y * 1e6).round() / 1e6).collect::<Vec<_>>()
    };
    assert_eq!(window("HannWindow", 4, 1), [0.0, 0.5, 1.0, 0.5]);
    assert_eq!(window("HannWindow", 5, 0), [0.0, 0.5, 1.0, 0.5, 0.0]);
    assert_eq!(window("HammingWindow", 2, 1), [0.086957, 1.0]);
    assert_eq!(window("BlackmanWindow", 3, 0), [0.0, 1.0, 0.0]);
}

/// The second box overlaps with the first by more than a half, the third by less, and the last has too small a score.
#[test]
fn of_boxes_that_overlap_the_best_stay() {
    let best = |limit: i64, threshold: f64, centred: i64| {
        let mut m = Model::new(11);
        let (boxes, scores) = (m.input(DType::F32, &["b", "n", "4"]), m.input(DType::F32, &["b", "c", "n"]));
        let (limit, threshold) = (m.ints(&[limit]), m.scalar(DType::F32, threshold));
        let least = m.scalar(DType::F32, 0.25);
        let attrs = [("center_point_box", int(centred))];
        let y = m.add("NonMaxSuppression", &[boxes, scores, limit, threshold, least], &attrs);
        let corners = match centred {
            // A corner may come before the one that is smaller.
            0 => [[0.0, 0.0, 4.0, 1.0], [5.0, 1.0, 1.0, 0.0], [3.0, 0.0, 6.0, 1.0], [9.0, 0.0, 10.0, 1.0]],
            _ => [[2.0, 0.5, 4.0, 1.0], [3.0, 0.5, 4.0, 1.0], [4.5, 0.5, 3.0, 1.0], [9.5, 0.5, 1.0, 1.0]],
        };
        let boxes = Tensor::from_f32(&[1, 4, 4], &corners.concat());
        let scores = Tensor::from_f32(&[1, 2, 4], &[0.75, 0.5, 0.625, 0.125, 0.0, 0.5, 0.0, 0.25]);
        m.eval(y, &[boxes, scores]).to_i64().chunks(3).map(|found| [found[1], found[2]]).collect::<Vec<_>>()
    };
    for centred in [0, 1] {
        assert_eq!(best(9, 0.5, centred), [[0, 0], [0, 2], [1, 1]]);
        assert_eq!(best(9, 1.0, centred), [[0, 0], [0, 2], [0, 1], [1, 1]]);
        assert_eq!(best(1, 0.5, centred), [[0, 0], [1, 1]]);
        assert_eq!(best(0, 0.5, centred), [[0; 2]; 0]);
    }
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

/// Blocks that overlap are added up; sizes that are known only when the model runs change nothing.
#[test]
fn blocks_become_an_image() {
    let image = |computed: bool| {
        let mut m = Model::new(18);
        let x = m.input(DType::F32, &["1", "4", "2"]);
        let (sizes, inputs) = match computed {
            false => ([m.ints(&[2, 3]), m.ints(&[2, 2])], vec![counting(&[1, 4, 2])]),
            true => {
                let given = [[2, 3], [2, 2]].map(|sizes| Tensor::from_i64(&[2], &sizes));
                let sizes = [m.input(DType::I64, &["2"]), m.input(DType::I64, &["2"])];
                (sizes, [vec![counting(&[1, 4, 2])], given.to_vec()].concat())
            }
        };
        let y = m.add("Col2Im", &[x, sizes[0], sizes[1]], &[]);
        m.eval(y, &inputs)
    };
    let y = image(false);
    assert_eq!((y.shape(), y.to_f64()), (&[1, 1, 2, 3][..], vec![0.0, 3.0, 3.0, 4.0, 11.0, 7.0]));
    assert_eq!(image(true).to_f64(), y.to_f64());
}

#[test]
fn an_affine_map_that_changes_nothing_gives_places() {
    let places = |corners: i64| {
        let mut m = Model::new(20);
        let (theta, sizes) = (m.input(DType::F32, &["1", "2", "3"]), m.ints(&[1, 1, 2, 3]));
        let y = m.add("AffineGrid", &[theta, sizes], &[("align_corners", int(corners))]);
        assert_eq!(m.shape(y), "f32[1, 2, 3, 2]");
        m.eval(y, &[Tensor::from_f32(&[1, 2, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.5])]).to_f64()
    };
    assert_eq!(places(1), [-1.0, -0.5, 0.0, -0.5, 1.0, -0.5, -1.0, 1.5, 0.0, 1.5, 1.0, 1.5]);
    assert_eq!(places(0)[1], 0.0);
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
    let part = |x: &Tensor, axis: usize, from: usize, count: usize| {
        let mut shape = x.shape().to_vec();
        shape[axis] = count;
        Tensor::from_fn(DType::F32, &shape, |at| {
            let mut at = at.to_vec();
            at[axis] += from;
            x.at(&at)
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

#[test]
fn too_many_axes_are_refused_at_once() {
    let mut m = Model::new(25);
    let x = m.input(DType::F32, &["2", "n"]);
    let seven = m.input(DType::I64, &["7"]);
    let error = m.convert("Unsqueeze", &[x, seven], &[]).unwrap_err();
    assert_eq!(error.to_string(), "9 axes, and at most 8 are supported");
    let names = m.input(DType::F32, &["2"]);
    let error = m.convert("Unsqueeze", &[x, names], &[]).unwrap_err();
    assert_eq!(error.to_string(), "operand `axes` has element type f32, expected an integer");
    let sizes = m.b.constant(&Tensor::from_fn(DType::I64, &[65], |_| ir::Scalar::from_i64(DType::I64, 1)));
    let error = m.convert("Expand", &[x, Some(sizes)], &[]).unwrap_err();
    assert_eq!(error.to_string(), "65 axes, and at most 64 are supported");
}

#[test]
fn element_types_that_we_lack_are_named() {
    let mut m = Model::new(19);
    let x = m.input(DType::F32, &["n"]);
    let error = m.convert("Cast", &[x], &[("to", int(17))]).unwrap_err();
    assert!(error.to_string().starts_with("element type float8e4m3fn is not supported"), "{error}");
}

#[test]
fn the_reference_page_lists_every_op_once() {
    let page = ops::markdown();
    for entry in ops::ALL {
        assert_eq!(page.matches(&format!("\n| `{}` |", entry.op.name)).count(), 1, "{}", entry.op.name);
    }
    assert!(
        page.contains("| `softmax` | x | `axis`: an integer | Softmax, Softmax 13, Hardmax, Hardmax 13 |")
    );
}
