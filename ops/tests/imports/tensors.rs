//! Elements moved, counted, sorted, scattered and resampled.

use super::*;

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
    for other in [0, 2, 1 << 40] {
        let refused = m.convert_to("Split", &[x], &[("num_outputs", int(other))], &[true; 3]);
        assert!(refused.is_err(), "{other} parts, three outputs");
    }
    assert_eq!(m.eval(Some(parts[2]), &[counting(&[7])]).to_f64(), [6.0]);
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
fn sequences_are_reversed_up_to_their_lengths() {
    let mut m = Model::new(10);
    let (x, lengths) = (m.input(DType::F32, &["b", "t"]), m.input(DType::I64, &["b"]));
    let y = m.add("ReverseSequence", &[x, lengths], &[("batch_axis", int(0)), ("time_axis", int(1))]);
    let y = m.eval(y, &[counting(&[2, 4]), Tensor::from_i64(&[2], &[3, 1])]);
    assert_eq!(y.to_f64(), [2.0, 1.0, 0.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
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
