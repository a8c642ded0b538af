//! Kernels of whole rows: folds, scalars between them and loops over lanes, in one vector function.

use cranelift::{Image, Target, Vectors};
use ir::dim::Dim;
use ir::dtype::DType::{F32, I32};
use ir::kernel::{Expr, Kernel, LaneFold, LoopKind, Reduce, Stmt};
use ir::scalar::{Binary, Scalar, Unary};

use crate::build::*;
use crate::machine::Machine;
use crate::walk::{check, compare};

const PARALLEL: LoopKind = LoopKind::Parallel(3);
const VECTOR: LoopKind = LoopKind::Vector(16);

fn number(value: f64) -> Expr {
    Expr::number(F32, value)
}

fn x(column: &str) -> Expr {
    load("x", F32, vec![at("i"), at(column)])
}

fn y(column: &str) -> Expr {
    load("y", F32, vec![at("i"), at(column)])
}

fn acc(name: &str) -> Expr {
    var(name, F32)
}

fn fold(name: &str, op: Reduce, extent: &Dim, body: Vec<Stmt>) -> Stmt {
    Stmt::Fold(Box::new(LaneFold::of_cpu(sym(name), op, (sym("k"), extent.clone()), body)))
}

/// The largest element, the sum of the exponentials, and their quotients.
fn softmax(n: &Dim) -> Vec<Stmt> {
    let exp = |e: Expr| {
        let e = Expr::binary(Binary::Max, e * number(std::f64::consts::LOG2_E), number(-126.0));
        let whole = Expr::unary(Unary::Round, Expr::binary(Binary::Min, e.clone(), number(127.0)));
        let part = e - whole.clone();
        let sum = Expr::fma(number(0.2402), part.clone(), number(std::f64::consts::LN_2));
        let exponent = whole.cast(I32) + Expr::number(I32, 127.0);
        let shifted = Expr::binary(Binary::Shl, exponent, Expr::number(I32, 23.0));
        Expr::fma(sum, part, number(1.0)) * shifted.bitcast(F32)
    };
    let most = set("most", Expr::binary(Binary::Max, acc("most"), x("k")));
    vec![
        fold("most", Reduce::Max, n, vec![most]),
        bind("top", acc("most")),
        for_each("j", n.clone(), VECTOR, vec![store("y", vec![at("i"), at("j")], exp(x("j") - acc("top")))]),
        fold("sum", Reduce::Sum, n, vec![set("sum", acc("sum") + y("k"))]),
        for_each("j", n.clone(), VECTOR, vec![store("y", vec![at("i"), at("j")], y("j") / acc("sum"))]),
    ]
}

/// Mean and variance, and what is left without them; the mean goes to memory, too.
fn layer_norm(n: &Dim) -> Vec<Stmt> {
    let size = || Expr::from(n.clone()).cast(I32).cast(F32);
    let centred = x("k") - acc("mean");
    let scaled = (x("j") - acc("mean")) * acc("scale");
    let value = Expr::fma(scaled, load("w", F32, vec![at("j")]), load("w", F32, vec![at("j")]));
    vec![
        fold("sum", Reduce::Sum, n, vec![set("sum", acc("sum") + x("k"))]),
        bind("mean", acc("sum") / size()),
        store("s", vec![at("i")], acc("mean")),
        fold(
            "square",
            Reduce::Sum,
            n,
            vec![set("square", Expr::fma(centred.clone(), centred, acc("square")))],
        ),
        bind("scale", number(1.0) / Expr::unary(Unary::Sqrt, acc("square") / size() + number(1e-5))),
        for_each("j", n.clone(), VECTOR, vec![store("y", vec![at("i"), at("j")], value)]),
    ]
}

/// The sum of the squares, by a variable that loops around folds change.
fn rms_norm(n: &Dim) -> Vec<Stmt> {
    let taken = vec![
        fold("square", Reduce::Sum, n, vec![set("square", Expr::fma(x("k"), x("k"), acc("square")))]),
        set("sum", acc("sum") + acc("square")),
    ];
    let value = x("j") / acc("root") * load("w", F32, vec![at("j")]);
    vec![
        variable("sum", number(0.0)),
        for_each("r", dim("2"), LoopKind::Serial, taken),
        bind("root", Expr::unary(Unary::Sqrt, acc("sum") + number(1e-6))),
        store("s", vec![at("i")], acc("root")),
        for_each("j", n.clone(), VECTOR, vec![store("y", vec![at("i"), at("j")], value)]),
    ]
}

/// Extrema, whose order shows where a number is none; products; and each element on the way.
fn extrema(n: &Dim) -> Vec<Stmt> {
    let least = set("least", Expr::binary(Binary::Min, acc("least"), x("k")));
    let product = vec![
        bind("e", x("k") - acc("least")),
        store("y", vec![at("i"), at("k")], acc("e")),
        set("product", acc("product") * acc("e")),
    ];
    vec![
        fold("least", Reduce::Min, n, vec![least]),
        fold("product", Reduce::Prod, n, product),
        store("s", vec![at("i")], acc("product")),
    ]
}

type Row = fn(&Dim) -> Vec<Stmt>;
const ROWS: [(&str, Row); 4] =
    [("softmax", softmax), ("layer_norm", layer_norm), ("rms_norm", rms_norm), ("extrema", extrema)];

/// Such rows of `x[m, n]`, one for each iteration of a loop.
fn rows(name: &str, row: Row, n: &Dim, kind: LoopKind) -> Kernel {
    let shape = [dim("m"), n.clone()];
    let params = vec![
        read("x", F32, &shape),
        read("w", F32, std::slice::from_ref(n)),
        write("y", F32, &shape),
        write("s", F32, &shape[..1]),
    ];
    kernel(name, &["m", "n"], params, vec![for_each("i", dim("m"), kind, row(n))])
}

fn buffers(m: usize, n: usize, special: bool) -> Vec<Vec<Scalar>> {
    let mut x = values(F32, m * n, 11 + n as u64);
    let edges = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e-42];
    if special {
        let count = x.len().max(1);
        for (at, edge) in edges.into_iter().enumerate() {
            x.iter_mut().skip(at * count / 5).step_by(29).for_each(|x| *x = Scalar::f32(edge));
        }
    }
    let zeros = |count| vec![Scalar::f32(0.0); count];
    vec![x, values(F32, n, 17), zeros(m * n), zeros(m)]
}

#[test]
fn rows_of_many_lengths() {
    for (name, row) in ROWS {
        for kind in [PARALLEL, LoopKind::Serial] {
            let symbolic = rows(name, row, &dim("n"), kind);
            let any = Machine::all(&program(vec![symbolic.clone()]));
            for n in [0, 1, 7, 8, 9, 16, 17, 24, 25, 100, 768] {
                let known = rows(name, row, &Dim::constant(n), kind);
                let machines = Machine::all(&program(vec![known.clone()]));
                for m in [0, 1, 3, 6, 13] {
                    let buffers = buffers(m, n as usize, m == 6);
                    let sizes = [m as i64, n];
                    machines.iter().for_each(|machine| compare(machine, 0, &known, &sizes, &buffers));
                    any.iter().for_each(|machine| compare(machine, 0, &symbolic, &sizes, &buffers));
                }
            }
        }
    }
}

#[test]
fn rows_in_two_loops() {
    // The inner loop starts over at each step of the outer one.
    let at3 = |last: &str| vec![at("i"), at("r"), at(last)];
    for n in [5, 16, 40] {
        let taken = set("sum", acc("sum") + load("x", F32, at3("k")));
        let value = load("x", F32, at3("j")) - acc("sum");
        let row = vec![
            fold("sum", Reduce::Sum, &Dim::constant(n), vec![taken]),
            for_each("j", n, VECTOR, vec![store("y", at3("j"), value)]),
        ];
        let shape = [dim("m"), dim("g"), Dim::constant(n)];
        let params = vec![read("x", F32, &shape), write("y", F32, &shape)];
        for outer in [PARALLEL, LoopKind::Serial] {
            let nest = for_each("i", dim("m"), outer, vec![for_each("r", dim("g"), PARALLEL, row.clone())]);
            let kernel = kernel("nest", &["m", "g"], params.clone(), vec![nest]);
            for [m, g] in [[3, 4], [2, 9], [5, 1], [2, 0]] {
                let count = (m * g * n) as usize;
                check(&kernel, &[m, g], &[values(F32, count, 3), vec![Scalar::f32(0.0); count]]);
            }
        }
    }
}

fn image(kernel: &Kernel, vectors: Vectors) -> Image {
    let target = Target { vectors, ..Target::host() };
    cranelift::emit(&program(vec![kernel.clone()]), &target).expect("emitted")
}

#[test]
fn a_row_is_one_vector_function() {
    let vectors = match Target::host() {
        host if host.has("avx512vl") && host.has("avx512dq") => vec![Vectors::Bits256, Vectors::Bits512],
        host if host.has("avx2") => vec![Vectors::Bits256],
        _ => vec![],
    };
    for (name, row) in ROWS {
        for n in ["n", "128"] {
            for (kind, functions) in [(PARALLEL, 3), (LoopKind::Serial, 2)] {
                let kernel = rows(name, row, &dim(n), kind);
                for &vectors in &vectors {
                    // The kernel, the body of a parallel loop, and what all rows of a range are computed by.
                    assert_eq!(image(&kernel, vectors).functions.len(), functions, "{name}");
                    let target = Target { vectors, ..Target::host() };
                    let text = cranelift::clif(&program(vec![kernel.clone()]), &target).expect("emitted");
                    // Nothing that folds is left to the code generator.
                    assert!(!text.contains("f32x4") && !text.contains("fadd"), "{name}: {text}");
                }
            }
        }
    }
}
