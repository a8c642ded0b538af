//! Weights that are stored in fewer bits than they are read in: their elements are what the parts say, in every view.

use ir::program::{Layout, PackedWeight};
use ir::scalar::Binary;
use ir::weight::Widened;
use ir::{DType, Scalar, Tensor, Weight};

/// Elements that differ from their neighbours.
fn tensor(dtype: DType, shape: &[usize]) -> Tensor {
    let mut at = 0u64;
    Tensor::from_fn(dtype, shape, |_| {
        at += 1;
        match dtype.is_float() {
            true => Scalar::from_f64(dtype, (at * 37 % 101) as f64 / 8.0 - 5.0),
            false => Scalar::from_bits(dtype, at * 37),
        }
    })
}

fn weight(dtype: DType, shape: &[usize]) -> Weight {
    Weight::from_tensor("w", &tensor(dtype, shape))
}

/// `(values − zero) · scale` of a matrix with a zero and a scale for each column, and what it is, element by element.
fn dequantized(dtype: DType, [rows, cols]: [usize; 2]) -> (Weight, Vec<Scalar>) {
    let (values, zero, scale) =
        (weight(dtype, &[rows, cols]), weight(DType::I8, &[cols]), weight(DType::F32, &[cols]));
    let element = |at: usize| {
        let [value, zero] = [values.get(at), zero.get(at % cols)].map(|x| x.cast(DType::F32));
        Binary::Mul.apply(Binary::Sub.apply(value, zero), scale.get(at % cols))
    };
    let all = (0..rows * cols).map(element).collect();
    let [zero, scale] = [&zero, &scale].map(|part| Some(part.stretched("", &[rows, cols])));
    let weight = Weight::widen("w", DType::F32, Widened { values: values.clone(), zero, scale });
    (weight.expect("the parts have one shape"), all)
}

#[test]
fn elements_are_computed_as_they_are_read() {
    for dtype in [DType::F16, DType::BF16, DType::I8, DType::U8, DType::I4, DType::U4] {
        let (weight, all) = dequantized(dtype, [70, 90]);
        assert_eq!(weight.values().collect::<Vec<_>>(), all, "{dtype}");
        assert_eq!(weight.tensor().values().collect::<Vec<_>>(), all, "{dtype}");
        let bytes = weight.stored().collect::<Vec<_>>().concat();
        assert_eq!(bytes, weight.tensor().bytes());
        let folded = Weight::from_tensor("f", &weight.tensor());
        assert_eq!(weight, folded, "equal contents are equal weights");
        assert!(weight.resident() < 70 * 90 * dtype.bytes() + 1000, "{dtype}: {}", weight.resident());
        assert!(weight.widened().is_some() && folded.widened().is_none());
    }
}

#[test]
fn views_are_views_of_what_is_stored() {
    let (weight, _) = dequantized(DType::I8, [6, 8]);
    let folded = Weight::from_tensor("f", &weight.tensor());
    let views = |w: &Weight| {
        let turned = w.permuted("t", &[1, 0]);
        let stack = Weight::stack("s", &[w.clone(), w.clone()]).expect("they have one type");
        let wide = Weight::concat("c", &[w, w], 1).expect("they have as many rows");
        let deep = w.reshaped("r", &[2, 3, 8]).expect("as many elements");
        vec![turned.clone(), stack, wide, deep, Weight::concat("c", &[&turned, &turned], 0).expect("fits")]
    };
    for (view, expected) in views(&weight).iter().zip(&views(&folded)) {
        assert!(view.widened().is_some(), "{view:?}");
        assert_eq!(view.tensor(), expected.tensor());
        assert_eq!(view.values().collect::<Vec<_>>(), expected.values().collect::<Vec<_>>());
    }
    // Together with another kind, it is what it is read as.
    let mixed = Weight::concat("m", &[&weight, &folded], 0).expect("they have as many columns");
    assert!(mixed.widened().is_none());
    assert_eq!(mixed.tensor(), Weight::concat("m", &[&folded, &folded], 0).expect("fits").tensor());
}

#[test]
fn a_stretched_weight_gives_its_elements_again() {
    let scales = weight(DType::F32, &[3, 1, 4]);
    let blocks = scales.stretched("s", &[2, 3, 5, 4]);
    let element = |at: usize| scales.get(at / 20 % 3 * 4 + at % 4);
    assert_eq!(blocks.values().collect::<Vec<_>>(), (0..120).map(element).collect::<Vec<_>>());
    let flat = blocks.reshaped("f", &[2, 15, 4]).expect("without a copy");
    assert_eq!((flat.tensor().bytes(), flat.resident()), (blocks.tensor().bytes(), 48));
    let turned = flat.permuted("t", &[2, 1, 0]);
    assert_eq!(turned.get(3 * 30 + 7 * 2), element(7 * 4 + 3));
    assert_eq!(blocks.stored().count(), 120);
    let rows = |layout_of: &Weight, depth| {
        let layout = Layout::Panels { outer: vec![(2, 60)], depth, cols: 4, row: 4, col: 1, offset: 0 };
        layout_of.equal_rows(&layout)
    };
    assert_eq!((rows(&flat, 15), rows(&flat, 5)), (5, 0));
}

#[test]
fn rounded_weights_are_the_nearest_numbers() {
    let floats = Weight::from_tensor("w", &Tensor::from_f32(&[3], &[1.0 / 3.0, 65504.0, 1e-9]));
    for dtype in [DType::BF16, DType::F16] {
        let rounded = floats.rounded("r", dtype);
        let expected: Vec<Scalar> = floats.values().map(|x| x.cast(dtype)).collect();
        assert_eq!((rounded.dtype(), rounded.values().collect::<Vec<_>>()), (dtype, expected.clone()));
        assert_eq!(rounded.tensor().values().collect::<Vec<_>>(), expected);
        assert!(rounded.widened().is_none());
        let turned = rounded.reshaped("t", &[3, 1]).expect("as many").permuted("t", &[1, 0]);
        assert_eq!(turned.values().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn two_numbers_of_4_bits_share_a_byte() {
    for (dtype, least) in [(DType::U4, 0), (DType::I4, 8)] {
        let weight = weight(dtype, &[2, 5, 40]);
        let layout =
            Layout::Nibbles { outer: vec![(2, 200)], depth: 5, cols: 40, row: 40, col: 1, offset: 0 };
        let packed = PackedWeight { name: "p".into(), weight: weight.clone(), layout };
        assert_eq!((packed.dtype(), packed.shape(), packed.size()), (DType::U8, vec![2, 2, 5, 16], 320));
        let bytes = packed.pack();
        for (at, byte) in bytes.values().enumerate() {
            let (group, panel, k, i) = (at / 160, at / 80 % 2, at / 16 % 5, at % 16);
            let column = |half: usize| panel * 32 + half * 16 + i;
            for half in 0..2 {
                let number = byte.to_i64() >> (4 * half) & 15;
                if column(half) < 40 {
                    let expected = weight.get(group * 200 + k * 40 + column(half)).to_i64() + least;
                    assert_eq!(number, expected, "{dtype} at {at}, half {half}");
                }
            }
        }
    }
}
