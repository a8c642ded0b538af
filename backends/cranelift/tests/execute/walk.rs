//! The meaning of statements, one element at a time: what emitted code is compared with.

use std::collections::BTreeMap;

use ir::dim::{Dim, Symbol};
use ir::dtype::DType;
use ir::kernel::{Access, Body, Expr, ExprKind, Gemm, Kernel, LaneFold, Sort, Stmt};
use ir::scalar::{self, Binary, Scalar, Unary};

use crate::build::program;
use crate::machine::{Machine, Memory};

/// `value` rounded once to a 16-bit float: by its quantum, exactly.
pub(crate) fn round_once(dtype: DType, value: f64) -> Scalar {
    let (digits, least) = match dtype {
        DType::F16 => (11, -14),
        DType::BF16 => (8, -126),
        _ => return Scalar::from_f64(dtype, value),
    };
    if !value.is_finite() || value == 0.0 {
        return Scalar::from_f64(dtype, value);
    }
    let exponent = libm::ilogb(value).max(least);
    let quantum = libm::scalbn(1.0, exponent - (digits - 1));
    let rounded = (value / quantum).round_ties_even() * quantum;
    let limit = match dtype {
        DType::F16 => 65504.0,
        _ => libm::scalbn(255.0, 120),
    };
    Scalar::from_f64(dtype, if rounded.abs() > limit { f64::INFINITY.copysign(value) } else { rounded })
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

pub(crate) fn unary(f: Unary, x: Scalar) -> Scalar {
    let dtype = x.dtype();
    match f {
        Unary::Neg | Unary::Abs | Unary::IsNan | Unary::IsInf => f.apply(x),
        _ if is_half(dtype) => round_once(dtype, f.apply(x.cast(DType::F64)).to_f64()),
        _ => f.apply(x),
    }
}

pub(crate) fn binary(f: Binary, a: Scalar, b: Scalar) -> Scalar {
    let dtype = a.dtype();
    match f {
        Binary::Min | Binary::Max => f.apply(a, b),
        _ if is_half(dtype) && !f.is_comparison() => {
            round_once(dtype, f.apply(a.cast(DType::F64), b.cast(DType::F64)).to_f64())
        }
        _ => f.apply(a, b),
    }
}

pub(crate) fn cast(x: Scalar, to: DType) -> Scalar {
    if x.dtype() != to && is_half(to) { round_once(to, x.to_f64()) } else { x.cast(to) }
}

/// Equal bits, or both NaN.
pub(crate) fn same(a: Scalar, b: Scalar) -> bool {
    let nan = |x: Scalar| x.dtype().is_float() && x.to_f64().is_nan();
    a == b || a.dtype() == b.dtype() && nan(a) && nan(b)
}

struct Array {
    shape: Vec<i64>,
    elements: Vec<Scalar>,
}

#[derive(Default)]
struct Walker {
    /// Sizes and axes.
    indices: BTreeMap<Symbol, i64>,
    scalars: BTreeMap<Symbol, Scalar>,
    arrays: BTreeMap<Symbol, Array>,
}

impl Walker {
    fn index(&self, dim: &Dim) -> i64 {
        let scalar = |symbol: &Symbol| self.scalars.get(symbol).map(|value| value.to_i64());
        dim.eval(&|symbol| self.indices.get(symbol).copied().or_else(|| scalar(symbol)))
            .expect("a bound index")
    }

    fn place(&self, array: &Symbol, at: &[Expr]) -> usize {
        let shape = &self.arrays[array].shape;
        let place = at.iter().zip(shape).fold(0, |place, (index, size)| {
            let index = self.expr(index).to_i64();
            assert!((0..*size).contains(&index), "index {index} of `{array}` is outside of 0..{size}");
            place * size + index
        });
        place as usize
    }

    fn expr(&self, e: &Expr) -> Scalar {
        match e.kind() {
            ExprKind::Const(value) => *value,
            ExprKind::Index(dim) => Scalar::from_i64(DType::I64, self.index(dim)),
            ExprKind::Load { source, at, .. } => self.arrays[source].elements[self.place(source, at)],
            ExprKind::Var { name, .. } => self.scalars[name],
            ExprKind::Unary(f, x) => unary(*f, self.expr(x)),
            ExprKind::Binary(f, a, b) => binary(*f, self.expr(a), self.expr(b)),
            ExprKind::Fma(a, b, c) => scalar::fma(self.expr(a), self.expr(b), self.expr(c)),
            ExprKind::Select(c, a, b) => self.expr(if self.expr(c).to_bool() { a } else { b }),
            ExprKind::Cast(dtype, x) => cast(self.expr(x), *dtype),
            ExprKind::Bitcast(dtype, x) => Scalar::from_bits(*dtype, self.expr(x).bits()),
            ExprKind::Fold(_) => unreachable!("stage form"),
        }
    }

    fn block(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::For { axis, extent, body, .. } => {
                    for i in 0..self.index(extent) {
                        self.indices.insert(axis.clone(), i);
                        self.block(body);
                    }
                }
                Stmt::If { cond, then } => {
                    if self.expr(cond).to_bool() {
                        self.block(then);
                    }
                }
                Stmt::Let { name, value } | Stmt::Var { name, init: value } | Stmt::Set { name, value } => {
                    let value = self.expr(value);
                    self.scalars.insert(name.clone(), value);
                }
                Stmt::Store { target, at, value } => {
                    let (place, value) = (self.place(target, at), self.expr(value));
                    self.arrays.get_mut(target).expect("an array").elements[place] = value;
                }
                Stmt::Alloc { name, dtype, shape } => {
                    let count = shape.iter().product::<i64>() as usize;
                    let elements = vec![Scalar::from_bits(*dtype, 0); count];
                    self.arrays.insert(name.clone(), Array { shape: shape.clone(), elements });
                }
                Stmt::Fold(fold) => self.fold(fold),
                Stmt::Gemm(gemm) => self.gemm(gemm),
                Stmt::Sort(sort) => self.sort(sort),
            }
        }
    }

    fn fold(&mut self, fold: &LaneFold) {
        let mut lanes = [fold.op.neutral(DType::F32); 16];
        for k in 0..self.index(&fold.extent) {
            let lane = &mut lanes[(k % 16) as usize];
            self.indices.insert(fold.axis.clone(), k);
            self.scalars.insert(fold.acc.clone(), *lane);
            self.block(&fold.body);
            *lane = self.scalars[&fold.acc];
        }
        for step in [8, 4, 2, 1] {
            for lane in 0..step {
                lanes[lane] = binary(fold.op.function(), lanes[lane], lanes[lane + step]);
            }
        }
        self.scalars.insert(fold.acc.clone(), lanes[0]);
    }

    /// A product without groups: those are tested together with the runtime.
    fn gemm(&mut self, gemm: &Gemm) {
        assert_eq!(gemm.group, None);
        let outer: Vec<_> = gemm.outer().cloned().collect();
        let elements = self.index(&gemm.elements());
        let summed = self.index(&gemm.summed());
        for element in 0..elements {
            self.enter(&outer, element);
            let mut sum = Scalar::from_i64(gemm.dtype(), 0);
            for l in 0..summed {
                self.enter(&gemm.depth, l);
                let (a, b) = (self.expr(&gemm.a), self.expr(&gemm.b));
                sum = match gemm.dtype() {
                    DType::F32 => scalar::fma(a, b, sum),
                    _ => Binary::Add.apply(Binary::Mul.apply(a, b), sum),
                };
            }
            self.scalars.insert(gemm.acc.clone(), sum);
            self.block(&gemm.body);
        }
    }

    /// Nested axes at the iteration with this number.
    fn enter(&mut self, axes: &[(Symbol, Dim)], mut at: i64) {
        for (axis, extent) in axes.iter().rev() {
            let extent = self.index(extent);
            self.indices.insert(axis.clone(), at % extent);
            at /= extent;
        }
    }
}

impl Walker {
    /// By insertion: what stands behind an equal element stays behind it.
    fn sort(&mut self, sort: &Sort) {
        let keys = &self.arrays[&sort.keys];
        let n = keys.shape[sort.axis];
        let inner: i64 = keys.shape[sort.axis + 1..].iter().product();
        let rows = keys.shape[..sort.axis].iter().product::<i64>() * inner;
        let keys = keys.elements.clone();
        for row in 0..rows {
            let place = |len: i64, at: i64| ((row / inner * len + at) * inner + row % inner) as usize;
            let mut order: Vec<i64> = Vec::new();
            for next in 0..n {
                let before = order.iter().position(|&at| {
                    let order = keys[place(n, next)].order(keys[place(n, at)]);
                    if sort.descending { order.is_gt() } else { order.is_lt() }
                });
                order.insert(before.unwrap_or(order.len()), next);
            }
            for name in sort.results() {
                let array = self.arrays.get_mut(name).expect("an array");
                let len = array.shape[sort.axis];
                for at in 0..len {
                    let old = &mut array.elements[place(len, at)];
                    *old = match order.get(at as usize) {
                        None => Scalar::from_bits(old.dtype(), 0),
                        Some(&from) if sort.values.as_ref() == Some(name) => keys[place(n, from)],
                        Some(&from) => Scalar::from_i64(DType::I64, from),
                    };
                }
            }
        }
    }
}

/// What the written parameters hold afterwards.
fn walk(kernel: &Kernel, sizes: &[i64], buffers: &[Vec<Scalar>]) -> Vec<Vec<Scalar>> {
    let mut walker = Walker::default();
    for (name, size) in kernel.sizes.iter().zip(sizes) {
        walker.indices.insert(name.clone(), *size);
    }
    for (param, elements) in kernel.params.iter().zip(buffers) {
        let shape: Vec<i64> = param.ty.shape.iter().map(|dim| walker.index(dim)).collect();
        assert_eq!(shape.iter().product::<i64>() as usize, elements.len(), "size of `{}`", param.name);
        walker.arrays.insert(param.name.clone(), Array { shape, elements: elements.clone() });
    }
    let Body::Loops(stmts) = &kernel.body else { unreachable!("stage form") };
    walker.block(stmts);
    kernel.params.iter().map(|param| walker.arrays[&param.name].elements.clone()).collect()
}

/// Runs kernel `at` of a machine and compares what it writes with the walk.
pub(crate) fn compare(machine: &Machine, at: usize, kernel: &Kernel, sizes: &[i64], buffers: &[Vec<Scalar>]) {
    let expected = walk(kernel, sizes, buffers);
    let memory = kernel.params.iter().zip(buffers).map(|(param, values)| Memory::new(values, param.ty.dtype));
    let mut memory: Vec<Memory> = memory.collect();
    machine.run(at, &mut memory, sizes);
    for ((param, memory), expected) in kernel.params.iter().zip(&mut memory).zip(&expected) {
        let found = memory.values();
        if param.access == Access::Scratch {
            continue;
        }
        for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                same(*found, *expected),
                "{} with sizes {sizes:?}: `{}`[{place}] is {found:?} ({:#x}), expected {expected:?} ({:#x})",
                kernel.name,
                param.name,
                found.bits(),
                expected.bits(),
            );
        }
    }
}

/// Emits one kernel with vectors of each width, runs it and compares.
pub(crate) fn check(kernel: &Kernel, sizes: &[i64], buffers: &[Vec<Scalar>]) {
    for machine in Machine::all(&program(vec![kernel.clone()])) {
        compare(&machine, 0, kernel, sizes, buffers);
    }
}
