//! Sizes, scalars, attributes and graph edits: what everything above takes for granted.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it expects")]

use std::collections::BTreeMap;

use ir::attr::{Attr, AttrError, AttrSpec, Attrs, Key, key};
use ir::dim::{Dim, Ranges, Symbol};
use ir::dtype::{Class, DType};
use ir::graph::{self, Graph, KnownSizes, Value};
use ir::kernel::Expr;
use ir::op::{Eval, Infer, OpDef, OpError, Semantics, Sizes, normalize_axis};
use ir::origin::{At, Origin, Place};
use ir::scalar::{Binary, Scalar, Unary, fma};
use ir::tensor::{Tensor, for_each_index};
use ir::types::{TensorType, broadcast, strides};

fn dim(text: &str) -> Dim {
    Dim::parse(text).unwrap()
}

/// Every assignment of `0..limit` to the symbols of `dims`.
fn for_each_assignment(dims: &[&Dim], limit: i64, mut visit: impl FnMut(&dyn Fn(&Symbol) -> Option<i64>)) {
    let mut symbols: Vec<Symbol> = Vec::new();
    for dim in dims {
        dim.for_each_symbol(&mut |s| {
            if !symbols.contains(s) {
                symbols.push(s.clone());
            }
        });
    }
    for_each_index(&vec![limit as usize; symbols.len()], |index| {
        let values: BTreeMap<&Symbol, i64> = symbols.iter().zip(index.iter().map(|&i| i as i64)).collect();
        visit(&|symbol| values.get(symbol).copied());
    });
}

// ---------------------------------------------------------------------------------------------------- sizes

#[test]
fn equal_polynomials_are_equal_values() {
    for (a, b) in [
        ("n + n", "2*n"),
        ("(n + 1)*(n - 1)", "n*n - 1"),
        ("n*m - m*n", "0"),
        ("(4*n + 8)//4", "n + 2"),
        ("(n*m + m)//m", "n + 1"),
        ("(5 + 4*n)//4", "n + 1"),
        ("(n//2)//3", "n//6"),
        ("min(n, n + 1)", "n"),
        ("max(n, max(m, n))", "max(m, n)"),
        ("min(3, 5)", "3"),
        ("(-7)//2", "-4"),
        ("(-7) % 2", "1"),
        ("ceil(7, 2)", "4"),
        ("0//n", "0"),
    ] {
        assert_eq!(dim(a), dim(b), "{a} against {b}");
    }
    assert_ne!(dim("n//2 + n//2"), dim("n"));
}

#[test]
fn arithmetic_agrees_with_its_value() {
    let exprs = [
        "n",
        "m + 3",
        "2*n - m",
        "n*m + 1",
        "min(n, m)",
        "max(n, 2*m, 4)",
        "(n + 2*m)//3",
        "7",
        "0",
        "n % 4",
        "((n + 1)//2 + 1)//2",
        "((n*m + 2)//3 - 5)//2 + m",
    ];
    for (a, b) in exprs.iter().flat_map(|a| exprs.iter().map(move |b| (dim(a), dim(b)))) {
        for_each_assignment(&[&a, &b], 7, |lookup| {
            let (x, y) = (a.eval(lookup).unwrap(), b.eval(lookup).unwrap());
            assert_eq!((a.clone() + b.clone()).eval(lookup), Some(x + y), "{a} + {b}");
            assert_eq!((a.clone() - b.clone()).eval(lookup), Some(x - y), "{a} - {b}");
            assert_eq!((a.clone() * b.clone()).eval(lookup), Some(x * y), "{a} * {b}");
            assert_eq!(Dim::smaller(&a, &b).eval(lookup), Some(x.min(y)), "min({a}, {b})");
            assert_eq!(Dim::larger(&a, &b).eval(lookup), Some(x.max(y)), "max({a}, {b})");
            if y > 0 {
                assert_eq!(a.floor_div(&b).eval(lookup), Some(x.div_euclid(y)), "{a} // {b}");
                assert_eq!(a.modulo(&b).eval(lookup), Some(x.rem_euclid(y)), "{a} % {b}");
                assert_eq!(a.ceil_div(&b).eval(lookup), Some((x + y - 1).div_euclid(y)), "ceil({a}, {b})");
            }
            if let Some(quotient) = a.exact_div(&b) {
                assert_eq!(quotient.eval(lookup).unwrap() * y, x, "{a} / {b}");
            }
        });
    }
}

#[test]
fn quotients_of_quotients_are_one() {
    assert_eq!(dim("((n + 1)//2 + 1)//2"), dim("(n + 3)//4"));
    assert_eq!(dim("(((n - 1)//m) + m)//m"), dim("(n - 1 + m*m)//(m*m)"));
    assert_ne!(dim("(2*(n//2) + 1)//3"), dim("(n + 1)//3"));
}

#[test]
fn substitution_is_evaluation_in_steps() {
    let a = dim("max(n*m - 3, (n + m)//2)");
    let inner = a.substitute(&|s| (s.name() == "n").then(|| dim("2*k + 1")));
    for_each_assignment(&[&inner], 6, |lookup| {
        let n = dim("2*k + 1").eval(lookup);
        assert_eq!(inner.eval(lookup), a.eval(&|s| if s.name() == "n" { n } else { lookup(s) }));
    });
    assert!(inner.mentions(&"k".into()) && !inner.mentions(&"n".into()));
    assert_eq!(dim("n").eval(&|_| None), None);
    assert_eq!(dim("n*n").eval(&|_| Some(i64::MAX)), None);
    assert_eq!(dim("1//n").eval(&|_| Some(0)), None);
    assert_eq!(dim("3*n*m + m + 2").linear_in(&"n".into()), Some((dim("3*m"), dim("m + 2"))));
    assert_eq!(dim("n*n").linear_in(&"n".into()), None);
    assert_eq!(dim("n + n//2").linear_in(&"n".into()), None);
}

#[test]
fn large_coefficients_saturate() {
    let huge = Dim::constant(i64::MAX);
    assert_eq!(huge.clone() + huge.clone(), huge);
    assert_eq!(huge.clone() * huge.clone(), huge);
    assert_eq!((-Dim::constant(i64::MIN)).as_const(), Some(i64::MAX));
    // The one quotient of 64 bits that has no value.
    assert_eq!(Dim::constant(i64::MIN).exact_div(&Dim::constant(-1)), None);
}

#[test]
fn what_ranges_prove_is_true() {
    // i in 0..n, j in 0..4, k in 0..32*m.
    let mut ranges = Ranges::new();
    for (axis, extent) in [("i", "n"), ("j", "4"), ("k", "32*m")] {
        ranges.enter(axis.into(), dim(extent));
    }
    let claims = [
        ("i", true),
        ("n - 1 - i", true),
        ("n - i", true),
        ("n - 2 - i", false),
        ("i - 1", false),
        ("3 - j", true),
        ("2 - j", false),
        ("4*n - 1 - (4*i + j)", true),
        ("4*n - 2 - (4*i + j)", false),
        ("m - 1 - k//32", true),
        ("m - 2 - k//32", false),
        ("k - 32*(k//32)", true),
        ("31 - (k - 32*(k//32))", true),
        ("30 - (k - 32*(k//32))", false),
        ("max(i - 3, 0)", true),
        ("n - 1 - max(i - 3, 0)", true),
        ("n - 1 - min(i + 3, n - 1)", true),
        ("min(i, j)", true),
        ("min(i, j) - 1", false),
    ];
    for (text, expected) in claims {
        let claim = dim(text);
        assert_eq!(ranges.is_nonnegative(&claim), expected, "{text}");
        // Whatever is claimed holds for all values in range; what is false fails for some.
        let (mut holds, mut seen) = (true, 0);
        for_each_index(&[6, 3, 6, 4, 64], |v| {
            let [n, m, i, j, k] = [v[0] + 1, v[1] + 1, v[2], v[3], v[4]].map(|x| x as i64);
            if i < n && j < 4 && k < 32 * m {
                let value = |s: &Symbol| match s.name() {
                    "n" => Some(n),
                    "m" => Some(m),
                    "i" => Some(i),
                    "j" => Some(j),
                    _ => Some(k),
                };
                seen += 1;
                holds &= claim.eval(&value).unwrap() >= 0;
            }
        });
        assert!(seen > 1000);
        assert_eq!(holds, expected, "{text}");
    }
    assert_eq!(dim("j//4").simplify(&ranges), dim("0"));
    assert_eq!(dim("(4*i + j)//4").simplify(&ranges), dim("i"));
    assert_eq!(dim("(4*i + j) % 4").simplify(&ranges), dim("j"));
    assert_eq!(dim("min(j, 3)").simplify(&ranges), dim("j"));
    assert_eq!(dim("max(i, n)").simplify(&ranges), dim("n"));
}

#[test]
fn shapes_broadcast_from_the_right() {
    let shape = |dims: &[&str]| dims.iter().map(|d| dim(d)).collect::<Vec<Dim>>();
    assert_eq!(broadcast(&shape(&["n", "1", "3"]), &shape(&["4", "1"])), Ok(shape(&["n", "4", "3"])));
    assert_eq!(broadcast(&[], &shape(&["n"])), Ok(shape(&["n"])));
    assert_eq!(broadcast(&shape(&["n"]), &shape(&["m"])), Err((dim("n"), dim("m"))));
    assert_eq!(strides(&shape(&["a", "n", "3"])), shape(&["3*n", "3", "1"]));
    assert_eq!(TensorType::new(DType::F16, shape(&["n", "3"])).bytes(), dim("6*n"));
    assert_eq!(
        [normalize_axis(-1, 3).ok(), normalize_axis(2, 3).ok(), normalize_axis(3, 3).ok()],
        [Some(2), Some(2), None]
    );
}

// -------------------------------------------------------------------------------------------------- scalars

/// Values of a type that are worth trying.
fn samples(dtype: DType) -> Vec<Scalar> {
    match dtype.class() {
        Class::Float => {
            [0.0, -0.0, 1.0, -1.5, 2.5, 3.0, 1e-3, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 65504.0]
                .map(|v| Scalar::from_f64(dtype, v))
                .to_vec()
        }
        Class::Bool => vec![Scalar::bool(false), Scalar::bool(true)],
        _ => [0, 1, 2, -1, 7, -8, i64::MIN, i64::MAX, 127, 128].map(|v| Scalar::from_i64(dtype, v)).to_vec(),
    }
}

#[test]
fn functions_give_their_result_type_on_every_type_that_they_accept() {
    for dtype in DType::ALL {
        for x in samples(dtype) {
            for f in Unary::ALL.iter().filter(|f| f.accepts(dtype)) {
                assert_eq!(f.apply(x).dtype(), f.result(dtype), "{f:?} {x:?}");
            }
            for y in samples(dtype) {
                for f in Binary::ALL.iter().filter(|f| f.accepts(dtype)) {
                    assert_eq!(f.apply(x, y).dtype(), f.result(dtype), "{f:?} {x:?} {y:?}");
                }
            }
            for to in DType::ALL {
                assert_eq!(x.cast(to).dtype(), to);
            }
        }
    }
    for f in Unary::ALL {
        assert_eq!(Unary::find(f.name()), Some(*f));
    }
    for f in Binary::ALL {
        assert_eq!(Binary::find(f.name()), Some(*f));
    }
}

#[test]
fn scalars_survive_their_bytes() {
    for dtype in DType::ALL {
        for x in samples(dtype) {
            let mut bytes = vec![0; dtype.bytes()];
            x.write(&mut bytes);
            assert_eq!(Scalar::read(dtype, &bytes), x);
        }
        assert_eq!(dtype.name().parse::<DType>(), Ok(dtype));
    }
    assert!("f8".parse::<DType>().is_err());
}

#[test]
fn f32_arithmetic_is_that_of_the_machine() {
    let values = [0.1f32, -3.7, 1e30, 1e-30, 16_777_217.0, f32::MAX, 0.0, -0.0];
    for (a, b) in values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b))) {
        let (x, y) = (Scalar::f32(a), Scalar::f32(b));
        let same = |f: Binary, value: f32| {
            let found = f32::from_bits(f.apply(x, y).bits() as u32);
            assert!(
                found.to_bits() == value.to_bits() || (found.is_nan() && value.is_nan()),
                "{f:?} {a} {b}: {found} {value}"
            );
        };
        same(Binary::Add, a + b);
        same(Binary::Sub, a - b);
        same(Binary::Mul, a * b);
        same(Binary::Div, a / b);
        same(Binary::Rem, a % b);
        let found = fma(x, y, Scalar::f32(1.0));
        assert_eq!(found, Scalar::f32(a.mul_add(b, 1.0)));
    }
}

#[test]
fn integers_wrap_and_never_trap() {
    let apply = |f: Binary, dtype, a: i64, b: i64| {
        f.apply(Scalar::from_i64(dtype, a), Scalar::from_i64(dtype, b)).to_i64()
    };
    assert_eq!(apply(Binary::Add, DType::I8, 127, 1), -128);
    assert_eq!(apply(Binary::Mul, DType::U8, 16, 16), 0);
    assert_eq!(apply(Binary::Div, DType::I64, i64::MIN, -1), i64::MIN);
    assert_eq!(apply(Binary::Div, DType::I32, 1, 0), 0);
    assert_eq!(apply(Binary::Div, DType::I32, -7, 2), -3);
    assert_eq!(apply(Binary::Rem, DType::I32, -7, 2), -1);
    assert_eq!(apply(Binary::Mod, DType::I32, -7, 2), 1);
    assert_eq!(apply(Binary::Mod, DType::I32, 7, -2), -1);
    assert_eq!(apply(Binary::Mod, DType::U32, 7, 0), 0);
    assert_eq!(apply(Binary::Pow, DType::I64, 3, 4), 81);
    assert_eq!(apply(Binary::Pow, DType::I64, 2, -1), 0);
    assert_eq!(apply(Binary::Pow, DType::I64, -1, -3), -1);
    assert_eq!(apply(Binary::Shl, DType::I32, 1, 40), 0);
    assert_eq!(apply(Binary::Shr, DType::I32, -8, 40), -1);
    assert_eq!(apply(Binary::Shr, DType::U32, 8, 40), 0);
    assert_eq!(Unary::Neg.apply(Scalar::from_i64(DType::I8, -128)).to_i64(), -128);
    assert_eq!(Unary::Abs.apply(Scalar::from_i64(DType::I64, i64::MIN)).to_i64(), i64::MIN);
    assert_eq!(Unary::Not.apply(Scalar::from_i64(DType::U8, 1)).to_i64(), 254);
}

#[test]
fn nan_and_zero_follow_the_stated_rules() {
    let (nan, one) = (Scalar::f32(f32::NAN), Scalar::f32(1.0));
    for f in [Binary::Min, Binary::Max] {
        assert!(f.apply(nan, one).to_f64().is_nan() && f.apply(one, nan).to_f64().is_nan(), "{f:?}");
        assert_eq!(f.apply(Scalar::f32(-0.0), Scalar::f32(0.0)), Scalar::f32(-0.0));
        assert_eq!(f.apply(Scalar::f32(0.0), Scalar::f32(-0.0)), Scalar::f32(0.0));
    }
    for f in [Binary::Eq, Binary::Lt, Binary::Le, Binary::Gt, Binary::Ge] {
        assert_eq!(f.apply(nan, one), Scalar::bool(false), "{f:?}");
    }
    assert_eq!(Binary::Ne.apply(nan, nan), Scalar::bool(true));
    assert_eq!(Unary::Round.apply(Scalar::f32(2.5)), Scalar::f32(2.0));
    assert_eq!(Unary::IsNan.apply(nan), Scalar::bool(true));
    assert_eq!(Unary::IsInf.apply(Scalar::f32(f32::NEG_INFINITY)), Scalar::bool(true));
}

#[test]
fn casts_truncate_saturate_and_wrap() {
    let cast = |v: f64, dtype| Scalar::from_f64(DType::F64, v).cast(dtype);
    assert_eq!(cast(-1.9, DType::I32).to_i64(), -1);
    assert_eq!(cast(1e20, DType::I64).to_i64(), i64::MAX);
    assert_eq!(cast(-5.0, DType::U8).to_i64(), 0);
    assert_eq!(cast(f64::NAN, DType::I32).to_i64(), 0);
    assert_eq!(cast(f64::NAN, DType::Bool), Scalar::bool(true));
    assert_eq!(cast(1e10, DType::F16).to_f64(), f64::INFINITY);
    assert_eq!(Scalar::from_i64(DType::I32, 300).cast(DType::U8).to_i64(), 44);
    assert_eq!(Scalar::from_bits(DType::U64, u64::MAX).cast(DType::F32), Scalar::f32(1.844_674_4e19));
    assert_eq!(Scalar::from_i64(DType::I64, -1).cast(DType::U64).bits(), u64::MAX);
}

#[test]
fn folds_start_from_what_changes_nothing() {
    use ir::kernel::Reduce;
    for dtype in DType::ALL {
        for reduce in Reduce::ALL.into_iter().filter(|r| r.function().accepts(dtype)) {
            if matches!(reduce, Reduce::Any | Reduce::All) && dtype != DType::Bool {
                continue;
            }
            let neutral = reduce.neutral(dtype);
            for x in samples(dtype).into_iter().filter(|x| !x.to_f64().is_nan()) {
                let found = reduce.function().apply(neutral, x);
                // The sum of +0 and −0 is +0: an equal number, other bits.
                assert!(found == x || found.to_f64() == x.to_f64(), "{reduce:?} {x:?}: {found:?}");
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------- attributes

const AXIS: Key<i64> = key("axis");
const SHAPE: Key<Vec<Dim>> = key("shape");
static SPECS: [AttrSpec; 2] = [AXIS.or(|| Attr::Int(-1)), SHAPE.spec()];

#[test]
fn attributes_are_checked_and_complete() {
    let given = |attrs: &[(&'static str, Attr)]| {
        attrs.iter().map(|(k, a)| ((*k).to_owned(), a.clone())).collect::<Vec<_>>()
    };
    let attrs = Attrs::check("op", &SPECS, given(&[SHAPE.is(vec![dim("n"), dim("3")])])).unwrap();
    assert_eq!((attrs.get(AXIS), attrs.get(SHAPE)), (-1, vec![dim("n"), dim("3")]));
    assert_eq!(attrs.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["axis", "shape"]);
    let bound = attrs.substitute(&|s| (s.name() == "n").then(|| dim("7"))).expect("no graph is inside");
    assert_eq!(bound.get(SHAPE), vec![dim("7"), dim("3")]);
    let fail = |attrs: &[(&'static str, Attr)]| Attrs::check("op", &SPECS, given(attrs)).unwrap_err();
    assert!(matches!(fail(&[]), AttrError::Missing { key: "shape", .. }));
    assert!(matches!(fail(&[("shape", Attr::Int(1))]), AttrError::Kind { key: "shape", .. }));
    assert!(matches!(fail(&[("nope", Attr::Int(1))]), AttrError::Unknown { .. }));
    assert_eq!(
        fail(&[("shape", Attr::Str("x".into()))]).to_string(),
        "attribute `shape` of `op` should be a list of sizes, found \"x\""
    );
    assert_eq!(Attr::dim(dim("3")), Attr::Int(3));
    assert_eq!(Attr::Float(f64::NAN), Attr::Float(f64::NAN));
    assert_ne!(Attr::Float(0.0), Attr::Float(-0.0));
}

// --------------------------------------------------------------------------------------------------- graphs

struct Plus;

impl Semantics for Plus {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let dtype = cx.common_dtype()?;
        Ok(vec![TensorType::new(dtype, cx.broadcast()?)])
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        let [x, y] = cx.operands else { panic!("two operands") };
        Ok(vec![Tensor::from_fn(x.dtype(), x.shape(), |i| Binary::Add.apply(x.at(i), y.at(i)))])
    }

    fn sizes(&self, cx: &Sizes) -> Option<Vec<Dim>> {
        let [Some(x), Some(y)] = cx.operands else { return None };
        Some(x.iter().zip(y).map(|(a, b)| a.clone() + b.clone()).collect())
    }
}

static PLUS: OpDef = OpDef::new("plus", &["x", "y"], &Plus);

fn plus(g: &mut Graph, x: impl Into<Value>, y: impl Into<Value>) -> Value {
    g.add_op(&PLUS, &[x.into(), y.into()], Attrs::default(), Origin::none()).unwrap().into()
}

fn vector(size: &str) -> TensorType {
    TensorType::new(DType::F32, [dim(size)])
}

#[test]
fn uses_follow_edits() {
    let mut g = Graph::new("g");
    let x = g.add_input("x", vector("n"), Origin::none());
    let y = g.add_input("y", vector("n"), Origin::none());
    let a = plus(&mut g, x, x);
    let b = plus(&mut g, a, y);
    g.set_outputs([("out".to_owned(), b), ("a".to_owned(), a)]);
    assert_eq!(g.operands(a.node), [x, x]);
    assert_eq!(g.users(x), [(a.node, 0), (a.node, 1)]);
    let order = g.order();
    assert_eq!(order, [x.node, a.node, y.node, b.node]);

    g.replace_uses(a, y);
    assert_eq!((g.operands(b.node), g.outputs()), (vec![y, y], vec![b, y]));
    assert_eq!(g.users(a), []);
    let live = [x.node, y.node, b.node];
    assert_eq!(g.retain(|id| live.contains(&id)), 1);
    assert!(!g.contains(a.node) && g.contains(b.node));
    assert_eq!(g.len(), 3);
    assert_eq!(g.symbols(), [Symbol::new("n")]);

    g.substitute(&|s| (s.name() == "n").then(|| dim("2*m"))).unwrap();
    assert_eq!(g.ty(b), &vector("2*m"));
}

#[test]
fn evaluation_binds_sizes_and_refuses_what_does_not_fit() {
    let mut g = Graph::new("g");
    let x = g.add_input("x", vector("2*n + 1"), Origin::none());
    let y = plus(&mut g, x, x);
    g.set_outputs([("y".to_owned(), y)]);
    let input = Tensor::from_f32(&[3], &[1.0, 2.0, 3.0]);
    assert_eq!(
        graph::bind(&g, std::slice::from_ref(&input)).unwrap(),
        BTreeMap::from([(Symbol::new("n"), 1)])
    );
    assert_eq!(graph::eval(&g, &[input]).unwrap(), [Tensor::from_f32(&[3], &[2.0, 4.0, 6.0])]);
    for wrong in [
        Tensor::from_f32(&[4], &[0.0; 4]),
        Tensor::from_f32(&[1, 1], &[0.0]),
        Tensor::from_i64(&[3], &[0; 3]),
    ] {
        assert!(graph::eval(&g, &[wrong]).is_err());
    }
    assert!(graph::eval(&g, &[]).is_err());
    let three = TensorType::fixed(DType::F32, &[3]);
    let z = g.add_input("z", three, Origin::none());
    assert!(matches!(g.add_op(&PLUS, &[x, z], Attrs::default(), Origin::none()), Err(OpError::Size { .. })));
    assert!(matches!(
        g.add_op(&PLUS, &[x], Attrs::default(), Origin::none()),
        Err(OpError::Arity { found: 1, .. })
    ));
}

#[test]
fn sizes_are_followed_through_shape_arithmetic() {
    let mut b = ir::build::Build::new("g");
    let x = b.input("x", TensorType::new(DType::I64, [dim("2")]));
    let c = b.constant(&Tensor::from_i64(&[2], &[3, 4]));
    let d = b.op(&PLUS, &[c, c]).unwrap();
    let e = b.op(&PLUS, &[d, x]).unwrap();
    let mut known = KnownSizes::new();
    assert_eq!(known.of(b.graph(), d), Some(vec![dim("6"), dim("8")]));
    assert_eq!(known.of(b.graph(), e), None);
}

#[test]
fn origins_join_without_repetition_and_show_in_errors() {
    let place =
        |name: &str| Origin::place(Place { name: name.into(), op: "Gemm".into(), ..Place::default() });
    let both = place("a").join(&place("b"));
    assert_eq!(both.join(&place("a")), both);
    assert_eq!(both.to_string(), "\"a\", \"b\"");
    let at = At { node: None, origin: both, error: OpError::Axis { axis: 3, rank: 2 } };
    assert_eq!(at.to_string(), "node \"a\" (Gemm): axis 3 is out of range for rank 2");
    let many = (0..100).map(|i| place(&i.to_string())).fold(Origin::none(), |all, one| all.join(&one));
    assert_eq!(many.places().len(), 64);
}

// -------------------------------------------------------------------------------------------------- expressions

#[test]
fn a_choice_that_vanishes_is_replaced_once() {
    let load = |at: Vec<Expr>| Expr::load(Symbol::new("x"), DType::F32, at);
    let row = Dim::symbol("i0");
    let [first, second] = [row.clone(), row.clone() - Dim::constant(1)].map(|at| load(vec![at.into()]));
    let choice = Expr::from(&row).less(Expr::from(Dim::constant(1))).select(first, second);
    // Both loads become one without an axis, so that there is nothing left to choose.
    let mut seen = Vec::new();
    let replaced = choice.replace_loads(&mut |_, at| {
        seen.push(at.len());
        Some(load(Vec::new()))
    });
    assert_eq!((replaced, seen), (load(Vec::new()), vec![1, 1]));
}
