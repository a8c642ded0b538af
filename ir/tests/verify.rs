//! Each rule of the verifiers fires on what breaks it, and valid things pass. DOT is here, too: it shows graphs.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it expects")]

use std::sync::Arc;

use ir::attr::{Attr, Attrs, Key, key};
use ir::dim::Dim;
use ir::dtype::DType;
use ir::graph::{Graph, Kind, Node, Value};
use ir::op::{Infer, OpDef, OpError, Semantics};
use ir::origin::{Origin, Place};
use ir::program::{Arg, Call, Layout, Program, Space, Step};
use ir::tensor::Tensor;
use ir::text::{NoWeights, parse_graph, parse_kernel, parse_program};
use ir::types::TensorType;
use ir::verify::{KernelViolation, ProgramViolation, Violation, verify, verify_kernel, verify_program};
use ir::weight::Weight;

struct Sum;

impl Semantics for Sum {
    fn infer(&self, cx: &Infer) -> Result<Vec<TensorType>, OpError> {
        let dtype = cx.common_dtype()?;
        Ok(vec![TensorType::new(dtype, cx.broadcast()?)])
    }
}

const BODY: Key<Arc<Graph>> = key("body");
const TIMES: Key<i64> = key("times");

static ADD: OpDef = OpDef::new("add", &["x", "y"], &Sum);
static REPEAT: OpDef = OpDef::new("repeat", &["x"], &Sum).attrs(&[BODY.spec(), TIMES.or(|| Attr::Int(1))]);

fn ops(name: &str) -> Option<&'static OpDef> {
    [&ADD, &REPEAT].into_iter().find(|def| def.name == name)
}

fn graph(text: &str) -> Graph {
    parse_graph(text, &ops, &NoWeights).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

fn violations(graph: &Graph) -> Vec<Violation> {
    verify(graph).into_iter().map(|at| at.error).collect()
}

const VALID: &str = "\
weights @b : f32[3] = [1.0, 2.0, 3.0]
graph @g(%x: f32[n, 3]) -> f32[n, 3] {
  %0 = add %x, @b : f32[n, 3] from \"/fc\"
  %1 = repeat %0 {body=graph @body(%x: f32[n, 3]) -> f32[n, 3] {
    %0 = add %x, %x : f32[n, 3]
    return %0
  }} : f32[n, 3]
  return %1 as \"out\"
}
";

#[test]
fn a_valid_graph_passes() {
    assert_eq!(violations(&graph(VALID)), []);
}

#[test]
fn each_rule_of_graphs_fires() {
    let stale = violations(&graph(&VALID.replace("add %x, @b : f32[n, 3]", "add %x, @b : f32[n, 4]")));
    let [Violation::StaleType { op: "add", inferred, declared }, ..] = &stale[..] else {
        panic!("{stale:?}")
    };
    assert_eq!((inferred.as_str(), declared.as_str()), ("f32[n, 3]", "f32[n, 4]"));

    let nested = violations(&graph(&VALID.replace("add %x, %x : f32[n, 3]", "add %x : f32[n, 3]")));
    let [Violation::Nested { key: "body", violation }] = &nested[..] else { panic!("{nested:?}") };
    assert!(matches!(violation.error, Violation::Op { error: OpError::Arity { .. }, .. }));

    let clash = violations(&graph(&VALID.replace("f32[3] = [1.0, 2.0, 3.0]", "f32[2] = [1.0, 2.0]")));
    assert!(matches!(&clash[..], [Violation::Op { error: OpError::Size { .. }, .. }]), "{clash:?}");

    let ty = TensorType::fixed(DType::F32, &[3]);
    let mut g = Graph::new("g");
    let x = g.add_input("x", ty.clone(), Origin::none());
    g.add_input("x", TensorType::new(DType::F32, [Dim::constant(-2)]), Origin::none());
    let y = g.add_op(&ADD, &[x, x], Attrs::default(), Origin::none()).unwrap();
    g.set_outputs([("y".to_owned(), y.into()), ("y".to_owned(), x)]);
    let found = violations(&g);
    assert!(found.contains(&Violation::Twice { what: "input", name: "x".into() }), "{found:?}");
    assert!(found.contains(&Violation::Twice { what: "output", name: "y".into() }), "{found:?}");
    assert!(found.contains(&Violation::NegativeSize { name: "x".into(), size: -2 }), "{found:?}");

    // An output of a removed node, and an operand that is no result.
    let mut gone = g.clone();
    gone.retain(|id| id != y);
    assert!(violations(&gone).contains(&Violation::NoValue { what: "output", index: 0 }));
    assert!(gone.to_string().contains("return %? as \"y\""));
    let beyond = Value { node: y, result: 1 };
    let node = Node {
        kind: Kind::Op { def: &ADD, attrs: Attrs::default() },
        types: vec![ty.clone()],
        origin: Origin::none(),
    };
    g.add_node_unchecked(node, &[beyond, x]);
    assert!(violations(&g).contains(&Violation::NoValue { what: "operand", index: 0 }));

    // A cycle: reported on its nodes, not on what hangs on it.
    let mut g = Graph::new("g");
    let x = g.add_input("x", ty.clone(), Origin::none());
    let node =
        |types| Node { kind: Kind::Op { def: &ADD, attrs: Attrs::default() }, types, origin: Origin::none() };
    let a = g.add_node_unchecked(node(vec![ty.clone()]), &[x]);
    let b = g.add_node_unchecked(node(vec![ty.clone()]), &[a.into(), x]);
    let c = g.add_node_unchecked(node(vec![ty.clone()]), &[b.into(), x]);
    g.push_operand_unchecked(a, b.into());
    g.set_outputs([("y".to_owned(), c.into())]);
    let at: Vec<_> = verify(&g).into_iter().map(|at| (at.node, at.error)).collect();
    assert_eq!(at, [(Some(a), Violation::Cycle), (Some(b), Violation::Cycle)]);
    assert!(g.to_string().contains("return"));

    // Attributes that were not checked, and a weight of another type than its node.
    let mut g = Graph::new("g");
    let w = Weight::from_tensor("w", &Tensor::from_f32(&[2], &[1.0, 2.0]));
    let w = g.add_node_unchecked(
        Node { kind: Kind::Weight(w), types: vec![ty.clone()], origin: Origin::none() },
        &[],
    );
    let kind = Kind::Op { def: &REPEAT, attrs: Attrs::default() };
    let r = g.add_node_unchecked(Node { kind, types: vec![ty], origin: Origin::none() }, &[w.into()]);
    g.set_outputs([("y".to_owned(), r.into())]);
    let found = violations(&g);
    let [Violation::LeafType { .. }, Violation::Op { error: OpError::Attrs(error), .. }] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(error.to_string(), "`repeat` needs the attribute `body`, a graph");
}

#[test]
fn a_deep_graph_is_verified_quickly() {
    let mut g = Graph::new("deep");
    let mut x = g.add_input("x", TensorType::scalar(DType::F32), Origin::none());
    for _ in 0..20_000 {
        x = g.add_op(&ADD, &[x, x], Attrs::default(), Origin::none()).unwrap().into();
    }
    g.set_outputs([("y".to_owned(), x)]);
    assert_eq!(verify(&g), []);
}

#[test]
fn dot_shows_ops_types_and_origins() {
    let mut g = graph(VALID);
    let id = g.order()[2];
    g.join_origin(id, &Origin::place(Place { name: "a\"b".into(), ..Place::default() }));
    let text = ir::dot::dot(&g);
    for line in [
        "digraph \"g\" {",
        "  n0 [shape=ellipse, label=\"%x\\nf32[n, 3]\"];",
        "  n1 [shape=note, label=\"@b\\nf32[3]\"];",
        "  n2 [shape=box, label=\"add\\nf32[n, 3]\\n/fc\"];",
        "  n1 -> n2 [headlabel=\"1\"];",
        "  n2 -> n3;",
        "  y0 [shape=ellipse, label=\"out\"];",
        "  n3 -> y0;",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert_eq!(text, ir::dot::dot(&graph(VALID)));
}

// -------------------------------------------------------------------------------------------------- kernels

/// What the verifier says of a kernel with these parameters and this body, as short words. That loops write nothing at
/// all is no news here: most of these tests are about one statement.
fn said(params: &str, form: &str, body: &str) -> Vec<String> {
    let all = all_said(params, form, body);
    all.into_iter().filter(|word| !word.starts_with("unwritten")).collect()
}

fn all_said(params: &str, form: &str, body: &str) -> Vec<String> {
    let text = format!("kernel @k kind=fused [n, m]({params}) {form} {{\n{body}\n}}");
    let kernel = parse_kernel(&text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    let word = |violation| match violation {
        KernelViolation::Undefined { name, .. } => format!("undefined {name}"),
        KernelViolation::Rank { .. } => "rank".to_owned(),
        KernelViolation::Types { what, .. } => format!("types of {what}"),
        KernelViolation::OutOfRange { index, .. } => format!("range {index}"),
        KernelViolation::ReadOnly { .. } => "read only".to_owned(),
        KernelViolation::Race { axis, array, .. } => format!("race {axis} {array}"),
        KernelViolation::Stage { .. } => "stage".to_owned(),
        KernelViolation::Filled { stages, .. } => format!("filled {stages}"),
        KernelViolation::Unwritten { param, .. } => format!("unwritten {param}"),
        other => other.to_string(),
    };
    verify_kernel(&kernel).into_iter().map(word).collect()
}

fn loops(body: &str) -> Vec<String> {
    said("%x: f32[n, m], %i: i64[n], %t: scratch f32[4], %y: write f32[n, m]", "loops", body)
}

fn each(inside: &str) -> Vec<String> {
    loops(&format!("for i in 0..n {{\nfor j in 0..m {{\n{inside}\n}}\n}}"))
}

#[test]
fn accesses_are_in_range_or_guarded() {
    assert!(each("%y[i, j] = %x[i, j]").is_empty());
    assert_eq!(each("%y[i, j] = %x[i, j + 1]"), ["range j + 1"]);
    assert_eq!(each("%y[i, j] = %x[i, j - 1]"), ["range j - 1"]);
    assert_eq!(each("%y[i, j] = %x[j, i]"), ["range j", "range i"]);
    assert!(each("%y[i, j] = select(j + 1 < m, %x[i, j + 1], 0.0)").is_empty());
    assert!(each("%y[i, j] = select(0 <= j - 2 && j - 2 < m, %x[i, j - 2], 0.0)").is_empty());
    assert!(each("%y[i, j] = select(j < 3, 0.0, %x[i, j - 3])").is_empty());
    assert!(each("if 1 <= j {\n%y[i, j] = %x[i, j - 1]\n}").is_empty());
    assert_eq!(each("if 1 <= j {\n%y[i, j] = %x[i, j - 2]\n}"), ["range j - 2"]);
    assert_eq!(each("%y[i, j] = select(i + 1 < n, %x[i, j + 1], 0.0)"), ["range j + 1"]);
    // Clamped, flipped, and looked up.
    assert!(each("%y[i, j] = %x[i, max(0, min(j + 1, m - 1))]").is_empty());
    assert!(each("%y[i, j] = %x[n - 1 - i, j]").is_empty());
    assert!(each("%y[i, j] = %x[%i[i], j]").is_empty());
}

/// Where there is no proof, small sizes decide.
#[test]
fn what_is_not_proved_is_refuted_or_passes() {
    let scaled = |index: &str| each(&format!("%y[i, j] = select(3*j < m, %x[i, {index}], 0.0)"));
    assert!(scaled("floor(5*j, 2)").is_empty());
    assert_eq!(scaled("floor(9*j, 2)"), ["range floor(9*j, 2)"]);
    assert_eq!(scaled("3*j + 1"), ["range 3*j + 1"]);
    let square = |index: &str| each(&format!("%y[i, j] = select(i*j < m, %x[i, min({index}, m - 1)], 0.0)"));
    assert!(square("i*j*j").is_empty());
    assert_eq!(square("i*j*j - 1"), ["range min(i*j*j - 1, m - 1)"]);
}

#[test]
fn quotients_and_remainders_are_in_range() {
    let params = "%x: f32[n, 4], %y: write f32[4*n]";
    assert!(
        said(params, "loops", "for i in 0..4*n {\n%y[i] = %x[floor(i, 4), i - 4*floor(i, 4)]\n}").is_empty()
    );
    assert_eq!(
        said(params, "loops", "for i in 0..4*n {\n%y[i] = %x[floor(i, 3), 0]\n}"),
        ["range floor(i, 3)"]
    );
    let panels = "%b: f32[floor(m + 31, 32), n, 32], %y: write f32[n, m]";
    let body = "for i in 0..n {\nfor j in 0..m {\n%y[i, j] = %b[floor(j, 32), i, j - 32*floor(j, 32)]\n}\n}";
    assert!(said(panels, "loops", body).is_empty());
    let symbolic = "%x: f32[n, m], %y: write f32[n*m]";
    let body = "for i in 0..n*m {\n%y[i] = %x[floor(i, m), i - m*floor(i, m)]\n}";
    assert!(said(symbolic, "loops", body).is_empty());
}

#[test]
fn guards_are_used_inside_quotients() {
    // A padded row, seen through a reshape: 12 rows of 32 elements, 3 rows of zeros before them.
    let padded = |guard: &str| {
        let at = "i + floor(32*j + k + 288, 384) - 1, floor(32*j + k + 288, 32) - 12*floor(32*j + k + 288, 384), k";
        let params = "%x: f32[2, 12, 32], %y: write f32[2, 18, 32]";
        let stage = format!("stage %y[i in 2, j in 18, k in 32] : f32 = select({guard}, %x[{at}], 0.0)");
        said(params, "stages", &stage)
    };
    assert!(padded("0 <= j - 3 && j - 3 < 12").is_empty(), "{:?}", padded("0 <= j - 3 && j - 3 < 12"));
    assert_eq!(padded("0 <= j - 2 && j - 3 < 12").len(), 1);
    assert_eq!(padded("0 <= j - 3 && j - 3 < 13").len(), 1);
    // A guard over two axes.
    let window = |guard: &str| {
        let params = "%x: f32[n], %y: write f32[n]";
        said(
            params,
            "stages",
            &format!("stage %y[i in n] : f32 = sum k in 0..3 {{ select({guard}, %x[i + k - 1], 0.0) }}"),
        )
    };
    assert!(window("0 <= i + k - 1 && i + k - 1 < n").is_empty());
    assert!(window("1 - k <= i && i + k <= n").is_empty());
    assert_eq!(window("0 <= i + k - 1"), ["range i + k - 1"]);
}

#[test]
fn names_ranks_and_types_are_checked() {
    assert_eq!(each("%y[i, k] = 1.0"), ["undefined k", "range k"]);
    assert_eq!(each("%y[i] = 1.0"), ["rank"]);
    assert_eq!(each("%z[i] = 1.0"), ["undefined z"]);
    assert_eq!(each("%y[i, j] = 1.0f64"), ["types of a store"]);
    assert_eq!(each("%x[i, j] = 1.0"), ["read only"]);
    assert_eq!(each("let %a = 1.0\nset %a = 2.0f64"), ["types of set"]);
    assert_eq!(each("set %a = 2.0"), ["undefined a"]);
    assert!(each("alloc %a : f32[2]\n%a[1] = 1.0\n%y[i, j] = %a[0]").is_empty());
    assert_eq!(each("alloc %a : f32[2]\n%a[2] = 1.0"), ["range 2"]);
    assert_eq!(said("%y: write f32[k]", "loops", ""), ["undefined k"]);
}

#[test]
fn loops_have_sensible_extents() {
    assert!(loops("unroll i in 0..n {\n}")[0].contains("unrolled"));
    assert!(loops("vector i in 0..n by 0 {\n}")[0].contains("lanes"));
    assert!(loops("parallel i in 0..n grain 0 {\n}")[0].contains("at least one"));
    assert!(
        loops("parallel i in 0..n grain 2 {\n}\nunroll j in 0..3 {\n}\nvector j in 0..m by 16 {\n}")
            .is_empty()
    );
    assert!(each("%y[i, j] = sum k in 0..m { %x[i, k] }")[0].contains("fold"));
}

#[test]
fn parallel_iterations_write_apart() {
    let parallel = |inside: &str| loops(&format!("parallel i in 0..n {{\n{inside}\n}}"));
    let rows = |inside: &str| parallel(&format!("for j in 0..m {{\n{inside}\n}}"));
    assert!(rows("%y[i, j] = 1.0").is_empty());
    assert!(rows("%y[n - 1 - i, j] = 1.0").is_empty());
    assert!(rows("%y[%i[i], j] = 1.0").is_empty());
    assert_eq!(rows("%y[0, j] = 1.0"), ["race i y"]);
    assert_eq!(parallel("%y[floor(i, 2), 0] = 1.0").last().unwrap(), "race i y");
    assert_eq!(parallel("%t[0] = 1.0"), ["race i t"]);
    // What lives inside the loop is its own; what lives outside is shared.
    assert!(parallel("alloc %a : f32[1]\n%a[0] = 1.0\nvar %s = 0.0\nset %s = 1.0").is_empty());
    assert_eq!(
        loops("alloc %a : f32[1]\nvar %s = 0.0\nparallel i in 0..n {\n%a[0] = 1.0\nset %s = 1.0\n}"),
        ["race i a", "race i s"]
    );
    // Tiles: 32 rows for each iteration.
    let tiled = |at: &str, inner: &str| {
        said(
            "%y: write f32[32*n]",
            "loops",
            &format!("parallel i in 0..n {{\nfor k in 0..{inner} {{\n%y[{at}] = 1.0\n}}\n}}"),
        )
    };
    assert!(tiled("32*i + k", "32").is_empty());
    assert_eq!(tiled("31*i + k", "32"), ["race i y"]);
    // Places that only together tell the iteration.
    let params = "%y: write f32[n, 4], %z: write f32[4*n]";
    let body = "parallel i in 0..4*n {\n%y[floor(i, 4), i - 4*floor(i, 4)] = 1.0\n}";
    assert!(said(params, "loops", body).is_empty());
    let skewed = "parallel i in 0..n {\nfor k in 0..4 {\nif i + k < n {\n%y[i + k, k] = 1.0\n}\n}\n}";
    assert!(said(params, "loops", skewed).is_empty());
    let gemm = |to: &str| {
        let params = "%a: f32[n, 8], %b: f32[8, m], %y: write f32[n, m]";
        said(
            params,
            "loops",
            &format!(
                "gemm i in 0..n, j in 0..m, k in 0..8 {{ %a[i, k] * %b[k, j] }} as %acc {{\n%y[{to}] = %acc\n}}"
            ),
        )
    };
    assert!(gemm("i, j").is_empty());
    assert_eq!(gemm("i, 0"), ["race j y"]);
}

#[test]
fn sorts_fit_their_keys() {
    let sort = |change: (&str, &str), statement: &str| {
        let params = "%x: f32[n, m, 3], %y: write f32[n, 5, 3], %i: write i64[n, m, 3], \
                      %t: scratch i64[min(64, 3*n), m, 2], %z: f32[n, 5, 3]";
        assert!(params.contains(change.0));
        said(&params.replace(change.0, change.1), "loops", statement)
    };
    let both = "sort %x along 1 descending values %y positions %i scratch %t";
    let same = ("", "");
    assert!(sort(same, both).is_empty(), "{:?}", sort(same, both));
    assert!(sort(same, "sort %x along 1 ascending positions %i scratch %t").is_empty());
    for (from, to, array) in [
        ("%y: write f32[n, 5, 3]", "%y: write f32[n, 5, 4]", "%y"),
        ("%y: write f32[n, 5, 3]", "%y: write f32[n, 5]", "%y"),
        ("%y: write f32[n, 5, 3]", "%y: write f64[n, 5, 3]", "%y"),
        ("%i: write i64[n, m, 3]", "%i: write i32[n, m, 3]", "%i"),
        ("min(64, 3*n), m, 2]", "min(64, 3*n), m]", "%t"),
        ("min(64, 3*n), m, 2]", "3*n, m, 2]", "%t"),
    ] {
        let found = sort((from, to), both);
        assert!(found.len() == 1 && found[0].contains(&format!("`{array}` is ")), "{to}: {found:?}");
    }
    assert_eq!(sort(same, "sort %x along 1 ascending values %z scratch %t"), ["read only"]);
    assert_eq!(sort(same, "sort %x along 1 ascending values %q scratch %t"), ["undefined q"]);
    assert_eq!(sort(same, "sort %q along 1 ascending scratch %t"), ["undefined q"]);
    assert!(sort(same, "sort %x along 3 ascending scratch %t")[0].contains("along an axis"));
    let twice = sort(("%x: f32", "%x: write f32"), "sort %x along 1 ascending values %x scratch %t");
    assert!(twice.len() == 1 && twice[0].contains("one array for two"), "{twice:?}");
    assert_eq!(
        sort(same, "parallel i in 0..n {\nsort %x along 1 ascending positions %i scratch %t\n}"),
        ["race i i", "race i t"]
    );
}

#[test]
fn stages_fill_what_is_written() {
    let params = "%x: f32[n, m], %y: write f32[n]";
    assert!(said(params, "stages", "stage %y[i in n] : f32 = sum j in 0..m { %x[i, j] }").is_empty());
    assert!(
        said(params, "stages", "stage %t[i in n] : f32 = %x[i, 0]\nstage %y[i in n] : f32 = %t[i]")
            .iter()
            .all(|s| s == "range 0")
    );
    assert_eq!(said(params, "stages", "stage %y[i in m] : f32 = 1.0"), ["stage"]);
    assert_eq!(said(params, "stages", "stage %y[i in n] : i32 = 1i32"), ["stage"]);
    assert_eq!(said(params, "stages", "stage %x[i in n, j in m] : f32 = 1.0"), ["read only", "filled 0"]);
    assert_eq!(
        said(params, "stages", "stage %y[i in n] : f32 = %y[i]\nstage %y[i in n] : f32 = 1.0"),
        ["filled 2"]
    );
}

#[test]
fn loops_write_their_results() {
    let params = "%x: f32[n, m], %t: scratch f32[n], %y: write f32[n], %z: write i64[n, m]";
    assert_eq!(all_said(params, "loops", ""), ["unwritten y", "unwritten z"]);
    let sort = "sort %x along 1 ascending positions %z scratch %s";
    let with_scratch = format!("{params}, %s: scratch i64[min(64, n), m, 2]");
    assert_eq!(all_said(&with_scratch, "loops", sort), ["unwritten y"]);
    let all = format!("{sort}\nfor i in 0..n {{\nif true {{\n%y[i] = 1.0\n}}\n}}");
    assert!(all_said(&with_scratch, "loops", &all).is_empty());
}

// ------------------------------------------------------------------------------------------------- programs

const PROGRAM: &str = "\
program @p {
  weights @w : f32[2, 3] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] permuted [1, 0]
  kernel @copy kind=data [n](%x: f32[n], %y: write f32[n]) stages {
    stage %y[i in n] : f32 = %x[i]
  }
  entry @main(%x: f32[batch, 3]) -> (%y: f32[3*batch]) {
    buffer %a : f32[3*batch] at 0
    buffer %b : f32[3*batch] at 12*batch
    arena 24*batch bytes
    call @copy(%x, %a) [n=3*batch]
    call @copy(%a, %b) [n=3*batch]
    call @copy(%b, %y) [n=3*batch]
  }
}
";

fn program() -> Program {
    parse_program(PROGRAM, &NoWeights).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn call(program: &mut Program, at: usize) -> &mut Call {
    match &mut program.entries[0].steps[at] {
        Step::Call(call) => call,
        other => panic!("{other:?} is no call"),
    }
}

/// What the verifier says once `change` was made.
fn changed(change: impl FnOnce(&mut Program)) -> Vec<ProgramViolation> {
    let mut program = program();
    change(&mut program);
    let _ = program.to_string();
    verify_program(&program)
}

#[test]
fn each_rule_of_programs_fires() {
    use ProgramViolation as V;
    assert_eq!(verify_program(&program()), []);
    assert!(matches!(&changed(|p| call(p, 0).kernel = 7)[..], [V::Nothing { what: "kernel", index: 7, .. }]));
    assert!(matches!(
        &changed(|p| call(p, 0).args[1] = Arg::Buffer(9))[..],
        [V::Nothing { what: "buffer", .. }]
    ));
    assert!(matches!(
        &changed(|p| p.weights[0].layout = Layout::Permuted(vec![0, 2]))[..],
        [V::Layout { .. }]
    ));
    let panels = |depth, cols| Layout::Panels { outer: vec![], depth, cols, row: 3, col: 1, offset: 0 };
    assert_eq!(changed(|p| p.weights[0].layout = panels(2, 3)), []);
    assert!(matches!(&changed(|p| p.weights[0].layout = panels(3, 3))[..], [V::Layout { .. }]));
    // Of bytes alone.
    let quads = Layout::Quads { depth: 2, cols: 3, row: 3, col: 1, offset: 0 };
    assert!(changed(|p| p.weights[0].layout = quads).iter().any(|v| matches!(v, V::Layout { .. })));
    let again = changed(|p| p.kernels.push(p.kernels[0].clone()));
    assert_eq!(again, [V::Twice { what: "kernels", name: "copy".into() }]);
    assert!(matches!(&changed(|p| call(p, 0).sizes.clear())[..], [V::Count { what: "sizes", .. }]));
    assert!(matches!(
        &changed(|p| call(p, 2).sizes = vec![Dim::constant(1)])[..],
        [V::Type { step: 2, .. }, V::Type { .. }]
    ));
    let dtype = changed(|p| p.entries[0].inputs[0].ty.dtype = DType::I32);
    assert!(matches!(&dtype[..], [V::Type { step: 0, .. }]), "{dtype:?}");
    let writes = changed(|p| call(p, 0).args = vec![Arg::Input(0), Arg::Input(0)]);
    assert!(matches!(&writes[..], [V::WritesInput { .. }, V::Unwritten { step: 1, .. }]), "{writes:?}");
    assert!(matches!(
        &changed(|p| {
            p.entries[0].steps.remove(0);
        })[..],
        [V::Unwritten { step: 0, .. }]
    ));
    assert_eq!(
        changed(|p| {
            p.entries[0].steps.pop();
        }),
        [V::NoOutput { output: "y".into() }]
    );
    let overlap = changed(|p| p.entries[0].buffers[1].offset = Some(Dim::symbol("batch") * Dim::constant(8)));
    assert_eq!(overlap, [V::Overlap { left: "a".into(), right: "b".into() }]);
    let small = changed(|p| p.entries[0].arena = Some(Dim::symbol("batch") * Dim::constant(23)));
    assert_eq!(small, [V::NoPlace { buffer: "b".into() }]);
    let fixed = PROGRAM.replace("batch", "2").replace("at 12*2", "at 20");
    let found = verify_program(&parse_program(&fixed, &NoWeights).unwrap());
    assert_eq!(found, [V::Overlap { left: "a".into(), right: "b".into() }]);
    let beyond = PROGRAM.replace("batch", "2").replace("24*2", "47");
    let found = verify_program(&parse_program(&beyond, &NoWeights).unwrap());
    assert_eq!(found, [V::NoPlace { buffer: "b".into() }]);
    assert_eq!(changed(|p| p.entries[0].buffers[0].offset = None), [V::NoPlace { buffer: "a".into() }]);
    // State keeps what an earlier call wrote; scratch memory is no result.
    assert_eq!(
        changed(|p| {
            p.entries[0].buffers[0].space = Space::State;
            p.entries[0].steps.remove(0);
        }),
        []
    );
    let kernel = changed(|p| p.kernels[0].params[1].access = ir::kernel::Access::Read);
    assert!(matches!(&kernel[..], [V::Kernel(KernelViolation::ReadOnly { .. }), ..]), "{kernel:?}");
}
