//! Casts to narrow types and back, by ONNX's tables, and quantization to them.

use ir::{DType, Scalar, Tensor};
use ops::onnx::ImportError;

use crate::{Model, int, str};

/// The numbers of narrow types in `TensorProto.DataType`.
const E4M3FN: i64 = 17;
const E4M3FNUZ: i64 = 18;
const E5M2: i64 = 19;
const E5M2FNUZ: i64 = 20;
const U4: i64 = 21;
const I4: i64 = 22;
const E2M1: i64 = 23;
const E8M0: i64 = 24;

/// What a cast of these numbers gives, as bits and as numbers.
fn cast(from: DType, values: &[f64], attrs: &[(&str, ops::onnx::NodeAttr)]) -> (Vec<u64>, Vec<f64>) {
    let mut m = Model::new(25);
    let x = m.input(from, &["n"]);
    let y = m.add("Cast", &[x], attrs);
    let x = Tensor::from_fn(from, &[values.len()], |at| Scalar::from_f64(from, values[at[0]]));
    let y = m.eval(y, &[x]);
    (y.values().map(Scalar::bits).collect(), y.to_f64())
}

/// Equal numbers, where NaN is equal to itself.
fn same(found: &[f64], expected: &[f64]) {
    let equal = |(a, b): (&f64, &f64)| {
        a == b && a.is_sign_negative() == b.is_sign_negative() || a.is_nan() && b.is_nan()
    };
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(equal),
        "found {found:?}, expected {expected:?}"
    );
}

#[test]
fn casts_saturate_by_the_table() {
    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;
    let x = [0.0, -0.0, NAN, INF, -INF, 1e6, -1e6, 0.3];
    for (to, max, zero, rounded) in [
        (E4M3FN, 448.0, -0.0, 0.3125),
        (E4M3FNUZ, 240.0, 0.0, 0.3125),
        (E5M2, 57344.0, -0.0, 0.3125),
        (E5M2FNUZ, 57344.0, 0.0, 0.3125),
    ] {
        for from in [DType::F32, DType::F64] {
            let (_, y) = cast(from, &x, &[("to", int(to))]);
            same(&y, &[0.0, zero, NAN, max, -max, max, -max, rounded]);
            let (_, y) = cast(from, &x, &[("to", int(to)), ("saturate", int(0))]);
            let over = if to == E5M2 { INF } else { NAN };
            same(&y, &[0.0, zero, NAN, over, -over, over, -over, rounded]);
        }
    }
    // What rounds to the largest number is not beyond it.
    let (_, y) = cast(DType::F32, &[464.0, 464.1], &[("to", int(E4M3FN)), ("saturate", int(0))]);
    same(&y, &[448.0, NAN]);
    // Integers are no exception, and are rounded once.
    let (_, y) = cast(DType::I64, &[1000.0, -17.0, 25.0], &[("to", int(E4M3FN))]);
    same(&y, &[448.0, -16.0, 24.0]);
    let (bits, y) = cast(DType::F16, &[0.25, 0.75, -3.5, 100.0, -INF, -0.0], &[("to", int(E2M1))]);
    same(&y, &[0.0, 1.0, -4.0, 6.0, -6.0, -0.0]);
    assert_eq!(bits, [0, 2, 14, 7, 15, 8]);
}

#[test]
fn powers_of_two_round_as_asked() {
    let (least, most) = (2f64.powi(-127), 2f64.powi(127));
    let x = [0.0, 1.0, 1.25, 1.5, 2f64.powi(-127) * 1.5, 3.4e38, f64::INFINITY, f64::NAN];
    let of = |mode: &str, saturate: i64| {
        cast(DType::F32, &x, &[("to", int(E8M0)), ("round_mode", str(mode)), ("saturate", int(saturate))]).1
    };
    same(&of("up", 1), &[least, 1.0, 2.0, 2.0, least * 2.0, most, most, f64::NAN]);
    same(&of("down", 1), &[least, 1.0, 1.0, 1.0, least, most, most, f64::NAN]);
    same(&of("nearest", 1), &[least, 1.0, 1.0, 2.0, least * 2.0, most, most, f64::NAN]);
    let none = f64::NAN;
    same(&of("up", 0), &[none, 1.0, 2.0, 2.0, least * 2.0, none, none, none]);
    same(&of("down", 0), &[none, 1.0, 1.0, 1.0, least, most, none, none]);
    same(&of("nearest", 0), &[none, 1.0, 1.0, 2.0, least * 2.0, none, none, none]);
    // What an f32 does not tell from a power of two is still above it.
    let (_, y) = cast(DType::F64, &[1.0 + 1e-12, -1.0], &[("to", int(E8M0)), ("saturate", int(0))]);
    same(&y, &[2.0, f64::NAN]);
    let mut m = Model::new(25);
    let x = m.input(DType::F32, &["n"]);
    let error = m.convert("Cast", &[x], &[("to", int(E8M0)), ("round_mode", str("even"))]).unwrap_err();
    assert_eq!(error.to_string(), "attribute `round_mode`: expected `up`, `down` or `nearest`, found `even`");
}

#[test]
fn integers_of_few_bits_wrap() {
    let (_, y) = cast(DType::F32, &[-9.0, -8.0, 7.9, 8.0, 21.0], &[("to", int(I4))]);
    same(&y, &[7.0, -8.0, 7.0, -8.0, 5.0]);
    let (_, y) = cast(DType::I32, &[-1.0, 16.0, 15.0], &[("to", int(U4))]);
    same(&y, &[15.0, 0.0, 15.0]);
}

#[test]
fn quantization_to_narrow_types() {
    let x = [0.3, -1.9, 7.0, 100.0, -100.0, 0.0];
    let quantized = |to: i64, saturate: i64, zero: Option<f64>| {
        let mut m = Model::new(25);
        let input = m.input(DType::F32, &["n"]);
        let scale = m.scalar(DType::F32, 0.125);
        let dtype = ops::onnx::dtype_of(to).expect("a type that we have");
        let zero = zero.and_then(|zero| m.scalar(dtype, zero));
        let y = m.add(
            "QuantizeLinear",
            &[input, scale, zero],
            &[("output_dtype", int(to)), ("saturate", int(saturate))],
        );
        let back = m.add("DequantizeLinear", &[y, scale, zero], &[]);
        let y = m.add("Cast", &[y], &[("to", int(11))]);
        let back = m.add("Cast", &[back], &[("to", int(11))]);
        let y = m.add("Concat", &[y, back], &[("axis", int(0))]);
        m.eval(y, &[Tensor::from_f32(&[6], &x.map(|x| x as f32))]).to_f64()
    };
    let nan = f64::NAN;
    same(
        &quantized(E4M3FN, 1, None),
        &[2.5, -15.0, 56.0, 448.0, -448.0, 0.0, 0.3125, -1.875, 7.0, 56.0, -56.0, 0.0],
    );
    same(&quantized(E4M3FN, 0, None), &[2.5, -15.0, 56.0, nan, nan, 0.0, 0.3125, -1.875, 7.0, nan, nan, 0.0]);
    same(&quantized(E2M1, 1, None), &[2.0, -6.0, 6.0, 6.0, -6.0, 0.0, 0.25, -0.75, 0.75, 0.75, -0.75, 0.0]);
    same(
        &quantized(I4, 1, Some(1.0)),
        &[3.0, -8.0, 7.0, 7.0, -8.0, 1.0, 0.25, -1.125, 0.75, 0.75, -1.125, 0.0],
    );
    same(
        &quantized(U4, 1, Some(8.0)),
        &[10.0, 0.0, 15.0, 15.0, 0.0, 8.0, 0.25, -1.0, 0.875, 0.875, -1.0, 0.0],
    );
}

/// A format of the microscaling kind: numbers of four bits, and one power of two for each block.
#[test]
fn blocks_with_powers_of_two() {
    let mut m = Model::new(25);
    let codes = Tensor::from_fn(DType::F4E2M1, &[2, 4], |at| {
        Scalar::from_bits(DType::F4E2M1, (4 * at[0] + at[1]) as u64)
    });
    let powers = Tensor::from_fn(DType::F8E8M0, &[2, 2], |at| {
        Scalar::from_bits(DType::F8E8M0, (126 + 2 * at[0] + at[1]) as u64)
    });
    let (x, scale) = (Some(m.b.constant(&codes)), Some(m.b.constant(&powers)));
    let attrs = [("axis", int(1)), ("block_size", int(2)), ("output_dtype", int(1))];
    let y = m.add("DequantizeLinear", &[x, scale], &attrs);
    same(&m.eval(y, &[]).to_f64(), &[0.0, 0.25, 1.0, 1.5, 4.0, 6.0, 16.0, 24.0]);
}

#[test]
fn there_is_no_arithmetic_on_narrow_types() {
    let mut m = Model::new(25);
    let x = m.input(DType::F8E4M3FN, &["n", "4"]);
    for (op, inputs) in [("Add", vec![x, x]), ("Relu", vec![x]), ("Softmax", vec![x]), ("MatMul", vec![x, x])]
    {
        let error = m.convert(op, &inputs, &[]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.ends_with("has element type f8e4m3fn, expected a type with arithmetic, which a cast gives"),
            "{op}: {text}"
        );
    }
    let y = m.add("IsNaN", &[x], &[]);
    assert_eq!(m.shape(y), "bool[n, 4]");
    let (scale, x) = (m.scalar(DType::F32, 1.0), m.input(DType::F32, &["n"]));
    let error = m.convert("QuantizeLinear", &[x, scale], &[("output_dtype", int(E8M0))]).unwrap_err();
    assert!(matches!(error, ImportError::Unsupported { .. }), "{error}");
    assert!(error.to_string().starts_with("quantization to f8e8m0 is not supported"), "{error}");
}
