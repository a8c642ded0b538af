//! Images that are sampled, put together again, or convolved beside their places; and determinants.

use ir::tensor::for_each_index;

use super::*;

/// Boxes of an image whose elements are linear in their place: samples are what that says of their mean place.
#[test]
fn boxes_of_a_slope_are_their_middles() {
    let x = Tensor::from_fn(DType::F32, &[2, 1, 12, 10], |at| {
        Scalar::f32((100 * at[0] + 10 * at[2] + at[3]) as f32)
    });
    let rois = floats(&[2, 4], &[2.0, 4.0, 6.0, 12.0, 2.0, 2.0, 5.0, 4.0]);
    let which = i64s(&[2], &[1, 0]);
    for ratio in [0, 1, 3] {
        for (mode, shift) in [("half_pixel", 0.5), ("output_half_pixel", 0.0)] {
            let attrs = [
                ("output_height", int(2)),
                ("output_width", int(3)),
                ("sampling_ratio", int(ratio)),
                ("spatial_scale", number(0.5)),
                ("coordinate_transformation_mode", str(mode)),
            ];
            let y = run(16, "RoiAlign", &[x.clone(), rois.clone(), which.clone()], &attrs, 1).remove(0);
            let mut expected = Vec::new();
            for (image, [left, top, right, bottom]) in [(1, [1.0, 2.0, 3.0, 6.0]), (0, [1.0, 1.0, 2.5, 2.0])]
            {
                for row in 0..2 {
                    for column in 0..3 {
                        let place = |low: f64, high: f64, bin: i32, bins: f64| {
                            low - shift + (high - low) * (f64::from(bin) + 0.5) / bins
                        };
                        let (i, j) = (place(top, bottom, row, 2.0), place(left, right, column, 3.0));
                        expected.push(100.0 * f64::from(image) + 10.0 * i + j);
                    }
                }
            }
            assert_near(&y, &expected, &format!("{mode}, {ratio} samples"));
        }
    }
}

#[test]
fn what_is_far_outside_of_an_image_counts_as_0() {
    let x = Tensor::splat(Scalar::f32(4.0), &[1, 1, 4, 4]);
    let which = i64s(&[1], &[0]);
    let sample = |mode: &str, roi: [f32; 4]| {
        let attrs = [("mode", str(mode)), ("sampling_ratio", int(2))];
        run(22, "RoiAlign", &[x.clone(), floats(&[1, 4], &roi), which.clone()], &attrs, 1).remove(0).to_f64()
    };
    assert_eq!(sample("avg", [1.0, 1.0, 3.0, 3.0]), [4.0]);
    // Of two samples along an axis, one lies at −2.5.
    assert_eq!(sample("avg", [-3.0, 1.0, 1.0, 3.0]), [2.0]);
    assert_eq!(sample("avg", [10.0, 10.0, 12.0, 12.0]), [0.0]);
    assert_eq!(sample("max", [10.0, 10.0, 12.0, 12.0]), [0.0]);
    // At a place between four elements, each of which counts for a quarter.
    assert_eq!(sample("max", [1.0, 1.0, 3.0, 3.0]), [4.0]);
    assert_eq!(sample("max", [1.5, 1.5, 3.5, 3.5]), [1.0]);
}

#[test]
fn a_box_without_an_extent_is_empty() {
    let x = Tensor::splat(Scalar::f32(4.0), &[1, 1, 4, 4]);
    for mode in ["avg", "max"] {
        let rois = floats(&[2, 4], &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0]);
        let y =
            run(16, "RoiAlign", &[x.clone(), rois, i64s(&[2], &[0, 0])], &[("mode", str(mode))], 1).remove(0);
        assert_eq!(y.to_f64(), [0.0, 4.0], "{mode}");
    }
}

#[test]
fn what_was_pooled_goes_back_where_it_was() {
    let x = Tensor::from_fn(DType::F32, &[2, 2, 4, 6], |at| {
        Scalar::f32((at[0] * 48 + at[1] * 24 + (at[2] * 6 + at[3]) * 7 % 24) as f32 + 1.0)
    });
    let window = [("kernel_shape", ints(&[2, 3])), ("strides", ints(&[2, 3]))];
    let pooled = run(12, "MaxPool", std::slice::from_ref(&x), &window, 2);
    let back = run(11, "MaxUnpool", &pooled, &window, 1).remove(0);
    assert_eq!(back.shape(), x.shape());
    let largest = pooled[0].to_f64();
    let expected: Vec<f64> =
        x.to_f64().into_iter().map(|value| if largest.contains(&value) { value } else { 0.0 }).collect();
    assert_eq!(back.to_f64(), expected);
}

#[test]
fn an_image_may_be_put_back_into_a_larger_one() {
    let mut m = Model::new(11);
    let (x, places) = (m.input(DType::F32, &["1", "1", "2"]), m.input(DType::I64, &["1", "1", "2"]));
    let shape = m.ints(&[1, 1, 6]);
    let attrs = [("kernel_shape", ints(&[2])), ("strides", ints(&[2]))];
    let y = m.add("MaxUnpool", &[x, places, shape], &attrs);
    let y = m.eval(y, &[floats(&[1, 1, 2], &[5.0, 7.0]), i64s(&[1, 1, 2], &[1, 2])]);
    assert_eq!(y.to_f64(), [0.0, 5.0, 7.0, 0.0, 0.0, 0.0]);
}

/// Each element of the image adds a copy of the kernel to the result.
fn copies_of_kernels(x: &Tensor, w: &Tensor, shape: &[usize], at: Placing) -> Vec<f64> {
    let Placing { groups, stride, dilation, before } = at;
    let (inputs, outputs) = (x.shape()[1] / groups, w.shape()[1]);
    let mut y = vec![0.0; shape.iter().product()];
    for_each_index(x.shape(), |from| {
        for_each_index(&[outputs, w.shape()[2], w.shape()[3]], |tap| {
            let place = |axis: usize| {
                let place = from[axis + 2] * stride[axis] + tap[axis + 1] * dilation[axis];
                place.checked_sub(before[axis]).filter(|&place| place < shape[axis + 2])
            };
            if let (Some(i), Some(j)) = (place(0), place(1)) {
                let channel = from[1] / inputs * outputs + tap[0];
                let sum = &mut y[((from[0] * shape[1] + channel) * shape[2] + i) * shape[3] + j];
                *sum += x.at(from).to_f64() * w.at(&[from[1], tap[0], tap[1], tap[2]]).to_f64();
            }
        });
    });
    y
}

struct Placing {
    groups: usize,
    stride: Pair,
    dilation: Pair,
    before: Pair,
}

type Pair = [usize; 2];

/// Kernel, stride, dilation, what is cut off before and after, what is added.
type Transposed = (Pair, Pair, Pair, [usize; 4], Pair);

#[test]
fn a_transposed_convolution_adds_copies_of_its_kernel() {
    let cases: [Transposed; 8] = [
        ([2, 2], [2, 2], [1, 1], [0, 0, 0, 0], [0, 0]),
        ([4, 4], [2, 2], [1, 1], [1, 1, 1, 1], [0, 0]),
        ([3, 3], [2, 2], [1, 1], [1, 1, 1, 1], [1, 1]),
        ([5, 3], [2, 1], [1, 2], [2, 1, 2, 0], [0, 0]),
        ([3, 2], [2, 3], [1, 1], [0, 0, 1, 0], [1, 2]),
        ([1, 4], [2, 3], [1, 1], [0, 2, 0, 1], [1, 0]),
        ([7, 8], [3, 4], [1, 1], [5, 4, 4, 4], [2, 0]),
        ([2, 3], [2, 2], [2, 1], [1, 0, 0, 1], [0, 1]),
    ];
    for groups in [1, 2] {
        for (kernel, stride, dilation, pads, extra) in cases {
            let x = noise(&[2, 4, 3, 5]);
            let w = noise(&[4, 3, kernel[0], kernel[1]]);
            let list = |values: &[usize]| ints(&values.iter().map(|&value| value as i64).collect::<Vec<_>>());
            let attrs = [
                ("group", int(groups as i64)),
                ("strides", list(&stride)),
                ("dilations", list(&dilation)),
                ("pads", list(&pads)),
                ("output_padding", list(&extra)),
            ];
            let y = run(11, "ConvTranspose", &[x.clone(), w.clone()], &attrs, 1).remove(0);
            let size = |axis: usize| {
                let full = (x.shape()[axis + 2] - 1) * stride[axis] + (kernel[axis] - 1) * dilation[axis] + 1;
                full + extra[axis] - pads[axis] - pads[axis + 2]
            };
            assert_eq!(y.shape(), [2, 3 * groups, size(0), size(1)]);
            let at = Placing { groups, stride, dilation, before: [pads[0], pads[1]] };
            let expected = copies_of_kernels(&x, &w, y.shape(), at);
            assert_near(&y, &expected, &format!("{kernel:?} by {stride:?} in {groups} groups"));
        }
    }
}

fn deformed(offset: &Tensor, mask: Option<Tensor>, attrs: &[(&str, NodeAttr)]) -> (Tensor, [Tensor; 3]) {
    let (x, w, bias) = (noise(&[2, 4, 5, 6]), noise(&[4, 2, 2, 3]), floats(&[4], &[1.0, 2.0, 3.0, 4.0]));
    let mut operands = vec![x.clone(), w.clone(), offset.clone(), bias.clone()];
    operands.extend(mask);
    (run(19, "DeformConv", &operands, attrs, 1).remove(0), [x, w, bias])
}

#[test]
fn without_offsets_a_deformed_convolution_is_an_ordinary_one() {
    let attrs = [
        ("group", int(2)),
        ("strides", ints(&[1, 2])),
        ("dilations", ints(&[2, 1])),
        ("pads", ints(&[1, 0, 0, 2])),
    ];
    let offset = Tensor::splat(Scalar::f32(0.0), &[2, 2 * 2 * 2 * 3, 4, 3]);
    let grouped = [&attrs[..], &[("offset_group", int(2))]].concat();
    let (y, operands) = deformed(&offset, None, &grouped);
    let expected = run(11, "Conv", &operands, &attrs, 1).remove(0);
    assert_eq!(y.shape(), expected.shape());
    assert_near(&y, &expected.to_f64(), "no offsets");
    let half = Tensor::splat(Scalar::f32(0.5), &[2, 2 * 2 * 3, 4, 3]);
    let (y, [x, w, bias]) = deformed(&offset, Some(half), &grouped);
    let expected = run(11, "Conv", &[x, w], &attrs, 1).remove(0).to_f64();
    let bias = bias.to_f64();
    let expected: Vec<f64> = expected.iter().enumerate().map(|(i, y)| 0.5 * y + bias[i / 12 % 4]).collect();
    assert_near(&y, &expected, "half of everything");
}

/// One row down for the second half of the channels, and one and a half columns to the left for all.
#[test]
fn offsets_move_what_is_read() {
    let offset = Tensor::from_fn(DType::F32, &[2, 2 * 6 * 2, 4, 4], |at| {
        Scalar::f32(match (at[1] / 12, at[1] % 2) {
            (group, 0) => group as f32,
            _ => -1.5,
        })
    });
    let attrs = [("group", int(2)), ("offset_group", int(2))];
    let (y, [x, w, bias]) = deformed(&offset, None, &attrs);
    let moved = Tensor::from_fn(DType::F32, x.shape(), |at| {
        let read = |column: usize| {
            let row = at[2] + at[1] / 2;
            let place = [at[0], at[1], row, column.wrapping_sub(2)];
            if row < 5 && (2..8).contains(&column) { x.at(&place).to_f64() } else { 0.0 }
        };
        Scalar::f32(((read(at[3]) + read(at[3] + 1)) / 2.0) as f32)
    });
    let expected = run(11, "Conv", &[moved, w, bias], &[("group", int(2))], 1).remove(0);
    assert_near(&y, &expected.to_f64(), "offsets");
}

/// By minors along the first row.
fn determinant(x: &[Vec<f64>]) -> f64 {
    if x.is_empty() {
        return 1.0;
    }
    let minor = |column: usize| -> Vec<Vec<f64>> {
        let without = |row: &Vec<f64>| {
            row.iter().enumerate().filter(|(j, _)| *j != column).map(|(_, value)| *value).collect()
        };
        x[1..].iter().map(without).collect()
    };
    let sign = |column: usize| if column.is_multiple_of(2) { 1.0 } else { -1.0 };
    (0..x.len()).map(|column| sign(column) * x[0][column] * determinant(&minor(column))).sum()
}

#[test]
fn determinants_are_sums_over_minors() {
    let det = |x: &Tensor| run(11, "Det", std::slice::from_ref(x), &[], 1).remove(0);
    for size in 0..7 {
        let x = noise(&[2, 3, size, size]);
        let y = det(&x);
        assert_eq!(y.shape(), [2, 3]);
        let rows: Vec<Vec<f64>> = x.to_f64().chunks(size.max(1)).map(<[f64]>::to_vec).collect();
        let expected: Vec<f64> =
            (0..6).map(|i| determinant(rows.get(i * size..(i + 1) * size).unwrap_or(&[]))).collect();
        assert_near(&y, &expected, &format!("{size} rows"));
    }
    assert_eq!(det(&floats(&[2, 2], &[1.0, 2.0, 2.0, 4.0])).to_f64(), [0.0]);
    assert_eq!(det(&floats(&[2, 2], &[0.0, 2.0, 0.0, 4.0])).to_f64(), [0.0]);
    assert_eq!(det(&floats(&[3, 3], &[0.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])).to_f64(), [2.0]);
    assert_eq!(det(&floats(&[2, 2], &[0.0, 1.0, 1.0, 0.0])).to_f64(), [-1.0]);
    let mut m = Model::new(11);
    let x = m.input(DType::F32, &["2", "3"]);
    assert!(m.convert("Det", &[x], &[]).is_err());
}
