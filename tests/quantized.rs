//! Quantized layers as exporters write them, on every backend: bytes go from kernel to kernel, products multiply them as
//! they are, and nothing is dequantized but to be returned.
//!
//! Scales are powers of two and sums are short, so that results are the same bits whether floats are summed or bytes.

use harness::{Everywhere, Random, compile, run_native};
use ir::build::Build;
use ir::kernel::{Body, Gemm, Stmt};
use ir::op::OpError;
use ir::program::Program;
use ir::{DType, Dim, Graph, Scalar, Tensor, TensorType, Value};
use ops::linalg::conv::CONV;
use ops::linalg::matmul::MATMUL;
use ops::math::add::ADD;
use ops::math::cast::convert;
use ops::math::clip::CLIP;
use ops::math::div::DIV;
use ops::math::mul::MUL;
use ops::math::relu::RELU;
use ops::math::round::ROUND;
use ops::math::sub::SUB;
use ops::shape::gather::{AXIS, GATHER};
use ops::window::{DILATIONS, HIGH, LOW, STRIDES};

/// `saturate(round(x / scale) + zero)` as a `u8`.
fn quantize(b: &mut Build, x: Value, scale: f64, zero: f64) -> Result<Value, OpError> {
    let [scale, zero, least, most] = [scale, zero, 0.0, 255.0].map(|number| b.scalar(DType::F32, number));
    let scaled = b.op(&DIV, &[x, scale])?;
    let whole = b.op(&ROUND, &[scaled])?;
    let moved = b.op(&ADD, &[whole, zero])?;
    let inside = b.op(&CLIP, &[moved, least, most])?;
    convert(b, inside, DType::U8)
}

/// `(q − zero) · scale`; without a zero it is 0.
fn dequantize(b: &mut Build, q: Value, scale: Value, zero: Option<f64>) -> Result<Value, OpError> {
    let mut whole = convert(b, q, DType::I32)?;
    if let Some(zero) = zero {
        let zero = b.scalar(DType::I32, zero);
        whole = b.op(&SUB, &[whole, zero])?;
    }
    let values = convert(b, whole, DType::F32)?;
    b.op(&MUL, &[values, scale])
}

/// Weights from -3 to 3, with a scale for each index of an axis.
fn weights(b: &mut Build, seed: u64, shape: &[usize], axis: usize) -> Result<Value, OpError> {
    let mut random = Random::new(seed);
    let bytes =
        Tensor::from_fn(DType::I8, shape, |_| Scalar::from_i64(DType::I8, (random.bits() % 7) as i64 - 3));
    let mut scales = vec![1; shape.len()];
    scales[axis] = shape[axis];
    let scale = Tensor::from_fn(DType::F32, &scales, |at| {
        Scalar::from_f64(DType::F32, 0.5f64.powi(4 + (at[axis] % 3) as i32))
    });
    let (bytes, scale) = (b.constant(&bytes), b.constant(&scale));
    dequantize(b, bytes, scale, None)
}

/// Every product of the program.
fn products(program: &Program) -> Vec<Gemm> {
    let mut found = Vec::new();
    for kernel in &program.kernels {
        let Body::Loops(body) = &kernel.body else { panic!("{} has no loops", kernel.name) };
        body.iter().for_each(|stmt| {
            stmt.walk(&mut |stmt| {
                if let Stmt::Gemm(gemm) = stmt {
                    found.push((**gemm).clone());
                }
            });
        });
    }
    found
}

/// The program has so many kernels and products of bytes, and no buffer but of bytes.
fn is_of_bytes(program: &Program, kernels: usize, expected: usize) {
    assert_eq!(program.kernels.len(), kernels, "{program}");
    let products = products(program);
    assert!(
        products.len() == expected && products.iter().all(|gemm| gemm.dtype() == DType::I32),
        "{program}"
    );
    for buffer in program.entries.iter().flat_map(|entry| &entry.buffers) {
        assert_eq!(buffer.ty.dtype, DType::U8, "{program}");
    }
}

/// Two layers of a perceptron.
fn perceptron() -> Result<Graph, OpError> {
    let mut b = Build::new("perceptron");
    let x = b.input("x", TensorType::new(DType::F32, [Dim::symbol("n"), Dim::constant(70)]));
    let bias = Tensor::from_fn(DType::F32, &[96], |at| Scalar::f32(at[0] as f32 / 64.0 - 0.5));
    let (bias, scale) = (b.constant(&bias), b.scalar(DType::F32, 0.25));
    let q = quantize(&mut b, x, 0.25, 120.0)?;
    let x = dequantize(&mut b, q, scale, Some(120.0))?;
    let w = weights(&mut b, 1, &[70, 96], 1)?;
    let y = b.op(&MATMUL, &[x, w])?;
    let y = b.op(&ADD, &[y, bias])?;
    let y = b.op(&RELU, &[y])?;
    let q = quantize(&mut b, y, 0.25, 0.0)?;
    let x = dequantize(&mut b, q, scale, None)?;
    let w = weights(&mut b, 2, &[96, 64], 1)?;
    let y = b.op(&MATMUL, &[x, w])?;
    Ok(b.finish(vec![y]))
}

#[test]
fn layers_hand_over_bytes() {
    let mut everywhere = Everywhere::new("perceptron", &perceptron().expect("shapes fit"));
    is_of_bytes(everywhere.program(), 3, 2);
    let held: usize = everywhere.program().weights.iter().map(|packed| packed.size()).sum();
    // Columns by 32, rows by 4 and the sums behind them, with 4 bytes for each scale and bias.
    let panels = 96 * (72 + 4) + 64 * (96 + 4);
    assert!(held <= panels + 4 * (96 + 96 + 64), "{held} bytes\n{}", everywhere.program());
    for rows in [1, 5, 37] {
        everywhere.run(&[Random::new(rows as u64).tensor(DType::F32, &[rows, 70])]);
    }
}

/// A convolution, padded by so much on each side.
fn convolution(b: &mut Build, x: Value, w: Value, padding: i64) -> Result<Value, OpError> {
    let padding = vec![Dim::constant(padding); 2];
    let window =
        [LOW.is(padding.clone()), HIGH.is(padding), STRIDES.is(vec![1, 1]), DILATIONS.is(vec![1, 1])];
    b.op_with(&CONV, &[x, w], window)
}

/// A convolution with padding, which is the zero of the image, and one that goes on from it and from the image itself.
fn convolutions() -> Result<Graph, OpError> {
    let mut b = Build::new("convolutions");
    let image = b.input("image", TensorType::fixed(DType::U8, &[1, 32, 7, 7]));
    let scale = b.scalar(DType::F32, 0.25);
    let x = dequantize(&mut b, image, scale, Some(128.0))?;
    let w = weights(&mut b, 3, &[32, 32, 3, 3], 0)?;
    let y = convolution(&mut b, x, w, 1)?;
    let y = b.op(&ADD, &[y, x])?;
    let q = quantize(&mut b, y, 0.25, 100.0)?;
    let x = dequantize(&mut b, q, scale, Some(100.0))?;
    let w = weights(&mut b, 4, &[40, 32, 2, 2], 0)?;
    let y = convolution(&mut b, x, w, 0)?;
    Ok(b.finish(vec![y]))
}

#[test]
fn convolutions_read_bytes_and_so_does_a_residual() {
    let mut everywhere = Everywhere::new("convolutions", &convolutions().expect("shapes fit"));
    is_of_bytes(everywhere.program(), 2, 2);
    everywhere.run(&[Random::new(9).tensor(DType::U8, &[1, 32, 7, 7])]);
}

#[test]
fn rows_of_a_table_are_gathered_before_they_are_dequantized() {
    let mut b = Build::new("embedding");
    let ids = b.input("ids", TensorType::new(DType::I64, [Dim::symbol("n")]));
    let byte = |at: &[usize]| (at[0] * 7 + at[1]) % 256;
    let bytes = Tensor::from_fn(DType::U8, &[40000, 32], |at| Scalar::from_i64(DType::U8, byte(at) as i64));
    let (table, scale) = (b.constant(&bytes), b.scalar(DType::F32, 0.125));
    let rows = dequantize(&mut b, table, scale, Some(130.0)).expect("shapes fit");
    let y = b.op_with(&GATHER, &[rows, ids], [AXIS.is(0)]).expect("shapes fit");
    let program = compile(&b.finish(vec![y]), 2);
    assert_eq!(program.kernels.len(), 1, "{program}");
    assert_eq!(program.weights.iter().map(|packed| packed.size()).max(), Some(40000 * 32), "{program}");
    let row = |at: usize| at * 1234 % 40000;
    let ids = Tensor::from_fn(DType::I64, &[17], |at| Scalar::from_i64(DType::I64, row(at[0]) as i64));
    let found = run_native(&program, &[ids], 1).expect("it runs");
    let expected = Tensor::from_fn(DType::F32, &[17, 32], |at| {
        Scalar::f32((byte(&[row(at[0]), at[1]]) as f32 - 130.0) * 0.125)
    });
    assert_eq!(found, [expected]);
}
