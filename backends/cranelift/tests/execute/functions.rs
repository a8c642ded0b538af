//! Every function on every type, outside and inside vector loops, on values where functions change their mind.

use ir::dtype::DType;
use ir::kernel::{Expr, ExprKind, Kernel};
use ir::scalar::{Binary, Scalar, Unary};

use crate::build::{KINDS, at, dim, edges, for_each, kernel, load, program, read, store, values, write};
use crate::machine::Machine;
use crate::walk::compare;

/// Lengths with and without whole vectors and rests.
const LENGTHS: [usize; 8] = [0, 1, 3, 4, 15, 16, 17, 33];

fn map(name: &str, inputs: &[DType], result: DType, element: impl Fn(&[Expr]) -> Expr) -> Vec<Kernel> {
    KINDS
        .iter()
        .map(|(kind, how)| {
            let mut params: Vec<_> = inputs
                .iter()
                .enumerate()
                .map(|(i, dtype)| read(&format!("x{i}"), *dtype, &[dim("n")]))
                .collect();
            params.push(write("y", result, &[dim("n")]));
            let loads: Vec<Expr> = inputs
                .iter()
                .enumerate()
                .map(|(i, dtype)| load(&format!("x{i}"), *dtype, vec![at("i")]))
                .collect();
            let body = vec![for_each("i", dim("n"), *how, vec![store("y", vec![at("i")], element(&loads))])];
            kernel(&format!("{name}_{kind}"), &["n"], params, body)
        })
        .collect()
}

fn blank(dtype: DType, count: usize) -> Vec<Scalar> {
    vec![Scalar::from_bits(dtype, 0); count]
}

/// Runs each kernel on whole inputs, and on their first few.
fn run_all(kernels: Vec<Kernel>) {
    let machines = Machine::all(&program(kernels.clone()));
    for (place, kernel) in kernels.iter().enumerate() {
        let (result, inputs) = kernel.params.split_last().expect("a result");
        let dtypes: Vec<DType> = inputs.iter().map(|param| param.ty.dtype).collect();
        let list = edges(dtypes[0]);
        let full: Vec<Vec<Scalar>> = match dtypes.as_slice() {
            [dtype] => vec![[edges(*dtype), values(*dtype, 45, 7)].concat()],
            [_, other] => {
                let right = edges(*other);
                let pair = |k: usize| (k / right.len(), k % right.len());
                let count = list.len() * right.len();
                vec![
                    (0..count).map(|k| list[pair(k).0]).collect(),
                    (0..count).map(|k| right[pair(k).1]).collect(),
                ]
            }
            _ => dtypes.iter().enumerate().map(|(i, dtype)| values(*dtype, 100, 3 + i as u64)).collect(),
        };
        let whole = full[0].len();
        for count in LENGTHS.into_iter().filter(|n| *n <= whole).chain([whole]) {
            let mut buffers: Vec<Vec<Scalar>> = full.iter().map(|values| values[..count].to_vec()).collect();
            buffers.push(blank(result.ty.dtype, count));
            machines.iter().for_each(|machine| compare(machine, place, kernel, &[count as i64], &buffers));
        }
    }
}

#[test]
fn unary_functions() {
    let mut kernels = Vec::new();
    for dtype in DType::ALL {
        for &f in Unary::ALL.iter().filter(|f| f.accepts(dtype)) {
            let name = format!("{}_{dtype}", f.name());
            kernels.extend(map(&name, &[dtype], f.result(dtype), |x| Expr::unary(f, x[0].clone())));
        }
    }
    run_all(kernels);
}

#[test]
fn binary_functions() {
    let mut kernels = Vec::new();
    for dtype in DType::ALL {
        for &f in Binary::ALL.iter().filter(|f| f.accepts(dtype)) {
            let name = format!("{}_{dtype}", f.name());
            let call = |x: &[Expr]| Expr::binary(f, x[0].clone(), x[1].clone());
            kernels.extend(map(&name, &[dtype; 2], f.result(dtype), call));
        }
    }
    run_all(kernels);
}

#[test]
fn binary_functions_with_a_constant() {
    let mut kernels = Vec::new();
    for dtype in
        [DType::F32, DType::F64, DType::F16, DType::I8, DType::I32, DType::I64, DType::U16, DType::U32]
    {
        for &f in Binary::ALL.iter().filter(|f| f.accepts(dtype)) {
            for constant in [0.0, 1.0, -1.0, 7.0, 16.0, 31.0, 32.0, 40.0] {
                let name = format!("{}_{dtype}_{constant}", f.name());
                let right = Expr::number(dtype, constant);
                kernels.extend(map(&name, &[dtype], f.result(dtype), |x| {
                    Expr::binary(f, x[0].clone(), right.clone())
                }));
            }
        }
    }
    run_all(kernels);
}

#[test]
fn casts() {
    let mut kernels = Vec::new();
    for from in DType::ALL {
        for to in DType::ALL {
            kernels.extend(map(&format!("cast_{from}_{to}"), &[from], to, |x| x[0].clone().cast(to)));
            if from.bits() == to.bits() && to != DType::Bool {
                kernels
                    .extend(map(&format!("bitcast_{from}_{to}"), &[from], to, |x| x[0].clone().bitcast(to)));
            }
        }
    }
    run_all(kernels);
}

#[test]
fn rounding_to_few_bits_on_many_patterns() {
    let few = |dtype: &DType| dtype.is_float() && dtype.bits() <= 16;
    let pairs = DType::ALL
        .into_iter()
        .filter(few)
        .flat_map(|to| [DType::F32, DType::F64].map(|from| (from, to)))
        .chain([(DType::F16, DType::F32), (DType::BF16, DType::F32), (DType::F16, DType::F8E4M3FN)]);
    for (from, to) in pairs {
        let kernels = map("round", &[from], to, |x| x[0].clone().cast(to));
        let machines = Machine::all(&program(kernels.clone()));
        // Patterns around ties: the last digits that count, then nothing, half, or nearly half.
        let mut inputs = Vec::new();
        for high in 0..1u64 << 12 {
            for low in [0u64, 1, 0x7fff, 0x8000, 0x8001, 0x1000, 0x0fff, 0x1001, 0xffff] {
                let high = high * 0x9d + 0x11;
                inputs.push(match from {
                    DType::F64 => {
                        let single = f32::from_bits((high as u32) << 16 | low as u32);
                        let tail = if low & 1 == 1 { f64::from(single) * 1e-12 } else { 0.0 };
                        Scalar::from_f64(from, f64::from(single) + tail)
                    }
                    DType::F32 => Scalar::from_bits(from, high << 16 | low),
                    _ => Scalar::from_bits(from, high ^ low),
                });
            }
        }
        let count = inputs.len();
        for (at, kernel) in kernels.iter().enumerate() {
            machines.iter().for_each(|machine| {
                compare(machine, at, kernel, &[count as i64], &[inputs.clone(), blank(to, count)])
            });
        }
    }
}

#[test]
fn fused_multiply_add_and_select() {
    let mut kernels = Vec::new();
    for dtype in [DType::F32, DType::F64] {
        kernels.extend(map(&format!("fma_{dtype}"), &[dtype; 3], dtype, |x| {
            Expr::fma(x[0].clone(), x[1].clone(), x[2].clone())
        }));
    }
    for dtype in DType::ALL {
        kernels.extend(map(&format!("select_{dtype}"), &[dtype; 4], dtype, |x| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| x[i].clone());
            // Narrow numbers are compared as others.
            let wide = if dtype.is_narrow() { dtype.arithmetic() } else { dtype };
            a.cast(wide).less(b.cast(wide)).select(c, d)
        }));
    }
    // Neither side reads memory: both are computed.
    kernels.extend(map("select_pure", &[DType::F32], DType::F32, |x| {
        let zero = Expr::number(DType::F32, 0.0);
        x[0].clone().less(zero.clone()).select(zero.clone(), Expr::number(DType::F32, 2.0))
    }));
    run_all(kernels);
}

#[test]
fn an_exponential_by_arithmetic() {
    // 2^x by magic: to nearest, exponent bits, polynomial. The forms that an expansion of `exp` uses.
    let kernels = map("exp2", &[DType::F32], DType::F32, |x| {
        let number = |value| Expr::number(DType::F32, value);
        let x = Expr::binary(Binary::Max, x[0].clone(), number(-126.0));
        let x = Expr::binary(Binary::Min, x, number(127.0));
        let whole = Expr::unary(Unary::Round, x.clone());
        let part = x - whole.clone();
        let mut sum = number(0.0013);
        for c in [0.0096, 0.0555, 0.2402, std::f64::consts::LN_2, 1.0] {
            sum = Expr::fma(sum, part.clone(), number(c));
        }
        let exponent = whole.cast(DType::I32) + Expr::number(DType::I32, 127.0);
        let shifted = Expr::binary(Binary::Shl, exponent, Expr::number(DType::I32, 23.0));
        sum * shifted.bitcast(DType::F32)
    });
    run_all(kernels);
}

#[test]
fn shared_expressions_are_computed_once() {
    // A tower of 60 doublings of one shared operand: as a tree it has 2^60 leaves.
    let kernels = map("tower", &[DType::F32], DType::F32, |x| {
        let mut e = x[0].clone();
        for _ in 0..60 {
            e = ExprKind::Binary(Binary::Add, e.clone(), e).into();
        }
        e
    });
    let image = cranelift::emit(&program(kernels), &cranelift::Target::portable()).expect("emitted");
    assert!(image.code.len() < 20_000, "{} bytes", image.code.len());
}

#[test]
fn vector_loops_use_vectors() {
    let kernels = map("relu", &[DType::F32], DType::F32, |x| {
        Expr::binary(Binary::Max, x[0].clone(), Expr::number(DType::F32, 0.0))
    });
    let vectors = cranelift::Vectors::Bits128;
    let target = cranelift::Target { vectors, ..cranelift::Target::portable() };
    let text = |kernel: &Kernel| cranelift::clif(&program(vec![kernel.clone()]), &target).expect("emitted");
    let (serial, vector) = (text(&kernels[0]), text(&kernels[1]));
    assert!(serial.contains("load.f32 ") && !serial.contains("f32x4"), "{serial}");
    // Sixteen lanes, then four, then one.
    assert_eq!(vector.matches("load.f32x4").count(), 5, "{vector}");
    assert_eq!(vector.matches("load.f32 ").count(), 1, "{vector}");
    let code = cranelift::disassembly(&program(kernels), &target).expect("emitted");
    assert!(code.contains("relu_serial:") && code.contains("relu_vector:"), "{code}");
    if target.arch == "x86_64" {
        assert_eq!(code.matches("vmaxps").count(), 5, "{code}");
    }
}
