//! Operands for every op: ordinary, broadcast, symbolic, empty, odd-sized, and with NaN and infinities.

use ir::attr::{Attr, AttrValue};
use ir::op::{Arity, OpDef};
use ir::{DType, Dim, Region, Scalar, Tensor, TensorType};

/// An op applied to something.
pub(crate) struct Sample {
    pub(crate) op: &'static OpDef,
    pub(crate) attrs: Vec<(&'static str, Attr)>,
    pub(crate) operands: Vec<(TensorType, Tensor)>,
}

/// Small numbers of both signs that differ from place to place; the same every time.
pub(crate) fn tensor(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    Tensor::from_fn(dtype, shape, |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = (state >> 40) as f64 / (1u64 << 24) as f64;
        match dtype.class() {
            ir::dtype::Class::Float => Scalar::from_f64(dtype, unit * 4.0 - 2.0),
            ir::dtype::Class::Bool => Scalar::bool(unit < 0.5),
            ir::dtype::Class::Signed => Scalar::from_i64(dtype, (unit * 20.0) as i64 - 10),
            ir::dtype::Class::Unsigned => Scalar::from_i64(dtype, (unit * 20.0) as i64),
        }
    })
}

/// NaN, infinities, zeros of both signs, and ordinary numbers.
fn special(dtype: DType, shift: usize) -> Tensor {
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1.5, -2.5, 0.5, 3.0, -1.0, 7.0];
    Tensor::from_fn(dtype, &[121], |at| {
        let i = if shift == 0 { at[0] % 11 } else { at[0] / 11 };
        Scalar::from_f64(dtype, values[i])
    })
}

/// The same in a shape of 121 elements.
fn special_in(shape: &[usize], dtype: DType, shift: usize) -> Tensor {
    special(dtype, shift).reshaped(shape).expect("it has 121 elements")
}

fn ty(dtype: DType, text: &str) -> TensorType {
    let sizes = text.split_whitespace().map(|size| match size.parse::<i64>() {
        Ok(number) => Dim::constant(number),
        Err(_) => Dim::symbol(size),
    });
    TensorType::new(dtype, sizes)
}

/// The sizes of `text`, where `n`, `m` and `k` stand for these numbers.
fn sizes(text: &str, n: [usize; 3]) -> Vec<usize> {
    let number = |size: &str| match size {
        "n" => n[0],
        "m" => n[1],
        "k" => n[2],
        other => other.parse().expect("a size is n, m, k or a number"),
    };
    text.split_whitespace().map(number).collect()
}

struct Samples(Vec<Sample>);

const SIZES: [[usize; 3]; 4] = [[3, 4, 2], [1, 1, 1], [0, 3, 5], [2, 0, 7]];

impl Samples {
    /// Operands of these shapes, for each choice of sizes.
    fn add(&mut self, op: &'static OpDef, attrs: &[(&'static str, Attr)], operands: &[(DType, &str)]) {
        let symbolic = operands.iter().any(|(_, shape)| shape.contains(|c: char| c.is_alphabetic()));
        for n in &SIZES[..if symbolic { 4 } else { 1 }] {
            self.add_sized(op, attrs, operands, *n);
        }
    }

    fn add_sized(
        &mut self,
        op: &'static OpDef,
        attrs: &[(&'static str, Attr)],
        operands: &[(DType, &str)],
        n: [usize; 3],
    ) {
        let operand = |(seed, (dtype, shape)): (usize, &(DType, &str))| {
            (ty(*dtype, shape), tensor(*dtype, &sizes(shape, n), seed as u64 + 1))
        };
        let operands = operands.iter().enumerate().map(operand).collect();
        self.0.push(Sample { op, attrs: attrs.to_vec(), operands });
    }

    fn add_tensors(&mut self, op: &'static OpDef, attrs: &[(&'static str, Attr)], operands: &[Tensor]) {
        let operands = operands.iter().map(|tensor| (tensor.ty(), tensor.clone())).collect();
        self.0.push(Sample { op, attrs: attrs.to_vec(), operands });
    }
}

fn is(key: &'static str, value: impl AttrValue) -> (&'static str, Attr) {
    (key, value.into_attr())
}

fn dims(text: &str) -> Vec<Dim> {
    ty(DType::F32, text).shape
}

fn numbers(values: &[i64]) -> Vec<Dim> {
    values.iter().map(|&v| Dim::constant(v)).collect()
}

/// Samples of one op.
pub(crate) fn samples(op: &'static OpDef) -> Vec<Sample> {
    use DType::{
        BF16, Bool, F4E2M1, F8E4M3FN, F8E5M2, F8E8M0, F16, F32, F64, I2, I4, I8, I32, I64, U2, U4, U8, U64,
    };
    let mut all = Samples(Vec::new());
    let s = &mut all;
    let window = |kernel: &[i64], strides: &[i64], dilations: &[i64], low: &[i64], high: &[i64]| {
        vec![
            is("kernel", kernel.to_vec()),
            is("strides", strides.to_vec()),
            is("dilations", dilations.to_vec()),
            is("low", numbers(low)),
            is("high", numbers(high)),
        ]
    };
    match op.name {
        "where" => {
            s.add(op, &[], &[(Bool, "n 3"), (F32, "n 3"), (F32, "3")]);
            s.add(op, &[], &[(Bool, ""), (I64, "n 1"), (I64, "1 m")]);
            s.add(op, &[], &[(Bool, "n"), (F16, "n"), (F16, "")]);
            s.add(op, &[], &[(Bool, "n"), (F8E4M3FN, "n"), (F8E4M3FN, "")]);
            s.add(op, &[], &[(Bool, "n"), (I4, "n"), (I4, "n")]);
        }
        "cast" => {
            for to in DType::ALL {
                for from in DType::ALL {
                    s.add_sized(op, &[is("to", to)], &[(from, "n 5")], [4, 0, 0]);
                }
                s.add_tensors(op, &[is("to", to)], &[special(F32, 0)]);
            }
        }
        "bitcast" => {
            for (from, to) in [
                (F32, I32),
                (I32, F32),
                (F16, BF16),
                (I64, F64),
                (I8, U8),
                (F16, F16),
                (Bool, U8),
                (I8, Bool),
                (I4, U4),
                (U4, F4E2M1),
                (U2, I2),
                (F8E8M0, F8E5M2),
            ] {
                s.add(op, &[is("to", to)], &[(from, "n 3")]);
            }
            s.add_tensors(op, &[is("to", I32)], &[special(F32, 0)]);
        }
        "clip" => {
            s.add(op, &[], &[(F32, "n 3"), (F32, ""), (F32, "")]);
            s.add(op, &[], &[(I8, "n 3"), (I8, ""), (I8, "")]);
            let bound = |value: f64| Tensor::scalar(Scalar::from_f64(F32, value));
            s.add_tensors(op, &[], &[special(F32, 0), bound(-1.0), bound(2.0)]);
        }
        "prelu" => {
            s.add(op, &[], &[(F32, "n 3 m"), (F32, "3 1")]);
            s.add(op, &[], &[(F16, "n 3"), (F16, "1")]);
        }
        "gelu" => {
            for approximate in ["none", "tanh"] {
                let attrs = [is("approximate", approximate.to_owned())];
                s.add(op, &attrs, &[(F32, "n 3")]);
                s.add(op, &attrs, &[(BF16, "n 3")]);
                s.add_tensors(op, &attrs, &[special(F32, 0)]);
            }
        }
        "matmul" => {
            for dtype in [F32, F16, F64, I32, U8] {
                s.add(op, &[], &[(dtype, "n k"), (dtype, "k m")]);
            }
            s.add(op, &[], &[(F32, "2 1 n k"), (F32, "3 k m")]);
            s.add(op, &[], &[(F32, "n 1 5"), (F32, "5 m")]);
            s.add(op, &[], &[(F32, "1 5"), (F32, "4 5 1")]);
            let special = special_in(&[11, 11], F32, 0);
            s.add_tensors(op, &[], &[special.clone(), special]);
        }
        "attention" => {
            let plain = [(F32, "2 n 4"), (F32, "2 m 4"), (F32, "2 m 3")];
            s.add(op, &[], &plain);
            s.add(op, &[], &[(F32, "3 4"), (F32, "5 4"), (F32, "5 k")]);
            s.add(op, &[], &[(F32, "k 2 3 n 4"), (F32, "k 2 1 5 4"), (F32, "k 2 1 5 6")]);
            s.add(op, &[], &[(F32, "3 4"), (F32, "2 1 5 4"), (F32, "3 5 2")]);
            let score = |text: &str| is("score", Region::parse(text).expect("a region"));
            let causal = score("(%s: f32) -> select(i2 <= i1, %s * 0.5, -inf)");
            s.add(op, &[causal], &plain);
            let window = score("(%s: f32) -> select(i2 <= i1 + m && i1 <= i2 + 1, %s, -inf)");
            s.add(op, &[window], &plain);
            let bias =
                score("(%s: f32, %x3: f32, %x4: f32) -> %s / 2.0 + %x3[i1, i2] - %x4[0] * cast<f32>(i0)");
            s.add(op, &[bias], &[plain[0], plain[1], plain[2], (F32, "n m"), (F32, "1")]);
            let masked = score("(%s: f32, %x3: bool) -> select(%x3[i0, 0, i2], tanh(%s), -inf)");
            s.add(op, &[masked], &[plain[0], plain[1], plain[2], (Bool, "2 n m")]);
        }
        "combine" => {
            s.add(op, &[], &[(F32, "n 3 m"), (F32, "n 3")]);
            s.add(op, &[], &[(F32, "2 n 1 4"), (F32, "2 n 1")]);
        }
        "seat" => {
            s.add(op, &[is("count", Dim::constant(5)), is("by", vec![0])], &[(I64, "n")]);
            s.add(op, &[is("count", Dim::constant(3)), is("by", vec![1, 0])], &[(I32, "7 n")]);
            s.add(op, &[is("count", Dim::constant(9)), is("by", vec![1, 2, 0])], &[(I64, "2 n 3")]);
        }
        "grouped_matmul" => {
            s.add(op, &[], &[(F32, "n 1 5"), (F32, "4 5 m"), (I64, "n 2")]);
            s.add(op, &[], &[(F32, "n 2 k"), (F32, "4 k 3"), (I64, "n 2")]);
            s.add(op, &[], &[(F32, "n k"), (F32, "m k 3"), (I32, "n")]);
            s.add(op, &[], &[(F32, "3"), (F32, "2 3 4"), (I64, "n 1")]);
        }
        "conv" => {
            let conv = |strides: &[i64], dilations: &[i64], low: &[i64], high: &[i64], groups: i64| {
                let mut attrs = window(&[], strides, dilations, low, high);
                attrs.remove(0);
                attrs.push(is("groups", groups));
                attrs
            };
            s.add(op, &conv(&[1], &[1], &[0], &[0], 1), &[(F32, "n 3 7"), (F32, "4 3 3")]);
            s.add(op, &conv(&[2], &[2], &[3], &[1], 1), &[(F16, "n 2 9"), (F16, "m 2 3")]);
            s.add(op, &conv(&[1, 2], &[1, 1], &[1, 1], &[1, 1], 1), &[(F32, "1 3 5 6"), (F32, "2 3 3 3")]);
            s.add(op, &conv(&[2, 1], &[1, 2], &[0, 2], &[1, 0], 2), &[(F32, "n 4 6 5"), (F32, "6 2 2 2")]);
            s.add(op, &conv(&[1, 1], &[1, 1], &[1, 1], &[1, 1], 4), &[(F32, "1 4 5 5"), (F32, "4 1 3 3")]);
            s.add(op, &conv(&[1, 1], &[1, 1], &[0, 0], &[0, 0], 1), &[(I32, "1 3 2 2"), (I32, "5 3 1 1")]);
            s.add(op, &conv(&[1], &[1], &[-1], &[-2], 1), &[(F32, "1 2 9"), (F32, "1 2 2")]);
            s.add_sized(op, &conv(&[2], &[1], &[1], &[1], 1), &[(F32, "1 2 n"), (F32, "1 2 3")], [8, 0, 0]);
            s.add(
                op,
                &conv(&[1; 3], &[1; 3], &[1; 3], &[1; 3], 1),
                &[(F32, "1 1 3 3 2"), (F32, "1 1 3 2 2")],
            );
        }
        "reduce_sum" | "reduce_max" | "reduce_min" | "reduce_prod" | "reduce_mean" => {
            let of = |axes: &[i64], keep: bool| [is("axes", axes.to_vec()), is("keep_dims", keep)];
            for keep in [true, false] {
                s.add(op, &of(&[1], keep), &[(F32, "n m 3")]);
                s.add(op, &of(&[0, -1], keep), &[(F32, "n 2 m")]);
                s.add(op, &of(&[], keep), &[(F32, "n")]);
                s.add(op, &of(&[0, 1], keep), &[(I32, "n 5")]);
                s.add(op, &of(&[0], keep), &[(F16, "5 m")]);
                s.add(op, &of(&[0], keep), &[(F64, "5 m")]);
                s.add(op, &of(&[0], keep), &[(I64, "5 m")]);
                s.add(op, &of(&[0], keep), &[(U64, "5 m")]);
                s.add(op, &of(&[0], keep), &[(U8, "5 m")]);
            }
            s.add_tensors(op, &of(&[1], false), &[special_in(&[11, 11], F32, 0)]);
            s.add_tensors(op, &of(&[1], false), &[special_in(&[11, 11], F32, 1)]);
            if matches!(op.name, "reduce_max" | "reduce_min") {
                s.add(op, &of(&[1], false), &[(Bool, "n 3")]);
            }
        }
        "reshape" => {
            for (from, to) in [
                ("n 12", "n 3 4"),
                ("n m 6", "n 2 m 3"),
                ("n 4 6", "n 2 12"),
                ("n 1 3", "n 3 1"),
                ("2 n 3", "6 n"),
                ("1", ""),
                ("", "1 1"),
                ("5 2 3", "3 10"),
                ("n 3", "n 1 1 3"),
            ] {
                s.add(op, &[is("shape", dims(to))], &[(F32, from)]);
            }
            let joined = vec![Dim::symbol("n") * Dim::symbol("m"), Dim::constant(6)];
            s.add(op, &[is("shape", joined)], &[(F32, "n 2 m 3")]);
            let rows = vec![Dim::constant(2), Dim::symbol("n") * Dim::constant(2)];
            s.add(op, &[is("shape", rows)], &[(I64, "4 n")]);
        }
        "restate" => {
            let halves = Dim::parse("(n + 1)//2 + n//2").expect("a size");
            s.add(op, &[is("shape", vec![Dim::symbol("m"), halves.clone()])], &[(F32, "m n")]);
            s.add(op, &[is("shape", vec![halves, Dim::constant(1)])], &[(I64, "n 1")]);
        }
        "put" => {
            let of = |axis: i64, at: Dim| [is("axis", axis), is("at", at)];
            s.add(op, &of(0, Dim::constant(2)), &[(F32, "40 m"), (F32, "n m")]);
            s.add(op, &of(-1, Dim::constant(0)), &[(I64, "2 n"), (I64, "2 n")]);
            s.add(op, &of(1, Dim::symbol("n")), &[(U8, "3 40 n"), (U8, "3 m n")]);
            s.add(op, &of(1, Dim::constant(1)), &[(F32, "n 4"), (F32, "n 0")]);
        }
        "transpose" => {
            s.add(op, &[is("perm", vec![1, 0])], &[(F32, "n m")]);
            s.add(op, &[is("perm", vec![2, 0, 1])], &[(U8, "n 2 m")]);
            s.add(op, &[is("perm", Vec::<i64>::new())], &[(F32, "")]);
            s.add(op, &[is("perm", vec![1, 0])], &[(I4, "n m")]);
        }
        "broadcast" => {
            s.add(op, &[is("shape", dims("4 n 3"))], &[(F32, "n 1")]);
            s.add(op, &[is("shape", dims("4 3"))], &[(F32, "")]);
            s.add(op, &[is("shape", dims("n 5"))], &[(Bool, "n 1")]);
        }
        "slice" => {
            let of = |starts: Vec<Dim>, sizes: Vec<Dim>, steps: &[i64]| {
                [is("starts", starts), is("sizes", sizes), is("steps", steps.to_vec())]
            };
            s.add(op, &of(numbers(&[1, 0]), numbers(&[2, 5]), &[1, 1]), &[(F32, "4 5")]);
            s.add(op, &of(numbers(&[3, 4]), numbers(&[2, 3]), &[-2, -2]), &[(F32, "4 5")]);
            s.add(op, &of(numbers(&[0, 1]), dims("n 2"), &[1, 2]), &[(I64, "n 5")]);
            let reversed = vec![Dim::symbol("n") - Dim::constant(1)];
            s.add(op, &of(reversed, dims("n"), &[-1]), &[(F32, "n")]);
            s.add(op, &of(numbers(&[0]), numbers(&[0]), &[1]), &[(F32, "3")]);
        }
        "concat" => {
            s.add(op, &[is("axis", 0i64)], &[(F32, "n 3"), (F32, "m 3"), (F32, "2 3")]);
            s.add(op, &[is("axis", -1i64)], &[(I64, "2 n"), (I64, "2 1")]);
            s.add(op, &[is("axis", 0i64)], &[(F16, "3")]);
            s.add(op, &[is("axis", 0i64)], &[(U2, "n 3"), (U2, "m 3")]);
        }
        "gather" => {
            s.add(op, &[is("axis", 0i64)], &[(F8E5M2, "n 3"), (I64, "2 m")]);
            s.add(op, &[is("axis", 0i64)], &[(F32, "n 3"), (I64, "2 m")]);
            s.add(op, &[is("axis", -1i64)], &[(F32, "n 5"), (I32, "m")]);
            s.add(op, &[is("axis", 1i64)], &[(U8, "2 4 3"), (I64, "")]);
            let at = Tensor::from_i64(&[5], &[-1, 2, 0, -3, 1]);
            s.add_tensors(op, &[], &[tensor(F32, &[3, 2], 9), at]);
        }
        "gather_elements" => {
            s.add(op, &[is("axis", 0i64)], &[(F32, "n 3"), (I64, "m 3")]);
            s.add(op, &[is("axis", -1i64)], &[(F16, "n 4 5"), (I32, "n 2 m")]);
            s.add(op, &[is("axis", 1i64)], &[(Bool, "3 n"), (I64, "2 m")]);
            s.add(op, &[is("axis", 0i64)], &[(I64, "0"), (I64, "3")]);
            let at = Tensor::from_i64(&[6], &[-1, 2, 0, -3, 1, 7]);
            s.add_tensors(op, &[], &[tensor(I64, &[3], 9), at]);
        }
        "gather_nd" => {
            let of = |batch: i64| [is("batch_dims", batch)];
            s.add(op, &of(0), &[(F32, "n 3"), (I64, "m 1")]);
            s.add(op, &of(0), &[(F32, "4 n 2"), (I32, "3 m 2")]);
            s.add(op, &of(1), &[(F16, "n 4 5"), (I64, "n m 2")]);
            s.add(op, &of(2), &[(U8, "n m 3 2"), (I64, "n m 1")]);
            s.add(op, &of(0), &[(F32, "2 3"), (I64, "2")]);
            s.add(op, &of(0), &[(F32, "n"), (I64, "3 0")]);
            let at = Tensor::from_i64(&[3, 2], &[-1, 1, 5, -9, 0, 0]);
            s.add_tensors(op, &of(0), &[tensor(I64, &[3, 2], 9), at]);
        }
        "arg_max" | "arg_min" => {
            for (keep, last) in [(true, false), (false, true), (false, false)] {
                let of = |axis: i64| [is("axis", axis), is("keep_dims", keep), is("last", last)];
                s.add(op, &of(1), &[(F32, "n m 3")]);
                s.add(op, &of(-1), &[(F16, "n 5")]);
                for dtype in [F64, I32, I64, U8, U64] {
                    s.add(op, &of(0), &[(dtype, "7 n")]);
                }
                for shift in [0, 1] {
                    s.add_tensors(op, &of(1), &[special_in(&[11, 11], F32, shift)]);
                }
                s.add_tensors(op, &of(0), &[Tensor::splat(Scalar::f32(f32::NEG_INFINITY), &[3])]);
                s.add_tensors(op, &of(0), &[Tensor::from_i64(&[3], &[i64::MAX, i64::MIN, i64::MAX])]);
                s.add(op, &of(0), &[(F32, "0 2")]);
            }
        }
        "einsum" => {
            let of = |equation: &str| [is("equation", equation.to_owned())];
            let two = |s: &mut Samples, equation: &str, a: &str, b: &str| {
                s.add(op, &of(equation), &[(F32, a), (F32, b)]);
            };
            two(s, "ij,jk->ik", "n k", "k m");
            two(s, "bik,bjk->bij", "n 3 m", "n 4 m");
            two(s, "bqhd,bkhd->bhqk", "2 n 3 m", "2 k 3 m");
            two(s, "ij,kl->lkji", "n 2", "m 3");
            two(s, "i,i", "n", "n");
            two(s, "ij,ij->i", "n m", "n m");
            two(s, "abcd,bd->ac", "2 n 3 m", "n m");
            two(s, "...ij,...jk", "n 1 2 3", "4 3 m");
            two(s, "ij,jk->ik", "n 1", "k m");
            two(s, "i...,...->i...", "n m", "m");
            for equation in ["ii", "ii->i", "...ii->...i"] {
                s.add(op, &of(equation), &[(F32, "n n")]);
            }
            for (equation, shape) in
                [("ij->ji", "n m"), ("ij->", "n m"), ("...j", "n 2 3"), ("", ""), ("aba->ba", "n m n")]
            {
                s.add(op, &of(equation), &[(F32, shape)]);
            }
            s.add(op, &of("ijk,kl,lm->im"), &[(F64, "n 2 3"), (F64, "3 k"), (F64, "k m")]);
            s.add(op, &of(",i,ij->j"), &[(I32, ""), (I32, "n"), (I32, "n m")]);
            s.add(op, &of("ab,bc->ac"), &[(F16, "n 3"), (F16, "3 m")]);
        }
        "rotary_embedding" => {
            for interleaved in [false, true] {
                let attrs = [is("interleaved", interleaved)];
                s.add(op, &attrs, &[(F32, "n 2 m 8"), (F32, "n 1 m 4"), (F32, "n 1 m 4")]);
                s.add(op, &attrs, &[(F16, "n m 8"), (F16, "n m 3"), (F16, "n m 3")]);
                s.add(op, &attrs, &[(F32, "4"), (F32, "2"), (F32, "2")]);
            }
        }
        "pad" => {
            let of = |low: &[i64], high: &[i64]| [is("low", numbers(low)), is("high", numbers(high))];
            s.add(op, &of(&[1, 2], &[0, 3]), &[(F32, "n 3"), (F32, "")]);
            s.add(op, &of(&[-1, 0], &[2, -1]), &[(I64, "3 4"), (I64, "")]);
            let low = vec![Dim::symbol("m"), Dim::constant(0)];
            s.add(op, &[is("low", low), is("high", numbers(&[0, 0]))], &[(F16, "n m"), (F16, "")]);
            s.add(op, &of(&[1, 0], &[0, 1]), &[(I4, "n 3"), (I4, "")]);
        }
        "extend" => {
            for mode in ["edge", "reflect", "wrap"] {
                let of = |low: &[i64], high: &[i64]| {
                    [is("low", numbers(low)), is("high", numbers(high)), is("mode", mode.to_owned())]
                };
                s.add(op, &of(&[2, 0], &[1, 3]), &[(F32, "4 5")]);
                s.add(op, &of(&[5], &[7]), &[(F32, "3")]);
                s.add(op, &of(&[2], &[1]), &[(I64, "1")]);
                s.add(op, &of(&[-1], &[2]), &[(I64, "4")]);
                s.add_sized(op, &of(&[2], &[2]), &[(F32, "n")], [3, 0, 0]);
                s.add_sized(op, &of(&[2], &[2]), &[(F32, "n")], [1, 0, 0]);
            }
        }
        "iota" => {
            for dtype in [F32, I64, U8, F16] {
                s.add(op, &[is("shape", dims("3 2")), is("axis", 0i64), is("dtype", dtype)], &[]);
                s.add(op, &[is("shape", dims("3 2")), is("axis", -1i64), is("dtype", dtype)], &[]);
            }
        }
        "shape" => {
            s.add(op, &[], &[(F32, "n 3 m")]);
            s.add(op, &[], &[(F32, "")]);
            s.add(op, &[], &[(Bool, "n")]);
        }
        "topk" => {
            let of = |axis: i64, k: &str, largest: bool| {
                [is("axis", axis), is("k", Dim::parse(k).expect("a size")), is("largest", largest)]
            };
            for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_narrow()) {
                s.add(op, &of(-1, "3", dtype != F32), &[(dtype, "n 5")]);
            }
            for largest in [true, false] {
                s.add(op, &of(0, "n", largest), &[(F32, "n m")]);
                s.add(op, &of(1, "min(n, 2)", largest), &[(I64, "2 n 3")]);
                s.add(op, &of(0, "0", largest), &[(F32, "n")]);
                s.add_tensors(op, &of(1, "11", largest), &[special_in(&[11, 11], F32, 0)]);
                s.add_tensors(op, &of(0, "70", largest), &[special_in(&[121], F16, 0)]);
            }
        }
        "route" => {
            s.add(op, &[is("k", 2)], &[(F32, "n 16")]);
            s.add(op, &[is("k", 1)], &[(F32, "n m 3")]);
            s.add(op, &[is("k", 4)], &[(F32, "4")]);
            s.add_tensors(op, &[is("k", 11)], &[special_in(&[11, 11], F32, 0)]);
            // Rows of equal scores.
            s.add_tensors(op, &[is("k", 11)], &[special_in(&[11, 11], F32, 1)]);
            let ties = [1.0, -0.0, 0.0, f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NAN, 1.0, f64::NAN];
            let rows = Tensor::from_fn(F32, &[3, 8], |at| Scalar::from_f64(F32, ties[(at[1] + at[0]) % 8]));
            s.add_tensors(op, &[is("k", 7)], &[rows]);
        }
        "cumsum" | "cumprod" => {
            for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
                let of = |axis: i64| [is("axis", axis), is("exclusive", exclusive), is("reverse", reverse)];
                s.add(op, &of(0), &[(F32, "n 3")]);
                s.add(op, &of(-1), &[(F32, "n m")]);
                s.add(op, &of(1), &[(F64, "2 n m")]);
                for dtype in [F16, BF16, I32, I64, U8, U64] {
                    s.add(op, &of(0), &[(dtype, "5")]);
                }
                s.add_tensors(op, &of(1), &[special_in(&[11, 11], F32, 0)]);
            }
        }
        "scatter_elements" => {
            let indices = |shape: &[usize]| tensor(I64, shape, 7);
            for reduction in ["none", "add", "mul", "max", "min"] {
                let of = |axis: i64| [is("axis", axis), is("reduction", reduction.to_owned())];
                for dtype in [F32, F16, I32, U8] {
                    // Indices out of range, from the end, and several times the same.
                    let x = tensor(dtype, &[7, 3], 1);
                    let updates = tensor(dtype, &[9, 2], 3);
                    s.add_tensors(op, &of(0), &[x.clone(), indices(&[9, 2]), updates]);
                    s.add_tensors(op, &of(-1), &[x, indices(&[4, 9]), tensor(dtype, &[4, 9], 3)]);
                }
                s.add(op, &of(1), &[(F32, "n 5"), (I32, "m 4"), (F32, "m 4")]);
                s.add(op, &of(1), &[(F32, "n 0"), (I64, "n 2"), (F32, "n 2")]);
                s.add(op, &of(0), &[(I64, "5"), (I64, "n"), (I64, "n")]);
            }
            s.add(op, &[], &[(Bool, "8 n"), (I64, "3 n"), (Bool, "3 n")]);
        }
        "scatter_nd" => {
            for reduction in ["none", "add", "mul", "max", "min"] {
                let of = [is("reduction", reduction.to_owned())];
                s.add(op, &of, &[(F32, "9 n"), (I64, "m 1"), (F32, "m n")]);
                s.add(op, &of, &[(F16, "9 8 2"), (I32, "m 5 2"), (F16, "m 5 2")]);
                s.add(op, &of, &[(I64, "9"), (I64, "n 1"), (I64, "n")]);
                s.add(op, &of, &[(I32, "n 3"), (I64, "2 0"), (I32, "2 n 3")]);
            }
            s.add(op, &[], &[(F32, "n m 7"), (I64, "4 2"), (F32, "4 7")]);
            s.add(op, &[], &[(Bool, "8"), (I64, "1"), (Bool, "")]);
            s.add(op, &[], &[(F32, ""), (I64, "0"), (F32, "")]);
        }
        "nonzero" => {
            for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_narrow()) {
                s.add(op, &[], &[(dtype, "n 5")]);
            }
            s.add(op, &[], &[(I8, "")]);
            s.add(op, &[], &[(I8, "n 2 m")]);
            s.add_tensors(op, &[], &[special(F32, 0)]);
        }
        "unique" => {
            for sorted in [true, false] {
                let of = |axis: &[i64]| [is("axis", axis.to_vec()), is("sorted", sorted)];
                for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_narrow()) {
                    s.add(op, &of(&[]), &[(dtype, "n 9")]);
                    s.add(op, &of(&[0]), &[(dtype, "15")]);
                }
                for axis in [0, 1, -1] {
                    s.add(op, &of(&[axis]), &[(Bool, "n 3 m")]);
                    s.add(op, &of(&[axis]), &[(I8, "n 1 1")]);
                    s.add(op, &of(&[axis]), &[(Bool, "7 2")]);
                }
                s.add(op, &of(&[]), &[(F32, "")]);
                s.add_tensors(op, &of(&[]), &[special(F32, 0)]);
                s.add_tensors(op, &of(&[1]), &[special_in(&[11, 11], F32, 0)]);
            }
        }
        "size" => s.add(op, &[is("value", 7i64)], &[]),
        "softmax" | "log_softmax" | "lp_norm" => {
            s.add(op, &[is("axis", -1i64)], &[(F32, "n m")]);
            s.add(op, &[is("axis", 1i64)], &[(F16, "n 5 m")]);
            s.add_tensors(op, &[is("axis", 1i64)], &[special_in(&[11, 11], F32, 0)]);
            if op.name == "lp_norm" {
                s.add(op, &[is("axis", 0i64), is("p", 1i64)], &[(F32, "n m")]);
                s.add_tensors(op, &[is("axis", 0i64)], &[Tensor::splat(Scalar::f32(0.0), &[3])]);
            }
        }
        "layer_norm" | "rms_norm" | "mean_variance_norm" => {
            s.add(op, &[is("axes", vec![-1i64])], &[(F32, "n m")]);
            s.add(op, &[is("axes", vec![1i64, 2])], &[(F16, "n 3 m")]);
        }
        "batch_norm" => {
            let positive = |n: usize| Tensor::from_fn(F32, &[n], |at| Scalar::f32(at[0] as f32 + 0.5));
            let channel = |seed| tensor(F32, &[3], seed);
            let rest = [channel(2), channel(3), channel(4), positive(3)];
            s.add_tensors(op, &[], &[&[tensor(F32, &[2, 3, 4], 1)], rest.as_slice()].concat());
            s.add_tensors(op, &[], &[&[tensor(F16, &[2, 3, 2, 2], 1)], rest.as_slice()].concat());
            s.add_tensors(op, &[], &[&[tensor(F32, &[2, 3], 1)], rest.as_slice()].concat());
        }
        "instance_norm" => {
            s.add(op, &[], &[(F32, "n 3 m")]);
            s.add(op, &[is("epsilon", 0.1)], &[(F32, "2 n 3 3")]);
        }
        "group_norm" => {
            s.add(op, &[is("groups", 2i64)], &[(F32, "n 4 m")]);
            s.add(op, &[is("groups", 3i64)], &[(F16, "n 6 2 2")]);
        }
        "local_response_norm" => {
            s.add(op, &[is("size", 3i64)], &[(F32, "n 5 m 2")]);
            s.add(op, &[is("size", 2i64), is("alpha", 0.5), is("bias", 2.0)], &[(F32, "1 4 3")]);
        }
        "max_pool" | "avg_pool" | "sum_pool" => {
            let pads = if op.name == "avg_pool" { vec![false, true] } else { vec![false] };
            for (ceil, include) in [false, true].into_iter().flat_map(|c| pads.iter().map(move |&p| (c, p))) {
                let of = |kernel: &[i64], strides: &[i64], dilations: &[i64], low: &[i64], high: &[i64]| {
                    let mut attrs = window(kernel, strides, dilations, low, high);
                    attrs.push(is("ceil", ceil));
                    if op.name == "avg_pool" {
                        attrs.push(is("include_pad", include));
                    }
                    attrs
                };
                s.add(op, &of(&[3], &[2], &[1], &[1], &[0]), &[(F32, "n 2 7")]);
                s.add(op, &of(&[2, 3], &[2, 2], &[1, 1], &[0, 1], &[0, 1]), &[(F32, "1 n 5 6")]);
                s.add(op, &of(&[3], &[1], &[2], &[2], &[2]), &[(F16, "1 2 8")]);
                s.add(op, &of(&[2, 2], &[3, 2], &[1, 2], &[1, 0], &[1, 2]), &[(F32, "1 1 6 6")]);
                s.add_sized(op, &of(&[3], &[2], &[1], &[1], &[1]), &[(F32, "1 1 n")], [6, 0, 0]);
                s.add_sized(op, &of(&[3], &[2], &[1], &[1], &[1]), &[(F32, "1 1 n")], [7, 0, 0]);
                if op.name != "avg_pool" {
                    s.add(op, &of(&[2], &[1], &[1], &[1], &[1]), &[(I8, "1 2 4")]);
                    s.add(op, &of(&[2], &[1], &[1], &[1], &[1]), &[(U8, "1 2 4")]);
                }
                let row = special_in(&[1, 11, 11], F32, 0);
                s.add_tensors(op, &of(&[2], &[1], &[1], &[1], &[1]), &[row]);
            }
        }
        // Steps around kernels, and nested graphs: `tests/control.rs` is their suite.
        "as_size" | "if" | "loop" => {}
        _ => elementwise(op, s),
    }
    all.0
}

/// Functions of one or two operands, on every type that they accept.
fn elementwise(op: &'static OpDef, s: &mut Samples) {
    let Arity::Fixed(names) = op.arity else { return };
    for dtype in DType::ALL {
        let scalar = TensorType::scalar(dtype);
        let types: Vec<&TensorType> = names.iter().map(|_| &scalar).collect();
        let attrs = op.check_attrs([]).expect("elementwise ops have defaults");
        if op.semantics.infer(&ir::op::Infer { operands: &types, attrs: &attrs }).is_err() {
            continue;
        }
        if names.len() == 1 {
            s.add(op, &[], &[(dtype, "n 3")]);
            s.add(op, &[], &[(dtype, "")]);
            if dtype.is_float() {
                s.add_tensors(op, &[], &[special(dtype, 0)]);
            }
        } else {
            s.add(op, &[], &[(dtype, "n 3"), (dtype, "3")]);
            s.add(op, &[], &[(dtype, "n 1"), (dtype, "1 m")]);
            s.add(op, &[], &[(dtype, ""), (dtype, "2 n")]);
            if dtype.is_float() {
                s.add_tensors(op, &[], &[special(dtype, 0), special(dtype, 1)]);
            }
        }
    }
}
