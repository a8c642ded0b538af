//! The op `attention` on every backend: scores of all kinds, sizes on both sides of the borders of tiles, and no array
//! of all scores anywhere.

use harness::{Everywhere, compile, graph, input_types, run_native};
use ir::dim::Symbol;
use ir::kernel::{Body, KernelKind, Stmt};
use ir::program::Program;
use ir::{DType, Graph, Tensor};

/// An attention of these operands with this region.
fn attention(q: &str, k: &str, v: &str, captured: &[&str], score: &str) -> Graph {
    let inputs: Vec<String> = captured.iter().enumerate().map(|(i, ty)| format!(", %c{i}: {ty}")).collect();
    let operands: Vec<String> = (0..captured.len()).map(|i| format!(", %c{i}")).collect();
    let batch = q.rsplitn(3, ',').nth(2).map_or(String::new(), |batch| format!("{batch}, "));
    let (n, width) = (q.rsplit(',').nth(1).unwrap_or(q), v.rsplit(',').next().unwrap_or(v));
    graph(&format!(
        "graph @g(%q: f32[{q}], %k: f32[{k}], %v: f32[{v}]{}) -> f32[{batch}{n}, {width}] {{\n  \
         %0 = attention %q, %k, %v{} {{score={score}}} : f32[{batch}{n}, {width}]\n  return %0\n}}\n",
        inputs.join(""),
        operands.join(""),
    ))
}

fn inputs(graph: &Graph, seed: u64, sizes: &[(&str, i64)]) -> Vec<Tensor> {
    let size = |symbol: &Symbol| {
        let known = sizes.iter().find(|(name, _)| *name == symbol.name());
        known.unwrap_or_else(|| panic!("no size for {symbol}")).1
    };
    harness::random_inputs(input_types(graph), seed, &size)
}

/// What is computed in tiles is the same bits walked and as native code, by any number of threads.
fn same_bits(program: &Program, inputs: &[Tensor]) {
    let walked = reference::run_program(program, 0, inputs).unwrap_or_else(|e| panic!("{e}\n{program}"));
    for threads in [1, 2] {
        let native = run_native(program, inputs, threads).unwrap_or_else(|e| panic!("{e}\n{program}"));
        for (walked, native) in walked.iter().zip(&native) {
            for (at, (a, b)) in walked.values().zip(native.values()).enumerate() {
                let nan = a.to_f64().is_nan() && b.to_f64().is_nan();
                assert!(nan || a == b, "element {at}: {a} walked, {b} by {threads} threads\n{program}");
            }
        }
    }
}

/// One kernel for the op, and nothing as large as all scores.
fn is_one_kernel(program: &Program) {
    let kinds: Vec<KernelKind> = program.kernels.iter().map(|kernel| kernel.kind).collect();
    assert_eq!(kinds, [KernelKind::Attention], "{program}");
    assert!(program.entries[0].buffers.is_empty(), "{program}");
    assert_eq!(count_products(program), 2, "{program}");
}

fn count_products(program: &Program) -> usize {
    let Body::Loops(body) = &program.kernels[0].body else { panic!("stages are left\n{program}") };
    let mut products = 0;
    body.iter()
        .for_each(|stmt| stmt.walk(&mut |stmt| products += usize::from(matches!(stmt, Stmt::Gemm(_)))));
    products
}

fn check(name: &str, graph: &Graph, all: &[&[(&str, i64)]]) {
    let mut everywhere = Everywhere::new(name, graph);
    is_one_kernel(everywhere.program());
    for (round, sizes) in all.iter().enumerate() {
        let inputs = inputs(graph, round as u64 + 1, sizes);
        everywhere.run(&inputs);
        same_bits(everywhere.program(), &inputs);
    }
}

/// Sizes on both sides of the borders of blocks and tiles.
const STRADDLING: &[&[(&str, i64)]] =
    &[&[("n", 130), ("m", 270)], &[("n", 1), ("m", 1)], &[("n", 7), ("m", 30)]];

const SCALED: &str = "(%s: f32) -> %s * 0.5";

#[test]
fn raw_and_scaled_scores() {
    let plain = attention("2, n, 4", "2, m, 4", "2, m, 4", &[], "(%s: f32) -> %s");
    check("raw", &plain, STRADDLING);
    check("whole tiles", &plain, &[&[("n", 128), ("m", 256)]]);
    let scaled = attention("n, 3", "m, 3", "m, 17", &[], SCALED);
    check("D and E differ", &scaled, STRADDLING);
}

#[test]
fn known_sizes_in_one_tile_and_in_several() {
    check("one tile", &attention("2, 70, 4", "2, 40, 4", "2, 40, 4", &[], SCALED), &[&[]]);
    check("two tiles", &attention("140, 4", "520, 4", "520, 4", &[], SCALED), &[&[]]);
    check("one query", &attention("3, 1, 4", "3, 40, 4", "3, 40, 4", &[], SCALED), &[&[]]);
    check(
        "one query of many keys",
        &attention("2, 1, 4", "2, m, 4", "2, m, 4", &[], SCALED),
        &[&[("m", 600)]],
    );
}

#[test]
fn causal_masks_and_windows() {
    let masked = |condition: &str| {
        let score = format!("(%s: f32) -> select({condition}, %s * 0.5, -inf)");
        attention("2, n, 4", "2, m, 4", "2, m, 4", &[], &score)
    };
    let sizes: &[&[(&str, i64)]] =
        &[&[("n", 140), ("m", 270)], &[("n", 3), ("m", 5)], &[("n", 1), ("m", 300)]];
    check("causal", &masked("i2 <= i1"), sizes);
    check("with past", &masked("i2 <= i1 + m - n"), sizes);
    check("a window", &masked("i2 <= i1 && i1 < i2 + 20"), sizes);
    check("a window far away", &masked("i2 >= i1 + 100 && i2 <= i1 + 160"), sizes);
    check(
        "what is not seen",
        &attention("2, n, 4", "2, m, 4", "2, m, 4", &[], "(%s: f32) -> select(i2 > i1, -inf, %s)"),
        sizes,
    );
    check("one place", &masked("i2 == i1"), sizes);
}

#[test]
fn biases_and_masks_of_operands() {
    let bias = "(%s: f32, %x3: f32) -> %s * 0.5 + %x3[i0, i1, i2]";
    check("bias", &attention("2, n, 4", "2, m, 4", "2, m, 4", &["f32[2, n, m]"], bias), STRADDLING);
    let keys = "(%s: f32, %x3: bool) -> select(%x3[i0, i2], %s, -inf)";
    check("padding", &attention("2, n, 4", "2, m, 4", "2, m, 4", &["bool[2, m]"], keys), STRADDLING);
    let distance = "(%s: f32, %x3: f32) -> %s - log(1.0 + %x3[i0] * %x3[i0] * abs(cast<f32>(i1 - i2)))";
    check("distance", &attention("2, n, 4", "2, m, 4", "2, m, 4", &["f32[2]"], distance), STRADDLING);
}

#[test]
fn heads_that_share_keys() {
    let grouped = attention("2, 2, 3, n, 4", "2, 2, 1, m, 4", "2, 2, 1, m, 4", &[], SCALED);
    check("grouped", &grouped, &[&[("n", 66), ("m", 30)], &[("n", 1), ("m", 270)]]);
    check(
        "grouped, one query",
        &attention("2, 3, 1, 4", "2, 1, m, 4", "2, 1, m, 4", &[], SCALED),
        &[&[("m", 300)]],
    );
    check(
        "grouped, known",
        &attention("2, 3, 5, 4", "2, 1, m, 4", "2, 1, m, 4", &[], SCALED),
        &[&[("m", 300)]],
    );
}

/// A row that sees nothing is NaN, whether its tiles are computed or left out; others are not.
#[test]
fn rows_that_see_nothing() {
    let score = "(%s: f32, %x3: bool) -> select(%x3[i0, i1], %s, -inf)";
    let graph = attention("n, 4", "m, 4", "m, 4", &["bool[n, m]"], score);
    let mut everywhere = Everywhere::new("nothing to see", &graph);
    for (n, m) in [(5, 7), (66, 270)] {
        let mut given = inputs(&graph, 3, &[("n", n), ("m", m)]);
        // Row 0 sees nothing, row 1 the last key only, row 2 the first one.
        given[3] = Tensor::from_fn(DType::Bool, &[n as usize, m as usize], |at| {
            ir::Scalar::bool(match at[0] {
                0 => false,
                1 => at[1] as i64 == m - 1,
                2 => at[1] == 0,
                _ => (at[0] + at[1]) % 3 > 0,
            })
        });
        let found = everywhere.run(&given);
        same_bits(everywhere.program(), &given);
        let nans: Vec<bool> = found[0].values().map(|x| x.to_f64().is_nan()).collect();
        assert!(nans[..4].iter().all(|nan| *nan) && !nans[4..].iter().any(|nan| *nan));
    }
    let skipped = attention("n, 4", "m, 4", "m, 4", &[], "(%s: f32) -> select(i1 <= i0 - 3, %s, -inf)");
    check("the first rows see nothing", &skipped, &[&[("n", 70), ("m", 30)]]);
}

#[test]
fn infinite_scores_and_what_is_no_number() {
    let graph = attention("n, 4", "m, 4", "m, 4", &["f32[m]"], "(%s: f32, %x3: f32) -> %s + %x3[i1]");
    let mut everywhere = Everywhere::new("special scores", &graph);
    for special in [f32::INFINITY, f32::NAN, 1e30, -1e30] {
        for at in [0, 100, 269] {
            let mut given = inputs(&graph, 1, &[("n", 3), ("m", 270)]);
            let bias: Vec<f32> = (0..270).map(|i| if i == at { special } else { 0.0 }).collect();
            given[3] = Tensor::from_f32(&[270], &bias);
            everywhere.run(&given);
            same_bits(everywhere.program(), &given);
        }
    }
}

/// Heads are split and put together by indices, and what follows is in the kernel.
#[test]
fn heads_of_a_layer() {
    let layer = |after: &str, result: &str| {
        graph(&format!(
            "graph @g(%x: f32[2, n, 36], %r: f32[2, n, 3, 4]) -> {result} {{
  %0 = slice %x {{sizes=[2, n, 12], starts=[0, 0, 0], steps=[1, 1, 1]}} : f32[2, n, 12]
  %1 = slice %x {{sizes=[2, n, 12], starts=[0, 0, 12], steps=[1, 1, 1]}} : f32[2, n, 12]
  %2 = slice %x {{sizes=[2, n, 12], starts=[0, 0, 24], steps=[1, 1, 1]}} : f32[2, n, 12]
  %3 = reshape %0 {{shape=[2, n, 3, 4]}} : f32[2, n, 3, 4]
  %4 = transpose %3 {{perm=[0, 2, 1, 3]}} : f32[2, 3, n, 4]
  %5 = reshape %1 {{shape=[2, n, 3, 4]}} : f32[2, n, 3, 4]
  %6 = transpose %5 {{perm=[0, 2, 1, 3]}} : f32[2, 3, n, 4]
  %7 = reshape %2 {{shape=[2, n, 3, 4]}} : f32[2, n, 3, 4]
  %8 = transpose %7 {{perm=[0, 2, 1, 3]}} : f32[2, 3, n, 4]
  %9 = attention %4, %6, %8 {{score=(%s: f32) -> select(i3 <= i2, %s * 0.5, -inf)}} : f32[2, 3, n, 4]
  %10 = transpose %9 {{perm=[0, 2, 1, 3]}} : f32[2, n, 3, 4]
{after}}}
"
        ))
    };
    let sizes: &[&[(&str, i64)]] = &[&[("n", 70)], &[("n", 1)]];
    let merged =
        layer("  %11 = reshape %10 {shape=[2, n, 12]} : f32[2, n, 12]\n  return %11\n", "f32[2, n, 12]");
    check("heads", &merged, sizes);
    let added = "  %11 = tanh %10 : f32[2, n, 3, 4]\n  %12 = add %11, %r : f32[2, n, 3, 4]\n  return %12\n";
    check("what follows", &layer(added, "f32[2, n, 3, 4]"), sizes);
}

/// A bias that is computed from less than it is becomes part of the scores.
#[test]
fn computed_biases_are_not_stored() {
    let graph = graph(
        "weights @one : f32[] = splat 1.0
graph @g(%q: f32[2, 3, n, 4], %k: f32[2, 3, n, 4], %v: f32[2, 3, n, 4], %a: f32[3, 1, 1], %p: f32[3, 1, 1]) -> f32[2, 3, n, 4] {
  %0 = iota {shape=[n, 1], axis=0, dtype=f32} : f32[n, 1]
  %1 = iota {shape=[1, n], axis=1, dtype=f32} : f32[1, n]
  %2 = sub %0, %1 : f32[n, n]
  %3 = abs %2 : f32[n, n]
  %4 = mul %3, %a : f32[3, n, n]
  %5 = add %4, @one : f32[3, n, n]
  %6 = log %5 : f32[3, n, n]
  %7 = mul %6, %p : f32[3, n, n]
  %8 = attention %q, %k, %v, %7 {score=(%s: f32, %x3: f32) -> %s * 0.5 - %x3[i1, i2, i3]} : f32[2, 3, n, 4]
  return %8
}
",
    );
    let mut everywhere = Everywhere::new("computed bias", &graph);
    is_one_kernel(everywhere.program());
    let mut given = inputs(&graph, 1, &[("n", 70)]);
    for at in [3, 4] {
        given[at] = Tensor::from_f32(&[3, 1, 1], &[0.5, 1.0, 2.0]);
    }
    everywhere.run(&given);
    same_bits(everywhere.program(), &given);
}

/// Keys and values that come from several arrays are not put together in memory; parts with the same values meet them
/// once. Parts of other lengths, with values of their own, and those that a causal mask cuts off, stay apart.
#[test]
fn keys_in_parts() {
    let parts = |[first, second]: [i64; 2], values: &str, shapes: &str, score: &str| {
        let all = first + second;
        graph(&format!(
            "graph @g(%q: f32[2, 70, 4], %k: f32[2, {first}, 4], %l: f32[2, {second}, 4], {shapes}) -> f32[2, 70, 3] {{
  %0 = concat %k, %l {{axis=1}} : f32[2, {all}, 4]
  %1 = concat {values} {{axis=1}} : f32[2, {all}, 3]
  %2 = attention %q, %0, %1 {{score={score}}} : f32[2, 70, 3]
  return %2
}}
"
        ))
    };
    let cut = |at: i64| format!("(%s: f32) -> select(i2 < {at}, %s * 0.5 - 1.0, %s * 0.25)");
    let products = |name: &str, graph: &Graph, expected: usize| {
        let mut everywhere = Everywhere::new(name, graph);
        let program = everywhere.program();
        assert_eq!(program.kernels.len(), 1, "{name}: {program}");
        assert!(program.entries[0].buffers.is_empty(), "{name}: {program}");
        assert_eq!(count_products(program), expected, "{name}: {program}");
        let inputs = inputs(graph, 1, &[]);
        everywhere.run(&inputs);
        same_bits(everywhere.program(), &inputs);
    };
    let (one, two) = ("%v: f32[2, 300, 3]", "%v: f32[2, 300, 3], %w: f32[2, 300, 3]");
    products("shared values", &parts([300, 300], "%v, %v", one, &cut(300)), 3);
    products("values of their own", &parts([300, 300], "%v, %w", two, &cut(300)), 4);
    let uneven = "%v: f32[2, 300, 3], %w: f32[2, 5, 3]";
    products("uneven", &parts([300, 5], "%v, %w", uneven, SCALED), 4);
    let causal = "(%s: f32) -> select(i2 <= i1, %s, -inf)";
    let (short, small) = ("%v: f32[2, 40, 3]", "%v: f32[2, 40, 3], %w: f32[2, 290, 3]");
    products("causal, shared", &parts([40, 40], "%v, %v", short, causal), 3);
    products("causal, uneven", &parts([40, 290], "%v, %w", small, causal), 4);
}

/// What depends on the distance of query and key alone is computed once for each distance in a tile.
#[test]
fn distances_are_tabulated() {
    let score = "(%s: f32, %x3: f32) -> select(i2 <= i1, %s - %x3[i0] * log(1.0 + cast<f32>(i1 - i2)), -inf)";
    let graph = attention("2, n, 4", "2, m, 4", "2, m, 4", &["f32[2]"], score);
    check("distances", &graph, &[&[("n", 140), ("m", 270)], &[("n", 3), ("m", 5)]]);
    let few = attention("2, 70, 4", "2, 30, 4", "2, 30, 4", &["f32[2]"], score);
    check("distances of few keys", &few, &[&[]]);
    let program = compile(&graph, 2);
    let Body::Loops(body) = &program.kernels[0].body else { panic!("stages are left\n{program}") };
    let mut tables = 0;
    body.iter().for_each(|stmt| {
        stmt.walk(&mut |stmt| {
            tables += usize::from(matches!(stmt, Stmt::Alloc { shape, .. } if *shape == [64 + 256 - 1]));
        });
    });
    assert_eq!(tables, 1, "{program}");
}

/// Sizes of 1, of which axes are gone, and rows that are too long to be kept: not in tiles, and right.
#[test]
fn attentions_without_tiles() {
    for (q, k, v) in [
        ("3, 4", "1, 4", "1, 4"),
        ("3, 4", "5, 4", "5, 1"),
        ("2, 3, 1", "2, 5, 1", "2, 5, 4"),
        ("3, 4", "5, 4", "5, 300"),
        ("1, 1", "1, 1", "1, 1"),
    ] {
        let graph = attention(q, k, v, &[], SCALED);
        let mut everywhere = Everywhere::new("without tiles", &graph);
        let inputs = inputs(&graph, 1, &[]);
        everywhere.run(&inputs);
    }
}

/// Without fusion, too: the op is in tiles from the start.
#[test]
fn no_scores_are_stored_without_fusion() {
    let graph = attention("2, n, 4", "2, m, 4", "2, m, 4", &[], SCALED);
    is_one_kernel(&compile(&graph, 0));
}

/// A region that speaks of a size that there is not was found by fuzzing.
#[test]
fn a_size_that_nobody_decides_is_named() {
    let text = "graph @g(%q: f32[n, 4], %k: f32[m, 4], %v: f32[m, 3]) -> f32[n, 3] {
      %0 = attention %q, %k, %v {score=(%s: f32) -> select(h1 < m, %s, 0.0)} : f32[n, 3]
      return %0
    }";
    let source = egraft::Source::of_graph(harness::graph(text), &egraft::Options::default());
    let error = egraft::compile(source, &egraft::Options::default(), &mut ()).expect_err("what is h1?");
    assert_eq!(
        (error.code(), error.to_string().contains("`h1`")),
        ("egraft::passes::unbound_size", true),
        "{error}"
    );
}
