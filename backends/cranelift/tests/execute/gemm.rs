//! Matrix products: operands by strides and in panels, and what becomes of the sums.

use ir::dim::Dim;
use ir::dtype::DType::{self, F32, I8, I32, U8};
use ir::kernel::stmt::Axes;
use ir::kernel::{Expr, Gemm, Kernel, LoopKind, Param, Stmt};
use ir::scalar::{Binary, Scalar};

use crate::build::*;
use crate::walk::check;

fn axis(name: &str, extent: &str) -> Axes {
    vec![(sym(name), dim(extent))]
}

fn panel_count() -> Dim {
    dim("n").ceil_div(&dim("32"))
}

/// `y[i, j] = max(acc·scale + bias[j], 0) + x[i, j]`.
fn epilogue() -> Vec<Stmt> {
    let biased = Expr::fma(var("acc", F32), var("scale", F32), load("bias", F32, vec![at("j")]));
    let positive = Expr::binary(Binary::Max, biased, Expr::number(F32, 0.0));
    let place = vec![at("i"), at("j")];
    vec![bind("r", positive + load("res", F32, place.clone())), store("y", place, var("r", F32))]
}

fn product(a: Expr, b: Expr) -> Vec<Stmt> {
    let gemm = Gemm {
        row: axis("i", "m"),
        col: axis("j", "n"),
        depth: axis("l", "k"),
        group: None,
        a,
        b,
        acc: sym("acc"),
        body: epilogue(),
    };
    vec![bind("scale", load("s", F32, vec![at("0")])), Stmt::Gemm(Box::new(gemm))]
}

fn matmul(name: &str, a: Param, b: Param, loads: [Expr; 2]) -> Kernel {
    let [left, right] = loads;
    let matrix = [dim("m"), dim("n")];
    let params = vec![
        a,
        b,
        read("s", F32, &[dim("1")]),
        read("bias", F32, &[dim("n")]),
        read("res", F32, &matrix),
        write("y", F32, &matrix),
    ];
    kernel(name, &["m", "n", "k"], params, product(left, right))
}

fn inputs(kernel: &Kernel, sizes: &[i64]) -> Vec<Vec<Scalar>> {
    let lookup = |symbol: &_| kernel.sizes.iter().position(|s| s == symbol).map(|at| sizes[at]);
    let count = |param: &Param| param.ty.elements().eval(&lookup).expect("a size") as usize;
    kernel
        .params
        .iter()
        .enumerate()
        .map(|(at, param)| values(param.ty.dtype, count(param), 5 + at as u64))
        .collect()
}

const SIZES: [[i64; 3]; 6] = [[7, 45, 9], [1, 1, 1], [4, 32, 16], [3, 64, 0], [0, 5, 3], [5, 33, 2]];

#[test]
fn operands_by_strides() {
    let straight = matmul(
        "straight",
        read("a", F32, &[dim("m"), dim("k")]),
        read("b", F32, &[dim("k"), dim("n")]),
        [load("a", F32, vec![at("i"), at("l")]), load("b", F32, vec![at("l"), at("j")])],
    );
    let turned = matmul(
        "turned",
        read("a", F32, &[dim("k"), dim("m") + dim("2")]),
        read("b", F32, &[dim("n"), dim("k")]),
        [load("a", F32, vec![at("l"), (dim("i") + dim("2")).into()]), load("b", F32, vec![at("j"), at("l")])],
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
        group: None,
        a: load("a", F32, vec![at("e"), at("i"), at("l")]),
        b: panels_at(vec![id]),
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

/// `y[m, oy, ox] = Σ w[m, c, ky, kx]·x[c, 2·oy + ky − 1, ox + kx − p]`, `x` being zero outside.
fn convolution(w: Expr, pad: i64, weights: &[Dim]) -> Kernel {
    let y = dim("2") * dim("oy") + dim("ky") - dim("1");
    let x = dim("ox") + dim("kx") - Dim::constant(pad);
    let inside = |at: &Dim, size: &str| {
        Expr::from(dim("0")).at_most(at.into()).and(Expr::from(at).less(dim(size).into()))
    };
    let guard = match pad {
        0 => inside(&y, "h"),
        _ => inside(&y, "h").and(inside(&x, "v")),
    };
    let image = guard.select(load("x", F32, vec![at("c"), y.into(), x.into()]), Expr::number(F32, 0.0));
    let axes = |names: &[(&str, &str)]| names.iter().map(|(name, extent)| (sym(name), dim(extent))).collect();
    let place = vec![at("i"), at("oy"), at("ox")];
    let gemm = Gemm {
        row: axes(&[("i", "m")]),
        col: axes(&[("oy", "p"), ("ox", "q")]),
        depth: axes(&[("c", "3"), ("ky", "3"), ("kx", "2")]),
        group: None,
        a: w,
        b: image,
        acc: sym("acc"),
        body: vec![store("y", place.clone(), var("acc", F32) + load("res", F32, place))],
    };
    let sizes = [dim("m"), dim("p"), dim("q")];
    let params = vec![
        read("w", F32, weights),
        read("x", F32, &[dim("3"), dim("h"), dim("v")]),
        read("res", F32, &sizes),
        write("y", F32, &sizes),
    ];
    kernel("convolution", &["m", "p", "q", "h", "v"], params, vec![Stmt::Gemm(Box::new(gemm))])
}

#[test]
fn windows_over_images() {
    let plain = [dim("m"), dim("3"), dim("3"), dim("2")];
    let weight = load("w", F32, vec![at("i"), at("c"), at("ky"), at("kx")]);
    let depth = dim("6") * dim("c") + dim("2") * dim("ky") + dim("kx");
    let i = dim("i");
    let panel = [i.floor_div(&dim("32")).into(), depth.into(), i.modulo(&dim("32")).into()];
    let panels = [dim("m").ceil_div(&dim("32")), dim("18"), dim("32")];
    for pad in [0, 1] {
        let kernels = [
            convolution(weight.clone(), pad, &plain),
            convolution(load("w", F32, panel.to_vec()), pad, &panels),
        ];
        for kernel in kernels {
            for [m, h, v] in [[1, 3, 4], [5, 9, 12], [40, 6, 7]] {
                let sizes = [m, (h - 1) / 2 + 1, v + 2 * pad - 1, h, v];
                check(&kernel, &sizes, &inputs(&kernel, &sizes));
            }
        }
    }
}

/// `y[i, j] = 2·Σ a·b` of whole numbers.
fn product_of_bytes(name: &str, params: Vec<Param>, [a, b]: [Expr; 2]) -> Kernel {
    let place = vec![at("i"), at("j")];
    let two = Expr::number(I32, 2.0);
    let gemm = Gemm {
        row: axis("i", "m"),
        col: axis("j", "n"),
        depth: axis("l", "k"),
        group: None,
        a,
        b,
        acc: sym("acc"),
        body: vec![store("y", place, var("acc", I32) * two)],
    };
    let result = write("y", I32, &[dim("m"), dim("n")]);
    let params = params.into_iter().chain([result]).collect();
    kernel(name, &["m", "n", "k"], params, vec![Stmt::Gemm(Box::new(gemm))])
}

fn whole(from: &str, dtype: DType, at: Vec<Expr>) -> Expr {
    load(from, dtype, at).cast(I32)
}

#[test]
fn operands_of_bytes() {
    let rows = |dtype| read("a", dtype, &[dim("m"), dim("k")]);
    let columns = |dtype| read("b", dtype, &[dim("k"), dim("n")]);
    let left = |dtype| whole("a", dtype, vec![at("i"), at("l")]);
    let right = |dtype| whole("b", dtype, vec![at("l"), at("j")]);
    let one = |dtype| whole("z", dtype, vec![at("0")]);
    let seven = Expr::number(I32, 7.0);
    let place = |wanted: &[Dim]| -> Vec<Expr> { wanted.iter().map(Expr::from).collect() };
    let quads = place(&Gemm::in_quads(&axis("j", "n"), &axis("l", "k")));
    let quads_of_rows = place(&Gemm::in_quads(&axis("i", "m"), &axis("l", "k")));
    let panels =
        |count: Dim| read("b", I8, &[count, dim("k").ceil_div(&dim("4")) + dim("1"), dim("32"), dim("4")]);
    let kernels = [
        product_of_bytes("plain", vec![rows(U8), columns(I8)], [left(U8), right(I8)]),
        product_of_bytes(
            "with_zeros",
            vec![rows(I8), columns(U8), read("z", U8, &[dim("1")])],
            [left(I8) - seven.clone(), right(U8) - one(U8)],
        ),
        product_of_bytes(
            "with_a_zero_for_each_column",
            vec![rows(U8), columns(I8), read("z", I8, &[dim("n")])],
            [left(U8) - seven.clone(), right(I8) - whole("z", I8, vec![at("j")])],
        ),
        product_of_bytes(
            "with_a_zero_for_each_row",
            vec![rows(U8), columns(U8), read("z", U8, &[dim("m")])],
            [left(U8) - whole("z", U8, vec![at("i")]), right(U8)],
        ),
        product_of_bytes(
            "in_quads",
            vec![rows(U8), panels(dim("n").ceil_div(&dim("32")))],
            [left(U8) - seven.clone(), whole("b", I8, quads)],
        ),
        product_of_bytes(
            "rows_in_quads",
            vec![read("a", U8, &[dim("k"), dim("n")]), panels(dim("m").ceil_div(&dim("32")))],
            [whole("b", I8, quads_of_rows), whole("a", U8, vec![at("l"), at("j")]) - seven],
        ),
    ];
    for kernel in kernels {
        for sizes in SIZES {
            check(&kernel, &sizes, &inputs(&kernel, &sizes));
        }
    }
}
