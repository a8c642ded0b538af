//! Statements: addresses, guards, scalars that change, small arrays, parallel bodies; with symbolic sizes.

use ir::dim::Dim;
use ir::dtype::DType::{
    self, BF16, Bool, F4E2M1, F8E4M3FN, F8E5M2FNUZ, F8E8M0, F16, F32, F64, I2, I4, I8, I32, I64, U8, U64,
};
use ir::kernel::{Expr, Kernel, LoopKind, Stmt};
use ir::scalar::{Binary, Scalar, Unary};

use crate::build::*;
use crate::walk::check;

const SERIAL: LoopKind = LoopKind::Serial;
const VECTOR: LoopKind = LoopKind::Vector(16);

fn number(value: f64) -> Expr {
    Expr::number(F32, value)
}

fn blank(dtype: DType, count: usize) -> Vec<Scalar> {
    vec![Scalar::from_bits(dtype, 0); count]
}

/// Inputs for each parameter: values for those that are read.
fn buffers(kernel: &Kernel, sizes: &[i64]) -> Vec<Vec<Scalar>> {
    let lookup = |symbol: &_| kernel.sizes.iter().position(|s| s == symbol).map(|at| sizes[at]);
    let params = kernel.params.iter().enumerate();
    params
        .map(|(at, param)| {
            let count = param.ty.elements().eval(&lookup).expect("sizes of parameters are given") as usize;
            values(param.ty.dtype, count, at as u64 + 11)
        })
        .collect()
}

fn check_sizes(kernel: &Kernel, sizes: &[&[i64]]) {
    for sizes in sizes {
        check(kernel, sizes, &buffers(kernel, sizes));
    }
}

#[test]
fn transposed_and_strided_accesses() {
    for (name, kind) in KINDS {
        let shape = [dim("m"), dim("n")];
        let element = load("x", F32, vec![at("j"), at("i")])
            + load("z", F32, vec![Dim::symbol("i").into(), (dim("j") * dim("2") + dim("1")).into()])
            + load("row", F32, vec![at("i")]);
        let body = vec![for_each(
            "i",
            dim("m"),
            SERIAL,
            vec![for_each(
                "j",
                dim("n"),
                kind,
                vec![
                    store("y", vec![at("i"), at("j")], element.clone()),
                    store("t", vec![at("j"), at("i")], element * number(2.0)),
                ],
            )],
        )];
        let params = vec![
            read("x", F32, &[dim("n"), dim("m")]),
            read("z", F32, &[dim("m"), dim("2") * dim("n") + dim("1")]),
            read("row", F32, &[dim("m")]),
            write("y", F32, &shape),
            write("t", F32, &[dim("n"), dim("m")]),
        ];
        let kernel = kernel(name, &["m", "n"], params, body);
        check_sizes(&kernel, &[&[3, 37], &[1, 1], &[4, 16], &[0, 5], &[5, 0], &[2, 20]]);
    }
}

#[test]
fn quotients_rests_and_extrema_in_indices() {
    for (name, kind) in KINDS {
        let i = dim("i");
        let three = dim("3");
        let quotient = vec![i.floor_div(&three).into(), i.modulo(&three).into()];
        let below = (i.clone() - dim("5")).floor_div(&dim("2")) + three.clone();
        let thirds = (i.clone() - dim("5")).floor_div(&three) + dim("2");
        // Quotients of negative numbers, by a number and by a size.
        let [down, steps] = [&three, &dim("m")].map(|by| (dim("1") - i.clone()).floor_div(by) + dim("n"));
        let below = Dim::smaller(&below, &(dim("m") - dim("1")));
        let thirds = Dim::smaller(&thirds, &(dim("m") - dim("1")));
        let least = Dim::smaller(&i, &(dim("m") - dim("1")));
        let symbolic = i.floor_div(&dim("m"));
        let element = load("x", F32, quotient)
            + load("x", F32, vec![below.into(), at("0")])
            + load("x", F32, vec![least.into(), (Dim::larger(&i, &dim("2")) - i.clone()).into()])
            + load("x", F32, vec![symbolic.into(), at("1")])
            + load("x", F32, vec![thirds.into(), at("2")])
            + load("line", F32, vec![down.into()])
            + load("line", F32, vec![steps.into()]);
        let body = vec![for_each("i", dim("n"), kind, vec![store("y", vec![at("i")], element)])];
        let line = read("line", F32, &[dim("n") + dim("1")]);
        let params = vec![read("x", F32, &[dim("m"), dim("3")]), line, write("y", F32, &[dim("n")])];
        let kernel = kernel(name, &["m", "n"], params, body);
        check_sizes(&kernel, &[&[30, 41], &[12, 16], &[9, 5], &[1, 0], &[0, 0]]);
    }
}

#[test]
fn guards_keep_loads_from_running() {
    for (name, kind) in KINDS {
        // A padded row: outside is −1. Beside it, elements of which all but one would lie where no memory is.
        let shifted = dim("i") - dim("2");
        let only = Expr::from(shifted.clone()).equals(at("0")).and(at("0").less(at("m")));
        let far = load("x", F32, vec![(shifted.clone() * dim("1099511627776")).into()]);
        let far = only.select(far, number(-2.0));
        let inside = |i: &Dim| {
            let low = Expr::from(Dim::constant(0)).at_most(i.clone().into());
            low.and(Expr::from(i.clone()).less(at("m")))
        };
        let padded = inside(&shifted).select(load("x", F32, vec![shifted.into()]), number(-1.0));
        // Guards that are the same for the whole row, by a size and by a value.
        let whole = at("m").less(at("4")).select(number(0.0), load("x", F32, vec![at("3")]));
        let flag = load("flag", Bool, vec![at("0")]);
        let nowhere = load("x", F32, vec![((dim("m") + dim("1")) * dim("1099511627776")).into()]);
        let chosen = flag.select(nowhere, padded.clone());
        let body = vec![for_each(
            "i",
            dim("n"),
            kind,
            vec![store("y", vec![at("i")], padded), store("z", vec![at("i")], whole + chosen + far)],
        )];
        let params = vec![
            read("x", F32, &[dim("m")]),
            read("flag", Bool, &[dim("1")]),
            write("y", F32, &[dim("n")]),
            write("z", F32, &[dim("n")]),
        ];
        let kernel = kernel(name, &["m", "n"], params, body);
        for sizes in [[5, 40], [40, 40], [0, 20], [3, 7], [64, 33], [1, 0]] {
            let mut inputs = buffers(&kernel, &sizes);
            inputs[1] = vec![Scalar::bool(false)];
            check(&kernel, &sizes, &inputs);
        }
    }
}

#[test]
fn conditions_on_values_guard_gathers() {
    for (name, kind) in KINDS {
        // Rows by ids that may be negative: those give the row of zeros.
        let id = load("ids", I32, vec![at("j")]).cast(I64);
        let valid = Expr::from(Dim::constant(0)).at_most(id.clone()).and(id.clone().less(at("m")));
        let gathered = valid.select(load("x", F32, vec![id.clone(), at("k")]), number(0.0));
        let uniform = load("ids", I32, vec![at("k")]).cast(I64);
        let row = Expr::binary(
            Binary::And,
            uniform.clone().less(at("m")),
            Expr::from(Dim::constant(0)).at_most(uniform.clone()),
        )
        .select(load("w", F32, vec![uniform + at("0"), at("j")]), number(3.0));
        let body = vec![for_each(
            "k",
            dim("3"),
            SERIAL,
            vec![for_each("j", dim("n"), kind, vec![store("y", vec![at("k"), at("j")], gathered + row)])],
        )];
        let params = vec![
            read("ids", I32, &[dim("n")]),
            read("x", F32, &[dim("m"), dim("3")]),
            read("w", F32, &[dim("m"), dim("n")]),
            write("y", F32, &[dim("3"), dim("n")]),
        ];
        let kernel = kernel(name, &["m", "n"], params, body);
        for n in [3, 16, 37] {
            let sizes = [6, n];
            let mut inputs = buffers(&kernel, &sizes);
            inputs[0] = (0..n).map(|i| Scalar::from_i64(I32, i * 5 % 11 - 2)).collect();
            check(&kernel, &sizes, &inputs);
        }
    }
}

#[test]
fn index_comparisons_and_conversions() {
    for (name, kind) in KINDS {
        // A causal mask with a length that is read, and positions as numbers.
        let (i, j) = (dim("i"), dim("j"));
        let causal = Expr::from(j.clone()).at_most((i.clone() + dim("m") - dim("n")).into());
        let length = load("len", I64, vec![at("i")]);
        let short = Expr::from(j.clone() * dim("3")).less(length.clone());
        let even = Expr::from(j.modulo(&dim("2"))).equals(at("0"));
        let mask = causal.and(short).and(even);
        let position = Expr::from(j.clone() - i).cast(F32);
        let element = mask.clone().select(position, number(f64::NEG_INFINITY));
        let whole = Expr::from(dim("3") - j.clone()).cast(I32);
        let body = vec![for_each(
            "i",
            dim("m"),
            SERIAL,
            vec![for_each(
                "j",
                dim("n"),
                kind,
                vec![
                    store("y", vec![at("i"), at("j")], element),
                    store("mask", vec![at("i"), at("j")], mask),
                    store("int", vec![at("i"), at("j")], whole),
                ],
            )],
        )];
        let shape = [dim("m"), dim("n")];
        let params = vec![
            read("len", I64, &[dim("m")]),
            write("y", F32, &shape),
            write("mask", Bool, &shape),
            write("int", I32, &shape),
        ];
        let kernel = kernel(name, &["m", "n"], params, body);
        for n in [5, 35, 64] {
            let lengths = [7, 0, i64::MIN, i64::MAX, -3, 60];
            let mut inputs = buffers(&kernel, &[6, n]);
            inputs[0] = lengths.iter().map(|n| Scalar::from_i64(I64, *n)).collect();
            check(&kernel, &[6, n], &inputs);
        }
    }
}

#[test]
fn folds_by_variables() {
    for (name, kind) in KINDS {
        for dtype in [F32, F64, I32, I64, U8] {
            // Row sums down the columns (the vector axis is kept), then a softmax-like pass.
            let zero = Expr::number(dtype, 0.0);
            let element = load("x", dtype, vec![at("k"), at("j")]);
            let body = vec![for_each(
                "j",
                dim("n"),
                kind,
                vec![
                    bind("scale", load("s", dtype, vec![at("j")])),
                    variable("sum", zero.clone()),
                    variable("most", load("x", dtype, vec![at("0"), at("j")])),
                    for_each(
                        "k",
                        dim("m"),
                        SERIAL,
                        vec![
                            bind("e", element * var("scale", dtype)),
                            set("sum", var("sum", dtype) + var("e", dtype)),
                            Stmt::If {
                                cond: Expr::from(dim("k")).less(at("2")),
                                then: vec![set(
                                    "most",
                                    Expr::binary(Binary::Max, var("most", dtype), var("e", dtype)),
                                )],
                            },
                        ],
                    ),
                    store("y", vec![at("j")], var("sum", dtype)),
                    store("z", vec![at("j")], var("most", dtype)),
                ],
            )];
            let params = vec![
                read("x", dtype, &[dim("m"), dim("n")]),
                read("s", dtype, &[dim("n")]),
                write("y", dtype, &[dim("n")]),
                write("z", dtype, &[dim("n")]),
            ];
            let kernel = kernel(&format!("{name}_{dtype}"), &["m", "n"], params, body);
            check_sizes(&kernel, &[&[5, 37], &[1, 16], &[3, 3], &[7, 20]]);
        }
    }
}

#[test]
fn rows_reduced_then_scaled_in_parallel() {
    // A softmax by rows: captured axes, scalars, a small array; a nested parallel loop runs serially.
    let x = load("x", F32, vec![at("b"), at("i"), at("j")]);
    let body = vec![
        bind("bias", load("bias", F32, vec![at("0")])),
        variable("offset", number(0.25)),
        for_each(
            "b",
            dim("2"),
            SERIAL,
            vec![
                Stmt::Alloc { name: sym("row"), dtype: F32, shape: vec![64] },
                for_each(
                    "q",
                    dim("64"),
                    SERIAL,
                    vec![store("row", vec![at("q")], Expr::from(dim("q")).cast(F32))],
                ),
                set("offset", var("offset", F32) + number(1.0)),
                for_each(
                    "i",
                    dim("m"),
                    LoopKind::Parallel(2),
                    vec![
                        variable("most", number(f64::NEG_INFINITY)),
                        for_each(
                            "j",
                            dim("n"),
                            SERIAL,
                            vec![set("most", Expr::binary(Binary::Max, var("most", F32), x.clone()))],
                        ),
                        variable("sum", number(0.0)),
                        for_each(
                            "j",
                            dim("n"),
                            LoopKind::Parallel(1),
                            vec![
                                bind("e", Expr::unary(Unary::Exp, x.clone() - var("most", F32))),
                                set("sum", var("sum", F32) + var("e", F32)),
                                store("y", vec![at("b"), at("i"), at("j")], var("e", F32)),
                            ],
                        ),
                        for_each(
                            "j",
                            dim("n"),
                            VECTOR,
                            vec![store(
                                "y",
                                vec![at("b"), at("i"), at("j")],
                                load("y", F32, vec![at("b"), at("i"), at("j")]) / var("sum", F32)
                                    + var("bias", F32) * var("offset", F32)
                                    + load("row", F32, vec![dim("i").into()]),
                            )],
                        ),
                    ],
                ),
            ],
        ),
    ];
    let shape = [dim("2"), dim("m"), dim("n")];
    let params = vec![read("x", F32, &shape), read("bias", F32, &[dim("1")]), write("y", F32, &shape)];
    let kernel = kernel("softmax", &["m", "n"], params, body);
    check_sizes(&kernel, &[&[7, 19], &[1, 1], &[10, 32], &[0, 4], &[3, 0]]);
}

#[test]
fn unrolled_loops_and_tiles() {
    // A transpose by tiles through a small array, with guarded edges.
    let (i, j) = (dim("bi") * dim("8") + dim("i"), dim("bj") * dim("8") + dim("j"));
    let inside = Expr::from(i.clone()).less(at("m")).and(Expr::from(j.clone()).less(at("n")));
    let body = vec![for_each(
        "bi",
        dim("m").ceil_div(&dim("8")),
        LoopKind::Parallel(1),
        vec![
            Stmt::Alloc { name: sym("tile"), dtype: F64, shape: vec![8, 8] },
            for_each(
                "bj",
                dim("n").ceil_div(&dim("8")),
                SERIAL,
                vec![
                    for_each(
                        "i",
                        dim("8"),
                        SERIAL,
                        vec![for_each(
                            "j",
                            dim("8"),
                            LoopKind::Unroll,
                            vec![store(
                                "tile",
                                vec![at("j"), at("i")],
                                inside.clone().select(
                                    load("x", F64, vec![i.clone().into(), j.clone().into()]),
                                    Expr::number(F64, 0.0),
                                ),
                            )],
                        )],
                    ),
                    for_each(
                        "j",
                        dim("8"),
                        LoopKind::Unroll,
                        vec![for_each(
                            "i",
                            dim("8"),
                            VECTOR,
                            vec![Stmt::If {
                                cond: inside.clone(),
                                then: vec![store(
                                    "y",
                                    vec![j.clone().into(), i.clone().into()],
                                    load("tile", F64, vec![at("j"), at("i")]),
                                )],
                            }],
                        )],
                    ),
                ],
            ),
        ],
    )];
    let params = vec![read("x", F64, &[dim("m"), dim("n")]), write("y", F64, &[dim("n"), dim("m")])];
    let kernel = kernel("tiles", &["m", "n"], params, body);
    check_sizes(&kernel, &[&[19, 11], &[8, 16], &[1, 1], &[0, 3]]);
}

#[test]
fn mixed_types_in_one_body() {
    for (name, kind) in KINDS {
        // Quantised and 16-bit arithmetic around f32.
        let wide = |source: &str, dtype| load(source, dtype, vec![at("i")]).cast(F32);
        let sum = Expr::fma(wide("a", F16), wide("b", BF16), wide("c", I8) * wide("s", F32));
        let quantised = Expr::unary(Unary::Round, sum.clone() * number(20.0)).cast(U8);
        let keep = load("keep", Bool, vec![at("i")]);
        let positive = number(0.0).less(sum.clone());
        let body = vec![for_each(
            "i",
            dim("n"),
            kind,
            vec![
                store("f16", vec![at("i")], sum.clone().cast(F16)),
                store("bf16", vec![at("i")], keep.clone().select(sum.clone(), number(1.5)).cast(BF16)),
                store("q", vec![at("i")], quantised),
                store("m", vec![at("i")], Expr::binary(Binary::Xor, keep, positive)),
                store("d", vec![at("i")], Expr::number(F64, 2.5)),
                store("f8", vec![at("i")], (wide("four", I4) * wide("power", F8E8M0)).cast(F8E4M3FN)),
                store("i2", vec![at("i")], (wide("f4", F4E2M1) + wide("f8b", F8E5M2FNUZ)).cast(I2)),
            ],
        )];
        let n = [dim("n")];
        let params = vec![
            read("a", F16, &n),
            read("b", BF16, &n),
            read("c", I8, &n),
            read("s", F32, &n),
            read("keep", Bool, &n),
            write("f16", F16, &n),
            write("bf16", BF16, &n),
            write("q", U8, &n),
            write("m", Bool, &n),
            write("d", F64, &n),
            read("four", I4, &n),
            read("power", F8E8M0, &n),
            read("f4", F4E2M1, &n),
            read("f8b", F8E5M2FNUZ, &n),
            write("f8", F8E4M3FN, &n),
            write("i2", I2, &n),
        ];
        let kernel = kernel(name, &["n"], params, body);
        check_sizes(&kernel, &[&[0], &[1], &[4], &[16], &[39]]);
    }
}

#[test]
fn wide_integers_fall_back_to_one_by_one() {
    let body = vec![for_each(
        "i",
        dim("n"),
        VECTOR,
        vec![
            bind(
                "h",
                load("x", U64, vec![at("i")]) * Expr::constant(Scalar::from_bits(U64, 0x9e37_79b9_7f4a_7c15)),
            ),
            store(
                "y",
                vec![at("i")],
                Expr::binary(
                    Binary::Xor,
                    var("h", U64),
                    Expr::binary(Binary::Shr, var("h", U64), Expr::constant(Scalar::from_bits(U64, 29))),
                ),
            ),
        ],
    )];
    let kernel =
        kernel("hash", &["n"], vec![read("x", U64, &[dim("n")]), write("y", U64, &[dim("n")])], body);
    check_sizes(&kernel, &[&[21]]);
}

#[test]
fn vectors_of_known_length_and_carried_values() {
    for extent in ["5", "16", "18", "48"] {
        let n = [dim(extent)];
        // The second loop carries a value: its iterations run in order whatever it says.
        let body = vec![
            for_each(
                "i",
                dim(extent),
                VECTOR,
                vec![store("y", vec![at("i")], load("x", F32, vec![at("i")]) * number(3.0))],
            ),
            variable("sum", number(0.0)),
            for_each(
                "i",
                dim(extent),
                VECTOR,
                vec![
                    set("sum", var("sum", F32) + load("x", F32, vec![at("i")])),
                    store("z", vec![at("i")], var("sum", F32)),
                ],
            ),
        ];
        let kernel =
            kernel("known", &[], vec![read("x", F32, &n), write("y", F32, &n), write("z", F32, &n)], body);
        let count = extent.parse().expect("a number");
        check(&kernel, &[], &[values(F32, count, 3), blank(F32, count), blank(F32, count)]);
    }
}

#[test]
fn lanes_through_the_runtime() {
    // `tan` and `fmod` are calls: lane by lane in a vector loop, between arithmetic on all lanes.
    let x = load("x", F32, vec![at("i")]);
    let e = Expr::unary(Unary::Tan, x.clone() * number(0.5)) + Expr::binary(Binary::Mod, x, number(0.7));
    let body = vec![for_each("i", dim("n"), VECTOR, vec![store("y", vec![at("i")], e * number(2.0))])];
    let kernel =
        kernel("calls", &["n"], vec![read("x", F32, &[dim("n")]), write("y", F32, &[dim("n")])], body);
    check_sizes(&kernel, &[&[37]]);
}

#[test]
fn vectors_of_other_widths() {
    for width in [1, 3, 4, 8, 11, 64] {
        let element = load("x", F32, vec![at("i")]) * number(0.5) + Expr::from(dim("i")).cast(F32);
        let body = vec![for_each(
            "i",
            dim("n"),
            LoopKind::Vector(width),
            vec![
                store("y", vec![at("i")], element.clone()),
                store("z", vec![at("i")], element.clone().cast(U8)),
                store("h", vec![at("i")], element.cast(F16)),
            ],
        )];
        let n = [dim("n")];
        let params = vec![read("x", F32, &n), write("y", F32, &n), write("z", U8, &n), write("h", F16, &n)];
        let kernel = kernel(&format!("width_{width}"), &["n"], params, body);
        check_sizes(&kernel, &[&[0], &[5], &[8], &[29]]);
    }
}

#[test]
fn every_type_is_captured_by_parallel_bodies() {
    for dtype in DType::ALL {
        let x = load("x", dtype, vec![at("0")]);
        let body = vec![
            bind("c", x.clone()),
            variable("v", load("x", dtype, vec![at("1")])),
            set("v", load("x", dtype, vec![at("2")])),
            for_each(
                "i",
                dim("n"),
                LoopKind::Parallel(1),
                vec![
                    store("y", vec![at("i"), at("0")], var("c", dtype)),
                    store("y", vec![at("i"), at("1")], var("v", dtype)),
                ],
            ),
        ];
        let params = vec![read("x", dtype, &[dim("3")]), write("y", dtype, &[dim("n"), dim("2")])];
        let kernel = kernel(&format!("capture_{dtype}"), &["n"], params, body);
        check_sizes(&kernel, &[&[5]]);
    }
}

#[test]
fn scalars_in_index_arithmetic() {
    // A row chosen by an id that is bound before: in a serial, a parallel and a vector loop; an extent that is read.
    let row = Expr::from(dim("id"));
    let body = vec![
        bind("count", load("ids", I64, vec![at("0")])),
        for_each(
            "e",
            dim("count"),
            LoopKind::Parallel(1),
            vec![
                bind("id", load("ids", I64, vec![at("e")])),
                for_each(
                    "j",
                    dim("n"),
                    VECTOR,
                    vec![for_each(
                        "u",
                        dim("2"),
                        LoopKind::Unroll,
                        vec![store(
                            "y",
                            vec![at("e"), at("u"), at("j")],
                            load("x", F32, vec![row.clone(), at("j")])
                                * Expr::from(dim("u") + dim("id")).cast(F32),
                        )],
                    )],
                ),
            ],
        ),
    ];
    let params = vec![
        read("ids", I64, &[dim("4")]),
        read("x", F32, &[dim("4"), dim("n")]),
        write("y", F32, &[dim("4"), dim("2"), dim("n")]),
    ];
    let kernel = kernel("rows", &["n"], params, body);
    for n in [3, 16, 21] {
        let mut inputs = buffers(&kernel, &[n]);
        inputs[0] = [3, 0, 2, 1].map(|id| Scalar::from_i64(I64, id)).to_vec();
        check(&kernel, &[n], &inputs);
    }
}

/// Sizes and axes are not scalars: `%n` is another thing than `n`.
#[test]
fn scalars_with_the_names_of_sizes_and_axes() {
    for (_, kind) in KINDS {
        let body = vec![
            bind("n", load("x", F32, vec![at("0")])),
            variable("i", var("n", F32) + var("n", F32)),
            for_each(
                "i",
                dim("n"),
                kind,
                vec![
                    bind("q", load("x", F32, vec![at("i")]) + var("i", F32)),
                    store("y", vec![at("i")], var("q", F32) + var("n", F32)),
                ],
            ),
        ];
        let kernel =
            kernel("names", &["n"], vec![read("x", F32, &[dim("n")]), write("y", F32, &[dim("n")])], body);
        check(&kernel, &[37], &[values(F32, 37, 1), values(F32, 37, 2)]);
    }
}
