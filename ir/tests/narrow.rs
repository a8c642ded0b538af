//! Narrow types: every code of every format, and every way to round to it, against a search for the nearest number.

use half::{bf16, f16};
use ir::dtype::Class;
use ir::float_format::{FloatFormat, Specials};
use ir::kernel::Reduce;
use ir::scalar::{Binary, Unary};
use ir::{DType, Scalar, Tensor, Weight};

/// The floats of 8 and fewer bits.
fn floats() -> impl Iterator<Item = (DType, FloatFormat)> {
    DType::ALL
        .into_iter()
        .filter(|dtype| dtype.is_narrow())
        .filter_map(|dtype| Some((dtype, FloatFormat::of(dtype)?)))
}

/// All codes, with their values.
fn codes(format: FloatFormat) -> Vec<(u32, f64)> {
    (0..1 << format.bits).map(|code| (code, format.decode(code))).collect()
}

/// The code nearest to `x` among all of them, by looking at each: of two equally near ones the even one, for powers of
/// two the larger one. What is nearer to the number that would follow the largest is the overflow.
fn nearest(format: FloatFormat, x: f64) -> u32 {
    let top = format.max();
    let step = top - format.decode(format.largest() - 1);
    // For powers of two the next number is twice the largest, not one step further.
    let step = if format.specials == Specials::Exponent { top } else { step };
    let size = x.abs();
    if x.is_nan() || (format.specials == Specials::Exponent && x <= format.min_positive() / 2.0) {
        let sign = if format.is_symmetric() && x.is_sign_negative() { format.sign() } else { 0 };
        return format.nan() | sign;
    }
    let odd = format.largest() & 1 == 1 || format.specials == Specials::Exponent;
    if size > top + step / 2.0 || (size == top + step / 2.0 && odd) {
        let sign =
            if format.overflow() == format.nan() && !format.is_symmetric() { 0 } else { format.sign() };
        return format.overflow() | if x < 0.0 { sign } else { 0 };
    }
    let distance = |value: f64| (value - size).abs();
    let positive =
        codes(format).into_iter().filter(|(code, value)| code & format.sign() == 0 && value.is_finite());
    let (code, _) = positive
        .reduce(|best, next| {
            let (a, b) = (distance(best.1), distance(next.1));
            let later =
                if format.specials == Specials::Exponent { a >= b } else { next.0 & 1 == 0 && a == b };
            if b < a || later { next } else { best }
        })
        .expect("a format has numbers");
    let unsigned_zero = format.specials == Specials::ZeroNan && code == 0;
    code | if x.is_sign_negative() && !unsigned_zero { format.sign() } else { 0 }
}

/// The nearest neighbours of a number.
fn around(x: f64) -> [f64; 3] {
    [x.next_down(), x, x.next_up()]
}

#[test]
fn formats_are_those_of_their_standards() {
    let facts = |dtype| {
        let format = FloatFormat::of(dtype).expect("a float");
        let nans = codes(format).into_iter().filter(|(_, value)| value.is_nan()).map(|(code, _)| code);
        let infinities =
            codes(format).into_iter().filter(|(_, value)| value.is_infinite()).map(|(code, _)| code);
        (format.max(), format.min_positive().log2(), nans.collect::<Vec<_>>(), infinities.collect::<Vec<_>>())
    };
    assert_eq!(facts(DType::F8E4M3FN), (448.0, -9.0, vec![0x7f, 0xff], vec![]));
    assert_eq!(facts(DType::F8E4M3FNUZ), (240.0, -10.0, vec![0x80], vec![]));
    let nans = vec![0x7d, 0x7e, 0x7f, 0xfd, 0xfe, 0xff];
    assert_eq!(facts(DType::F8E5M2), (57344.0, -16.0, nans, vec![0x7c, 0xfc]));
    assert_eq!(facts(DType::F8E5M2FNUZ), (57344.0, -17.0, vec![0x80], vec![]));
    assert_eq!(facts(DType::F8E8M0), (2f64.powi(127), -127.0, vec![0xff], vec![]));
    assert_eq!(facts(DType::F4E2M1), (6.0, -1.0, vec![], vec![]));
    let e2m1 =
        codes(FloatFormat::of(DType::F4E2M1).expect("a float")).into_iter().take(8).map(|(_, value)| value);
    assert_eq!(e2m1.collect::<Vec<_>>(), [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
    // One of each family in full, as the standards' tables have them.
    let of = |dtype, code| Scalar::from_bits(dtype, code).to_f64();
    assert_eq!(
        [0x01, 0x07, 0x08, 0x38, 0xfe].map(|code| of(DType::F8E4M3FN, code)),
        [2f64.powi(-9), 7.0 * 2f64.powi(-9), 2f64.powi(-6), 1.0, -448.0]
    );
    assert_eq!(
        [0x03, 0x04, 0x3c, 0x7b].map(|code| of(DType::F8E5M2, code)),
        [3.0 * 2f64.powi(-16), 2f64.powi(-14), 1.0, 57344.0]
    );
}

#[test]
fn what_is_decoded_encodes_to_itself() {
    for (dtype, format) in floats() {
        for (code, value) in codes(format) {
            let back = Scalar::from_f64(dtype, value);
            match value.is_nan() {
                true => assert!(back.to_f64().is_nan(), "{dtype} {code:#x}"),
                false => assert_eq!(u64::from(code), back.bits(), "{dtype} {value}"),
            }
            let read = Scalar::read(dtype, &[code as u8]);
            assert_eq!((read.bits(), read.cast(DType::F32).cast(dtype)), (u64::from(code), back));
        }
    }
}

#[test]
fn numbers_round_to_the_nearest_code() {
    for (dtype, format) in floats() {
        let mut numbers: Vec<f64> =
            codes(format).into_iter().map(|(_, value)| value).filter(|v| v.is_finite()).collect();
        numbers.sort_by(f64::total_cmp);
        let beyond = [2.0, 1.5, 1.0625, 1.03125, 1.02, 1e30].map(|factor| format.max() * factor);
        numbers.extend(beyond.iter().flat_map(|&x| [x, -x]));
        let least = format.min_positive();
        numbers.extend([0.25, 0.5, 0.75, 1e-30].iter().flat_map(|factor| [least * factor, -least * factor]));
        let middles: Vec<f64> = numbers.windows(2).map(|pair| pair[0] / 2.0 + pair[1] / 2.0).collect();
        for x in numbers.into_iter().chain(middles).flat_map(around) {
            assert_eq!(format.encode(x), nearest(format, x), "{dtype}: {x:e}");
            // Neighbours of an f32, too, by way of that type.
            for single in [(x as f32).next_down(), x as f32, (x as f32).next_up()] {
                let found = Scalar::f32(single).cast(dtype).bits();
                assert_eq!(found, u64::from(nearest(format, f64::from(single))), "{dtype}: {single:e}");
            }
        }
        for special in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0] {
            assert_eq!(format.encode(special), nearest(format, special), "{dtype}: {special}");
        }
    }
}

#[test]
fn any_bits_of_an_f32_round_to_the_nearest_code() {
    let mut state = 1u32;
    for (dtype, format) in floats() {
        for _ in 0..4000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = f32::from_bits(state);
            let found = Scalar::f32(x).cast(dtype).bits();
            assert_eq!(found, u64::from(nearest(format, f64::from(x))), "{dtype}: {x:e}");
        }
    }
}

/// The table describes the 16-bit floats, too: it agrees with the crate that converts those.
#[test]
fn the_table_agrees_with_known_halves() {
    let [half, brain] = [DType::F16, DType::BF16].map(|dtype| FloatFormat::of(dtype).expect("a float"));
    for code in 0..=u16::MAX {
        let known = [f16::from_bits(code).to_f64(), bf16::from_bits(code).to_f64()];
        for ((format, dtype), value) in [(half, DType::F16), (brain, DType::BF16)].into_iter().zip(known) {
            let found = format.decode(u32::from(code));
            assert!(found == value || (found.is_nan() && value.is_nan()), "{code:#x}: {found} {value}");
            if value.is_nan() {
                continue;
            }
            assert_eq!(format.encode(value), u32::from(code));
            for x in around(value * (1.0 + 2f64.powi(-9))) {
                assert_eq!(u64::from(format.encode(x)), Scalar::from_f64(dtype, x).bits(), "{x:e}");
            }
        }
    }
}

#[test]
fn integers_of_few_bits_wrap() {
    for dtype in [DType::I4, DType::U4, DType::I2, DType::U2] {
        let size = 1i64 << dtype.bits();
        let low = if dtype.class() == Class::Signed { -size / 2 } else { 0 };
        for value in -40..40 {
            let expected = (value - low).rem_euclid(size) + low;
            assert_eq!(Scalar::from_i64(dtype, value).to_i64(), expected, "{dtype} {value}");
            assert_eq!(
                Scalar::from_f64(dtype, value as f64 + 0.5 * (value.signum() as f64)).to_i64(),
                expected
            );
            let scalar = Scalar::from_i64(dtype, expected);
            // In storage, the byte of the value.
            let mut bytes = Vec::new();
            scalar.append_to(&mut bytes);
            assert_eq!(bytes, [expected as u8]);
            assert_eq!(Scalar::read(dtype, &bytes), scalar);
            assert_eq!(scalar.cast(DType::F32).to_f64(), expected as f64);
        }
        assert_eq!(Scalar::from_f64(dtype, f64::NAN).to_i64(), 0);
        assert_eq!([Reduce::Max, Reduce::Min].map(|op| op.neutral(dtype).to_i64()), [low, low + size - 1]);
    }
}

#[test]
fn narrow_types_have_no_arithmetic() {
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_narrow()) {
        assert_eq!(dtype.bytes(), 1);
        assert!(!dtype.arithmetic().is_narrow());
        assert!(Binary::ALL.iter().all(|f| !f.accepts(dtype)));
        let accepted = Unary::ALL.iter().filter(|f| f.accepts(dtype)).count();
        assert_eq!(accepted, if dtype.is_float() { 2 } else { 0 });
    }
}

#[test]
fn tensors_of_narrow_elements() {
    let tensor = Tensor::from_fn(DType::I4, &[3], |at| Scalar::from_i64(DType::I4, at[0] as i64 - 2));
    assert_eq!((tensor.bytes(), tensor.to_i64()), ([0xfe, 0xff, 0].as_slice(), vec![-2, -1, 0]));
    let tensor = Tensor::splat(Scalar::from_f64(DType::F8E4M3FN, -1.125), &[2]);
    assert_eq!((tensor.bytes(), tensor.to_f64()), ([0xb9, 0xb9].as_slice(), vec![-1.125; 2]));
}

/// What several elements in each byte are, the first in the lowest bits; of bytes that lie otherwise, nothing.
#[test]
fn bytes_are_several_elements_each() {
    let bytes = Tensor::new(DType::U8, vec![2, 2], vec![0x21, 0x43, 0x65, 0xb7]).expect("four bytes");
    let weight = Weight::from_tensor("w", &bytes);
    let nibbles = weight.split("n", DType::U4).expect("bytes");
    assert_eq!((nibbles.name(), nibbles.dtype(), nibbles.shape()), ("n", DType::U4, &[2, 4][..]));
    assert_eq!(nibbles.tensor().to_i64(), [1, 2, 3, 4, 5, 6, 7, 11]);
    let pairs = weight.split("p", DType::U2).expect("bytes");
    assert_eq!(pairs.tensor().to_i64(), [1, 0, 2, 0, 3, 0, 0, 1, 1, 1, 2, 1, 3, 1, 3, 2]);
    let floats = weight.split("f", DType::F4E2M1).expect("bytes");
    assert_eq!(floats.tensor().to_f64(), [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -1.5]);
    assert!(weight.permuted("t", &[1, 0]).split("n", DType::U4).is_none());
    let signed = Tensor::new(DType::I8, vec![1], vec![7]).expect("one byte");
    assert!(Weight::from_tensor("i", &signed).split("n", DType::U4).is_none());
    assert!(
        Weight::from_tensor("s", &Tensor::scalar(Scalar::from_i64(DType::U8, 3)))
            .split("n", DType::U4)
            .is_none()
    );
}
