//! The text forms: `parse(print(x)) == x`, canonical spellings, errors with places, and no panic on any input.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it expects")]

use std::sync::Arc;

use ir::attr::{Attr, Key, key};
use ir::build::Build;
use ir::dim::Condition;
use ir::dim::{Dim, Symbol};
use ir::dtype::DType;
use ir::graph::{Graph, Value};
use ir::kernel::{
    Access, Body, Expr, ExprKind, Gemm, Kernel, KernelKind, LoopKind, Param, Reduce, Stage, Stmt,
};
use ir::op::{Eval, Infer, OpDef, OpError, Semantics};
use ir::origin::{Origin, Place};
use ir::program::{
    Arg, Branch, Buffer, Call, Copy, Entry, Layout, Loop, Measure, PackedWeight, Port, Program, Require,
    Space, Step,
};
use ir::region::Region;
use ir::scalar::{Binary, Scalar, Unary};
use ir::tensor::Tensor;
use ir::text::{
    NoWeights, Problem, WeightFile, WeightSource, is_stored, parse_expr, parse_graph, parse_kernel,
    parse_kernels, parse_program, write_weights,
};
use ir::types::TensorType;
use ir::weight::Weight;

/// An op whose results have the types of its operands: as many as there are.
struct Same;

impl Semantics for Same {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        Ok(cx.operands.iter().map(|ty| (*ty).clone()).collect())
    }

    fn eval(&self, cx: &Eval) -> Result<Vec<Tensor>, OpError> {
        Ok(cx.operands.iter().map(|tensor| (*tensor).clone()).collect())
    }
}

const ALPHA: Key<f64> = key("alpha");
const PERM: Key<Vec<i64>> = key("perm");
const SHAPE: Key<Vec<Dim>> = key("shape");
const WORD: Key<String> = key("word");
const TO: Key<DType> = key("to");
const DEEP: Key<bool> = key("deep");
const SCORE: Key<Region> = key("score");
const BODY: Key<Arc<Graph>> = key("body");

static PAIR: OpDef = OpDef::new("pair", &["x", "y"], &Same);
static SAME: OpDef = OpDef::new("same", &["x"], &Same).attrs(&[
    ALPHA.or(|| Attr::Float(0.5)),
    PERM.or(|| Attr::List(vec![])),
    SHAPE.or(|| Attr::List(vec![])),
    WORD.or(|| Attr::Str("".into())),
    TO.or(|| Attr::DType(DType::F32)),
    DEEP.or(|| Attr::Bool(false)),
    SCORE.or(|| Attr::Region(Region::identity())),
]);
static WITH: OpDef = OpDef::new("with", &["x"], &Same).attrs(&[BODY.spec()]);

/// The file of these weights.
fn file_of(weights: &[Weight]) -> Vec<u8> {
    let mut file = Vec::new();
    write_weights(weights, &mut file).unwrap();
    file
}

fn ops(name: &str) -> Option<&'static OpDef> {
    [&PAIR, &SAME, &WITH].into_iter().find(|def| def.name == name)
}

fn graph(text: &str) -> Graph {
    parse_graph(text, &ops, &NoWeights).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

fn c(value: i64) -> Dim {
    Dim::constant(value)
}

fn f32s(shape: &[Dim]) -> TensorType {
    TensorType::new(DType::F32, shape.iter().cloned())
}

fn place(name: &str, op: &str, module: &str, source: &str) -> Arc<Place> {
    Arc::new(Place { name: name.into(), op: op.into(), module: module.into(), source: source.into() })
}

/// One of everything that a graph can have.
fn everything() -> (Graph, Vec<Weight>) {
    let mut inner = Build::new("body");
    let x = inner.input("x", f32s(&[Dim::symbol("n")]));
    let known = inner.constant(&Tensor::from_f32(&[2], &[1.0, f32::NEG_INFINITY]));
    let y = inner.ops_with(&PAIR, &[x, known], []).unwrap();
    let inner = inner.finish(vec![y[1], y[0]]);

    let mut b = Build::new("all/of it");
    b.set_origin(Origin::places_from([place("in", "", "", "")]));
    let n = Dim::symbol("n");
    let x = b.input("a/b", f32s(&[n.clone(), Dim::symbol("batch-size") + c(1)]));
    let z = b.input("0", TensorType::scalar(DType::Bool));
    b.set_origin(Origin::none());
    let unused = b.input("unused", f32s(&[]));
    let big = Weight::from_tensor(
        "fc.w",
        &Tensor::from_f32(&[40], &std::array::from_fn::<f32, 40, _>(|i| i as f32)),
    );
    let w = b.weight(big.clone());
    let w2 = b.weight(Weight::from_tensor("fc.w", &Tensor::from_f32(&[2, 2], &[0.1, -0.0, f32::NAN, 1e-8])));
    let nan = Scalar::from_bits(DType::F32, 0x7fc0_0001);
    let odd =
        b.constant(&Tensor::from_fn(DType::F32, &[2], |i| if i[0] == 0 { nan } else { Scalar::f32(1.0) }));
    let zero = b.constant(&Tensor::splat(Scalar::from_i64(DType::I64, 0), &[1000]));
    let none = b.constant(&Tensor::from_i64(&[0, 3], &[]));
    let one = b.scalar(DType::BF16, 1.5);
    b.set_origin(Origin::places_from([
        place("/fc/\"MatMul\"\n", "MatMul", "", "m.py:1"),
        place("b", "Add", "m", ""),
    ]));
    let p = b.ops_with(&PAIR, &[x, w], []).unwrap();
    b.set_origin(Origin::none());
    let attrs = [
        ALPHA.is(1e-8),
        PERM.is(vec![1, -1, 0]),
        SHAPE.is(vec![n.clone() * c(2) + c(1), c(3)]),
        WORD.is("a \"word\"\\".into()),
        TO.is(DType::I32),
        DEEP.is(true),
        SCORE.is(Region::parse("(%s: f32, %x3: bool) -> select(%x3[i0, i1], %s, -inf)").unwrap()),
    ];
    let s = b.op_with(&SAME, &[p[1]], attrs).unwrap();
    let t = b.op_with(&SAME, &[p[0]], [ALPHA.is(f64::INFINITY)]).unwrap();
    let u = b.op_with(&WITH, &[t], [BODY.is(Arc::new(inner))]).unwrap();
    let rest: Vec<Value> = [w2, odd, zero, none, one, z]
        .into_iter()
        .map(|v| b.op_with(&SAME, &[v], [ALPHA.is(-f64::NAN)]).unwrap())
        .collect();
    b.op(&SAME, &[unused]).unwrap();
    let mut graph = b.finish(vec![]);
    let outputs = [s, u].into_iter().chain(rest).enumerate();
    let outputs: Vec<_> =
        outputs.map(|(i, v)| (if i == 1 { "proba".into() } else { format!("y{i}") }, v)).collect();
    graph.set_outputs(outputs);
    (graph, vec![big])
}

#[test]
fn a_graph_with_everything_reads_back() {
    let (graph, stored) = everything();
    let text = graph.to_string();
    assert_eq!(stored.iter().filter(|w| is_stored(w)).count(), 1);
    let file = WeightFile::open(Arc::new(file_of(&stored))).unwrap();
    let again = parse_graph(&text, &ops, &file).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    assert_eq!(again.to_string(), text);
    assert_eq!(again.len(), graph.len());
    assert_eq!(again.input_name(again.inputs()[1]), "0");
    assert_eq!(again.output_names()[1], "proba");
    for (a, b) in graph.order().into_iter().zip(again.order()) {
        let (a, b) = (graph.node(a), again.node(b));
        assert_eq!((&a.kind, &a.types, &a.origin), (&b.kind, &b.types, &b.origin));
    }
    // Without the file, the weight that is not written out is what is missing.
    let errors = parse_graph(&text, &ops, &NoWeights).unwrap_err();
    assert!(
        matches!(&errors[..], [e] if e.problem == Problem::NoWeight { hash: stored[0].hash() }),
        "{errors:?}"
    );
}

#[test]
fn graphs_are_spelled_as_documented() {
    let text = "\
weights @fc.b : f32[2] = [1.0, 2.0] from \"fc.bias\"
weights @one : i64[] = splat 1
graph @mlp(%x: f32[n, 2], %\"a/b\": f32[2*n] from \"a/b\") -> f32[n, 2], f32[2] {
  %0, %1 = pair %x, @fc.b : f32[n, 2], f32[2] from \"/fc\"(\"Gemm\", \"\", \"m.py:3\"), \"/add\"
  %2 = same %0 {alpha=2.0, perm=[1, 0]} : f32[n, 2]
  return %2 as \"p\", %1
}
";
    let expected = text.replace("weights @one : i64[] = splat 1\n", "");
    let parsed = graph(text);
    // The dead weight follows what the outputs reach.
    assert_eq!(parsed.to_string(), text);
    assert_eq!(graph(&expected).to_string(), expected);
    // Types that are left out are inferred.
    let short = expected.replace(" : f32[n, 2]\n", "\n").replace("-> f32[n, 2], f32[2]", "-> ?, f32[2]");
    assert_eq!(graph(&short).to_string(), expected);
}

#[test]
fn sizes_are_told_from_element_types() {
    let text = "\
graph @g(%x: f8e4m3fn[i4]) -> f8e4m3fn[i4] {
  %0 = same %x {shape=[`i4`, i4 + 1, 2*u2], to=i4} : f8e4m3fn[i4]
  return %0
}
";
    assert_eq!(graph(text).to_string(), text);
}

#[test]
fn constants_of_every_type_read_back() {
    for dtype in DType::ALL {
        let mut b = Build::new("g");
        let codes = |at: &[usize]| Scalar::from_bits(dtype, 0x5555 * at[0] as u64);
        let all = Tensor::from_fn(dtype, &[if dtype == DType::Bool { 1 } else { 16 }], codes);
        let outputs = [b.constant(&all), b.scalar(dtype, 1.0)];
        let printed = b.finish(outputs.to_vec()).to_string();
        assert_eq!(graph(&printed).to_string(), printed);
        for value in all.values() {
            let printed = Expr::constant(value).to_string();
            let read = parse_expr(&printed, &[], &[]).unwrap_or_else(|error| panic!("{error:?}: {printed}"));
            assert_eq!(read, Expr::constant(value), "{printed}");
        }
    }
    for text in ["inf<f8e4m3fn>", "nan<f4e2m1>", "449.0e9f8e4m3fn", "0.0f8e8m0", "8i4", "4u2"] {
        assert!(parse_expr(text, &[], &[]).is_err(), "{text}");
    }
}

#[test]
fn every_error_of_a_graph_is_found_and_placed() {
    let text = "\
graph @g(%x: f32[n]) -> f32[n] {
  %0 = nonsense %x : f32[n]
  %1 = same %0 : f32[n]
  %2 = same %y : f32[n]
  %3 = same %x {nope=1} : f32[n]
  %3 = same %x : f32[n
  %4 = pair %x
  return %x as 3
}
";
    let errors = parse_graph(text, &ops, &NoWeights).unwrap_err();
    let at: Vec<&str> = errors.iter().map(|error| &text[error.span.clone()]).collect();
    assert_eq!(at, ["nonsense", "%y", "same %x {nope=1}", "%", "pair %x", "3"], "{errors:?}");
    let codes: Vec<&str> = errors.iter().map(|error| error.problem.code()).collect();
    assert_eq!(codes[0], "egraft::text::op");
    assert_eq!(codes[1], "egraft::text::name");
    assert!(errors[1].problem.help().is_some());
}

#[test]
fn outputs_are_of_the_stated_types() {
    let errors =
        parse_graph("graph @g(%x: f32[n]) -> f32[2] {\n return %x\n}", &ops, &NoWeights).unwrap_err();
    assert!(matches!(errors[0].problem, Problem::Stated { .. }), "{errors:?}");
}

// ---------------------------------------------------------------------------------------------------- sizes

#[test]
fn sizes_are_read_as_exporters_write_them() {
    let read = |text: &str| Dim::parse(text).unwrap_or_else(|e| panic!("{e}")).to_string();
    for (text, printed) in [
        ("2*s70*s72", "2*s70*s72"),
        ("s36 + 1", "s36 + 1"),
        ("floor(n/2)", "floor(n, 2)"),
        ("n//2", "floor(n, 2)"),
        ("(n + 1)//2", "floor(n + 1, 2)"),
        ("((s0 - 1)//2) + 1", "floor(s0 + 1, 2)"),
        ("floor(n/2 + 1/2)", "floor(n + 1, 2)"),
        ("ceiling(n/4)", "floor(n + 3, 4)"),
        ("n % 4", "n - 4*floor(n, 4)"),
        ("Mod(n, 4)", "n - 4*floor(n, 4)"),
        ("Max(1, s0)", "max(1, s0)"),
        ("min(a, b, a + 1)", "min(a, b)"),
        ("4*n/2", "2*n"),
        ("s0**2", "s0*s0"),
        ("-n + 3", "-n + 3"),
        ("`batch-size`*2", "2*`batch-size`"),
        ("`max` + `a b`", "`a b` + `max`"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("m - n//2", "m - floor(n, 2)"),
        ("m - n % 2", "m - n + 2*floor(n, 2)"),
        ("-n//2", "floor(-n, 2)"),
        ("n - 9223372036854775808", "n - 9223372036854775808"),
        ("a.b_c", "a.b_c"),
    ] {
        assert_eq!(read(text), printed, "{text}");
        assert_eq!(read(printed), printed);
    }
    for bad in [
        "",
        "n +",
        "n/2",
        "floor(n, 0)",
        "n % -1",
        "(n",
        "n)",
        "1.5",
        "99999999999999999999",
        "foo(n)",
        "n n",
    ] {
        assert!(Dim::parse(bad).is_err(), "{bad}");
    }
    let error = Dim::parse("n + )").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`n + )` is no size expression: expected a number, a name or `(` at byte 4"
    );
    assert!(Dim::parse(&"(".repeat(100_000)).is_err());
    assert!(Dim::parse(&"-".repeat(100_000)).is_err());
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % sides
    }

    fn dim(&mut self, depth: usize) -> Dim {
        let names = ["n", "m", "i", "batch-size", "min"];
        if depth == 0 {
            return match self.roll(3) {
                0 => Dim::constant(self.roll(9) as i64 - 4),
                _ => Dim::symbol(names[self.roll(names.len())]),
            };
        }
        let (a, b) = (self.dim(depth - 1), self.dim(depth - 1));
        match self.roll(7) {
            0 | 1 => a + b,
            2 => a - b,
            3 => a * b,
            4 => a.floor_div(&Dim::constant(1 + self.roll(5) as i64)),
            5 => Dim::smaller(&a, &b),
            _ => Dim::larger(&a, &b),
        }
    }

    fn expr(&mut self, depth: usize, dtype: DType) -> Expr {
        if depth == 0 {
            return match (self.roll(4), dtype) {
                (0, DType::I64) => self.dim(2).into(),
                (0 | 1, _) => Expr::number(dtype, self.roll(9) as f64 / 2.0 - 2.0),
                (2, _) => Expr::var(Symbol::new(format!("v {dtype}")), dtype),
                _ => Expr::load(Symbol::new(dtype.name()), dtype, [self.dim(1).into()]),
            };
        }
        let depth = depth - 1;
        match self.roll(8) {
            0 => {
                let accepted: Vec<_> =
                    Unary::ALL.iter().filter(|f| f.accepts(dtype) && f.result(dtype) == dtype).collect();
                match accepted.is_empty() {
                    true => self.expr(depth, dtype),
                    false => Expr::unary(*accepted[self.roll(accepted.len())], self.expr(depth, dtype)),
                }
            }
            1 => {
                let c = self.expr(depth, DType::Bool);
                c.select(self.expr(depth, dtype), self.expr(depth, dtype))
            }
            2 => {
                let from = [DType::F32, DType::I64, DType::Bool, DType::F16][self.roll(4)];
                self.expr(depth, from).cast(dtype)
            }
            3 if dtype == DType::Bool => {
                let of = [DType::F32, DType::I64][self.roll(2)];
                let comparisons = [Binary::Eq, Binary::Ne, Binary::Lt, Binary::Le, Binary::Gt, Binary::Ge];
                Expr::binary(comparisons[self.roll(6)], self.expr(depth, of), self.expr(depth, of))
            }
            3 => {
                let op = [Reduce::Sum, Reduce::Max][self.roll(2)];
                Expr::fold(op, Symbol::new("k"), self.dim(1), self.expr(depth, dtype))
            }
            _ => {
                let accepted: Vec<_> =
                    Binary::ALL.iter().filter(|f| f.accepts(dtype) && f.result(dtype) == dtype).collect();
                Expr::binary(
                    *accepted[self.roll(accepted.len())],
                    self.expr(depth, dtype),
                    self.expr(depth, dtype),
                )
            }
        }
    }
}

#[test]
fn random_sizes_read_back() {
    let mut dice = Dice(7);
    for _ in 0..2000 {
        let dim = dice.dim(3);
        assert_eq!(Dim::parse(&dim.to_string()).as_ref(), Ok(&dim), "{dim}");
    }
}

#[test]
fn only_words_with_a_meaning_are_quoted() {
    for name in ["batch", "workspace", "W_2", "i2", "f32"] {
        assert_eq!(Dim::symbol(name).to_string(), name);
    }
    for name in ["graph", "sum", "batch-size"] {
        let quoted = format!("`{name}`");
        assert_eq!(Dim::symbol(name).to_string(), quoted);
        assert_eq!(Dim::parse(&quoted), Ok(Dim::symbol(name)));
    }
}

// ---------------------------------------------------------------------------------------------- expressions

type Names = Vec<(Symbol, DType)>;

fn names() -> (Names, Names) {
    let array = |dtype: DType| (Symbol::new(dtype.name()), dtype);
    let scalar = |dtype: DType| (Symbol::new(format!("v {dtype}")), dtype);
    (DType::ALL.map(array).to_vec(), DType::ALL.map(scalar).to_vec())
}

#[test]
fn random_expressions_read_back() {
    let mut dice = Dice(3);
    let (arrays, scalars) = names();
    for round in 0..3000 {
        let dtype = [DType::F32, DType::I64, DType::Bool, DType::I32, DType::F16, DType::U8][round % 6];
        let expr = dice.expr(1 + round % 4, dtype);
        let text = expr.to_string();
        let again =
            parse_expr(&text, &arrays, &scalars).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
        assert!(again == expr, "{text}\n{again}");
    }
}

#[test]
fn expressions_are_spelled_as_documented() {
    let (arrays, scalars) = names();
    for text in [
        "%f32[i, 2*j + 1] * %f32[k] + 1.0",
        "(%f32[i] + 1.0) * %f32[k]",
        "%f32[i] - (%f32[j] - 1.0)",
        "-%f32[i] * -1.0",
        "fma(%f32[i], 2.0, 1e-8)",
        "select(i < n && 0 <= i, %f32[i], -inf)",
        "cast<f32>(2*i) / 3.0",
        "bitcast<i32>(%f32[i]) + 8388608i32",
        "mod(%i64[i], 4) + 2*i",
        "i / m",
        "sum k in 0..784 { %f32[i, k] * %f32[k, j] }",
        "max k in 0..n { sum l in 0..m { %f64[k, l] } }",
        "any k in 0..n { %bool[k] || true && %bool[i] }",
        "nan<f16>(0x7e01)",
        "inf<f64>",
        "-inf",
        "neg(i)",
        "-9223372036854775808",
        "%i64[i] + -9223372036854775808",
        "-128i8",
        "18446744073709551615u64",
        "%f32[%i64[i] + 1, 0]",
        "%f32[]",
    ] {
        let expr = parse_expr(text, &arrays, &scalars).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
        assert_eq!(expr.to_string(), text);
    }
    for (text, printed) in [
        ("i % 4", "i - 4*floor(i, 4)"),
        ("(i + 1) // 2", "floor(i + 1, 2)"),
        ("(((i)))*2", "2*i"),
        ("m - i//2", "m - floor(i, 2)"),
        ("-i//2", "floor(-i, 2)"),
        ("1.0 + 2.0", "3.0"),
        ("- 3", "-3"),
        ("%i64[0] % 3", "mod(%i64[0], 3)"),
    ] {
        let expr = parse_expr(text, &arrays, &scalars).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
        assert_eq!(expr.to_string(), printed);
    }
    for bad in [
        "1.0 + 1",
        "%f32[1.0]",
        "%nope[0]",
        "%nope",
        "exp(i)",
        "fma(1, 2, 3)",
        "select(1.0, 2.0, 3.0)",
        "bitcast<f64>(1.0)",
        "300u8",
        "1.5i32",
        "1.0 < 2.0 < 3.0",
        "3q",
        "nan<f32>(0x1ffffffff)",
        "-1u8",
        "i // 0",
        "shl(1.0, 2.0)",
        "1.0 +",
        "",
        "sum k in 1..n { 1.0 }",
        "sum k in 0..n { true }",
    ] {
        assert!(parse_expr(bad, &arrays, &scalars).is_err(), "{bad}");
    }
    assert!(parse_expr(&"(".repeat(50_000), &arrays, &scalars).is_err());
}

// -------------------------------------------------------------------------------------------------- kernels

const LOOPS: &str = "\
kernel @linear_relu kind=matmul [n](%x: f32[n, 784], %\"fc/w\": f32[784, 128], %t: scratch f32[4, 784, 32], %y: write f32[n, 128]) loops {
  gemm i in 0..n, (j in 0..64, l in 0..2), () { %x[i, j] * %\"fc/w\"[l, j] } as %acc {
    %y[i, j] = max(%acc, 0.0)
  }
  parallel i in 0..n grain 4 {
    alloc %a : f32[2, 3]
    for k in 0..784 {
      let %b = %x[i, k] * 2.0
      var %s = 0.0
      set %s = %s + %b
      if k < 3 && 0 <= k {
        %a[0, k] = %s
      }
    }
    vector j in 0..128 by 16 {
      %y[i, j] = max(%y[i, j], %a[0, 0])
    }
    unroll r in 0..3 {
      %y[i, r] = %a[1, r]
    }
    parallel q in 0..3 {
    }
    fold %m = max k in 0..784 {
      let %c = abs(%x[i, k])
      set %m = max(%m, %c)
    }
    %y[i, 0] = %m
  }
  sort %x along 1 descending values %y positions %\"fc/p\" scratch %t
  sort %y along 0 ascending scratch %t
}
";

const STAGES: &str = "\
kernel @softmax kind=fused [n](%x: f32[n, 10], %y: write f32[n, 10]) stages {
  stage %m[i in n] : f32 = max k in 0..10 { %x[i, k] }
  stage %e[i in n, j in 10] : f32 = exp(%x[i, j] - %m[i])
  stage %y[i in n, j in 10] : f32 = %e[i, j] / (sum k in 0..10 { %e[i, k] })
}
";

#[test]
fn kernels_read_back() {
    for text in
        [LOOPS, STAGES.replace("(sum k in 0..10 { %e[i, k] })", "sum k in 0..10 { %e[i, k] }").as_str()]
    {
        let kernel = parse_kernel(text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
        assert_eq!(kernel.to_string(), text);
        assert_eq!(parse_kernel(&kernel.to_string()), Ok(kernel));
    }
    assert_eq!(parse_kernels(&format!("{LOOPS}\n; and\n{STAGES}")).unwrap().len(), 2);
    assert!(parse_kernel(&format!("{LOOPS}{STAGES}")).is_err());
    // An empty kernel keeps its form.
    for body in [Body::Stages(vec![]), Body::Loops(vec![])] {
        let kernel = Kernel {
            name: "k".into(),
            kind: KernelKind::Other,
            sizes: vec![],
            given: vec![],
            params: vec![],
            body,
        };
        assert_eq!(parse_kernel(&kernel.to_string()), Ok(kernel));
    }
}

#[test]
fn built_kernels_read_back() {
    let (i, n) = (Dim::symbol("i"), Dim::symbol("n"));
    let x = |at: Dim| Expr::load("x".into(), DType::F32, [at.into()]);
    let params = vec![
        Param { name: "y".into(), ty: f32s(std::slice::from_ref(&n)), access: Access::Write },
        Param { name: "x".into(), ty: f32s(std::slice::from_ref(&n)), access: Access::Read },
    ];
    let body = x(i.clone()) + Expr::number(DType::F32, f64::NAN);
    let stage = Stage { name: "y".into(), axes: vec![("i".into(), n.clone())], body };
    let kernel = |body| Kernel {
        name: "a b".into(),
        kind: KernelKind::Fused,
        sizes: vec!["n".into()],
        given: vec![],
        params: params.clone(),
        body,
    };
    let first = kernel(Body::Stages(vec![stage]));
    assert_eq!(parse_kernel(&first.to_string()), Ok(first));
    let product = Gemm {
        row: vec![("i".into(), n.clone())],
        col: vec![("j".into(), c(1))],
        depth: vec![("k".into(), c(2))],
        group: None,
        a: x(i.clone() + Dim::symbol("k")),
        b: x(Dim::symbol("k")) + Expr::number(DType::F32, 1.0),
        acc: "acc".into(),
        body: vec![Stmt::Store {
            target: "y".into(),
            at: vec![i.clone().into()],
            value: Expr::var("acc".into(), DType::F32),
        }],
    };
    let stmts = vec![
        Stmt::Gemm(Box::new(product)),
        Stmt::For { axis: "i".into(), extent: n, kind: LoopKind::Parallel(7), body: vec![] },
    ];
    let second = kernel(Body::Loops(stmts));
    assert_eq!(parse_kernel(&second.to_string()), Ok(second));
}

#[test]
fn sorts_that_say_too_little() {
    for (sort, at) in [
        ("sort %x 1 ascending scratch %t", "1"),
        ("sort %x along 1 scratch %t", "scratch"),
        ("sort %x along -1 ascending scratch %t", "-"),
        ("sort %x along 1 ascending values %y", "}"),
        ("sort %x along 1 ascending positions %p values %y scratch %t", "values"),
    ] {
        let text = format!("kernel @k kind=sort (%x: f32[2]) loops {{\n  {sort}\n}}\n");
        let errors = parse_kernel(&text).unwrap_err();
        assert_eq!(&text[errors[0].span.clone()], at, "{sort}: {errors:?}");
    }
}

#[test]
fn folds_that_say_too_little() {
    for (fold, at) in [
        ("fold sum k in 0..2 { }", "sum"),
        ("fold %s = k in 0..2 { }", "k"),
        ("fold %s = sum k { }", "{"),
        ("fold %s = sum k in 0..2", "}"),
    ] {
        let text = format!("kernel @k kind=fused (%x: f32[2]) loops {{\n  {fold}\n}}\n");
        let errors = parse_kernel(&text).unwrap_err();
        assert_eq!(&text[errors[0].span.clone()], at, "{fold}: {errors:?}");
    }
}

#[test]
fn every_error_of_a_kernel_is_found_and_placed() {
    let text = "\
kernel @k kind=fused [n](%x: f32[n], %y: write f32[n]) loops {
  for i in 1..n {
    %y[i] = nonsense
  }
  for i in 0..n {
    let %a = %x[i] + 1
    let %b = %a
    %y[i] = %c
    %y[i] = 1.0 }
}
";
    let errors = parse_kernel(text).unwrap_err();
    let at: Vec<&str> = errors.iter().map(|error| &text[error.span.clone()]).collect();
    assert_eq!(at, ["1", "%x[i] + 1", "%c"], "{errors:?}");
}

// ------------------------------------------------------------------------------------------------- programs

fn program() -> (Program, Vec<Weight>) {
    let kernels = vec![parse_kernel(LOOPS).unwrap(), parse_kernel(STAGES).unwrap()];
    let weight = |name: &str, shape: &[usize]| {
        Weight::from_tensor(name, &Tensor::from_fn(DType::F32, shape, |i| Scalar::f32(i[0] as f32)))
    };
    let (w, small, square) = (weight("fc.w", &[784, 128]), weight("orig", &[2]), weight("t", &[2, 3, 4]));
    let bytes =
        Weight::from_tensor("q", &Tensor::from_fn(DType::I8, &[3, 2], |_| Scalar::from_i64(DType::I8, -1)));
    let packed = |name: &str, weight: &Weight, layout| PackedWeight {
        name: name.into(),
        weight: weight.clone(),
        layout,
    };
    let n = Dim::symbol("batch");
    let port = |name: &str, size: i64| Port { name: name.into(), ty: f32s(&[n.clone(), size.into()]) };
    let buffer = |name: &str, space, offset| Buffer {
        name: name.into(),
        ty: f32s(&[n.clone(), c(128)]),
        space,
        offset,
    };
    let program = Program {
        name: "digits".into(),
        weights: vec![
            packed("w", &w, Layout::Plain),
            packed(
                "small",
                &small,
                Layout::Panels { outer: vec![], depth: 2, cols: 1, row: 1, col: 1, offset: 0 },
            ),
            packed("t", &square, Layout::Permuted(vec![2, 0, 1])),
            packed("q", &bytes, Layout::Quads { depth: 3, cols: 2, row: 2, col: 1, offset: 0 }),
        ],
        kernels,
        entries: vec![Entry {
            name: "main".into(),
            inputs: vec![port("image", 784), port("twice", 1)],
            outputs: vec![port("probabilities", 128), port("twice", 128)],
            keeps: vec![],
            buffers: vec![
                buffer("b0", Space::Arena, Some(n.clone() * c(64))),
                buffer("s", Space::State, None),
                buffer("h", Space::Host, Some(c(0))),
                buffer("g", Space::Growing(3), None),
            ],
            host: vec![Step::Measure(Measure {
                symbol: "k".into(),
                source: Arg::Buffer(2),
                bound: Some(n.clone() + c(1)),
                origin: Origin::places_from([place("/k", "TopK", "", "")]),
            })],
            steps: vec![
                Step::Call(Call {
                    kernel: 0,
                    args: vec![Arg::Input(0), Arg::Weight(0), Arg::Buffer(1), Arg::Output(0)],
                    sizes: vec![n.clone()],
                    origin: Origin::places_from([place("/fc", "Gemm", "", "")]),
                }),
                Step::Call(Call {
                    kernel: 1,
                    args: vec![Arg::Input(1), Arg::Output(1)],
                    sizes: vec![c(3)],
                    origin: Origin::none(),
                }),
                Step::Set(vec![("k".into(), n.clone() * c(2)), ("m".into(), n.clone())]),
                Step::Require(Require {
                    condition: Condition::at_most(Dim::symbol("k"), n.clone()),
                    what: "a slice stays inside".into(),
                    origin: Origin::none(),
                }),
                Step::If(Branch {
                    cond: Arg::Buffer(0),
                    then: vec![Step::Reserve(Arg::Buffer(3))],
                    otherwise: vec![],
                    origin: Origin::places_from([place("/if", "If", "", "")]),
                }),
                Step::Loop(Loop {
                    index: "it".into(),
                    count: Some(n.clone()),
                    cond: Some(Arg::Buffer(1)),
                    trips: Some("trips".into()),
                    body: vec![
                        Step::Copy(Copy {
                            from: Arg::Input(0),
                            to: Arg::Buffer(3),
                            at: Some(Dim::symbol("it")),
                            origin: Origin::none(),
                        }),
                        Step::Loop(Loop {
                            index: "inner".into(),
                            count: None,
                            cond: Some(Arg::Weight(1)),
                            trips: None,
                            body: vec![],
                            origin: Origin::none(),
                        }),
                    ],
                    origin: Origin::places_from([place("/loop", "Loop", "", "")]),
                }),
            ],
            arena: Some(Dim::larger(&n, &c(1))),
        }],
    };
    (program, vec![w, small, square])
}

#[test]
fn programs_read_back() {
    let (program, weights) = program();
    let file = WeightFile::open(Arc::new(file_of(&weights))).unwrap();
    let text = program.to_string();
    let again = parse_program(&text, &file).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    assert_eq!(again, program);
    assert_eq!(again.to_string(), text);
    assert_eq!(again.weights[1].weight.name(), "orig");
    for line in [
        "weights @small : f32[2] = [0.0, 1.0] panels depth=2 cols=1 row=1 col=1 offset=0 named \"orig\"",
        "weights @t : f32[2, 3, 4] = [0.0, 0.0,",
        "permuted [2, 0, 1]",
        "quads depth=3 cols=2 row=2 col=1 offset=0",
        "buffer %b0 : f32[batch, 128] at 64*batch\n",
        "state %s : f32[batch, 128]\n",
        "growing %g : f32[batch, 128] in 3\n",
        "size k = %h <= batch + 1 from \"/k\"(\"TopK\")",
        "set k = 2*batch, m = batch\n",
        "require k <= batch \"a slice stays inside\"\n",
        "loop it below batch while %s counted trips from \"/loop\"(\"Loop\") {",
        "copy %image to %g at it\n",
        "arena max(1, batch) bytes\n",
        "call @linear_relu(%image, @w, %s, %probabilities) [n=batch] from \"/fc\"(\"Gemm\")\n",
        "call @softmax(input 1, output 1) [n=3]\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let errors = parse_program(&text.replace("call @softmax", "call @nope"), &file).unwrap_err();
    assert_eq!(errors[0].problem, Problem::Undefined { name: "@nope".into() });
    assert!(parse_program(&text.replace("[n=3]", "[m=3]"), &file).is_err());
    assert!(parse_program(&text.replace("permuted [2, 0, 1]", "permuted [2, 0, 0]"), &file).is_err());
}

#[test]
fn a_file_of_weights_is_checked() {
    let (_, weights) = program();
    let bytes = file_of(&[weights.clone(), weights.clone()].concat());
    let file = WeightFile::open(Arc::new(bytes.clone())).unwrap();
    assert_eq!(file.len(), 3);
    for weight in &weights {
        let found = file.find(&weight.hash()).unwrap();
        assert_eq!(found.as_slice(), weight.stored().collect::<Vec<_>>().concat());
    }
    for cut in [0, 7, 15, 16, 100, bytes.len() - 1] {
        assert!(WeightFile::open(Arc::new(bytes[..cut].to_vec())).is_err(), "{cut}");
    }
    // A changed byte of some data: that weight is not found any more, the others are.
    let mut broken = bytes.clone();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let file = WeightFile::open(Arc::new(broken)).unwrap();
    assert_eq!(weights.iter().filter(|weight| file.find(&weight.hash()).is_some()).count(), 2);
    assert!(WeightFile::open(Arc::new(file_of(&[]))).unwrap().is_empty());
}

// --------------------------------------------------------------------------------------------- robustness

/// Cuts, deletions, repetitions and swaps of a text must give a value or errors, and what parses must print.
fn maul(text: &str, parse: &dyn Fn(&str)) {
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)).step_by(3) {
        parse(&text[..end]);
    }
    let mut dice = Dice(11);
    let noise = [
        "%",
        "@",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "\"",
        "`",
        "\\",
        "-",
        ",",
        "0",
        "9223372036854775808",
        "nan",
        "/",
        "\n",
        "é",
        "in",
        "//",
        "=",
        "1.0",
    ];
    for _ in 0..1500 {
        let mut bytes = text.to_owned();
        for _ in 0..=dice.roll(3) {
            let at = |dice: &mut Dice, text: &str| {
                (0..=dice.roll(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
            };
            let (a, b) = (at(&mut dice, &bytes), at(&mut dice, &bytes));
            let (a, b) = (a.min(b), a.max(b).min(a.min(b) + 12));
            let b = (b..=bytes.len()).find(|i| bytes.is_char_boundary(*i)).unwrap_or(bytes.len());
            let with = match dice.roll(3) {
                0 => String::new(),
                1 => bytes[a..b].repeat(2),
                _ => noise[dice.roll(noise.len())].to_owned(),
            };
            bytes.replace_range(a..b, &with);
        }
        parse(&bytes);
    }
}

#[test]
fn no_text_panics() {
    let (graph, stored) = everything();
    let file = WeightFile::open(Arc::new(file_of(&stored))).unwrap();
    maul(&graph.to_string(), &|text| match parse_graph(text, &ops, &file) {
        Ok(graph) => {
            let printed = graph.to_string();
            let again =
                parse_graph(&printed, &ops, &file).unwrap_or_else(|e| panic!("{e:?}\n{text}\n{printed}"));
            assert_eq!(again.to_string(), printed);
        }
        Err(errors) => errors
            .iter()
            .for_each(|e| assert!(text.get(e.span.clone()).is_some() && !e.to_string().is_empty())),
    });
    let reread = |text: &str| match parse_kernel(text) {
        Ok(kernel) => assert_eq!(parse_kernel(&kernel.to_string()).as_ref(), Ok(&kernel), "{text}"),
        Err(errors) => assert!(errors.iter().all(|e| text.get(e.span.clone()).is_some())),
    };
    maul(LOOPS, &reread);
    maul(STAGES, &reread);
    let (program, weights) = program();
    let file = WeightFile::open(Arc::new(file_of(&weights))).unwrap();
    maul(&program.to_string(), &|text| match parse_program(text, &file) {
        Ok(program) => {
            assert_eq!(parse_program(&program.to_string(), &file).as_ref(), Ok(&program), "{text}")
        }
        Err(errors) => assert!(errors.iter().all(|e| text.get(e.span.clone()).is_some())),
    });
    maul("floor(2*n + 1, `a b`)*min(a, b, -3) - (x % 4)//2", &|text| {
        if let Ok(dim) = Dim::parse(text) {
            assert_eq!(Dim::parse(&dim.to_string()), Ok(dim));
        }
    });
}

#[test]
fn index_constants_are_indices() {
    let expr = parse_expr("3i64", &[], &[]).unwrap();
    assert!(matches!(expr.kind(), ExprKind::Index(dim) if dim.is(3)));
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    for opening in [
        "(",
        "-",
        "floor(",
        "min(0, ",
        "n*(",
        "1.0 + 1.0 * (",
        "true || true && 1 == 1 + 1 * (",
        "exp(",
        "%f32[",
        "cast<f32>(",
        "sum k in 0..n { ",
    ] {
        let text = opening.repeat(10_000);
        let (arrays, scalars) = names();
        let errors = parse_expr(&text, &arrays, &scalars).unwrap_err();
        assert!(matches!(errors[0].problem, Problem::TooDeep { .. }), "{opening} {errors:?}");
        assert!(Dim::parse(&text).is_err());
    }
    let blocks = "for i in 0..n {\n".repeat(10_000);
    assert!(parse_kernel(&format!("kernel @k kind=other () loops {{\n{blocks}")).is_err());
    let header = "graph @g(%x: f32[]) -> f32[] {\n %0 = with %x {body=".repeat(10_000);
    assert!(parse_graph(&header, &ops, &NoWeights).is_err());
    let lists = format!("graph @g(%x: f32[]) -> f32[] {{\n %0 = same %x {{perm={}", "[".repeat(10_000));
    assert!(parse_graph(&lists, &ops, &NoWeights).is_err());
}
