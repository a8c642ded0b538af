//! Sizes: known ones, symbols, what is computed from them, and what is known only when the model runs.

use super::*;

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
fn a_mean_over_a_symbolic_axis_divides_by_its_size() {
    let mut m = Model::new(17);
    let x = m.input(DType::F32, &["n", "2"]);
    let y = m.add("ReduceMean", &[x], &[("axes", ints(&[0]))]);
    assert_eq!(m.eval(y, &[counting(&[3, 2])]).to_f64(), [2.0, 3.0]);
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
    let ones = [("value", NodeAttr::Tensor(ir::Weight::from_tensor("", &Tensor::from_i64(&[1], &[1]))))];
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

/// Large numbers are no sizes: what is known of them is what they are.
#[test]
fn arithmetic_on_numbers_wraps_where_it_is_known() {
    let big = i64::from_ne_bytes(0x9E37_79B9_7F4A_7C15_u64.to_ne_bytes());
    for dtype in [DType::I64, DType::U64] {
        for (op, expected) in [("Mul", big.wrapping_mul(big)), ("Add", big.wrapping_add(big)), ("Max", big)] {
            let (mut b, number) = (Build::new("numbers"), Tensor::scalar(Scalar::from_i64(dtype, big)));
            let (x, other) = (b.constant(&number), b.constant(&Tensor::scalar(Scalar::from_i64(dtype, 1))));
            let operand = if op == "Max" { other } else { x };
            let op = ops::find(&op.to_lowercase()).expect("an op");
            let y = b.op(op, &[x, operand]).expect("numbers of one type");
            let known = Known::new().of(b.graph(), y).and_then(|sizes| sizes[0].as_const());
            let value = ir::graph::eval(&b.finish(vec![y]), &[]).expect("evaluates").remove(0).to_i64()[0];
            if dtype == DType::U64 || op.name != "max" {
                assert_eq!(value, expected, "{} of {dtype}", op.name);
            }
            assert_eq!(known.unwrap_or(value), value, "{} of {dtype}", op.name);
            assert_eq!(known.is_some(), dtype == DType::I64, "{} of {dtype}", op.name);
        }
    }
    // A coefficient that no size has.
    let mut m = Model::new(13);
    let x = m.input(DType::F32, &["n"]);
    let (n, factor) = (m.add("Shape", &[x], &[]), m.ints(&[big]));
    let once = m.add("Mul", &[n, factor], &[]);
    let twice = m.add("Mul", &[once, factor], &[]);
    assert_eq!(m.sizes.borrow_mut().of(m.b.graph(), twice.expect("a value")), None);
    let found = m.eval(twice, &[counting(&[3])]).to_i64();
    assert_eq!(found, [3_i64.wrapping_mul(big).wrapping_mul(big)]);
}
