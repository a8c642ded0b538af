//! What is not emitted is refused, and the message names what, why and the way out.

use cranelift::{EmitError, Target, emit};
use ir::dtype::DType::{F16, F32, I32};
use ir::kernel::{Body, Expr, Gemm, Kernel, LoopKind, Stmt};
use ir::scalar::Binary;

use crate::build::*;

fn refusal(kernel: Kernel, target: &Target) -> EmitError {
    emit(&program(vec![kernel]), target).expect_err("it must be refused")
}

fn one(body: Vec<Stmt>) -> Kernel {
    kernel("k", &["n"], vec![read("x", F32, &[dim("n")]), write("y", F32, &[dim("n")])], body)
}

fn x() -> Expr {
    load("x", F32, vec![at("0")])
}

#[test]
fn stages() {
    let mut kernel = one(vec![]);
    kernel.body = Body::Stages(vec![]);
    let error = refusal(kernel, &Target::portable());
    assert!(matches!(error, EmitError::StageForm { .. }), "{error}");
    assert!(error.to_string().contains("schedule"));
}

#[test]
fn missing_features() {
    let mut target = Target::portable();
    target.features.retain(|f| f != "fma" && f != "sse4.1");
    if target.arch != "x86_64" {
        return;
    }
    let fused = one(vec![store("y", vec![at("0")], Expr::fma(x(), x(), x()))]);
    let error = refusal(fused, &target);
    assert!(matches!(error, EmitError::Feature { feature: "fma", .. }), "{error}");
    let rounded = one(vec![store("y", vec![at("0")], Expr::unary(ir::scalar::Unary::Floor, x()))]);
    let error = refusal(rounded, &target);
    assert!(matches!(error, EmitError::Feature { feature: "sse4.1", .. }), "{error}");
}

#[test]
fn unknown_architectures() {
    let target = Target { arch: "vax".to_owned(), features: vec![], ..Target::portable() };
    assert!(matches!(refusal(one(vec![]), &target), EmitError::Target { .. }));
}

#[test]
fn unbound_names() {
    for body in [
        vec![store("y", vec![at("q")], x())],
        vec![store("q", vec![at("0")], x())],
        vec![store("y", vec![at("0")], var("q", F32))],
        vec![set("q", x())],
        vec![for_each("i", dim("q"), LoopKind::Serial, vec![])],
        // A parallel body has a copy of what is outside, which it cannot change.
        vec![variable("q", x()), for_each("i", dim("n"), LoopKind::Parallel(1), vec![set("q", x())])],
    ] {
        let error = refusal(one(body), &Target::portable());
        assert!(matches!(&error, EmitError::Unbound { name, .. } if name == "q"), "{error}");
    }
}

#[test]
fn types_and_ranks_that_do_not_fit() {
    for body in [
        vec![store("y", vec![at("0")], Expr::number(I32, 1.0))],
        vec![store("y", vec![], x())],
        vec![store("y", vec![at("0")], Expr::binary(Binary::Add, x(), Expr::number(F16, 1.0)))],
        vec![store("y", vec![at("0")], load("x", I32, vec![at("0")]).cast(F32))],
        vec![store("y", vec![at("0")], Expr::binary(Binary::And, x(), x()))],
        vec![store("y", vec![at("0")], x().select(x(), x() + x()))],
        vec![store("y", vec![at("0")], x().bitcast(F16).cast(F32))],
        vec![store("y", vec![Expr::number(I32, 0.0)], x())],
        vec![Stmt::If { cond: x(), then: vec![] }],
        vec![variable("v", x()), set("v", Expr::number(I32, 0.0))],
        vec![for_each(
            "i",
            dim("n"),
            LoopKind::Vector(16),
            vec![store(
                "y",
                vec![at("i")],
                Expr::fma(load("x", F32, vec![at("i")]), Expr::number(ir::dtype::DType::F64, 1.0), x()),
            )],
        )],
    ] {
        let error = refusal(one(body), &Target::portable());
        assert!(matches!(error, EmitError::Unsupported { .. }), "{error}");
    }
}

#[test]
fn too_much_stack() {
    let error = refusal(
        one(vec![Stmt::Alloc { name: sym("t"), dtype: F32, shape: vec![256, 257] }]),
        &Target::portable(),
    );
    assert!(matches!(error, EmitError::Stack { limit: 262_144, .. }), "{error}");
}

#[test]
fn products_that_no_micro_kernel_computes() {
    let gemm = |a: Expr, b: Expr| {
        let body = vec![Stmt::Gemm(Box::new(Gemm {
            row: vec![(sym("i"), dim("n"))],
            col: vec![(sym("j"), dim("n"))],
            depth: vec![(sym("l"), dim("n"))],
            group: None,
            a,
            b,
            acc: sym("acc"),
            body: vec![],
        }))];
        refusal(one(body), &Target::portable()).to_string()
    };
    let square = load("x", F32, vec![(dim("i") * dim("l")).into()]);
    let plain = load("x", F32, vec![(dim("l") + dim("j")).into()]);
    let rows = load("x", F32, vec![(dim("i") + dim("l")).into()]);
    assert!(gemm(square, plain.clone()).contains("affine"));
    assert!(gemm(plain.clone(), plain.clone()).contains("affine"), "the left operand has no columns");
    let guarded =
        |load: Expr, axis: &str| at(axis).less(dim("2").into()).select(load, Expr::number(F32, 0.0));
    let both = gemm(guarded(rows.clone(), "i"), guarded(plain, "j"));
    assert!(both.contains("strided matrix"), "{both}");
    assert!(gemm(Expr::number(F16, 1.0), rows).contains("f32"));
}
