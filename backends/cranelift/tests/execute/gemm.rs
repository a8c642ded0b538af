//! Matrix products: operands by strides and in panels, and what becomes of the sums.

use ir::dim::Dim;
use ir::dtype::DType::F32;
use ir::kernel::{Access, Expr, Gemm, Kernel, LoopKind, Param, Stmt};
use ir::scalar::{Binary, Scalar};

use crate::build::*;
use crate::walk::check;

fn axis(name: &str, extent: &str) -> (ir::dim::Symbol, Dim) {
    (sym(name), dim(extent))
}

fn panel_count() -> Dim {
    dim("n").ceil_div(&dim("32"))
}

fn workspace() -> Param {
    param("w", F32, &[panel_count(), dim("k"), dim("32")], Access::Scratch)
}

/// `y[i, j] = max(acc·scale + bias[j], 0) + x[i, j]`.
fn epilogue() -> Vec<Stmt> {
    let biased = Expr::fma(var("acc", F32), var("scale", F32), load("bias", F32, vec![at("j")]));
    let positive = Expr::binary(Binary::Max, biased, Expr::number(F32, 0.0));
    let place = vec![at("i"), at("j")];
    vec![bind("r", positive + load("res", F32, place.clone())), store("y", place, var("r", F32))]
}

fn product(a: Expr, b: Expr, packed: bool) -> Vec<Stmt> {
    let gemm = Gemm {
        row: axis("i", "m"),
        col: axis("j", "n"),
        depth: axis("l", "k"),
        a,
        b,
        workspace: (!packed).then(|| sym("w")),
        acc: sym("acc"),
        body: epilogue(),
    };
    vec![bind("scale", load("s", F32, vec![at("0")])), Stmt::Gemm(Box::new(gemm))]
}

fn matmul(name: &str, a: Param, b: Param, loads: [Expr; 2], packed: bool) -> Kernel {
    let [left, right] = loads;
    let matrix = [dim("m"), dim("n")];
    let mut params = vec![
        a,
        b,
        read("s", F32, &[dim("1")]),
        read("bias", F32, &[dim("n")]),
        read("res", F32, &matrix),
        write("y", F32, &matrix),
    ];
    if !packed {
        params.push(workspace());
    }
    kernel(name, &["m", "n", "k"], params, product(left, right, packed))
}

fn inputs(kernel: &Kernel, sizes: &[i64]) -> Vec<Vec<Scalar>> {
    let lookup = |symbol: &_| kernel.sizes.iter().position(|s| s == symbol).map(|at| sizes[at]);
    let count = |param: &Param| param.ty.elements().eval(&lookup).expect("a size") as usize;
    kernel.params.iter().enumerate().map(|(at, param)| values(F32, count(param), 5 + at as u64)).collect()
}

const SIZES: [[i64; 3]; 6] = [[7, 45, 9], [1, 1, 1], [4, 32, 16], [3, 64, 0], [0, 5, 3], [5, 33, 2]];

#[test]
fn operands_by_strides() {
    let straight = matmul(
        "straight",
        read("a", F32, &[dim("m"), dim("k")]),
        read("b", F32, &[dim("k"), dim("n")]),
        [load("a", F32, vec![at("i"), at("l")]), load("b", F32, vec![at("l"), at("j")])],
        false,
    );
    let turned = matmul(
        "turned",
        read("a", F32, &[dim("k"), dim("m") + dim("2")]),
        read("b", F32, &[dim("n"), dim("k")]),
        [load("a", F32, vec![at("l"), (dim("i") + dim("2")).into()]), load("b", F32, vec![at("j"), at("l")])],
        false,
    );
    for kernel in [straight, turned] {
        for sizes in SIZES {
            check(&kernel, &sizes, &inputs(&kernel, &sizes));
        }
    }
}

fn panels_at(prefix: Vec<Expr>) -> Expr {
    let j = dim("j");
    let place = [j.floor_div(&dim("32")).into(), at("l"), j.modulo(&dim("32")).into()];
    load("b", F32, prefix.into_iter().chain(place).collect())
}

#[test]
fn operands_in_panels() {
    let kernel = matmul(
        "panels",
        read("a", F32, &[dim("m"), dim("k")]),
        read("b", F32, &[panel_count(), dim("k"), dim("32")]),
        [load("a", F32, vec![at("i"), at("l")]), panels_at(vec![])],
        true,
    );
    for sizes in SIZES {
        check(&kernel, &sizes, &inputs(&kernel, &sizes));
    }
}

#[test]
fn experts_in_parallel() {
    // Each expert's rows through its own weights; the rows' operand is gathered, the expert's weights chosen by id.
    let id = load("ids", F32, vec![at("e")]).cast(ir::dtype::DType::I64);
    let gemm = Gemm {
        row: axis("i", "m"),
        col: axis("j", "n"),
        depth: axis("l", "k"),
        a: load("a", F32, vec![at("e"), at("i"), at("l")]),
        b: panels_at(vec![id]),
        workspace: None,
        acc: sym("acc"),
        body: vec![
            store("y", vec![at("e"), at("i"), at("j")], var("acc", F32) * Expr::from(dim("e")).cast(F32)),
            Stmt::If {
                cond: Expr::from(dim("e")).less(at("2")),
                then: vec![store("y", vec![at("e"), at("i"), at("j")], var("acc", F32))],
            },
        ],
    };
    let body = vec![for_each("e", dim("3"), LoopKind::Parallel(1), vec![Stmt::Gemm(Box::new(gemm))])];
    let params = vec![
        read("ids", F32, &[dim("3")]),
        read("a", F32, &[dim("3"), dim("m"), dim("k")]),
        read("b", F32, &[dim("4"), panel_count(), dim("k"), dim("32")]),
        write("y", F32, &[dim("3"), dim("m"), dim("n")]),
    ];
    let kernel = kernel("experts", &["m", "n", "k"], params, body);
    for sizes in SIZES {
        let mut inputs = inputs(&kernel, &sizes);
        inputs[0] = [3.0, 0.0, 2.0].map(Scalar::f32).to_vec();
        check(&kernel, &sizes, &inputs);
    }
}
