//! Folds in lanes: every length, what no order of the lanes hides, and what bodies hold.

use ir::dim::Dim;
use ir::dtype::DType::{self, F32, F64};
use ir::kernel::{Expr, Kernel, LaneFold, LoopKind, Reduce, Stmt};
use ir::scalar::{Binary, Scalar, Unary};

use crate::build::*;
use crate::walk::check;

const OPS: [Reduce; 4] = [Reduce::Sum, Reduce::Prod, Reduce::Max, Reduce::Min];

fn fold(op: Reduce, extent: impl Into<Dim>, body: Vec<Stmt>) -> Stmt {
    Stmt::Fold(Box::new(LaneFold::of_cpu(sym("acc"), op, (sym("k"), extent.into()), body)))
}

fn acc() -> Expr {
    var("acc", F32)
}

/// `acc ∘ element`.
fn take(op: Reduce, element: Expr) -> Stmt {
    set("acc", Expr::binary(op.function(), acc(), element))
}

fn x() -> Expr {
    load("x", F32, vec![at("i"), at("k")])
}

fn blank(dtype: DType, count: i64) -> Vec<Scalar> {
    vec![Scalar::from_bits(dtype, 0); count as usize]
}

/// A fold of each row of `x[m, n]`, and its value in `y[m]` and beside each element in `z[m, n]`.
fn rows(name: &str, extent: &Dim, fold: Stmt) -> Kernel {
    let shape = [dim("m"), extent.clone()];
    let beside = store("z", vec![at("i"), at("j")], load("x", F32, vec![at("i"), at("j")]) - acc());
    let row = vec![
        fold,
        store("y", vec![at("i")], acc()),
        for_each("j", extent.clone(), LoopKind::Vector(16), vec![beside]),
    ];
    let body = vec![for_each("i", dim("m"), LoopKind::Parallel(2), row)];
    let params = vec![read("x", F32, &shape), write("y", F32, &[dim("m")]), write("z", F32, &shape)];
    kernel(name, &["m", "n"], params, body)
}

fn check_rows(kernel: &Kernel, n: i64, x: Vec<Scalar>) {
    let rows = x.len() as i64 / n.max(1);
    check(kernel, &[rows, n], &[x, blank(F32, rows), blank(F32, rows * n)]);
}

#[test]
fn rows_of_every_length() {
    for op in OPS {
        let symbolic = rows(op.name(), &dim("n"), fold(op, dim("n"), vec![take(op, x())]));
        for n in 0..=70 {
            check_rows(&symbolic, n, values(F32, 3 * n as usize, 5));
        }
        for n in [0, 1, 15, 16, 17, 32, 49] {
            let known = rows(op.name(), &dim(&n.to_string()), fold(op, n, vec![take(op, x())]));
            check_rows(&known, n, values(F32, 3 * n as usize, 9));
        }
    }
}

#[test]
fn numbers_that_are_none_at_every_place() {
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0];
    for op in OPS {
        let kernel = rows(op.name(), &dim("n"), fold(op, dim("n"), vec![take(op, x())]));
        for n in [1, 16, 37] {
            // One row for each place and each number.
            let mut elements = Vec::new();
            for (place, number) in (0..n).flat_map(|place| special.map(|number| (place, number))) {
                let mut row = values(F32, n as usize, 7);
                row[place as usize] = Scalar::from_f64(F32, number);
                elements.extend(row);
            }
            check_rows(&kernel, n, elements);
        }
    }
}

#[test]
fn products_take_one_rounding() {
    let centred = x() - load("x", F32, vec![at("i"), at("0")]);
    let body = vec![bind("d", centred), set("acc", Expr::fma(var("d", F32), var("d", F32), acc()))];
    let kernel = rows("squares", &dim("n"), fold(Reduce::Sum, dim("n"), body));
    for n in [1, 16, 33, 64, 70] {
        check_rows(&kernel, n, values(F32, 2 * n as usize, 3));
    }
}

#[test]
fn bodies_with_guards_and_loops() {
    // Windows of three elements, padded by zeros.
    let place = dim("k") + dim("w") - dim("1");
    let inside = Expr::from(Dim::constant(0)).at_most(place.clone().into());
    let inside = inside.and(Expr::from(place.clone()).less(at("n")));
    let element = inside.select(load("x", F32, vec![at("i"), place.into()]), Expr::number(F32, 0.0));
    let window = for_each("w", dim("3"), LoopKind::Serial, vec![take(Reduce::Max, element)]);
    let kernel = rows("windows", &dim("n"), fold(Reduce::Max, dim("n"), vec![window]));
    for n in [1, 5, 16, 35, 48] {
        check_rows(&kernel, n, values(F32, 2 * n as usize, 8));
    }
}

#[test]
fn elements_that_are_stored_on_the_way() {
    let square = vec![
        bind("s", x() * x()),
        store("z", vec![at("i"), at("k")], var("s", F32)),
        take(Reduce::Sum, var("s", F32)),
    ];
    let row = vec![fold(Reduce::Sum, dim("n"), square), store("y", vec![at("i")], acc())];
    let body = vec![for_each("i", dim("m"), LoopKind::Serial, row)];
    let shape = [dim("m"), dim("n")];
    let params = vec![read("x", F32, &shape), write("y", F32, &[dim("m")]), write("z", F32, &shape)];
    let kernel = kernel("squares", &["m", "n"], params, body);
    for n in [7, 16, 50] {
        check_rows(&kernel, n, values(F32, 2 * n as usize, 4));
    }
}

/// Doubles and calls have no lanes: the accumulators are the same sixteen.
#[test]
fn bodies_without_lanes() {
    let wide = Expr::unary(Unary::Sqrt, x().cast(F64) * x().cast(F64)).cast(F32);
    let call = Expr::binary(Binary::Pow, x() * x(), Expr::number(F32, 0.75));
    for (name, element) in [("doubles", wide), ("calls", call)] {
        for op in OPS {
            let kernel = rows(name, &dim("n"), fold(op, dim("n"), vec![take(op, element.clone())]));
            for n in [0, 3, 16, 41] {
                check_rows(&kernel, n, values(F32, 2 * n as usize, 6));
            }
        }
    }
}
