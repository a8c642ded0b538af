//! Scalar regions: their text reads back, sizes are replaced and axes are not, elementwise ops go around them.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it expects")]

use ir::dim::{Dim, Symbol};
use ir::kernel::{Expr, Stage};
use ir::scalar::Unary;
use ir::text::parse_expr;
use ir::{DType, Region};

const TEXTS: [&str; 7] = [
    "(%s: f32) -> %s",
    "(%s: f32) -> 0.0",
    "(%s: f32) -> %s * 0.125",
    "(%s: f32) -> select(i3 <= i2 + n, %s, -inf)",
    "(%s: f32, %x3: f32) -> %s * 0.125 + %x3[0, 0, i2, i3]",
    "(%s: f32, %x3: bool, %x12: i64) -> select(%x3[i0, %x12[i1]], %s, -inf)",
    "(%s: f32, %x4: f32) -> %s - log(1.0 + %x4[floor(i1, 2)] * cast<f32>(i2 - i3))",
];

#[test]
fn regions_read_back() {
    for text in TEXTS {
        let region = Region::parse(text).unwrap();
        assert_eq!(region.to_string(), text);
        assert_eq!(Region::parse(&region.to_string()).unwrap(), region);
    }
    assert_eq!(Region::parse(TEXTS[0]).unwrap(), Region::identity());
    assert!(Region::identity().is_identity());
}

#[test]
fn what_is_no_region_is_refused() {
    for text in [
        "",
        "()",
        "(%t: f32) -> %t",
        "(%s: i64) -> %s",
        "(%s: f32) -> %x3[i0]",
        "(%s: f32) %s",
        "(%s: f32) -> %s %s",
        "(%s: f32) -> %s + i0",
    ] {
        assert!(Region::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_header_names_what_the_body_loads() {
    let given = Region::parse("(%s: f32, %x5: i32, %x10: f32, %x9: f32) -> %x10[0] + %s * %x9[i0]").unwrap();
    assert_eq!(given.to_string(), "(%s: f32, %x9: f32, %x10: f32) -> %x10[0] + %s * %x9[i0]");
    assert_eq!(given.operands(), [9, 10]);
}

#[test]
fn sizes_are_replaced_and_axes_are_not() {
    let region = Region::parse("(%s: f32) -> select(i1 <= i0 + n, %s, -inf)").unwrap();
    let replaced = region.substitute(&|_| Some(Dim::constant(7)));
    assert_eq!(replaced.to_string(), "(%s: f32) -> select(i1 <= i0 + 7, %s, -inf)");
    let (axes, sizes) = region.symbols();
    assert_eq!((axes.into_iter().collect::<Vec<_>>(), sizes.len()), (vec![0, 1], 1));
}

#[test]
fn operands_get_other_numbers() {
    let region = Region::parse("(%s: f32, %x3: f32, %x4: f32) -> %s * %x3[i0] + %x4[i1]").unwrap();
    let renumbered = region.renumbered(&|n| 7 - n);
    assert_eq!(renumbered.to_string(), "(%s: f32, %x3: f32, %x4: f32) -> %s * %x4[i0] + %x3[i1]");
}

#[test]
fn a_region_is_applied_at_a_place() {
    let region = Region::parse("(%s: f32) -> select(i1 <= i0, %s, 0.0)").unwrap();
    let at = ["a", "b"].map(Dim::symbol);
    let applied = region.apply(&Expr::number(DType::F32, 2.0), &at);
    assert_eq!(applied.to_string(), "select(b <= a, 2.0, 0.0)");
}

fn stage(axes: &[&str], body: &str) -> Stage {
    let arrays = ["x0", "x1"].map(|name| (Symbol::new(name), DType::F32));
    Stage {
        name: Symbol::new("s0"),
        axes: axes.iter().map(|axis| (Symbol::new(axis), Dim::symbol("n"))).collect(),
        body: parse_expr(body, &arrays, &[]).unwrap(),
    }
}

#[test]
fn elementwise_ops_go_around_a_region() {
    let scaled = Region::parse("(%s: f32) -> %s * 0.5").unwrap();
    let add = stage(&["i0", "i1"], "%x0[i0, i1] + %x1[0, i1]");
    let biased = scaled.then(&add, &[0], &[0, 4]).unwrap();
    assert_eq!(biased.to_string(), "(%s: f32, %x4: f32) -> %s * 0.5 + %x4[0, i1]");
    let square = stage(&["i0", "i1"], "%x0[i0, i1] * %x1[i0, i1]");
    let squared = scaled.then(&square, &[0, 1], &[0, 0]).unwrap();
    assert_eq!(squared.to_string(), "(%s: f32) -> %s * 0.5 * (%s * 0.5)");

    assert_eq!(biased.then(&stage(&["i0", "i1"], "%x0[i1, i0]"), &[0], &[0]), None);
    assert_eq!(biased.then(&stage(&["k0", "i1"], "%x0[k0, i1]"), &[0], &[0]), None);
    assert_eq!(biased.then(&stage(&["i0"], "sum k0 in 0..n { %x0[i0] }"), &[0], &[0]), None);
}

#[test]
fn constants_fold_on_the_way() {
    let three = Region::new(Expr::number(DType::F32, 3.0));
    let negated = three.then(&stage(&["i0"], "-%x0[i0]"), &[0], &[0]).unwrap();
    assert_eq!(*negated.body(), Expr::unary(Unary::Neg, Expr::number(DType::F32, 3.0)));
    assert_eq!(negated.to_string(), "(%s: f32) -> -3.0");
}
