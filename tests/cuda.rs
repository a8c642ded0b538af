//! GPU kernels without a GPU: the sources of all golden cases run on a CPU (`harness::shim`).

use std::fs;

use cuda::Sums;
use egraft::Options;
use harness::golden::{Case, cases, check_each};
use harness::shim::{self, Shim};
use harness::{Random, check_all, header, input_types, random_inputs, root, sizes_of_round};
use ir::kernel::{Access, Body, Expr, ExprKind, Kernel, KernelKind, LoopKind, Param, Stmt};
use ir::program::Program;
use ir::scalar::{Binary, Unary};
use ir::{DType, Dim, Graph, Scalar, Symbol, Tensor, TensorType};
use passes::pipeline::{self, State, Step};
use passes::{Cx, Target};
use reference::{Kernels, States};

fn for_gpu() -> Cx {
    Cx { target: Target::Gpu, ..Cx::default() }
}

/// The program of a case for a GPU.
fn program(case: &Case) -> Result<Program, String> {
    let source = egraft::load(&case.folder.join("model.onnx"), &Options::default());
    let state = source.map_err(|error| error.to_string())?.state;
    let run = pipeline::Run { cx: for_gpu(), verify: true, ..pipeline::Run::default() };
    match pipeline::run(state, pipeline::DEFAULT, &run, &mut ()) {
        Ok(State::Program(program)) => Ok(program),
        Ok(State::Graph(_)) => unreachable!("bug: the pipeline ends in a program"),
        Err(errors) => Err(format!("{errors:?}")),
    }
}

fn run(case: &Case) -> Result<(), String> {
    let program = program(case)?;
    let mut shim = Shim::of(&program)?;
    for set in case.sets()? {
        let found = reference::run_program_by(&program, 0, &set.inputs, &mut States::new(), &mut shim);
        case.check(&set, &found.map_err(|error| error.to_string())?, "shim")?;
    }
    Ok(())
}

#[test]
fn golden_cases_give_their_outputs() {
    if !shim::is_there() {
        return;
    }
    check_each(&cases().iter().collect::<Vec<_>>(), run);
}

/// Every filetest of the schedule for a GPU: its name, its graph, the program that it becomes, and how its sums are made.
fn filetests() -> Vec<(String, ir::Graph, Program, Sums)> {
    let folder = root().join("tests/filetests/schedule");
    let names = fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("readable").path());
    let mut paths: Vec<_> = names.filter(|path| path.extension().is_some_and(|e| e == "ir")).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("readable");
        let header = header(&text);
        if header.get("target").is_none_or(|target| target != "cuda") {
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str()).expect("names are text").to_owned();
        let steps = header["passes"].split(',').map(|pass| Step::find(pass).expect("a pass of that name"));
        let fp = header.get("fp").and_then(|name| egraft::options::fp_mode(name)).unwrap_or_default();
        let run = pipeline::Run { cx: Cx { fp, ..for_gpu() }, verify: true, ..pipeline::Run::default() };
        let graph = harness::graph(&text);
        let steps: Vec<Step> = steps.collect();
        let state = pipeline::run(State::Graph(graph.clone()), &steps, &run, &mut ());
        let Ok(State::Program(program)) = state else { panic!("{name}: it becomes a program") };
        found.push((name, graph, program, egraft::gpu::sums(fp)));
    }
    found
}

#[test]
fn sources_are_readable() {
    for (name, _, program, sums) in filetests() {
        let sources = cuda::emit(&program, sums).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text: Vec<String> = sources.into_iter().map(|source| source.text).collect();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(root().join("tests/cuda"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(format!("{name}.cu"), text.join("\n")));
    }
}

#[test]
fn sources_compute_what_graphs_say() {
    if !shim::is_there() {
        return;
    }
    for (name, graph, program, sums) in filetests() {
        let mut shim = Shim::with(&program, sums).unwrap_or_else(|error| panic!("{name}: {error}"));
        let types: Vec<TensorType> = input_types(&graph).into_iter().cloned().collect();
        for round in 0..3 {
            let inputs = random_inputs(&types, round as u64, &sizes_of_round(round));
            // These are all that tensor cores round.
            let rounded =
                if sums == Sums::Rounded { inputs.iter().map(tf32).collect() } else { inputs.clone() };
            let expected = reference::run_graph(&graph, &rounded).unwrap_or_else(|e| panic!("{name}: {e}"));
            let found = reference::run_program_by(&program, 0, &inputs, &mut States::new(), &mut shim);
            let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
            check_all(&expected, &found).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

/// Numbers rounded to TF32: to 11 binary digits, and away from zero where two are as near.
fn tf32(tensor: &Tensor) -> Tensor {
    let rounded = |x: f64| {
        let scale = 2_f64.powi(10 - x.abs().log2().floor() as i32);
        if x == 0.0 { x } else { (x * scale).round() / scale }
    };
    match tensor.dtype() {
        DType::F32 => {
            let values: Vec<f32> = tensor.to_f64().into_iter().map(|x| rounded(x) as f32).collect();
            Tensor::from_f32(tensor.shape(), &values)
        }
        _ => tensor.clone(),
    }
}

/// The program of a graph for a GPU.
fn program_of(text: &str) -> (Graph, Program) {
    let graph = harness::graph(text);
    let run = pipeline::Run { cx: for_gpu(), verify: true, ..pipeline::Run::default() };
    let made = pipeline::run(State::Graph(graph.clone()), pipeline::DEFAULT, &run, &mut ());
    let Ok(State::Program(program)) = made else { panic!("{text}: it becomes a program") };
    (graph, program)
}

/// Runs the sources of a program, and looks whether all of them use tensor cores where they may. If that takes rounding, they
/// are run so, too: products of rounded operands have no error but that of their sums, and those of the operands as they are
/// differ by no more than two roundings of each.
fn check_product(
    what: &str,
    program: &Program,
    tensor_cores: bool,
    inputs: &[Tensor],
    reference: impl Fn(&[Tensor]) -> Vec<Tensor>,
) {
    let uses = |sums| {
        let sources = cuda::emit(program, sums).unwrap_or_else(|error| panic!("{what}: {error}"));
        sources.iter().map(|source| source.text.contains("mma.sync")).collect::<Vec<bool>>()
    };
    assert!(uses(Sums::Regrouped).into_iter().all(|uses| uses == tensor_cores), "{what}");
    assert!(uses(Sums::InOrder).into_iter().all(|uses| !uses), "{what}");
    assert!(uses(Sums::Rounded).into_iter().all(|uses| uses), "{what}");
    let run = |sums| {
        let mut shim = Shim::with(program, sums).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = reference::run_program_by(program, 0, inputs, &mut States::new(), &mut shim);
        found.unwrap_or_else(|error| panic!("{what}: {error}"))
    };
    let expected = reference(inputs);
    harness::check_all(&expected, &run(Sums::Regrouped)).unwrap_or_else(|why| panic!("{what}: {why}"));
    if tensor_cores {
        return;
    }
    let found = run(Sums::Rounded);
    let of_rounded = reference(&inputs.iter().map(tf32).collect::<Vec<_>>());
    harness::check_all(&of_rounded, &found).unwrap_or_else(|why| panic!("{what}, rounded: {why}"));
    let positive = |tensor: &Tensor| match tensor.dtype() {
        DType::F32 => {
            let values: Vec<f32> = tensor.to_f64().into_iter().map(|x| x.abs() as f32).collect();
            Tensor::from_f32(tensor.shape(), &values)
        }
        _ => tensor.clone(),
    };
    let sizes = reference(&inputs.iter().map(positive).collect::<Vec<_>>());
    for ((want, found), size) in expected.iter().zip(&found).zip(&sizes) {
        let all = want.to_f64().into_iter().zip(found.to_f64()).zip(size.to_f64());
        for ((want, found), size) in all {
            assert!((want - found).abs() <= 1.01 / 1024.0 * size, "{what}: {want}, {found}");
        }
    }
}

/// Products in every form of tile, at sizes that fill none, against the reference.
#[test]
fn products_are_those_of_the_reference() {
    if !shim::is_there() {
        return;
    }
    let check = |dtype: &str, n: i64, text: &str| {
        let (graph, program) = program_of(text);
        let inputs = harness::random_inputs(harness::input_types(&graph), 5, &|_| n);
        check_product(text, &program, dtype != "f32", &inputs, |inputs| {
            reference::run_graph(&graph, inputs).unwrap_or_else(|error| panic!("{text}: {error}"))
        });
    };
    for dtype in ["f16", "bf16", "f32"] {
        // Odd sizes, whole packs, few rows, and tiles of 128 rows.
        let sizes = [(3, 37, 41, 53), (2, 40, 48, 72), (1, 9, 130, 20), (96, 70, 11, 70), (96, 72, 8, 72)];
        let (mut inputs, mut nodes, mut types, mut results) = (vec![], String::new(), vec![], vec![]);
        for (at, (batch, rows, depth, cols)) in sizes.into_iter().enumerate() {
            let [x, w, y] = [(rows, depth), (depth, cols), (rows, cols)]
                .map(|(i, j)| format!("{dtype}[{batch}, {i}, {j}]"));
            inputs.push(format!("%x{at}: {x}, %w{at}: {w}"));
            nodes += &format!("  %{at} = matmul %x{at}, %w{at} : {y}\n");
            types.push(y);
            results.push(format!("%{at}"));
        }
        let [inputs, types, results] = [inputs, types, results].map(|all| all.join(", "));
        check(dtype, 0, &format!("graph @g({inputs}) -> {types} {{\n{nodes}  return {results}\n}}\n"));
    }
    // Any number of rows; the right operand lies along the sum.
    for (dtype, n, depth, cols) in [
        ("bf16", 70, 40, 1544),
        ("bf16", 5, 40, 1544),
        ("f16", 70, 328, 72),
        ("f32", 70, 40, 1544),
        ("f32", 5, 264, 200),
    ] {
        let text = format!(
            "graph @g(%x: {dtype}[n, {depth}], %w: {dtype}[{cols}, {depth}]) -> {dtype}[n, {cols}] {{\n  \
             %0 = transpose %w {{perm=[1, 0]}} : {dtype}[{depth}, {cols}]\n  \
             %1 = matmul %x, %0 : {dtype}[n, {cols}]\n  return %1\n}}\n"
        );
        check(dtype, n, &text);
    }
    // The left operand lies across the sum.
    for (dtype, rows, depth, cols) in
        [("bf16", 72, 40, 70), ("bf16", 72, 200, 72), ("f32", 72, 40, 70), ("f32", 37, 21, 9)]
    {
        let text = format!(
            "graph @g(%x: {dtype}[{depth}, {rows}], %w: {dtype}[{depth}, {cols}]) -> {dtype}[{rows}, {cols}] {{\n  \
             %0 = transpose %x {{perm=[1, 0]}} : {dtype}[{rows}, {depth}]\n  \
             %1 = matmul %0, %w : {dtype}[{rows}, {cols}]\n  return %1\n}}\n"
        );
        check(dtype, 0, &text);
    }
    // Experts: more than a block has threads, and more rows than a tile has.
    for (n, numbers, depth, cols) in [(3, 300, 12, 20), (70, 3, 13, 17)] {
        let text = format!(
            "graph @g(%x: f32[n, 1, {depth}], %w: f32[{numbers}, {depth}, {cols}], %i: i64[n, 2]) -> f32[n, 2, {cols}] {{\n  \
             %0 = grouped_matmul %x, %w, %i : f32[n, 2, {cols}]\n  return %0\n}}\n"
        );
        check("f32", n, &text);
    }
}

/// Rows in the order of their matrices, one of which has none, by tensor cores.
#[test]
fn grouped_products_use_tensor_cores() {
    if !shim::is_there() {
        return;
    }
    for (dtype, n, depth, cols) in [("f16", 7, 13, 17), ("bf16", 130, 40, 72)] {
        let text = format!(
            "program @g {{\n  \
               kernel @grouped kind=grouped_matmul [n](%x0: {dtype}[n, {depth}], %x1: {dtype}[4, {depth}, {cols}], \
                   %order: i64[n], %starts: i64[5], %y0: write f32[n, {cols}]) loops {{\n    \
                 gemm i0 in 0..n, i1 in 0..{cols}, k0 in 0..{depth} for a0 in 0..4 order %order starts %starts {{ \
                     cast<f32>(%x0[i0, k0]) * cast<f32>(%x1[a0, k0, i1]) }} as %acc0 {{\n      \
                   %y0[i0, i1] = %acc0\n    }}\n  }}\n  \
               entry @main(%x: {dtype}[n, {depth}], %w: {dtype}[4, {depth}, {cols}], %o: i64[n], %s: i64[5]) -> \
                   (%y0: f32[n, {cols}]) {{\n    call @grouped(%x, %w, %o, %s, %y0) [n=n]\n  }}\n}}\n"
        );
        let program = harness::program(&text);
        let dtype = DType::ALL.into_iter().find(|known| known.to_string() == dtype).expect("a type");
        let mut random = Random::new(11);
        let mut order: Vec<i64> = (0..n).collect();
        order.sort_by_key(|row| row * 5 % 7);
        let inputs = [
            random.tensor(dtype, &[n as usize, depth]),
            random.tensor(dtype, &[4, depth, cols]),
            Tensor::from_i64(&[n as usize], &order),
            Tensor::from_i64(&[5], &[0, n / 2, n / 2, n / 2 + 1, n]),
        ];
        check_product(&text, &program, true, &inputs, |inputs| {
            reference::run_program(&program, 0, inputs).unwrap_or_else(|error| panic!("{text}: {error}"))
        });
    }
}

/// Layers in 16 bits, between which values are `f32`: tensor cores multiply them, experts too, with weights as they are stored.
#[test]
fn layers_in_halves_use_tensor_cores() {
    if !shim::is_there() {
        return;
    }
    for dtype in ["f16", "bf16"] {
        let text = format!(
            "weights @up : {dtype}[64, 256] = splat 0.125\nweights @down : {dtype}[256, 64] = splat 0.0625\n\
             weights @experts : {dtype}[3, 64, 64] = splat 0.25\n\
             graph @g(%x: {dtype}[n, 64], %i: i64[n]) -> {dtype}[n, 64], {dtype}[n, 64] {{\n  \
             %0 = matmul %x, @up : {dtype}[n, 256]\n  %1 = relu %0 : {dtype}[n, 256]\n  \
             %2 = matmul %1, @down : {dtype}[n, 64]\n  %3 = add %2, %x : {dtype}[n, 64]\n  \
             %4 = cast %x {{to=f32}} : f32[n, 64]\n  %5 = cast @experts {{to=f32}} : f32[3, 64, 64]\n  \
             %6 = grouped_matmul %4, %5, %i : f32[n, 64]\n  %7 = cast %6 {{to={dtype}}} : {dtype}[n, 64]\n  \
             return %3, %7\n}}\n"
        );
        let (graph, program) = program_of(&text);
        assert_eq!(program.kernels.len(), 3, "{program}");
        let inputs = harness::random_inputs(harness::input_types(&graph), 3, &|_| 37);
        check_product(&text, &program, true, &inputs, |inputs| {
            reference::run_graph(&graph, inputs).unwrap_or_else(|error| panic!("{text}: {error}"))
        });
    }
}

/// Operands that lie as they are needed are copied while others are computed with; what is read too early is found.
#[test]
fn copies_are_waited_for() {
    if !shim::is_there() {
        return;
    }
    let text = "graph @g(%x: f16[72, 328], %w: f16[328, 72]) -> f16[72, 72] {
  %0 = matmul %x, %w : f16[72, 72]
  return %0
}
";
    let (graph, program) = program_of(text);
    let inputs = harness::random_inputs(harness::input_types(&graph), 7, &|_| 0);
    let run = |wait: &str| {
        let mut sources = cuda::emit(&program, Sums::Regrouped).expect("it has a form");
        let waits = "wait_for_groups<STAGES - 2>();";
        assert_eq!(sources[0].text.matches(waits).count(), 1, "{}", sources[0].text);
        sources[0].text = sources[0].text.replace(waits, wait);
        let mut shim = Shim::of_sources(sources).unwrap_or_else(|error| panic!("{error}"));
        let found = reference::run_program_by(&program, 0, &inputs, &mut States::new(), &mut shim);
        found.map_err(|error| error.to_string())
    };
    let expected = reference::run_graph(&graph, &inputs).unwrap_or_else(|error| panic!("{error}"));
    let found = run("wait_for_groups<STAGES - 2>();").expect("it waits");
    harness::check_all(&expected, &found).unwrap_or_else(|why| panic!("{why}"));
    for wrong in ["", "wait_for_groups<STAGES - 1>();"] {
        let found = run(wrong).expect_err("a copy that is not there yet");
        assert!(found.contains("race: thread "), "{found}");
    }
}

/// A block that computes a product tile by tile on its own, as in attentions.
#[test]
fn products_of_a_block_use_tensor_cores() {
    if !shim::is_there() {
        return;
    }
    let text = "program @g {
  kernel @inside kind=fused (%x0: f16[2, 70, 24], %x1: f16[2, 24, 75], %y0: write f32[2, 70, 75]) loops {
    blocks i0 in 0..2 of 256 {
      alloc %t : f32[70, 75]
      gemm i1 in 0..70, i2 in 0..75, k0 in 0..24 { cast<f32>(%x0[i0, i1, k0]) * cast<f32>(%x1[i0, k0, i2]) } as %acc0 {
        %t[i1, i2] = %acc0
      }
      threads i3 in 0..5250 {
        %y0[i0, floor(i3, 75), i3 - 75*floor(i3, 75)] = %t[floor(i3, 75), i3 - 75*floor(i3, 75)] + 1.0
      }
    }
  }
  entry @main(%x: f16[2, 70, 24], %w: f16[2, 24, 75]) -> (%y0: f32[2, 70, 75]) {
    call @inside(%x, %w, %y0)
  }
}
";
    let program = harness::program(text);
    let mut random = Random::new(13);
    let inputs = [[2, 70, 24], [2, 24, 75]].map(|shape| random.tensor(DType::F16, &shape));
    check_product("inside of a block", &program, true, &inputs, |inputs| {
        reference::run_program(&program, 0, inputs).unwrap_or_else(|error| panic!("{error}"))
    });
}

/// A kernel `y = f(x…)` for each of some functions, over all elements.
fn elementwise(inputs: &[DType], count: usize, results: Vec<Expr>) -> Program {
    let shape = TensorType::fixed(DType::F32, &[count]).shape;
    let param = |name: String, dtype, access| Param {
        name: Symbol::new(name),
        ty: TensorType::new(dtype, shape.clone()),
        access,
    };
    let axis = Symbol::new("a2");
    let mut params: Vec<Param> =
        inputs.iter().enumerate().map(|(i, &dtype)| param(format!("x{i}"), dtype, Access::Read)).collect();
    let mut body = Vec::new();
    for (number, value) in results.into_iter().enumerate() {
        let result = param(format!("y{number}"), value.dtype(), Access::Write);
        let at = vec![Dim::from(&axis).into()];
        body.push(Stmt::Store { target: result.name.clone(), at, value });
        params.push(result);
    }
    let extent = Dim::constant(count as i64);
    let each = Stmt::For { axis, extent, kind: LoopKind::Grid { threads: 256, lanes: 1 }, body };
    let kernel = Kernel {
        name: "each".into(),
        kind: KernelKind::Fused,
        sizes: vec![],
        given: vec![],
        params,
        body: Body::Loops(vec![each]),
    };
    Program { name: "functions".into(), weights: vec![], kernels: vec![kernel], entries: vec![] }
}

/// The element of an input.
fn operand(number: usize, dtype: DType) -> Expr {
    Expr::load(Symbol::new(format!("x{number}")), dtype, [Dim::symbol("a2").into()])
}

/// Elements of a type: all of them, or those at the ends and in between.
fn elements(dtype: DType) -> Vec<Scalar> {
    if dtype == DType::Bool {
        return [false, true].map(Scalar::bool).into();
    }
    if dtype.bits() <= 8 {
        return (0..1 << dtype.bits()).map(|bits| Scalar::from_bits(dtype, bits)).collect();
    }
    let mut random = Random::new(7);
    let numbers = [
        0.0,
        1.0,
        1.5,
        2.0,
        2.5,
        3.0,
        7.0,
        127.5,
        128.0,
        255.0,
        256.0,
        448.0,
        464.0,
        465.0,
        480.0,
        1e4,
        65504.0,
        65520.0,
        1e9,
        2147483648.0,
        4294967296.0,
        9.3e18,
        1.9e19,
        1e30,
        f64::INFINITY,
        f64::NAN,
        1e-3,
        1e-5,
        6e-8,
        2e-8,
        1e-20,
        1e-40,
    ];
    let mut all: Vec<Scalar> =
        numbers.iter().flat_map(|&x| [x, -x]).map(|x| Scalar::from_f64(dtype, x)).collect();
    all.extend((0..2000).map(|_| Scalar::from_f64(dtype, random.number(20.0))));
    all.extend((0..2000).map(|_| Scalar::from_bits(dtype, random.bits())));
    all
}

fn tensor_of(dtype: DType, elements: &[Scalar]) -> Tensor {
    let mut elements = elements.iter();
    let count = elements.len();
    Tensor::from_fn(dtype, &[count], |_| *elements.next().expect("one for each"))
}

/// Runs a kernel of functions, and compares each of its results.
fn check_functions(
    what: &str,
    program: &Program,
    inputs: &[Tensor],
    expected: &[Tensor],
    same: &dyn Fn(Scalar, Scalar) -> bool,
) {
    let mut shim = Shim::of(program).unwrap_or_else(|error| panic!("{what}: {error}"));
    let zeros = |t: &Tensor| Tensor::splat(Scalar::from_i64(t.dtype(), 0), t.shape());
    let mut arrays: Vec<Tensor> = inputs.iter().cloned().chain(expected.iter().map(zeros)).collect();
    shim.call(program, 0, &[], &mut arrays).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (number, (want, found)) in expected.iter().zip(&arrays[inputs.len()..]).enumerate() {
        for (at, (want, found)) in want.values().zip(found.values()).enumerate() {
            let given: Vec<Scalar> = inputs.iter().map(|input| input.get(at)).collect();
            assert!(
                same(want, found),
                "{what}, result {number} of {given:?}: expected {want:?}, found {found:?}"
            );
        }
    }
}

/// Equal, or no number both.
fn equal(want: Scalar, found: Scalar) -> bool {
    want == found || want.dtype().is_float() && want.to_f64().is_nan() && found.to_f64().is_nan()
}

#[test]
fn casts_are_those_of_scalars() {
    if !shim::is_there() {
        return;
    }
    for from in DType::ALL {
        let given = elements(from);
        let to: Vec<DType> = DType::ALL.into_iter().filter(|&to| to != from).collect();
        let results = to.iter().map(|&to| ExprKind::Cast(to, operand(0, from)).into()).collect();
        let program = elementwise(&[from], given.len(), results);
        let expected: Vec<Tensor> = to
            .iter()
            .map(|&to| tensor_of(to, &given.iter().map(|x| x.cast(to)).collect::<Vec<_>>()))
            .collect();
        check_functions(&format!("casts of {from}"), &program, &[tensor_of(from, &given)], &expected, &equal);
    }
}

#[test]
fn functions_are_those_of_scalars() {
    if !shim::is_there() {
        return;
    }
    for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_narrow()) {
        let unary: Vec<Unary> = Unary::ALL.iter().copied().filter(|f| f.accepts(dtype)).collect();
        let binary: Vec<Binary> = Binary::ALL.iter().copied().filter(|f| f.accepts(dtype)).collect();
        let (mut a, mut random) = (elements(dtype), Random::new(3));
        let mut b: Vec<Scalar> = a.iter().map(|_| a[random.bits() as usize % a.len()]).collect();
        // Equal operands, and small ones beside each other.
        let first = a.len().min(10);
        b[..first].copy_from_slice(&a[..first]);
        for _ in 0..500 {
            a.push(Scalar::from_i64(dtype, (random.bits() % 9) as i64 - 4));
            b.push(Scalar::from_i64(dtype, (random.bits() % 9) as i64 - 4));
        }
        let (x, y) = (operand(0, dtype), operand(1, dtype));
        let of_one = unary.iter().map(|&f| ExprKind::Unary(f, x.clone()).into());
        let of_two = binary.iter().map(|&f| ExprKind::Binary(f, x.clone(), y.clone()).into());
        let program = elementwise(&[dtype, dtype], a.len(), of_one.chain(of_two).collect());
        let of_one = unary.iter().map(|f| a.iter().map(|&x| f.apply(x)).collect::<Vec<_>>());
        let of_two = binary.iter().map(|f| a.iter().zip(&b).map(|(&x, &y)| f.apply(x, y)).collect());
        let expected: Vec<Tensor> =
            of_one.chain(of_two).map(|values| tensor_of(values[0].dtype(), &values)).collect();
        let near = |want: Scalar, found: Scalar| {
            let (x, y) = (want.to_f64(), found.to_f64());
            let last = match want.dtype() {
                DType::F16 => 1e-3,
                DType::BF16 => 8e-3,
                DType::F32 => 1e-5,
                _ => 1e-12,
            };
            // Subnormal results may be one step apart.
            let least = if want.dtype() == DType::F16 { 6e-8 } else { 1e-37 };
            equal(want, found)
                || want.dtype().is_float() && (x == y || (x - y).abs() <= last * x.abs() + least)
        };
        let inputs = [tensor_of(dtype, &a), tensor_of(dtype, &b)];
        check_functions(&format!("functions of {dtype}"), &program, &inputs, &expected, &near);
    }
}

/// What the shim says of a function that writes 64 numbers in shared memory and reads its neighbour's.
fn neighbours(body: &str) -> Result<Tensor, String> {
    let program = elementwise(&[], 64, vec![Expr::number(DType::F32, 0.0)]);
    let mut sources = cuda::emit(&program, Sums::Regrouped).expect("it has a form");
    let text = "extern \"C\" __global__ void __launch_bounds__(64) neighbours(float* y) {\n  \
                const auto lanes = shared<float>(0);\n  const int lane = threadIdx.x;\n";
    sources[0].text = format!("{text}{body}}}\n");
    sources[0].launches[0].function = "neighbours".to_owned();
    sources[0].launches[0].threads = 64;
    sources[0].launches[0].shared = 256;
    let mut arrays = [Tensor::splat(Scalar::f32(0.0), &[64])];
    let mut shim = Shim::of_sources(sources)?;
    shim.call(&program, 0, &[], &mut arrays).map_err(|error| error.to_string())?;
    let [result] = arrays;
    Ok(result)
}

#[test]
fn races_are_reported() {
    if !shim::is_there() {
        return;
    }
    let write = "  lanes[lane] = lane;\n";
    let read = "  y[lane] = lanes[(lane + 1) % 64];\n";
    let found = neighbours(&format!("{write}  __syncthreads();\n{read}")).expect("no race");
    assert_eq!(found.get(63).to_f64(), 0.0);
    assert_eq!(found.get(5).to_f64(), 6.0);
    let race = neighbours(&format!("{write}{read}")).expect_err("a race");
    assert!(
        race.starts_with("neighbours: race: thread ") && race.contains("since the last barrier"),
        "{race}"
    );
    let again = neighbours(&format!("{write}  __syncthreads();\n{read}{write}")).expect_err("a race");
    assert!(again.contains(" writes byte "), "{again}");
    let alone = neighbours("  if (lane < 32) __syncthreads();\n").expect_err("half of them wait");
    assert!(alone.contains("a barrier that only some threads of a block reach"), "{alone}");
    let few = neighbours("  if (lane < 5) shim::together({0u});\n").expect_err("five of a warp");
    assert!(
        few.contains("a shuffle, an instruction or a barrier of a warp that some of its threads never reach"),
        "{few}"
    );
    let beside = neighbours("  y[64] = 1;\n").expect_err("out of range");
    assert!(beside.contains("a write beside array 0"), "{beside}");
}
