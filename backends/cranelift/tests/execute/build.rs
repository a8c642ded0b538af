//! Kernels and inputs, written short.

use ir::dim::{Dim, Symbol};
use ir::dtype::{Class, DType};
use ir::kernel::{Access, Body, Expr, Kernel, KernelKind, LoopKind, Param, Stmt};
use ir::program::Program;
use ir::scalar::Scalar;
use ir::types::TensorType;

pub(crate) fn sym(name: &str) -> Symbol {
    Symbol::new(name)
}

pub(crate) fn dim(text: &str) -> Dim {
    text.parse::<i64>().map_or_else(|_| Dim::symbol(text), Dim::constant)
}

/// An index: a name or a number.
pub(crate) fn at(name: &str) -> Expr {
    dim(name).into()
}

pub(crate) fn param(name: &str, dtype: DType, shape: &[Dim], access: Access) -> Param {
    Param { name: sym(name), ty: TensorType::new(dtype, shape.iter().cloned()), access }
}

pub(crate) fn read(name: &str, dtype: DType, shape: &[Dim]) -> Param {
    param(name, dtype, shape, Access::Read)
}

pub(crate) fn write(name: &str, dtype: DType, shape: &[Dim]) -> Param {
    param(name, dtype, shape, Access::Write)
}

pub(crate) fn kernel(name: &str, sizes: &[&str], params: Vec<Param>, body: Vec<Stmt>) -> Kernel {
    Kernel {
        name: sym(name),
        kind: KernelKind::Fused,
        sizes: sizes.iter().map(|s| sym(s)).collect(),
        given: vec![],
        params,
        body: Body::Loops(body),
    }
}

pub(crate) fn program(kernels: Vec<Kernel>) -> Program {
    Program { name: "test".to_owned(), weights: vec![], kernels, entries: vec![] }
}

pub(crate) fn for_each(axis: &str, extent: impl Into<Dim>, kind: LoopKind, body: Vec<Stmt>) -> Stmt {
    Stmt::For { axis: sym(axis), extent: extent.into(), kind, body }
}

pub(crate) fn store(target: &str, at: Vec<Expr>, value: Expr) -> Stmt {
    Stmt::Store { target: sym(target), at, value }
}

pub(crate) fn bind(name: &str, value: Expr) -> Stmt {
    Stmt::Let { name: sym(name), value }
}

pub(crate) fn variable(name: &str, init: Expr) -> Stmt {
    Stmt::Var { name: sym(name), init }
}

pub(crate) fn set(name: &str, value: Expr) -> Stmt {
    Stmt::Set { name: sym(name), value }
}

pub(crate) fn load(source: &str, dtype: DType, at: Vec<Expr>) -> Expr {
    Expr::load(sym(source), dtype, at)
}

pub(crate) fn var(name: &str, dtype: DType) -> Expr {
    Expr::var(sym(name), dtype)
}

/// Both ways in which a loop's iterations are emitted.
pub(crate) const KINDS: [(&str, LoopKind); 2] =
    [("serial", LoopKind::Serial), ("vector", LoopKind::Vector(16))];

/// Values where functions change their mind.
pub(crate) fn edges(dtype: DType) -> Vec<Scalar> {
    let bits = dtype.bits() as i64;
    if dtype.is_narrow() {
        return (0..1 << bits).map(|code| Scalar::from_bits(dtype, code)).collect();
    }
    let mut values: Vec<Scalar> = match dtype.class() {
        Class::Float => {
            let numbers = [
                0.0,
                -0.0,
                1.0,
                -1.0,
                0.5,
                -0.5,
                1.5,
                2.5,
                -2.5,
                0.1,
                -3.7,
                7.0,
                -7.0,
                100.25,
                127.5,
                128.0,
                255.5,
                -129.0,
                32768.0,
                65504.0,
                65519.0,
                65520.0,
                -65536.0,
                2147483647.0,
                2147483648.0,
                -2147483904.0,
                4294967296.0,
                9.3e18,
                -9.4e18,
                1.9e19,
                1e-5,
                6.1e-5,
                5.9e-8,
                2.9e-8,
                1e-30,
                1e-40,
                3.3e38,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
            ];
            numbers.iter().map(|&number| Scalar::from_f64(dtype, number)).collect()
        }
        Class::Signed | Class::Unsigned => {
            let numbers = [
                0,
                1,
                -1,
                2,
                -2,
                3,
                7,
                -7,
                10,
                31,
                32,
                33,
                63,
                64,
                65,
                100,
                -100,
                127,
                -128,
                128,
                255,
                256,
                32767,
                -32768,
                bits - 1,
                bits,
                i64::MAX,
                i64::MIN,
                i64::MIN + 1,
                1 << 31,
                (1 << 31) - 1,
                -(1 << 31),
                0xffff_ffff,
                0x0101_8001,
                16_777_217,
            ];
            numbers.iter().map(|&number| Scalar::from_i64(dtype, number)).collect()
        }
        Class::Bool => vec![Scalar::bool(false), Scalar::bool(true)],
    };
    // The ends of the representation, too.
    if dtype.class() != Class::Bool {
        let ends = [1 << (bits - 1), (1 << (bits - 1)) - 1, (1u64 << (bits - 1)) | 1];
        values.extend(ends.map(|pattern| Scalar::from_bits(dtype, pattern)));
    }
    values
}

/// As many values as asked for: edges first, then patterns that look random but are the same each time.
pub(crate) fn values(dtype: DType, count: usize, seed: u64) -> Vec<Scalar> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..count)
        .map(|_| match dtype.class() {
            // Moderate numbers: sums of them stay finite.
            Class::Float => Scalar::from_f64(dtype, (next() % 2001) as f64 / 250.0 - 4.0),
            Class::Bool => Scalar::bool(next() % 2 == 0),
            _ => Scalar::from_bits(dtype, next()),
        })
        .collect()
}
